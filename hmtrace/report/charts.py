"""Small pictures in characters: a bar, and a chart of a stacked quantity over time.

They are rich renderables, so they fill the width they are given. No figure is told by colour
alone: used slots are solid blocks, stale ones are light shade.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from hmtrace.report.text import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

EIGHTHS = " ▁▂▃▄▅▆▇█"
"""Block of n eighths, growing upwards."""
_LEFT_EIGHTHS = " ▏▎▍▌▋▊▉█"
STALE = "░"
_USED_STYLE = Style(color="cyan")
_STALE_STYLE = Style(color="yellow", dim=True)
_AXIS_STYLE = Style(dim=True)


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
        Lines of the plot, without the axis.
    """

    lower: Sequence[float]
    upper: Sequence[float]
    ceiling: float
    left: str
    right: str
    height: int = 6

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(30, options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        labels = {0: count(self.ceiling)}
        if self.height >= 5 and self.ceiling >= 4:
            labels[self.height // 2] = count(
                self.ceiling - self.ceiling * (self.height // 2) / self.height
            )
        margin = max(map(len, labels.values())) + 1
        columns = max(options.max_width - margin - 2, 8)
        solid = resample(self.lower, columns)
        shaded = resample(self.upper, columns)
        for row in range(self.height):
            yield Segment(
                f"{labels.get(row, ''):>{margin}} ┤" if row in labels else " " * margin + " │",
                _AXIS_STYLE,
            )
            floor = (self.height - 1 - row) / self.height * self.ceiling
            yield from self._row(solid, shaded, floor)
            yield Segment.line()
        yield Segment(f"{'0':>{margin}} └" + "─" * columns, _AXIS_STYLE)
        yield Segment.line()
        axis = Text(" " * (margin + 2) + self.left, style=_AXIS_STYLE)
        axis.append(" " * max(columns - len(self.left) - len(self.right), 1) + self.right)
        axis.truncate(options.max_width)
        yield axis

    def _row(self, solid: list[float], shaded: list[float], floor: float) -> RenderResult:
        """Segments of one line: runs of equal style, so that colour codes stay few."""
        step = self.ceiling / self.height
        run, style = "", _USED_STYLE
        for low, high in zip(solid, shaded, strict=True):
            filled = (low - floor) / step
            if filled <= 0.06 and low + high - floor >= step / 2:
                char, wanted = STALE, _STALE_STYLE
            elif filled > 0:
                char, wanted = EIGHTHS[min(max(round(filled * 8), 1), 8)], _USED_STYLE
            else:
                char, wanted = " ", style
            if wanted is not style and run:
                yield Segment(run, style)
                run = ""
            run, style = run + char, wanted
        yield Segment(run, style)
