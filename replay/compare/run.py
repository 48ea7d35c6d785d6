"""Two runs beside each other: everything that a report of them says."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import TYPE_CHECKING, Final, NamedTuple

from replay.compare.apart import Apart, apart, machines_apart
from replay.compare.changes import (
    PERHAPS,
    RUN,
    UNKNOWN,
    WITHIN,
    changes_of,
    is_of_one_trace,
    is_one_run,
    usual_unit,
    work_between,
)
from replay.compare.figures import COMPARED, COUNT, OF_RANGES
from replay.compare.noise import CHANCE, EXACT, REPEATED, Rate, noise_of
from replay.compare.side import CAPTURED, ROW, CauseCost, SideCost, sees_lowmem
from replay.compare.sites import join
from replay.cost.causes import Cause
from replay.cost.verdict import CostVerdict, compare
from replay.rules.evidence import ARENA, FLUSHES, LOCAL, POOL
from replay.rules.judge import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from replay.compare.apart import Differs
    from replay.compare.changes import Change, WorkUnits
    from replay.compare.side import Side
    from replay.compare.sites import JoinedSites

_FOLLOWS: Final = 0.02
"""Difference of two shares up to which one change is the other's."""
_LOW_MAP: Final = "low_map"
"""The cause, and the operation that it is made of (replay/cost/account.py)."""
_COSTLY: Final = (POOL, LOCAL, ARENA, FLUSHES)
"""Evidence that a cost rests on."""


class CostChange(NamedTuple):
    """What the work costs in both runs, per unit of work, ns.

    Attributes
    ----------
    one, other
        Least, likely and most of each.
    verdict
        Of the second beside the first, over the ranges of costs; None: it does not follow.
    noise
        What two runs that are alike differ by, at most.
    why
        Codes of what keeps a verdict from following: ``lost``, ``arch``, ``evidence``, ``work``,
        ``bound``, ``asleep``, ``pageless``, ``told``.
    """

    one: tuple[float, float, float]
    other: tuple[float, float, float]
    verdict: CostVerdict | None
    noise: float
    why: tuple[str, ...] = ()

    @property
    def likely(self) -> float:
        """The difference with likely costs."""
        return self.other[1] - self.one[1]

    @property
    def is_beyond_noise(self) -> bool:
        """Whether it is more than the noise."""
        return abs(self.likely) > self.noise

    @property
    def word(self) -> str:
        """``cheaper``, ``dearer``, ``same``: where that follows; else empty."""
        if self.verdict is None:
            return ""
        if not self.verdict.likely and self.verdict.holds:
            return "same"
        return self.verdict.word if self.is_beyond_noise and self.verdict.holds else ""


class Comparison(NamedTuple):
    """Two runs beside each other.

    Attributes
    ----------
    one, other
        The runs.
    work
        What figures are given per.
    basis
        What the noise rests on (:mod:`replay.compare.noise`).
    repeats
        Further captures of the first, and of the second.
    machines
        Facts that set the machines apart.
    changes
        Every figure.
    cost
        None: not known in one of them, or there was no work.
    sites
        None: one of them tells none.
    new, gone
        Problems and warnings that the second alone has, and the first alone, with their severity.
    apart
        What cannot be compared.
    """

    one: Side
    other: Side
    work: WorkUnits
    basis: str
    repeats: tuple[int, int]
    machines: tuple[Differs, ...]
    changes: tuple[Change, ...]
    cost: CostChange | None
    sites: JoinedSites | None
    new: tuple[tuple[str, str], ...]
    gone: tuple[tuple[str, str], ...]
    apart: tuple[Apart, ...]

    @property
    def is_same(self) -> bool:
        """Both are of one trace and one machine, and nothing differs."""
        if not is_of_one_trace(self.one, self.other) or self.machines:
            return False
        return not any(
            change.is_change
            or change.verdict in (WITHIN, PERHAPS)
            or (change.verdict == UNKNOWN and change.one != change.other)
            for change in self.changes
            if change.kind == COUNT
        )

    def is_told(self, change: Change) -> bool:
        """Whether a count is told in short: what is the unit, or follows from another, is not."""
        if change.kind != COUNT or self.work.is_it(change):
            return False
        leader = next((c for c in self.changes if c.name == COMPARED[change.name].follows), None)
        if leader is None or change.verdict != leader.verdict:
            return True
        shares = change.share, leader.share
        return None not in shares and abs((shares[0] or 0) - (shares[1] or 0)) > _FOLLOWS

    def grown(self) -> Iterator[Change]:
        """Counts of which the second run has more, by more than the noise."""
        for change in self.changes:
            more = (change.difference or 0) > 0 and change.sense != "most"
            if change.is_change and more and self.is_told(change):
                yield change


