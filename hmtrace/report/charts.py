"""Small pictures in characters: a bar, and a chart of a stacked quantity over time.

They are rich renderables, so they fill the width they are given. No figure is told by colour
alone: used slots are solid blocks, stale ones are light shade.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from collectors.records import dataclass
from hmtrace.report.text import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

EIGHTHS = " ▁▂▃▄▅▆▇█"
"""Block of n eighths, growing upwards."""
_LEFT_EIGHTHS = " ▏▎▍▌▋▊▉█"
STALE = "░"
USED_STYLE = Style(color="cyan")
STALE_STYLE = Style(color="yellow", dim=True)
AXIS_STYLE = Style(dim=True)
_MARK_STYLE = Style(bold=True)


def bar(fraction: float, width: int) -> str:
    """Horizontal bar of eighth blocks.

    Parameters
    ----------
    fraction
        0 to 1; values outside are clipped. Above 0, at least one eighth is drawn.
    width
        Characters at most.

    Returns
    -------
    str
        Without trailing blanks.

    Examples
    --------
    >>> bar(0.5, 8)
    '████'
    """
    eighths = round(min(max(fraction, 0.0), 1.0) * width * 8)
    if fraction > 0:
        eighths = max(eighths, 1)
    full, rest = divmod(eighths, 8)
    return "█" * full + (_LEFT_EIGHTHS[rest] if rest else "")


class Bar(Text):
    """A bar as a cell of a table.

    Parameters
    ----------
    fraction, width
        As of :func:`bar`.
    """

    def __init__(self, fraction: float, width: int) -> None:
        super().__init__(bar(fraction, width))
        self.fraction = fraction


def resample(values: Sequence[float], columns: int) -> list[float]:
    """Reduce bins to columns by their maximum; repeat bins where there are fewer than columns.

    Parameters
    ----------
    values
        One value per bin.
    columns
        Length of the result.

    Returns
    -------
    list of float
        Empty if `values` is.

    Examples
    --------
    >>> resample([1, 5, 2, 3], 2), resample([1, 2], 4)
    ([5, 3], [1, 1, 2, 2])
    """
    bins = len(values)
    if not bins:
        return []
    return [
        max(values[c * bins // columns : max((c + 1) * bins // columns, c * bins // columns + 1)])
        for c in range(columns)
    ]


@dataclass(frozen=True)
class MarkRow:
    """How often something happened in each bin of a chart's time, to be drawn as a row of digits.

    Parameters
    ----------
    name
        Stands where the labels of the other axis stand.
    counts
        One per bin; there is at least one.
    """

    name: str
    counts: Sequence[int]

    def drawn(self, columns: int) -> str:
        """One character a column: a digit, ``+`` for more than nine, a blank for none.

        Examples
        --------
        >>> MarkRow("wraps", [0, 1, 0, 12]).drawn(4), MarkRow("wraps", [0, 1, 0, 12]).drawn(2)
        (' 1 +', '1+')
        """
        return "".join(
            " " if not n else str(n) if n <= MOST_DIGIT else "+" for n in self.by_column(columns)
        )

    def by_column(self, columns: int) -> list[int]:
        """How often in each column; where bins are fewer, in the first one of its own."""
        bins = len(self.counts)
        if bins >= columns:
            edges = [column * bins // columns for column in range(columns + 1)]
            return [sum(self.counts[a:b]) for a, b in pairwise(edges)]
        sums = [0] * columns
        for at, number in enumerate(self.counts):
            sums[-(-at * columns // bins)] = number
        return sums


MOST_DIGIT: Final = 9
"""More of one kind in one column are a ``+``."""


@dataclass(frozen=True)
class StackedChart:
    """Two stacked quantities over time under a fixed ceiling.

    Parameters
    ----------
    lower, upper
        Values per bin: the solid quantity and the shaded one on top of it, of equal length.
    ceiling
        Value of the top edge (the slots of the pool).
    left, right
        Labels under the two ends of the time axis.
    height
        Lines of the plot, without the axis; 0: the axis alone, for its marks.
    marks
        What is marked below the axis, a row each.
    """

    lower: Sequence[float]
    upper: Sequence[float]
    ceiling: float
    left: str
    right: str
    height: int = 6
    marks: Sequence[MarkRow] = ()

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(30, options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        labels = {0: count(self.ceiling)} if self.height else {}
        if self.height >= 5 and self.ceiling >= 4:
            labels[self.height // 2] = count(
                self.ceiling - self.ceiling * (self.height // 2) / self.height
            )
        margin = max(map(len, (*labels.values(), *(row.name for row in self.marks)))) + 1
        columns = max(options.max_width - margin - 2, 8)
        solid = resample(self.lower, columns)
        shaded = resample(self.upper, columns)
        for line in range(self.height):
            yield Segment(
                f"{labels.get(line, ''):>{margin}} ┤" if line in labels else " " * margin + " │",
                AXIS_STYLE,
            )
            floor = (self.height - 1 - line) / self.height * self.ceiling
            yield from self._row(solid, shaded, floor)
            yield Segment.line()
        yield Segment(f"{'0' if self.height else '':>{margin}} └" + "─" * columns, AXIS_STYLE)
        yield Segment.line()
        for row in self.marks:
            yield Segment(f"{row.name:>{margin}}  ", AXIS_STYLE)
            yield Segment(row.drawn(columns).rstrip(), _MARK_STYLE)
            yield Segment.line()
        yield time_labels(self.left, self.right, margin, columns, options.max_width)

    def _row(self, solid: list[float], shaded: list[float], floor: float) -> RenderResult:
        """Segments of one line."""
        step = self.ceiling / self.height
        cells: list[tuple[str, Style | None]] = []
        for low, high in zip(solid, shaded, strict=True):
            filled = (low - floor) / step
            if filled <= 0.06 and low + high - floor >= step / 2:
                cells.append((STALE, STALE_STYLE))
            elif filled > 0:
                cells.append((EIGHTHS[min(max(round(filled * 8), 1), 8)], USED_STYLE))
            else:
                cells.append((" ", None))
        yield from styled(cells)


def styled(cells: Iterable[tuple[str, Style | None]]) -> Iterator[Segment]:
    """Segments of one line: runs of equal style, so that colour codes stay few.

    Parameters
    ----------
    cells
        Characters with their styles; None for blanks, which any style will do for.

    Yields
    ------
    Segment
    """
    run, style = "", USED_STYLE
    for char, own in cells:
        wanted = style if own is None else own
        if wanted is not style and run:
            yield Segment(run, style)
            run = ""
        run, style = run + char, wanted
    yield Segment(run, style)


def time_labels(left: str, right: str, margin: int, columns: int, width: int) -> Text:
    """Line below an axis of time: the labels of its two ends.

    Parameters
    ----------
    left, right
        The labels.
    margin, columns
        Columns of the labels of the other axis, and of this one.
    width
        Columns that the line has at most.
    """
    axis = Text(" " * (margin + 2) + left, style=AXIS_STYLE)
    axis.append(" " * max(columns - len(left) - len(right), 1) + right)
    axis.truncate(width)
    return axis
