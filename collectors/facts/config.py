"""The kernel's configuration: config, config.gz, config-6.1.0-50-686-pae."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from collectors.facts.arches import ARCHES, HEADERS, of_config
from collectors.facts.numbers import whole

if TYPE_CHECKING:
    from collectors.facts.model import Sheet
    from collectors.snapshot import FactName

_OPTION = re.compile(r"^CONFIG_(\w+)=(.*)$", re.MULTILINE)
_OFF = re.compile(r"^# CONFIG_(\w+) is not set$", re.MULTILINE)
_HEADER = re.compile(r"^# Linux/(\w+) (\d\S*) Kernel Configuration", re.MULTILINE)

_MATTERS = """
    X86_32 X86_64 ARM ARM64 MIPS PPC32 SPARC32 XTENSA ARC CSKY MICROBLAZE
    HIGHMEM HIGHMEM4G HIGHMEM64G NOHIGHMEM HIGHPTE X86_PAE ARM_LPAE PAGE_OFFSET PHYS_OFFSET
    VMSPLIT_3G VMSPLIT_3G_OPT VMSPLIT_2G VMSPLIT_2G_OPT VMSPLIT_1G
    SMP NR_CPUS PREEMPT_RT PREEMPT_RT_FULL PREEMPT_VOLUNTARY PREEMPT PREEMPT_DYNAMIC
    X86_LOCAL_APIC X86_IO_APIC PCI_MMCONFIG PARAVIRT PARAVIRT_XXL ACPI_APEI_GHES INTEL_TXT
    PROVIDE_OHCI1394_DMA_INIT X86_INTEL_MID X86_MRST X86_F00F_BUG X86_VISWS_APIC
    X86_CYCLONE_TIMER CPU_SUP_INTEL X86_IOPL_IOPERM
    PAGE_TABLE_ISOLATION MITIGATION_PAGE_TABLE_ISOLATION
    KMAP_LOCAL DEBUG_KMAP_LOCAL DEBUG_KMAP_LOCAL_FORCE_MAP DEBUG_HIGHMEM DEBUG_PAGEALLOC
    DEBUG_TLBFLUSH DEBUG_VIRTUAL RANDOMIZE_BASE
    MEMCG NUMA KMSAN SLUB SLAB SLOB FLATMEM SPARSEMEM DISCONTIGMEM ZONE_DMA CMA VMAP_STACK
    ARM_ERRATA_798181 ARM_ERRATA_720789 CPU_TLB_V6 CPU_TLB_V7 CPU_V6 CPU_V6K CPU_V7
    CPU_CACHE_VIVT CPU_CACHE_VIPT THUMB2_KERNEL ARM_MODULE_PLTS MODULES KALLSYMS_ALL
    64BIT PHYS_ADDR_T_64BIT MIPS_HUGE_TLB_SUPPORT BMIPS_GENERIC MACH_TX49XX PTE_64BIT
    PPC_85xx PPC_83xx PPC_8xx PPC_BOOK3S_32 44x NOT_COHERENT_CACHE LOWMEM_SIZE KERNEL_START
    KASAN ARCH_OMAP2PLUS ARCH_OMAP2 ARCH_OMAP3 ARCH_OMAP4 ARCH_SHMOBILE ARCH_MXC ARCH_EXYNOS4
    ARCH_VEXPRESS ARCH_REALVIEW ARCH_U8500 ARCH_MMP ARCH_KIRKWOOD ARCH_DOVE ARCH_MV78XX0
    ARC_HAS_PAE40 ARC_HUGEPAGE_2M ARC_HUGEPAGE_16M ARC_KVADDR_SIZE
    ARC_PAGE_SIZE_4K ARC_PAGE_SIZE_8K ARC_PAGE_SIZE_16K
    PAGE_SIZE_4KB PAGE_SIZE_8KB PAGE_SIZE_16KB PAGE_SIZE_32KB PAGE_SIZE_64KB PAGE_SIZE_256KB
    PAGE_OFFSET_80000000 PAGE_OFFSET_A0000000 HAVE_TCM HAVE_DTCM SPARC_LEON
    XTENSA_KSEG_MMU_V2 XTENSA_KSEG_256M XTENSA_KSEG_512M KSEG_PADDR X86_VSYSCALL_EMULATION
    TRANSPARENT_HUGEPAGE_ALWAYS TRANSPARENT_HUGEPAGE_MADVISE
