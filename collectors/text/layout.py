"""What the compiled scanner and the Python around it agree on: columns, states, kinds."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, NamedTuple

import numpy as np

PLAIN: Final = 0xFFFF
"""Kind of a head that is counted only."""
FUNCTION_EVENT: Final = 0xFFFE
"""Kind of trace-cmd's ``function:`` event: the function is in the payload."""
PLAIN_NAME: Final = 0xFFFD
"""As PLAIN, for an event whose payload begins with a parenthesis and is no probe."""
GRAPH_EVENT: Final = 0xFFFC
"""Kind of trace-cmd's ``funcgraph_entry:`` and ``funcgraph_exit:``."""

NO_EVENT: Final = 2
"""Of :attr:`Cell.UNKEPT`: the piece has told no event of the CPU so far."""
MAX_ARGS: Final = 128
"""Arguments of one event (kernel/trace/trace_probe.h: MAX_TRACE_ARGS)."""


class Space(IntEnum):
    """What a text in the table of heads is; equal texts of two spaces are two entries."""

    HEAD = 0  # "kmap_high: (kmap_high+0x0/0x260)", "sched_switch:"
    FUNCTION = 1  # "kmap_high" of the function tracer
    SITE = 2  # its parent
    GRAPH = 3  # "kmap_high" of the function_graph tracer
    STACK = 4  # the lines of a stack trace


class Cell(IntEnum):
    """Cells of the scanner's state: where it is, and what it asks for."""

    POSITION = 0  # start of the line to read next
    END = 1  # where to stop
    ROWS = 2  # rows written
    BEGIN = 3  # start, end and space of the text that is asked for
    FINISH = 4
    SPACE = 5
    HEAD = 6  # for an argument: its head
    STACKS = 7  # 1: there are too many different stacks, those not in the table are left out
    UNKEPT = 8  # for each CPU, modulo 64: 1 where its last event became no row; NO_EVENT: none yet
    # Of collectors.text.lefts: bytes up to the time stamp (0: not known yet), the column of times
    # up to the point, its bytes, and the second in ns
    WIDTH = 72
    SECONDS_TEXT = 73
    SECONDS_LENGTH = 74
    SECONDS = 75
    # Parts of a line (collectors.text.line, graph), an event's values, its arguments, a head
    OUT = 76
    VALUES = 96
    SEEN = 101
    FOUND = 105
    CELLS = 109


class Scan(NamedTuple):
    """All that a scanner works on: its text, where it is in it, what it knows and what it writes.

    Attributes
    ----------
    buf : int
        Address of the whole text, mapped.
    n : int
        Its length.
    work : ndarray of int64, shape (Cell.CELLS,)
        State (:class:`Cell`).
    out, values, seen, found : ndarray of int64
        Of it: the parts of a line, an event's values, its arguments, a head.
    stats : ndarray of int64
        Counters (:class:`Stat`), added to.
    rows : ndarray of int64, shape (capacity, 9)
        Block of rows, as words.
    columns : ndarray of int64, shape (9, 2)
        What a dialect knows of its lines before it reads them (:mod:`collectors.text.line`,
        :mod:`collectors.text.perf_script.line`, :mod:`collectors.text.numbered_scan`).
    slots, hashes, heads, args
        Table of heads and of their arguments; ``heads[:, COUNT]`` is added to.
    comm_slots, comm_keys
        Table of task names.
    lefts
        Table of left halves (:func:`collectors.text.lefts.recall`); without rows, none is kept.
    """

    buf: Any
    n: Any
    work: Any
    out: Any
    values: Any
    seen: Any
    found: Any
    stats: Any
    rows: Any
    columns: Any
    slots: Any
    hashes: Any
    heads: Any
    args: Any
    comm_slots: Any
    comm_keys: Any
    lefts: Any


class Status(IntEnum):
    """Why the scanner came back."""

    DONE = 0
    FULL = 1  # the block of rows is full
    UNKNOWN_HEAD = 2
    UNKNOWN_ARGUMENT = 3
    UNKNOWN_COMM = 4


class Head(IntEnum):
    """Columns of the table of heads."""

    REF = 0  # an occurrence in the text
    LENGTH = 1
    SPACE = 2
    KIND = 3
    SITE = 4
    CALLER = 5
    FIRST_ARG = 6
    ARGS = 7
    COUNT = 8
    COLUMNS = 9


class Arg(IntEnum):
    """Columns of the table of arguments."""

    REF = 0
    LENGTH = 1
    SLOT = 2  # -1: of no use
    COLUMNS = 3


class Left(IntEnum):
    """Columns of the table of left halves (:mod:`collectors.text.lefts`)."""

    REF = 0  # an occurrence in the text
    WIDTH = 1  # its bytes; 0: an empty row
    PID = 2
    CPU = 3
    CTX = 4
    NAME = 5  # bytes of the task's name
    COMM = 6  # its number, -1 as long as no row needs it
    COLUMNS = 8


class Stat(IntEnum):
    """What the scanner counts."""

    LINES = 0
    EVENTS = 1
    UNREAD = 2
    FIRST_UNREAD = 3  # line number within the chunk, from 0
    FIRST_UNREAD_AT = 4  # its byte offset
    CONTROL = 5
    STACK = 6
    MICROSECONDS = 7  # events by form of their time stamp
    NANOSECONDS = 8
    COUNTER = 9
    RELATIVE = 10  # latency formats: since the start of the buffer
    MIN_TS = 11
    MAX_TS = 12
    NO_FLAGS = 13
    FUNCTIONS = 14  # lines of the function tracer
    BAD_VALUES = 15  # arguments that are no number and not "(fault)"
    FAULTS = 16
    GRAPHS = 17  # lines of the function_graph tracer
    NO_TASKS = 18  # of them without a task
    CELLS = 19


def new_stats() -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Counters at zero."""
    stats = np.zeros(Stat.CELLS, np.int64)
    stats[Stat.MIN_TS] = np.iinfo(np.int64).max
    stats[Stat.MAX_TS] = np.iinfo(np.int64).min
    stats[Stat.FIRST_UNREAD] = -1
    return stats
