"""SPARC, 32 bit (sun4m, LEON): 192 MiB of lowmem, and a full flush for every kmap_local.

Sources: arch/sparc/include/asm/vaddrs.h (lowmem, fixmap), highmem.h (pool, flushes),
pgtable_32.h (arena), tlbflush_32.h: flush_tlb_kernel_range is flush_tlb_all;
arch/sparc/mm/init_32.c: bootmem_init, calc_max_low_pfn (border); arch/sparc/mm/srmmu.c:
srmmu_paging_init (zones); arch/sparc/Kconfig. Read in 6.1, and compared with boot logs
(tests/replay/boards.toml).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from replay.machine.arches.common import (
    AddressMap,
    Tlb,
    finish,
    frames,
    grown,
    hypothetical_offset,
    plain_zones,
    slots_of,
    usable_ram,
)
from replay.machine.model import PAGE, Arch, GiB, Layout, MiB, Ranges, Region

if TYPE_CHECKING:
    from replay.machine.model import Machine

PAGE_OFFSET: Final = 0xF000_0000
MAX_LOWMEM: Final = 192 * MiB
NOCACHE: Final = PAGE_OFFSET + MAX_LOWMEM
"""Uncached page tables, at most 1280 pages."""
PKMAP_BASE: Final = 0xFC50_0000
PKMAP_SLOTS: Final = 1024
FIXADDR_TOP: Final = 0xFCFF_F000
FIX_KMAP_BEGIN: Final = 1
VMALLOC: Final = (0xFE60_0000, 0xFFC0_0000)
IO: Final = (0xFD00_0000, 0xFE60_0000)
PROM: Final = (0xFFC0_0000, 0xFFF0_0000)
DVMA: Final = (0xFFF0_0000, 0xFFFC_0000)
FAR: Final = 64 * GiB
"""36 bits of physical addresses, as the reference MMU (LEON) has them; phys_addr_t has 32."""
LEAST_USER: Final = 256 * MiB
CONFIG: Final = frozenset({"SPARC32", "SPARC_LEON", "SMP", "HIGHMEM", "ZONE_DMA"})
"""What a usual kernel has, for machines without a configuration. HIGHMEM is always on."""


def layout(machine: Machine) -> Layout:
    """Lay out a 32-bit SPARC machine.

    Lowmem ends at a fixed address. More of it than kernels have (`lowmem_limit`) starts lower.

    Raises
    ------
    HmtraceError
        If lowmem leaves no addresses for user space.
    """
    ram, notes = usable_ram(machine, FAR)
    if ram[-1][1] > 4 * GiB:
        notes.append("RAM above 4 GiB is hypothetical: kernels count physical addresses in 32 bits")
    first, end = frames(ram)
    limit = machine.lowmem_limit or MAX_LOWMEM
    page_offset = PAGE_OFFSET
    if limit > MAX_LOWMEM:
        page_offset, note = hypothetical_offset(
            limit, MAX_LOWMEM, NOCACHE, unit=16 * MiB, least=LEAST_USER
        )
        notes.append(note)
    low_end = _lowmem_end(ram, limit)
    if not machine.highmem_enabled:
        notes.append("no kernel of this architecture is built without HIGHMEM")
        end = low_end
    low, high = (first, low_end), (low_end, end)
    config = machine.config or CONFIG
    slots = slots_of(machine, config)
    space = AddressMap(
        ram=ram,
        page_offset=page_offset,
        phys_offset=first * PAGE,
        user_end=page_offset,
        high_memory=page_offset + (low_end - first) * PAGE,
        low_pfns=low,
        high_pfns=high,
        vmalloc=VMALLOC,
        pkmap=PKMAP_BASE,
        pkmap_slots=machine.pkmap_slots or PKMAP_SLOTS,
        kmap_top=FIXADDR_TOP - FIX_KMAP_BEGIN * PAGE,
        fixmap=(FIXADDR_TOP - (1 + slots.per_cpu * machine.nr_cpus) * PAGE, FIXADDR_TOP + PAGE),
        zones=plain_zones(low, high, "DMA"),
        regions=(
            Region("page tables", NOCACHE, PKMAP_BASE, "uncached, as needed"),
            Region("io", *IO, "devices"),
            Region("prom", *PROM, "debugger and PROM"),
            Region("dvma", *DVMA, "DMA through the IOMMU"),
        ),
        notes=notes,
    )
    return finish(machine, space, slots, Tlb(local_flush_on_map=True, local_flush_all=True), config)


def _lowmem_end(ram: Ranges, limit: int) -> int:
    """Border in frames: `limit` bytes above the first RAM, or the last bank that ends before it.

    With a hole at the border lowmem ends where the bank before the hole does.
    """
    border = ram[0][0] + limit
    if ram[-1][1] <= border:
        return ram[-1][1] // PAGE
    last = ram[0][1]
    for start, end in ram[1:]:
        if start >= border:
            return min(last, border) // PAGE
        last = end
    return border // PAGE


def ram_for(total: int, like: Ranges, pae: bool) -> Ranges:  # noqa: FBT001, ARG001
    """One bank from 1 GiB on, as LEON boards have it, or the captured board's."""
    return grown(total, like, FAR, start=GiB)


SPARC32: Final = Arch(
    name="sparc32",
    title="SPARC V8, LEON",
    splits={"3.75g": PAGE_OFFSET},
    max_nr_cpus=32,
    max_phys=FAR,
    takes=frozenset({"lowmem_limit"}),
    default_nr_cpus=32,
    default_config=CONFIG,
    ram_for=ram_for,
    layout=layout,
)
