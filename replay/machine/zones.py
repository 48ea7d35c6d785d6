"""What a machine's zones keep free, and what lowmem pays for RAM.

The page allocator gives a zone out only down to its watermarks, and keeps part of each lower
zone from requests that could have had a higher one. mm/page_alloc.c: calculate_min_free_kbytes,
__setup_per_zone_wmarks, setup_per_zone_lowmem_reserve, zone_watermark_ok; mm/khugepaged.c:
set_recommended_min_free_kbytes. Compared with /proc/zoneinfo of booted 5.10, 6.1, 6.5 and 6.12.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.records import dataclass
from collectors.snapshot import Snapshot
from replay.machine.model import MiB

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from replay.machine.layout import Layout
    from replay.machine.model import Machine

RATIOS: Final = {"DMA": 256, "DMA32": 256, "Normal": 32}
"""lowmem_reserve_ratio: of what lies above a zone, one page in so many is kept in it."""
SCALE: Final = 10
"""watermark_scale_factor, in 1/10000 of a zone."""
LEAST_MIN_KIB: Final = 128
MOST_MIN_KIB: Final = 262_144
HIGHMEM: Final = "HighMem"
HUGE_FROM: Final = 512 * MiB
"""Less RAM than this switches transparent huge pages off (mm/huge_memory.c: hugepage_init)."""
KERNEL_IMAGE: Final = 16 * MiB
"""Taken for what the kernel and its early tables occupy, where no zoneinfo says."""

KASAN_PART: Final = 8
"""One byte of shadow for so many (include/linux/kasan.h: KASAN_SHADOW_SCALE_SHIFT)."""


class Pages(NamedTuple):
    """A zone and the pages that the allocator manages in it, the lowest zone first."""

    zone: str
    managed: int


@dataclass(frozen=True)
class Watermarks:
    """What one zone keeps.

    Attributes
    ----------
    zone
        Its name.
    managed
        Pages that the allocator has.
    min, low, high
        Watermarks in pages: below `low` kswapd is woken and the next lower zone is tried, up to
        `high` it reclaims, below `min` only emergencies are served.
    reserve
        Pages kept from requests that could have had a zone above, by that zone.
    """

    zone: str
    managed: int
    min: int
    low: int
    high: int
    reserve: Mapping[str, int]


@dataclass(frozen=True)
class Memory:
    """Zones of a machine with their watermarks, and where lowmem goes.

    Attributes
    ----------
    min_free_kib
        min_free_kbytes.
    zones
        The lowest first.
    mem_map_bytes
        Page array.
    other_bytes
        Lowmem that the allocator never gets besides: kernel image, early tables.
    assumptions
        In words, what no file says.
    """

    min_free_kib: int
    zones: tuple[Watermarks, ...]
    mem_map_bytes: int
    other_bytes: int
    assumptions: tuple[str, ...] = ()

    def zone(self, name: str) -> Watermarks | None:
        """The zone of a name, None where it is empty."""
        return next((zone for zone in self.zones if zone.zone == name), None)

    @property
    def highmem_room(self) -> int:
        """Pages of highmem that are given out before lowmem is tried."""
        zone = self.zone(HIGHMEM)
        return max(0, zone.managed - zone.low) if zone is not None else 0

    @property
    def fallback_room(self) -> int:
        """Pages of lowmem that a request for highmem may have before reclaim begins."""
        return sum(
            max(0, zone.managed - zone.low - zone.reserve.get(HIGHMEM, 0))
            for zone in self.zones
            if zone.zone != HIGHMEM
        )


def min_free_kib(lowmem_pages: int, page_size: int) -> int:
    """min_free_kbytes as the kernel chooses it: 4 * sqrt(lowmem in KiB).

    Examples
    --------
    >>> min_free_kib(187056, 4096)
    3459
    """
    root = math.isqrt(lowmem_pages * (page_size >> 10) * 16)
    return min(MOST_MIN_KIB, max(LEAST_MIN_KIB, root))


def huge_min_free_kib(zones: Sequence[Pages], page_size: int, block: int) -> int:
    """What transparent huge pages recommend: two blocks a zone, and nine against mixing.

    Parameters
    ----------
    zones
        All zones.
    page_size
        Bytes.
    block
        Of :func:`huge_block`.

    Returns
    -------
    int
        At most 5 % of lowmem. mm/khugepaged.c: set_recommended_min_free_kbytes.
    """
    low = [zone.managed for zone in zones if zone.zone != HIGHMEM and zone.managed]
    pages = min(block * len(low) * (2 + 9), sum(low) // 20)
    return pages * (page_size >> 10)


def huge_block(machine: Machine) -> int:
    """Pages that page-block mobility is kept by where huge pages are on (pageblock_nr_pages).

    A huge page is 2 MiB, on i386 without PAE 4 MiB; linux/pageblock-flags.h caps it at the
    largest block of the allocator.
    """
    size = 4 * MiB if machine.arch == "i386" and not machine.pae else 2 * MiB
    return min(1024, size // machine.page_size)


def watermarks(zones: Sequence[Pages], min_free: int, page_size: int) -> tuple[Watermarks, ...]:
    """Watermarks and reserves of zones.

    Parameters
    ----------
    zones
        The lowest first, with the pages that were managed when the kernel worked this out.
    min_free
        min_free_kbytes.
    page_size
        Bytes.

    Returns
    -------
    tuple of Watermarks
        Zones without pages are left out.
    """
    pages_min = min_free // (page_size >> 10)
    lowmem = sum(zone.managed for zone in zones if zone.zone != HIGHMEM)
    found = []
    for position, (name, managed) in enumerate(zones):
        if not managed:
            continue
        share = pages_min * managed // lowmem if lowmem else 0
        least = min(128, max(32, managed // 1024)) if name == HIGHMEM else share
        distance = max(share // 4, managed * SCALE // 10_000)
        reserve, above = {}, 0
        for upper in zones[position + 1 :]:
            above += upper.managed
            reserve[upper.zone] = above // RATIOS[name] if name in RATIOS else 0
        found.append(
            Watermarks(name, managed, least, least + distance, least + 2 * distance, reserve)
        )
    return tuple(found)


def kasan_bytes(machine: Machine, layout: Layout) -> int:
    """Lowmem that the shadow of lowmem takes, with CONFIG_KASAN."""
    return layout.lowmem_bytes // KASAN_PART if "KASAN" in machine.config else 0


def memory_of(machine: Machine, layout: Layout, captured: Snapshot | None = None) -> Memory:
    """Zones of a machine with what they keep.

    Parameters
    ----------
    machine, layout
        The machine.
    captured
        Facts of the machine that it is a variant of (``Facts.snapshot()``): its zoneinfo tells how
        much of lowmem is the kernel's own. None: 16 MiB are taken for it.

    Returns
    -------
    Memory
        Estimated: the allocator's pages follow from RAM, the page array and what is the kernel's.
    """
    other, assumptions = _own_bytes(captured or Snapshot(), machine.page_struct)
    zones = _managed(layout, other)
    page = layout.page_size
    least = min_free_kib(sum(z.managed for z in zones if z.zone != HIGHMEM), page)
    if machine.huge_pages and machine.ram_bytes >= HUGE_FROM:
        least = max(least, huge_min_free_kib(zones, page, huge_block(machine)))
    return Memory(
        least,
        watermarks(zones, least, page),
        layout.mem_map_bytes,
        other,
        tuple(assumptions),
    )


def _own_bytes(captured: Snapshot, page_struct: int) -> tuple[int, list[str]]:
    """Lowmem that the kernel itself occupies besides the page array, and what was assumed.

    `page_struct` is taken where the captured machine does not tell the size of its own.
    """
    zones = [zone for zone in captured.zones if zone.name != HIGHMEM]
    size, top = captured.page_struct or page_struct, captured.max_pfn
    if not zones or top is None:
        return KERNEL_IMAGE, [
            f"the kernel takes {KERNEL_IMAGE // MiB} MiB of lowmem besides mem_map: no zoneinfo"
        ]
    page = captured.page_size or 4096
    gone = sum(zone.present - zone.managed for zone in zones) * page
    array = (top - min(zone.start_pfn for zone in zones)) * size
    return max(0, gone - array), []


def _managed(layout: Layout, other: int) -> list[Pages]:
    """Pages of each zone; what the kernel takes, it takes from the largest zone of lowmem."""
    zones = sorted(layout.zones, key=lambda zone: zone.name == HIGHMEM)
    present = {zone.name: zone.present for zone in zones}
    largest = max((n for n in present if n != HIGHMEM), key=present.__getitem__, default=None)
    if largest is not None:
        gone = (layout.mem_map_bytes + other) // layout.page_size
        present[largest] = max(0, present[largest] - gone)
    return [Pages(name, pages) for name, pages in present.items()]
