"""Which rows have a value, as loops see it. Import only to read or write a trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from collectors.compiled import loop, piece

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from collectors.table.part import Column

_ALL: Final = -1
_NONE: Final = -2
"""In place of the bit of a column: every row has a value, none has."""
_NO_MASK: Final = np.zeros(0, np.uint32)


def read_only(values: NDArray[Any]) -> NDArray[Any]:
    """An array as loops take it: all are read-only, as some that polars gives are."""
    values = values.view()
    values.flags.writeable = False
    return values


def mask_of(made: Column) -> NDArray[np.uint32]:
    """Mask of a column, read-only; of no row where it has none."""
    return read_only(_NO_MASK if made.valid is None else made.valid)


def bit_of(made: Column) -> int:
    """What :func:`has_value` takes beside the mask."""
    if made.values is None:
        return _NONE
    return _ALL if made.valid is None else made.bit


@piece
def has_value(mask: NDArray[np.uint32], bit: int, row: int) -> bool:
    """Whether a row has a value of a column (:func:`mask_of`, :func:`bit_of`)."""
    if bit < 0:
        return bit == _ALL
    return (np.int64(mask[row]) >> bit) & 1 == 1


@loop
def take_filled(
    values: NDArray[np.int64], valid: NDArray[np.uint32], bit: int, taken: NDArray[np.int64]
) -> None:
    """Copy values; where there is none, the one before is put, 0 before the first.

    What stands there is nobody's, but it is written to files, too: what repeats takes least room.

    Parameters
    ----------
    values : ndarray of int64, shape (n,)
    valid : ndarray of uint32, shape (n,)
        Its bit `bit` says where there is a value.
    taken : ndarray of int64, shape (n,)
        Filled.
    """
    before = np.int64(0)
    for row in range(values.shape[0]):
        if (np.int64(valid[row]) >> bit) & 1:
            before = values[row]
        taken[row] = before


@loop
def take_bits(valid: NDArray[np.uint32], bit: int, bits: NDArray[np.uint64]) -> int:
    """Say in a bit each which rows have a value, the first row in the lowest bit.

    Parameters
    ----------
    valid : ndarray of uint32, shape (n,)
        Its bit `bit` says it.
    bits : ndarray of uint64, shape (at least (n + 63) // 64,)
        Filled.

    Returns
    -------
    int
        How many have one.
    """
    number = np.uint64(0)
    mask = np.uint32(1) << np.uint32(bit)
    whole = valid.shape[0] // 64
    for at in range(whole):
        word, first = np.uint64(0), np.uint64(64 * at)
        for k in range(64):
            has = np.uint64(valid[first + np.uint64(k)] & mask != 0)
            word |= has << np.uint64(k)
            number += has
        bits[at] = word
    if 64 * whole < valid.shape[0]:
        bits[whole] = 0
    for row in range(64 * whole, valid.shape[0]):
        has = np.uint64(valid[row] & mask != 0)
        bits[whole] |= has << np.uint64(row & 63)
        number += has
    return int(number)
