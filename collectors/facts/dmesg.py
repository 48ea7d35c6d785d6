"""The boot log: dmesg."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from collectors.facts.cmdline import SIZES
from collectors.facts.iomem import merge
from collectors.facts.numbers import memparse

if TYPE_CHECKING:
    from collections.abc import Callable

    from collectors.facts.model import Sheet
    from collectors.snapshot import FactName

# "[    0.000000] ", "<6>[ 0.0] " and "[    0.000000][    T0] "
_STAMP = re.compile(r"^(?:<\d+>)?\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?")
_ZONE = re.compile(r"^ +(DMA|DMA32|Normal|HighMem) +(?:\[mem 0x([0-9a-f]+)-0x([0-9a-f]+)\]|empty)")
_EARLY = re.compile(r"^ +node +\d+: \[mem 0x([0-9a-f]+)-0x([0-9a-f]+)\]")
_BLOCK = re.compile(r"^ +\.?(\w[\w ]*?) *: 0x([0-9a-f]{8}) - 0x([0-9a-f]{8})\b")
_POWERPC = re.compile(r"^ +\* 0x([0-9a-f]{8})\.\.0x([0-9a-f]{8}) +: (fixmap|highmem PTEs)")
_MAX_LINES: Final = 100_000

_SIMPLE: Final[tuple[tuple[FactName, re.Pattern[str], Callable[[re.Match[str]], object]], ...]] = (
    ("release", re.compile(r"^Linux version (\S{1,80})"), lambda m: m[1]),
    ("nr_cpus", re.compile(r"\bNR_CPUS:(\d{1,5})\b"), lambda m: int(m[1])),
    ("nr_cpus", re.compile(r"restricting CPUs from NR_CPUS=(\d{1,5}) "), lambda m: int(m[1])),
    ("nr_cpu_ids", re.compile(r"\bnr_cpu_ids[:=](\d{1,5})\b"), lambda m: int(m[1])),
    ("cpus_booted", re.compile(r"Brought up \d+ nodes?, (\d{1,5}) CPU"), lambda m: int(m[1])),
    ("low_ram_end", re.compile(r"^  low ram: 0 - ([0-9a-f]{1,16})"), lambda m: int(m[1], 16)),
    ("highmem_mib", re.compile(r"^(\d{1,6})MB HIGHMEM available"), lambda m: int(m[1])),
    ("lowmem_mib", re.compile(r"^(\d{1,6})MB LOWMEM available"), lambda m: int(m[1])),
    ("max_arch_pfn", re.compile(r"max_arch_pfn = 0x([0-9a-f]{1,9})"), lambda m: int(m[1], 16)),
    (
        "high_pfns",
        re.compile(r"^Initializing HighMem for node \d+ \(([0-9a-f]{1,9}):([0-9a-f]{1,9})\)"),
        lambda m: (int(m[1], 16), int(m[2], 16)),
    ),
    ("board", re.compile(r"Machine model: (.{1,120})"), lambda m: m[1].strip()),
    ("board", re.compile(r"^DMI: (.{1,120})"), lambda m: m[1].strip()),
    ("arm_cache", re.compile(r"^CPU: (.{1,40}data cache, .{1,60})"), lambda m: m[1].strip()),
    ("cmdline", re.compile(r"^Kernel command line: (.*)$"), lambda m: m[1].strip()),
)
"""Facts that one line gives: name, pattern, value. The first line of a name counts.

