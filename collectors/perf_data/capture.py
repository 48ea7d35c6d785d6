"""A perf.data as the trace of a capture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.capture import Lost, LostInterval
from collectors.errors import TRUNCATED, HmtraceError
from collectors.perf_data import layout
from collectors.perf_data.container import PerfFile, open_container
from collectors.perf_data.expand import expand
from collectors.perf_data.layout import RecordType
from collectors.perf_data.pieces import Pieces
from collectors.perf_data.records import CompressedRecordsError, Walk
from collectors.raw import RAW_DTYPE, RawEvents
from collectors.reading import AgainError, Reading, Stream
from collectors.symbols.table import Symbols
from collectors.traceevent.losses import Losses
from collectors.traceevent.meaning import probe_functions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from collectors.input.source import Source

_CPUS: Final = 1 << 16


def read(source: Source, progress: Callable[[int, int], None] | None = None) -> Reading:
    """Read a perf.data as a capture's trace (:attr:`collectors.reading.Format.read`).

    Raises
    ------
    HmtraceError
        If it is damaged, cut off, or does not describe its events.
    """
    try:
        return stream(source, progress).whole()
    except AgainError:
        return stream(source, progress).whole()


def stream(
    source: Source,
    progress: Callable[[int, int], None] | None = None,
    *,
    room: int | None = None,
    piece: int | None = None,
) -> Stream:
    """Read a perf.data piece by piece (:attr:`collectors.reading.Format.stream`).

    A file whose samples are not as its FINISHED_ROUND records promise, or too far from the order of
    time, makes a second stream necessary, in which the rows are sorted through a temporary file.

    Raises
    ------
    HmtraceError
        If the file is damaged, cut off, or does not describe its events; also by the pieces.
    """
    reading = _Stream(source, progress, room, piece)
    return Stream(reading.pieces(), reading.ending, lambda: reading.symbols.table)


class _Stream:
    """One reading of a perf.data."""

    def __init__(
        self,
        source: Source,
        progress: Callable[[int, int], None] | None,
        room: int | None,
        piece: int | None,
    ) -> None:
        self._source = source
        self._progress = progress
        self._sizes = (room, piece)
        self._file = open_container(source.data.data, name=source.trace)
        self.symbols = _Symbols(source)
        defined = source.read_meta("kprobe_events") or b""
        self._probes = probe_functions(defined.decode("utf-8", "replace"))
        self._losses = Losses(0)
        self._last = np.zeros(_CPUS, np.int64)
        self._has_last = np.zeros(_CPUS, np.bool_)
        self._latest: int | None = None
        self._rows = 0

    def pieces(self) -> Iterator[RawEvents]:
        """Raw events by time."""
        walk, more = self._open()
        self._made = made = Pieces(walk, self._file, self._source, self._table, *self._sizes)
        for rows in made.rows(more, self._progress):
            self._losses.add(rows)
            self._last[rows["cpu"]] = rows["ts"]
            self._has_last[rows["cpu"]] = True
            self._latest = int(rows["ts"][-1])
            self._rows += len(rows)
            yield RawEvents(rows, made.comms, stacks=made.chains.stacks)
        if not walk.totals().samples and not walk.types.any():
            raise HmtraceError(
                "the file holds no records", source=self._source.trace, hint=TRUNCATED
            )

    def _open(self) -> tuple[Walk, bool]:
        """Begin to list; records that lie in several files, or compressed, are expanded first."""
        file, source, table = self._file, self._source, self._table
        room = self._sizes[0]
        parts = source.parts if file.features.directory else ()
        if not parts:
            try:
                walk = Walk(file, source.data, file.begin, file.end, table, self._probes, room)
                return walk, walk.fill(self._progress)
            except CompressedRecordsError:
                if file.pipe:
                    self._file = file = open_container(file.data, name=file.name)
        runs = [(file.data[file.begin : file.end], file.name)]
        runs += [(part.data, f"{source.trace}, part {n}") for n, part in enumerate(parts)]
        data = expand(runs, file.order)
        walk = Walk(file, data, 0, len(data), table, self._probes, room)
        return walk, walk.fill(self._progress)

    def _table(self) -> Symbols:
        """Kernel symbols, of the file itself where it has them."""
        meta = self._file.features.meta
        return self.symbols.get(b"" if meta is None else meta.kallsyms)

    def ending(self) -> Reading:
        """Say what is known once all pieces were read."""
        file, walk = self._file, self._made.walk
        totals = walk.totals()
        lost = self._losses.lost()
        lost = Lost((*lost.intervals, *self._uncounted(lost)))
        made = self._made
        rows = np.empty(0, RAW_DTYPE)
        raw = RawEvents(rows, tuple(made.comms), ("",), walk.counts(), made.chains.stacks)
        return Reading(
            raw=raw,
            format="perf.data",
            clock=_clock(file),
            clock_is_ns=not totals.untimed,
            span_ns=totals.last_ts - totals.first_ts if totals.samples else 0,
            lost=lost,
            release=file.features.release,
            cpus=file.features.cpus,
            machine=file.features.arch,
            mem_total=file.features.mem_total,
            notes=(*_notes(walk, file), *made.chains.notes),
            symbols=self.symbols.table,
        )

    def _uncounted(self, lost: Lost) -> list[LostInterval]:
        """List losses that only LOST_SAMPLES records tell of.

        ``perf record`` of Linux 6.1 and later asks the kernel at the end how many samples each
        event lost (read_format LOST). The kernel's own LOST records count the same losses, except
        those behind which nothing was recorded any more: what is more on a CPU, was lost at its
        end.
        """
        told = dict(self._made.told)
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
                start = self._latest
                if cpu is not None:
                    start = int(self._last[cpu]) if self._has_last[cpu] else None
                why = "lost at the end (LOST_SAMPLES record)"
                found.append(LostInterval(cpu, more, self._rows, start, None, why))
        return found


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


def _clock(file: PerfFile) -> str:
    """Name of the clock of the stamps."""
    chosen = next((a.clock for a in file.attrs if a.clock is not None), None)
    return "perf" if chosen is None else layout.CLOCKS.get(chosen, f"clockid {chosen}")


def _notes(walk: Walk, file: PerfFile) -> list[str]:
    totals = walk.totals()
    notes = list(totals.notes)
    sampled = [a for a in file.attrs if a.type == layout.TYPE_TRACEPOINT and a.sampled]
    if sampled:
        names = sorted(file.features.names.get((a.type, a.config), f"{a.config}") for a in sampled)
        notes.append(
            f"perf recorded only some of the events of {', '.join(names[:4])}"
            f"{' and others' if len(names) > 4 else ''}: a sampling period or frequency was set. "
            "Record with `-c 1`"
        )
    if totals.unknown_ids:
        notes.append(f"{totals.unknown_ids} samples of events that the file does not list")
    if totals.untimed:
        notes.append("samples have no time stamps: their order in the file is taken for time")
    if totals.without_cpu:
        notes.append("samples do not say their CPU: all are shown on CPU 0 (record with -a)")
    if walk.types[RecordType.THROTTLE]:
        number = int(walk.types[RecordType.THROTTLE])
        notes.append(f"the kernel throttled perf {number} times: events are missing")
    if file.pipe and file.end < len(file.data):
        notes.append("what perf record said (2>&1) follows the records, and is left out")
    return notes
