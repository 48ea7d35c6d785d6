"""i386: address map from the top down, lowmem border, zones.

Sources: arch/x86/Kconfig (splits); arch/x86/include/asm/fixmap.h, pgtable_32_areas.h and
cpu_entry_area.h (map); arch/x86/mm/init_32.c: find_low_pfn_range, lowmem_pfn_init,
highmem_pfn_init (border), zone_sizes_init (zones); arch/x86/mm/pgtable_32.c: parse_vmalloc,
parse_reservetop; arch/x86/mm/tlb.c (flush ceiling). Checked against booted 4.4, 4.15,
5.0, 5.4, 5.10, 6.1 and 6.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.errors import HmtraceError
from replay.machine.arches.common import (
    AddressMap,
    Tlb,
    finish,
    section_map_bytes,
    slots_of,
    usable_ram,
)
from replay.machine.generations import GENERATIONS
from replay.machine.kconfig import maps_lowmem
from replay.machine.model import (
    PAGE,
    PAGE_SHIFT,
    TOP,
    Arch,
    GiB,
    Layout,
    LayoutZone,
    MiB,
    Ranges,
    Region,
    align_down,
    align_up,
    clip,
)
from replay.machine.tlb import full_flush_of

if TYPE_CHECKING:
    from replay.machine.model import Machine

SPLITS: Final = {
    "3g": 0xC000_0000,
    "3g_opt": 0xB000_0000,
    "2g": 0x8000_0000,
    "2g_opt": 0x7800_0000,
    "1g": 0x4000_0000,
}
PROPOSED_DEFAULTS: Final = {
    (True, True): "2g", (False, True): "2g", (True, False): "2g_opt", (False, False): "3g_opt",
}  # fmt: skip
"""With HIGHMEM, with PAE: linux-mm, 20251219161559.556737-1-arnd@kernel.org, patch 1."""
PAE_SPLITS: Final = frozenset({"3g", "2g", "1g"})
"""One top-level entry of PAE covers 1 GiB, so the split must be a multiple of it."""

VMALLOC_OFFSET: Final = 8 * MiB
DEFAULT_RESERVE: Final = 128 * MiB
"""VMALLOC_RESERVE without ``vmalloc=``, which adds VMALLOC_OFFSET to its size."""

DMA_END_PFN: Final = 4096
MIN_LOWMEM: Final = 64 * MiB
"""Less lowmem than this is refused by highmem= (lowmem_pfn_init), and here altogether."""

FLUSH_CEILING: Final = 33
"""tlb_single_page_flush_ceiling."""

DEFAULT_CONFIG: Final = frozenset(
    {
        "X86_32",
        "SMP",
        "HIGHMEM",
        "X86_LOCAL_APIC",
        "X86_IO_APIC",
        "PCI_MMCONFIG",
        "ACPI_APEI_GHES",
        "CPU_SUP_INTEL",
        "X86_IOPL_IOPERM",
        "ZONE_DMA",
        "MEMCG",
        "SLUB",
        "HIGHPTE",
        "TRANSPARENT_HUGEPAGE_ALWAYS",
    }
)
"""Debian's 686 and 686-pae kernels."""


class Fixmap(NamedTuple):
    """Where the fixmap puts things, as indices (index 0 is the highest page).

    `permanent` and `total` are numbers of pages: without and with the boot maps.
    """

    kmap_begin: int
    permanent: int
    total: int


