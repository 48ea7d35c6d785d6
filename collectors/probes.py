"""What is probed: the functions of mm/ that hmtrace understands, and their arguments.

An event is recognised by the function that it probes, never by the name that somebody gave the
probe; its arguments by name, with the aliases below. One entry here is one kernel function over
all its generations. Adding a function is adding a line.

Names and arguments: mm/highmem.c, mm/vmalloc.c, arch/x86/mm/tlb.c and arch/arm/kernel/smp_tlb.c
of Linux 5.10, 6.1, 6.5 and 6.12; mm/vmalloc.c symbols carry suffixes such as ``.constprop.0``
that the compiler adds (see :func:`base_name`).
"""

from __future__ import annotations

import re
from typing import Final

from collectors.records import dataclass

SLOTS: Final = 4
"""Number of argument values that a raw event carries."""


@dataclass(frozen=True)
class Function:
    """One probed kernel function.

    Parameters
    ----------
    names
        Its symbols over the generations, without compiler suffixes; the first is shown to users.
    op
        Value of column ``op`` that its calls become; None: counted, but not in the table.
    entry
        Meaning of the raw event's values at entry, at most :data:`SLOTS` (column-like names).
    result
        Meaning of the values at return; the first is what the function returns.
    params
        Position of each entry value among the C parameters, 1 for the first (``$argN``).
    host
        For a tracepoint: the function that it is in. Its events are taken for returns, as they
        come at the end of the call; where the function itself is probed, the call's row takes
        from them what the probes do not show. A fifth value is in the raw event's `caller`, a
        sixth is none: not 0, it sets :data:`collectors.raw.FAULT`.
    encloses
        An allocation of address space is made for its calls, and what they return tells of it.
    entry_reads
        How a probe reads the entry values that are no parameter (position 0), in their order: an
        expression of kprobe_events with ``{N}`` for parameter N. `caller` is not among them.
    result_reads
        How a return probe reads the result's values after the first; ``{0}`` is what is returned.
    """

    names: tuple[str, ...]
    op: str | None
    entry: tuple[str, ...] = ()
    result: tuple[str, ...] = ()
    params: tuple[int, ...] = ()
    host: str = ""
    encloses: bool = False
    entry_reads: tuple[str, ...] = ()
    result_reads: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Symbol shown to users."""
        return self.names[0]

    def fetch(self, slot: int, *, is_return: bool) -> str:
        """How a probe of this function reads a value: an expression of kprobe_events.

        Parameters
        ----------
        slot
            Position of the value in `entry`, for a return probe in `result`.
        is_return
            True for a return probe.

        Returns
        -------
        str
            ``{N}`` stands for parameter N, ``{0}`` for what is returned; "" for the caller,
            which is no parameter.

        Examples
        --------
        >>> freed = FUNCTIONS[FUNCTION_OF["free_vmap_area_noflush"]]
        >>> [freed.fetch(slot, is_return=False) for slot in range(3)]
        ['{1}', '+0({1})', '+4({1})']
        """
        if is_return:
            return ("{0}", *self.result_reads)[slot]
        places = (*self.params, *(0,) * (len(self.entry) - len(self.params)))
        if places[slot]:
            return f"{{{places[slot]}}}"
        if self.entry[slot] == "caller":
            return ""
        through = [s for s, place in enumerate(places) if not place and self.entry[s] != "caller"]
        return self.entry_reads[through.index(slot)]


FUNCTIONS: Final = (
    Function(("kmap_high",), "kmap", ("page",), ("vaddr",), (1,)),
    Function(("kunmap_high",), "kunmap", ("page",), (), (1,)),
    Function(("kmap_high_get",), "kmap_get", ("page",), ("vaddr",), (1,)),
    Function(("__kmap_local_page_prot",), "kmap_local", ("page",), ("vaddr",), (1,)),
    Function(("__kmap_local_pfn_prot",), "kmap_local", ("pfn",), ("vaddr",), (1,)),
    # kmap_atomic of 5.8 to 5.10, and before (commit 20b271dfe9f0 made the first out of the second)
    Function(
        ("kmap_atomic_high_prot", "kmap_atomic_prot", "kmap_atomic"),
        "kmap_local",
        ("page",),
        ("vaddr",),
        (1,),
    ),
    Function(("kmap_atomic_prot_pfn", "kmap_atomic_pfn"), "kmap_local", ("pfn",), ("vaddr",), (1,)),
    Function(("kunmap_local_indexed",), "kunmap_local", ("vaddr",), (), (1,)),
    Function(("kunmap_atomic_high", "__kunmap_atomic"), "kunmap_local", ("vaddr",), (), (1,)),
    Function(("__kmap_local_sched_out",), "sched_out"),
    Function(("__kmap_local_sched_in",), "sched_in"),
    Function(("flush_all_zero_pkmaps",), "pool_flush", ("caller",)),
    Function(("__kmap_flush_unused", "kmap_flush_unused"), "flush_unused"),
    # The second names are those of kernels for one CPU (arch/mips/include/asm/tlbflush.h); with
    # several they are what each CPU does for the first, and not to be probed.
    Function(
        ("flush_tlb_kernel_range", "local_flush_tlb_kernel_range"),
        "flush_range",
        ("start", "end", "caller"),
        (),
        (1, 2, 0),
    ),
    Function(("flush_tlb_all", "local_flush_tlb_all"), "flush_all", ("caller",)),
    Function(("vmap",), "vmap", ("array", "count", "flags"), ("vaddr",), (1, 2, 3), encloses=True),
    Function(("vunmap",), "vunmap", ("vaddr",), (), (1,)),
    Function(
        ("vm_map_ram",),
        "vm_map_ram",
        ("array", "count", "node"),
        ("vaddr",),
        (1, 2, 3),
        encloses=True,
    ),
    Function(("vm_unmap_ram",), "vm_unmap_ram", ("vaddr", "pages"), (), (1, 2)),
    Function(
        ("__vmalloc_node_range", "__vmalloc_node_range_noprof"),
        "vmalloc",
        ("size", "align", "start", "end"),
        ("vaddr",),
        (1, 2, 3, 4),
        encloses=True,
    ),
    Function(("vfree",), "vfree", ("vaddr",), (), (1,)),
    Function(
        ("alloc_vmap_area",),
        "area_alloc",
        ("size", "align", "start", "end"),
        ("va", "va_start", "va_end"),
        (1, 2, 3, 4),
        result_reads=("+0({0})", "+4({0})"),  # struct vmap_area begins with both
    ),
    Function(
        ("free_vmap_area_noflush",),
        "area_free",
        ("va", "va_start", "va_end"),
        (),
        (1, 0, 0),
        entry_reads=("+0({1})", "+4({1})"),
    ),
    Function(("__purge_vmap_area_lazy",), "area_purge", ("start", "end"), ("purged",), (1, 2)),
    # Of its four arguments the first two are arrays: `size` is sizes[0], read through the pointer.
    # The result is an array of vm_struct; `va_start` is their first one's address.
    Function(
        ("pcpu_get_vm_areas",),
        "percpu_alloc",
        ("count", "align", "size"),
        ("va", "va_start", "size"),
        (3, 4, 0),
        entry_reads=("+0({2})",),
        result_reads=("+4(+0({0}))", "+8(+0({0}))"),  # struct vm_struct: next, addr, size
    ),
    # No operations of the table: counted, and followed for what they return.
    Function(("__get_vm_area_node",), None, ("size",), ("area",), (1,), encloses=True),
    Function(("module_alloc", "execmem_alloc"), None, (), ("vaddr",), encloses=True),
    Function(("vmalloc", "vmalloc_noprof"), None, ("size",), ("vaddr",), (1,), encloses=True),
    Function(("vzalloc", "vzalloc_noprof"), None, ("size",), ("vaddr",), (1,), encloses=True),
    Function(("__vmalloc", "__vmalloc_noprof"), None, ("size",), ("vaddr",), (1,), encloses=True),
    Function(("__vmalloc_node", "__vmalloc_node_noprof"), None, (), ("vaddr",), encloses=True),
    # Counted only.
    Function(("set_page_address",), None, ("page", "vaddr"), (), (1, 2)),
    Function(("free_vmap_block",), None, ("vb", "va_start"), (), (1, 0)),
    Function(("remove_vm_area",), None, ("vaddr",), (), (1,)),
    Function(("iounmap",), None, ("vaddr",), (), (1,)),
    Function(("vm_unmap_aliases",), None),
    Function(("_vm_unmap_aliases",), None, ("start", "end", "flush"), (), (1, 2, 3)),
    Function(("purge_fragmented_blocks_allcpus", "purge_fragmented_blocks"), None),
    Function(("purge_vmap_area_lazy", "reclaim_and_purge_vmap_areas"), None),
    Function(("drain_vmap_area_work",), None),
    Function(("flush_tlb_one_kernel", "local_flush_tlb_one"), None, ("vaddr",), (), (1,)),
    Function(("do_flush_tlb_all",), None),
    Function(("do_kernel_range_flush",), None, ("start", "end"), (), (0, 0)),
    # Tracepoints (include/trace/events/vmalloc.h since Linux 6.2; include/trace/events/tlb.h).
    Function(
        ("alloc_vmap_area (tracepoint)",),
        "area_alloc",
        result=("size", "align", "start", "end", "va_start", "failed"),
        host="alloc_vmap_area",
    ),
    Function(
        ("free_vmap_area_noflush (tracepoint)",),
        "area_free",
        result=("va_start", "nr_lazy", "nr_lazy_max"),
        host="free_vmap_area_noflush",
    ),
    Function(
        ("purge_vmap_area_lazy (tracepoint)",),
        "area_purge",
        result=("start", "end", "num_purged"),
        host="__purge_vmap_area_lazy",
    ),
    Function(("tlb_flush",), "tlb_flush", ("reason", "pages")),
)
"""Every function that hmtrace understands; the index of one is its `function` code."""

_TLB_FLUSH: Final = "tlb_flush"
FUNCTION_OF: Final = {
    name: code
    for code, f in enumerate(FUNCTIONS)
    for name in f.names
    if not f.host and f.op != _TLB_FLUSH
}
"""Index in :data:`FUNCTIONS` of every function's symbol."""

