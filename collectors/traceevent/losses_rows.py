"""Events before and after the markers of losses (compiled)."""

from __future__ import annotations

from typing import Any

from collectors.compiled import loop
from collectors.probes import KIND_LOST, KIND_STARTED
from collectors.raw import UNKNOWN_CPU


@loop
def befores(rows: Any, last: Any, has_last: Any, start: Any, known: Any) -> None:
    """Find the last event before each loss.

    Parameters
    ----------
    rows : ndarray of int64, shape (n, 9)
        Rows as words (:func:`collectors.text.rows.write_row`).
    last, has_last : ndarray of int64, of bool, shape (CPUs,)
        Time of each CPU's last event, and whether it had one; kept for the next rows.
    start, known : ndarray of int64, of bool, shape (losses,)
        Filled: time of the last event of the loss's CPU, and whether there was one.
    """
    found = 0
    for i in range(rows.shape[0]):
        kind = rows[i, 7] >> 32 & 0xFFFF
        cpu = rows[i, 7] >> 48 & 0xFFFF
        if kind == KIND_LOST:
            start[found] = last[cpu]
            known[found] = has_last[cpu]
            found += 1
        elif kind != KIND_STARTED:
            last[cpu] = rows[i, 0]
            has_last[cpu] = True


@loop
def afters(rows: Any, following: Any, after: Any) -> None:
    """Find the row of the first event behind each loss, -1 if there is none.

    Parameters
    ----------
    rows : ndarray of int64, shape (n, 9)
        As of :func:`befores`.
    following : ndarray of int64, shape (CPUs,)
        Room, filled with -1.
    after : ndarray of int64, shape (losses,)
        Filled; a loss of an unknown CPU ends with the first event of any.
    """
    found = after.shape[0]
    of_any = -1
    for i in range(rows.shape[0] - 1, -1, -1):
        kind = rows[i, 7] >> 32 & 0xFFFF
        cpu = rows[i, 7] >> 48 & 0xFFFF
        if kind == KIND_LOST:
            found -= 1
            after[found] = of_any if cpu == UNKNOWN_CPU else following[cpu]
        elif kind != KIND_STARTED:
            of_any = i
            following[cpu] = i


@loop
def first_event(rows: Any, wanted: int) -> int:
    """Row of the first event of a CPU (of any, if it is unknown), -1 if there is none."""
    for i in range(rows.shape[0]):
        kind = rows[i, 7] >> 32 & 0xFFFF
        cpu = rows[i, 7] >> 48 & 0xFFFF
        is_event = kind not in (KIND_LOST, KIND_STARTED)
        if is_event and wanted in (cpu, UNKNOWN_CPU):
            return i
    return -1
