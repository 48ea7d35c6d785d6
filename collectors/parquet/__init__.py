"""Parquet: the event table of a capture, with its facts in the metadata, written and read.

What the files are is in :mod:`layout`, the document in their metadata in :mod:`metadata`. Reader
and writer serve every form of file that polars writes (:mod:`form`; :mod:`collectors.arrow` is
another). Importing this package is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.input.magic import PARQUET

if TYPE_CHECKING:
    from collections.abc import Callable

    from collectors.capture import Capture
    from collectors.input.source import Source

__all__ = ["read_capture", "sniff"]


def sniff(head: bytes) -> bool:
    """Tell whether a file that begins with `head` is a Parquet file."""
    return head.startswith(PARQUET)


def read_capture(source: Source, progress: Callable[[int, int], None] | None = None) -> Capture:
    """Read a file that hmtrace wrote; see :func:`collectors.parquet.reader.read_table`."""
    from collectors.parquet.form import ParquetForm
    from collectors.parquet.reader import read_table

    return read_table(source, ParquetForm(), progress)
