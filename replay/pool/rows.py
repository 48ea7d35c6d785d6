"""What the pool reads of a piece of the event table, as columns of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from collectors.events import IN_INTERRUPT, OP_CODE
from replay.pool.calls import NEVER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.pool.loops.calls import PoolRows
    from replay.pool.window import PoolFacts, PoolWindow

_NONE: Final = (1 << 64) - 1  # -1 as an unsigned number
_POSITIONS: Final = ("end_seq", "parent")
_NUMBERS: Final = ("page", "pfn", "vaddr", "start", "end")


def rows_of(events: pl.DataFrame) -> PoolRows:
    """Columns of a piece of the event table that the loops read.

    Parameters
    ----------
    events
        Sorted by `seq`, its numbers within bounds.
    """
    from replay.pool.loops.calls import NONE, PoolRows

    columns = events.select(
        pl.col("op").to_physical().fill_null(len(OP_CODE)),
        pl.col("ctx").fill_null(IN_INTERRUPT),
        pl.col("blocked").fill_null(value=False),
        pl.col("pid").fill_null(NONE),
        pl.col("ts").fill_null(0),
        pl.coalesce("end_ts", "ts").fill_null(0).alias("end_ts"),
        pl.col("seq").clip(upper_bound=NEVER),
        pl.col(_POSITIONS).clip(upper_bound=NEVER).fill_null(_NONE),
        pl.col(_NUMBERS).fill_null(_NONE),
    )
    return PoolRows(*(_column(columns.get_column(name)) for name in PoolRows._fields))


def _column(values: pl.Series) -> NDArray[Any]:
    """A column as numba sees it; all are read-only, as some that polars gives are."""
    column = values.to_numpy()
    if values.dtype == pl.UInt64:
        column = column.view(np.int64)
    column = column.view()
    column.flags.writeable = False
    return column


def place_of(window: PoolWindow, facts: PoolFacts) -> NDArray[np.int64]:
    """The pool's window, and what is known of the trace, for the loops."""
    from replay.pool.loops import calls as kernel

    place = np.zeros(kernel.REGISTERS, np.int64)
    place[kernel.BASE], place[kernel.END] = window.base, window.end
    place[kernel.PAGE_SIZE], place[kernel.SLOTS] = window.page_size, window.slots
    place[kernel.COLOURS] = window.colours
    place[kernel.GETS_TRACED], place[kernel.PASSES_TRACED] = facts.gets_traced, facts.passes_traced
    return place
