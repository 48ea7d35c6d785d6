"""The right half of a trace line: values of probes, and sched_switch (compiled)."""

from __future__ import annotations

from typing import Any

import numpy as np

from collectors.compiled import part, piece
from collectors.text.digits import decimal, decimal_digits, hex_digits, hexadecimal
from collectors.text.words import byte_at, find_byte, load_byte, load_word, word_at

_ARROWS = np.uint64(0x3D3D3D3D3D3D3D3D)
_NEXT_COMM = np.uint64(int.from_bytes(b"next_com", "little"))
_0X, _TWO = np.uint64(int.from_bytes(b"0x", "little")), np.uint64(0xFFFF)
_BAD, _GOOD, _FAULT = 0, 1, 2
_MASK32 = 0xFFFF_FFFF
_LEAST_20 = 10**19 - (1 << 64)
_NO_COUNT = -2
_PAGES, _FIVE = np.uint64(int.from_bytes(b"pages", "little")), np.uint64((1 << 40) - 1)
_REASON, _SIX = np.uint64(int.from_bytes(b"reason", "little")), np.uint64((1 << 48) - 1)
_TASK_UNINTERRUPTIBLE = 2  # include/linux/sched.h


@part
def _skip_token(buf: Any, p: int, n: int) -> int:
    """Position after a value that is no number: a string, an array, a word."""
    c = byte_at(buf, p, n)
    close = 0
    if c == 34:  # "
        close = 34
    elif c == 123:  # {
        close = 125
    elif c == 40:  # (
        close = 41
    if close:
        q = p + 1
        while q < n and load_byte(buf, q) != 10 and load_byte(buf, q) != close:
            q += 1
        if q < n and load_byte(buf, q) == close:
            return q + 1
    while p < n and load_byte(buf, p) > 32:
        p += 1
    return p


@piece
def value_at(buf: Any, p: int, end: int, n: int) -> Any:
    """Read the value of an argument.

    kernel/trace/trace_probe.c: print_type_u32 and its relatives: x* types as 0x.., u* decimal,
    s* signed; ``(fault)`` where the fetch failed; arrays in braces. A negative number is the
    32-bit word that it stands for.

    Parameters
    ----------
    buf : int
        Address of the text.
    p, end, n : int
        Start of the value; end of its line; end of the text.

    Returns
    -------
    position, value, status
        Status 0: no number; 1: fine; 2: ``(fault)``.
    """
    if p + 16 < n:  # numbers of up to eight digits
        word = load_word(buf, p)
        if word & _TWO == _0X:
            word = load_word(buf, p + 2)
            digits = hex_digits(word)
            last = p + 2 + digits
            if digits > 0 and load_byte(buf, last) <= 32:
                return last, hexadecimal(word, digits), np.int64(_GOOD)
        else:
            digits = decimal_digits(word)
            last = p + digits
            if digits > 0 and load_byte(buf, last) <= 32:
                return last, decimal(word, digits), np.int64(_GOOD)
    return any_value_at(buf, p, end)


@part
def any_value_at(buf: Any, p: int, n: int) -> Any:
    """As :func:`value_at`, for values of every form, up to `n`."""
    begin = p
    value: Any = np.int64(0)
    digits = 0
    c = byte_at(buf, p, n)
    if c == 48 and byte_at(buf, p + 1, n) | 32 == 120:  # 0x
        p += 2
        c = byte_at(buf, p, n)
        while True:
            if 48 <= c <= 57:
                digit = c - 48
            else:
                digit = (c | 32) - 87
                if digit < 10 or digit > 15:
                    break
            value = (value << 4) | digit
            digits += 1
            p += 1
            c = byte_at(buf, p, n)
        good = 0 < digits <= 16
    else:
        negative = c == 45
        if negative:
            p += 1
            c = byte_at(buf, p, n)
        while 48 <= c <= 57 and digits < 21:
            value = value * 10 + (c - 48)
            digits += 1
            p += 1
            c = byte_at(buf, p, n)
        # Of 20 digits, those that fit into 64 bits have the highest one set (%lu of an address).
        fits = digits < 20 or (_LEAST_20 <= value < 0 and load_byte(buf, p - 20) == 49)
        good = digits > 0 and (digits <= 18 or (fits and not negative))
        if negative:
            value = -value
            if value >= -(1 << 31):
                value &= _MASK32
    if good and c <= 32:
        return p, value, np.int64(_GOOD)
    end = _skip_token(buf, begin, n)
    if byte_at(buf, begin, n) == 40:
        return end, np.int64(0), np.int64(_FAULT)
    return end, np.int64(0), np.int64(_BAD)


@part
def _number_before(buf: Any, end: int, begin: int) -> Any:
    """Read the decimal number that ends at `end`; return its start and value, -1 if none."""
    p = end
    value = 0
    scale = 1
    while p > begin and 48 <= load_byte(buf, p - 1) <= 57 and end - p < 10:
        p -= 1
        value += (load_byte(buf, p) - 48) * scale
        scale *= 10
    if p == end:
        return p, -1
    return p, value


@part
def _before_decimal(buf: Any, end: int, begin: int) -> int:
    """End of what stands before `` (120)``, which option ``fields`` puts behind hexadecimals."""
    p = end
    if p > begin and load_byte(buf, p - 1) == 41:
        while p > begin and load_byte(buf, p - 1) > 32:
            p -= 1
        while p > begin and load_byte(buf, p - 1) == 32:
            p -= 1
    return p


