"""The scanner of perf script text: lines to rows, compiled.

As :func:`collectors.text.scan.scan`, of which it has the parameters and the way of asking for
what it does not know. A loop of its own: the lines are another grammar, read from the time stamp
to the left, with side records and call chains between them; of the other loop's left halves,
function tracers, markers and stacks it needs none, and both would be compiled for each. What they
have in common, from an event's head to its row, is :mod:`collectors.text.rows`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from collectors.compiled import loop
from collectors.probes import KIND_LOST, KIND_STACK, KIND_SWITCH
from collectors.raw import UNKNOWN_CPU
from collectors.text import layout
from collectors.text.control import NOTHING, OTHER
from collectors.text.counting import count_event, no_event
from collectors.text.layout import Cell, Head, Scan, Space, Stat, Status
from collectors.text.line import BODY, CPU, PID, TS
from collectors.text.perf_script.line import (
    end_of_switch,
    event_at,
    left_half,
    number_at_end,
    side_record,
)
from collectors.text.rows import ask, event_values, find_comm, find_head, lookup, write_row
from collectors.text.stacks import MAX_BYTES
from collectors.text.words import find_byte, load_byte

_SP_STACK = np.int64(Space.STACK)
_STACK_KIND = np.int64(KIND_STACK)
_CPU_BITS = -1 << 48  # of a row's word with kind and site below
_ZERO, _ONE = np.int64(0), np.int64(1)
_PLAIN = layout.PLAIN
_NEWLINES = np.uint64(0x0A0A0A0A0A0A0A0A)


@loop
def scan(s: Scan) -> int:
    """Read lines until the end, until the block of rows is full, or until something is unknown.

    Parameters
    ----------
    s : Scan
        `columns` is as :func:`collectors.text.perf_script.line.left_half` wants it.

    Returns
    -------
    int
        :class:`collectors.text.layout.Status`.
    """
    buf, rows = s.buf, s.rows
    out, values, seen, found = s.out, s.values, s.seen, s.found
    p, stop, at = s.work[Cell.POSITION], s.work[Cell.END], s.work[Cell.ROWS]
    capacity = rows.shape[0]
    status = Status.DONE
    while p < stop:
        end = find_byte(buf, p, s.n, _NEWLINES)
        c = load_byte(buf, p) if p < end else np.int64(10)
        kind: Any = np.int64(_PLAIN)
        if c != 9:
            if at + 1 >= capacity:  # an event and its call chain stay together
                status = Status.FULL
                break
            s.work[Cell.UNKEPT] = 1  # a chain stands under its event, not under another line
        if c in (35, 10, 13):  # a line of the header, a blank one
            at += no_event(NOTHING, p, out, values, rows, at, s.stats)
            p = end + 1
            continue
        if c == 9:  # a call chain, under its event
            last = end + 1
            lines = 1
            while last < stop and load_byte(buf, last) == 9:
                last = find_byte(buf, last, stop, _NEWLINES) + 1
                lines += 1
            last = min(last, s.n)
            if s.work[Cell.UNKEPT] == 0 and at > 0:
                block = min(last, p + MAX_BYTES)
                index = lookup(s, p, block, _SP_STACK)
                if index < 0 and s.work[Cell.STACKS] == 0:
                    ask(s, p, block, _SP_STACK)
                    status = Status.UNKNOWN_HEAD
                    break
                if index >= 0 and s.heads[index, Head.SITE] > 0:
                    rows[at, 0] = rows[at - 1, 0]
                    rows[at, 1] = s.heads[index, Head.SITE]
                    rows[at, 2] = rows[at, 3] = rows[at, 4] = rows[at, 5] = 0
                    rows[at, 6] = rows[at - 1, 6]
                    rows[at, 7] = (rows[at - 1, 7] & _CPU_BITS) | _STACK_KIND << 32
                    rows[at, 8] = (rows[at - 1, 8] & 0xFF) | 1 << 8
                    at += 1
            s.work[Cell.UNKEPT] = 1
            s.stats[Stat.STACK] += lines
            s.stats[Stat.LINES] += lines
            p = last
            continue
        side: Any = _ZERO
        readable = left_half(buf, p, end, s.columns, out)
        if readable and not event_at(buf, out[BODY], end, found):
            side = side_record(buf, out[BODY], end)
            if side > 0:
                if side > 1:
                    lost = number_at_end(buf, found[1], end)
                    values[0] = max(lost, _ZERO)
                    values[1] = values[2] = values[3] = values[4] = 0
                    out[PID] = 0
                    if s.columns[3, 0] == 0:
                        out[CPU] = UNKNOWN_CPU
                    if side == 3 and at > 0 and out[TS] == 0:  # written at the end, without time
                        out[TS] = rows[at - 1, 0]
                    known = np.int64(1 if lost >= 0 else 0)
                    marker = np.int64(KIND_LOST)
                    write_row(rows, at, out, values, _ZERO, _ZERO, marker, known)
                    at += 1
                s.stats[Stat.CONTROL] += 1
                s.stats[Stat.LINES] += 1
                p = end + 1
                continue
            readable = False
        elif readable:
            side = side_record(buf, found[0], end)  # "PERF_RECORD_COMM: perl:143/143"
        else:
            side = side_record(buf, p, end)  # "PERF_RECORD_FINISHED_ROUND"
        if side > 0 or not readable:
            what = NOTHING if side > 0 else OTHER
            at += no_event(what, p, out, values, rows, at, s.stats)
            p = end + 1
            continue

        body, name_end = found[0], found[1]
        head = find_head(s, body, name_end, end)
        if head < 0:
            status = Status.UNKNOWN_HEAD
            break
        head_end = found[0]
        kind = s.heads[head, Head.KIND]
        if kind < KIND_LOST:
            values[0] = values[1] = values[2] = values[3] = values[4] = 0
            seen[1] = seen[3] = 0
            last = end_of_switch(buf, head_end, end) if kind == KIND_SWITCH else end
            present = event_values(s, head_end, last, head)
            if present < 0:
                status = Status.UNKNOWN_ARGUMENT
                break
            if kind == KIND_SWITCH:
                out[PID] = values[0]  # the event is the old task's, of which perf may not know
            comm = find_comm(s)
            if comm < 0:
                status = Status.UNKNOWN_COMM
                break
            write_row(rows, at, out, values, comm, s.heads[head, Head.SITE], kind, present)
            at += 1
            s.work[Cell.UNKEPT] = 0
            s.stats[Stat.FAULTS] += seen[1]
            s.stats[Stat.BAD_VALUES] += seen[3]
        s.heads[head, Head.COUNT] += 1
        count_event(out, s.stats, _ONE)
        p = end + 1
    s.work[Cell.POSITION], s.work[Cell.ROWS] = p, at
    return status
