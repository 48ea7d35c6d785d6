"""Findings: what an outcome means, each with the figures that are its evidence.

One function per rule, each a pure function of the figures, and one record of what it found, which
:mod:`hmtrace.report.findings` puts into words; :func:`findings` calls them in the order of
:data:`RULES`, where a new one gets a line. Thresholds are constants with their reasons.
The pathologies are those of mm/highmem.c, mm/vmalloc.c and arch/x86/mm/tlb.c; rules that need
single events (LIFO order) belong to the checks over the event table, not here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.outcome import Finding
from replay.rules.arena import arena_findings
from replay.rules.lowmem import lowmem_findings
from replay.rules.machine import machine_findings
from replay.rules.splits import split_findings
from replay.rules.trace import trace_findings
from replay.rules.waits import task_findings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from collectors.snapshot import Snapshot
    from replay.outcome import Outcome
    from replay.trace.losses import Loss

SEVERITIES: Final = ("problem", "warning", "info")
"""Worst first."""

NEAR_FULL: Final = 0.75
"""Share of slots in use from which a burst as large again would exhaust the pool."""
STORM_PER_S: Final = 10.0
"""Pool flushes per second from which they show up in latency traces."""
UNUSED_PER_S: Final = 50.0
"""kmap_flush_unused() passes per second: one module load or unload makes about 16."""
HULL_PAGES: Final = 10_000
"""Pages of one flush that no set of areas in the arena alone accounts for."""
COST_WARNING: Final = 0.01
COST_PROBLEM: Final = 0.05
SPARE_DEPTH: Final = 3
SWITCHED_PER_MAP: Final = 0.01


class _Case(NamedTuple):
    """What the rules look at; the arguments of :func:`findings`."""

    outcome: Outcome
    snapshot: Snapshot
    lost: Loss | None
    captured: Outcome


def findings(
    outcome: Outcome,
    snapshot: Snapshot,
    lost: Loss | None = None,
    captured: Outcome | None = None,
) -> tuple[Finding, ...]:
    """Everything that a kernel engineer should know about an outcome.

    Parameters
    ----------
    outcome
        Figures of a replay; its own `findings` are ignored.
    snapshot
        Facts of the machine (:mod:`collectors.facts`), name to value.
    lost
        What tracing lost; None: not known here.
    captured
        For a what-if the outcome on the captured machine: what holds of the trace follows from it,
        and calls that are all gone on the other were traced.

    Returns
    -------
    tuple of Finding
        Worst severity first. Never empty: that there is nothing to complain about is said too.
    """
    case = _Case(outcome, snapshot, lost, captured or outcome)
    found = [finding for rule in RULES for finding in rule(case)]
    if not _has_calls(captured or outcome):
        found.insert(0, Finding("nothing-traced", "warning", NothingTraced()))
    elif all(f.severity == "info" for f in found):
        found.insert(0, _fine(outcome))
    return tuple(sorted(found, key=lambda f: SEVERITIES.index(f.severity)))


class PoolNearFull(NamedTuple):
    """Most slots in use; `above`: share of the time at or above 75 % of them."""

    used: int
    slots: int
    above: float
    mean: float


def _pool_near_full(case: _Case) -> Iterator[Finding]:
    pool = case.outcome.pool
    if pool.waits or not pool.slots or pool.max_used < NEAR_FULL * pool.slots:
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


def _flush_storm(case: _Case) -> Iterator[Finding]:
    """Each flush that freed a slot drops the TLB of every CPU, under kmap_lock."""
    pool = case.outcome.pool
    rate = _per_second(pool.flushes, case.outcome)
    if rate is None or rate < STORM_PER_S or pool.flushes < STORM_PER_S:
        return
    found = FlushStorm(pool.flushes, rate, case.outcome.cpus, pool.wraps, pool.unused_passes)
    yield Finding("flush-storm", "warning", found, pool.flushes, pool.first_flush)


class PurgeHull(NamedTuple):
    """Ranged flushes, the largest and all, in pages; `share`: of the estimated cost."""

    largest: int
    flushes: int
    pages: int
    share: float | None


def _purge_hull(case: _Case) -> Iterator[Finding]:
    """A lazy purge flushes the hull of all freed areas, however sparse.

    ARM has no ceiling (arch/arm/kernel/smp_tlb.c), and its modules lie below PAGE_OFFSET: a
    module's area and a stack in the arena make a hull over the whole direct mapping.
    """
    tlb, layout = case.outcome.tlb, case.outcome.layout
    if layout.flush_ceiling_pages is not None or tlb.range_pages_max < HULL_PAGES:
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


def _unused_passes(case: _Case) -> Iterator[Finding]:
    """set_memory_*() and module loading call kmap_flush_unused() per change of attributes.

    arch/x86/mm/pat/set_memory.c: change_page_attr_set_clr.
    """
    pool = case.outcome.pool
    idle = pool.passes - pool.flushes
    # Passes are not told apart by what they freed, so those of kmap() itself must be few.
    if pool.unused_passes < 16 or pool.wraps * 4 > pool.passes or idle * 2 < pool.passes:
        return
    rate = _per_second(pool.unused_passes, case.outcome)
    storm = rate is not None and rate >= UNUSED_PER_S
    found = UnusedPasses(pool.unused_passes, rate, idle, pool.passes, pool.slots)
    severity = "warning" if storm else "info"
    first = pool.first_unused_pass
    yield Finding("flush-unused-idle", severity, found, pool.unused_passes, first)


class LocalDepth(NamedTuple):
    """How deep local mappings were nested, and how deep they can be."""

    deepest: int
    limit: int


def _depth(case: _Case) -> Iterator[Finding]:
    """kmap_local_idx_push() has a BUG_ON for one nesting too many."""
    local = case.outcome.local
    if not local.limit or local.max_depth <= local.limit - SPARE_DEPTH:
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


def _held_over_switch(case: _Case) -> Iterator[Finding]:
    """kernel/sched/core.c: prepare_task_switch takes the mappings out, finish_task_switch back."""
    local = case.outcome.local
    if not local.saved_on_switch:
        return
    per_map = local.mappings_saved / local.maps if local.maps else 0.0
    found = HeldOverSwitch(local.saved_on_switch, local.mappings_saved, per_map, local.maps)
    severity = "warning" if per_map >= SWITCHED_PER_MAP else "info"
    first = local.first_switch
    yield Finding("local-over-switch", severity, found, local.saved_on_switch, first)


def _arena(case: _Case) -> Iterator[Finding]:
    """What holds of the arena."""
    outcome = case.outcome
    return arena_findings(outcome.arena, outcome.machine, outcome.layout)


class MappingCost(NamedTuple):
    """Share of all CPU time, and the share that the worst causes have of it."""

    share: float
    ns: float
    causes: tuple[tuple[str, float], ...]
    low_share: float
    high_share: float


def _cost(case: _Case) -> Iterator[Finding]:
    cost = case.outcome.cost
    if cost.share_of_span is None or cost.share_of_span < COST_WARNING:
        return
    worst = sorted(cost.by_cause.items(), key=lambda c: -c[1].get("ns", 0))[:2]
    causes = tuple((name, of.get("share", 0.0)) for name, of in worst)
    ends = [cost.share_of_span * ns / cost.total_ns for ns in (cost.low_ns, cost.high_ns)]
    found = MappingCost(cost.share_of_span, cost.total_ns, causes, *ends)
    severity = "problem" if cost.share_of_span >= COST_PROBLEM else "warning"
    yield Finding("mapping-cost", severity, found)


def _tasks(case: _Case) -> Iterator[Finding]:
    """What holds of the tasks that map."""
    return task_findings(case.outcome)


def _trace(case: _Case) -> Iterator[Finding]:
    """What holds of the trace itself."""
    is_whatif = case.captured is not case.outcome
    return trace_findings(case.captured, case.snapshot, case.lost, is_whatif=is_whatif)


def _machine(case: _Case) -> Iterator[Finding]:
    """What holds of the machine whatever runs on it."""
    return machine_findings(case.outcome.machine, case.outcome.layout)


def _lowmem(case: _Case) -> Iterator[Finding]:
    """Whether lowmem ran short."""
    return lowmem_findings(case.outcome.lowmem)


def _splits(case: _Case) -> Iterator[Finding]:
    """What another split would do."""
    return split_findings(case.outcome, case.snapshot)


class NothingTraced(NamedTuple):
    """No mapping call in the whole trace."""


def _has_calls(outcome: Outcome) -> bool:
    pool, local, arena = outcome.pool, outcome.local, outcome.arena
    calls = pool.maps + pool.unmaps + pool.passes + local.maps + local.lowmem + local.reused
    calls += local.unmaps + arena.allocs + arena.failures
    return bool(calls + (arena.lazy_purges or 0) + (arena.purge_runs or 0))


class Fine(NamedTuple):
    """Nothing to complain about, with what there was of it.

    Attributes
    ----------
    share
        Of all CPU time.
    used
        Most slots of the pool in use, and all.
    depth
        Of local mappings, and how deep they can be.
    allocs
        In the arena, of which none failed, as far as the trace tells.
    """

    share: float | None
    used: tuple[int, int] | None
    depth: tuple[int, int] | None
    allocs: int


def _fine(outcome: Outcome) -> Finding:
    pool, local = outcome.pool, outcome.local
    found = Fine(
        outcome.cost.share_of_span,
        (pool.max_used, pool.slots) if pool.maps and pool.slots else None,
        (local.max_depth, local.limit) if local.limit and local.maps else None,
        outcome.arena.allocs - outcome.arena.untold,
    )
    return Finding("fine", "info", found)


def _per_second(number: int, outcome: Outcome) -> float | None:
    """Rate over the capture; None for a counter clock or an empty span."""
    if outcome.cost.share_of_span is None or outcome.span_ns <= 0:
        return None
    return number / outcome.span_ns * 1e9


RULES: Final[tuple[Callable[[_Case], Iterator[Finding]], ...]] = (
    _tasks,
    _arena,
    _depth,
    _cost,
    _pool_near_full,
    _flush_storm,
    _purge_hull,
    _unused_passes,
    _held_over_switch,
    _trace,
    _machine,
    _lowmem,
    _splits,
)
"""Every rule; among findings of one severity this order stays."""
