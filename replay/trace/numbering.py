"""Small numbers for keys, in the order in which they first come up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.trace.numbers import Keys


class Numbering:
    """Numbers keys; a key keeps its number. Nothing is sorted for it.

    Attributes
    ----------
    count
        Keys that have a number: 0 to `count` - 1.
    """

    def __init__(self) -> None:
        from replay.trace.numbers import new_keys

        self._table = new_keys(0)
        self._keys = np.zeros(0, np.uint64)  # by their numbers, with room for more

    @property
    def count(self) -> int:
        """Keys that have a number."""
        return int(self._table.total[0])

    def of(self, keys: NDArray[Any]) -> NDArray[np.int64]:
        """Numbers of keys; one that is new gets the next number.

        Parameters
        ----------
        keys : ndarray of int64 or uint64, shape (n,)
            In the order in which they come up.
        """
        from replay.trace.numbers import number_all

        self._make_room(keys.size)
        numbers = np.empty(keys.size, np.int64)
        number_all(self._table, keys.view(np.uint64), numbers, self._keys)
        return numbers

    def find(self, keys: NDArray[Any]) -> NDArray[np.int64]:
        """Numbers of keys, -1 of those that have none."""
        from replay.trace.numbers import find_all

        numbers = np.empty(keys.size, np.int64)
        find_all(self._table, keys.view(np.uint64), numbers)
        return numbers

    def with_room(self, more: int) -> tuple[Keys, NDArray[np.uint64]]:
        """Keys and their numbers, and the key of each number, for a loop that adds so many."""
        self._make_room(more)
        return self._table, self._keys

    def keys(self) -> NDArray[np.uint64]:
        """The key of each number."""
        return self._keys[: self.count]

    def _make_room(self, more: int) -> None:
        """Make room for so many new keys."""
        from replay.trace.numbers import new_keys, number_all

        have, need = self.count, self.count + more
        if need > self._keys.size:
            larger = np.empty(max(need, have + have // 2), np.uint64)
            larger[:have] = self._keys[:have]
            self._keys = larger
        if 2 * need >= self._table.key.size:
            known, self._table = self._keys[:have].copy(), new_keys(need)
            number_all(self._table, known, np.empty(have, np.int64), self._keys)
