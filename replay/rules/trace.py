"""Findings about the trace itself: what it does not hold, what was lost, what the kernel said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replay.machine.generations import GENERATIONS
from replay.outcome import Finding
from replay.rules.words import counted, grouped, times

if TYPE_CHECKING:
    from collections.abc import Iterator

    from collectors.snapshot import Snapshot
    from replay.outcome import Outcome, PoolOutcome
    from replay.trace.losses import Loss


def trace_findings(outcome: Outcome, values: Snapshot, lost: Loss | None) -> Iterator[Finding]:
    """What is worth knowing of a trace whatever the machine did.

    Parameters
    ----------
    outcome, values, lost
        As of :func:`replay.rules.figures.findings`.

    Yields
    ------
    Finding
        In no order of severity.
    """
    yield from _pages_unknown(outcome.pool)
    yield from _losses(lost)
    yield from _probe_misses(outcome, values)
    yield from _kernel_log(values)


def _pages_unknown(pool: PoolOutcome) -> Iterator[Finding]:
    if not pool.pages_unknown:
        return
    yield Finding(
        rule="pages-unknown",
        severity="warning",
        message=(
            "the trace has no page arguments: calls are counted, but reuse, occupancy, flushes "
            "and other machines cannot be worked out"
        ),
        evidence=(
            f"{grouped(pool.maps)} kmap calls without a struct page; record with kprobes that "
            "fetch it"
        ),
        count=pool.maps,
    )


def _losses(lost: Loss | None) -> Iterator[Finding]:
    if lost is None or not lost.intervals:
        return
    number = f"{'at least ' if lost.unknown else ''}{grouped(lost.events)}"
    yield Finding(
        rule="events-lost",
        severity="warning",
        message=(
            f"tracing lost {number if lost.events else 'an unknown number of'} events: "
            "counts are lower bounds"
        ),
        evidence=(
            f"{counted(len(lost.intervals), 'interval')}; after each the model has to find its "
            "state again; a larger trace buffer avoids it"
        ),
        count=max(lost.events, 1),
    )


def _probe_misses(outcome: Outcome, values: Snapshot) -> Iterator[Finding]:
    """kprobe_profile counts the hits that found no free return instance."""
    missed = {k: v for k, v in values.probe_misses.items() if v > 0}
    if not missed:
        return
    worst = sorted(missed.items(), key=lambda m: (-m[1], m[0]))[:3]
    generation = GENERATIONS.get(outcome.machine.generation)
    failures = outcome.arena.failures
    if (
        generation is not None
        and generation.fetch_faults_are_misses
        and sum(missed.values()) <= 2 * failures
    ):
        # The failed call returns an error pointer, whose fields the probe cannot fetch.
        yield Finding(
            rule="probe-misses",
            severity="info",
            message=(
                f"probes missed {times(sum(missed.values()))}, which the "
                f"{counted(failures, 'failed allocation')} explain"
            ),
            evidence="this kernel counts a faulting fetch as two misses; no call was lost",
            count=sum(missed.values()),
        )
        return
    yield Finding(
        rule="probe-misses",
        severity="warning",
        message=f"probes missed {times(sum(missed.values()))}: those calls have no return value",
        evidence=", ".join(f"{name}: {number}" for name, number in worst)
        + "; return probes want more instances (r64:group/event)",
        count=sum(missed.values()),
    )


def _kernel_log(values: Snapshot) -> Iterator[Finding]:
    """What the kernel itself complained about (mm/highmem.c, mm/vmalloc.c)."""
    for lines, rule, what in (
        (values.vmap_failures, "arena-exhausted-log", "failed vmap allocations"),
        (values.kmap_warnings, "kmap-warnings-log", "warnings about kmap"),
    ):
        if lines is not None and lines > 0:
            yield Finding(
                rule=rule,
                severity="warning",
                message=f"the kernel's log has {counted(lines, 'line')} about {what}",
                evidence="counted in the boot log beside the capture, also outside the traced time",
                count=lines,
            )