def compare_runs(
    one: Side,
    other: Side,
    unit: str | None = None,
    again: tuple[Sequence[Side], Sequence[Side]] = ((), ()),
) -> Comparison:
    """Compare two runs.

    Parameters
    ----------
    one, other
        The runs.
    unit
        One of :data:`replay.compare.changes.UNITS`; None: what both have.
    again
        Further captures of the first's workload on its machine, and of the second's.

    Returns
    -------
    Comparison
    """
    again, refused = _alike(one, other, again)
    if unit is None:
        found = join(one, other, work_between(one, other, RUN), ((), ()))
        unit = usual_unit(one, other, converted=bool(found and found.converted))
    work = work_between(one, other, unit)
    exact = is_of_one_trace(one, other)
    return Comparison(
        one,
        other,
        work,
        EXACT if exact else REPEATED if any(again) else CHANCE,
        (len(again[0]), len(again[1])),
        machines_apart(one, other),
        changes_of(one, other, work, again),
        _cost(one, other, work, again),
        join(one, other, work, again),
        _found_only(other, one),
        _found_only(one, other),
        (*refused, *apart(one, other, work)),
    )


def _alike(
    one: Side, other: Side, again: tuple[Sequence[Side], Sequence[Side]]
) -> tuple[tuple[Sequence[Side], Sequence[Side]], list[Apart]]:
    """The captures that repeat a run, and those that do not, with the reason."""
    kept: tuple[list[Side], list[Side]] = ([], [])
    refused: list[Apart] = []
    known = {side.trace for side in (one, other) if side.trace}
    for number, side in enumerate((one, other)):
        for repeat in again[number]:
            if why := _no_repetition(side, repeat, known):
                refused.append(Apart("no-repetition", repeat.name, side.name, why))
                continue
            kept[number].append(repeat)
            known |= {repeat.trace} if repeat.trace else set()
    return kept, refused


def _no_repetition(side: Side, repeat: Side, known: set[str]) -> str:
    """Why a run is no repetition of another one; empty: it may be one."""
    if repeat.trace in known:
        return "same trace"
    if repeat.kind != CAPTURED:
        return "modelled"
    if repeat.is_lossy:
        return "lost"
    return "machine" if machines_apart(side, repeat) else ""


def _found_only(one: Side, other: Side) -> tuple[tuple[str, str], ...]:
    """Findings of a run that the other has not, where it could have had them."""
    if one.has_observed != other.has_observed or ROW in (one.kind, other.kind):
        return ()
    needs = {rule.name: rule.needs for rule in RULES}
    return tuple(
        (rule, severity)
        for rule, severity in one.findings.items()
        if rule not in other.findings and not any(map(other.evidence.get, needs.get(rule, ())))
    )


# Cost -------------------------------------------------------------------------------------------


def _cost(
    one: Side, other: Side, work: WorkUnits, again: tuple[Sequence[Side], Sequence[Side]]
) -> CostChange | None:
    if one.cost is None or other.cost is None or not work.is_known:
        return None
    if sees_lowmem(one) != sees_lowmem(other):
        one, other = _without_lowmem(one), _without_lowmem(other)
    assert one.cost is not None
    assert other.cost is not None
    assert work.one.value
    assert work.other.value
    before, after = work.per / work.one.value, work.per / work.other.value
    ends = _ends(one.cost, before), _ends(other.cost, after)
    why = tuple(dict.fromkeys(_doubts(one, other, work)))
    verdict = None if why else _verdict(one, other, before, after, ends)
    noise = 0.0
    if not is_of_one_trace(one, other):
        noise = _noise(one, other, work, again) * after
    return CostChange(*ends, verdict, noise, why)


