"""The closed loop: tasks that wait are late afterwards, sleepers wake together, deadlocks end."""

from __future__ import annotations

import numpy as np

from replay.pool.loops import closed
from replay.pool.loops.highmem import ASLEEP, new_pool
from replay.pool.loops.sequence import MAP, UNMAP, new_gauges

WAKE = 5


def run(
    slots: int,
    calls: list[tuple[int, int, int, int]],
    *,
    loop: bool = True,
    waited: int = 0,
    room: int = 3,
    spared: tuple[int, ...] = (),
) -> tuple[closed.Done, tuple[int, int, int, int]]:
    """Replay (time, task, code, page) calls on an empty pool, `room` at a time.

    Pages that are `spared` need no slot.
    What becomes of each call, in the given order; most slots used and stale, tasks that sleep
    for ever, and flushes of failed attempts that freed nothing.
    """
    n = len(calls)
    time, task, code, page = (np.array(column) for column in zip(*calls, strict=True))
    load = closed.Load(
        code=code.astype(np.uint8),
        page=page.astype(np.int32),
        task=task.astype(np.int32),
        time=time.astype(np.int64),
        there=np.where(np.isin(np.arange(64), spared), -1, np.arange(64)),
        happens=np.ones(9, bool),
        slept_at=np.arange(n),
        slept_ns=np.full(n, waited),
        follower=np.zeros(0, np.int64),
    )
    pool, gauges = new_pool(slots, 64), new_gauges(slots, 0, 1, 0)
    state, out, some = closed.new_loop(8, 0), closed.new_done(n), closed.new_done(room)
    stuck = 0
    while not state.reg[closed.OVER]:
        number = closed.run(pool, pool, load, state, some, WAKE, loop, gauges)
        if state.reg[closed.UNLINKED]:
            load, later = load._replace(follower=np.zeros(n, np.int64)), np.full(8, -1, np.int64)
            for stop in range(n, 0, -room):
                closed.link(load, max(stop - room, 0), stop, later)
        at = some.call[:number]
        stuck += int(((some.result[:number] == ASLEEP) & (some.code[:number] == MAP)).sum())
        for column, part in zip(out, some, strict=True):
            column[at] = part[:number]
    most = int(state.reg[closed.MOST_USED]), int(state.reg[closed.MOST_STALE])
    return out, (*most, stuck * loop, int(state.reg[closed.QUIET]))


def test_without_waits_it_is_the_captured_order() -> None:
    load, out = run(4, [(1, 0, MAP, 1), (2, 1, MAP, 2), (3, 0, UNMAP, 1), (4, 1, UNMAP, 2)])
    assert load.result.tolist() == [1, 2, 1, 2]
    assert out == (2, 2, 0, 0)


def test_a_sleeper_is_served_after_the_wake_up() -> None:
    load, out = run(1, [(1, 0, MAP, 1), (2, 1, MAP, 2), (10, 0, UNMAP, 1), (20, 1, UNMAP, 2)])
    assert load.sleeps.tolist() == [0, 1, 0, 0]
    assert load.wait[1] == 10 + WAKE - 2
    assert load.result.tolist() == [0, 0, 0, 0]
    assert out[2] == 0


def test_what_a_late_task_does_next_is_late_too() -> None:
    """Task 1 holds the only slot from 15 (not 2) to 33 (not 20): task 2 waits at 25."""
    calls = [
        (1, 0, MAP, 1), (2, 1, MAP, 2), (10, 0, UNMAP, 1),
        (20, 1, UNMAP, 2), (25, 2, MAP, 3), (40, 2, UNMAP, 3),
    ]  # fmt: skip
    load, out = run(1, calls)
    assert load.sleeps.tolist() == [0, 1, 0, 0, 1, 0]
    assert load.wait[4] == 33 + WAKE - 25
    assert out[2] == 0
    fixed, _ = run(1, calls, loop=False)
    assert fixed.sleeps.tolist() == [0, 1, 0, 0, 0, 0]  # captured times: the slot is free at 25


def test_calls_of_pages_that_need_no_slot_are_none() -> None:
    """As if they were not there, in step and out of step."""
    calls = [
        (1, 0, MAP, 1), (2, 1, MAP, 2), (3, 1, MAP, 9), (10, 0, UNMAP, 1), (11, 1, UNMAP, 9),
        (20, 1, UNMAP, 2), (25, 2, MAP, 3), (26, 2, MAP, 9), (40, 2, UNMAP, 3),
    ]  # fmt: skip
    some, out = run(1, calls, spared=(9,))
    left = [call for call in calls if call[3] != 9]
    expected, told = run(1, left)
    at = [n for n, call in enumerate(calls) if call[3] != 9]
    for name in ("result", "scanned", "freed", "sleeps", "wait"):
        assert getattr(some, name)[at].tolist() == getattr(expected, name).tolist(), name
    assert out == told


def test_a_task_that_slept_in_the_capture_runs_ahead() -> None:
    load, _ = run(4, [(10, 0, MAP, 1), (60, 0, UNMAP, 1)], waited=30)
    assert load.result.tolist() == [1, 1]
    assert load.wait.tolist() == [0, 0]


def test_all_sleepers_wake_and_all_but_one_sleep_again() -> None:
    calls = [(1, 0, MAP, 1)]
    calls += [(1 + t, t, MAP, 10 + t) for t in (1, 2, 3)]
    calls += [(50, 0, UNMAP, 1)]
    calls += [(100 + t, t, UNMAP, 10 + t) for t in (1, 2, 3)]
    load, out = run(1, calls)
    assert load.sleeps.sum() == 3 + 2 + 1
    assert out[2] == 0
    assert out[3] >= 3  # every failed attempt ran a flush that freed nothing


def test_deadlock_by_nesting_ends() -> None:
    """Two tasks hold one slot each and want another: both sleep for ever."""
    load, out = run(
        2,
        [
            (1, 0, MAP, 1), (2, 1, MAP, 2), (3, 0, MAP, 3), (4, 1, MAP, 4),
            (5, 0, UNMAP, 3), (6, 0, UNMAP, 1), (7, 1, UNMAP, 4), (8, 1, UNMAP, 2),
        ],
    )  # fmt: skip
    assert out[2] == 2
    assert load.call.tolist() == [0, 1, 2, 3, 0, 0, 0, 0]  # the others are never reached
