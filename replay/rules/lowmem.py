"""Whether lowmem ran short, above all while highmem was free."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from replay.machine.zones import HIGHMEM
from replay.outcome import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.outcome import LowmemOutcome, OomOutcome


class LowmemStalled(NamedTuple):
    """Waits for memory that only lowmem has, and what was free of both at the start, in bytes.

    `scanned` pages were looked at by all that waited, of whichever zone; None: not known.
    """

    stalls: int
    scanned: int | None
    oom_kills: int
    low_free: int
    high_free: int


class LowmemLow(NamedTuple):
    """Bytes of lowmem free at the start, the watermarks of its zones together, highmem free."""

    free: int
    low: int
    high_free: int


class LowmemOom(NamedTuple):
    """Requests that lowmem could not serve, and the one that most highmem was free at.

    `meanwhile` of them are not in the log of before the capture.
    """

    reports: int
    kills: int
    meanwhile: int
    worst: OomOutcome


def lowmem_findings(lowmem: LowmemOutcome | None) -> Iterator[Finding]:
    """What is worth knowing of how lowmem fared.

    Yields
    ------
    Finding
        ``lowmem-oom`` (problem) where the log tells of requests that lowmem could not serve;
        ``lowmem-stalled`` (problem) where requests waited that highmem could not serve;
        ``lowmem-low`` (warning) where no zone of lowmem was above its low watermark.
    """
    if lowmem is None:
        return
    short = [oom for oom in lowmem.ooms if oom.is_short_of_lowmem]
    if short:
        worst = max(short, key=lambda oom: (oom.of_lowmem is True, oom.high_free or 0))
        kills = sum(oom.is_oom for oom in short)
        told = LowmemOom(len(short), kills, sum(oom.meanwhile for oom in short), worst)
        yield Finding("lowmem-oom", "problem", told, len(short))
    low = [zone for zone in lowmem.zones if zone.name != HIGHMEM]
    high_free = sum(zone.free for zone in lowmem.zones if zone.name == HIGHMEM)
    free = sum(zone.usable for zone in low)
    if stalls := lowmem.stalls_of_lowmem:
        found = LowmemStalled(stalls, lowmem.scanned, lowmem.oom_kills or 0, free, high_free)
        yield Finding("lowmem-stalled", "problem", found, stalls)
    if lowmem.is_low:
        yield Finding("lowmem-low", "warning", LowmemLow(free, sum(z.low for z in low), high_free))
