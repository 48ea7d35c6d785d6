"""Costs measured from the trace itself: the times between entry and return of its own calls.

A duration holds the probes' own time too. What they take is told by calls that do nothing: a
kmap_local of a lowmem page is an addition (mm/highmem.c: __kmap_local_page_prot), so its median
duration is taken off every other one where the trace has such calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from collectors.records import dataclass, field
from replay.cost.formulas import drop_all_ns, local_flush_ns
from replay.cost.times import FAR
from replay.machine.costs import FIGURE_NAMES, Spread
from replay.machine.tlb import X86_FULL_FLUSH
from replay.machine.words import is_emulated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from collectors.snapshot import Snapshot
    from replay.cost.samples import Samples
    from replay.cost.times import EventTimes, PoolTimes
    from replay.machine.costs import Costs
    from replay.machine.layout import Layout
    from replay.machine.model import Machine

    Quartiles = tuple[float, float, float]
    Sets = Callable[[Quartiles], dict[str, Spread]]

FEWEST: Final = 8
"""Calls from which a cost is taken; fewer are shown only."""
_PFN_FUNCTION: Final = "__kmap_local_pfn_prot"
"""Called by __kmap_local_page_prot for a highmem page."""


@dataclass(frozen=True)
class Measured:
    """One kind of call.

    Attributes
    ----------
    what
        In words.
    count
        Calls with a return.
    q1, median, q3
        Quartiles of their duration in ns, probes included.
    sets
        Cost figures (:class:`replay.machine.costs.Costs`) that are taken from it: of the median,
        and of the quartiles what they lie between.
    """

    what: str
    count: int
    q1: float
    median: float
    q3: float
    sets: dict[str, Spread] = field(default_factory=dict)


@dataclass(frozen=True)
class Calibration:
    """What the trace tells of costs.

    Attributes
    ----------
    measured
        Kinds of calls.
    probes_ns
        What an entry and a return probe take, None unknown.
    costs
        The figures, measured ones among them.
    caveats
        What limits the figures.
    """

    measured: tuple[Measured, ...]
    probes_ns: float | None
    costs: Costs
    caveats: tuple[str, ...]


class Basis(NamedTuple):
    """What figures are reckoned with.

    Attributes
    ----------
    machine, layout
        The captured machine.
    probes
        Time of an entry and a return probe in ns.
    found
        Figures so far; later kinds of calls build on those of earlier ones.
    """

    machine: Machine
    layout: Layout
    probes: float
    found: dict[str, Spread]

    def of(self, name: str) -> float:
        """A cost figure: as measured, else the machine's."""
        return (self.found.get(name) or self.machine.costs.spread(name)).likely


def calibrate(
    pool: PoolTimes,
    events: EventTimes,
    machine: Machine,
    layout: Layout,
    values: Snapshot,
) -> Calibration:
    """Take costs from the durations of a trace's calls.

    Parameters
    ----------
    pool, events
        The durations.
    machine, layout
        The machine that it is from.
    values
        Its facts: whether it was emulated, and what was probed.

    Returns
    -------
    Calibration
        Without anything measured its costs are those of the machine.
    """
    idle = events.idle
    probes = idle.median() if idle.size >= FEWEST else None
    found: list[Measured] = []
    if idle.size:
        what = "kmap_local of lowmem (the probes alone)"
        found.append(Measured(what, idle.size, *idle.quartiles()))
    figures: dict[str, Spread] = {}
    known = Basis(machine, layout, probes or 0.0, figures)
    probed = {probe.symbol.partition(".")[0] for probe in values.probes}
    nested = _PFN_FUNCTION in probed
    for what, samples, sets in _kinds(known, pool, events, nested=nested):
        if samples.size:
            quartiles = samples.quartiles()
            usable = sets(quartiles) if samples.size >= FEWEST else {}
            figures |= usable
            found.append(Measured(what, samples.size, *quartiles, usable))
    names = set(FIGURE_NAMES)
    costs = machine.costs.with_spreads({k: v for k, v in figures.items() if k in names})
    emulated = is_emulated(values)
    caveats = tuple(_caveats(figures, probes, events.resolution, emulated=emulated))
    return Calibration(tuple(found), probes, costs, caveats)


def _caveats(
    figures: dict[str, Spread], probes: float | None, resolution: int, *, emulated: bool
) -> Iterator[str]:
    if not figures:
        yield "no cost could be calibrated: too few calls have a traced return"
        return
    if emulated:
        yield (
            "costs were calibrated under emulation (QEMU): they are the emulator's, and say "
            "nothing of real hardware"
        )
    if probes is None:
        yield (
            "calibrated costs hold the time of the probes themselves: no kmap_local of a lowmem "
            "page tells what they take"
        )
    if resolution > 1:
        yield f"the trace's time stamps go in steps of {resolution} ns: shorter times are rounded"


def _nothing(_: Quartiles) -> dict[str, Spread]:
    return {}


def _of_each(figure: Callable[[float], dict[str, float]]) -> Sets:
    """The figures of the quartiles, each at least 0; they grow with the duration."""

    def sets(quartiles: Quartiles) -> dict[str, Spread]:
        low, likely, high = map(figure, quartiles)
        return _told({name: (low[name], likely[name], high[name]) for name in likely})

    return sets


def _told(figures: dict[str, Quartiles]) -> dict[str, Spread]:
    """The figures that are more than nothing: what drowns in the probes is not told at all."""
    return {
        name: Spread(*(max(0.0, end) for end in ends))
        for name, ends in figures.items()
        if ends[-1] > 0
    }


