"""What a machine says about itself: configuration, memory map, zones, processors, boot log.

Each module here reads one kind of file; none raises for a damaged one, which leaves a note
instead. Values by name:

==================  =============================================================  ============
name                value                                                          from
==================  =============================================================  ============
release             ``uname -r``                                                   version
arch                ``i386``, ``arm``, … : see :mod:`collectors.facts.arches`      config
pae                 bool: PAE (i386), LPAE (ARM), PAE40, XPA, PHYS_64BIT           config
highmem_enabled     bool: CONFIG_HIGHMEM                                           config
config              dict: CONFIG_* that matter, without the prefix, to value       config
config_version      version in the configuration's header                          config
split               ``3g``, ``3g_opt``, ``2g``, ``2g_opt``, ``1g``; ``2.5g``       config
                    (csky), ``128m``, ``256m``, ``512m`` (xtensa)
page_size           bytes                                                          config
lowmem_limit        bytes: CONFIG_LOWMEM_SIZE                                      config
phys_offset         address: CONFIG_KSEG_PADDR (xtensa)                            config
page_offset         address: PAGE_OFFSET                                           config
nr_cpus             CONFIG_NR_CPUS                                                 config
nr_cpu_ids          CPUs that the kernel made room for                             dmesg
page_struct         bytes: sizeof(struct page)                                     config
smp                 bool: SMP kernel                                               version
cpus                CPUs online when cpuinfo was read                              cpuinfo
cpus_booted         CPUs brought up at boot                                        dmesg
cpu_model           str                                                            cpuinfo
cpu_flags           frozenset of str                                               cpuinfo
cpu_family          ``x86``, ``arm``, or the architecture's name                   cpuinfo
arm_cpu             (implementer, part, variant, revision)                         cpuinfo
arm_cache           kind of the caches, in words                                   dmesg
board               DMI or device tree name                                        dmesg
ram                 tuple of (first byte, byte after the last), ascending          iomem, dmesg
pci_hole            address: first PCI window above RAM                            iomem
zones               tuple of :class:`Zone` (populated ones)                        zoneinfo
zone_ranges         tuple of (name, first pfn, pfn after the last)                 dmesg
lowmem_end_pfn      pfn: the observed border                                       zoneinfo
max_pfn             pfn after the last                                             zoneinfo
max_arch_pfn        pfn that the kernel can use at most                            dmesg
low_ram_end         physical address: i386 "low ram: 0 - X"                        dmesg
highmem_mib         MiB, "MB HIGHMEM available"                                    dmesg
lowmem_mib          MiB, "MB LOWMEM available"                                     dmesg
high_pfns           (first, after the last) of HighMem                             dmesg
highmem_complaints  what the kernel said of highmem= or of RAM left out            dmesg
lowmem_bytes        bytes that the allocator manages in lowmem                     meminfo
highmem_bytes       bytes that the allocator manages in highmem                    meminfo
mem_total           bytes                                                          meminfo
cma_total           bytes                                                          meminfo
vmalloc_total       bytes: VMALLOC_END - VMALLOC_START                             meminfo
vmalloc_used        bytes                                                          meminfo
vmalloc_start       address                                                        pkmap.start
vmalloc_end         address                                                        pkmap.start
high_memory         address                                                        pkmap.start
freed_late          bytes given to the allocator after the watermarks were made    dmesg
layout_block        dict: name to (start, end), of kernels that print it           dmesg
cmdline             str                                                            cmdline
vmalloc             bytes of ``vmalloc=`` (ARC: CONFIG_ARC_KVADDR_SIZE)            cmdline
highmem_opt         bytes of ``highmem=``                                          cmdline
mem_opt             bytes of ``mem=``                                              cmdline
reservetop          bytes of ``reservetop=``                                       cmdline
cpus_opt            ``maxcpus=`` or ``nr_cpus=``                                   cmdline
nokaslr             True where given                                               cmdline
phys_pfn_offset     pfn of the first RAM (ARM)                                     iomem
areas               tuple of :class:`Area`, in the file's order                    vmallocinfo
pool_state          (last_pkmap_nr, tuple of (slot, count, pfn or None))           pkmap.start
pool_pages          dict: slot to address of struct page                           state.json
pkmap_slots         LAST_PKMAP                                                     pkmap.start
kernel_words        dict: address to value                                         pkmap.start
mem_map             address of the first struct page (a guess, see its detail)     pkmap.start
arena_state         trees of free, busy and lazily freed areas                     state.json
probes              tuple of :class:`Probe`                                        kprobe_events
probe_hits          dict: event to number                                          kprobe_profile
probe_misses        dict: event to number (only those that missed)                 kprobe_profile
buffer_entries      dict: CPU to number of events                                  stats
overrun             dict: CPU to number of overwritten events                      stats
dropped             dict: CPU to number of refused events                          stats
clock               trace clock                                                    trace_clock
vmap_failures       number of lines in the log                                     dmesg
kmap_warnings       number of lines in the log                                     dmesg
seen_pool           (lowest, highest) address that kmap() returned                 the trace
seen_local          tuple of (CPU, highest address of kmap_local there)            the trace
seen_ranges         tuple of (start, end) that areas were asked from               the trace
seen_flushes        tuple of (start, end) of ranged flushes                        the trace
seen_pfns           (lowest, highest) frame that was mapped                        the trace
seen_direct         (pfn, address) of the lowest address that kmap_local gave      the trace
seen_atomic         True where the kernel has kmap_atomic() of its own             the trace
seen_kmap_local     True where the kernel has kmap_local                           the trace
==================  =============================================================  ============
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from collectors.facts import (
    buffers,
    cmdline,
    config,
    cpuinfo,
    dmesg,
    iomem,
    kprobes,
    meminfo,
    pkmap,
    version,
    vmallocinfo,
    zoneinfo,
)
from collectors.facts.combine import combine
from collectors.facts.model import Area, Fact, Facts, Probe, Sheet, Zone
from collectors.facts.reading import read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from collectors.facts.reading import Content

__all__ = ["Area", "Fact", "Facts", "Probe", "Zone", "read_facts", "read_folder"]

PARSERS: Final[dict[str, Callable[[str, Sheet], None]]] = {
    "config": config.parse,
    "version": version.parse,
    "uname": version.parse,
    "cmdline": cmdline.parse,
    "iomem": iomem.parse,
    "zoneinfo": zoneinfo.parse,
    "meminfo": meminfo.parse,
    "cpuinfo": cpuinfo.parse,
    "pkmap.start": pkmap.parse_start,
    "state.json": pkmap.parse_state,
    "vmallocinfo.start": vmallocinfo.parse,
    "vmallocinfo": vmallocinfo.parse,
    "kprobe_events": kprobes.parse_events,
    "kprobe_profile": kprobes.parse_profile,
    "stats": buffers.parse_stats,
    "trace_clock": buffers.parse_clock,
    "trace_settings": buffers.parse_settings,
    "dmesg": dmesg.parse,
}
"""Files that are read, in the order of trust, and what reads them.

