"""What the mapping work of a trace costs, by cause, and the TLB flushes in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from replay import costs as formula
from replay.outcome import CostOutcome, LocalOutcome, PoolOutcome, TlbOutcome

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from replay.arches.base import Layout
    from replay.machine import Machine


@dataclass(frozen=True)
class Work:
    """The counted work of one replay.

    Attributes
    ----------
    pool, local
        Figures of pool and local stacks.
    scanned
        Slots visited, in all.
    freed_by_wraps, freed_by_unused : ndarray of int32
        Slots freed by each flush pass, by who caused it.
    held_at_switches
        Local mappings held over context switches, in all.
    arena : polars.DataFrame
        Event rows of the arena and of kernel flushes, without the pool's own flushes.
    """

    pool: PoolOutcome
    local: LocalOutcome
    scanned: int
    freed_by_wraps: NDArray[np.int32]
    freed_by_unused: NDArray[np.int32]
    held_at_switches: int
    arena: pl.DataFrame


def cost_of(
    work: Work, machine: Machine, layout: Layout, span_ns: int | None
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
    flushes = _arena_flushes(work.arena, layout)
    pool, local = work.pool, work.local
    causes: dict[str, tuple[int, float]] = {
        "kmap": (
            pool.maps,
            pool.hits * formula.kmap_ns(figures, 0, 0)
            + pool.new_mappings * formula.kmap_ns(figures, 0, 1)
            + work.scanned * figures.scan,
        ),
        "kunmap": (pool.unmaps, pool.unmaps * formula.kunmap_ns(figures)),
        "pool flush (wrap)": _passes(work.freed_by_wraps, machine, layout),
        "pool flush (kmap_flush_unused)": _passes(work.freed_by_unused, machine, layout),
        "kmap sleeps": (pool.waits, pool.waits * figures.sleep),
        "kmap_local": (local.maps, local.maps * formula.local_map_ns(figures, layout)),
        "kunmap_local": (local.unmaps, local.unmaps * formula.local_unmap_ns(figures, layout)),
        "kmap_local of lowmem": (local.lowmem, local.lowmem * figures.low_map),
        "kmap_local over switches": (
            local.saved_on_switch,
            float(formula.switch_ns(figures, layout, work.held_at_switches)),
        ),
        "vmap and vmalloc": _arena_work(work.arena, machine, layout),
        "lazy purge flush": _flush_cost(flushes.filter("purge"), machine, layout),
        "other range flush": _flush_cost(flushes.filter(~pl.col("purge")), machine, layout),
        "flush_tlb_all": _full(work.arena, machine, layout),
    }
    total = sum(ns for _, ns in causes.values())
    by_cause = {
        cause: {"count": count, "ns": round(ns), "share": ns / total if total else 0.0}
        for cause, (count, ns) in causes.items()
        if count
    }
    share = total / (span_ns * cpus) if span_ns else None
    cost = CostOutcome(total_ns=round(total), share_of_span=share, by_cause=by_cause)
    return cost, _tlb(work, flushes, machine, layout)


def _passes(freed: NDArray[np.int32], machine: Machine, layout: Layout) -> tuple[int, float]:
    ns = formula.pool_pass_ns(machine.costs, layout, freed, machine.cpus)
    return int(freed.size), float(ns.sum()) if freed.size else 0.0


def _arena_flushes(arena: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Columns `pages` and `purge` of every flush_tlb_kernel_range() that is not the pool's.

    A flush belongs to the purge that it happened in: the innermost open call of its task is
    __purge_vmap_area_lazy, or, where that has no return probe, its task's last event was.
    """
    purge_of = (
        arena.select("seq", "pid", "op")
        .with_columns(before=pl.col("op").shift(1).over("pid"))
        .select("seq", "before")
    )
    parent_op = arena.select(pl.col("seq").alias("parent"), pl.col("op").alias("parent_op"))
    pages = (pl.col("end") - pl.col("start") + layout.page_size - 1) // layout.page_size
    return (
        arena.filter((pl.col("op") == "flush_range") & (pl.col("end") > pl.col("start")))
        .join(purge_of, on="seq", how="left", maintain_order="left")
        .join(parent_op, on="parent", how="left", maintain_order="left")
        .select(
            pages.cast(pl.Int64).alias("pages"),
            (
                (pl.col("parent_op") == "area_purge").fill_null(value=False)
                | (pl.col("before") == "area_purge").fill_null(value=False)
            ).alias("purge"),
        )
    )


def _flush_cost(flushes: pl.DataFrame, machine: Machine, layout: Layout) -> tuple[int, float]:
    pages = flushes.get_column("pages").to_numpy()
    ns = formula.range_flush_ns(machine.costs, layout, pages, machine.cpus)
    return flushes.height, float(ns.sum()) if flushes.height else 0.0


def _full(arena: pl.DataFrame, machine: Machine, layout: Layout) -> tuple[int, float]:
    count = arena.filter(pl.col("op") == "flush_all").height
    return count, count * float(formula.full_flush_ns(machine.costs, layout, machine.cpus))


def _arena_work(arena: pl.DataFrame, machine: Machine, layout: Layout) -> tuple[int, float]:
    """Searching, carving and page tables of allocations and frees, without their flushes."""
    allocs = arena.filter(pl.col("op") == "area_alloc")
    frees = arena.filter(pl.col("op") == "area_free")
    taken = int(allocs.get_column("size").sum() or 0) // layout.page_size
    given = frees.select((pl.col("end") - pl.col("vaddr")).sum()).item() or 0
    steps = 10  # depth of a tree of about a thousand free blocks
    ns = allocs.height * formula.arena_alloc_ns(machine.costs, 0, steps)
    ns += taken * machine.costs.set_pte
    ns += frees.height * formula.arena_free_ns(machine.costs, 0)
    ns += given // layout.page_size * machine.costs.clear_pte
    return allocs.height + frees.height, float(ns)


def _tlb(work: Work, flushes: pl.DataFrame, machine: Machine, layout: Layout) -> TlbOutcome:
    """Count flushes by kind.

    x86 makes a full flush of a range above its ceiling, the pool's window always being one
    (arch/x86/mm/tlb.c: flush_tlb_kernel_range); ARM invalidates page by page whatever the range.
    """
    ceiling = layout.flush_ceiling_pages
    pages = flushes.get_column("pages")
    explicit = work.arena.filter(pl.col("op") == "flush_all").height
    pool_full = ceiling is not None and layout.pkmap_slots > ceiling
    over = 0 if ceiling is None else int((pages > ceiling).sum())
    ranged = flushes.height - over + (0 if pool_full else work.pool.flushes)
    ranged_pages = pages if ceiling is None else pages.filter(pages <= ceiling)
    largest = ranged_pages.max()
    range_pages = int(ranged_pages.sum())
    if not pool_full:
        range_pages += work.pool.flushes * layout.pkmap_slots
    full = explicit + over + (work.pool.flushes if pool_full else 0)
    interrupts = not layout.tlb_broadcast or layout.tlb_erratum_ipi
    everywhere = full + ranged
    return TlbOutcome(
        full=full,
        range=ranged,
        range_pages=range_pages,
        range_pages_max=largest if isinstance(largest, int) else 0,
        single=work.local.tlb_single,
        ipis=everywhere * (machine.cpus - 1) if interrupts else 0,
    )
