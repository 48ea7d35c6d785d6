"""Whether lowmem ran short, above all while highmem was free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.machine.zones import HIGHMEM
from replay.outcome import Finding
from replay.rules import evidence
from replay.rules.rule import FindingRule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from replay.memory import LowmemOutcome, OomOutcome
    from replay.rules.rule import Case


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


def _oom(lowmem: LowmemOutcome) -> Iterator[Finding]:
    """The log tells of requests that lowmem could not serve."""
    short = [oom for oom in lowmem.ooms if oom.is_short_of_lowmem]
    if short:
        worst = max(short, key=lambda oom: (oom.of_lowmem is True, oom.high_free or 0))
        kills = sum(oom.is_oom for oom in short)
        told = LowmemOom(len(short), kills, sum(oom.meanwhile for oom in short), worst)
        yield Finding("lowmem-oom", "problem", told, len(short))


def _stalled(lowmem: LowmemOutcome) -> Iterator[Finding]:
    """Requests waited that highmem could not serve."""
    if stalls := lowmem.stalls_of_lowmem:
        low, high = _free(lowmem)
        found = LowmemStalled(stalls, lowmem.scanned, lowmem.oom_kills or 0, low, high)
        yield Finding("lowmem-stalled", "problem", found, stalls)


def _low(lowmem: LowmemOutcome) -> Iterator[Finding]:
    """No zone of lowmem was above its low watermark."""
    if lowmem.is_low:
        low, high = _free(lowmem)
        kept = sum(zone.low for zone in lowmem.zones if zone.name != HIGHMEM)
        yield Finding("lowmem-low", "warning", LowmemLow(low, kept, high))


def _free(lowmem: LowmemOutcome) -> tuple[int, int]:
    """Bytes free in lowmem that requests can have, and in highmem."""
    low = sum(zone.usable for zone in lowmem.zones if zone.name != HIGHMEM)
    return low, sum(zone.free for zone in lowmem.zones if zone.name == HIGHMEM)


def _of_case(
    find: Callable[[LowmemOutcome], Iterator[Finding]],
) -> Callable[[Case], Iterator[Finding]]:
    """A rule about lowmem, where it is known how that fared."""

    def found(case: Case) -> Iterator[Finding]:
        if case.outcome.lowmem is not None:
            yield from find(case.outcome.lowmem)

    return found


OOM: Final = FindingRule(
    "lowmem-oom", ("problem",),
    "By the kernel's log requests found no memory though highmem was free: lowmem was used up, or "
    "in pieces.",
    "a split with more lowmem (hmtrace advise), or less RAM for the kernel to describe",
    _of_case(_oom), (evidence.LOG,),
)  # fmt: skip
STALLED: Final = FindingRule(
    "lowmem-stalled", ("problem",),
    "The allocator waited for memory that highmem cannot serve.",
    "a split with more lowmem (hmtrace advise); hmtrace report shows what lowmem is used for",
    _of_case(_stalled), (evidence.STALLS,),
)  # fmt: skip
LOW: Final = FindingRule(
    "lowmem-low", ("warning",),
    "Free lowmem was at its low watermark, where the kernel reclaims all the time.",
    "a split with more lowmem (hmtrace advise); hmtrace report shows what lowmem is used for",
    _of_case(_low), (evidence.ZONES,),
)  # fmt: skip
RULES: Final = (OOM, STALLED, LOW)


def lowmem_findings(lowmem: LowmemOutcome | None) -> Iterator[Finding]:
    """What is worth knowing of how lowmem fared.

    Yields
    ------
    Finding
        ``lowmem-oom`` (problem) where the log tells of requests that lowmem could not serve;
        ``lowmem-stalled`` (problem) where requests waited that highmem could not serve;
        ``lowmem-low`` (warning) where no zone of lowmem was above its low watermark.
    """
    if lowmem is not None:
        for find in (_oom, _stalled, _low):
            yield from find(lowmem)
