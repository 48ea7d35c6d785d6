"""Compiled walk over ring buffer pages. Import only from functions that decode.

Pages and records: kernel include/linux/ring_buffer.h (``enum ring_buffer_type``),
kernel/trace/ring_buffer.c (``rb_event_length``, ``rb_event_discard``, ``rb_fix_abs_ts``).
Every length is checked against the bytes that are left before it is used, and every step moves
forward, so that no input makes a loop endless or reads outside the array.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from collectors.compiled import loop, piece
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

# Cells of what is known of the pages.
PAGE_SIZE = 0
STAMP_AT = 1
COMMIT_AT = 2
DATA_AT = 3
COMMIT_WORD = 4
TYPE_AT = 5
IP_SIZE = 6

# What a record is. Typed, so that all ways out of a step give numbers of one type.
_DATA, _SKIP, _BAD = np.int64(0), np.int64(1), np.int64(2)
_DONE, _FULL, _NEW = np.int64(DONE), np.int64(FULL), np.int64(NEW_PAIR)
_BAD_COMMIT, _BAD_RECORD = np.int64(BAD_COMMIT), np.int64(BAD_RECORD)
_SHORT, _CROWDED = np.int64(SHORT_RECORD), np.int64(CROWDED)

NO_STAMP = -(1 << 63)
"""Stands for the stamp before a loss at the very start of a CPU's data."""


class PageScan(NamedTuple):
    """All that the walk over one CPU's pages works on.

    Attributes
    ----------
    base : int
        Address of the pages.
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
    ts, key, at, length, plan : ndarray of int64, int64, int64, int32, int32
        Filled per wanted record: stamp, the highest stamp so far, place of the payload in the
        pages (for a loss marker: the number of events lost, -1 unknown), its length, and its plan
        (0 for a loss marker).
    before : ndarray of int64
        Filled per loss marker: the stamp of the last record before, or NO_STAMP.
    """

    base: Any
    big: Any
    page: Any
    state: Any
    ip_at: Any
    pairs: Any
    last_slot: Any
    ts: Any
    key: Any
    at: Any
    length: Any
    plan: Any
    before: Any


@piece
def _open_page(s: PageScan, here: int, end: int) -> Any:
    """Read the head of the page at `here`.

    Returns
    -------
    good : bool
        Whether its commit word can be.
    ts, at, stop : int
        Its stamp, its first record and the end of its records.
    lost : int
        Events lost before it: -1 an unknown number, -2 none.
    """
    left = min(s.page[PAGE_SIZE], end - here)
    data_at, word = s.page[DATA_AT], s.page[COMMIT_WORD]
    lost = np.int64(-2)
    if left < data_at:
        return False, lost, here, here, lost
    commit = load(s.base, here + s.page[COMMIT_AT], word, s.big)
    size = commit & COMMIT_BYTES
    if data_at + size > left:
        return False, lost, here, here, lost
    at = here + data_at
    if commit & COMMIT_MISSED:
        lost = np.int64(-1)
        if commit & COMMIT_MISSED_STORED and data_at + size + word <= left:
            lost = max(extend(load(s.base, at + size, word, s.big), word), np.int64(-1))
    return True, u64(s.base, here + s.page[STAMP_AT], s.big), at, at + size, lost


@piece
def _open_record(s: PageScan, at: int, stop: int, ts: int) -> Any:
    """Read the head of the record at `at`.

    Returns
    -------
    what : int
        DATA; SKIP, for what only moves the time; or BAD.
    ts, delta : int
        The time without the record's own part, and that part, of DATA; of others, the time behind.
    body, length, after : int
        Payload, its bytes, and the place of the next record.
    """
    zero = np.int64(0)
    if stop - at < 4:
        return _BAD, ts, zero, at, zero, at
    head = u32(s.base, at, s.big)
    kind = head >> TIME_SHIFT_BITS if s.big else head & 31
    delta = head & ((1 << TIME_SHIFT_BITS) - 1) if s.big else head >> 5
    if 0 < kind <= TYPE_DATA_MAX:
        length = 4 * kind
        after = at + 4 + length
        return (_DATA if after <= stop else _BAD), ts, delta, at + 4, length, after
    if kind == TYPE_PADDING and delta == 0:
        return _SKIP, ts, zero, at, zero, stop
    if stop - at < 8:
        return _BAD, ts, zero, at, zero, at
    more = u32(s.base, at + 4, s.big)
    if kind == TYPE_TIME_EXTEND:
        return _SKIP, ts + delta + (more << TIME_SHIFT_BITS), zero, at, zero, at + 8
    if kind == TYPE_TIME_STAMP:
        ts = (ts & STAMP_KEPT) | ((more << TIME_SHIFT_BITS) + delta)
        return _SKIP, ts, zero, at, zero, at + 8
    after = at + 4 + ((more + 3) & ~3)
    if after > stop:
        return _BAD, ts, zero, at, zero, at
    if kind == TYPE_PADDING:
        return _SKIP, ts + delta, zero, at, zero, after
    return (_DATA if more >= 4 else _BAD), ts, delta, at + 8, more - 4, after


