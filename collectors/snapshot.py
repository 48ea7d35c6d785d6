"""What a machine says about itself, by name and type: all that a replay knows beside the events.

A leaf: :mod:`collectors.facts` fills a :class:`Snapshot` from the machine's files,
:mod:`replay` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - parquet.shapes asks for the annotations
from typing import Any, Literal, NamedTuple, TypedDict

from collectors.records import dataclass, field

Pair = tuple[int, int]

PoolSlots = tuple[int, tuple[tuple[int, int, int | None], ...]]
"""last_pkmap_nr, and (slot, count, frame or None) of every slot that is in use or stale."""


class Area(NamedTuple):
    """One line of /proc/vmallocinfo (mm/vmalloc.c: s_show, show_purge_info).

    `kind` is ``vmalloc``, ``ioremap``, ``vmap``, ``user``, ``dma-coherent``, ``vm_map_ram``,
    ``unpurged`` (freed, not yet flushed) or ``other``; `end` includes the guard page;
    `phys` is None where the line names no physical address.
    """

    start: int
    end: int
    kind: str
    caller: str
    pages: int | None
    phys: int | None


class Zone(NamedTuple):
    """One zone of /proc/zoneinfo (mm/vmstat.c: zoneinfo_show_print), in page frames.

    `marks` are the watermarks min, low and high; `protection` what is kept from requests that
    could have had each zone, in the kernel's order of zones; both empty where the file is cut off.
    """

    name: str
    start_pfn: int
    spanned: int
    present: int
    managed: int
    node: int = 0
    free: int = 0
    marks: tuple[int, ...] = ()
    protection: tuple[int, ...] = ()


class Probe(NamedTuple):
    """One line of kprobe_events (kernel/trace/trace_kprobe.c: trace_kprobe_show)."""

    is_return: bool
    group: str
    event: str
    symbol: str
    arguments: tuple[str, ...]
    maxactive: int | None


class Recording(NamedTuple):
    """How the recorder fared.

    `agreed`: two readings of the areas at the start were the same (None: not told). `stopped`:
    ``time``, ``command``, ``signal``, ``size``, ``buffer``, ``full``. `missing` are functions that
    the kernel has not, by the first of their names; `refused` lines of kprobe_events. `times_cs`:
    a command's time before, while and after it was recorded, in centiseconds; empty: not measured.
    `buffer_kb`: of each CPU's ring buffer, KiB.
    """

    version: str
    agreed: bool | None
    stopped: str
    missing: tuple[str, ...]
    refused: tuple[str, ...]
    times_cs: tuple[int, ...]
    buffer_kb: int | None = None


class Process(NamedTuple):
    """A process, and the most bytes of addresses that it ever had mapped (VmPeak)."""

    name: str
    pid: int
    vm_peak: int


class ZoneUse(NamedTuple):
    """What takes a zone's pages, as /proc/zoneinfo counts them, in page frames.

    `cma` are free pages of CMA, which no request of the kernel itself can have; `mapped` those on
    the lists of reclaim: page cache, and memory of processes. None: the kernel does not tell.
    """

    name: str
    cma: int | None
    mapped: int | None


class OomZone(NamedTuple):
    """A zone in a report of the page allocator (mm/page_alloc.c: show_free_areas), in bytes.

    `reserve` is what is kept from requests that could have had the next zone; `managed` what is
    present on kernels that do not tell what is managed (up to 3.8); `cma` free memory of CMA;
    `largest` the largest free block. None: not told.
    """

    name: str
    free: int
    min: int
    low: int
    high: int
    reserve: int
    managed: int | None
    cma: int | None
    largest: int | None


class OomReport(NamedTuple):
    """A request that found no memory, as the kernel's log has it.

    `at` is ns since boot, None without a stamp; `gfp` None where the mask is not told. `is_oom`: a
    process had to go (`killed`; empty: not told); else the request failed.
    """

    at: int | None
    task: str
    gfp: int | None
    order: int
    is_oom: bool
    killed: str
    zones: tuple[OomZone, ...]


class ArenaTrees(TypedDict):
    """The allocator's trees of areas, each as nested ``[start, end, red, left, right]`` or None.

    `lazy_nr` counts the pages that wait for a purge.
    """

    free: Any
    busy: Any
    lazy: Any
    lazy_nr: int


@dataclass(frozen=True)
class Snapshot:
    """Facts of one machine; in brackets the file that says so (see :mod:`collectors.facts`).

    None, or nothing in it: not known.

    Attributes
    ----------
    release
        ``uname -r`` (version).
    arch
        ``i386``, ``arm``, … : see :mod:`collectors.facts.arches` (config).
    machine_arch
        The same, as ``uname -m`` names it (version).
    pae
        PAE (i386), LPAE (ARM), PAE40, XPA, PHYS_64BIT (config).
    highmem_enabled
        CONFIG_HIGHMEM (config).
    config
        CONFIG_* that matter, without the prefix, to value (config).
    config_version
        Version in the configuration's header (config).
    split
        ``3g``, ``3g_opt``, ``2g``, ``2g_opt``, ``1g``; ``2.5g`` (csky), ``128m``, ``256m``,
        ``512m`` (xtensa) (config).
    page_size
        Bytes per page (config).
    lowmem_limit
        Bytes: CONFIG_LOWMEM_SIZE (config).
    phys_offset
        Address: CONFIG_KSEG_PADDR (xtensa) (config).
    page_offset
        Address: PAGE_OFFSET (config).
    nr_cpus
        CONFIG_NR_CPUS (config).
    nr_cpu_ids
        CPUs that the kernel made room for (dmesg).
    page_struct
        Bytes: sizeof(struct page) (config).
    smp
        SMP kernel (version).
    realtime
        Kernel with PREEMPT_RT (version).
    cpus
        CPUs online when cpuinfo was read (cpuinfo).
    cpus_booted
        CPUs brought up at boot (dmesg).
    cpu_changes
        (ns since boot, CPU, online) of each CPU that went offline or came online (dmesg.end).
    cpu_model
        The processor's name (cpuinfo).
    cpu_flags
        ``flags`` or ``Features`` (cpuinfo).
    cpu_family
        ``x86``, ``arm``, or the architecture's name (cpuinfo).
    arm_cpu
        (implementer, part, variant, revision) (cpuinfo).
    tlb_entries
        Entries of the TLB, each for two pages (cpuinfo of MIPS).
    arm_cache
        Kind of the caches, in words (dmesg).
    board
        DMI or device tree name (dmesg).
    ram
        (first byte, byte after the last), ascending (iomem, dmesg).
    ram_bytes
        Bytes of RAM present, holes not counted (dmesg).
    banks
        Bytes of each bank of RAM, in the order of the addresses that they begin at (dmesg).
    no_map
        Reserved regions that the kernel does not map, as `ram` (dmesg).
    acpi_tables
        ACPI's tables in RAM that the firmware keeps, as `ram` (iomem, dmesg).
    pci_hole
        Address: first PCI window above RAM (iomem).
    zones
        :class:`Zone` (populated ones) (zoneinfo).
    zone_ranges
        (name, first pfn, pfn after the last) (dmesg).
    zone_pages
        (name, pages present) of each zone (dmesg).
    lowmem_end_pfn
        Pfn: the observed border (zoneinfo).
    max_pfn
        Pfn after the last (zoneinfo).
    max_arch_pfn
        Pfn that the kernel can use at most (dmesg).
    low_ram_end
        Physical address: i386 "low ram: 0 - X" (dmesg).
    highmem_mib
        MiB, "MB HIGHMEM available" (dmesg).
    lowmem_mib
        MiB, "MB LOWMEM available" (dmesg).
    high_pfns
        (first, after the last) of HighMem (dmesg).
    highmem_complaints
        What the kernel said of highmem= or of RAM left out (dmesg).
    lowmem_bytes
        Bytes that the allocator manages in lowmem (meminfo).
    highmem_bytes
        Bytes that the allocator manages in highmem (meminfo).
    mem_total, cma_total
        Bytes (meminfo).
    vmalloc_total
        Bytes: VMALLOC_END - VMALLOC_START (meminfo).
    vmalloc_used
        Bytes of the arena in use (meminfo).
    vmalloc_start, vmalloc_end, high_memory
        Addresses (pkmap.start).
    freed_late
        Bytes given to the allocator after the watermarks were made (dmesg).
    layout_block
        Name to (start, end), of kernels that print it (dmesg).
    cmdline
        As the kernel got it (cmdline).
    vmalloc
        Bytes of ``vmalloc=`` (ARC: CONFIG_ARC_KVADDR_SIZE) (cmdline).
    highmem_opt
        Bytes of ``highmem=`` (cmdline).
    mem_opt
        Bytes of ``mem=`` (cmdline).
    reservetop
        Bytes of ``reservetop=`` (cmdline).
    cpus_opt
        ``maxcpus=`` or ``nr_cpus=`` (cmdline).
    nokaslr
        True where given (cmdline).
    phys_pfn_offset
        Pfn of the first RAM (ARM) (iomem).
    areas
        :class:`Area`, in the file's order (vmallocinfo).
    pool_state
        (last_pkmap_nr, tuple of (slot, count, pfn or None)) (pkmap.start).
    pool_pages
        Slot to address of struct page (state.json).
    pkmap_slots
        LAST_PKMAP (pkmap.start).
    kernel_words
        Address to value (pkmap.start).
    mem_map
        Address of the first struct page (a guess, see its detail) (pkmap.start).
    arena_state
        Trees of free, busy and lazily freed areas (state.json).
    probes
        :class:`Probe` (kprobe_events).
    probe_hits
        Event to number (kprobe_profile).
    probe_misses
        Event to number (only those that missed) (kprobe_profile).
    recording
        :class:`Recording` (recorder).
    buffer_entries
        CPU to number of events (stats).
    overrun
        CPU to number of overwritten events (stats).
    dropped
        CPU to number of refused events (stats).
    processes
        :class:`Process`, the largest first (status.txt).
    memory_uses
        Name of a line to bytes: what lowmem is used for (meminfo).
    vmstat_start, vmstat_end
        Counter to number: waits for memory (vmstat.start, vmstat.end).
    buddies
        Zone to its free blocks by order (buddyinfo).
    zone_uses
        :class:`ZoneUse` (zoneinfo).
    zones_end
        :class:`Zone` when the capture ended (zoneinfo.end).
    zone_uses_end
        :class:`ZoneUse` when the capture ended (zoneinfo.end).
    ooms_before, ooms
        :class:`OomReport` of the log before the capture, and of the one at its end (dmesg,
        dmesg.end).
    clock
        Trace clock (trace_clock).
    vmap_failures
        Number of lines in the log (dmesg).
    kmap_warnings
        Number of lines in the log (dmesg).
    seen_pool
        (lowest, highest) address that kmap() returned (the trace).
    seen_local
        (CPU, highest address of kmap_local there) (the trace).
    seen_ranges
        (start, end) that areas were asked from (the trace).
    seen_flushes
        (start, end) of ranged flushes (the trace).
    seen_pfns
        (lowest, highest) frame that was mapped (the trace).
    seen_direct
        (pfn, address) of the lowest address that kmap_local gave (the trace).
    seen_atomic
        True where the kernel has kmap_atomic() of its own (the trace).
    seen_kmap_local
        True where the kernel has kmap_local (the trace).
    seen_cpus
        One more than the highest number of a CPU that has an event of mappings in the trace.
    seen_wide
        An address of more than 32 bits, where most addresses have as many (the trace).
    seen_unsure
        Allocations of address space of which nothing but the address behind a pointer tells that
        they did not fail (the trace).
    seen_found
        Those that did not fail, with an address that is not told (the trace).
    """

    release: str | None = None
    arch: str | None = None
    machine_arch: str | None = None
    pae: bool | None = None
    highmem_enabled: bool | None = None
    config: Mapping[str, str] = field(default_factory=dict)
    config_version: str | None = None
    split: str | None = None
    page_size: int | None = None
    lowmem_limit: int | None = None
    phys_offset: int | None = None
    page_offset: int | None = None
    nr_cpus: int | None = None
    nr_cpu_ids: int | None = None
    page_struct: int | None = None
    smp: bool | None = None
    realtime: bool | None = None
    cpus: int | None = None
    cpus_booted: int | None = None
    cpu_changes: tuple[tuple[int, int, bool], ...] | None = None
    cpu_model: str | None = None
    cpu_flags: frozenset[str] | None = None
    cpu_family: str | None = None
    arm_cpu: tuple[int, int, int, int] | None = None
    tlb_entries: int | None = None
    arm_cache: str | None = None
    board: str | None = None
    ram: tuple[Pair, ...] = ()
    ram_bytes: int | None = None
    banks: tuple[int, ...] = ()
    no_map: tuple[Pair, ...] = ()
    acpi_tables: tuple[Pair, ...] = ()
    pci_hole: int | None = None
    zones: tuple[Zone, ...] = ()
    zone_ranges: tuple[tuple[str, int, int], ...] = ()
    zone_pages: tuple[tuple[str, int], ...] = ()
    lowmem_end_pfn: int | None = None
    max_pfn: int | None = None
    max_arch_pfn: int | None = None
    low_ram_end: int | None = None
    highmem_mib: int | None = None
    lowmem_mib: int | None = None
    high_pfns: Pair | None = None
    highmem_complaints: tuple[str, ...] = ()
    lowmem_bytes: int | None = None
    highmem_bytes: int | None = None
    mem_total: int | None = None
    cma_total: int | None = None
    vmalloc_total: int | None = None
    vmalloc_used: int | None = None
    vmalloc_start: int | None = None
    vmalloc_end: int | None = None
    high_memory: int | None = None
    freed_late: int | None = None
    layout_block: Mapping[str, Pair] = field(default_factory=dict)
    cmdline: str | None = None
    vmalloc: int | None = None
    highmem_opt: int | None = None
    mem_opt: int | None = None
    reservetop: int | None = None
    cpus_opt: int | None = None
    nokaslr: bool | None = None
    phys_pfn_offset: int | None = None
    areas: tuple[Area, ...] = ()
    pool_state: PoolSlots | None = None
    pool_pages: Mapping[int, int] = field(default_factory=dict)
    pkmap_slots: int | None = None
    kernel_words: Mapping[int, int] = field(default_factory=dict)
    mem_map: int | None = None
    arena_state: ArenaTrees | None = None
    probes: tuple[Probe, ...] = ()
    probe_hits: Mapping[str, int] = field(default_factory=dict)
    probe_misses: Mapping[str, int] = field(default_factory=dict)
    recording: Recording | None = None
    buffer_entries: Mapping[int, int] = field(default_factory=dict)
    overrun: Mapping[int, int] = field(default_factory=dict)
    dropped: Mapping[int, int] = field(default_factory=dict)
    processes: tuple[Process, ...] = ()
    memory_uses: Mapping[str, int] = field(default_factory=dict)
    vmstat_start: Mapping[str, int] = field(default_factory=dict)
    vmstat_end: Mapping[str, int] = field(default_factory=dict)
    buddies: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    zone_uses: tuple[ZoneUse, ...] = ()
    zones_end: tuple[Zone, ...] = ()
    zone_uses_end: tuple[ZoneUse, ...] = ()
    ooms_before: tuple[OomReport, ...] = ()
    ooms: tuple[OomReport, ...] | None = None
    clock: str | None = None
    vmap_failures: int | None = None
    kmap_warnings: int | None = None
    seen_pool: Pair | None = None
    seen_local: tuple[Pair, ...] = ()
    seen_ranges: tuple[Pair, ...] = ()
    seen_flushes: tuple[Pair, ...] = ()
    seen_pfns: Pair | None = None
    seen_direct: Pair | None = None
    seen_atomic: bool = False
    seen_kmap_local: bool = False
    seen_wide: int | None = None
    seen_cpus: int | None = None
    seen_unsure: int = 0
    seen_found: int = 0


FactName = Literal[
    "release",
    "arch",
    "machine_arch",
    "pae",
    "highmem_enabled",
    "config",
    "config_version",
    "split",
    "page_size",
    "lowmem_limit",
    "phys_offset",
    "page_offset",
    "nr_cpus",
    "nr_cpu_ids",
    "page_struct",
    "smp",
    "realtime",
    "cpus",
    "cpus_booted",
    "cpu_changes",
    "cpu_model",
    "cpu_flags",
    "cpu_family",
    "arm_cpu",
    "tlb_entries",
    "arm_cache",
    "board",
    "ram",
    "ram_bytes",
    "banks",
    "no_map",
    "acpi_tables",
    "pci_hole",
    "zones",
    "zone_ranges",
    "zone_pages",
    "lowmem_end_pfn",
    "max_pfn",
    "max_arch_pfn",
    "low_ram_end",
    "highmem_mib",
    "lowmem_mib",
    "high_pfns",
    "highmem_complaints",
    "lowmem_bytes",
    "highmem_bytes",
    "mem_total",
    "cma_total",
    "vmalloc_total",
    "vmalloc_used",
    "vmalloc_start",
    "vmalloc_end",
    "high_memory",
    "freed_late",
    "layout_block",
    "cmdline",
    "vmalloc",
    "highmem_opt",
    "mem_opt",
    "reservetop",
    "cpus_opt",
    "nokaslr",
    "phys_pfn_offset",
    "areas",
    "pool_state",
    "pool_pages",
    "pkmap_slots",
    "kernel_words",
    "mem_map",
    "arena_state",
    "probes",
    "probe_hits",
    "probe_misses",
    "recording",
    "buffer_entries",
    "overrun",
    "dropped",
    "processes",
    "memory_uses",
    "vmstat_start",
    "vmstat_end",
    "buddies",
    "zone_uses",
    "zones_end",
    "zone_uses_end",
    "ooms_before",
    "ooms",
    "clock",
    "vmap_failures",
    "kmap_warnings",
    "seen_pool",
    "seen_local",
    "seen_ranges",
    "seen_flushes",
    "seen_pfns",
    "seen_direct",
    "seen_atomic",
    "seen_kmap_local",
    "seen_wide",
    "seen_cpus",
    "seen_unsure",
    "seen_found",
]
"""The fields of a :class:`Snapshot`, for those who write facts down by name."""
