"""What mapping work costs: the formulas over the figures of :mod:`replay.machine.costs`.

All times are nanoseconds of CPU time. Most figures are assumptions, so results in nanoseconds are
estimates, and ratios between two machines are better than the times themselves.

The formulas are plain arithmetic, linear in the costs but for :func:`refill_ns`: they take numbers,
or numpy arrays of them, and costs of which every figure is an array (:mod:`replay.cost.units`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from replay.machine.tlb import X86_FULL_FLUSH

if TYPE_CHECKING:
    from replay.machine.costs import Costs
    from replay.machine.model import Layout


def ipi_ns(costs: Costs, cpus: Any) -> Any:
    """CPU time, on all CPUs together, of interrupting every other CPU and waiting for it.

    The sender waits for `ipi_base` and `ipi_cpu` per receiver; each receiver spends
    `ipi_receive`. With one CPU nothing is sent.
    """
    others = cpus - 1
    return (others > 0) * (costs.ipi_base + others * costs.ipi_cpu + others * costs.ipi_receive)


def refill_ns(costs: Costs) -> Any:
    """What a full flush costs a CPU afterwards: walks for the entries that it uses again."""
    return costs.tlb_entries * costs.tlb_live * costs.walk


def drop_all_ns(costs: Costs, layout: Layout) -> Any:
    """Dropping the whole TLB of one CPU, by its class (:mod:`replay.machine.tlb`)."""
    return getattr(costs, X86_FULL_FLUSH.get(layout.x86_flush, "full_flush"))


def _erratum_ns(costs: Costs, layout: Layout, cpus: Any) -> Any:
    """What ARM erratum 798181 adds to a broadcast flush, on affected CPUs.

    arch/arm/kernel/smp_tlb.c: broadcast_tlb_a15_erratum: one more invalidation that hits nothing
    and a DSB, then an IPI for which every other CPU carries out a DMB.
    """
    if not layout.tlb_erratum_ipi:
        return 0 * cpus
    return costs.tlbi_broadcast + costs.dsb + ipi_ns(costs, cpus)


def full_flush_ns(costs: Costs, layout: Layout, cpus: Any) -> Any:
    """flush_tlb_all(): every online CPU drops everything, refills included.

    x86: arch/x86/mm/tlb.c: flush_tlb_all. ARM: one broadcast operation, or an IPI each.
    """
    if layout.flush_ceiling_pages is not None:
        return ipi_ns(costs, cpus) + cpus * (drop_all_ns(costs, layout) + refill_ns(costs))
    one = costs.tlbi_broadcast if layout.tlb_broadcast else costs.tlbi_local * cpus
    sent = _erratum_ns(costs, layout, cpus) if layout.tlb_broadcast else ipi_ns(costs, cpus)
    return sent + one + 2 * costs.dsb + costs.isb + cpus * refill_ns(costs)


def range_flush_ns(costs: Costs, layout: Layout, pages: Any, cpus: Any) -> Any:
    """flush_tlb_kernel_range() over `pages` pages, on all CPUs together.

    x86 (arch/x86/mm/tlb.c) and others with a ceiling: up to it one INVLPG per page on every
    CPU, idle ones too; above it a full flush. ARM (arch/arm/kernel/smp_tlb.c): one TLBI per page
    whatever their number, broadcast by hardware or looped by every CPU after an IPI.
    """
    if not layout.range_flush:
        return 0 * pages
    ceiling = layout.flush_ceiling_pages
    if ceiling is not None:
        single = costs.invlpg * (2 if layout.pti else 1)
        ranged = ipi_ns(costs, cpus) + cpus * pages * single
        full = full_flush_ns(costs, layout, cpus)
        return (pages <= ceiling) * ranged + (pages > ceiling) * full
    around = 2 * costs.dsb + costs.isb
    if layout.tlb_broadcast:
        return around + pages * costs.tlbi_broadcast + _erratum_ns(costs, layout, cpus)
    return ipi_ns(costs, cpus) + cpus * (around + pages * costs.tlbi_local)


def pool_pass_ns(costs: Costs, layout: Layout, freed: Any, cpus: Any) -> Any:
    """flush_all_zero_pkmaps(): scan, unmap `freed` slots, and flush if there was one.

    mm/highmem.c. All of it happens under kmap_lock.
    """
    scan = layout.pkmap_slots * costs.scan
    unmap = freed * (costs.clear_pte + costs.hash)
    flush = range_flush_ns(costs, layout, layout.pkmap_slots, cpus)
    return scan + unmap + (freed > 0) * flush


def pool_pass_held_ns(costs: Costs, layout: Layout, freed: Any, cpus: Any) -> Any:
    """How long one flush_all_zero_pkmaps() holds kmap_lock.

    The caller's own part of the flush, and its wait for the CPUs that it interrupts; what those
    spend, and the refills that come later, hold nothing.
    """
    others = cpus - 1
    interrupts = not layout.tlb_broadcast or layout.tlb_erratum_ipi
    wait = interrupts * (others > 0) * (costs.ipi_base + others * costs.ipi_cpu)
    own = range_flush_ns(costs, layout, layout.pkmap_slots, 1)
    if layout.flush_ceiling_pages is not None and layout.pkmap_slots > layout.flush_ceiling_pages:
        own -= refill_ns(costs)
    alone = pool_pass_ns(costs, layout, freed, 1)
    return alone + (freed > 0) * (own + wait - range_flush_ns(costs, layout, layout.pkmap_slots, 1))


def kmap_ns(costs: Costs, scanned: Any, new: Any) -> Any:
    """kmap_high() without flushes and sleeps: a hit, or a new mapping after `scanned` slots.

    Parameters
    ----------
    costs
        Figures.
    scanned
        Slots looked at (0 for a hit).
    new
        1 for a new mapping, 0 for a hit.
    """
    return costs.lock + costs.hash + scanned * costs.scan + new * (costs.set_pte + costs.hash)


def kunmap_ns(costs: Costs) -> Any:
    """kunmap_high(): the lock, the lookup, no TLB work."""
    return costs.lock + costs.hash


def local_flush_ns(costs: Costs, layout: Layout, cpus: int = 1) -> Any:
    """One single-entry flush on the local CPU.

    x86: INVLPG (both halves with PTI); ARM: one TLBI, two DSB and an ISB; sparc32: everything,
    on all CPUs.
    """
    if layout.local_flush_all:
        return full_flush_ns(costs, layout, cpus)
    if layout.flush_ceiling_pages is not None:
        return costs.invlpg * (2 if layout.pti else 1)
    return costs.tlbi_local + 2 * costs.dsb + costs.isb


def local_map_ns(costs: Costs, layout: Layout, cpus: int = 1) -> Any:
    """kmap_local of a highmem page."""
    flush = local_flush_ns(costs, layout, cpus) if layout.local_flush_on_map else 0
    return costs.migrate / 2 + costs.set_pte + flush


def local_unmap_ns(costs: Costs, layout: Layout, cpus: int = 1) -> Any:
    """kunmap_local of a highmem page."""
    flush = local_flush_ns(costs, layout, cpus) if layout.local_flush_on_unmap else 0
    return costs.migrate / 2 + costs.clear_pte + flush


def switch_ns(costs: Costs, layout: Layout, held: Any, cpus: int = 1) -> Any:
    """A context switch away from and back to a task that holds `held` local mappings.

    mm/highmem.c: __kmap_local_sched_out, __kmap_local_sched_in.
    """
    flush = local_flush_ns(costs, layout, cpus)
    out = costs.clear_pte + flush
    back = costs.set_pte + (flush if layout.local_flush_on_map else 0)
    return held * (out + back)


def arena_alloc_ns(costs: Costs, pages: Any, steps: Any) -> Any:
    """vmap() or vmalloc() of `pages` pages after `steps` steps down the tree, without purges."""
    return costs.area + steps * costs.tree_step + pages * costs.set_pte


def arena_free_ns(costs: Costs, pages: Any) -> Any:
    """vunmap() or vfree() of `pages` pages; the flush comes with the purge."""
    return costs.area + pages * costs.clear_pte
