"""What everything in this room stands on: a machine, its address map, an architecture.

Given are a :class:`Machine` and the :class:`Arch` that it is one of;
:func:`replay.machine.layout.layout_of` derives the :class:`Layout`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.records import dataclass, field
from replay.machine.costs import Costs
from replay.machine.generations import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KiB: Final = 1 << 10
MiB: Final = 1 << 20
GiB: Final = 1 << 30
PAGE: Final = 4096
PAGE_SHIFT: Final = 12
TOP: Final = 1 << 32
"""End of the address space."""

MAX_POOL: Final = 1 << 16
"""Slots of a hypothetical pool: 256 MiB of addresses."""

Ranges = tuple[tuple[int, int], ...]
"""Physical ranges as (first byte, byte after the last), ascending."""


class LayoutZone(NamedTuple):
    """A zone as [start_pfn, end_pfn), and how many of these frames are RAM."""

    name: str
    start_pfn: int
    end_pfn: int
    present: int = 0


class Region(NamedTuple):
    """A stretch of the address space, [start, end), for the picture of it."""

    name: str
    start: int
    end: int
    what: str


@dataclass(frozen=True)
class Layout:
    """Address map and limits of one machine; addresses and sizes in bytes.

    Attributes
    ----------
    page_size
        Bytes per page.
    page_offset
        PAGE_OFFSET: where the direct mapping starts.
    phys_offset
        Physical address that is mapped at `page_offset`.
    user_end
        TASK_SIZE: end of the user address space.
    lowmem_end_pfn
        First frame of ZONE_HIGHMEM, or the end of RAM where there is none.
    high_memory
        End of the direct mapping.
    max_pfn
        Frame after the last that the kernel uses.
    lowmem_bytes
        RAM in the direct mapping, without the holes in it.
    highmem_bytes
        RAM in ZONE_HIGHMEM, without the holes in it.
    vmalloc_start, vmalloc_end
        The vmap arena.
    modules_start, modules_end
        Where modules are loaded (the arena itself on i386).
    pkmap_base, pkmap_slots
        The kmap() pool: first address and LAST_PKMAP; 0 slots without HIGHMEM.
    kmap_fix_top
        Address of slot 0 of CPU 0 of kmap_local; slots lie downwards, or upwards (`kmap_upwards`).
        Without HIGHMEM there are none. With colours a slot is a group of `pkmap_colours` pages,
        and this is the highest.
    km_max_idx
        Slots per CPU: KM_MAX_IDX, or KM_TYPE_NR of kmap_atomic().
    km_step
        Slots that one mapping takes (2 where guard slots are between them).
    km_usable_depth
        Mappings that one task (CPU) can hold at once.
    kmap_per_cpu
        Depth is counted per CPU (kmap_atomic up to 5.10), else per task.
    fixaddr_top, fixaddr_start
        The fixmap: highest page, and the lowest address with the boot-time entries.
    nr_cpus
        CPUs that the fixmap has room for.
    zones
        Zones that are not empty, ascending.
    regions
        The address space without gaps or overlaps, ascending.
    lazy_max_pages
        Pages that may wait for a purge (mm/vmalloc.c: lazy_max_pages).
    vmap_block_pages
        Pages of one block of vm_map_ram (VMAP_BBMAP_BITS).
    ioremap_max_order
        Largest alignment that ioremap asks for, as a power of two of bytes.
    flush_ceiling_pages
        Most pages that a kernel flush invalidates one by one, above which it drops everything
        (0: it always does); None: there is no ceiling.
    tlb_broadcast
        The hardware tells the other CPUs of an invalidation (ARMv7 SMP); else they get an IPI.
    tlb_erratum_ipi
        An IPI follows each flush nevertheless (ARM erratum 798181 on an affected CPU).
    local_flush_on_map, local_flush_on_unmap
        kmap_local invalidates the slot's TLB entry when it maps, when it unmaps.
    mem_map_bytes
        Size of the page array, taken from lowmem (FLATMEM).
    kmap_upwards
        Slots of kmap_local lie upwards from `kmap_fix_top` (ARM before 3.18).
    kmap_high_get
        kmap_local reuses a mapping of the pool (ARM without SMP on v6 and without the erratum).
    kmap_force_map
        kmap_local gives lowmem pages slots too (:func:`replay.machine.kconfig.maps_lowmem`).
    pkmap_colours
        Colours of the pool, a power of two: a page of colour c may take only the slots c modulo
        the number of colours (mm/highmem.c: get_next_pkmap_nr, with asm/highmem.h of xtensa).
        The colour of a page is its frame number modulo that. 1: no colours.
    kmap_flush_each
        Every kmap() invalidates the TLB entry of the address that it returns, hit or new, lowmem
        or highmem (linux/highmem-internal.h: kmap, ARCH_HAS_KMAP_FLUSH_TLB; csky, mips).
    range_flush
        flush_tlb_kernel_range() does something (not on microblaze, where the pool's flush is one
        of the caches only).
    local_flush_all
        kmap_local flushes all TLBs of all CPUs, not one entry of its own (sparc32).
    pti
        Page-table isolation is on (i386 with PAE only): a single-page flush is done twice, for
        the kernel's and for the user's half (arch/x86/mm/tlb.c: flush_tlb_one_kernel).
    x86_flush
        How an x86 CPU drops its whole TLB (:data:`replay.machine.tlb.X86_FULL_FLUSH`); empty on
        others.
    notes
        What the kernel would say, options ignored, RAM dropped; and what the model leaves out.
    """

    page_size: int
    page_offset: int
    phys_offset: int
    user_end: int
    lowmem_end_pfn: int
    high_memory: int
    max_pfn: int
    lowmem_bytes: int
    highmem_bytes: int
    vmalloc_start: int
    vmalloc_end: int
    modules_start: int
    modules_end: int
    pkmap_base: int
    pkmap_slots: int
    kmap_fix_top: int
    km_max_idx: int
    km_step: int
    km_usable_depth: int
    kmap_per_cpu: bool
    fixaddr_top: int
    fixaddr_start: int
    nr_cpus: int
    zones: tuple[LayoutZone, ...]
    regions: tuple[Region, ...]
    lazy_max_pages: int
    vmap_block_pages: int
    ioremap_max_order: int
    flush_ceiling_pages: int | None
    tlb_broadcast: bool
    tlb_erratum_ipi: bool
    local_flush_on_map: bool
    local_flush_on_unmap: bool
    mem_map_bytes: int
    kmap_upwards: bool = False
    kmap_high_get: bool = False
    kmap_force_map: bool = False
    pkmap_colours: int = 1
    kmap_flush_each: bool = False
    range_flush: bool = True
    local_flush_all: bool = False
    pti: bool = False
    x86_flush: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def pkmap_end(self) -> int:
        """Address after the pool's window."""
        return self.pkmap_base + self.pkmap_slots * self.page_size

    @property
    def vmalloc_bytes(self) -> int:
        """Size of the arena."""
        return self.vmalloc_end - self.vmalloc_start

    @property
    def direct_bytes(self) -> int:
        """Size of the direct mapping, holes of the RAM in it included."""
        return self.high_memory - self.page_offset

    @property
    def kmap_fix_step(self) -> int:
        """Bytes from a page of the kmap_local slots to the next: negative where they go down."""
        return self.page_size if self.kmap_upwards else -self.page_size

    @property
    def kmap_fix_bottom(self) -> int:
        """Lowest address of a kmap_local slot."""
        slots = self.km_max_idx * self.nr_cpus * self.pkmap_colours
        return min(self.kmap_fix_top, self.kmap_fix_top + (slots - 1) * self.kmap_fix_step)

    @property
    def page_shift(self) -> int:
        """Binary logarithm of the page size."""
        return self.page_size.bit_length() - 1


