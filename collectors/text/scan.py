"""The text scanner: trace lines to rows, compiled.

One function over the bytes of a text. What it meets for the first time (the head of an event,
an argument's name, a task's name) it does not interpret: it stops, the Python around it
(:mod:`collectors.text.tables`) puts the answer into a table, and it goes on from the same line.
A trace has a few hundred of them and millions of lines.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from collectors.compiled import loop, part
from collectors.probes import (
    KIND_CLOSE,
    KIND_LEAF,
    KIND_MARK,
    KIND_OPEN,
    KIND_STACK,
    KIND_SWITCH,
    KIND_TASK,
)
from collectors.raw import NO_TASK
from collectors.text import graph, layout
from collectors.text.control import NOTHING, OTHER, block_at, control
from collectors.text.counting import count_event, no_event
from collectors.text.graph import graph_event, graph_line
from collectors.text.layout import Cell, Head, Left, Space, Stat, Status
from collectors.text.lefts import recall, remember
from collectors.text.line import (
    BODY,
    COMM_BEGIN,
    COMM_END,
    COUNTER,
    CPU,
    CTX,
    PID,
    TS,
    UNIT,
    left_half,
    skip_spaces,
)
from collectors.text.rows import (
    ask,
    event_values,
    find_comm,
    find_head,
    lookup,
    write_row,
)
from collectors.text.stacks import MAX_BYTES
from collectors.text.words import byte_at, find_byte, find_either, load_byte

_NOT_KNOWN = np.int64(-1)
# Typed, so that functions are compiled once and not for every literal.
_SP_FUNCTION = np.int64(Space.FUNCTION)
_SP_SITE = np.int64(Space.SITE)
_SP_GRAPH = np.int64(Space.GRAPH)
_SP_STACK = np.int64(Space.STACK)
_ZERO = np.int64(0)
_PLAIN, _FUNCTION_EVENT, _PLAIN_NAME = (
    layout.PLAIN,
    layout.FUNCTION_EVENT,
    layout.PLAIN_NAME,
)
_GRAPH_EVENT = layout.GRAPH_EVENT
_CTX_UNKNOWN = 128
_ENDS = (32, 13, 42, 47)  # of a comment


def _bytes(text: bytes) -> Any:
    return np.uint64(int.from_bytes(text, "little"))


_NEWLINES = _bytes(b"\n" * 8)
_COLONS = _bytes(b":" * 8)
_SPACES = _bytes(b" " * 8)


@part
def _function_line(
    buf: Any,
    p: int,
    end: int,
    n: int,
    slots: Any,
    hashes: Any,
    heads: Any,
    work: Any,
    result: Any,
) -> bool:
    """Read ``function <-parent`` (kernel) or ``function <-- parent`` (trace-cmd).

    `result` is the function's head and its site; False where something is not in the table.
    """
    q = p
    while q < end and load_byte(buf, q) > 32 and load_byte(buf, q) != 40:
        q += 1
    head = lookup(buf, p, q, n, _SP_FUNCTION, slots, hashes, heads)
    if head < 0:
        ask(work, p, q, _SP_FUNCTION)
        return False
    result[0] = head
    result[1] = 0
    if heads[head, Head.KIND] == _PLAIN:
        return True
    while q + 1 < end:
        c = load_byte(buf, q)
        if c == 61 or (c == 60 and load_byte(buf, q + 1) == 45):  # = or <-
            break
        q += 1
    q += 1
    while q < end and (load_byte(buf, q) == 45 or load_byte(buf, q) == 32):
        q += 1
    last = end
    while last > q and load_byte(buf, last - 1) <= 32:
        last -= 1
    if last <= q:
        return True
    site = lookup(buf, q, last, n, _SP_SITE, slots, hashes, heads)
    if site < 0:
        ask(work, q, last, _SP_SITE)
        return False
    result[1] = heads[site, Head.SITE]
    return True


@part
def _graph_row(
    buf: Any,
    n: int,
    what: int,
    out: Any,
    values: Any,
    slots: Any,
    hashes: Any,
    heads: Any,
    work: Any,
    result: Any,
) -> bool:
    """Make the values of a row of a call of the function_graph tracer.

    `result` is the row's kind (PLAIN: none), its site, present values, and the head that it counts
    under (-1: none); False where something is not in the table.
    """
    values[0] = _PLAIN
    values[1] = out[graph.DEPTH]
    values[2] = max(out[graph.DURATION], 0)
    values[3] = out[graph.RESULT]
    values[4] = 0
    result[0] = KIND_OPEN if what == graph.OPEN else KIND_LEAF if what == graph.LEAF else KIND_CLOSE
    result[1] = 0
    result[2] = (4 if out[graph.DURATION] >= 0 else 0) | (8 if out[graph.HAS_RESULT] else 0)
    result[3] = -1
    begin, end = out[graph.NAME_BEGIN], out[graph.NAME_END]
    if end > begin:
        head = lookup(buf, begin, end, n, _SP_GRAPH, slots, hashes, heads)
        if head < 0:
            ask(work, begin, end, _SP_GRAPH)
            return False
        values[0] = heads[head, Head.KIND]
        values[4] = heads[head, Head.SITE]
        if what != graph.CLOSE:
            result[3] = head
        if what == graph.LEAF and values[0] == _PLAIN:
            result[0] = _PLAIN
    begin, end = out[graph.SITE_BEGIN], out[graph.SITE_END]
    if end > begin:
        site = lookup(buf, begin, end, n, _SP_SITE, slots, hashes, heads)
        if site < 0:
            ask(work, begin, end, _SP_SITE)
            return False
        result[1] = heads[site, Head.SITE]
    return True


@loop
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
    lefts: Any,
) -> int:
    """Read lines until the end, until the block of rows is full, or until something is unknown.

    Parameters
    ----------
    buf : int
        Address of the whole text, mapped.
    n : int
        Its length.
    work : ndarray of int64, shape (Cell.CELLS,)
        State (:class:`collectors.text.layout.Cell`).
    stats : ndarray of int64
        Counters (:class:`~collectors.text.layout.Stat`), added to.
    rows : ndarray of int64, shape (capacity, 9)
        Block of rows, as words.
    columns : ndarray of int64, shape (9, 2)
        See :func:`collectors.text.line.left_half`; what the first row tells is in
        :attr:`collectors.text.header.Header.columns`.
    slots, hashes, heads, args
        Table of heads and of their arguments; `heads[:, COUNT]` is added to.
    comm_slots, comm_keys
        Table of task names.
    lefts
        Table of left halves (:func:`collectors.text.lefts.recall`); without rows, none is kept.

    Returns
    -------
    int
        :class:`collectors.text.layout.Status`.
    """
    out = work[Cell.OUT : Cell.VALUES]
    values = work[Cell.VALUES : Cell.SEEN]
    seen = work[Cell.SEEN : Cell.FOUND]
    found = work[Cell.FOUND : Cell.CELLS]
    p = work[Cell.POSITION]
    stop = work[Cell.END]
    at = work[Cell.ROWS]
    capacity = rows.shape[0]
    graphed = columns[0, 0]
    nameless = columns[0, 1] > 0
    status = Status.DONE
    while p < stop:
        if at >= capacity:
            status = Status.FULL
            break
        end = find_byte(buf, p, n, _NEWLINES)
        what = graph.UNREADABLE
        left = recall(buf, p, end, n, lefts, work, out)
        if left >= 0:
            readable = True
        elif load_byte(buf, p) == 35:
            readable = False
        elif graphed < 0:
            readable = left_half(buf, p, end, columns, out)
            if readable:
                left = remember(buf, p, n, lefts, work, out)
        else:
            what = graph_line(buf, p, end, graphed, columns, out)
            if what == graph.UNREADABLE:
                readable = left_half(buf, p, end, columns, out)
            else:
                readable = what != graph.CONTROL
        if not readable:
            other = NOTHING if what == graph.CONTROL else control(buf, p, end, n, out)
            if other != OTHER or not nameless:
                at += no_event(other, p, out, values, rows, at, stats)
                p = end + 1
                continue
            out[BODY] = p
            out[PID], out[CPU], out[CTX] = NO_TASK, _ZERO, _CTX_UNKNOWN
            out[TS], out[UNIT] = p, COUNTER
            out[COMM_BEGIN] = out[COMM_END] = p

        body = out[BODY]
        head = -1
        head_end = body
        kind = _PLAIN
        site = np.int64(0)
        is_function = False
        text_end = end
        if what > graph.UNREADABLE and what != graph.COMMENT:
            kind = _GRAPH_EVENT
            head_end = body
        else:
            c = byte_at(buf, body, end)
            if c == 40 and byte_at(buf, body + 1, end) == 43:  # trace-cmd report --ts-diff: (+139)
                while body < end and load_byte(buf, body) != 41:
                    body += 1
                body = skip_spaces(buf, min(body + 1, end), end)
            if what == graph.COMMENT:  # /* EVENT */
                while text_end > body and load_byte(buf, text_end - 1) in _ENDS:
                    text_end -= 1
            # The event's name ends at a colon; a function tracer's at a space.
            name_end = find_either(buf, body, end, n, _COLONS, _SPACES)
            if byte_at(buf, name_end, end) == 58:
                head = find_head(
                    buf, body, name_end + 1, n, text_end, slots, hashes, heads, work, found
                )
                if head < 0:
                    status = Status.UNKNOWN_HEAD
                    break
                head_end = found[0]
                kind = heads[head, Head.KIND]
                if kind == _FUNCTION_EVENT:
                    body = skip_spaces(buf, head_end, end)
                    if byte_at(buf, body, end) == 105 and byte_at(buf, body + 2, end) == 61:  # ip=
                        body += 3
            elif what == graph.COMMENT:
                kind = KIND_MARK
            else:
                head_end = name_end
                if name_end < end:
                    # "kmap_high <-dir_get_page", "sys_close -> 0x0", "<stack trace>"
                    c = byte_at(buf, name_end + 1, end)
                    kind = _FUNCTION_EVENT if c in (60, 91) else _PLAIN  # "<-", "[module] <-"
                if kind == _PLAIN:
                    head = lookup(buf, body, name_end, n, _SP_FUNCTION, slots, hashes, heads)
                    if head < 0:
                        ask(work, body, name_end, _SP_FUNCTION)
                        status = Status.UNKNOWN_HEAD
                        break
                    kind = KIND_STACK if heads[head, Head.KIND] == KIND_STACK else _PLAIN
            is_function = kind == _FUNCTION_EVENT
            if is_function:
                if not _function_line(buf, body, end, n, slots, hashes, heads, work, found):
                    status = Status.UNKNOWN_HEAD
                    break
                head = found[0]
                kind = heads[head, Head.KIND]
                site = found[1]

        lines = 1
        present = 0
        is_stack = kind == KIND_STACK
        is_call = False
        counted = head
        if kind == _GRAPH_EVENT:
            if what == graph.UNREADABLE:
                what = graph_event(buf, head_end, end, out)
            if what in (graph.OPEN, graph.LEAF, graph.CLOSE):
                if not _graph_row(buf, n, what, out, values, slots, hashes, heads, work, found):
                    status = Status.UNKNOWN_HEAD
                    break
                kind, site, present = found[0], found[1], found[2]
                counted = found[3] if found[3] >= 0 else head
                is_call = True
            elif what == graph.SWITCH:
                kind = KIND_TASK
                values[0] = values[1] = values[2] = values[3] = values[4] = 0
            else:
                kind = _PLAIN
        elif kind not in (_PLAIN, _PLAIN_NAME):
            values[0] = values[1] = values[2] = values[3] = values[4] = 0
            seen[1] = seen[3] = 0
            if is_function:
                pass
            elif kind == KIND_MARK:
                values[0] = body
                values[1] = text_end - body
                present = 3
            elif kind == KIND_STACK:
                first = min(end + 1, stop)  # a text may end with this line
                block_at(buf, first, stop, found)
                last = min(found[0], end + MAX_BYTES)
                index = lookup(buf, first, last, n, _SP_STACK, slots, hashes, heads)
                if index < 0 and work[Cell.STACKS] == 0:
                    ask(work, first, last, _SP_STACK)
                    status = Status.UNKNOWN_HEAD
                    break
                if index >= 0:
                    values[0] = heads[index, Head.SITE]
                present = 1
                lines += found[1]
                stats[Stat.STACK] += found[1]
                end = max(found[0] - 1, end)
                # of an event that hmtrace does not keep
                if values[0] == 0 or work[Cell.UNKEPT + (out[CPU] & 63)] == 1:
                    kind = _PLAIN
            else:
                present = event_values(
                    buf, head_end, text_end, n, head, heads, args, out, values, work, seen
                )
                if present < 0:
                    status = Status.UNKNOWN_ARGUMENT
                    break
                site = heads[head, Head.SITE]
        if nameless and kind < KIND_SWITCH:  # which call a value belongs to, nobody can tell
            present = 0
            if kind & 1:
                kind = _PLAIN
        if kind not in (_PLAIN, _PLAIN_NAME):
            comm = lefts[left, Left.COMM] if left >= 0 else _NOT_KNOWN
            if comm < 0:
                comm = find_comm(buf, n, out, comm_slots, comm_keys, work)
                if comm < 0:
                    status = Status.UNKNOWN_COMM
                    break
                if left >= 0:
                    lefts[left, Left.COMM] = comm
            write_row(rows, at, out, values, comm, site, kind, present)
            at += 1
            stats[Stat.FAULTS] += seen[1]
            stats[Stat.BAD_VALUES] += seen[3]
            work[Cell.UNKEPT + (out[CPU] & 63)] = 0
        elif not is_stack:
            work[Cell.UNKEPT + (out[CPU] & 63)] = 1
        if counted >= 0:
            heads[counted, Head.COUNT] += 1
        if is_function:
            stats[Stat.FUNCTIONS] += 1
        if is_call:
            stats[Stat.GRAPHS] += 1
            stats[Stat.NO_TASKS] += 1 if out[PID] <= NO_TASK else 0
        count_event(out, stats, lines)
        p = end + 1
    work[Cell.POSITION] = p
    work[Cell.ROWS] = at
    return status
