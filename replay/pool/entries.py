"""What the pool finds in a piece of the event table, whatever has been found before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from replay.pool.calls import CallTable
from replay.pool.rows import place_of, rows_of
from replay.trace.numbering import Numbering

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from replay.pool.loops.calls import PoolRows
    from replay.pool.window import PoolFacts, PoolWindow

ROOM: Final = 1 << 12
"""Calls of the pieces before for which there is room without a copy."""


class Entries(NamedTuple):
    """Calls and flushes of a piece.

    Attributes
    ----------
    rows, what
        The piece, and what each of its rows is (:func:`replay.pool.loops.calls.classify`).
    tasks
        An upper bound of its tasks.
    flushes : ndarray of int64
        Positions of the window's TLB flushes.
    calls
        Its calls, behind room for :data:`ROOM` others.
    pages
        Numbers of their pages.
    nameless
        kmap() and kunmap() calls of which the trace has no argument (function tracer).
    """

    rows: PoolRows
    what: NDArray[np.uint8]
    tasks: int
    flushes: NDArray[np.int64]
    calls: CallTable
    pages: Numbering
    nameless: tuple[int, int]

    @property
    def own_calls(self) -> CallTable:
        """The calls without the room before them."""
        return self.calls[np.arange(ROOM, self.calls.size)]


class PoolEntries:
    """Looks at the pieces of an event table, one behind the other.

    Parameters
    ----------
    window
        The pool.
    facts
        What is known of the whole trace.
    """

    def __init__(self, window: PoolWindow, facts: PoolFacts) -> None:
        self._place = place_of(window, facts)
        self._unknown_pages = 0

    def of(self, events: pl.DataFrame, first_row: int) -> Entries:
        """Look at a piece.

        Parameters
        ----------
        events
            Sorted by `seq`, behind everything before.
        first_row
            Number of its first row.
        """
        from replay.pool.loops.calls import TLB_FLUSH, classify, enter

        rows = rows_of(events)
        what = np.empty(events.height, np.uint8)
        nameless = np.zeros(2, np.int64)
        calls = CallTable.blank(ROOM + classify(rows, self._place, what, nameless))
        self._unknown_pages = enter(
            rows, what, self._place, calls.columns, ROOM, first_row, self._unknown_pages
        )
        pages = Numbering()
        calls["number"][ROOM:] = pages.of(calls["page"][ROOM:])
        tasks = events.get_column("pid").n_unique() + 1
        flushes = rows.seq[what & TLB_FLUSH != 0]
        return Entries(
            rows, what, tasks, flushes, calls, pages, (int(nameless[0]), int(nameless[1]))
        )
