"""Traces in: every format becomes one :class:`~collectors.capture.Capture`.

Importing this package is cheap: readers and polars are imported when they are needed.

The way of a trace through the house::

    input                        what the user named: the bytes of a trace, the files beside it
    FORMATS, below               whose bytes they are
    text (and text.perf_script), one package per format: from bytes to raw events (raw, probes)
      tracecmd_dat, perf_data
    traceevent                   what both binary formats stand on
    table                        raw events to the event table: a call and its return are one row
    symbols                      names of addresses
    compiled, compiling          how loops are compiled and kept, here and in replay
    ahead                        what is made in a thread of its own, here and in replay
    build, lazy                  a capture in memory, through a file, or as a polars source
    events, capture              what comes out: the table's columns, and all that goes with it
    facts                        what the machine's own files say
    parquet, arrow               captures that hmtrace wrote
    container                    distilled traces that hmtrace wrote: tables of numbers, no events
    synthetic                    simulated kernels and their traces

Adding a format:

1. Make a package with three functions. ``sniff(head)`` tells the format by its first 64 KiB.
   ``stream(source, progress)`` gives a :class:`~collectors.reading.Stream`: pieces of raw events
   in the order of the trace (:data:`collectors.raw.RAW_DTYPE`; which functions have a kind, and
   what their values are, is in :mod:`collectors.probes`), and at the end a
   :class:`~collectors.reading.Reading`: counts by name, clock, span, what was lost.
   ``read(source, progress)`` may be ``stream(source, progress).whole()``. Heavy libraries are
   imported inside the functions; loops over events are compiled.
2. Add a line to :data:`FORMATS`, before the formats that take any text, and, where its files have
   a name of their own in a capture folder, that name to :mod:`collectors.input.opening`.
3. Never believe a length or count of a file before it is checked; raise
   :class:`~collectors.errors.HmtraceError` with an offset or a line.
4. Tests: a writer in ``tests/writers``, a reader in ``tests/fuzz/readers.py``, a small real capture
   in ``fixtures`` with its figures in ``tests/expected.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from collectors import arrow, parquet, perf_data, text, tracecmd_dat
from collectors.errors import KNOWN, HmtraceError
from collectors.input.magic import WORKLOAD
from collectors.reading import Embedded, Format, Reading, Stream
from collectors.text import perf_script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import polars as pl

    from collectors.capture import Capture
    from collectors.input.source import Source
    from collectors.symbols.places import SiteFinder
    from collectors.table.writer import PartWriter

__all__ = [
    "FORMATS",
    "Format",
    "HmtraceError",
    "Reading",
    "Stream",
    "WorkloadFileError",
    "open_capture",
    "site_finder",
    "write_arrow",
    "write_parquet",
]


class WorkloadFileError(HmtraceError):
    """A file that was named as a trace is a distilled one: it has no events.

    Attributes
    ----------
    file
        The file, for who can do with it (:mod:`collectors.container`).
    """

    def __init__(self, file: Source) -> None:
        super().__init__(
            "a workload file: a trace without its events",
            source=file.trace,
            exit_code=2,
            hint="replay, sweep, advise and info take it; others need the trace",
        )
        self.file = file


def _read_dat(source: Source, progress: Callable[[int, int], None] | None = None) -> Reading:
    return _stream_dat(source, progress).whole()


def _stream_dat(source: Source, progress: Callable[[int, int], None] | None = None) -> Stream:
    """Read a trace.dat, or with the reader of texts the text of a latency tracer in one."""
    found = tracecmd_dat.stream(source, progress)
    if isinstance(found, Embedded):
        return found.outside(text.stream(found.source, progress))
    return found


TRACE_DAT: Final = Format(
    "trace.dat",
    tracecmd_dat.sniff,
    _read_dat,
    _stream_dat,
    rank=0,
    event_bytes=4,  # compressed
)
PERF_DATA: Final = Format(
    "perf.data", perf_data.sniff, perf_data.read, perf_data.stream, rank=1, event_bytes=16
)
PERF_SCRIPT: Final = Format("perf-script", perf_script.sniff, perf_script.read, perf_script.stream)
TRACE_CMD_REPORT: Final = Format("trace-cmd-report", text.is_report, text.read, text.stream)
FTRACE_TEXT: Final = Format("ftrace-text", text.is_text, text.read, text.stream)

FORMATS: Final = (
    # Binary formats first: they know their magic. The last one takes whatever is text.
    TRACE_DAT,
    PERF_DATA,
    PERF_SCRIPT,
    TRACE_CMD_REPORT,
    FTRACE_TEXT,
)
"""Every format that can be read, in the order in which they are asked."""


LARGE: Final = 4 << 20
"""Events from which on a table is kept on the disk and not in memory."""


def open_capture(
    path: str | Path,
    *,
    progress: Callable[[int, int], None] | None = None,
    counted: Callable[[int], None] | None = None,
) -> Capture:
    """Read a capture: a trace file, a capture folder, the recorder's archive, or ``-``.

    The event table of a trace with more than some four million events is packed, and lies in a
    temporary file where it is large even so (:attr:`Capture.spooled`); the file is gone when the
    process ends.

    Parameters
    ----------
    path
        Files may be compressed (gzip, xz, zstd). In a folder the richest trace is taken; a file
        in a folder is read with the machine's files beside it. ``:NAME`` behind it chooses a trace
        buffer (instance) of a trace.dat.
    progress
        Called with (bytes done, bytes in all).
    counted
        Called with the number of events so far, where a large trace is read.

    Returns
    -------
    Capture

    Raises
    ------
    HmtraceError
        If there is nothing to read, or it is damaged.
    """
    return _capture_of(_open(path, progress), progress, counted)


def _capture_of(
    source: Source,
    progress: Callable[[int, int], None] | None,
    counted: Callable[[int], None] | None,
) -> Capture:
    """Read what is open."""
    from collectors.build import build_capture, spool_capture

    own = _own_form(source)
    if own is not None:
        return own(source, progress)
    fmt = _format_of(source)
    if _is_large(source, fmt):
        return spool_capture(source, fmt, progress=progress, counted=counted)
    return build_capture(source, fmt.read(source, progress))


def first_events(path: str | Path, rows: int) -> pl.LazyFrame:
    """First rows of the event table of a capture, as of :func:`scan`."""
    from collectors.build import first_rows

    source = _open(path, None)
    if _own_form(source) is None:
        fmt = _format_of(source)
        if _is_large(source, fmt):
            return first_rows(source, fmt, rows).lazy()
    return _capture_of(source, None, None).events.head(rows)


def site_finder(path: str | Path, vmlinux: Path | None = None) -> SiteFinder:
    """What tells where the call sites of a capture are.

    Its symbols are in ``kallsyms`` beside the trace, or in a trace.dat; those of modules that were
    loaded meanwhile in ``kallsyms.end``, or ``modules.end`` at least says where they lie. For a
    stream, which can be read only once, and a workload file there are none.

    Parameters
    ----------
    path
        The capture, as for :func:`open_capture`.
    vmlinux
        The kernel's ELF file with debugging information, or a System.map.

    Raises
    ------
    HmtraceError
        If a file cannot be read, or is of another kernel.
    """
    from collectors.symbols.places import SiteFinder, loaded_modules
    from collectors.symbols.table import Symbols
    from collectors.text.numbered import Catalogue

    if str(path) == "-":
        return SiteFinder(Symbols.empty(), vmlinux)
    try:
        source = _open(path, None)
    except WorkloadFileError:
        return SiteFinder(Symbols.empty(), vmlinux)
    later = Symbols.from_kallsyms(source.read_meta("kallsyms.end") or b"", "kallsyms.end")
    modules = (source.read_meta("modules.end") or source.read_meta("modules") or b"").decode(
        "utf-8", "replace"
    )
    first = Catalogue.beside(source).symbols
    return SiteFinder(first, vmlinux, later, loaded_modules(modules))


def scan(path: str | Path) -> pl.LazyFrame:
    """Open the event table of a capture as a lazy polars source.

    The trace is read when the frame is collected, and again by every further collect: a program
    that asks several questions converts it to Parquet once. Columns and filters are pushed down
    to the batches of a large trace. ``head(n)`` of one with more than some four million events
    reads about a million events more than those rows have, and no further: where the return of a
    call stands behind them, the call has none.

    Parameters
    ----------
    path
        As of :func:`open_capture`.

    Returns
    -------
    polars.LazyFrame
        Columns of :data:`collectors.events.SCHEMA`.

    Raises
    ------
    HmtraceError
        When it is collected: as :func:`open_capture`.
    """
    from collectors import lazy

    return lazy.source(
        f"hmtrace {path}",
        lambda: open_capture(path).events,
        lambda rows: first_events(path, rows),
    )


def write_parquet(
    path: str | Path,
    target: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
    counted: Callable[[int], None] | None = None,
) -> Capture:
    """Write a capture as a Parquet file, with bounded memory.

    Parameters
    ----------
    path, progress, counted
        As :func:`open_capture`.
    target
        File to write, replaced where it exists. It is complete when this returns; after an error
        it may be anything.

    Returns
    -------
    Capture
        The capture, whose `events` read the file.

    Raises
    ------
    HmtraceError
        If there is nothing to read, or it is damaged, or the file cannot be written.
    """
    from collectors.parquet.writer import TableWriter

    return _write(path, lambda: TableWriter(target), progress, counted)


def write_arrow(
    path: str | Path,
    target: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
    counted: Callable[[int], None] | None = None,
) -> Capture:
    """Write a capture as an Arrow IPC file, as :func:`write_parquet` writes a Parquet file.

    It is larger than a Parquet file, and written and read for less.
    """
    from collectors.arrow.writer import ArrowWriter

    return _write(path, lambda: ArrowWriter(target), progress, counted)


def _write(
    path: str | Path,
    new_writer: Callable[[], PartWriter],
    progress: Callable[[int, int], None] | None,
    counted: Callable[[int], None] | None,
) -> Capture:
    from collectors.build import spool_capture
    from collectors.table.writer import write_capture

    source = _open(path, progress)
    own = _own_form(source)
    if own is not None:
        return write_capture(own(source, progress), new_writer())
    return spool_capture(source, _format_of(source), new_writer, progress=progress, counted=counted)


def _own_form(
    source: Source,
) -> Callable[[Source, Callable[[int, int], None] | None], Capture] | None:
    """What reads a file that hmtrace wrote; None of other files.

    Raises
    ------
    WorkloadFileError
        For one without events.
    """
    if source.head.startswith(WORKLOAD):
        raise WorkloadFileError(source)
    return next((own.read_capture for own in (parquet, arrow) if own.sniff(source.head)), None)


def _is_large(source: Source, fmt: Format) -> bool:
    return len(source.data) > LARGE * fmt.event_bytes


def _open(path: str | Path, progress: Callable[[int, int], None] | None) -> Source:
    from collectors.input.opening import open_source

    source = open_source(path, FORMATS, progress)
    if source.buffer is not None and not TRACE_DAT.sniff(source.head):
        raise HmtraceError(
            f"there is no trace buffer {source.buffer!r}: only a trace.dat has several",
            source=source.trace,
            exit_code=2,
        )
    return source


def _format_of(source: Source) -> Format:
    head = source.head
    for fmt in FORMATS:
        if fmt.sniff(head):
            return fmt
    raise HmtraceError("this is no trace of a known format", source=source.trace, hint=KNOWN)
