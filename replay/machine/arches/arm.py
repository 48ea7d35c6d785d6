"""ARM (32 bit): address map, lowmem border, zones.

Sources: arch/arm/Kconfig (splits, NR_CPUS); arch/arm/include/asm/memory.h, highmem.h,
fixmap.h, pgtable.h, kasan_def.h (map); arch/arm/mm/mmu.c: early_vmalloc, adjust_lowmem_bounds
(border); arch/arm/mm/init.c: find_limits, zone_sizes_init (zones); arch/arm/kernel/smp_tlb.c
(flushes). Checked against booted 5.10, 6.1 and 6.12, with and without LPAE, and against boot logs
of boards from 3.0 to 5.16 (tests/replay/boards.toml).
"""

from __future__ import annotations

from bisect import bisect, bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.errors import HmtraceError
from replay.machine.arches.common import (
    AddressMap,
    Tlb,
    finish,
    grown,
    section_map_bytes,
    slots_of,
    usable_ram,
)
from replay.machine.generations import GENERATIONS
from replay.machine.kconfig import has_kmap_atomic, is_realtime
from replay.machine.model import (
    PAGE,
    PAGE_SHIFT,
    TOP,
    Arch,
    Layout,
    LayoutZone,
    MiB,
    Ranges,
    Region,
    align_down,
    align_up,
)
from replay.machine.tlb import is_broadcast

if TYPE_CHECKING:
    from collections.abc import Container

    from replay.machine.model import Machine

SPLITS: Final = {
    "3g": 0xC000_0000,
    "3g_opt": 0xB000_0000,
    "2g": 0x8000_0000,
    "2g_opt": 0x7000_0000,
    "1g": 0x4000_0000,
}
PROPOSED: Final = {"2g_opt": "proposed on linux-mm in December 2025, not in kernels up to 7.2"}
PROPOSED_DEFAULTS: Final = {
    (True, True): "2g", (False, True): "2g", (True, False): "2g_opt", (False, False): "3g_opt",
}  # fmt: skip
"""With HIGHMEM, with LPAE: linux-mm, 20251219161559.556737-1-arnd@kernel.org, patches 1 and 2."""
YOUNGER: Final = {"3g_opt": (4, 4)}
"""raspberrypi/linux issue 5245."""
LPAE_SPLITS: Final = frozenset({"3g", "2g", "1g"})

VMALLOC_OFFSET: Final = 8 * MiB
MIN_VMALLOC: Final = 16 * MiB
PLATFORM_VMALLOC_ENDS: Final = {
    "ARCH_MXC": 0xF400_0000,
    "ARCH_EXYNOS4": 0xF600_0000,
    "ARCH_VEXPRESS": 0xF800_0000,
    "ARCH_REALVIEW": 0xF800_0000,
    "ARCH_U8500": 0xF000_0000,
    "ARCH_MMP": 0xFE00_0000,
    "ARCH_KIRKWOOD": 0xFE80_0000,
    "ARCH_DOVE": 0xFD80_0000,
    "ARCH_MV78XX0": 0xFE00_0000,
}
"""VMALLOC_END of kernels before 3.3, by the switch of the platform: mach/vmalloc.h of each, in
mainline. Platforms whose number changed (msm), or is another in the kernels that
their boards came with (tegra: 0xfe000000 in mainline, 0xf8000000 in boot logs), are left out."""
PLATFORM_VMALLOC_ROOMS: Final = {
    "ARCH_OMAP2PLUS": 0x3800_0000,
    "ARCH_OMAP2": 0x3800_0000,
    "ARCH_OMAP3": 0x3800_0000,
    "ARCH_OMAP4": 0x3800_0000,
    "ARCH_SHMOBILE": 0x2400_0000,
}
"""The same for platforms that count from PAGE_OFFSET on."""
SUPPOSED_VMALLOC_END: Final = 0xFF00_0000
"""What is taken where nothing tells the platform: that of the next kernels."""
PMD_SIZE: Final = 2 * MiB
"""As Linux counts on ARM, with two and with three levels."""


