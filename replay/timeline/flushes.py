"""What flushes cost over time, by cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from replay.cost.causes import Cause
from replay.cost.formulas import range_flush_ns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.outcome import CostOutcome
    from replay.times import TimeAxis


class FlushWeights:
    """Adds up what flushes cost in each bin, by cause.

    Parameters
    ----------
    axis
        The bins.
    """

    def __init__(self, axis: TimeAxis) -> None:
        self._axis = axis
        self.ns: dict[str, NDArray[np.float64]] = {}

    def add(
        self, cause: str, time: NDArray[np.int64], ns: NDArray[np.float64] | None = None
    ) -> None:
        """Count flushes: when, and what each costs; None: all the same."""
        if not time.size:
            return
        bins = self._axis.bins
        more = np.bincount(self._axis.at(time), ns, bins).astype(np.float64)
        self.ns[cause] = more + self.ns.get(cause, 0.0)

    def add_ranges(self, flushes: pl.DataFrame, layout: Layout, machine: Machine) -> None:
        """Count flushes that are not the pool's.

        Parameters
        ----------
        flushes
            Of :meth:`replay.arena.tally.ArenaTally.add`.
        layout, machine
            What they cost.
        """
        if not flushes.height:
            return
        for cause, which in (
            (Cause.PURGE, pl.col("purge") & pl.col("pages").is_not_null()),
            (Cause.RANGE, ~pl.col("purge") & pl.col("pages").is_not_null()),
        ):
            some = flushes.filter(which)
            if some.height:
                pages = some.get_column("pages").cast(pl.Float64).to_numpy()
                ns = range_flush_ns(machine.costs, layout, pages, machine.cpus)
                self.add(cause, some.get_column("ts").to_numpy(), ns)
        self.add(Cause.FULL, flushes.filter(pl.col("pages").is_null()).get_column("ts").to_numpy())


def in_bins(weights: FlushWeights, cost: CostOutcome, bins: int) -> dict[str, tuple[float, ...]]:
    """Cost of each cause in bins of time, in ns; they add up to that of the outcome.

    The outcome knows how many CPUs were online at a flush only when the trace is over, so what is
    counted flush by flush is the share of each bin.
    """
    out = {}
    for cause, ns in weights.ns.items():
        whole, total = float(ns.sum()), cost.by_cause.get(cause, {}).get("ns", 0.0)
        parts = ns * (total / whole) if whole else np.zeros(bins)
        out[cause] = tuple(parts.tolist())
    return out
