"""What two captures of one workload differ by, so that less than that is not called a change.

Two replays of one trace differ by nothing but the machines: there is no noise. Else it is measured
from further captures of the same workload on the same machine, where there are any: their spread,
times what Student's distribution makes of so few of them. Without any it is what counts differ by
whose events come each by chance: :data:`TIMES_CHANCE` times the square root (Poisson). A workload
that comes in bunches differs by more than that, one that does the same each time by less.

A count that repeats so closely that chance would hardly do it is taken at its own spread, one that
does not at that of chance: a few captures that agree tell little of a small count.
"""

from __future__ import annotations

from math import inf, pi, sqrt
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

EXACT, REPEATED, CHANCE, UNTOLD = "exact", "repeated", "chance", "untold"
"""What the noise rests on: nothing is random, other captures of it, counts by chance, nothing."""
TIMES_CHANCE: Final = 3.0
"""Standard deviations: 3 of 1000 such counts differ by more."""
_STEADY: Final = 0.05
"""Probability below which counts by chance would not agree as closely as these do."""
_STUDENT: Final = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)
"""97.5 % quantiles of Student's t for 1, 2, … degrees of freedom (tables of the distribution)."""
_MANY: Final = 2.2


class Rate(NamedTuple):
    """A figure of a run with its units of work.

    Attributes
    ----------
    figure
        What it comes to.
    work
        Units of work; 1 where runs are compared as they are.
    events
        Events that may or may not happen, of which the figure is made; the figure itself, or
        fewer where several of it come together.
    is_counted
        The work is a count of calls, with a noise of its own.
    """

    figure: float
    work: float
    events: float
    is_counted: bool = False


class Noise(NamedTuple):
    """What a figure differs by between runs that are alike.

    Attributes
    ----------
    basis
        :data:`EXACT`, :data:`REPEATED`, :data:`CHANCE` or :data:`UNTOLD`.
    seen
        A difference up to this was seen among runs that are alike, or is expected.
    most
        Up to this a difference says nothing certain; the same as `seen` where no runs were given.
    """

    basis: str
    seen: float
    most: float


NONE: Final = Noise(EXACT, 0.0, 0.0)
ANY: Final = Noise(UNTOLD, 0.0, inf)
"""Of an extreme of a run nothing is known by chance."""


def by_chance(one: Rate, other: Rate) -> float:
    """What two rates differ by if each event comes by chance, in counts of the second run.

    Examples
    --------
    The same work, 100 events each: 3 times the root of 200.

    >>> round(by_chance(Rate(100, 1, 100), Rate(100, 1, 100)), 1)
    42.4

    Of a run that is a tenth as long, with 10 events before, none tells nothing.

    >>> by_chance(Rate(10, 10, 10), Rate(0, 1, 0)) >= 1
    True
    """
    scale = other.work / one.work
    events = one.events + other.events
    bunch = (one.figure + other.figure) / events if events else 1.0
    variance = scale * (one.figure + other.figure) * bunch
    if one.is_counted:
        mean = (one.figure * scale + other.figure) / 2
        variance += mean * mean * (1 / one.work + 1 / other.work)
    return TIMES_CHANCE * sqrt(variance)


def by_turns(one: Rate, other: Rate, share: float) -> float:
    """What two rates differ by that come once for so many of something else, as a pool's wraps.

    Each may have one more or less, by where its pool stood; the rest is the noise of what they are
    counted by, a `share` of it.

    Examples
    --------
    Eight wraps each, of new mappings that differ by 7 % at most.

    >>> round(by_turns(Rate(8, 1, 8), Rate(8, 1, 8), 0.07), 2)
    2.56
    """
    scale = other.work / one.work
    bunch = max(rate.figure / rate.events if rate.events else 1.0 for rate in (one, other))
    return (1 + scale) * bunch + (one.figure * scale + other.figure) / 2 * share


def noise_of(
    one: Rate,
    other: Rate,
    again: Sequence[Sequence[Rate]],
    *,
    exact: bool,
    chance: float | None = None,
) -> Noise:
    """The noise of a figure, in counts of the second run.

    Parameters
    ----------
    one, other
        The two runs.
    again
        Groups of runs that are alike, with `one` or `other` among them.
    exact
        Both are of one trace.
    chance
        What they differ by without any cause; None: as of counts that come by chance.

    Returns
    -------
    Noise

    Examples
    --------
    A count that repeats to the last one is known to one; of one repetition 12.7 times that.

    >>> alike = [Rate(27787, 1, 27787), Rate(27787, 1, 27787)]
    >>> noise = noise_of(alike[0], Rate(27800, 1, 27800), [alike], exact=False)
    >>> noise.basis, round(noise.seen, 1), round(noise.most, 1)
    ('repeated', 1.0, 12.7)

    Eight and eight tell little more than that it is some eight.

    >>> few = [Rate(8, 1, 8), Rate(8, 1, 8)]
    >>> round(noise_of(few[0], Rate(12, 1, 12), [few], exact=False).most, 1)
    13.4
    """
    if exact:
        return NONE
    chance = by_chance(one, other) if chance is None else chance
    groups = [group for group in again if len(group) > 1]
    if not groups:
        return Noise(CHANCE, chance, chance)
    step = other.work / min(rate.work for group in groups for rate in group)
    scaled = [
        [rate._replace(figure=rate.figure * other.work / rate.work) for rate in group]
        for group in groups
    ]
    measured = spread_of(scaled, step)  # counts are told apart by one at least
    widest = _widest(scaled)
    if _is_steady(groups, widest):
        return measured
    beyond = max(by_chance(g[0], rate) * other.work / rate.work for g in groups for rate in g[1:])
    if widest <= beyond:
        return Noise(REPEATED, chance, chance)
    return Noise(REPEATED, max(measured.seen, chance), max(measured.most, chance))


def spread_of(groups: Sequence[Sequence[Rate]], step: float = 0.0) -> Noise:
    """The noise by the spread of groups of figures alone, which are told apart by a `step`."""
    several = [[rate.figure for rate in group] for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in several)
    squares = sum(sum((x - sum(g) / len(g)) ** 2 for x in g) for g in several)
    seen = max(_widest(groups), step)
    spread = max(sqrt(squares / freedom), step / sqrt(2))
    return Noise(REPEATED, seen, max(_student(freedom) * sqrt(2) * spread, seen))


def _widest(groups: Sequence[Sequence[Rate]]) -> float:
    figures = [[rate.figure for rate in group] for group in groups]
    return max(max(group) - min(group) for group in figures)


def _student(freedom: int) -> float:
    return _STUDENT[freedom - 1] if freedom <= len(_STUDENT) else _MANY


def _is_steady(groups: Sequence[Sequence[Rate]], widest: float) -> bool:
    """Whether counts by chance would hardly agree so closely.

    Two such counts of mean n differ by at most d with a probability of about (2 d + 1) over the
    root of 4 pi n, for small d: their difference is all but normal.
    """
    chance = 1.0
    for group in groups:
        mean = sum(rate.events for rate in group) / len(group)
        each = (2 * widest + 1) / sqrt(4 * pi * mean) if mean else inf
        chance *= min(each, 1.0) ** (len(group) - 1)
    return chance < _STEADY
