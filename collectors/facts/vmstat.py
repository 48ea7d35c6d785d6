"""How memory fared: counters of vmstat, free blocks of buddyinfo."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collectors.facts.model import Sheet
    from collectors.snapshot import FactName

_COUNTER = re.compile(
    r"^(allocstall\w{0,20}|oom_kill|compact_stall|compact_fail|pg(?:scan|steal)_(?:direct|kswapd)\w{0,20}"
    r"|kswapd_low_wmark_hit_quickly|pageoutrun) (\d{1,18})$"
)
_ZONE = re.compile(r"^Node (\d{1,6}), zone\s{1,40}(\w{1,40})((?:\s{1,12}\d{1,12}){1,32})\s{0,9}$")


def parse_start(text: str, sheet: Sheet) -> None:
    """Write down the counters at the start of a capture. Fact: vmstat_start."""
    _parse(text, sheet, "vmstat_start")


def parse_end(text: str, sheet: Sheet) -> None:
    """Write down the counters at its end. Fact: vmstat_end."""
    _parse(text, sheet, "vmstat_end")


def _parse(text: str, sheet: Sheet, name: FactName) -> None:
    """Counters of waits for memory by name (mm/vmstat.c: vmstat_text); up to 4.7 one for all."""
    found = {}
    for line in text.split("\n"):
        match = _COUNTER.match(line)
        if match is not None:
            found[match[1]] = int(match[2])
    if found:
        sheet.add(name, found, detail=f"{len(found)} counters")
    else:
        sheet.note("holds no counter that is known")


def parse_buddyinfo(text: str, sheet: Sheet) -> None:
    """Write down the free blocks of each zone by order, all nodes together. Fact: buddies."""
    found: dict[str, tuple[int, ...]] = {}
    for line in text.split("\n"):
        match = _ZONE.match(line)
        if match is None:
            continue
        more = tuple(map(int, match[3].split()))
        before = found.get(match[2], ())
        found[match[2]] = tuple(
            sum(pair) for pair in zip(more, before or (0,) * len(more), strict=False)
        )
    if found:
        sheet.add("buddies", found, detail=f"{len(found)} zones")
    else:
        sheet.note("holds no zone")
