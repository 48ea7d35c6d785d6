"""A figure over two axes: a table whose cells are shaded by value, and what scripts turn it by."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, Final

from collectors.records import dataclass
from hmtrace.html.page import shown
from hmtrace.html.plotted import Key, front, legend, room_of, shades
from hmtrace.report.text import clean, count

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from hmtrace.html.plotted import Plotted

_LONGEST: Final = 200
"""Values of the axis that has most."""
_LONG: Final = 40
"""Values of each other axis."""
_WIDE: Final = 16
"""Columns up to which the first axis stays that of the rows."""
_CELLS: Final = 60_000
"""Cells times figures on a page."""
_FEWEST: Final = 8
"""Figures that are kept when there are too many cells, if there are so many."""


@dataclass(frozen=True)
class HeatCell:
    """A cell of a heat map; `shade` is None where no figure stands in it."""

    text: str
    shade: int | None
    is_captured: bool
    is_front: bool


@dataclass(frozen=True)
class HeatMap:
    """A heat map.

    Attributes
    ----------
    number
        Which of the page's it is.
    axes
        Names and words of the axes that are drawn; in the words of a terminal, safe to print.
    down, across
        Which of them the rows and columns are.
    caption
        What is shown.
    rows
        Heading and cells of each row.
    legend
        Shade and figures of each.
    notes
        What else is to be known.
    has_captured
        Whether the captured machine is among them.
    front_words
        What the marked front is one of.
    """

    number: int
    axes: tuple[tuple[str, tuple[str, ...]], ...]
    down: int
    across: int
    caption: str
    rows: tuple[tuple[str, tuple[HeatCell, ...]], ...]
    legend: tuple[tuple[int, str], ...]
    notes: tuple[str, ...]
    has_captured: bool
    front_words: str


@dataclass(frozen=True)
class Shading:
    """What a heat map is made of.

    Attributes
    ----------
    axes
        Words of the values by axis, several of each.
    figures
        The first is shown.
    states
        What stands in cells without figures, and why.
    captured
        The captured machine, as often as it is among them.
    start
        Which values are shown of axes that are neither rows nor columns.
    than
        What of each machine is told beside the captured one.
    caveats
        Of each machine alone.
    """

    axes: Mapping[str, Sequence[str]]
    figures: Sequence[Plotted]
    states: Mapping[Key, tuple[str, str]]
    captured: Collection[Key]
    start: Key
    than: Mapping[Key, str]
    caveats: Mapping[Key, Sequence[str]]


def heat_map(shading: Shading, number: int = 0, pages: int = 1) -> tuple[HeatMap, dict[str, Any]]:
    """The map, and what its script needs.

    Parameters
    ----------
    shading
        Figures of machines; there are two axes or more.
    number, pages
        Which of how many maps of the page it is.

    Returns
    -------
    tuple of HeatMap and dict
    """
    figures, axes, notes = _fitting(shading, pages)
    keys = list(product(*axes.values()))
    room = room_of(figures)
    fit = [key for key in keys if key not in shading.states]
    looks = [_Drawing(figure, room, fit) for figure in figures]
    names = list(axes)
    sizes = [len(words) for words in axes.values()]
    down, across = 0, 1  # as the terminal has it
    if max(sizes) > _WIDE:
        down = max(range(len(sizes)), key=lambda at: sizes[at])
        across = next(at for at in range(len(sizes)) if at != down)
    start = [words.index(shading.start[at]) for at, words in enumerate(axes.values())]

    def cell(row: str, column: str) -> HeatCell:
        key = list(shading.start)
        key[down], key[across] = row, column
        return _cell(shading, looks[0], tuple(key))

    first = looks[0].figure
    found = HeatMap(
        number,
        tuple((clean(name), tuple(map(clean, words))) for name, words in axes.items()),
        down,
        across,
        f"{first.title} over {names[down]} and {names[across]}",
        tuple(
            (clean(row), tuple(cell(row, column) for column in axes[names[across]]))
            for row in axes[names[down]]
        ),
        looks[0].legend,
        tuple(notes),
        not set(keys).isdisjoint(shading.captured),
        looks[0].words,
    )
    return found, _data(shading, found, looks, keys, start)


class _Drawing:
    """How a figure is drawn."""

    def __init__(self, figure: Plotted, room: Plotted | None, keys: Sequence[Key]) -> None:
        self.figure = figure
        self.shades = shades(figure, keys)
        self.legend = tuple(legend(figure, self.shades))
        is_one = room is not None and room.name != figure.name
        self.front = front(figure, room, keys) if room is not None and is_one else frozenset[Key]()
        self.words = ""
        if room is not None and is_one:
            better = "more" if figure.more_is_better else "less"
            self.words = (
                f"none has {better} {_bare(figure)} without less {_bare(room)}, as they are shown"
            )

    def text(self, key: Key) -> str:
        """What stands in the machine's cell."""
        return self.figure.text(key) if key in self.figure.values else ""


