"""Work of the arena and the TLB flushes of kernel addresses, counted up piece by piece."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from collectors.events import OP_CODE
from collectors.records import dataclass, field
from replay.pool.calls import window_flushes
from replay.trace.columns import NO_OP, has_ops, op_codes, whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.pool.window import PoolWindow

_NEVER = (1 << 64) - 1
ALLOC_OPS = ("area_alloc", "percpu_alloc")
ARENA_OPS = (*ALLOC_OPS, "area_free", "area_purge", "flush_range", "flush_all")
_IS_ARENAS = np.zeros(NO_OP + 1, bool)
"""By code of an operation whether it is one of them."""
_IS_ARENAS[[OP_CODE[op] for op in ARENA_OPS]] = True
_COLUMNS = ("seq", "ts", "pid", "op", "vaddr", "size", "start", "end", "end_seq", "parent")
"""Those that are looked at."""
_FLUSHES = {"ts": pl.Int64, "pages": pl.UInt64, "purge": pl.Boolean}


IS_RANGE_FLUSH = (pl.col("op") == "flush_range") & (pl.col("end") > pl.col("start"))
IS_FLUSH = (pl.col("op") == "flush_all") | IS_RANGE_FLUSH
"""Rows of flushes; one of an empty range does nothing."""
FLUSH_FUNCTIONS = frozenset({"flush_tlb_kernel_range", "local_flush_tlb_kernel_range"})
"""What makes ranged ones, where it is probed."""


@dataclass
class ArenaTally:
    """What the arena's events come to.

    Attributes
    ----------
    allocs, alloc_bytes, frees, free_bytes
        Calls, and bytes of address space, failed calls included.
    full
        flush_tlb_all() calls.
    flushes_told
        Whether there are ranged flushes at all of which the trace tells the range.
    purges, others
        flush_tlb_kernel_range() calls that are not the pool's, by the number of pages: those of
        lazy purges, and the others.
    """

    allocs: int = 0
    alloc_bytes: int = 0
    frees: int = 0
    free_bytes: int = 0
    full: int = 0
    flushes_told: bool = False
    purges: Counter[int] = field(default_factory=Counter)
    others: Counter[int] = field(default_factory=Counter)
    _open: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(
            schema={"seq": pl.UInt64, "end_seq": pl.UInt64, "pid": pl.Int32}
        )
    )
    _after_purge: pl.Series = field(default_factory=lambda: pl.Series("pid", [], pl.Int32))

    def add(self, events: pl.DataFrame, window: PoolWindow, page_size: int) -> pl.DataFrame:
        """Count a piece of the event table.

        Parameters
        ----------
        events
            Sorted by `seq`, behind everything before.
        window
            The pool, whose flushes are not the arena's.
        page_size
            Bytes.

        Returns
        -------
        DataFrame
            The flushes: `ts`, `pages` (null: all), and whether they are of a `purge`.
        """
        own = self._own(events, window) if has_ops(events, ARENA_OPS) else np.zeros(0, np.int64)
        if not own.size:
            return pl.DataFrame(schema=_FLUSHES)
        arena = events.select(_COLUMNS)[own]
        allocs = arena.filter(pl.col("op").is_in(ALLOC_OPS))
        frees = arena.filter(pl.col("op") == "area_free")
        self.allocs += allocs.height
        self.alloc_bytes += int(allocs.get_column("size").sum() or 0)
        self.frees += frees.height
        self.free_bytes += frees.select((pl.col("end") - pl.col("vaddr")).sum()).item() or 0
        full = arena.filter(pl.col("op") == "flush_all").select(
            "ts", pages=pl.lit(None, pl.UInt64), purge=pl.lit(value=False)
        )
        self.full += full.height
        return pl.concat([full, self._add_flushes(arena, page_size)])

    def _own(self, events: pl.DataFrame, window: PoolWindow) -> NDArray[np.int64]:
        """Rows that are the arena's, of windows that may have nothing but the pool's flushes."""
        codes = op_codes(events)
        here = np.flatnonzero(_IS_ARENAS[codes])
        start, end = (whole(events, name, -1)[here] for name in ("start", "end"))
        is_ranged = codes[here] == OP_CODE["flush_range"]
        self.flushes_told |= bool((end[is_ranged] != -1).any())
        return here[~window_flushes(window, codes[here], start, end)]

    def _add_flushes(self, arena: pl.DataFrame, page_size: int) -> pl.DataFrame:
        """Count ranged flushes, and return them.

        A flush belongs to the purge that it happened in: the innermost open call of its task is
        __purge_vmap_area_lazy, or, where that has no return probe, its task's last event was.
        """
        is_purge = pl.col("op") == "area_purge"
        purges = pl.concat([self._open, arena.filter(is_purge).select("seq", "end_seq", "pid")])
        unreturned = is_purge & pl.col("end_seq").is_null()
        arena = arena.with_columns(
            purges_before=unreturned.shift(1)
            .over("pid")
            .fill_null(pl.col("pid").is_in(self._after_purge.implode()))
        )
        # A task is in one purge at a time: one without a return is over when the next begins.
        returns = pl.col("end_seq").is_not_null()
        over = pl.concat(
            [
                purges.filter(returns).select(parent="seq", over="end_seq"),
                purges.filter(~returns).select(
                    parent="seq", over=pl.col("seq").shift(-1).over("pid").fill_null(_NEVER)
                ),
            ]
        )
        inside = (pl.col("parent") < pl.col("seq")) & (pl.col("seq") < pl.col("over"))
        flushes = (
            arena.filter(IS_RANGE_FLUSH)
            .join(over, on="parent", how="left")
            .select(
                "ts",
                pages=((pl.col("end") - pl.col("start") + page_size - 1) // page_size),
                purge=pl.col("purges_before") | inside.fill_null(value=False),
            )
        )
        for pages, purge, number in flushes.group_by("pages", "purge").len().iter_rows():
            (self.purges if purge else self.others)[pages] += number
        latest = arena.group_by("pid").agg(unreturned.last().alias("purge"))
        self._after_purge = pl.concat(
            [
                self._after_purge.filter(~self._after_purge.is_in(latest["pid"].implode())),
                latest.filter("purge").get_column("pid"),
            ]
        )
        self._open = pl.concat(
            [
                purges.filter(returns & (pl.col("end_seq") > arena["seq"][-1])),
                purges.filter(~returns).unique("pid", keep="last", maintain_order=True),
            ]
        )
        return flushes

    def ranges(self) -> Counter[int]:
        """All ranged flushes by the number of pages."""
        return self.purges + self.others


def by_size(flushes: Counter[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pages, ascending, and number of flushes of so many."""
    pages = sorted(flushes)
    return np.array(pages, np.int64), np.array([flushes[p] for p in pages], np.int64)
