"""The arena over time: bytes in use and lazily freed, its largest hole, and its addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from replay.over_time import ArenaLine, ArenaMap
from replay.timeline.lines import FoldedLines, monotone, shares

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.arena.loops.use import Arena
    from replay.machine.layout import Layout
    from replay.times import TimeAxis

ROWS: Final = 96
"""Rows of the map at most."""


class ArenaStates(NamedTuple):
    """What was so after each step.

    Attributes
    ----------
    time : ndarray of int64, shape (n,)
        When, ns of the trace clock; never falls.
    live, lazy, hole : ndarray of int64, shape (n,)
        Pages in use, pages that were freed and wait for a purge, pages of the largest hole.
    """

    time: NDArray[np.int64]
    live: NDArray[np.int64]
    lazy: NDArray[np.int64]
    hole: NDArray[np.int64]


class ArenaSteps:
    """Tells them piece by piece.

    Parameters
    ----------
    arena
        At the start of the capture; changed.
    """

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self._now = np.iinfo(np.int64).min

    def times(self, steps: NDArray[np.void]) -> NDArray[np.int64]:
        """When steps happened, none before one that was taken."""
        return monotone(steps["ts"].copy(), self._now)

    def take(self, steps: NDArray[np.void], time: NDArray[np.int64]) -> ArenaStates:
        """Take steps of :meth:`replay.arena.use.ArenaUse.feed`, at such times."""
        from replay.timeline.loops import follow_arena

        states = np.zeros((steps.size, 3), np.int64)
        columns = (steps[name].copy() for name in ("code", "start", "end"))
        follow_arena(self.arena, *columns, states)
        if time.size:
            self._now = int(time[-1])
        return ArenaStates(time, *(np.ascontiguousarray(column) for column in states.T))


class ArenaFold:
    """The arena in bins.

    Parameters
    ----------
    arena
        At the start of the capture; changed.
    layout
        For its bounds.
    axis, columns
        Bins, and the columns of the map.
    """

    def __init__(self, arena: Arena, layout: Layout, axis: TimeAxis, columns: TimeAxis) -> None:
        from replay.arena.loops.use import IN_USE, LENGTH, LIVE

        reg = arena.reg
        self._layout, self._columns = layout, columns
        self._steps = ArenaSteps(arena)
        live = int(reg[LIVE])
        self._lines = FoldedLines(axis, (live, int(reg[IN_USE]) - live, int(reg[LENGTH])))
        pages = arena.state.size
        rows = min(ROWS, pages)
        self._edges = pages * np.arange(rows + 1) // max(rows, 1)
        self._map = np.zeros((2, rows, columns.bins))
        self._column = 0

    def take(self, steps: NDArray[np.void]) -> None:
        """Take steps of :meth:`replay.arena.use.ArenaUse.feed`."""
        time = self._steps.times(steps)
        done = 0
        while steps.size > done:
            border = self._columns.start + (self._column + 1) * self._columns.width
            stop = steps.size
            if self._column + 1 < self._columns.bins:
                stop = int(np.searchsorted(time, border))
            if stop > done:
                states = self._steps.take(steps[done:stop], time[done:stop])
                for row, values in enumerate(states[1:]):
                    self._lines.take(row, states.time, values)
            if stop < steps.size:
                self._draw()
            done = stop

    def _draw(self) -> None:
        """Draw the column that is over, and go on to the next."""
        from replay.arena.loops.use import PAGE_LAZY, PAGE_USED

        state = self._steps.arena.state
        for grid, kind in zip(self._map, (PAGE_USED, PAGE_LAZY), strict=True):
            if state.size:
                there = (state == kind).astype(np.int64)
                grid[:, self._column] = np.add.reduceat(there, self._edges[:-1])
        self._column += 1

    def result(self) -> tuple[ArenaLine, ArenaMap]:
        """Lines and map."""
        while self._column < self._columns.bins:
            self._draw()
        self._lines.finish()
        lines, layout = self._lines, self._layout
        pages = np.diff(self._edges).astype(np.float64)[:, None]
        live, lazy = (shares(grid, pages) for grid in self._map)
        size = layout.page_size
        return (
            ArenaLine(lines.high(0, size), lines.high(1, size), lines.low(2, size)),
            ArenaMap(layout.vmalloc_start, layout.vmalloc_end, live, lazy),
        )
