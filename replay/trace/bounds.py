"""Values that no machine has, from damaged or forged traces."""

from __future__ import annotations

import polars as pl

_BEYOND = 1 << 48
"""No address, frame or size of the machines that are modelled reaches this."""
_VALUES = ("page", "pfn", "vaddr", "pages", "size", "align", "start", "end")


def within_bounds(table: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Cut values to what fits into sums of 64 bits.

    Returns
    -------
    table : polars.DataFrame
        With values that are as wrong as before, but not larger than 1 << 48.
    beyond : int
        How many were cut.
    """
    values = [name for name in _VALUES if name in table.columns]
    beyond = int(table.select(pl.sum_horizontal((pl.col(values) > _BEYOND).sum())).item())
    if not beyond:
        return table, 0
    return table.with_columns(pl.col(values).clip(upper_bound=_BEYOND)), beyond
