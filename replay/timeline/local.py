"""Local mappings over time: how many the running task of each CPU has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import polars as pl

from replay.over_time import LocalLine
from replay.timeline.lines import FoldedLines, monotone
from replay.trace.columns import of_ops

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.local.events import LocalEvents
    from replay.times import TimeAxis

MOST_CPUS: Final = 1024
"""CPUs of which a line is kept: a damaged trace may name any number."""


class LocalStates(NamedTuple):
    """How many local mappings the running task of a CPU has, after each change.

    Attributes
    ----------
    time : ndarray of int64, shape (n,)
        When, ns of the trace clock, in the order of the trace.
    cpu : ndarray of int32, shape (n,)
    depth : ndarray of int64, shape (n,)
    """

    time: NDArray[np.int64]
    cpu: NDArray[np.int32]
    depth: NDArray[np.int64]


class LocalSteps:
    """Tells them piece by piece.

    Parameters
    ----------
    per_cpu
        Whether the stacks are the CPUs' (:attr:`replay.machine.model.Layout.kmap_per_cpu`).
    """

    def __init__(self, *, per_cpu: bool) -> None:
        from replay.timeline.loops import none_saved

        self._per_cpu = per_cpu
        self._saved = none_saved()

    def take(self, events: LocalEvents, table: pl.DataFrame) -> LocalStates:
        """Follow the events of a piece of the event table."""
        from replay.local.loops import SWITCH_OUT
        from replay.timeline.loops import follow_local

        if not self._per_cpu:  # else kmap_atomic() keeps its task on the CPU
            leaving = (events.kind == SWITCH_OUT) & (events.depth > 0)
            if leaving.any() or self._saved.number[0]:
                events = _with_returns(events, table)
        after = np.full(events.kind.size, -1, np.int64)
        follow_local(events.kind, events.task, events.depth, self._saved, after)
        told = after >= 0
        if self._per_cpu:
            told &= events.kind != SWITCH_OUT
        return LocalStates(events.ts[told], events.cpu[told], after[told])


def _with_returns(events: LocalEvents, table: pl.DataFrame) -> LocalEvents:
    """Events, and with them the moments at which tasks get a CPU."""
    from replay.timeline.loops import SWITCH_IN

    comes = pl.col("op") == "sched_in"
    task = pl.col("pid")
    if "next_pid" in table.columns:
        task = pl.when(comes).then(task).otherwise("next_pid")
    rows = of_ops(table, ("sched_in", "switch")).select(
        "seq", pl.col("ts").fill_null(0), pl.col("cpu").cast(pl.Int32), task=task
    )
    rows = rows.filter(pl.col("task") > 0).drop_nulls()
    more = type(events)(
        kind=np.full(rows.height, SWITCH_IN, np.uint8),
        at=rows.get_column("seq").to_numpy(),
        row=np.full(rows.height, -1, np.int64),
        ts=rows.get_column("ts").to_numpy(),
        task=rows.get_column("task").cast(pl.Int64).to_numpy(),
        cpu=rows.get_column("cpu").to_numpy(),
        depth=np.zeros(rows.height, np.int32),
    )
    order = np.argsort(np.concatenate([events.at, more.at]), kind="stable")
    pairs: Any = zip(events, more, strict=True)
    return type(events)(*(np.concatenate(pair)[order] for pair in pairs))


class LocalFold:
    """The depths in bins.

    Parameters
    ----------
    per_cpu
        As of :class:`LocalSteps`.
    axis
        The bins.
    """

    def __init__(self, axis: TimeAxis, *, per_cpu: bool) -> None:
        self._steps = LocalSteps(per_cpu=per_cpu)
        self._lines = FoldedLines(axis, ())
        self._row: dict[int, int] = {}

    def take(self, events: LocalEvents, table: pl.DataFrame) -> None:
        """Follow the events of a piece of the event table."""
        states = self._steps.take(events, table)
        for cpu in np.unique(states.cpu).tolist():
            if cpu not in self._row:
                if len(self._row) == MOST_CPUS:
                    continue
                self._row[cpu] = self._lines.add_row(0)
            here = states.cpu == cpu
            time = monotone(states.time[here], 0)
            self._lines.take(self._row[cpu], time, states.depth[here])

    def result(self) -> LocalLine | None:
        """The lines; None where nothing was mapped."""
        if not self._row:
            return None
        self._lines.finish()
        return LocalLine({cpu: self._lines.high(row) for cpu, row in sorted(self._row.items())})
