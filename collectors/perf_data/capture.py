"""A perf.data as the trace of a capture."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.capture import Lost, LostInterval
from collectors.errors import HmtraceError
from collectors.perf_data import layout, tasks
from collectors.perf_data.container import Container, open_container
from collectors.perf_data.expand import expand
from collectors.perf_data.layout import Record
from collectors.perf_data.records import CompressedRecordsError, Listed, Walk
from collectors.probes import KIND_LOST
from collectors.raw import RAW_DTYPE, RawEvents
from collectors.reading import Reading
from collectors.symbols import Symbols
from collectors.text.header import parse_header
from collectors.text.lost import find_lost
from collectors.tracecmd_dat.meaning import probe_functions
from collectors.tracecmd_dat.unpack import threads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from collectors.source import Source

_ROW_WORDS: Final = RAW_DTYPE.itemsize // 8
_ONE_BLOCK: Final = 62
"""All samples are of one block (:func:`collectors.tracecmd_dat.weaving.fill_rows`)."""
_SLICE: Final = 1 << 17
"""Rows that a thread fills at a time."""


def read(source: Source, progress: Callable[[int, int], None] | None = None) -> Reading:
    """Read a perf.data as a capture's trace (:attr:`collectors.reading.Format.read`).

    Raises
    ------
    HmtraceError
        If it is damaged, cut off, or does not describe its events.
    """
    data = source.data
    file = open_container(data.data, name=source.trace)
    symbols = _Symbols(source)
    defined = source.read_meta("kprobe_events") or b""
    probes = probe_functions(defined.decode("utf-8", "replace"))
    listed = _walk(file, source, symbols, probes, progress)
    if not listed.samples and not listed.types.any():
        raise HmtraceError("the file holds no records", source=source.trace)
    raw = make_raw(listed, file)
    raw.rows, lost = find_lost(raw.rows, parse_header(b""), source)
    lost = Lost((*lost.intervals, *_uncounted(listed, file, lost, raw.rows)))
    features = file.features
    return Reading(
        raw=raw,
        format="perf.data",
        clock=_clock(file),
        clock_is_ns=not listed.untimed,
        span_ns=listed.last_ts - listed.first_ts if listed.samples else 0,
        lost=lost,
        release=features.release,
        cpus=features.cpus,
        notes=tuple(_notes(listed, file)),
        symbols=symbols.table,
    )


class _Symbols:
    """Kernel symbols: of the tracing data, else of the folder; read when asked for."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.table: Symbols | None = None

    def get(self, own: bytes) -> Symbols:
        """Symbols, from `own` where they are usable."""
        if self.table is None or not len(self.table):
            table = Symbols.from_kallsyms(own, self._source.trace)
            if not len(table):
                table = Symbols.from_kallsyms(self._source.read_meta("kallsyms") or b"")
            self.table = table
        return self.table


def _walk(
    file: Container,
    source: Source,
    symbols: _Symbols,
    probes: Mapping[str, str],
    progress: Callable[[int, int], None] | None,
) -> Listed:
    """List the samples; records that lie in several files, or compressed, are expanded first."""

    def table() -> Symbols:
        meta = file.features.meta
        return symbols.get(b"" if meta is None else meta.kallsyms)

    parts = source.parts if file.features.directory else ()
    if not parts:
        try:
            return Walk(file, source.data, file.begin, file.end, table, probes).run(progress)
        except CompressedRecordsError:
            if file.pipe:
                file = open_container(file.data, name=file.name)
    runs = [(file.data[file.begin : file.end], file.name)]
    runs += [(part.data, f"{source.trace}, part {n}") for n, part in enumerate(parts)]
    data = expand(runs, file.order)
    return Walk(file, data, 0, len(data), table, probes).run(progress)


