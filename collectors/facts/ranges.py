"""What a machine can say about itself: no number, list or word beyond these is believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collectors.snapshot import FactName

_MOST_CPUS: Final = 8192
"""CONFIG_NR_CPUS of x86-64 with MAXSMP; 32-bit kernels have at most 64."""
_ADDRESS: Final = (0, (1 << 64) - 1)
_PFN: Final = (0, 1 << 52)
_BYTES: Final = (0, 1 << 56)
_CPUS: Final = (1, _MOST_CPUS)
_LINES: Final = (0, 1 << 20)

RANGES: Final[dict[FactName, tuple[int, int]]] = {
    "page_size": (1 << 10, 1 << 20),
    "lowmem_limit": (1, 1 << 32),
    "phys_offset": _ADDRESS,
    "page_offset": _ADDRESS,
    "nr_cpus": _CPUS,
    "nr_cpu_ids": _CPUS,
    "page_struct": (16, 256),
    "cpus": _CPUS,
    "cpus_booted": _CPUS,
    "tlb_entries": (1, 1 << 16),
    "ram_bytes": _BYTES,
    "pci_hole": _ADDRESS,
    "lowmem_end_pfn": _PFN,
    "max_pfn": _PFN,
    "max_arch_pfn": _PFN,
    "low_ram_end": _ADDRESS,
    "highmem_mib": (0, 1 << 24),
    "lowmem_mib": (0, 1 << 24),
    "lowmem_bytes": _BYTES,
    "highmem_bytes": _BYTES,
    "mem_total": _BYTES,
    "cma_total": _BYTES,
    "vmalloc_total": _BYTES,
    "vmalloc_used": _BYTES,
    "vmalloc_start": _ADDRESS,
    "vmalloc_end": _ADDRESS,
    "high_memory": _ADDRESS,
    "freed_late": _BYTES,
    "vmalloc": _BYTES,
    "highmem_opt": _BYTES,
    "mem_opt": _ADDRESS,
    "reservetop": _ADDRESS,
    "cpus_opt": (0, _MOST_CPUS),
    "phys_pfn_offset": _PFN,
    "pkmap_slots": (1, 1 << 16),
    "mem_map": _ADDRESS,
    "vmap_failures": _LINES,
    "kmap_warnings": _LINES,
}
"""Least and greatest value of the facts that are one number."""

ENTRIES: Final[dict[FactName, int]] = {
    "ram": 1024,
    "zones": 64,
    "zone_ranges": 64,
    "layout_block": 64,
    "highmem_complaints": 64,
    "config": 1024,
    "cpu_flags": 1024,
    "probes": 1 << 14,
    "processes": 16,
    "memory_uses": 32,
    "vmstat_start": 64,
    "vmstat_end": 64,
    "buddies": 64,
    "zone_uses": 64,
    "zones_end": 64,
    "zone_uses_end": 64,
    "ooms_before": 64,
    "ooms": 64,
    "pool_state": 2,
    "recording": 7,
    "buffer_entries": _MOST_CPUS,
    "overrun": _MOST_CPUS,
    "dropped": _MOST_CPUS,
}
"""Entries of lists at most; a kernel has room for 128 regions of memory (memblock.h), some
architectures for more."""

MOST_ENTRIES: Final = 1 << 18
"""Of other lists: areas, words of the kernel, slots."""
MOST_CHARACTERS: Final = 1 << 13
"""Of a word or line. A command line has 256 to 4096 (COMMAND_LINE_SIZE)."""
_DEEPEST: Final = 4
"""Levels that are looked at; the arena's trees are checked where they are read."""


def beyond(name: FactName, value: Any) -> str:
    """Say what is wrong with a fact; empty where it may be one.

    Examples
    --------
    >>> beyond("cpus", 4), beyond("cpus", 0)
    ('', '0 is not between 1 and 8192')
    >>> beyond("cpus", 10**5000)
    'a number of 16610 bits is not between 1 and 8192'
    """
    low, high = RANGES.get(name, (-(1 << 63), (1 << 64) - 1))
    if isinstance(value, int) and not low <= value <= high:
        return f"{_shown(value)} is not between {low} and {high}"
    most = ENTRIES.get(name, MOST_ENTRIES)
    if isinstance(value, (tuple, frozenset, Mapping)) and len(value) > most:
        return f"{len(value)} entries are more than {most}"
    return _inside(value, 0)


def _inside(value: Any, depth: int) -> str:
    """The same of all that a value holds."""
    if isinstance(value, str):
        return f"{len(value)} characters" if len(value) > MOST_CHARACTERS else ""
    if isinstance(value, int):
        return "" if -(1 << 63) <= value < 1 << 64 else _shown(value)
    if depth == _DEEPEST or not isinstance(value, (tuple, frozenset, Mapping)):
        return ""
    if len(value) > MOST_ENTRIES:
        return f"{len(value)} entries"
    held = value.items() if isinstance(value, Mapping) else value
    return next(filter(None, (_inside(item, depth + 1) for item in held)), "")


def _shown(value: int) -> str:
    """A number, which Python does not print where it is very long."""
    bits = value.bit_length()
    return str(value) if bits <= 128 else f"a number of {bits} bits"
