"""Rows of the event table as plain arrays, as the tabulator makes them.

A polars frame of the same rows costs more than pairing them does, so the thread that writes or
reads them makes it, not the one that pairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from collectors.events import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Column(NamedTuple):
    """One column.

    values : ndarray, shape (rows,)
        Of the column's type, or numbers of `names`; anything where there is no value. None: the
        whole column is null.
    valid : ndarray of uint32, shape (rows,)
        Its bit `bit` says whether a row has a value; None: all have.
    names
        Text by number, for a column of names.
    """

    values: NDArray[Any] | None = None
    valid: NDArray[np.uint32] | None = None
    bit: int = 0
    names: Sequence[str] | None = None

    def has(self, rows: int) -> NDArray[np.bool_]:
        """Which rows have a value."""
        if self.values is None:
            return np.zeros(rows, np.bool_)
        if self.valid is None:
            return np.ones(rows, np.bool_)
        found: NDArray[np.bool_] = self.valid & np.uint32(1 << self.bit) != 0
        return found


def column(
    values: NDArray[Any],
    has: NDArray[np.bool_],
    names: Sequence[str] | None = None,
) -> Column:
    """Column of which some rows have a value."""
    if has.all():
        return Column(values, names=names)
    return Column(values, has.astype(np.uint32), 0, names) if has.any() else Column()


class Part(NamedTuple):
    """Some rows of the event table.

    rows : int
    columns
        By name, those of :data:`collectors.events.SCHEMA`.
    """

    rows: int
    columns: dict[str, Column]

    def frame(self) -> pl.DataFrame:
        """Make a polars frame.

        Returns
        -------
        polars.DataFrame
            Columns of :data:`collectors.events.SCHEMA`.
        """
        return pl.DataFrame([_series(n, self.columns[n], self.rows) for n in SCHEMA])


def _series(name: str, made: Column, rows: int) -> pl.Series:
    dtype = SCHEMA[name]
    if made.values is None:
        return pl.repeat(None, rows, dtype=dtype, eager=True).alias(name)
    has = made.has(rows)
    if made.names is None:
        series = pl.Series(name, made.values, dtype)
    else:
        texts = pl.Series(name, list(made.names), pl.String).cast(dtype)
        series = texts.gather(np.where(has, made.values, 0))
    if made.valid is None:
        return series
    return series.to_frame().select(pl.when(pl.Series(has)).then(pl.col(name))).to_series()