TRACEPOINTS: Final = {
    f.name.removesuffix(" (tracepoint)"): 2 * code + bool(f.result)
    for code, f in enumerate(FUNCTIONS)
    if f.host or f.op == _TLB_FLUSH
}
"""Tracepoints that become operations, by the event's name: kind of their raw events."""

# kind = 2 * function + (0 entry, 1 return); beyond the functions:
KIND_SWITCH: Final = 2 * len(FUNCTIONS)
"""sched:sched_switch with values prev_pid, blocked (prev_state holds D), next_pid."""
KIND_LOST: Final = KIND_SWITCH + 1
"""Marker: events of `cpu` were lost before this point; value 0 is their number if known."""
KIND_STARTED: Final = KIND_SWITCH + 2
"""Marker: `cpu` has no history before this point (``##### CPU n buffer started ####``)."""
KIND_MARK: Final = KIND_SWITCH + 3
"""Text that user space wrote into the trace (``trace_marker``); see ``RawEvents.marks``."""
KIND_STACK: Final = KIND_SWITCH + 4
"""Stack trace; value 0 is its number in ``RawEvents.stacks``."""
# Of the function_graph tracer, before collectors.traceevent.calls has put them in order. Value 0
# is the kind of the function's entry (KIND_OTHER: not known to hmtrace, or not told), 1 its depth,
# 2 the duration in ns, 3 what it returned; `caller` is the number of its own name among the sites.
KIND_OPEN: Final = KIND_SWITCH + 5
"""A call that others may be inside of."""
KIND_LEAF: Final = KIND_SWITCH + 6
"""A call that is over."""
KIND_CLOSE: Final = KIND_SWITCH + 7
"""The end of the call that its CPU opened last at this depth, or of the one named."""
KIND_TASK: Final = KIND_SWITCH + 8
"""`pid` runs on `cpu` from here on."""
KIND_OTHER: Final = 0xFFFF
"""Any other event: counted by name, not kept."""

ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "page": ("page", "pg", "struct_page"),
    "pfn": ("pfn", "frame"),
    "vaddr": ("vaddr", "addr", "address", "kvaddr", "virt", "ptr"),
    "array": ("pages", "array", "pagep"),
    # vmap() and vm_map_ram() have both: `pages` is the array there, as in mm/vmalloc.c
    "count": ("count", "nr_pages", "npages", "nr"),
    "pages": ("count", "nr_pages", "npages", "nr", "pages"),
    "size": ("size", "sz", "len", "length"),
    "align": ("align", "alignment"),
    "start": ("start", "vstart", "from"),
    "end": ("end", "vend", "to"),
    "va": ("va", "area", "vms"),
    "va_start": ("va_start", "start", "addr", "vaddr"),
    "va_end": ("va_end", "end"),
    "caller": ("caller", "ip", "ret_ip", "lr"),
    "purged": ("purged", "ret"),
    "num_purged": ("num_purged", "npurged"),
    "nr_lazy_max": ("nr_lazy_max", "vmap_lazy_max"),
}
"""Spellings of an argument that people give in probe definitions."""

