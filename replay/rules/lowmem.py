"""Whether lowmem ran short, above all while highmem was free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.machine.zones import HIGHMEM
from replay.outcome import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.outcome import LowmemOutcome

_OF_LOWMEM: Final = ("dma", "dma32", "normal")
"""Requests that highmem cannot serve, as vmstat names their zones."""


class LowmemStalled(NamedTuple):
    """Waits for memory that only lowmem has, and what was free of both at the start, in bytes."""

    stalls: int
    oom_kills: int
    low_free: int
    high_free: int


class LowmemLow(NamedTuple):
    """Bytes of lowmem free at the start, the watermarks of its zones together, highmem free."""

    free: int
    low: int
    high_free: int


def lowmem_findings(lowmem: LowmemOutcome | None) -> Iterator[Finding]:
    """What is worth knowing of how lowmem fared.

    Yields
    ------
    Finding
        ``lowmem-stalled`` (problem) where requests waited that highmem could not serve;
        ``lowmem-low`` (warning) where no zone of lowmem was above its low watermark.
    """
    if lowmem is None:
        return
    low = [zone for zone in lowmem.zones if zone.name != HIGHMEM]
    high_free = sum(zone.free for zone in lowmem.zones if zone.name == HIGHMEM)
    free = sum(zone.free for zone in low)
    stalls = sum((lowmem.stalls or {}).get(zone, 0) for zone in _OF_LOWMEM)
    if stalls:
        found = LowmemStalled(stalls, lowmem.oom_kills or 0, free, high_free)
        yield Finding("lowmem-stalled", "problem", found, stalls)
    if low and all(zone.low and zone.free <= zone.low for zone in low):
        yield Finding("lowmem-low", "warning", LowmemLow(free, sum(z.low for z in low), high_free))
