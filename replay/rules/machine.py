"""Findings about a machine itself: what its RAM costs lowmem, and documented limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.machine.arches import ARCHES
from replay.machine.generations import GENERATIONS
from replay.outcome import Finding
from replay.rules.rule import FindingRule, Limit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.rules.rule import Case

MIB: Final = 1 << 20
GIB: Final = 1 << 30
RECOMMENDED: Final = 8 * GIB
"""Documentation/mm/highmem.rst: no more than 8 GiB is recommended on a 32-bit machine."""
MEM_MAP_WARNING: Final = 10.0
"""Per cent of lowmem."""
MEM_MAP_PROBLEM: Final = 30.0


def machine_findings(machine: Machine, layout: Layout) -> Iterator[Finding]:
    """What is worth knowing of a machine whatever runs on it.

    Yields
    ------
    Finding
        In no order of severity.
    """
    yield from _mem_map(machine, layout, MEM_MAP_WARNING)
    for find in (_much_ram, _ram_dropped, _ram_unmapped, _vmalloc_small):
        yield from find(machine, layout)


class MemMap(NamedTuple):
    """Bytes of the page array and of lowmem, which it is taken from.

    `more`: another split of the architecture has more lowmem.
    """

    mem_map: int
    lowmem: int
    page_struct: int
    frames: int
    more: bool


def _more_lowmem(machine: Machine) -> bool:
    """Whether another split of the architecture has more lowmem."""
    splits = ARCHES[machine.arch].splits
    return min(splits.values()) < splits[machine.split]


def _mem_map(machine: Machine, layout: Layout, least: float) -> Iterator[Finding]:
    """The page array of all RAM lies in lowmem (mm/page_alloc.c: alloc_node_mem_map)."""
    if layout.lowmem_bytes <= 0:
        return
    part = 100 * layout.mem_map_bytes / layout.lowmem_bytes
    if part < least:
        return
    severity = "problem" if part >= MEM_MAP_PROBLEM else "warning"
    found = MemMap(
        layout.mem_map_bytes, layout.lowmem_bytes, machine.page_struct, layout.max_pfn,
        _more_lowmem(machine),
    )  # fmt: skip
    yield Finding("mem-map", severity, found)


class MuchRam(NamedTuple):
    """Bytes of RAM, and pages of highmem for each of lowmem."""

    ram: int
    high_per_low: float


def _much_ram(machine: Machine, layout: Layout) -> Iterator[Finding]:
    """More RAM than the kernel's documentation recommends."""
    used = layout.lowmem_bytes + layout.highmem_bytes
    if used <= RECOMMENDED or not ARCHES[machine.arch].has_highmem:
        return
    found = MuchRam(used, layout.highmem_bytes / max(layout.lowmem_bytes, 1))
    yield Finding("ram-recommended", "warning", found)


class RamDropped(NamedTuple):
    """Bytes of RAM above the kernel's limit; `pae` as the architecture calls it, where it is on.

    `series`: a limit of the series, which has it no more.
    """

    lost: int
    limit: int
    pae: str
    series: bool


def _ram_dropped(machine: Machine, _layout: Layout) -> Iterator[Finding]:
    """RAM that the kernel cannot address: it says so at boot and drops it.

    arch/x86/mm/init_32.c: highmem_pfn_init; HIGHMEM64G went in 6.15.
    """
    arch = ARCHES[machine.arch]
    limit = arch.max_phys_pae if machine.pae else arch.max_phys
    far = GENERATIONS[machine.generation].x86_highmem64g
    series = machine.arch == "i386" and machine.pae and not far
    if series:
        limit = 4 * GIB
    lost = sum(max(0, end - max(start, limit)) for start, end in machine.ram)
    if lost:
        found = RamDropped(lost, limit, arch.pae_name if machine.pae else "", series)
        yield Finding("ram-dropped", "problem", found)


class RamUnmapped(NamedTuple):
    """Bytes of RAM that lowmem does not hold, and of lowmem; `more` as of :class:`MemMap`."""

    lost: int
    lowmem: int
    more: bool


