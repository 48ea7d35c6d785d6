"""The events of a task in its own order."""

from __future__ import annotations

import polars as pl

from collectors.events import IN_INTERRUPT


def own_events(table: pl.LazyFrame) -> pl.LazyFrame:
    """Rows that a task itself made: the next one shows that its call before is over.

    Not among them are switches and the TLB flushes that come with them, for a task can be switched
    out in the middle of a call, and what interrupts did on top of it.
    """
    between = pl.col("op").is_in(("switch", "tlb_flush"))
    return table.filter(~between & (pl.col("ctx") & IN_INTERRUPT == 0))


def finished_by(table: pl.LazyFrame) -> pl.LazyFrame:
    """Own events that show that the task's call before is over, whatever call that was.

    As :func:`own_events`, but for the flushes that a call itself makes: kmap_high() may flush, and
    then sleep for ever.
    """
    inside = pl.col("op").is_in(("pool_flush", "flush_range")) & pl.col("parent").is_not_null()
    return own_events(table).filter(~inside)
