"""Parts that can be read again and again, as a lazy polars table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polars.io.plugins import register_io_source

from collectors.events import SCHEMA, reads_itself, with_arrays

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    import polars as pl

    from collectors.events import Rows, TableTotals
    from collectors.table.part import Part


def scan_parts(
    parts: Callable[[Collection[str]], Iterator[Part]],
    some: Callable[[Collection[str], Rows], Iterator[tuple[Rows, Part]]],
    totals: TableTotals | None = None,
) -> pl.LazyFrame:
    """Make a lazy table.

    Parameters
    ----------
    parts
        Gives the parts with the columns that are named, in the order of the names.
    some
        Gives the same of the rows whose numbers are given, and their numbers.
    totals
        What they come to, if that is known.

    Returns
    -------
    polars.LazyFrame
        Columns of :data:`collectors.events.SCHEMA`.
    """

    def read(
        columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        _batch_size: int | None,
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        for part in parts(list(SCHEMA) if columns is None else columns):
            frame = part.frame()
            if left is not None:
                frame = frame.head(left)
                left -= frame.height
            yield frame if predicate is None else frame.filter(predicate)
            if left == 0:
                return

    events = register_io_source(read, schema=SCHEMA, is_pure=True)
    return reads_itself(
        events,
        lambda columns: (with_arrays(part.frame(), part.arrays) for part in parts(columns)),
        lambda columns, rows: ((numbers, part.frame()) for numbers, part in some(columns, rows)),
        totals,
    )
