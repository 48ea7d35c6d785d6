"""The scanner of tracefs text with option ``raw`` or ``hex``, compiled.

Grammars (kernel/trace/trace.c: print_raw_fmt, print_hex_fmt; kernel/trace/trace_output.c:
trace_fn_raw, trace_fn_hex, trace_print_raw, trace_bprint_raw, trace_nop_print)::

    PID CPU COUNT type: NUMBER                  any event but those of ftrace itself
    PID CPU COUNT # ADDRESS TEXT                a marker
    PID CPU COUNT : ADDRESS : TEXT              trace_printk()
    PID CPU COUNT FUNCTION PARENT               function tracer, addresses

Option ``hex`` has PID and CPU as 8 hexadecimal digits, COUNT as 16, no texts, and a blank line
behind each event. Parameters and the way of asking for what it does not know are those of
:func:`collectors.text.scan.scan`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from collectors.compiled import loop, part
from collectors.probes import KIND_MARK
from collectors.raw import UNKNOWN_CPU
from collectors.text import layout
from collectors.text.control import control
from collectors.text.counting import count_event, no_event
from collectors.text.layout import Cell, Head, Scan, Space, Stat, Status
from collectors.text.line import BODY, COMM_BEGIN, COMM_END, COUNTER, CPU, CTX, PID, TS, UNIT
from collectors.text.rows import ask, find_comm, lookup, write_row
from collectors.text.words import byte_at, find_byte, load_byte, word_at

# Typed, so that functions are compiled once and not for every literal.
_SP_HEAD, _SP_FUNCTION = np.int64(Space.HEAD), np.int64(Space.FUNCTION)
_ZERO, _ONE, _TEN, _SIXTEEN = np.int64(0), np.int64(1), np.int64(10), np.int64(16)
_PLAIN = layout.PLAIN
_CTX_UNKNOWN = 128
_MAX_PID = 0x7FFF_FFFF


def _bytes(text: bytes) -> Any:
    return np.uint64(int.from_bytes(text, "little"))


_NEWLINES = _bytes(b"\n" * 8)
_TYPE, _BUF = _bytes(b"type: "), _bytes(b"buf:")
_MASK4, _MASK6 = np.uint64(0xFFFF_FFFF), np.uint64(0xFFFF_FFFF_FFFF)


@part
def _number(buf: Any, p: int, end: int, base: Any, found: Any) -> bool:
    """Read a number that ends at a space or the line's end: ``found[0]``, its end ``found[1]``.

    False where there is none, or one that does not fit into 64 bits with a sign.
    """
    first = p
    value: Any = np.int64(0)
    most = 16 if base == 16 else 18
    while p < end and p - first < most:
        digit = load_byte(buf, p) - 48
        if digit > 9:
            digit = load_byte(buf, p) - 87
            if digit < 10:
                break
        if digit < 0 or digit >= base:
            break
        value = value * base + digit
        p += 1
    found[0] = value
    found[1] = p
    return p > first and (p >= end or load_byte(buf, p) in (32, 13))


@part
def _left_half(buf: Any, p: int, end: int, base: Any, out: Any, found: Any) -> bool:
    """Read task, CPU and time of a line into `out`; False where the line has another form."""
    out[COMM_BEGIN] = p
    for cell in (PID, CPU, TS):
        if not _number(buf, p, end, base, found) or found[0] < 0:
            return False
        out[cell] = found[0]
        if cell == PID:
            out[COMM_END] = found[1]
        p = found[1] + 1
    out[BODY] = p
    out[CTX] = _CTX_UNKNOWN
    out[UNIT] = COUNTER
    return p < end and out[PID] <= _MAX_PID and out[CPU] < UNKNOWN_CPU


@part
def _body(buf: Any, p: int, end: int, n: int, found: Any) -> Any:
    """Recognise the right half of a line.

    Returns
    -------
    space, begin, finish, value
        The text that tells what the event is, and where it is looked up; space -1: no grammar of
        these. `value` is the place of a marker's text or the parent of a traced function.
    """
    nothing = np.int64(-1)
    c = byte_at(buf, p, n)
    if word_at(buf, p, n) & _MASK6 == _TYPE:
        if _number(buf, p + 6, end, _TEN, found):
            return _SP_HEAD, p, found[1], _ZERO
        return nothing, p, p, _ZERO
    if c in (35, 58) and byte_at(buf, p + 1, n) == 32:  # "# ", ": "
        if not _number(buf, p + 2, end, _SIXTEEN, found):
            return nothing, p, p, _ZERO
        if c == 35 and word_at(buf, found[1] + 1, n) & _MASK4 == _BUF:
            return _SP_HEAD, p, p + 1, _ZERO  # TRACE_RAW_DATA
        return _SP_HEAD, p, found[1], found[1] + 1
    if _number(buf, p, end, _SIXTEEN, found) and found[1] - p >= 4:
        q = found[1]
        if _number(buf, q + 1, end, _SIXTEEN, found) and found[1] - q > 4:
            rest = found[1]
            while rest < end and load_byte(buf, rest) in (32, 13):
                rest += 1
            if rest >= end:
                return _SP_FUNCTION, p, q, found[0]
    return nothing, p, p, _ZERO


@loop
def scan(s: Scan) -> int:
    """Read lines until the end, until the block of rows is full, or until something is unknown.

    Parameters
    ----------
    s : Scan
        The table of task names is asked for pids, as they stand in the text. `columns` has in its
        first cell the base of the numbers: 10 (``raw``) or 16 (``hex``). There are no arguments.

    Returns
    -------
    int
        :class:`collectors.text.layout.Status`.
    """
    buf, rows = s.buf, s.rows
    out, values, found = s.out, s.values, s.found
    p, stop, at = s.work[Cell.POSITION], s.work[Cell.END], s.work[Cell.ROWS]
    capacity = rows.shape[0]
    base = s.columns[0, 0]
    status = Status.DONE
    while p < stop:
        if at >= capacity:
            status = Status.FULL
            break
        end = find_byte(buf, p, s.n, _NEWLINES)
        space: Any = np.int64(-1)
        begin = finish = p
        value: Any = _ZERO
        if _left_half(buf, p, end, base, out, found):
            space, begin, finish, value = _body(buf, out[BODY], end, s.n, found)
        if space < 0:
            at += no_event(control(buf, p, end, s.n, out), p, out, values, rows, at, s.stats)
            p = end + 1
            continue
        head = lookup(s, begin, finish, space)
        if head < 0:
            ask(s, begin, finish, space)
            status = Status.UNKNOWN_HEAD
            break
        kind = s.heads[head, Head.KIND]
        if kind != _PLAIN:
            comm = find_comm(s)
            if comm < 0:
                status = Status.UNKNOWN_COMM
                break
            values[0] = values[1] = values[2] = values[3] = values[4] = 0
            present = _ZERO
            if kind == KIND_MARK:
                values[0], values[1] = value, max(end - value, 0)
                present = np.int64(3)
            elif space == _SP_FUNCTION:
                values[4] = value
            write_row(rows, at, out, values, comm, _ZERO, kind, present)
            at += 1
        s.heads[head, Head.COUNT] += 1
        s.stats[Stat.FUNCTIONS] += 1 if space == _SP_FUNCTION else 0
        count_event(out, s.stats, _ONE)
        p = end + 1
    s.work[Cell.POSITION], s.work[Cell.ROWS] = p, at
    return status
