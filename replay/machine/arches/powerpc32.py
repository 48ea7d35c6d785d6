"""PowerPC, 32 bit (e500, 44x, 8xx, book3s): 768 MiB of lowmem, the pool below a wide fixmap.

Sources: arch/powerpc/include/asm/highmem.h (pool, flushes), fixmap.h, nohash/32/pgtable.h and
book3s/32/pgtable.h (arena, modules); arch/powerpc/mm/init_32.c: MMU_init (border);
arch/powerpc/mm/mem.c: paging_init (zones); arch/powerpc/mm/nohash/tlb.c: flush_tlb_kernel_range;
arch/powerpc/Kconfig. Read in 6.1, and compared with boot logs of boards from 3.2 to 6.x
(tests/replay/boards.toml).

Not in it: CPUs of the 85xx map lowmem by a few fixed entries, so a size of RAM that no few powers
of four add up to loses a little of lowmem (adjust_total_lowmem); early ioremap() takes addresses
from the top of the arena.
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
from replay.machine.generations import GENERATIONS
from replay.machine.model import (
    TOP,
    Arch,
    GiB,
    KiB,
    Layout,
    MiB,
    Ranges,
    Region,
    align_down,
    align_up,
)

if TYPE_CHECKING:
    from replay.machine.model import Machine

SPLITS: Final = {"3g": 0xC000_0000, "2g": 0x8000_0000, "1g": 0x4000_0000}
"""PAGE_OFFSET is any number (CONFIG_PAGE_OFFSET_BOOL); these are the usual ones."""
LOWMEM_CEILING: Final = 0xF000_0000
"""PAGE_OFFSET and CONFIG_LOWMEM_SIZE must not add up to more (init_32.c); 768 MiB from 3 GiB on,
which is the default of LOWMEM_SIZE."""
VMALLOC_OFFSET: Final = 16 * MiB
FAR: Final = 64 * GiB
"""36 bits of physical addresses with CONFIG_PHYS_64BIT."""
CONFIG: Final = frozenset({"PPC32", "PPC_85xx", "SMP", "HIGHMEM"})
"""What a usual kernel has, for machines without a configuration: an e500 board."""


def layout(machine: Machine) -> Layout:
    """Lay out a 32-bit PowerPC machine.

    Raises
    ------
    HmtraceError
        If lowmem reaches into the addresses above it.
    """
    page, config = machine.page_size, machine.config or CONFIG
    page_offset = SPLITS[machine.split] if machine.page_offset is None else machine.page_offset
    limit = machine.lowmem_limit or LOWMEM_CEILING - page_offset
    if page_offset + limit > LOWMEM_CEILING:
        msg = f"{limit // MiB} MiB of lowmem from {page_offset:#x} on reach above 0xf0000000"
        hint = f"lowmem_limit is at most {(LOWMEM_CEILING - page_offset) // MiB}M"
        raise HmtraceError(msg, hint=hint, exit_code=2)
    generation = GENERATIONS[machine.generation]
    slots = slots_of(machine, config, type_nr=16, fenced=None)  # asm/kmap_types.h
    top = TOP - page
    begin = max(1, 128 * KiB // page)  # FIX_EARLY_DEBUG_TOP to _BASE, the first 128 KiB
    permanent = begin
    if machine.highmem_enabled:
        permanent += slots.per_cpu * machine.nr_cpus
    permanent = _with_registers(permanent, page, config)
    boot_maps = 16 * max(1, 256 * KiB // page)  # TOTAL_FIX_BTMAPS
    fix_start = top - (permanent + boot_maps * generation.ppc_early_ioremap) * page
    pool, pkmap = _pool(machine, page, fix_start)
    top_of_arena = pkmap if machine.highmem_enabled else fix_start
    if generation.ppc_kvirt_top is not None and not machine.highmem_enabled:
        top_of_arena = min(fix_start, generation.ppc_kvirt_top)
    arena_end = top_of_arena  # IOREMAP_TOP
    regions: tuple[Region, ...] = ()
    if "NOT_COHERENT_CACHE" in config and generation.ppc_consistent:
        arena_end = align_down(top_of_arena - generation.ppc_consistent, page)
        regions = (Region("consistent", arena_end, top_of_arena, "coherent memory for DMA"),)

    ram, notes = usable_ram(machine, FAR if machine.pae else TOP)
    first, end = frames(ram, page)
    low_end = min(end, first + limit // page)
    if not machine.highmem_enabled:
        end = low_end
    high_memory = page_offset + (low_end - first) * page
    vmalloc = align_down(_pinned(high_memory, config) + VMALLOC_OFFSET, VMALLOC_OFFSET)
    low, high = (first, low_end), (low_end, end)
    modules = None
    user_end = page_offset
    if "PPC_BOOK3S_32" in config:
        modules = _modules(page_offset)
        user_end = min(page_offset, modules[0])
    elif "PPC_8xx" in config:
        modules = page_offset - 256 * MiB, page_offset
        user_end = min(0x8000_0000, modules[0])
    space = AddressMap(
        ram=ram,
        page_offset=page_offset,
        phys_offset=first * page,
        user_end=user_end,
        high_memory=high_memory,
        low_pfns=low,
        high_pfns=high,
        vmalloc=(vmalloc, arena_end),
        modules=modules,
        pkmap=pkmap,
        pkmap_slots=pool,
        kmap_top=top - begin * page,
        fixmap=(fix_start, TOP),
        fixaddr_top=top,
        regions=regions,
        zones=plain_zones(low, high, "DMA" if "ZONE_DMA" in config else "Normal"),
        notes=notes,
    )
    return finish(machine, space, slots, Tlb(local_flush_on_map=True), config)


def _with_registers(index: int, page: int, config: frozenset[str]) -> int:
    """Entries with those for the device registers (FIX_IMMR_START to _BASE), aligned."""
    size = 512 * KiB if "PPC_8xx" in config else 2 * MiB if "PPC_83xx" in config else 0
    return align_up(index, size // page) + size // page if size else index


def _pool(machine: Machine, page: int, fix_start: int) -> tuple[int, int]:
    """LAST_PKMAP and PKMAP_BASE: one page table of 4-byte or (PHYS_64BIT) 8-byte entries."""
    if page > 4 * KiB:
        pool = machine.pkmap_slots or 512
        return pool, fix_start - page * (pool + 1)
    table = 512 if machine.pae else 1024
    pool = machine.pkmap_slots or table
    return pool, align_down(fix_start - page * (pool + 1), table * page)


def _pinned(high_memory: int, config: frozenset[str]) -> int:
    """End of lowmem as the fixed entries of the MMU map it (PPC_PIN_SIZE)."""
    pin = 256 * MiB if "44x" in config else 8 * MiB if "PPC_8xx" in config else 1
    return align_up(high_memory, pin)


def _modules(page_offset: int) -> tuple[int, int]:
    """Book3s: the 256 MiB below PAGE_OFFSET, a segment of their own."""
    end = align_down(page_offset, 256 * MiB)
    return end - 256 * MiB, end


def ram_for(total: int, like: Ranges, pae: bool) -> Ranges:  # noqa: FBT001
    """RAM from 0 on without a hole, as boot loaders of these boards map it."""
    hint = "" if pae else "give --pae (PHYS_64BIT), or "
    return grown(total, like, FAR if pae else TOP, hint=hint)


POWERPC32: Final = Arch(
    name="powerpc32",
    title="PowerPC, 32 bit",
    splits=SPLITS,
    pae_splits=frozenset(SPLITS),
    pae_name="PHYS_64BIT",
    max_nr_cpus=8192,
    takes=frozenset({"lowmem_limit", "page_offset"}),
    default_nr_cpus=4,
    max_phys_pae=FAR,
    default_config=CONFIG,
    ram_for=ram_for,
    layout=layout,
    page_sizes=(4 * KiB, 16 * KiB, 64 * KiB, 256 * KiB),
)
