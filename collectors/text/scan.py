"""The text scanner: trace lines to rows, compiled.

One function over the bytes of a text. What it meets for the first time (the head of an event,
an argument's name, a task's name) it does not interpret: it stops, the Python around it
(:mod:`collectors.text.tables`) puts the answer into a table, and it goes on from the same line.
A trace has a few hundred of them and millions of lines.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from collectors.probes import KIND_LOST, KIND_STARTED, KIND_SWITCH
from collectors.text import layout
from collectors.text.layout import Arg, Head, Space, Stat, Status, Work
from collectors.text.line import (
    BODY,
    COMM_BEGIN,
    COMM_END,
    COUNTER,
    CPU,
    CTX,
    NS,
    OUT_CELLS,
    PID,
    RELATIVE,
    TS,
    UNIT,
    US,
    comm_words,
    left_half,
)
from collectors.text.payload import switch_at, value_at
from collectors.text.words import (
    byte_at,
    find_byte,
    find_either,
    hash_bytes,
    load_byte,
    part,
    piece,
    same_bytes,
    word_at,
)

# numba wants plain integers
_POSITION, _END, _ROWS = int(Work.POSITION), int(Work.END), int(Work.ROWS)
_BEGIN, _FINISH, _SPACE, _HEAD = (
    int(Work.BEGIN),
    int(Work.FINISH),
    int(Work.SPACE),
    int(Work.HEAD),
)
_DONE, _FULL = int(Status.DONE), int(Status.FULL)
_UNKNOWN_HEAD = int(Status.UNKNOWN_HEAD)
_UNKNOWN_ARGUMENT = int(Status.UNKNOWN_ARGUMENT)
_UNKNOWN_COMM = int(Status.UNKNOWN_COMM)
_H_REF, _H_LENGTH, _H_SPACE, _H_KIND = (
    int(Head.REF),
    int(Head.LENGTH),
    int(Head.SPACE),
    int(Head.KIND),
)
_H_SITE, _H_CALLER, _H_FIRST, _H_ARGS, _H_COUNT = (
    int(Head.SITE),
    int(Head.CALLER),
    int(Head.FIRST_ARG),
    int(Head.ARGS),
    int(Head.COUNT),
)
_A_REF, _A_LENGTH, _A_SLOT = int(Arg.REF), int(Arg.LENGTH), int(Arg.SLOT)
_S_LINES, _S_EVENTS, _S_UNREAD = int(Stat.LINES), int(Stat.EVENTS), int(Stat.UNREAD)
_S_FIRST, _S_FIRST_AT = int(Stat.FIRST_UNREAD), int(Stat.FIRST_UNREAD_AT)
_S_CONTROL, _S_STACK = int(Stat.CONTROL), int(Stat.STACK)
_S_US, _S_NS = int(Stat.MICROSECONDS), int(Stat.NANOSECONDS)
_S_COUNTER, _S_RELATIVE = int(Stat.COUNTER), int(Stat.RELATIVE)
_S_MIN, _S_MAX = int(Stat.MIN_TS), int(Stat.MAX_TS)
_S_NO_FLAGS, _S_FUNCTIONS = int(Stat.NO_FLAGS), int(Stat.FUNCTIONS)
_S_BAD, _S_FAULTS = int(Stat.BAD_VALUES), int(Stat.FAULTS)
# Typed, so that functions are compiled once and not for every literal.
_SP_HEAD = np.int64(Space.HEAD)
_SP_FUNCTION = np.int64(Space.FUNCTION)
_SP_SITE = np.int64(Space.SITE)
_ZERO = np.int64(0)
_PLAIN, _FUNCTION_EVENT, _PLAIN_NAME = (
    layout.PLAIN,
    layout.FUNCTION_EVENT,
    layout.PLAIN_NAME,
)
_UNKNOWN_CPU = layout.UNKNOWN_CPU
_CTX_UNKNOWN = 128


def _bytes(text: bytes) -> Any:
    return np.uint64(int.from_bytes(text, "little"))


_NEWLINES = _bytes(b"\n" * 8)
_COLONS = _bytes(b":" * 8)
_SPACES = _bytes(b" " * 8)
_CLOSES = _bytes(b")" * 8)
_PROBE = _bytes(b"__probe_")
_STARTED_1, _STARTED_2 = _bytes(b"##### CP"), _bytes(b"buffer s")
_CPU_COLON, _CPUS, _CPU_SPACE = _bytes(b"CPU:"), _bytes(b"cpus="), _bytes(b"CPU ")
_VERSION = _bytes(b"version ")
_LOST, _EVENTS, _DROPPED = _bytes(b"[LOST "), _bytes(b"[EVENTS "), _bytes(b" EVENTS ")
_MASK4, _MASK5 = np.uint64(0xFFFF_FFFF), np.uint64(0xFF_FFFF_FFFF)
_MASK6 = np.uint64(0xFFFF_FFFF_FFFF)
_MASK32 = np.int64(0xFFFF_FFFF)


@piece
def lookup(
    buf: Any, begin: int, end: int, n: int, space: int, slots: Any, hashes: Any, heads: Any
) -> Any:
    """Row of a text in the table of heads, -1 if it is not there."""
    h = hash_bytes(buf, begin, end, n, space)
    mask = slots.shape[0] - 1
    at = np.int64(h >> np.uint64(20)) & mask
    while slots[at] >= 0:
        i = slots[at]
        if (
            hashes[i] == h
            and heads[i, _H_LENGTH] == end - begin
            and heads[i, _H_SPACE] == space
            and same_bytes(buf, begin, heads[i, _H_REF], end - begin, n)
        ):
            return np.int64(i)
        at = (at + 1) & mask
    return -1


@piece
def comm_hash(first: Any, second: Any) -> Any:
    """Place of a task name in its table, before the mask."""
    h = (first ^ (second * np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0xD6E8FEB86659FD93)
    return np.int64(h >> np.uint64(33))


@piece
def end_of_head(buf: Any, name_end: int, n: int) -> int:
    """End of an event's head: its name, and where the probe is."""
    p = name_end
    while p < n and load_byte(buf, p) == 32:
        p += 1
    c = byte_at(buf, p, n)
    if c == 40:  # "(kmap_high+0x0/0x260)", "(c126eff0 <- c1274dc9)"
        close = find_either(buf, p, n, _CLOSES, _NEWLINES)
        if close < n and load_byte(buf, close) == 41:
            return close + 1
        return name_end
    end = name_end
    # trace-cmd report -R: __probe_func=.. __probe_ret_ip=..; option "fields" adds " (decimal)"
    while (c == 95 and word_at(buf, p, n) == _PROBE) or (end > name_end and c == 40):
        while p < n and load_byte(buf, p) > 32:
            p += 1
        end = p
        while p < n and load_byte(buf, p) == 32:
            p += 1
        c = byte_at(buf, p, n)
    return end


