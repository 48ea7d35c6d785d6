"""From what the walk has of each window to the state over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from replay.arena.use import arena_at_start
from replay.over_time import MarkLine, Timeline
from replay.pool.replay import window_of
from replay.timeline.arena import ArenaFold
from replay.timeline.flushes import FlushWeights, in_bins
from replay.timeline.local import LocalFold
from replay.timeline.pool import PoolFold
from replay.times import TimeAxis, TimeBins

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from collectors.snapshot import Snapshot
    from replay.local.events import LocalEvents
    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.outcome import Outcome
    from replay.survey import Survey
    from replay.trace.losses import Loss

BINS: Final = 600
"""Bins that charts ask for, whatever the size of the trace."""
COLUMNS: Final = 200
"""Columns of a map at most."""


class TimelineTally:
    """Follows everything but the pool, for which :meth:`pool` gives a follower.

    Parameters
    ----------
    layout, machine, values, found, lost
        As of :func:`replay.walk.replay`.
    bins
        How many there are at most.

    Attributes
    ----------
    purges
        Counts purges that found something.
    """

    def __init__(
        self,
        layout: Layout,
        machine: Machine,
        values: Snapshot,
        found: Survey,
        lost: Loss | None,
        bins: int,
    ) -> None:
        self._layout, self._machine, self._found = layout, machine, found
        self._axis = TimeAxis.over(*found.span, bins)
        self._columns = TimeAxis.over(*found.span, min(COLUMNS, bins))
        self._local = LocalFold(self._axis, per_cpu=layout.kmap_per_cpu)
        arena = arena_at_start(layout, values)
        self._arena = None
        if arena is not None:
            self._arena = ArenaFold(arena, layout, self._axis, self._columns)
        self._flushes = FlushWeights(self._axis)
        self._lost = _lost_in(lost, self._axis)
        self.purges = TimeBins(*found.span, bins)

    def pool(self) -> PoolFold:
        """What follows the pool from the start."""
        window = window_of(self._layout)
        return PoolFold(window, self._layout, self._machine, self._axis, self._columns)

    def take(
        self,
        table: pl.DataFrame,
        events: LocalEvents | None,
        areas: NDArray[np.void],
        flushes: pl.DataFrame,
    ) -> None:
        """Take a window.

        Parameters
        ----------
        table
            Its rows.
        events
            What moved the stacks of local mappings; None: nothing.
        areas
            Steps of the arena (:meth:`replay.arena.use.ArenaUse.feed`).
        flushes
            Flushes that are not the pool's (:meth:`replay.arena.tally.ArenaTally.add`).
        """
        if events is not None:
            self._local.take(events, table)
        if self._arena is not None:
            self._arena.take(areas)
        self._flushes.add_ranges(flushes, self._layout, self._machine)

    def result(self, outcome: Outcome, pool: PoolFold) -> Timeline:
        """The state over time, of a trace that came to such an outcome."""
        axis, columns = self._axis, self._columns
        of_pool = pool.result()
        of_arena = None
        if self._arena is not None and outcome.arena.peak_used is not None:
            of_arena = self._arena.result()
        flushes = FlushWeights(axis)
        flushes.ns = self._flushes.ns | pool.flushes.ns
        wraps, passes = pool.marks.wraps.counts, pool.marks.passes.counts
        has_purges = "area_purge" in self._found.ops
        return Timeline(
            start_ns=axis.start,
            end_ns=axis.end,
            bin_ns=axis.width,
            bins=axis.bins,
            column_ns=columns.width,
            columns=columns.bins,
            pool=of_pool and of_pool[0],
            slot_map=of_pool and of_pool[1],
            local=self._local.result(),
            arena=of_arena and of_arena[0],
            arena_map=of_arena and of_arena[1],
            marks=MarkLine(
                None if of_pool is None else tuple(wraps.tolist()),
                None if of_pool is None else tuple(passes.tolist()),
                tuple(self.purges.counts.tolist()) if has_purges else None,
            ),
            flush_ns=in_bins(flushes, outcome.cost, axis.bins),
            lost=self._lost,
        )


def _lost_in(lost: Loss | None, axis: TimeAxis) -> tuple[int, ...] | None:
    """Gaps that each bin has a part of; None: there are none.

    One of which a side is not known counts at the other; one without any time nowhere.
    """
    if lost is None or not lost.intervals:
        return None
    counts = np.zeros(axis.bins + 1, np.int64)
    for gap in lost.intervals:
        known = [ts for ts in (gap.start_ts, gap.end_ts) if ts is not None]
        if known:
            first, last = axis.at(np.array([min(known), max(known)], np.int64)).tolist()
            counts[first] += 1
            counts[last + 1] -= 1
    return tuple(np.cumsum(counts[:-1]).tolist())
