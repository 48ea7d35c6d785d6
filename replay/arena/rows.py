"""The events of a trace that the arena's replay looks at, picked out window by window.

That replay goes over them several times; they are few beside those of the pool and the local
mappings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from replay.pool.calls import is_window_flush
from replay.pool.replay import window_of
from replay.trace.tasks import own_events

if TYPE_CHECKING:
    from replay.machine.layout import Layout
    from replay.trace.windows import Window

_MANY: Final = (
    "kmap", "kunmap", "kmap_get", "kmap_local", "kunmap_local", "pool_flush", "flush_unused",
    "sched_out", "sched_in", "switch",
)  # fmt: skip
"""Operations that the arena's replay does not look at."""
_IDLE: Final = (
    "comm", "page", "pfn", "caller", "site", "nr_lazy_max", "reason", "duration", "stack",
)  # fmt: skip
"""Columns that it does not look at."""


class ArenaRows:
    """The events that the arena's replay looks at.

    Those are the arena's own, the next event of a task behind each of them (it shows that a call
    without a return is over), and the switches of tasks that may be in a purge.

    Attributes
    ----------
    rows : ndarray of int64
        Rows of the whole table that are kept.
    """

    def __init__(self, layout: Layout) -> None:
        self.rows = np.zeros(0, np.int64)
        self._of_pool = is_window_flush(window_of(layout)).fill_null(value=False)
        self._parts: list[pl.DataFrame] = []
        self._waiting = pl.Series("pid", [], pl.Int32)
        self._purging = pl.Series("pid", [], pl.Int32)

    def feed(self, window: Window) -> None:
        """Take a window."""
        table = (
            window.table.drop(_IDLE, strict=False)
            .with_row_index("row", window.first_row)
            .with_columns(wanted=~(pl.col("op").is_in(_MANY) | self._of_pool))
        )
        purges = pl.col("op").is_in(("area_purge", "flush_range")) & pl.col("wanted")
        own = own_events(table.lazy()).select("row", "pid", "wanted", purging=purges).collect()
        follows = own.filter(
            pl.col("wanted")
            .shift(1)
            .over("pid")
            .fill_null(pl.col("pid").is_in(self._waiting.implode()))
        )
        after = table.get_column("row").is_in(follows.get_column("row").implode())
        kept = table.filter(pl.col("wanted") | after | self._of_purgers(table, own))
        self.rows = np.concatenate([self.rows, kept.get_column("row").to_numpy().astype(np.int64)])
        self._parts.append(kept.drop("row", "wanted"))
        latest = own.group_by("pid").agg(pl.col("wanted", "purging").last())
        seen = latest.get_column("pid").implode()
        self._waiting, self._purging = (
            pl.concat([before.filter(~before.is_in(seen)), latest.filter(now).get_column("pid")])
            for before, now in ((self._waiting, "wanted"), (self._purging, "purging"))
        )

    def _of_purgers(self, table: pl.DataFrame, own: pl.DataFrame) -> pl.Series:
        """Switches from and to tasks whose last own event was a purge, or its flush."""
        switches = table.filter(pl.col("op") == "switch")
        if not switches.height or not (own.get_column("purging").any() or self._purging.len()):
            return pl.zeros(table.height, dtype=pl.Boolean, eager=True)
        before = self._purging.to_frame("pid").select(
            pl.lit(0, pl.UInt32).alias("row"), "pid", purging=pl.lit(value=True)
        )
        history = pl.concat([before, own.select("row", "pid", "purging")])
        found = [
            switches.select("row", pid=name)
            .join_asof(history, on="row", by="pid", strategy="backward", check_sortedness=False)
            .filter("purging")
            .get_column("row")
            for name in ("pid", "next_pid")
        ]
        return table.get_column("row").is_in(pl.concat(found).implode())

    def table(self, schema: pl.Schema) -> pl.DataFrame:
        """The events kept, as an event table of their own; `schema` is that of the whole one."""
        empty = pl.DataFrame(schema=schema)
        return pl.concat([*self._parts, empty.drop(_IDLE)])
