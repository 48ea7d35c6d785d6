"""Arrow: the event table of a capture as an Arrow IPC file, with its facts in the metadata.

What the files are is in :mod:`layout`, their headers in :mod:`flatbuffers` and :mod:`headers`; the
document in their metadata is that of :mod:`collectors.parquet.metadata`. Importing this package is
cheap.
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
    """Read a file that hmtrace wrote; see :func:`collectors.arrow.reader.read_capture`."""
    from collectors.arrow import reader

    return reader.read_capture(source, progress)
