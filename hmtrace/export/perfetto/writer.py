"""What a walk shows, to packets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from collectors.events import OP_CODE
from hmtrace.export.perfetto import loops
from hmtrace.export.perfetto.loops import COUNTER, INSTANT, NEVER, NONE, TASK
from hmtrace.export.perfetto.sink import PacketSink
from hmtrace.export.perfetto.tracks import (
    ARENA,
    ARENA_HOLE,
    ARENA_LAZY,
    ARENA_LIVE,
    DEPTH_OF_CPU,
    FINDINGS,
    GONE,
    HOLDS_LOCAL,
    HOLDS_SLOT,
    IPI,
    LOSSES,
    POOL_FLUSHES,
    POOL_STALE,
    POOL_USED,
    POOL_WAITING,
    STOPS_OF_CPU,
    TAKEN,
    UNUSED,
    WAITING,
    WAITS,
    WRAP,
    TraceNames,
    TraceTracks,
    cpu_track,
    name_of,
    new_packet,
)
from replay.arena.use import arena_at_start
from replay.cost.account import sends_ipis
from replay.machine.layout import layout_of
from replay.observed.loops import NO_TIME, TAKES_TIME
from replay.pool.replay import window_of
from replay.timeline.arena import ArenaSteps
from replay.timeline.local import LocalSteps
from replay.timeline.pool import PoolSteps
from replay.trace.carried import CarriedRows
from replay.trace.columns import filled, op_codes, whole
from replay.trace.sanitise import narrowed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO

    from numpy.typing import NDArray

    from collectors.snapshot import Snapshot
    from hmtrace.export.perfetto.loops import Lanes
    from replay.machine.model import Machine
    from replay.outcome import Outcome
    from replay.trace.losses import Loss
    from replay.walk import WindowSeen

_FLOWS: Final = 1 << 10
"""Numbers of flows for each position of the trace: a flush has one to each CPU that it stops."""
_HANDED: Final = 1 << 62
"""First number of flows of mappings that another task unmaps."""
_UNKNOWN_TASK: Final = -1
_FLUSH_ALL, _FLUSH_RANGE = OP_CODE["flush_all"], OP_CODE["flush_range"]


class PerfettoWriter:
    """Writes what it is shown (:class:`replay.walk.Watch`).

    Parameters
    ----------
    file
        Where to.
    machine, values
        The machine that the trace is from, and its facts.
    clock_is_ns
        False where the trace clock counts something else than time.

    Attributes
    ----------
    is_wrong
        Whether the pool's snapshot turned out to be of another run: what was written has it.
    sink
        Where packets go.
    """

    def __init__(
        self, file: BinaryIO, machine: Machine, values: Snapshot, *, clock_is_ns: bool
    ) -> None:
        layout = narrowed(layout_of(machine))
        self.sink = PacketSink(file)
        self.is_wrong = False
        self._clock_is_ns = clock_is_ns
        self._names, self._tracks = TraceNames(), TraceTracks()
        self._calls, self._spans = loops.no_lanes(), loops.no_lanes()
        self._name_of_row = CarriedRows(0)
        self._pool = PoolSteps(window_of(layout).slots)
        self._local = LocalSteps(per_cpu=layout.kmap_per_cpu)
        arena = arena_at_start(layout, values)
        self._arena = None if arena is None else ArenaSteps(arena)
        self._page_size = layout.page_size
        self._value: dict[int, int] = {}  # of counters
        self._handed = 0
        self._ipis = _Stopped(machine, values) if sends_ipis(layout) else None
        self._start: int | None = None
        self.sink.put(self._tracks.first())

    @property
    def left_out(self) -> int:
        """Slices that found no place on their track: instants, or not there."""
        return int(self._calls.reg[loops.LEFT_OUT] + self._spans.reg[loops.LEFT_OUT])

    def deny_snapshot(self) -> None:
        """The pool's snapshot is of another run."""
        self.is_wrong = True

    def take(self, seen: WindowSeen) -> None:
        """Write a window."""
        window, table = seen.window, seen.window.table
        names = self._names.of(table)
        self._name_of_row.take(names, window.first_row)
        self._name_tasks(table)
        if table.height:
            ts = int(table.get_column("ts")[0] or 0)
            self._start = ts if self._start is None else self._start
            self._write_calls(table, names)
        self._write_pool(seen)
        self._write_local(seen)
        self._write_arena(seen)
        if window.last:
            self._write_held(seen)
        self._name_of_row.keep(seen.open_rows)

    def _write_held(self, seen: WindowSeen) -> None:
        """Write what is held at the end: spans without one."""
        for kind, held in zip((HOLDS_SLOT, HOLDS_LOCAL), seen.held, strict=True):
            rows, tasks, since = held[np.argsort(held[:, 2], kind="stable")].T.copy()
            known = rows >= 0
            rows, tasks, since = rows[known], tasks[known], since[known]
            names = self._name_of_row.of(rows).astype(np.int64)
            numbers = self._tasks(tasks)
            self._put_spans(since, np.full(rows.size, NEVER), numbers, kind, names)

    def _name_tasks(self, table: pl.DataFrame) -> None:
        """Note the tasks of a window, and say what their tracks are."""
        known = table.select("pid", "cpu", pl.col("comm").cast(pl.String)).filter(pl.col("pid") > 0)
        last = known.group_by("pid").agg(pl.col("comm").drop_nulls().last())
        comms = {pid: comm for pid, comm in last.select("pid", "comm").iter_rows() if comm}
        self._tracks.tasks(_keys_of(table), comms)
        self.sink.put(self._tracks.new_tasks())

    def _tasks(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        numbers = self._tracks.tasks(keys, {})
        self.sink.put(self._tracks.new_tasks())
        return numbers

    def _write_calls(self, table: pl.DataFrame, names: NDArray[np.int32]) -> None:
        """Write the calls of a window; flushes stop other CPUs."""
        codes, ts = op_codes(table), whole(table, "ts", NO_TIME)
        here = np.flatnonzero(TAKES_TIME[codes] & (ts != NO_TIME))
        ts = ts[here]
        end = whole(table, "end_ts", NO_TIME)[here] if self._clock_is_ns else np.full_like(ts, -1)
        duration = whole(table, "duration", NO_TIME)[here]
        end = np.where(duration >= 0, ts + duration, end)
        flow, flows = np.zeros((2, here.size), np.int64)
        stops = self._stops(table, codes, here)
        if stops is not None:
            flow, flows = stops
        calls = loops.CallPackets(
            ts=ts,
            end=end,
            task=self._tasks(_keys_of(table)[here]),
            name=names[here].astype(np.int64),
            address=whole(table, "vaddr", NONE)[here],
            flow=flow,
            flows=flows,
        )
        self.sink.put(self._names.new(calls.name))
        self._calls = loops.with_room(self._calls, self._tracks.task_count, here.size)
        self._run(loops.put_calls, calls, lanes=self._calls, packets=self._tracks.call_lanes)

    def _run(
        self, loop: Any, *args: Any, lanes: Lanes, packets: Callable[[Lanes, int], Iterator[Any]]
    ) -> None:
        """Run a loop over lanes, and say what new ones are by the packets for those from one on."""
        first = int(lanes.reg[loops.USED])

        def told() -> None:
            nonlocal first
            self.sink.put(packets(lanes, first))
            first = int(lanes.reg[loops.USED])

        self.sink.run(loop, *args, lanes, told=told)

    def _stops(
        self, table: pl.DataFrame, codes: NDArray[np.uint8], here: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """First flow and number of flows of each call, and an instant where each one ends."""
        if self._ipis is None:
            return None
        wide = whole(table, "end", 0)[here] > whole(table, "start", 0)[here]
        is_flush = (codes[here] == _FLUSH_ALL) | ((codes[here] == _FLUSH_RANGE) & wide)
        at = np.flatnonzero(is_flush)
        if not at.size:
            return None
        flow, flows = np.zeros((2, here.size), np.int64)
        rows = here[at]
        flow[at] = whole(table, "seq", 0)[rows] * _FLOWS + 1
        ts, cpus = whole(table, "ts", 0)[rows], filled(table.get_column("cpu"), 0)[rows]
        points: list[tuple[int, int, int]] = []
        seen: set[int] = set()
        for place, when, own in zip(at.tolist(), ts.tolist(), cpus.tolist(), strict=True):
            others = self._ipis.others(when, own)
            flows[place] = len(others)
            seen.update(others)
            first = int(flow[place])
            points += [
                (when, cpu_track(cpu, STOPS_OF_CPU), first + n) for n, cpu in enumerate(others)
            ]
        self.sink.put(self._tracks.cpus(sorted(seen), STOPS_OF_CPU))
        columns = np.array(points, np.int64).reshape(-1, 3).T
        self._points(columns[0], columns[1], np.full(len(points), name_of(IPI)), columns[2])
        return flow, flows

    def _write_pool(self, seen: WindowSeen) -> None:
        """Write what was settled of the pool."""
        from replay.pool.loops.sequence import FLUSH_UNUSED, UNMAP

        told = seen.pool
        piece = told.piece
        if piece.time.size:
            states = self._pool.take(seen.at, piece)
            self._count(POOL_USED, states.time, states.used)
            self._count(POOL_STALE, states.time, states.stale)
            self._count(POOL_WAITING, states.time, states.waiting)
            flushed = states.freed > 0
            unused = states.code[flushed] == FLUSH_UNUSED
            names = np.where(unused, name_of(UNUSED), name_of(WRAP))
            self._points(states.time[flushed], np.full(names.size, POOL_FLUSHES), names)
            ends = (piece.operations[:, 0] == UNMAP) & (told.ended[:, 0] >= 0)
            self._write_holds(told.ended[ends], piece.time[ends], _pids_of(told, ends))
        slept = told.over[told.over["sleeps"] > 0]
        if slept.size:
            order = np.argsort(slept["last_try"], kind="stable")
            tasks = self._tasks(slept["pid"][order].astype(np.int64))
            self._put_spans(
                slept["first_try"][order], slept["last_try"][order], tasks, WAITING,
                np.full(order.size, name_of(WAITS)),
            )  # fmt: skip

    def _write_holds(
        self, ended: NDArray[np.int64], time: NDArray[np.int64], by: NDArray[np.int64]
    ) -> None:
        """Write mappings of the pool that ended, and by which task: flows where it is another."""
        rows, pids, since = ended.T.copy()
        names = self._name_of_row.of(rows).astype(np.int64)
        handed = (by >= 0) & (pids >= 0) & (by != pids)
        flow = np.where(handed, _HANDED + self._handed + np.cumsum(handed), 0)
        self._handed += int(handed.sum())
        tasks = self._tasks(np.where(pids > 0, pids, _UNKNOWN_TASK))
        self._put_spans(since, time, tasks, HOLDS_SLOT, names, flow)
        if handed.any():
            others = self._tasks(np.where(by > 0, by, _UNKNOWN_TASK)[handed])
            track = loops.FIRST_OF_ANY + loops.ANY_TRACKS * others + TASK
            taken = np.full(track.size, name_of(TAKEN))
            self._points(time[handed], track, taken, flow[handed])

    def _put_spans(
        self,
        ts: NDArray[np.int64],
        end: NDArray[np.int64],
        tasks: NDArray[np.int64],
        kind: int,
        names: NDArray[np.int64],
        flow: NDArray[np.int64] | None = None,
    ) -> None:
        """Write spans of tasks, in the order of their ends."""
        if not ts.size:
            return
        flow = np.zeros(ts.size, np.int64) if flow is None else flow
        spans = loops.SpanPackets(ts, end, self._tracks.groups(tasks, kind), names, flow)
        self.sink.put(self._names.new(names))
        self._spans = loops.with_room(self._spans, self._tracks.group_count, ts.size)
        self._run(loops.put_spans, spans, lanes=self._spans, packets=self._tracks.span_lanes)

    def _write_local(self, seen: WindowSeen) -> None:
        """Write local mappings that ended, and how many each CPU's task has."""
        local, table = seen.rest.local, seen.window.table
        if local.events is not None:
            states = self._local.take(local.events, table)
            cpus = np.unique(states.cpu).tolist()
            self.sink.put(self._tracks.cpus(cpus, DEPTH_OF_CPU))
            for cpu in cpus:
                if cpu < loops.MOST_CPUS:
                    here = states.cpu == cpu
                    track = cpu_track(cpu, DEPTH_OF_CPU)
                    self._count(track, states.time[here], states.depth[here])
        if local.ended.size:
            at = local.ended_by - seen.window.first_row
            time = whole(table, "ts", 0)[at]
            self._put_spans(
                time - np.maximum(local.hold_ns, 0), time, self._tasks(_keys_of(table)[at]),
                HOLDS_LOCAL, self._name_of_row.of(local.ended).astype(np.int64),
            )  # fmt: skip

    def _write_arena(self, seen: WindowSeen) -> None:
        """Write what is so of the arena."""
        steps = seen.rest.areas
        if self._arena is None or not steps.size:
            return
        states = self._arena.take(steps, self._arena.times(steps))
        for track, pages in (
            (ARENA_LIVE, states.live), (ARENA_LAZY, states.lazy), (ARENA_HOLE, states.hole),
        ):  # fmt: skip
            self._count(track, states.time, pages * self._page_size)

    def _count(
        self, track: int, ts: NDArray[np.int64], value: NDArray[np.signedinteger[Any]]
    ) -> None:
        """Write the changes of a counter."""
        if not ts.size:
            return
        values = value.astype(np.int64)
        before = np.empty_like(values)
        before[0], before[1:] = self._value.get(track, -1), values[:-1]
        changed = values != before
        self._value[track] = int(values[-1])
        number = int(np.count_nonzero(changed))
        none = np.zeros(number, np.int64)
        self.sink.run(
            loops.put_points, COUNTER, ts[changed], np.full(number, track), none, values[changed],
            none, told=_nothing,
        )  # fmt: skip

    def _points(
        self,
        ts: NDArray[np.int64],
        track: NDArray[np.int64],
        names: NDArray[np.int64],
        over: NDArray[np.int64] | None = None,
    ) -> None:
        """Write instants, in which flows may end."""
        if not ts.size:
            return
        self.sink.put(self._names.new(names))
        over = np.zeros(ts.size, np.int64) if over is None else over
        self.sink.run(
            loops.put_points, INSTANT, np.ascontiguousarray(ts), np.ascontiguousarray(track), names,
            np.full(ts.size, NONE), np.ascontiguousarray(over), told=_nothing,
        )  # fmt: skip

    def finish(
        self, outcome: Outcome, lost: Loss, words: Iterable[tuple[int | None, dict[str, str]]]
    ) -> None:
        """Write what is known in the end: ends of calls, losses, findings.

        Parameters
        ----------
        outcome
            The figures.
        lost
            What tracing lost.
        words
            Of each finding the time that it is about, and what it says: ``message`` is its name.
        """
        self._run(loops.put_ends, lanes=self._calls, packets=self._tracks.call_lanes)
        self._write_losses(lost)
        start = self._start or 0
        if (
            self._arena is not None
            and ARENA_LIVE in self._value
            and outcome.arena.peak_used is None
        ):
            told = {"message": "allocations whose address is not traced are missing here"}
            self.sink.put([_instant(ARENA, start, told)])
        self.sink.put(_instant(FINDINGS, ts or start, texts) for ts, texts in words)
        self.sink.put(self._tracks.last_names())
        self.sink.flush()

    def _write_losses(self, lost: Loss) -> None:
        """Write the gaps of the trace."""
        gaps = [
            (
                gap.start_ts or gap.end_ts,
                gap.end_ts or gap.start_ts,
                0 if gap.cpu is None else gap.cpu + 1,
            )
            for gap in lost.intervals
            if gap.start_ts or gap.end_ts
        ]
        gaps.sort(key=lambda gap: gap[1] or 0)
        columns = np.array(gaps, np.int64).reshape(-1, 3).T.copy()
        names = np.full(len(gaps), name_of(GONE))
        self._put_spans(columns[0], columns[1], columns[2], LOSSES, names)


class _Stopped:
    """The CPUs that a flush stops: those that are online, but its own."""

    def __init__(self, machine: Machine, values: Snapshot) -> None:
        self._cpus = range(min(machine.cpus, loops.MOST_CPUS))
        self._changes: Sequence[tuple[int, int, bool]] = values.cpu_changes or ()

    def others(self, ts: int, own: int) -> list[int]:
        """CPUs that a flush of one stops at a time."""
        online = dict.fromkeys(self._cpus, True)
        for when, cpu, is_on in self._changes:
            if when <= ts and cpu < loops.MOST_CPUS:
                online[cpu] = is_on
        return [cpu for cpu, is_on in sorted(online.items()) if is_on and cpu != own]


def _keys_of(table: pl.DataFrame) -> NDArray[np.int64]:
    """Tasks of rows: pid, an idle task's by its CPU, -1 not known."""
    pid = filled(table.get_column("pid"), _UNKNOWN_TASK).astype(np.int64)
    cpu = filled(table.get_column("cpu"), 0).astype(np.int64)
    return np.where(pid == 0, -2 - cpu, pid)


def _pids_of(told: Any, which: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Task that made each of some operations; -1 not known."""
    call = told.piece.call[which]
    if not told.piece.calls.size:
        return np.full(call.size, -1, np.int64)
    pids = told.piece.calls["pid"][np.maximum(call, 0)]
    return np.where(call >= 0, pids, -1).astype(np.int64)


def _instant(track: int, ts: int, texts: dict[str, str]) -> Any:
    """Packet of an instant with texts; ``message`` is its name."""
    packet = new_packet()
    packet.timestamp = ts
    event = packet.track_event
    event.type, event.track_uuid, event.name = INSTANT, track, texts["message"]
    for name, text in texts.items():
        if name != "message" and text:
            noted = event.debug_annotations.add()
            noted.name, noted.string_value = name, text
    return packet


def _nothing() -> None:
    """No new tracks."""
