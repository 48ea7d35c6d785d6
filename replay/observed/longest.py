"""The calls that took longest, each with what it did: what a latency is looked for by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from collectors.events import OPS
from replay.observed.loops import TAKES_TIME
from replay.outcome import LongCall
from replay.trace.columns import of_ops
from replay.trace.told import moment

if TYPE_CHECKING:
    from replay.trace.told import Told

KEPT: Final = 64
"""Calls that are kept: as many as anybody wants to read."""
_CALLS: Final = tuple(op for op, takes in zip(OPS, TAKES_TIME, strict=False) if takes)
_FLUSHES: Final = ("flush_range", "flush_all")
_KEPT: Final = {
    "row": pl.Int64, "op": pl.String, "took": pl.Int64, "pages": pl.UInt64, "flushes": pl.UInt32,
}  # fmt: skip


class LongestTally:
    """Keeps the calls that took longest, piece by piece.

    Parameters
    ----------
    page_size
        Bytes.
    clock_is_ns
        False where the trace clock counts something else than time; what the function_graph
        tracer measured is time all the same.
    """

    def __init__(self, page_size: int, *, clock_is_ns: bool) -> None:
        self._page_size = page_size
        self._clock_is_ns = clock_is_ns
        self._kept = pl.DataFrame(schema=_KEPT)

    def feed(self, events: pl.DataFrame, first_row: int) -> None:
        """Look at a piece of the event table, which begins with this row."""
        took = pl.col("duration")
        if self._clock_is_ns:
            took = pl.coalesce(took, pl.col("end_ts") - pl.col("ts"))
        least = self._kept.get_column("took").min() if self._kept.height == KEPT else 0
        rows = (
            events.select("op", "seq", "pages", "size", row=pl.int_range(pl.len()), took=took)
            .filter((pl.col("took") > least) & pl.col("op").is_in(_CALLS))
            .top_k(KEPT, by="took")
        )
        if not rows.height:
            return
        size = pl.col("size") // self._page_size
        rows = rows.join(self._flushes(events), on="seq", how="left").select(
            row=pl.col("row") + first_row,
            op=pl.col("op").cast(pl.String),
            took="took",
            # of a purge `pages` is a truth value
            pages=pl.when(pl.col("op") == "area_purge")
            .then("flushed")
            .otherwise(pl.coalesce("flushed", "pages", size)),
            flushes=pl.col("flushes").fill_null(0),
        )
        both = pl.concat([self._kept, rows.cast(pl.Schema(_KEPT))])
        self._kept = both.sort("took", "row", descending=[True, False]).head(KEPT)

    def _flushes(self, events: pl.DataFrame) -> pl.DataFrame:
        """By the call that they were made in: flushes, and pages that they invalidated."""
        pages = (pl.col("end") - pl.col("start") + self._page_size - 1) // self._page_size
        return (
            of_ops(events, _FLUSHES)
            .filter(pl.col("parent").is_not_null())
            .group_by(seq="parent")
            .agg(flushes=pl.len(), flushed=pages.sum())
        )

    def rows(self) -> set[int]:
        """Rows that :meth:`result` needs to name tasks."""
        return set(self._kept.get_column("row").to_list())

    def result(self, told: Told) -> tuple[LongCall, ...]:
        """The longest first."""
        return tuple(
            LongCall(op, took, pages, flushes, at)
            for row, op, took, pages, flushes in self._kept.iter_rows()
            if (at := moment(told, row)) is not None
        )
