"""What the architectures have in common: from their own numbers to a :class:`Layout`.

A module of an architecture works out an :class:`AddressMap`, says how its TLBs are flushed, and
calls :func:`finish`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.errors import HmtraceError
from replay.machine.generations import GENERATIONS
from replay.machine.kconfig import (
    LocalSlots,
    has_kmap_atomic,
    is_realtime,
    local_slots,
    maps_lowmem,
)
from replay.machine.model import (
    PAGE,
    TOP,
    GiB,
    Layout,
    LayoutZone,
    MiB,
    Ranges,
    Region,
    align_down,
    clip,
    lazy_max_pages,
    mem_map_bytes,
    ram_between,
    vmap_block_pages,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from replay.machine.model import Machine

_TOO_LARGE: Final = "fewer CPUs (NR_CPUS), pool slots or page sizes leave more room"


class Tlb(NamedTuple):
    """How the TLBs are kept honest; the fields of :class:`Layout` say what each means."""

    flush_ceiling_pages: int | None = 0
    tlb_broadcast: bool = False
    tlb_erratum_ipi: bool = False
    local_flush_on_map: bool = False
    local_flush_on_unmap: bool = True
    range_flush: bool = True
    local_flush_all: bool = False
    kmap_flush_each: bool = False
    x86_flush: str = ""


class AddressMap(NamedTuple):
    """The numbers that are an architecture's own.

    Attributes
    ----------
    ram
        Ranges that the kernel keeps.
    page_offset, phys_offset, user_end, high_memory
        As in :class:`Layout`.
    low_pfns, high_pfns
        Frames of lowmem and of ZONE_HIGHMEM, [first, end).
    vmalloc, modules
        [start, end); no modules: they lie in the arena.
    pkmap, pkmap_slots
        The pool, where there is HIGHMEM.
    kmap_top, kmap_upwards
        Address of slot 0 of CPU 0 of kmap_local, and whether the others follow above it.
    fixmap
        From the lowest address of the fixmap to the address after its highest page.
    zones
        Zones, also empty ones, in the order of their frames.
    regions
        What else is in the address space.
    fixaddr_top
        FIXADDR_TOP, where it is not the highest page of `fixmap`.
    ioremap_max_order
        None: the kernel's default of 128 pages (linux/vmalloc.h: IOREMAP_MAX_ORDER).
    colours
        Colours of pool and stacks.
    mem_map_bytes
        None: one array from the first frame to the last.
    notes
        What the kernel would say.
    """

    ram: Ranges
    page_offset: int
    phys_offset: int
    user_end: int
    high_memory: int
    low_pfns: tuple[int, int]
    high_pfns: tuple[int, int]
    vmalloc: tuple[int, int]
    pkmap: int
    pkmap_slots: int
    kmap_top: int
    fixmap: tuple[int, int]
    zones: tuple[LayoutZone, ...]
    regions: tuple[Region, ...] = ()
    modules: tuple[int, int] | None = None
    fixaddr_top: int | None = None
    ioremap_max_order: int | None = None
    colours: int = 1
    mem_map_bytes: int | None = None
    notes: Sequence[str] = ()
    bits: int = 32
    kmap_upwards: bool = False


def finish(
    machine: Machine,
    space: AddressMap,
    slots: LocalSlots,
    tlb: Tlb,
    config: frozenset[str],
    *,
    kmap_high_get: bool = False,
    pti: bool = False,
) -> Layout:
    """Derive what is the same everywhere: limits, sizes, the picture.

    Parameters
    ----------
    machine
        The machine.
    space, slots, tlb
        The architecture's numbers.
    config
        Switches of the machine, or of usual kernels.
    kmap_high_get, pti
        As in :class:`Layout`.

    Returns
    -------
    Layout

    Raises
    ------
    HmtraceError
        If the windows overlap, or nothing is left for the arena.
    """
    page = machine.page_size
    if space.vmalloc[1] <= space.vmalloc[0]:
        msg = f"no room for the arena above {space.vmalloc[0]:#x}"
        raise HmtraceError(msg, hint=_TOO_LARGE, exit_code=2)
    pool = space.pkmap_slots if machine.highmem_enabled else 0
    first = min(space.low_pfns[0], space.high_pfns[0]) if pool else space.low_pfns[0]
    end = space.high_pfns[1]
    array = space.mem_map_bytes
    if array is None:
        array = mem_map_bytes(first, max(end, space.low_pfns[1]), machine.page_struct)
    return Layout(
        page_size=page,
        page_offset=space.page_offset,
        phys_offset=space.phys_offset,
        user_end=space.user_end,
        lowmem_end_pfn=space.high_pfns[0],
        high_memory=space.high_memory,
        max_pfn=end,
        lowmem_bytes=ram_between(space.ram, *space.low_pfns, page),
        highmem_bytes=ram_between(space.ram, *space.high_pfns, page),
        vmalloc_start=space.vmalloc[0],
        vmalloc_end=space.vmalloc[1],
        modules_start=(space.modules or space.vmalloc)[0],
        modules_end=(space.modules or space.vmalloc)[1],
        pkmap_base=space.pkmap if pool else 0,
        pkmap_slots=pool,
        kmap_fix_top=space.kmap_top,
        kmap_upwards=space.kmap_upwards,
        km_max_idx=slots.per_cpu,
        km_step=slots.step,
        km_usable_depth=slots.depth,
        kmap_per_cpu=has_kmap_atomic(GENERATIONS[machine.generation], config)
        and not is_realtime(config),
        fixaddr_top=space.fixmap[1] - page if space.fixaddr_top is None else space.fixaddr_top,
        fixaddr_start=space.fixmap[0],
        nr_cpus=machine.nr_cpus,
        zones=_zones(space, page),
        regions=_regions(machine, space, slots, pool, has_slots=bool(pool) or maps_lowmem(config)),
        lazy_max_pages=lazy_max_pages(machine.cpus, page),
        vmap_block_pages=vmap_block_pages(machine.nr_cpus, page, space.bits),
        ioremap_max_order=space.ioremap_max_order or 6 + page.bit_length(),
        mem_map_bytes=array,
        kmap_high_get=kmap_high_get,
        pkmap_colours=space.colours,
        kmap_force_map=maps_lowmem(config),
        pti=pti,
        notes=(*space.notes, *_not_modelled(space, config)),
        **tlb._asdict(),
    )


def _not_modelled(space: AddressMap, config: frozenset[str]) -> Iterator[str]:
    """Options that move addresses or memory, and that this architecture's map leaves out."""
    if "KASAN" in config and not any(region.name == "kasan" for region in space.regions):
        yield "CONFIG_KASAN is not modelled: its shadow memory moves what is drawn here"
    if space.bits != 32:
        return
    if "DISCONTIGMEM" in config and space.mem_map_bytes is None:
        yield "CONFIG_DISCONTIGMEM is not modelled: mem_map is drawn as one array"
    if "SPARSEMEM" not in config:
        return
    if space.mem_map_bytes is None:
        yield "CONFIG_SPARSEMEM is not modelled: mem_map is drawn as one array"
    else:
        yield (
            "CONFIG_SPARSEMEM: page arrays are by section, so that no frame follows from the "
            "address of its struct page alone"
        )