class Told(NamedTuple):
    """What a machine's own files say of its address map where hmtrace's rules give something else.

    Attributes
    ----------
    lowmem_end_pfn
        First frame of ZONE_HIGHMEM.
    vmalloc, modules, pkmap
        [start, end) of the arena, of the modules' area and of the pool.
    zones
        Zones that are not empty, as (name, first frame, frame after the last).
    """

    lowmem_end_pfn: int | None = None
    vmalloc: tuple[int, int] | None = None
    modules: tuple[int, int] | None = None
    pkmap: tuple[int, int] | None = None
    zones: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True)
class Machine:
    """A 32-bit HIGHMEM machine and its kernel's configuration.

    Attributes
    ----------
    arch
        Key in :data:`replay.machine.arches.ARCHES`: ``i386``, ``arm``.
    split
        Key in the architecture's split table: ``3g``, ``3g_opt``, ``2g``, ``2g_opt``, ``1g``; of
        architectures without such a choice the one that they have.
    ram
        Usable physical ranges as (first byte, byte after the last), ascending.
    pae
        PAE on i386, LPAE on ARM.
    cpus
        Online CPUs.
    nr_cpus
        CONFIG_NR_CPUS: the fixmap and the vmap blocks are sized by it.
    pkmap_slots
        LAST_PKMAP where it is not the architecture's own.
    vmalloc
        ``vmalloc=`` in bytes (ARC: CONFIG_ARC_KVADDR_SIZE); None: the architecture's default.
    converted
        Call sites that use kmap_local_page() there in place of kmap(), as
        :func:`replay.machine.options.conversion_of` reads them; of no captured machine.
    highmem
        ``highmem=`` in bytes; None: not given.
    mem
        ``mem=`` in bytes; None: not given.
    reservetop
        ``reservetop=`` in bytes (i386).
    generation
        Key in :data:`replay.machine.generations.GENERATIONS`: a set of named behaviours.
    config
        The CONFIG_* switches that are on, without the prefix, of those that matter; empty: the
        default of the distribution kernels that the architecture module names.
    page_struct
        sizeof(struct page) in bytes.
    mem_map
        Address of struct page of the first frame; None where unknown.
    release
        ``uname -r``, shown only.
    costs
        Nanoseconds per elementary operation.
    highmem_enabled
        CONFIG_HIGHMEM.
    phys_offset
        Physical address of PAGE_OFFSET on ARM; None: the start of RAM.
    tlb_erratum
        The CPU needs the workaround of ARM erratum 798181.
    pti
        Page-table isolation is on (i386 with PAE).
    tlb_flush
        How the CPUs flush: on x86 what drops a whole TLB, ``invpcid``, ``pge`` or ``cr3``; on ARM
        what reaches the other CPUs, ``broadcast`` or ``ipi``. Empty: not known, and taken for
        ``pge``, and for what the configuration says.
    page_size
        Bytes per page.
    lowmem_limit
        Most lowmem in bytes where the configuration or the platform says: CONFIG_LOWMEM_SIZE
        (powerpc32, microblaze), HIGHMEM_START (mips32); None: the default. More than the
        architecture has is hypothetical, and the layout says so.
    page_offset
        Address that the configuration says: CONFIG_KERNEL_START (microblaze), CONFIG_PAGE_OFFSET
        (powerpc32); None: the split's.
    vmalloc_end
        VMALLOC_END where the machine itself or its platform says (ARM); None: by its kernel's age.
    acpi
        Physical ranges of ACPI's tables (i386): the kernel counts them in where RAM ends.
    border_told
        The machine's own files tell where lowmem ends, so that no rule's doubt matters. No other
        machine has it.
    nomap
        Physical ranges of `ram` that the kernel does not map (no-map of the device tree; ARM).
    tlb_entries
        Entries of a MIPS CPU's TLB; None: 32, as most MIPS32 cores have.
    dma_zone
        Bytes from the start of RAM that ZONE_DMA ends after on ARM boards that limit it
        (``dma_zone_size``); None: it holds all of lowmem, where it exists.
    huge_pages
        Transparent huge pages are on: the kernel keeps more memory free for them.
    cache_colours
        Colours of the data cache: its way size by the page size, where that is larger
        (xtensa, mips32).
    told
        Where the machine's own files know better than the rules; None: they agree, or say nothing.
        No other machine has it.
    """

    arch: str
    split: str = "3g"
    ram: Ranges = ((0, 1 << 30),)
    pae: bool = False
    cpus: int = 1
    nr_cpus: int = 32
    pkmap_slots: int | None = None
    vmalloc: int | None = None
    highmem: int | None = None
    converted: tuple[str, ...] = ()
    mem: int | None = None
    reservetop: int | None = None
    generation: str = DEFAULT
    config: frozenset[str] = frozenset()
    page_struct: int = 32
    mem_map: int | None = None
    release: str = ""
    costs: Costs = field(default_factory=Costs.default)
    highmem_enabled: bool = True
    phys_offset: int | None = None
    tlb_erratum: bool = False
    pti: bool = False
    tlb_flush: str = ""
    page_size: int = PAGE
    lowmem_limit: int | None = None
    cache_colours: int = 1
    tlb_entries: int | None = None
    dma_zone: int | None = None
    huge_pages: bool = False
    told: Told | None = None
    page_offset: int | None = None
    vmalloc_end: int | None = None
    nomap: Ranges = ()
    acpi: Ranges = ()
    border_told: bool = False

    @property
    def ram_bytes(self) -> int:
        """Bytes of usable RAM."""
        return sum(end - start for start, end in self.ram)


