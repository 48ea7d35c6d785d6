"""The left half of a trace line: task, CPU, context, time (compiled).

Grammars, all of them with the same order of parts (kernel/trace/trace_output.c:
trace_print_context, trace_print_lat_context; kernel/trace/trace.c: print_trace_fmt;
trace-cmd tracecmd/trace-read.c: read_data_info)::

    %16s-%-7d [(%7d)] [%03d] FLAGS SECS.FRACTION: BODY
    %16s-%-7d [(%7d)] [%03d] FLAGS COUNT: BODY
    %8.8s-%-7d %3dFLAGS MICROSECONDSus!: BODY                           (latency-format)
    %16s %7d %3d %d %08x %08x [%08x] MS.USms (+MS.USms): BODY           (with verbose)
    %8.8s-%-5d %3dFLAGS SECS.FRACTION: BODY                             (trace-cmd report -l)

The task's name may hold any character; the hyphen after it stands in column 16 (8 in latency
formats), which is tried first. Elsewhere the first hyphen is taken from which the rest can be
read.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from collectors.compiled import part, piece
from collectors.text.words import byte_at, find_byte, load_byte, word_at

# Cells of `out`
PID, CPU, CTX, TS, UNIT, BODY, COMM_BEGIN, COMM_END = range(8)
STAMP = 16
"""Where the column of times begins; those between are for :mod:`collectors.text.graph`."""

US, NS, COUNTER, RELATIVE = 1, 2, 3, 4
"""Form of the time stamp."""

_NEWLINES = np.uint64(0x0A0A0A0A0A0A0A0A)
_HYPHENS = np.uint64(0x2D2D2D2D2D2D2D2D)
_IRQS_OFF, _HARDIRQ, _SOFTIRQ, _NMI, _PREEMPT_OFF, _UNKNOWN = 1, 2, 4, 8, 16, 128
_MAX_SECONDS = 9_000_000_000
_MAX_PID = 0x7FFF_FFFF
# Typed, so that functions are compiled once and not for every literal.
_ZERO, _TEN, _SIXTEEN = np.int64(0), np.int64(10), np.int64(16)
_POWERS = np.array([10**k for k in range(10)], np.int64)


@piece
def is_digit(c: int) -> bool:
    """Whether a byte is a decimal digit."""
    return 48 <= c <= 57


@piece
def skip_spaces(buf: Any, p: int, n: int) -> int:
    """Position of the first byte from `p` on that is no space."""
    while p < n and load_byte(buf, p) == 32:
        p += 1
    return p


@piece
def _hex_digit(c: Any) -> Any:
    if 48 <= c <= 57:
        return c - 48
    c |= 32
    if 97 <= c <= 102:
        return c - 87
    return -1


@part
def _raw_context(flags: Any) -> Any:
    """`ctx` from the trace entry's flags byte (include/linux/trace_events.h: TRACE_FLAG_*)."""
    ctx = flags & 1
    if flags & 0x08:
        ctx |= _HARDIRQ
    if flags & 0x10:
        ctx |= _SOFTIRQ
    if flags & 0x40:
        ctx |= _NMI
    return ctx


@piece
def context(buf: Any, begin: int, end: int, columns: Any) -> Any:
    """`ctx` from the flag letters (kernel/trace/trace_output.c: trace_print_lat_fmt)."""
    c = load_byte(buf, begin)
    width = end - begin
    if c == 45 and width >= 4 and load_byte(buf, begin + 2) == 120:
        flags = _ZERO  # trace-cmd report -R -l: "-0x14"
        for p in range(begin + 3, min(end, begin + 11)):
            digit = _hex_digit(load_byte(buf, p))
            if digit < 0:
                return _UNKNOWN
            flags = flags * 16 + digit
        return _raw_context(flags)
    ctx = 0
    if c in (100, 68):  # d, D
        ctx = _IRQS_OFF
    if width > 8:
        return ctx | _UNKNOWN
    irq = columns[width, 0]
    depth = columns[width, 1]
    if irq < 0:
        return ctx | _UNKNOWN
    c = load_byte(buf, begin + irq)
    if c == 115:  # s
        ctx |= _SOFTIRQ
    elif c == 104:  # h
        ctx |= _HARDIRQ
    elif c == 72:  # H
        ctx |= _HARDIRQ | _SOFTIRQ
    elif c == 122:  # z
        ctx |= _NMI
    elif c == 90:  # Z
        ctx |= _NMI | _HARDIRQ
    if depth >= 0:
        c = load_byte(buf, begin + depth)
        if c not in (46, 48):  # . 0
            ctx |= _PREEMPT_OFF
    return ctx


