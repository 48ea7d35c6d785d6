"""What the kernel itself told beside the calls: how long they took, user flushes, stack traces.

Nothing here is a model's: it is counted, piece by piece. What is kept grows with the kinds of calls
and the different stack traces, not with the trace.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from collectors.events import OPS
from replay.observed.atomic import AtomicTally
from replay.outcome import CallTime, Observed, StackCount, UserFlush
from replay.times import histogram, quantile
from replay.trace.columns import of_ops, op_codes, whole
from replay.trace.told import moment

if TYPE_CHECKING:
    from replay.observed.loops import Bins
    from replay.trace.told import Told

STACKS: Final = 256
"""Different stack traces that are given, the most frequent ones."""
_UNKNOWN: Final = "unknown"


class ObservedTally:
    """Counts a trace, piece by piece.

    Parameters
    ----------
    clock_is_ns
        False where the trace clock counts something else than time; what the function_graph
        tracer measured is time all the same.
    """

    def __init__(self, *, clock_is_ns: bool) -> None:
        self._clock_is_ns = clock_is_ns
        self._bins: Bins | None = None
        self._flushes = pl.DataFrame(
            schema={"reason": pl.String, "n": pl.UInt32, "full": pl.UInt32, "pages": pl.UInt64}
        )
        self._stacks = pl.DataFrame(schema={"op": pl.String, "stack": pl.String, "n": pl.UInt32})
        self._atomic = AtomicTally()

    def feed(self, events: pl.DataFrame, first_row: int) -> None:
        """Count a piece of the event table, which begins with this row."""
        self._feed_times(events, first_row)
        self._atomic.feed(events, first_row)
        flushes = of_ops(events, ("tlb_flush",))
        if flushes.height:
            new = flushes.group_by(reason=pl.col("reason").cast(pl.String).fill_null(_UNKNOWN)).agg(
                n=pl.len(), full=pl.col("pages").null_count(), pages=pl.col("pages").sum()
            )
            self._flushes = (
                pl.concat([self._flushes, new.cast(self._flushes.schema)])
                .group_by("reason", maintain_order=True)
                .agg(pl.col("n", "full", "pages").sum())
            )
        if events.get_column("stack").null_count() < events.height:
            stacked = events.filter(pl.col("stack").is_not_null())
            new = stacked.group_by("op", "stack").agg(n=pl.len())
            self._stacks = (
                pl.concat([self._stacks, new.cast(self._stacks.schema)])
                .group_by("op", "stack", maintain_order=True)
                .agg(pl.col("n").sum())
            )

    def _feed_times(self, events: pl.DataFrame, first_row: int) -> None:
        from replay.observed.loops import NO_TIME, count_times, no_times

        if self._bins is None:
            self._bins = no_times()
        took = {name: np.zeros(0, np.int64) for name in ("end_ts", "duration")}
        for name in took:
            is_told = events.get_column(name).null_count() < events.height
            if is_told and (self._clock_is_ns or name == "duration"):
                took[name] = whole(events, name, NO_TIME)
        ts = whole(events, "ts", NO_TIME)
        count_times(self._bins, op_codes(events), ts, **took, first_row=first_row)

    def rows(self) -> set[int]:
        """Rows that :meth:`result` needs to name tasks: of each operation the longest call."""
        return set(self._slowest().values()) | self._atomic.rows()

    def _slowest(self) -> dict[str, int]:
        """Row of the longest call of each operation."""
        if self._bins is None:
            return {}
        longest = np.where(self._bins.n > 0, self._bins.longest, -1).argmax(axis=1)
        ops = np.flatnonzero(self._bins.n.any(axis=1)).tolist()
        return {OPS[op]: int(self._bins.row[op, longest[op]]) for op in ops}

    def result(self, told: Told) -> Observed:
        """What was counted so far; `told` is what the rows of :meth:`rows` tell."""
        slowest = self._slowest()
        times = [
            replace(_call_time(op, self._bins), slowest=moment(told, row))
            for op, row in slowest.items()
            if self._bins is not None
        ]
        flushes = self._flushes.sort(["n", "reason"], descending=[True, False])
        stacks = self._stacks.sort(["n", "op", "stack"], descending=[True, False, False])
        return Observed(
            durations=tuple(sorted(times, key=lambda t: (-t.total_ns, t.op))),
            user_flushes=tuple(UserFlush(*row) for row in flushes.iter_rows()),
            stacks=tuple(StackCount(*row) for row in stacks.head(STACKS).iter_rows()),
            stacked=int(stacks.get_column("n").sum()),
            atomic=self._atomic.result(told),
        )


def _call_time(op: str, bins: Bins) -> CallTime:
    """Figures of one operation from its histogram."""
    number, total, every_longest, _ = (column[OPS.index(op)] for column in bins)
    longest = int(every_longest.max())
    every = np.arange(number.size)
    return CallTime(
        op=op,
        calls=int(number.sum()),
        total_ns=int(total.sum()),
        median_ns=quantile(every, number, 0.5, longest),
        p99_ns=quantile(every, number, 0.99, longest),
        max_ns=longest,
        histogram=histogram(number),
    )
