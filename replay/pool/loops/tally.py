"""Counting what operations on the pool came to."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from replay.compiled import loop
from replay.pool.loops.sequence import ASLEEP, GET, MAP, UNMAP

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Positions in the figures of :func:`count`; see replay.pool.tally.PoolTally
MAPS = 0
UNMAPS = 1
NEW = 2
NEW_SCANNED = 3
SCANNED = 4
SCAN_MAX = 5
FIGURES = 6

UNSET = -(1 << 63)
"""As replay.pool.calls.UNSET."""


@loop
def count(
    figures: NDArray[np.int64],
    freed_by_wraps: NDArray[np.int64],
    freed_by_unused: NDArray[np.int64],
    code: NDArray[np.int64],
    result: NDArray[np.int32],
    scanned: NDArray[np.int32],
    freed: NDArray[np.int32],
) -> None:
    """Count operations.

    Parameters
    ----------
    figures : ndarray of int64, shape (FIGURES,)
        Figures so far.
    freed_by_wraps, freed_by_unused : ndarray of int64, shape (slots + 1,)
        Passes so far, by the number of slots that they freed.
    code, result, scanned, freed : ndarray, shape (n,)
        Per operation: its code in :mod:`replay.pool.loops.sequence`, and what the replay filled.
    """
    for i in range(code.shape[0]):
        figures[SCANNED] += scanned[i]
        if code[i] == UNMAP:
            figures[UNMAPS] += result[i] >= 0
        if code[i] == MAP:
            figures[SCAN_MAX] = max(figures[SCAN_MAX], scanned[i])
            if result[i] >= 0:
                figures[MAPS] += 1
                if scanned[i] > 0:
                    figures[NEW] += 1
                    figures[NEW_SCANNED] += scanned[i]
        if freed[i] >= 0:
            if code[i] == MAP:
                freed_by_wraps[freed[i]] += 1
            else:
                freed_by_unused[freed[i]] += 1


class Tries(NamedTuple):
    """What became of calls, one element each; columns of :class:`replay.pool.calls.CallColumns`."""

    predicted: NDArray[np.int32]
    sleeps: NDArray[np.int32]
    first_try: NDArray[np.int64]
    last_try: NDArray[np.int64]


@loop
def note(
    tries: Tries,
    code: NDArray[np.int64],
    call: NDArray[np.int64],
    time: NDArray[np.int64],
    result: NDArray[np.int32],
) -> None:
    """Note in the calls which slot they got, when, and how often they slept.

    Parameters
    ----------
    tries
        Changed in place; the last attempt stays.
    code, call, time, result : ndarray, shape (n,)
        Per operation: its code, its call, when it took the lock, and its slot or ASLEEP.
    """
    for i in range(code.shape[0]):
        if code[i] == MAP or code[i] == GET:
            who = call[i]
            tries.predicted[who] = result[i]
            tries.sleeps[who] += result[i] == ASLEEP
            if tries.first_try[who] == UNSET:
                tries.first_try[who] = time[i]
            tries.last_try[who] = time[i]
