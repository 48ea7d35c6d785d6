"""Reading a text trace: its grammar, and what the counters mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.errors import HmtraceError
from collectors.reading import Reading, Stream
from collectors.text.addresses import Addresses
from collectors.text.header import Header, parse_header
from collectors.text.layout import Stat
from collectors.text.lost import find_lost, overwritten
from collectors.text.refuse import explain
from collectors.text.remarks import of_lines, of_values
from collectors.text.scanning import CHUNK, STREAM_CHUNK, Scanning, scan_all
from collectors.text.tables import SharedNames
from collectors.traceevent.losses import Losses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from collectors.capture import Lost
    from collectors.input.source import Source
    from collectors.raw import RawEvents

_HEAD: Final = 1 << 16
_NS_CLOCKS: Final = frozenset(
    {"local", "global", "perf", "mono", "mono_raw", "boot", "tai", "tsc2nsec"}
)
"""Trace clocks in nanoseconds (kernel/trace/trace.c: trace_clocks)."""


def read_raw(
    source: Source,
    progress: Callable[[int, int], None] | None = None,
    *,
    threads: int | None = None,
    chunk: int = CHUNK,
) -> tuple[RawEvents, Header, NDArray[np.int64], SharedNames]:
    """Scan a text trace.

    Parameters
    ----------
    source
        The trace.
    progress
        Called with (bytes done, bytes in all).
    threads
        Number of threads; None: as many as there are CPUs, at most 8.
    chunk
        Bytes that a thread takes at a time.

    Returns
    -------
    raw
        Raw events in the order of the file, loss markers among them.
    header
        What the header says.
    stats
        Counters (:class:`collectors.text.layout.Stat`).
    names
        How addresses were resolved.

    Raises
    ------
    HmtraceError
        If no line of the text is a trace event.
    """
    header = parse_header(source.data[:_HEAD].tobytes())
    scan, names, columns = _grammar(source, header)
    raw, total = scan_all(source, scan, names, columns, progress, threads=threads, chunk=chunk)
    _require_trace(source, header, total)
    return raw, header, total, names


def _grammar(
    source: Source, header: Header
) -> tuple[Callable[..., int], SharedNames, NDArray[np.int64]]:
    """Scanner of a text's lines, what gives their words a meaning, and the scanner's columns."""
    addresses = Addresses(source)
    if not header.base:
        from collectors.text.scan import scan

        return scan, SharedNames(addresses), header.columns
    from collectors.text import numbered, numbered_scan

    columns = np.full_like(header.columns, header.base)
    return numbered_scan.scan, numbered.NumberedNames(source, addresses, header.base), columns


def read(source: Source, progress: Callable[[int, int], None] | None = None) -> Reading:
    """Read a text trace (:attr:`collectors.reading.Format.read`)."""
    raw, header, stats, names = read_raw(source, progress)
    raw.rows, lost = find_lost(raw.rows, header, source)
    return _reading(source, raw, lost, header, stats, names)


def stream(
    source: Source,
    progress: Callable[[int, int], None] | None = None,
    *,
    chunk: int = STREAM_CHUNK,
) -> Stream:
    """Read a text trace piece by piece (:attr:`collectors.reading.Format.stream`)."""
    header = parse_header(source.data[:_HEAD].tobytes())
    scan, names, columns = _grammar(source, header)
    scanning = Scanning(source, scan, names, columns, progress, chunk=chunk)
    front = overwritten(header, source)
    losses = Losses(len(front))

    def pieces() -> Iterator[RawEvents]:
        yield scanning.raw(front)
        losses.add(front)
        for rows in scanning:
            losses.add(rows)
            yield scanning.raw(rows)
        _require_trace(source, header, scanning.stats)

    def ending() -> Reading:
        raw = scanning.ending()
        return _reading(source, raw, losses.lost(), header, scanning.stats, names)

    return Stream(pieces(), ending)


def _reading(
    source: Source,
    raw: RawEvents,
    lost: Lost,
    header: Header,
    stats: NDArray[np.int64],
    names: SharedNames,
) -> Reading:
    """Put together what is known once the whole text was read."""
    timed = bool(stats[Stat.EVENTS]) and not header.untimed
    clock, clock_is_ns, clock_notes = _clock(source, header, stats)
    return Reading(
        raw=raw,
        format="trace-cmd-report" if header.is_report else "ftrace-text",
        clock=clock,
        clock_is_ns=clock_is_ns,
        span_ns=int(stats[Stat.MAX_TS] - stats[Stat.MIN_TS]) if timed else 0,
        lost=lost,
        release=header.release,
        cpus=header.cpus,
        notes=(*clock_notes, *_notes(source, header, stats), *names.notes, *names.addresses.notes),
    )


def _require_trace(source: Source, header: Header, stats: NDArray[np.int64]) -> None:
    """Refuse a text without a single event, unless it is an empty trace."""
    if stats[Stat.EVENTS]:
        return
    is_trace = bool(header.tracer) or header.is_report
    if is_trace and not stats[Stat.UNREAD]:
        return
    lines = source.lines(int(stats[Stat.FIRST_UNREAD_AT]) if stats[Stat.UNREAD] else 0, 24)
    message, hint = explain(lines)
    raise HmtraceError(
        message,
        source=source.trace,
        line=int(stats[Stat.FIRST_UNREAD]) + 1 if stats[Stat.UNREAD] else None,
        hint=hint,
    )


def _clock(source: Source, header: Header, stats: NDArray[np.int64]) -> tuple[str, bool, list[str]]:
    """Clock's name from the file beside the trace, and whether the stamps are nanoseconds."""
    clock = source.facts.snapshot().clock or ""
    untimed = header.untimed
    if untimed:
        return clock or "unknown", False, [untimed]
    counted, timed = int(stats[Stat.COUNTER]), int(stats[Stat.EVENTS] - stats[Stat.COUNTER])
    notes = []
    if counted and timed:
        notes.append(
            f"{counted} events have time stamps without a decimal point and {timed} with one: "
            "two traces in one file? Times across the two mean nothing"
        )
    if stats[Stat.RELATIVE]:
        notes.append("latency format: times count from the start of the buffer, in microseconds")
    if not counted:
        return clock or "unknown", True, notes
    # Raw time stamps of a clock in ns are nanoseconds (trace-cmd report --raw-ts).
    if clock in _NS_CLOCKS:
        return clock, True, notes
    notes.append(
        f"the time stamps are counts of clock '{clock or 'unknown'}': order is known, "
        "durations are not"
    )
    return clock or "unknown", False, notes


def _notes(source: Source, header: Header, stats: NDArray[np.int64]) -> list[str]:
    """Remarks on what was read."""
    notes = list(header.missing)

    def count(stat: Stat) -> int:
        return int(stats[stat])

    if not count(Stat.EVENTS):
        notes.append("the trace is empty: it has a header and no event")
    notes += of_lines(source, stats)
    if count(Stat.FUNCTIONS):
        notes.append(
            f"{count(Stat.FUNCTIONS)} events of the function tracer have no arguments: counts "
            "and call sites are known, pages and addresses are not"
        )
    if count(Stat.GRAPHS):
        notes.append(
            f"{count(Stat.GRAPHS)} lines of the function_graph tracer have no arguments: counts, "
            "call sites and durations are known, pages and addresses are not"
        )
    if count(Stat.NO_TASKS):
        notes.append(
            "the text has no column of tasks (option funcgraph-proc): pid and comm are known only "
            "after a switch of tasks was shown"
        )
    notes += of_values(stats)
    if count(Stat.NO_FLAGS) and not header.is_report:
        notes.append("the trace has no context columns (irq-info): contexts are unknown")
    if header.corrupted:
        notes.append("the kernel warned: FUNCTION TRACING IS CORRUPTED")
    return notes