RESULT_ALIASES: Final = ("retval", "ret", "$retval", "result", "rc", "arg1")
"""Spellings of a return probe's ``$retval``: value 0 of the result."""

# Names that people (and hmtrace's recorder) give to probes of functions with other names.
NICKNAMES: Final = {
    "kmap_local_page": "__kmap_local_page_prot",
    "kmap_local_pfn": "__kmap_local_pfn_prot",
    "kunmap_local": "kunmap_local_indexed",
    "kmap_local_sched_out": "__kmap_local_sched_out",
    "kmap_local_sched_in": "__kmap_local_sched_in",
    "kunmap_atomic": "kunmap_atomic_high",
    "purge_vmap_area_lazy": "__purge_vmap_area_lazy",
    "vmalloc": "__vmalloc_node_range",
    "vm_unmap_aliases_part": "_vm_unmap_aliases",
    "purge_fragmented_blocks": "purge_fragmented_blocks_allcpus",
}
_NO_OFFSET: Final = re.compile(r"(?:0x)?0{1,16}(?:/.{0,40})?")
_POSITION: Final = re.compile(r"arg[0-9]{1,3}")
_RETURN_SUFFIX: Final = re.compile(r"(_ret|_return|_exit|__return|_r)$")
_SUFFIX: Final = re.compile(r"\.(isra|constprop|part|cold|llvm)\b.*$")


