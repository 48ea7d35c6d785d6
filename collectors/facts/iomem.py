"""The physical address map: iomem."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collectors.facts.model import Sheet

_LINE = re.compile(r"^( *)([0-9a-f]{1,16})-([0-9a-f]{1,16}) : (.*)$", re.MULTILINE)


def parse(text: str, sheet: Sheet) -> None:
    """Write down the RAM ranges.

    Facts: ram (tuple of (first byte, byte after the last), ascending and merged), pci_hole
    (first byte of the first PCI window above the last RAM below 4 GiB), acpi_tables (as ram).

    /proc/iomem shows zeros without CAP_SYS_ADMIN (kernel/resource.c: r_show): such a file is
    noted and not believed.
    """
    ram: list[tuple[int, int]] = []
    acpi: list[tuple[int, int]] = []
    pci: list[int] = []
    lines = zeros = 0
    for match in _LINE.finditer(text):
        start, last = int(match[2], 16), int(match[3], 16)
        lines += 1
        if last == 0:
            zeros += 1
        elif match[4] == "System RAM" and last > start:
            ram.append((start, last + 1))
        elif match[4] == "ACPI Tables" and last > start:
            acpi.append((start, last + 1))
        elif not match[1] and match[4].startswith("PCI Bus"):
            pci.append(start)
    if not lines:
        sheet.note("holds no address range")
    elif zeros == lines:
        sheet.note("shows only zeros (it was read without CAP_SYS_ADMIN) and is not believed")
    elif not ram:
        sheet.note("names no System RAM")
    else:
        merged = merge(ram)
        sheet.add("ram", merged, detail=f"{len(merged)} ranges of System RAM")
        if acpi:
            sheet.add("acpi_tables", merge(acpi), detail="ACPI Tables")
        below = [end for _, end in merged if end <= 1 << 32]
        if below and (windows := [p for p in pci if below[-1] <= p < 1 << 32]):
            sheet.add("pci_hole", min(windows), detail="PCI Bus")


def merge(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Sort ranges and join those that touch or overlap.

    Examples
    --------
    >>> merge([(8, 12), (0, 4), (4, 6)])
    ((0, 6), (8, 12))
    """
    out: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return tuple(out)
