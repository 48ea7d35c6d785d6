"""Recovering the lock order: simulated kernels, and what must not be explained away."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.pool.loops.placing import DIVERGED, INITIAL, ORDERED
from replay.pool.window import PoolState, PoolWindow
from replay.trace.losses import Gaps
from tests.replay.oracle import BASE, PAGE, Run, simulate
from tests.replay.whole_pool import PoolReplay, linearise, replay_sequence

BOOT = PoolState(last=0)


def replay(
    events: pl.DataFrame, slots: int, state: PoolState | None = BOOT, colours: int = 1
) -> PoolReplay:
    window = PoolWindow(BASE, slots, PAGE, colours)
    sequence = linearise(events, window, state=state)
    return replay_sequence(sequence, window, events, (0, int(events["ts"].max() or 0)), "test")


def wrong(done: PoolReplay) -> list[int]:
    calls = done.sequence.calls
    seen = (calls.is_map | calls.is_get) & (calls.seen >= 0)
    return np.flatnonzero(seen & (done.predicted != calls.seen)).tolist()


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    slots=st.sampled_from([8, 16, 33]),
    tasks=st.integers(1, 6),
    pages=st.sampled_from([6, 20, 60]),
    jitter=st.sampled_from([3, 15, 40]),
)
def test_every_address_of_a_simulated_kernel_is_explained(
    seed: int, slots: int, tasks: int, pages: int, jitter: int
) -> None:
    run = simulate(seed, slots=slots, tasks=tasks, pages=pages, rounds=25, most=1, jitter=jitter)
    done = replay(run.events, slots)
    assert not wrong(done)
    assert not (done.sequence.status >= INITIAL).any()
    assert done.outcome.waits == run.sleeps
    assert done.outcome.passes == len(run.flushed)


@pytest.mark.parametrize(("slots", "colours"), [(16, 2), (64, 2), (64, 4)])
@pytest.mark.parametrize("jitter", [3, 15])
def test_coloured_pools(slots: int, colours: int, jitter: int) -> None:
    """Every colour has its cursor; one colour's wrap flushes the slots of all.

    With lanes of eight slots for six tasks not every order is found.
    """
    total = missed = 0
    for seed in range(40):
        run = simulate(
            seed, slots=slots, tasks=1 + seed % 6, pages=(20, 60, 200)[seed % 3], rounds=25,
            most=1, jitter=jitter, colours=colours,
        )  # fmt: skip
        done = replay(run.events, slots, colours=colours)
        total += int(done.sequence.calls.is_map.sum())
        missed += len(wrong(done))
        assert not (done.sequence.status == INITIAL).any()
        assert done.outcome.passes == len(run.flushed)
    assert missed == 0 if slots == 64 else missed < 0.001 * total


def test_sleepers_of_colours() -> None:
    """A task waits for a slot of its page's colour, whatever is free of the others.

    Two lanes of eight slots for twenty tasks: every sleep is predicted, nearly every address.
    """
    total = missed = 0
    for seed in range(6):
        run = simulate(seed, slots=16, tasks=20, pages=400, rounds=30, most=1, jitter=2, colours=2)
        assert run.sleeps
        done = replay(run.events, 16, colours=2)
        assert done.outcome.waits == run.sleeps
        total += int(done.sequence.calls.is_map.sum())
        missed += len(wrong(done))
    assert missed < 0.005 * total


@pytest.mark.parametrize("jitter", [3, 15])
def test_pins_without_mapping(jitter: int) -> None:
    """kmap_high_get() keeps a mapping that is there, even one without users, and makes none."""
    total = missed = 0
    for seed in range(60):
        run = simulate(
            seed, slots=(8, 33)[seed % 2], tasks=1 + seed % 5, pages=12, rounds=40, most=1,
            jitter=jitter, gets=(0.2, 0.6)[seed % 3 % 2],
        )  # fmt: skip
        done = replay(run.events, (8, 33)[seed % 2])
        calls = done.sequence.calls
        assert calls.is_get.any()
        assert done.outcome.maps == (run.events["op"] == "kmap").sum()
        total += int((calls.is_map | calls.is_get).sum())
        missed += len(wrong(done))
    assert missed == 0 if jitter == 3 else missed < 0.001 * total


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), every=st.sampled_from([3, 11]))
def test_flushes_of_unused_slots(seed: int, every: int) -> None:
    run = simulate(
        seed, slots=16, tasks=3, pages=30, rounds=25, most=1, unused_every=every, jitter=10
    )
    assert not wrong(replay(run.events, 16))


@pytest.mark.parametrize("jitter", [2, 10])
@pytest.mark.parametrize("seed", range(8))
def test_sleepers_and_their_flushes(seed: int, jitter: int) -> None:
    """Fourteen tasks on a pool of eight slots: every failed attempt flushes once and sleeps."""
    run = simulate(seed, slots=8, tasks=14, pages=400, rounds=30, most=1, jitter=jitter)
    assert run.sleeps
    done = replay(run.events, 8)
    assert not wrong(done)
    assert done.outcome.waits == run.sleeps
    assert (done.freed >= 0).sum() == len(run.flushed)
    assert not unlike(done, run)


def unlike(done: PoolReplay, run: Run) -> list[int]:
    """Flushes that free slots where the simulation's did not, or the other way round."""
    at = done.sequence.at_pass
    here = np.flatnonzero(at >= 0)
    flushed = np.array(run.flushed)[at[here]]
    return at[here][(done.freed[here] > 0) != flushed].tolist()


