"""How lowmem fared on the captured machine, as far as its files tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from replay.machine.zones import HIGHMEM
from replay.outcome import LowmemOutcome, ZoneOutcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from collectors.snapshot import Snapshot, Zone
    from replay.machine.layout import Layout

_USES: Final = {
    "slab": "Slab",
    "page tables": "PageTables",
    "kernel stacks": "KernelStack",
    "per-CPU": "Percpu",
}
"""What is allocated in lowmem alone, by its line of /proc/meminfo. Page tables may lie in highmem
(CONFIG_HIGHPTE; i386 without that option and ARM have them low)."""
_STALL: Final = "allocstall"


def lowmem_of(snapshot: Snapshot, layout: Layout) -> LowmemOutcome | None:
    """How near lowmem was to its watermarks, what used it, and whether it was waited for.

    Parameters
    ----------
    snapshot
        Facts of the machine: zones, memory_uses, vmstat_start, vmstat_end, buddies.
    layout
        Its address map.

    Returns
    -------
    LowmemOutcome or None
        None where zoneinfo is not known, or says nothing of what was free.
    """
    page = layout.page_size
    ordered = sorted(snapshot.zones, key=lambda zone: (zone.name == HIGHMEM, zone.start_pfn))
    has_high = any(zone.name == HIGHMEM for zone in ordered)
    zones = tuple(_zone(zone, page, has_high=has_high) for zone in ordered)
    if not any(zone.free for zone in zones):
        return None
    uses = dict(_uses(snapshot, layout, zones))
    return LowmemOutcome(
        zones=zones,
        uses=tuple(sorted(uses.items(), key=lambda use: -use[1])),
        stalls=_stalls(snapshot),
        oom_kills=_grown(snapshot.vmstat_start, snapshot.vmstat_end, "oom_kill"),
        largest_block=_largest_block(snapshot.buddies, page),
    )


def _zone(zone: Zone, page: int, *, has_high: bool) -> ZoneOutcome:
    """A zone in bytes; what it keeps from requests for the highest zone is most."""
    reserve = 0
    if has_high and zone.name != HIGHMEM:
        reserve = max(zone.protection, default=0)
    low = zone.marks[1] if zone.marks else 0
    return ZoneOutcome(zone.name, zone.managed * page, zone.free * page, low * page, reserve * page)


def _uses(
    snapshot: Snapshot, layout: Layout, zones: tuple[ZoneOutcome, ...]
) -> Iterator[tuple[str, int]]:
    """What lowmem is used for, in bytes."""
    low = [zone for zone in zones if zone.name != HIGHMEM]
    managed = sum(zone.managed for zone in low)
    present = sum(z.present for z in snapshot.zones if z.name != HIGHMEM) * layout.page_size
    gone = max(present - managed, 0)
    array = min(layout.mem_map_bytes, gone)
    yield "mem_map", array
    yield "kernel", gone - array
    named = {
        name: snapshot.memory_uses[line]
        for name, line in _USES.items()
        if line in snapshot.memory_uses
    }
    yield from named.items()
    used = managed - sum(zone.free for zone in low)
    if named:
        yield "others", max(used - sum(named.values()), 0)


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


def _grown(start: Mapping[str, int], end: Mapping[str, int], name: str) -> int | None:
    """How much a counter grew; one that fell is of another run."""
    if name not in start or name not in end or end[name] < start[name]:
        return None
    return end[name] - start[name]


def _largest_block(buddies: Mapping[str, tuple[int, ...]], page: int) -> int | None:
    orders = [
        order
        for zone, blocks in buddies.items()
        if zone != HIGHMEM
        for order, number in enumerate(blocks)
        if number
    ]
    if not any(zone != HIGHMEM for zone in buddies):
        return None
    return page << max(orders) if orders else 0
