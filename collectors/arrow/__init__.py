"""Arrow: the event table of a capture as an Arrow IPC file, written and read by polars.

polars keeps no metadata of a file, so the document of :mod:`collectors.parquet.metadata` lies
between the table and the footer (:mod:`ending`), where other programs do not look. Importing this
package is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.input.magic import ARROW

if TYPE_CHECKING:
    from collections.abc import Callable

    from collectors.capture import Capture
    from collectors.input.source import Source

__all__ = ["read_capture", "sniff"]


def sniff(head: bytes) -> bool:
    """Tell whether a file that begins with `head` is an Arrow IPC file."""
    return head.startswith(ARROW)


def read_capture(source: Source, progress: Callable[[int, int], None] | None = None) -> Capture:
    """Read a file that hmtrace wrote; see :func:`collectors.parquet.reader.read_table`."""
    from collectors.arrow.form import ArrowForm
    from collectors.parquet.reader import read_table

    return read_table(source, ArrowForm(), progress)
