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
from dataclasses import replace
from typing import Any, Final

from collectors.records import dataclass


@dataclass(frozen=True)
class Generation:
    """Behaviours that a span of kernel releases has in common.

    Attributes
    ----------
    name
        Key in :data:`GENERATIONS`.
    since
        First release, as (major, minor), and the third number of 2.6.
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
    arm_vmalloc_end
        VMALLOC_END on ARM: 0xff800000 since 6ff0966052c4 "ARM: 8432/1: move VMALLOC_END from
        0xff000000 to 0xff800000" (4.4), before that 0xff000000 since the platforms lost their
        mach/vmalloc.h (3.3). None: the platform's own
        (:data:`replay.machine.arches.arm.PLATFORM_VMALLOC_ENDS`).
    arm_remark
        What to say of ARM's VMALLOC_END where a machine is of this generation and no release says
        which kernel it has.
    arm_default_vmalloc
        Bytes that ARM keeps for the arena without ``vmalloc=``, its VMALLOC_OFFSET included: 240
        MiB and 8 since static mappings lie in the arena (3.3), 128 MiB before.
        arch/arm/mm/mmu.c: vmalloc_min.
    arm_fixmap
        Key in :data:`replay.machine.arches.arm.FIXMAPS`. From a05e54c103b0 "ARM: 8031/2: change
        fixmap mapping region to support 32 CPUs" on (3.16) the map has 2 MiB; from 836a24183273
        "ARM: expand fixmap region to 3MB" (3.19) 3 MiB and its slots go downwards; a5f4c561b3b1
        (4.4) puts an entry for the early console before them; from 5.11 on it begins above the
        device tree's mapping. Commits and directions are remembered, the addresses and their ages
        are those of boot logs.
    arm_skips_nomap
        Banks that are not mapped (no-map of the device tree) do not count where the end of lowmem
        is looked for: "ARM: 8904/1: skip nomap memblocks while finding the lowmem/highmem
        boundary" (5.4).
    kmap_flushes_lowmem
        Where every kmap() flushes an entry (mips, csky), that of a lowmem page does so, too:
        525aaf9bad3b "arch/kmap: remove redundant arch specific kmaps" (5.8). Before, it returned
        the page's direct address at once (arch/mips/mm/highmem.c: __kmap).
    arm_dma_zone_exact
        ZONE_DMA ends where the board's limit says; later the last frame below it is left out:
        until fa3354e4ea39 "mm: free_area_init: use maximal zone PFNs rather than zone sizes" (5.8).
    mips_border_in_doubt
        a94e4f24ec83 "MIPS: init: Drop boot_mem_map" (5.4) let lowmem end with the RAM below
        HIGHMEM_START; 0f5cc249ff73 "mips: Fix incorrect max_low_pfn adjustment" (6.8, and 2024's
        stable releases of all series between) ends it there again.
    ppc_early_ioremap
        The fixmap has pages for early ioremap(): GENERIC_EARLY_IOREMAP of powerpc (5.5, remembered;
        boot logs of 5.0 to 5.4 are without, later ones with them).
    ppc_kvirt_top
        Where PowerPC's arena ends at most without HIGHMEM (KVIRT_TOP): 0xfe000000 in boot logs of
        2.6.30 and 4.15 to 5.1. None: below the fixmap, since it was prepared for KASAN (5.2).
    ppc_consistent
        Bytes below that which PowerPC keeps for coherent DMA memory with NOT_COHERENT_CACHE
        (CONFIG_CONSISTENT_SIZE): until the generic allocator took its place (5.4, remembered).
    x86_highmem64g
        CONFIG_HIGHMEM64G exists; later kernels drop RAM above 4 GiB even with PAE.
    x86_highpte
        CONFIG_HIGHPTE exists on x86: until 6.15 (remembered; the patch "x86: drop support for
        CONFIG_HIGHPTE" is of December 2024).
    x86_acpi_ends_ram
        ACPI's tables behind the last RAM count as its end, and with it as the end of the last zone:
        since 6.11 (a boot log of 6.11-rc1; arch/x86/kernel/e820.c: e820__end_of_ram_pfn).
    x86_gdt_remap
        The fixmap has a page for each CPU's descriptor table: 69218e47994d "x86: Remap GDT tables
        in the fixmap section" (4.12) until cpu_entry_area took them (remembered).
    x86_vdso_page
        The fixmap's second page is the vDSO's (FIX_VDSO): until b0b49f2673f0 "x86, vdso: Remove
        compat vdso support" (3.15, remembered; the counts of boot logs of 2.6.38, 3.2, 3.11 and
        3.14 need it, those of 3.16 and later do not).
    x86_ro_idt
        The fixmap has a page of the interrupt table (FIX_RO_IDT), whatever the CPU: from 3.10
        (4eefbe792bae, remembered) until cpu_entry_area took it. Before, only CONFIG_X86_F00F_BUG
        had one.
    x86_boot_maps
        TOTAL_FIX_BTMAPS, pages for early ioremap() below the fixmap: 64 in 4 slots in boot logs up
        to 3.11, in 8 from 3.16 on; the kernels between were not compared.
    x86_below_boot_maps
        What follows the fixmap lies below the boot maps (FIXADDR_BOOT_START, since 4.16
        FIXADDR_TOT_START), not below the permanent entries (FIXADDR_START): up to 3.18 (boot log
        of 3.18-rc6; one of 3.19-rc5 is without), and again since 55f49fcb879f "x86/mm: Fix
        overlap of i386 CPU_ENTRY_AREA with FIX_BTMAP" (4.16; boot log of 4.17-rc5).
    x86_cpu_entry_area
        The area of cpu_entry_area lies between the fixmap and the pool: 92a0f81d8957
        "x86/cpu_entry_area: Move it out of the fixmap" (4.15; boot log of 4.15-rc8). Before,
        PKMAP_BASE followed the fixmap: observed on 4.4.
    x86_entry_pages
        CPU_ENTRY_AREA_PAGES for each CPU where it is a number: 40 (boot logs print areas of 38
        and 39 pages there), 39 in stable releases of 5.4 (05b042a19443 "x86/pti/32: Calculate the
        various PTI cpu_entry_area sizes correctly"). None: the size of the structure, since
        186525bd6b83 "mm, x86/mm: Untangle address space layout definitions from basic pgtable
        type definitions" (5.6).
    x86_ldt_remap
        The descriptor tables are mapped once more between cpu_entry_area and pool: LDT_BASE_ADDR,
        "x86/ldt: Reserve address space range on 32 bit for the LDT" (4.19; boot logs of 4.17-rc5
        and 5.1-rc2).
    x86_remark
        What to say of the address map of an i386 kernel of this generation.
    x86_text_poke
        The fixmap has two entries for patching code and one for PARAVIRT: until 5.1 (remembered;
        counts of 4.4, 4.15 and 5.4 agree).
    fetch_faults_are_misses
        A faulting fetch argument counts twice in kprobe_profile's misses.
    """

    name: str
    since: tuple[int, ...]
    local_per_cpu: bool
    free_tree: bool
    search: str
    search_moves_vstart: bool
    lazy_list: str
    purger: str
    dirty_range_reset: bool
    arm_vmalloc_extra: bool
    arm_vmalloc_end: int | None
    arm_default_vmalloc: int
    arm_fixmap: str
    arm_skips_nomap: bool
    arm_dma_zone_exact: bool
    kmap_flushes_lowmem: bool
    mips_border_in_doubt: bool
    ppc_early_ioremap: bool
    ppc_kvirt_top: int | None
    ppc_consistent: int
    purge_by_pointer: bool
    x86_highmem64g: bool
    x86_highpte: bool
    x86_acpi_ends_ram: bool
    x86_gdt_remap: bool
    x86_vdso_page: bool
    x86_ro_idt: bool
    x86_boot_maps: int
    x86_below_boot_maps: bool
    x86_cpu_entry_area: bool
    x86_entry_pages: int | None
    x86_ldt_remap: bool
    x86_text_poke: bool
    fetch_faults_are_misses: bool
    arm_remark: str = ""
    x86_remark: str = ""


