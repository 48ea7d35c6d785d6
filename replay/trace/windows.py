"""An event table in pieces, behind each other and in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.events import HmtraceError
from replay.trace.sanitise import within_bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import polars as pl

WINDOW_ROWS: Final = 1 << 18
"""Rows of the event table that are looked at together: about 0.2 GB of memory."""
_LAST_POSITION: Final = 1 << 61


class Window(NamedTuple):
    """A piece of an event table.

    Attributes
    ----------
    table
        Sorted by `seq`, behind everything before.
    first_row
        Number of its first row.
    last
        Whether nothing comes behind it.
    beyond
        Number of values that no machine has (:func:`replay.trace.sanitise.within_bounds`).
    """

    table: pl.DataFrame
    first_row: int
    last: bool
    beyond: int


def windows(
    events: pl.LazyFrame,
    total: int,
    rows: int,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Window]:
    """Go through an event table in pieces.

    Parameters
    ----------
    events
        Event table.
    total
        Its rows.
    rows
        Rows per window.
    progress
        Called with the rows done and the rows in all, behind each window.

    Yields
    ------
    Window
        At least one, if need be without rows.

    Raises
    ------
    HmtraceError
        If a table that does not fit into one window is not in order.
    """
    if total <= rows:
        whole, beyond = within_bounds(events.collect().sort("seq"))
        yield Window(whole, 0, last=True, beyond=beyond)
        return
    tell = progress or (lambda _done, _total: None)
    first_row, position = 0, -1
    for batch in events.collect_batches(chunk_size=rows, maintain_order=True):
        if not batch.height:
            continue
        seq = batch.get_column("seq")
        if not seq.is_sorted() or seq[0] < position or seq[-1] >= _LAST_POSITION:
            raise HmtraceError(
                f"the events are not in order near row {first_row}",
                hint="sort the table by column seq",
            )
        position = seq[-1]
        table, beyond = within_bounds(batch)
        yield Window(table, first_row, first_row + batch.height >= total, beyond)
        first_row += batch.height
        tell(first_row, total)
