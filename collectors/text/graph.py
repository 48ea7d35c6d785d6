"""Lines of the function_graph tracer, in tracefs text and in trace-cmd report (compiled).

Grammar (kernel/trace/trace_functions_graph.c: print_graph_prologue, print_graph_entry_leaf,
print_graph_entry_nested, print_graph_return, print_graph_irq, verif_pid; libtraceevent's plugin
prints the same behind ``funcgraph_entry:`` and ``funcgraph_exit:``)::

    SECS.FRACTION |  MICROSECONDS us |  CPU) COMM-PID | FLAGS | !DURATION us |    f();
                                                                             |    f() {
                                                                             |    } /* f */
     ------------------------------------------
     0)  kswapd0-50   =>   bash-112
     ------------------------------------------
     1)   ==========> |

Every column can be switched off by an option; the header tells which there are. A call is indented
by two spaces for each one that it is inside of. In comments stand the value returned
(``/* = 0x0 */``, ``/* f ret=0x0 */``), the caller (``/* <-caller */``), other events and markers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from collectors.compiled import part
from collectors.raw import NO_TASK
from collectors.text import forms
from collectors.text.line import (
    BODY,
    COMM_BEGIN,
    COMM_END,
    COUNTER,
    CPU,
    CTX,
    PID,
    RELATIVE,
    TS,
    UNIT,
    US,
    context,
    is_digit,
    skip_spaces,
)
from collectors.text.payload import any_value_at
from collectors.text.words import byte_at, find_byte, load_byte

# Cells of `out` behind those of collectors.text.line
DEPTH, DURATION, NAME_BEGIN, NAME_END, RESULT, HAS_RESULT, SITE_BEGIN, SITE_END = range(8, 16)

# What a line is
UNREADABLE, CONTROL, SWITCH, OPEN, LEAF, CLOSE, COMMENT = range(7)

_BARS = np.uint64(0x7C7C7C7C7C7C7C7C)
_CTX_UNKNOWN = 128
_NOTHING = np.int64(-1)
_MAX_PID = 0x7FFF_FFFF
_DEEPEST = 63
_MAX_TIME = 9_000_000_000_000_000


@part
def _number_to(buf: Any, p: int, end: int, out: Any, cell: int) -> int:
    """Read ``123.456`` (or ``123``) as thousandths; return the position behind, -1 if none."""
    value: Any = np.int64(0)
    first = p
    while p < end and is_digit(load_byte(buf, p)) and p - first < 12:
        value = value * 10 + (load_byte(buf, p) - 48)
        p += 1
    if p == first:
        return -1
    places = 0
    if p < end and load_byte(buf, p) == 46:
        p += 1
        while p < end and is_digit(load_byte(buf, p)) and places < 6:
            value = value * 10 + (load_byte(buf, p) - 48)
            places += 1
            p += 1
    while places < 3:
        value *= 10
        places += 1
    out[cell] = value
    return p


@part
def _pid_at_end(buf: Any, begin: int, end: int, out: Any) -> int:
    """Read ``comm-pid`` from its end; return the position of its hyphen, -1 if it is none."""
    while end > begin and load_byte(buf, end - 1) <= 32:
        end -= 1
    p = end
    pid = 0
    scale = 1
    while p > begin and is_digit(load_byte(buf, p - 1)) and end - p < 10:
        p -= 1
        pid += (load_byte(buf, p) - 48) * scale
        scale *= 10
    if p in (end, begin) or load_byte(buf, p - 1) != 45 or pid > _MAX_PID:
        return -1
    out[PID] = pid
    out[COMM_BEGIN] = skip_spaces(buf, begin, p - 1)
    out[COMM_END] = p - 1
    return p - 1


@part
def _cpu_at(buf: Any, p: int, end: int, out: Any) -> int:
    """Read `` 0) ``; return the position behind the space, -1 if it is none."""
    p = skip_spaces(buf, p, end)
    first = p
    cpu = 0
    while p < end and is_digit(load_byte(buf, p)) and p - first < 5:
        cpu = cpu * 10 + (load_byte(buf, p) - 48)
        p += 1
    if p == first or p + 1 >= end or load_byte(buf, p) != 41 or cpu > 0xFFFE:
        return -1
    out[CPU] = cpu
    return p + 2


@part
def _switch(buf: Any, begin: int, end: int, out: Any) -> bool:
    """Read `` 0)  kswapd0-50   =>   bash-112``: the task that runs now, into `out`."""
    p = _cpu_at(buf, begin, end, out)
    if p < 0:
        return False
    q = end - 2
    while q > p and (load_byte(buf, q) != 61 or load_byte(buf, q + 1) != 62):
        q -= 1
    return q > p and _pid_at_end(buf, p, q, out) >= 0 and _pid_at_end(buf, q + 2, end, out) >= 0


@part
def graph_line(buf: Any, begin: int, end: int, columns: int, flag_columns: Any, out: Any) -> int:
    """Read a line of tracefs text, as far as its calls, into `out`.

    Parameters
    ----------
    buf : int
        Address of the text.
    begin, end : int
        Start and end of the line.
    columns : int
        Which columns there are, as bits of :mod:`collectors.text.forms`.
    flag_columns : ndarray of int64, shape (9, 2)
        See :func:`collectors.text.line.left_half`.
    out : ndarray of int64
        PID (``NO_TASK - CPU`` where there is no task), CPU, CTX, TS, UNIT, DEPTH, DURATION (ns, -1
        unknown), and what :func:`content` gives.

    Returns
    -------
    int
        UNREADABLE, CONTROL, SWITCH, or what :func:`content` says.
    """
    bar = find_byte(buf, begin, end, _BARS)
    out[CPU] = 0
    out[CTX] = _CTX_UNKNOWN
    out[TS] = begin
    out[UNIT] = COUNTER
    out[DURATION] = -1
    out[COMM_BEGIN] = out[COMM_END] = out[BODY] = begin
    p = skip_spaces(buf, begin, end)
    if p >= end or load_byte(buf, p) == 13 or (load_byte(buf, p) == 45 and bar >= end):
        return CONTROL
    if bar >= end and _switch(buf, begin, end, out):
        return SWITCH
    p = begin
    if columns & forms.ABSTIME:
        p = _number_to(buf, skip_spaces(buf, p, end), end, out, TS)
        if p < 0 or byte_at(buf, skip_spaces(buf, p, end), end) != 124 or out[TS] > _MAX_TIME:
            return UNREADABLE
        # what was read has six digits behind the point
        out[TS] *= 1000
        out[UNIT] = US
        p = skip_spaces(buf, p, end) + 3
    if columns & forms.RELTIME:
        stamp = out[TS]
        p = _number_to(buf, skip_spaces(buf, p, end), end, out, TS)
        q = find_byte(buf, p, end, _BARS) if p >= 0 else end
        if q >= end:
            return UNREADABLE
        if columns & forms.ABSTIME:
            out[TS] = stamp
        else:
            out[UNIT] = RELATIVE
        p = q + 3
    if columns & forms.CPU:
        p = _cpu_at(buf, p, end, out)
        if p < 0:
            return UNREADABLE
    out[PID] = NO_TASK - out[CPU]
    if columns & forms.TASK:
        bar = find_byte(buf, p, end, _BARS)
        if bar >= end or _pid_at_end(buf, p, bar, out) < 0:
            return UNREADABLE
        p = bar + 2
    if columns & forms.FLAGS:
        bar = find_byte(buf, p, end, _BARS)
        first = skip_spaces(buf, p, bar)
        last = first
        while last < bar and load_byte(buf, last) > 32:
            last += 1
        if bar >= end or last == first:
            return UNREADABLE
        out[CTX] = context(buf, first, last, flag_columns)
        p = bar + 2
    return _timed(buf, p, end, columns & forms.TIMES, out)


@part
def graph_event(buf: Any, begin: int, end: int, out: Any) -> int:
    """Read the payload of trace-cmd's funcgraph_entry and funcgraph_exit into `out`."""
    out[DURATION] = -1
    return _timed(buf, begin, end, forms.TIMES, out)