@piece
def _pair_of(s: PageScan, body: int, length: int, used: int) -> Any:
    """Find the row of the record's (event, probed address) pair.

    Returns
    -------
    status, slot, used : int
        DONE, or why the walk has to come back; row; rows in use.
    """
    type_at, ip_size = s.page[TYPE_AT], s.page[IP_SIZE]
    slot: Any = np.int64(0)
    if length < type_at + 2:
        return _SHORT, slot, used
    event = u16(s.base, body + type_at, s.big)
    ip = np.int64(0)
    if s.ip_at[event] >= 0:
        if length < s.ip_at[event] + ip_size:
            return _SHORT, slot, used
        ip = load(s.base, body + s.ip_at[event], ip_size, s.big)
    recent = event & (len(s.last_slot) - 1)
    slot = np.int64(s.last_slot[recent])
    if s.pairs[slot, PAIR_EVENT] != event + 1 or s.pairs[slot, PAIR_IP] != ip:
        if used >= len(s.pairs) // 4 and len(s.pairs) < PAIRS:
            return _CROWDED, slot, used
        slot, used = find_pair(s.pairs, used, event, ip)
        s.last_slot[recent] = slot
    if s.pairs[slot, PAIR_PLAN] == UNRESOLVED:
        s.state[EVENT], s.state[IP], s.state[SLOT] = event, s.pairs[slot, PAIR_IP], slot
        return _NEW, slot, used
    if length < s.pairs[slot, PAIR_NEED]:
        return _SHORT, slot, used
    return _DONE, slot, used


@loop
def walk(s: PageScan) -> Any:
    """Walk over the records of one CPU and list those wanted, until something stops it.

    Returns
    -------
    int
        DONE, or why it came back.
    """
    state = s.state
    here, end, at, stop = state[PAGE], state[END], state[AT], state[STOP]
    ts, key, before = state[TS], state[KEY], state[BEFORE]
    missed, missed_count, kept = state[MISSED], state[MISSED_COUNT], state[KEPT]
    rows, used, records = state[ROWS], state[USED], state[RECORDS]
    room = len(s.ts) - 2
    status = _DONE
    while True:
        if at >= stop:
            if here >= end:
                break
            good, stamp, first, last, lost = _open_page(s, here, end)
            if not good:
                at = here
                status = _BAD_COMMIT
                break
            ts, at, stop = stamp, first, last
            if lost > -2:
                unknown = lost < 0 or (missed and missed_count < 0)
                missed_count = np.int64(-1) if unknown else missed_count + lost
                missed = np.int64(1)
            here += s.page[PAGE_SIZE]
            state[PAGES] += 1
            continue
        if rows > room:
            status = _FULL
            break
        what, ts, delta, body, length, after = _open_record(s, at, stop, ts)
        if what == _BAD:
            status = _BAD_RECORD
            break
        if what == _SKIP:
            at = after
            continue
        status, slot, used = _pair_of(s, body, length, used)
        if status != _DONE:
            break
        ts += delta
        key = max(key, ts)
        if missed:
            s.ts[rows], s.key[rows], s.at[rows] = ts, key, missed_count
            s.length[rows], s.plan[rows], s.before[rows] = 0, 0, before
            rows += 1
            state[MARKS] += 1
            missed, missed_count, kept = np.int64(0), np.int64(0), np.int64(0)
        plan = s.pairs[slot, PAIR_PLAN]
        if not s.pairs[slot, PAIR_FOLLOWS]:
            kept = np.int64(1 if plan >= 0 else 0)
        if plan >= 0 and kept:
            s.ts[rows], s.key[rows], s.at[rows] = ts, key, body
            s.length[rows], s.plan[rows] = length, plan
            rows += 1
        s.pairs[slot, PAIR_COUNT] += 1
        if records == 0:
            state[FIRST] = ts
        records += 1
        before = ts
        at = after
    state[PAGE], state[AT], state[STOP] = here, at, stop
    state[TS], state[KEY], state[BEFORE] = ts, key, before
    state[MISSED], state[MISSED_COUNT], state[KEPT] = missed, missed_count, kept
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
    data : ndarray of uint8
        Pages.
    big, page
        As of :class:`PageScan`.
    begin, end : int
        First byte of the pages and the byte after the last.

    Returns
    -------
    int
        Its place; -1: there is none.
    """
    base = data.ctypes.data
    for here in range(begin, end - page[DATA_AT] + 1, page[PAGE_SIZE]):
        if load(base, here + page[COMMIT_AT], page[COMMIT_WORD], big) & COMMIT_MISSED:
            return here
    return -1
