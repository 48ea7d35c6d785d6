"""The pool over time: slots in use and stale, tasks that wait, and its slots one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from replay.cost.causes import Cause
from replay.cost.formulas import pool_pass_ns
from replay.over_time import PoolLine, SlotMap
from replay.pool.tally import PassTimes
from replay.timeline.flushes import FlushWeights
from replay.timeline.lines import FoldedLines, shares
from replay.times import TimeAxis

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.pool.lock_order import Piece
    from replay.pool.replay import PoolAt
    from replay.pool.window import PoolWindow
    from replay.timeline.loops import SlotTimes


class PoolStates(NamedTuple):
    """What was so after each operation of a piece, in lock order.

    Attributes
    ----------
    time : ndarray of int64, shape (n,)
        When, ns of the trace clock; never falls.
    code : ndarray of int64, shape (n,)
        Operation, of :mod:`replay.pool.loops.sequence`.
    used, stale, waiting, freed : ndarray of int32, shape (n,)
        Slots in use, slots that are mapped and nobody uses, tasks that sleep for one; slots that a
        flush freed (-1: no flush).
    served : ndarray of bool, shape (n,)
        Whether it is a kmap() that got a slot.
    """

    time: NDArray[np.int64]
    code: NDArray[np.int64]
    used: NDArray[np.int32]
    stale: NDArray[np.int32]
    waiting: NDArray[np.int32]
    freed: NDArray[np.int32]
    served: NDArray[np.bool_]


class PoolSteps:
    """Tells the states of the pool, piece by piece.

    Parameters
    ----------
    slots
        Size of the pool.
    axis
        Columns in which the time of each slot is counted; None: it is not.

    Attributes
    ----------
    times
        The time of each slot.
    """

    def __init__(self, slots: int, axis: TimeAxis | None = None) -> None:
        from replay.timeline.loops import SlotTimes

        number, columns = (0, 0) if axis is None else (slots, axis.bins)
        self._axis = axis or TimeAxis(0, 0, 1, 0)
        self.times: SlotTimes = SlotTimes(
            np.zeros(number, np.uint8),
            np.full(number, self._axis.start, np.int64),
            *np.zeros((2, number, columns)),
        )
        self._waiting = np.zeros(1, np.int64)
        self._asleep = np.zeros(0, bool)  # of the calls that come again

    def take(self, at: PoolAt, piece: Piece) -> PoolStates:
        """Follow a piece, before which the pool was so."""
        from replay.timeline.loops import follow_pool

        asleep = np.zeros(piece.calls.size, bool)
        asleep[: self._asleep.size] = self._asleep
        states = np.zeros((piece.time.size, 5), np.int32)
        follow_pool(
            at.over(piece), piece.snapshot, piece.operations, piece.time, piece.call, asleep,
            self._waiting, states, self.times, self._axis.start, self._axis.width,
        )  # fmt: skip
        self._asleep = asleep[piece.kept]
        used, stale, waiting, freed, served = states.T
        return PoolStates(
            piece.time, piece.operations[:, 0], used, stale, waiting, freed, served > 0
        )

    def finish(self) -> None:
        """Nothing comes any more."""
        from replay.timeline.loops import settle_slots

        settle_slots(self.times, self._axis.end, self._axis.start, self._axis.width)


class PoolFold:
    """The pool in bins.

    Parameters
    ----------
    window, layout, machine
        The pool, and what its flushes cost.
    axis, columns
        Bins, and the columns of the map of slots.

    Attributes
    ----------
    flushes
        What its flushes cost.
    marks
        When it was flushed.
    """

    def __init__(
        self,
        window: PoolWindow,
        layout: Layout,
        machine: Machine,
        axis: TimeAxis,
        columns: TimeAxis,
    ) -> None:
        self._window, self._layout, self._machine = window, layout, machine
        self._axis, self._columns = axis, columns
        self._steps = PoolSteps(window.slots, columns)
        self._lines = FoldedLines(axis, (0, 0, 0))
        self._started = self._is_nameless = False
        self.flushes = FlushWeights(axis)
        self.marks = PassTimes((axis.start, axis.end), axis.bins)

    def take(self, at: PoolAt, piece: Piece) -> None:
        """Follow a piece, before which the pool was so."""
        from replay.pool.loops.sequence import MAP

        self._is_nameless |= any(piece.nameless)
        if not piece.time.size:
            return
        self._started = True
        states = self._steps.take(at, piece)
        for row, values in enumerate((states.used, states.stale, states.waiting)):
            self._lines.take(row, states.time, values)
        self.marks.add(states.code, states.time, states.freed)
        passes = states.freed >= 0
        if passes.any():
            freed, by_map = states.freed[passes], states.code[passes] == MAP
            ns = pool_pass_ns(self._machine.costs, self._layout, freed, self._machine.cpus)
            for cause, which in ((Cause.WRAP, by_map), (Cause.UNUSED, ~by_map)):
                self.flushes.add(cause, states.time[passes][which], ns[which])
        if self._layout.kmap_flush_each:
            self.flushes.add(Cause.EVERY_KMAP, states.time[states.served])

    def result(self) -> tuple[PoolLine, SlotMap] | None:
        """Lines and slots; None where nothing, or not everything, could be replayed."""
        if not self._started or self._is_nameless:
            return None
        self._lines.finish()
        self._steps.finish()
        lines, times = self._lines, self._steps.times
        axis, slots = self._columns, self._window.slots
        ends = np.minimum(axis.start + axis.width * np.arange(1, axis.bins + 1), axis.end)
        widths = np.diff(ends, prepend=axis.start).astype(np.float64)
        order = self._window.inside(np.arange(slots))
        return (
            PoolLine(slots, lines.high(0), lines.mean(0), lines.high(1), lines.high(2)),
            SlotMap(shares(times.used[order], widths), shares(times.stale[order], widths)),
        )
