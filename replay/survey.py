"""What has to be known of a whole trace before it can be replayed piece by piece."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from replay.pool.loops.highmem import Pool


@dataclass(frozen=True)
class PoolWindow:
    """Where the pool lies: first address, number of slots, bytes per slot, colours.

    Slots count by address outside the compiled loops, and lane after lane inside them, where a
    colour's slots stand together.
    """

    base: int
    slots: int
    page_size: int = 4096
    colours: int = 1

    @property
    def end(self) -> int:
        """Address behind the last slot."""
        return self.base + self.slots * self.page_size

    def inside(self, slot: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number inside the loops of slots by address; negative ones stay."""
        lanes = slot % self.colours * (self.slots // self.colours) + slot // self.colours
        return np.where(slot >= 0, lanes, slot)

    def by_address(self, slot: NDArray[np.int64]) -> NDArray[np.int64]:
        """The reverse of :meth:`inside`."""
        length = max(self.slots // self.colours, 1)
        return np.where(slot >= 0, slot % length * self.colours + slot // length, slot)

    def pool(self, pages: int = 0, colour: NDArray[np.int64] | None = None) -> Pool:
        """An empty pool for pages of these colours."""
        from replay.pool.loops.highmem import new_pool

        if colour is None:
            colour = np.zeros(pages, np.int64)
        return new_pool(self.slots, pages, self.colours, colour)

    def pool_of(
        self,
        state: PoolState | None,
        number: Mapping[int, int],
        pages: int,
        colour: NDArray[np.int64],
    ) -> Pool:
        """The recorder's snapshot as a pool over page numbers; empty without one.

        Parameters
        ----------
        state
            Snapshot.
        number
            Page number of its frames, as far as they have one.
        pages, colour
            How many pages have numbers, and the colour of each.
        """
        from replay.pool.loops.highmem import LAST, place

        pool = self.pool(pages, colour)
        if state is None:
            return pool
        for slot, count, pfn in state.slots:
            if 0 <= slot < self.slots and count > 0:
                here = int(self.inside(np.array([slot], np.int64))[0])
                place(pool, number.get(pfn, -1), here, count)
        if self.colours == 1:  # with colours the recorder's last_pkmap_nr is only one of them
            pool.reg[LAST] = min(max(state.last, 0), self.slots - 1)
        return pool


@dataclass(frozen=True)
class PoolState:
    """State of the pool at one moment, as the recorder's snapshot has it.

    Attributes
    ----------
    last
        last_pkmap_nr.
    slots
        (slot, pkmap_count, page frame number or -1) of every slot that is not free.
    seq
        Position in the trace at which it was taken (0: before the first event).
    """

    last: int
    slots: tuple[tuple[int, int, int], ...] = ()
    seq: int = 0


@dataclass(frozen=True)
class PoolFacts:
    """Facts of a whole trace.

    Attributes
    ----------
    start
        Time of the earliest call on the pool, ns of the trace clock; 0 without any.
    passes_traced
        Whether flush_all_zero_pkmaps() was probed, as far as the trace shows.
    flushes_traced
        Whether a TLB flush of the whole window shows: then flushes without one freed nothing.
    gets_traced
        Whether kmap_high_get() was. Else kmap_local() shows what it found.
    pages
        Frame number to address of struct page, of the snapshot's frames that the trace maps.
    """

    start: int = 0
    passes_traced: bool = False
    flushes_traced: bool = False
    gets_traced: bool = False
    pages: Mapping[int, int] = field(default_factory=dict)


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
    events: pl.LazyFrame | pl.DataFrame, state: PoolState | None, window: PoolWindow
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

    Returns
    -------
    Survey
    """
    from replay.pool.calls import POOL_CALLS, is_anonymous, is_window_flush

    table = events.lazy()
    of_pool = pl.col("op").is_in(POOL_CALLS) & ~is_anonymous()
    is_kmap = pl.col("op") == "kmap"
    figures = table.select(
        first=pl.col("ts").min().fill_null(0),
        last=pl.max_horizontal(pl.col("ts").max(), pl.col("end_ts").max()).fill_null(0),
        start=pl.col("ts").filter(of_pool).min().fill_null(0),
        flushed=is_window_flush(window).any().fill_null(value=False),
        pageless=(is_kmap & pl.col("page").is_null()).sum(),
        returned=(is_kmap & pl.col("end_seq").is_not_null()).sum(),
    )
    frames = sorted({pfn for _, _, pfn in state.slots if pfn >= 0}) if state is not None else []
    pages = (
        table.filter(of_pool & pl.col("pfn").is_in(frames) & pl.col("page").is_not_null())
        .group_by("pfn")
        .agg(pl.col("page").max())
    )
    ops = table.group_by("op").len().with_columns(pl.col("op").cast(pl.String))
    queries = [figures, ops, *([pages] if frames else [])]
    told, counts, *mapped = pl.collect_all(queries, engine="streaming")
    number = dict(counts.rows())
    row = told.row(0, named=True)
    return Survey(
        rows=sum(number.values()),
        span=(row["first"], row["last"]),
        ops=number,
        pageless=row["pageless"],
        returned=row["returned"],
        pool=PoolFacts(
            start=row["start"],
            passes_traced="pool_flush" in number,
            flushes_traced=row["flushed"],
            gets_traced="kmap_get" in number,
            pages=dict(mapped[0].rows()) if mapped else {},
        ),
    )
