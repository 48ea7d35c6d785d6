"""Costs, flush counts, call sites and the arena's bookkeeping, from events made by hand."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest

from collectors.events import SCHEMA
from collectors.snapshot import Snapshot
from replay.arena.loops import use as arena_use
from replay.cost import formulas as formula
from replay.cost.account import CountedWork, cost_of
from replay.machine.layout import layout_of
from replay.machine.model import Machine
from replay.outcome import Holder, LocalOutcome, PoolOutcome
from replay.pool.replay import window_of
from replay.sites.tally import UNKNOWN_SITE
from tests.replay.whole import arena_figures, arena_tally, call_sites
from tests.replay.whole_local import replay_locals

I386 = Machine(arch="i386", pae=True, cpus=4, ram=((0, 1 << 30),))
ARM = Machine(arch="arm", cpus=4, nr_cpus=8, ram=((0x4000_0000, 0x8000_0000),))


I386_LAYOUT = layout_of(I386)


class Area(NamedTuple):
    start: int
    end: int
    kind: str = "unpurged"
    caller: str = ""


def table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    blank: dict[str, Any] = dict.fromkeys(SCHEMA)
    full = [
        blank
        | {"seq": 10 * i, "ts": 100 * i, "cpu": 0, "pid": 1, "ctx": 0, "entry_traced": True}
        | row
        for i, row in enumerate(rows)
    ]
    return pl.DataFrame(full, schema=SCHEMA)


def work(arena: pl.DataFrame, **pool: Any) -> CountedWork:
    return CountedWork(
        pool=PoolOutcome(slots=512, **pool),
        local=LocalOutcome(),
        scanned=0,
        freed_by_wraps=np.array([1, 0, 0, 0, 0, 1]),  # one pass freed nothing, one five slots
        freed_by_unused=np.zeros(6, np.int64),
        held_at_switches=0,
        arena=arena_tally(arena, I386_LAYOUT, window_of(I386_LAYOUT)),
    )


FLUSHES = [
    {"op": "area_purge", "start": 0, "end": 0, "end_seq": 15},
    {"op": "flush_range", "start": 0xF800_0000, "end": 0xF802_1000, "parent": 0},  # 33 pages
    {"op": "flush_range", "start": 0xF800_0000, "end": 0xF802_2000},  # 34 pages
    {"op": "flush_range", "start": 0xF900_0000, "end": 0xF900_1000, "pid": 2},
    {"op": "flush_all", "pid": 2},
]


def test_x86_ceiling_of_33_pages() -> None:
    """arch/x86/mm/tlb.c: flush_tlb_kernel_range, tlb_single_page_flush_ceiling."""
    cost, tlb = cost_of(work(table(FLUSHES), flushes=1, passes=2), I386, layout_of(I386), 10**9)
    assert tlb.full == 1 + 1 + 1  # the pool's, the one of 34 pages, flush_tlb_all
    assert tlb.range == 2
    assert tlb.range_pages == 34
    assert tlb.ipis == 5 * 3
    assert cost.by_cause["pool flush (wrap)"]["count"] == 2
    purge = formula.range_flush_ns(I386.costs, layout_of(I386), np.array([33]), 4).sum()
    assert cost.by_cause["lazy purge flush"]["count"] == 1
    assert cost.by_cause["lazy purge flush"]["ns"] == round(purge)
    assert cost.by_cause["other range flush"]["count"] == 2
    assert sum(c["share"] for c in cost.by_cause.values()) == pytest.approx(1)
    assert cost.share_of_span == pytest.approx(cost.total_ns / 4e9, rel=1e-6)


def test_arm_flushes_page_by_page_without_ipis() -> None:
    """arch/arm/kernel/smp_tlb.c: no ceiling; hardware tells the other CPUs."""
    _, tlb = cost_of(work(table(FLUSHES), flushes=1, passes=2), ARM, layout_of(ARM), None)
    assert tlb.full == 1
    assert tlb.range == 4
    assert tlb.range_pages == 33 + 34 + 1 + 512
    assert tlb.ipis == 0


def test_no_time_no_share() -> None:
    cost, _ = cost_of(work(table([])), I386, layout_of(I386), None)
    assert cost.share_of_span is None


def test_call_sites_with_holding_times() -> None:
    rows = [
        {"op": "kmap", "page": 0x1000, "end_seq": 1, "end_ts": 10, "site": "a+0x1"},
        {"op": "kmap", "page": 0x2000, "end_seq": 11, "end_ts": 110, "site": "a+0x1", "pid": 2},
        {"op": "kunmap", "page": 0x1000},
        {"op": "kunmap", "page": 0x1000, "pid": 2},  # another task's
        {"op": "kunmap", "page": 0x2000, "pid": 2},
        {"op": "vmap", "vaddr": 0xF800_0000},
        {"op": "vmap", "vaddr": 0xF800_0000, "caller": 0xF791_E040},
    ]
    events = table(rows)
    sites = call_sites(events, replay_locals(events, layout_of(I386)))
    assert [(s.site, s.op, s.count, s.tasks) for s in sites] == [
        ("a+0x1", "kmap", 2, 2),
        (UNKNOWN_SITE, "vmap", 1, 1),
        ("0xf791e040", "vmap", 1, 1),
    ]
    assert sites[0].hold_ns_mean == (190 + 290) / 2
    assert sites[0].hold_ns_max == 290
    assert sites[0].share == pytest.approx(2 / 4)


def test_arena_bookkeeping() -> None:
    """Lazily freed areas stay taken until the purge."""
    start = layout_of(I386).vmalloc_start
    page = 4096

    def area(op: str, first: int, pages: int) -> dict[str, Any]:
        base = {"op": op, "vaddr": start + first * page}
        if op == "area_alloc":
            return base | {"size": pages * page}
        return base | {"end": start + (first + pages) * page}

    rows = [
        area("area_alloc", 10, 5),
        {"op": "area_alloc", "vaddr": 0, "size": page},  # failed
        area("area_free", 10, 5),
        area("area_alloc", 20, 5),
        {"op": "area_purge", "start": 0, "end": 0, "pages": 1},
        {"op": "area_purge", "start": 0, "end": 0, "pages": 0},  # had nothing to do
        area("area_alloc", 10, 5),
    ]
    values = Snapshot(areas=(Area(start, start + 10 * page, "vmap"),))
    figures = arena_figures(table(rows), layout_of(I386), values)
    assert (figures.allocs, figures.failures, figures.lazy_purges) == (3, 1, 1)
    assert figures.peak_used == 20 * page
    assert figures.holders == (Holder("(vmap)", 1, 10 * page),)
    assert figures.largest_hole_min == figures.size - 25 * page
    unknown = arena_figures(table(rows), layout_of(I386), Snapshot())
    assert unknown.peak_used is None
    assert (figures.purge_runs, figures.peak_live) == (2, 20 * page)
    waiting = Snapshot(areas=(*values.areas, Area(start + 40 * page, start + 70 * page)))
    figures = arena_figures(table(rows), layout_of(I386), waiting)
    assert (figures.peak_used, figures.peak_live) == (50 * page, 20 * page)
    assert figures.holders[0] == Holder("(unpurged)", 1, 30 * page)
    big = start + 50 * page  # where an area lay that only waited for the purge
    rows.append({"op": "area_alloc", "vaddr": big, "size": 25 * page})
    again = arena_figures(table(rows), layout_of(I386), waiting)
    assert (again.peak_used, again.peak_live) == (50 * page, 45 * page)
    assert figures.smallest_failed == page


def test_what_the_probes_do_not_tell_of_allocations() -> None:
    start = layout_of(I386).vmalloc_start
    rows = [{"op": "area_alloc", "size": 4096}] * 2 + [{"op": "area_alloc", "vaddr": start}]
    some = arena_figures(table(rows), layout_of(I386), Snapshot(seen_unsure=1))
    assert (some.allocs, some.failures, some.untold, some.derived) == (3, 0, 3, False)
    rows = [{"op": "vmap", "vaddr": 0}, {"op": "vmalloc", "vaddr": start, "size": 8192}]
    callers = arena_figures(table(rows), layout_of(I386), Snapshot())
    assert (callers.allocs, callers.failures, callers.untold, callers.derived) == (1, 1, 0, True)
    rows += [{"op": "area_alloc", "vaddr": start, "size": 8192}]
    assert arena_figures(table(rows), layout_of(I386), Snapshot()).null_calls == 1
    purges: list[dict[str, Any]] = [{"op": "area_purge"}] * 3
    assert arena_figures(table(purges), layout_of(I386), Snapshot()).lazy_purges is None


def test_largest_hole_against_a_plain_map() -> None:
    """The bound on the other holes against searching the whole map after every step."""
    rng = np.random.default_rng(4)
    pages, steps = 200, 400
    state = np.zeros(pages, int)
    code, start, end = [], [], []
    live: list[tuple[int, int]] = [(3, 9), (150, 155)]
    lazy: list[tuple[int, int]] = [(40, 52), (60, 61)]
    for first, behind in (*live, *lazy):
        state[first:behind] = 1
    in_use, freed = np.array(live), np.array(lazy)
    peak, most_live = int(state.sum()), 11
    worst = max(map(len, "".join(map(str, state)).split("1")))
    for _ in range(steps):
        what = rng.choice([0, 0, 1, 2], p=[0.3, 0.25, 0.4, 0.05])
        size = int(rng.integers(1, 12))
        if what == 0:
            holes = [p for p in range(pages - size) if not state[p : p + size].any()]
            if not holes:
                continue
            at = int(rng.choice(holes))
            state[at : at + size] = 1
            live.append((at, at + size))
            entry = live[-1]
        elif what == 1 and live:
            entry = live.pop(int(rng.integers(len(live))))
            lazy.append(entry)
        else:
            for a, b in lazy:
                state[a:b] = 0
            lazy.clear()
            what, entry = 2, (0, 0)
        code.append(what)
        start.append(entry[0])
        end.append(entry[1])
        runs = "".join(map(str, state)).split("1")
        worst = min(worst, max(map(len, runs)))
        peak = max(peak, int(state.sum()))
        most_live = max(most_live, sum(b - a for a, b in live))
    arena = arena_use.new_arena(pages, in_use, freed)
    arena_use.run(
        arena, np.array(code, np.uint8), np.array(start, np.int64), np.array(end, np.int64)
    )
    assert (arena.reg[arena_use.PEAK], arena.reg[arena_use.HOLE]) == (peak, worst)
    assert arena.reg[arena_use.PEAK_LIVE] == most_live
