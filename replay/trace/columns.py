"""Columns of a window as plain arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from collectors.events import OP_CODE, array_of, empty_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

NO_OP: Final = len(OP_CODE)
"""In place of a code: of rows that another machine's replay leaves out."""
_CODES: Final = "hmtrace_codes"
"""Attribute of a table: the code of each row, which whoever looks at the table asks for."""
_PRESENT: Final = "hmtrace_present"
"""The same of the codes that its rows have."""
_FEW: Final = 0.1
"""Share of rows up to which it is quicker to take them one by one than to look at all in every
column."""
_MOSTLY: Final = 0.9
"""Share of nulls from which on it is quicker to put the other values in one by one."""


def op_codes(events: pl.DataFrame) -> NDArray[np.uint8]:
    """Code of each row's operation, NO_OP where it has none; looked at once for each table."""
    known: dict[str, Any] = vars(events)
    if _CODES not in known:
        known[_CODES] = filled(events.get_column("op").to_physical(), NO_OP)
    codes: NDArray[np.uint8] = known[_CODES]
    return codes


def has_ops(events: pl.DataFrame, ops: Iterable[str]) -> bool:
    """Whether there are rows of some operations; looked at once for each table."""
    known: dict[str, Any] = vars(events)
    if _PRESENT not in known:
        codes = op_codes(events).tobytes()
        known[_PRESENT] = {code for code in range(NO_OP) if code in codes}
    return any(OP_CODE[op] in known[_PRESENT] for op in ops)


def of_ops(events: pl.DataFrame, ops: Iterable[str]) -> pl.DataFrame:
    """Rows of some operations, of which a window may have none: then nothing else is looked at."""
    if not has_ops(events, ops):
        return events.clear()
    wanted = bytearray(256)
    for op in ops:
        wanted[OP_CODE[op]] = True
    # A fifth of what an index array takes, which numpy makes of wide integers first.
    here = np.frombuffer(op_codes(events).tobytes().translate(wanted), np.bool_)
    number = np.count_nonzero(here)
    if number == len(here):
        return events
    if number < _FEW * len(here):
        return events[np.flatnonzero(here)]
    return events.filter(pl.Series(here))


def whole(events: pl.DataFrame, name: str, empty: int) -> NDArray[np.signedinteger]:
    """Values of a column of integers.

    Parameters
    ----------
    events
        Some rows of the event table.
    name
        Of the column.
    empty
        What stands where there is no value.

    Returns
    -------
    ndarray
        Of the column's width, signed: the replay cuts what is too large for that.
    """
    if empty == empty_of(name) and (array := array_of(events, name)) is not None:
        return array
    column = events.get_column(name)
    values = filled(column, empty % (1 << 64) if column.dtype == pl.UInt64 else empty)
    return values.view(f"i{values.itemsize}")


def has(events: pl.DataFrame, name: str) -> NDArray[np.bool_]:
    """Which rows have a value of a column."""
    array = array_of(events, name)
    if array is not None:
        return array != empty_of(name)
    return events.get_column(name).is_not_null().to_numpy()


def filled(column: pl.Series, empty: int) -> NDArray[Any]:
    """Values of a column, `empty` where there is none.

    polars would make a plan even for a column without nulls, and fill one of nulls value by value.
    """
    nulls = column.null_count()
    if not nulls:
        return column.to_numpy()
    if nulls < _MOSTLY * len(column):
        return column.fill_null(empty).to_numpy()
    there = column.is_not_null().arg_true()
    some = column.gather(there).to_numpy()
    values = np.full(len(column), empty, some.dtype)
    values[there.to_numpy()] = some
    return values
