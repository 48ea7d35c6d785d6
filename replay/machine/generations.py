"""What changed between kernel generations, as named behaviours.

Model code asks for a behaviour (``generation.lazy_list``), never for a version number.
:func:`generation_for` is the only place where a release string is looked at.

Each behaviour says what it means; the kernels on which they were observed are
5.10.223, 6.1.176, 6.5.10, 6.12.107 and (ARM) 7.2.13, and of Ubuntu (i386) 4.4.0-210, 4.15.0-213,
5.0.0-65 and 5.4.0-150. Where between two observed kernels a
change came in is told by the commits named below: those that touch the arena were looked up in
the kernel mailing list, what is marked "remembered" was not.

To add a generation: a line behind the one that it follows, with what it changes and the commit
that did, and its name in the table; a behaviour that is new is a field here, which the generations
before it have as it was, and a question in the model's code.

What a build option changes, whatever the release, is in :mod:`replay.machine.kconfig`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Final


@dataclass(frozen=True)
class Generation:
    """Behaviours that a span of kernel releases has in common.

    Attributes
    ----------
    name
        Key in :data:`GENERATIONS`.
    since
        First release, as (major, minor).
    local_per_cpu
        kmap_atomic() with a depth counter and slots per CPU, without context-switch handling
        (3e4d3af501cc, 2.6.37); else kmap_local with a stack per task.
        298fa1ad5571 "highmem: Provide generic variant of kmap_atomic*" and 5fbda3ecd14a
        "sched: highmem: Store local kmaps in task struct" (5.11).
    free_tree
        The arena's free blocks are kept in a tree: 68ad4a330433 "mm/vmalloc.c: keep track of
        free blocks for vmap allocation" (5.2). Before, alloc_vmap_area() walked the areas in use
        from a remembered hole on: hmtrace calls no such address certain.
    search
        Size that the descent through the free tree asks for (mm/vmalloc.c:
        find_vmap_lowest_match). ``padded``: size + align - 1, also where align is PAGE_SIZE.
        ``exact``: the size, so that any alignment gets the lowest address (9f531973dff3, 5.16).
        ``adjusted``: padded for alignments above PAGE_SIZE, unless the range is exactly the
        request (9333fe98d0a6 "mm/vmalloc: add adjust_search_size parameter", 5.18).
    search_moves_vstart
        The climb of the search moves vstart behind the node that it leaves (9f531973dff3, 5.16).
    lazy_list
        Order in which lazily freed areas are given back: ``newest-first`` (a LIFO, unmerged),
        ``ascending`` (merged; 96e2db456135 "mm/vmalloc: rework the drain logic", 5.11),
        ``descending`` (unmerged; 72210662c5a2 "mm: vmalloc: offload free_vmap_area_lock lock",
        6.9).
    purger
        Who purges when the lazy limit is passed: ``freeing-task``, ``worker-loop`` (until below
        the limit) or ``worker-once``. mm/vmalloc.c: free_vmap_area_noflush. 690467c81b1a
        "mm/vmalloc: Move draining areas out of caller context" (5.18).
    dirty_range_reset
        vm_unmap_aliases forgets a block's dirty range once it has flushed it, and gives up
        fragmented blocks only if less than a quarter was never used; else the same block makes
        every later call flush again.
    arm_vmalloc_extra
        An explicit ``vmalloc=SIZE`` on ARM leaves 8 MiB more below the arena, as the default
        does. arch/arm/mm/mmu.c: early_vmalloc, adjust_lowmem_bounds.
    purge_by_pointer
        __purge_vmap_area_lazy() is given pointers to the range, and returns nothing: until
        0574ecd141df "mm: refactor __purge_vmap_area_lazy()" (4.10); observed on 4.4.
    x86_highmem64g
        CONFIG_HIGHMEM64G exists; later kernels drop RAM above 4 GiB even with PAE.
    x86_cpu_entry_area
        The areas of cpu_entry_area and of the remapped descriptor tables lie between the fixmap
        and the pool: 92a0f81d8957 "x86/cpu_entry_area: Move it out of the fixmap" (4.15, also
        in 4.14.11). Before, PKMAP_BASE followed the fixmap's permanent entries, whose first
        include the interrupt table's (FIX_RO_IDT): observed on 4.4.
    x86_text_poke
        The fixmap has two entries for patching code and one for PARAVIRT: until 5.1 (remembered;
        counts of 4.4, 4.15 and 5.4 agree).
    fetch_faults_are_misses
        A faulting fetch argument counts twice in kprobe_profile's misses.
    """

    name: str
    since: tuple[int, int]
    local_per_cpu: bool
    free_tree: bool
    search: str
    search_moves_vstart: bool
    lazy_list: str
    purger: str
    dirty_range_reset: bool
    arm_vmalloc_extra: bool
    purge_by_pointer: bool
    x86_highmem64g: bool
    x86_cpu_entry_area: bool
    x86_text_poke: bool
    fetch_faults_are_misses: bool


def _after(before: Generation, name: str, *, since: tuple[int, int], **changed: Any) -> Generation:
    """Generation that follows another one, and what it changed."""
    return replace(before, name=name, since=since, **changed)


_V4_4: Final = Generation(
    "4.4",
    since=(2, 6),
    local_per_cpu=True,
    free_tree=False,
    search="padded",
    search_moves_vstart=False,
    # a list of its own from 4.7 on (80c4bd7a5e43); before, the areas in use were searched
    lazy_list="ascending",
    purger="freeing-task",
    dirty_range_reset=False,
    arm_vmalloc_extra=False,
    purge_by_pointer=True,
    x86_highmem64g=True,
    x86_cpu_entry_area=False,
    x86_text_poke=True,
    fetch_faults_are_misses=True,
)
# Not observed.
_V4_12: Final = _after(
    _V4_4, "4.12", since=(4, 10), lazy_list="newest-first", purge_by_pointer=False
)
_V4_19: Final = _after(_V4_12, "4.19", since=(4, 14), x86_cpu_entry_area=True)
_V5_10: Final = _after(_V4_19, "5.10", since=(5, 2), free_tree=True, x86_text_poke=False)
# The next three were read in patches, not observed. Between the first two only the ARM
# arena changed, in 5.14 (remembered).
_V5_11: Final = _after(
    _V5_10,
    "5.11",
    since=(5, 11),
    local_per_cpu=False,
    lazy_list="ascending",
    fetch_faults_are_misses=False,
)
_V5_15: Final = _after(_V5_11, "5.15", since=(5, 14), arm_vmalloc_extra=True)
_V5_17: Final = _after(_V5_15, "5.17", since=(5, 16), search="exact", search_moves_vstart=True)
_V6_1: Final = _after(_V5_17, "6.1", since=(5, 18), search="adjusted", purger="worker-loop")
_V6_5: Final = _after(_V6_1, "6.5", since=(6, 2), dirty_range_reset=True)
_V6_12: Final = _after(_V6_5, "6.12", since=(6, 9), lazy_list="descending", purger="worker-once")
_V7_2: Final = _after(_V6_12, "7.2", since=(6, 15), x86_highmem64g=False)

_ALL: Final = (_V4_4, _V4_12, _V4_19, _V5_10, _V5_11, _V5_15, _V5_17, _V6_1, _V6_5, _V6_12, _V7_2)
"""The generations, oldest first, each named after the kernel that it is best known from."""

GENERATIONS: Final = {generation.name: generation for generation in _ALL}

DEFAULT: Final = "6.1"
"""Generation of a machine whose kernel is not known."""

_OBSERVED: Final = {(4, 4), (4, 15), (5, 0), (5, 4), (5, 10), (6, 1), (6, 5), (6, 12), (7, 2)}
_RELEASE = re.compile(r"^v?(\d{1,3})\.(\d{1,4})")


def generation_for(release: str) -> str:
    """Name of the generation of a kernel release.

    Parameters
    ----------
    release
        As ``uname -r`` prints it.

    Returns
    -------
    str
        Key in :data:`GENERATIONS`; :data:`DEFAULT` where the release is no version.

    Examples
    --------
    >>> generation_for("5.10.0-32-686-pae"), generation_for("6.12.107+deb13-armmp")
    ('5.10', '6.12')
    """
    version = _version(release)
    if version is None:
        return DEFAULT
    fitting = [generation for generation in _ALL if generation.since <= version]
    return (fitting[-1] if fitting else _ALL[0]).name


def was_observed(release: str) -> bool:
    """Whether the model was compared with this very series of kernels."""
    return _version(release) in _OBSERVED


def _version(release: str) -> tuple[int, int] | None:
    match = _RELEASE.match(release)
    return None if match is None else (int(match[1]), int(match[2]))
