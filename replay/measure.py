"""Costs from the trace itself, in bounded memory: the event table window by window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.errors import HmtraceError
from collectors.snapshot import Snapshot
from replay.cost.calibrate import calibrate
from replay.cost.times import EventTimes, PoolTimes
from replay.trace.windows import WINDOW_ROWS
from replay.walk import PoolPart, TraceWalk

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from replay.cost.calibrate import Calibration
    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.pool.window import PoolState
    from replay.survey import Survey
    from replay.trace.losses import Gaps, Loss
    from replay.walk import Ordered, PoolPiece


def measure(
    events: pl.LazyFrame | pl.DataFrame,
    machine: Machine,
    *,
    values: Snapshot | None = None,
    lost: Loss | None = None,
    clock_is_ns: bool = True,
    progress: Callable[[int, int], None] | None = None,
    rows: int = WINDOW_ROWS,
) -> Calibration:
    """Measure what the probes of a trace allow.

    Parameters
    ----------
    events, machine, values, lost, clock_is_ns, progress, rows
        As for :func:`replay.walk.replay`.

    Returns
    -------
    Calibration

    Raises
    ------
    HmtraceError
        Exit code 2, if the clock is none; or if `events` is no event table, or not in order.
    """
    if not clock_is_ns:
        msg = "the trace clock counts no time: there is nothing to calibrate costs with"
        hint = "capture with  echo local > trace_clock  or another clock of nanoseconds"
        raise HmtraceError(msg, hint=hint, exit_code=2)
    values = values or Snapshot()
    walk = TraceWalk(events, machine, values, lost, progress, rows)
    layout, found, losses = walk.layout, walk.found, walk.losses
    pool, others = _TimedPool(layout, found, walk.state, losses), EventTimes(layout)
    for step in walk.windows():
        pool.feed(step)
        others.add(step.window.table, last=step.window.last)
    pool = walk.better(pool, lambda: _TimedPool(layout, found, None, losses))
    return calibrate(pool.times, others, machine, layout, values)


class _TimedPool(PoolPart):
    """The pool, and how long its calls took."""

    def __init__(
        self, layout: Layout, found: Survey, state: PoolState | None, losses: Gaps
    ) -> None:
        super().__init__(layout, found, state, losses)
        self.times = PoolTimes()

    def follow(self, ordered: Ordered) -> PoolPiece:
        told = super().follow(ordered)
        self.times.add(told.piece, told.scanned, told.freed)
        return told
