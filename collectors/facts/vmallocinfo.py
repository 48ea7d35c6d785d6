"""The areas of the vmap arena: vmallocinfo, vmallocinfo.start."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from collectors.facts.numbers import decimal, whole
from collectors.snapshot import Area

if TYPE_CHECKING:
    from collectors.facts.model import Sheet

_LINE = re.compile(r"^0x([0-9a-f]{8,16})-0x([0-9a-f]{8,16})\s{1,20}(\d{1,20})(?: (.*))?$")
KINDS: Final = ("ioremap", "vmalloc", "vmap", "user", "dma-coherent", "vm_map_ram", "unpurged")
"""Words that /proc/vmallocinfo ends a line with (mm/vmalloc.c: s_show, show_purge_info)."""


def parse(text: str, sheet: Sheet) -> None:
    """Write down the areas.

    Facts: areas (tuple of :class:`collectors.snapshot.Area` in the file's order, which for
    ``unpurged`` areas is the order of the kernel's lazy list).

    Addresses that are hashed (kernel.kptr_restrict 0: the end minus the start is not the
    size) or zero (2) are noted and not believed.
    """
    areas: list[Area] = []
    lines = hidden = 0
    for line in text.split("\n"):
        if not line.strip():
            continue
        lines += 1
        match = _LINE.match(line)
        if match is None:
            hidden += "ptrval" in line
            continue
        start, end = int(match[1], 16), int(match[2], 16)
        if end - start != int(match[3]):
            hidden += 1
            continue
        areas.append(_area(start, end, (match[4] or "").split()))
    if hidden:
        sheet.note(
            f"{hidden} of {lines} lines have hidden addresses and none is used: "
            "set kernel.kptr_restrict=1 before the capture"
        )
    elif areas:
        sheet.add("areas", tuple(areas), detail=f"{len(areas)} areas")
    else:
        sheet.note("holds no area")


def _area(start: int, end: int, words: list[str]) -> Area:
    kind = "other"
    caller = ""
    pages: int | None = None
    phys: int | None = None
    for index, word in enumerate(words):
        key, _, value = word.partition("=")
        if word in KINDS:
            kind = word
        elif index == 0 and word != "vm_area":
            caller = word
        elif key == "pages":
            pages = decimal(value)
        elif key == "phys" and value.startswith("0x"):
            phys = whole(value)
    return Area(start, end, kind, caller, pages, phys)
