"""x86-64 with DEBUG_KMAP_LOCAL_FORCE_MAP: kmap_local alone, for testing conversions.

There is no highmem and no pool; with that switch every kmap_local maps its page in a slot of the
CPU nevertheless, so that code converted to kmap_local can be tested on an ordinary machine.

Sources: arch/x86/include/asm/fixmap.h (slots), pgtable_64_types.h (arena, modules);
Documentation/x86/x86_64/mm.rst (map with four levels); lib/Kconfig.debug; arch/x86/mm/tlb.c.
Read in 6.1; not compared with a booted kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from replay.machine.arches.common import AddressMap, Tlb, finish, frames, slots_of, usable_ram
from replay.machine.arches.i386 import FLUSH_CEILING, ram_for
from replay.machine.kconfig import maps_lowmem
from replay.machine.model import (
    PAGE,
    TOP,
    Arch,
    GiB,
    Layout,
    LayoutZone,
    MiB,
    Region,
    align_down,
)
from replay.machine.tlb import full_flush_of

if TYPE_CHECKING:
    from replay.machine.model import Machine

PAGE_OFFSET: Final = 0xFFFF_8880_0000_0000
VMALLOC: Final = (0xFFFF_C900_0000_0000, 0xFFFF_E900_0000_0000 - 1)
VMEMMAP: Final = 0xFFFF_EA00_0000_0000
KERNEL: Final = 0xFFFF_FFFF_8000_0000
MODULES_END: Final = 0xFFFF_FFFF_FE00_0000
"""2 MiB tables for the slots are kept free above it (FIXMAP_PMD_NUM)."""
FIXADDR_TOP: Final = 0xFFFF_FFFF_FF7F_F000
USER_END: Final = (1 << 47) - PAGE
DMA_END: Final = 4096
MAX_PHYS: Final = 1 << 46
CONFIG: Final = frozenset(
    {
        "X86_64",
        "SMP",
        "X86_VSYSCALL_EMULATION",
        "X86_LOCAL_APIC",
        "X86_IO_APIC",
        "ACPI_APEI_GHES",
        "PCI_MMCONFIG",
        "RANDOMIZE_BASE",
        "DEBUG_KMAP_LOCAL",
        "DEBUG_KMAP_LOCAL_FORCE_MAP",
        "ZONE_DMA",
    }
)
"""A distribution's kernel with the debugging switch."""


def layout(machine: Machine) -> Layout:
    """Lay out an x86-64 machine; addresses are those of a boot without KASLR."""
    config = machine.config or CONFIG
    force = maps_lowmem(config)
    ram, notes = usable_ram(machine, MAX_PHYS, base=0)
    first, end = frames(ram)
    first = max(first, 1)
    begin = fix_kmap_begin(config)
    slots = slots_of(machine, config)
    if not force:
        notes.append("without DEBUG_KMAP_LOCAL_FORCE_MAP kmap_local maps nothing on x86-64")
    last = begin + (slots.per_cpu * machine.nr_cpus if force else 0) + 4
    modules = KERNEL + (GiB if "RANDOMIZE_BASE" in config else 512 * MiB)
    space = AddressMap(
        ram=ram,
        page_offset=PAGE_OFFSET,
        phys_offset=0,
        user_end=USER_END,
        high_memory=PAGE_OFFSET + end * PAGE,
        low_pfns=(first, end),
        high_pfns=(end, end),
        vmalloc=VMALLOC,
        modules=(modules, MODULES_END),
        pkmap=0,
        pkmap_slots=0,
        kmap_top=FIXADDR_TOP - begin * PAGE,
        fixmap=(align_down(FIXADDR_TOP - last * PAGE, 2 * MiB), FIXADDR_TOP + PAGE),
        fixaddr_top=FIXADDR_TOP,
        zones=_zones(first, end, dma="ZONE_DMA" in config),
        regions=(
            Region("vmemmap", VMEMMAP, VMEMMAP + end * machine.page_struct, "struct page"),
            Region("kernel", KERNEL, modules, "text and data"),
        ),
        ioremap_max_order=30,
        mem_map_bytes=machine.ram_bytes // PAGE * machine.page_struct,
        notes=notes,
        bits=64,
    )
    tlb = Tlb(flush_ceiling_pages=FLUSH_CEILING, x86_flush=full_flush_of(machine))
    return finish(machine, space, slots, tlb, config, pti=machine.pti)


def fix_kmap_begin(config: frozenset[str]) -> int:
    """FIX_KMAP_BEGIN. asm/fixmap.h: enum fixed_addresses; 128 I/O APICs (MAX_IO_APICS)."""
    index = 512 if "X86_VSYSCALL_EMULATION" in config else 0  # VSYSCALL_PAGE is 511
    index += 2  # FIX_DBGP_BASE, FIX_EARLYCON_MEM_BASE
    index += "PROVIDE_OHCI1394_DMA_INIT" in config
    index += "X86_LOCAL_APIC" in config
    return index + 128 * ("X86_IO_APIC" in config)


def _zones(first: int, end: int, *, dma: bool) -> tuple[LayoutZone, ...]:
    low = min(DMA_END, end) if dma else first
    middle = min(TOP // PAGE, end)
    return (
        LayoutZone("DMA", first, low),
        LayoutZone("DMA32", max(first, low), middle),
        LayoutZone("Normal", max(middle, first), end),
    )


X86_64: Final = Arch(
    name="x86_64",
    title="no highmem; DEBUG_KMAP_LOCAL_FORCE_MAP",
    splits={"4level": PAGE_OFFSET},
    max_nr_cpus=4096,
    default_nr_cpus=64,
    max_phys=MAX_PHYS,
    default_config=CONFIG,
    default_page_struct=64,
    ram_for=ram_for,
    layout=layout,
    has_highmem=False,
)