def test_tlb_flushes_tell_of_kunmaps_that_came_later() -> None:
    """Whether an overlapping kunmap() came before a flush shows in the TLB flush, or its absence.

    Without TLB flushes in the trace the addresses are explained all the same, the flushes not.
    """
    passes = missed = unseen = 0
    for seed in range(12):
        run = simulate(
            seed, slots=64, tasks=4, pages=300, rounds=60, most=1, jitter=10, unused_every=3
        )
        done = replay(run.events, 64)
        blind = replay(run.events.filter(pl.col("op") != "flush_range"), 64)
        assert not wrong(done)
        assert not wrong(blind)
        assert 0 < done.sequence.told_passes < len(run.flushed)
        assert blind.sequence.told_passes == 0
        passes += len(run.flushed)
        missed += len(unlike(done, run))
        unseen += len(unlike(blind, run))
    assert missed < 0.02 * passes
    assert unseen > 0.2 * passes


def test_a_missing_tlb_flush_that_nothing_explains_is_no_order() -> None:
    """One task alone wraps, its kunmap()s are over: the flush is predicted though none shows."""
    run = simulate(3, slots=16, tasks=1, pages=40, rounds=90, most=1, jitter=3)
    ranges = np.flatnonzero((run.events["op"] == "flush_range").to_numpy())
    kept = np.ones(run.events.height, bool)
    kept[ranges[2]] = False
    done = replay(run.events.filter(kept), 16)
    assert not unlike(done, run)
    assert not wrong(done)
    assert done.sequence.told_passes == 0
    observed = done.sequence.pass_flushed == 1
    assert (observed != np.array(run.flushed)).sum() == 1


