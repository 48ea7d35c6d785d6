"""Counting what operations on the pool came to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replay.compiled import loop
from replay.pool.loops.sequence import CURSOR, FLUSH_UNUSED, MAP, RESET, SNAPSHOT, UNMAP

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Positions in the figures of :func:`count`; see replay.pool.tally.PoolTally
MAPS = 0
UNMAPS = 1
NEW = 2
SCANNED = 3
STARTED = 4  # new mappings of which it is known where the search began
VISITED = 5  # slots that searches visited of which that is known
VISITED_MAX = 6
FIGURES = 7

# Positions in what is known of where searches begin
NONE_FROM_BEFORE = 0  # a new mapping is one: all that was mapped before the trace is gone or known
CURSOR_KNOWN = 1  # one per lane, from here on


@loop
def count(
    figures: NDArray[np.int64],
    freed_by_wraps: NDArray[np.int64],
    freed_by_unused: NDArray[np.int64],
    code: NDArray[np.int64],
    lane: NDArray[np.int64],
    result: NDArray[np.int32],
    scanned: NDArray[np.int32],
    freed: NDArray[np.int32],
    known: NDArray[np.int64],
) -> None:
    """Count operations.

    Where the search for a free slot begins is known behind a snapshot, a wrap, or a new mapping
    (last_pkmap_nr stands at its slot; mm/highmem.c: map_new_virtual). But what looks like a new
    mapping may be the hit of a page that was mapped before the trace, until a pass has taken down
    all mappings without users, and a cursor that an address has shown says nothing of where the
    search for it began.

    Parameters
    ----------
    figures : ndarray of int64, shape (FIGURES,)
        Figures so far.
    freed_by_wraps, freed_by_unused : ndarray of int64, shape (slots + 1,)
        Passes so far, by the number of slots that they freed.
    code, lane, result, scanned, freed : ndarray, shape (n,)
        Per operation: its code in :mod:`replay.pool.loops.sequence`, of CURSOR the lane, and what
        the replay filled.
    known : ndarray of int64, shape (CURSOR_KNOWN + lanes,)
        What is known of where searches begin, 1 or 0 each; changed in place.
    """
    lanes = known.shape[0] - CURSOR_KNOWN
    slots = freed_by_wraps.shape[0] - 1
    for i in range(code.shape[0]):
        figures[SCANNED] += scanned[i]
        if code[i] == UNMAP:
            figures[UNMAPS] += result[i] >= 0
        if code[i] == MAP:
            if result[i] >= 0:
                figures[MAPS] += 1
                figures[NEW] += scanned[i] > 0
            if scanned[i] > 0:
                own = 0  # of an attempt in vain the lane is not told: with one it is that
                if result[i] >= 0:
                    own = result[i] * lanes // slots
                if known[CURSOR_KNOWN + own] == 1 and (lanes == 1 or result[i] >= 0):
                    figures[STARTED] += result[i] >= 0
                    figures[VISITED] += scanned[i]
                    figures[VISITED_MAX] = max(figures[VISITED_MAX], scanned[i])
                if freed[i] >= 0:
                    known[NONE_FROM_BEFORE] = 1
                if lanes == 1 or result[i] >= 0:
                    known[CURSOR_KNOWN + own] = known[NONE_FROM_BEFORE]
        elif code[i] == FLUSH_UNUSED:
            known[NONE_FROM_BEFORE] = 1
        elif code[i] == CURSOR:
            known[CURSOR_KNOWN + lane[i]] = 0
        elif code[i] == SNAPSHOT:
            known[:] = 1
        elif code[i] == RESET:
            known[:] = 0
        if freed[i] >= 0:
            if code[i] == MAP:
                freed_by_wraps[freed[i]] += 1
            else:
                freed_by_unused[freed[i]] += 1
