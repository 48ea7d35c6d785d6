"""ARC (ARCv2, ARC700): 1 GiB mapped directly from 2 GiB on, highmem as a second bank of RAM.

Sources: arch/arc/include/asm/highmem.h (pool and fixmap), processor.h (VMALLOC_START,
TASK_SIZE), pgtable-levels.h (PGDIR_SHIFT); arch/arc/mm/init.c: early_init_dt_add_memory_arch,
setup_arch_memory (banks); arch/arc/mm/tlb.c: local_flush_tlb_kernel_range (flush ceiling);
arch/arc/Kconfig. Read in 6.1; not compared with a booted kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from collectors.errors import HmtraceError
from replay.machine.arches.common import (
    AddressMap,
    Tlb,
    finish,
    plain_zones,
    slots_of,
    too_many_slots,
    usable_ram,
)
from replay.machine.model import (
    TOP,
    Arch,
    GiB,
    KiB,
    Layout,
    MiB,
    Ranges,
    Region,
    mem_map_bytes,
)

if TYPE_CHECKING:
    from replay.machine.model import Machine

PAGE_OFFSET: Final = 0x8000_0000
DIRECT_END: Final = 0xC000_0000
"""Above it are uncached peripherals: the direct mapping is 1 GiB."""
TASK_SIZE: Final = 0x6000_0000
DEFAULT_KVADDR: Final = 256 * MiB
"""CONFIG_ARC_KVADDR_SIZE, at most 512 MiB."""
FLUSH_CEILING: Final = 31
PAE40: Final = 1 << 40

CONFIG: Final = frozenset({"ARC", "SMP", "HIGHMEM"})
"""What a usual kernel has, for machines without a configuration."""


def pgdir_size(page: int, config: frozenset[str]) -> int:
    """Bytes per entry of the page directory; pool and fixmap take one each."""
    if "ARC_HUGEPAGE_16M" in config:
        return 16 * MiB
    return 4 * MiB if page == 4 * KiB and "ARC_HUGEPAGE_2M" not in config else 2 * MiB


def layout(machine: Machine) -> Layout:
    """Lay out an ARC machine.

    Raises
    ------
    HmtraceError
        If no bank starts at 2 GiB, a bank crosses the end of the direct mapping, or the fixmap
        has no room for the slots of all CPUs.
    """
    page = machine.page_size
    config = machine.config or CONFIG
    pgdir = pgdir_size(page, config)
    low, high, ram, notes = _banks(machine)
    slots = slots_of(machine, config)
    if slots.per_cpu * machine.nr_cpus > pgdir // page:
        raise too_many_slots(machine, pgdir // page // slots.per_cpu)
    fixmap = PAGE_OFFSET - 2 * pgdir
    arena = DEFAULT_KVADDR if machine.vmalloc is None else min(machine.vmalloc, 512 * MiB)
    vmalloc = PAGE_OFFSET - arena
    low_pfns = low[0] // page, low[1] // page
    high_pfns = high[0] // page, high[1] // page
    top = fixmap + (slots.per_cpu * machine.nr_cpus - 1) * page
    space = AddressMap(
        ram=ram,
        page_offset=PAGE_OFFSET,
        phys_offset=PAGE_OFFSET,
        user_end=TASK_SIZE,
        high_memory=low[1],
        low_pfns=low_pfns,
        high_pfns=high_pfns,
        vmalloc=(vmalloc, vmalloc + arena - 4 * pgdir),
        pkmap=PAGE_OFFSET - pgdir,
        pkmap_slots=machine.pkmap_slots or pgdir // page,
        kmap_top=top,
        fixmap=(fixmap, fixmap + pgdir),
        fixaddr_top=top,
        # without PAE40 the frames of highmem are the lower ones
        zones=tuple(sorted(plain_zones(low_pfns, high_pfns), key=lambda zone: zone.start_pfn)),
        regions=(Region("peripherals", DIRECT_END, TOP, "uncached, untranslated"),),
        # the part of the array between the banks is given back
        mem_map_bytes=sum(
            mem_map_bytes(a, b, machine.page_struct) for a, b in (low_pfns, high_pfns) if b > a
        ),
        notes=notes,
    )
    return finish(machine, space, slots, Tlb(flush_ceiling_pages=FLUSH_CEILING), config)


def _banks(machine: Machine) -> tuple[tuple[int, int], tuple[int, int], Ranges, list[str]]:
    """Lowmem and highmem in physical addresses, both together as ranges, and remarks.

    The kernel takes the bank at CONFIG_LINUX_RAM_BASE as lowmem and the last of the others as
    highmem; ``mem=`` sets the size of lowmem.
    """
    limit = PAE40 if machine.pae else TOP
    ram, notes = usable_ram(machine, limit, base=PAGE_OFFSET)
    inside = [bank for bank in ram if PAGE_OFFSET <= bank[0] < DIRECT_END]
    if not inside:
        msg = f"ARC needs RAM at {PAGE_OFFSET:#x}, where the direct mapping starts"
        raise HmtraceError(msg, hint='ram = [["2G", "3G"], …] in a machine file', exit_code=2)
    low = inside[0]
    if low[1] > DIRECT_END:
        msg = "ARC maps 1 GiB directly, and RAM above it in one bank cannot be used"
        hint = "give the rest of RAM as a range of its own, below 2 GiB or (--pae) above 4 GiB"
        raise HmtraceError(msg, hint=hint, exit_code=2)
    others = [bank for bank in ram if bank != low]
    if len(others) > 1:
        notes.append("of several banks besides lowmem the kernel uses the last alone")
    if others and not machine.highmem_enabled:
        notes.append("RAM that lowmem does not hold is not used: kernel without HIGHMEM")
        others = []
    high = others[-1] if others else (low[1], low[1])
    kept = tuple(sorted(bank for bank in (low, high) if bank[1] > bank[0]))
    return low, high, kept, notes


def ram_for(total: int, like: Ranges, pae: bool) -> Ranges:  # noqa: FBT001, ARG001
    """RAM of a board: up to 1 GiB at 2 GiB, the rest from 4 GiB (PAE40) or from 0 on."""
    low = (PAGE_OFFSET, PAGE_OFFSET + min(total, GiB))
    rest = total - GiB
    if rest <= 0:
        return (low,)
    if pae:
        return (low, (TOP, TOP + rest))
    if rest > PAGE_OFFSET:
        msg = f"{total // MiB} MiB of RAM: without PAE40 a board has 1 GiB and 2 GiB below it"
        raise HmtraceError(msg, hint="give --pae (PAE40), or at most --ram 3G", exit_code=2)
    return ((0, rest), low)


ARC: Final = Arch(
    name="arc",
    title="Synopsys ARC",
    splits={"2g": PAGE_OFFSET},
    pae_splits=frozenset({"2g"}),
    pae_name="PAE40",
    max_nr_cpus=4096,
    default_nr_cpus=4,
    max_phys_pae=PAE40,
    default_config=CONFIG,
    default_page_struct=36,  # 32 and page.virtual (asm/page.h: WANT_PAGE_VIRTUAL)
    ram_for=ram_for,
    layout=layout,
    page_sizes=(8 * KiB, 4 * KiB, 16 * KiB),
    arena_option="CONFIG_ARC_KVADDR_SIZE",
)