_NO_REMARKS: Final = {"arm_remark": "", "x86_remark": ""}
_MOVED: Final = (
    "4.14.9 to 4.14.19 and 4.15.0 to 4.15.3 moved cpu_entry_area out of the fixmap and below the "
    "boot maps, in releases that hmtrace does not know exactly: pool, arena and border may be one "
    "or two page tables higher or lower (the boot log tells)"
)


def _after(before: Generation, name: str, *, since: tuple[int, ...], **changed: Any) -> Generation:
    """Generation that follows another one, and what it changed."""
    return replace(before, name=name, since=since, **(_NO_REMARKS | changed))


# Of kernels before 4.4 only the layouts were compared, with boot logs (tests/replay/boards.toml).
_V3_0: Final = Generation(
    "3.0",
    since=(2, 6, 37),
    local_per_cpu=True,
    free_tree=False,
    search="padded",
    search_moves_vstart=False,
    # a list of its own from 4.7 on (80c4bd7a5e43); before, the areas in use were searched
    lazy_list="ascending",
    purger="freeing-task",
    dirty_range_reset=False,
    arm_vmalloc_extra=False,
    arm_vmalloc_end=None,
    arm_default_vmalloc=128 << 20,
    arm_fixmap="896K",
    arm_skips_nomap=False,
    arm_dma_zone_exact=True,
    kmap_flushes_lowmem=False,
    mips_border_in_doubt=False,
    ppc_early_ioremap=False,
    ppc_kvirt_top=0xFE00_0000,
    ppc_consistent=2 << 20,
    purge_by_pointer=True,
    x86_highmem64g=True,
    x86_highpte=True,
    x86_acpi_ends_ram=False,
    x86_gdt_remap=False,
    x86_vdso_page=True,
    x86_ro_idt=False,
    x86_boot_maps=256,
    x86_below_boot_maps=True,
    x86_cpu_entry_area=False,
    x86_entry_pages=40,
    x86_ldt_remap=False,
    x86_text_poke=True,
    fetch_faults_are_misses=True,
)
_V3_8: Final = _after(
    _V3_0, "3.8", since=(3, 3), arm_vmalloc_end=0xFF00_0000, arm_default_vmalloc=248 << 20
)
_V3_10: Final = _after(_V3_8, "3.10", since=(3, 10), x86_ro_idt=True)
_V3_15: Final = _after(_V3_10, "3.15", since=(3, 15), x86_vdso_page=False, x86_boot_maps=512)
_V3_16: Final = _after(_V3_15, "3.16", since=(3, 16), arm_fixmap="2M")
_V4_1: Final = _after(_V3_16, "4.1", since=(3, 19), arm_fixmap="3M", x86_below_boot_maps=False)
_V4_4: Final = _after(
    _V4_1,
    "4.4",
    since=(4, 4),
    arm_vmalloc_end=0xFF80_0000,
    arm_fixmap="3M with console",
    arm_remark="this is a kernel from 4.4 on: 3.3 to 4.3 (generation 3.10) end the arena at "
    "ff000000, older ones (generation 3.0) where the platform says; release tells",
)
# Not observed.
_V4_11: Final = _after(
    _V4_4, "4.11", since=(4, 10), lazy_list="newest-first", purge_by_pointer=False
)
_V4_12: Final = _after(_V4_11, "4.12", since=(4, 12), x86_gdt_remap=True)
_V4_14: Final = _after(
    _V4_12,
    "4.14.9",
    since=(4, 14, 9),
    x86_gdt_remap=False,
    x86_ro_idt=False,
    x86_cpu_entry_area=True,
    x86_remark=_MOVED,
)
_V4_14_20: Final = _after(_V4_14, "4.14", since=(4, 14, 20), x86_below_boot_maps=True)
_V4_15: Final = _after(
    _V4_14_20, "4.15.0", since=(4, 15), x86_below_boot_maps=False, x86_remark=_MOVED
)
_V4_16: Final = _after(_V4_15, "4.16", since=(4, 15, 4), x86_below_boot_maps=True)
_V4_19: Final = _after(_V4_16, "4.19", since=(4, 19), x86_ldt_remap=True)
_V5_3: Final = _after(
    _V4_19, "5.3", since=(5, 2), free_tree=True, x86_text_poke=False, ppc_kvirt_top=None
)
_V5_4: Final = _after(
    _V5_3,
    "5.4",
    since=(5, 4),
    arm_skips_nomap=True,
    mips_border_in_doubt=True,
    ppc_consistent=0,
    x86_entry_pages=39,
)
_V5_7: Final = _after(_V5_4, "5.7", since=(5, 5), ppc_early_ioremap=True, x86_entry_pages=None)
_V5_10: Final = _after(
    _V5_7, "5.10", since=(5, 8), arm_dma_zone_exact=False, kmap_flushes_lowmem=True
)
# The next three were read in patches, not observed. Between the first two only the ARM
# arena changed, in 5.14 (remembered).
_V5_11: Final = _after(
    _V5_10,
    "5.11",
    since=(5, 11),
    local_per_cpu=False,
    lazy_list="ascending",
    arm_fixmap="2.5M",
    fetch_faults_are_misses=False,
)
_V5_15: Final = _after(_V5_11, "5.15", since=(5, 14), arm_vmalloc_extra=True)
_V5_17: Final = _after(_V5_15, "5.17", since=(5, 16), search="exact", search_moves_vstart=True)
_V6_1: Final = _after(_V5_17, "6.1", since=(5, 18), search="adjusted", purger="worker-loop")
_V6_5: Final = _after(_V6_1, "6.5", since=(6, 2), dirty_range_reset=True)
_V6_10: Final = _after(
    _V6_5,
    "6.10",
    since=(6, 9),
    lazy_list="descending",
    purger="worker-once",
    mips_border_in_doubt=False,
)
_V6_12: Final = _after(_V6_10, "6.12", since=(6, 11), x86_acpi_ends_ram=True)
_V7_2: Final = _after(_V6_12, "7.2", since=(6, 15), x86_highmem64g=False, x86_highpte=False)

