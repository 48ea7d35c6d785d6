"""How long calls took and mappings were held: histograms below one another, on one axis of time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from collectors.records import dataclass
from hmtrace.report.charts import AXIS_STYLE, EIGHTHS
from hmtrace.report.parts import Picture, heading, indented
from hmtrace.report.text import clean, count, duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from replay.outcome import Histogram, Observed

_HEIGHT: Final = 2
"""Lines of each histogram."""
_QUARTERS: Final = 4
"""Bins per doubling of the figures; pictures join them where there is no room."""
_ROUNDED: Final = 1 + 1e-3
_STYLE: Final = Style(color="cyan")
_NAME_MOST: Final = 16
_TICKS: Final = tuple(10.0**power for power in range(13))
"""Times that the axis may name, in ns."""


def times_sections(observed: Observed | None) -> Iterator[RenderableType]:
    """Histograms of the times in calls and of the times that mappings were held.

    Parameters
    ----------
    observed
        None for another machine than the captured one.

    Yields
    ------
    RenderableType
        A heading and a picture each; nothing where no time is known.
    """
    if observed is None:
        return
    held = [NamedTimes(times.api, times.histogram) for times in observed.holds]
    if held:
        yield heading("Hold times", "from map to unmap, by one task")
        yield Picture(indented(Histograms(held)), _legend())
    calls = [NamedTimes(call.op, call.histogram) for call in observed.durations if call.histogram]
    if calls:
        yield heading("Times of calls", "from entry to return")
        yield Picture(indented(Histograms(calls)), _legend())


def _legend() -> RenderableType:
    words = "height: share of the row's calls; ▁ is at least one call; time grows by factors"
    return indented(Text(words, style="dim"))


@dataclass(frozen=True)
class NamedTimes:
    """A row of :class:`Histograms`: a name that may be foreign, and its times."""

    name: str
    times: Histogram


class Histograms:
    """Histograms of times, on one logarithmic axis.

    Parameters
    ----------
    rows
        At least one, each with at least one time.
    """

    def __init__(self, rows: Sequence[NamedTimes]) -> None:
        self.rows = rows

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(30, options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        names = [clean(row.name, _NAME_MOST) for row in self.rows]
        numbers = [count(sum(row.times.counts)) for row in self.rows]
        margin = max(map(len, names)) + 2 + max(map(len, numbers))
        scale = Scale.of([row.times for row in self.rows], max(options.max_width - margin - 2, 8))
        for row, name, number in zip(self.rows, names, numbers, strict=True):
            bars = drawn(scale.columns(row.times), _HEIGHT)
            for line, bar in enumerate(bars):
                is_last = line == len(bars) - 1
                label = f"{name}{number:>{margin - len(name)}}" if is_last else " " * margin
                yield Segment(f"{label} │", AXIS_STYLE)
                yield Segment(bar.rstrip(), _STYLE)
                yield Segment.line()
        axis, labels = scale.axis()
        yield Segment(" " * margin + " └" + axis, AXIS_STYLE)
        yield Segment.line()
        yield Segment(" " * (margin + 2) + labels, AXIS_STYLE)
        yield Segment.line()


@dataclass(frozen=True)
class Scale:
    """Columns of a logarithmic axis of time.

    Attributes
    ----------
    first
        Number of the first bin, in quarters of a doubling; what is shorter is in it.
    bins
        How many there are.
    join
        Quarters of a doubling in a bin: 1, 2, 4 …
    wide
        Columns of a bin.
    """

    first: int
    bins: int
    join: int
    wide: int

    @classmethod
    def of(cls, every: Sequence[Histogram], room: int) -> Scale:
        """The finest one that has all times in so many columns.

        Parameters
        ----------
        every
            What is drawn.
        room
            Columns at most.
        """
        numbers = [_number(edge) for one in every for edge in one.from_ns]
        low, high = min(numbers), max(numbers)
        join = 1
        while (high // join - low // join + 1) > room:
            join *= 2
        bins = high // join - low // join + 1
        return cls(low // join, bins, join, max(1, room // bins))

    def sums(self, times: Histogram) -> list[int]:
        """How many times each bin has."""
        sums = [0] * self.bins
        for edge, number in zip(times.from_ns, times.counts, strict=True):
            sums[_number(edge) // self.join - self.first] += number
        return sums

    def columns(self, times: Histogram) -> list[int]:
        """How many times each column stands for; the columns of a bin have the same."""
        return [number for number in self.sums(times) for _ in range(self.wide)]

    def begin(self, at: int) -> float:
        """Time in ns at which a bin begins."""
        return float(2 ** ((self.first + at) * self.join / _QUARTERS))

    def ticks(self, width: int) -> list[tuple[int, str]]:
        """Places of round times, with bins so wide, and what they are called."""
        places = ((_number(ns) // self.join - self.first, ns) for ns in _TICKS)
        return [
            (at * width, duration(ns).replace(".0", "")) for at, ns in places if 0 <= at < self.bins
        ]

    def axis(self) -> tuple[str, str]:
        """Line of the axis with its ticks, and the times below them as far as there is room."""
        width = self.bins * self.wide
        line, labels = ["─"] * width, ""
        for at, words in self.ticks(self.wide):
            line[at] = "┴"
            if (not labels or at > len(labels)) and at + len(words) <= width:
                labels = f"{labels:<{at}}{words}"
        return "".join(line), labels


def drawn(values: Sequence[int], height: int) -> list[str]:
    """Columns of blocks, the highest as high as there are lines, from the top line down.

    Examples
    --------
    >>> drawn([0, 1, 4, 8], 1)
    [' ▁▄█']
    >>> drawn([16, 8, 1], 2)
    ['█  ', '██▁']
    """
    most = max(values, default=0)
    eighths = [max(round(v / most * height * 8), 1) if v else 0 for v in values]
    return [
        "".join(EIGHTHS[min(max(n - line * 8, 0), 8)] for n in eighths)
        for line in range(height - 1, -1, -1)
    ]


def _number(ns: float) -> int:
    """Number of the bin of a time, in quarters of a doubling from 1 ns on; below that 0."""
    # edges are rounded to 0.001: what is just below one is in it
    return max(0, math.floor(math.log2(ns * _ROUNDED) * _QUARTERS)) if ns > 0 else 0