def fixmap(machine: Machine) -> Fixmap:
    """Count the fixmap's entries. asm/fixmap.h: enum fixed_addresses."""
    config = config_of(machine)
    generation = GENERATIONS[machine.generation]
    index = 3  # FIX_HOLE, FIX_DBGP_BASE, FIX_EARLYCON_MEM_BASE
    index += generation.x86_vdso_page
    index += "PROVIDE_OHCI1394_DMA_INIT" in config
    index += "X86_LOCAL_APIC" in config
    index += 64 * ("X86_IO_APIC" in config)  # MAX_IO_APICS
    index += 4 * ("X86_VISWS_APIC" in config)
    index += generation.x86_ro_idt or (generation.x86_vdso_page and "X86_F00F_BUG" in config)
    index += "X86_CYCLONE_TIMER" in config
    kmap_begin = index
    # before kmap_local the slots were there without HIGHMEM, too
    if machine.highmem_enabled or maps_lowmem(config) or generation.local_per_cpu:
        index += slots_of(machine, config).per_cpu * machine.nr_cpus
        index += "PCI_MMCONFIG" in config
    old = generation.x86_text_poke
    index += "PARAVIRT_XXL" in config or (old and "PARAVIRT" in config)
    index += 2 * old  # FIX_TEXT_POKE1, FIX_TEXT_POKE0
    index += generation.local_per_cpu and bool(config & {"X86_INTEL_MID", "X86_MRST"})
    index += machine.nr_cpus * generation.x86_gdt_remap
    index += 2 * (generation.x86_cpu_entry_area and "ACPI_APEI_GHES" in config)
    permanent = index
    # FIX_BTMAP_END: the boot-time maps must share one page table
    entries = 512 if machine.pae else 1024
    maps = generation.x86_boot_maps
    if (permanent ^ (permanent + maps - 1)) & -entries:
        index = permanent + maps - (permanent & (maps - 1))
    total = index + maps + 1 + ("INTEL_TXT" in config)  # FIX_WP_TEST, FIX_TBOOT_BASE
    return Fixmap(kmap_begin, permanent, total)


def cpu_entry_pages(machine: Machine) -> int:
    """Pages of each CPU in cpu_entry_area: 43 in distribution kernels.

    asm/cpu_entry_area.h: descriptor table, guard, entry stack, guard, double-fault stack, TSS
    (5 pages with its I/O bitmap, else 1), debug store (1) and its buffers (32) of Intel CPUs.
    Up to 5.5 a number (asm/pgtable_32_types.h: CPU_ENTRY_AREA_PAGES).
    """
    number = GENERATIONS[machine.generation].x86_entry_pages
    if number is not None:
        return number
    config = config_of(machine)
    tss = 5 if "X86_IOPL_IOPERM" in config else 1
    debug_store = 33 if "CPU_SUP_INTEL" in config else 0
    return 5 + tss + debug_store


class LowPfnRange(NamedTuple):
    """Result of find_low_pfn_range."""

    low_pfn: int
    high_start_pfn: int
    max_pfn: int
    notes: tuple[str, ...]


def border(max_pfn: int, maxmem_pfn: int, highmem: int | None, *, enabled: bool) -> LowPfnRange:
    """Where lowmem ends. arch/x86/mm/init_32.c: lowmem_pfn_init, highmem_pfn_init.

    Parameters
    ----------
    max_pfn
        Frame after the last RAM.
    maxmem_pfn
        Frames that the direct mapping has room for.
    highmem
        ``highmem=`` in bytes, None if not given.
    enabled
        CONFIG_HIGHMEM.

    Returns
    -------
    LowPfnRange
    """
    notes: list[str] = []
    wanted = None if highmem is None else highmem >> PAGE_SHIFT
    if max_pfn <= maxmem_pfn:
        low = max_pfn
        high = wanted or 0
        if high >= max_pfn:
            if high:
                notes.append("highmem= is as large as all RAM and is ignored")
            high = 0
        if high and low - high < MIN_LOWMEM >> PAGE_SHIFT:
            notes.append("highmem= would leave less than 64 MiB of lowmem and is ignored")
            high = 0
        if high and not enabled:
            notes.append("highmem= is ignored: this kernel is built without HIGHMEM")
            high = 0
        low -= high
    else:
        low = maxmem_pfn
        high = max_pfn - maxmem_pfn if wanted is None else wanted
        if not enabled:
            notes.append("RAM that lowmem does not hold is not used: kernel without HIGHMEM")
            max_pfn = maxmem_pfn
        elif high + maxmem_pfn < max_pfn:
            notes.append("highmem= leaves RAM at the top unused")
            max_pfn = maxmem_pfn + high
        elif high + maxmem_pfn > max_pfn:
            notes.append("highmem= is larger than the RAM above lowmem and is ignored")
    return LowPfnRange(low, low if max_pfn > low else max_pfn, max_pfn, tuple(notes))