_ALL: Final = (
    _V3_0,
    _V3_8,
    _V3_10,
    _V3_15,
    _V3_16,
    _V4_1,
    _V4_4,
    _V4_11,
    _V4_12,
    _V4_14,
    _V4_14_20,
    _V4_15,
    _V4_16,
    _V4_19,
    _V5_3,
    _V5_4,
    _V5_7,
    _V5_10,
    _V5_11,
    _V5_15,
    _V5_17,
    _V6_1,
    _V6_5,
    _V6_10,
    _V6_12,
    _V7_2,
)
"""The generations, oldest first, each named after the kernel that it is best known from."""

GENERATIONS: Final = {generation.name: generation for generation in _ALL}

DEFAULT: Final = "6.1"
"""Generation of a machine whose kernel is not known."""

_OBSERVED: Final = {(4, 4), (4, 15), (5, 0), (5, 4), (5, 10), (6, 1), (6, 5), (6, 12), (7, 2)}
_RELEASE = re.compile(r"^v?(\d{1,3})\.(\d{1,4})(?:\.(\d{1,4}))?")
_DISTRIBUTION = re.compile(r"v?\d{1,3}\.\d{1,4}\.0-\d{1,5}[-.]")
_LAST: Final = 9999
_BACKPORTED: Final = (
    (re.compile(r"4\.15\.0-\d{2,3}-"), (4, 19)),
    (re.compile(r"4\.13\.0-(?:2[6-9]|[3-9]\d)-"), (4, 14, 9)),
)
"""Ubuntu's kernels whose address map is a later kernel's, for page-table isolation came with it:
observed on 4.15.0-213, in a boot log of 4.13.0-26 (earlier ones of 4.15 were not seen)."""


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
    version = _version(release)
    return version is not None and version[:2] in _OBSERVED


