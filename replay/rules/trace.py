"""Findings about the trace itself: what it does not hold, what was lost, what the kernel said."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from replay.machine.generations import GENERATIONS
from replay.outcome import Finding, Moment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from collectors.snapshot import Snapshot
    from replay.outcome import Outcome, PoolOutcome
    from replay.trace.losses import Loss


def trace_findings(
    outcome: Outcome, snapshot: Snapshot, lost: Loss | None, *, is_whatif: bool = False
) -> Iterator[Finding]:
    """What is worth knowing of a trace whatever the machine did.

    Parameters
    ----------
    outcome, snapshot, lost
        As of :func:`replay.rules.figures.findings`; the outcome on the captured machine.
    is_whatif
        Another machine's kernel did not say what this one's log has.

    Yields
    ------
    Finding
        In no order of severity.
    """
    yield from _pages_unknown(outcome.pool)
    yield from _losses(lost)
    yield from _probe_misses(outcome, snapshot)
    if not is_whatif:
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
    yield Finding("events-lost", "warning", found, max(lost.events, 1), _first_gap(lost))


def _first_gap(lost: Loss) -> Moment | None:
    """Where the first gap begins; of one that begins before all events, where it ends."""
    times = [
        (gap.start_ts if gap.start_ts is not None else gap.end_ts, gap.cpu)
        for gap in lost.intervals
    ]
    known = [(ts, cpu) for ts, cpu in times if ts is not None]
    if not known:
        return None
    ts, cpu = min(known, key=lambda gap: gap[0])
    return Moment(ts, cpu)


class MissesExplained(NamedTuple):
    """Misses of probes that are no more than failed allocations explain."""

    misses: int
    failures: int


class Missed(NamedTuple):
    """Calls of one function that its probes did not record.

    Attributes
    ----------
    function
        Symbol, or the event's name where it is not known.
    absent
        Calls of which there is no event: the probe was hit while another one's handler ran.
    unreturned
        Calls whose return was not recorded, for want of an instance of the return probe.
    hits
        Calls that were recorded.
    instances
        Instances that the return probe has (``maxactive``); None: the kernel's default.
    """

    function: str
    absent: int
    unreturned: int
    hits: int
    instances: int | None


class ProbeMisses(NamedTuple):
    """Calls that probes missed, by function, the most first."""

    missed: tuple[Missed, ...]


FEW_MISSED: Final = 0.001
"""Share of a function's calls that is missed without a figure being wrong for it."""
_RETURN: Final = re.compile(r"(_ret|_return|_exit)$")
_FAULTING: Final = "alloc_vmap_area"


def _probe_misses(outcome: Outcome, snapshot: Snapshot) -> Iterator[Finding]:
    """kprobe_profile counts the hits that were not recorded, of each probe by itself.

    kernel/kprobes.c: a probe that is hit while the handler of another one runs on that CPU is
    passed over, and so are all that stand at its address (aggr_pre_handler); so is a return probe
    without a free instance (pre_handler_kretprobe).
    """
    missed = {name: number for name, number in snapshot.probe_misses.items() if number > 0}
    if not missed:
        return
    failures = outcome.arena.failures
    generation = GENERATIONS.get(outcome.machine.generation)
    faults = 2 * failures if generation is not None and generation.fetch_faults_are_misses else 0
    found = _missed(missed, snapshot, faults)
    if not found:  # the failed call returns an error pointer, whose fields the probe cannot fetch
        misses = sum(missed.values())
        yield Finding("probe-misses", "info", MissesExplained(misses, failures), misses)
        return
    few = all(m.absent + m.unreturned <= FEW_MISSED * m.hits for m in found)
    number = sum(m.absent + m.unreturned for m in found)
    yield Finding("probe-misses", "info" if few else "warning", ProbeMisses(found), number)


def _missed(missed: Mapping[str, int], snapshot: Snapshot, faults: int) -> tuple[Missed, ...]:
    """Calls that were missed, by function; `faults`: misses that are none, of one probe."""
    by_event = {probe.event: probe for probe in snapshot.probes}
    probed = {(p.symbol, p.is_return) for p in snapshot.probes}
    counts: dict[str, list[int]] = {}  # function to misses at entry and at return
    hits: Counter[str] = Counter()
    instances: dict[str, int | None] = {}
    for event, number in missed.items():
        probe = by_event.get(event)
        function = _RETURN.sub("", event) if probe is None else probe.symbol
        at_return = bool(_RETURN.search(event)) if probe is None else probe.is_return
        left = number - faults if at_return and function.startswith(_FAULTING) else number
        counts.setdefault(function, [0, 0])[at_return] += max(left, 0)
        hits[function] = max(hits[function], snapshot.probe_hits.get(event, 0))
        if at_return:
            instances[function] = None if probe is None else probe.maxactive
    found = []
    for function, (entries, returns) in counts.items():
        has_entry = (function, False) in probed or entries > 0 or function not in instances
        absent = entries if has_entry else 0
        unreturned = max(returns - absent, 0)
        if absent + unreturned:
            one = Missed(function, absent, unreturned, hits[function], instances.get(function))
            found.append(one)
    return tuple(sorted(found, key=lambda m: (-m.absent - m.unreturned, m.function)))


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
