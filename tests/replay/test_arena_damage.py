"""Simulated races of which files or events are damaged: nothing that is called certain is wrong."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from collectors.snapshot import Snapshot
from replay.arena.result import CERTAIN
from replay.machine.layout import layout_of
from replay.trace.losses import Gaps
from tests.replay import arena_simulator as sim
from tests.replay.test_arena_replay import PC, PURGES_PROBED, P, _alloc, small
from tests.replay.whole_arena import Replayed, replay_arena

if TYPE_CHECKING:
    from collections.abc import Callable

Areas = tuple[sim.Area, ...]
Capture = tuple[pl.DataFrame, Areas, tuple[int, ...]]
A = 0xF7800000


def without_areas(rng: random.Random, events: pl.DataFrame, areas: Areas) -> Capture:
    """/proc/vmallocinfo lacks some areas in use."""
    used = [a for a in areas if a.kind != "unpurged"][:-1]
    hidden = set(rng.sample(used, rng.randint(1, 4)))
    return events, tuple(a for a in areas if a not in hidden), ()


def without_unpurged(rng: random.Random, events: pl.DataFrame, areas: Areas) -> Capture:
    """It lacks a lazily freed one."""
    hidden = rng.choice([a for a in areas if a.kind == "unpurged"])
    return events, tuple(a for a in areas if a != hidden), ()


def without_end(rng: random.Random, events: pl.DataFrame, areas: Areas) -> Capture:
    """Its end is missing."""
    return events, areas[: -rng.randint(1, len(areas) // 2)], ()


def begun_late(rng: random.Random, events: pl.DataFrame, areas: Areas) -> Capture:
    """The trace begins when the files are old."""
    return events.filter(pl.col("seq") >= events["seq"][rng.choice((3, 10, 40, 120))]), areas, ()


def without_returns(of: str) -> Callable[[random.Random, pl.DataFrame, Areas], Capture]:
    """A return probe is missing (purges), or missed some calls (allocations)."""

    def damage(rng: random.Random, events: pl.DataFrame, areas: Areas) -> Capture:
        share = 1.0 if of == "area_purge" else 0.02
        missed = pl.Series(np.random.default_rng(rng.randint(0, 99)).random(events.height) < share)
        here = (pl.col("op") == of) & missed
        told = ("end_seq", "pages", "vaddr")
        return events.with_columns(pl.when(~here).then(c).alias(c) for c in told), areas, ()

    return damage


def begun_late_without_returns(rng: random.Random, events: pl.DataFrame, areas: Areas) -> Capture:
    """Both."""
    return without_returns("area_purge")(rng, begun_late(rng, events, areas)[0], areas)


def lost(rng: random.Random, events: pl.DataFrame, areas: Areas) -> Capture:
    """Events were lost, and the tracer says so."""
    at = rng.randint(10, events.height - 30)
    left = pl.concat([events[:at], events[at + rng.randint(1, 20) :]])
    return left, areas, (int(left["seq"][at]),)


def without_flushes(rng: random.Random, events: pl.DataFrame, areas: Areas) -> Capture:
    """Flushes are not traced: nothing tells when a purge took the list."""
    return events.filter(pl.col("op") != "flush_range"), areas, ()


DAMAGES: dict[str, Callable[[random.Random, pl.DataFrame, Areas], Capture]] = {
    "areas": without_areas,
    "unpurged": without_unpurged,
    "end": without_end,
    "late": begun_late,
    "purge-returns": without_returns("area_purge"),
    "alloc-returns": without_returns("area_alloc"),
    "late-purge-returns": begun_late_without_returns,
    "lost": lost,
    "flushes": without_flushes,
}


def damaged(name: str, seed: int) -> Replayed:
    rng = random.Random(f"{name} {seed}")
    generation = rng.choice(("5.10", "6.1", "6.5", "6.12"))
    aligns: tuple[int, ...] = rng.choice(((1,), (1,), (1, P, 4 * P), (4 * P,), (1, 2 * P, 64 * P)))
    tasks = rng.randint(1, 4)
    stretch = rng.choice((0.05, 0.3, 0.8, 1.5)) if tasks > 1 else 0
    events, areas = sim.simulate(seed, 250, tasks, generation, aligns, stretch)
    events, areas, losses = DAMAGES[name](rng, events, areas)
    machine = replace(PC, generation=generation)
    facts = Snapshot(areas=areas, probes=(PURGES_PROBED,))
    return replay_arena(events, machine, layout_of(machine), facts, Gaps.at(losses))


@pytest.mark.parametrize("name", DAMAGES)
def test_nothing_certain_is_wrong(name: str) -> None:
    found = [damaged(name, seed) for seed in range(12)]
    assert [r.wrong for r in found] == [0] * len(found)
    assert sum(r.certain for r in found) > 30


def free(seq: int, start: int, end: int) -> list[dict[str, Any]]:
    return [{"seq": seq, "op": "area_free", "pid": 2, "vaddr": start, "end": end}]


def test_what_a_call_got_that_was_not_seen_to_return_was_not_in_use_at_the_start() -> None:
    """The second page may be the second call's: at the third one it is not known to be free."""
    rows = [
        _alloc(0, 1, P, A), _alloc(2, 3, 2 * P, None), _alloc(4, 5, P, A + 3 * P),
        *free(6, A + P, A + 3 * P),
    ]  # fmt: skip
    r = small(*rows)
    assert r.found.areas_added == 0
    assert r.wrong == 0
    assert r.predicted[2] == A + 3 * P
    other = small(*rows[:1], *rows[2:])  # without that call it was in use
    assert other.found.areas_added == 1