def layout(machine: Machine) -> Layout:
    """Lay out an i386 machine.

    Raises
    ------
    HmtraceError
        If the arena leaves no room for lowmem.
    """
    config = config_of(machine)
    page_offset = SPLITS[machine.split]
    pmd = 2 * MiB if machine.pae else 4 * MiB
    slots = machine.pkmap_slots or (512 if machine.pae else 1024)
    fix = fixmap(machine)
    top = TOP - PAGE
    if machine.reservetop:
        top = align_down(TOP - machine.reservetop, pmd) - PAGE
    generation = GENERATIONS[machine.generation]
    below = top - (fix.total if generation.x86_below_boot_maps else fix.permanent) * PAGE
    fix_start = below if generation.x86_cpu_entry_area else top - fix.permanent * PAGE
    pool_end, above, regions = _above_pool(machine, fix_start, below, pmd)
    # one page table holds the pool; a pool that is larger than any real one takes more of them
    pkmap = pool_end - align_up(slots * PAGE, pmd)
    vmalloc_end = (pkmap if machine.highmem_enabled else above) - 2 * PAGE
    reserve = DEFAULT_RESERVE if machine.vmalloc is None else machine.vmalloc + VMALLOC_OFFSET
    maxmem = vmalloc_end - page_offset - reserve
    if maxmem < MIN_LOWMEM:
        raise _no_room(machine, vmalloc_end - page_offset - VMALLOC_OFFSET - MIN_LOWMEM)

    ram, notes = _kept_ram(machine)
    notes += [generation.x86_remark] if generation.x86_remark else []
    limits = border(
        _end_of_ram(machine, ram) >> PAGE_SHIFT,
        maxmem >> PAGE_SHIFT,
        machine.highmem,
        enabled=machine.highmem_enabled,
    )
    high_memory = page_offset + limits.high_start_pfn * PAGE
    first_pfn = max(1, align_up(ram[0][0], PAGE) >> PAGE_SHIFT)
    space = AddressMap(
        ram=ram,
        page_offset=page_offset,
        phys_offset=0,
        user_end=page_offset,
        high_memory=high_memory,
        low_pfns=(first_pfn, limits.low_pfn),
        high_pfns=(limits.low_pfn, limits.max_pfn),
        vmalloc=(high_memory + VMALLOC_OFFSET, vmalloc_end),
        pkmap=pkmap,
        pkmap_slots=slots,
        kmap_top=top - fix.kmap_begin * PAGE,
        fixmap=(fix_start, top + PAGE),
        zones=_zones(first_pfn, limits, dma="ZONE_DMA" in config),
        regions=regions,
        ioremap_max_order=21 if machine.pae else 22,
        mem_map_bytes=section_map_bytes(machine, ram, 512 * MiB if machine.pae else 64 * MiB)
        if "SPARSEMEM" in config
        else None,  # SECTION_SIZE_BITS 29 and 26 (asm/sparsemem.h)
        notes=(*notes, *limits.notes),
    )
    tlb = Tlb(flush_ceiling_pages=FLUSH_CEILING, x86_flush=full_flush_of(machine))
    pti = machine.pti and machine.pae
    return finish(machine, space, slots_of(machine, config), tlb, config, pti=pti)


def _above_pool(
    machine: Machine, fix_start: int, below: int, pmd: int
) -> tuple[int, int, tuple[Region, ...]]:
    """End of the pool's page table, what an arena without a pool ends below, regions above them.

    `below` is where the fixmap, or the boot maps below it, begin. Before cpu_entry_area the pool
    has LAST_PKMAP + 1 pages below that, and an arena without a pool ends below FIXADDR_START
    (asm/pgtable_32_types.h of 3.18, 4.4: PKMAP_BASE, VMALLOC_END).
    """
    generation = GENERATIONS[machine.generation]
    if not generation.x86_cpu_entry_area:
        return align_down(below - PAGE, pmd), fix_start, ()
    areas = machine.nr_cpus * cpu_entry_pages(machine) + 1
    cpu_entry = align_down(below - PAGE * areas, pmd)
    entry = Region("cpu entry", cpu_entry, fix_start, "entry stacks and TSS of each CPU")
    if not generation.x86_ldt_remap:
        return cpu_entry, cpu_entry, (entry,)
    ldt = align_down(cpu_entry - PAGE, pmd)
    return ldt, ldt, (Region("ldt", ldt, cpu_entry, "remap of local descriptor tables"), entry)


