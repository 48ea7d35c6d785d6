"""The boot log: dmesg."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.facts import version
from collectors.facts.arches import of_boot
from collectors.facts.bootmemory import BootMemory
from collectors.facts.cmdline import SIZES
from collectors.facts.loglines import messages
from collectors.facts.numbers import memparse

if TYPE_CHECKING:
    from collections.abc import Callable

    from collectors.facts.model import Sheet
    from collectors.snapshot import FactName


class _Rule(NamedTuple):
    """A fact that one line gives: what the line holds, its pattern, and the value."""

    name: FactName
    key: str
    pattern: re.Pattern[str]
    value: Callable[[re.Match[str]], object]


def _number(name: FactName, key: str, pattern: str, base: int = 10) -> _Rule:
    return _Rule(name, key, re.compile(pattern), lambda m: int(m[1], base))


def _words(name: FactName, key: str, pattern: str) -> _Rule:
    return _Rule(name, key, re.compile(pattern), lambda m: m[1].strip())


_SIMPLE: Final = (
    _number("nr_cpus", "NR_CPUS:", r"\bNR_CPUS:(\d{1,5})\b"),
    _number("nr_cpus", "NR_CPUS=", r"restricting CPUs from NR_CPUS=(\d{1,5}) "),
    _number("nr_cpu_ids", "nr_cpu_ids", r"\bnr_cpu_ids[:=](\d{1,5})\b"),
    _number("nr_cpu_ids", "HWalign", r"^SLUB: .{0,80}\bCPUs=(\d{1,5}), Nodes="),
    _number("cpus_booted", "Brought up", r"Brought up \d{1,4} nodes?, (\d{1,5}) CPU"),
    _number("cpus_booted", "Brought up", r"Brought up (\d{1,5}) CPU"),
    _number("cpus_booted", "Booted up", r"x86: Booted up \d{1,4} nodes?, (\d{1,5}) CPU"),
    _number("cpus_booted", "Total of", r"Total of (\d{1,5}) processors activated"),
    _number("low_ram_end", "low ram: 0", r"^low ram: 0 - ([0-9a-f]{1,16})", 16),
    _number("highmem_mib", "HIGHMEM avail", r"^(\d{1,6})MB HIGHMEM available"),
    _number("lowmem_mib", "LOWMEM avail", r"^(\d{1,6})MB LOWMEM available"),
    _number("max_arch_pfn", "max_arch_pfn", r"max_arch_pfn = 0x([0-9a-f]{1,9})", 16),
    _Rule(
        "high_pfns",
        "Initializing HighMem",
        re.compile(
            r"^Initializing HighMem for node \d{1,4} \((?!0+:)([0-9a-f]{1,9}):([0-9a-f]{1,9})\)"
        ),
        lambda m: (int(m[1], 16), int(m[2], 16)),
    ),
    _words("board", "achine model: ", r"Machine model: (.{1,120})"),
    _words("board", "DMI: ", r"^DMI: (.{1,120})"),
    _words("board", "MIPS: machine", r"^MIPS: machine is (.{1,120})"),
    _words("board", "Machine: ", r"^Machine: (.{1,120})"),
    # arch/arm/mm/proc-v7-3level.S sets AFE in the control register, proc-v7-2level.S does not
    _Rule(
        "pae",
        ", cr=",
        re.compile(r"^CPU: ARM.{0,120}, cr=([0-9a-f]{8})\b"),
        lambda m: bool(int(m[1], 16) >> 29 & 1),
    ),
    # arch/arc/mm/tlb.c: arc_mmu_mumbojumbo
    _Rule(
        "page_size",
        "MMU [v",
        re.compile(r"^MMU \[v\d\][ \t]{0,9}: {0,4}(\d{1,2})k"),
        lambda m: int(m[1]) << 10,
    ),
    _Rule(
        "pae",
        "MMU [v",
        re.compile(r"^MMU \[v\d\][ \t]{0,9}: (.{0,300})"),
        lambda m: "PAE40" in m[1] and "PAE40 (not used)" not in m[1],
    ),
    _words("arm_cache", "data cache", r"^CPU: (.{1,40}data cache, .{1,60})"),
    _words("cmdline", "Kernel command line:", r"^Kernel command line: (.*)$"),
)
"""Facts that one line gives. The first line of a name counts.