class FixmapSpan(NamedTuple):
    """The fixmap of some kernels: FIXADDR_START and its end, FIX_KMAP_BEGIN, direction."""

    start: int
    end: int
    kmap_begin: int
    upwards: bool


FIXMAPS: Final = {
    "896K": FixmapSpan(0xFFF0_0000, 0xFFFE_0000, 0, upwards=True),
    "2M": FixmapSpan(0xFFC0_0000, 0xFFE0_0000, 0, upwards=True),
    "3M": FixmapSpan(0xFFC0_0000, 0xFFF0_0000, 0, upwards=False),
    "3M with console": FixmapSpan(0xFFC0_0000, 0xFFF0_0000, 1, upwards=False),
    "2.5M": FixmapSpan(0xFFC8_0000, 0xFFF0_0000, 1, upwards=False),
}
"""asm/fixmap.h, by :attr:`replay.machine.generations.Generation.arm_fixmap`."""
VECTORS: Final = 0xFFFF_0000
SECTION: Final = 256 * MiB
"""SECTION_SIZE_BITS 28 (asm/sparsemem.h)."""
PKMAP_SLOTS: Final = 512
"""LAST_PKMAP is PTRS_PER_PTE, 512 with two and with three levels."""

DEFAULT_CONFIG: Final = frozenset(
    {
        "ARM",
        "SMP",
        "HIGHMEM",
        "HIGHPTE",
        "TRANSPARENT_HUGEPAGE_ALWAYS",
        "CPU_V7",
        "CPU_TLB_V7",
        "ARM_ERRATA_798181",
        "ARM_ERRATA_720789",
        "MEMCG",
        "SLUB",
        "FLATMEM",
        "ZONE_DMA",
        "MODULES",
        "VMAP_STACK",
    }
)
"""Debian's armmp and armmp-lpae kernels."""


class LowmemBounds(NamedTuple):
    """Result of adjust_lowmem_bounds, in physical addresses.

    `lowmem_limit` (arm_lowmem_limit) ends the direct mapping and the zones of lowmem;
    `memblock_limit`, in whole sections of 2 MiB, is for what is allocated before the mapping is
    there, and what a kernel without HIGHMEM keeps.
    """

    lowmem_limit: int
    memblock_limit: int


class VmallocRoom(NamedTuple):
    """VMALLOC_END, the bytes below it that lowmem may not have, and what to say of them."""

    end: int
    reserved: int
    notes: tuple[str, ...]


def arena(machine: Machine) -> VmallocRoom:
    """End of the arena, and what it keeps from lowmem.

    arch/arm/mm/mmu.c: early_vmalloc, adjust_lowmem_bounds. Up to 5.13 an explicit ``vmalloc=``
    leaves no VMALLOC_OFFSET below it.
    """
    generation = GENERATIONS[machine.generation]
    extra = VMALLOC_OFFSET if generation.arm_vmalloc_extra else 0
    page_offset = SPLITS[machine.split]
    end, notes = _vmalloc_end(machine)
    if machine.vmalloc is None:
        return VmallocRoom(end, generation.arm_default_vmalloc, notes)
    most = end - (page_offset + 32 * MiB) - extra
    size = max(MIN_VMALLOC, min(machine.vmalloc, most))
    if size != machine.vmalloc:
        why = "its least" if size > machine.vmalloc else "for 32 MiB of lowmem must remain"
        asked = f"{machine.vmalloc / MiB:g}"
        notes += (f"vmalloc={asked}M is clamped to {size // MiB}M as the kernel does, {why}",)
    return VmallocRoom(end, size + extra, notes)


