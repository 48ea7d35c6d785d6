"""The text scanner: trace lines to rows, compiled.

One function over the bytes of a text. What it meets for the first time (the head of an event,
an argument's name, a task's name) it does not interpret: it stops, the Python around it
(:mod:`collectors.text.tables`) puts the answer into a table, and it goes on from the same line.
A trace has a few hundred of them and millions of lines.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from collectors.compiled import loop, piece
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
from collectors.text.layout import Cell, Head, Left, Scan, Space, Stat, Status
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
_PLAIN, _PLAIN_NAME = np.int64(layout.PLAIN), np.int64(layout.PLAIN_NAME)
_FUNCTION_EVENT, _GRAPH_EVENT = np.int64(layout.FUNCTION_EVENT), np.int64(layout.GRAPH_EVENT)
_MARK, _STACK = np.int64(KIND_MARK), np.int64(KIND_STACK)
_UNREADABLE = np.int64(graph.UNREADABLE)
_CTX_UNKNOWN = 128
_ENDS = (32, 13, 42, 47)  # of a comment


def _bytes(text: bytes) -> Any:
    return np.uint64(int.from_bytes(text, "little"))


_NEWLINES = _bytes(b"\n" * 8)
_COLONS = _bytes(b":" * 8)
_SPACES = _bytes(b" " * 8)


@piece
def _function_line(s: Scan, p: int, end: int) -> bool:
    """Read ``function <-parent`` (kernel) or ``function <-- parent`` (trace-cmd).

    ``s.found`` gets the function's head and its site; False where something is not in the table.
    """
    q = p
    while q < end and load_byte(s.buf, q) > 32 and load_byte(s.buf, q) != 40:
        q += 1
    head = lookup(s, p, q, _SP_FUNCTION)
    if head < 0:
        ask(s, p, q, _SP_FUNCTION)
        return False
    s.found[0] = head
    s.found[1] = 0
    if s.heads[head, Head.KIND] == _PLAIN:
        return True
    while q + 1 < end:
        c = load_byte(s.buf, q)
        if c == 61 or (c == 60 and load_byte(s.buf, q + 1) == 45):  # = or <-
            break
        q += 1
    q += 1
    while q < end and (load_byte(s.buf, q) == 45 or load_byte(s.buf, q) == 32):
        q += 1
    last = end
    while last > q and load_byte(s.buf, last - 1) <= 32:
        last -= 1
    if last <= q:
        return True
    site = lookup(s, q, last, _SP_SITE)
    if site < 0:
        ask(s, q, last, _SP_SITE)
        return False
    s.found[1] = s.heads[site, Head.SITE]
    return True


@piece
def _graph_row(s: Scan, what: int) -> bool:
    """Make the values of a row of a call of the function_graph tracer.

    ``s.found`` gets the row's kind (PLAIN: none), its site, present values, and the head that it
    counts under (-1: none); False where something is not in the table.
    """
    out, values, found = s.out, s.values, s.found
    values[0] = _PLAIN
    values[1] = out[graph.DEPTH]
    values[2] = max(out[graph.DURATION], 0)
    values[3] = out[graph.RESULT]
    values[4] = 0
    found[0] = KIND_OPEN if what == graph.OPEN else KIND_LEAF if what == graph.LEAF else KIND_CLOSE
    found[1] = 0
    found[2] = (4 if out[graph.DURATION] >= 0 else 0) | (8 if out[graph.HAS_RESULT] else 0)
    found[3] = -1
    begin, end = out[graph.NAME_BEGIN], out[graph.NAME_END]
    if end > begin:
        head = lookup(s, begin, end, _SP_GRAPH)
        if head < 0:
            ask(s, begin, end, _SP_GRAPH)
            return False
        values[0] = s.heads[head, Head.KIND]
        values[4] = s.heads[head, Head.SITE]
        if what != graph.CLOSE:
            found[3] = head
        if what == graph.LEAF and values[0] == _PLAIN:
            found[0] = _PLAIN
    begin, end = out[graph.SITE_BEGIN], out[graph.SITE_END]
    if end > begin:
        site = lookup(s, begin, end, _SP_SITE)
        if site < 0:
            ask(s, begin, end, _SP_SITE)
            return False
        found[1] = s.heads[site, Head.SITE]
    return True


@piece
def _left(s: Scan, p: int, end: int) -> Any:
    """Read the left half of the line from `p` to `end` into ``s.out``.

    Returns
    -------
    readable : bool
        Whether it is the line of an event.
    what : int
        What a line of the function_graph tracer is; UNREADABLE for other lines.
    left : int
        Row of the table of left halves, -1: none.
    """
    what = _UNREADABLE
    left = recall(s, p, end)
    if left >= 0:
        return True, what, left
    if load_byte(s.buf, p) == 35:
        return False, what, left
    if s.columns[0, 0] < 0:
        readable = left_half(s.buf, p, end, s.columns, s.out)
        if readable:
            left = remember(s.buf, p, s.n, s.lefts, s.work, s.out)
        return readable, what, left
    what = np.int64(graph_line(s.buf, p, end, s.columns[0, 0], s.columns, s.out))
    if what == _UNREADABLE:
        return left_half(s.buf, p, end, s.columns, s.out), what, left
    return what != graph.CONTROL, what, left


@piece
def _without_left(s: Scan, p: int) -> None:
    """Take a line without a left half for one of nobody, at a time that counts lines."""
    s.out[BODY] = p
    s.out[PID], s.out[CPU], s.out[CTX] = NO_TASK, _ZERO, _CTX_UNKNOWN
    s.out[TS], s.out[UNIT] = p, COUNTER
    s.out[COMM_BEGIN] = s.out[COMM_END] = p


@piece
def _event(s: Scan, what: int, end: int) -> Any:
    """Find out which event a line is of.

    Returns
    -------
    known : bool
        False: its head is not in the table.
    head, kind : int
        Row in the table of heads, -1: none; kind of the raw event.
    body, head_end, text_end : int
        Where it begins, where its head ends, and where its text ends.
    is_function : bool
        It is a line of the function tracer; ``s.found`` has its head and site.
    """
    head = _NOT_KNOWN
    body = s.out[BODY]
    text_end = end
    if what > graph.UNREADABLE and what != graph.COMMENT:
        return True, head, _GRAPH_EVENT, body, body, end, False
    c = byte_at(s.buf, body, end)
    if c == 40 and byte_at(s.buf, body + 1, end) == 43:  # trace-cmd report --ts-diff: (+139)
        while body < end and load_byte(s.buf, body) != 41:
            body += 1
        body = skip_spaces(s.buf, min(body + 1, end), end)
    if what == graph.COMMENT:  # /* EVENT */
        while text_end > body and load_byte(s.buf, text_end - 1) in _ENDS:
            text_end -= 1
    # The event's name ends at a colon; a function tracer's at a space.
    head_end = name_end = find_either(s.buf, body, end, s.n, _COLONS, _SPACES)
    kind = _PLAIN
    if byte_at(s.buf, name_end, end) == 58:
        head = np.int64(find_head(s, body, name_end + 1, text_end))
        if head < 0:
            return False, head, kind, body, head_end, text_end, False
        head_end = s.found[0]
        kind = s.heads[head, Head.KIND]
        if kind == _FUNCTION_EVENT:
            body = skip_spaces(s.buf, head_end, end)
            if byte_at(s.buf, body, end) == 105 and byte_at(s.buf, body + 2, end) == 61:  # ip=
                body += 3
    elif what == graph.COMMENT:
        head_end = body
        kind = _MARK
    else:
        if name_end < end:
            # "kmap_high <-dir_get_page", "sys_close -> 0x0", "<stack trace>"
            c = byte_at(s.buf, name_end + 1, end)
            kind = _FUNCTION_EVENT if c in (60, 91) else _PLAIN  # "<-", "[module] <-"
        if kind == _PLAIN:
            head = lookup(s, body, name_end, _SP_FUNCTION)
            if head < 0:
                ask(s, body, name_end, _SP_FUNCTION)
                return False, head, kind, body, head_end, text_end, False
            kind = _STACK if s.heads[head, Head.KIND] == _STACK else _PLAIN
    is_function = kind == _FUNCTION_EVENT
    if is_function:
        if not _function_line(s, body, end):
            return False, head, kind, body, head_end, text_end, True
        head = s.found[0]
        kind = s.heads[head, Head.KIND]
    return True, head, kind, body, head_end, text_end, is_function


@piece
def _stack(s: Scan, end: int, stop: int) -> bool:
    """Take the stack trace under a line that ends at `end`; False: it is not in the table.

    Its number goes to ``s.values[0]``, its end and lines to ``s.found``.
    """
    first = min(end + 1, stop)  # a text may end with this line
    block_at(s.buf, first, stop, s.found)
    last = min(s.found[0], end + MAX_BYTES)
    index = lookup(s, first, last, _SP_STACK)
    if index < 0 and s.work[Cell.STACKS] == 0:
        ask(s, first, last, _SP_STACK)
        return False
    if index >= 0:
        s.values[0] = s.heads[index, Head.SITE]
    s.stats[Stat.STACK] += s.found[1]
    return True


@loop
def scan(s: Scan) -> int:
    """Read lines until the end, until the block of rows is full, or until something is unknown.

    Parameters
    ----------
    s : Scan
        `columns` is as :func:`collectors.text.line.left_half` wants it; what its first row tells
        is in :attr:`collectors.text.header.Header.columns`.

    Returns
    -------
    int
        :class:`collectors.text.layout.Status`.
    """
    out, values, seen, found = s.out, s.values, s.seen, s.found
    p, stop, at = s.work[Cell.POSITION], s.work[Cell.END], s.work[Cell.ROWS]
    nameless = s.columns[0, 1] > 0
    status = Status.DONE
    while p < stop:
        if at >= s.rows.shape[0]:
            status = Status.FULL
            break
        end = find_byte(s.buf, p, s.n, _NEWLINES)
        readable, what, left = _left(s, p, end)
        if not readable:
            other = NOTHING if what == graph.CONTROL else control(s.buf, p, end, s.n, out)
            if other != OTHER or not nameless:
                at += no_event(other, p, out, values, s.rows, at, s.stats)
                p = end + 1
                continue
            _without_left(s, p)
        known, head, kind, body, head_end, text_end, is_function = _event(s, what, end)
        if not known:
            status = Status.UNKNOWN_HEAD
            break
        site = found[1] if is_function else _ZERO
        lines = 1
        present = _ZERO
        is_stack = kind == KIND_STACK
        is_call = False
        seen[1] = seen[3] = 0  # a call of function_graph has neither
        counted = head
        if kind == _GRAPH_EVENT:
            if what == graph.UNREADABLE:
                what = np.int64(graph_event(s.buf, head_end, end, out))
            if what in (graph.OPEN, graph.LEAF, graph.CLOSE):
                if not _graph_row(s, what):
                    status = Status.UNKNOWN_HEAD
                    break
                kind, site, present = found[0], found[1], found[2]
                counted = found[3] if found[3] >= 0 else head
                is_call = True
            elif what == graph.SWITCH:
                kind = np.int64(KIND_TASK)
                values[0] = values[1] = values[2] = values[3] = values[4] = 0
            else:
                kind = _PLAIN
        elif kind not in (_PLAIN, _PLAIN_NAME):
            values[0] = values[1] = values[2] = values[3] = values[4] = 0
            if is_function:
                pass
            elif kind == KIND_MARK:
                values[0] = body
                values[1] = text_end - body
                present = np.int64(3)
            elif is_stack:
                if not _stack(s, end, stop):
                    status = Status.UNKNOWN_HEAD
                    break
                present = np.int64(1)
                lines += found[1]
                end = max(found[0] - 1, end)
                # of an event that hmtrace does not keep
                if values[0] == 0 or s.work[Cell.UNKEPT + (out[CPU] & 63)] == 1:
                    kind = _PLAIN
            else:
                present = event_values(s, head_end, text_end, head)
                if present < 0:
                    status = Status.UNKNOWN_ARGUMENT
                    break
                site = s.heads[head, Head.SITE]
        if nameless and kind < KIND_SWITCH:  # which call a value belongs to, nobody can tell
            present = _ZERO
            if kind & 1:
                kind = _PLAIN
        if kind not in (_PLAIN, _PLAIN_NAME):
            comm = s.lefts[left, Left.COMM] if left >= 0 else _NOT_KNOWN
            if comm < 0:
                comm = find_comm(s)
                if comm < 0:
                    status = Status.UNKNOWN_COMM
                    break
                if left >= 0:
                    s.lefts[left, Left.COMM] = comm
            write_row(s.rows, at, out, values, comm, site, kind, present)
            at += 1
            s.stats[Stat.FAULTS] += seen[1]
            s.stats[Stat.BAD_VALUES] += seen[3]
            if not is_stack:
                s.work[Cell.UNKEPT + (out[CPU] & 63)] = 0
        elif not is_stack:
            s.work[Cell.UNKEPT + (out[CPU] & 63)] = 1
        if counted >= 0:
            s.heads[counted, Head.COUNT] += 1
        if is_function:
            s.stats[Stat.FUNCTIONS] += 1
        if is_call:
            s.stats[Stat.GRAPHS] += 1
            s.stats[Stat.NO_TASKS] += 1 if out[PID] <= NO_TASK else 0
        count_event(out, s.stats, lines)
        p = end + 1
    s.work[Cell.POSITION], s.work[Cell.ROWS] = p, at
    return status
