"""Line programs (DWARF 5, section 6.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from collectors.compiled import loop, part
from collectors.dwarf.layout import (
    LNE_END_SEQUENCE,
    LNE_SET_ADDRESS,
    LNS_ADVANCE_LINE,
    LNS_ADVANCE_PC,
    LNS_CONST_ADD_PC,
    LNS_COPY,
    LNS_FIXED_ADVANCE_PC,
    LNS_SET_FILE,
)
from collectors.dwarf.loops.values import DAMAGED, NONE, UnitShape, fixed, leb, signed_leb

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Program(NamedTuple):
    """Numbers of a line program's header.

    Attributes
    ----------
    least, most : int
        minimum_instruction_length, maximum_operations_per_instruction.
    base, span, special : int
        line_base, line_range, opcode_base.
    lengths : ndarray of uint8
        Arguments of each standard operation, from 1 on.
    """

    least: int
    most: int
    base: int
    span: int
    special: int
    lengths: NDArray[np.uint8]


@part
def _covered(
    wanted: NDArray[np.int64], low: int, high: int, file: int, line: int, found: NDArray[np.int64]
) -> None:
    at = np.searchsorted(wanted, low)
    while at < wanted.shape[0] and wanted[at] < high:
        if found[at, 0] == NONE:
            found[at, 0], found[at, 1] = file, line
        at += 1


@loop
def run_lines(
    data: NDArray[np.uint8],
    at: int,
    end: int,
    program: Program,
    shape: UnitShape,
    wanted: NDArray[np.int64],
    found: NDArray[np.int64],
) -> int:
    """Run a line program, and note file and line of the wanted addresses.

    Parameters
    ----------
    data
        .debug_line.
    at, end
        First operation, and behind the last.
    program, shape
        Of its header.
    wanted : ndarray of int64, shape (w,)
        Addresses, ascending.
    found : ndarray of int64, shape (w, 2)
        File's number and line; NONE before, and where there is none.

    Returns
    -------
    int
        0; DAMAGED.
    """
    address = index = 0
    file = line = 1
    is_in = False  # a sequence has a row
    row = file_of_row = line_of_row = 0
    while at < end:
        shape.where[0] = at
        code = int(data[at])
        at += 1
        advance, emits, ends = 0, False, False
        if code >= program.special:
            code -= program.special
            advance = code // program.span
            line += program.base + code % program.span
            emits = True
        elif code == 0:
            length, at = leb(data, at, end)
            if length <= 0 or length > end - at:
                return DAMAGED
            sub = data[at]
            if sub == LNE_END_SEQUENCE:
                emits = ends = True
            elif sub == LNE_SET_ADDRESS:
                address = fixed(data, at + 1, length - 1, at + length, shape.big)
                index = 0
            at += length
        elif code == LNS_COPY:
            emits = True
        elif code == LNS_ADVANCE_PC:
            advance, at = leb(data, at, end)
        elif code == LNS_ADVANCE_LINE:
            more, at = signed_leb(data, at, end)
            line += more
        elif code == LNS_SET_FILE:
            file, at = leb(data, at, end)
        elif code == LNS_CONST_ADD_PC:
            advance = (255 - program.special) // program.span
        elif code == LNS_FIXED_ADVANCE_PC:
            address += fixed(data, at, 2, end, shape.big)
            index = 0
            at += 2
        else:
            for _ in range(program.lengths[code]):
                _, at = leb(data, at, end)
        if at > end:
            return DAMAGED
        if program.most <= 1:
            address += program.least * advance
        else:
            address += program.least * ((index + advance) // program.most)
            index = (index + advance) % program.most
        if emits:
            if is_in and address > row:
                _covered(wanted, row, address, file_of_row, line_of_row, found)
            row, file_of_row, line_of_row = address, file, line
            is_in = True
        if ends:
            address = index = 0
            file = line = 1
            is_in = False
    return 0
