"""Compiled loops of the timeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from replay.arena.loops.use import (
    FIRST,
    IN_USE,
    LAZY_END,
    LAZY_START,
    LENGTH,
    LIVE,
    OTHERS,
    PURGE,
    Arena,
    take_step,
    two_largest_holes,
)
from replay.compiled import loop, piece
from replay.local.loops import MAP as LOCAL_MAP
from replay.local.loops import SWITCH_OUT
from replay.pool.loops.highmem import FREED, STALE, UNKNOWN, USED, Pool, lowest_slot
from replay.pool.loops.sequence import ASLEEP, MAP, RESET, SNAPSHOT, step

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEVER_SEEN = 1 << 62
"""Least of a bin that nothing was seen in."""

# Columns of what :func:`follow_pool` fills
POOL_USED, POOL_STALE, POOL_WAITING, POOL_FREED, POOL_COUNTED = range(5)

# Columns of what :func:`follow_arena` fills, in pages
ARENA_LIVE, ARENA_LAZY, ARENA_HOLE = range(3)

# Classes of a slot
SLOT_FREE, SLOT_STALE, SLOT_USED = range(3)

SWITCH_IN = 100
"""A kind of event of local mappings beside those of :mod:`replay.local.loops`."""
MOST_SAVED = 256
"""Tasks that lost their CPU with local mappings, of which the depth is remembered."""


class Folded(NamedTuple):
    """Quantities in bins, a row each.

    Attributes
    ----------
    low, high : ndarray of int64, shape (rows, bins)
        Lowest and highest value.
    area : ndarray of float64, shape (rows, bins)
        Integral over time.
    value, since : ndarray of int64, shape (rows,)
        The present value, and up to when it is counted.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    area: NDArray[np.float64]
    value: NDArray[np.int64]
    since: NDArray[np.int64]


