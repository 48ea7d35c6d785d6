"""The event table of a capture as a lazy polars source: nothing is read until it is collected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polars.io.plugins import register_io_source

from collectors.capture import BATCH_ROWS
from collectors.events import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import polars as pl


def source(
    name: str, whole: Callable[[], pl.LazyFrame], first: Callable[[int], pl.LazyFrame]
) -> pl.LazyFrame:
    """Make an event table that is asked for when the frame is collected.

    Parameters
    ----------
    name
        For explanations of a query.
    whole, first
        Give the table, or at least that many of its first rows.

    Returns
    -------
    polars.LazyFrame
        Columns of :data:`collectors.events.SCHEMA`.
    """

    def read(
        columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,
    ) -> Iterator[pl.DataFrame]:
        events = whole() if n_rows is None else first(n_rows)
        if predicate is not None:
            events = events.filter(predicate)
        if columns is not None:
            events = events.select(columns)
        yield from events.collect_batches(chunk_size=batch_size or BATCH_ROWS, maintain_order=True)

    return register_io_source(read, schema=SCHEMA, is_pure=True, explain_name=name)
