"""The calls that took longest, each with what it did: what a latency is looked for by."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import polars as pl

from collectors.events import OP_CODE, OPS
from replay.observed.loops import TAKES_TIME
from replay.observed.meanwhile import CallRow, Meanwhile
from replay.outcome import Behind, LongCall, Running
from replay.trace.columns import of_ops
from replay.trace.told import NO_ROW, moment

if TYPE_CHECKING:
    from replay.observed.meanwhile import Around
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
    sleeps_for_lock
        As of :class:`replay.observed.meanwhile.Meanwhile`.
    """

    def __init__(self, page_size: int, *, clock_is_ns: bool, sleeps_for_lock: bool = False) -> None:
        self._page_size = page_size
        self._clock_is_ns = clock_is_ns
        self._kept = pl.DataFrame(schema=_KEPT)
        self._rows: set[int] = set()
        self._meanwhile = Meanwhile(sleeps_for_lock=sleeps_for_lock)

    def feed(self, events: pl.DataFrame, first_row: int) -> None:
        """Look at a piece of the event table, which begins with this row."""
        calls = self._keep_longest(events, first_row)
        kept = set(self._kept.get_column("row").to_list()) if calls else self._rows
        self._rows = kept
        self._meanwhile.feed(events, first_row, [c for c in calls if c.row in kept], kept)

    def _keep_longest(self, events: pl.DataFrame, first_row: int) -> list[CallRow]:
        """Take the longest of a piece; those of them that were traced to their return."""
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
            return []
        calls = _calls(events, rows.get_column("row"), first_row)
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
        return calls

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
        self._meanwhile.finish()
        return self._rows | self._meanwhile.rows()

    def result(self, told: Told) -> tuple[LongCall, ...]:
        """The longest first; `told` is what the rows of :meth:`rows` tell."""
        calls = []
        for row, op, took, pages, flushes in self._kept.iter_rows():
            at = moment(told, row)
            if at is not None:
                call = LongCall(op, took, pages, flushes, at)
                around = self._meanwhile.found.get(row)
                calls.append(call if around is None else self._with(call, around, told))
        return tuple(calls)

    def _with(self, call: LongCall, around: Around, told: Told) -> LongCall:
        """A call with what was around it."""
        held = moment(told, around.behind)
        behind = None if held is None else Behind(OPS[around.behind_op], held)
        if not self._meanwhile.sees_switches:
            return replace(call, behind=behind)
        return replace(
            call,
            off_ns=around.off_ns,
            sleeps=around.sleeps,
            instead=tuple(Running(pid, _comm(told, row), ns=ns) for pid, row, ns in around.instead),
            interrupted=tuple(
                Running(pid, _comm(told, row), cpu) for cpu, pid, row in around.interrupted
            ),
            waiters=tuple(Running(pid, _comm(told, row), ns=ns) for pid, row, ns in around.waiters),
            behind=behind,
        )


def _calls(events: pl.DataFrame, rows: pl.Series, first_row: int) -> list[CallRow]:
    """Rows of a piece that the trace has both ends of, and the task."""
    names = ("op", "seq", "end_seq", "ts", "end_ts", "pid")
    some = events.select(names)[rows].with_columns(row=rows + first_row).drop_nulls()
    return [
        CallRow(row, OP_CODE[op], *others)
        for row, op, *others in some.select("row", *names).iter_rows()
    ]


def _comm(told: Told, row: int) -> str | None:
    """Name of the task that made a row."""
    return None if row == NO_ROW else told[row].comm