def _ram_unmapped(machine: Machine, layout: Layout) -> Iterator[Finding]:
    """Without HIGHMEM the kernel uses what lowmem holds, and leaves the rest of RAM alone."""
    if machine.highmem_enabled or not ARCHES[machine.arch].has_highmem or machine.mem is not None:
        return
    lost = machine.ram_bytes - layout.lowmem_bytes
    if lost >= MIB:
        found = RamUnmapped(lost, layout.lowmem_bytes, _more_lowmem(machine))
        yield Finding("ram-unmapped", "problem", found)


class VmallocOption(NamedTuple):
    """Bytes of ``vmalloc=``, and what it takes of lowmem beyond the default."""

    vmalloc: int
    taken: int


def _vmalloc_small(machine: Machine, _layout: Layout) -> Iterator[Finding]:
    """i386: the default reserve of 128 MiB includes the 8 MiB gap, ``vmalloc=`` adds it.

    arch/x86/mm/pgtable_32.c: parse_vmalloc.
    """
    if machine.arch != "i386" or machine.vmalloc is None:
        return
    if 120 * MIB < machine.vmalloc <= 128 * MIB:
        found = VmallocOption(machine.vmalloc, machine.vmalloc - 120 * MIB)
        yield Finding("vmalloc-option", "info", found)


def _of_case(
    find: Callable[[Machine, Layout], Iterator[Finding]],
) -> Callable[[Case], Iterator[Finding]]:
    """A rule about a machine, of an outcome on it."""
    return lambda case: find(case.outcome.machine, case.outcome.layout)


def _knows_ram(case: Case) -> bool:
    """Whether the machine's RAM is no guess: a file or the user tells how much there is."""
    return case.is_ram_told or case.outcome.machine.ram != case.captured.machine.ram


def _of_ram(
    find: Callable[[Machine, Layout], Iterator[Finding]],
) -> Callable[[Case], Iterator[Finding]]:
    """A rule about a machine's RAM."""
    of_case = _of_case(find)
    return lambda case: of_case(case) if _knows_ram(case) else iter(())


def _mem_map_of(case: Case) -> Iterator[Finding]:
    if _knows_ram(case):
        yield from _mem_map(case.outcome.machine, case.outcome.layout, MEM_MAP.limit_in(case))


MEM_MAP: Final = FindingRule(
    "mem-map", ("problem", "warning"),
    "The array that describes all RAM lies in lowmem, and takes much of it.",
    "a split with more lowmem, or less RAM (mem=)",
    _mem_map_of, (), Limit(MEM_MAP_WARNING, "% of lowmem"),
)  # fmt: skip
MUCH_RAM: Final = FindingRule(
    "ram-recommended", ("warning",),
    "There is more RAM than the kernel's documentation recommends for 32 bit.",
    "a 64-bit kernel, or less RAM",
    _of_ram(_much_ram),
)  # fmt: skip
DROPPED: Final = FindingRule(
    "ram-dropped", ("problem",),
    "RAM lies above what this kernel can address: it leaves it alone.",
    "PAE where the kernel has it, or a 64-bit kernel",
    _of_ram(_ram_dropped),
)  # fmt: skip
UNMAPPED: Final = FindingRule(
    "ram-unmapped", ("problem",),
    "The kernel is built without HIGHMEM and leaves alone what lowmem does not hold.",
    "a split with more lowmem (hmtrace advise), or HIGHMEM",
    _of_ram(_ram_unmapped),
)  # fmt: skip
OPTION: Final = FindingRule(
    "vmalloc-option", ("info",),
    "vmalloc= asks for more than the default arena, which is 120 MiB and not 128.",
    "leave the option out where 120 MiB are enough",
    _of_case(_vmalloc_small),
)  # fmt: skip
RULES: Final = (MEM_MAP, MUCH_RAM, DROPPED, UNMAPPED, OPTION)
