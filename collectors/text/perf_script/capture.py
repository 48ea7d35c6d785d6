"""Text of perf script as the trace of a capture."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.errors import HmtraceError
from collectors.probes import KIND_LOST
from collectors.reading import AgainError, Reading, Stream
from collectors.text.addresses import Addresses
from collectors.text.header import parse_header
from collectors.text.layout import PLAIN, PLAIN_NAME, Space, Stat
from collectors.text.lost import find_lost
from collectors.text.perf_script.dialect import Dialect, find_dialect
from collectors.text.remarks import of_lines, of_values
from collectors.text.scanning import CHUNK, STREAM_CHUNK, Scanning, scan_all
from collectors.text.tables import SharedNames
from collectors.traceevent.losses import Losses
from collectors.traceevent.ordering import is_ascending, sorted_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from collectors.capture import Lost
    from collectors.input.source import Source
    from collectors.raw import RawEvents
    from collectors.text.heads import HeadMeaning

_HEAD: Final = 1 << 16
_MODIFIER: Final = re.compile(rb"^([^:\s]+):[A-Za-z]{1,12}:")


class _ProbeLabels(SharedNames):
    """Names of events as perf writes them: ``kmap_high:k:`` for an event with a modifier."""

    def meaning(self, space: int, text: bytes) -> HeadMeaning:
        """Meaning of a head, as of the same event without its modifier."""
        plain = _MODIFIER.sub(rb"\1:", text) if space == Space.HEAD else text
        found = super().meaning(space, plain)
        if plain != text and found.kind in (PLAIN, PLAIN_NAME):
            # "cycles:u", or an event that is counted only
            return type(found)(
                PLAIN, text.partition(b": ")[0].decode("utf-8", "replace").strip(":")
            )
        return found


def read_raw(
    source: Source,
    progress: Callable[[int, int], None] | None = None,
    *,
    threads: int | None = None,
    chunk: int = CHUNK,
) -> tuple[RawEvents, Dialect, NDArray[np.int64], SharedNames]:
    """Scan a text; see :func:`collectors.text.reader.read_raw`.

    Raises
    ------
    HmtraceError
        If no line is a sample.
    """
    from collectors.text.perf_script.scan import scan

    dialect = _dialect(source)
    columns = _columns(dialect)
    names = _ProbeLabels(Addresses(source))
    raw, stats = scan_all(source, scan, names, columns, progress, threads=threads, chunk=chunk)
    _require_samples(source, stats)
    if dialect.time:
        _sort(raw)
    return raw, dialect, stats, names


def _dialect(source: Source) -> Dialect:
    dialect = find_dialect(source.data[:_HEAD].tobytes())
    if dialect is None:
        raise HmtraceError("not the output of perf script", source=source.trace)
    return dialect


def _columns(dialect: Dialect) -> NDArray[np.int64]:
    """What :func:`collectors.text.perf_script.line.left_half` has to know."""
    columns = np.zeros((9, 2), np.int64)
    columns[:4, 0] = dialect.time, dialect.tid, dialect.comm, dialect.cpu
    return columns


def _require_samples(source: Source, stats: NDArray[np.int64]) -> None:
    if not stats[Stat.EVENTS]:
        line = int(stats[Stat.FIRST_UNREAD]) + 1 if stats[Stat.UNREAD] else None
        raise HmtraceError(
            "no line is a sample with an event's name and payload",
            source=source.trace,
            line=line,
            hint="run perf script with its default fields",
        )


def _date_markers(rows: NDArray[np.void], last: int) -> None:
    """Give loss markers without a time that of the event before them; `last` is before the rows."""
    ts = rows["ts"]
    for at in np.flatnonzero((rows["kind"] == KIND_LOST) & (ts == 0)).tolist():
        ts[at] = ts[at - 1] if at else last


def _sort(raw: RawEvents) -> None:
    """Put rows into the order of time, which some options of perf script leave to the reader.

    With --show-round-events, perf script does not sort.
    """
    _date_markers(raw.rows, 0)
    ts = raw.rows["ts"]
    if not is_ascending(ts):
        raw.rows = raw.rows[np.argsort(ts, kind="stable")]


def read(source: Source, progress: Callable[[int, int], None] | None = None) -> Reading:
    """Read the text (:attr:`collectors.reading.Format.read`)."""
    raw, dialect, stats, names = read_raw(source, progress)
    raw.rows, lost = find_lost(raw.rows, parse_header(b""), source)
    return _reading(source, raw, lost, dialect, stats, names)


def stream(
    source: Source,
    progress: Callable[[int, int], None] | None = None,
    *,
    chunk: int = STREAM_CHUNK,
) -> Stream:
    """Read the text piece by piece (:attr:`collectors.reading.Format.stream`).

    Lines out of order make a second stream necessary, in which the rows are sorted through a
    temporary file.
    """
    from collectors.text.perf_script.scan import scan

    dialect = _dialect(source)
    names = _ProbeLabels(Addresses(source))
    scanning = Scanning(source, scan, names, _columns(dialect), progress, chunk=chunk)
    losses = Losses(0)

    def dated() -> Iterator[NDArray[np.void]]:
        last = 0
        for rows in scanning:
            if dialect.time and len(rows):
                _date_markers(rows, last)
                last = int(rows["ts"][-1])
            yield rows
        _require_samples(source, scanning.stats)

    def pieces() -> Iterator[RawEvents]:
        if source.out_of_order:
            ordered = sorted_runs(dated())
        else:
            ordered = _in_order(dated(), source) if dialect.time else dated()
        for rows in ordered:
            losses.add(rows)
            yield scanning.raw(rows)

    def ending() -> Reading:
        return _reading(source, scanning.ending(), losses.lost(), dialect, scanning.stats, names)

    return Stream(pieces(), ending)


def _in_order(pieces: Iterator[NDArray[np.void]], source: Source) -> Iterator[NDArray[np.void]]:
    """Pass the pieces on.

    Raises
    ------
    AgainError
        If their rows are not in the order of time.
    """
    last: int | None = None
    for rows in pieces:
        if len(rows):
            if not is_ascending(rows["ts"]) or (last is not None and rows["ts"][0] < last):
                source.out_of_order = True
                raise AgainError
            last = int(rows["ts"][-1])
        yield rows


def _reading(
    source: Source,
    raw: RawEvents,
    lost: Lost,
    dialect: Dialect,
    stats: NDArray[np.int64],
    names: SharedNames,
) -> Reading:
    """Put together what is known once the whole text was read."""
    cpus = dialect.header.get("nrcpus online", "")
    memory = re.match(r"(\d{1,12}) kB", dialect.header.get("total memory", ""), re.ASCII)
    return Reading(
        raw=raw,
        format="perf-script",
        clock="perf",
        clock_is_ns=dialect.time,
        span_ns=int(stats[Stat.MAX_TS] - stats[Stat.MIN_TS]) if dialect.time else 0,
        lost=lost,
        release=dialect.header.get("os release", ""),
        cpus=int(cpus) if cpus.isascii() and cpus.isdigit() and len(cpus) < 6 else None,
        machine=dialect.header.get("arch", ""),
        mem_total=int(memory[1]) << 10 if memory else None,
        notes=(*_notes(source, dialect, stats), *names.addresses.notes),
    )


def _notes(source: Source, dialect: Dialect, stats: NDArray[np.int64]) -> list[str]:
    """Remarks on what was read."""
    notes = ["perf script does not show contexts (irqs, preemption), nor losses unless told to"]
    if not dialect.time:
        notes.append("the text has no time column: order is known, durations are not")
    if not dialect.cpu:
        notes.append("the text has no CPU column: all events are shown on CPU 0")
    if not dialect.tid:
        notes.append("the text has no task column: entries and returns cannot be told apart by it")
    return [*notes, *of_lines(source, stats), *of_values(stats)]
