"""What has to be known of a whole trace before it can be replayed piece by piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from collectors.ahead import ahead
from collectors.events import NO_TIMES, OP_CODE, TableTotals, batches
from collectors.records import dataclass
from replay.pool.calls import POOL_CALLS, is_anonymous, is_window_flush
from replay.pool.window import PoolFacts
from replay.trace.columns import NO_OP
from replay.trace.windows import WINDOW_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from replay.pool.window import PoolState, PoolWindow


@dataclass(frozen=True)
class Survey:
    """What a first look at a whole trace tells.

    Attributes
    ----------
    rows
        Rows of the event table.
    span
        Time of the first and of the last event.
    ops
        Rows by operation.
    pageless
        kmap() calls without a page.
    returned
        kmap() calls with a return.
    pool
        For the pool's lock order.
    """

    rows: int
    span: tuple[int, int]
    ops: Mapping[str, int]
    pageless: int
    returned: int
    pool: PoolFacts


def survey(
    events: pl.LazyFrame | pl.DataFrame,
    state: PoolState | None,
    window: PoolWindow,
    rows: int = WINDOW_ROWS,
    totals: TableTotals | None = None,
) -> Survey:
    """Look through a trace once, in bounded memory.

    Parameters
    ----------
    events
        Event table.
    state
        The pool's snapshot.
    window
        The pool.
    rows
        Rows that are looked at together.
    totals
        What the table comes to, if that is known.

    Returns
    -------
    Survey
    """
    look = _Look(state, window, totals)
    for piece in ahead(batches(events.lazy(), look.columns, rows)) if look.columns else ():
        look.take(piece)
        if look.is_over:
            break
    totals = look.totals
    number = {op: int(totals.rows[code]) for op, code in OP_CODE.items() if totals.rows[code]}
    start = min(int(totals.first_named[OP_CODE[op]]) for op in POOL_CALLS)
    first, last = totals.span.tolist()
    kmap = OP_CODE["kmap"]
    return Survey(
        rows=int(totals.rows.sum()),
        span=(first, last) if first <= last else (0, 0),
        ops=number,
        pageless=int(totals.rows[kmap] - totals.paged[kmap]),
        returned=int(totals.returned[kmap]),
        pool=PoolFacts(
            start=start if start < NO_TIMES[0] else 0,
            passes_traced="pool_flush" in number,
            flushes_traced=look.flushes,
            gets_traced="kmap_get" in number,
            pages=look.pages,
        ),
    )


class _Look:
    """What is found in a table piece by piece.

    Attributes
    ----------
    columns
        Those that are looked at; none if everything is known.
    totals
        What the table comes to.
    flushes
        Whether a TLB flush is one of the whole pool.
    pages
        The page of each frame of the snapshot that the pool's calls name.
    """

    def __init__(
        self, state: PoolState | None, window: PoolWindow, totals: TableTotals | None
    ) -> None:
        self.totals = TableTotals.none() if totals is None else totals
        self.flushes = False
        self.pages: dict[int, int] = {}
        self._is_counted = totals is not None
        self._frames = () if state is None else sorted({f for _, _, f in state.slots if f >= 0})
        if self._is_counted and not self._has(POOL_CALLS):
            self._frames = ()
        self._seeks_flush = not self._is_counted or self._has(("flush_range",))
        self._is_flush = is_window_flush(window)
        wanted = {
            "op": True,
            "page": not self._is_counted or self._frames,
            "vaddr": not self._is_counted or self._frames,
            "pfn": self._frames,
            "start": self._seeks_flush,
            "end": self._seeks_flush,
            **dict.fromkeys(("ts", "end_ts", "end_seq"), not self._is_counted),
        }
        self.columns = [] if self.is_over else [name for name, needed in wanted.items() if needed]

    @property
    def is_over(self) -> bool:
        """Whether nothing more is looked for."""
        return self._is_counted and not self._frames and not self._seeks_flush

    def _has(self, ops: Iterable[str]) -> bool:
        return any(self.totals.rows[OP_CODE[op]] for op in ops)

    def take(self, piece: pl.DataFrame) -> None:
        """Look at a piece."""
        if not self._is_counted:
            self._count(piece)
        if self._seeks_flush:
            self.flushes = bool(piece.select(self._is_flush.any()).item())
            self._seeks_flush = not self.flushes
        if self._frames:
            of_pool = pl.col("op").is_in(POOL_CALLS) & ~is_anonymous()
            here = of_pool & pl.col("pfn").is_in(self._frames) & pl.col("page").is_not_null()
            named = piece.filter(here).group_by("pfn").agg(pl.col("page").max())
            for pfn, page in named.iter_rows():
                self.pages[pfn] = max(page, self.pages.get(pfn, 0))

    def _count(self, piece: pl.DataFrame) -> None:
        """Add a piece to the totals."""
        totals = self.totals
        by_code = piece.group_by(pl.col("op").to_physical().fill_null(NO_OP)).agg(_FIGURES)
        code, rows, paged, returned, first_named, first, last = (
            column.to_numpy() for column in by_code
        )
        totals.rows[code] += rows
        totals.paged[code] += paged
        totals.returned[code] += returned
        totals.first_named[code] = np.minimum(totals.first_named[code], first_named)
        totals.span[0] = first.min(initial=totals.span[0])
        totals.span[1] = last.max(initial=totals.span[1])


_FIGURES: Final = (
    pl.len().alias("rows"),
    pl.col("page").count().alias("paged"),
    pl.col("end_seq").count().alias("returned"),
    pl.col("ts").filter(~is_anonymous()).min().fill_null(NO_TIMES[0]).alias("first_named"),
    pl.col("ts").min().alias("first"),
    pl.max_horizontal(pl.col("ts").max(), pl.col("end_ts").max()).alias("last"),
)
"""Of the rows of an operation."""
