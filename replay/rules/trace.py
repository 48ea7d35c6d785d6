"""Findings about the trace itself: what it does not hold, what was lost, what the kernel said."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from replay.machine.generations import GENERATIONS
from replay.outcome import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from collectors.snapshot import Snapshot
    from replay.outcome import Outcome, PoolOutcome
    from replay.trace.losses import Loss


def trace_findings(outcome: Outcome, snapshot: Snapshot, lost: Loss | None) -> Iterator[Finding]:
    """What is worth knowing of a trace whatever the machine did.

    Parameters
    ----------
    outcome, snapshot, lost
        As of :func:`replay.rules.figures.findings`.

    Yields
    ------
    Finding
        In no order of severity.
    """
    yield from _pages_unknown(outcome.pool)
    yield from _losses(lost)
    yield from _probe_misses(outcome, snapshot)
    yield from _kernel_log(snapshot)


class PagesUnknown(NamedTuple):
    """Calls without a struct page."""

    calls: int


def _pages_unknown(pool: PoolOutcome) -> Iterator[Finding]:
    if pool.pages_unknown:
        yield Finding("pages-unknown", "warning", PagesUnknown(pool.maps), pool.maps)


class EventsLost(NamedTuple):
    """Events that tracing lost, `more` than are known where not every gap tells its number."""

    events: int
    more: bool
    intervals: int


def _losses(lost: Loss | None) -> Iterator[Finding]:
    if lost is None or not lost.intervals:
        return
    found = EventsLost(lost.events, bool(lost.unknown), len(lost.intervals))
    yield Finding("events-lost", "warning", found, max(lost.events, 1))


class MissesExplained(NamedTuple):
    """Misses of probes that are no more than failed allocations explain."""

    misses: int
    failures: int


class ProbeMisses(NamedTuple):
    """Misses of probes, and the worst of them by name."""

    misses: int
    worst: tuple[tuple[str, int], ...]


def _probe_misses(outcome: Outcome, snapshot: Snapshot) -> Iterator[Finding]:
    """kprobe_profile counts the hits that found no free return instance."""
    missed = {name: number for name, number in snapshot.probe_misses.items() if number > 0}
    if not missed:
        return
    misses, failures = sum(missed.values()), outcome.arena.failures
    generation = GENERATIONS.get(outcome.machine.generation)
    if generation is not None and generation.fetch_faults_are_misses and misses <= 2 * failures:
        # The failed call returns an error pointer, whose fields the probe cannot fetch.
        yield Finding("probe-misses", "info", MissesExplained(misses, failures), misses)
        return
    worst = sorted(missed.items(), key=lambda m: (-m[1], m[0]))[:3]
    yield Finding("probe-misses", "warning", ProbeMisses(misses, tuple(worst)), misses)


class VmapFailuresLogged(NamedTuple):
    """Lines of the kernel's log about failed vmap allocations."""

    lines: int


class KmapWarningsLogged(NamedTuple):
    """Lines of the kernel's log that warn about kmap."""

    lines: int


def _kernel_log(snapshot: Snapshot) -> Iterator[Finding]:
    """What the kernel itself complained about (mm/highmem.c, mm/vmalloc.c)."""
    if lines := snapshot.vmap_failures or 0:
        yield Finding("arena-exhausted-log", "warning", VmapFailuresLogged(lines), lines)
    if lines := snapshot.kmap_warnings or 0:
        yield Finding("kmap-warnings-log", "warning", KmapWarningsLogged(lines), lines)
