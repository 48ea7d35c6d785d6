"""Findings: what an outcome means, in words, each with its evidence.

One function per rule, each a pure function of the figures; :func:`findings` calls them in the
order of :data:`RULES`, where a new one gets a line. Thresholds are constants with their reasons.
The pathologies are those of mm/highmem.c, mm/vmalloc.c and arch/x86/mm/tlb.c; rules that need
single events (deadlock by nesting, LIFO order) belong to the checks over the event table, not
here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.errors import HmtraceError
from replay.machine.arches import ARCHES
from replay.machine.layout import layout_of
from replay.machine.options import with_options
from replay.outcome import Finding
from replay.rules.machine import machine_findings
from replay.rules.trace import trace_findings
from replay.rules.words import counted, duration, grouped, percent, size, times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from collectors.snapshot import Snapshot
    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.outcome import Outcome
    from replay.trace.losses import Loss

SEVERITIES: Final = ("problem", "warning", "info")
"""Worst first."""

NEAR_FULL: Final = 0.75
"""Share of slots in use from which a burst as large again would exhaust the pool."""
FEW_HELD: Final = 4
"""Kmaps held at the end that are no more than calls in flight on a few CPUs."""
STORM_PER_S: Final = 10.0
"""Pool flushes per second from which they show up in latency traces."""
UNUSED_PER_S: Final = 50.0
"""kmap_flush_unused() passes per second: one module load or unload makes about 16."""
HULL_PAGES: Final = 10_000
"""Pages of one flush that no set of areas in the arena alone accounts for."""
COST_WARNING: Final = 0.01
COST_PROBLEM: Final = 0.05
SPARE_DEPTH: Final = 3
SWITCH_SHARE: Final = 0.01


class _Case(NamedTuple):
    """What the rules look at; the arguments of :func:`findings`."""

    outcome: Outcome
    values: Snapshot
    lost: Loss | None


def findings(outcome: Outcome, values: Snapshot, lost: Loss | None = None) -> tuple[Finding, ...]:
    """Everything that a kernel engineer should know about an outcome.

    Parameters
    ----------
    outcome
        Figures of a replay; its own `findings` are ignored.
    values
        Facts of the machine (:mod:`collectors.facts`), name to value.
    lost
        What tracing lost; None: not known here.

    Returns
    -------
    tuple of Finding
        Worst severity first. Never empty: that there is nothing to complain about is said too.
    """
    case = _Case(outcome, values, lost)
    found = [finding for rule in RULES for finding in rule(case)]
    if not _has_calls(outcome):
        found.insert(0, _NOTHING)
    elif all(f.severity == "info" for f in found):
        found.insert(0, _fine(outcome))
    return tuple(sorted(found, key=lambda f: SEVERITIES.index(f.severity)))


def _pool_exhausted(case: _Case) -> Iterator[Finding]:
    """All slots in use: kmap() sleeps uninterruptibly (mm/highmem.c: map_new_virtual)."""
    pool = case.outcome.pool
    if not pool.waits:
        return
    full = pool.share_above.get("100")
    yield Finding(
        rule="pool-exhausted",
        severity="problem",
        message=(
            f"kmap() slept {times(pool.waits)} because all {grouped(pool.slots)} slots were in "
            f"use: {counted(pool.waiting_tasks, 'task')} waited {duration(pool.wait_ns)} in all, "
            f"the longest {duration(pool.longest_wait_ns)}"
        ),
        evidence=(
            (f"pool full for {percent(full)} of the time; " if full is not None else "")
            + "every kunmap() to zero wakes all sleepers (map_new_virtual waits non-exclusively)"
        ),
        count=pool.waits,
    )


def _pool_near_full(case: _Case) -> Iterator[Finding]:
    pool = case.outcome.pool
    if pool.waits or not pool.slots or pool.max_used < NEAR_FULL * pool.slots:
        return
    above = pool.share_above.get("75", 0.0)
    yield Finding(
        rule="pool-near-full",
        severity="warning",
        message=(
            f"{pool.max_used} of {grouped(pool.slots)} pool slots were in use at once "
            f"({percent(pool.max_used / pool.slots)}): at {grouped(pool.slots)} kmap() sleeps"
        ),
        evidence=f"at or above 75 % for {percent(above)} of the time, mean {pool.mean_used:.1f}",
        count=pool.max_used,
    )


def _still_held(case: _Case) -> Iterator[Finding]:
    """A leaked kmap() takes its slot away for good; the pool only shrinks."""
    pool = case.outcome.pool
    if not pool.still_used:
        return
    many = pool.still_used > FEW_HELD
    grave = pool.slots > 0 and pool.still_used * 8 >= pool.slots
    yield Finding(
        rule="kmap-held",
        severity="problem" if grave else "warning" if many else "info",
        message=(
            f"{counted(pool.still_used, 'slot')} of the pool "
            f"{'is' if pool.still_used == 1 else 'are'} still held at the end of the capture"
            + (": suspect a leaked kmap()" if many else ", as calls in flight would explain")
        ),
        evidence=(
            f"{grouped(pool.maps)} kmap, {grouped(pool.unmaps)} kunmap; slots that are never "
            "given back make every search longer and the pool full sooner"
        ),
        count=pool.still_used,
    )


def _flush_storm(case: _Case) -> Iterator[Finding]:
    """Each flush that freed a slot drops the TLB of every CPU, under kmap_lock."""
    pool = case.outcome.pool
    rate = _per_second(pool.flushes, case.outcome)
    if rate is None or rate < STORM_PER_S or pool.flushes < STORM_PER_S:
        return
    yield Finding(
        rule="flush-storm",
        severity="warning",
        message=(
            f"{grouped(pool.flushes)} TLB flushes of the whole pool window, {rate:.0f} a second, "
            f"each on {'every one of ' if case.outcome.cpus > 1 else ''}"
            f"{counted(case.outcome.cpus, 'CPU')} and under kmap_lock"
        ),
        evidence=(
            f"{grouped(pool.wraps)} wraps of kmap(), {grouped(pool.unused_passes)} passes of "
            "kmap_flush_unused()"
        ),
        count=pool.flushes,
    )


def _purge_hull(case: _Case) -> Iterator[Finding]:
    """A lazy purge flushes the hull of all freed areas, however sparse.

    ARM has no ceiling (arch/arm/kernel/smp_tlb.c), and its modules lie below PAGE_OFFSET: a
    module's area and a stack in the arena make a hull over the whole direct mapping.
    """
    tlb, layout = case.outcome.tlb, case.outcome.layout
    if layout.flush_ceiling_pages is not None or tlb.range_pages_max < HULL_PAGES:
        return
    cost = case.outcome.cost.by_cause.get("lazy purge flush")
    yield Finding(
        rule="purge-hull",
        severity="warning",
        message=(
            f"flush_tlb_kernel_range() invalidated up to {grouped(tlb.range_pages_max)} pages one "
            "by one: the hull of a lazy purge from the modules to the vmap arena"
        ),
        evidence=(
            f"{grouped(tlb.range)} ranged flushes of {grouped(tlb.range_pages)} pages in all"
            + (f"; purges are {percent(cost['share'])} of the estimated cost" if cost else "")
        ),
        count=tlb.range,
    )


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
    often = f", {rate:.0f} a second" if rate is not None else ""
    yield Finding(
        rule="flush-unused-idle",
        severity="warning" if storm else "info",
        message=(
            f"kmap_flush_unused() ran {times(pool.unused_passes)}{often}, mostly with nothing to "
            f"free: {grouped(idle)} of {grouped(pool.passes)} passes found no stale slot"
        ),
        evidence=(
            f"each pass walks all {grouped(pool.slots)} slots under kmap_lock; on x86 module "
            "loading, BPF and set_memory_*() cause them"
        ),
        count=pool.unused_passes,
    )


def _depth(case: _Case) -> Iterator[Finding]:
    """kmap_local_idx_push() has a BUG_ON for one nesting too many."""
    local = case.outcome.local
    if not local.limit or local.max_depth <= local.limit - SPARE_DEPTH:
        return
    at_limit = local.max_depth >= local.limit
    yield Finding(
        rule="local-depth",
        severity="problem" if at_limit else "warning",
        message=(
            f"local mappings nest {local.max_depth} deep; {local.limit} fit"
            + (", one more is a BUG" if at_limit else "")
        ),
        evidence="an interrupt handler's mappings come on top of the interrupted task's",
        count=local.max_depth,
    )


def _held_over_switch(case: _Case) -> Iterator[Finding]:
    """kernel/sched/core.c: prepare_task_switch takes the mappings out, finish_task_switch back."""
    local = case.outcome.local
    if not local.saved_on_switch:
        return
    part = local.mappings_saved / local.maps if local.maps else 0.0
    yield Finding(
        rule="local-over-switch",
        severity="warning" if part >= SWITCH_SHARE else "info",
        message=(
            f"{counted(local.saved_on_switch, 'context switch', 'context switches')} found local "
            f"mappings held: {counted(local.mappings_saved, 'mapping')} taken out and put back"
        ),
        evidence=(
            f"{percent(part)} of {grouped(local.maps)} local mappings; one TLB entry is flushed "
            "per mapping held, and the task cannot migrate meanwhile"
        ),
        count=local.saved_on_switch,
    )


def _arena(case: _Case) -> Iterator[Finding]:
    """mm/vmalloc.c: alloc_vmap_area gives up after one purge."""
    arena = case.outcome.arena
    if not arena.failures:
        return
    hole = arena.largest_hole_min
    yield Finding(
        rule="arena-exhausted",
        severity="problem",
        message=(
            f"{counted(arena.failures, 'allocation')} of virtual address space failed in an arena "
            f"of {size(arena.size)}"
        ),
        evidence=(
            counted(arena.allocs, "allocation")
            + (f", largest hole down to {size(hole)}" if hole is not None else "")
            + "; a larger vmalloc= costs as much lowmem"
        ),
        count=arena.failures,
    )


def _cost(case: _Case) -> Iterator[Finding]:
    cost = case.outcome.cost
    if cost.share_of_span is None or cost.share_of_span < COST_WARNING:
        return
    worst = sorted(cost.by_cause.items(), key=lambda c: -c[1].get("ns", 0))[:2]
    yield Finding(
        rule="mapping-cost",
        severity="problem" if cost.share_of_span >= COST_PROBLEM else "warning",
        message=(
            f"temporary mappings cost {percent(cost.share_of_span)} of all CPU time "
            f"({duration(cost.total_ns)}, estimated)"
        ),
        evidence="; ".join(
            f"{name.replace('_', ' ')} {percent(c.get('share', 0.0))} of it" for name, c in worst
        ),
    )


def _trace(case: _Case) -> Iterator[Finding]:
    """What holds of the trace itself."""
    return trace_findings(case.outcome, case.values, case.lost)


def _machine(case: _Case) -> Iterator[Finding]:
    """What holds of the machine whatever runs on it."""
    return machine_findings(case.outcome.machine, case.outcome.layout)


def _highmem_avoidable(case: _Case) -> Iterator[Finding]:
    """A split under which all RAM is lowmem makes every figure here vanish."""
    machine, layout = case.outcome.machine, case.outcome.layout
    if not layout.highmem_bytes or not machine.highmem_enabled:
        return
    if not (case.values.ram or case.values.zones) and case.values.mem_total is None:
        return  # the RAM is a guess
    better = _split_without_highmem(machine, layout)
    if better is None:
        return
    split, other = better
    proposed = ARCHES[machine.arch].proposed_splits.get(split)
    gigabyte = layout.max_pfn * layout.page_size - layout.phys_offset <= 1 << 30
    yield Finding(
        rule="split",
        severity="info",
        message=(
            f"split {split} would make all RAM lowmem: {size(layout.highmem_bytes)} of highmem "
            f"and every mapping of it would be gone"
        ),
        evidence=(
            f"user space would be {size(other.user_end)} instead of {size(layout.user_end)}: "
            "compare it with the largest process"
            + ("; a small highmem zone also runs out first" if gigabyte else "")
            + (f"; this split is {proposed}" if proposed else "")
        ),
    )


def _split_without_highmem(machine: Machine, layout: Layout) -> tuple[str, Layout] | None:
    """The split nearest to the present one that leaves no highmem, and its layout."""
    splits = ARCHES[machine.arch].splits
    lower = [name for name, offset in splits.items() if offset < layout.page_offset]
    for name in sorted(lower, key=lambda n: -splits[n]):
        try:
            other = layout_of(with_options(machine, split=name))
        except HmtraceError:
            continue  # no such split with PAE
        if not other.highmem_bytes:
            return name, other
    return None


_NOTHING: Final = Finding(
    rule="nothing-traced",
    severity="warning",
    message="the trace holds no mapping call: it says nothing of what mappings cost here",
    evidence="either the probes were off, or nothing was mapped while they were on; hmtrace info "
    "lists what was traced, README.md ('How to capture') what to enable",
)


def _has_calls(outcome: Outcome) -> bool:
    pool, local, arena = outcome.pool, outcome.local, outcome.arena
    calls = pool.maps + pool.unmaps + pool.passes + local.maps + local.lowmem + local.reused
    return bool(calls + local.unmaps + arena.allocs + arena.failures + arena.lazy_purges)


def _fine(outcome: Outcome) -> Finding:
    pool, cost = outcome.pool, outcome.cost
    parts = []
    if cost.share_of_span is not None:
        parts.append(f"mapping costs {percent(cost.share_of_span)} of CPU time")
    if pool.maps and pool.slots:
        parts.append(
            f"at most {pool.max_used} of {grouped(pool.slots)} slots in use, nobody waited"
        )
    if outcome.local.limit and outcome.local.maps:
        parts.append(f"local depth {outcome.local.max_depth} of {outcome.local.limit}")
    if outcome.arena.allocs:
        parts.append(f"none of {grouped(outcome.arena.allocs)} arena allocations failed")
    return Finding(
        rule="fine",
        severity="info",
        message="nothing to complain about",
        evidence="; ".join(parts) or "hmtrace info shows what was traced",
    )


def _per_second(number: int, outcome: Outcome) -> float | None:
    """Rate over the capture; None for a counter clock or an empty span."""
    if outcome.cost.share_of_span is None or outcome.span_ns <= 0:
        return None
    return number / outcome.span_ns * 1e9


RULES: Final[tuple[Callable[[_Case], Iterator[Finding]], ...]] = (
    _pool_exhausted,
    _still_held,
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
    _highmem_avoidable,
)
"""Every rule; among findings of one severity this order stays."""
