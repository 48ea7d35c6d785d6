"""Rows of the pieces of a text: what kinds there are, and all in one array (compiled)."""

from __future__ import annotations

from typing import Any

from collectors.compiled import loop
from collectors.probes import KIND_MARK, KIND_STACK, KIND_TASK

_NUMBER = 0xFFFF_FFFF


MARKS, STACKS, CALLS = 1, 2, 4
"""Kinds of rows that take more than to be put in their place, as bits."""


@loop
def kinds_of(rows: Any) -> int:
    """Which of MARKS, STACKS and CALLS (of the function_graph tracer) there are among rows."""
    found = 0
    for i in range(rows.shape[0]):
        kind = rows[i, 7] >> 32 & 0xFFFF
        if kind >= KIND_MARK:
            if kind == KIND_MARK:
                found |= MARKS
            elif kind == KIND_STACK:
                found |= STACKS
            elif kind <= KIND_TASK:
                found |= CALLS
    return found


@loop
def place(rows: Any, target: Any, comms: Any, sites: Any) -> None:
    """Copy rows, under other numbers of their task names and call sites.

    Parameters
    ----------
    rows : ndarray of int64, shape (n, 9)
        Rows as words (:func:`collectors.text.rows.write_row`).
    target : ndarray of int64, shape (n, 9)
        May be the same memory, or begin before it.
    comms, sites : ndarray of int64
        New number by old one.
    """
    for i in range(rows.shape[0]):
        for word in range(6):
            target[i, word] = rows[i, word]
        task = rows[i, 6]
        where = rows[i, 7]
        packed = rows[i, 8]
        target[i, 6] = (task & _NUMBER) | comms[task >> 32 & _NUMBER] << 32
        target[i, 7] = (where & ~_NUMBER) | sites[where & _NUMBER]
        target[i, 8] = packed
