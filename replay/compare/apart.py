"""What of two runs cannot be compared, and why; and what sets their machines apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from replay.compare.changes import is_of_one_trace
from replay.compare.side import CAPTURED, ROW, sees_lowmem
from replay.rules.evidence import ARENA, FLUSHES, LOCAL, POOL, SWITCHES
from replay.rules.recorded import ELSEWHERE, LOWMEM, PURGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.compare.changes import WorkUnits
    from replay.compare.side import Side

_KINDS: Final = (POOL, LOCAL, LOWMEM, ARENA, PURGES, FLUSHES, SWITCHES)
_UNSEEN: Final = {"untraced", "untold", "pageless", "missed", ELSEWHERE}
_MUCH: Final = 2
_SLIGHT: Final = 1 / 1024
"""Share of RAM that one boot may hand out more of than another."""
_FAR: Final = 0.02
"""Share from which two spans are called different."""


class Apart(NamedTuple):
    """Something that is not comparable.

    Attributes
    ----------
    code
        What; words for it has the report.
    one, other
        What each has of it: a reason, a number, names; None: nothing.
    about
        What it is about, where the code alone does not say.
    """

    code: str
    one: Any = None
    other: Any = None
    about: str = ""


def apart(one: Side, other: Side, work: WorkUnits) -> tuple[Apart, ...]:
    """What cannot be compared of two runs.

    Returns
    -------
    tuple of Apart
        The gravest first.
    """
    if is_of_one_trace(one, other):
        return (*_lossy(one, other), *_unit(work), *_models(one, other), *_costs(one, other))
    return (
        *_lossy(one, other),
        *_unit(work),
        *_amounts(work),
        *_arches(one, other),
        *_unseen(one, other),
        *_probes(one, other),
        *_times(one, other),
        *_models(one, other),
        *_cpus(one, other),
        *_costs(one, other),
    )


def _lossy(one: Side, other: Side) -> Iterator[Apart]:
    if one.is_lossy or other.is_lossy:
        yield Apart("lost", one.is_lossy, other.is_lossy)


def _unit(work: WorkUnits) -> Iterator[Apart]:
    if not work.is_known:
        yield Apart("no-work", work.one.value, work.other.value, work.unit)


def _amounts(work: WorkUnits) -> Iterator[Apart]:
    """Whether one did much more: of one workload it may have run longer, or it is another one."""
    mine, theirs = work.one.value, work.other.value
    if work.is_counted and mine and theirs and max(mine, theirs) > _MUCH * min(mine, theirs):
        yield Apart("amounts", mine, theirs, work.unit)


def _arches(one: Side, other: Side) -> Iterator[Apart]:
    mine, theirs = one.facts.get("arch"), other.facts.get("arch")
    if mine and theirs and mine != theirs:
        yield Apart("arch", mine, theirs)


def _unseen(one: Side, other: Side) -> Iterator[Apart]:
    """Kinds of calls that were not recorded, or not known to be."""
    for kind in _KINDS:
        mine, theirs = (_why(side, kind) for side in (one, other))
        if mine or theirs:
            yield Apart("unseen", mine, theirs, kind)


def _why(side: Side, kind: str) -> str | None:
    why = side.evidence.get(kind)
    if kind == LOWMEM:
        return None if sees_lowmem(side) else "no function" if side.per_cpu else why
    return why if why in _UNSEEN else None


def _probes(one: Side, other: Side) -> Iterator[Apart]:
    """Functions that were probed in one alone."""
    if one.functions is None or other.functions is None:
        return
    mine, theirs = one.functions - other.functions, other.functions - one.functions
    if mine or theirs:
        yield Apart("probes", sorted(mine), sorted(theirs))


def _times(one: Side, other: Side) -> Iterator[Apart]:
    if one.is_emulated or other.is_emulated:
        yield Apart("emulated", one.is_emulated, other.is_emulated)
    spans = one.span_ns, other.span_ns
    if None in spans:
        if ROW not in (one.kind, other.kind):
            yield Apart("counter", one.span_ns is None, other.span_ns is None)
        return
    mine, theirs = (span or 0 for span in spans)
    if abs(mine - theirs) > _FAR * max(mine, theirs):
        yield Apart("spans", mine, theirs)


def _models(one: Side, other: Side) -> Iterator[Apart]:
    if one.kind != other.kind or CAPTURED not in (one.kind, other.kind):
        yield Apart("modelled", one.kind != CAPTURED, other.kind != CAPTURED)


def _cpus(one: Side, other: Side) -> Iterator[Apart]:
    mine, theirs = one.facts.get("cpus"), other.facts.get("cpus")
    if mine and theirs and mine != theirs:
        yield Apart("cpus", mine, theirs)


def _costs(one: Side, other: Side) -> Iterator[Apart]:
    mine, theirs = (side.cost.costs if side.cost else None for side in (one, other))
    if mine is not None and theirs is not None and mine != theirs:
        yield Apart("costs")


class Differs(NamedTuple):
    """A fact of the machines that is not the same."""

    fact: str
    one: Any
    other: Any


def machines_apart(one: Side, other: Side) -> tuple[Differs, ...]:
    """Facts of both machines that differ, as far as both are known."""
    found = []
    for fact in dict.fromkeys((*one.facts, *other.facts)):
        mine, theirs = one.facts.get(fact), other.facts.get(fact)
        if isinstance(mine, tuple) and isinstance(theirs, tuple):
            mine, theirs = _only(mine, theirs), _only(theirs, mine)
            if mine or theirs:
                found.append(Differs(fact, mine, theirs))
        elif mine is not None and theirs is not None and not _is_alike(fact, mine, theirs):
            found.append(Differs(fact, mine, theirs))
    if any(one.fact == "arch" for one in found):  # then all of the configuration is another one
        found = [one for one in found if one.fact != "config"]
    return tuple(found)


def _is_alike(fact: str, mine: Any, theirs: Any) -> bool:
    """Whether a fact is the same; of RAM a machine's files tell more or less exactly."""
    if fact.endswith("_bytes"):
        return bool(abs(mine - theirs) <= _SLIGHT * max(mine, theirs))
    return bool(mine == theirs)


def _only(mine: tuple[str, ...], theirs: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for word in mine if word not in theirs)
