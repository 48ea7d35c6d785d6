"""Calls of kmap() and kunmap() that must not be made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.outcome import Finding
from replay.rules import evidence
from replay.rules.rule import FindingRule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.rules.rule import Case


class KmapAtomic(NamedTuple):
    """Calls of kmap() in interrupts, and with interrupts or preemption off; None: not told."""

    calls: int
    in_interrupt: int
    irqs_off: int | None
    preempt_off: int | None


class UnmappedTwice(NamedTuple):
    """kunmap() calls of pages that nobody uses."""

    calls: int


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
RULES: Final = (ATOMIC, TWICE)
