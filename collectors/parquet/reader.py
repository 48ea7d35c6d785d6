"""Reading hmtrace's own files as captures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from collectors.errors import HmtraceError
from collectors.events import OPS, SCHEMA, require_events
from collectors.input.spool import spool_file
from collectors.parquet.checked import captured, in_slices
from collectors.parquet.metadata import Document

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from collectors.capture import Capture
    from collectors.input.source import Source
    from collectors.parquet.form import TableForm

_AGAIN: Final = "copy the file again, or convert the trace again"


def read_table(
    source: Source, form: TableForm, progress: Callable[[int, int], None] | None = None
) -> Capture:
    """Read an event table that hmtrace wrote, with the facts in its document.

    Every value is decoded once, so that no damage can show later; the file's statistics are not
    believed.

    Parameters
    ----------
    source
        The file.
    form
        Its form.
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
    path = source.file or _copied(source)
    try:
        text = form.document(source.data, path)
        if text is None:
            raise HmtraceError(
                f"this {form.name} file is none that hmtrace wrote",
                hint="hmtrace reads what `hmtrace convert` and `hmtrace synth` write",
            )
        document = Document(text, source.trace)
        events = _with_all_ops(form.scan(path).select(list(SCHEMA)))
        require_events(events)
        rows = events.select(pl.len()).collect().item()
        if form.is_mapped:
            events = in_slices(events, rows)
        return captured(source, document, form.origin, events, rows, progress)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = str(error).partition("\n")[0][:200]
        msg = f"damaged {form.name} file: {reason}"
        raise HmtraceError(msg, source=source.trace, hint=_AGAIN) from None
    except HmtraceError as error:
        error.source = error.source or source.trace
        error.hint = error.hint or _AGAIN
        raise


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
    path = spool_file("input")
    with path.open("wb") as file:
        file.write(source.data.data)
    return path
