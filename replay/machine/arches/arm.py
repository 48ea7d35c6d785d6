"""ARM (32 bit): address map, lowmem border, zones.

Sources: arch/arm/Kconfig (splits, NR_CPUS); arch/arm/include/asm/memory.h, highmem.h,
fixmap.h, pgtable.h (map); arch/arm/mm/mmu.c: early_vmalloc, adjust_lowmem_bounds (border);
arch/arm/mm/init.c: zone_sizes_init (zones); arch/arm/kernel/smp_tlb.c (flushes). Checked
against booted 5.10, 6.1 and 6.12, with and without LPAE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.errors import HmtraceError
from replay.machine.arches.common import (
    AddressMap,
    Tlb,
    finish,
    grown,
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
    from replay.machine.model import Machine

SPLITS: Final = {
    "3g": 0xC000_0000,
    "3g_opt": 0xB000_0000,
    "2g": 0x8000_0000,
    "2g_opt": 0x7000_0000,
    "1g": 0x4000_0000,
}
PROPOSED: Final = {"2g_opt": "proposed on linux-mm in December 2025, not in kernels up to 7.2"}
LPAE_SPLITS: Final = frozenset({"3g", "2g", "1g"})

VMALLOC_END: Final = 0xFF80_0000
VMALLOC_OFFSET: Final = 8 * MiB
DEFAULT_VMALLOC: Final = 240 * MiB
MIN_VMALLOC: Final = 16 * MiB
PMD_SIZE: Final = 2 * MiB
"""As Linux counts on ARM, with two and with three levels."""

FIXADDR_START: Final = 0xFFC8_0000
FIXADDR_END: Final = 0xFFF0_0000
FIXADDR_TOP: Final = FIXADDR_END - PAGE
FIX_KMAP_BEGIN: Final = 1
VECTORS: Final = 0xFFFF_0000
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
    """Result of adjust_lowmem_bounds, in physical addresses."""

    lowmem_limit: int
    memblock_limit: int


def vmalloc_limit(machine: Machine, phys_offset: int) -> int:
    """Physical address above which there is no lowmem.

    arch/arm/mm/mmu.c. Up to 5.10 an explicit ``vmalloc=`` leaves no VMALLOC_OFFSET below it.
    """
    extra = GENERATIONS[machine.generation].arm_vmalloc_extra
    page_offset = SPLITS[machine.split]
    size = DEFAULT_VMALLOC if machine.vmalloc is None else machine.vmalloc
    room = VMALLOC_END - (page_offset + 32 * MiB) - (VMALLOC_OFFSET if extra else 0)
    size = max(MIN_VMALLOC, min(size, room))
    if extra or machine.vmalloc is None:
        size += VMALLOC_OFFSET
    return VMALLOC_END - size - page_offset + phys_offset


def border(ram: Ranges, limit: int) -> LowmemBounds:
    """Where lowmem ends. arch/arm/mm/mmu.c: adjust_lowmem_bounds.

    Parameters
    ----------
    ram
        Physical ranges, ascending.
    limit
        Of :func:`vmalloc_limit`.

    Returns
    -------
    Border
        lowmem_limit is where the direct mapping ends; memblock_limit, where the kernel stops
        to allocate from it, is the zone border: it keeps whole sections of 2 MiB.
    """
    lowmem = 0
    memblock = 0
    for number, (start, end) in enumerate(ram):
        if start >= limit:
            break
        lowmem = max(lowmem, min(end, limit))
        # the first range may start anywhere: what is before its first section is left out
        if number and not memblock and start % PMD_SIZE:
            memblock = start
        elif not memblock and end % PMD_SIZE:
            memblock = lowmem
    return LowmemBounds(lowmem, align_down(memblock or lowmem, PMD_SIZE))


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
        If no RAM is left for lowmem.
    """
    config = config_of(machine)
    generation = GENERATIONS[machine.generation]
    page_offset = SPLITS[machine.split]
    enabled = machine.highmem_enabled
    ram, phys_offset, notes = _kept_ram(machine)
    limits = border(ram, vmalloc_limit(machine, phys_offset))
    if limits.memblock_limit <= phys_offset:
        msg = "no RAM below the border of lowmem"
        raise HmtraceError(msg, hint="give a smaller --vmalloc, or more --ram", exit_code=2)
    if enabled:
        max_pfn = ram[-1][1] >> PAGE_SHIFT
    else:
        max_pfn = limits.memblock_limit >> PAGE_SHIFT
        if ram[-1][1] > limits.lowmem_limit:
            notes.append("RAM that lowmem does not hold is not used: kernel without HIGHMEM")
    if machine.highmem is not None:
        notes.append("highmem= does not exist on ARM and is ignored")
    low_pfn = limits.memblock_limit >> PAGE_SHIFT
    high_memory = page_offset + limits.lowmem_limit - phys_offset
    vmalloc_start = align_down(high_memory + VMALLOC_OFFSET, VMALLOC_OFFSET)
    slots = machine.pkmap_slots or PKMAP_SLOTS
    pkmap = page_offset - align_up(slots * PAGE, PMD_SIZE)
    modules_start = page_offset - (8 if "THUMB2_KERNEL" in config else 16) * MiB
    smp_v6 = "SMP" in config and "CPU_TLB_V6" in config
    low = ram[0][0] >> PAGE_SHIFT, low_pfn
    space = AddressMap(
        ram=ram,
        page_offset=page_offset,
        phys_offset=phys_offset,
        user_end=page_offset - 16 * MiB,
        high_memory=high_memory,
        low_pfns=low,
        high_pfns=(low_pfn, max_pfn),
        vmalloc=(vmalloc_start, VMALLOC_END),
        modules=(modules_start, pkmap if enabled else page_offset),
        pkmap=pkmap,
        pkmap_slots=slots,
        kmap_top=FIXADDR_TOP - FIX_KMAP_BEGIN * PAGE,
        fixmap=(FIXADDR_START, FIXADDR_END),
        zones=_zones(machine, low, (low_pfn, max_pfn), dma="ZONE_DMA" in config),
        regions=(Region("vectors", VECTORS, VECTORS + 2 * PAGE, "exception vectors"),),
        ioremap_max_order=19 if machine.pae or "SMP" in config else 24,
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


def _zones(
    machine: Machine, low: tuple[int, int], high: tuple[int, int], *, dma: bool
) -> tuple[LayoutZone, ...]:
    """Zones: where there is a DMA zone it holds lowmem up to the board's limit.

    arch/arm/mm/init.c: setup_dma_zone, zone_sizes_init; the last frame below the limit is left
    out, for arm_dma_pfn_limit is the frame of the last byte.
    """
    border = low[0]
    if dma:
        limit = low[1] if machine.dma_zone is None else low[0] + machine.dma_zone // PAGE - 1
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
    pae_name="LPAE",
    max_nr_cpus=32,
    default_nr_cpus=8,
    max_phys_pae=1 << 40,
    default_config=DEFAULT_CONFIG,
    default_page_struct=36,
    ram_for=ram_for,
    layout=layout,
    arena_option="vmalloc=",
)
