"""Xtensa: 128 to 512 MiB of lowmem, and a pool in colours where the data cache has aliases.

Sources: arch/xtensa/include/asm/kmem_layout.h (splits), highmem.h and fixmap.h (pool, stacks,
colours), pgtable.h (arena); arch/xtensa/mm/highmem.c: kmap_idx (colours of the stacks);
arch/xtensa/mm/init.c: bootmem_init, zones_init (border); arch/xtensa/mm/tlb.c:
local_flush_tlb_kernel_range (flush ceiling); arch/xtensa/Kconfig. Read in 6.1; not compared with
a booted kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from collectors.errors import HmtraceError
from replay.machine.arches.common import (
    AddressMap,
    Tlb,
    finish,
    frames,
    grown,
    plain_zones,
    slots_of,
    usable_ram,
)
from replay.machine.model import PAGE, Arch, GiB, Layout, MiB, Ranges, Region, align_down

if TYPE_CHECKING:
    from replay.machine.model import Machine

SPLITS: Final = {"128m": 0xD000_0000, "256m": 0xB000_0000, "512m": 0xA000_0000}
"""Named after the size of the cached segment (XTENSA_KSEG_MMU_V2, _256M, _512M)."""
SEGMENTS: Final = {"128m": 128 * MiB, "256m": 256 * MiB, "512m": 512 * MiB}
BYPASS: Final = {"128m": 0xD800_0000, "256m": 0xC000_0000, "512m": 0xC000_0000}
TASK_SIZE: Final = 0x4000_0000
PAGE_TABLE: Final = (0x8000_0000, 0x8040_0000)
KIO: Final = (0xE000_0000, 0x1_0000_0000)
PMD_SIZE: Final = 4 * MiB
SLOTS_PER_COLOUR: Final = 1024
VMALLOC_SIZE: Final = 0x07FE_FFFF
FLUSH_CEILING: Final = 15
"""A range is flushed page by page where it is smaller than the 4 * 4 entries of the TLB's
auto-refill ways."""
CONFIG: Final = frozenset({"XTENSA", "HIGHMEM"})
"""What a usual kernel has, for machines without a configuration."""


def layout(machine: Machine) -> Layout:
    """Lay out an Xtensa machine.

    Raises
    ------
    HmtraceError
        If the pool of all colours has no room above the arena, or no RAM is in the segment.
    """
    config = machine.config or CONFIG
    kseg, colours = SPLITS[machine.split], machine.cache_colours
    slots = slots_of(machine, config)
    fix_end = kseg - PAGE
    fix_size = slots.per_cpu * machine.nr_cpus * colours * PAGE
    fix_start = align_down(fix_end - fix_size, PMD_SIZE)
    top = fix_start + fix_size - PAGE
    pool = machine.pkmap_slots or SLOTS_PER_COLOUR * colours
    pkmap = align_down(fix_start - (pool + 1) * PAGE, PMD_SIZE)
    vmalloc = kseg - 256 * MiB
    way = colours * PAGE
    temporary = vmalloc + 128 * MiB, vmalloc + 128 * MiB + 2 * way
    if pkmap < temporary[1]:
        msg = f"a pool of {pool} slots in {colours} colours does not fit below {kseg:#x}"
        raise HmtraceError(msg, hint="give fewer colours, CPUs or slots", exit_code=2)

    phys_offset = machine.phys_offset or 0
    ram, notes = usable_ram(machine, 4 * GiB, base=0)
    first, end = frames(ram)
    first = max(first, phys_offset // PAGE)
    low_end = min(end, (phys_offset + SEGMENTS[machine.split]) // PAGE)
    if low_end <= first:
        msg = f"no RAM in the {machine.split[:-1]} MiB from {phys_offset:#x} on that are mapped"
        raise HmtraceError(msg, hint="phys_offset is CONFIG_KSEG_PADDR", exit_code=2)
    if not machine.highmem_enabled:
        end = low_end
    low, high = (first, low_end), (low_end, end)
    space = AddressMap(
        ram=ram,
        page_offset=kseg,
        phys_offset=phys_offset,
        user_end=TASK_SIZE,
        high_memory=kseg + low_end * PAGE - phys_offset,
        low_pfns=low,
        high_pfns=high,
        vmalloc=(vmalloc, vmalloc + VMALLOC_SIZE),
        pkmap=pkmap,
        pkmap_slots=pool,
        kmap_top=top,
        fixmap=(fix_start, fix_end),
        fixaddr_top=top,
        zones=plain_zones(low, high),
        regions=(
            Region("page table", *PAGE_TABLE, "of the running task"),
            Region("tlb temp", *temporary, "copies by colour"),
            Region(
                "bypass",
                BYPASS[machine.split],
                BYPASS[machine.split] + SEGMENTS[machine.split],
                "lowmem, uncached",
            ),
            Region("io", *KIO, "devices, cached and uncached"),
        ),
        colours=colours,
        notes=notes,
    )
    return finish(machine, space, slots, Tlb(flush_ceiling_pages=FLUSH_CEILING), config)


def ram_for(total: int, like: Ranges, pae: bool) -> Ranges:  # noqa: FBT001, ARG001
    """One bank from 0 on, as boards with the MMU at version 3 have it, or the captured board's."""
    return grown(total, like, 4 * GiB)


XTENSA: Final = Arch(
    name="xtensa",
    title="Tensilica Xtensa",
    splits=SPLITS,
    max_nr_cpus=32,
    default_nr_cpus=1,
    default_config=CONFIG,
    ram_for=ram_for,
    layout=layout,
)
