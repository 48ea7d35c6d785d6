"""Values by their forms (DWARF 5, section 7.5.6 and 7.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from collectors.compiled import part, piece
from collectors.dwarf.layout import (
    FORM_IMPLICIT_CONST,
    FORM_INDIRECT,
    FORM_SDATA,
    FORMS,
    OF_ADDRESS,
    OF_BLOCK,
    OF_BLOCK1,
    OF_BLOCK2,
    OF_BLOCK4,
    OF_LEB,
    OF_OFFSET,
    OF_REFERENCE,
    OF_STRING,
    SIZES,
    UNKNOWN,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

NONE = -1
FULL, DAMAGED = -1, -2
"""In place of a count: there is no room; see `UnitShape.where`."""
FORM_SIZE = np.full(FORMS, UNKNOWN, np.int64)
FORM_SIZE[list(SIZES)] = list(SIZES.values())


class UnitShape(NamedTuple):
    """How a unit is written.

    Attributes
    ----------
    big : bool
        Most significant byte first.
    address, offset : int
        Bytes of an address, of an offset into a section.
    version, start : int
        Of DWARF; where the unit's header is.
    where : ndarray of int64, shape (1,)
        Set to the offset of what is wrong.
    """

    big: bool
    address: int
    offset: int
    version: int
    start: int
    where: NDArray[np.int64]


@piece
def fixed(data: NDArray[np.uint8], at: int, size: int, end: int, big: bool) -> int:  # noqa: FBT001
    """A number of `size` bytes; 0 where it is cut off."""
    value = np.int64(0)
    if size < 0 or at < 0 or at > end - size:
        return 0
    for i in range(min(size, 8)):
        byte = np.int64(data[at + i])
        value = (value << 8) | byte if big else value | (byte << (8 * i))
    return int(value)


@part
def leb(data: NDArray[np.uint8], at: int, end: int) -> tuple[int, int]:
    """An unsigned LEB128 number, its lowest 64 bits, and the position behind it."""
    value, shift = np.int64(0), 0
    while 0 <= at < end:
        byte = np.int64(data[at])
        at += 1
        if shift < 64:
            value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return int(value), at
    return 0, end + 1


@part
def signed_leb(data: NDArray[np.uint8], at: int, end: int) -> tuple[int, int]:
    """A signed LEB128 number, as :func:`leb`."""
    begin = at
    value, at = leb(data, at, end)
    shift = 7 * (at - begin)
    if at <= end and shift < 64 and data[at - 1] & 0x40:
        value |= int(np.int64(-1) << shift)
    return value, at


@part
def _behind_string(data: NDArray[np.uint8], at: int, end: int) -> int:
    while at < end and data[at] != 0:
        at += 1
    return at + 1


@part
def width_of(size: int, shape: UnitShape) -> int:
    """Bytes of a value whose size is OF_ADDRESS, OF_OFFSET, OF_REFERENCE or so many bytes."""
    if size == OF_ADDRESS:
        return shape.address
    if size == OF_OFFSET:
        return shape.offset
    if size == OF_REFERENCE:
        return shape.address if shape.version <= 2 else shape.offset
    return size


@part
def value_of(
    data: NDArray[np.uint8], at: int, end: int, form: int, constant: int, shape: UnitShape
) -> tuple[int, int, int]:
    """A value, its form, and the position behind it.

    Of a string it is where it stands, of a block 0; a form that is not known ends the unit.
    """
    if form == FORM_INDIRECT:
        form, at = leb(data, at, end)
    size = UNKNOWN
    if 0 <= form < FORM_SIZE.shape[0]:
        size = FORM_SIZE[form]
    if form == FORM_IMPLICIT_CONST:
        return constant, form, at
    width = width_of(size, shape)
    if width >= 0:
        value = 1
        if width > 0:
            value = fixed(data, at, width, end, shape.big)
        return value, form, at + width
    if form == FORM_SDATA:
        value, at = signed_leb(data, at, end)
        return value, form, at
    if size == OF_LEB:
        value, at = leb(data, at, end)
        return value, form, at
    if size == OF_STRING:
        return at, form, _behind_string(data, at, end)
    length = -1
    if size == OF_BLOCK:
        length, at = leb(data, at, end)
    elif size in (OF_BLOCK1, OF_BLOCK2, OF_BLOCK4):
        width = 4
        if size == OF_BLOCK1:
            width = 1
        elif size == OF_BLOCK2:
            width = 2
        if at > end - width:
            return 0, form, end + 1
        length = fixed(data, at, width, end, shape.big)
        at += width
    if length < 0 or length > end - at:
        return 0, form, end + 1
    return 0, form, at + length
