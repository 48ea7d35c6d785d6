"""What the kernel itself told beside the calls: how long they took, user flushes, stack traces.

Nothing here is a model's: it is counted, piece by piece. What is kept grows with the kinds of calls
and the different stack traces, not with the trace.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import polars as pl

from replay.outcome import CallTime, Observed, StackCount, UserFlush
from replay.trace.told import moment

if TYPE_CHECKING:
    from replay.trace.told import Told

NO_TIME: Final = -1.0
"""Bin of calls that were over before the trace clock moved."""
BINS: Final = 16
"""Bins per doubling of a time: a quantile is right within 2.2 %."""
STACKS: Final = 256
"""Different stack traces that are given, the most frequent ones."""
_UNKNOWN: Final = "unknown"
_TIMED: Final = ("switch", "sched_out", "sched_in", "tlb_flush")
"""Operations that are no calls: they take no time of their own."""


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
        self._bins = pl.DataFrame(
            schema={"op": pl.String, "bin": pl.Int64, "n": pl.UInt32, "total": pl.Float64,
                    "longest": pl.Int64, "row": pl.Int64}
        )  # fmt: skip
        self._flushes = pl.DataFrame(
            schema={"reason": pl.String, "n": pl.UInt32, "full": pl.UInt32, "pages": pl.UInt64}
        )
        self._stacks = pl.DataFrame(schema={"op": pl.String, "stack": pl.String, "n": pl.UInt32})

    def feed(self, events: pl.DataFrame, first_row: int) -> None:
        """Count a piece of the event table, which begins with this row."""
        self._feed_times(events, first_row)
        flushes = events.filter(pl.col("op") == "tlb_flush")
        if flushes.height:
            new = flushes.group_by(reason=pl.col("reason").cast(pl.String).fill_null(_UNKNOWN)).agg(
                n=pl.len(), full=pl.col("pages").null_count(), pages=pl.col("pages").sum()
            )
            self._flushes = (
                pl.concat([self._flushes, new.cast(self._flushes.schema)])
                .group_by("reason", maintain_order=True)
                .agg(pl.col("n", "full", "pages").sum())
            )
        stacked = events.filter(pl.col("stack").is_not_null())
        if stacked.height:
            new = stacked.group_by("op", "stack").agg(n=pl.len())
            self._stacks = (
                pl.concat([self._stacks, new.cast(self._stacks.schema)])
                .group_by("op", "stack", maintain_order=True)
                .agg(pl.col("n").sum())
            )

    def _feed_times(self, events: pl.DataFrame, first_row: int) -> None:
        ended = pl.col("end_ts") - pl.col("ts")
        took = pl.coalesce("duration", ended) if self._clock_is_ns else pl.col("duration")
        new = (
            events.lazy()
            .select("op", ns=took, row=pl.int_range(pl.len(), dtype=pl.Int64) + first_row)
            .filter(~pl.col("op").is_in(_TIMED))
            .filter(pl.col("ns") >= 0)
            .with_columns(
                bin=pl.when(pl.col("ns") == 0)
                .then(NO_TIME)
                .otherwise((pl.col("ns").clip(1).log(2) * BINS).floor())
            )
            .group_by("op", "bin")
            .agg(
                n=pl.len(),
                total=pl.col("ns").cast(pl.Float64).sum(),
                longest=pl.col("ns").max(),
                row=pl.col("row").get(pl.col("ns").arg_max()),
            )
            .collect()
        )
        self._bins = (
            pl.concat([self._bins, new.cast(self._bins.schema)])
            .group_by("op", "bin", maintain_order=True)
            .agg(
                pl.col("n", "total").sum(),
                pl.col("longest").max(),
                pl.col("row").get(pl.col("longest").arg_max()),
            )
        )

    def rows(self) -> set[int]:
        """Rows that :meth:`result` needs to name tasks: of each operation the longest call."""
        return set(self._slowest().values())

    def _slowest(self) -> dict[str, int]:
        by_op = self._bins.group_by("op").agg(pl.col("row").get(pl.col("longest").arg_max()))
        return dict(by_op.iter_rows())

    def result(self, told: Told) -> Observed:
        """What was counted so far; `told` is what the rows of :meth:`rows` tell."""
        slowest = self._slowest()
        times = [
            replace(_call_time(op, bins.sort("bin")), slowest=moment(told, slowest[str(op)]))
            for (op,), bins in self._bins.group_by("op")
        ]
        flushes = self._flushes.sort(["n", "reason"], descending=[True, False])
        stacks = self._stacks.sort(["n", "op", "stack"], descending=[True, False, False])
        return Observed(
            durations=tuple(sorted(times, key=lambda t: (-t.total_ns, t.op))),
            user_flushes=tuple(UserFlush(*row) for row in flushes.iter_rows()),
            stacks=tuple(StackCount(*row) for row in stacks.head(STACKS).iter_rows()),
            stacked=int(stacks.get_column("n").sum()),
        )


def _call_time(op: object, bins: pl.DataFrame) -> CallTime:
    """Figures of one operation from its histogram, in the order of the bins."""
    upto = bins.get_column("n").cast(pl.Int64).cum_sum()
    calls, longest = int(upto[-1]), int(bins.get_column("longest").max())  # type: ignore[arg-type]

    def quantile(share: float) -> float:
        # The bin that holds the call of this rank; its middle, but never more than was seen.
        at = int((upto < share * calls).sum())
        if bins.get_column("bin")[at] == NO_TIME:
            return 0.0
        middle: float = 2 ** ((bins.get_column("bin")[at] + 0.5) / BINS)
        return min(middle, float(longest))

    return CallTime(
        op=str(op),
        calls=calls,
        total_ns=int(bins.get_column("total").sum()),
        median_ns=quantile(0.5),
        p99_ns=quantile(0.99),
        max_ns=longest,
    )
