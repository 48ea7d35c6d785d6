"""Numbering the different values of a column. Import only to decode or write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.compiled import loop

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEW: Final = 1 << 13
"""Different values for which a table fits into a processor's second cache."""


@loop
def dictionary(
    values: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    slots: NDArray[np.int32],
    keys: NDArray[np.int64],
    codes: NDArray[np.int32],
) -> int:
    """Number the different values in the order in which they come.

    Parameters
    ----------
    values : ndarray of int64, shape (n,)
    wanted : ndarray of bool, shape (n,)
        Which of them are looked at.
    slots : ndarray of int32, shape (a power of 2,)
        All -1; larger than `keys`.
    keys : ndarray of int64, shape (limit,)
        Filled with the different values.
    codes : ndarray of int32, shape (n,)
        Filled with the number of each value that is wanted, from 1 on; 0 for the others.

    Returns
    -------
    int
        Number of different values, -1 if there are more than `keys` has room for.
    """
    mask = slots.shape[0] - 1
    used = 0
    before, code = np.int64(0), np.int64(-1)
    for i in range(values.shape[0]):
        codes[i] = 0
        if not wanted[i]:
            continue
        value = values[i]
        if code < 0 or value != before:
            before = value
            mixed = np.uint64(value) * np.uint64(0x9E3779B97F4A7C15)
            at = np.int64(mixed >> np.uint64(33)) & mask
            code = np.int64(slots[at])
            while code >= 0 and keys[code] != value:
                at = (at + 1) & mask
                code = np.int64(slots[at])
            if code < 0:
                if used == keys.shape[0]:
                    return -1
                slots[at] = used
                keys[used] = value
                code = np.int64(used)
                used += 1
        codes[i] = code + 1
    return used


class ValueNumbers:
    """Numbers the values of one column after the other, in the same room."""

    def __init__(self) -> None:
        self._keys = np.empty(FEW, np.int64)
        self._slots = np.empty(2 * FEW, np.int32)
        self._codes = np.empty(0, np.int32)

    def of(
        self, values: NDArray[np.int64], wanted: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Number the values of a column.

        Parameters
        ----------
        values : ndarray of int64, shape (n,)
        wanted : ndarray of bool, shape (n,)
            Which of them are looked at.

        Returns
        -------
        keys : ndarray of int64, shape (different,)
            In the order in which they come.
        codes : ndarray of int32, shape (n,)
            Position in `keys` of each value that is wanted, from 1 on; 0 for the others. Both are
            overwritten by the next call.
        """
        if len(values) > len(self._codes):
            self._codes = np.empty(len(values), np.int32)
        different = self._try(values, wanted, FEW)
        if different < 0:
            different = self._try(values, wanted, len(values))
        return self._keys[:different], self._codes[: len(values)]

    def _try(self, values: NDArray[np.int64], wanted: NDArray[np.bool_], most: int) -> int:
        if most > len(self._keys):
            self._keys = np.empty(most, np.int64)
            self._slots = np.empty(1 << (2 * most).bit_length(), np.int32)
        slots = self._slots[: 1 << (2 * most - 1).bit_length()]
        slots.fill(-1)
        found: int = dictionary(values, wanted, slots, self._keys[:most], self._codes)
        return found
