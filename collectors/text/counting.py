"""What the scanners of all text dialects count of a line, whatever it is (compiled)."""

from __future__ import annotations

from typing import Any

from collectors.compiled import part, piece
from collectors.text.control import OTHER, STACK_LINE
from collectors.text.layout import Stat
from collectors.text.line import COUNTER, CTX, NS, RELATIVE, TS, UNIT, US
from collectors.text.rows import write_marker

if tuple(Stat.MICROSECONDS + unit - US for unit in (US, NS, COUNTER, RELATIVE)) != (
    Stat.MICROSECONDS,
    Stat.NANOSECONDS,
    Stat.COUNTER,
    Stat.RELATIVE,
):
    raise AssertionError("the counters of time stamp forms follow their codes")


@part
def no_event(what: Any, p: int, out: Any, values: Any, rows: Any, at: int, stats: Any) -> Any:
    """Count the line at `p` that is no event.

    Parameters
    ----------
    what
        As :func:`collectors.text.control.control` says; OTHER: the line could not be read.

    Returns
    -------
    int
        Rows written: 1 for a marker, else 0.
    """
    line = stats[Stat.LINES]
    stats[Stat.LINES] += 1
    if what == OTHER:
        if stats[Stat.UNREAD] == 0:
            stats[Stat.FIRST_UNREAD] = line
            stats[Stat.FIRST_UNREAD_AT] = p
        stats[Stat.UNREAD] += 1
        return 0
    if what == STACK_LINE:
        stats[Stat.STACK] += 1
        return 0
    stats[Stat.CONTROL] += 1
    if what > STACK_LINE:
        write_marker(rows, at, out, values, what)
        return 1
    return 0


@piece
def count_event(out: Any, stats: Any, lines: int) -> None:
    """Count an event, its `lines` (a stack trace has several) and what its left half had."""
    stats[Stat.MICROSECONDS + out[UNIT] - US] += 1
    stats[Stat.NO_FLAGS] += out[CTX] >> 7  # bit 128: not known
    stats[Stat.MIN_TS] = min(stats[Stat.MIN_TS], out[TS])
    stats[Stat.MAX_TS] = max(stats[Stat.MAX_TS], out[TS])
    stats[Stat.EVENTS] += 1
    stats[Stat.LINES] += lines
