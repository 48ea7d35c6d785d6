"""The events of a task in its own order."""

from __future__ import annotations

import polars as pl

from collectors.events import IN_INTERRUPT


def own_events(table: pl.LazyFrame) -> pl.LazyFrame:
    """Rows that a task itself made: the next one shows that its call before is over.

    Not among them are switches, for a task can be switched out in the middle of a call, and
    what interrupts did on top of it.
    """
    return table.filter((pl.col("op") != "switch") & (pl.col("ctx") & IN_INTERRUPT == 0))
