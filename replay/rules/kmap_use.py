"""Calls of kmap() and kunmap() that must not be made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.outcome import Finding
from replay.rules import evidence
from replay.rules.rule import FindingRule, Limit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.rules.rule import Case

LONG_MS: Final = 1000.0
"""Time that a slot of the pool is held which no copy explains: it is one of a few hundred."""
MS: Final = 1_000_000


class KmapAtomic(NamedTuple):
    """Calls of kmap() in interrupts, and with interrupts or preemption off; None: not told."""

    calls: int
    in_interrupt: int
    irqs_off: int | None
    preempt_off: int | None


class UnmappedTwice(NamedTuple):
    """kunmap() calls of pages that nobody uses."""

    calls: int


class KmapHeldLong(NamedTuple):
    """A call site whose kmap() was held long by one task, and the sites that did so."""

    site: str
    hold_ns: int
    mean_ns: float
    sites: int


def _atomic(case: Case) -> Iterator[Finding]:
    """include/linux/highmem-internal.h: kmap() begins with might_sleep()."""
    if case.outcome.observed is None:
        return
    found = case.outcome.observed.atomic
    atomic = max(found.in_interrupt, found.irqs_off or 0, found.preempt_off or 0)
    if atomic:
        told = KmapAtomic(found.calls, found.in_interrupt, found.irqs_off, found.preempt_off)
        yield Finding("kmap-atomic", "problem", told, atomic, found.first)


def _twice(case: Case) -> Iterator[Finding]:
    """mm/highmem.c: kunmap_high has a BUG() for it."""
    pool = case.outcome.pool
    if pool.unmapped_twice and not evidence.is_missed(evidence.POOL, case):
        found, first = UnmappedTwice(pool.unmapped_twice), pool.first_unmapped_twice
        yield Finding("kunmap-twice", "problem", found, pool.unmapped_twice, first)


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


ATOMIC: Final = FindingRule(
    "kmap-atomic", ("problem",),
    "kmap() was called where nobody may sleep: in an interrupt, or with interrupts or preemption "
    "off. It sleeps where the pool is full.",
    "kmap_local_page() does not sleep",
    _atomic, (evidence.POOL,),
)  # fmt: skip
TWICE: Final = FindingRule(
    "kunmap-twice", ("problem",),
    "kunmap() was called of a page that nobody had mapped any more: the kernel's BUG().",
    "give each mapping back once; look at the error paths behind the call site",
    _twice, (evidence.POOL,),
)  # fmt: skip
LONG: Final = FindingRule(
    "kmap-held-long", ("warning",),
    "A task held a slot of the pool so long that it slept with it; each such slot is missing to "
    "all others.",
    "map where the page is used, and give it back before anything that waits",
    _long, (evidence.POOL, evidence.TIMES), Limit(LONG_MS, "ms"),
)  # fmt: skip
RULES: Final = (ATOMIC, TWICE, LONG)
