"""Columns of a window as plain arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from collectors.events import OP_CODE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

NO_OP: Final = len(OP_CODE)
"""In place of a code: of rows that another machine's replay leaves out."""


def op_codes(events: pl.DataFrame) -> NDArray[np.uint8]:
    """Code of each row's operation, NO_OP where it has none."""
    codes: NDArray[np.uint8] = _filled(events.get_column("op").to_physical(), NO_OP).to_numpy()
    return codes


def of_ops(events: pl.DataFrame, ops: Iterable[str]) -> pl.DataFrame:
    """Rows of some operations, of which a window may have none: then nothing else is looked at."""
    wanted = np.zeros(NO_OP + 1, np.bool_)
    wanted[[OP_CODE[op] for op in ops]] = True
    here = wanted[op_codes(events)]
    if here.all():
        return events
    return events.filter(pl.Series(here)) if here.any() else events.clear()


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
    values = _filled(events.get_column(name), empty).to_numpy()
    return values.view(f"i{values.itemsize}")


def _filled(column: pl.Series, empty: int) -> pl.Series:
    """The column without nulls; polars would make a plan even where it has none."""
    return column.fill_null(empty) if column.null_count() else column
