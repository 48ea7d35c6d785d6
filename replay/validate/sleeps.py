"""Tasks that went to sleep inside kmap(), as the trace shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from replay.machine.kconfig import is_realtime
from replay.trace.columns import of_ops
from replay.trace.tasks import finished_by

if TYPE_CHECKING:
    from replay.machine.model import Machine
    from replay.survey import Survey

_COLUMNS: Final = ("seq", "pid", "ctx", "op", "parent", "end_seq", "blocked")
"""Those that are looked at."""
_FOR_EVER: Final = pl.lit(np.iinfo(np.uint64).max, pl.UInt64)
"""`end_seq` of a call that never returned."""


class Sleeps:
    """Counts times that a task went to uninterruptible sleep inside kmap_high().

    Parameters
    ----------
    found
        Facts of the whole trace.
    machine
        The machine that it is from.
    """

    def __init__(self, found: Survey, machine: Machine) -> None:
        self._number = 0
        self._returns = found.returned > 0
        self._silent = not found.ops.get("switch") or is_realtime(machine.config)
        self._open: pl.DataFrame | None = None

    @property
    def number(self) -> int | None:
        """How many so far.

        None where there is no sched_switch, and with PREEMPT_RT: kmap_lock sleeps there, and a
        task that waits for it looks the same (include/linux/sched.h: __task_state_index).
        """
        return None if self._silent else self._number

    def feed(self, table: pl.DataFrame) -> None:
        """Take the table of a window."""
        if self._silent:
            return
        table = table.select(_COLUMNS)
        maps = of_ops(table, ("kmap",)).select("pid", "seq", "end_seq")
        if self._returns:
            maps = _lasting(maps, table)
        if self._open is not None:
            maps = pl.concat([self._still_open(self._open, table), maps])
        self._number += _inside(maps, of_ops(table, ("switch",)))
        if table.height:
            latest = maps.filter(pl.col("end_seq").is_not_null()).unique("pid", keep="last")
            self._open = latest.filter(pl.col("end_seq") > table["seq"][-1]).sort("seq")

    @staticmethod
    def _still_open(calls: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
        """Calls of before; what seemed to last for ever is over when its task does more."""
        events = _of_tasks(table, calls)
        more = finished_by(events.lazy()).group_by("pid").agg(more=pl.col("seq").min()).collect()
        over = (pl.col("end_seq") == _FOR_EVER) & pl.col("more").is_not_null()
        return (
            calls.join(more, on="pid", how="left", maintain_order="left")
            .with_columns(end_seq=pl.when(over).then("more").otherwise("end_seq"))
            .drop("more")
        )


def _lasting(maps: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """The calls of kmap(); one without a return lasts until its task does something else."""
    unreturned = maps.filter(pl.col("end_seq").is_null())
    if not unreturned.height:
        return maps
    events = _of_tasks(events, unreturned)
    more = finished_by(events.lazy()).select("pid", more="seq").collect()
    ended = unreturned.join_asof(
        more, left_on="seq", right_on="more", by="pid", strategy="forward",
        allow_exact_matches=False, check_sortedness=False,
    ).with_columns(end_seq=pl.coalesce("more", _FOR_EVER)).drop("more")  # fmt: skip
    returned = maps.filter(pl.col("end_seq").is_not_null())
    return pl.concat([returned, ended]).sort("seq", maintain_order=True)


def _of_tasks(rows: pl.DataFrame, tasks: pl.DataFrame) -> pl.DataFrame:
    """Rows of tasks that others have, too: what is joined by tasks is joined with few."""
    pids = tasks.get_column("pid").unique()
    return rows.filter(pl.col("pid").is_in(pids.implode(), nulls_equal=True))


def _inside(maps: pl.DataFrame, switches: pl.DataFrame) -> int:
    """Number of switches to uninterruptible sleep inside calls of kmap(); both by `seq`."""
    blocked = switches.filter("blocked").select("seq", "pid")
    maps = _of_tasks(maps.filter(pl.col("end_seq").is_not_null()), blocked)
    inside = blocked.join_asof(
        maps.select("pid", "seq", "end_seq"),
        on="seq", by="pid", strategy="backward", check_sortedness=False,
    )  # fmt: skip
    return inside.filter(pl.col("end_seq") > pl.col("seq")).height
