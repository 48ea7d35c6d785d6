"""Where things are on a machine: derive its layout, ask it, and hold it against the facts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from collectors.errors import HmtraceError
from replay.machine.arches import ARCHES
from replay.machine.generations import GENERATIONS, is_newer, is_older
from replay.machine.model import MAX_POOL, SPECIAL, Layout, LayoutZone, Region
from replay.machine.told import believing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from collectors.snapshot import FactName, Snapshot
    from replay.machine.model import Machine

__all__ = [
    "Check",
    "Layout",
    "LayoutZone",
    "Region",
    "check",
    "derived_layout",
    "direct_address",
    "is_high",
    "layout_of",
    "local_address",
    "pool_address",
    "region_at",
]


LIMITS: Final = {
    "cpus": (1, 8192),
    "nr_cpus": (1, 8192),
    "pkmap_slots": (1, MAX_POOL),
    "page_struct": (16, 256),
    "cache_colours": (1, 256),
    "tlb_entries": (1, 1 << 16),
}
"""Numbers of a machine that its description may get wrong, least and most."""


def layout_of(machine: Machine) -> Layout:
    """Derive addresses and limits.

    Parameters
    ----------
    machine
        Any machine of an architecture in :data:`replay.machine.arches.ARCHES`.

    Returns
    -------
    Layout

    Raises
    ------
    HmtraceError
        If the machine cannot exist: unknown architecture, no room for lowmem, no RAM.
    """
    arch = ARCHES.get(machine.arch)
    if arch is None:
        msg = f"hmtrace has no address map of architecture {machine.arch!r}"
        hint = f"it knows {', '.join(ARCHES)}"
        raise HmtraceError(msg, hint=hint, exit_code=2)
    if machine.split not in arch.splits:
        msg = f"{arch.name} has no split {machine.split!r}"
        raise HmtraceError(msg, hint=f"known: {', '.join(arch.splits)}", exit_code=2)
    if machine.page_size not in arch.page_sizes:
        sizes = ", ".join(f"{size >> 10}K" for size in arch.page_sizes)
        msg = f"{arch.name} has no pages of {machine.page_size / 1024:g} KiB"
        raise HmtraceError(msg, hint=f"known: {sizes}", exit_code=2)
    if machine.generation not in GENERATIONS:
        msg = f"unknown kernel generation {machine.generation!r}"
        raise HmtraceError(msg, hint=f"known: {', '.join(GENERATIONS)}", exit_code=2)
    for name, (least, most) in LIMITS.items():
        value = getattr(machine, name)
        if value is not None and not least <= value <= most:
            msg = f"{name} {value} is not between {least} and {most}"
            raise HmtraceError(msg, hint="no kernel has such a number", exit_code=2)
    if machine.cache_colours & (machine.cache_colours - 1):
        msg = f"{machine.cache_colours} colours: cache ways are powers of two of pages"
        raise HmtraceError(msg, hint="cache_colours = 1 where there are no aliases", exit_code=2)
    layout = arch.layout(machine)
    if machine.told is not None:
        layout = believing(layout, machine, machine.told)
    unused = [name for name in SPECIAL if getattr(machine, name) and name not in arch.takes]
    remarks = [f"{name} means nothing on {arch.name}" for name in unused]
    if is_older(machine.release):
        remarks.append(
            f"kernel {machine.release} is older than those that are modelled: before 2.6.37 "
            "callers of kmap_atomic() chose the slots themselves, and the map had other parts"
        )
    if is_newer(machine.release):
        remarks.append(
            f"kernel {machine.release} is newer than those that are modelled: it is taken to "
            f"behave as {machine.generation}"
        )
    return _remarked(layout, remarks)


def _remarked(layout: Layout, notes: Iterable[str]) -> Layout:
    added = tuple(notes)
    return replace(layout, notes=(*layout.notes, *added)) if added else layout


def direct_address(layout: Layout, pfn: int) -> int:
    """Address of a lowmem frame in the direct mapping. asm/page.h: __va."""
    return layout.page_offset + pfn * layout.page_size - layout.phys_offset


def is_high(layout: Layout, pfn: int) -> bool:
    """Whether a frame is in ZONE_HIGHMEM, so that only a temporary mapping reaches it."""
    return layout.lowmem_end_pfn <= pfn < layout.max_pfn


def pool_address(layout: Layout, slot: int) -> int:
    """Address of a slot of the kmap() pool. asm/highmem.h: PKMAP_ADDR."""
    return layout.pkmap_base + slot * layout.page_size


def local_address(layout: Layout, cpu: int, depth: int, colour: int = 0) -> int:
    """Address of the mapping at `depth` (0: the first) of kmap_local on `cpu`.

    mm/highmem.c: kmap_local_idx_push, kmap_local_calc_idx; with colours
    arch/xtensa/mm/highmem.c: kmap_idx.
    """
    index = (depth + 1) * layout.km_step - 1 + layout.km_max_idx * cpu
    colours = layout.pkmap_colours
    slot = index * colours + colours - 1 - colour
    return layout.kmap_fix_top + slot * layout.kmap_fix_step


def region_at(layout: Layout, address: int) -> Region:
    """Region that an address lies in.

    Raises
    ------
    HmtraceError
        If it lies outside the address space.
    """
    for region in layout.regions:
        if region.start <= address < region.end:
            return region
    msg = f"{address:#x} is no {layout.regions[-1].end.bit_length() - 1}-bit address"
    raise HmtraceError(msg)


class Check(NamedTuple):
    """One number of the layout beside what the machine itself says.

    `name` is the number, `source` the file and line of the observation.
    """

    name: str
    predicted: Any
    observed: Any
    source: str
    ok: bool


def derived_layout(machine: Machine) -> Layout:
    """The layout by the rules alone, whatever the machine's files say: what is to be checked."""
    return layout_of(replace(machine, told=None))


