"""RAM and zones in the boot log, as kernels since 2.6 have printed them.

======================== ======================================================= ============
lines                    of                                                      kernels
======================== ======================================================= ============
``BIOS-e820:``           firmware's map, x86 (arch/x86/kernel/e820.c)            [mem since 3.5
``memory: … @ …``        firmware's map, MIPS (arch/mips/kernel/setup.c)         up to 5.0
``Memory @ … […M]``      banks, ARC (arch/arc/mm/init.c); what is not used is   all
                         highmem of a kernel without HIGHMEM
``Zone ranges``          zones (mm/page_alloc.c: free_area_init)                 since 3.5
``Zone PFN ranges``      the same in frames, decimal up to 2.6.26                up to 3.4
``Early memory node``    RAM as the kernel uses it                               since 3.5
``early_node_map``       the same in frames                                      up to 3.4
``On node … totalpages`` RAM without holes; sizes of zones follow                all
``Memory:``              RAM and highmem in KiB; ARM's banks in MiB up to 3.9    all
``OF: reserved mem:``    reserved regions (drivers/of/of_reserved_mem.c)         since 6.3
``cma: Reserved``        CMA (mm/cma.c, kernel/dma/contiguous.c)                 since 3.5
======================== ======================================================= ============
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from collectors.facts.iomem import merge

if TYPE_CHECKING:
    from collectors.facts.model import Sheet
    from collectors.snapshot import FactName, Pair

_HEX = r"0x([0-9a-f]{1,16})"
_MEM = rf"\[mem {_HEX}-{_HEX}\]"
_NAME = r"(DMA|DMA32|Normal|HighMem)"
_ZONE: Final = re.compile(rf"{_NAME} +(?:{_MEM}|empty)")
_PFN = r"(0x[0-9a-f]{1,9}|\d{1,9})"
_ZONE_PFN: Final = re.compile(rf"{_NAME} +{_PFN} -> +{_PFN}$")
_NODE: Final = re.compile(rf"node +\d{{1,4}}: {_MEM}")
_NODE_PFN: Final = re.compile(rf"\d{{1,4}}: +{_PFN} -> +{_PFN}$")
_E820: Final = re.compile(rf"(BIOS-e820|user|modified): {_MEM}[ \t]+(?:usable|System RAM)")
_ACPI: Final = re.compile(rf"BIOS-e820: {_MEM}[ \t]+ACPI data")
_E820_OLD: Final = re.compile(
    r"(BIOS-e820|user|modified): ([0-9a-f]{16}) - ([0-9a-f]{16}) \(usable\)"
)
_MIPS: Final = re.compile(r"memory: ([0-9a-f]{8,16}) @ ([0-9a-f]{8,16}) \(usable\)")
_ARC: Final = re.compile(r"Memory @ ([0-9a-f]{1,16}) \[(\d{1,6})M\][ \t]{0,9}(Not used)?$")
_TOTAL: Final = re.compile(r"On node \d{1,4} totalpages: (\d{1,10})")
_PAGES: Final = re.compile(
    rf"{_NAME} zone: (\d{{1,10}}) pages( used for memmap| reserved|, LIFO|$)"
)
_BANKS: Final = re.compile(r"Memory: ((?:\d{1,6}MB ){1,16})= (\d{1,6})MB total")
_MEMORY: Final = re.compile(r"Memory: {1,4}\d{1,12}K/(\d{1,12})K available")
_TOLD_IN_FULL: Final = re.compile(
    r"Memory: \d{1,12}K/\d{1,12}K available \(\d{1,9}K kernel code,.{0,300}reserved\)$"
)
"""Since 7ee3d4e8cd56 "mm: introduce helper function mem_init_print_info() to simplify mem_init()"
(3.11) highmem ends this line in every kernel that is built for it, also where there is none."""
_LISTED: Final = re.compile(r"Built \d{1,4} zonelists.{0,60}  ?Total pages: (\d{1,10})")
_HIGH: Final = re.compile(r"(\d{1,12})[kK] highmem\)?")
_CMA: Final = re.compile(r"(?:cma|CMA): (?:CMA: )?[Rr]eserved (\d{1,6}) MiB at")
_CMA_POOL: Final = re.compile(r"created CMA memory pool at \S{1,24}, size (\d{1,6}) MiB")
_NO_MAP: Final = re.compile(
    r"reserved mem: 0x([0-9a-f]{1,16})\.\.0x([0-9a-f]{1,16}) \(\d{1,12} KiB\) nomap "
)
_MAX_RANGES: Final = 4096
_OF_X86: Final = ("user", "modified", "BIOS-e820")
_MEMORY_FACTS: Final[dict[FactName, re.Pattern[str]]] = {
    "ram_bytes": _MEMORY,
    "highmem_bytes": _HIGH,
}
"""Numbers in KiB of the line ``Memory:``."""


def _as_listed(ranges: list[Pair]) -> tuple[Pair, ...]:
    """The kernel's own ranges, ascending.

    The kernel merges ranges that touch unless something about them differs (mm/memblock.c:
    memblock_merge_regions), no-map above all: so they stay apart here.

    Examples
    --------
    >>> _as_listed([(4, 8), (0, 4)]), _as_listed([(0, 4), (2, 8)])
    (((0, 4), (4, 8)), ((0, 8),))
    """
    known = sorted(set(ranges))
    apart = all(before[1] <= after[0] for before, after in pairwise(known))
    return tuple(known) if apart else merge(known)


class BootMemory:
    """Collects what the lines of a boot log say of memory."""

    def __init__(self) -> None:
        self._zones: list[tuple[str, int, int]] = []
        self._zone_line = 0
        self._zone_names: set[str] = set()
        self._whole = False
        self._frames = False
        self._nodes: list[Pair] = []
        self._maps: dict[str, list[Pair]] = {}
        self._pages: dict[str, dict[str, int]] = {}
        self._total = 0
        self._cma = 0
        self._banks: tuple[int, ...] = ()
        self._no_map: list[Pair] = []
        self._said: dict[FactName, tuple[int, int, str]] = {}

    def see(self, line: str, number: int) -> bool:
        """Look at one message; return whether it was one of memory's."""
        return (
            self._zone(line, number)
            or self._node(line)
            or self._firmware(line, number)
            or self._sizes(line, number)
            or self._kept(line)
        )

    def tell(self, sheet: Sheet) -> None:
        """Write down zones, ranges and sizes."""
        self._tell_zones(sheet)
        self._tell_ram(sheet)
        sizes = self._zone_sizes()
        if sizes:
            sheet.add("zone_pages", sizes, detail="pages of the zones")
        for name, (value, number, line) in self._said.items():
            sheet.add(name, value, line=number, detail=line)
        if self._total:
            sheet.add("ram_bytes", self._total << 12, detail="On node … totalpages")
        if self._banks:
            sheet.add("banks", self._banks, detail="Memory: banks")
        if self._cma:
            sheet.add("cma_total", self._cma, detail="CMA pools that were reserved")
        if self._no_map:
            sheet.add("no_map", merge(self._no_map), detail="reserved memory, nomap")

    def _zone(self, line: str, number: int) -> bool:
        found: tuple[str, int, int] | None = None
        if line.startswith(("Movable zone start", "early_node_map[")):  # what follows the zones
            self._whole = self._whole or bool(self._zone_names)
            return line.startswith("Movable")
        if match := _ZONE.match(line):
            if match[2]:
                found = match[1], int(match[2], 16) >> 12, (int(match[3], 16) + 1) >> 12
        elif match := _ZONE_PFN.match(line):
            found = match[1], _frame(match[2]), _frame(match[3])
        else:
            return False
        self._zone_line = self._zone_line or number
        self._zone_names.add(match[1])
        if found and found[2] > found[1] and found not in self._zones and len(self._zones) < 64:
            self._zones.append(found)
        return True

    def _node(self, line: str) -> bool:
        if match := _NODE.match(line):
            self._nodes.append((int(match[1], 16), int(match[2], 16) + 1))
        elif line.startswith("early_node_map["):
            self._frames = True
        elif self._frames and (match := _NODE_PFN.match(line)):
            self._nodes.append((_frame(match[1]) << 12, _frame(match[2]) << 12))
        else:
            self._frames = False
            return False
        return True

    def _firmware(self, line: str, number: int) -> bool:
        if match := _E820.match(line):
            found = match[1], int(match[2], 16), int(match[3], 16) + 1
        elif match := _E820_OLD.match(line):
            found = match[1], int(match[2], 16), int(match[3], 16)
        elif match := _ACPI.match(line):
            found = "ACPI data", int(match[1], 16), int(match[2], 16) + 1
        elif match := _MIPS.match(line):
            found = "MIPS", int(match[2], 16), int(match[2], 16) + int(match[1], 16)
        elif (match := _ARC.match(line)) and match[3]:
            self._said.setdefault("highmem_enabled", (False, number, line))
            return True
        elif match:
            found = "ARC", int(match[1], 16), int(match[1], 16) + (int(match[2]) << 20)
        elif line.startswith("User-defined physical RAM map"):
            self._maps.pop("MIPS", None)  # what follows replaces it
            return True
        else:
            return False
        if found[2] > found[1]:
            self._maps.setdefault(found[0], []).append(found[1:])
        return True

    def _sizes(self, line: str, number: int) -> bool:
        if match := _TOTAL.match(line):
            self._total += int(match[1])
        elif match := _PAGES.match(line):
            what = match[3].split()[-1] if match[3] else "LIFO"
            self._pages.setdefault(match[1], {}).setdefault(what, int(match[2]))
        elif match := _BANKS.match(line):
            self._said.setdefault("ram_bytes", (int(match[2]) << 20, number, line))
            self._banks = tuple(int(bank[:-2]) << 20 for bank in match[1].split())
        elif match := _LISTED.match(line):
            self._said.setdefault("mem_total", (int(match[1]) << 12, number, line))
        elif line.startswith("Memory: "):
            for name, pattern in _MEMORY_FACTS.items():
                if match := pattern.search(line):
                    self._said.setdefault(name, (int(match[1]) << 10, number, line))
            if _TOLD_IN_FULL.match(line):
                self._said.setdefault("highmem_enabled", (False, number, line))
        else:
            return False
        return True

    def _kept(self, line: str) -> bool:
        if match := _CMA.match(line) or _CMA_POOL.search(line):
            self._cma += int(match[1]) << 20
        elif match := _NO_MAP.search(line):
            self._no_map.append((int(match[1], 16), int(match[2], 16) + 1))
        else:
            return False
        return True

    def _tell_zones(self, sheet: Sheet) -> None:
        zones = self._zones
        if not zones:
            return
        sheet.add("zone_ranges", tuple(zones), line=self._zone_line, detail="Zone ranges")
        if self._whole and "HighMem" not in self._zone_names:
            # a kernel with HIGHMEM lists the zone where it is empty, too
            words = "Zone ranges without HighMem"
            sheet.add("highmem_enabled", value=False, line=self._zone_line, detail=words)
        if "DMA32" in self._zone_names:
            return  # a 64-bit kernel, whose zones went up to what it can address
        high = [z for z in zones if z[0] == "HighMem"]
        border = high[0][1] if high else max(z[2] for z in zones)
        words = "Zone ranges: HighMem" if high else "Zone ranges"
        sheet.add("lowmem_end_pfn", border, line=self._zone_line, detail=words)
        top = max(z[2] for z in zones)
        sheet.add("max_pfn", top, line=self._zone_line, detail="Zone ranges")

    def _tell_ram(self, sheet: Sheet) -> None:
        """The kernel's own ranges before the firmware's, and of those what the user changed."""
        if tables := self._maps.get("ACPI data"):
            words = "BIOS-e820 map: ACPI data"
            sheet.add("acpi_tables", merge(tables[:_MAX_RANGES]), detail=words)
        if self._nodes:
            listed = _as_listed(self._nodes[:_MAX_RANGES])
            sheet.add("ram", listed, detail="Early memory node ranges")
            return
        for name in ("user", "modified", "BIOS-e820", "MIPS", "ARC"):
            if ranges := self._maps.get(name):
                words = f"{name} map" if name in _OF_X86 else "physical RAM map"
                sheet.add("ram", merge(ranges[:_MAX_RANGES]), detail=words)
                return

    def _zone_sizes(self) -> tuple[tuple[str, int], ...]:
        """Pages of each zone.

        Up to 3.8 the number leaves out what the zone's page array takes and what is reserved
        (mm/page_alloc.c: free_area_init_core); which of the two it is, the sum tells.
        """
        plain = {zone: sizes["LIFO"] for zone, sizes in self._pages.items() if "LIFO" in sizes}
        full = {
            zone: pages + self._pages[zone].get("memmap", 0) + self._pages[zone].get("reserved", 0)
            for zone, pages in plain.items()
        }
        for sizes in (full, plain):
            if self._total and sum(sizes.values()) == self._total:
                return tuple(sizes.items())
        return ()


def _frame(text: str) -> int:
    """Frame number: hexadecimal with 0x, decimal in kernels up to 2.6.26."""
    return int(text, 16 if text.startswith("0x") else 10)
