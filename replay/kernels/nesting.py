"""Depth of local mappings when some of those below them are taken away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@numba.njit(cache=True, nogil=True)
def depths_of(
    row: NDArray[np.int64], partner: NDArray[np.int64], kept: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """Count for each mapping the kept ones that enclose it.

    Mappings nest, so the enclosing ones of a mapping are those before it whose unmap comes
    behind its own.

    Parameters
    ----------
    row, partner : ndarray of int64, shape (m,)
        Event row of each mapping, ascending, and of its unmap (-1 unknown: it encloses nothing).
    kept : ndarray of bool, shape (m,)
        Mappings that still take a slot.

    Returns
    -------
    ndarray of int32, shape (m,)
    """
    depth = np.zeros(row.shape[0], np.int32)
    for i in range(row.shape[0]):
        j = i - 1
        steps = 0
        while j >= 0 and steps < 64:  # no kernel nests deeper than KM_MAX_IDX
            if partner[j] > partner[i] > row[i] and kept[j]:
                depth[i] += 1
            j -= 1
            steps += 1
    return depth