@part
def _timed(buf: Any, p: int, end: int, times: int, out: Any) -> int:
    """Read the column of durations, if there is one, and what stands behind it."""
    if times:
        bar = find_byte(buf, p, end, _BARS)
        if bar >= end:
            return UNREADABLE
        while p < bar and not is_digit(load_byte(buf, p)):  # the mark of long calls, spaces
            if load_byte(buf, p) == 61:  # ==========>
                return CONTROL
            p += 1
        if p < bar:
            _number_to(buf, p, bar, out, DURATION)
        p = min(bar + 3, end)  # the bar and two spaces
    first = p
    p = skip_spaces(buf, p, end)
    out[DEPTH] = min((p - first) // 2, _DEEPEST)
    return _content(buf, p, end, out)


@part
def _content(buf: Any, p: int, end: int, out: Any) -> int:
    """Read a call, its end, or a comment: kind of the line, name, result and caller."""
    out[BODY] = p
    out[NAME_BEGIN] = out[NAME_END] = p
    out[HAS_RESULT] = 0
    out[SITE_BEGIN] = out[SITE_END] = p
    c = byte_at(buf, p, end)
    if c == 47 and byte_at(buf, p + 1, end) == 42:  # /*
        out[BODY] = skip_spaces(buf, p + 2, end)
        return COMMENT
    if c == 125:  # }
        _tail(buf, p + 1, end, 1, out)
        return CLOSE
    if (c == 61 or c == 60) and byte_at(buf, p + 1, end) == 61:  # noqa: PLR1714 - ==> or <==
        return CONTROL
    q = p
    while q < end and load_byte(buf, q) > 32 and load_byte(buf, q) != 40:
        q += 1
    out[NAME_END] = q
    while q < end and load_byte(buf, q) != 59 and load_byte(buf, q) != 123:  # ; {
        q += 1
    if q >= end or out[NAME_END] == p:
        return UNREADABLE
    _tail(buf, q + 1, end, 0, out)
    return LEAF if load_byte(buf, q) == 59 else OPEN


@part
def _tail(buf: Any, p: int, end: int, names: int, out: Any) -> None:
    """Read what follows a call: ``/* f <-caller ret=0x0 */``, ``/* = 0x0 */``, ``(ret=0x0)``."""
    while p < end:
        c = load_byte(buf, p)
        if c <= 32 or c == 47 or c == 42 or c == 40:  # noqa: PLR1714 - / * (
            p += 1
            continue
        q = p
        while q < end and load_byte(buf, q) > 32 and load_byte(buf, q) != 41:
            q += 1
        value = _NOTHING
        if c == 61:  # =
            value = np.int64(skip_spaces(buf, q, end))
        elif c == 114 and q - p > 4 and byte_at(buf, p + 3, end) == 61:  # ret=
            value = np.int64(p + 4)
        elif c == 60 and byte_at(buf, p + 1, end) == 45:  # <-
            out[SITE_BEGIN] = p + 2
            out[SITE_END] = q
        elif names != 0 and out[NAME_END] == out[NAME_BEGIN]:
            out[NAME_BEGIN] = p
            out[NAME_END] = q
        if value >= 0:
            last: Any = value
            while last < end and load_byte(buf, last) > 32 and load_byte(buf, last) != 41:
                last += 1
            number = any_value_at(buf, value, last)
            if number[2] == 1:
                out[RESULT] = number[1]
                out[HAS_RESULT] = 1
            q = max(q, last)
        p = q + 1
