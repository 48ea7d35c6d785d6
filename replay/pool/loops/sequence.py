"""Replay of a sequence of pool operations, in the order in which they took the pool's lock.

This is the model alone: it knows the initial state and the calls, never what the kernel
returned. :mod:`replay.pool.loops.order` finds the order; here the order is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from replay.compiled import loop, part, piece
from replay.pool.loops.highmem import (
    ASLEEP,
    FREED,
    LAST,
    SCANNED,
    STALE,
    UNKNOWN,
    USED,
    Pool,
    drop,
    flush_all_zero_pkmaps,
    kmap_high,
    kunmap_high,
    place,
    set_count,
    touch,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Operations of a sequence. The first four are the kernel's, the others correct what is not
# known of the initial state, or of the state after events were lost.
MAP = 0  # one attempt of kmap_high(page)
UNMAP = 1  # kunmap_high(page)
FLUSH_UNUSED = 2  # __kmap_flush_unused()
GET = 3  # kmap_high_get(page)
PLACE = 4  # page (-1 unknown) turns out to be mapped at slot, with `count`
RELEASE = 5  # a slot held from before turns out to be free
CURSOR = 6  # the cursor of colour `count` turns out to be at `slot`
RESET = 7  # events were lost: nothing is known any more
SNAPSHOT = 8  # the recorder's snapshot was taken here


class Gauges(NamedTuple):
    """What is measured over time while a sequence runs.

    Attributes
    ----------
    used_ns : ndarray of int64, shape (slots + 1,)
        Time spent with each number of used slots.
    used, stale : ndarray of float64, shape (bins, 3)
        Per bin of time: lowest, highest, and the integral of the number of slots over time.
    start, end : int
        Time of the first bin, and the end of the measured time.
    width : int
        Width of a bin in ns, at least 1.
    since, until : int
        The part of it that one run measures: up to its first operation from `since` on, after
        its last one up to `until`.
    """

    used_ns: NDArray[np.int64]
    used: NDArray[np.float64]
    stale: NDArray[np.float64]
    start: int
    end: int
    width: int
    since: int
    until: int


@piece
def observe(gauges: Gauges, used: int, stale: int, since: int, until: int) -> None:
    """Account for the time from `since` to `until`, in which nothing changed."""
    bins = gauges.used.shape[0]
    if bins == 0 or until <= since:
        return
    gauges.used_ns[used] += until - since
    first = min(max((since - gauges.start) // gauges.width, 0), bins - 1)
    final = min(max((until - gauges.start) // gauges.width, 0), bins - 1)
    for b in range(first, final + 1):
        left = max(since, gauges.start + b * gauges.width)
        right = until if b == final else gauges.start + (b + 1) * gauges.width
        for table, value in ((gauges.used, used), (gauges.stale, stale)):
            table[b, 0] = min(table[b, 0], value)
            table[b, 1] = max(table[b, 1], value)
            table[b, 2] += value * (right - left)


@part
def load(pool: Pool, other: Pool) -> None:
    """Take over another pool's state (the pages keep their numbers)."""
    for slot in range(pool.counts.shape[0]):  # loops: slice assignment compiles for seconds
        touch(pool, slot)
        pool.counts[slot] = other.counts[slot]
        pool.page[slot] = other.page[slot]
    for page in range(pool.slot.shape[0]):
        pool.slot[page] = other.slot[page]
    for word in range(pool.free.shape[0]):
        pool.free[word] = other.free[word]
        pool.stale[word] = other.stale[word]
    for register in range(pool.reg.shape[0]):
        pool.reg[register] = other.reg[register]


@part
def reset(pool: Pool) -> None:
    """Forget all mappings."""
    for slot in range(pool.counts.shape[0]):
        drop(pool, slot)


@piece
def step(pool: Pool, snapshot: Pool, code: int, page: int, slot: int, count: int) -> int:
    """Carry out one operation of a sequence; return its slot, ASLEEP or UNKNOWN."""
    pool.reg[FREED] = -1
    pool.reg[SCANNED] = 0
    result = UNKNOWN
    if code == MAP:
        result = kmap_high(pool, page)
    elif code == UNMAP:
        result = kunmap_high(pool, page)
    elif code == FLUSH_UNUSED:
        flush_all_zero_pkmaps(pool)
    elif code == GET:
        result = pool.slot[page]
        if result >= 0:
            set_count(pool, result, pool.counts[result] + 1)
    elif code == PLACE:
        place(pool, page, slot, count)
    elif code == RELEASE:
        drop(pool, slot)
    elif code == CURSOR:
        pool.reg[LAST + count] = slot
    elif code == RESET:
        reset(pool)
    else:
        load(pool, snapshot)
        pool.reg[FREED] = -1
    return result


@loop
def run(
    pool: Pool,
    snapshot: Pool,
    operations: NDArray[np.int64],
    time: NDArray[np.int64],
    result: NDArray[np.int32],
    scanned: NDArray[np.int32],
    freed: NDArray[np.int32],
    gauges: Gauges,
) -> tuple[int, int, int]:
    """Replay a sequence.

    Parameters
    ----------
    pool, snapshot
        State, changed in place; state that SNAPSHOT operations set.
    operations : ndarray of int64, shape (n, 4)
        Code, page, slot, count of each operation.
    time : ndarray of int64, shape (n,)
        When each took the lock; never falls.
    result, scanned, freed : ndarray of int32, shape (n,)
        Filled with the slot (or ASLEEP, UNKNOWN), the slots visited, and the slots that
        flush_all_zero_pkmaps freed (-1: it did not run).
    gauges
        Filled; give arrays of length 0 to measure nothing.

    Returns
    -------
    most_used, most_stale : int
        Highest number of slots in use and stale.
    fullest : int
        Operation that first made it so many in use, -1 if as many were at the start.
    """
    fullest = -1
    most_used = pool.reg[USED]
    most_stale = pool.reg[STALE]
    before = gauges.since
    for i in range(operations.shape[0]):
        if time[i] > before:
            observe(gauges, pool.reg[USED], pool.reg[STALE], before, time[i])
            before = time[i]
        result[i] = step(
            pool, snapshot, operations[i, 0], operations[i, 1], operations[i, 2], operations[i, 3]
        )
        scanned[i] = pool.reg[SCANNED]
        freed[i] = pool.reg[FREED]
        if pool.reg[USED] > most_used:
            most_used = pool.reg[USED]
            fullest = i
        most_stale = max(most_stale, pool.reg[STALE])
    observe(gauges, pool.reg[USED], pool.reg[STALE], before, gauges.until)
    return most_used, most_stale, fullest


def new_gauges(slots: int, start: int, end: int, bins: int) -> Gauges:
    """Empty gauges for the time from `start` to `end` in at most `bins` bins."""
    width = max(1, -(-(end - start) // bins)) if bins else 1

    def table() -> NDArray[np.float64]:
        values = np.zeros((bins, 3))
        values[:, 0] = np.inf
        values[:, 1] = -np.inf
        return values

    return Gauges(np.zeros(slots + 1, np.int64), table(), table(), start, end, width, start, end)


__all__ = ["ASLEEP", "UNKNOWN", "Gauges", "load", "new_gauges", "observe", "run", "step"]