def _without_lowmem(side: Side) -> Side:
    """A run whose local mappings of lowmem pages cost nothing: they need no slot and no flush."""
    cost = side.cost
    if cost is None or cost.units is None or Cause.LOWMEM not in cost.causes:
        return side
    gone = cost.causes[Cause.LOWMEM]
    units = {name: n for name, n in cost.units.items() if name != _LOW_MAP}
    causes = {name: n for name, n in cost.causes.items() if name != Cause.LOWMEM}
    less = SideCost(
        cost.low - gone.low, cost.likely - gone.ns, cost.high - gone.high, units, cost.costs,
        causes,
    )  # fmt: skip
    return replace(side, cost=less)


def _ends(cost: SideCost, scale: float) -> tuple[float, float, float]:
    return cost.low * scale, cost.likely * scale, cost.high * scale


def _verdict(
    one: Side,
    other: Side,
    before: float,
    after: float,
    ends: tuple[tuple[float, float, float], tuple[float, float, float]],
) -> CostVerdict:
    mine, theirs = one.cost, other.cost
    assert mine is not None
    assert theirs is not None
    if mine.units is None or theirs.units is None or mine.costs is None or theirs.costs is None:
        (low, likely, high), (low_there, likely_there, high_there) = ends
        return CostVerdict(low_there - high, likely_there - likely, high_there - low, None)
    work = [(mine.units, -before), (theirs.units, after)]
    return compare(work, [mine.costs, theirs.costs])


def _doubts(one: Side, other: Side, work: WorkUnits) -> list[str]:
    """Why costs of both are not those of the same kinds of calls, or are bounds."""
    found: list[str] = []
    if is_one_run(one, other):
        return found
    if one.is_lossy or other.is_lossy:
        found.append("lost")
    if one.facts.get("arch") != other.facts.get("arch"):
        found.append("arch")
    for kind in _COSTLY:
        mine, theirs = one.evidence.get(kind), other.evidence.get(kind)
        if bool(mine) != bool(theirs):
            found.append("evidence")
    if bool(one.evidence) != bool(other.evidence) and not is_of_one_trace(one, other):
        found.append("told")
    if work.senses:
        found.append("work")
    for side in (one, other):
        if side.figures["new_mappings"].why == "pageless":
            found.append("pageless")
        if any(known.why == "bound" for known in side.figures.values()):
            found.append("bound")
    if one.value("asleep") != other.value("asleep"):
        found.append("asleep")
    return found


def _noise(
    one: Side, other: Side, work: WorkUnits, again: tuple[Sequence[Side], Sequence[Side]]
) -> float:
    """What the second's cost differs by between runs that are alike, ns; causes are independent."""
    sides = ((one, *again[0]), (other, *again[1]))
    causes = dict.fromkeys((*_causes(one), *_causes(other)))
    squares = 0.0
    for cause in causes:
        groups = [[rate for side in group if (rate := _rate(side, cause, work))] for group in sides]
        if not groups[0] or not groups[1]:
            continue
        both = [_causes(side).get(cause, CauseCost()) for side in (one, other)]
        events = sum(cost.number for cost in both)
        mean = sum(cost.ns for cost in both) / events if events else 0.0
        noise = noise_of(groups[0][0], groups[1][0], groups, exact=False)
        squares += (mean * noise.most) ** 2
    return sqrt(squares)


def _causes(side: Side) -> Mapping[str, CauseCost]:
    return {} if side.cost is None else side.cost.causes


def _rate(side: Side, cause: str, work: WorkUnits) -> Rate | None:
    units = work.of(side)
    if not units:
        return None
    count = _causes(side).get(cause, CauseCost()).number
    events = count
    if cause in OF_RANGES and count:
        events = min(max(side.bunches.get("flushed_pages", count), 1.0), count)
    return Rate(count, units, events, work.is_counted)