@part
def _control(buf: Any, begin: int, end: int, n: int, out: Any) -> int:
    """Recognise a line that is no event.

    Returns
    -------
    int
        0: not one of these; 1: nothing to keep; KIND_LOST or KIND_STARTED: a marker, with its
        CPU and number of events (-1 unknown) in `out`.
    """
    c = byte_at(buf, begin, n)
    if c == 35:  # #
        if word_at(buf, begin, n) != _STARTED_1:
            return 1
        p = begin + 8  # "##### CPU 1 buffer started ####" (trace.c: test_cpu_buff_start)
        while p < end and not 48 <= load_byte(buf, p) <= 57:
            p += 1
        kind = KIND_STARTED
    elif word_at(buf, begin, n) & _MASK4 == _CPU_COLON:
        # "CPU:1 [LOST 23 EVENTS]" (trace.c: print_trace_line; trace-cmd: "[23 EVENTS DROPPED]")
        p = begin + 4
        kind = KIND_LOST
    else:
        word = word_at(buf, begin, n)
        if word == _VERSION or word & _MASK5 == _CPUS or word & _MASK4 == _CPU_SPACE:
            return 1
        return 0
    cpu: Any = 0
    digits = 0
    while p < end and 48 <= load_byte(buf, p) <= 57 and digits < 5:
        cpu = cpu * 10 + load_byte(buf, p) - 48
        digits += 1
        p += 1
    if digits == 0 or cpu >= _UNKNOWN_CPU:
        return 0
    out[CPU] = cpu
    out[TS] = -1
    if kind == KIND_STARTED:
        return kind if word_at(buf, p + 1, n) == _STARTED_2 else 1
    while p < end and load_byte(buf, p) != 91:  # [
        p += 1
    if word_at(buf, p, n) & _MASK6 == _LOST & _MASK6:
        p += 6
    elif word_at(buf, p, n) == _EVENTS:
        return kind
    elif p + 1 < end and 48 <= load_byte(buf, p + 1) <= 57:
        p += 1
    else:
        return 1  # [SUBBUFFER START]
    value: Any = 0
    digits = 0
    while p < end and 48 <= load_byte(buf, p) <= 57 and digits < 18:
        value = value * 10 + load_byte(buf, p) - 48
        digits += 1
        p += 1
    if digits:
        out[TS] = value
    return kind


