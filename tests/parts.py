"""Parts of the event table, made of frames."""

import polars as pl

from collectors.events import SCHEMA
from collectors.table.part import Column, Part, column


def part_of(frame: pl.DataFrame) -> Part:
    """Take a frame apart; names stay the numbers that polars gives them."""
    return Part(frame.height, {name: _column(frame.get_column(name)) for name in SCHEMA})


def _column(series: pl.Series) -> Column:
    values = series.to_physical()
    filler = False if series.dtype == pl.Boolean else 0
    return column(values.fill_null(filler).to_numpy(), series.is_not_null().to_numpy())
