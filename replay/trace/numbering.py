"""Small numbers for keys, in the order in which they first come up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Numbering:
    """Numbers keys; a key keeps its number.

    Attributes
    ----------
    count
        Keys that have a number: 0 to `count` - 1.
    """

    def __init__(self) -> None:
        self.count = 0
        self._keys = np.zeros(0, np.int64)  # ascending
        self._numbers = np.zeros(0, np.int64)

    def of(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of keys; one that is new gets the next number.

        Parameters
        ----------
        keys
            In the order in which they come up.
        """
        fresh, first, number = np.unique(keys, return_index=True, return_inverse=True)
        at, known = self._find(fresh)
        new = np.flatnonzero(~known)
        numbers = np.zeros(fresh.size, np.int64)
        numbers[known] = self._numbers[at[known]]
        numbers[new[np.argsort(first[new], kind="stable")]] = self.count + np.arange(new.size)
        self.count += new.size
        self._keys = np.insert(self._keys, at[new], fresh[new])
        self._numbers = np.insert(self._numbers, at[new], numbers[new])
        return numbers[number]

    def keys(self) -> NDArray[np.int64]:
        """The key of each number."""
        keys = np.zeros(self.count, np.int64)
        keys[self._numbers] = self._keys
        return keys

    def _find(self, keys: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        at = np.searchsorted(self._keys, keys)
        known = at < self._keys.size
        known[known] = self._keys[at[known]] == keys[known]
        return at, known