def make_raw(listed: Listed, file: Container) -> RawEvents:
    """Put the samples into the order of time, and take from each what its row needs.

    perf sorts what it reads between FINISHED_ROUND records, which says that nothing older will
    come; a stable sort of everything gives the same order (tools/perf/util/ordered-events.c),
    and a better one where perf record itself came too late.
    """
    from collectors.tracecmd_dat import weaving

    ts = listed.ts
    if len(ts) and not bool(np.any(ts[1:] < ts[:-1])):
        order = np.arange(len(ts))
    else:
        order = np.argsort(ts, kind="stable")
    rows = np.empty(len(order), RAW_DTYPE)
    words: NDArray[np.int64] = rows.view(np.int64).reshape(len(rows), _ROW_WORDS)
    meta = file.features.meta
    raw_big = meta is not None and meta.order == "big"
    plans = np.array([p.row() for p in listed.plans], np.int64)
    nameless = np.zeros(1, np.int32)
    base = np.array([listed.data.ctypes.data], np.int64)

    def fill(first: int) -> None:
        weaving.fill_rows(
            base,
            _ONE_BLOCK,
            raw_big,
            order[first : first + _SLICE],
            ts,
            listed.at,
            listed.cpu,
            listed.plan,
            plans,
            nameless,
            KIND_LOST,
            words[first : first + _SLICE],
        )

    with ThreadPoolExecutor(threads()) as pool:
        list(pool.map(fill, range(0, len(order), _SLICE)))
    comms = tasks.apply(listed, order, words, file.order)
    return RawEvents(rows, comms, ("",), listed.counts)


def _uncounted(
    listed: Listed, file: Container, lost: Lost, rows: NDArray[np.void]
) -> list[LostInterval]:
    """List losses that only LOST_SAMPLES records tell of.

    ``perf record`` of Linux 6.1 and later asks the kernel at the end how many samples each event
    lost (read_format LOST). The kernel's own LOST records count the same losses, except those
    behind which nothing was recorded any more: what is more on a CPU, was lost at its end.
    """
    raw = listed.data.data
    told: dict[int, int] = {}
    for kind, at, _, _, cpu in listed.sides.tolist():
        size = int.from_bytes(raw[at + 6 : at + 8], file.order)
        if kind == Record.LOST_SAMPLES and size >= 16:
            number = int.from_bytes(raw[at + 8 : at + 16], file.order)
            told[cpu] = told.get(cpu, 0) + number
    counted: dict[int | None, int] = {}
    for interval in lost.intervals:
        counted[interval.cpu] = counted.get(interval.cpu, 0) + (interval.count or 0)
    if any(cpu >= 0xFFFF for cpu in told):  # perf did not say where
        told = {0xFFFF: sum(told.values())}
        counted = {None: sum(counted.values())}
    found = []
    for cpu_number, number in sorted(told.items()):
        cpu = None if cpu_number >= 0xFFFF else cpu_number
        more = number - counted.get(cpu, 0)
        if more > 0:
            mine = rows["ts"] if cpu is None else rows["ts"][rows["cpu"] == cpu]
            start = int(mine[-1]) if len(mine) else None
            why = "lost at the end (LOST_SAMPLES record)"
            found.append(LostInterval(cpu, more, len(rows), start, None, why))
    return found


def _clock(file: Container) -> str:
    """Name of the clock of the stamps."""
    chosen = next((a.clock for a in file.attrs if a.clock is not None), None)
    return "perf" if chosen is None else layout.CLOCKS.get(chosen, f"clockid {chosen}")


def _notes(listed: Listed, file: Container) -> list[str]:
    notes = list(listed.notes)
    sampled = [a for a in file.attrs if a.type == layout.TYPE_TRACEPOINT and a.sampled]
    if sampled:
        names = sorted(file.features.names.get((a.type, a.config), f"{a.config}") for a in sampled)
        notes.append(
            f"perf recorded only some of the events of {', '.join(names[:4])}"
            f"{' and others' if len(names) > 4 else ''}: a sampling period or frequency was set. "
            "Record with `-c 1`"
        )
    if listed.unknown_ids:
        notes.append(f"{listed.unknown_ids} samples of events that the file does not list")
    if listed.untimed:
        notes.append("samples have no time stamps: their order in the file is taken for time")
    if listed.without_cpu:
        notes.append("samples do not say their CPU: all are shown on CPU 0 (record with -a)")
    if listed.types[Record.THROTTLE]:
        number = int(listed.types[Record.THROTTLE])
        notes.append(f"the kernel throttled perf {number} times: events are missing")
    return notes