def _end_of_ram(machine: Machine, ram: Ranges) -> int:
    """Address that the last frame is counted from. arch/x86/kernel/e820.c: e820__end_of_ram_pfn."""
    if not GENERATIONS[machine.generation].x86_acpi_ends_ram:
        return ram[-1][1]
    tables = clip(machine.acpi, _limit(machine))
    return max(end for _, end in (*ram, *tables))


def _limit(machine: Machine) -> int:
    """What the kernel can address: 64 GiB with PAE, 4 GiB without it or without HIGHMEM64G."""
    far = machine.pae and GENERATIONS[machine.generation].x86_highmem64g
    return 64 * GiB if far else 4 * GiB


def _kept_ram(machine: Machine) -> tuple[Ranges, list[str]]:
    """RAM ranges that the kernel keeps: below ``mem=`` and below what it can address.

    arch/x86/kernel/e820.c: parse_memopt, e820__end_of_ram_pfn.
    """
    ram, notes = usable_ram(machine, _limit(machine), base=0)
    if ram[-1][1] < DMA_END_PFN * PAGE:
        msg = "the machine has less than 16 MiB of RAM"
        raise HmtraceError(msg, hint="give --ram, or a larger mem=", exit_code=2)
    return ram, notes


def ram_for(total: int, like: Ranges, pae: bool) -> Ranges:  # noqa: FBT001, ARG001
    """Plausible RAM ranges of a PC of `total` bytes.

    As the firmware of the captured machine has them below 1 MiB and at the end of RAM (it
    keeps some of the last MiB for itself); above 3.5 GiB of RAM everything that would lie
    between 3 and 4 GiB moves above 4 GiB, for the sake of the PCI devices.
    """
    low = tuple((a, b) for a, b in like if b <= MiB) or ((0x1000, 0x9_FC00),)
    tail = 0
    if like and like[-1][1] > MiB:
        tail = align_up(like[-1][1], 16 * MiB) - like[-1][1]
        tail = tail if tail < 2 * MiB else 0
    if total <= 3 * GiB + 512 * MiB:
        return (*low, (MiB, total - tail))
    return (*low, (MiB, 3 * GiB - tail), (4 * GiB, total + GiB))


def config_of(machine: Machine) -> frozenset[str]:
    """Switches of the machine's configuration, or those of distribution kernels."""
    return machine.config or DEFAULT_CONFIG


def _zones(first_pfn: int, limits: LowPfnRange, *, dma: bool) -> tuple[LayoutZone, ...]:
    split = min(DMA_END_PFN, limits.low_pfn) if dma else first_pfn
    return (
        LayoutZone("DMA", first_pfn, split),
        LayoutZone("Normal", max(first_pfn, split), limits.low_pfn),
        LayoutZone("HighMem", limits.low_pfn, limits.max_pfn),
    )


def _no_room(machine: Machine, most: int) -> HmtraceError:
    asked = DEFAULT_RESERVE if machine.vmalloc is None else machine.vmalloc
    return HmtraceError(
        f"an arena of {asked // MiB} MiB leaves less than 64 MiB of lowmem "
        f"under the {machine.split} split",
        hint=f"at most vmalloc={most // MiB}M fits"
        if most >= MiB
        else "no vmalloc= fits: what else takes addresses, such as reservetop=, leaves none",
        exit_code=2,
    )


I386: Final = Arch(
    name="i386",
    title="PC, with or without PAE",
    splits=SPLITS,
    pae_splits=PAE_SPLITS,
    proposed_defaults=PROPOSED_DEFAULTS,
    pae_name="PAE",
    max_nr_cpus=64,
    default_nr_cpus=32,
    max_phys_pae=64 * GiB,
    default_config=DEFAULT_CONFIG,
    default_page_struct=40,
    ram_for=ram_for,
    layout=layout,
    arena_option="vmalloc=",
    highmem_option="highmem=",
    has_highpte=True,
    takes=frozenset({"acpi"}),
)
