"""The left half of a line of perf script: task, CPU, time, event (compiled).

Grammar (tools/perf/builtin-script.c: perf_sample__fprintf_start, process_event); every part but
the event may be missing, and is either on all lines or on none::

    %16s %5d/%-5d [%03d] MISC %5lu.%06lu: PERIOD GROUP:EVENT: BODY
    %s %5d [%03d] %5lu.%09llu: EVENT: BODY                       (with call chains: comm unpadded)

The task's name may hold anything, so the line is read from the time stamp to the left. The
name has at most 15 bytes and stands before other columns: a colon up to column 16 is its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from collectors.compiled import part
from collectors.text.line import (
    BODY,
    COMM_BEGIN,
    COMM_END,
    COUNTER,
    CPU,
    CTX,
    NS,
    PID,
    TS,
    UNIT,
    US,
)
from collectors.text.words import byte_at, find_byte, load_byte, word_at

_COLONS = np.uint64(0x3A3A3A3A3A3A3A3A)
_UNKNOWN = 128
_SECOND = 1_000_000_000
_MAX_SECONDS = 9_000_000_000
_WORD = 1 << 32
_COMM_WIDTH = 16


def _bytes(text: bytes) -> Any:
    return np.uint64(int.from_bytes(text, "little"))


_PERF_REC, _ORD_LOST, _SAMPLES = _bytes(b"PERF_REC"), _bytes(b"ORD_LOST"), _bytes(b"_SAMPLES")
_NEXT_PRI, _LS = _bytes(b"next_pri"), _bytes(b"l" * 8)
_FOUR = np.uint64(0xFFFF_FFFF)
_NONE, _OTHER, _LOST, _LOST_SAMPLES = np.int64(0), np.int64(1), np.int64(2), np.int64(3)

# Cells of the table of columns that the scanner is given.
TIME, TID, COMM, CPU_COLUMN = range(4)


@part
def _time_before(buf: Any, begin: int, colon: int, out: Any) -> int:
    """Read the time stamp that ends at a colon.

    A 32-bit perf with --ns takes the seconds off in 32-bit arithmetic, which leaves more than
    nine digits behind the point (builtin-script.c: ``nsecs -= secs * NSEC_PER_SEC``): those are
    put right.

    Returns
    -------
    int
        Its first byte; -1 where it is none.
    """
    p = colon
    fraction = 0
    scale = 1
    while p > begin and 48 <= load_byte(buf, p - 1) <= 57 and colon - p < 18:
        p -= 1
        fraction += (load_byte(buf, p) - 48) * scale
        scale *= 10
    places = colon - p
    if places < 6 or p <= begin or load_byte(buf, p - 1) != 46:  # .
        return -1
    p -= 1
    point = p
    seconds = 0
    scale = 1
    while p > begin and 48 <= load_byte(buf, p - 1) <= 57 and point - p < 11:
        p -= 1
        seconds += (load_byte(buf, p) - 48) * scale
        scale *= 10
    if p == point or seconds > _MAX_SECONDS or (p > begin and load_byte(buf, p - 1) != 32):
        return -1
    if places == 6:
        fraction *= 1000
    elif places > 9:
        fraction += (seconds * _SECOND) % _WORD - seconds * _SECOND
        if not 0 <= fraction < _SECOND:
            return -1
    elif places < 9:
        return -1
    out[TS] = seconds * _SECOND + fraction
    out[UNIT] = US if places == 6 else NS
    return p


@part
def _anchor(buf: Any, begin: int, end: int, timed: int, skip: int, out: Any) -> int:
    """Find time stamp (or, where there is none, event); return where the left half ends."""
    p = begin + skip
    while True:
        p = find_byte(buf, p, end, _COLONS)
        if p >= end:
            return -1
        c = byte_at(buf, p + 1, end)
        if c in (32, 10, 13):
            if timed:
                first = _time_before(buf, begin, p, out)
                if first >= 0:
                    out[BODY] = p + 1
                    return first
            else:
                q = p
                inner = False
                while q > begin and load_byte(buf, q - 1) > 32:
                    q -= 1
                    inner = inner or load_byte(buf, q) == 58
                if inner:
                    out[TS] = begin
                    out[UNIT] = COUNTER
                    out[BODY] = q
                    return q
        p += 1


@part
def left_half(buf: Any, begin: int, end: int, columns: Any, out: Any) -> bool:
    """Read task, CPU and time of the line at `begin` into `out`.

    Parameters
    ----------
    buf : int
        Address of the text.
    begin, end : int
        The line, without its newline.
    columns : ndarray of int64, shape (9, 2)
        In the first column, whether TIME, TID, COMM and CPU are there.
    out : ndarray of int64, shape (8,)
        As :func:`collectors.text.line.left_half`; BODY is after the time stamp.

    Returns
    -------
    bool
        False where the line is none of this form.
    """
    tid, comm, cpu = columns[TID, 0], columns[COMM, 0], columns[CPU_COLUMN, 0]
    skip = _COMM_WIDTH if comm and (tid or cpu) else 0
    p = _anchor(buf, begin, end, columns[TIME, 0], skip, out)
    if p < 0:
        return False
    out[CTX] = _UNKNOWN
    out[CPU] = 0
    out[PID] = 0
    while p > begin and load_byte(buf, p - 1) == 32:
        p -= 1
    if cpu:
        if p > begin and load_byte(buf, p - 1) != 93:  # the column "misc": letters
            while p > begin and load_byte(buf, p - 1) > 57:
                p -= 1
            while p > begin and load_byte(buf, p - 1) == 32:
                p -= 1
        if p == begin or load_byte(buf, p - 1) != 93:  # ]
            return False
        p -= 1
        number = 0
        scale = 1
        first = p
        while p > begin and 48 <= load_byte(buf, p - 1) <= 57 and first - p < 6:
            p -= 1
            number += (load_byte(buf, p) - 48) * scale
            scale *= 10
        if p in (first, begin) or load_byte(buf, p - 1) != 91 or number > 0xFFFE:  # [
            return False
        out[CPU] = number
        p -= 1
        while p > begin and load_byte(buf, p - 1) == 32:
            p -= 1
    if tid:
        if not cpu:
            while p > begin and load_byte(buf, p - 1) > 57:
                p -= 1
            while p > begin and load_byte(buf, p - 1) == 32:
                p -= 1
        number = 0
        scale = 1
        first = p
        while p > begin and 48 <= load_byte(buf, p - 1) <= 57 and first - p < 10:
            p -= 1
            number += (load_byte(buf, p) - 48) * scale
            scale *= 10
        if p == first:
            return False
        if p > begin and load_byte(buf, p - 1) == 45:  # -1: a task that is no more
            number = -number
            p -= 1
        out[PID] = number
        if p > begin and load_byte(buf, p - 1) == 47:  # pid/tid
            p -= 1
            while p > begin and (48 <= load_byte(buf, p - 1) <= 57 or load_byte(buf, p - 1) == 45):
                p -= 1
    while p > begin and load_byte(buf, p - 1) == 32:
        p -= 1
    first = begin
    while first < p and load_byte(buf, first) == 32:
        first += 1
    out[COMM_BEGIN] = first if comm else p
    out[COMM_END] = p
    return True


@part
def event_at(buf: Any, p: int, end: int, found: Any) -> bool:
    """Find the event's name, behind a period if there is one.

    Parameters
    ----------
    buf, p, end
        Text, position after the time stamp, end of the line.
    found : ndarray of int64
        Result: start of the name without its group; end of the name, behind its colon.

    Returns
    -------
    bool
        False where no name with a colon comes.
    """
    while p < end and load_byte(buf, p) == 32:
        p += 1
    q = p
    while q < end and 48 <= load_byte(buf, q) <= 57:
        q += 1
    if q > p and q < end and load_byte(buf, q) == 32:  # the period
        p = q
        while p < end and load_byte(buf, p) == 32:
            p += 1
    q = p
    group = -1
    while q < end and load_byte(buf, q) > 32:
        if load_byte(buf, q) == 58 and group < 0:
            group = q
        q += 1
    found[0] = p
    found[1] = q
    if q == p or load_byte(buf, q - 1) != 58:
        return False
    if group < q - 1:
        # "cycles:u:" has a modifier, "hm:kmap_high:" a group
        plain = q - 1 - (group + 1) <= 3
        r = group + 1
        while r < q - 1 and plain:
            c = load_byte(buf, r)
            # letters of util/parse-events.l: modifier_event
            plain = c in (117, 107, 104, 72, 71, 112, 80, 83, 68, 73, 101, 87, 98)
            r += 1
        if not plain:
            found[0] = group + 1
    return True


@part
def side_record(buf: Any, p: Any, end: Any) -> Any:
    """Recognise ``PERF_RECORD_…``: 0 none, 1 of no use here, 2 LOST, 3 LOST_SAMPLES."""
    while p < end and load_byte(buf, p) == 32:
        p += 1
    if word_at(buf, p, end) != _PERF_REC:
        return _NONE
    word = word_at(buf, p + 8, end)
    if word != _ORD_LOST:
        return _OTHER if word & _FOUR == _ORD_LOST & _FOUR else _NONE
    if byte_at(buf, p + 16, end) <= 32:
        return _LOST
    return _LOST_SAMPLES if word_at(buf, p + 16, end) == _SAMPLES else _OTHER


@part
def number_at_end(buf: Any, begin: int, end: int) -> Any:
    """Read the decimal number after ``lost``; -1 where there is none."""
    p = find_byte(buf, begin, end, _LS)
    while p < end and not 48 <= load_byte(buf, p) <= 57:
        p += 1
    value: Any = np.int64(-1)
    digits = 0
    while p < end and 48 <= load_byte(buf, p) <= 57 and digits < 18:
        value = max(value, np.int64(0)) * 10 + load_byte(buf, p) - 48
        digits += 1
        p += 1
    return value


@part
def end_of_switch(buf: Any, begin: Any, end: Any) -> Any:
    """End of a sched_switch's payload; other columns (ip, sym) may follow on the line."""
    p = end - 10
    while p >= begin:
        if word_at(buf, p, end) == _NEXT_PRI and byte_at(buf, p + 9, end) == 61:  # o=
            p += 10
            while p < end and load_byte(buf, p) > 32:
                p += 1
            return p
        p -= 1
    return end
