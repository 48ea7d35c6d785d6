"""What the scanners of all text dialects share: heads, arguments, task names, rows (compiled)."""

from __future__ import annotations

from typing import Any

import numpy as np

from collectors.compiled import piece
from collectors.probes import KIND_SWITCH, TRACEPOINTS
from collectors.text import layout
from collectors.text.layout import Arg, Cell, Head, Space
from collectors.text.line import COMM_BEGIN, COMM_END, CPU, CTX, PID, TS, comm_words, skip_spaces
from collectors.text.payload import any_value_at, switch_at, tlb_flush_at, value_at
from collectors.text.words import byte_at, find_either, hash_bytes, load_byte, same_bytes, word_at

# Typed, so that functions are compiled once and not for every literal.
_SP_HEAD = np.int64(Space.HEAD)
_PLAIN_NAME = layout.PLAIN_NAME
_ZERO = np.int64(0)
_CTX_UNKNOWN = 128
_TLB_FLUSH = TRACEPOINTS["tlb_flush"]

VALUES = 5
"""Cells for an event's values: the fifth goes where a return address goes else."""


def _bytes(text: bytes) -> Any:
    return np.uint64(int.from_bytes(text, "little"))


_CLOSES = _bytes(b")" * 8)
_PROBE = _bytes(b"__probe_")
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
            and heads[i, Head.LENGTH] == end - begin
            and heads[i, Head.SPACE] == space
            and same_bytes(buf, begin, heads[i, Head.REF], end - begin, n)
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
def end_of_head(buf: Any, name_end: int, end: int, n: int) -> int:
    """End of an event's head: its name, and where the probe is; `end` is that of the line."""
    p = skip_spaces(buf, name_end, end)
    c = byte_at(buf, p, end)
    if c == 40:  # "(kmap_high+0x0/0x260)", "(c126eff0 <- c1274dc9)"
        close = find_either(buf, p, end, n, _CLOSES, _CLOSES)
        if close < end:
            return close + 1
        return name_end
    last = name_end
    # trace-cmd report -R: __probe_func=.. __probe_ret_ip=..; option "fields" adds " (decimal)", and
    # "[module]" to a symbol
    while (c == 95 and word_at(buf, p, end) == _PROBE) or (last > name_end and (c in (40, 91))):
        while p < end and load_byte(buf, p) > 32:
            p += 1
        last = p
        p = skip_spaces(buf, p, end)
        c = byte_at(buf, p, end)
    return last


@piece
def find_head(
    buf: Any,
    body: int,
    name_end: int,
    n: int,
    text_end: int,
    slots: Any,
    hashes: Any,
    heads: Any,
    work: Any,
    found: Any,
) -> int:
    """Find the head of an event.

    Its name stands at `body` and ends, with its colon, at `name_end`.

    Returns
    -------
    int
        Row in the table of heads; -1: not there, and `work` asks for it. ``found[0]`` is the end of
        the head.
    """
    head_end = end_of_head(buf, name_end, text_end, n)
    found[0] = head_end
    head = lookup(buf, body, head_end, n, _SP_HEAD, slots, hashes, heads)
    if head < 0 and head_end != name_end:
        head = lookup(buf, body, name_end, n, _SP_HEAD, slots, hashes, heads)
        if head >= 0 and heads[head, Head.KIND] != _PLAIN_NAME:
            head = -1
    if head < 0:
        ask(work, body, head_end, _SP_HEAD)
    return head


@piece
def ask(work: Any, begin: int, end: int, space: Any) -> None:
    """Say what text is not in the table of heads."""
    work[Cell.BEGIN] = begin
    work[Cell.FINISH] = end
    work[Cell.SPACE] = space


@piece
def find_comm(buf: Any, n: int, out: Any, comm_slots: Any, comm_keys: Any, work: Any) -> Any:
    """Number of the task's name; -1: not there, and `work` asks for it."""
    first, second = comm_words(buf, out[COMM_BEGIN], out[COMM_END], n)
    mask = comm_slots.shape[0] - 1
    where = comm_hash(first, second) & mask
    comm = np.int64(-1)
    while comm_slots[where] >= 0:
        i = comm_slots[where]
        if comm_keys[i, 0] == first and comm_keys[i, 1] == second:
            comm = np.int64(comm_keys[i, 2])
            break
        where = (where + 1) & mask
    if comm < 0:
        work[Cell.BEGIN] = out[COMM_BEGIN]
        work[Cell.FINISH] = out[COMM_END]
    return comm