SPECIAL: Final = (
    "lowmem_limit", "page_offset", "vmalloc_end", "nomap", "dma_zone", "acpi", "tlb_entries",
)  # fmt: skip
"""Fields of :class:`Machine` that some architectures have no use for."""


@dataclass(frozen=True)
class Arch:
    """An architecture: data, and the one function that lays a machine out.

    Attributes
    ----------
    name
        Key in :data:`replay.machine.arches.ARCHES`.
    title
        What it is, in a few words.
    splits
        Split to PAGE_OFFSET, the usual one first.
    pae_splits
        Splits that exist with PAE.
    proposed_splits
        Splits that no released kernel has, with the state of things in words.
    proposed_defaults
        (built with HIGHMEM, with PAE) to the split that patches of December 2025 for Linux 7 would
        make the default.
    younger_splits
        Splits that older kernels cannot be built with, and the first release that can.
    pae_name
        What PAE is called: ``PAE``, ``LPAE``; empty where there is none.
    max_nr_cpus, default_nr_cpus
        CONFIG_NR_CPUS.
    max_phys, max_phys_pae
        End of the physical addresses that a kernel can use, without PAE and with it (0: no PAE).
    default_config
        Switches of the distribution kernels, for machines without a configuration.
    default_page_struct
        sizeof(struct page) of these kernels.
    ram_for
        (bytes, ranges of the captured machine, pae) to plausible RAM ranges.
    layout
        Machine to its layout.
    page_sizes
        Bytes per page that the kernel can be built for, the usual one first.
    arena_option
        What sets the size of the arena: ``vmalloc=`` on the command line, an option of the
        configuration, or nothing.
    highmem_option
        Boot option that sets the size of the highmem zone; empty where there is none (x86-32 alone
        has it: arch/x86/mm/init_32.c: parse_highmem).
    has_highpte
        User page tables may lie in highmem (CONFIG_HIGHPTE of arch/x86/Kconfig and
        arch/arm/Kconfig; no other architecture has it).
    takes
        Those of :data:`SPECIAL` that mean something there.
    has_highmem
        The architecture has a pool and a highmem zone (x86-64 has neither).
    """

    name: str
    title: str
    splits: Mapping[str, int]
    max_nr_cpus: int
    default_nr_cpus: int
    default_config: frozenset[str]
    ram_for: Callable[[int, Ranges, bool], Ranges]
    layout: Callable[[Machine], Layout]
    pae_splits: frozenset[str] = frozenset()
    proposed_splits: Mapping[str, str] = field(default_factory=dict)
    proposed_defaults: Mapping[tuple[bool, bool], str] = field(default_factory=dict)
    younger_splits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    pae_name: str = ""
    max_phys: int = 4 * GiB
    max_phys_pae: int = 0
    default_page_struct: int = 32
    page_sizes: tuple[int, ...] = (PAGE,)
    arena_option: str = ""
    highmem_option: str = ""
    has_highpte: bool = False
    takes: frozenset[str] = frozenset()
    has_highmem: bool = True

    @property
    def default_split(self) -> str:
        """Split of a machine of which nothing is known."""
        return next(iter(self.splits))


