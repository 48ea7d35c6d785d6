"""Flushes of all TLB entries of every CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.cost.causes import Cause
from replay.outcome import Finding
from replay.rules import evidence
from replay.rules.rule import FindingRule, Limit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.rules.rule import Case

PER_S: Final = 10.0
"""Flushes of all CPUs a second from which they show up in latency traces."""


class FullFlushStorm(NamedTuple):
    """Calls of flush_tlb_all()."""

    flushes: int
    per_s: float
    cpus: int


def _full_storm(case: Case) -> Iterator[Finding]:
    """arch/x86/mm/tlb.c: flush_tlb_all() drops all entries of every TLB, user space's too."""
    outcome = case.outcome
    flushes = outcome.cost.count_of(Cause.FULL)
    rate = case.per_second(flushes)
    if rate is not None and rate >= FULL.limit_in(case) and flushes >= PER_S:
        found = FullFlushStorm(flushes, rate, outcome.cpus)
        yield Finding("full-flush-storm", "warning", found, flushes)


FULL: Final = FindingRule(
    "full-flush-storm", ("warning",),
    "flush_tlb_all() was called often: it drops all TLB entries of every CPU, user space's too.",
    "a stack trigger on flush_tlb_all tells who calls it: often modules that come and go",
    _full_storm, (evidence.FULL_FLUSHES, evidence.TIMES), Limit(PER_S, "flushes a second"),
)  # fmt: skip