@part
def _is_blank_or_stack(buf: Any, begin: int, end: int) -> int:
    """1 for a blank line, 2 for a line of a stack trace (`` => symbol``), else 0."""
    p = begin
    while p < end and load_byte(buf, p) in (32, 9, 13):
        p += 1
    if p >= end:
        return 1
    if p + 1 < end and load_byte(buf, p) == 61 and load_byte(buf, p + 1) == 62:
        return 2
    return 0


@piece
def write_row(
    rows: Any,
    at: int,
    out: Any,
    values: Any,
    caller: int,
    comm: Any,
    site: Any,
    kind: Any,
    present: int,
) -> None:
    """Write one row (layout: collectors.raw.RAW_DTYPE)."""
    rows[at, 0] = out[TS]
    for slot in range(4):
        rows[at, 1 + slot] = values[slot]
    rows[at, 5] = caller
    rows[at, 6] = (out[PID] & _MASK32) | (comm << 32)
    rows[at, 7] = site | (kind << 32) | (out[CPU] << 48)
    rows[at, 8] = out[CTX] | (present << 8)


@piece
def arguments(
    buf: Any, p: int, n: int, head: int, heads: Any, args: Any, values: Any, work: Any, seen: Any
) -> int:
    """Read ``name=value`` pairs up to the end of the line.

    Returns
    -------
    int
        Position of the line's end; -1 where a name is not in the table (`work` says which).
    """
    first = heads[head, _H_FIRST]
    count = heads[head, _H_ARGS]
    expected = 0
    seen[0] = seen[1] = seen[3] = 0  # present, faults, -, no numbers
    while True:
        while p < n and load_byte(buf, p) == 32:
            p += 1
        c = byte_at(buf, p, n)
        if c == 10 or p >= n:
            return p
        if c == 13:
            p += 1
            continue
        found = -1
        for k in range(count):
            i = expected + k
            if i >= count:
                i -= count
            length = args[first + i, _A_LENGTH]
            if byte_at(buf, p + length, n) == 61 and same_bytes(
                buf, p, args[first + i, _A_REF], length, n
            ):
                found = i
                break
        if found < 0:
            q = p
            while q < n and load_byte(buf, q) > 32 and load_byte(buf, q) != 61:
                q += 1
            if byte_at(buf, q, n) != 61 or q == p:
                while q < n and load_byte(buf, q) > 32:
                    q += 1
                if q == p:  # a control character
                    q += 1
                p = q
                continue
            if count >= layout.MAX_ARGS:  # damaged lines invent names: no room for more
                p = value_at(buf, q + 1, n)[0]
                seen[3] += 1
                continue
            work[_BEGIN] = p
            work[_FINISH] = q
            work[_HEAD] = head
            return -1
        expected = found + 1
        p, value, good = value_at(buf, p + args[first + found, _A_LENGTH] + 1, n)
        slot = args[first + found, _A_SLOT]
        if slot < 0:
            continue
        if good == 1:
            if seen[0] >> slot & 1 == 0:
                values[slot] = value
                seen[0] |= 1 << slot
        else:
            seen[3 - good] += 1


