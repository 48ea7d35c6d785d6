"""Slots of the pool over time: which are in use, which stale, as a map of shades."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from rich.measure import Measurement
from rich.segment import Segment
from rich.text import Text

from collectors.records import dataclass
from hmtrace.report.charts import (
    AXIS_STYLE,
    STALE,
    STALE_STYLE,
    USED_STYLE,
    styled,
    time_labels,
)
from hmtrace.report.parts import Picture, heading, indented
from hmtrace.report.text import count, duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.style import Style

    from replay.over_time import SlotMap, Timeline

_LINES: Final = 16
_SHADES: Final = "▒▓█"
"""Slots in use, by their share of a cell: up to a third, two thirds, all."""
_FULL: Final = 255


def slots_section(timeline: Timeline | None) -> Iterator[RenderableType]:
    """Map of the pool's slots over time.

    Parameters
    ----------
    timeline
        None where nobody asked for it.

    Yields
    ------
    RenderableType
        Heading, map, legend; nothing where the pool is not known.
    """
    if timeline is None or timeline.slot_map is None or not timeline.slot_map.used:
        return
    slots = len(timeline.slot_map.used)
    end = timeline.column_ns * timeline.columns
    yield heading("Slots over time", "of the pool, by their numbers")
    lines = min(_LINES, slots)
    yield Picture(
        indented(SlotPicture(timeline.slot_map, lines, duration(0), duration(end))),
        indented(
            Text(
                f"      in use: ▒ some   ▓ over 1/3   █ over 2/3   {STALE} stale   "
                f"({slots // lines} slots a line)",
                style="dim",
            )
        ),
    )


@dataclass(frozen=True)
class SlotPicture:
    """A map of slots by time, slot 0 at the bottom.

    Parameters
    ----------
    slots
        What is drawn.
    lines
        Lines of the picture; slots are joined.
    left, right
        Labels under the two ends of the time axis.
    """

    slots: SlotMap
    lines: int
    left: str
    right: str

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(30, options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        number = len(self.slots.used)
        margin = len(count(number - 1)) + 1
        columns = max(options.max_width - margin - 2, 8)
        for line in range(self.lines):
            top = number - line * number // self.lines
            bottom = number - (line + 1) * number // self.lines
            label = count(bottom) if line % 4 == 3 or line == self.lines - 1 else ""
            yield Segment(f"{label:>{margin}} {'┤' if label else '│'}", AXIS_STYLE)
            used = _means(self.slots.used[bottom:top], columns)
            stale = _means(self.slots.stale[bottom:top], columns)
            yield from _shaded(used, stale)
            yield Segment.line()
        yield Segment(" " * margin + " └" + "─" * columns, AXIS_STYLE)
        yield Segment.line()
        yield time_labels(self.left, self.right, margin, columns, options.max_width)


def _means(rows: tuple[tuple[int, ...], ...], columns: int) -> list[float]:
    """Mean of several rows in each of so many columns, 0 to 1; never 0 where there is anything."""
    have = len(rows[0])
    sums = [sum(row[at] for row in rows) / (_FULL * len(rows)) for at in range(have)]
    edges = [column * have // columns for column in range(columns + 1)]
    cells = [sums[a : max(b, a + 1)] for a, b in pairwise(edges)]
    return [sum(cell) / len(cell) for cell in cells]


def _shaded(used: list[float], stale: list[float]) -> RenderResult:
    """Segments of one line, without what is empty at its end."""
    cells: list[tuple[str, Style | None]] = []
    for share, left in zip(used, stale, strict=True):
        if share > 0:
            cells.append((_SHADES[min(int(share * len(_SHADES)), len(_SHADES) - 1)], USED_STYLE))
        else:
            cells.append((STALE, STALE_STYLE) if left > 0 else (" ", None))
    while cells and cells[-1][1] is None:
        cells.pop()
    yield from styled(cells)
