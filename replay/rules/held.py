"""Slots of the pool that are held long, or for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.outcome import Finding
from replay.rules import evidence
from replay.rules.deadlock import is_deadlocked
from replay.rules.rule import FindingRule, Limit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.outcome import SlotHolder
    from replay.rules.rule import Case

FEW_HELD: Final = 4
"""Kmaps held at the end that are no more than calls in flight on a few CPUs."""
LONG_MS: Final = 1000.0
"""Time that a slot of the pool is held which no copy explains: it is one of a few hundred."""
MS: Final = 1_000_000


class KmapHeld(NamedTuple):
    """Slots held at the end, and by whom; `leak`: more than calls in flight explain.

    `asleep` of them are those of tasks that wait for another slot; `sleepers` tasks wait.
    """

    held: int
    leak: bool
    maps: int
    unmaps: int
    holders: tuple[SlotHolder, ...] = ()
    asleep: int = 0
    sleepers: int = 0


def _still_held(case: Case) -> Iterator[Finding]:
    """A leaked kmap() takes its slot away for good; the pool only shrinks."""
    pool = case.outcome.pool
    if not pool.still_used or is_deadlocked(case.outcome):
        return
    idle = pool.still_used - pool.held_by_asleep
    # Where nobody tells who holds them, those that wait for ever may be it.
    leak = idle > FEW_HELD and not (pool.asleep and not pool.held)
    grave = pool.slots > 0 and idle * 8 >= pool.slots
    severity = "problem" if grave else "warning" if leak else "info"
    found = KmapHeld(
        pool.still_used, leak, pool.maps, pool.unmaps, pool.held, pool.held_by_asleep, pool.asleep
    )
    earliest = min((h.first for h in pool.held if h.first), key=lambda m: m.ts, default=None)
    yield Finding("kmap-held", severity, found, pool.still_used, earliest)


class KmapHeldLong(NamedTuple):
    """A call site whose kmap() was held long by one task, and the sites that did so."""

    site: str
    hold_ns: int
    mean_ns: float
    sites: int


def _long(case: Case) -> Iterator[Finding]:
    """Slots that one task holds long are missing to all others."""
    if not case.has_times:
        return
    least = LONG.limit_in(case) * MS
    long = [
        site
        for site in case.outcome.sites
        if site.op == "kmap" and site.hold_ns_max is not None and site.hold_ns_max >= least
    ]
    if long:
        worst = max(long, key=lambda site: site.hold_ns_max or 0)
        found = KmapHeldLong(
            worst.site, worst.hold_ns_max or 0, worst.hold_ns_mean or 0.0, len(long)
        )
        yield Finding("kmap-held-long", "warning", found, len(long))


HELD: Final = FindingRule(
    "kmap-held", ("problem", "warning", "info"),
    "Slots of the pool are still held at the end: more than a few are a leak of kmap(), and the "
    "pool only shrinks.",
    "look for a path without kunmap() behind the call sites that are named",
    _still_held, (evidence.POOL,),
)  # fmt: skip
LONG: Final = FindingRule(
    "kmap-held-long", ("warning",),
    "A task held a slot of the pool so long that it slept with it; each such slot is missing to "
    "all others.",
    "map where the page is used, and give it back before anything that waits",
    _long, (evidence.POOL, evidence.TIMES), Limit(LONG_MS, "ms"),
)  # fmt: skip
