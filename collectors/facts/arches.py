"""How a machine's files name its architecture: configuration, uname -m, processors.

One row per architecture that can have HIGHMEM (and the 64-bit ones that share a switch with it);
the names on the left are those of the model.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


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


def of_config(config: dict[str, str]) -> str | None:
    """Architecture that a configuration is of, None where it does not say."""
    for name, names in ARCHES.items():
        if config.get(names.switch) == "y" and (name != "mips64" or config.get("MIPS") == "y"):
            return name
    return None