def _kinds(
    known: Basis, pool: PoolTimes, events: EventTimes, *, nested: bool
) -> Iterator[tuple[str, Samples, Sets]]:
    """What is called, its durations, and the figures that they set.

    `nested`: a kmap_local of a highmem page holds two pairs of probes.
    """
    yield from _pool_kinds(known, pool)
    yield "kunmap()", events.kunmap, _nothing
    yield from _flush_kinds(known, events)
    costs, probes = known.machine.costs, known.probes
    flush = 0.0
    if known.layout.local_flush_on_map:
        flush = local_flush_ns(costs.with_spreads(known.found), known.layout)
    beyond = (2 if nested else 1) * probes + known.of("set_pte") + flush
    yield (
        "kmap_local of highmem", events.local, _of_each(lambda ns: {"migrate": 2 * (ns - beyond)})
    )  # fmt: skip
    steps = 10 * costs.tree_step
    yield "alloc_vmap_area", events.area, _of_each(lambda ns: {"area": ns - probes - steps})
    yield "alloc_vmap_area with a purge", events.purging, _nothing
    yield "vmap", events.vmap, _nothing
    yield "vm_map_ram", events.vm_map_ram, _nothing
    yield "lazy purge", events.purge, _nothing


def _pool_kinds(known: Basis, pool: PoolTimes) -> Iterator[tuple[str, Samples, Sets]]:
    costs, probes = known.machine.costs, known.probes
    hits = pool.hits.median()
    # of a hit half is the lock, half the lookup of the page
    each = _of_each(lambda ns: dict.fromkeys(("lock", "hash"), (ns - probes) / 2))
    yield "kmap() that finds a mapping", pool.hits, each
    base = (hits if pool.hits.size else probes + costs.lock + costs.hash) + known.of("hash")
    near = pool.near.median()
    yield "kmap() of a new page", pool.near, _of_each(lambda ns: {"set_pte": ns - base})
    per_slot: Sets = _nothing
    if pool.far.size and pool.near.size:
        per_slot = _per_slot(pool.far, near)
    yield f"kmap() that visits {FAR} slots or more", pool.far, per_slot
    yield "kmap() that wraps, nothing to flush", pool.quiet, _nothing
    sets: Sets = _nothing
    if pool.quiet.size >= FEWEST:
        unmap = pool.freed.median() * (costs.clear_pte + known.of("hash"))
        beyond = pool.quiet.median() + unmap
        slots = known.layout.pkmap_slots
        sets = _of_each(lambda ns: flush_figures(known, ns - beyond, slots))
    yield "kmap() that wraps and flushes", pool.wraps, sets


def _per_slot(far: Samples, near: float) -> Sets:
    """What one slot takes of searches that visit many."""

    def sets(_: Quartiles) -> dict[str, Spread]:
        return _told({"scan": far.quartiles_each(near)})

    return sets


def flush_figures(known: Basis, ns: float, pages: int) -> dict[str, float]:
    """Figures that one flush of so many pages tells, as its initiator waits for it.

    x86 up to the ceiling: INVLPG on one CPU, else what the IPI takes beyond the flush; ARM: one
    TLBI per page (arch/x86/mm/tlb.c, arch/arm/kernel/smp_tlb.c).
    """
    layout, costs = known.layout, known.machine.costs
    others = known.machine.cpus - 1
    if layout.flush_ceiling_pages is None:
        around = 2 * costs.dsb + costs.isb
        name = "tlbi_broadcast" if layout.tlb_broadcast else "tlbi_local"
        return {name: (ns - around) / pages}
    ranged = pages <= layout.flush_ceiling_pages
    if not others:
        single = 2 if layout.pti else 1
        name = X86_FULL_FLUSH.get(layout.x86_flush, "full_flush")
        return {"invlpg": ns / pages / single} if ranged else {name: ns}
    own = pages * known.of("invlpg") if ranged else drop_all_ns(costs, layout)
    return {"ipi_base": ns - own - others * costs.ipi_cpu}


def _flush_kinds(known: Basis, events: EventTimes) -> Iterator[tuple[str, Samples, Sets]]:
    """flush_all_zero_pkmaps() and flush_tlb_kernel_range(), where their returns were probed."""
    layout = known.layout

    def told(samples: Samples, pages: int) -> Sets:
        if not samples.size:
            return _nothing
        return _of_each(lambda ns: flush_figures(known, ns - known.probes, max(1, pages)))

    yield "flush_all_zero_pkmaps", events.passes, _nothing
    of_pool = told(events.pool_flush, layout.pkmap_slots)
    yield "flush_tlb_kernel_range of the pool", events.pool_flush, of_pool
    small, large = events.small, events.large
    by_page: Sets = _nothing
    if layout.flush_ceiling_pages is not None:
        by_page = told(small, round(small.median_beside()))
    yield "flush_tlb_kernel_range page by page", small, by_page
    many = told(large, round(large.median_beside()))
    yield "flush_tlb_kernel_range of many pages", large, many


def as_rows(calibration: Calibration) -> list[dict[str, Any]]:
    """Key ``calibration`` of the JSON documents: the kinds of calls, times in ns."""
    return [
        {
            "what": m.what,
            "count": m.count,
            "q1_ns": m.q1,
            "median_ns": m.median,
            "q3_ns": m.q3,
            "sets": {name: spread.likely for name, spread in m.sets.items()},
            "ranges": {name: [spread.low, spread.high] for name, spread in m.sets.items()},
        }
        for m in calibration.measured
    ]
