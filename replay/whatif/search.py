"""The least or greatest value of one option with which a workload meets a condition."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROBES: Final = 9
"""Values spread over the range that are tried before the bisection: they tell whether there is one
border."""


class Tried(NamedTuple):
    """A value that was tried; `holds` is None where no kernel can have it."""

    value: int
    holds: bool | None


class Found(NamedTuple):
    """What a search found.

    Attributes
    ----------
    value
        The value; None: none of them meets the condition.
    beside
        The next value on the other side, which does not meet it; None: there is none.
    is_monotone
        Whether all that were tried agree with one border. Where not, all that were tried beyond
        `value` meet the condition, and some before it do, too.
    tried
        All that were tried, ascending.
    """

    value: int | None
    beside: int | None
    is_monotone: bool
    tried: tuple[Tried, ...]


Steps = Generator[tuple[int, ...], Mapping[int, bool | None], Found]
"""Yields values, is sent whether each meets the condition, and returns what was found."""


def search(
    values: Sequence[int], holds: Callable[[int], bool | None], *, least: bool = True
) -> Found:
    """Find the border of a condition by bisection.

    Parameters
    ----------
    values
        What may be tried, ascending.
    holds
        Whether a value meets the condition; None: no kernel can have it.
    least
        Look for the least value from which on it is met; else for the greatest up to which.

    Returns
    -------
    Found

    Examples
    --------
    >>> found = search(range(100), lambda v: v >= 42)
    >>> found.value, found.beside, found.is_monotone, len(found.tried)
    (42, 41, True, 13)
    >>> search(range(100), lambda v: v <= 42, least=False).value
    42
    """
    steps = searching(values, least=least)
    asked = next(steps)
    while True:
        try:
            asked = steps.send({value: holds(value) for value in asked})
        except StopIteration as end:
            found: Found = end.value
            return found


def searching(values: Sequence[int], *, least: bool = True) -> Steps:
    """The same step by step, so that several searches may go on side by side.

    Parameters
    ----------
    values, least
        As of :func:`search`.

    Yields
    ------
    tuple of int
        Values that are to be tried now, all at once where they do not depend on each other. Whether
        each of them meets the condition is to be sent.

    Returns
    -------
    Found
    """
    order = range(len(values)) if least else range(len(values) - 1, -1, -1)
    known: dict[int, bool | None] = {}
    last = len(values) - 1
    probes = sorted({last * probe // (PROBES - 1) for probe in range(PROBES)})
    told = yield tuple(values[order[place]] for place in probes)
    known.update((place, told[values[order[place]]]) for place in probes)
    good, bad = _border(known, len(values))
    while good - bad > 1:
        middle = yield from _next_known((good + bad) // 2, good, bad, known, values, order)
        if middle is None:
            break
        good, bad = (middle, bad) if known[middle] else (good, middle)
    met = [(place, held) for place, held in sorted(known.items()) if held is not None]
    first = next((place for place, held in met if held), None)
    tried = sorted(Tried(values[order[place]], held) for place, held in known.items())
    return Found(
        value=values[order[good]] if good < len(values) else None,
        beside=values[order[bad]] if bad >= 0 else None,
        is_monotone=first is None or all(held for place, held in met if place >= first),
        tried=tuple(tried),
    )


def _border(known: Mapping[int, bool | None], number: int) -> tuple[int, int]:
    """The first place from which on all meet the condition, and the last that does not.

    Where there is none it is `number`, and -1: the place beyond the ends.
    """
    bad = max((place for place, held in known.items() if held is False), default=-1)
    good = min((place for place, held in known.items() if held and place > bad), default=number)
    return good, bad


def _next_known(
    middle: int, good: int, bad: int, known: dict[int, bool | None], values: Sequence[int],
    order: range,
) -> Generator[tuple[int, ...], Mapping[int, bool | None], int | None]:  # fmt: skip
    """The place next to the middle that a kernel can have; None: there is none in between."""
    for distance in range(good - bad):
        for place in (middle - distance, middle + distance):
            if not bad < place < good:
                continue
            if place not in known:
                value = values[order[place]]
                known[place] = (yield (value,))[value]
            if known[place] is not None:
                return place
    return None
