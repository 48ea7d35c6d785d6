"""Whether the work is cheaper on one machine than on another, over the ranges of costs.

Both totals are uncertain by factors, and mostly for the same reason: nobody knows what an
interrupt costs on this board. But on both machines it costs the same, so what counts is the
difference of the numbers of operations. It is linear in the costs (:mod:`replay.cost.units`): over
ranges its extremes are where each operation that there is more of costs its most and each that
there is less of its least, or the other way round. They are exact, not sampled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.cost.units import OF_REFILL, REFILL, spread_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from replay.machine.costs import Costs, Spread
    from replay.outcome import Outcome

_NOTHING: Final = 1e-9
"""Part of a number of operations that is but rounding."""


class Turn(NamedTuple):
    """What one figure alone turns a verdict at, all others being the likely ones.

    Attributes
    ----------
    figure
        Its name in :class:`replay.machine.costs.Costs`; ``refill`` where none of its three figures
        alone does.
    at
        Its value there: ns, entries or a share.
    above
        Whether the verdict is another one above that value; else below.
    """

    figure: str
    at: float
    above: bool


class CostVerdict(NamedTuple):
    """What a machine costs more than another.

    Attributes
    ----------
    low, likely, high
        The difference in ns: its least over the ranges, with the likely costs, and its most.
    turn
        The figure that turns the verdict with the smallest step through its range; None where it
        holds, or where no figure alone does.
    is_bounded
        The figures of the other machine are bounds, of which this verdict does not follow: it may
        be another one even with the likely costs.
    asleep
        So many tasks more sleep for ever on the other machine: what they would have done there is
        missing, and the costs are not those of the same work.
    """

    low: float
    likely: float
    high: float
    turn: Turn | None
    is_bounded: bool = False
    asleep: int = 0

    @property
    def word(self) -> str:
        """``cheaper``, ``dearer`` or ``same``, with the likely costs."""
        if not self.likely:
            return "same"
        return "dearer" if self.likely > 0 else "cheaper"

    @property
    def holds(self) -> bool:
        """Whether the word is the same for every choice of costs in their ranges."""
        if self.asleep:
            return False
        if self.word == "same":
            return not self.low and not self.high
        return self.low >= 0 if self.likely > 0 else self.high <= 0


def cost_verdict(here: Outcome, there: Outcome) -> CostVerdict:
    """Whether the work of `there` is cheaper than that of `here`.

    Parameters
    ----------
    here, there
        The same workload on two machines. A figure that is the same on both, range and all, is the
        same draw on both, if they are of one architecture; else each has its own.

    Returns
    -------
    CostVerdict
    """
    verdict = compare(
        [(here.cost.units, -1), (there.cost.units, 1)],
        [here.machine.costs, there.machine.costs],
        alike=here.machine.arch == there.machine.arch,
    )
    asleep = max(there.pool.asleep - here.pool.asleep, 0)
    bound = "about" if there.arena.apart else there.bound
    return verdict._replace(is_bounded=is_bounded(verdict.likely, bound, asleep), asleep=asleep)


def is_bounded(likely: float, bound: str | None, asleep: int = 0) -> bool:
    """Whether figures that are bounds leave open which way a difference goes.

    Or whether so many tasks more sleep for ever at all, where there are any.
    """
    if asleep > 0:
        return bound in ("about", "most")
    if not likely:
        return bound is not None
    return bound in ("about", "least" if likely < 0 else "most")


def lock_verdict(here: Outcome, there: Outcome) -> CostVerdict:
    """Whether a call of the pool holds kmap_lock for less time `there`, on average, than `here`."""
    return compare(
        [(here.cost.lock_units, -1), (there.cost.lock_units, 1)],
        [here.machine.costs, there.machine.costs],
        alike=here.machine.arch == there.machine.arch,
    )


def compare(
    work: Iterable[tuple[Mapping[str, float], float]], costs: Iterable[Costs], *, alike: bool = True
) -> CostVerdict:
    """The sum of two amounts of work over the ranges of costs.

    Parameters
    ----------
    work
        Twice operations by name, and what they count: 1, or -1 for what they are compared with.
    costs
        The costs of both.
    alike
        Whether what costs the same on both does so by the same cause.

    Examples
    --------
    Fewer interrupts for more walks: better unless an interrupt is cheap.

    >>> from replay.machine.costs import Costs
    >>> costs = Costs.certain({"lock": 10}).with_values({"ipi_base": [500, 1000, 5000]})
    >>> found = compare([({"ipi_base": 9, "lock": 1}, -1), ({"ipi_base": 8, "lock": 81}, 1)],
    ...                 [costs, costs])
    >>> found.word, found.holds, found.low, found.high
    ('cheaper', False, -4200.0, 300.0)
    >>> found.turn
    Turn(figure='ipi_base', at=800.0, above=False)
    """
    (one, sign), (other, other_sign) = work
    first, second = costs
    terms: list[tuple[str, float, Spread, Costs]] = []
    for unit in dict.fromkeys((*one, *other)):
        here, there = spread_of(first, unit), spread_of(second, unit)
        number, more = sign * one.get(unit, 0.0), other_sign * other.get(unit, 0.0)
        if alike and here == there:
            terms.append((unit, _rounded(number + more, number), here, first))
        else:
            terms += [(unit, number, here, first), (unit, more, there, second)]
    likely = sum(number * spread.likely for _, number, spread, _ in terms)
    low = sum(
        number * (spread.low if number > 0 else spread.high) for _, number, spread, _ in terms
    )
    high = sum(
        number * (spread.high if number > 0 else spread.low) for _, number, spread, _ in terms
    )
    verdict = CostVerdict(low, likely, high, None)
    return verdict if verdict.holds else verdict._replace(turn=_turn(terms, likely))


def _rounded(difference: float, of: float) -> float:
    return 0.0 if abs(difference) <= _NOTHING * abs(of) else difference


def _turn(terms: list[tuple[str, float, Spread, Costs]], likely: float) -> Turn | None:
    """The figure that makes nothing of the difference with the smallest step in its range."""
    found: list[tuple[float, Turn]] = []
    for unit, number, spread, costs in terms:
        if not number:
            continue
        at = spread.likely - likely / number
        if not spread.low <= at <= spread.high:
            continue
        way = spread.high - spread.likely if at > spread.likely else spread.likely - spread.low
        step = abs(at - spread.likely) / way if way else 0.0
        found.append((step, _in_figures(unit, at, spread.likely, costs)))
    return min(found, key=lambda one: one[0])[1] if found else None


def _in_figures(unit: str, at: float, likely: float, costs: Costs) -> Turn:
    """The turn as a figure of the costs: of a refill the first of its figures that reaches it."""
    above = at > likely
    if unit != REFILL or not likely:
        return Turn(unit, at, above)
    for name in reversed(OF_REFILL):
        figure = costs.spread(name)
        value = figure.likely * at / likely
        if figure.low <= value <= figure.high:
            return Turn(name, value, above)
    return Turn(REFILL, at, above)
