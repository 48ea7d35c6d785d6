"""Which function has an address (DWARF 5, section 2.17.3; DWARF 4, the same)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from collectors.compiled import loop, part
from collectors.dwarf.layout import (
    FORM_ADDR,
    FORM_ADDRX,
    FORM_ADDRX1,
    FORM_ADDRX4,
    FORM_RNGLISTX,
    RLE_BASE_ADDRESS,
    RLE_BASE_ADDRESSX,
    RLE_END,
    RLE_OFFSET_PAIR,
    RLE_START_END,
    RLE_START_LENGTH,
    RLE_STARTX_ENDX,
    RLE_STARTX_LENGTH,
)
from collectors.dwarf.loops.entries import (
    DEPTH,
    HIGH,
    HIGH_FORM,
    LOW,
    LOW_FORM,
    RANGES,
    RANGES_FORM,
)
from collectors.dwarf.loops.values import NONE, UnitShape, fixed, leb

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Lists(NamedTuple):
    """Where ranges and addresses that a unit names are.

    Attributes
    ----------
    ranges : ndarray of uint8
        .debug_rnglists, of DWARF 4 .debug_ranges.
    addresses : ndarray of uint8
        .debug_addr.
    low : int
        What offsets are added to first: the unit's low_pc.
    addr_base, ranges_base : int
        Where the unit's parts of them begin.
    budget : ndarray of int64, shape (1,)
        Entries of range lists that may still be looked at.
    """

    ranges: NDArray[np.uint8]
    addresses: NDArray[np.uint8]
    low: int
    addr_base: int
    ranges_base: int
    budget: NDArray[np.int64]


@part
def _is_index(form: int) -> bool:
    return form == FORM_ADDRX or FORM_ADDRX1 <= form <= FORM_ADDRX4


@part
def _indexed(lists: Lists, number: int, shape: UnitShape) -> int:
    """Address by its number."""
    data = lists.addresses
    if number < 0 or number > data.shape[0]:
        return NONE
    at = lists.addr_base + number * shape.address
    if at < 0 or at > data.shape[0] - shape.address:
        return NONE
    return fixed(data, at, shape.address, data.shape[0], shape.big)


@part
def _matched(
    wanted: NDArray[np.int64], low: int, high: int, row: int, depth: int, best: NDArray[np.int64]
) -> None:
    """Note for the wanted addresses in a range that this row has them, if it is deeper down."""
    at = np.searchsorted(wanted, low)
    while at < wanted.shape[0] and wanted[at] < high:
        if depth >= best[at, 1]:
            best[at, 0], best[at, 1] = row, depth
        at += 1


@part
def _match_old(
    lists: Lists, at: int, wanted: NDArray[np.int64], row: int, depth: int,
    best: NDArray[np.int64], shape: UnitShape,
) -> bool:  # fmt: skip
    """A list of .debug_ranges."""
    data, size = lists.ranges, shape.address
    base, end = lists.low, lists.ranges.shape[0]
    highest = -1
    if size == 4:
        highest = 0xFFFFFFFF
    while 0 <= at <= end - 2 * size and lists.budget[0] > 0:
        lists.budget[0] -= 1
        low = fixed(data, at, size, end, shape.big)
        high = fixed(data, at + size, size, end, shape.big)
        at += 2 * size
        if low == 0 and high == 0:
            return True
        if low == highest:
            base = high
        else:
            _matched(wanted, low + base, high + base, row, depth, best)
    return False


@part
def _match_new(
    lists: Lists, at: int, wanted: NDArray[np.int64], row: int, depth: int,
    best: NDArray[np.int64], shape: UnitShape,
) -> bool:  # fmt: skip
    """A list of .debug_rnglists."""
    data, size = lists.ranges, shape.address
    base, end = lists.low, lists.ranges.shape[0]
    while 0 <= at < end and lists.budget[0] > 0:
        lists.budget[0] -= 1
        kind = data[at]
        at += 1
        low = high = 0
        if kind == RLE_END:
            return True
        if kind == RLE_BASE_ADDRESS:
            base = fixed(data, at, size, end, shape.big)
            at += size
        elif kind == RLE_BASE_ADDRESSX:
            number, at = leb(data, at, end)
            base = _indexed(lists, number, shape)
        elif kind == RLE_OFFSET_PAIR:
            low, at = leb(data, at, end)
            high, at = leb(data, at, end)
            low, high = low + base, high + base
        elif kind == RLE_START_END:
            low = fixed(data, at, size, end, shape.big)
            high = fixed(data, at + size, size, end, shape.big)
            at += 2 * size
        elif kind == RLE_START_LENGTH:
            low = fixed(data, at, size, end, shape.big)
            high, at = leb(data, at + size, end)
            high += low
        elif kind in (RLE_STARTX_ENDX, RLE_STARTX_LENGTH):
            number, at = leb(data, at, end)
            low = _indexed(lists, number, shape)
            high, at = leb(data, at, end)
            high = _indexed(lists, high, shape) if kind == RLE_STARTX_ENDX else high + low
        else:
            return False
        if low < high:
            _matched(wanted, low, high, row, depth, best)
    return False


@part
def _match_list(
    lists: Lists, value: int, form: int, wanted: NDArray[np.int64], row: int, depth: int,
    best: NDArray[np.int64], shape: UnitShape,
) -> bool:  # fmt: skip
    if shape.version < 5:
        return _match_old(lists, value, wanted, row, depth, best, shape)
    end = lists.ranges.shape[0]
    if form == FORM_RNGLISTX:
        if value < 0 or value > end:
            return False
        at = lists.ranges_base + value * shape.offset
        if at < 0 or at > end - shape.offset:
            return False
        value = lists.ranges_base + fixed(lists.ranges, at, shape.offset, end, shape.big)
    return _match_new(lists, value, wanted, row, depth, best, shape)


@loop
def match(
    rows: NDArray[np.int64],
    lists: Lists,
    wanted: NDArray[np.int64],
    best: NDArray[np.int64],
    shape: UnitShape,
) -> int:
    """Find for each address the innermost row whose ranges it is in.

    Parameters
    ----------
    rows : ndarray of int64, shape (any, COLUMNS)
        Of :func:`walk`.
    lists, shape
        Of the unit.
    wanted : ndarray of int64, shape (w,)
        Addresses, ascending.
    best : ndarray of int64, shape (w, 2)
        Row and its depth; NONE before, and where there is none.

    Returns
    -------
    int
        NONE; else the first row whose list of ranges is damaged.
    """
    for row in range(rows.shape[0]):
        depth = rows[row, DEPTH]
        if rows[row, RANGES_FORM] != NONE:
            value, form = rows[row, RANGES], rows[row, RANGES_FORM]
            if not _match_list(lists, value, form, wanted, row, depth, best, shape):
                return row
        elif rows[row, LOW_FORM] != NONE and rows[row, HIGH_FORM] != NONE:
            low, high = rows[row, LOW], rows[row, HIGH]
            if _is_index(rows[row, LOW_FORM]):
                low = _indexed(lists, low, shape)
            if _is_index(rows[row, HIGH_FORM]):
                high = _indexed(lists, high, shape)
            elif rows[row, HIGH_FORM] != FORM_ADDR:
                high += low
            _matched(wanted, low, high, row, depth, best)
    return NONE
