"""Page tables in highmem (CONFIG_HIGHPTE): which local mappings are theirs.

A kernel with HIGHPTE takes user page tables from highmem (arch/x86/mm/pgtable.c: PGTABLE_HIGHMEM,
arch/arm/include/asm/pgalloc.h: PGTOP of pte_alloc_one) and maps one to look into it:
pte_offset_map(). Without it they are lowmem, and pte_offset_map() maps nothing (asm/pgtable_32.h of
x86, asm/pgtable.h of ARM; since 6.5 linux/pgtable.h: __pte_map).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from replay.machine.options import has_highpte

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from collectors.snapshot import Snapshot
    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.whatif.workload import Workload

MAPPER: Final = "__pte_offset_map"
"""What does nothing but map a page table: since 6.5 (0d940a9b270b "mm/pgtable: allow
pte_offset_map[_lock]() to fail"); 5 515 calls in a capture of 6.5, where 6.1 has the walkers."""
WALKERS: Final = frozenset(
    {
        "handle_mm_fault", "__handle_mm_fault", "handle_pte_fault", "do_anonymous_page",
        "do_swap_page", "do_wp_page", "wp_page_copy", "do_fault", "do_fault_around", "finish_fault",
        "alloc_set_pte", "filemap_map_pages", "unmap_page_range", "zap_pte_range",
        "copy_page_range", "copy_pte_range", "change_protection", "change_pte_range",
        "move_page_tables", "move_ptes", "follow_page_pte", "follow_page_mask", "follow_pte",
        "__follow_pte_pmd", "gup_pgd_range", "gup_pte_range", "__get_locked_pte", "insert_page",
        "insert_pfn", "remap_pfn_range", "remap_pfn_range_notrack", "remap_pte_range",
        "apply_to_page_range", "apply_to_pte_range", "page_vma_mapped_walk", "walk_pte_range",
        "walk_page_range", "walk_pgd_range", "mincore_pte_range",
        "madvise_cold_or_pageout_pte_range", "madvise_free_pte_range",
        "swapin_walk_pmd_entry", "unuse_pte_range", "mlock_pte_range",
        "migration_entry_wait", "remove_migration_pte", "smaps_pte_range", "pagemap_pmd_range",
        "clear_refs_pte_range", "gather_pte_stats", "queue_pages_pte_range", "try_to_unmap_one",
        "mfill_atomic_install_pte", "adjust_pte", "set_pte_vaddr",
    }
)  # fmt: skip
"""Functions of mm/ and fs/proc/task_mmu.c up to 6.4 that call pte_offset_map() or
pte_offset_map_lock(), inline there, or have such static functions inlined. What they map besides is
mapped by functions of its own (copy_user_highpage(), clear_user_highpage(), zero_user_segments()),
as captures of 5.10 and 6.1, i386 and ARM, show; another compiler may inline those, too."""
_FUNCTION: Final = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")


class PageTables(NamedTuple):
    """The page tables that a trace saw mapped.

    Attributes
    ----------
    keys : ndarray of bool, shape (keys,)
        Call sites that map them, by key of :mod:`replay.sites.loops`.
    calls
        Their local mappings.
    pages
        Different pages that they mapped.
    is_certain
        Whether they map nothing else.
    names
        Their functions, most calls first.
    """

    keys: NDArray[np.bool_]
    calls: int
    pages: int
    is_certain: bool
    names: tuple[str, ...]


def page_tables_of(workload: Workload) -> PageTables:
    """Find the local mappings of page tables in a workload."""
    from replay.sites.loops import APIS

    api = APIS.index("kmap_local")
    functions = [_function(name) for name in workload.site_names]
    is_certain = MAPPER in functions
    wanted = {MAPPER} if is_certain else WALKERS
    keys = np.zeros(len(functions) * len(APIS), np.bool_)
    keys[api :: len(APIS)] = [function in wanted for function in functions]
    of_member = keys[workload.column("members", "key")]
    seen, calls = np.zeros(workload.column("pages", "key").size, np.bool_), 0
    by_function: dict[str, int] = {}
    number = workload.column("members", "key") // len(APIS)
    for stretch in workload.stretches():
        member = stretch.calls.get_column("member").to_numpy()
        page = stretch.calls.get_column("page").to_numpy()
        mask = (member >= 0) & (page >= 0) & of_member[member]
        calls += int(mask.sum())
        seen[page[mask]] = True
        site, times = np.unique(number[member[mask]], return_counts=True)
        for of, more in zip(site.tolist(), times.tolist(), strict=True):
            by_function[functions[of]] = by_function.get(functions[of], 0) + more
    names = tuple(sorted(by_function, key=lambda name: -by_function[name]))
    return PageTables(keys, calls, int(seen.sum()), is_certain, names)


def _function(site: str) -> str:
    """Name of the function of a call site, without what GCC adds."""
    found = _FUNCTION.match(site)
    return found[0] if found else ""


def page_table_caveats(
    tables: PageTables | None,
    machines: tuple[Machine, Machine],
    layout: Layout,
    values: Snapshot,
) -> list[str]:
    """What another place of the page tables means.

    Parameters
    ----------
    tables
        Those that come into lowmem there; None: none do.
    machines
        The captured one and the other.
    layout
        Of the other machine.
    values
        Facts of the captured machine.
    """
    here, there = map(has_highpte, machines)
    if tables is None:
        if here or not there or not layout.highmem_bytes:
            return []
        return [
            "with HIGHPTE user page tables come from highmem, and every look into one is a local "
            "mapping: this trace has none of them, so local mappings, their flushes and costs are "
            "lower bounds"
        ]
    if not tables.calls:
        return ["page tables are lowmem there; the trace shows no local mapping of one"]
    size = tables.pages * layout.page_size >> 10
    uses = values.memory_uses.get("PageTables")
    told = "" if uses is None else f"; all page tables had {uses >> 10} KiB when it began (meminfo)"
    words = (
        f"page tables are lowmem there: the trace saw {tables.pages} pages of highmem used for "
        f"them, {size} KiB if all at once{told}; {tables.calls} local mappings of them go away"
    )
    if not tables.is_certain:
        names = ", ".join(f"{name}()" for name in tables.names[:3])
        words += (
            f", those made in functions that walk page tables ({names}"
            f"{', …' if len(tables.names) > 3 else ''}): a few may be of other pages"
        )
    return [words]