def _vmalloc_end(machine: Machine) -> tuple[int, tuple[str, ...]]:
    """VMALLOC_END by the machine's own word, its kernel's age, or its platform."""
    if machine.vmalloc_end is not None:
        return machine.vmalloc_end, ()
    generation = GENERATIONS[machine.generation]
    known = generation.arm_vmalloc_end
    if known is not None:
        remark = generation.arm_remark
        return known, (remark,) if remark and not machine.release else ()
    for switch, room in PLATFORM_VMALLOC_ROOMS.items():
        if switch in machine.config:
            return SPLITS[machine.split] + room, ()
    for switch, end in PLATFORM_VMALLOC_ENDS.items():
        if switch in machine.config:
            return end, ()
    return SUPPOSED_VMALLOC_END, (
        "where the arena ends is not modelled for this kernel: before 3.3 each ARM platform had "
        f"a VMALLOC_END of its own; {SUPPOSED_VMALLOC_END:x} is only supposed, and the border of "
        "lowmem with it (vmalloc_end in a machine file, or a CONFIG_ARCH_ switch, tells it)",
    )


def border(
    ram: Ranges, limit: int, nomap: Container[tuple[int, int]] = frozenset()
) -> LowmemBounds:
    """Where lowmem ends. arch/arm/mm/mmu.c: adjust_lowmem_bounds.

    Parameters
    ----------
    ram
        Physical ranges, ascending.
    limit
        Physical address above which there is no lowmem.
    nomap
        Ranges of `ram` that do not count.

    Returns
    -------
    LowmemBounds
    """
    lowmem = 0
    memblock = 0
    for number, (start, end) in enumerate(ram):
        if start >= limit:
            break
        if (start, end) in nomap:
            continue
        lowmem = max(lowmem, min(end, limit))
        # the first range may start anywhere: what is before its first section is left out
        if number and not memblock and start % PMD_SIZE:
            memblock = start
        elif not memblock and end % PMD_SIZE:
            memblock = lowmem
    return LowmemBounds(lowmem, align_down(memblock or lowmem, PMD_SIZE))


def unmapped_banks(ram: Ranges, nomap: Ranges) -> tuple[Ranges, frozenset[tuple[int, int]]]:
    """RAM cut at the ends of what is not mapped, and those of its ranges that are not.

    Besides `nomap`, what the list itself tells: the kernel merges banks that touch unless their
    flags differ (mm/memblock.c: memblock_merge_regions), and the first bank, with the kernel in
    it, is mapped. So of banks that touch every second one is not.
    """
    if not nomap:
        mapped = True
        found = []
        for before, bank in pairwise(ram):
            mapped = not mapped if before[1] == bank[0] else True
            if not mapped:
                found.append(bank)
        return ram, frozenset(found)
    regions = sorted(nomap)
    edges = sorted({edge for region in regions for edge in region})
    pieces = tuple(
        piece
        for start, end in ram
        for piece in pairwise((start, *edges[bisect(edges, start) : bisect_left(edges, end)], end))
    )
    inside = (regions[max(0, bisect(regions, (start, TOP << 32)) - 1)] for start, _ in pieces)
    return pieces, frozenset(
        piece
        for piece, region in zip(pieces, inside, strict=True)
        if region[0] <= piece[0] and piece[1] <= region[1]
    )


def reuses_pool(config: frozenset[str]) -> bool:
    """Whether kmap_local first asks kmap_high_get() for a mapping of the pool.

    asm/highmem.h: not where flushes need IPIs, for kmap_lock is then taken with interrupts off:
    SMP on v6, and the workaround of erratum 798181. With DEBUG_HIGHMEM only where a VIVT cache
    makes it necessary (arch_kmap_local_high_get).
    """
    if "SMP" in config and "CPU_TLB_V6" in config:
        return False
    if "DEBUG_HIGHMEM" in config and "CPU_CACHE_VIVT" not in config:
        return False
    return "ARM_ERRATA_798181" not in config


