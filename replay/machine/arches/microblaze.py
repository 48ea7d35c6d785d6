"""MicroBlaze: 768 MiB of lowmem, one CPU, and a pool whose flush is one of the caches only.

Sources: arch/microblaze/include/asm/highmem.h (pool, flushes), fixmap.h, pgtable.h (arena),
tlbflush.h (flush_tlb_kernel_range is empty); arch/microblaze/mm/init.c: mmu_init, setup_memory
(border); arch/microblaze/Kconfig. Read in 6.1, and compared with a boot log
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
    plain_zones,
    slots_of,
    usable_ram,
)
from replay.machine.model import PAGE, TOP, Arch, GiB, Layout, MiB, Ranges, align_down

if TYPE_CHECKING:
    from replay.machine.model import Machine

KERNEL_START: Final = 0xC000_0000
"""CONFIG_KERNEL_START is any number; this is its default."""
LOWMEM_SIZE: Final = 0x3000_0000
TASK_SIZE: Final = 0x8000_0000
PMD_SIZE: Final = 4 * MiB
PKMAP_SLOTS: Final = 1024
FIXADDR_TOP: Final = TOP - PAGE
FIX_KMAP_BEGIN: Final = 1

CONFIG: Final = frozenset({"MICROBLAZE", "HIGHMEM", "ZONE_DMA"})
"""What a usual kernel has, for machines without a configuration."""


def layout(machine: Machine) -> Layout:
    """Lay out a MicroBlaze machine: its first bank of RAM, the others are not used."""
    config = machine.config or CONFIG
    slots = slots_of(machine, config)
    pool = machine.pkmap_slots or PKMAP_SLOTS
    enabled = machine.highmem_enabled
    entries = FIX_KMAP_BEGIN + (slots.per_cpu * machine.nr_cpus if enabled else 0)
    fix_start = FIXADDR_TOP - entries * PAGE
    pkmap = align_down(fix_start - PAGE * (pool + 1), PMD_SIZE)
    ram, notes = usable_ram(machine, 4 * GiB)
    if len(ram) > 1:
        notes.append("RAM after the first bank is not used")
        ram = ram[:1]
    first, end = frames(ram)
    limit = machine.lowmem_limit or LOWMEM_SIZE
    start = KERNEL_START if machine.page_offset is None else machine.page_offset
    low_end = min(end, first + limit // PAGE)
    if not enabled:
        end = low_end
    low, high = (first, low_end), (low_end, end)
    space = AddressMap(
        ram=ram,
        page_offset=start,
        phys_offset=first * PAGE,
        user_end=min(TASK_SIZE, start),
        high_memory=start + (low_end - first) * PAGE,
        low_pfns=low,
        high_pfns=high,
        # ioremap() before the allocator is up takes addresses from the top of it
        vmalloc=(start + limit, pkmap if enabled else fix_start),
        pkmap=pkmap,
        pkmap_slots=pool,
        kmap_top=FIXADDR_TOP - FIX_KMAP_BEGIN * PAGE,
        fixmap=(fix_start, TOP),
        fixaddr_top=FIXADDR_TOP,
        zones=plain_zones(low, high, "DMA"),
        notes=notes,
    )
    tlb = Tlb(local_flush_on_map=True, range_flush=False)
    return finish(machine, space, slots, tlb, config)


def ram_for(total: int, like: Ranges, pae: bool) -> Ranges:  # noqa: FBT001, ARG001
    """One bank, where the captured board has it, or from 2 GiB on (as FPGA designs like it)."""
    return grown(total, like[:1], 4 * GiB, start=2 * GiB if total <= 2 * GiB else 0)


MICROBLAZE: Final = Arch(
    name="microblaze",
    title="Xilinx MicroBlaze",
    splits={"3g": KERNEL_START},
    max_nr_cpus=1,
    takes=frozenset({"lowmem_limit", "page_offset"}),
    default_nr_cpus=1,
    default_config=CONFIG,
    ram_for=ram_for,
    layout=layout,
)
