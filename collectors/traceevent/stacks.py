"""Stack traces: who called, seen from what is at their top."""

from __future__ import annotations

import re
from typing import Final

from collectors.probes import FUNCTION_OF, base_name

SEPARATOR: Final = "<-"
MAX_STACKS: Final = 1 << 16
"""Different stack traces of a trace that are kept; a workload has some hundreds."""

_MAPPING: Final = re.compile(
    r"^(?!vmalloc_to_)(?:_*kmap(?:_\w+)?|_*kunmap(?:_\w+)?|_*v(?:map|unmap)(?:_\w+)?|vm_(?:map|unmap)_ram"
    r"|_*k?v[mz]alloc(?:_\w+)?|_*k?vfree(?:_\w+)?|_*get_vm_area(?:_\w+)?|_*remove_vm_area"
    r"|alloc_vm_area|new_vmap_block|vb_alloc|map_new_virtual|_*ioremap(?:_\w+)?|_*iounmap"
    r"|_*vm_unmap_aliases)$"
)
"""Functions that map for others: mm/highmem.c, mm/vmalloc.c, arch/*/mm/ioremap.c. Not
vmalloc_to_page(), which maps a page table for itself."""
_TRACING: Final = re.compile(
    r"^(?:\[.*|k(?:ret)?probe.*|.*_pre_handler|.*ftrace.*|__?trace_.*|trace_.*|optimized_callback.*"
    r"|arch_(?:k(?:ret)?probe|rethook|prepare_optimized)\w*|rethook_\w+|perf_\w+|__bpf_\w+"
    r"|do_int3|asm_exc_int3|exc_int3|__kretprobe_trampoline.*|stack_trace_\w+|save_stack_trace\w*"
    r"|return_to_handler|prepare_ftrace_return|function_graph_\w+|call_trace_\w+)$"
)
"""What tracing itself puts on top of a stack."""


def caller_in(stack: str) -> str | None:
    """First frame that is neither of tracing nor a function that maps for others.

    Parameters
    ----------
    stack
        ``innermost<-caller<-caller``, each ``symbol[+0x12] [module]``.

    Returns
    -------
    str or None
        The frame as it is; None where there is none.

    Examples
    --------
    >>> caller_in("kprobe_trace_func<-ftrace_regs_call<-kmap_high<-minix_find_entry<-minix_lookup")
    'minix_find_entry'
    """
    return next(iter(callers_in(stack)), None)


def callers_in(stack: str) -> list[str]:
    """Frames from the caller (:func:`caller_in`) outwards; none where there is no caller.

    Examples
    --------
    >>> callers_in("kmap_high<-minix_find_entry<-minix_lookup")
    ['minix_find_entry', 'minix_lookup']
    """
    frames = stack.split(SEPARATOR)
    names = [_name_in(frame) for frame in frames]
    known = [i for i, name in enumerate(names) if name in FUNCTION_OF]
    first = known[0] if known else 0
    for at in range(first, len(frames)):
        if _asks(names[at]):
            return frames[at:]
    return []


def is_wrapper(site: str) -> bool:
    """Whether a call site is in a function that maps for others.

    Examples
    --------
    >>> is_wrapper("vmalloc+0x5f/0x70"), is_wrapper("vmalloc_to_page+0x132"), is_wrapper("f+0x1")
    (True, False, False)
    """
    return _MAPPING.match(_name_in(site)) is not None


def caller_of(site: str, stack: str) -> str | None:
    """Who called the function that a call site is in, and that maps for others.

    Parameters
    ----------
    site
        Such a site (:func:`is_wrapper`).
    stack
        As of :func:`caller_in`.

    Returns
    -------
    str or None
        First frame outside of what maps for others, and of tracing; None where the stack does not
        show the function.

    Examples
    --------
    >>> stack = "alloc_vmap_area+0x1<-__vmalloc_node_range+0x90<-vmalloc+0x5f<-load+0x8 [m]<-init"
    >>> caller_of("vmalloc+0x5f", stack), caller_of("vzalloc+0x5f", stack)
    ('load+0x8 [m]', None)
    """
    frames = stack.split(SEPARATOR)
    name = _name_in(site)
    for at, frame in enumerate(frames):
        if _name_in(frame) == name:
            return next((f for f in frames[at + 1 :] if _asks(_name_in(f))), None)
    return None


def _asks(name: str) -> bool:
    return not (name in FUNCTION_OF or _MAPPING.match(name) or _TRACING.match(name))


def _name_in(frame: str) -> str:
    return base_name(frame.partition("+")[0].partition("/")[0].partition(" ")[0])
