"""C-SKY: 1 GiB of lowmem through two fixed segments, every kmap() flushes its TLB entry.

Sources: arch/csky/include/asm/memory.h (pool, arena), highmem.h (LAST_PKMAP, flushes), fixmap.h,
page.h (LOWMEM_LIMIT); arch/csky/kernel/setup.c: csky_memblock_init (border); arch/csky/mm/tlb.c
(tlbi instructions reach all CPUs); arch/csky/Kconfig. Read in 6.1; not compared with a booted
kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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
from replay.machine.model import PAGE, Arch, GiB, Layout, MiB, Ranges, align_down

if TYPE_CHECKING:
    from replay.machine.model import Machine

SPLITS: Final = {"2g": 0x8000_0000, "2.5g": 0xA000_0000}
SEGMENT: Final = 512 * MiB
"""One segment of the MMU; lowmem has one or two of them."""
PKMAP_BASE: Final = 0xFF80_0000
PKMAP_SLOTS: Final = 1024
FIXADDR_TOP: Final = 0xFFFF_C000
TCM_PAGES: Final = 32
"""Default of CONFIG_ITCM_NR_PAGES and CONFIG_DTCM_NR_PAGES."""

CONFIG: Final = frozenset({"CSKY", "SMP", "HIGHMEM"})
"""What a usual kernel has, for machines without a configuration."""


def layout(machine: Machine) -> Layout:
    """Lay out a C-SKY machine."""
    page_offset = SPLITS[machine.split]
    ram, notes = usable_ram(machine, 4 * GiB)
    first, end = frames(ram)
    phys_offset = align_down(first * PAGE, SEGMENT)
    low_end = _lowmem_end(first, end)
    if not machine.highmem_enabled:
        end = low_end
    config = machine.config or CONFIG
    begin = 0
    if "HAVE_TCM" in config:
        begin = TCM_PAGES * (2 if "HAVE_DTCM" in config else 1) + 1
    slots = slots_of(machine, config)
    used = begin + slots.per_cpu * machine.nr_cpus
    low, high = (first, low_end), (low_end, end)
    space = AddressMap(
        ram=ram,
        page_offset=page_offset,
        phys_offset=phys_offset,
        user_end=page_offset - 8 * PAGE,
        high_memory=page_offset + low_end * PAGE - phys_offset,
        low_pfns=low,
        high_pfns=high,
        vmalloc=(page_offset + 2 * SEGMENT + 8 * PAGE, PKMAP_BASE - 2 * PAGE),
        pkmap=PKMAP_BASE,
        pkmap_slots=machine.pkmap_slots or PKMAP_SLOTS,
        kmap_top=FIXADDR_TOP - begin * PAGE,
        fixmap=(FIXADDR_TOP - used * PAGE, FIXADDR_TOP + PAGE),
        zones=plain_zones(low, high),
        notes=notes,
    )
    tlb = Tlb(
        flush_ceiling_pages=None,
        tlb_broadcast="SMP" in config,
        local_flush_on_map=True,
        kmap_flush_each=True,
    )
    return finish(machine, space, slots, tlb, config)


def _lowmem_end(first: int, end: int) -> int:
    """Border in frames: two whole segments, or one, or (up to one) all of RAM.

    RAM of more than one but less than two segments keeps one of them as lowmem only.
    """
    offset = first * PAGE % SEGMENT
    one, two = ((size - offset) // PAGE for size in (SEGMENT, 2 * SEGMENT))
    size = end - first
    if size >= two:
        return first + two
    return first + one if size > one else end


def ram_for(total: int, like: Ranges, pae: bool) -> Ranges:  # noqa: FBT001, ARG001
    """One bank, as the captured board's or from 0 on (CONFIG_DRAM_BASE)."""
    return grown(total, like, 4 * GiB)


CSKY: Final = Arch(
    name="csky",
    title="C-SKY",
    splits=SPLITS,
    max_nr_cpus=32,
    default_nr_cpus=4,
    default_config=CONFIG,
    ram_for=ram_for,
    layout=layout,
)