def base_name(symbol: str) -> str:
    """Symbol without the suffixes that compilers add.

    Examples
    --------
    >>> base_name("alloc_vmap_area.constprop.0")
    'alloc_vmap_area'
    """
    return _SUFFIX.sub("", symbol)


def function_of(symbol: str) -> int | None:
    """Index in :data:`FUNCTIONS` of a symbol, with or without offset and suffix.

    Examples
    --------
    >>> FUNCTIONS[function_of("kmap_high+0x0/0x120")].op
    'kmap'
    >>> function_of("kmap_high+0x65/0x120") is None  # a probe inside the function
    True
    >>> function_of("kmap_high+zz")  # nor is this its beginning
    """
    name, _, rest = symbol.partition("+")
    if rest and not _NO_OFFSET.fullmatch(rest):
        return None
    return FUNCTION_OF.get(base_name(name))


def slot_of(function: int, argument: str, *, is_return: bool) -> int | None:
    """Slot of a raw event's value that an argument name stands for.

    Parameters
    ----------
    function
        Index in :data:`FUNCTIONS`.
    argument
        Name as the trace has it: ``page``, ``vaddr``, ``arg1``, ``$retval``.
    is_return
        True for a return probe.

    Returns
    -------
    int or None
        0 to 3, more for a tracepoint's fifth and sixth (:class:`Function`); None for an argument
        that hmtrace has no use for.
    """
    f = FUNCTIONS[function]
    wanted = f.result if is_return else f.entry
    for slot, name in enumerate(wanted):
        if argument == name:
            return slot
    for slot, name in enumerate(wanted):
        if argument in ALIASES.get(name, ()):
            return slot
    if is_return:
        return 0 if wanted and argument in RESULT_ALIASES else None
    if _POSITION.fullmatch(argument):
        position = int(argument[3:])
        return f.params.index(position) if position in f.params else None
    return None


def label_of(kind: int) -> str:
    """Name that events of a known function are counted under."""
    function = FUNCTIONS[kind >> 1]
    return f"{function.name} (return)" if kind & 1 and not function.host else function.name


def guess(event: str) -> int | None:
    """Function that an event's name hints at, None if none.

    Examples
    --------
    >>> FUNCTIONS[guess("kunmap_local")].name
    'kunmap_local_indexed'
    """
    for name in (event, _RETURN_SUFFIX.sub("", event)):
        symbol = NICKNAMES.get(name, name)
        if symbol in FUNCTION_OF:
            return FUNCTION_OF[symbol]
    return None