@part
def time_stamp(buf: Any, p: int, n: int, out: Any) -> bool:
    """Read a time stamp and the colon after it; `p` is at its first digit."""
    value = 0
    digits = 0
    c = byte_at(buf, p, n)
    while is_digit(c):
        value = value * 10 + (c - 48)
        digits += 1
        p += 1
        if digits > 18:
            return False
        c = byte_at(buf, p, n)
    if digits == 0:
        return False
    if c == 46:  # .
        p += 1
        fraction = 0
        places = 0
        c = byte_at(buf, p, n)
        while is_digit(c):
            fraction = fraction * 10 + (c - 48)
            places += 1
            p += 1
            if places > 9:
                return False
            c = byte_at(buf, p, n)
        # Android's recorder ends its files with a line of its own, "dummy-0000 [000] 0.0: 0: …"
        if places < 3 or value > _MAX_SECONDS:
            return False
        out[TS] = value * 1_000_000_000 + fraction * _POWERS[9 - places]
        out[UNIT] = NS if places > 6 else US
    elif c == 117 and byte_at(buf, p + 1, n) == 115:  # us
        if digits > 15:
            return False
        out[TS] = value * 1000
        out[UNIT] = RELATIVE
        p += 2
        c = byte_at(buf, p, n)
        if c not in (58, 10):  # the delay mark: one of "$@*#!+ "
            p += 1
    else:
        out[TS] = value
        out[UNIT] = COUNTER
        # latency format of a clock that is no time: the delay mark, no "us"
        if c in (36, 64, 42, 35, 33, 43, 32) and byte_at(buf, p + 1, n) == 58:
            p += 1
    if byte_at(buf, p, n) != 58:
        return False
    out[BODY] = skip_spaces(buf, p + 1, n)
    return True


@piece
def after_hyphen(buf: Any, p: int, n: int, columns: Any, out: Any) -> bool:
    """Read everything from the task's pid to the body; `p` is after the hyphen."""
    pid = 0
    first = p
    c = byte_at(buf, p, n)
    while is_digit(c) and p - first < 10:
        pid = pid * 10 + (c - 48)
        p += 1
        c = byte_at(buf, p, n)
    if p == first or pid > _MAX_PID:
        return False
    out[PID] = pid
    p = skip_spaces(buf, p, n)
    c = byte_at(buf, p, n)
    if c == 40:  # ( TGID )
        p += 1
        c = byte_at(buf, p, n)
        while c == 32 or c == 45 or is_digit(c):  # noqa: PLR1714 - chains compile faster
            p += 1
            c = byte_at(buf, p, n)
        if c != 41:
            return False
        p = skip_spaces(buf, p + 1, n)
        c = byte_at(buf, p, n)
    bracketed = c == 91  # [
    if bracketed:
        p += 1
        c = byte_at(buf, p, n)
    cpu = 0
    first = p
    while is_digit(c) and p - first < 5:
        cpu = cpu * 10 + (c - 48)
        p += 1
        c = byte_at(buf, p, n)
    if p == first or cpu > 0xFFFE:
        return False
    out[CPU] = cpu
    if bracketed:
        # three digits at least: a task may be called "a-1 [0] 1.0:"
        if c != 93 or p - first < 3:
            return False
        out[STAMP] = p + 1
        p = skip_spaces(buf, p + 1, n)
        c = byte_at(buf, p, n)
    elif c <= 32 or is_digit(c):
        return False
    out[CTX] = _UNKNOWN
    if not is_digit(c):
        first = p
        while c > 32 and p - first < 12:
            p += 1
            c = byte_at(buf, p, n)
        if c != 32:
            return False
        out[CTX] = context(buf, first, p, columns)
        out[STAMP] = p
        p = skip_spaces(buf, p, n)
    return time_stamp(buf, p, n, out)


@part
def _number(buf: Any, p: int, n: int, base: Any) -> Any:
    """Read a number after spaces; return the position after it (-1: none) and the value."""
    p = skip_spaces(buf, p, n)
    first = p
    value = _ZERO
    while p - first < 16:
        digit = _hex_digit(byte_at(buf, p, n))
        if digit < 0 or digit >= base:
            break
        value = value * base + digit
        p += 1
    if p == first:
        return np.int64(-1), value
    return p, value