@part
def _pid_before(buf: Any, end: int, begin: int) -> int:
    """Pid in the token before the last one: ``pid=15 prio=120`` or ``name:15 [120]``.

    With option ``fields`` ``pid=0xf (15) prio=0x78 (120)``.
    """
    p = _before_decimal(buf, end, begin)
    while p > begin and load_byte(buf, p - 1) > 32:  # the priority
        p -= 1
    while p > begin and load_byte(buf, p - 1) == 32:
        p -= 1
    decimal = p > begin and load_byte(buf, p - 1) == 41
    p, value = _number_before(buf, p - 1 if decimal else p, begin)
    if decimal:
        return value if value >= 0 and load_byte(buf, p - 1) == 40 else -1
    if value >= 0 and p > begin and load_byte(buf, p - 1) in (58, 61):  # : =
        return value
    return -1


@part
def switch_at(buf: Any, p: int, end: int) -> Any:
    """Read the payload of sched:sched_switch.

    Forms: the kernel's ``prev_comm=.. prev_pid=.. prev_prio=.. prev_state=S ==> next_comm=..
    next_pid=.. next_prio=..`` (include/trace/events/sched.h), libtraceevent's plugin
    ``name:pid [prio] S ==> name:pid [prio]``, and trace-cmd report -R and option ``fields``, which
    have no arrow and the state as a number. Names may hold anything, so both halves are read from
    their ends.

    Returns
    -------
    prev_pid, blocked, next_pid
        The pids are -1 where the payload is none of these.
    """
    last = end
    while last > p and load_byte(buf, last - 1) <= 32:
        last -= 1
    # Where the halves meet: the position of the state's last byte plus one.
    meet = -1
    q = find_byte(buf, p, end, _ARROWS)
    while q < end:
        if (
            byte_at(buf, q + 1, end) == 61
            and byte_at(buf, q + 2, end) == 62
            and byte_at(buf, q + 3, end) == 32
            and q > p + 1
            and load_byte(buf, q - 1) == 32
        ):
            # Only after "prev_state=S" or "[120] S" is it the arrow of the event.
            s = q - 1
            while s > p and load_byte(buf, s - 1) > 32 and load_byte(buf, s - 1) != 61:
                s -= 1
            bracket = s > p + 1 and load_byte(buf, s - 2) == 93
            if s > p and (load_byte(buf, s - 1) == 61 or bracket):
                meet = q - 1
                break
        q = find_byte(buf, q + 1, end, _ARROWS)
    if meet < 0:
        q = p
        while q < end:
            if word_at(buf, q, end) == _NEXT_COMM and load_byte(buf, q - 1) == 32:
                meet = q - 1
                break
            q += 1
        if meet < 0:
            return -1, 0, -1
    meet = _before_decimal(buf, meet, p)
    s = meet
    blocked = 0
    while s > p and load_byte(buf, s - 1) > 32 and load_byte(buf, s - 1) != 61:
        s -= 1
        if load_byte(buf, s) == 68:  # D
            blocked = 1
    if 48 <= load_byte(buf, s) <= 57:
        state = any_value_at(buf, s, end)
        if state[2] == _GOOD:
            # 0x80 and above are reported for idle tasks and others (TASK_REPORT_IDLE)
            blocked = 1 if state[1] & _TASK_UNINTERRUPTIBLE else 0
    while s > p and load_byte(buf, s - 1) > 32:  # prev_state=
        s -= 1
    while s > p and load_byte(buf, s - 1) == 32:
        s -= 1
    return _pid_before(buf, s, p), blocked, _pid_before(buf, last, meet)


@part
def tlb_flush_at(buf: Any, p: int, end: int, values: Any) -> None:
    """Read the payload of tlb:tlb_flush into `values`: reason, pages (-1: all).

    Forms: the kernel's ``pages:-1 reason:local mm shootdown (3)`` (include/trace/events/tlb.h), and
    ``reason=3 pages=18446744073709551615`` of trace-cmd report -R and of option ``fields``.
    """
    values[0] = values[1] = -1
    slot = 0
    while p < end:
        c = load_byte(buf, p)
        if c == 112 and word_at(buf, p, end) & _FIVE == _PAGES:
            slot = 1
            p += 6
        elif c == 114 and word_at(buf, p, end) & _SIX == _REASON:
            slot = 0
            p += 7
        elif c == 40:  # (3)
            slot = 0 if values[0] < 0 else -1
            p += 1
        else:
            p += 1
            continue
        number = _count_at(buf, p, end)
        if slot >= 0 and number > _NO_COUNT:
            values[slot] = number


@part
def _count_at(buf: Any, p: int, end: int) -> Any:
    """Read a number, decimal or hexadecimal; -1 for all that is too large for a count."""
    if byte_at(buf, p, end) == 45:
        return np.int64(-1)
    base = 10
    if byte_at(buf, p, end) == 48 and byte_at(buf, p + 1, end) | 32 == 120:
        base = 16
        p += 2
    first = p
    value: Any = np.int64(0)
    while p < end and p - first < 9:
        digit = load_byte(buf, p) - 48
        if digit > 9:
            digit = (load_byte(buf, p) | 32) - 87
        if digit < 0 or digit >= base:
            break
        value = value * base + digit
        p += 1
    if p == first:
        return np.int64(_NO_COUNT)
    return np.int64(-1) if p - first == 9 else value
