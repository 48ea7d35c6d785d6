"""Sizes: meminfo."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collectors.facts.model import Sheet
    from collectors.snapshot import FactName

_LINE = re.compile(r"^(\w+):\s+(\d{1,15}) kB$")
FIELDS: Final[dict[str, FactName]] = {
    "MemTotal": "mem_total",
    "HighTotal": "highmem_bytes",
    "LowTotal": "lowmem_bytes",
    "VmallocTotal": "vmalloc_total",
    "VmallocUsed": "vmalloc_used",
    "CmaTotal": "cma_total",
}
"""Lines that are kept, and the facts in bytes that they become (fs/proc/meminfo.c)."""
_USES: Final = frozenset({
    "LowFree", "HighFree", "CmaFree", "Slab", "SReclaimable", "SUnreclaim", "PageTables",
    "KernelStack", "Percpu", "VmallocUsed",
})  # fmt: skip
"""Lines that tell what lowmem is used for, kept by these names."""


def parse(text: str, sheet: Sheet) -> None:
    """Write down sizes in bytes.

    `highmem_bytes` and `lowmem_bytes` are the pages that the page allocator manages, not the
    zones' spans; `vmalloc_total` is VMALLOC_END - VMALLOC_START exactly. `memory_uses` has more
    lines by their own names.
    """
    found = False
    uses: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        match = _LINE.match(line)
        if match and match[1] in FIELDS:
            found = True
            sheet.add(FIELDS[match[1]], int(match[2]) << 10, line=number, detail=line)
        if match and match[1] in _USES:
            uses[match[1]] = int(match[2]) << 10
    if uses:
        sheet.add("memory_uses", uses, detail=f"{len(uses)} lines")
    if not found:
        sheet.note("holds no line that is known")
