"""The event table of a capture as a lazy polars source: nothing is read until it is collected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polars.io.plugins import register_io_source

from collectors.capture import BATCH_ROWS
from collectors.events import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import polars as pl


def scan(path: str | Path) -> pl.LazyFrame:
    """Scan a capture; see :func:`collectors.scan`."""

    def read(
        columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,
    ) -> Iterator[pl.DataFrame]:
        from collectors import first_events, open_capture

        events = open_capture(path).events if n_rows is None else first_events(path, n_rows)
        if predicate is not None:
            events = events.filter(predicate)
        if columns is not None:
            events = events.select(columns)
        yield from events.collect_batches(chunk_size=batch_size or BATCH_ROWS, maintain_order=True)

    return register_io_source(read, schema=SCHEMA, is_pure=True, explain_name=f"hmtrace {path}")
