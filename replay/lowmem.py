"""How lowmem fared on the captured machine, as far as its files tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from replay.machine.zones import HIGHMEM
from replay.memory import LowmemOutcome, OomOutcome, ZoneOutcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from collectors.snapshot import OomReport, Snapshot, Zone, ZoneUse
    from replay.machine.layout import Layout
    from replay.machine.model import Machine

_STALL: Final = "allocstall"
_SCAN: Final = "pgscan_direct"
_NOT_SCANNED: Final = ("pgscan_direct_throttle",)
"""Counts waits, not pages."""
GFP_HIGHMEM: Final = 0x2
"""__GFP_HIGHMEM, the same in every kernel (include/linux/gfp_types.h, gfp.h before)."""
SMALL_ORDERS: Final = 3
"""Blocks of lower orders than PAGE_ALLOC_COSTLY_ORDER."""


def lowmem_of(snapshot: Snapshot, machine: Machine, layout: Layout) -> LowmemOutcome | None:
    """How near lowmem was to its watermarks, what used it, and whether it was waited for.

    Parameters
    ----------
    snapshot
        Facts of the machine: zones, zone_uses, memory_uses, vmstat_start, vmstat_end, buddies,
        ooms and their like.
    machine
        Its configuration tells what is taken from highmem.
    layout
        Its address map.

    Returns
    -------
    LowmemOutcome or None
        None where no file tells anything of it.
    """
    page = layout.page_size
    zones = _zones(snapshot, page) or _of_meminfo(snapshot)
    ooms = tuple(_ooms(snapshot, page))
    stalls = _stalls(snapshot)
    largest, pieces = _blocks(snapshot.buddies, page)
    if not (zones or ooms or stalls) and largest is None:
        return None
    uses, beyond = _uses(snapshot, machine, layout, zones)
    return LowmemOutcome(
        zones=zones,
        uses=_largest_first(uses),
        beyond=_largest_first(beyond),
        stalls=stalls,
        scanned=_scanned(snapshot),
        oom_kills=_grown(snapshot.vmstat_start, snapshot.vmstat_end, "oom_kill"),
        largest_block=largest,
        in_pieces=pieces,
        ooms=ooms,
        unknown=tuple(_unknown(snapshot, zones, stalls, largest)),
    )


def _zones(snapshot: Snapshot, page: int) -> tuple[ZoneOutcome, ...]:
    """The zones in bytes, highmem last; empty where what is free is not told."""
    ordered = sorted(snapshot.zones, key=lambda zone: (zone.name == HIGHMEM, zone.start_pfn))
    if not any(zone.free for zone in ordered):
        return ()
    has_high = any(zone.name == HIGHMEM for zone in ordered)
    uses = {use.name: use for use in snapshot.zone_uses}
    ends = {zone.name: zone for zone in snapshot.zones_end}
    uses_end = {use.name: use for use in snapshot.zone_uses_end}
    return tuple(
        _zone(
            zone, page, uses.get(zone.name), has_high=has_high,
            free_end=_usable(ends.get(zone.name), uses_end.get(zone.name)),
        )
        for zone in ordered
    )  # fmt: skip


def _zone(
    zone: Zone, page: int, use: ZoneUse | None, *, has_high: bool, free_end: int | None
) -> ZoneOutcome:
    """A zone in bytes; what it keeps from requests for the highest zone is most."""
    reserve = 0
    if has_high and zone.name != HIGHMEM:
        reserve = max(zone.protection, default=0)
    least, low, high = zone.marks or (0, 0, 0)
    return ZoneOutcome(
        zone.name, zone.managed * page, zone.free * page, low * page, reserve * page,
        min=least * page, high=high * page, cma=(0 if use is None else use.cma or 0) * page,
        free_end=None if free_end is None else free_end * page,
    )  # fmt: skip


def _usable(zone: Zone | None, use: ZoneUse | None) -> int | None:
    """Pages that were free without CMA's; None where no file says."""
    if zone is None:
        return None
    return max(zone.free - (0 if use is None else use.cma or 0), 0)


def _of_meminfo(snapshot: Snapshot) -> tuple[ZoneOutcome, ...]:
    """Lowmem and highmem as meminfo tells them, without watermarks."""
    told = snapshot.memory_uses
    return tuple(
        ZoneOutcome(name, managed, told[line], 0, 0)
        for name, line, managed in (
            ("lowmem", "LowFree", snapshot.lowmem_bytes),
            (HIGHMEM, "HighFree", snapshot.highmem_bytes),
        )
        if managed and line in told
    )


def _uses(
    snapshot: Snapshot, machine: Machine, layout: Layout, zones: tuple[ZoneOutcome, ...]
) -> tuple[dict[str, int], dict[str, int]]:
    """What lowmem is used for, and what would be if there were no highmem, in bytes.

    Page tables lie in highmem with HIGHPTE, and so does what vmalloc() gives out, which asks for
    highmem first (mm/vmalloc.c: __vmalloc_area_node), kernel stacks with VMAP_STACK included.
    """
    told = snapshot.memory_uses
    low = [zone for zone in zones if zone.name != HIGHMEM]
    managed, free = sum(zone.managed for zone in low), sum(zone.free for zone in low)
    if not low:
        return {}, {}
    found = dict(_never_managed(snapshot, layout, managed))
    named = {name: told[line] for name, line in (("slab", "Slab"),) if line in told}
    has_high = any(zone.name == HIGHMEM for zone in zones)
    beyond: dict[str, int] = {}
    for name, line, option in (
        ("page tables", "PageTables", "HIGHPTE"),
        ("kernel stacks", "KernelStack", "VMAP_STACK"),
    ):
        if line in told:
            there = has_high and option in machine.config
            (beyond if there else named)[name] = told[line]
    vmalloc = sum(a.pages or 0 for a in snapshot.areas if a.kind == "vmalloc") * layout.page_size
    if machine.config and "VMAP_STACK" in machine.config:
        vmalloc = max(vmalloc - told.get("KernelStack", 0), 0)
    if vmalloc:
        (beyond if has_high else named)["vmalloc"] = vmalloc
    mapped = [use.mapped for use in snapshot.zone_uses if use.name != HIGHMEM]
    if mapped and None not in mapped:
        named["pages"] = sum(number or 0 for number in mapped) * layout.page_size
    if named:
        found |= named | {"others": max(managed - free - sum(named.values()), 0)}
    return found, beyond


