"""How large a kernel's pool, its page structures and its local slots are, by its ELF file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from collectors.dwarf.debug import DebugFile, Types
    from collectors.dwarf.elf import ElfFile

_INT: Final = 4
"""pkmap_count is an array of int (mm/highmem.c)."""
_OF_HIGHMEM: Final = ("kmap_high", "kmap_flush_unused", "__kmap_local_pfn_prot", "vmap", "vfree")
"""Functions of mm/highmem.c and mm/vmalloc.c, whose units know struct page and task_struct."""
_OF_FIXMAP: Final = ("native_set_fixmap", "__native_set_fixmap", "__set_fixmap", "kmap_init")
"""Functions whose units know enum fixed_addresses: of x86, ARM, PowerPC."""
_MOST_SLOTS: Final = 1 << 20
_MOST_PLACES: Final = 64
"""Places where a name may stand."""


class KernelSizes(NamedTuple):
    """What a kernel was built with; None: not told.

    Attributes
    ----------
    pool_slots
        LAST_PKMAP; 0: without a pool.
    page_struct
        sizeof(struct page), bytes.
    local_slots
        KM_MAX_IDX, or KM_TYPE_NR: slots of local mappings of one CPU (task).
    fixmap_slots
        The same of all CPUs that the fixmap has room for.
    """

    pool_slots: int | None = None
    page_struct: int | None = None
    local_slots: int | None = None
    fixmap_slots: int | None = None


def sizes_of(file: DebugFile) -> KernelSizes:
    """What a vmlinux says of sizes.

    The pool's from the size of `pkmap_count`; struct page's from its type; local slots from the
    array ``kmap_ctrl.pteval`` of a task (since 5.11), or from ``enum km_type``; those of all CPUs
    from ``enum fixed_addresses``.

    Raises
    ------
    HmtraceError
        If the file is damaged.
    """
    functions = _addresses(file.file, {*_OF_HIGHMEM, *_OF_FIXMAP})
    found = KernelSizes(pool_slots=_pool_slots(file.file))
    for name in _OF_HIGHMEM:
        if name not in functions or None not in (found.page_struct, found.local_slots):
            continue
        types = file.types(functions[name])
        page, local = _structure(types, "page"), _local_slots(types)
        found = found._replace(
            page_struct=found.page_struct or page, local_slots=found.local_slots or local
        )
    for name in _OF_FIXMAP:
        if name in functions and found.fixmap_slots is None:
            found = found._replace(fixmap_slots=_fixmap_slots(file.types(functions[name])))
    return found


def _pool_slots(elf: ElfFile) -> int | None:
    """LAST_PKMAP by the size of pkmap_count; 0 where the file has other symbols, but not that."""
    rows = elf.symbols()
    sizes = rows["size"][_named(elf, "pkmap_count")]
    if sizes.size:
        slots = int(sizes.max()) // _INT
        return slots if 0 < slots <= _MOST_SLOTS else None
    return 0 if rows.size and elf.names() else None


def _addresses(elf: ElfFile, names: Iterable[str]) -> dict[str, int]:
    """Address of each symbol, where it is but once."""
    rows = elf.symbols()
    found = {}
    for name in names:
        values = np.unique(rows["value"][_named(elf, name)])
        if values.size == 1:
            found[name] = int(values[0])
    return found


def _named(elf: ElfFile, name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Rows of the table of symbols that have a name."""
    # a name may be the end of a longer one, which linkers make use of
    names, sought = elf.names(), name.encode() + b"\0"
    places: list[int] = []
    at = names.find(sought)
    while at >= 0 and len(places) < _MOST_PLACES:
        places.append(at)
        at = names.find(sought, at + 1)
    return np.flatnonzero(np.isin(elf.symbols()["name"], places))


def _structure(types: Types, name: str) -> int | None:
    """Bytes of a structure; the largest, as one that is only declared has none."""
    from collectors.dwarf.layout import TAG_STRUCTURE
    from collectors.dwarf.loops.entries import BYTE_SIZE, TAG

    sizes = [
        int(types.rows[row, BYTE_SIZE])
        for row in _rows_of(types, name)
        if types.rows[row, TAG] == TAG_STRUCTURE
    ]
    return max((size for size in sizes if size > 0), default=None)


def _rows_of(types: Types, name: str) -> list[int]:
    return [row for row, own in enumerate(types.names) if own == name]


def _local_slots(types: Types) -> int | None:
    """Elements of kmap_ctrl.pteval, or KM_TYPE_NR."""
    from collectors.dwarf.loops.entries import COUNT, OF_TYPE, OFFSET, PARENT, UPPER

    owners = set(_rows_of(types, "kmap_ctrl"))
    for member in _rows_of(types, "pteval"):
        if int(types.rows[member, PARENT]) not in owners:
            continue
        arrays = np.flatnonzero(types.rows[:, OFFSET] == types.rows[member, OF_TYPE])
        bounds = np.flatnonzero(np.isin(types.rows[:, PARENT], arrays))
        if bounds.size == 1:
            upper, count = (int(types.rows[bounds[0], column]) for column in (UPPER, COUNT))
            return _slots(count if count >= 0 else upper + 1)
    return _slots(_enumerator(types, "km_type", "KM_TYPE_NR"))


def _fixmap_slots(types: Types) -> int | None:
    first, last = (
        _enumerator(types, "fixed_addresses", name) for name in ("FIX_KMAP_BEGIN", "FIX_KMAP_END")
    )
    return None if first is None or last is None else _slots(last - first + 1)


def _enumerator(types: Types, enumeration: str, name: str) -> int | None:
    """Value of a constant of an enumeration."""
    from collectors.dwarf.loops.entries import CONST, PARENT

    owners = set(_rows_of(types, enumeration))
    for row in _rows_of(types, name):
        if int(types.rows[row, PARENT]) in owners:
            return int(types.rows[row, CONST])
    return None


def _slots(number: int | None) -> int | None:
    return number if number is not None and 0 < number <= _MOST_SLOTS else None