def _bare(figure: Plotted) -> str:
    return figure.title.partition(",")[0]


def _cell(shading: Shading, look: _Drawing, key: Key) -> HeatCell:
    captured = key in shading.captured
    if key in shading.states:
        return HeatCell(shading.states[key][0], None, captured, is_front=False)
    text = look.text(key)
    return HeatCell(text, look.shades.get(key), captured, key in look.front)


def _fitting(shading: Shading, pages: int) -> tuple[list[Plotted], dict[str, list[str]], list[str]]:
    """Figures and values for which there is room, and what is left out in words."""
    most = max(_CELLS // pages, 1)
    longest = max(shading.axes, key=lambda name: len(shading.axes[name]))
    limits = {name: _LONGEST if name == longest else _LONG for name in shading.axes}
    kept = {name: min(len(words), limits[name]) for name, words in shading.axes.items()}
    while prod(kept.values()) * min(len(shading.figures), _FEWEST) > most:
        name = max(kept, key=lambda one: kept[one])
        kept[name] = max(kept[name] // 2, 2)
    figures = list(shading.figures)[: max(most // prod(kept.values()), _FEWEST)]
    axes = {
        name: _spread(words, kept[name], shading.start[at])
        for at, (name, words) in enumerate(shading.axes.items())
    }
    notes = [
        f"{count(len(axes[name]))} of {count(len(words))} values of {clean(name)} are drawn"
        for name, words in shading.axes.items()
        if len(axes[name]) < len(words)
    ]
    return figures, axes, notes


def _spread(words: Sequence[str], most: int, needed: str) -> list[str]:
    """So many words, evenly, both ends and `needed` among them.

    Examples
    --------
    >>> _spread(["a", "b", "c", "d", "e", "f"], 3, "b")
    ['a', 'b', 'c', 'f']
    """
    if len(words) <= most:
        return list(words)
    last = len(words) - 1
    places = {round(at * last / (most - 1)) for at in range(most)} | {words.index(needed)}
    return [words[place] for place in sorted(places)]


def _data(
    shading: Shading,
    found: HeatMap,
    looks: Sequence[_Drawing],
    keys: Sequence[Key],
    start: list[int],
) -> dict[str, Any]:
    """What the script needs: texts are numbers of `strings`, cells are in the order of `axes`."""
    strings: dict[str, int] = {}

    def told(text: str) -> int:
        return strings.setdefault(shown(text), len(strings))

    own = [tuple(shading.caveats.get(key, ())) for key in keys]
    lists = {caveats: at for at, caveats in enumerate(dict.fromkeys(own))}
    return {
        "axes": found.axes,
        "down": found.down,
        "across": found.across,
        "start": start,
        "figures": [
            {
                "title": look.figure.title,
                "legend": [(shade, shown(words)) for shade, words in look.legend],
                "front": look.words,
                "on": [at for at, key in enumerate(keys) if key in look.front],
                "texts": [told(look.text(key)) for key in keys],
                "shades": "".join(_letter(look.shades.get(key)) for key in keys),
            }
            for look in looks
        ],
        "states": [told(shading.states.get(key, ("", ""))[0]) for key in keys],
        "reasons": [told(shading.states.get(key, ("", ""))[1]) for key in keys],
        "than": [told(shading.than.get(key, "")) for key in keys],
        "captured": [at for at, key in enumerate(keys) if key in shading.captured],
        "own": [lists[caveats] for caveats in own],
        "caveats": [[clean(one, 1000) for one in caveats] for caveats in lists],
        "strings": list(strings),
    }


def _letter(shade: int | None) -> str:
    return "." if shade is None else str(shade)
