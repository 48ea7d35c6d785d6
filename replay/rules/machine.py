"""Findings about a machine itself: what its RAM costs lowmem, and documented limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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
    yield from _vmalloc_small(machine)


def _mem_map(machine: Machine, layout: Layout) -> Iterator[Finding]:
    """The page array of all RAM lies in lowmem (mm/page_alloc.c: alloc_node_mem_map)."""
    if layout.lowmem_bytes <= 0:
        return
    part = layout.mem_map_bytes / layout.lowmem_bytes
    if part < MEM_MAP_WARNING:
        return
    yield Finding(
        rule="mem-map",
        severity="problem" if part >= MEM_MAP_PROBLEM else "warning",
        message=(
            f"describing RAM takes {100 * part:.1f} % of lowmem: mem_map is "
            f"{layout.mem_map_bytes // MIB} MiB of {layout.lowmem_bytes // MIB} MiB"
        ),
        evidence=(
            f"{machine.page_struct} bytes for each of {layout.max_pfn} frames; "
            "a split with more lowmem, or less RAM, relieves it"
        ),
    )


def _much_ram(machine: Machine, layout: Layout) -> Iterator[Finding]:
    """More RAM than the kernel's documentation recommends."""
    used = layout.lowmem_bytes + layout.highmem_bytes
    if used <= RECOMMENDED or not ARCHES[machine.arch].has_highmem:
        return
    yield Finding(
        rule="ram-recommended",
        severity="warning",
        message=(
            f"{used / GIB:.1f} GiB of RAM: more than 8 GiB are not recommended on a 32-bit machine"
        ),
        evidence=(
            f"Documentation/mm/highmem.rst; for each page of lowmem there are "
            f"{layout.highmem_bytes / max(layout.lowmem_bytes, 1):.0f} of highmem, whose page "
            "tables and inodes must fit into lowmem"
        ),
    )


def _ram_dropped(machine: Machine) -> Iterator[Finding]:
    """RAM that the kernel cannot address: it says so at boot and drops it.

    arch/x86/mm/init_32.c: highmem_pfn_init; HIGHMEM64G went in 6.15.
    """
    arch = ARCHES[machine.arch]
    limit = arch.max_phys_pae if machine.pae else arch.max_phys
    why = f"with {arch.pae_name}" if machine.pae else "without PAE"
    far = GENERATIONS[machine.generation].x86_highmem64g
    if machine.arch == "i386" and machine.pae and not far:
        limit, why = 4 * GIB, "of this series: HIGHMEM64G is gone since 6.15, even with PAE"
    lost = sum(max(0, end - max(start, limit)) for start, end in machine.ram)
    if lost:
        yield Finding(
            rule="ram-dropped",
            severity="problem",
            message=f"{lost / GIB:.1f} GiB of RAM are not used by this kernel",
            evidence=f"a kernel {why} ends at {limit // GIB} GiB",
        )


def _vmalloc_small(machine: Machine) -> Iterator[Finding]:
    """i386: the default reserve of 128 MiB includes the 8 MiB gap, ``vmalloc=`` adds it.

    arch/x86/mm/pgtable_32.c: parse_vmalloc.
    """
    if machine.arch != "i386" or machine.vmalloc is None:
        return
    if 120 * MIB < machine.vmalloc <= 128 * MIB:
        taken = machine.vmalloc - 120 * MIB
        size = f"{taken // MIB} MiB" if taken >= MIB else f"{taken // 1024} KiB"
        yield Finding(
            rule="vmalloc-option",
            severity="info",
            message=(
                f"vmalloc={machine.vmalloc // MIB}M is more than the default: it takes {size} of "
                "lowmem"
            ),
            evidence="the default arena is 120 MiB, not 128: its reserve includes an 8 MiB gap",
        )