i386: arch/x86/mm/init_32.c (highmem_pfn_init, mem_init), arch/x86/kernel/setup_percpu.c,
arch/x86/kernel/e820.c; ARM: arch/arm/kernel/setup.c; all: init/main.c, kernel/smp.c,
mm/page_alloc.c, mm/slub.c, kernel/rcu/tree.c.
"""

_BANNER = re.compile(r"(?<!-)\bLinux version \d{1,2}\.\d")
_FREED = re.compile(r"^Freeing (initrd|unused kernel[\w ()/-]{0,40}) memory: (\d{1,9})K")
_LAYOUT = re.compile(r"irtual kernel memory layout|ernel virtual memory layout")
_BLOCK = re.compile(r"^\.?(\w[\w ]{0,30}?) {0,20}: 0x([0-9a-f]{8}) - 0x([0-9a-f]{8})\b")
_STARRED = re.compile(r"^\* 0x([0-9a-f]{8})\.\.0x([0-9a-f]{8}) {1,20}: (\w[\w &]{0,30})")
_STARRED_NAMES: Final = {"highmem PTEs": "pkmap", "vmalloc & ioremap": "vmalloc"}
"""What PowerPC and Microblaze (arch/*/mm/mem.c, init.c: mem_init) call what others name so."""

# arch/x86/mm/init_32.c: lowmem_pfn_init, highmem_pfn_init; arch/arm/mm/mmu.c: adjust_lowmem_bounds
_COMPLAINT = re.compile(
    r"highmem size specified|[Oo]nly \d{1,9}[MG]B will be used|trimmed|^(?:Truncating|Ignoring) RAM"
)
_NO_HIGHMEM = re.compile(r"[Uu]s(?:e|ing) a HIGHMEM(64G|4G)? enabled kernel")
_TROUBLE: Final[tuple[tuple[FactName, re.Pattern[str]], ...]] = (
    ("vmap_failures", re.compile(r"vmap allocation for size|vmalloc_node_range for size")),
    ("kmap_warnings", re.compile(r"kernel BUG at mm/highmem\.c|WARNING: .{0,200}mm/highmem\.c")),
)


def parse(text: str, sheet: Sheet) -> None:
    """Write down what the kernel said when it booted.

    Facts: those of :data:`_SIMPLE` and of :class:`collectors.facts.bootmemory.BootMemory`;
    release, smp, realtime, machine_arch or arch (:func:`collectors.facts.arches.of_boot`), pae and
    highmem_enabled where the kernel asks for another one, layout_block (the "Virtual kernel memory
    layout" lines of old kernels), freed_late (bytes of initrd and init sections, given back after
    the watermarks were worked out), the size parameters of the command line, highmem_complaints
    (what the kernel said about ``highmem=`` or trimmed RAM), vmap_failures, kmap_warnings (number
    of lines). The log may be in any form that :mod:`collectors.facts.loglines` knows; of several
    boots in it the last one counts.
    """
    lines = _last_boot(list(messages(text)), sheet)
    memory = BootMemory()
    others = _Others()
    for number, line in lines:
        for name, key, pattern, value in _SIMPLE:
            if key in line and (match := pattern.search(line)):
                sheet.add(name, value(match), line=number, detail=line)
        version.tell(line, sheet, number)
        if not memory.see(line, number):
            others.see(line)
        for name, pattern in _TROUBLE:
            if pattern.search(line):
                others.trouble[name] = others.trouble.get(name, 0) + 1
    memory.tell(sheet)
    others.tell(sheet)
    if found := of_boot(lines):
        arch, number, line = found
        sheet.add("arch", arch, line=number, detail=line)
    if "release" not in sheet.facts:
        strange = next((number for number, line in lines if _BANNER.search(line)), None)
        if strange is not None:
            sheet.note(
                f"line {strange}: what stands before 'Linux version' is no form of a log that is "
                "known here; of this log's lines few are understood, or none"
            )
    if not sheet.facts:
        sheet.note("has no line of the kernel's boot (the log has wrapped, or it is another file)")
    _parameters(sheet)


class _Others:
    """What neither one line tells nor is of RAM and zones."""

    def __init__(self) -> None:
        self.trouble: dict[FactName, int] = {}
        self._block: dict[str, tuple[int, int]] = {}
        self._complaints: list[str] = []
        self._in_block = False
        self._freed = 0
        self._wants: set[str] = set()

    def see(self, line: str) -> None:
        """Look at one message."""
        if _LAYOUT.search(line):
            self._in_block = True
        elif match := _FREED.match(line):
            self._freed += int(match[2]) << 10
        elif self._in_block and (match := _BLOCK.match(line)):
            self._block.setdefault(match[1].strip(), (int(match[2], 16), int(match[3], 16)))
        elif self._in_block and (match := _STARRED.match(line)):
            name = match[3].strip()
            ends = int(match[1], 16), int(match[2], 16)
            self._block.setdefault(_STARRED_NAMES.get(name, name), ends)
        elif _COMPLAINT.search(line):
            self._complaints.append(line[:200])
        if match := _NO_HIGHMEM.search(line):
            self._wants.add(match[1] or "")

    def tell(self, sheet: Sheet) -> None:
        """Write the facts down."""
        if self._freed:
            sheet.add("freed_late", self._freed, detail="Freeing initrd, unused kernel memory")
        if self._block:
            sheet.add("layout_block", self._block, detail="virtual kernel memory layout")
        if self._complaints:
            sheet.add("highmem_complaints", tuple(self._complaints[:20]))
        if "64G" in self._wants:
            sheet.add("pae", value=False, detail="Use a HIGHMEM64G enabled kernel")
        if self._wants - {"64G"}:
            sheet.add("highmem_enabled", value=False, detail="Use a HIGHMEM enabled kernel")
        elif self._is_without_pool():
            words = "virtual kernel memory layout without a pool (pkmap)"
            sheet.add("highmem_enabled", value=False, detail=words)
        for name, count in self.trouble.items():
            sheet.add(name, count)

    def _is_without_pool(self) -> bool:
        """Whether the layout is told, and the line that only kernels with HIGHMEM print is not.

        It stands between two that are there: behind the fixmap's on i386 and PowerPC (arch/*/mm:
        mem_init), behind that of lowmem on ARM (arch/arm/mm/init.c: mem_init).
        """
        block = self._block
        after = "text" in block or "modules" in block if "vector" in block else "vmalloc" in block
        return "fixmap" in block and "pkmap" not in block and after


def _last_boot(lines: list[tuple[int, str]], sheet: Sheet) -> list[tuple[int, str]]:
    """The lines of the last boot where a log has several, as syslog's have."""
    starts = [at for at, (_, line) in enumerate(lines) if version.PROC.match(line)]
    if len(starts) < 2:
        return lines
    sheet.note(f"holds {len(starts)} boots; the last one is read")
    return lines[starts[-1] :]


def _parameters(sheet: Sheet) -> None:
    cmdline = sheet.facts.get("cmdline")
    if cmdline is None:
        return
    for word in reversed(cmdline.value.split(" -- ")[0].split()):
        key, equals, value = word.partition("=")
        size = memparse(value) if equals and "@" not in value else None
        if key in SIZES and size is not None:
            sheet.add(SIZES[key], size, detail=word)
