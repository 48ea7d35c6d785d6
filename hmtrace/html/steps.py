"""Figures over one axis: a chart of each, to scale."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING, Final

from collectors.records import dataclass
from hmtrace.report.sidebyside import MEANINGS, SIGNS
from hmtrace.report.text import clean, count

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from hmtrace.html.plotted import Key, Plotted

HEIGHT: Final = 200
"""Of a chart, in pixels; it is as wide as there is room."""
_MOST: Final = 400
"""Points of a chart."""
_MARKED: Final = 80
"""Points up to which each has a mark of its own."""
_CHARTS: Final = 24
_DECADES: Final = 16.0
"""How many times the least value the greatest is from which an axis is one of ratios."""
_APART: Final = 18
"""Percent of the width between words below it: a telephone has no more room."""
_EDGE: Final = 3.0
"""Room at both sides, in percent."""


@dataclass(frozen=True)
class StepPoint:
    """A machine in a chart: `x` in percent of its width, `y` in pixels from the top.

    `sense` is the sign before its figure: its mark has a shape for each.
    """

    x: float
    y: float
    words: str
    sense: str
    is_captured: bool


@dataclass(frozen=True)
class StepTick:
    """Words beside an axis."""

    at: float
    words: str
    anchor: str = "middle"


@dataclass(frozen=True)
class StepChart:
    """A figure over one axis.

    Attributes
    ----------
    title
        Of the figure.
    points
        From left to right.
    is_line
        Whether they are joined: values in between are possible.
    is_marked
        Whether each has a mark.
    x_ticks, y_ticks
        Words beside the axes.
    found
        Where the value stands that was found, and its words; None: nothing was looked for.
    """

    title: str
    points: tuple[StepPoint, ...]
    is_line: bool
    is_marked: bool
    x_ticks: tuple[StepTick, ...]
    y_ticks: tuple[StepTick, ...]
    found: StepTick | None = None


@dataclass(frozen=True)
class Steps:
    """Charts of the figures, of which one is shown.

    Attributes
    ----------
    number
        Which of the page's they are.
    axis
        What they go over.
    charts
        The first is shown at first.
    signs
        Signs among them, and what they mean.
    has_captured
        Whether the captured machine is among them.
    notes
        What else is to be known.
    height
        Of each, in pixels.
    """

    number: int
    axis: str
    charts: tuple[StepChart, ...]
    signs: tuple[tuple[str, str], ...]
    has_captured: bool
    notes: tuple[str, ...]
    height: int = HEIGHT


def steps(
    axis: str,
    words: Sequence[str],
    numbers: Sequence[float] | None,
    figures: Sequence[Plotted],
    captured: Collection[Key] = (),
    found: tuple[str, str] | None = None,
    number: int = 0,
) -> Steps:
    """Charts of figures over an axis.

    Parameters
    ----------
    axis, words, numbers
        Its name, the words of its values, and the values where they are numbers.
    figures
        By ``(word,)``.
    captured
        Which of them is the captured machine.
    found
        Word of a value that was looked for and found, and what is written beside it.
    number
        Which of the page's charts they are.

    Returns
    -------
    Steps
    """
    places = dict(zip(words, _places(words, numbers), strict=True))
    charts = []
    drawn = len(words)
    for figure in figures[:_CHARTS]:
        kept = _kept(figure, sorted(words, key=lambda word: places[word]))
        drawn = min(drawn, max(len(kept), 1)) if len(words) > _MOST else drawn
        charts.append(_chart(figure, kept, places, captured, found, is_line=numbers is not None))
    signs = {point.sense for chart in charts for point in chart.points}
    notes = []
    if drawn < len(words):
        notes.append(
            f"of {count(len(words))} values about {count(_MOST)} are drawn, the least and the "
            "greatest figure of each stretch among them"
        )
    return Steps(
        number,
        clean(axis),
        tuple(charts),
        tuple((SIGNS[sense], MEANINGS[sense]) for sense in MEANINGS if SIGNS[sense] in signs),
        any(point.is_captured for chart in charts for point in chart.points),
        tuple(notes),
    )


def _places(words: Sequence[str], numbers: Sequence[float] | None) -> Iterator[float]:
    """Where each value stands, in percent of the width."""
    scaled: Sequence[float] = range(len(words))
    if numbers is not None:
        is_wide = min(numbers) > 0 and max(numbers) / min(numbers) >= _DECADES
        scaled = [log(one) for one in numbers] if is_wide else numbers
    low, extent = min(scaled), max(scaled) - min(scaled)
    for one in scaled:
        part = (one - low) / extent if extent else 0.5
        yield round(_EDGE + part * (100 - 2 * _EDGE), 3)


def _kept(figure: Plotted, words: Sequence[str]) -> list[str]:
    """Values whose figure is known; of very many, the extremes of each stretch."""
    known = [word for word in words if figure.values.get((word,)) is not None]
    if len(known) <= _MOST:
        return known
    kept = [known[0]]
    stretch = -(-2 * len(known) // _MOST)
    for start in range(0, len(known), stretch):
        part = known[start : start + stretch]
        extremes = {
            min(part, key=lambda word: figure.rank((word,))),
            max(part, key=lambda word: figure.rank((word,))),
        }
        kept += [word for word in part if word in extremes]
    return list(dict.fromkeys([*kept, known[-1]]))


def _chart(
    figure: Plotted,
    words: Sequence[str],
    places: Mapping[str, float],
    captured: Collection[Key],
    found: tuple[str, str] | None,
    *,
    is_line: bool,
) -> StepChart:
    values = [value for word in words if (value := figure.values[word,]) is not None]
    top = max([*values, 0.0]) or 1.0
    low = min([*values, 0.0])

    def height(value: float) -> float:
        return round((top - value) / (top - low) * HEIGHT, 2)

    points = tuple(
        StepPoint(
            places[word],
            height(value),
            f"{clean(word)}: {figure.text((word,))}",
            SIGNS[figure.sense((word,))],
            (word,) in captured,
        )
        for word, value in zip(words, values, strict=True)
    )
    mark = None
    if found is not None and found[0] in places:
        at = places[found[0]]
        mark = StepTick(at, found[1], "end" if at > 60 else "start")
    return StepChart(
        figure.title,
        points,
        is_line,
        len(points) <= _MARKED,
        tuple(_x_ticks(places)),
        tuple(StepTick(height(value), told) for value, told in _y_ticks(figure, low, top)),
        mark,
    )


def _x_ticks(places: Mapping[str, float]) -> Iterator[StepTick]:
    """Words of some values, far enough from each other for a telephone."""
    ordered = sorted(places.items(), key=lambda one: one[1])
    end, last = ordered[-1][1], -100.0
    for word, place in ordered:
        if place - last >= _APART and (end - place >= _APART or place == end):
            anchor = "start" if place < 10 else "end" if place > 90 else "middle"
            yield StepTick(place, clean(word, 12), anchor)
            last = place


def _y_ticks(figure: Plotted, low: float, top: float) -> Iterator[tuple[float, str]]:
    """Values beside the chart with their words, each once."""
    ends = {low: figure.told(low), top: figure.told(top), 0.0: "0"}
    middle = (low + top) / 2
    if figure.told(middle) not in ends.values():
        ends[middle] = figure.told(middle)
    yield from ends.items()
