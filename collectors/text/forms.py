"""Forms of tracefs text other than the usual one: function_graph, and without any context."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

DECIMAL: Final = 10
"""Base of the numbers in text of option ``raw``."""
HEXADECIMAL: Final = 16
"""Base of the numbers in text of option ``hex``."""

# Columns of the function_graph tracer, as bits
ABSTIME, RELTIME, CPU, TASK, FLAGS, TIMES = 1, 2, 4, 8, 16, 32

_HEADLINE: Final = re.compile(r"^#(.*) FUNCTION CALLS\s*$")
_GRAPH: Final = re.compile(
    r"^(?P<abs>\s{0,40}+\d{1,20}\.\d{6} \|  )?(?P<rel>\s{0,40}+\d{1,20} us \|  )?"
    r"(?P<cpu>\s{0,40}+\d{1,6}\) )?"
    r"(?P<task>\s{0,40}+\S.{0,20}-\d{1,10}\s{0,40}+\| )?(?P<flags>\s{0,40}+[^\s|]{4,8} \| )?"
    r"(?P<times>[ $@*#!+]{0,40}(?:\d{1,20}(?:\.\d{1,9})? us)?\s{0,40}\|  )?"
    r"\s*+(?:[\w.]++(?: \[\w+\])?\(.*\)(?: \{|;)|\}|/\*)"
)
_BITS: Final = (
    ("abs", ABSTIME), ("rel", RELTIME), ("cpu", CPU),
    ("task", TASK), ("flags", FLAGS), ("times", TIMES),
)  # fmt: skip
_BETWEEN: Final = re.compile(
    r"^(?:#| -{8,}+$| {0,40}\d{1,6}\) .{1,40}-\d{1,10} {1,40}=> .{1,40}-\d{1,10} {0,40}$)"
)
_FIELDS: Final = re.compile(r": \(\S{1,200}\+0x[0-9a-f]{1,8}/|: .{0,200}\b\w{1,40}=[^ =]| <-\w")
"""A probe's place, a field and its value, or a function's caller, in the line of an event."""
_NAMELESS: Final = re.compile(r"^(?:[A-Za-z_][\w.+/-]*:(?: |$)|[A-Za-z_][\w.]*(?: \[\w+\])? <-)")
_NUMBERED: Final = (
    (
        DECIMAL,
        re.compile(r"^\d+ \d+ \d+ (?:type: \d+$|[#:] [0-9a-f]+|[0-9a-f]{4,16} [0-9a-f]{4,16}$)"),
    ),
    (HEXADECIMAL, re.compile(r"^[0-9a-f]{8} [0-9a-f]{8} [0-9a-f]{16} ")),
)
_LINES: Final = 400
_WIDEST: Final = 300


def graph_columns(lines: list[str]) -> int:
    """Find out which columns a text of the function_graph tracer has.

    The header tells (kernel/trace/trace_functions_graph.c: __print_graph_headers_flags); of
    ``trace_pipe``, which has none, the first lines.

    Parameters
    ----------
    lines
        First lines of a text.

    Returns
    -------
    int
        Bits; -1 where the text is not of this tracer.
    """
    for line in lines:
        if match := _HEADLINE.match(line):
            head = match[1]
            without = head.replace("REL TIME", "")
            return (
                (ABSTIME if "TIME" in without else 0)
                | (RELTIME if without != head else 0)
                | (CPU if " CPU" in head else 0)
                | (TASK if "TASK/PID" in head else 0)
                | (FLAGS if "||" in head else 0)
                | (TIMES if "DURATION" in head else 0)
            )
    data = [line for line in lines if line.strip() and not _BETWEEN.match(line[:_WIDEST])]
    data = data[:_LINES]
    votes: Counter[int] = Counter()
    for line in data:
        match = _GRAPH.match(line[:_WIDEST])
        if match and (match["cpu"] or match["times"]):
            votes[sum(bit for name, bit in _BITS if match[name])] += 1
    if 2 * votes.total() <= len(data):
        return -1
    return votes.most_common(1)[0][0]


def is_nameless(lines: list[str]) -> bool:
    """Tell text of option ``nocontext-info``: events without task, CPU and time.

    Many texts have a word and a colon in each line: a header, or a line with a probe's place or
    a field has to show that these are events.
    """
    data = [line for line in lines if line.strip() and not line.startswith("#")][:_LINES]
    if not data or not all(_NAMELESS.match(line[:_WIDEST]) for line in data):
        return False
    headed = any(line.startswith("# tracer:") for line in lines)
    return headed or any(_FIELDS.search(line[:_WIDEST]) for line in data)


def base_of(lines: list[str]) -> int:
    """Tell text of option ``raw`` or ``hex``, which consists of numbers.

    kernel/trace/trace.c: print_raw_fmt, print_hex_fmt.

    Returns
    -------
    int
        DECIMAL, HEXADECIMAL, or 0 for any other text.
    """
    data = [line for line in lines if line.strip() and not line.startswith(("#", "CPU:"))][:_LINES]
    for base, pattern in _NUMBERED:
        if 2 * sum(bool(pattern.match(line[:_WIDEST])) for line in data) > len(data):
            return base
    return 0
