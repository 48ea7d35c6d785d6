"""What charts over the captured time mark on their axis: flushes, purges, waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from hmtrace.report.charts import MOST_DIGIT, MarkRow, StackedChart
from hmtrace.report.parts import Picture, indented, joined
from hmtrace.report.text import duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from replay.over_time import MarkedTimes

_KINDS: Final = {
    "wraps": "",
    "passes": "flushes by kmap_flush_unused()",
    "purges": "lazy, of the arena",
    "waits": "kmap() fell asleep",
}
"""Kinds of marks, and what they are where the name does not say it."""


def mark_rows(marks: MarkedTimes | None) -> tuple[MarkRow, ...]:
    """One row for each kind that happened."""
    if marks is None:
        return ()
    rows = (MarkRow(name, getattr(marks, name)) for name in _KINDS)
    return tuple(row for row in rows if any(row.counts))


def marks_legend(marks: MarkedTimes | None) -> Iterator[RenderableType]:
    """What the digits below a chart mean.

    Yields
    ------
    RenderableType
        One line; nothing without marks.
    """
    rows = mark_rows(marks)
    if rows:
        kinds = [f"{row.name}: {_KINDS[row.name]}" for row in rows if _KINDS[row.name]]
        words = joined([*kinds, f"digits: so many in one column, + more than {MOST_DIGIT}"])
        yield indented(Text(words, style="dim"))


def marks_alone(marks: MarkedTimes | None) -> Iterator[RenderableType]:
    """The marks over an axis of their own, where no chart has them.

    Yields
    ------
    RenderableType
        Axis and legend; nothing without marks.
    """
    rows = mark_rows(marks)
    if marks is None or not rows:
        return
    bins = len(marks.purges)
    ends = (duration(marks.start_ns), duration(marks.start_ns + marks.bin_ns * bins))
    yield Text()
    yield Picture(
        indented(StackedChart((), (), 1, *ends, height=0, marks=rows)), *marks_legend(marks)
    )
