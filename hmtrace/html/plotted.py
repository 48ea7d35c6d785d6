"""Figures of many machines, as pictures have them: by place on the axes, with shades and fronts."""

from __future__ import annotations

from functools import partial
from math import inf, log
from typing import TYPE_CHECKING, Final, NamedTuple

from hmtrace.report.sweep import (
    IN_MIB,
    NONE,
    TITLES,
    columns_of,
    figure_in_words,
    shown,
    varies,
)
from hmtrace.report.text import GLUE, NA
from replay.whatif.figures import FIGURES, sense_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from hmtrace.report.sweep import Sweep
    from replay.whatif.sweep import SweptMachine

SHADES: Final = 7
_WIDE: Final = 20.0
"""How many times the least the greatest figure is from which shades go by orders of magnitude."""
_ROOM: Final = ("user", "lowmem", "vmalloc")
"""What is given up for a better figure, the first of these that differs."""

Key = tuple[str, ...]
"""Words of a machine's values, axis by axis."""


class Plotted(NamedTuple):
    """One figure on many machines.

    Attributes
    ----------
    name, title
        Of the figure; `title` with its unit, where its words have none.
    more_is_better
        Else less is.
    values
        By machine; None: not known.
    text
        The same of a machine in the words of the terminal.
    sense
        Of a machine as of :func:`replay.whatif.figures.sense_of`.
    told
        Words of a value that stands beside an axis.
    """

    name: str
    title: str
    more_is_better: bool
    values: Mapping[Key, float | None]
    text: Callable[[Key], str]
    sense: Callable[[Key], str | None]
    told: Callable[[float], str]

    def rank(self, key: Key) -> float:
        """The value, less where it is better; infinity where it is not known."""
        value = self.values.get(key)
        if value is None:
            return inf
        return -value if self.more_is_better else value


def key_of(words: Mapping[str, str], axes: Iterable[str]) -> Key:
    """Where a machine with these words stands on some axes."""
    return tuple(words[name] for name in axes)


def figures_of_sweep(sweep: Sweep, axes: Sequence[str]) -> list[Plotted]:
    """The figures that tell machines apart: those of the terminal's table, then all others."""
    return plotted([sweep.by, *columns_of(sweep), *FIGURES], sweep.machines, axes)


def plotted(
    names: Iterable[str], machines: Collection[SweptMachine], axes: Sequence[str]
) -> list[Plotted]:
    """Figures of these names that tell machines apart, by the machines' words of some axes."""
    by_key = {key_of(machine.words, axes): machine for machine in machines}
    return [_plotted(name, by_key) for name in dict.fromkeys(names) if varies(machines, name)]


def _plotted(name: str, machines: Mapping[Key, SweptMachine]) -> Plotted:
    def sense(key: Key) -> str | None:
        one = machines[key]
        return sense_of(name, one.figures[name], one.bound, one.figures["arena_apart"])

    return Plotted(
        name,
        TITLES.get(name, name) + (", MiB" if name in IN_MIB else ""),
        FIGURES[name].more_is_better,
        {key: machine.figures[name] for key, machine in machines.items()},
        lambda key: shown(name, machines[key]),
        sense,
        partial(_on_axis, name),
    )


def with_unit(name: str, text: str) -> str:
    """A figure in the words of the terminal's table, with the unit that its title has there."""
    return f"{text}{GLUE}MiB" if name in IN_MIB and text not in (NONE, NA) else text


def _on_axis(name: str, value: float) -> str:
    return figure_in_words(name, round(value) if FIGURES[name].is_whole else value, None)


def room_of(figures: Sequence[Plotted]) -> Plotted | None:
    """What is given up for a better figure; None: nothing that is known of."""
    by_name = {figure.name: figure for figure in figures}
    return next((by_name[name] for name in _ROOM if name in by_name), None)


def front(figure: Plotted, other: Plotted, keys: Iterable[Key]) -> frozenset[Key]:
    """Machines of which no other one is better in one of two figures and no worse in the other."""
    ranks = sorted((figure.rank(key), other.rank(key), key) for key in keys)
    found, least, level = set[Key](), inf, -inf
    for first, second, key in ranks:
        if inf in (first, second):
            continue
        if second < least:
            found.add(key)
            least, level = second, first
        elif (second, first) == (least, level):
            found.add(key)
    return frozenset(found)


def shades(figure: Plotted, keys: Sequence[Key]) -> dict[Key, int]:
    """Shades of the machines whose figure is known, 0 for the best.

    By value; by its order of magnitude where values are far apart.
    """
    values = {key: value for key in keys if (value := figure.values.get(key)) is not None}
    if not values:
        return {}
    low, high = min(values.values()), max(values.values())
    positive = [value for value in values.values() if value > 0]
    least = min(positive, default=0.0)
    by_order = low >= 0 and least > 0 and high / least >= _WIDE

    def place(value: float) -> float:
        """Between 0, the least, and 1."""
        if high == low:
            return 0.0
        if not by_order:
            return (value - low) / (high - low)
        if value <= 0:
            return 0.0
        first = 1 / (SHADES - 1) if low <= 0 else 0.0  # nothing has the first shade for itself
        return first + (1 - first) * log(value / least) / log(high / least)

    return {
        key: round((1 - place(value) if figure.more_is_better else place(value)) * (SHADES - 1))
        for key, value in values.items()
    }


def legend(figure: Plotted, shaded: Mapping[Key, int]) -> Iterator[tuple[int, str]]:
    """What each shade stands for: the figures that have it.

    Yields
    ------
    tuple of int and str
        Shade, and the least and greatest figure in words; the best shade first.
    """
    for shade in sorted(set(shaded.values())):
        keys = sorted((k for k in shaded if shaded[k] == shade), key=figure.rank)
        ends = (figure.values[key] for key in (keys[0], keys[-1]))
        words = dict.fromkeys(figure.told(value) for value in ends if value is not None)
        yield shade, " – ".join(words)
