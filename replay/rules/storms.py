"""Rules about flushes of every CPU's TLB that are not the pool's: purges, and full flushes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.outcome import Finding
from replay.rules import evidence
from replay.rules.rule import FindingRule, Limit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.rules.rule import Case

PER_S: Final = 10.0
"""Flushes of all CPUs a second from which they show up in latency traces."""


class PurgeStorm(NamedTuple):
    """Purges that flushed, a second, the pages freed, and those invalidated for it.

    `trigger` made most of them; `ipis` is what they sent.
    """

    flushes: int
    per_s: float
    trigger: str
    pages: int
    hull_pages: int
    ipis: int


class FullFlushStorm(NamedTuple):
    """Calls of flush_tlb_all()."""

    flushes: int
    per_s: float
    cpus: int


def _purge_storm(case: Case) -> Iterator[Finding]:
    """mm/vmalloc.c: __purge_vmap_area_lazy flushes on every CPU, under vmap_purge_lock."""
    observed = case.outcome.observed
    purges = () if observed is None else observed.purges
    flushes = sum(purge.flushes or purge.found for purge in purges)
    rate = case.per_second(flushes)
    if rate is None or rate < PURGES.limit_in(case) or flushes < PER_S:
        return
    most = max(purges, key=lambda purge: purge.found)
    found = PurgeStorm(
        flushes,
        rate,
        most.trigger,
        sum(purge.pages for purge in purges),
        sum(purge.hull_pages for purge in purges),
        sum(purge.ipis for purge in purges),
    )
    yield Finding("purge-storm", "warning", found, flushes, most.longest)


def _full_storm(case: Case) -> Iterator[Finding]:
    """arch/x86/mm/tlb.c: flush_tlb_all() drops all entries of every TLB, user space's too."""
    outcome = case.outcome
    flushes = int(outcome.cost.by_cause.get("flush_tlb_all", {}).get("count", 0))
    rate = case.per_second(flushes)
    if rate is not None and rate >= FULL.limit_in(case) and flushes >= PER_S:
        found = FullFlushStorm(flushes, rate, outcome.cpus)
        yield Finding("full-flush-storm", "warning", found, flushes)


PURGES: Final = FindingRule(
    "purge-storm", ("warning",),
    "The arena was purged so often that its flushes of every CPU show up as latency.",
    "keep areas instead of making them anew; fewer module loads and BPF programs; where "
    "allocations fail, a larger vmalloc=",
    _purge_storm, (evidence.FLUSHES, evidence.TIMES), Limit(PER_S, "flushes a second"),
)  # fmt: skip
FULL: Final = FindingRule(
    "full-flush-storm", ("warning",),
    "flush_tlb_all() was called often: it drops all TLB entries of every CPU, user space's too.",
    "a stack trigger on flush_tlb_all tells who calls it: often modules that come and go",
    _full_storm, (evidence.FLUSHES, evidence.TIMES), Limit(PER_S, "flushes a second"),
)  # fmt: skip
RULES: Final = (PURGES, FULL)
