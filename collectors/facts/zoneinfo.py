"""Zones and their borders: zoneinfo."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from collectors.snapshot import Zone

if TYPE_CHECKING:
    from collectors.facts.model import Sheet

_ZONE = re.compile(r"^Node (\d{1,6}), zone\s{1,40}(\w{1,40})\s{0,40}$")
_FIELD = re.compile(
    r"^\s+(pages free|min|low|high|spanned|present|managed|start_pfn:)\s+(\d{1,19})\s*$"
)
_PROTECTION = re.compile(r"^\s+protection: \((\d{1,19}(?:, \d{1,19}){0,15})\)$")


def parse(text: str, sheet: Sheet) -> None:
    """Write down the populated zones.

    Facts: zones (tuple of :class:`Zone`, empty zones left out), lowmem_end_pfn (where HighMem
    starts; where it is empty: where the last lower zone ends), max_pfn.

    An empty zone shows a start_pfn of 0, so it says nothing about the border.
    """
    zones: list[Zone] = []
    lines: dict[str, int] = {}
    fields: dict[str, int] = {}
    protection: tuple[int, ...] = ()
    node, name = 0, ""

    def finish() -> None:
        if fields.get("spanned") and "start_pfn" in fields:
            present = fields.get("present", 0)
            managed = fields.get("managed", present)
            marks = tuple(fields[key] for key in ("min", "low", "high") if key in fields)
            zones.append(
                Zone(
                    name,
                    fields["start_pfn"],
                    fields["spanned"],
                    present,
                    managed,
                    node,
                    fields.get("pages free", 0),
                    marks if len(marks) == 3 else (),
                    protection,
                )
            )

    for number, line in enumerate(text.split("\n"), 1):
        if match := _ZONE.match(line):
            finish()
            fields.clear()
            protection = ()
            node, name = int(match[1]), match[2]
        elif name and (match := _FIELD.match(line)):
            key = match[1].rstrip(":")
            # per-CPU lists further down have a "high:" of their own
            fields.setdefault(key, int(match[2]))
            if key == "start_pfn":
                lines[name] = number
        elif name and (match := _PROTECTION.match(line)):
            protection = tuple(int(pages) for pages in match[1].split(", "))
    finish()
    if not zones:
        sheet.note("holds no populated zone with a start_pfn")
        return
    sheet.add("zones", tuple(zones), detail=", ".join(f"{z.name} {z.start_pfn}" for z in zones))
    high = [z for z in zones if z.name == "HighMem"]
    low = [z for z in zones if z.name in ("DMA", "DMA32", "Normal")]
    if high:
        first = min(z.start_pfn for z in high)
        sheet.add(
            "lowmem_end_pfn", first, line=lines["HighMem"], detail=f"HighMem start_pfn {first}"
        )
    elif low:
        end = max(z.start_pfn + z.spanned for z in low)
        sheet.add("lowmem_end_pfn", end, detail="HighMem is empty: end of the last lower zone")
    # Movable overlaps the zone that it was taken from
    sheet.add("max_pfn", max(z.start_pfn + z.spanned for z in zones), detail="end of the last zone")
