"""Rules about what was counted: the pool, flushes, local mappings, and what it all costs.

Each is a pure function of the figures, and one record of what it found, which
:mod:`hmtrace.report.findings` puts into words. Thresholds are constants with their reasons. The
pathologies are those of mm/highmem.c, mm/vmalloc.c and arch/x86/mm/tlb.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.outcome import Finding
from replay.rules import evidence
from replay.rules.rule import FindingRule, Limit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.rules.rule import Case

NEAR_FULL: Final = 75
"""Per cent of slots in use from which a burst as large again would exhaust the pool."""
STORM_PER_S: Final = 10.0
"""Pool flushes per second from which they show up in latency traces."""
UNUSED_PER_S: Final = 50.0
"""kmap_flush_unused() passes per second: one module load or unload makes about 16."""
HULL_PAGES: Final = 10_000
"""Pages of one flush that no set of areas in the arena alone accounts for."""
COST_WARNING: Final = 1.0
"""Per cent of all CPU time."""
COST_PROBLEM: Final = 5.0
SPARE_DEPTH: Final = 3
SWITCHED_PER_MAP: Final = 0.01


class PoolNearFull(NamedTuple):
    """Most slots in use; `above`: share of the time at or above 75 % of them."""

    used: int
    slots: int
    above: float
    mean: float


def _pool_near_full(case: Case) -> Iterator[Finding]:
    pool = case.outcome.pool
    near = NEAR.limit_in(case) / 100
    if pool.waits or not pool.slots or pool.max_used < near * pool.slots:
        return
    found = PoolNearFull(pool.max_used, pool.slots, pool.share_above.get("75", 0.0), pool.mean_used)
    yield Finding("pool-near-full", "warning", found, pool.max_used, pool.fullest)


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


class PurgeHull(NamedTuple):
    """Ranged flushes, the largest and all, in pages; `share`: of the estimated cost."""

    largest: int
    flushes: int
    pages: int
    share: float | None


def _purge_hull(case: Case) -> Iterator[Finding]:
    """A lazy purge flushes the hull of all freed areas, however sparse.

    ARM has no ceiling (arch/arm/kernel/smp_tlb.c), and its modules lie below PAGE_OFFSET: a
    module's area and a stack in the arena make a hull over the whole direct mapping.
    """
    tlb, layout = case.outcome.tlb, case.outcome.layout
    if layout.flush_ceiling_pages is not None or tlb.range_pages_max < HULL.limit_in(case):
        return
    cost = case.outcome.cost.by_cause.get("lazy purge flush")
    found = PurgeHull(
        tlb.range_pages_max, tlb.range, tlb.range_pages, cost["share"] if cost else None
    )
    yield Finding("purge-hull", "warning", found, tlb.range, tlb.largest)


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


class LocalDepth(NamedTuple):
    """How deep local mappings were nested, and how deep they can be."""

    deepest: int
    limit: int


def _depth(case: Case) -> Iterator[Finding]:
    """kmap_local_idx_push() has a BUG_ON for one nesting too many."""
    local = case.outcome.local
    least = DEPTH.limit_in(case) or local.limit - SPARE_DEPTH + 1
    if not local.limit or local.max_depth < least:
        return
    severity = "problem" if local.max_depth >= local.limit else "warning"
    found = LocalDepth(local.max_depth, local.limit)
    yield Finding("local-depth", severity, found, local.max_depth, local.deepest)


class HeldOverSwitch(NamedTuple):
    """Context switches with local mappings held; `per_map`: mappings taken out, per one made."""

    switches: int
    mappings: int
    per_map: float
    maps: int


def _held_over_switch(case: Case) -> Iterator[Finding]:
    """kernel/sched/core.c: prepare_task_switch takes the mappings out, finish_task_switch back."""
    local = case.outcome.local
    if not local.saved_on_switch:
        return
    per_map = local.mappings_saved / local.maps if local.maps else 0.0
    found = HeldOverSwitch(local.saved_on_switch, local.mappings_saved, per_map, local.maps)
    severity = "warning" if per_map >= SWITCHED_PER_MAP else "info"
    first = local.first_switch
    yield Finding("local-over-switch", severity, found, local.saved_on_switch, first)


class MappingCost(NamedTuple):
    """Share of all CPU time, and the share that the worst causes have of it."""

    share: float
    ns: float
    causes: tuple[tuple[str, float], ...]
    low_share: float
    high_share: float


def _cost(case: Case) -> Iterator[Finding]:
    cost = case.outcome.cost
    least = COST.limit_in(case) / 100
    if cost.share_of_span is None or cost.share_of_span < least:
        return
    worst = sorted(cost.by_cause.items(), key=lambda c: -c[1].get("ns", 0))[:2]
    causes = tuple((name, of.get("share", 0.0)) for name, of in worst)
    ends = [cost.share_of_span * ns / cost.total_ns for ns in (cost.low_ns, cost.high_ns)]
    found = MappingCost(cost.share_of_span, cost.total_ns, causes, *ends)
    # What costs are assumed must not make the difference between a complaint and none.
    severity = "problem" if ends[0] >= COST_PROBLEM / 100 else "warning"
    if ends[0] < least:
        severity = "info"
    yield Finding("mapping-cost", severity, found)


NEAR: Final = FindingRule(
    "pool-near-full", ("warning",),
    "So many slots of the pool were in use at once that a burst as large again fills it, and then "
    "every kmap() sleeps.",
    "convert call sites that hold mappings long to kmap_local_page(); hmtrace replay --pkmap N "
    "tells what a larger pool does",
    _pool_near_full, (evidence.POOL,), Limit(NEAR_FULL, "% of the slots"),
)  # fmt: skip
STORM: Final = FindingRule(
    "flush-storm", ("warning",),
    "The TLB entries of the whole pool were flushed on every CPU, so often that it shows up as "
    "latency everywhere.",
    "convert the call sites with most new mappings to kmap_local_page(), which flushes one entry "
    "of one CPU (hmtrace replay --convert)",
    _flush_storm, (evidence.POOL, evidence.TIMES), Limit(STORM_PER_S, "flushes a second"),
)  # fmt: skip
HULL: Final = FindingRule(
    "purge-hull", ("warning",),
    "A lazy purge flushed everything between two far areas page by page, for its kernel never "
    "makes a full flush of it.",
    "load and unload fewer modules and BPF programs; a split without highmem makes hulls across "
    "RAM even larger",
    _purge_hull, (evidence.FLUSHES,), Limit(HULL_PAGES, "pages of one flush"),
)  # fmt: skip
UNUSED: Final = FindingRule(
    "flush-unused-idle", ("warning", "info"),
    "kmap_flush_unused() walked the whole pool under kmap_lock with nothing to free.",
    "load modules and BPF programs once and keep them: every change of attributes walks the pool",
    _unused_passes, (evidence.POOL, evidence.TIMES), Limit(UNUSED_PER_S, "passes a second"),
)  # fmt: skip
DEPTH: Final = FindingRule(
    "local-depth", ("problem", "warning"),
    "Local mappings were nested so deep that hardly one more fits: one too many is a BUG().",
    "unmap before the next is mapped; interrupts nest on top of the task that they interrupt",
    _depth, (evidence.LOCAL,), Limit(None, "mappings deep (else 2 less than fit)"),
)  # fmt: skip
SWITCH: Final = FindingRule(
    "local-over-switch", ("warning", "info"),
    "Tasks lost their CPU while they held local mappings, which were taken down and put back.",
    "do not sleep, copy from or to user space, or take mutexes between map and unmap",
    _held_over_switch, (evidence.LOCAL, evidence.SWITCHES),
)  # fmt: skip
COST: Final = FindingRule(
    "mapping-cost", ("problem", "warning", "info"),
    "Temporary mappings take a share of all CPU time; a problem or a warning only where the "
    "least that every operation may cost comes to that.",
    "hmtrace report names the cause and the call sites, hmtrace advise a split without them",
    _cost, (evidence.TIMES,), Limit(COST_WARNING, "% of CPU time"),
)  # fmt: skip
