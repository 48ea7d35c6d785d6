"""The list of lazily freed areas, and the hull that each purge flushes (mm/vmalloc.c).

free_vmap_area_noflush() only puts an area on a list; __purge_vmap_area_lazy() takes the whole
list, flushes one range that covers it, and gives the areas back to the free tree. Neither looks
at the free tree, so this runs before it and apart from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from replay.compiled import loop, part

if TYPE_CHECKING:
    from numpy.typing import NDArray

FREE = 0
PURGE = 1
FLUSH = 2  # a ranged flush where purges are not traced: one of the list's hull is a purge's

# Columns of a stream of frees and purges
KIND, START, END, LO, HI, SEEN_START, SEEN_END, HOLD = 0, 1, 2, 3, 4, 5, 6, 7
COLUMNS = 8
UNKNOWN = -1  # SEEN_START: the purge's flush was not traced; 0: it was, and there was none

# Order in which a purge gives areas back; Generation.lazy_list
NEWEST_FIRST = 0
ASCENDING_MERGED = 1
DESCENDING = 2

# Positions in Lazy.reg
N_LAZY = 0
N_GIVEN = 1
BYTES = 2  # nr_lazy
PEAK = 3
CROSSINGS = 4  # frees after which nr_lazy was above the limit
MOVED = 5  # frees that a purge's observed hull put behind the purge
REGISTERS = 6


class Lazy(NamedTuple):
    """The list, and what the purges took from it.

    Attributes
    ----------
    waiting : ndarray of int64, shape (frees, 4)
        Areas on the list, oldest first: start, end, end of the free's interval, stream event
        of the free (-1: on the list from the start).
    given : ndarray of int64, shape (frees, 2)
        Areas of all purges, in the order of giving back.
    purge : ndarray of int64, shape (n, 4)
        Per stream event that is a purge: first and last position in `given`, predicted hull
        (0, 0: nothing to flush).
    taken_by : ndarray of int64, shape (n,)
        Per stream event that is a free: the purge that took the area (stream event), -1 none.
    nr_lazy : ndarray of int64, shape (n,)
        Bytes on the list after each stream event.
    reg : ndarray of int64, shape (REGISTERS,)
    """

    waiting: NDArray[np.int64]
    given: NDArray[np.int64]
    purge: NDArray[np.int64]
    taken_by: NDArray[np.int64]
    nr_lazy: NDArray[np.int64]
    reg: NDArray[np.int64]


def new_lazy(events: int, initial: NDArray[np.int64]) -> Lazy:
    """List with the areas that it holds at the start, oldest first; shape (m, 2)."""
    capacity = events + initial.shape[0]
    waiting = np.full((capacity, 4), -1, np.int64)
    waiting[: initial.shape[0], :2] = initial
    reg = np.zeros(REGISTERS, np.int64)
    reg[N_LAZY] = initial.shape[0]
    reg[BYTES] = reg[PEAK] = int((initial[:, 1] - initial[:, 0]).sum())
    return Lazy(
        waiting,
        np.zeros((capacity, 2), np.int64),
        np.zeros((events, 4), np.int64),
        np.full(events, -1, np.int64),
        np.zeros(events, np.int64),
        reg,
    )


@part
def _hull(
    lazy: Lazy, skipped: NDArray[np.uint8], event: NDArray[np.int64], i: int
) -> tuple[int, int]:
    """Range that a purge flushes: hull of the list and of the range that it was called with."""
    start, end = np.int64(1) << 40, np.int64(0)
    for j in range(lazy.reg[N_LAZY]):
        if skipped[j] == 0:
            start = min(start, lazy.waiting[j, 0])
            end = max(end, lazy.waiting[j, 1])
    if end == 0:
        return 0, 0
    if event[i, KIND] == PURGE:
        start = min(start, event[i, START])
        end = max(end, event[i, END])
    return int(start), int(end)


@part
def _choose(lazy: Lazy, skipped: NDArray[np.uint8], event: NDArray[np.int64], i: int) -> bool:
    """Leave frees to the next purge that the observed hull does not cover.

    A free that entered before the purge took the list may have reached it only later. Of one
    inside the hull nothing is told.
    """
    first, last = event[i, SEEN_START], event[i, SEEN_END]
    late = 0
    for j in range(lazy.reg[N_LAZY]):
        area = lazy.waiting[j]
        if area[2] > event[i, LO] and skipped[j] == 0 and (area[0] < first or area[1] > last):
            skipped[j] = 1
            late += 1
    start, end = _hull(lazy, skipped, event, i)
    if start == first and end == last:
        lazy.reg[MOVED] += late
        return True
    return False


@part(allocates=True)
def detach(lazy: Lazy, skipped: NDArray[np.uint8], order: int, purge: int) -> None:
    """Move the list, without what is skipped, to `given` in the order of giving back."""
    n = lazy.reg[N_LAZY]
    chosen = np.empty(n, np.int64)
    m = 0
    for j in range(n):
        if skipped[j] == 0:
            chosen[m] = j
            m += 1
            if lazy.waiting[j, 3] >= 0:
                lazy.taken_by[lazy.waiting[j, 3]] = purge
    chosen = chosen[:m]
    if order == NEWEST_FIRST:
        chosen = chosen[::-1].copy()
    else:
        chosen = chosen[np.argsort(lazy.waiting[chosen, 0], kind="mergesort")]
        if order == DESCENDING:
            chosen = chosen[::-1].copy()
    first = lazy.reg[N_GIVEN]
    g = first
    for k in range(m):
        start, end = lazy.waiting[chosen[k], 0], lazy.waiting[chosen[k], 1]
        lazy.reg[BYTES] -= end - start
        if order == ASCENDING_MERGED and g > first and lazy.given[g - 1, 1] == start:
            lazy.given[g - 1, 1] = end
            continue
        lazy.given[g, 0], lazy.given[g, 1] = start, end
        g += 1
    lazy.reg[N_GIVEN] = g
    left = 0
    for j in range(n):
        if skipped[j] == 1:
            lazy.waiting[left] = lazy.waiting[j]
            left += 1
    lazy.reg[N_LAZY] = left


@loop(allocates=True)
def run(lazy: Lazy, event: NDArray[np.int64], order: int, limit: int) -> None:
    """Follow the list through a trace.

    Parameters
    ----------
    lazy
        State at the start; filled.
    event : ndarray of int64, shape (n, COLUMNS)
        Frees and purges by position: a free at its entry, with [LO, HI] its interval; a purge
        where it takes the list, LO its entry, START and END the range that it was called with,
        SEEN_START and SEEN_END the range that it flushed; HOLD of a free: purges before this
        stream event did not find the area on the list yet.
    order
        NEWEST_FIRST, ASCENDING_MERGED or DESCENDING.
    limit
        lazy_max_pages() in bytes.
    """
    skipped = np.zeros(lazy.waiting.shape[0], np.uint8)
    for i in range(event.shape[0]):
        n = lazy.reg[N_LAZY]
        if event[i, KIND] == FREE:
            lazy.waiting[n, 0] = event[i, START]
            lazy.waiting[n, 1] = event[i, END]
            lazy.waiting[n, 2] = event[i, HI]
            lazy.waiting[n, 3] = i
            lazy.reg[N_LAZY] = n + 1
            lazy.reg[BYTES] += event[i, END] - event[i, START]
            lazy.reg[PEAK] = max(lazy.reg[PEAK], lazy.reg[BYTES])
            lazy.reg[CROSSINGS] += lazy.reg[BYTES] > limit
            lazy.nr_lazy[i] = lazy.reg[BYTES]
            continue
        seen = event[i, SEEN_START]
        for j in range(n):
            free = lazy.waiting[j, 3]
            skipped[j] = free >= 0 and event[free, HOLD] > i
        start, end = _hull(lazy, skipped, event, i)
        matches = start == seen and end == event[i, SEEN_END]
        if not matches and seen != UNKNOWN and n > 0 and event[i, KIND] == PURGE:
            if _choose(lazy, skipped, event, i):
                start, end = seen, event[i, SEEN_END]
            else:
                for j in range(n):
                    skipped[j] = lazy.waiting[j, 3] >= 0 and event[lazy.waiting[j, 3], HOLD] > i
        first = lazy.reg[N_GIVEN]
        # No flush: the kernel found the list empty, whatever the trace let expect.
        if seen != 0 and (event[i, KIND] == PURGE or (matches and n > 0)):
            detach(lazy, skipped, order, i)
        skipped[:n] = 0
        lazy.purge[i, 0], lazy.purge[i, 1] = first, lazy.reg[N_GIVEN]
        lazy.purge[i, 2], lazy.purge[i, 3] = start, end
        lazy.nr_lazy[i] = lazy.reg[BYTES]
