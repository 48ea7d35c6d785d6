"""Reading hmtrace's own Parquet files as captures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from collectors.errors import HmtraceError
from collectors.events import OPS, SCHEMA, require_events
from collectors.input.magic import PARQUET
from collectors.input.spool import spool_file
from collectors.parquet.checked import captured
from collectors.parquet.layout import KEY
from collectors.parquet.metadata import Document

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from collectors.capture import Capture
    from collectors.input.source import Source


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
        document, events, rows = _read(source, path)
        return captured(source, document, "hmtrace-parquet", events, rows, progress)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise HmtraceError(f"damaged Parquet file: {reason}", source=source.trace) from None
    except HmtraceError as error:
        error.source = error.source or source.trace
        raise


def _read(source: Source, path: Path) -> tuple[Document, pl.LazyFrame, int]:
    """Read the metadata, and the table's schema and length."""
    text = pl.read_parquet_metadata(path).get(KEY)
    if text is None:
        raise HmtraceError(
            "a Parquet file, but none that hmtrace wrote",
            source=source.trace,
            hint="hmtrace reads what `hmtrace convert` and `hmtrace synth` write",
        )
    events = pl.scan_parquet(path, glob=False, use_statistics=False).select(list(SCHEMA))
    events = _with_all_ops(events)
    require_events(events)
    return Document(text, source.trace), events, events.select(pl.len()).collect().item()


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
