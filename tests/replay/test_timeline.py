"""The state over time: against the outcome, a plain count of the same captures, and any cut."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from collectors.events import SCHEMA
from hmtrace.report.plain import plain
from replay.local.events import LocalEvents
from replay.local.loops import MAP, SWITCH_OUT, UNMAP
from replay.pool.loops import sequence as ops
from replay.timeline.lines import FoldedLines
from replay.timeline.local import LocalSteps
from replay.times import TimeAxis
from replay.walk import replay
from tests.expected import REPORTS
from tests.opened import opened
from tests.replay.whole import replay_capture

if TYPE_CHECKING:
    from replay.outcome import Outcome
    from replay.over_time import Timeline
    from tests.replay.whole import Replayed

FIXTURES = Path(__file__).parents[2] / "fixtures"
CAPTURES = sorted(REPORTS)
WAITERS = "i386-hog-a-waiters-pae-smp2"
MINIX = "i386-minix-pae-smp2"
LOCALS = "i386-hog-d-local-pae-smp2"
FULL = "i386-hog-e-vmapfail-pae-smp1"

Steps = list[tuple[int, int]]


def replayed(name: str, bins: int | None, **options: Any) -> Outcome:
    capture, machine = opened(name)
    given: dict[str, Any] = {
        "values": capture.facts.snapshot(), "lost": capture.lost,
        "clock_is_ns": capture.clock_is_ns, "timeline": bins, **options,
    }  # fmt: skip
    return replay(capture.events, machine, **given)


@cache
def outcome(name: str, bins: int = 600) -> Outcome:
    """In windows as the program has them, once for all questions."""
    return replayed(name, bins)


def timeline(name: str, bins: int = 600, **options: Any) -> Timeline:
    line = (replayed(name, bins, **options) if options else outcome(name, bins)).timeline
    assert line is not None
    return line


@pytest.mark.parametrize("name", CAPTURES)
def test_bins_come_to_the_figures_of_the_outcome(name: str) -> None:
    found = outcome(name)
    line, pool, arena = found.timeline, found.pool, found.arena
    assert line is not None
    assert line.bins <= 600
    assert line.start_ns + (line.bins - 1) * line.bin_ns < line.end_ns
    if line.pool is None:
        assert pool.pages_unknown or not pool.maps
    else:
        assert len(line.pool.used_max) == line.bins
        assert (max(line.pool.used_max), max(line.pool.stale_max)) == (
            pool.max_used, pool.max_stale,
        )  # fmt: skip
        widths = np.full(line.bins, line.bin_ns)
        widths[-1] = line.end_ns - line.start_ns - (line.bins - 1) * line.bin_ns
        mean = np.average(line.pool.used_mean, weights=widths)
        assert mean == pytest.approx(pool.mean_used, rel=1e-9, abs=1e-12)
        assert (sum(line.marks.wraps or ()) > 0) == (
            pool.first_flush is not None and pool.wraps > 0
        )
        assert (max(line.pool.waiting_max) > 0) == (pool.waits > 0)
    depths = {} if line.local is None else line.local.depth_max
    assert max(map(max, depths.values()), default=0) == found.local.max_depth
    assert depths.keys() == found.local.depth_by_cpu.keys()
    if line.arena is None:
        assert arena.peak_used is None
    else:
        assert max(line.arena.live_max) == arena.peak_live
        assert min(line.arena.hole_min) == arena.largest_hole_min
    of_purges = [one.found for one in found.purges]
    assert sum(line.marks.purges or ()) == sum(of_purges)
    costs = {cause: figures["ns"] for cause, figures in found.cost.by_cause.items()}
    told = {cause: sum(ns) for cause, ns in line.flush_ns.items()}
    assert told == pytest.approx({cause: costs[cause] for cause in told})
    assert told.keys() == {c for c in costs if "flush" in c}


@pytest.mark.parametrize("name", CAPTURES)
def test_any_cut_gives_the_same(name: str) -> None:
    expected, found = plain(timeline(name)), plain(timeline(name, rows=1_700))
    cost, of_cuts = expected.pop("flush_ns"), found.pop("flush_ns")
    assert found == expected
    assert of_cuts.keys() == cost.keys()
    for cause, ns in cost.items():  # sums of floats
        assert of_cuts[cause] == pytest.approx(ns)


def test_who_does_not_ask_gets_none() -> None:
    assert replayed(MINIX, None).timeline is None


def test_few_bins_have_the_extremes_of_many() -> None:
    many, few = timeline(WAITERS, 600), timeline(WAITERS, 1)
    assert many.pool is not None
    assert few.pool is not None
    assert few.pool.used_max == (max(many.pool.used_max),)
    assert few.columns == 1


def test_a_snapshot_of_another_run_is_left_aside() -> None:
    name = "i386-510-twin-vmalloc128"
    values = opened(name)[0].facts.snapshot()
    pool = (77, tuple((n, 2, None) for n in range(400)))
    line = timeline(name, values=replace(values, pool_state=pool)).pool
    assert line == timeline(name, values=replace(values, pool_state=None)).pool
    assert line is not None
    assert max(line.used_max) == 1


def test_bins_in_which_events_were_lost_are_told() -> None:
    name = "i386-lost-overrun-pae-smp2"
    line = timeline(name)
    gaps = opened(name)[0].lost.intervals
    assert line.lost is not None
    for gap in gaps:
        for ts in (gap.start_ts, gap.end_ts):
            if ts is not None:
                assert line.lost[min((ts - line.start_ns) // line.bin_ns, line.bins - 1)] > 0
    assert timeline(MINIX).lost is None


def extremes(line: Timeline, first: int, steps: Steps) -> tuple[list[int], list[int]]:
    """Least and greatest of each bin, in the plainest way: every value of it is looked at."""
    seen: list[list[int]] = [[] for _ in range(line.bins)]
    value, since = first, line.start_ns
    for ts, then in (*steps, (line.end_ns, None)):
        first_bin, last_bin = ((at - line.start_ns) // line.bin_ns for at in (since, ts))
        for b in range(first_bin, min(last_bin + 1, line.bins)):
            left = line.start_ns + b * line.bin_ns
            if max(since, left) < min(ts, left + line.bin_ns):
                seen[b].append(value)
        since = max(since, ts)
        if then is not None:
            value = then
            seen[min((since - line.start_ns) // line.bin_ns, line.bins - 1)].append(value)
    return [min(values) for values in seen], [max(values) for values in seen]


def pool_states(done: Replayed) -> dict[str, Steps]:
    """Slots in use and stale after each operation, by a dictionary of counts."""
    sequence, counts, states = done.pool.sequence, dict[int, int](), defaultdict[str, Steps](list)
    at = zip(
        sequence.time.tolist(), sequence.piece.operations.tolist(), done.pool.result.tolist(),
        done.pool.scanned.tolist(), done.pool.freed.tolist(), strict=True,
    )  # fmt: skip
    for ts, (code, _, slot, count), got, scanned, freed in at:
        if freed >= 0:
            counts = {s: n for s, n in counts.items() if n > 1}
        if code == ops.MAP and got >= 0:
            counts[got] = 2 if scanned else counts[got] + 1
        elif code == ops.UNMAP and got >= 0:
            counts[got] -= 1
        elif code == ops.GET and got >= 0:
            counts[got] += 1
        elif code == ops.PLACE:
            counts[slot] = count
        elif code == ops.RELEASE:
            counts.pop(slot, None)
        elif code == ops.SNAPSHOT:
            known = sequence.piece.snapshot.counts
            counts = {s: int(known[s]) for s in np.flatnonzero(known).tolist()}
        elif code == ops.RESET:
            counts = {}
        states["used"].append((ts, sum(n > 1 for n in counts.values())))
        states["stale"].append((ts, sum(n == 1 for n in counts.values())))
    return states


@pytest.mark.parametrize("name", [WAITERS, "i386-latfmt-minix-686-smp2-global"])
def test_pool_is_that_of_a_plain_count(name: str) -> None:
    line = timeline(name, 48)
    states = pool_states(replay_capture(name))
    assert line.pool is not None
    assert list(line.pool.used_max) == extremes(line, 0, states["used"])[1]
    assert list(line.pool.stale_max) == extremes(line, 0, states["stale"])[1]


def test_tasks_wait_from_their_first_vain_attempt_to_the_one_that_is_served() -> None:
    calls = replay_capture(WAITERS).pool.sequence.piece.calls
    slept = calls["sleeps"] > 0
    ends = zip(calls["first_try"][slept].tolist(), calls["last_try"][slept].tolist(), strict=True)
    moves = sorted(move for first, last in ends for move in ((first, 1), (last, -1)))
    line = timeline(WAITERS, 48)
    number, steps = 0, []
    for ts, more in moves:
        number += more
        steps.append((ts, number))
    assert line.pool is not None
    assert list(line.pool.waiting_max) == extremes(line, 0, steps)[1]
    assert max(line.pool.waiting_max) == 8  # the module's tasks


def test_slots_are_in_use_for_their_share_of_the_time() -> None:
    line, pool = timeline(WAITERS), outcome(WAITERS).pool
    assert line.slot_map is not None
    used = np.array(line.slot_map.used)
    assert used.shape == (512, 200)
    widths = np.full(200, line.column_ns, np.float64)
    widths[-1] = line.end_ns - line.start_ns - 199 * line.column_ns
    mean = float((used / 255 * widths).sum() / widths.sum())
    assert mean == pytest.approx(pool.mean_used, rel=0.01)  # shares are rounded
    assert (used + np.array(line.slot_map.stale) <= 256).all()


def local_states(name: str) -> tuple[dict[int, Steps], int]:
    """Depth of the running task by CPU, by a dictionary of tasks."""
    done = replay_capture(name)
    takes = done.local.row[done.local.takes_slot]
    rows = done.events.with_row_index("row").filter(
        pl.col("op").is_in(["kunmap_local", "switch"]) | pl.col("row").is_in(takes)
    )
    rows = rows.with_columns(
        at=pl.when(pl.col("op") == "kmap_local")
        .then(pl.coalesce("end_seq", "seq"))
        .otherwise("seq"),
        then=pl.when(pl.col("op") == "kmap_local")
        .then(pl.coalesce("end_ts", "ts"))
        .otherwise("ts"),
    ).sort("at")
    held: defaultdict[int, int] = defaultdict(int)
    steps: defaultdict[int, Steps] = defaultdict(list)
    wanted = ("op", "pid", "cpu", "next_pid", "then", "vaddr")
    low = done.layout.high_memory
    for op, pid, cpu, following, ts, vaddr in rows.select(wanted).iter_rows():
        task = pid or -2 - cpu
        if op == "kmap_local":
            held[task] += 1
        elif op == "kunmap_local" and vaddr is not None and vaddr >= low:
            held[task] -= 1
        elif op == "switch":
            task = following or -2 - cpu
        steps[cpu].append((ts, held[task]))
    return steps, max(held.values(), default=0)


@pytest.mark.parametrize("name", [LOCALS, MINIX])
def test_local_depth_is_that_of_a_plain_count(name: str) -> None:
    line = timeline(name, 48)
    steps, _ = local_states(name)
    assert line.local is not None
    for cpu, depth in line.local.depth_max.items():
        assert list(depth) == extremes(line, 0, steps[cpu])[1]


def test_arena_is_that_of_a_plain_count() -> None:
    """A dictionary of pages."""
    done, line = replay_capture(FULL), timeline(FULL, 48)
    layout, values = done.layout, opened(FULL)[0].facts.snapshot()
    low, high, page = layout.vmalloc_start, layout.vmalloc_end, layout.page_size
    kind = np.zeros((high - low) // page, np.uint8)
    for area in values.areas:
        first, last = (min(max(end, low), high) for end in (area.start, area.end))
        kind[(first - low) // page : (last - low) // page] = 2 if area.kind == "unpurged" else 1
    first = [int((kind == 1).sum()), int((kind == 2).sum()), largest(kind)]
    moves = []
    wanted = ("op", "seq", "end_seq", "ts", "end_ts", "vaddr", "size", "end")
    for op, seq, end_seq, ts, end_ts, vaddr, size, end in done.events.select(wanted).iter_rows():
        if op == "area_free" and low <= vaddr < high:
            moves.append((seq, ts, 1, vaddr, end))
        elif op == "area_alloc" and vaddr and low <= vaddr < high:
            moves.append((end_seq or seq, end_ts or ts, 0, vaddr, vaddr + size))
        elif op == "area_purge":
            moves.append((end_seq or seq, end_ts or ts, 2, low, low))
    live, lazy, hole = [], [], []
    for _, ts, what, start, end in sorted(moves):
        part = kind[(start - low) // page : (end - low) // page]
        if what == 2:
            kind[kind == 2] = 0
        elif what == 1:
            part[part == 1] = 2
        else:
            part[:] = 1
        live.append((ts, int((kind == 1).sum())))
        lazy.append((ts, int((kind == 2).sum())))
        hole.append((ts, largest(kind)))
    assert line.arena is not None
    assert [n // page for n in line.arena.live_max] == extremes(line, first[0], live)[1]
    assert [n // page for n in line.arena.lazy_max] == extremes(line, first[1], lazy)[1]
    assert [n // page for n in line.arena.hole_min] == extremes(line, first[2], hole)[0]
    assert line.arena_map is not None
    rows = np.add.reduceat(kind == 1, kind.size * np.arange(96) // 96)
    last = [row[-1] > 0 for row in line.arena_map.live]
    assert last == (rows > 0).tolist()


def largest(kind: np.ndarray[Any, Any]) -> int:
    """Pages of the largest hole."""
    taken = np.flatnonzero(kind)
    return int(np.diff(taken, prepend=-1, append=kind.size).max()) - 1


def test_a_switch_takes_the_depth_along_and_brings_it_back() -> None:
    """Task 7 maps twice on CPU 0, loses it to task 8, which maps once, and gets it back."""
    events = LocalEvents(
        kind=np.array([MAP, MAP, SWITCH_OUT, MAP, UNMAP, SWITCH_OUT, UNMAP], np.uint8),
        at=np.arange(7, dtype=np.uint64),
        row=np.arange(7),
        ts=np.arange(7) * 10,
        task=np.array([7, 7, 7, 8, 8, 8, 7]),
        cpu=np.zeros(7, np.int32),
        depth=np.array([0, 1, 2, 0, 0, 0, 1], np.int32),
    )
    table = pl.DataFrame(
        {
            "seq": [2, 5], "ts": [20, 50], "cpu": [0, 0], "op": ["switch", "switch"],
            "pid": [7, 8], "next_pid": [8, 7],
        },
        schema={name: SCHEMA[name] for name in ("seq", "ts", "cpu", "op", "pid", "next_pid")},
    )  # fmt: skip
    states = LocalSteps(per_cpu=False).take(events, table)
    assert states.time.tolist() == [0, 10, 20, 30, 40, 50, 60]
    assert states.depth.tolist() == [1, 2, 0, 1, 0, 2, 1]


def test_lines_count_what_lasts_no_time_too() -> None:
    lines = FoldedLines(TimeAxis.over(100, 130, 3), (5, 0))
    lines.take(0, np.array([104, 104, 125]), np.array([9, 2, 7]))
    lines.finish()
    assert lines.high(0) == (9, 2, 7)
    assert lines.low(0) == (2, 2, 2)
    assert lines.mean(0) == ((5 * 4 + 2 * 6) / 10, 2.0, (2 * 5 + 7 * 5) / 10)
    assert lines.high(1, 4096) == (0, 0, 0)


def test_a_trace_of_no_time_has_one_bin() -> None:
    lines = FoldedLines(TimeAxis.over(100, 100, 600), (3,))
    lines.take(0, np.array([100]), np.array([4]))
    lines.finish()
    assert (lines.low(0), lines.high(0), lines.mean(0)) == ((3,), (4,), (4.0,))