def align_down(value: int, unit: int) -> int:
    """Round down to a multiple of `unit`, a power of two."""
    return value & ~(unit - 1)


def align_up(value: int, unit: int) -> int:
    """Round up to a multiple of `unit`, a power of two."""
    return (value + unit - 1) & ~(unit - 1)


def lazy_max_pages(cpus: int, page: int = PAGE) -> int:
    """Pages that may wait for a purge: fls(online CPUs) * 32 MiB.

    mm/vmalloc.c: lazy_max_pages.

    Examples
    --------
    >>> [lazy_max_pages(n) for n in (1, 2, 4, 8)]
    [8192, 16384, 24576, 32768]
    """
    return cpus.bit_length() * (32 * MiB // page)


def vmap_block_pages(nr_cpus: int, page: int = PAGE, bits: int = 32) -> int:
    """VMAP_BBMAP_BITS: pages of one block of vm_map_ram.

    mm/vmalloc.c: VMALLOC_PAGES / roundup_pow2(NR_CPUS) / 16, from 2 * BITS_PER_LONG to 1024;
    VMALLOC_SPACE is taken for 128 MiB on 32 bit, 128 GiB on 64 bit.
    """
    rounded = 1 << (nr_cpus - 1).bit_length()
    space = 128 * (MiB if bits == 32 else GiB)
    return min(1024, max(2 * bits, space // page // rounded // 16))


def mem_map_bytes(first_pfn: int, max_pfn: int, page_struct: int) -> int:
    """Bytes of the FLATMEM page array; both ends rounded to 1024 pages (4 MiB on most machines).

    mm/page_alloc.c: alloc_node_mem_map, MAX_ORDER_NR_PAGES 1024.
    """
    return (align_up(max_pfn, 1024) - align_down(first_pfn, 1024)) * page_struct


def clip(ranges: Ranges, end: int) -> Ranges:
    """Cut ranges off at a physical address."""
    return tuple((a, min(b, end)) for a, b in ranges if a < end)


def ram_between(ram: Ranges, first_pfn: int, end_pfn: int, page: int = PAGE) -> int:
    """Bytes of RAM in the frames from `first_pfn` up to, not including, `end_pfn`."""
    first, end = first_pfn * page, end_pfn * page
    return sum(max(0, min(b, end) - max(a, first)) for a, b in ram)
