"""What a fact's value may look like: metadata that was tampered with must not reach the model.

The readers of the machine's files make these shapes; here they are checked once more, as a file
in between may hold anything.
"""

from __future__ import annotations

from types import UnionType
from typing import Any, Final

from collectors.facts.model import Area, Probe, Zone
from collectors.facts.pkmap import TREES, is_tree

_PAIR: Final = (int, int)
_NUMBER: Final = int | None

RECORDS: Final[dict[type, tuple[Any, ...]]] = {
    Area: (int, int, str, str, _NUMBER, _NUMBER),
    Zone: (str, int, int, int, int, int, int, [int], [int]),
    Probe: (bool, str, str, str, [str], _NUMBER),
}
"""Shapes of the fields of each record."""

_COUNTS: Final = {int: int}
_NAMED: Final = {str: int}
_NAMES: Final[dict[type, str]] = {
    int: "page_offset nr_cpus page_struct page_size cpus cpus_booted pci_hole lowmem_end_pfn "
    "max_pfn low_ram_end highmem_mib lowmem_mib lowmem_bytes highmem_bytes mem_total "
    "vmalloc_total vmalloc_used vmalloc_start vmalloc_end high_memory freed_late vmalloc "
    "highmem_opt mem_opt reservetop cpus_opt phys_pfn_offset phys_offset lowmem_limit "
    "pkmap_slots mem_map vmap_failures kmap_warnings max_arch_pfn nr_cpu_ids cma_total",
    str: "release arch config_version split cpu_model cpu_family arm_cache board cmdline clock",
    bool: "pae highmem_enabled smp nokaslr seen_atomic seen_kmap_local",
}
SHAPES: Final[dict[str, Any]] = {
    **{name: kind for kind, names in _NAMES.items() for name in names.split()},
    "arm_cpu": (int, int, int, int),
    "ram": [_PAIR],
    "zones": [Zone],
    "zone_ranges": [(str, int, int)],
    "high_pfns": _PAIR,
    "areas": [Area],
    "pool_state": (int, [(int, int, _NUMBER)]),
    "probes": [Probe],
    "seen_pool": _PAIR,
    "seen_local": [_PAIR],
    "seen_ranges": [_PAIR],
    "seen_flushes": [_PAIR],
    "seen_pfns": _PAIR,
    "seen_direct": _PAIR,
    "config": {str: str},
    "layout_block": {str: _PAIR},
    "pool_pages": _COUNTS,
    "kernel_words": _COUNTS,
    "probe_hits": _NAMED,
    "probe_misses": _NAMED,
    "buffer_entries": _COUNTS,
    "overrun": _COUNTS,
    "dropped": _COUNTS,
    "highmem_complaints": [str],
    "cpu_flags": {str},
}
"""Shape of each fact (the table in :mod:`collectors.facts`).

A type: a value of it. A tuple: one value of each shape. A list: a tuple of any number of values.
A dict of one pair: a dict with such keys and values. A set of one: a frozenset.
"""


def fits(value: Any, shape: Any) -> bool:
    """Tell whether a value has a shape of :data:`SHAPES`; a bool is no number."""
    if isinstance(shape, (type, UnionType)):
        if isinstance(value, bool) and shape is not bool:
            return False
        return isinstance(value, shape)
    if isinstance(shape, dict):
        ((of_keys, of_values),) = shape.items()
        return isinstance(value, dict) and all(
            fits(k, of_keys) and fits(v, of_values) for k, v in value.items()
        )
    if isinstance(shape, set):
        (of_parts,) = shape
        return isinstance(value, frozenset) and all(fits(part, of_parts) for part in value)
    if not isinstance(value, tuple):
        return False
    if isinstance(shape, list):
        return all(fits(part, shape[0]) for part in value)
    return len(value) == len(shape) and all(map(fits, value, shape))


def fact_fits(name: str, value: Any) -> bool:
    """Tell whether a fact's value is what the readers of the machine's files make.

    Facts of other names are passed: a later version may know more.
    """
    if name == "arena_state":
        return (
            isinstance(value, dict)
            and value.keys() == {*TREES, "lazy_nr"}
            and fits(value["lazy_nr"], int)
            and value["free"] is not None
            and all(is_tree(value[tree]) for tree in TREES)
        )
    return name not in SHAPES or fits(value, SHAPES[name])
