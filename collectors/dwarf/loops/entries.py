"""Abbreviation tables and the entries of units (DWARF 5, section 7.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from collectors.compiled import loop, part
from collectors.dwarf.layout import (
    AT_ABSTRACT_ORIGIN,
    AT_ADDR_BASE,
    AT_BYTE_SIZE,
    AT_CALL_FILE,
    AT_CALL_LINE,
    AT_COMP_DIR,
    AT_CONST_VALUE,
    AT_COUNT,
    AT_HIGH_PC,
    AT_LOW_PC,
    AT_NAME,
    AT_RANGES,
    AT_RNGLISTS_BASE,
    AT_SIBLING,
    AT_SPECIFICATION,
    AT_STMT_LIST,
    AT_STR_OFFSETS_BASE,
    AT_TYPE,
    AT_UPPER_BOUND,
    FORM_IMPLICIT_CONST,
    FORM_INDIRECT,
    FORM_REF1,
    FORM_REF_ADDR,
    FORM_REF_UDATA,
    TAG_ARRAY,
    TAG_CATCH_BLOCK,
    TAG_COMPILE_UNIT,
    TAG_ENUMERATION,
    TAG_ENUMERATOR,
    TAG_INLINED,
    TAG_LEXICAL_BLOCK,
    TAG_MEMBER,
    TAG_MODULE,
    TAG_NAMESPACE,
    TAG_PARTIAL_UNIT,
    TAG_SKELETON_UNIT,
    TAG_STRUCTURE,
    TAG_SUBPROGRAM,
    TAG_SUBRANGE,
    TAG_TRY_BLOCK,
    UNKNOWN,
)
from collectors.dwarf.loops.values import (
    DAMAGED,
    FORM_SIZE,
    FULL,
    NONE,
    UnitShape,
    fixed,
    leb,
    signed_leb,
    value_of,
    width_of,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_CODES = 1 << 16
"""Codes of an abbreviation table are below; compilers number them from 1 on."""
MOST_DEPTH = 512


class Abbrevs(NamedTuple):
    """An abbreviation table.

    Attributes
    ----------
    entry : ndarray of int32, shape (MOST_CODES,)
        Entry of each code, NONE without one.
    tag, flags, first : ndarray of int64
        Per entry; flags: CHILDREN, ENTERED, TYPED; first attribute, one more at the end.
    size : ndarray of int64
        Bytes of the entry's values in .debug_info where that is always the same, else NONE.
    name, form, constant : ndarray of int64
        Per attribute.
    """

    entry: NDArray[np.int32]
    tag: NDArray[np.int64]
    flags: NDArray[np.int64]
    first: NDArray[np.int64]
    size: NDArray[np.int64]
    name: NDArray[np.int64]
    form: NDArray[np.int64]
    constant: NDArray[np.int64]


CHILDREN, ENTERED, TYPED = 1, 2, 4
"""Flags of an abbreviation; ENTERED, TYPED: functions, what types are made of may be below."""

# What `walk` keeps
SINGLE, FUNCTIONS, TYPES = 0, 1, 2

# Columns of what `walk` finds
OFFSET, TAG, PARENT, DEPTH = 0, 1, 2, 3
LOW, LOW_FORM, HIGH, HIGH_FORM = 4, 5, 6, 7
RANGES, RANGES_FORM = 8, 9
ORIGIN = 10
NAME, NAME_FORM = 11, 12
CALL_FILE, CALL_LINE = 13, 14
LINES = 15
COMP_DIR, COMP_DIR_FORM = 16, 17
STR_BASE, ADDR_BASE, RANGES_BASE = 18, 19, 20
BYTE_SIZE, OF_TYPE = 21, 22
CONST, UPPER, COUNT = 23, 24, 25
COLUMNS = 26


@loop
def read_abbrevs(data: NDArray[np.uint8], at: int, table: Abbrevs, shape: UnitShape) -> int:
    """Read an abbreviation table.

    Parameters
    ----------
    data
        .debug_abbrev.
    at
        Where it begins.
    table
        Filled; `entry` is all NONE.
    shape
        Of the unit.

    Returns
    -------
    int
        Entries; FULL, DAMAGED.
    """
    end, n, m = data.shape[0], 0, 0
    table.first[0] = 0
    while True:
        shape.where[0] = at
        code, at = leb(data, at, end)
        if at > end or code < 0 or code >= MOST_CODES:
            return DAMAGED
        if code == 0:
            return n
        tag, at = leb(data, at, end)
        children = fixed(data, at, 1, end, shape.big)
        at += 1
        if n + 1 >= table.tag.shape[0]:
            return FULL
        size = 0
        while True:
            name, at = leb(data, at, end)
            form, at = leb(data, at, end)
            constant = 0
            if form == FORM_IMPLICIT_CONST:
                constant, at = signed_leb(data, at, end)
            if at > end:
                return DAMAGED
            if name == 0 and form == 0:
                break
            if m >= table.name.shape[0]:
                return FULL
            table.name[m], table.form[m], table.constant[m] = name, form, constant
            m += 1
            width = UNKNOWN
            if 0 <= form < FORM_SIZE.shape[0] and form != FORM_INDIRECT:
                width = width_of(FORM_SIZE[form], shape)
            size = size + width if size >= 0 and width >= 0 else NONE
        table.entry[code] = n
        table.tag[n], table.size[n] = tag, size
        flags = 0
        if children != 0:
            flags |= CHILDREN
        if tag in (
            TAG_LEXICAL_BLOCK, TAG_COMPILE_UNIT, TAG_INLINED, TAG_MODULE, TAG_CATCH_BLOCK,
            TAG_SUBPROGRAM, TAG_TRY_BLOCK, TAG_NAMESPACE, TAG_PARTIAL_UNIT, TAG_SKELETON_UNIT,
        ):  # fmt: skip
            flags |= ENTERED
        if tag in (
            TAG_ARRAY, TAG_COMPILE_UNIT, TAG_ENUMERATION, TAG_NAMESPACE, TAG_PARTIAL_UNIT,
            TAG_STRUCTURE,
        ):  # fmt: skip
            flags |= TYPED
        table.flags[n] = flags
        n += 1
        table.first[n] = m


@part
def _note(row: NDArray[np.int64], name: int, value: int, form: int, shape: UnitShape) -> None:
    """Write an attribute into a row."""
    if name in (AT_ABSTRACT_ORIGIN, AT_SPECIFICATION, AT_TYPE):
        column = OF_TYPE if name == AT_TYPE else ORIGIN
        if FORM_REF1 <= form <= FORM_REF_UDATA:
            row[column] = shape.start + value
        elif form == FORM_REF_ADDR:
            row[column] = value
    elif name == AT_NAME:
        row[NAME], row[NAME_FORM] = value, form
    elif name == AT_LOW_PC:
        row[LOW], row[LOW_FORM] = value, form
    elif name == AT_HIGH_PC:
        row[HIGH], row[HIGH_FORM] = value, form
    elif name == AT_RANGES:
        row[RANGES], row[RANGES_FORM] = value, form
    elif name == AT_CALL_FILE:
        row[CALL_FILE] = value
    elif name == AT_CALL_LINE:
        row[CALL_LINE] = value
    elif name == AT_STMT_LIST:
        row[LINES] = value
    elif name == AT_COMP_DIR:
        row[COMP_DIR], row[COMP_DIR_FORM] = value, form
    elif name == AT_STR_OFFSETS_BASE:
        row[STR_BASE] = value
    elif name == AT_ADDR_BASE:
        row[ADDR_BASE] = value
    elif name == AT_RNGLISTS_BASE:
        row[RANGES_BASE] = value
    elif name == AT_BYTE_SIZE:
        row[BYTE_SIZE] = value
    elif name == AT_CONST_VALUE:
        row[CONST] = value
    elif name == AT_UPPER_BOUND:
        row[UPPER] = value
    elif name == AT_COUNT:
        row[COUNT] = value


@part
def _is_kept(what: int, tag: int) -> bool:
    if what == FUNCTIONS:
        return tag in (TAG_SUBPROGRAM, TAG_INLINED)
    return what == SINGLE or tag in (
        TAG_ARRAY, TAG_ENUMERATION, TAG_ENUMERATOR, TAG_MEMBER, TAG_STRUCTURE, TAG_SUBRANGE,
    )  # fmt: skip


@loop
def walk(
    data: NDArray[np.uint8],
    at: int,
    end: int,
    table: Abbrevs,
    shape: UnitShape,
    what: int,
    parents: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> int:
    """Find the functions and inlines of a unit, or what its types are made of.

    Parameters
    ----------
    data
        .debug_info.
    at, end
        Entry to begin with; where the unit ends.
    table, shape
        Of the unit.
    what
        FUNCTIONS; TYPES: structures, enumerations and arrays with their parts; SINGLE: that entry
        alone, whatever it is.
    parents : ndarray of int64, shape (MOST_DEPTH,)
        Used for the way down.
    rows : ndarray of int64, shape (any, COLUMNS)
        Filled with one row per entry that is kept: NONE where there is no such attribute.

    Returns
    -------
    int
        Rows; FULL, DAMAGED.
    """
    n, depth = 0, 0
    entered = TYPED if what == TYPES else ENTERED
    parents[0] = NONE
    while at < end:
        offset = at
        shape.where[0] = offset
        code, at = leb(data, at, end)
        if code == 0:
            depth -= 1
            if depth <= 0:
                break
            continue
        entry = NONE
        if 0 < code < MOST_CODES:
            entry = int(table.entry[code])
        if entry == NONE:
            return DAMAGED
        tag, flags = table.tag[entry], table.flags[entry] & (CHILDREN | entered)
        is_kept = _is_kept(what, tag)
        sibling = NONE
        if is_kept:
            if n >= rows.shape[0]:
                return FULL
            rows[n, :] = NONE
            rows[n, OFFSET], rows[n, TAG], rows[n, DEPTH] = offset, tag, depth
            rows[n, PARENT] = parents[depth]
        first, behind = table.first[entry], table.first[entry + 1]
        has_sibling = first < behind and table.name[behind - 1] == AT_SIBLING
        if is_kept or table.size[entry] < 0 or (has_sibling and flags == CHILDREN):
            for a in range(first, behind):
                value, form, at = value_of(data, at, end, table.form[a], table.constant[a], shape)
                if at > end:
                    return DAMAGED
                if is_kept:
                    _note(rows[n], table.name[a], value, form, shape)
                elif table.name[a] == AT_SIBLING and FORM_REF1 <= form <= FORM_REF_UDATA:
                    sibling = shape.start + value
                    if flags == CHILDREN and sibling > at:
                        break
        else:
            at += table.size[entry]
        if at > end:
            return DAMAGED
        if what == SINGLE:
            return 1
        if flags & CHILDREN:
            if flags == CHILDREN and at < sibling <= end:
                at = sibling  # nothing below it is kept
            else:
                if depth + 1 >= MOST_DEPTH:
                    return DAMAGED
                parents[depth + 1] = n if is_kept else parents[depth]
                depth += 1
        elif depth == 0:
            break
        n += is_kept
    return n