def layout(machine: Machine) -> Layout:
    """Lay out an ARM machine.

    Raises
    ------
    HmtraceError
        If no RAM is left for lowmem, or the arena would end below it.
    """
    config = config_of(machine)
    generation = GENERATIONS[machine.generation]
    page_offset = SPLITS[machine.split]
    enabled = machine.highmem_enabled
    ram, phys_offset, notes = _kept_ram(machine)
    room = arena(machine)
    notes += room.notes
    banks, nomap = unmapped_banks(ram, machine.nomap)
    if not generation.arm_skips_nomap:
        nomap = frozenset()
    limits = border(banks, room.end - room.reserved - page_offset + phys_offset, nomap)
    if (limits.lowmem_limit if enabled else limits.memblock_limit) < phys_offset + PAGE:
        msg = "no RAM below the border of lowmem"
        raise HmtraceError(msg, hint="give a smaller --vmalloc, or more --ram", exit_code=2)
    low_pfn = limits.lowmem_limit >> PAGE_SHIFT
    max_pfn = ram[-1][1] >> PAGE_SHIFT
    if not enabled and ram[-1][1] > limits.lowmem_limit:
        max_pfn = low_pfn = limits.memblock_limit >> PAGE_SHIFT
        notes.append("RAM that lowmem does not hold is not used: kernel without HIGHMEM")
    if machine.highmem is not None:
        notes.append("highmem= does not exist on ARM and is ignored")
    high_memory = page_offset + limits.lowmem_limit - phys_offset
    vmalloc_start = align_down(high_memory + VMALLOC_OFFSET, VMALLOC_OFFSET)
    slots = machine.pkmap_slots or PKMAP_SLOTS
    pkmap = page_offset - align_up(slots * PAGE, PMD_SIZE)
    modules_start = page_offset - (8 if "THUMB2_KERNEL" in config else 16) * MiB
    shadow = kasan_shadow(page_offset) if "KASAN" in config else None
    smp_v6 = "SMP" in config and "CPU_TLB_V6" in config
    fix = FIXMAPS[generation.arm_fixmap]
    first = fix.kmap_begin * PAGE
    low = ram[0][0] >> PAGE_SHIFT, low_pfn
    space = AddressMap(
        ram=ram,
        page_offset=page_offset,
        phys_offset=phys_offset,
        user_end=page_offset - 16 * MiB if shadow is None else shadow.start,
        high_memory=high_memory,
        low_pfns=low,
        high_pfns=(low_pfn, max_pfn),
        vmalloc=(vmalloc_start, room.end),
        modules=(modules_start, pkmap if enabled else page_offset),
        pkmap=pkmap,
        pkmap_slots=slots,
        kmap_top=fix.start + first if fix.upwards else fix.end - PAGE - first,
        kmap_upwards=fix.upwards,
        fixmap=(fix.start, fix.end),
        zones=_zones(machine, low, (low_pfn, max_pfn), dma="ZONE_DMA" in config),
        regions=(
            Region("vectors", VECTORS, VECTORS + 2 * PAGE, "exception vectors"),
            *(() if shadow is None else (shadow,)),
        ),
        ioremap_max_order=19 if machine.pae or "SMP" in config else 24,
        mem_map_bytes=section_map_bytes(machine, ram, SECTION) if "SPARSEMEM" in config else None,
        notes=notes,
    )
    per_cpu_stacks = has_kmap_atomic(generation, config) and not is_realtime(config)
    tlb = Tlb(
        flush_ceiling_pages=None,
        tlb_broadcast="SMP" in config and is_broadcast(machine, not smp_v6),
        tlb_erratum_ipi=machine.tlb_erratum and machine.cpus > 1,
        local_flush_on_map=True,
        # 5.10 leaves the PTE in place at kunmap_atomic(), unless DEBUG_HIGHMEM
        local_flush_on_unmap=not per_cpu_stacks or "DEBUG_HIGHMEM" in config,
    )
    stacks = slots_of(machine, config, type_nr=16, fenced=None)  # asm/kmap_types.h
    high_get = enabled and reuses_pool(config)
    return finish(machine, space, stacks, tlb, config, kmap_high_get=high_get)


