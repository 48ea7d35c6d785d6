"""What the mapping work of a trace costs, by cause, and the TLB flushes in it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from collectors.records import dataclass
from replay.arena.tally import ArenaTally, by_size
from replay.cost import formulas as formula
from replay.cost.causes import Cause
from replay.cost.units import UNITS, spread_of, stacked
from replay.outcome import CostOutcome, LocalOutcome, PoolOutcome, TlbOutcome

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from replay.machine.costs import Costs
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
    flushed = machine.cpus if work.online is None else work.online
    ends = np.array([spread_of(machine.costs, unit) for unit in UNITS])
    costs = stacked(machine.costs)
    counts = _counts(work, layout)
    causes = {
        cause: np.broadcast_to(ns, (len(UNITS) + 1, 1))[:, 0]
        for cause, ns in _causes(work, costs, machine.cpus, layout, flushed).items()
        if counts[cause]
    }
    work_ns = sum(causes.values(), np.zeros(len(UNITS) + 1))
    total = float(work_ns[0])
    by_cause = {
        cause: {
            "count": counts[cause],
            "ns": round(float(ns[0])),
            "share": float(ns[0]) / total if total else 0.0,
            "low_ns": round(float(ns[1:] @ ends[:, 0])),
            "high_ns": round(float(ns[1:] @ ends[:, -1])),
        }
        for cause, ns in causes.items()
    }
    pool = work.pool
    calls = 0 if pool.pages_unknown else pool.maps + pool.unmaps
    held = _held(work, costs, layout, flushed)[:, 0] / max(calls, 1)
    cost = CostOutcome(
        total_ns=round(total),
        low_ns=round(float(work_ns[1:] @ ends[:, 0])),
        high_ns=round(float(work_ns[1:] @ ends[:, -1])),
        share_of_span=total / (span_ns * machine.cpus) if span_ns else None,
        by_cause=by_cause,
        units=_by_unit(work_ns),
        lock_hold_ns=float(held[0]) if calls else None,
        lock_share=float(held[0]) * calls / span_ns if calls and span_ns else None,
        lock_units=_by_unit(held) if calls else {},
    )
    return cost, _tlb(work, layout, flushed)


def _by_unit(ns: NDArray[np.float64]) -> dict[str, float]:
    """How often each operation happens, of times under :func:`replay.cost.units.stacked` costs."""
    return {unit: float(n) for unit, n in zip(UNITS, ns[1:], strict=True) if n}


def _counts(work: CountedWork, layout: Layout) -> dict[str, int]:
    """How often, by cause."""
    pool, local, arena = work.pool, work.local, work.arena
    return {
        # hits cost next to nothing, others do not
        Cause.KMAP: 0 if pool.pages_unknown else pool.maps,
        Cause.EVERY_KMAP: pool.maps if layout.kmap_flush_each else 0,
        Cause.KUNMAP: pool.unmaps,
        Cause.WRAP: int(work.freed_by_wraps.sum()),
        Cause.UNUSED: int(work.freed_by_unused.sum()),
        Cause.SLEEPS: pool.waits,
        Cause.LOCAL: local.maps,
        Cause.LOCAL_UNMAP: local.unmaps,
        Cause.LOWMEM: local.lowmem,
        Cause.SWITCHES: local.saved_on_switch,
        Cause.AREAS: arena.allocs + arena.frees,
        Cause.PURGE: arena.purges.total(),
        Cause.RANGE: arena.others.total(),
        Cause.FULL: arena.full,
    }


def _causes(
    work: CountedWork, costs: Costs, cpus: int, layout: Layout, flushed: float
) -> dict[str, Any]:
    """For how long, by cause, in ns; of `flushed` CPUs each flush. Linear in the costs."""
    pool, local, arena = work.pool, work.local, work.arena
    # csky, mips: one entry on all CPUs at every kmap(); of lowmem pages it is not seen
    each = formula.range_flush_ns(costs, layout, 1, flushed) if layout.kmap_flush_each else 0
    return {
        Cause.KMAP: _kmap(work, costs),
        Cause.EVERY_KMAP: pool.maps * each,
        Cause.KUNMAP: pool.unmaps * formula.kunmap_ns(costs),
        Cause.WRAP: _passes(work.freed_by_wraps, costs, layout, flushed),
        Cause.UNUSED: _passes(work.freed_by_unused, costs, layout, flushed),
        Cause.SLEEPS: pool.waits * costs.sleep,
        Cause.LOCAL: local.maps * formula.local_map_ns(costs, layout, cpus),
        Cause.LOCAL_UNMAP: local.unmaps * formula.local_unmap_ns(costs, layout, cpus),
        Cause.LOWMEM: local.lowmem * costs.low_map,
        Cause.SWITCHES: formula.switch_ns(costs, layout, work.held_at_switches, cpus),
        Cause.AREAS: _arena_work(arena, costs, layout),
        Cause.PURGE: _flushes(arena.purges, costs, layout, flushed),
        Cause.RANGE: _flushes(arena.others, costs, layout, flushed),
        Cause.FULL: arena.full * formula.full_flush_ns(costs, layout, flushed),
    }


def _kmap(work: CountedWork, costs: Costs) -> Any:
    pool = work.pool
    hits = pool.hits * formula.kmap_ns(costs, 0, 0)
    return hits + pool.new_mappings * formula.kmap_ns(costs, 0, 1) + work.scanned * costs.scan


def _held(work: CountedWork, costs: Costs, layout: Layout, cpus: float) -> Any:
    """How long kmap_lock is held, in all."""
    passes = work.freed_by_wraps + work.freed_by_unused
    freed = np.flatnonzero(passes)
    held = formula.pool_pass_held_ns(costs, layout, freed, cpus)
    unmaps = work.pool.unmaps * formula.kunmap_ns(costs)
    return _kmap(work, costs) + unmaps + (held * passes[freed]).sum(axis=-1, keepdims=True)


MEASURED: Final = {
    Cause.KMAP: ("kmap",),
    Cause.KUNMAP: ("kunmap",),
    Cause.LOCAL: ("kmap_local",),
    Cause.LOCAL_UNMAP: ("kunmap_local",),
    Cause.AREAS: ("area_alloc", "area_free"),
    Cause.PURGE: ("area_purge",),
    Cause.UNUSED: ("flush_unused",),
    Cause.FULL: ("flush_all",),
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


def _passes(passes: NDArray[np.int64], costs: Costs, layout: Layout, cpus: float) -> Any:
    freed = np.flatnonzero(passes)
    ns = formula.pool_pass_ns(costs, layout, freed, cpus)
    return (ns * passes[freed]).sum(axis=-1, keepdims=True)


def _flushes(flushes: Counter[int], costs: Costs, layout: Layout, cpus: float) -> Any:
    pages, number = by_size(flushes)
    ns = formula.range_flush_ns(costs, layout, pages, cpus)
    return (ns * number).sum(axis=-1, keepdims=True)


def _arena_work(arena: ArenaTally, costs: Costs, layout: Layout) -> Any:
    """Searching, carving and page tables of allocations and frees, without their flushes."""
    steps = 10  # depth of a tree of about a thousand free blocks
    return (
        arena.allocs * formula.arena_alloc_ns(costs, 0, steps)
        + arena.alloc_bytes // layout.page_size * costs.set_pte
        + arena.frees * formula.arena_free_ns(costs, 0)
        + arena.free_bytes // layout.page_size * costs.clear_pte
    )


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
        ipis=round(everywhere * (cpus - 1)) if sends_ipis(layout) else 0,
    )


def sends_ipis(layout: Layout) -> bool:
    """Whether a flush of kernel addresses interrupts the other CPUs."""
    return layout.range_flush and (not layout.tlb_broadcast or layout.tlb_erratum_ipi)
