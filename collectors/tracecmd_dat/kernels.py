"""Compiled loops over ring buffer pages. Import only from functions that decode.

Pages and records: kernel include/linux/ring_buffer.h (``enum ring_buffer_type``),
kernel/trace/ring_buffer.c (``rb_event_length``, ``rb_event_discard``, ``rb_fix_abs_ts``).
Every length is checked against the bytes that are left before it is used, and every step moves
forward, so that no input makes a loop endless or reads outside the array.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

OK = 0
BAD_COMMIT = 1
BAD_RECORD = 2
SHORT_RECORD = 3

# Columns of a plan: how rows are made from the records of one event.
PLAN_KIND = 0
PLAN_PID = 1
PLAN_FLAGS = 2
PLAN_PREEMPT = 3
PLAN_CALLER = 4
PLAN_CALLER_SIZE = 5
PLAN_VALUE = 6  # four times: offset (-1 none), size, signed, mask (0: the value itself)
PLAN_COLUMNS = 6 + 4 * 4

_COMMIT_BYTES = 0x07FF_FFFF
_COMMIT_MISSED = 1 << 31
_COMMIT_STORED = 1 << 30
_STAMP_KEPT = -(1 << 59)  # upper five bits of a signed 64-bit number

_PROBES = 128  # a table that is a quarter full never needs so many, unless a file is made for it

NO_STAMP = -(1 << 63)
"""Stands for the stamp before a loss at the very start of a CPU's data."""


@numba.njit(inline="always")
def u16(data: NDArray[np.uint8], at: int, big: bool) -> Any:  # noqa: FBT001
    """Read an unsigned number of 2 bytes."""
    first, second = np.int64(data[at]), np.int64(data[at + 1])
    return first << 8 | second if big else second << 8 | first


@numba.njit(inline="always")
def u32(data: NDArray[np.uint8], at: int, big: bool) -> Any:  # noqa: FBT001
    """Read an unsigned number of 4 bytes."""
    a, b = np.int64(data[at]), np.int64(data[at + 1])
    c, d = np.int64(data[at + 2]), np.int64(data[at + 3])
    return a << 24 | b << 16 | c << 8 | d if big else d << 24 | c << 16 | b << 8 | a


@numba.njit(nogil=True)
def u64(data: NDArray[np.uint8], at: int, big: bool) -> Any:  # noqa: FBT001
    """Read an unsigned number of 8 bytes."""
    first, second = u32(data, at, big), u32(data, at + 4, big)
    return first << 32 | second if big else second << 32 | first


@numba.njit(nogil=True)
def load(data: NDArray[np.uint8], at: int, size: int, big: bool) -> Any:  # noqa: FBT001
    """Read a number of 1, 2, 4 or 8 bytes, without sign."""
    if size == 4:
        return u32(data, at, big)
    if size == 8:
        return u64(data, at, big)
    if size == 2:
        return u16(data, at, big)
    return np.int64(data[at])


@numba.njit(nogil=True)
def extend(value: int, size: int) -> Any:
    """Give a number of `size` bytes its sign."""
    shift = 64 - 8 * size
    return value << shift >> shift


