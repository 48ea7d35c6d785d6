"""What of a column is there. Import only to write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from collectors.compiled import loop

if TYPE_CHECKING:
    from numpy.typing import NDArray


@loop
def present(
    values: NDArray[np.int64],
    valid: NDArray[np.uint32],
    bit: int,
    kept: NDArray[np.int64],
    bitmap: NDArray[np.uint8],
) -> int:
    """Keep the values that are there, and note in a bitmap which ones they are.

    Parameters
    ----------
    values : ndarray of int64, shape (n,)
    valid : ndarray of uint32, shape (n,)
        Its bit `bit` says which are there.
    kept : ndarray of int64, shape (n,)
        Filled; 0 where there is none.
    bitmap : ndarray of uint8, shape (n / 8, rounded up,)
        Filled, the lowest bit first.

    Returns
    -------
    int
        How many are there.
    """
    there = 0
    for at in range(bitmap.shape[0]):
        bits = 0
        for i in range(8 * at, min(8 * at + 8, values.shape[0])):
            has: int = (np.int64(valid[i]) >> bit) & 1  # type: ignore[assignment]
            bits |= has << (i & 7)
            kept[i] = values[i] * has
            there += has
        bitmap[at] = bits
    return there
