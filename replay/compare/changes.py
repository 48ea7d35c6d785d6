"""A figure of two runs, per unit of work: changed, within the noise, a bound, or not known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.compare.figures import COMPARED, COUNT, TIME, KnownFigure
from replay.compare.noise import (
    ANY,
    CHANCE,
    EXACT,
    NONE,
    Rate,
    by_chance,
    by_turns,
    noise_of,
    spread_of,
)
from replay.compare.side import CAPTURED, CauseCost

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from replay.compare.figures import ComparedFigure
    from replay.compare.noise import Noise
    from replay.compare.side import Side

KMAP, EVENT, SECOND, RUN = "kmap", "event", "second", "run"
"""Units of work: a call of kmap(), a call that maps, a second, all of the run."""
UNITS: Final[Mapping[str, int]] = {KMAP: 1000, EVENT: 1000, SECOND: 1, RUN: 1}
"""How many of each figures are given per."""
_EVENTS: Final = ("kmap", "local", "requests")
_MOST: Final = 0.9
"""Share of all calls that map, from which a kind of them is all but what work is counted by."""
_LESS_THAN_ONE: Final = 0.5
"""Difference of counts that are the same, for work that is all but the same."""
_ENOUGH: Final = 100
"""Calls of kmap() from which others are given per so many of them, where there is the choice."""

SAME, WITHIN, PERHAPS, CHANGED, BOUND, UNKNOWN = (
    "same", "within", "perhaps", "changed", "bound", "unknown",
)  # fmt: skip
"""Verdicts: equal; within the noise; more than runs that are alike differed by, but too few of them
tell; more than the noise; at least or at most so much, and that is more than the noise; not known.
"""


NOT_MORE, NOT_LESS = "not more", "not less"
"""Why a change is not known of which the way is."""


class Change(NamedTuple):
    """A figure of both runs.

    Attributes
    ----------
    name
        Of :data:`replay.compare.figures.COMPARED`.
    kind
        Its kind.
    one, other
        The figure of each.
    rates
        Per unit of work, of each; None: not known, or there was no work.
    verdict
        One of those above.
    difference
        Of the second from what the first comes to for the second's work, in the figure's unit;
        None: not known.
    share
        The same as a share of what the first comes to; None where that is nothing.
    sense
        ``least`` or ``most`` where the difference is a bound.
    noise
        None: not asked, as of a figure that is not compared.
    cost_ns
        What the change costs per unit of work more, with likely costs; None: not known.
    why
        Why it is not known.
    """

    name: str
    kind: str
    one: KnownFigure
    other: KnownFigure
    rates: tuple[float | None, float | None]
    verdict: str
    difference: float | None = None
    share: float | None = None
    sense: str | None = None
    noise: Noise | None = None
    cost_ns: float | None = None
    why: str = ""

    @property
    def is_change(self) -> bool:
        """Whether it is called one."""
        return self.verdict in (CHANGED, BOUND)


class WorkUnits(NamedTuple):
    """What figures are given per.

    Attributes
    ----------
    unit
        One of :data:`UNITS`.
    one, other
        Units of each run, as they are known.
    kinds
        Figures that calls that map are counted by.
    """

    unit: str
    one: KnownFigure
    other: KnownFigure
    kinds: tuple[str, ...] = _EVENTS

    def of(self, side: Side) -> float | None:
        """Units of a run; None: not known."""
        return work_of(side, self.unit, self.kinds).value

    @property
    def senses(self) -> set[str]:
        """In which senses the units of both hold; empty: as they stand."""
        return {known.sense for known in (self.one, self.other) if known.sense}

    @property
    def per(self) -> int:
        """So many units."""
        return UNITS[self.unit]

    @property
    def is_counted(self) -> bool:
        """Whether the unit is a call, so that there might have been more or fewer by chance."""
        return self.unit in (KMAP, EVENT)

    def is_it(self, change: Change) -> bool:
        """Whether a figure is what work is counted by: then it is the same per unit, always."""
        if self.unit == KMAP:
            return change.name == KMAP
        mine = self.unit == EVENT and change.name in self.kinds
        pairs = ((change.one, self.one), (change.other, self.other))
        return mine and all((k.value or 0) >= _MOST * (of.value or 0) for k, of in pairs)

    @property
    def is_known(self) -> bool:
        """Whether both have some."""
        return bool(self.one.value) and bool(self.other.value)


def work_between(one: Side, other: Side, unit: str) -> WorkUnits:
    """Units of work of two runs; calls that map are those of the kinds that both tell of."""
    kinds = tuple(
        name for name in _EVENTS if None not in (one.figures[name].value, other.figures[name].value)
    )
    return WorkUnits(unit, work_of(one, unit, kinds), work_of(other, unit, kinds), kinds)


def work_of(side: Side, unit: str, kinds: Sequence[str] = _EVENTS) -> KnownFigure:
    """Units of work of a run; `kinds`: figures that calls that map are counted by."""
    if unit == RUN:
        return KnownFigure(1)
    if unit == SECOND:
        return (
            KnownFigure(side.span_ns / 1e9) if side.span_ns else KnownFigure(None, None, "counter")
        )
    if unit == KMAP:
        return side.figures["kmap"]
    found = [side.figures[name] for name in kinds]
    if not found or any(one.value is None for one in found):
        return KnownFigure(
            None, None, next((one.why for one in found if one.value is None), "not known")
        )
    senses = {one.sense for one in found if one.sense}
    sense = senses.pop() if len(senses) == 1 else "about" if senses else None
    why = next((one.why for one in found if one.sense), "")
    return KnownFigure(sum(one.value or 0 for one in found), sense, why)


def usual_unit(one: Side, other: Side, *, converted: bool) -> str:
    """What both have, and what stays what it is between them.

    Parameters
    ----------
    one, other
        The runs.
    converted
        Call sites of kmap() have become local ones: then kmap() is no measure of work.
    """
    if is_of_one_trace(one, other):
        return RUN
    few = min(side.value("kmap") for side in (one, other)) < _ENOUGH
    order = [EVENT, SECOND, KMAP] if converted or few else [KMAP, EVENT, SECOND]
    if one.is_emulated or other.is_emulated:
        order.remove(SECOND)
    has = {unit: work_between(one, other, unit) for unit in order}
    whole = [unit for unit, work in has.items() if work.is_known and not work.senses]
    some = [unit for unit, work in has.items() if work.is_known]
    return next(iter([*whole, *some]), RUN)


def is_of_one_trace(one: Side, other: Side) -> bool:
    """Whether both tell of one trace: then nothing is random between them."""
    return one.trace is not None and one.trace == other.trace


def is_one_run(one: Side, other: Side) -> bool:
    """Whether both are the same capture: whatever it lost, both lost."""
    return is_of_one_trace(one, other) and one.kind == other.kind == CAPTURED


def changes_of(
    one: Side, other: Side, work: WorkUnits, again: tuple[Sequence[Side], Sequence[Side]]
) -> tuple[Change, ...]:
    """Every figure of two runs, in the order of :data:`replay.compare.figures.COMPARED`.

    Parameters
    ----------
    one, other
        The runs.
    work
        What figures are given per.
    again
        Further captures of the first's workload and machine, and of the second's.
    """
    return tuple(_Pair(name, one, other, work, again).change() for name in COMPARED)


class _Pair(NamedTuple):
    name: str
    first: Side
    second: Side
    work: WorkUnits
    again: tuple[Sequence[Side], Sequence[Side]]

    @property
    def figure(self) -> ComparedFigure:
        return COMPARED[self.name]

    def change(self) -> Change:
        """What became of the figure."""
        one, other = self.first.figures[self.name], self.second.figures[self.name]
        work = self._work()
        rates = _rate(one, work.one, work.per), _rate(other, work.other, work.per)
        found = Change(self.name, self.figure.kind, one, other, rates, UNKNOWN)
        lacking = next((known for known in (one, other) if known.value is None), None)
        if lacking is not None:
            return found._replace(why=lacking.why)
        if not work.is_known:
            return found._replace(why="no work")
        of_time = self.figure.kind == TIME or work.unit == SECOND
        if of_time and self._has_other_time():
            return found._replace(why="emulated")
        found = self._judged(found, work)
        return found._replace(cost_ns=self._cost(work))

    def _work(self) -> WorkUnits:
        if self.figure.kind == COUNT:
            return self.work
        return WorkUnits(RUN, KnownFigure(1), KnownFigure(1))

    def _has_other_time(self) -> bool:
        """An emulator's time is no machine's, nor that of another run of it."""
        emulated = self.first.is_emulated or self.second.is_emulated
        return emulated and not is_of_one_trace(self.first, self.second)

    def _judged(self, found: Change, work: WorkUnits) -> Change:
        one, other = found.one, found.other
        assert one.value is not None
        assert other.value is not None
        assert work.one.value
        assert work.other.value
        expected = one.value * work.other.value / work.one.value
        difference = other.value - expected
        if abs(difference) <= 1e-9 * max(expected, other.value):
            difference = 0.0
        share = difference / expected if expected else None
        noise = self._noise(work)
        found = found._replace(difference=difference, share=share, noise=noise)
        sense = None if is_one_run(self.first, self.second) else _sense(one, other, work)
        if sense == "about":
            why = next((k.why for k in (one, other, work.one, work.other) if k.sense), "bound")
            return found._replace(verdict=UNKNOWN, difference=None, share=None, why=why)
        if sense is not None:
            tells = difference > noise.most if sense == "least" else -difference > noise.most
            if not tells:
                why = next((k.why for k in (one, other, work.one, work.other) if k.sense), "")
                if noise.basis == EXACT and (
                    difference >= 0 if sense == "least" else difference <= 0
                ):
                    why = NOT_LESS if sense == "least" else NOT_MORE
                return found._replace(verdict=UNKNOWN, difference=None, share=None, why=why)
            return found._replace(verdict=BOUND, sense=sense)
        less = _LESS_THAN_ONE * max(work.other.value / work.one.value, 1.0)
        if one.value == other.value and abs(difference) < less:
            return found._replace(verdict=SAME)
        return found._replace(verdict=verdict_on(difference, noise))

    def _noise(self, work: WorkUnits) -> Noise:
        if is_of_one_trace(self.first, self.second):
            return NONE
        groups = [
            [self._as_rate(side, work) for side in (mine, *others)]
            for mine, others in zip((self.first, self.second), self.again, strict=True)
        ]
        known = [[rate for rate in group if rate is not None] for group in groups]
        one, other = groups[0][0], groups[1][0]
        assert one is not None
        assert other is not None
        if self.figure.kind != COUNT:
            return spread_of(known) if any(len(group) > 1 for group in known) else ANY
        return noise_of(one, other, known, exact=False, chance=self._by_turns(work, one, other))

    def _by_turns(self, work: WorkUnits, one: Rate, other: Rate) -> float | None:
        """Noise of what comes by the pool's wraps alone; None: it does not."""
        per = self.figure.once_per
        wanted = ("all", "pool") if self.name == "pool_flushes" else ("all",)
        if not per or not all(side.only_wraps in wanted for side in (self.first, self.second)):
            return None
        counted = _Pair(per, self.first, self.second, work, ((), ()))
        mine, theirs = (counted._as_rate(side, work) for side in (self.first, self.second))
        if mine is None or theirs is None or not mine.figure + theirs.figure:
            return None
        mean = (mine.figure * theirs.work / mine.work + theirs.figure) / 2
        return by_turns(one, other, by_chance(mine, theirs) / mean)

    def _as_rate(self, side: Side, work: WorkUnits) -> Rate | None:
        value, units = side.figures[self.name].value, work.of(side)
        if value is None or not units:
            return None
        return Rate(value, units, self._events(side, value), work.is_counted)

    def _events(self, side: Side, value: float) -> float:
        """Events that the figure is made of: of IPIs the flushes that sent them."""
        return min(side.bunches.get(self.name) or value, value)

    def _cost(self, work: WorkUnits) -> float | None:
        """What the change costs, per so many units of work."""
        mine, theirs = self.first.cost, self.second.cost
        if not self.figure.causes or mine is None or theirs is None:
            return None
        if not mine.causes or not theirs.causes or not work.is_known:
            return None
        if not any(cause in cost.causes for cause in self.figure.causes for cost in (mine, theirs)):
            return None
        before, after = (
            sum(cost.causes.get(cause, CauseCost()).ns for cause in self.figure.causes)
            for cost in (mine, theirs)
        )
        assert work.one.value
        assert work.other.value
        return (after / work.other.value - before / work.one.value) * work.per


def _rate(known: KnownFigure, work: KnownFigure, per: int) -> float | None:
    if known.value is None or not work.value:
        return None
    return known.value / work.value * per


def verdict_on(difference: float, noise: Noise) -> str:
    """What a difference is called beside its noise, where no figure is a bound."""
    if not difference:
        return SAME
    if abs(difference) <= noise.seen:
        return WITHIN
    if abs(difference) <= noise.most:
        return WITHIN if noise.basis == CHANCE else PERHAPS
    return CHANGED


_OTHER: Final = {"least": "most", "most": "least", "about": "about"}


def _sense(one: KnownFigure, other: KnownFigure, work: WorkUnits) -> str | None:
    """In which sense the difference of two rates holds; ``about``: in none."""
    # a difference grows with the second count and the first's work, and shrinks with the others
    grows = {other.sense, work.one.sense}
    shrinks = {_OTHER[s] for s in (one.sense, work.other.sense) if s}
    senses = {sense for sense in grows | shrinks if sense}
    if len(senses) > 1:
        return "about"
    return senses.pop() if senses else None
