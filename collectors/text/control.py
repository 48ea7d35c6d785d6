"""Lines of a text trace that are no events: comments, losses, stacks, blanks (compiled)."""

from __future__ import annotations

from typing import Any

import numpy as np

from collectors.compiled import part
from collectors.probes import KIND_LOST, KIND_STARTED
from collectors.raw import UNKNOWN_CPU
from collectors.text.line import CPU, TS
from collectors.text.words import byte_at, find_byte, load_byte, word_at

OTHER, NOTHING, STACK_LINE = 0, 1, 2
"""What a line is: not one of these, nothing to keep, a line of a stack trace (`` => symbol``)."""


def _bytes(text: bytes) -> Any:
    return np.uint64(int.from_bytes(text, "little"))


_NEWLINES = _bytes(b"\n" * 8)
_STARTED_1, _STARTED_2 = _bytes(b"##### CP"), _bytes(b"buffer s")
_CPU_COLON, _CPUS, _CPU_SPACE = _bytes(b"CPU:"), _bytes(b"cpus="), _bytes(b"CPU ")
_VERSION = _bytes(b"version ")
_LOST, _EVENTS = _bytes(b"[LOST "), _bytes(b"[EVENTS ")
_MASK4, _MASK5 = np.uint64(0xFFFF_FFFF), np.uint64(0xFF_FFFF_FFFF)
_MASK6 = np.uint64(0xFFFF_FFFF_FFFF)


@part
def _blank_or_stack(buf: Any, begin: int, end: int) -> int:
    p = begin
    while p < end and load_byte(buf, p) in (32, 9, 13):
        p += 1
    if p >= end:
        return NOTHING
    if p + 1 < end and load_byte(buf, p) == 61 and load_byte(buf, p + 1) == 62:
        return STACK_LINE
    return OTHER


@part
def control(buf: Any, begin: int, end: int, n: int, out: Any) -> int:
    """Recognise a line that is no event.

    Returns
    -------
    int
        OTHER, NOTHING, STACK_LINE; KIND_LOST or KIND_STARTED (larger): a marker, with its CPU and
        number of events (-1 unknown) in `out`.
    """
    c = byte_at(buf, begin, n)
    if c == 35:  # #
        if word_at(buf, begin, n) != _STARTED_1:
            return NOTHING
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
            return NOTHING
        return _blank_or_stack(buf, begin, end)
    cpu: Any = 0
    digits = 0
    while p < end and 48 <= load_byte(buf, p) <= 57 and digits < 5:
        cpu = cpu * 10 + load_byte(buf, p) - 48
        digits += 1
        p += 1
    if digits == 0 or cpu >= UNKNOWN_CPU:
        return OTHER
    out[CPU] = cpu
    out[TS] = -1
    if kind == KIND_STARTED:
        return kind if word_at(buf, p + 1, n) == _STARTED_2 else NOTHING
    while p < end and load_byte(buf, p) != 91:  # [
        p += 1
    if word_at(buf, p, n) & _MASK6 == _LOST & _MASK6:
        p += 6
    elif word_at(buf, p, n) == _EVENTS:
        return kind
    elif p + 1 < end and 48 <= load_byte(buf, p + 1) <= 57:
        p += 1
    else:
        return NOTHING  # [SUBBUFFER START]
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
def is_frame(buf: Any, p: int, end: int) -> bool:
    """Whether a line of a stack trace stands at `p`."""
    while p < end and (load_byte(buf, p) == 32 or load_byte(buf, p) == 9):
        p += 1
    return p + 1 < end and load_byte(buf, p) == 61 and byte_at(buf, p + 1, end) == 62


@part
def block_at(buf: Any, p: int, end: int, found: Any) -> None:
    """Find the end of the block that begins at `p`: ``found[0]``, its lines in ``found[1]``."""
    lines = 0
    while is_frame(buf, p, end):
        p = min(find_byte(buf, p, end, _NEWLINES) + 1, end)
        lines += 1
    found[0] = p
    found[1] = lines
