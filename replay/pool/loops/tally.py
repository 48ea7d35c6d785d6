"""Counting what operations on the pool came to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replay.compiled import loop
from replay.pool.loops.sequence import MAP, UNMAP

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Positions in the figures of :func:`count`; see replay.pool.tally.PoolTally
MAPS = 0
UNMAPS = 1
NEW = 2
SCANNED = 3
SCAN_MAX = 4
FIGURES = 5


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
                figures[NEW] += scanned[i] > 0
        if freed[i] >= 0:
            if code[i] == MAP:
                freed_by_wraps[freed[i]] += 1
            else:
                freed_by_unused[freed[i]] += 1