@piece
def _hold(bins: Folded, row: int, until: int, start: int, width: int) -> None:
    """Count the present value up to a time."""
    since, value = bins.since[row], bins.value[row]
    if until <= since:
        return
    last = bins.low.shape[1] - 1
    first = min(max((since - start) // width, 0), last)
    final = min(max((until - 1 - start) // width, 0), last)
    for b in range(first, final + 1):
        left = max(since, start + b * width)
        right = until if b == final else start + (b + 1) * width
        bins.low[row, b] = min(bins.low[row, b], value)
        bins.high[row, b] = max(bins.high[row, b], value)
        bins.area[row, b] += np.float64(value) * np.float64(right - left)
    bins.since[row] = until


@loop
def fold(
    bins: Folded,
    row: int,
    time: NDArray[np.int64],
    value: NDArray[np.int64],
    start: int,
    width: int,
) -> None:
    """Take steps of one quantity.

    Parameters
    ----------
    bins
        Changed.
    row
        Which quantity.
    time, value : ndarray of int64, shape (n,)
        When it changed, and to what. A time that is less than one before counts as that one.
    start, width
        Of the bins, in ns.
    """
    last = bins.low.shape[1] - 1
    for i in range(time.shape[0]):
        _hold(bins, row, time[i], start, width)
        b = min(max((bins.since[row] - start) // width, 0), last)
        bins.value[row] = value[i]
        bins.low[row, b] = min(bins.low[row, b], value[i])
        bins.high[row, b] = max(bins.high[row, b], value[i])


@loop
def settle(bins: Folded, until: int, start: int, width: int) -> None:
    """Count every quantity up to the end."""
    for row in range(bins.low.shape[0]):
        _hold(bins, row, until, start, width)


class SlotTimes(NamedTuple):
    """Time of slots in columns; of length 0 where it is not wanted.

    Attributes
    ----------
    kind : ndarray of uint8, shape (slots,)
        SLOT_FREE, SLOT_STALE or SLOT_USED.
    since : ndarray of int64, shape (slots,)
        Up to when it is counted.
    used, stale : ndarray of float64, shape (slots, columns)
        ns.
    """

    kind: NDArray[np.uint8]
    since: NDArray[np.int64]
    used: NDArray[np.float64]
    stale: NDArray[np.float64]


@piece
def _spend(slots: SlotTimes, slot: int, until: int, start: int, width: int) -> None:
    """Count a slot's time up to a moment."""
    since, kind = slots.since[slot], slots.kind[slot]
    if until <= since:
        return
    slots.since[slot] = until
    if kind == SLOT_FREE:
        return
    last = slots.used.shape[1] - 1
    first = min(max((since - start) // width, 0), last)
    final = min(max((until - 1 - start) // width, 0), last)
    for column in range(first, final + 1):
        left = max(since, start + column * width)
        right = until if column == final else start + (column + 1) * width
        if kind == SLOT_USED:
            slots.used[slot, column] += np.float64(right - left)
        else:
            slots.stale[slot, column] += np.float64(right - left)


@piece
def _note_slots(slots: SlotTimes, pool: Pool, now: int, start: int, width: int) -> None:
    """Look at the slots that were changed."""
    for word in range(pool.touched.shape[0]):
        bits = pool.touched[word]
        pool.touched[word] = 0
        while bits != 0:
            slot = lowest_slot(word, bits)
            bits &= bits - 1
            kind = min(pool.counts[slot], 2)
            if kind != slots.kind[slot]:
                _spend(slots, slot, now, start, width)
                slots.kind[slot] = kind


@loop
def follow_pool(
    pool: Pool,
    snapshot: Pool,
    operations: NDArray[np.int64],
    time: NDArray[np.int64],
    call: NDArray[np.int64],
    asleep: NDArray[np.bool_],
    waiting: NDArray[np.int64],
    states: NDArray[np.int32],
    slots: SlotTimes,
    start: int,
    width: int,
) -> None:
    """Carry out operations of the pool once more, and tell what was so after each.

    Parameters
    ----------
    pool, snapshot, operations, time
        As of :func:`replay.pool.loops.sequence.run`.
    call : ndarray of int64, shape (n,)
        Call of each operation; -1 none.
    asleep : ndarray of bool
        By call whether it sleeps; changed.
    waiting : ndarray of int64, shape (1,)
        How many do; changed.
    states : ndarray of int32, shape (n, 5)
        Filled: POOL_USED, POOL_STALE and POOL_WAITING after each; POOL_FREED: slots that a flush
        freed, -1 if there was none; POOL_COUNTED: whether it is a kmap() that got a slot.
    slots
        Changed; of length 0: not wanted.
    start, width
        Of its columns, in ns.
    """
    for i in range(operations.shape[0]):
        code, who = operations[i, 0], call[i]
        slot = step(pool, snapshot, code, operations[i, 1], operations[i, 2], operations[i, 3])
        if code == MAP and who >= 0:
            if slot == ASLEEP and not asleep[who]:
                asleep[who] = True
                waiting[0] += 1
            elif slot >= 0 and asleep[who]:
                asleep[who] = False
                waiting[0] -= 1
        elif code in (RESET, SNAPSHOT):
            waiting[0] = 0
            for other in range(asleep.shape[0]):
                asleep[other] = False
        states[i, POOL_USED] = pool.reg[USED]
        states[i, POOL_STALE] = pool.reg[STALE]
        states[i, POOL_WAITING] = waiting[0]
        states[i, POOL_FREED] = pool.reg[FREED]
        states[i, POOL_COUNTED] = code == MAP and slot > UNKNOWN and slot != ASLEEP
        if slots.kind.shape[0] > 0:
            _note_slots(slots, pool, time[i], start, width)


@loop
def settle_slots(slots: SlotTimes, until: int, start: int, width: int) -> None:
    """Count every slot up to the end."""
    for slot in range(slots.kind.shape[0]):
        _spend(slots, slot, until, start, width)


class Saved(NamedTuple):
    """Tasks that lost their CPU while they held local mappings.

    Attributes
    ----------
    task : ndarray of int64, shape (MOST_SAVED,)
    depth : ndarray of int64, shape (MOST_SAVED,)
        0: none.
    number : ndarray of int64, shape (1,)
        How many elements were ever used.
    """

    task: NDArray[np.int64]
    depth: NDArray[np.int64]
    number: NDArray[np.int64]


def none_saved() -> Saved:
    """No task."""
    task, depth = np.zeros((2, MOST_SAVED), np.int64)
    return Saved(task, depth, np.zeros(1, np.int64))


@piece
def _save(saved: Saved, task: int, depth: int) -> None:
    """Remember the depth of a task; 0: forget it. Without room nothing is remembered."""
    place = saved.number[0]
    for at in range(saved.number[0]):
        if saved.task[at] == task or (saved.depth[at] == 0 and place == saved.number[0]):
            place = at
        if saved.task[at] == task:
            break
    if place < MOST_SAVED:
        saved.task[place], saved.depth[place] = task, depth
        saved.number[0] = max(saved.number[0], place + 1)


@piece
def _saved(saved: Saved, task: int) -> np.int64:
    """Depth of a task that lost its CPU; 0 none."""
    depth = np.int64(0)
    for at in range(saved.number[0]):
        if saved.task[at] == task:
            depth = saved.depth[at]
    return depth


@loop
def follow_local(
    kind: NDArray[np.uint8],
    task: NDArray[np.int64],
    depth: NDArray[np.int32],
    saved: Saved,
    after: NDArray[np.int64],
) -> None:
    """Tell how many local mappings the running task of a CPU has after each event there.

    Parameters
    ----------
    kind, task, depth : ndarray, shape (n,)
        As of :class:`replay.local.events.LocalEvents`; SWITCH_IN, of the task that gets the CPU.
    saved
        Changed.
    after : ndarray of int64, shape (n,)
        Filled; -1: nothing changes.
    """
    for i in range(kind.shape[0]):
        if kind[i] == SWITCH_OUT:
            after[i] = -1
            if depth[i] > 0:
                _save(saved, task[i], np.int64(depth[i]))
                after[i] = 0
        elif kind[i] == SWITCH_IN:
            after[i] = -1
            back = _saved(saved, task[i])
            if back > 0:
                _save(saved, task[i], 0)
                after[i] = back
        else:
            after[i] = np.int64(depth[i]) + (1 if kind[i] == LOCAL_MAP else 0)


@loop
def follow_arena(
    arena: Arena,
    code: NDArray[np.uint8],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    states: NDArray[np.int64],
) -> None:
    """Follow the arena, and tell what is so after each step.

    Parameters
    ----------
    arena, code, start, end
        As of :func:`replay.arena.loops.use.run`.
    states : ndarray of int64, shape (n, 3)
        Filled: ARENA_LIVE, ARENA_LAZY, ARENA_HOLE, in pages.
    """
    state, reg = arena.state, arena.reg
    for i in range(code.shape[0]):
        some = reg[LAZY_START] < reg[LAZY_END]
        take_step(state, reg, np.int64(code[i]), start[i], end[i])
        if code[i] == PURGE and some:
            reg[FIRST], reg[LENGTH], reg[OTHERS] = two_largest_holes(state)
        states[i, ARENA_LIVE] = reg[LIVE]
        states[i, ARENA_LAZY] = reg[IN_USE] - reg[LIVE]
        states[i, ARENA_HOLE] = reg[LENGTH]
