"""Findings about a machine itself: what its RAM costs lowmem, and documented limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.machine.arches import ARCHES
from replay.machine.generations import GENERATIONS
from replay.outcome import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.machine.layout import Layout
    from replay.machine.model import Machine

MIB: Final = 1 << 20
GIB: Final = 1 << 30
RECOMMENDED: Final = 8 * GIB
"""Documentation/mm/highmem.rst: no more than 8 GiB is recommended on a 32-bit machine."""
MEM_MAP_WARNING: Final = 0.10
MEM_MAP_PROBLEM: Final = 0.30


def machine_findings(machine: Machine, layout: Layout) -> Iterator[Finding]:
    """What is worth knowing of a machine whatever runs on it.

    Yields
    ------
    Finding
        In no order of severity.
    """
    yield from _mem_map(machine, layout)
    yield from _much_ram(machine, layout)
    yield from _ram_dropped(machine)
    yield from _ram_unmapped(machine, layout)
    yield from _vmalloc_small(machine)


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


def _mem_map(machine: Machine, layout: Layout) -> Iterator[Finding]:
    """The page array of all RAM lies in lowmem (mm/page_alloc.c: alloc_node_mem_map)."""
    if layout.lowmem_bytes <= 0:
        return
    part = layout.mem_map_bytes / layout.lowmem_bytes
    if part < MEM_MAP_WARNING:
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


def _ram_dropped(machine: Machine) -> Iterator[Finding]:
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


def _vmalloc_small(machine: Machine) -> Iterator[Finding]:
    """i386: the default reserve of 128 MiB includes the 8 MiB gap, ``vmalloc=`` adds it.

    arch/x86/mm/pgtable_32.c: parse_vmalloc.
    """
    if machine.arch != "i386" or machine.vmalloc is None:
        return
    if 120 * MIB < machine.vmalloc <= 128 * MIB:
        found = VmallocOption(machine.vmalloc, machine.vmalloc - 120 * MIB)
        yield Finding("vmalloc-option", "info", found)
