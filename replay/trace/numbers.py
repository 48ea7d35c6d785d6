"""The loops of :mod:`replay.trace.numbering`: a hash table of keys and their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from replay.compiled import loop, piece

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Keys(NamedTuple):
    """Keys and their numbers: a hash table, open addressing, of a power of two.

    Attributes
    ----------
    key : ndarray of uint64, shape (room,)
    number : ndarray of int64, shape (room,)
        -1: there is no key here.
    total : ndarray of int64, shape (1,)
        How many there are.
    """

    key: NDArray[np.uint64]
    number: NDArray[np.int64]
    total: NDArray[np.int64]


def new_keys(keys: int) -> Keys:
    """An empty table for so many keys."""
    room = 1 << (2 * keys).bit_length()
    return Keys(np.zeros(room, np.uint64), np.full(room, -1, np.int64), np.zeros(1, np.int64))


@piece
def mixed(value: int, mask: int) -> int:
    """Bucket of a number, of a power of two of them."""
    hashed = np.uint64(value) * np.uint64(0x9E3779B97F4A7C15)
    bucket: int = np.int64(hashed >> np.uint64(33)) & np.int64(mask)  # type: ignore[assignment]
    return bucket


@piece
def place(table: Keys, key: int) -> int:
    """Where a key stands, or would stand."""
    mask = table.number.shape[0] - 1
    i = mixed(key, mask)
    while table.number[i] >= 0 and table.key[i] != key:
        i = (i + 1) & mask
    return i


@piece
def add(table: Keys, at: int, key: int, fresh: NDArray[np.uint64]) -> None:
    """Give the next number to a key that would stand at `at`."""
    table.key[at] = key
    table.number[at] = table.total[0]
    fresh[table.total[0]] = key
    table.total[0] += 1


@loop
def number_all(
    table: Keys, keys: NDArray[np.uint64], number: NDArray[np.int64], fresh: NDArray[np.uint64]
) -> None:
    """Number keys in the order in which they come up.

    Parameters
    ----------
    table
        Those that have a number; the others are added.
    keys, number : ndarray, shape (n,)
        Keys; filled with their numbers.
    fresh : ndarray of uint64
        Filled with the key of each number.
    """
    for k in range(keys.shape[0]):
        i = place(table, keys[k])
        if table.number[i] < 0:
            add(table, i, keys[k], fresh)
        number[k] = table.number[i]


@loop
def find_all(table: Keys, keys: NDArray[np.uint64], number: NDArray[np.int64]) -> None:
    """Numbers of keys, -1 for those that have none."""
    for k in range(keys.shape[0]):
        number[k] = table.number[place(table, keys[k])]