def _zones(space: AddressMap, page: int) -> tuple[LayoutZone, ...]:
    """Zones that are not empty, with the RAM in them."""
    return tuple(
        zone._replace(present=ram_between(space.ram, zone.start_pfn, zone.end_pfn, page) // page)
        for zone in space.zones
        if zone.end_pfn > zone.start_pfn
    )


def _regions(
    machine: Machine, space: AddressMap, slots: LocalSlots, pool: int, *, has_slots: bool
) -> tuple[Region, ...]:
    page = machine.page_size
    start, end = space.vmalloc
    what = "vmap, vmalloc, ioremap" + (", modules" if space.modules is None else "")
    regions = [
        Region("user", 0, space.user_end, "a process"),
        Region("lowmem", space.page_offset, space.high_memory, "direct mapping of RAM"),
        Region("vmalloc", start, end, what),
        *space.regions,
    ]
    if space.modules is not None:
        regions.append(Region("modules", *space.modules, "modules"))
    if pool:
        words = f"kmap(): {pool} slots"
        if space.colours > 1:
            words += f", {space.colours} colours"
        regions.append(Region("pkmap", space.pkmap, space.pkmap + pool * page, words))
    fix_start, fix_end = space.fixmap
    if has_slots:
        count = slots.per_cpu * machine.nr_cpus * space.colours
        above = space.kmap_top + (count if space.kmap_upwards else 1) * page
        below = above - count * page
        regions += [
            Region("fixmap", fix_start, below, "fixed addresses"),
            Region("kmap_local", below, above, f"{slots.per_cpu} slots per CPU"),
            Region("fixmap", above, fix_end, "fixed addresses"),
        ]
    else:
        regions.append(Region("fixmap", fix_start, fix_end, "fixed addresses"))
    return fill_gaps(regions, TOP if space.bits == 32 else 1 << space.bits)


def fill_gaps(regions: list[Region], end: int = TOP) -> tuple[Region, ...]:
    """Sort regions, drop empty ones, and name what lies between them.

    Parameters
    ----------
    regions
        Regions; empty ones are left out.
    end
        End of the address space.

    Returns
    -------
    tuple of Region
        From 0 to `end` without a gap.

    Raises
    ------
    HmtraceError
        If two of them overlap: no such kernel can be built.
    """
    out: list[Region] = []
    at = 0
    for region in sorted(regions, key=lambda r: r.start):
        if region.end <= region.start:
            continue
        if region.start < at or region.end > end:
            other = out[-1].name if out and region.start < at else "the end of the address space"
            msg = f"{region.name} at {region.start:#x} runs into {other}"
            raise HmtraceError(msg, hint=_TOO_LARGE, exit_code=2)
        if region.start > at:
            out.append(Region("gap", at, region.start, "not mapped"))
        out.append(region)
        at = region.end
    if at < end:
        out.append(Region("gap", at, end, "not mapped"))
    return tuple(out)


def slots_of(
    machine: Machine, config: frozenset[str], type_nr: int = 20, fenced: int | None = 41
) -> LocalSlots:
    """Slots of local mappings; KM_TYPE_NR is that of asm-generic/kmap_types.h up to 5.10."""
    return local_slots(GENERATIONS[machine.generation], config, type_nr, fenced)


def usable_ram(
    machine: Machine, limit: int, *, base: int | None = None, too_far: str = ""
) -> tuple[Ranges, list[str]]:
    """RAM ranges that the kernel keeps, and remarks.

    Parameters
    ----------
    machine
        ``mem=SIZE`` keeps SIZE bytes from `base` on.
    limit
        End of what it can address.
    base
        Where ``mem=`` counts from; None: the first RAM.
    too_far
        What to say of RAM above `limit`; empty: its size and the limit.

    Raises
    ------
    HmtraceError
        If nothing is left.
    """
    ram = machine.ram
    if machine.mem is not None and ram:
        ram = clip(ram, (ram[0][0] if base is None else base) + machine.mem)
    kept = clip(ram, limit)
    notes = []
    if kept != ram:
        notes.append(too_far or f"RAM above {limit // GiB} GiB is not used by this kernel")
    if not kept:
        msg = "the machine has no RAM that its kernel could use"
        raise HmtraceError(msg, hint="give --ram, or a larger mem=", exit_code=2)
    return kept, notes


def hypothetical_offset(
    limit: int, usual: int, end: int, *, unit: int, least: int
) -> tuple[int, str]:
    """PAGE_OFFSET of more lowmem than kernels of an architecture map, and what to say of it.

    Parameters
    ----------
    limit, usual
        Bytes of lowmem, and those that kernels map.
    end
        Address that lowmem must not reach above.
    unit
        PAGE_OFFSET is a multiple of it, a power of two.
    least
        Bytes that user space needs.

    Raises
    ------
    HmtraceError
        If it has fewer.
    """
    page_offset = align_down(max(0, end - limit), unit)
    if page_offset < least:
        msg = f"{limit // MiB} MiB of lowmem leave no addresses for user space"
        hint = f"lowmem_limit is at most {(end - least) // MiB}M"
        raise HmtraceError(msg, hint=hint, exit_code=2)
    return page_offset, (
        f"{limit // MiB} MiB of lowmem are hypothetical: kernels of this architecture map "
        f"{usual // MiB} MiB"
    )


def section_map_bytes(machine: Machine, ram: Ranges, section: int) -> int:
    """Bytes of the page arrays with SPARSEMEM: one for each whole section that has any RAM.

    mm/sparse.c: sparse_init, without SPARSEMEM_VMEMMAP, which no 32-bit architecture has.

    Examples
    --------
    >>> from replay.machine.model import Machine
    >>> section_map_bytes(Machine(arch="arm", page_struct=32), ((0, 1 << 20),), 1 << 28) >> 20
    2
    """
    numbers = {n for a, b in ram for n in range(a // section, -(-b // section))}
    return len(numbers) * (section // machine.page_size) * machine.page_struct


def plain_zones(
    low: tuple[int, int], high: tuple[int, int], name: str = "Normal"
) -> tuple[LayoutZone, ...]:
    """All of lowmem as one zone, then highmem."""
    return LayoutZone(name, *low), LayoutZone("HighMem", *high)


def frames(ram: Ranges, page: int = PAGE) -> tuple[int, int]:
    """First frame of RAM and the one after the last."""
    return -(-ram[0][0] // page), ram[-1][1] // page


def grown(total: int, like: Ranges, end: int, *, start: int = 0, hint: str = "") -> Ranges:
    """RAM of `total` bytes as the captured board has it: its banks, the last grown or cut.

    Parameters
    ----------
    total
        Bytes.
    like
        Banks of the captured machine; empty: one from `start` on.
    end
        Physical address that RAM must not pass.
    start
        Where RAM begins on a machine of which nothing is known.
    hint
        What to do where there is no room, before the largest size that has some.

    Raises
    ------
    HmtraceError
        If the banks leave no room for that much.
    """
    banks = like or ((start, start + total),)
    out: list[tuple[int, int]] = []
    left = total
    for number, (first, last) in enumerate(banks):
        size = left if number == len(banks) - 1 else min(left, last - first)
        if size <= 0:
            break
        out.append((first, first + size))
        left -= size
    if out[-1][1] > end:
        most = end - banks[0][0]
        msg = (
            f"{total // MiB} MiB of RAM from {banks[0][0]:#x} on do not end below {end // GiB} GiB"
        )
        words = f"{hint}at most --ram {most // MiB}M"
        raise HmtraceError(msg, hint=words, exit_code=2)
    return tuple(out)


def too_many_slots(machine: Machine, most: int) -> HmtraceError:
    """The error for a fixmap that has no room for the slots of all CPUs."""
    return HmtraceError(
        f"kmap_local slots of {machine.nr_cpus} CPUs do not fit into the fixmap",
        hint=f"NR_CPUS is at most {most} on such a kernel",
        exit_code=2,
    )
