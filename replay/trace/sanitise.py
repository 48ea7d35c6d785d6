"""What fits into sums of signed numbers of 64 bits, in which the replay counts.

Kernel addresses of x86-64 begin with 16 bits that are all set and say nothing: without them they
fit. What no machine has, from damaged or forged traces, is cut.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

import polars as pl

from collectors.events import array_of

if TYPE_CHECKING:
    from replay.machine.layout import Layout

_Frame = TypeVar("_Frame", "pl.LazyFrame", "pl.DataFrame")
LOW: Final = (1 << 48) - 1
_FIELDS: Final = (
    "page_offset",
    "high_memory",
    "vmalloc_start",
    "vmalloc_end",
    "modules_start",
    "modules_end",
    "kmap_fix_top",
    "fixaddr_top",
    "fixaddr_start",
)
_COLUMNS: Final = ("page", "vaddr", "start", "end")
_BEYOND: Final = 1 << 48
"""No address, frame or size of the machines that are modelled reaches this."""
_VALUES: Final = ("page", "pfn", "vaddr", "pages", "size", "align", "start", "end")


def is_wide(layout: Layout) -> bool:
    """Whether the layout has addresses of more than 48 bits."""
    return layout.regions[-1].end - 1 > LOW


def narrowed(layout: Layout) -> Layout:
    """The layout with its addresses cut; the regions, which are for the picture, stay."""
    if not is_wide(layout):
        return layout
    return replace(layout, **{name: getattr(layout, name) & LOW for name in _FIELDS})


def narrow_events(events: _Frame, layout: Layout) -> _Frame:
    """The event table with its kernel addresses cut, where the layout is a wide one."""
    if not is_wide(layout):
        return events
    top = LOW ^ ((1 << 64) - 1)
    cut = [
        pl.when(pl.col(name) >= pl.lit(top, pl.UInt64))
        .then(pl.col(name) & pl.lit(LOW, pl.UInt64))
        .otherwise(pl.col(name))
        .alias(name)
        for name in _COLUMNS
    ]
    return events.with_columns(cut)


def _beyond(table: pl.DataFrame, name: str) -> int:
    """How many values of a column are to be cut."""
    values = table.get_column(name)
    if values.null_count() == len(values):
        return 0
    array = array_of(table, name)  # -1 where there is no value, and nowhere else
    if array is not None and array.max() <= _BEYOND and array.min() >= -1:
        return 0
    return int((values > _BEYOND).sum())


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
    beyond = sum(_beyond(table, name) for name in values)
    if not beyond:
        return table, 0
    return table.with_columns(pl.col(values).clip(upper_bound=_BEYOND)), beyond