def kasan_shadow(page_offset: int) -> Region:
    """Shadow of the kernel's addresses, one byte for eight, below its modules.

    arch/arm/Kconfig: KASAN_SHADOW_OFFSET; asm/kasan_def.h. User space ends where it begins
    (asm/memory.h: TASK_SIZE). For 3 GiB: b6e00000 to bf000000.
    """
    end = page_offset - 16 * MiB
    start = (end >> 3) + end - (TOP >> 3)
    return Region("kasan", start, end, "KASAN's shadow memory")


def _zones(
    machine: Machine, low: tuple[int, int], high: tuple[int, int], *, dma: bool
) -> tuple[LayoutZone, ...]:
    """Zones: where there is a DMA zone it holds lowmem up to the board's limit.

    arch/arm/mm/init.c: setup_dma_zone, zone_sizes_init; since 5.8 the last frame below the limit is
    left out, for arm_dma_pfn_limit is the frame of the last byte.
    """
    border = low[0]
    if dma:
        limit = low[1]
        if machine.dma_zone is not None:
            left_out = not GENERATIONS[machine.generation].arm_dma_zone_exact
            limit = low[0] + machine.dma_zone // PAGE - left_out
        border = min(low[1], limit)
    return (
        LayoutZone("DMA", low[0], border),
        LayoutZone("Normal", border, low[1]),
        LayoutZone("HighMem", *high),
    )


def _kept_ram(machine: Machine) -> tuple[Ranges, int, list[str]]:
    """RAM ranges that the kernel keeps, PHYS_OFFSET, and remarks.

    ``mem=SIZE`` means SIZE bytes from PHYS_OFFSET on (arch/arm/kernel/setup.c: early_mem);
    without LPAE nothing above 4 GiB can be addressed.

    Raises
    ------
    HmtraceError
        If nothing is left.
    """
    base = machine.phys_offset
    if base is None:
        base = align_up(machine.ram[0][0], PMD_SIZE) if machine.ram else 0
    limit = ARM.max_phys_pae if machine.pae else TOP
    too_far = "RAM above 4 GiB is not used by a kernel without LPAE"
    ram, notes = usable_ram(machine, limit, base=base, too_far="" if machine.pae else too_far)
    if ram[-1][1] <= base:
        msg = "the machine has no RAM above the address that its kernel starts at"
        raise HmtraceError(msg, hint="give --ram, or a larger mem=", exit_code=2)
    return ram, base, notes


def ram_for(total: int, like: Ranges, pae: bool) -> Ranges:  # noqa: FBT001
    """RAM of `total` bytes as the captured board has it: its banks, the last grown or cut.

    Without LPAE what does not fit below 4 GiB cannot be had.

    Raises
    ------
    HmtraceError
        If the banks' start leaves no room for that much.
    """
    return grown(total, like, ARM.max_phys_pae if pae else TOP, hint="give --pae (LPAE), or ")


def config_of(machine: Machine) -> frozenset[str]:
    """Switches of the machine's configuration, or those of distribution kernels."""
    return machine.config or DEFAULT_CONFIG


ARM: Final = Arch(
    name="arm",
    title="ARMv6 and ARMv7, with or without LPAE",
    splits=SPLITS,
    pae_splits=LPAE_SPLITS,
    proposed_splits=PROPOSED,
    proposed_defaults=PROPOSED_DEFAULTS,
    younger_splits=YOUNGER,
    pae_name="LPAE",
    max_nr_cpus=32,
    takes=frozenset({"vmalloc_end", "nomap", "dma_zone"}),
    default_nr_cpus=8,
    max_phys_pae=1 << 40,
    default_config=DEFAULT_CONFIG,
    default_page_struct=36,
    ram_for=ram_for,
    layout=layout,
    arena_option="vmalloc=",
    has_highpte=True,
)
