"""What the mapping work of a trace costs, by cause, and the TLB flushes in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from replay.arena.tally import ArenaTally, by_size
from replay.cost import formulas as formula
from replay.outcome import CostOutcome, LocalOutcome, PoolOutcome, TlbOutcome

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from replay.machine.model import Layout, Machine
    from replay.outcome import CallTime


@dataclass(frozen=True)
class CountedWork:
    """The counted work of one replay.

    Attributes
    ----------
    pool, local
        Figures of pool and local stacks.
    scanned
        Slots visited, in all.
    freed_by_wraps, freed_by_unused : ndarray of int64, shape (slots + 1,)
        Number of flush passes by the number of slots that they freed, and by who caused them.
    held_at_switches
        Local mappings held over context switches, in all.
    arena
        Calls on the arena, and kernel flushes without the pool's own.
    online
        CPUs online at a flush, on average; None: all of the machine's.
    """

    pool: PoolOutcome
    local: LocalOutcome
    scanned: int
    freed_by_wraps: NDArray[np.int64]
    freed_by_unused: NDArray[np.int64]
    held_at_switches: int
    arena: ArenaTally
    online: float | None = None


def cost_of(
    work: CountedWork, machine: Machine, layout: Layout, span_ns: int | None
) -> tuple[CostOutcome, TlbOutcome]:
    """Add up the cost of all mapping work.

    Parameters
    ----------
    work
        What was done.
    machine
        For the cost figures and the number of CPUs.
    layout
        For the flush rules.
    span_ns
        Captured time; None for a clock that is no time.

    Returns
    -------
    cost, tlb
        CPU time by cause; number of TLB flushes.
    """
    figures, cpus = machine.costs, machine.cpus
    flushed = machine.cpus if work.online is None else work.online
    pool, local = work.pool, work.local
    map_ns = formula.local_map_ns(figures, layout, cpus)
    unmap_ns = formula.local_unmap_ns(figures, layout, cpus)
    causes: dict[str, tuple[int, float]] = {
        "kmap": (
            0 if pool.pages_unknown else pool.maps,  # hits cost next to nothing, others do not
            pool.hits * formula.kmap_ns(figures, 0, 0)
            + pool.new_mappings * formula.kmap_ns(figures, 0, 1)
            + work.scanned * figures.scan,
        ),
        "flush at every kmap": _flush_each(pool, machine, layout, flushed),
        "kunmap": (pool.unmaps, pool.unmaps * formula.kunmap_ns(figures)),
        "pool flush (wrap)": _passes(work.freed_by_wraps, machine, layout, flushed),
        "pool flush (kmap_flush_unused)": _passes(work.freed_by_unused, machine, layout, flushed),
        "kmap sleeps": (pool.waits, pool.waits * figures.sleep),
        "kmap_local": (local.maps, local.maps * map_ns),
        "kunmap_local": (local.unmaps, local.unmaps * unmap_ns),
        "kmap_local of lowmem": (local.lowmem, local.lowmem * figures.low_map),
        "kmap_local over switches": (
            local.saved_on_switch,
            float(formula.switch_ns(figures, layout, work.held_at_switches, cpus)),
        ),
        "vmap and vmalloc": _arena_work(work.arena, machine, layout),
        "lazy purge flush": _flush_cost(work.arena.purges, machine, layout, flushed),
        "other range flush": _flush_cost(work.arena.others, machine, layout, flushed),
        "flush_tlb_all": _full(work.arena, machine, layout, flushed),
    }
    total = sum(ns for _, ns in causes.values())
    by_cause = {
        cause: {"count": count, "ns": round(ns), "share": ns / total if total else 0.0}
        for cause, (count, ns) in causes.items()
        if count
    }
    share = total / (span_ns * cpus) if span_ns else None
    held = causes["kmap"][1] + causes["kunmap"][1] + _passes_held(work, machine, layout, flushed)
    calls = pool.maps + pool.unmaps
    told = calls and not pool.pages_unknown
    cost = CostOutcome(
        total_ns=round(total), share_of_span=share, by_cause=by_cause,
        lock_hold_ns=held / calls if told else None,
        lock_share=held / span_ns if told and span_ns else None,
    )  # fmt: skip
    return cost, _tlb(work, layout, flushed)


MEASURED: Final = {
    "kmap": ("kmap",),
    "kunmap": ("kunmap",),
    "kmap_local": ("kmap_local",),
    "kunmap_local": ("kunmap_local",),
    "vmap and vmalloc": ("area_alloc", "area_free"),
    "lazy purge flush": ("area_purge",),
    "pool flush (kmap_flush_unused)": ("flush_unused",),
    "flush_tlb_all": ("flush_all",),
}
"""Operations whose calls do the work of a cause, and what is inside of them."""


def with_measured(cost: CostOutcome, durations: Iterable[CallTime], wait_ns: int) -> CostOutcome:
    """Put the times of calls, where the trace has their returns, beside the estimates.

    Parameters
    ----------
    cost
        Estimates.
    durations
        Times from entry to return.
    wait_ns
        What kmap() slept for want of a slot: no work, and not counted.

    Returns
    -------
    CostOutcome
        Causes with returns have ``measured_ns``.
    """
    times = {call.op: call.total_ns for call in durations}
    if "kmap" in times:
        times["kmap"] = max(times["kmap"] - wait_ns, 0)
    by_cause = {}
    for cause, figures in cost.by_cause.items():
        known = [times[op] for op in MEASURED.get(cause, ()) if op in times]
        by_cause[cause] = figures | ({"measured_ns": sum(known)} if known else {})
    return replace(cost, by_cause=by_cause)


def _passes(
    passes: NDArray[np.int64], machine: Machine, layout: Layout, cpus: float
) -> tuple[int, float]:
    ns = formula.pool_pass_ns(machine.costs, layout, np.arange(passes.size), cpus)
    return int(passes.sum()), float(np.dot(passes, ns))


def _passes_held(work: CountedWork, machine: Machine, layout: Layout, cpus: float) -> float:
    """How long the passes hold kmap_lock, in all."""
    passes = work.freed_by_wraps + work.freed_by_unused
    freed = np.arange(passes.size)
    return float(np.dot(passes, formula.pool_pass_held_ns(machine.costs, layout, freed, cpus)))


def _flush_each(
    pool: PoolOutcome, machine: Machine, layout: Layout, cpus: float
) -> tuple[int, float]:
    """One entry on all CPUs at every kmap(), on csky and mips; of lowmem pages it is not seen."""
    if not layout.kmap_flush_each:
        return 0, 0.0
    one = formula.range_flush_ns(machine.costs, layout, 1, cpus)
    return pool.maps, pool.maps * float(one)


def _flush_cost(
    flushes: Counter[int], machine: Machine, layout: Layout, cpus: float
) -> tuple[int, float]:
    pages, number = by_size(flushes)
    ns = formula.range_flush_ns(machine.costs, layout, pages, cpus)
    return flushes.total(), float(np.dot(number, ns))


def _full(arena: ArenaTally, machine: Machine, layout: Layout, cpus: float) -> tuple[int, float]:
    each = float(formula.full_flush_ns(machine.costs, layout, cpus))
    return arena.full, arena.full * each


def _arena_work(arena: ArenaTally, machine: Machine, layout: Layout) -> tuple[int, float]:
    """Searching, carving and page tables of allocations and frees, without their flushes."""
    steps = 10  # depth of a tree of about a thousand free blocks
    ns = arena.allocs * formula.arena_alloc_ns(machine.costs, 0, steps)
    ns += arena.alloc_bytes // layout.page_size * machine.costs.set_pte
    ns += arena.frees * formula.arena_free_ns(machine.costs, 0)
    ns += arena.free_bytes // layout.page_size * machine.costs.clear_pte
    return arena.allocs + arena.frees, float(ns)


def _tlb(work: CountedWork, layout: Layout, cpus: float) -> TlbOutcome:
    """Count flushes by kind.

    x86 makes a full flush of a range above its ceiling, the pool's window always being one
    (arch/x86/mm/tlb.c: flush_tlb_kernel_range); ARM invalidates page by page whatever the range;
    microblaze does nothing for a range, sparc32 flushes everything for a single page.
    """
    single = work.local.tlb_single
    if not layout.range_flush:
        return TlbOutcome(full=work.arena.full, single=single)
    ceiling = layout.flush_ceiling_pages
    flushes = work.arena.ranges()
    pool_full = ceiling is not None and layout.pkmap_slots > ceiling
    ranges = {n: times for n, times in flushes.items() if ceiling is None or n <= ceiling}
    over = flushes.total() - sum(ranges.values())
    each = work.pool.maps if layout.kmap_flush_each else 0
    ranged = sum(ranges.values()) + each + (0 if pool_full else work.pool.flushes)
    range_pages = sum(n * times for n, times in ranges.items()) + each
    if not pool_full:
        range_pages += work.pool.flushes * layout.pkmap_slots
    full = work.arena.full + over + (work.pool.flushes if pool_full else 0)
    if layout.local_flush_all:
        full, single = full + single, 0
    interrupts = not layout.tlb_broadcast or layout.tlb_erratum_ipi
    everywhere = full + ranged
    return TlbOutcome(
        full=full,
        range=ranged,
        range_pages=range_pages,
        range_pages_max=max(ranges, default=0),
        across=sum(
            times for n, times in ranges.items() if n * layout.page_size > layout.direct_bytes
        ),
        single=single,
        ipis=round(everywhere * (cpus - 1)) if interrupts else 0,
    )