def test_what_is_freed_behind_a_loss_tells_nothing_of_the_start() -> None:
    rows = sim.table([{"ts": 0, "cpu": 0, "ctx": 0, **row} for row in (
        _alloc(0, 1, P, A), _alloc(2, 3, P, A + P), *free(20, A + 2 * P, A + 3 * P),
    )])  # fmt: skip
    below = Snapshot(areas=(sim.Area(0xF77FE000, A, "vmalloc", ""),), probes=(PURGES_PROBED,))
    r = replay_arena(rows, PC, layout_of(PC), below, Gaps.at([10]))
    assert r.verdict.tolist() == [CERTAIN, CERTAIN]
    assert (r.found.areas_added, r.wrong) == (0, 0)
    assert replay_arena(rows, PC, layout_of(PC), below).found.areas_added == 1


def purge(seq: int, start: int, end: int) -> list[dict[str, Any]]:
    return [
        {"seq": seq, "op": "area_purge", "pid": 1, "start": 0xFFFFFFFF, "end": 0,
         "end_seq": seq + 2},
        {"seq": seq + 1, "op": "flush_range", "pid": 1, "parent": seq, "start": start, "end": end},
    ]  # fmt: skip


def test_an_area_is_back_though_an_old_snapshot_has_a_part_of_it_free() -> None:
    """The list has two pages as lazily freed that were in use again, in an area of four."""
    old = (
        sim.Area(0xF77FE000, A, "vmalloc", ""), sim.Area(A, A + P, "vmalloc", ""),
        sim.Area(A + P, A + 3 * P, "unpurged", ""),
    )  # fmt: skip
    rows = [
        *purge(0, A + P, A + 3 * P),
        *free(4, A, A + P), *free(5, A + P, A + 5 * P), *purge(6, A, A + 5 * P),
        _alloc(10, 11, 2 * P, A), _alloc(12, 13, 3 * P, A + 2 * P),
        _alloc(14, 15, P, A + 5 * P),
    ]  # fmt: skip
    r = small(*rows, areas=old)
    assert (r.predicted == r.seen).all()
    assert (r.certain, r.wrong) == (3, 0)


def test_an_area_that_is_freed_with_another_end_is_not_that_of_the_snapshot() -> None:
    """Of four pages in use at the snapshot the first two are another area when the trace begins."""
    old = (sim.Area(0xF77FE000, A, "vmalloc", ""), sim.Area(A, A + 4 * P, "vmalloc", ""))
    rows = [
        *free(0, A, A + 2 * P), *purge(1, A, A + 2 * P), _alloc(4, 5, 3 * P, A),
        _alloc(6, 7, P, A + 3 * P),
    ]  # fmt: skip
    r = small(*rows, areas=old)
    assert (r.predicted == r.seen).all()
    assert r.wrong == 0
    assert (r.found.areas_added, r.found.areas_removed) == (1, 1)
