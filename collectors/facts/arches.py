"""How a machine's files name its architecture: configuration, uname -m, processors.

One row per architecture that can have HIGHMEM (and the 64-bit ones that share a switch with it);
the names on the left are those of the model.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class ArchNames(NamedTuple):
    """What gives an architecture away.

    Attributes
    ----------
    switch
        CONFIG_ switch that is on for it and no other.
    pae
        Switch of wide physical addresses; empty: there is none.
    uname
        Pattern of ``uname -m``; empty where it tells nothing.
    """

    switch: str
    pae: str
    uname: str


ARCHES: Final = {
    "i386": ArchNames("X86_32", "X86_PAE", r"i[3-6]86"),
    "arm": ArchNames("ARM", "ARM_LPAE", r"armv[4-8]\w*"),
    "x86_64": ArchNames("X86_64", "", r"x86_64"),
    "arm64": ArchNames("ARM64", "", ""),  # often the kernel under a 32-bit user space
    "arc": ArchNames("ARC", "ARC_HAS_PAE40", r"arc(?:v2\w*|hs\w*)?"),
    "csky": ArchNames("CSKY", "", r"csky"),
    "microblaze": ArchNames("MICROBLAZE", "", r"microblaze(?:el)?"),
    "mips64": ArchNames("64BIT", "", r"mips64"),
    "mips32": ArchNames("MIPS", "PHYS_ADDR_T_64BIT", r"mips(?:el)?"),
    "powerpc32": ArchNames("PPC32", "PTE_64BIT", r"ppc"),
    "sparc32": ArchNames("SPARC32", "", r"sparc"),
    "xtensa": ArchNames("XTENSA", "", r"xtensa"),
}
"""Architecture to its names; of two whose switches are both on the first is meant."""

UNAME: Final = re.compile(
    "|".join(rf"(?P<{name}>\b{n.uname}(?![\w-]))" for name, n in ARCHES.items() if n.uname)
)
"""Finds a machine name in the output of ``uname -a``; the group's name is the architecture."""

WIDE: Final = {
    **dict.fromkeys(("aarch64", "aarch64_be", "arm64"), "arm64"),
    **dict.fromkeys(("ppc64", "ppc64le"), "powerpc64"),
    **{n: n for n in ("sparc64", "s390x", "alpha", "ia64", "riscv64", "loongarch64")},
}
"""Architecture by the machine names of 64-bit kernels that :data:`UNAME` leaves out."""


def of_machine(name: str) -> str | None:
    """Architecture of the kernel that gave its machine name, None where it is of no known one.

    Parameters
    ----------
    name
        As ``uname -m`` on the machine itself has it; the kernel may have said it to a program in a
        32-bit personality, but then it names a 32-bit machine.

    Examples
    --------
    >>> of_machine("armv7l"), of_machine("aarch64"), of_machine("i686"), of_machine("")
    ('arm', 'arm64', 'i386', None)
    """
    if name in WIDE:
        return WIDE[name]
    match = UNAME.fullmatch(name)
    return match.lastgroup if match is not None else None


CPUINFO: Final = {
    "IDENTITY": "arc",
    "C-SKY CPU model": "csky",
    "CPU-Family": "microblaze",
    "microsecond timers": "mips32",
    "timebase": "powerpc32",
    "promlib": "sparc32",
    "core ID": "xtensa",
    "CPU implementer": "arm",
    "Features": "arm",
    "vendor_id": "x86",
    "flags": "x86",
}
"""Field of /proc/cpuinfo that only this architecture has; the first that is there decides.

arch/*/kernel/setup.c, proc.c, cpu.c, cpu-probe.c: show_cpuinfo. ``x86`` may be i386 or x86-64.
"""


HEADERS: Final = {
    "i386": "i386",
    "x86_64": "x86_64",
    "arm": "arm",
    "arm64": "arm64",
    "sparc64": "sparc64",
    "riscv": "riscv",
    "s390": "s390",
    "ia64": "ia64",
    "alpha": "alpha",
    "m68k": "m68k",
    "parisc": "parisc",
    "loongarch": "loongarch64",
}
"""Architecture by the name in a configuration's header, ``# Linux/arm 5.4.1 Kernel Configuration``,
where it can be but one; for configurations without the switches that :data:`ARCHES` knows."""