@pytest.mark.parametrize("seed", range(6))
def test_initial_state_is_inferred_and_said_so(seed: int) -> None:
    """The first half of the trace is cut off: the rest is explained, little of it inferred."""
    run = simulate(seed, slots=32, tasks=2, pages=80, rounds=150, most=1, jitter=5)
    half = run.events["seq"][run.events.height // 2]
    later = run.events.filter(pl.col("seq") >= half)
    done = replay(later, 32, state=None)
    status = done.sequence.status[done.sequence.calls.is_map]
    assert (status == INITIAL).sum() >= 1
    assert (status == INITIAL).sum() <= 32 + 2
    assert (status == DIVERGED).sum() <= 2  # calls that were under way at the cut


def _corrupt(run: Run, count: int, slots: int) -> tuple[pl.DataFrame, list[int]]:
    """Change the returned address of `count` kmaps to another slot."""
    rng = np.random.default_rng(1)
    rows = np.flatnonzero((run.events["op"] == "kmap").to_numpy())
    chosen = sorted(rng.choice(rows[5:], count, replace=False).tolist())
    vaddr = run.events["vaddr"].fill_null(0).to_numpy().copy()
    for row in chosen:
        slot = (int(vaddr[row]) - BASE) // PAGE
        vaddr[row] = BASE + PAGE * ((slot + slots // 2) % slots)
    return run.events.with_columns(vaddr=pl.Series(vaddr)), chosen


def test_wrong_addresses_are_not_explained() -> None:
    """The model does not copy what it observes: a forged address is a divergence."""
    run = simulate(3, slots=64, tasks=1, pages=300, rounds=400, most=1, jitter=3)
    forged, rows = _corrupt(run, 10, 64)
    done = replay(forged, 64)
    calls = done.sequence.calls
    diverged = calls.row[done.sequence.status == DIVERGED].tolist()
    assert set(rows) <= set(diverged)
    exact = calls.is_map & (done.predicted == calls.seen) & (done.sequence.status < INITIAL)
    assert exact.sum() >= calls.is_map.sum() - 4 * len(rows)  # it finds its way back
    assert exact.sum() <= calls.is_map.sum() - len(rows)


def test_order_is_marked_where_an_address_decided() -> None:
    """Two calls overlap: the one that returned last has the lower slot, so it came first."""
    rows = [
        {"seq": 0, "end_seq": 3, "pid": 1, "page": 0x1000, "vaddr": BASE + PAGE},
        {"seq": 1, "end_seq": 2, "pid": 2, "page": 0x2000, "vaddr": BASE + 2 * PAGE},
    ]
    run = simulate(0, slots=8, tasks=1, pages=2, rounds=1, most=1)
    blank = dict.fromkeys(run.events.columns)
    common = {"op": "kmap", "ts": 1, "end_ts": 2, "cpu": 0, "ctx": 0, "entry_traced": True}
    events = pl.DataFrame([blank | common | row for row in rows], schema=run.events.schema)
    done = replay(events, 8)
    assert not wrong(done)
    assert done.sequence.status.tolist() == [ORDERED, 0]


def test_lost_events_make_the_state_unknown() -> None:
    run = simulate(5, slots=16, tasks=2, pages=40, rounds=80, most=1, jitter=5)
    events = run.events
    low, high = events["seq"][events.height // 3], events["seq"][events.height // 2]
    gap = events.filter((pl.col("seq") < low) | (pl.col("seq") >= high))
    window = PoolWindow(BASE, 16)
    sequence = linearise(gap, window, state=BOOT, losses=Gaps.at([int(high)]))
    done = replay_sequence(sequence, window, gap, (0, 1), "test")
    after = sequence.calls.is_map & (gap["seq"].to_numpy()[sequence.calls.row] >= high)
    assert (sequence.status[after] == INITIAL).any()
    assert len(wrong(done)) <= 4


def test_no_calls_at_all() -> None:
    run = simulate(0, slots=8, tasks=1, pages=2, rounds=1, most=1)
    done = replay(run.events.filter(pl.col("op") == "nothing"), 8)
    assert done.outcome.maps == 0
    assert done.predicted.size == 0


@pytest.mark.parametrize(("slots", "tasks"), [(64, 70), (32, 48)])
def test_heavy_overlap_is_explained(slots: int, tasks: int) -> None:
    """Calls that overlap with dozens of others on a crowded pool: the search finds their order."""
    for seed in range(12):
        run = simulate(seed, slots=slots, tasks=tasks, pages=400, rounds=20, most=1, jitter=15)
        done = replay(run.events, slots)
        assert not wrong(done)
        assert done.outcome.waits == run.sleeps
