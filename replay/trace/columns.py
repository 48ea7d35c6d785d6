"""Columns of a window as plain arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray


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
    values = events.get_column(name).fill_null(empty).to_numpy()
    return values.view(f"i{values.itemsize}")
