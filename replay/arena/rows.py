"""The events of a trace that the arena's replay looks at, picked out window by window.

That replay goes over them several times; they are few beside those of the pool and the local
mappings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from collectors.events import IN_INTERRUPT, OP_CODE
from replay.pool.calls import is_window_flush
from replay.pool.replay import window_of
from replay.trace.columns import has_ops, op_codes, whole
from replay.trace.numbering import Numbering

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.arena.loops.picked import Doing
    from replay.machine.layout import Layout
    from replay.trace.windows import Window

_MANY: Final = (
    "kmap", "kunmap", "kmap_get", "kmap_local", "kunmap_local", "pool_flush", "flush_unused",
    "sched_out", "sched_in", "switch", "tlb_flush",
)  # fmt: skip
"""Operations that the arena's replay does not look at."""
_BETWEEN: Final = ("switch", "tlb_flush")
"""Those that a task does not make itself: it can be switched out in the middle of a call."""
_IDLE: Final = (
    "comm", "page", "pfn", "caller", "site", "nr_lazy_max", "reason", "duration", "stack",
)  # fmt: skip
"""Columns that it does not look at."""
_NO_TASK: Final = np.iinfo(np.int32).min
_NO_TASKS: Final = np.zeros(0, np.int64)


class ArenaRows:
    """The events that the arena's replay looks at.

    Those are the arena's own, the next event of a task behind each of them (it shows that a call
    without a return is over), calls around others (their returns show it too), and the switches of
    tasks that may be in a purge: one that has not returned, or that nothing came behind.

    Parameters
    ----------
    layout
        For the pool's window, whose flushes are not the arena's.
    """

    def __init__(self, layout: Layout) -> None:
        self._of_pool = is_window_flush(window_of(layout))
        self._tasks = _NO_TASKS  # those of which something is known before a window
        self._doing: Doing | None = None  # and what it is

    def feed(self, window: Window) -> pl.DataFrame:
        """The events of a window that are looked at.

        With their `row` in the whole table, and whether each is `wanted` as the arena's own.
        """
        from replay.arena.loops import picked as kernel

        table = window.table
        what = self._what(table)
        kept = np.zeros(table.height, np.bool_)
        if table.height:
            self._pick(table, what, kept)
        rows = np.flatnonzero(kept)
        found = table.drop(_IDLE, strict=False)
        found = found[rows] if rows.size else found.clear()
        return found.insert_column(
            0, pl.Series("row", (rows + window.first_row).astype(np.uint32))
        ).with_columns(wanted=pl.Series(what[rows] & kernel.WANTED != 0))

    def _what(self, table: pl.DataFrame) -> NDArray[np.uint8]:
        """What each row is (:mod:`replay.arena.loops.picked`)."""
        from replay.arena.loops import picked as kernel

        by_op = np.full(len(OP_CODE), kernel.WANTED | kernel.OWN, np.uint8)
        by_op[[OP_CODE[op] for op in _MANY]] = kernel.OWN
        by_op[[OP_CODE[op] for op in _BETWEEN]] = 0
        by_op[OP_CODE["switch"]] = kernel.SWITCH
        by_op[[OP_CODE["area_purge"], OP_CODE["flush_range"]]] |= kernel.PURGE
        what = by_op[op_codes(table)]
        in_interrupt = whole(table, "ctx", IN_INTERRUPT) & IN_INTERRUPT != 0
        what[in_interrupt] &= ~np.uint8(kernel.OWN)
        if has_ops(table, ("flush_range",)):
            of_pool = table.select(self._of_pool).to_series().to_numpy()
            what[of_pool] &= ~np.uint8(kernel.WANTED | kernel.PURGE)
        return what

    def _pick(self, table: pl.DataFrame, what: NDArray[np.uint8], kept: NDArray[np.bool_]) -> None:
        """Find the rows that are kept, and keep what the tasks are doing behind the window."""
        from replay.arena.loops import picked as kernel

        numbers = Numbering()
        numbers.of(self._tasks)
        pid = whole(table, "pid", _NO_TASK)
        task = numbers.of(pid.astype(np.int64))
        next_task = np.full(table.height, kernel.NOBODY, np.int64)
        switches = np.flatnonzero(what & kernel.SWITCH)
        if switches.size:
            following = whole(table, "next_pid", _NO_TASK)[switches]
            found = numbers.find(following.astype(np.int64))
            next_task[switches] = np.where(following == _NO_TASK, kernel.NOBODY, found)
            task[switches[pid[switches] == _NO_TASK]] = kernel.NOBODY
        doing = self._doing_of(numbers.count)
        seq = whole(table, "seq", 0)
        kernel.pick(what, task, next_task, seq, whole(table, "end_seq", 0), doing, kept)
        matters = np.flatnonzero(doing.asked | doing.purging | (doing.until > seq[-1]))
        self._tasks = numbers.keys()[matters].view(np.int64)
        columns: list[Any] = [column[matters] for column in doing]
        self._doing = kernel.Doing(*columns)

    def _doing_of(self, tasks: int) -> Doing:
        """What so many tasks are doing, those of before being the first."""
        from replay.arena.loops import picked as kernel

        flags, numbers = np.zeros((2, tasks), np.bool_), np.zeros((2, tasks), np.int64)
        doing = kernel.Doing(*flags, *numbers)
        if self._doing is not None:
            for column, before in zip(doing, self._doing, strict=True):
                column[: before.size] = before
        doing.latest[:] = kernel.NOBODY
        return doing