@part
def _function_line(
    buf: Any, p: int, n: int, slots: Any, hashes: Any, heads: Any, work: Any, result: Any
) -> bool:
    """Read ``function <-parent`` (kernel) or ``function <-- parent`` (trace-cmd).

    `result` is the function's head, its site and the end of the line; False where something is
    not in the table.
    """
    end = find_byte(buf, p, n, _NEWLINES)
    q = p
    while q < end and load_byte(buf, q) > 32 and load_byte(buf, q) != 40:
        q += 1
    head = lookup(buf, p, q, n, _SP_FUNCTION, slots, hashes, heads)
    work[_SPACE] = _SP_FUNCTION
    work[_BEGIN] = p
    work[_FINISH] = q
    if head < 0:
        return False
    result[0] = head
    result[1] = 0
    result[2] = end
    if heads[head, _H_KIND] == _PLAIN:
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
        work[_SPACE] = _SP_SITE
        work[_BEGIN] = q
        work[_FINISH] = last
        return False
    result[1] = heads[site, _H_SITE]
    return True


@numba.njit(nogil=True, cache=True)
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
) -> int:
    """Read lines until the end, until the block of rows is full, or until something is unknown.

    Parameters
    ----------
    buf : int
        Address of the whole text, mapped.
    n : int
        Its length.
    work : ndarray of int64, shape (8,)
        State (:class:`collectors.text.layout.Work`).
    stats : ndarray of int64
        Counters (:class:`~collectors.text.layout.Stat`), added to.
    rows : ndarray of int64, shape (capacity, 9)
        Block of rows, as words.
    columns : ndarray of int64, shape (9, 2)
        See :func:`collectors.text.line.left_half`.
    slots, hashes, heads, args
        Table of heads and of their arguments; `heads[:, COUNT]` is added to.
    comm_slots, comm_keys
        Table of task names.

    Returns
    -------
    int
        :class:`collectors.text.layout.Status`.
    """
    out = np.zeros(OUT_CELLS, np.int64)
    values = np.zeros(4, np.int64)
    seen = np.zeros(4, np.int64)
    found = np.zeros(4, np.int64)
    p = work[_POSITION]
    stop = work[_END]
    at = work[_ROWS]
    capacity = rows.shape[0]
    comm_mask = comm_slots.shape[0] - 1
    low = stats[_S_MIN]
    high = stats[_S_MAX]
    status = _DONE
    while p < stop:
        if at >= capacity:
            status = _FULL
            break
        readable = load_byte(buf, p) != 35 and left_half(buf, p, n, columns, out)
        if not readable:
            end = find_byte(buf, p, n, _NEWLINES)
            marker = _control(buf, p, end, n, out)
            if marker > 1:
                lost = out[TS]
                out[PID] = 0
                out[CTX] = _CTX_UNKNOWN
                out[TS] = rows[at - 1, 0] if at > 0 else 0
                values[0] = max(lost, 0)
                values[1] = values[2] = values[3] = 0
                known = np.int64(1 if lost >= 0 else 0)
                write_row(rows, at, out, values, _ZERO, _ZERO, _ZERO, marker, known)
                at += 1
                stats[_S_CONTROL] += 1
            elif marker == 1:
                stats[_S_CONTROL] += 1
            else:
                kind_of_line = _is_blank_or_stack(buf, p, end)
                if kind_of_line == 1:
                    stats[_S_CONTROL] += 1
                elif kind_of_line == 2:
                    stats[_S_STACK] += 1
                else:
                    if stats[_S_UNREAD] == 0:
                        stats[_S_FIRST] = stats[_S_LINES]
                        stats[_S_FIRST_AT] = p
                    stats[_S_UNREAD] += 1
            stats[_S_LINES] += 1
            p = end + 1
            continue

        body = out[BODY]
        c = byte_at(buf, body, n)
        if c == 40 and byte_at(buf, body + 1, n) == 43:  # trace-cmd report --ts-diff: (+139)
            while body < n and load_byte(buf, body) != 10 and load_byte(buf, body) != 41:
                body += 1
            if byte_at(buf, body, n) == 41:
                body += 1
            while body < n and load_byte(buf, body) == 32:
                body += 1
        # The event's name ends at a colon; a function tracer's at a space.
        name_end = find_either(buf, body, n, _COLONS, _SPACES)
        newline = find_byte(buf, body, name_end, _NEWLINES)
        is_event = newline == name_end and name_end < n and load_byte(buf, name_end) == 58
        site = np.int64(0)
        if is_event:
            name_end += 1
            head_end = end_of_head(buf, name_end, n)
            head = lookup(buf, body, head_end, n, _SP_HEAD, slots, hashes, heads)
            if head < 0 and head_end != name_end:
                head = lookup(buf, body, name_end, n, _SP_HEAD, slots, hashes, heads)
                if head >= 0 and heads[head, _H_KIND] != _PLAIN_NAME:
                    head = -1
            if head < 0:
                work[_BEGIN] = body
                work[_FINISH] = head_end
                work[_SPACE] = _SP_HEAD
                status = _UNKNOWN_HEAD
                break
            kind = heads[head, _H_KIND]
            if kind == _FUNCTION_EVENT:
                body = head_end
                while body < n and load_byte(buf, body) == 32:
                    body += 1
                if byte_at(buf, body, n) == 105 and byte_at(buf, body + 2, n) == 61:  # ip=
                    body += 3
        else:
            newline = min(newline, name_end)
            head = -1
            head_end = newline
            kind = _PLAIN
            if byte_at(buf, newline, n) == 32:
                # "kmap_high <-dir_get_page", "sys_close -> 0x0", "<stack trace>"
                c = byte_at(buf, newline + 1, n)
                kind = _FUNCTION_EVENT if c in (60, 91) else _PLAIN  # "<-", "[module] <-"
            if kind == _PLAIN:
                head = lookup(buf, body, newline, n, _SP_FUNCTION, slots, hashes, heads)
                if head < 0:
                    work[_BEGIN] = body
                    work[_FINISH] = newline
                    work[_SPACE] = _SP_FUNCTION
                    status = _UNKNOWN_HEAD
                    break
        is_function = kind == _FUNCTION_EVENT
        if is_function:
            if not _function_line(buf, body, n, slots, hashes, heads, work, found):
                status = _UNKNOWN_HEAD
                break
            head = found[0]
            kind = heads[head, _H_KIND]
            site = found[1]

        if kind in (_PLAIN, _PLAIN_NAME):
            end = find_byte(buf, head_end if head_end > body else body, n, _NEWLINES)
        else:
            present = 0
            values[0] = values[1] = values[2] = values[3] = 0
            seen[1] = seen[3] = 0
            if is_function:
                end = found[2]
            elif kind == KIND_SWITCH:
                end, previous, blocked, following = switch_at(buf, name_end, n)
                if previous < 0:
                    previous = out[PID]  # the event is the old task's
                values[0] = previous
                values[1] = blocked
                values[2] = max(following, 0)
                present = 3 if following < 0 else 7
            else:
                end = arguments(buf, head_end, n, head, heads, args, values, work, seen)
                if end < 0:
                    status = _UNKNOWN_ARGUMENT
                    break
                present = seen[0]
                site = heads[head, _H_SITE]
            first, second = comm_words(buf, out[COMM_BEGIN], out[COMM_END], n)
            where = comm_hash(first, second) & comm_mask
            comm = np.int64(-1)
            while comm_slots[where] >= 0:
                i = comm_slots[where]
                if comm_keys[i, 0] == first and comm_keys[i, 1] == second:
                    comm = np.int64(comm_keys[i, 2])
                    break
                where = (where + 1) & comm_mask
            if comm < 0:
                work[_BEGIN] = out[COMM_BEGIN]
                work[_FINISH] = out[COMM_END]
                status = _UNKNOWN_COMM
                break
            write_row(rows, at, out, values, heads[head, _H_CALLER], comm, site, kind, present)
            at += 1
            stats[_S_FAULTS] += seen[1]
            stats[_S_BAD] += seen[3]
        heads[head, _H_COUNT] += 1
        if is_function:
            stats[_S_FUNCTIONS] += 1
        unit = out[UNIT]
        stats[_S_US + unit - US] += 1
        if out[CTX] & _CTX_UNKNOWN:
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


if tuple(_S_US + u - US for u in (US, NS, COUNTER, RELATIVE)) != (
    _S_US,
    _S_NS,
    _S_COUNTER,
    _S_RELATIVE,
):
    raise AssertionError("the counters of time stamp forms follow their codes")