"""
MATTERS: Final = frozenset(_MATTERS.split())
"""Switches that move an address or choose a rule; the rest of a configuration is not kept."""

_SPLITS = {
    "VMSPLIT_3G": "3g",
    "VMSPLIT_3G_OPT": "3g_opt",
    "VMSPLIT_2G": "2g",
    "VMSPLIT_2G_OPT": "2g_opt",
    "VMSPLIT_1G": "1g",
    "PAGE_OFFSET_80000000": "2g",
    "PAGE_OFFSET_A0000000": "2.5g",
    "XTENSA_KSEG_MMU_V2": "128m",
    "XTENSA_KSEG_256M": "256m",
    "XTENSA_KSEG_512M": "512m",
}
_PAGE_SIZE = re.compile(r"(?:ARC_)?PAGE_SIZE_(\d{1,4})KB?")


def parse(text: str, sheet: Sheet) -> None:
    """Write down what a configuration fixes: architecture, split, PAE, sizes.

    Facts: config, arch, pae, split, page_offset, nr_cpus, highmem_enabled, page_struct,
    page_size, lowmem_limit, phys_offset, vmalloc (ARC), config_version.
    """
    config: dict[str, str] = {}
    at: dict[str, int] = {}
    for match in _OPTION.finditer(text):
        if match[1] in MATTERS:
            config[match[1]] = match[2].strip().strip('"')
            at[match[1]] = match.start()
    if not config and not _OFF.search(text):
        sheet.note("holds no CONFIG_ line")
        return

    def add(name: FactName, value: object, option: str | None, detail: str = "") -> None:
        line = text.count("\n", 0, at[option]) + 1 if option in at else None
        if option is not None and not detail:
            detail = f"CONFIG_{option}={config[option]}" if option in config else f"no {option}"
        sheet.add(name, value, line=line, detail=detail)

    sheet.add("config", config, detail=f"{len(config)} switches that matter")
    if header := _HEADER.search(text):
        sheet.add("config_version", header[2], detail=header[0])
    arch = of_config(config)
    if arch is not None:
        add("arch", arch, ARCHES[arch].switch)
    elif header and (named := HEADERS.get(header[1])):
        sheet.add("arch", named, detail=header[0])
    if arch is not None and (pae := ARCHES[arch].pae):
        add("pae", config.get(pae) == "y", pae)
    for option, split in _SPLITS.items():
        if config.get(option) == "y":
            add("split", split, option)
    for option in ("PAGE_OFFSET", "KERNEL_START"):  # the other name is microblaze's
        if (offset := _number(config.get(option))) is not None:
            add("page_offset", offset, option)
    if (count := _number(config.get("NR_CPUS"))) is not None:
        add("nr_cpus", count, "NR_CPUS")
    if config.get("SMP") != "y":
        add("nr_cpus", 1, "SMP")
    chosen = any(config.get(name) == "y" for name in ("HIGHMEM", "HIGHMEM4G", "HIGHMEM64G"))
    add("highmem_enabled", chosen, "HIGHMEM")
    for option, setting in config.items():
        if setting == "y" and (kib := _PAGE_SIZE.fullmatch(option)):
            add("page_size", int(kib[1]) << 10, option)
    sizes: dict[FactName, str] = {"lowmem_limit": "LOWMEM_SIZE", "phys_offset": "KSEG_PADDR"}
    for name, option in sizes.items():
        if (size := _number(config.get(option))) is not None:
            add(name, size, option)
    if (kvaddr := _number(config.get("ARC_KVADDR_SIZE"))) is not None and kvaddr <= 512:
        add("vmalloc", kvaddr << 20, "ARC_KVADDR_SIZE")
    if arch is not None and not arch.endswith("64"):
        size, why = page_struct(config)
        add("page_struct", size, None, why)


def page_struct(config: dict[str, str]) -> tuple[int, str]:
    """Size of struct page in bytes on a 32-bit kernel, and why.

    include/linux/mm_types.h: 32 bytes, 4 more for memcg_data, 4 for last_cpupid where NUMA
    leaves no room in the flags, 4 for page.virtual on ARC (asm/page.h: WANT_PAGE_VIRTUAL);
    arch/x86 aligns it to 8 (HAVE_ALIGNED_STRUCT_PAGE, with SLUB).
    """
    size = 32
    words = ["32"]
    for option in ("MEMCG", "NUMA", "ARC"):
        if config.get(option) == "y":
            size += 4
            words.append(f"4 {option}")
    if config.get("X86_32") == "y" and config.get("SLUB") == "y" and size % 8:
        size += 8 - size % 8
        words.append("aligned to 8")
    return size, " + ".join(words)


def _number(text: str | None) -> int | None:
    value = whole(text or "")
    return value if value is not None and 0 < value < 1 << 32 else None