def is_release(word: str) -> bool:
    """Whether a word is a kernel's version, as ``uname -r`` prints it or shorter.

    Examples
    --------
    >>> is_release("4.19"), is_release("6.1.0-50-686-pae"), is_release("bookworm")
    (True, True, False)
    """
    return _version(word) is not None


def is_older(release: str) -> bool:
    """Whether a kernel is older than all that are modelled.

    Before 2.6.37 callers of kmap_atomic() named the slot (KM_USER0 and others).
    """
    version = _version(release)
    return version is not None and version < _ALL[0].since


def is_newer(release: str) -> bool:
    """Whether a kernel is of a later series than all that are modelled.

    Examples
    --------
    >>> is_newer("9.9"), is_newer("7.3.1"), is_newer("7.2.13+deb14-armmp"), is_newer("vendor")
    (True, True, False, False)
    """
    version = _version(release)
    return version is not None and version[:2] > max(_OBSERVED)


def _version(release: str) -> tuple[int, ...] | None:
    """(major, minor, patch) of a release.

    Where no patch is named, or a distribution counts its own (``4.15.0-213-generic``), the last of
    the series is meant; linux-next is what the next series becomes.
    """
    match = _RELEASE.match(release)
    if match is None:
        return None
    for pattern, like in _BACKPORTED:
        if pattern.match(release):
            return like
    major, minor = int(match[1]), int(match[2])
    if (major, minor) == (2, 6):  # there the third number named the series
        return major, minor, int(match[3] or 0)
    if "-next-" in release:
        return major, minor + 1, 0
    patch = _LAST if match[3] is None or _DISTRIBUTION.match(release) else int(match[3])
    return major, minor, patch