i386: arch/x86/mm/init_32.c (highmem_pfn_init, mem_init), arch/x86/kernel/setup_percpu.c,
arch/x86/kernel/e820.c; ARM: arch/arm/kernel/setup.c; both: init/main.c, kernel/smp.c,
mm/page_alloc.c, kernel/rcu/tree.c.
"""

_FREED = re.compile(r"^Freeing (initrd|unused kernel[\w ()/-]{0,40}) memory: (\d{1,9})K")

# arch/x86/mm/init_32.c: lowmem_pfn_init, highmem_pfn_init
_COMPLAINT = re.compile(r"highmem size specified|[Oo]nly \d+[MG]B will be used|trimmed")
_TROUBLE: Final[tuple[tuple[FactName, re.Pattern[str]], ...]] = (
    ("vmap_failures", re.compile(r"vmap allocation for size|vmalloc_node_range for size")),
    ("kmap_warnings", re.compile(r"kernel BUG at mm/highmem\.c|WARNING: .*mm/highmem\.c")),
)


def parse(text: str, sheet: Sheet) -> None:
    """Write down what the kernel said when it booted.

    Facts: those of :data:`_SIMPLE`, zone_ranges (tuple of (name, first pfn, pfn after the
    last)), lowmem_end_pfn, max_pfn, ram (early memory nodes), layout_block (the "Virtual kernel
    memory layout" lines of old kernels), freed_late (bytes of initrd and init sections, given back
    after the watermarks were worked out), the size parameters of the command line,
    highmem_complaints (what the kernel said about ``highmem=`` or trimmed RAM), vmap_failures,
    kmap_warnings (number of lines).
    """
    zones: list[tuple[str, int, int]] = []
    nodes: list[tuple[int, int]] = []
    block: dict[str, tuple[int, int]] = {}
    complaints: list[str] = []
    trouble: dict[FactName, int] = {}
    in_block = False
    freed = zone_line = 0
    for number, raw in enumerate(text.split("\n", _MAX_LINES)[:_MAX_LINES], 1):
        line = _STAMP.sub("", raw.rstrip("\r"), count=1)[:2000]
        for name, pattern, value in _SIMPLE:
            if match := pattern.search(line):
                sheet.add(name, value(match), line=number, detail=line)
        if match := _ZONE.match(line):
            zone_line = zone_line or number
            if match[2] and (z := _zone(match)) not in zones:
                zones.append(z)
        elif match := _EARLY.match(line):
            nodes.append((int(match[1], 16), int(match[2], 16) + 1))
        elif "irtual kernel memory layout" in line or "ernel virtual memory layout" in line:
            in_block = True
        elif match := _FREED.match(line):
            freed += int(match[2]) << 10
        elif in_block and (match := _BLOCK.match(line)):
            block.setdefault(match[1].strip(), (int(match[2], 16), int(match[3], 16)))
        elif in_block and (match := _POWERPC.match(line)):
            what = {"highmem PTEs": "pkmap"}.get(match[3], match[3])
            block.setdefault(what, (int(match[1], 16), int(match[2], 16)))
        elif _COMPLAINT.search(line):
            complaints.append(line.strip()[:200])
        for name, pattern in _TROUBLE:
            if pattern.search(line):
                trouble[name] = trouble.get(name, 0) + 1
    if not sheet.facts and not zones:
        sheet.note("has no line of the kernel's boot (the log has wrapped, or it is another file)")
    _zones(zones, zone_line, sheet)
    if nodes:
        sheet.add("ram", merge(nodes), detail="Early memory node ranges")
    if freed:
        sheet.add("freed_late", freed, detail="Freeing initrd, unused kernel memory")
    if block:
        sheet.add("layout_block", block, detail="virtual kernel memory layout")
    if complaints:
        sheet.add("highmem_complaints", tuple(complaints[:20]))
    for name, count in trouble.items():
        sheet.add(name, count)
    _parameters(sheet)


def _zone(match: re.Match[str]) -> tuple[str, int, int]:
    return match[1], int(match[2], 16) >> 12, (int(match[3], 16) + 1) >> 12


def _zones(zones: list[tuple[str, int, int]], line: int, sheet: Sheet) -> None:
    if not zones:
        return
    sheet.add("zone_ranges", tuple(zones), line=line, detail="Zone ranges")
    high = [z for z in zones if z[0] == "HighMem"]
    if high:
        sheet.add("lowmem_end_pfn", high[0][1], line=line, detail="Zone ranges: HighMem")
    else:
        sheet.add("lowmem_end_pfn", max(z[2] for z in zones), line=line, detail="Zone ranges")
    sheet.add("max_pfn", max(z[2] for z in zones), line=line, detail="Zone ranges")


def _parameters(sheet: Sheet) -> None:
    cmdline = sheet.facts.get("cmdline")
    if cmdline is None:
        return
    for word in reversed(cmdline.value.split(" -- ")[0].split()):
        key, equals, value = word.partition("=")
        size = memparse(value) if equals and "@" not in value else None
        if key in SIZES and size is not None:
            sheet.add(SIZES[key], size, detail=word)