What a machine knew at the end of a capture (``*.end``) and the judges of the tests
(``truth*``, ``pkmap.end``) are not among them.
"""

EXCLUSIVE: Final = (("vmallocinfo.start", "vmallocinfo"), ("version", "uname"))
"""Of these, the second is read only where the first is missing."""

_COMPRESSED = (".gz", ".xz", ".zst")


def read_facts(files: Mapping[str, Content]) -> Facts:
    """Read what a machine said about itself.

    Parameters
    ----------
    files
        File name (a folder before it is ignored) to content or path; gz, xz and zst are
        decompressed. Files of other names are ignored.

    Returns
    -------
    Facts
        Empty where no file is known.
    """
    chosen: dict[str, tuple[str, Content]] = {}
    for name in sorted(files, key=lambda n: (len(n), n)):
        kind = kind_of(name)
        if kind is not None:
            chosen.setdefault(kind, (name.rsplit("/", 1)[-1], files[name]))
    for better, worse in EXCLUSIVE:
        if better in chosen:
            chosen.pop(worse, None)
    sheets = []
    for kind, parse in PARSERS.items():
        if kind in chosen:
            name, content = chosen[kind]
            sheets.append(_read_one(name, content, parse))
    return combine(sheets)


def read_folder(folder: Path) -> Facts:
    """Read the machine's files of a capture folder, as :func:`read_facts`.

    Parameters
    ----------
    folder
        Where they are; subfolders are not looked into.

    Returns
    -------
    Facts
        With a note where the folder cannot be listed.
    """
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError as error:
        sheet = Sheet(str(folder))
        sheet.note(f"cannot be listed ({error.strerror or error})")
        return combine([sheet])
    return read_facts({name: folder / name for name in names if kind_of(name) is not None})


def kind_of(name: str) -> str | None:
    """Key in :data:`PARSERS` of a file name, None where it is no machine file.

    Examples
    --------
    >>> kind_of("config.gz"), kind_of("dmesg.end.gz"), kind_of("config-6.1.0-50-686-pae")
    ('config', None, 'config')
    """
    base = name.rsplit("/", 1)[-1]
    for suffix in _COMPRESSED:
        base = base.removesuffix(suffix)
    if base in PARSERS:
        return base
    if base.removesuffix(".txt") in PARSERS:
        return base.removesuffix(".txt")
    return "config" if base.startswith("config-") else None


def kinds() -> Iterable[str]:
    """Names of the files that are read, for messages and the recorder."""
    return PARSERS.keys()


def _read_one(name: str, content: Content, parse: Callable[[str, Sheet], None]) -> Sheet:
    sheet = Sheet(name)
    text, trouble = read_text(content)
    if trouble is not None:
        sheet.note(trouble)
    if not text:
        if trouble is None:
            sheet.note("empty")
        return sheet
    parse(text, sheet)
    if not sheet.facts and not sheet.notes:
        sheet.note("holds nothing that is known")
    return sheet
