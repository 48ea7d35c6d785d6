"""The scanner of perf script text: lines to rows, compiled.

As :func:`collectors.text.scan.scan`, of which it has the parameters and the way of asking for
what it does not know. A loop of its own: the lines are another grammar, read from the time stamp
to the left, with side records and call chains between them; of the other loop's left halves,
function tracers, markers and stacks it needs none, and both would be compiled for each. What they
have in common, from an event's head to its row, is :mod:`collectors.text.rows`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from collectors.perf_script.line import (
    end_of_switch,
    event_at,
    left_half,
    number_at_end,
    side_record,
)
from collectors.probes import KIND_LOST, KIND_STACK, KIND_SWITCH
from collectors.text import layout
from collectors.text.layout import Head, Space, Stat, Status, Work
from collectors.text.line import (
    BODY,
    CPU,
    PID,
    TS,
    UNIT,
    US,
)
from collectors.text.rows import ask, event_values, find_comm, find_head, lookup, write_row
from collectors.text.stacks import MAX_BYTES
from collectors.text.words import LOOP, find_byte, load_byte

_POSITION, _END, _ROWS = int(Work.POSITION), int(Work.END), int(Work.ROWS)
_STACKS, _UNKEPT = int(Work.STACKS), int(Work.UNKEPT)
_OUT, _VALUES, _SEEN = int(Work.OUT), int(Work.VALUES), int(Work.SEEN)
_FOUND, _CELLS = int(Work.FOUND), int(Work.CELLS)
_DONE, _FULL = int(Status.DONE), int(Status.FULL)
_UNKNOWN_HEAD = int(Status.UNKNOWN_HEAD)
_UNKNOWN_ARGUMENT = int(Status.UNKNOWN_ARGUMENT)
_UNKNOWN_COMM = int(Status.UNKNOWN_COMM)
_H_KIND, _H_SITE = int(Head.KIND), int(Head.SITE)
_H_COUNT = int(Head.COUNT)
_S_LINES, _S_EVENTS, _S_UNREAD = int(Stat.LINES), int(Stat.EVENTS), int(Stat.UNREAD)
_S_FIRST, _S_FIRST_AT = int(Stat.FIRST_UNREAD), int(Stat.FIRST_UNREAD_AT)
_S_CONTROL, _S_STACK, _S_US = int(Stat.CONTROL), int(Stat.STACK), int(Stat.MICROSECONDS)
_S_MIN, _S_MAX, _S_NO_FLAGS = int(Stat.MIN_TS), int(Stat.MAX_TS), int(Stat.NO_FLAGS)
_S_BAD, _S_FAULTS = int(Stat.BAD_VALUES), int(Stat.FAULTS)
_SP_STACK = np.int64(Space.STACK)
_STACK_KIND = np.int64(KIND_STACK)
_CPU_BITS = -1 << 48  # of a row's word with kind and site below
_ZERO = np.int64(0)
_PLAIN = layout.PLAIN
_NEWLINES = np.uint64(0x0A0A0A0A0A0A0A0A)


@numba.njit(**LOOP)
def scan(
    buf: Any,
    n: int,
    work: Any,
    stats: Any,
    rows: Any,
    columns: Any,
    slots: Any,
    hashes: Any,
    heads: Any,
    args: Any,
    comm_slots: Any,
    comm_keys: Any,
    _lefts: Any,
) -> int:
    """Read lines until the end, until the block of rows is full, or until something is unknown.

    Parameters
    ----------
    buf, n, work, stats, rows, slots, hashes, heads, args, comm_slots, comm_keys
        As :func:`collectors.text.scan.scan`.
    columns : ndarray of int64, shape (9, 2)
        See :func:`collectors.perf_script.line.left_half`.

    Returns
    -------
    int
        :class:`collectors.text.layout.Status`.
    """
    out = work[_OUT:_VALUES]
    values = work[_VALUES:_SEEN]
    seen = work[_SEEN:_FOUND]
    found = work[_FOUND:_CELLS]
    p = work[_POSITION]
    stop = work[_END]
    at = work[_ROWS]
    capacity = rows.shape[0]
    low = stats[_S_MIN]
    high = stats[_S_MAX]
    status = _DONE
    while p < stop:
        if at + 1 >= capacity:  # an event and its call chain stay together
            status = _FULL
            break
        end = find_byte(buf, p, n, _NEWLINES)
        c = load_byte(buf, p) if p < end else np.int64(10)
        kind: Any = np.int64(_PLAIN)
        if c in (35, 10, 13):  # a line of the header, a blank one
            stats[_S_CONTROL] += 1
            stats[_S_LINES] += 1
            p = end + 1
            continue
        if c == 9:  # a call chain, under its event
            last = end + 1
            lines = 1
            while last < stop and load_byte(buf, last) == 9:
                last = find_byte(buf, last, stop, _NEWLINES) + 1
                lines += 1
            last = min(last, n)
            if work[_UNKEPT] == 0 and at > 0:
                block = min(last, p + MAX_BYTES)
                index = lookup(buf, p, block, n, _SP_STACK, slots, hashes, heads)
                if index < 0 and work[_STACKS] == 0:
                    ask(work, p, block, _SP_STACK)
                    status = _UNKNOWN_HEAD
                    break
                if index >= 0 and heads[index, _H_SITE] > 0:
                    rows[at, 0] = rows[at - 1, 0]
                    rows[at, 1] = heads[index, _H_SITE]
                    rows[at, 2] = rows[at, 3] = rows[at, 4] = rows[at, 5] = 0
                    rows[at, 6] = rows[at - 1, 6]
                    rows[at, 7] = (rows[at - 1, 7] & _CPU_BITS) | _STACK_KIND << 32
                    rows[at, 8] = (rows[at - 1, 8] & 0xFF) | 1 << 8
                    at += 1
            work[_UNKEPT] = 1
            stats[_S_STACK] += lines
            stats[_S_LINES] += lines
            p = last
            continue
        side: Any = _ZERO
        readable = left_half(buf, p, end, columns, out)
        if readable and not event_at(buf, out[BODY], end, found):
            side = side_record(buf, out[BODY], end)
            if side > 0:
                if side > 1:
                    lost = number_at_end(buf, found[1], end)
                    values[0] = max(lost, _ZERO)
                    values[1] = values[2] = values[3] = values[4] = 0
                    out[PID] = 0
                    if columns[3, 0] == 0:
                        out[CPU] = layout.UNKNOWN_CPU
                    if side == 3 and at > 0 and out[TS] == 0:  # written at the end, without time
                        out[TS] = rows[at - 1, 0]
                    known = np.int64(1 if lost >= 0 else 0)
                    marker = np.int64(KIND_LOST)
                    write_row(rows, at, out, values, _ZERO, _ZERO, marker, known)
                    at += 1
                stats[_S_CONTROL] += 1
                stats[_S_LINES] += 1
                p = end + 1
                continue
            readable = False
        elif readable:
            side = side_record(buf, found[0], end)  # "PERF_RECORD_COMM: perl:143/143"
        else:
            side = side_record(buf, p, end)  # "PERF_RECORD_FINISHED_ROUND"
        if side > 0:
            stats[_S_CONTROL] += 1
            stats[_S_LINES] += 1
            p = end + 1
            continue
        if not readable:
            if stats[_S_UNREAD] == 0:
                stats[_S_FIRST] = stats[_S_LINES]
                stats[_S_FIRST_AT] = p
            stats[_S_UNREAD] += 1
            stats[_S_LINES] += 1
            p = end + 1
            continue

        body, name_end = found[0], found[1]
        head = find_head(buf, body, name_end, n, end, slots, hashes, heads, work, found)
        if head < 0:
            status = _UNKNOWN_HEAD
            break
        head_end = found[0]
        kind = heads[head, _H_KIND]
        if kind < KIND_LOST:
            values[0] = values[1] = values[2] = values[3] = values[4] = 0
            seen[1] = seen[3] = 0
            last = end_of_switch(buf, head_end, end) if kind == KIND_SWITCH else end
            present = event_values(
                buf, head_end, last, n, head, heads, args, out, values, work, seen
            )
            if present < 0:
                status = _UNKNOWN_ARGUMENT
                break
            if kind == KIND_SWITCH:
                out[PID] = values[0]  # the event is the old task's, of which perf may not know
            comm = find_comm(buf, n, out, comm_slots, comm_keys, work)
            if comm < 0:
                status = _UNKNOWN_COMM
                break
            write_row(rows, at, out, values, comm, heads[head, _H_SITE], kind, present)
            at += 1
            work[_UNKEPT] = 0
            stats[_S_FAULTS] += seen[1]
            stats[_S_BAD] += seen[3]
        else:
            work[_UNKEPT] = 1
        heads[head, _H_COUNT] += 1
        stats[_S_US + out[UNIT] - US] += 1
        stats[_S_NO_FLAGS] += 1
        low = min(low, out[TS])
        high = max(high, out[TS])
        stats[_S_EVENTS] += 1
        stats[_S_LINES] += 1
        p = end + 1
    work[_POSITION] = p
    work[_ROWS] = at
    stats[_S_MIN] = low
    stats[_S_MAX] = high
    return status