BOOT: Final = tuple(
    (arch, re.compile(pattern))
    for arch, pattern in (
        # what 64-bit kernels say comes before what they have in common with 32-bit ones
        ("i386", r"\d{1,9}MB LOWMEM available|(?:mapped )?low ram: 0"),
        ("x86_64", r"Command line: "),
        ("arm64", r"CPU: AArch64|Boot CPU: AArch64|Booting Linux on physical CPU 0x\w{10}"),
        ("mips64", r"CPU\d? ?revision is: \w+ \((?:Cavium|SGI|ICT Loongson)"),
        ("powerpc64", r"ppc64_pft_size|hash-mmu: |radix-mmu: |physicalMemorySize"),
        ("sparc64", r"PROMLIB: Sun IEEE|ARCH: SUN4[UV]"),
        ("arm", r"CPU: ARM|Booting Linux on physical CPU|Memory policy: "),
        ("mips32", r"CPU\d? ?revision is: \w+ \(|MIPS: machine is|Determined physical RAM map"),
        ("sparc32", r"PROMLIB: |ARCH: (?:SUN4[CDM]|LEON)"),
        (
            "powerpc32",
            r"Using .{1,60} machine description|Total memory = \d{1,9}MB; using|Memory CAM ",
        ),
        ("microblaze", r"setup_cpuinfo: |setup_memory: max_mapnr"),
        ("arc", r"IDENTITY\s*: ARC"),
        ("csky", r"C-SKY: "),
        ("xtensa", r"config ID: \w{8}:\w{8}"),
        ("riscv", r"riscv: |SBI specification|SBI: "),
        ("sh", r"Booting machvec: |PVR=[0-9a-f]{8} CVR="),
        ("m68k", r"Detected .{1,60}m68k|Saved \d+ bytes of bootinfo"),
        ("ia64", r"EFI v.{1,20} by .{1,60} SALsystab"),
        ("s390", r"setup: Linux is running (?:as a z/VM|natively in|under KVM)"),
        ("x86", r"BIOS-e820: |e820: |BIOS-provided physical RAM map|x86/fpu: "),
    )
)
"""Architecture to the beginning of messages that only its kernels print at boot.

arch/*/kernel/setup.c, arch/*/mm/init*.c. ``x86`` may be i386 or x86-64; names that the model does
not know are there so that nothing is taken for what it is not.
"""

COMPILERS: Final = tuple(
    (arch, re.compile(rf"\({pattern}[\w.]*-(?:[\w.]+-){{0,4}}gcc"))
    for arch, pattern in (
        ("arm64", "aarch64"),
        ("arm", "arm(?:v[4-7])?"),
        ("mips64", "mips64"),
        ("mips32", "mips"),
        ("powerpc64", "(?:powerpc64|ppc64)"),
        ("powerpc32", "(?:powerpc|ppc)"),
        ("sparc64", "sparc64"),
        ("sparc32", "sparc"),
        ("microblaze", "microblaze"),
        ("xtensa", "xtensa"),
        ("csky", "csky"),
        ("arc64", "arc64"),
        ("arc", "arc"),
        ("riscv", "riscv"),
        ("i386", "i[3-6]86"),
        ("sh", "sh[1-4]?a?(?:eb|el)?"),
        ("m68k", "m68k"),
        ("nds32", "nds32(?:le|be)?"),
        ("nios2", "nios2"),
        ("openrisc", "or1k"),
        ("parisc", "hppa"),
        ("hexagon", "hexagon"),
        ("loongarch64", "loongarch64"),
        ("s390", "s390x?"),
        ("alpha", "alpha"),
        ("ia64", "ia64"),
    )
)
"""Architecture to the name of the cross compiler in the kernel's banner."""

_WIDE_ZONE = re.compile(r"DMA32 +(?:\[mem|empty|0x[0-9a-f]+ -> +0x)")


def of_boot(lines: Sequence[tuple[int, str]]) -> tuple[str, int, str] | None:
    """Architecture that a boot log is of.

    Parameters
    ----------
    lines
        Number and message of each line.

    Returns
    -------
    tuple or None
        Architecture, and the line that says so; None where none does. A kernel that says no more
        than that it is for x86 is one for i386, unless it has a zone DMA32
        (arch/x86/mm/init.c: zone_sizes_init).
    """
    found: dict[str, tuple[int, str]] = {}
    banner: tuple[str, int, str] | None = None
    wide = False
    for number, line in lines[:_BOOT_LINES]:
        wide = wide or _WIDE_ZONE.match(line) is not None
        if line.startswith("Linux version "):
            banner = next(
                ((arch, number, line) for arch, pattern in COMPILERS if pattern.search(line)), None
            )
            continue
        if _OF_ANY.match(line):
            for arch, pattern in BOOT:
                if arch not in found and pattern.match(line):
                    found[arch] = number, line
    for arch, _ in BOOT:
        if arch in found:
            name = {"x86": "i386"}.get(arch, arch)
            return (_WITH_DMA32.get(name, name) if wide else name), *found[arch]
    return banner


_BOOT_LINES: Final = 2000
_OF_ANY: Final = re.compile("|".join(f"(?:{pattern.pattern})" for _, pattern in BOOT))
"""Few lines of a boot log are of one architecture."""
_WITH_DMA32: Final = {"i386": "x86_64", "arm": "arm64", "mips32": "mips64"}
"""What an architecture is called where its kernel has a zone DMA32, which 32-bit ones have not."""


def of_config(config: dict[str, str]) -> str | None:
    """Architecture that a configuration is of, None where it does not say."""
    for name, names in ARCHES.items():
        if config.get(names.switch) == "y" and (name != "mips64" or config.get("MIPS") == "y"):
            return name
    return None
