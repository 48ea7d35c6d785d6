"""An event table in pieces, behind each other and in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from collectors.ahead import ahead
from collectors.events import SCHEMA, HmtraceError, batches
from replay.trace.sanitise import narrow_events, within_bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    import polars as pl

    from replay.machine.layout import Layout

_Seen = TypeVar("_Seen")
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
    layout: Layout,
    look: Callable[[Window], _Seen],
    progress: Callable[[int, int], None] | None = None,
    unused: Collection[str] = (),
) -> Iterator[_Seen]:
    """Go through an event table in pieces.

    Parameters
    ----------
    events
        Event table.
    total
        Its rows.
    rows
        Rows per window.
    layout
        Of the machine that it is from: where its addresses are wide, the windows have them cut
        (:func:`replay.trace.sanitise.narrow_events`).
    look
        Looks at each window first, one or two ahead of what is asked for.
    progress
        Called with the rows done and the rows in all, behind each window.
    unused
        Columns that the windows need not have.

    Yields
    ------
    What `look` gives of each window; there is at least one, if need be without rows.

    Raises
    ------
    HmtraceError
        If a table that does not fit into one window is not in order.
    """
    columns = [name for name in SCHEMA if name not in unused]
    if total <= rows:
        whole = events.select(columns).collect()
        if not whole.get_column("seq").is_sorted():
            whole = whole.sort("seq")
        whole, beyond = within_bounds(narrow_events(whole, layout))
        yield look(Window(whole, 0, last=True, beyond=beyond))
        return
    made = _in_order(events, total, rows, layout, columns)
    for done, seen in ahead((w.first_row + w.table.height, look(w)) for w in made):
        yield seen
        if progress is not None:
            progress(done, total)


def _in_order(
    events: pl.LazyFrame, total: int, rows: int, layout: Layout, columns: list[str]
) -> Iterator[Window]:
    """The windows of a table that does not fit into one."""
    first_row, position = 0, -1
    for batch in batches(events, columns, rows):
        if not batch.height:
            continue
        seq = batch.get_column("seq")
        if not seq.is_sorted() or seq[0] < position or seq[-1] >= _LAST_POSITION:
            raise HmtraceError(
                f"the events are not in order near row {first_row}",
                hint="sort the table by column seq",
            )
        position = seq[-1]
        table, beyond = within_bounds(narrow_events(batch, layout))
        yield Window(table, first_row, first_row + batch.height >= total, beyond)
        first_row += batch.height
