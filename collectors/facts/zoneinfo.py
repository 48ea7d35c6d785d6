"""Zones and their borders: zoneinfo."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.snapshot import Zone, ZoneUse

if TYPE_CHECKING:
    from collectors.facts.model import Sheet
    from collectors.snapshot import FactName

_ZONE = re.compile(r"^Node (\d{1,6}), zone\s{1,40}(\w{1,40})\s{0,40}$")
_FIELD = re.compile(
    r"^\s+(pages free|min|low|high|spanned|present|managed|start_pfn:)\s+(\d{1,19})\s*$"
)
_PROTECTION = re.compile(r"^\s+protection: \((\d{1,19}(?:, \d{1,19}){0,15})\)$")
_COUNT = re.compile(r"^\s+(nr_\w{1,40})\s+(\d{1,19})\s*$")
_LISTS: Final = ("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable")
"""Lists of reclaim (include/linux/mmzone.h: lru_list)."""


class _Counts(NamedTuple):
    """What the file says of one zone: the zone, what takes its pages, and where it says so."""

    zone: Zone
    use: ZoneUse
    line: int


def parse(text: str, sheet: Sheet) -> None:
    """Write down the populated zones.

    Facts: zones (tuple of :class:`Zone`, empty zones left out), zone_uses, lowmem_end_pfn (where
    HighMem starts; where it is empty: where the last lower zone ends), max_pfn.

    An empty zone shows a start_pfn of 0, so it says nothing about the border.
    """
    found = _zones(text)
    if not found:
        sheet.note("holds no populated zone with a start_pfn")
        return
    zones = [one.zone for one in found]
    sheet.add("zones", tuple(zones), detail=", ".join(f"{z.name} {z.start_pfn}" for z in zones))
    _tell_uses(found, sheet, "zone_uses")
    high = [one for one in found if one.zone.name == "HighMem"]
    low = [z for z in zones if z.name in ("DMA", "DMA32", "Normal")]
    if high:
        first, line = min((one.zone.start_pfn, one.line) for one in high)
        sheet.add("lowmem_end_pfn", first, line=line, detail=f"HighMem start_pfn {first}")
    elif low:
        end = max(z.start_pfn + z.spanned for z in low)
        sheet.add("lowmem_end_pfn", end, detail="HighMem is empty: end of the last lower zone")
    # Movable overlaps the zone that it was taken from
    sheet.add("max_pfn", max(z.start_pfn + z.spanned for z in zones), detail="end of the last zone")


def parse_end(text: str, sheet: Sheet) -> None:
    """Write down the zones when the capture ended. Facts: zones_end, zone_uses_end."""
    found = _zones(text)
    if not found:
        sheet.note("holds no populated zone with a start_pfn")
        return
    sheet.add("zones_end", tuple(one.zone for one in found), detail=f"{len(found)} zones")
    _tell_uses(found, sheet, "zone_uses_end")


def _tell_uses(found: list[_Counts], sheet: Sheet, name: FactName) -> None:
    uses = tuple(one.use for one in found)
    if any(use.cma is not None or use.mapped is not None for use in uses):
        sheet.add(name, uses, detail=f"{len(uses)} zones")


def _zones(text: str) -> list[_Counts]:
    """The populated zones, in the file's order."""
    found: list[_Counts] = []
    fields: dict[str, int] = {}
    counts: dict[str, int] = {}
    protection: tuple[int, ...] = ()
    node, name, line = 0, "", 0
    by_node = "per-node stats" in text

    def finish() -> None:
        if fields.get("spanned") and "start_pfn" in fields:
            present = fields.get("present", 0)
            marks = tuple(fields[key] for key in ("min", "low", "high") if key in fields)
            zone = Zone(
                name, fields["start_pfn"], fields["spanned"], present,
                fields.get("managed", present), node, fields.get("pages free", 0),
                marks if len(marks) == 3 else (), protection,
            )  # fmt: skip
            found.append(_Counts(zone, _use(name, counts, by_node=by_node), line))

    for number, text_line in enumerate(text.split("\n"), 1):
        if match := _ZONE.match(text_line):
            finish()
            fields.clear()
            counts.clear()
            protection = ()
            node, name = int(match[1]), match[2]
        elif name and (match := _FIELD.match(text_line)):
            key = match[1].rstrip(":")
            # per-CPU lists further down have a "high:" of their own
            fields.setdefault(key, int(match[2]))
            if key == "start_pfn":
                line = number
        elif name and (match := _COUNT.match(text_line)):
            counts.setdefault(match[1], int(match[2]))
        elif name and (match := _PROTECTION.match(text_line)):
            protection = tuple(int(pages) for pages in match[1].split(", "))
    finish()
    return found


def _use(name: str, counts: dict[str, int], *, by_node: bool) -> ZoneUse:
    """What takes a zone's pages.

    Since 599d0c954f91 "mm, vmscan: move LRU lists to node" (4.8) a zone's own counts are called
    nr_zone_…; those without are the node's, and stand at its first zone.
    """
    prefix = "nr_zone_" if by_node else "nr_"
    listed = [counts[prefix + of] for of in _LISTS if prefix + of in counts]
    return ZoneUse(name, counts.get("nr_free_cma"), sum(listed) if listed else None)
