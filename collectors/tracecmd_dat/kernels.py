"""Compiled walk over ring buffer pages. Import only from functions that decode.

Pages and records: kernel include/linux/ring_buffer.h (``enum ring_buffer_type``),
kernel/trace/ring_buffer.c (``rb_event_length``, ``rb_event_discard``, ``rb_fix_abs_ts``).
Every length is checked against the bytes that are left before it is used, and every step moves
forward, so that no input makes a loop endless or reads outside the array.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from collectors.compiled import loop
from collectors.tracecmd_dat.layout import (
    COMMIT_BYTES,
    COMMIT_MISSED,
    COMMIT_MISSED_STORED,
    STAMP_KEPT,
    TIME_SHIFT_BITS,
    TYPE_DATA_MAX,
    TYPE_PADDING,
    TYPE_TIME_EXTEND,
    TYPE_TIME_STAMP,
)
from collectors.traceevent.loads import extend, load, u16, u32, u64
from collectors.traceevent.pairs import (
    PAIR_COUNT,
    PAIR_EVENT,
    PAIR_FOLLOWS,
    PAIR_IP,
    PAIR_NEED,
    PAIR_PLAN,
    PAIRS,
    UNRESOLVED,
    find_pair,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Why the walk came back.
DONE = 0
FULL = 1  # there is no room for more rows
NEW_PAIR = 2  # an (event, probed address) pair of which it is not known what it means
BAD_COMMIT = 3
BAD_RECORD = 4
SHORT_RECORD = 5
CROWDED = 6  # the table of pairs has to grow

# Cells of a walk's state.
PAGE = 0  # the next page
END = 1  # of the pages
AT = 2  # the next record in the present page
STOP = 3  # the end of the present page's records
TS = 4
KEY = 5  # the highest stamp so far
MISSED = 6  # 1: events were lost before the next record
MISSED_COUNT = 7  # -1: an unknown number
BEFORE = 8  # stamp of the record before, NO_STAMP at the begin
ROWS = 9  # listed
USED = 10  # pairs known
RECORDS = 11
FIRST = 12  # stamp of the first record
EVENT = 13  # of the new pair
IP = 14
SLOT = 15
MARKS = 16  # loss markers listed
PAGES = 17
KEPT = 18  # 1: the record before is listed
STATE_CELLS = 19

NO_STAMP = -(1 << 63)
"""Stands for the stamp before a loss at the very start of a CPU's data."""


