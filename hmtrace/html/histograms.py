"""Histograms of times, on the axis that the terminal's have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from collectors.records import dataclass, field
from hmtrace.report.histograms import Scale
from hmtrace.report.text import clean, count, duration, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hmtrace.report.histograms import NamedTimes

_BINS: Final = 120
"""Bins of a histogram at most."""
_LEAST: Final = 0.02
"""Height of what is there at all, as a share of the highest."""


@dataclass(frozen=True)
class TimeBar:
    """One bin: place and width in percent, height as a share of the highest, and its words."""

    x: float
    width: float
    height: float
    words: str


@dataclass(frozen=True)
class TimeRow:
    """The times of one kind of call; `words` for who does not see them."""

    name: str
    number: str
    words: str
    bars: tuple[TimeBar, ...]


@dataclass(frozen=True)
class HistogramBlock:
    """Histograms below one another; `ticks` are places in percent and their times."""

    rows: tuple[TimeRow, ...]
    ticks: tuple[tuple[float, str], ...]
    kind: str = field(default="histograms", init=False)


def histogram_block(rows: Sequence[NamedTimes]) -> HistogramBlock:
    """Histograms of a terminal's picture."""
    scale = Scale.of([row.times for row in rows], _BINS)
    percent = 100 / scale.bins
    ticks = tuple((round(at * percent, 2), words) for at, words in scale.ticks(width=1))
    return HistogramBlock(tuple(_row(row, scale, percent) for row in rows), ticks)


def _row(row: NamedTimes, scale: Scale, percent: float) -> TimeRow:
    sums = scale.sums(row.times)
    most = max(sums, default=0)
    bars = tuple(
        TimeBar(
            round(at * percent, 2),
            round(percent, 2),
            round(max(number / most, _LEAST), 3),
            f"from {duration(scale.begin(at))}: {count(number)}",
        )
        for at, number in enumerate(sums)
        if number
    )
    top = sums.index(most) if most else 0
    words = f"{plural(sum(sums), 'call')}, most of them from {duration(scale.begin(top))} on"
    return TimeRow(clean(row.name, 40), count(sum(sums)), words, bars)