@numba.njit(cache=True, nogil=True)
def find_slot(
    slot_type: NDArray[np.int32], slot_ip: NDArray[np.int64], used: int, event: int, ip: int
) -> tuple[int, int]:
    """Find or make the slot of an (event, probed address) pair in an open hash table.

    Parameters
    ----------
    slot_type, slot_ip : ndarray of int32, int64, shape (power of two,)
        Keys; type -1: free.
    used : int
        Slots in use; -1: make none.
    event, ip : int
        The key.

    Returns
    -------
    slot, used : int
        An address for which there is no room is not told apart: it gets the slot of address 0.
    """
    size = len(slot_type)
    for turn in range(2):
        key = ip if turn == 0 else 0
        slot = (event * 0x9E37_79B1 + (key ^ key >> 15) * 0x85EB_CA6B >> 7) & (size - 1)
        for step in range(size):
            if slot_type[slot] == -1:
                if used >= 0 and (key == 0 or used < size // 4):
                    slot_type[slot] = event
                    slot_ip[slot] = key
                    return slot, used + 1
                break
            if slot_type[slot] == event and slot_ip[slot] == key:
                return slot, used
            if key != 0 and step > _PROBES:
                break
            slot = (slot + 1) & (size - 1)
    return size, used


@numba.njit(cache=True, nogil=True)
def walk(
    data: NDArray[np.uint8],
    extents: NDArray[np.int64],
    page: NDArray[np.int64],
    big: bool,  # noqa: FBT001
    ip_at: NDArray[np.int64],
    need: NDArray[np.int64],
    slot_type: NDArray[np.int32],
    slot_ip: NDArray[np.int64],
    count: NDArray[np.int64],
    plan_of: NDArray[np.int32],
    ts_out: NDArray[np.int64],
    at_out: NDArray[np.int64],
    length_out: NDArray[np.int32],
    plan_out: NDArray[np.int32],
    mark_before: NDArray[np.int64],
    bounds: NDArray[np.int64],
) -> tuple[int, int]:
    """Walk over all records of all CPUs: first to count them, then to list those wanted.

    Parameters
    ----------
    data : ndarray of uint8, read only
        Pages.
    extents : ndarray of int64, shape (CPUs, 2)
        First byte of each CPU's pages and the byte after the last.
    page : ndarray of int64, shape (8,)
        Page size; offsets of stamp, commit, data; size of the commit word; offset of
        ``common_type``; size of the probed address; 1 to list, 0 to count.
    big : bool
        Endianness of the traced machine.
    ip_at : ndarray of int64, shape (65536,)
        Offset of the address that tells an event's probes apart, -1 none.
    need : ndarray of int64, shape (65536,)
        Bytes that a record of the event must have.
    slot_type, slot_ip : ndarray of int32, int64
        Table of (event, address) pairs; filled while counting.
    count : ndarray of int64, shape (slots + 1,)
        Records of each pair; the last is for loss markers. Filled while counting.
    plan_of : ndarray of int32, shape (slots + 1,)
        Plan of each pair, -1: not wanted.
    ts_out, at_out, length_out, plan_out : ndarray of int64, int64, int32, int32
        When listing: stamp, place of the payload in `data` (for a loss marker: the number of
        events lost, -1 unknown), its length, and its plan.
    mark_before : ndarray of int64
        Per loss marker the stamp of the last record before, or NO_STAMP.
    bounds : ndarray of int64, shape (CPUs, 4)
        Listed up to and with this CPU; records; first and last stamp.

    Returns
    -------
    status, offset : int
        OK, or what is wrong and where in `data`.
    """
    page_size, stamp_at, commit_at, data_at = page[0], page[1], page[2], page[3]
    word, type_at, ip_size, listing = page[4], page[5], page[6], page[7] != 0
    last_slot = np.full(65536, -1, np.int32)
    marker = len(count) - 1
    used = -1 if listing else 0
    rows = 0
    marks = 0
    for extent in range(len(extents)):
        here, end = extents[extent, 0], extents[extent, 1]
        missed, missed_count = False, 0
        records = 0
        before = NO_STAMP
        while here < end:
            left = min(page_size, end - here)
            if left < data_at:
                return BAD_COMMIT, here
            ts = u64(data, here + stamp_at, big)
            commit = load(data, here + commit_at, word, big)
            size = commit & _COMMIT_BYTES
            if data_at + size > left:
                return BAD_COMMIT, here
            at = here + data_at
            stop = at + size
            if commit & _COMMIT_MISSED:
                lost = -1
                if commit & _COMMIT_STORED and data_at + size + word <= left:
                    lost = extend(load(data, stop, word, big), word)
                if lost < 0 or (missed and missed_count < 0):
                    missed_count = -1
                else:
                    missed_count += lost
                missed = True
            while at < stop:
                if stop - at < 4:
                    return BAD_RECORD, at
                head = u32(data, at, big)
                kind = head >> 27 if big else head & 31
                delta = head & 0x7FF_FFFF if big else head >> 5
                if 1 <= kind <= 28:
                    body, length = at + 4, 4 * kind
                    after = body + length
                else:
                    if kind == 29 and delta == 0:
                        break
                    if stop - at < 8:
                        return BAD_RECORD, at
                    more = u32(data, at + 4, big)
                    if kind == 30:
                        ts += delta + (more << 27)
                        at += 8
                        continue
                    if kind == 31:
                        ts = (ts & _STAMP_KEPT) | ((more << 27) + delta)
                        at += 8
                        continue
                    after = at + 4 + ((more + 3) & ~3)
                    if kind == 29:
                        ts += delta
                        if after > stop:
                            return BAD_RECORD, at
                        at = after
                        continue
                    body, length = at + 8, more - 4
                    if length < 0:
                        return BAD_RECORD, at
                if after > stop:
                    return BAD_RECORD, at
                ts += delta
                if length < type_at + 2:
                    return SHORT_RECORD, at
                event = u16(data, body + type_at, big)
                if length < need[event]:
                    return SHORT_RECORD, at
                ip = 0
                if ip_at[event] >= 0:
                    ip = load(data, body + ip_at[event], ip_size, big)
                slot = last_slot[event]
                if slot < 0 or slot_ip[slot] != ip:
                    found, used = find_slot(slot_type, slot_ip, used, event, ip)
                    slot = np.int32(found)
                    last_slot[event] = slot
                if missed:
                    if not listing:
                        count[marker] += 1
                    elif plan_of[marker] >= 0:
                        ts_out[rows], at_out[rows] = ts, missed_count
                        length_out[rows], plan_out[rows] = 0, plan_of[marker]
                        mark_before[marks] = before
                        rows += 1
                        marks += 1
                    missed, missed_count = False, 0
                if not listing:
                    count[slot] += 1
                elif plan_of[slot] >= 0:
                    ts_out[rows], at_out[rows] = ts, body
                    length_out[rows], plan_out[rows] = length, plan_of[slot]
                    rows += 1
                if records == 0:
                    bounds[extent, 2] = ts
                records += 1
                before = ts
                at = after
            here += page_size
        bounds[extent, 0] = rows
        bounds[extent, 1] = records
        bounds[extent, 3] = before
    return OK, 0


@numba.njit(cache=True, nogil=True)
def fill_rows(
    data: NDArray[np.uint8],
    big: bool,  # noqa: FBT001
    order: NDArray[np.int64],
    ts: NDArray[np.int64],
    at: NDArray[np.int64],
    cpu: NDArray[np.uint16],
    plan_of: NDArray[np.int32],
    plans: NDArray[np.int64],
    comm_of: NDArray[np.int32],
    lost_kind: int,
    words: NDArray[np.int64],
) -> None:
    """Take from each record, in the order of the merged trace, what its row needs.

    Parameters
    ----------
    data, big
        Pages, and their endianness.
    order : ndarray of int64, shape (n,)
        Positions in the next four, by time.
    ts, at, cpu, plan_of : ndarray of int64, int64, uint16, int32, shape (n,)
        As :func:`walk` listed them, stamps corrected.
    plans : ndarray of int64, shape (plans, PLAN_COLUMNS)
        What to take, per plan.
    comm_of : ndarray of int32
        Index of a task's name by pid; 1 (unknown) beyond its end.
    lost_kind : int
        Kind of loss markers.
    words : ndarray of int64, shape (n, 9)
        Rows of :data:`collectors.raw.RAW_DTYPE` as 64-bit words, little-endian: ts, four
        values, caller, pid and comm, site (0) with kind and cpu, ctx and present.
    """
    for row in range(len(order)):
        source = order[row]
        start = at[source]
        plan = plans[plan_of[source]]
        words[row, 0] = ts[source]
        words[row, 7] = plan[PLAN_KIND] << 32 | np.int64(cpu[source]) << 48
        if plan[PLAN_KIND] == lost_kind:
            known = np.int64(start >= 0)
            words[row, 1] = start * known
            words[row, 2:7] = 0
            words[row, 8] = 128 | known << 8
            continue
        task, comm = np.int64(0), np.int64(0)
        if plan[PLAN_PID] >= 0:
            task = extend(u32(data, start + plan[PLAN_PID], big), 4)
            comm = np.int64(comm_of[task]) if 0 <= task < len(comm_of) else np.int64(1)
        words[row, 6] = (task & 0xFFFF_FFFF) | comm << 32
        state: Any = np.int64(128)
        if plan[PLAN_FLAGS] >= 0:
            flags = np.int64(data[start + plan[PLAN_FLAGS]])
            # trace_flag_type (include/linux/trace_events.h): 1 irqs off, 8 hardirq, 16 softirq,
            # 64 NMI
            state = (flags & 1) | (flags >> 2 & 6) | (flags >> 3 & 8)
            if plan[PLAN_PREEMPT] >= 0 and data[start + plan[PLAN_PREEMPT]] & 15:
                state |= 16
        words[row, 5] = 0
        if plan[PLAN_CALLER] >= 0:
            words[row, 5] = load(data, start + plan[PLAN_CALLER], plan[PLAN_CALLER_SIZE], big)
        for value in range(4):
            column = PLAN_VALUE + 4 * value
            offset, size = plan[column], plan[column + 1]
            number = np.int64(0)
            if offset >= 0:
                number = load(data, start + offset, size, big)
                if plan[column + 2]:
                    number = extend(number, size)
                    if -(1 << 31) <= number < 0:
                        number &= 0xFFFF_FFFF  # as the text readers: the word it stands for
                if plan[column + 3]:
                    number = np.int64(number & plan[column + 3] != 0)
                state |= 256 << value
            words[row, 1 + value] = number
        words[row, 8] = state


@numba.njit(cache=True, nogil=True)
def take_numbers(
    data: NDArray[np.uint8],
    big: bool,  # noqa: FBT001
    at: NDArray[np.int64],
    length: NDArray[np.int32],
    offset: int,
    size: int,
    signed: bool,  # noqa: FBT001
    out: NDArray[np.int64],
) -> int:
    """Take one field of many records.

    Parameters
    ----------
    data, big
        Pages, and their endianness.
    at, length : ndarray of int64, int32, shape (n,)
        Place and length of each record.
    offset, size : int
        Of the field, in bytes.
    signed : bool
        Whether to give numbers their sign.
    out : ndarray of int64, shape (n,)
        The field; 0 where a record is too short for it.

    Returns
    -------
    int
        Records that were too short.
    """
    short = 0
    for row in range(len(at)):
        if offset + size > length[row]:
            out[row] = 0
            short += 1
            continue
        number = load(data, at[row] + offset, size, big)
        out[row] = extend(number, size) if signed else number
    return short
