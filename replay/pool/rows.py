"""What the pool reads of a piece of the event table, as columns of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from collectors.events import IN_INTERRUPT, array_of
from replay.pool.calls import NEVER
from replay.trace.columns import filled, op_codes

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from replay.pool.loops.calls import PoolRows
    from replay.pool.window import PoolFacts, PoolWindow

_POSITIONS: Final = ("seq", "end_seq", "parent")
_NO_NUMBER: Final = (1 << 64) - 1  # NONE as an unsigned number


def rows_of(events: pl.DataFrame) -> PoolRows:
    """Columns of a piece of the event table that the loops read.

    Parameters
    ----------
    events
        Sorted by `seq`, its numbers within bounds.
    """
    from replay.pool.loops.calls import NONE, UNSET, PoolRows

    empty = {"ctx": IN_INTERRUPT, "blocked": False, "pid": NONE, "cpu": 0, "ts": 0, "end_ts": UNSET}
    columns: dict[str, NDArray[Any]] = {"op": op_codes(events)}
    for name in PoolRows._fields[1:]:
        array = array_of(events, name)
        if array is not None and (name not in _POSITIONS or _is_within(array)):
            columns[name] = array
            continue
        column = events.get_column(name)
        if name in _POSITIONS and ((column.max() or 0) > NEVER):  # type: ignore[operator]
            column = column.clip(upper_bound=NEVER)
        columns[name] = filled(column, empty.get(name, _NO_NUMBER))
    return PoolRows(*(_as_loops_see_it(column) for column in columns.values()))


def _is_within(array: NDArray[np.int64]) -> bool:
    """Whether positions, NONE among them, are none that no trace has."""
    return not array.size or bool(array.min() >= -1 and array.max() <= NEVER)


def _as_loops_see_it(column: NDArray[Any]) -> NDArray[Any]:
    """A column as numba sees it; all are read-only, as some that polars gives are."""
    column = column.view(np.int64) if column.dtype == np.uint64 else column.view()
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