def _never_managed(snapshot: Snapshot, layout: Layout, managed: int) -> Iterator[tuple[str, int]]:
    """What the allocator never gets of lowmem: the page array, the kernel itself."""
    present = sum(z.present for z in snapshot.zones if z.name != HIGHMEM) * layout.page_size
    gone = max(present - managed, 0)
    array = min(layout.mem_map_bytes, gone) if present else layout.mem_map_bytes
    yield "mem_map", array
    yield "kernel", gone - array if present else 0


def _largest_first(uses: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(((name, used) for name, used in uses.items() if used), key=lambda u: -u[1]))


def _stalls(snapshot: Snapshot) -> dict[str, int] | None:
    """Waits, by the highest zone that the request could have had (mm/vmscan.c)."""
    start, end = snapshot.vmstat_start, snapshot.vmstat_end
    names = [name for name in end if name.startswith(_STALL)]
    grown = {name: _grown(start, end, name) for name in names}
    found = {
        name.removeprefix(_STALL).removeprefix("_"): number
        for name, number in grown.items()
        if number is not None
    }
    return found or None


def _scanned(snapshot: Snapshot) -> int | None:
    """Pages that direct reclaim looked at, of all zones."""
    start, end = snapshot.vmstat_start, snapshot.vmstat_end
    names = [name for name in end if name.startswith(_SCAN) and name not in _NOT_SCANNED]
    grown = [_grown(start, end, name) for name in names]
    return sum(number or 0 for number in grown) if names and None not in grown else None


def _grown(start: Mapping[str, int], end: Mapping[str, int], name: str) -> int | None:
    """How much a counter grew; one that fell is of another run."""
    if name not in start or name not in end or end[name] < start[name]:
        return None
    return end[name] - start[name]


def _blocks(buddies: Mapping[str, tuple[int, ...]], page: int) -> tuple[int | None, float | None]:
    """The largest free block of lowmem in bytes, and the share of it that lies in small ones."""
    low = [blocks for zone, blocks in buddies.items() if zone != HIGHMEM]
    if not low:
        return None, None
    pages = [
        sum(blocks[order] << order for blocks in low if order < len(blocks))
        for order in range(max(map(len, low)))
    ]
    largest = max((order for order, free in enumerate(pages) if free), default=None)
    if largest is None:
        return 0, None
    return page << largest, sum(pages[:SMALL_ORDERS]) / sum(pages)


def _ooms(snapshot: Snapshot, page: int) -> Iterator[OomOutcome]:
    """Requests that found no memory; those of the log before the capture are not of its time."""
    before = {(report.at, report.task) for report in snapshot.ooms_before}
    for report in snapshot.ooms if snapshot.ooms is not None else snapshot.ooms_before:
        yield _oom(report, page, meanwhile=(report.at, report.task) not in before)


def _oom(report: OomReport, page: int, *, meanwhile: bool) -> OomOutcome:
    """A report for what it says of lowmem.

    A request that highmem cannot serve gets what a zone has above its watermark, and of a zone
    below the highest of lowmem also not what is kept for those who need it (mm/page_alloc.c:
    __zone_watermark_ok, lowmem_reserve).
    """
    low = [zone for zone in report.zones if zone.name not in (HIGHMEM, "Movable")]
    high = [zone for zone in report.zones if zone.name == HIGHMEM]
    kept = [zone.min + zone.reserve * (zone is not low[-1]) for zone in low]
    usable = [zone.free - (zone.cma or 0) for zone in low]
    blocks = [zone.largest for zone in low if zone.largest is not None]
    largest = max(blocks, default=None)
    return OomOutcome(
        at=report.at,
        task=report.task,
        killed=report.killed,
        is_oom=report.is_oom,
        order=report.order,
        of_lowmem=None if report.gfp is None else not report.gfp & GFP_HIGHMEM,
        low_free=sum(zone.free for zone in low),
        low_cma=sum(zone.cma or 0 for zone in low),
        low_kept=sum(kept),
        high_free=max(sum(zone.free - zone.low for zone in high), 0) if high else None,
        largest=largest,
        is_used_up=all(free <= least for free, least in zip(usable, kept, strict=True)),
        is_in_pieces=largest is not None and largest < page << report.order,
        meanwhile=meanwhile,
    )


def _unknown(
    snapshot: Snapshot,
    zones: tuple[ZoneOutcome, ...],
    stalls: Mapping[str, int] | None,
    largest: int | None,
) -> Iterator[str]:
    """Codes of what no file tells."""
    if not any(zone.low for zone in zones):
        yield "watermarks"
    if "Slab" not in snapshot.memory_uses:
        yield "uses"
    if not any(zone.free_end is not None for zone in zones):
        yield "end"
    if stalls is None:
        yield "stalls"
    if largest is None:
        yield "blocks"
    if snapshot.ooms is None:
        yield "log"
