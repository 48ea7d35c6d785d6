"""Flushes of the pool: its window on every CPU, and walks over it for nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.outcome import Finding
from replay.rules import evidence
from replay.rules.rule import FindingRule, Limit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.rules.rule import Case

STORM_PER_S: Final = 10.0
"""Pool flushes per second from which they show up in latency traces."""
UNUSED_PER_S: Final = 50.0
"""kmap_flush_unused() passes per second: one module load or unload makes about 16."""


class FlushStorm(NamedTuple):
    """Flushes of the pool's window, and what made them."""

    flushes: int
    per_s: float
    cpus: int
    wraps: int
    unused_passes: int


def _flush_storm(case: Case) -> Iterator[Finding]:
    """Each flush that freed a slot drops the TLB of every CPU, under kmap_lock."""
    pool = case.outcome.pool
    rate = case.per_second(pool.flushes)
    if rate is None or rate < STORM.limit_in(case) or pool.flushes < STORM_PER_S:
        return
    found = FlushStorm(pool.flushes, rate, case.outcome.cpus, pool.wraps, pool.unused_passes)
    yield Finding("flush-storm", "warning", found, pool.flushes, pool.first_flush)


class UnusedPasses(NamedTuple):
    """Passes of kmap_flush_unused(); `idle` of `passes` found no stale slot."""

    unused: int
    per_s: float | None
    idle: int
    passes: int
    slots: int


def _unused_passes(case: Case) -> Iterator[Finding]:
    """set_memory_*() and module loading call kmap_flush_unused() per change of attributes.

    arch/x86/mm/pat/set_memory.c: change_page_attr_set_clr.
    """
    pool = case.outcome.pool
    idle = pool.passes - pool.flushes
    # Passes are not told apart by what they freed, so those of kmap() itself must be few.
    if pool.unused_passes < 16 or pool.wraps * 4 > pool.passes or idle * 2 < pool.passes:
        return
    rate = case.per_second(pool.unused_passes)
    storm = rate is not None and rate >= UNUSED.limit_in(case)
    found = UnusedPasses(pool.unused_passes, rate, idle, pool.passes, pool.slots)
    severity = "warning" if storm else "info"
    first = pool.first_unused_pass
    yield Finding("flush-unused-idle", severity, found, pool.unused_passes, first)


STORM: Final = FindingRule(
    "flush-storm", ("warning",),
    "The TLB entries of the whole pool were flushed on every CPU, so often that it shows up as "
    "latency everywhere.",
    "convert the call sites with most new mappings to kmap_local_page(), which flushes one entry "
    "of one CPU (hmtrace replay --convert)",
    _flush_storm, (evidence.POOL, evidence.TIMES), Limit(STORM_PER_S, "flushes a second"),
)  # fmt: skip
UNUSED: Final = FindingRule(
    "flush-unused-idle", ("warning", "info"),
    "kmap_flush_unused() walked the whole pool under kmap_lock with nothing to free.",
    "load modules and BPF programs once and keep them: every change of attributes walks the pool",
    _unused_passes, (evidence.POOL, evidence.TIMES), Limit(UNUSED_PER_S, "passes a second"),
)  # fmt: skip
