"""The events of a trace that the arena's replay looks at, picked out window by window.

That replay goes over them several times; they are few beside those of the pool and the local
mappings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from replay.pool.calls import is_window_flush
from replay.pool.replay import window_of
from replay.trace.tasks import own_events

if TYPE_CHECKING:
    from replay.machine.layout import Layout
    from replay.trace.windows import Window

_MANY: Final = (
    "kmap", "kunmap", "kmap_get", "kmap_local", "kunmap_local", "pool_flush", "flush_unused",
    "sched_out", "sched_in", "switch", "tlb_flush",
)  # fmt: skip
"""Operations that the arena's replay does not look at."""
_IDLE: Final = (
    "comm", "page", "pfn", "caller", "site", "nr_lazy_max", "reason", "duration", "stack",
)  # fmt: skip
"""Columns that it does not look at."""
_PURGING: Final = {"row": pl.UInt32, "pid": pl.Int32, "purging": pl.Boolean, "until": pl.UInt64}
"""Own events of tasks: whether each is a purge or a flush, and when a purge before it returned."""


class ArenaRows:
    """The events that the arena's replay looks at.

    Those are the arena's own, the next event of a task behind each of them (it shows that a call
    without a return is over), calls around others (their returns show it too), and the switches of
    tasks that may be in a purge.

    Parameters
    ----------
    layout
        For the pool's window, whose flushes are not the arena's.
    """

    def __init__(self, layout: Layout) -> None:
        self._of_pool = is_window_flush(window_of(layout))
        self._waiting = pl.Series("pid", [], pl.Int32)
        self._purging = pl.DataFrame(schema=_PURGING)

    def feed(self, window: Window) -> pl.DataFrame:
        """The events of a window that are looked at.

        With their `row` in the whole table, and whether each is `wanted` as the arena's own.
        """
        table = (
            window.table.drop(_IDLE, strict=False)
            .with_row_index("row", window.first_row)
            .with_columns(wanted=~(pl.col("op").is_in(_MANY) | self._of_pool))
        )
        purges = pl.col("op").is_in(("area_purge", "flush_range")) & pl.col("wanted")
        own = (
            own_events(table.lazy())
            .select(
                "row",
                "pid",
                "wanted",
                purging=purges,
                around=_is_around(window),
                until=pl.when(purges).then("end_seq").fill_null(0).cum_max().over("pid"),
            )
            .collect()
        )
        is_own = table.get_column("row").is_in(own.get_column("row").implode())
        # What the arena is asked for in an interrupt is followed by what the task does, too.
        tasks = table.select("row", "pid", "wanted", own=is_own).filter(
            pl.col("wanted") | pl.col("own")
        )
        follows = tasks.filter(
            pl.col("own")
            & pl.col("wanted")
            .shift(1)
            .over("pid")
            .fill_null(pl.col("pid").is_in(self._waiting.implode()))
        )
        around = own.filter("around")
        kept_for_tasks = pl.concat([follows.get_column("row"), around.get_column("row")])
        beside = table.get_column("row").is_in(kept_for_tasks.implode())
        history = pl.concat([self._purging, own.select(*_PURGING)])
        kept = table.filter(pl.col("wanted") | beside | _of_purgers(table, history))
        latest = tasks.group_by("pid").agg(pl.col("wanted").last())
        still = self._waiting.filter(~self._waiting.is_in(latest.get_column("pid").implode()))
        self._waiting = pl.concat([still, latest.filter("wanted").get_column("pid")])
        last = int(table["seq"][-1]) if table.height else 0
        self._purging = (
            history.group_by("pid", maintain_order=True)
            .agg(pl.col("row", "purging").last(), pl.col("until").max())
            .filter(pl.col("purging") | (pl.col("until") > last))
            .select(*_PURGING)
        )
        return kept


def _of_purgers(table: pl.DataFrame, history: pl.DataFrame) -> pl.Series:
    """Switches from and to tasks in a purge: not returned, or nothing came behind it and its flush.

    `history` has the tasks' own events (:data:`_PURGING`).
    """
    switches = table.filter(pl.col("op") == "switch")
    in_purges = history.filter(pl.col("purging") | (pl.col("until") > 0))
    if not switches.height or not in_purges.height:
        return pl.zeros(table.height, dtype=pl.Boolean, eager=True)
    found = [
        switches.select("row", "seq", pid=name)
        .join_asof(
            history.with_columns(pl.col("until").cum_max().over("pid")),
            on="row", by="pid", strategy="backward", check_sortedness=False,
        )
        .filter(pl.col("purging") | (pl.col("until") > pl.col("seq")))
        .get_column("row")
        for name in ("pid", "next_pid")
    ]  # fmt: skip
    return table.get_column("row").is_in(pl.concat(found).implode())


def _is_around(window: Window) -> pl.Expr:
    """Whether a call's task may do something else before it returns."""
    last = int(window.table["seq"][-1]) if window.table.height else 0
    following = pl.col("seq").shift(-1).over("pid").fill_null(last)
    return (pl.col("end_seq") > following).fill_null(value=False)
