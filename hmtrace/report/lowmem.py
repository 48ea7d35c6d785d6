"""Section of lowmem: how full its zones were, what used it, whether it was waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hmtrace.report.parts import heading, joined, labelled
from hmtrace.report.text import clean, count, mib, plural, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from replay.outcome import LowmemOutcome, ZoneOutcome

_NAMES = {"mem_map": "page array (mem_map)", "kernel": "kernel image and early tables"}


def lowmem_section(lowmem: LowmemOutcome | None) -> Iterator[RenderableType]:
    """The section; nothing where no file tells."""
    if lowmem is None:
        return
    yield heading("Memory", "at the start of the capture")
    rows = [(clean(zone.name), zone_in_words(zone)) for zone in lowmem.zones]
    uses = [f"{clean(_NAMES.get(name, name))} {mib(used)}" for name, used in lowmem.uses if used]
    if uses:
        rows.append(("lowmem has", joined(uses)))
    if lowmem.largest_block is not None:
        rows.append(("largest", f"a block of {mib(lowmem.largest_block)} free in lowmem"))
    rows.append(("waited for", stalls_in_words(lowmem)))
    yield labelled(rows)


def zone_in_words(zone: ZoneOutcome) -> str:
    """Free and managed memory of a zone, and what it keeps."""
    part = share(zone.free / zone.managed) if zone.managed else "n/a"
    words = f"{mib(zone.free)} of {mib(zone.managed)} free ({part})"
    if zone.low:
        words += f", low watermark {mib(zone.low)}"
    if zone.reserve:
        words += f", {mib(zone.reserve)} kept from requests for highmem"
    return words


def stalls_in_words(lowmem: LowmemOutcome) -> str:
    """Waits for memory while the capture ran."""
    if lowmem.stalls is None:
        return "not known: vmstat.start and vmstat.end tell (/proc/vmstat)"
    found = {zone: n for zone, n in lowmem.stalls.items() if n}
    if not found:
        words = "never"
    else:
        parts = [f"{clean(zone) or 'all zones'} {count(n)}" for zone, n in found.items()]
        words = f"direct reclaim, by the request's zone: {', '.join(parts)}"
    if lowmem.oom_kills:
        words += f"; {plural(lowmem.oom_kills, 'process', 'processes')} killed for want of memory"
    return words
