"""From a table that hmtrace wrote to a capture: checked, for a file may hold anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from collectors.capture import BATCH_ROWS, Capture, Lost, Origin
from collectors.errors import HmtraceError
from collectors.events import SCHEMA, among, batches, reads_itself
from collectors.parquet.layout import SYNTHETIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from collectors.events import Rows, SomeRows
    from collectors.input.source import Source
    from collectors.parquet.metadata import Document

SMALL: Final = 4 << 20
"""Rows up to which a table is kept in memory."""
_LATEST: Final = (1 << 62) - 1
"""Highest position of an event; twice as much is a number still."""
_FULL: Final = ("seq", "ts", "cpu", "ctx", "op", "entry_traced")
"""Columns that are never null."""


def captured(
    source: Source,
    document: Document,
    form: str,
    events: pl.LazyFrame,
    rows: int,
    progress: Callable[[int, int], None] | None,
) -> Capture:
    """Check a table, and keep it in memory if it is small.

    Parameters
    ----------
    source
        The file.
    document
        What its metadata says.
    form
        Of the file, for the capture's origin.
    events, rows
        The table, and its length.
    progress
        Called with (bytes done, bytes in all), estimated from the rows.

    Raises
    ------
    HmtraceError
        If a row is none of an event table, or stands in the wrong place.
    """
    size = len(source.data)
    if rows != document.rows:
        msg = f"the file holds {rows} rows, its metadata speaks of {document.rows}"
        raise HmtraceError(msg, source=source.trace)
    if rows > max(size, 1 << 16):
        msg = f"{size} bytes that claim {rows} rows: refused"
        raise HmtraceError(msg, source=source.trace)
    checked = _checked(events, rows, source.trace, lambda n: _tell(progress, n * size, rows, size))
    if rows <= SMALL:
        events = pl.concat([pl.DataFrame(schema=SCHEMA), *checked]).lazy()
    else:
        for _ in checked:
            pass
    return Capture(
        origin=Origin(
            source.path,
            source.trace,
            SYNTHETIC if document.format == SYNTHETIC else form,
            size,
        ),
        events=events,
        raw_events=document.raw_events,
        clock=document.clock,
        clock_is_ns=document.clock_is_ns,
        span_ns=document.span_ns,
        facts=document.facts,
        lost=Lost(document.lost),
        notes=document.notes,
        markers=document.markers,
        spooled=rows > SMALL,
    )


def in_slices(events: pl.LazyFrame, rows: int) -> pl.LazyFrame:
    """The same table, of so many rows; its pieces are asked for one by one.

    Each is a query of its own, behind which its file is no longer mapped.
    """

    def pieces(columns: list[str]) -> Iterator[pl.DataFrame]:
        wanted = events.select(columns)
        for at in range(0, rows, BATCH_ROWS):
            yield wanted.slice(at, BATCH_ROWS).collect()

    def some(columns: list[str], asked: Rows) -> Iterator[SomeRows]:
        wanted = events.select(columns)
        for at in (np.unique(asked // BATCH_ROWS) * BATCH_ROWS).tolist():
            numbers = among(asked, at, at + BATCH_ROWS)
            yield numbers, wanted.slice(at, BATCH_ROWS).collect()[numbers - at]

    return reads_itself(events.select(pl.all()), pieces, some)


def _tell(progress: Callable[[int, int], None] | None, done: int, of: int, size: int) -> None:
    if progress is not None:
        progress(done // max(of, 1), size)


def _checked(
    events: pl.LazyFrame, rows: int, source: str, tell: Callable[[int], None]
) -> Iterator[pl.DataFrame]:
    """Give the table in batches, each checked.

    Raises
    ------
    HmtraceError
        If a row is none of an event table, or stands in the wrong place.
    """
    seq = pl.col("seq")
    last, done = -1, 0
    for batch in batches(events, list(SCHEMA), BATCH_ROWS):
        if batch.is_empty():
            continue
        nulls = [name for name in _FULL if batch.get_column(name).null_count()]
        if nulls:
            msg = f"column {nulls[0]!r} has empty cells"
            raise HmtraceError(msg, source=source)
        first, final = batch.item(0, "seq"), batch.item(-1, "seq")
        ascending = batch.select((seq > seq.shift()).all()).item()
        if first <= last or not ascending or final > _LATEST:
            msg = f"the rows are not in the order of 'seq' (among rows {done} to "
            msg += f"{done + batch.height})"
            raise HmtraceError(msg, source=source)
        if not batch.select(pl.col("end_seq").is_between(seq, _LATEST).all()).item():
            raise HmtraceError("a call returns before it enters, or never", source=source)
        last = final
        done += batch.height
        tell(done)
        yield batch
    if done != rows:  # polars ends early where a thread of its own gave up
        raise HmtraceError(f"damaged file: {done} of {rows} rows", source=source)
