"""Rows of the event table as plain arrays, as the tabulator makes them.

A polars frame of the same rows costs more than pairing them does, so the thread that writes or
reads them makes it, not the one that pairs.
"""

from __future__ import annotations

from functools import lru_cache
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
    is_plain
        `values` are of 8 bytes, and :func:`collectors.events.empty_of` just where there is none.
    """

    values: NDArray[Any] | None = None
    valid: NDArray[np.uint32] | None = None
    bit: int = 0
    names: Sequence[str] | None = None
    is_plain: bool = False

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
        By name, those of :data:`collectors.events.SCHEMA` or some of them.
    """

    rows: int
    columns: dict[str, Column]

    @property
    def arrays(self) -> dict[str, NDArray[np.int64]]:
        """Columns whose values need no mask, read-only."""
        found = {}
        for name, made in self.columns.items():
            if made.is_plain and made.values is not None:
                found[name] = made.values.view(np.int64)
                found[name].flags.writeable = False
        return found

    def at(self, places: NDArray[np.int64]) -> Part:
        """Some of its rows."""
        found = {
            name: made
            if made.values is None
            else made._replace(
                values=made.values[places],
                valid=None if made.valid is None else made.valid[places],
            )
            for name, made in self.columns.items()
        }
        return Part(len(places), found)

    def frame(self) -> pl.DataFrame:
        """Make a polars frame; it shares the memory of the arrays as far as it can.

        Returns
        -------
        polars.DataFrame
            Its columns in the order of :data:`collectors.events.SCHEMA`.
        """
        masks: dict[tuple[int, int], pl.Series] = {}

        def series(name: str, made: Column) -> pl.Series:
            values = _series(name, made, self.rows)
            if made.values is None or made.valid is None:
                return values
            key = id(made.valid), made.bit
            if key not in masks:
                masks[key] = pl.Series(made.has(self.rows))
            return values.zip_with(masks[key], _nulls(values.dtype, 1))

        return pl.DataFrame([series(n, self.columns[n]) for n in SCHEMA if n in self.columns])


def part_of(table: Part | pl.DataFrame) -> Part:
    """Rows as plain arrays; a part is given back as it is."""
    if isinstance(table, Part):
        return table
    return Part(table.height, {name: _column(table.get_column(name)) for name in table.columns})


def _column(made: pl.Series) -> Column:
    names: Sequence[str] | None = None
    if isinstance(made.dtype, pl.Enum):
        names = made.dtype.categories.to_list()
        made = made.to_physical()
    elif made.dtype == pl.Categorical:
        different = made.drop_nulls().unique()
        names = different.cast(pl.String).to_list()
        numbers = different.to_physical()
        made = made.to_physical().replace_strict(
            numbers, pl.Series(range(len(numbers)), dtype=pl.UInt32), return_dtype=pl.UInt32
        )
    if made.null_count() == len(made):
        return Column()
    has = made.is_not_null().to_numpy()
    empty = False if made.dtype == pl.Boolean else 0
    return column(made.fill_null(empty).to_numpy(), has, names)


@lru_cache(maxsize=2 * len(SCHEMA))
def _nulls(dtype: pl.DataType, rows: int) -> pl.Series:
    """Nothing, as often as the last parts had rows."""
    return pl.repeat(None, rows, dtype=dtype, eager=True)


def _series(name: str, made: Column, rows: int) -> pl.Series:
    """Values of a column, those too that are none."""
    dtype = SCHEMA[name]
    if made.values is None:
        return _nulls(dtype, rows).alias(name)
    if made.names is None:
        return pl.Series(name, made.values, dtype)
    if isinstance(dtype, pl.Enum) and made.valid is None:  # they are the type's own names
        return pl.Series(name, made.values).cat.to(dtype)
    texts = pl.Series(name, list(made.names), pl.String).cast(dtype)
    last = np.uint32(max(len(made.names) - 1, 0))  # beyond: where there is no value
    # By index: gather() of a series makes a query of it, which takes longer than some rows do.
    return texts[pl.Series(np.minimum(made.values, last, dtype=np.uint32))]
