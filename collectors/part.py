"""Rows of the event table as plain arrays: what the tabulator makes and the Parquet writer takes.

A polars frame of the same rows costs more than pairing them does, so it is only made for those
who want one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import polars as pl

from collectors.events import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_NAMED: Final = (pl.Categorical, pl.Enum)


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
    names: Sequence[str] | Mapping[int, str] | None = None

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
    names: Sequence[str] | Mapping[int, str] | None = None,
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
        assert not isinstance(made.names, dict)  # those are of frames, and stay there
        texts = pl.Series(name, list(made.names), pl.String).cast(dtype)
        series = texts.gather(np.where(has, made.values, 0))
    if made.valid is None:
        return series
    return series.to_frame().select(pl.when(pl.Series(has)).then(pl.col(name))).to_series()


def part_of(frame: pl.DataFrame) -> Part:
    """Take a polars frame apart.

    Parameters
    ----------
    frame
        Columns of :data:`collectors.events.SCHEMA`.

    Returns
    -------
    Part
    """
    return Part(frame.height, {name: _column(frame.get_column(name)) for name in SCHEMA})


def _column(series: pl.Series) -> Column:
    names: dict[int, str] | None = None
    if series.dtype.base_type() in _NAMED:
        different = series.drop_nulls().unique()
        numbers, texts = different.to_physical().to_list(), different.cast(pl.String).to_list()
        names = dict(zip(numbers, texts, strict=True))
        series = series.to_physical()
    has = series.is_not_null().to_numpy()
    if series.null_count():
        filler = False if series.dtype == pl.Boolean else 0
        series = series.fill_null(filler)
    return column(series.to_numpy(), has, names)
