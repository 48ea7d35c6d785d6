"""What has to be known of a whole trace before its pool calls can be ordered piece by piece."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class PoolWindow:
    """Where the pool lies: first address, number of slots, bytes per slot."""

    base: int
    slots: int
    page_size: int = 4096

    @property
    def end(self) -> int:
        """Address behind the last slot."""
        return self.base + self.slots * self.page_size


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
    pages
        Frame number to address of struct page, of the snapshot's frames that the trace maps.
    """

    start: int = 0
    passes_traced: bool = False
    pages: Mapping[int, int] = field(default_factory=dict)


def pool_facts(events: pl.LazyFrame | pl.DataFrame, state: PoolState | None) -> PoolFacts:
    """Look through a trace for its facts, in bounded memory.

    Parameters
    ----------
    events
        Event table.
    state
        The pool's snapshot.

    Returns
    -------
    PoolFacts
    """
    from replay.pool_stream import POOL_CALLS, is_anonymous

    table = events.lazy()
    calls = table.filter(pl.col("op").is_in(POOL_CALLS) & ~is_anonymous())
    frames = sorted({pfn for _, _, pfn in state.slots if pfn >= 0}) if state is not None else []
    mapped = (
        calls.filter(pl.col("pfn").is_in(frames) & pl.col("page").is_not_null())
        .group_by("pfn")
        .agg(pl.col("page").max())
    )
    first, passes, pages = pl.collect_all(
        [
            calls.select(pl.col("ts").min().fill_null(0)),
            table.select((pl.col("op") == "pool_flush").any()),
            mapped,
        ],
        engine="streaming",
    )
    return PoolFacts(first.item(), bool(passes.item()), dict(pages.rows()))
