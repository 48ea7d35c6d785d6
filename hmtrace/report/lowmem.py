"""Section of lowmem: how full its zones were, what used it, whether it was waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hmtrace.report.parts import heading, joined, labelled
from hmtrace.report.text import clean, count, mib, plural, share, size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import RenderableType

    from replay.memory import LowmemOutcome, OomOutcome, ZoneOutcome

_NAMES: Final = {
    "mem_map": "page array (mem_map)",
    "kernel": "kernel image and early tables",
    "pages": "page cache and processes",
    "vmalloc": "vmalloc() pages",
}
_NOT_KNOWN: Final = {
    "watermarks": "how near zones were to their watermarks (zoneinfo)",
    "uses": "what lowmem is used for (meminfo)",
    "end": "how full zones were at the end (zoneinfo.end), and in between",
    "stalls": "waits for memory (/proc/vmstat as vmstat.start and vmstat.end)",
    "blocks": "how far free memory is in pieces (buddyinfo)",
    "log": "whether memory ran out (dmesg.end)",
}
"""What no file tells, and which would."""
_NAMED: Final = 3
"""Reports of the log that are named one by one."""


def lowmem_section(lowmem: LowmemOutcome | None, of: str = "") -> Iterator[RenderableType]:
    """The section, with whose memory it is; nothing where no file tells."""
    if lowmem is None:
        return
    at = "at the start of the capture" if lowmem.zones else ""
    yield heading("Memory", ", ".join(filter(None, (of, at))))
    rows = [(clean(zone.name), zone_in_words(zone)) for zone in lowmem.zones]
    if lowmem.uses:
        rows.append(("lowmem has", _uses(lowmem.uses)))
    if lowmem.beyond:
        rows.append(("high has", f"{_uses(lowmem.beyond)}, while there is room"))
    if lowmem.largest_block is not None:
        rows.append(("in pieces", _pieces(lowmem)))
    if lowmem.stalls is not None:
        rows.append(("waited for", stalls_in_words(lowmem)))
    rows += [("ran out", oom_in_words(oom)) for oom in _worst(lowmem.ooms)]
    if len(lowmem.ooms) > _NAMED:
        rows.append(("", f"and {plural(len(lowmem.ooms) - _NAMED, 'request')} more in the log"))
    rows.append(("not known", "; ".join(_NOT_KNOWN[code] for code in lowmem.unknown)))
    yield labelled(row for row in rows if row[1])


def _uses(uses: Iterable[tuple[str, int]]) -> str:
    return joined(f"{clean(_NAMES.get(name, name))} {mib(used)}" for name, used in uses)


def zone_in_words(zone: ZoneOutcome) -> str:
    """Free and managed memory of a zone, and what it keeps."""
    part = share(zone.free / zone.managed) if zone.managed else "n/a"
    words = f"{mib(zone.free)} of {mib(zone.managed)} free ({part})"
    if zone.cma:
        words += f", {mib(zone.cma)} of it CMA's"
    if zone.free_end is not None and zone.free_end != zone.usable:
        words += f", {mib(zone.free_end)} at the end"
    if zone.low:
        words += f", watermarks {mib(zone.min)} min {mib(zone.low)} low {mib(zone.high)} high"
    if zone.reserve:
        words += f", {mib(zone.reserve)} kept from requests for highmem"
    return words


def _pieces(lowmem: LowmemOutcome) -> str:
    words = f"the largest free block of lowmem is {mib(lowmem.largest_block)}"
    if lowmem.in_pieces is not None:
        words += f", {share(lowmem.in_pieces)} of what is free lies in blocks of under 32 KiB"
    return words


def _worst(ooms: Iterable[OomOutcome]) -> list[OomOutcome]:
    """The reports to name: those for want of lowmem first, most highmem free first."""
    return sorted(ooms, key=lambda oom: (not oom.is_short_of_lowmem, -(oom.high_free or 0)))[
        :_NAMED
    ]


def oom_in_words(oom: OomOutcome) -> str:
    """A request that found no memory."""
    when = f"{oom.at / 1e9:.1f} s after boot" if oom.at is not None else "a time that is not told"
    found = f"{clean(oom.task, 40)} asked for a block of order {oom.order}" + (
        " that highmem cannot serve" if oom.of_lowmem else ""
    )
    if oom.is_oom:
        found += f" and {clean(oom.killed, 40) or 'a process'} was killed"
    cma = f", {size(oom.low_cma)} of it CMA's" if oom.low_cma else ""
    free = f"lowmem {size(oom.low_free)} free{cma}, {size(oom.low_kept)} are kept back"
    if oom.is_in_pieces:
        free += f", the largest block {size(oom.largest)}"
    if oom.high_free is not None:
        free += f", highmem {size(oom.high_free)} above its low watermark"
    return f"{when} {found}: {free}"


def stalls_in_words(lowmem: LowmemOutcome) -> str:
    """Waits for memory while the capture ran."""
    found = {zone: n for zone, n in (lowmem.stalls or {}).items() if n}
    if not found:
        words = "never"
    else:
        parts = [f"{clean(zone) or 'all zones'} {count(n)}" for zone, n in found.items()]
        words = f"direct reclaim, by the request's zone: {', '.join(parts)}"
        if lowmem.scanned is not None:
            words += f"; {count(lowmem.scanned)} pages looked at"
    if lowmem.oom_kills:
        words += f"; {plural(lowmem.oom_kills, 'process', 'processes')} killed for want of memory"
    return words