@piece
def write_row(
    rows: Any, at: int, out: Any, values: Any, comm: Any, site: Any, kind: Any, present: int
) -> None:
    """Write one row (layout: collectors.raw.RAW_DTYPE)."""
    rows[at, 0] = out[TS]
    for slot in range(VALUES):
        rows[at, 1 + slot] = values[slot]
    rows[at, 6] = (out[PID] & _MASK32) | (comm << 32)
    rows[at, 7] = site | (kind << 32) | (out[CPU] << 48)
    rows[at, 8] = out[CTX] | (present << 8)


@piece
def write_marker(rows: Any, at: int, out: Any, values: Any, kind: Any) -> None:
    """Write the row of a loss; ``out[TS]`` is how many events were lost, -1 unknown."""
    lost = out[TS]
    out[PID] = 0
    out[CTX] = _CTX_UNKNOWN
    out[TS] = rows[at - 1, 0] if at > 0 else 0
    values[0] = max(lost, 0)
    values[1] = values[2] = values[3] = values[4] = 0
    known = np.int64(1 if lost >= 0 else 0)
    write_row(rows, at, out, values, _ZERO, _ZERO, kind, known)


@piece
def start_of_value(buf: Any, p: int, end: int) -> int:
    """Start of an argument's value; `p` is at the sign behind its name, ``=`` or ``:``."""
    if load_byte(buf, p) == 61:
        return p + 1
    return skip_spaces(buf, p + 1, end)


@piece
def arguments(
    buf: Any,
    p: int,
    end: int,
    n: int,
    head: int,
    heads: Any,
    args: Any,
    values: Any,
    work: Any,
    seen: Any,
) -> bool:
    """Read ``name=value`` (or ``name: value``) up to the end of the line.

    Returns
    -------
    bool
        False where a name is not in the table (`work` says which).
    """
    first = heads[head, Head.FIRST_ARG]
    count = heads[head, Head.ARGS]
    expected = 0
    seen[0] = seen[1] = seen[3] = 0  # present, faults, -, no numbers
    while True:
        p = skip_spaces(buf, p, end)
        if p >= end:
            return True
        if load_byte(buf, p) == 13:
            p += 1
            continue
        found = -1
        for k in range(count):
            i = expected + k
            if i >= count:
                i -= count
            length = args[first + i, Arg.LENGTH]
            c = byte_at(buf, p + length, end)
            if (c == 61 or c == 58) and same_bytes(  # noqa: PLR1714 - chains compile faster
                buf, p, args[first + i, Arg.REF], length, n
            ):
                found = i
                break
        if found < 0:
            q = p
            c = byte_at(buf, q, end)
            while c > 32 and c != 61 and c != 58:  # noqa: PLR1714 - chains compile faster
                q += 1
                c = byte_at(buf, q, end)
            if (c != 61 and c != 58) or q == p:  # noqa: PLR1714
                while q < end and load_byte(buf, q) > 32:
                    q += 1
                if q == p:  # a control character
                    q += 1
                p = q
                continue
            if count >= layout.MAX_ARGS:  # damaged lines invent names: no room for more
                p = any_value_at(buf, start_of_value(buf, q, end), end)[0]
                seen[3] += 1
                continue
            work[Cell.BEGIN] = p
            work[Cell.FINISH] = q
            work[Cell.HEAD] = head
            return False
        expected = found + 1
        p = start_of_value(buf, p + args[first + found, Arg.LENGTH], end)
        p, value, good = value_at(buf, p, end, n)
        slot = args[first + found, Arg.SLOT]
        if slot < 0:
            continue
        if good == 1:
            if seen[0] >> slot & 1 == 0:
                values[slot] = value
                seen[0] |= 1 << slot
        else:
            seen[3 - good] += 1


@piece
def event_values(
    buf: Any,
    p: int,
    end: int,
    n: int,
    head: int,
    heads: Any,
    args: Any,
    out: Any,
    values: Any,
    work: Any,
    seen: Any,
) -> Any:
    """Read the values of a probe, a switch or a tracepoint, from behind its head to its end.

    Returns
    -------
    int
        Which values there are, as bits; -1 where an argument's name is not in the table (`work`
        says which).
    """
    kind = heads[head, Head.KIND]
    if kind == KIND_SWITCH:
        previous, blocked, following = switch_at(buf, p, end)
        values[0] = previous if previous >= 0 else out[PID]  # the event is the old task's
        values[1] = blocked
        values[2] = max(following, 0)
        return np.int64(3 if following < 0 else 7)
    if kind == _TLB_FLUSH:
        tlb_flush_at(buf, p, end, values)
        return np.int64(3)
    if not arguments(buf, p, end, n, head, heads, args, values, work, seen):
        return np.int64(-1)
    values[4] |= heads[head, Head.CALLER]
    return np.int64(seen[0])
