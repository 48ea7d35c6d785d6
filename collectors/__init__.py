"""Traces in: every format becomes one :class:`~collectors.capture.Capture`.

Importing this package is cheap: readers, polars and numba are imported when they are needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from collectors import perf_data, perf_script, text, tracecmd_dat
from collectors.errors import HmtraceError
from collectors.reading import Format, Reading, Stream, in_pieces

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from collectors.capture import Capture

__all__ = ["FORMATS", "Format", "HmtraceError", "Reading", "Stream", "open_capture"]

TRACE_DAT: Final = Format(
    "trace.dat", tracecmd_dat.sniff, tracecmd_dat.read, in_pieces(tracecmd_dat.read), rank=0
)
PERF_DATA: Final = Format(
    "perf.data", perf_data.sniff, perf_data.read, in_pieces(perf_data.read), rank=1
)
PERF_SCRIPT: Final = Format(
    "perf-script", perf_script.sniff, perf_script.read, in_pieces(perf_script.read)
)
TRACE_CMD_REPORT: Final = Format(
    "trace-cmd-report", text.is_report, text.read, in_pieces(text.read)
)
FTRACE_TEXT: Final = Format("ftrace-text", text.is_text, text.read, in_pieces(text.read))

FORMATS: Final = (
    # Binary formats first: they know their magic. The last one takes whatever is text.
    TRACE_DAT,
    PERF_DATA,
    PERF_SCRIPT,
    TRACE_CMD_REPORT,
    FTRACE_TEXT,
)
"""Every format that can be read, in the order in which they are asked."""


def open_capture(
    path: str | Path, *, progress: Callable[[int, int], None] | None = None
) -> Capture:
    """Read a capture: a trace file, a capture folder, the recorder's archive, or ``-``.

    Parameters
    ----------
    path
        Files may be compressed (gzip, xz, zstd). In a folder the richest trace is taken; a file
        in a folder is read with the machine's files beside it.
    progress
        Called with (bytes done, bytes in all).

    Returns
    -------
    Capture

    Raises
    ------
    HmtraceError
        If there is nothing to read, or it is damaged.
    """
    from collectors.build import build_capture
    from collectors.source import open_source

    source = open_source(path, FORMATS, progress)
    head = source.head
    for fmt in FORMATS:
        if fmt.sniff(head):
            return build_capture(source, fmt.read(source, progress))
    raise HmtraceError("this is no trace of a known format", source=source.trace)