def check(
    layout: Layout, snapshot: Snapshot, sources: Mapping[FactName, str] | None = None
) -> list[Check]:
    """Hold a layout against the facts of the machine that it was derived for.

    Only facts that the layout was not derived from are used: zones, boot lines, /proc/kcore
    headers, meminfo, addresses of areas.

    Parameters
    ----------
    layout
        Of :func:`layout_of`.
    snapshot
        ``Facts.snapshot()``.
    sources
        Fact name to its source, ``{name: fact.source for name, fact in facts.items()}``.

    Returns
    -------
    list of Check
        Empty where the machine says nothing.
    """
    sources = sources or {}
    return [
        Check(name, predicted, observed, sources.get(fact, fact), predicted == observed)
        for name, fact, predicted, observed in _comparisons(layout, snapshot)
    ]


def _comparisons(
    layout: Layout, snapshot: Snapshot
) -> Iterator[tuple[str, FactName, object, object]]:
    """Name, fact, predicted and observed value of every comparison that the facts allow."""
    plain: tuple[tuple[FactName, int, int | None], ...] = (
        ("page_offset", layout.page_offset, snapshot.page_offset),
        ("lowmem_end_pfn", layout.lowmem_end_pfn, snapshot.lowmem_end_pfn),
        ("max_pfn", layout.max_pfn, snapshot.max_pfn),
        ("high_memory", layout.high_memory, snapshot.high_memory),
        ("vmalloc_start", layout.vmalloc_start, snapshot.vmalloc_start),
        ("vmalloc_end", layout.vmalloc_end, snapshot.vmalloc_end),
        ("vmalloc_total", layout.vmalloc_bytes, snapshot.vmalloc_total),
        ("pkmap_slots", layout.pkmap_slots, snapshot.pkmap_slots),
        ("low_ram_end", layout.lowmem_end_pfn * layout.page_size, snapshot.low_ram_end),
        ("lowmem_mib", layout.lowmem_end_pfn * layout.page_size >> 20, snapshot.lowmem_mib),
        (
            "highmem_mib",
            (layout.max_pfn - layout.lowmem_end_pfn) * layout.page_size >> 20,
            snapshot.highmem_mib,
        ),
    )
    for name, predicted, observed in plain:
        if observed is not None:
            yield name, name, predicted, observed
    # A kernel manages no more highmem than there is: less says nothing, more contradicts it.
    managed, most = (snapshot.highmem_bytes or 0) >> 20, layout.highmem_bytes >> 20
    if managed > most:
        yield "high_total_mib", "highmem_bytes", most, managed
    if snapshot.high_pfns is not None:
        yield (
            "highmem pfns",
            "high_pfns",
            (layout.lowmem_end_pfn, layout.max_pfn),
            snapshot.high_pfns,
        )
    zones = {zone.name: zone for zone in layout.zones}
    for named, start, spanned, *_ in snapshot.zones:
        if named in ("DMA", "DMA32", "Normal", "HighMem"):
            zone = zones.get(named, LayoutZone(named, 0, 0))
            yield f"zone {named}", "zones", zone[1:3], (start, start + spanned)
    for named, first, last in snapshot.zone_ranges:
        zone = zones.get(named, LayoutZone(named, 0, 0))
        yield f"zone {named} at boot", "zone_ranges", zone[1:3], (first, last)
    block = snapshot.layout_block
    for named, start, end in (
        ("vmalloc", layout.vmalloc_start, layout.vmalloc_end),
        ("lowmem", layout.page_offset, layout.high_memory),
        ("pkmap", layout.pkmap_base, layout.pkmap_end),
    ):
        if named in block:
            yield f"{named} at boot", "layout_block", (start, end), tuple(block[named])
    yield from _area_comparisons(layout, snapshot)


def _area_comparisons(
    layout: Layout, snapshot: Snapshot
) -> Iterator[tuple[str, FactName, object, object]]:
    """Every area lies in the arena, or where modules go.

    ARM's static mappings (iotable_init) lie in lowmem where memory is remapped for DMA, and
    are left out.
    """
    outside = 0
    counted = 0
    for area in snapshot.areas:
        start, end, caller = area[0], area[1], area[3]
        if "iotable_init" in caller:
            continue
        counted += 1
        in_arena = layout.vmalloc_start <= start and end <= layout.vmalloc_end
        in_modules = layout.modules_start <= start and end <= layout.modules_end
        outside += not (in_arena or in_modules)
    if counted:
        yield "areas outside the arena", "areas", 0, outside