@part
def verbose(buf: Any, begin: int, n: int, out: Any) -> bool:
    """Read the left half of a line of latency-format with verbose.

    kernel/trace/trace_output.c: trace_print_lat_context, lat_print_timestamp.
    """
    p = begin + 16
    if p >= n or load_byte(buf, p) != 32:
        return False
    p, pid = _number(buf, p, n, _TEN)
    if p < 0 or byte_at(buf, p, n) != 32 or pid > _MAX_PID:
        return False
    p, cpu = _number(buf, p, n, _TEN)
    if p < 0 or byte_at(buf, p, n) != 32 or cpu > 0xFFFE:
        return False
    p, raw_flags = _number(buf, p, n, _TEN)
    if p < 0 or byte_at(buf, p, n) != 32:
        return False
    p, depth = _number(buf, p, n, _SIXTEEN)
    if p < 0 or byte_at(buf, p, n) != 32:
        return False
    p, _ = _number(buf, p, n, _SIXTEEN)  # index of the entry
    if p < 0:
        return False
    p = skip_spaces(buf, p, n)
    if byte_at(buf, p, n) != 91:  # [ time in hex ]
        return False
    p, _ = _number(buf, p + 1, n, _SIXTEEN)
    if p < 0 or byte_at(buf, p, n) != 93:
        return False
    p, milliseconds = _number(buf, p + 1, n, _TEN)
    if p < 0 or byte_at(buf, p, n) != 46 or milliseconds > _MAX_SECONDS:
        return False
    p, microseconds = _number(buf, p + 1, n, _TEN)
    if p < 0 or microseconds > 999:
        return False
    # "ms (+0.139ms):", the difference to the next entry
    if byte_at(buf, p, n) != 109 or byte_at(buf, p + 1, n) != 115:
        return False
    if byte_at(buf, p + 2, n) != 32 or byte_at(buf, p + 3, n) != 40:
        return False
    limit = min(n, p + 40)
    p += 4
    while p < limit and load_byte(buf, p) != 41 and load_byte(buf, p) != 10:
        p += 1
    if byte_at(buf, p, n) != 41 or byte_at(buf, p + 1, n) != 58:
        return False
    out[PID] = pid
    out[CPU] = cpu
    out[CTX] = _raw_context(raw_flags) | (_PREEMPT_OFF if depth & 15 else 0)
    out[TS] = milliseconds * 1_000_000 + microseconds * 1000
    out[UNIT] = RELATIVE
    out[BODY] = skip_spaces(buf, p + 2, n)
    out[STAMP] = out[COMM_BEGIN] = begin
    out[COMM_END] = begin + 16
    return True


@part
def left_half(buf: Any, begin: int, n: int, columns: Any, out: Any) -> bool:
    """Read task, CPU, context and time of the line at `begin` into `out`.

    Parameters
    ----------
    buf : int
        Address of the text.
    begin, n : int
        Start and end of the line.
    columns : ndarray of int64, shape (9, 2)
        By number of flag columns: which one tells hardirq/softirq, which the preemption depth;
        -1 unknown.
    out : ndarray of int64
        Result: PID, CPU, CTX, TS, UNIT, BODY, STAMP and the bounds of the task's name.

    Returns
    -------
    bool
        False where no grammar accepts the line.
    """
    # Column 16, column 8, then anywhere: a prefix ("trace.dat: ") or columns of another width.
    limit = begin
    p = begin + 16
    attempt = 0
    while True:
        if p + 1 < n and load_byte(buf, p) == 45 and after_hyphen(buf, p + 1, n, columns, out):
            out[COMM_BEGIN] = begin
            out[COMM_END] = p
            return True
        attempt += 1
        if attempt == 1:
            p = begin + 8
        elif attempt == 2:
            if p + 9 < n and load_byte(buf, begin + 16) == 32 and verbose(buf, begin, n, out):
                return True
            # The left half is short.
            limit = find_byte(buf, begin, min(n, begin + 512), _NEWLINES)
            p = begin
        else:
            p += 1
        if attempt >= 2:
            p = find_byte(buf, p, limit, _HYPHENS)
            if p >= limit:
                return False


@piece
def comm_words(buf: Any, begin: int, end: int, n: int) -> Any:
    """Task name as two words: 16 bytes, right-aligned, filled up with spaces.

    A name has at most 15 bytes (include/linux/sched.h: TASK_COMM_LEN); of a longer text the
    last 16 count, which leaves the name and drops the prefix of several merged inputs.
    """
    if end - begin == 16:
        return word_at(buf, begin, n), word_at(buf, begin + 8, n)
    first = np.uint64(0x2020202020202020)
    second = np.uint64(0x2020202020202020)
    eight = np.uint64(8)
    top = np.uint64(56)
    for p in range(max(begin, end - 16), end):
        carry = second & np.uint64(255)
        first = (first >> eight) | (carry << top)
        second = (second >> eight) | (np.uint64(load_byte(buf, p)) << top)
    return first, second
