"""Parts of the event table in few bytes: what a value adds to the least of its column, or to `seq`.

A row of the table takes some 90 bytes as plain arrays, and 35 so, for no more time than writing
the 90 takes. Arrow IPC by polars was measured in its place, with 2.7 M rows of a trace of 4 M
events: 0.31 s of CPU to pack and to unpack a dozen columns here, 0.59 s plain at 174 bytes a row,
1.08 s under LZ4 at 31, while the whole report takes 3 s. Import only to read or write a trace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from collectors.compiled import loop
from collectors.events import empty_of
from collectors.table.part import Column, Part

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from numpy.typing import NDArray

_RELATIVE: Final = {"end_ts": "ts", "end_seq": "seq", "parent": "seq"}
"""Columns of which the difference to another one is kept."""
_FEW_NAMES: Final = 1 << 8
"""Names that are kept whether a row has them or not: their numbers take a byte."""
_NO_VALUES: Final = np.zeros(0, np.int64)
_NO_MASK: Final = np.zeros(0, np.uint32)


class Block(NamedTuple):
    """An array of integers in few bytes.

    Attributes
    ----------
    dtype
        Of the values.
    base
        What is added to each of them.
    at, values, width
        Where the first byte lies in the part, how many values there are, and how many bytes each
        has; 0: all are `base`.
    """

    dtype: np.dtype[Any]
    base: int
    at: int
    values: int
    width: int

    @property
    def end(self) -> int:
        """Behind the last byte."""
        return self.at + self.values * self.width


class PackedColumn(NamedTuple):
    """A column: its values, and the block and the bit that say which rows have one.

    `is_plain`: no value looks like none (:func:`collectors.events.empty_of`).
    """

    values: Block
    mask: Block | None
    bit: int
    names: Sequence[str] | None
    is_plain: bool = False


class PackedPart(NamedTuple):
    """A part of the event table in few bytes.

    Attributes
    ----------
    rows, size
        How many rows and bytes it has.
    columns
        By name; None: the whole column is null.
    """

    rows: int
    size: int
    columns: dict[str, PackedColumn | None]

    def unpacked(
        self, wanted: Collection[str], read: Callable[[int, int], NDArray[np.uint8]]
    ) -> Part:
        """The part as plain arrays.

        Parameters
        ----------
        wanted
            Names of the columns that it is to have.
        read
            Gives the bytes from one position up to another.
        """
        masks: dict[int, NDArray[np.uint32]] = {}
        references: dict[str, NDArray[np.int64]] = {}

        def mask_of(made: PackedColumn) -> NDArray[np.uint32] | None:
            if made.mask is None:
                return None
            if made.mask.at not in masks:
                masks[made.mask.at] = _unpacked(made.mask, read)
            return masks[made.mask.at]

        def reference(name: str) -> NDArray[np.int64]:
            if name not in references:
                found = self.columns[name]
                assert found is not None  # seq and ts are never null
                references[name] = _unpacked(found.values, read).view(np.int64)
            return references[name]

        def column(name: str) -> Column:
            made = self.columns[name]
            if made is None:
                return Column()
            if name in _RELATIVE.values():
                values = reference(name).view(made.values.dtype)
                return Column(values, is_plain=made.is_plain)
            mask, values = mask_of(made), _unpacked(made.values, read)
            minus = reference(_RELATIVE[name]) if name in _RELATIVE else _NO_VALUES
            if values.itemsize == 8 and (len(minus) or mask is not None):
                spread = np.empty(self.rows, np.int64)
                none = empty_of(name)
                put_back(values.view(np.int64), minus, _or_none(mask), made.bit, none, spread)
                values = spread.view(made.values.dtype)
            return Column(values, mask, made.bit, made.names, made.is_plain)

        return Part(self.rows, {name: column(name) for name in wanted})


class Packer:
    """Packs parts, one after the other in the same room."""

    def __init__(self) -> None:
        self._room = np.empty(0, np.int64)
        self._bounds = np.empty(3, np.int64)

    def pack(self, part: Part) -> tuple[PackedPart, list[NDArray[np.uint8]]]:
        """Pack a part.

        Returns
        -------
        PackedPart
        list of ndarray of uint8
            Its bytes, to be put one behind the other.
        """
        if part.rows > len(self._room):
            self._room = np.empty(part.rows, np.int64)
        parts: list[NDArray[np.uint8]] = []
        masks: dict[int, Block] = {}
        columns: dict[str, PackedColumn | None] = {}
        size = 0

        def add(values: NDArray[Any], dtype: np.dtype[Any], low: int, high: int) -> Block:
            nonlocal size
            width = _width(low, high)
            made = Block(dtype, low, size, len(values), width)
            if width:
                parts.append(_narrowed(values, low, width))
                size = made.end
            return made

        for name, made in part.columns.items():
            if made.values is None:
                columns[name] = None
                continue
            mask = None
            if made.valid is not None:
                if id(made.valid) not in masks:
                    masks[id(made.valid)] = add(made.valid, made.valid.dtype, *_ends(made.valid))
                mask = masks[id(made.valid)]
            values, dtype, names = made.values, made.values.dtype, made.names
            if names is not None:
                values, names = _used(made, part.rows)
            elif values.itemsize == 8:
                found = self._differences(name, part)
                low, high, odd = self._bounds.tolist() if len(found) else (0, 0, 0)
                block = add(found, dtype, low, high)
                columns[name] = PackedColumn(block, mask, made.bit, None, is_plain=not odd)
                continue
            values = values.view(np.uint8) if values.dtype == np.bool_ else values
            columns[name] = PackedColumn(add(values, dtype, *_ends(values)), mask, made.bit, names)
        return PackedPart(part.rows, size, columns), parts

    def _differences(self, name: str, part: Part) -> NDArray[np.int64]:
        """What is kept of a column of 8 bytes: its values, where there are some."""
        made, minus = part.columns[name], _NO_VALUES
        if name in _RELATIVE:
            reference = part.columns[_RELATIVE[name]].values
            assert reference is not None  # seq and ts are never null
            minus = reference.view(np.int64)
        assert made.values is not None  # has been looked at
        values = np.ascontiguousarray(made.values).view(np.int64)
        kept = take_out(
            values, minus, _or_none(made.valid), made.bit, empty_of(name), self._room, self._bounds
        )
        return self._room[:kept]


@loop
def take_out(
    values: NDArray[np.int64],
    minus: NDArray[np.int64],
    valid: NDArray[np.uint32],
    bit: int,
    none: int,
    kept: NDArray[np.int64],
    bounds: NDArray[np.int64],
) -> int:
    """Put the values that are there one behind the other.

    Parameters
    ----------
    values : ndarray of int64, shape (n,)
    minus : ndarray of int64, shape (n,)
        What is taken off each; of length 0: nothing.
    valid : ndarray of uint32, shape (n,)
        Its bit `bit` says which are there; of length 0: all.
    none
        What will stand where there is none.
    kept : ndarray of int64, shape (at least n,)
        Filled.
    bounds : ndarray of int64, shape (3,)
        Filled with the least and the greatest of them, and whether a value is `none`.

    Returns
    -------
    int
        How many there are.
    """
    masked, relative = valid.shape[0] > 0, minus.shape[0] > 0
    number = 0
    low, high = np.int64(0), np.int64(0)
    is_odd = False
    for i in range(values.shape[0]):
        if masked and not (np.int64(valid[i]) >> bit) & 1:
            continue
        value = values[i]
        is_odd |= value == none
        if relative:
            value -= minus[i]
        if number == 0 or value < low:
            low = value
        if number == 0 or value > high:
            high = value
        kept[number] = value
        number += 1
    bounds[0], bounds[1], bounds[2] = low, high, is_odd
    return number


@loop
def put_back(
    kept: NDArray[np.int64],
    minus: NDArray[np.int64],
    valid: NDArray[np.uint32],
    bit: int,
    none: int,
    values: NDArray[np.int64],
) -> None:
    """The reverse of :func:`take_out`: fill `values`, with `none` where there is none."""
    masked, relative = valid.shape[0] > 0, minus.shape[0] > 0
    number = 0
    for i in range(values.shape[0]):
        if masked and not (np.int64(valid[i]) >> bit) & 1:
            values[i] = none
            continue
        value = kept[number]
        number += 1
        if relative:
            value += minus[i]
        values[i] = value


def _or_none(mask: NDArray[np.uint32] | None) -> NDArray[np.uint32]:
    return _NO_MASK if mask is None else mask


def _ends(values: NDArray[Any]) -> tuple[int, int]:
    return (int(values.min()), int(values.max())) if len(values) else (0, 0)


def _width(low: int, high: int) -> int:
    """Bytes that the difference of two values takes: 0, 1, 2, 4 or 8."""
    need = (high - low).bit_length()
    return 0 if not need else next(width for width in (1, 2, 4, 8) if need <= 8 * width)


def _narrowed(values: NDArray[Any], low: int, width: int) -> NDArray[np.uint8]:
    """Values as differences to the lowest, each of `width` bytes; in memory of its own."""
    if low:
        values = values - values.dtype.type(low)
    unsigned = values.view(f"u{values.itemsize}")
    return unsigned.astype(f"u{width}").view(np.uint8)


def _unpacked(block: Block, read: Callable[[int, int], NDArray[np.uint8]]) -> NDArray[Any]:
    if not block.width:
        return np.full(block.values, block.base, np.int64).astype(block.dtype)
    whole = f"u{block.dtype.itemsize}"
    values = read(block.at, block.end).view(f"u{block.width}").astype(whole)
    if block.base:
        values += np.array(block.base % (1 << 8 * block.dtype.itemsize), whole)
    return values.view(block.dtype)


def _used(made: Column, rows: int) -> tuple[NDArray[Any], Sequence[str]]:
    """Numbers of names, and the names, without those that no row has."""
    assert made.values is not None  # has been looked at
    assert made.names is not None
    if len(made.names) <= _FEW_NAMES:
        return made.values, made.names
    numbers = made.values if made.valid is None else np.where(made.has(rows), made.values, 0)
    is_used = np.zeros(len(made.names), np.bool_)
    is_used[numbers] = True
    is_used[0] |= made.valid is not None  # what stands where there is no name
    used = np.flatnonzero(is_used)
    if len(used) == len(made.names):
        return numbers, made.names
    new = np.zeros(len(made.names), np.uint32)
    new[used] = np.arange(len(used))
    return new[numbers].astype(made.values.dtype), [made.names[n] for n in used.tolist()]
