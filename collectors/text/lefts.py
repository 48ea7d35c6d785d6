"""Left halves that were met before: task, CPU and context, without reading them again (compiled).

The text of a line up to its time stamp says which task ran where, and how; a trace has some
hundred different ones, of the same width. :func:`collectors.text.line.left_half` goes through a
line from left to right: lines that begin with the same bytes up to the time stamp are the same to
it, if it accepts a hyphen in the first place where one can be. So a table keeps where such a
beginning stood and what it meant. The seconds are compared with those of the line before. What is
not in the table, or does not continue as expected, is left to left_half().
"""

from __future__ import annotations

from typing import Any

import numpy as np

from collectors.compiled import part, piece
from collectors.text.digits import decimal, decimal_digits
from collectors.text.layout import Cell, Left, Scan
from collectors.text.line import (
    BODY,
    COMM_BEGIN,
    COMM_END,
    CPU,
    CTX,
    NS,
    PID,
    STAMP,
    TS,
    UNIT,
    US,
    is_digit,
    skip_spaces,
    time_stamp,
)
from collectors.text.words import (
    ALL,
    BLOCK,
    HIGH,
    LOW,
    differ_in_block,
    first_bytes,
    load_byte,
    load_word,
    mixed,
    sum_of_block,
    trailing_zeros,
)

_POINTS = LOW * np.uint64(46)
_BRACKET = 93
_COLON = 58
_SECOND = 1_000_000_000
_NOT_KNOWN = np.int64(-1)
_ROOM = 2 * BLOCK
"""Bytes behind the start of a line that may be loaded; fewer are left at the end of the text."""


@piece
def _place(buf: Any, begin: int, marks: Any, lefts: Any) -> Any:
    h = mixed(sum_of_block(buf, begin, marks))
    return np.int64(h >> np.uint64(32)) & (lefts.shape[0] - 1)


@piece
def recall(s: Scan, begin: int, end: int) -> Any:
    """Read the left half of a line into ``s.out``, if it begins as one that was met before.

    Parameters
    ----------
    s : Scan
        ``s.lefts``, of a power of two of rows, has what was met; ``s.work``, how wide the
        beginnings are and the seconds of the line before; ``s.out`` is as of
        :func:`collectors.text.line.left_half`.
    begin, end : int
        Start and end of the line.

    Returns
    -------
    int
        Row of `lefts`, -1 where left_half() has to read the line.
    """
    buf, lefts, out = s.buf, s.lefts, s.out
    width = s.work[Cell.WIDTH]
    if width == 0 or begin + _ROOM > s.n:
        return _NOT_KNOWN
    marks = first_bytes(width)
    left = _place(buf, begin, marks, lefts)
    same = differ_in_block(buf, begin, lefts[left, Left.REF]) & marks == 0
    if lefts[left, Left.WIDTH] != width or not same:
        return _NOT_KNOWN
    lefts[left, Left.REF] = begin  # the latest is the likeliest to be in the cache
    p = begin + width
    if is_digit(load_byte(buf, p)) and load_byte(buf, p - 1) != _BRACKET:
        return _NOT_KNOWN  # flags and time run into each other
    if not _same_second(buf, p, end, s.work, out) and not _any_second(buf, p, end, s.work, out):
        return _NOT_KNOWN
    out[PID] = lefts[left, Left.PID]
    out[CPU] = lefts[left, Left.CPU]
    out[CTX] = lefts[left, Left.CTX]
    out[COMM_BEGIN] = begin
    out[COMM_END] = begin + lefts[left, Left.NAME]
    return left


@piece
def _same_second(buf: Any, p: int, end: int, work: Any, out: Any) -> bool:
    """Read a time stamp with six or nine digits behind the point, of the last second."""
    length = work[Cell.SECONDS_LENGTH]
    if length == 0:
        return False
    text = load_word(buf, p) & (ALL >> np.uint64(64 - 8 * length))
    if np.int64(text) != work[Cell.SECONDS_TEXT]:
        return False
    p += length
    word = load_word(buf, p)
    places = decimal_digits(word)
    if places == 6 and load_byte(buf, p + 6) == _COLON:
        out[TS] = work[Cell.SECONDS] + decimal(word, places) * 1000
        out[UNIT] = US
        p += 7
    elif places == 8 and is_digit(load_byte(buf, p + 8)) and load_byte(buf, p + 9) == _COLON:
        out[TS] = work[Cell.SECONDS] + decimal(word, places) * 10 + load_byte(buf, p + 8) - 48
        out[UNIT] = NS
        p += 10
    else:
        return False
    out[BODY] = skip_spaces(buf, p, end)
    return True


@part
def _any_second(buf: Any, p: int, end: int, work: Any, out: Any) -> bool:
    """Read a time stamp of whatever form, and keep its second for the next line."""
    first = skip_spaces(buf, p, end)
    if first >= end or not is_digit(load_byte(buf, first)):
        return False
    if not time_stamp(buf, first, end, out):
        return False
    word = load_word(buf, p)
    x = word ^ _POINTS
    point = (x - LOW) & ~x & HIGH
    work[Cell.SECONDS_LENGTH] = 0
    if out[UNIT] in (US, NS) and point != 0:
        length = (trailing_zeros(point) >> 3) + 1
        work[Cell.SECONDS_LENGTH] = length
        work[Cell.SECONDS_TEXT] = np.int64(word & (ALL >> np.uint64(64 - 8 * length)))
        work[Cell.SECONDS] = out[TS] // _SECOND * _SECOND
    return True


@part
def remember(buf: Any, begin: int, n: int, lefts: Any, work: Any, out: Any) -> Any:
    """Keep what left_half() read; return the row of `lefts`, -1 where it may not be kept."""
    width = out[STAMP] - begin
    name = out[COMM_END] - begin
    # A hyphen in column 16 is tried before one in column 8, and that before all others.
    first = name == 16 or (name == 8 and load_byte(buf, begin + 16) != 45)
    fits = 16 < width <= BLOCK and begin + _ROOM <= n
    if not first or not fits or lefts.shape[0] == 0:
        return _NOT_KNOWN
    work[Cell.WIDTH] = width
    left = _place(buf, begin, first_bytes(width), lefts)
    lefts[left, Left.REF] = begin
    lefts[left, Left.WIDTH] = width
    lefts[left, Left.PID] = out[PID]
    lefts[left, Left.CPU] = out[CPU]
    lefts[left, Left.CTX] = out[CTX]
    lefts[left, Left.NAME] = name
    lefts[left, Left.COMM] = -1
    return left
