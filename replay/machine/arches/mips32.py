"""MIPS, 32 bit: 512 MiB of lowmem through KSEG0, every kmap() flushes on every CPU.

Sources: arch/mips/include/asm/highmem.h (LAST_PKMAP, flushes), fixmap.h, pgtable-32.h (pool,
arena), mach-generic/spaces.h, bmips-spaces.h, mach-tx49xx/spaces.h, mach-malta/spaces.h
(segments, HIGHMEM_START); arch/mips/kernel/setup.c: bootmem_init (border); arch/mips/mm/init.c:
paging_init (zones; highmem dropped with aliasing caches); asm/dma.h (MAX_DMA_ADDRESS);
arch/mips/mm/tlb-r4k.c: local_flush_tlb_kernel_range; arch/mips/kernel/smp.c. Read in 6.1,
compared with a Malta board's, and with boot logs (tests/replay/boards.toml).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from replay.machine.arches.common import (
    AddressMap,
    Tlb,
    finish,
    grown,
    hypothetical_offset,
    section_map_bytes,
    slots_of,
    usable_ram,
)
from replay.machine.generations import GENERATIONS
from replay.machine.model import Arch, GiB, KiB, Layout, LayoutZone, MiB, Ranges, Region, align_down

if TYPE_CHECKING:
    from replay.machine.model import Machine

KSEG0: Final = 0x8000_0000
KSEG1: Final = 0xA000_0000
MAP_BASE: Final = 0xC000_0000
HIGHMEM_START: Final = 512 * MiB
"""End of what KSEG0 reaches."""
SECTION: Final = 256 * MiB
"""SECTION_SIZE_BITS 28, 29 with huge pages (asm/sparsemem.h)."""
FIXADDR_TOP: Final = 0xFFFE_0000
FIXADDR_TOPS: Final = {"BMIPS_GENERIC": 0xFF00_0000, "MACH_TX49XX": 0xFEFE_0000}
FIX_KMAP_BEGIN: Final = 17
"""After the 2 * 8 pages (and one) for cache colours: FIX_CMAP_BEGIN to FIX_CMAP_END."""
TLB_ENTRIES: Final = 32
"""Of most MIPS32 cores."""
MOST_VTLB: Final = 64
"""A TLB with more entries than this has an FTLB besides (P5600, I6400: 64 and 512)."""
XPA: Final = 1 << 40
DMA_END: Final = 16 * MiB
NO_ISA: Final = frozenset({"SGI_IP22", "SGI_IP28"})

CONFIG: Final = frozenset({"MIPS", "SMP", "HIGHMEM"})
"""What a usual kernel has, for machines without a configuration."""


def layout(machine: Machine) -> Layout:
    """Lay out a 32-bit MIPS machine.

    More lowmem than KSEG0 has (`lowmem_limit`) takes the uncached window's addresses, then those
    below KSEG0, as the segments of an EVA core could be set.

    Raises
    ------
    HmtraceError
        If lowmem leaves no addresses for user space.
    """
    page, config = machine.page_size, machine.config or CONFIG
    wide = machine.pae or "MIPS_HUGE_TLB_SUPPORT" in config
    pool = machine.pkmap_slots or (512 if wide else 1024)
    slots = slots_of(machine, config)
    top = next((at for name, at in FIXADDR_TOPS.items() if name in config), FIXADDR_TOP)
    enabled = machine.highmem_enabled
    used = FIX_KMAP_BEGIN + (slots.per_cpu * machine.nr_cpus if enabled else 0)
    fix_start = top - used * page
    pkmap = align_down(fix_start, pool * page) - pool * page
    ram, notes = usable_ram(machine, XPA if machine.pae else 4 * GiB, base=0)
    limit = machine.lowmem_limit or HIGHMEM_START
    page_offset = KSEG0
    uncached: tuple[Region, ...] = (
        Region("uncached", KSEG1, MAP_BASE, "the first 512 MiB, uncached"),
    )
    if limit > HIGHMEM_START:
        uncached = ()
        page_offset, note = hypothetical_offset(
            limit, HIGHMEM_START, MAP_BASE, unit=HIGHMEM_START, least=HIGHMEM_START
        )
        notes.append(note)
    low, high = _border(machine, ram, limit, notes)
    space = AddressMap(
        ram=ram,
        page_offset=page_offset,
        phys_offset=0,
        user_end=page_offset,
        high_memory=page_offset + low[1] * page,
        low_pfns=low,
        high_pfns=high,
        vmalloc=(MAP_BASE, (pkmap if enabled else fix_start) - 2 * page),
        pkmap=pkmap,
        pkmap_slots=pool,
        kmap_top=top - FIX_KMAP_BEGIN * page,
        fixmap=(fix_start, top + page),
        zones=_zones(low, high, page, config),
        regions=uncached,
        mem_map_bytes=section_map_bytes(machine, ram, SECTION * (2 if wide else 1))
        if "SPARSEMEM" in config
        else None,
        notes=notes,
    )
    ceiling = _flush_ceiling(machine.tlb_entries or TLB_ENTRIES)
    tlb = Tlb(flush_ceiling_pages=ceiling, local_flush_on_map=True, kmap_flush_each=True)
    return finish(machine, space, slots, tlb, config)


def _flush_ceiling(entries: int) -> int:
    """Pages up to which a range is flushed entry by entry.

    arch/mips/mm/tlb-r4k.c: local_flush_tlb_kernel_range goes up to half the TLB, or an eighth where
    it has an FTLB; an entry is two pages.
    """
    return 2 * (entries // (8 if entries > MOST_VTLB else 2))


def _border(
    machine: Machine, ram: Ranges, limit: int, notes: list[str]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Frames of lowmem and of highmem; a hole below HIGHMEM_START counts as lowmem."""
    page = machine.page_size
    banks = [(-(-first // page), last // page) for first, last in ram]
    end = banks[-1][1]
    border = limit // page
    low_end = min(end, border)
    below = max((min(last, border) for first, last in banks if first < border), default=border)
    in_doubt = GENERATIONS[machine.generation].mips_border_in_doubt and not machine.border_told
    if end > border > below and in_doubt:
        notes.append(
            f"lowmem may end at {below * page:#x} already, with the RAM below the "
            "border: kernels from 5.4 on do so until 0f5cc249ff73 (6.8, and stable releases of "
            "2024); zoneinfo or the boot log tells"
        )
    if end > border and not machine.highmem_enabled:
        notes.append("RAM that lowmem does not hold is not used: kernel without HIGHMEM")
        end = border
    elif end > border and machine.cache_colours > 1:
        notes.append("This processor doesn't support highmem: its data cache has aliases")
        end = border
    return (min(banks[0][0], low_end), low_end), (low_end, end)


def _zones(
    low: tuple[int, int], high: tuple[int, int], page: int, config: frozenset[str]
) -> tuple[LayoutZone, ...]:
    """Zones: with CONFIG_ZONE_DMA the first 16 MiB are for ISA's DMA (none of them on SGI IP22)."""
    border = low[0]
    if "ZONE_DMA" in config and not config & NO_ISA:
        border = max(border, min(low[1], DMA_END // page))
    zones = (
        LayoutZone("DMA", low[0], border),
        LayoutZone("Normal", border, low[1]),
        LayoutZone("HighMem", *high),
    )
    return zones if border > low[0] else zones[1:]


def ram_for(total: int, like: Ranges, pae: bool) -> Ranges:  # noqa: FBT001
    """RAM from 0 on, or in the banks of the captured board."""
    return grown(total, like, XPA if pae else 4 * GiB)


MIPS32: Final = Arch(
    name="mips32",
    title="MIPS32",
    splits={"2g": KSEG0},
    pae_splits=frozenset({"2g"}),
    pae_name="XPA",
    max_nr_cpus=256,
    takes=frozenset({"lowmem_limit", "tlb_entries"}),
    default_nr_cpus=4,
    max_phys_pae=XPA,
    default_config=CONFIG,
    ram_for=ram_for,
    layout=layout,
    page_sizes=(4 * KiB, 16 * KiB, 64 * KiB),
)