@loop
def walk(
    data: NDArray[np.uint8],
    big: bool,  # noqa: FBT001
    page: NDArray[np.int64],
    state: NDArray[np.int64],
    ip_at: NDArray[np.int64],
    pairs: NDArray[np.int64],
    last_slot: NDArray[np.int32],
    ts_out: NDArray[np.int64],
    key_out: NDArray[np.int64],
    at_out: NDArray[np.int64],
    length_out: NDArray[np.int32],
    plan_out: NDArray[np.int32],
    before_out: NDArray[np.int64],
) -> int:
    """Walk over the records of one CPU and list those wanted, until something stops it.

    Parameters
    ----------
    data : ndarray of uint8, read only
        Pages.
    big : bool
        Endianness of the traced machine.
    page : ndarray of int64, shape (7,)
        Page size; offsets of stamp, commit, data; size of the commit word; offset of
        ``common_type``; size of the probed address.
    state : ndarray of int64, shape (STATE_CELLS,)
        Where the walk is, what it found, and what it asks for. A walk that came back goes on
        where it was.
    ip_at : ndarray of int64, shape (65536,)
        Offset of the address that tells an event's probes apart, -1 none.
    pairs : ndarray of int64, shape (pairs, PAIR_COLUMNS)
        Table of (event, address) pairs.
    last_slot : ndarray of int32, shape (power of two,)
        Pair that was found last, by the lower bits of the event's number.
    ts_out, key_out, at_out, length_out, plan_out : ndarray of int64, int64, int64, int32, int32
        Per wanted record: stamp, the highest stamp so far, place of the payload in `data` (for
        a loss marker: the number of events lost, -1 unknown), its length, and its plan (0 for
        a loss marker).
    before_out : ndarray of int64
        Per loss marker the stamp of the last record before, or NO_STAMP.

    Returns
    -------
    int
        DONE, or why it came back.
    """
    base = data.ctypes.data
    page_size, stamp_at, commit_at, data_at = page[0], page[1], page[2], page[3]
    word, type_at, ip_size = page[4], page[5], page[6]
    here, end = state[PAGE], state[END]
    at, stop = state[AT], state[STOP]
    ts, key, before = state[TS], state[KEY], state[BEFORE]
    missed, missed_count = state[MISSED], state[MISSED_COUNT]
    rows, used, records = state[ROWS], state[USED], state[RECORDS]
    kept = state[KEPT]
    room = len(ts_out) - 2
    status = DONE
    while True:
        if at >= stop:
            if here >= end:
                break
            left = min(page_size, end - here)
            size: Any = np.int64(0)
            if left >= data_at:
                commit = load(base, here + commit_at, word, big)
                size = commit & COMMIT_BYTES
            if left < data_at or data_at + size > left:
                at = here
                status = BAD_COMMIT
                break
            ts = u64(base, here + stamp_at, big)
            at = here + data_at
            stop = at + size
            if commit & COMMIT_MISSED:
                lost = np.int64(-1)
                if commit & COMMIT_MISSED_STORED and data_at + size + word <= left:
                    lost = extend(load(base, stop, word, big), word)
                if lost < 0 or (missed and missed_count < 0):
                    missed_count = -1
                else:
                    missed_count += lost
                missed = 1
            here += page_size
            state[PAGES] += 1
            continue
        if rows > room:
            status = FULL
            break
        if stop - at < 4:
            status = BAD_RECORD
            break
        head = u32(base, at, big)
        kind = head >> TIME_SHIFT_BITS if big else head & 31
        delta = head & ((1 << TIME_SHIFT_BITS) - 1) if big else head >> 5
        body = at + 4
        length = 4 * kind
        after = body + length
        if kind > TYPE_DATA_MAX or kind == 0:
            if kind == TYPE_PADDING and delta == 0:
                at = stop
                continue
            if stop - at < 8:
                status = BAD_RECORD
                break
            more = u32(base, at + 4, big)
            if kind == TYPE_TIME_EXTEND:
                ts += delta + (more << TIME_SHIFT_BITS)
                at += 8
                continue
            if kind == TYPE_TIME_STAMP:
                ts = (ts & STAMP_KEPT) | ((more << TIME_SHIFT_BITS) + delta)
                at += 8
                continue
            after = at + 4 + ((more + 3) & ~3)
            if kind == TYPE_PADDING:
                if after > stop:
                    status = BAD_RECORD
                    break
                ts += delta
                at = after
                continue
            body, length = at + 8, more - 4
        if length < 0 or after > stop:
            status = BAD_RECORD
            break
        if length < type_at + 2:
            status = SHORT_RECORD
            break
        event = u16(base, body + type_at, big)
        ip = np.int64(0)
        if ip_at[event] >= 0:
            if length < ip_at[event] + ip_size:
                status = SHORT_RECORD
                break
            ip = load(base, body + ip_at[event], ip_size, big)
        recent = event & (len(last_slot) - 1)
        slot: Any = np.int64(last_slot[recent])
        if pairs[slot, PAIR_EVENT] != event + 1 or pairs[slot, PAIR_IP] != ip:
            if used >= len(pairs) // 4 and len(pairs) < PAIRS:
                status = CROWDED
                break
            slot, used = find_pair(pairs, used, event, ip)
            last_slot[recent] = slot
        plan = pairs[slot, PAIR_PLAN]
        if plan == UNRESOLVED:
            state[EVENT], state[IP], state[SLOT] = event, pairs[slot, PAIR_IP], slot
            status = NEW_PAIR
            break
        if length < pairs[slot, PAIR_NEED]:
            status = SHORT_RECORD
            break
        ts += delta
        key = max(key, ts)
        if missed:
            ts_out[rows], key_out[rows], at_out[rows] = ts, key, missed_count
            length_out[rows], plan_out[rows], before_out[rows] = 0, 0, before
            rows += 1
            state[MARKS] += 1
            missed, missed_count = 0, 0
            kept = 0
        if not pairs[slot, PAIR_FOLLOWS]:
            kept = 1 if plan >= 0 else 0
        if plan >= 0 and kept:
            ts_out[rows], key_out[rows], at_out[rows] = ts, key, body
            length_out[rows], plan_out[rows] = length, plan
            rows += 1
        pairs[slot, PAIR_COUNT] += 1
        if records == 0:
            state[FIRST] = ts
        records += 1
        before = ts
        at = after
    state[PAGE], state[AT], state[STOP] = here, at, stop
    state[TS], state[KEY], state[BEFORE] = ts, key, before
    state[MISSED], state[MISSED_COUNT] = missed, missed_count
    state[KEPT] = kept
    state[ROWS], state[USED], state[RECORDS] = rows, used, records
    return status


@loop
def find_mark(
    data: NDArray[np.uint8],
    big: bool,  # noqa: FBT001
    page: NDArray[np.int64],
    begin: int,
    end: int,
) -> int:
    """Find the first page before which events were lost.

    Parameters
    ----------
    data, big, page
        As :func:`walk`.
    begin, end : int
        First byte of the pages and the byte after the last.

    Returns
    -------
    int
        Its place; -1: there is none.
    """
    base = data.ctypes.data
    for here in range(begin, end - page[3] + 1, page[0]):
        if load(base, here + page[2], page[4], big) & COMMIT_MISSED:
            return here
    return -1
