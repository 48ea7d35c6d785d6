"""What the scanners of all text dialects share: heads, arguments, task names, rows (compiled)."""

from __future__ import annotations

from typing import Any

import numpy as np

from collectors.compiled import piece
from collectors.probes import KIND_SWITCH, TRACEPOINTS
from collectors.raw import FAULT
from collectors.text import layout
from collectors.text.layout import Arg, Cell, Head, Scan, Space
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
def lookup(s: Scan, begin: int, end: int, space: int) -> Any:
    """Row of a text in the table of heads, -1 if it is not there."""
    h = hash_bytes(s.buf, begin, end, s.n, space)
    mask = s.slots.shape[0] - 1
    at = np.int64(h >> np.uint64(20)) & mask
    while s.slots[at] >= 0:
        i = s.slots[at]
        if (
            s.hashes[i] == h
            and s.heads[i, Head.LENGTH] == end - begin
            and s.heads[i, Head.SPACE] == space
            and same_bytes(s.buf, begin, s.heads[i, Head.REF], end - begin, s.n)
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
def find_head(s: Scan, body: int, name_end: int, text_end: int) -> int:
    """Find the head of an event.

    Its name stands at `body` and ends, with its colon, at `name_end`.

    Returns
    -------
    int
        Row in the table of heads; -1: not there, and the scan asks for it. ``s.found[0]`` is the
        end of the head.
    """
    head_end = end_of_head(s.buf, name_end, text_end, s.n)
    s.found[0] = head_end
    head = lookup(s, body, head_end, _SP_HEAD)
    if head < 0 and head_end != name_end:
        head = lookup(s, body, name_end, _SP_HEAD)
        if head >= 0 and s.heads[head, Head.KIND] != _PLAIN_NAME:
            head = -1
    if head < 0:
        ask(s, body, head_end, _SP_HEAD)
    return head


@piece
def ask(s: Scan, begin: int, end: int, space: Any) -> None:
    """Say what text is not in the table of heads."""
    s.work[Cell.BEGIN] = begin
    s.work[Cell.FINISH] = end
    s.work[Cell.SPACE] = space


@piece
def find_comm(s: Scan) -> Any:
    """Number of the task's name; -1: not there, and the scan asks for it."""
    first, second = comm_words(s.buf, s.out[COMM_BEGIN], s.out[COMM_END], s.n)
    mask = s.comm_slots.shape[0] - 1
    where = comm_hash(first, second) & mask
    comm = np.int64(-1)
    while s.comm_slots[where] >= 0:
        i = s.comm_slots[where]
        if s.comm_keys[i, 0] == first and s.comm_keys[i, 1] == second:
            comm = np.int64(s.comm_keys[i, 2])
            break
        where = (where + 1) & mask
    if comm < 0:
        s.work[Cell.BEGIN] = s.out[COMM_BEGIN]
        s.work[Cell.FINISH] = s.out[COMM_END]
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
def arguments(s: Scan, p: int, end: int, head: int) -> bool:
    """Read ``name=value`` (or ``name: value``) up to the end of the line.

    Returns
    -------
    bool
        False where a name is not in the table (`s.work` says which).
    """
    first = s.heads[head, Head.FIRST_ARG]
    count = s.heads[head, Head.ARGS]
    expected = 0
    s.seen[0] = s.seen[1] = s.seen[3] = 0  # present, faults, -, no numbers
    while True:
        p = skip_spaces(s.buf, p, end)
        if p >= end:
            return True
        if load_byte(s.buf, p) == 13:
            p += 1
            continue
        found = -1
        for k in range(count):
            i = expected + k
            if i >= count:
                i -= count
            length = s.args[first + i, Arg.LENGTH]
            c = byte_at(s.buf, p + length, end)
            if (c == 61 or c == 58) and same_bytes(  # noqa: PLR1714 - chains compile faster
                s.buf, p, s.args[first + i, Arg.REF], length, s.n
            ):
                found = i
                break
        if found < 0:
            q = p
            c = byte_at(s.buf, q, end)
            while c > 32 and c != 61 and c != 58:  # noqa: PLR1714 - chains compile faster
                q += 1
                c = byte_at(s.buf, q, end)
            if (c != 61 and c != 58) or q == p:  # noqa: PLR1714
                while q < end and load_byte(s.buf, q) > 32:
                    q += 1
                if q == p:  # a control character
                    q += 1
                p = q
                continue
            if count >= layout.MAX_ARGS:  # damaged lines invent names: no room for more
                p = any_value_at(s.buf, start_of_value(s.buf, q, end), end)[0]
                s.seen[3] += 1
                continue
            s.work[Cell.BEGIN] = p
            s.work[Cell.FINISH] = q
            s.work[Cell.HEAD] = head
            return False
        expected = found + 1
        p = start_of_value(s.buf, p + s.args[first + found, Arg.LENGTH], end)
        p, value, good = value_at(s.buf, p, end, s.n)
        slot = s.args[first + found, Arg.SLOT]
        if slot < 0:
            continue
        if slot >= VALUES:  # a mark
            if good == 1 and value != 0:
                s.seen[0] |= FAULT
        elif good == 1:
            if s.seen[0] >> slot & 1 == 0:
                s.values[slot] = value
                s.seen[0] |= 1 << slot
        else:
            s.seen[3 - good] += 1
            if good == 2:
                s.seen[0] |= FAULT


@piece
def event_values(s: Scan, p: int, end: int, head: int) -> Any:
    """Read the values of a probe, a switch or a tracepoint, from behind its head to its end.

    Returns
    -------
    int
        Which values there are, as bits; -1 where an argument's name is not in the table (`s.work`
        says which).
    """
    kind = s.heads[head, Head.KIND]
    if kind == KIND_SWITCH:
        previous, blocked, following = switch_at(s.buf, p, end)
        s.values[0] = previous if previous >= 0 else s.out[PID]  # the event is the old task's
        s.values[1] = blocked
        s.values[2] = max(following, 0)
        return np.int64(3 if following < 0 else 7)
    if kind == _TLB_FLUSH:
        tlb_flush_at(s.buf, p, end, s.values)
        return np.int64(3)
    if not arguments(s, p, end, head):
        return np.int64(-1)
    s.values[4] |= s.heads[head, Head.CALLER]
    return np.int64(s.seen[0])
