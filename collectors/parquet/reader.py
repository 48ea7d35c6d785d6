"""Reading hmtrace's own Parquet files as captures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from collectors.capture import BATCH_ROWS, Capture, Lost, Origin
from collectors.errors import HmtraceError
from collectors.events import OPS, SCHEMA, require_events
from collectors.input.magic import PARQUET
from collectors.input.spool import spool_file
from collectors.parquet.layout import KEY, SYNTHETIC
from collectors.parquet.metadata import Document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from collectors.input.source import Source

SMALL: Final = 4 << 20
"""Rows up to which a table is kept in memory."""
_LATEST: Final = (1 << 62) - 1
"""Highest position of an event; twice as much is a number still."""
_FULL: Final = ("seq", "ts", "cpu", "ctx", "op", "entry_traced")
"""Columns that are never null."""


def read_capture(source: Source, progress: Callable[[int, int], None] | None = None) -> Capture:
    """Read an event table that hmtrace wrote, with the facts in its metadata.

    Every value is decoded once, so that no damage can show later; the file's statistics are not
    believed.

    Parameters
    ----------
    source
        The file.
    progress
        Called with (bytes done, bytes in all), estimated from the rows.

    Returns
    -------
    Capture

    Raises
    ------
    HmtraceError
        If the file is damaged, is not one of hmtrace, or contradicts itself.
    """
    size = len(source.data)
    if size < 12 or source.data[-4:].tobytes() != PARQUET:
        raise HmtraceError("the Parquet file ends early: it is truncated", source=source.trace)
    path = source.file or _copied(source)
    try:
        document, events = _read(source, path, progress)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise HmtraceError(f"damaged Parquet file: {reason}", source=source.trace) from None
    except HmtraceError as error:
        error.source = error.source or source.trace
        raise
    return Capture(
        origin=Origin(
            source.path,
            source.trace,
            SYNTHETIC if document.format == SYNTHETIC else "hmtrace-parquet",
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
        spooled=document.rows > SMALL,
    )


def _read(
    source: Source, path: Path, progress: Callable[[int, int], None] | None
) -> tuple[Document, pl.LazyFrame]:
    """Read and check the metadata and the table, which is kept in memory if it is small."""
    size = len(source.data)
    text = pl.read_parquet_metadata(path).get(KEY)
    if text is None:
        raise HmtraceError(
            "a Parquet file, but none that hmtrace wrote",
            source=source.trace,
            hint="hmtrace reads what `hmtrace convert` and `hmtrace synth` write",
        )
    document = Document(text, source.trace)
    events = pl.scan_parquet(path, glob=False, use_statistics=False).select(list(SCHEMA))
    events = _with_all_ops(events)
    require_events(events)
    rows = events.select(pl.len()).collect().item()
    if rows != document.rows:
        msg = f"the file holds {rows} rows, its metadata speaks of {document.rows}"
        raise HmtraceError(msg, source=source.trace)
    if rows > max(size, 1 << 16):
        msg = f"{size} bytes that claim {rows} rows: refused"
        raise HmtraceError(msg, source=source.trace)
    checked = _checked(events, rows, source.trace, lambda n: _tell(progress, n * size, rows, size))
    if rows <= SMALL:
        return document, pl.concat([pl.DataFrame(schema=SCHEMA), *checked]).lazy()
    for _ in checked:
        pass
    return document, events


def _with_all_ops(events: pl.LazyFrame) -> pl.LazyFrame:
    """The table of an earlier version, which knew fewer operations, as one of this version."""
    kind = events.collect_schema().get("op")
    if isinstance(kind, pl.Enum):
        known = tuple(kind.categories)
        if known != OPS and known == OPS[: len(known)]:
            return events.with_columns(pl.col("op").cast(pl.String).cast(SCHEMA["op"]))
    return events


def _copied(source: Source) -> Path:
    """Put a file that has no name (stdin, decompressed) where polars can read it."""
    path = spool_file("input.parquet")
    with path.open("wb") as file:
        file.write(source.data.data)
    return path


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
    for batch in events.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
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
        raise HmtraceError(f"damaged Parquet file: {done} of {rows} rows", source=source)
