"""What the trace itself does not hold, and what was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.outcome import Finding, Moment
from replay.rules.misses import FEW_MISSED, Missed, missed_calls
from replay.rules.rule import FindingRule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.rules.rule import Case
    from replay.trace.losses import Loss


class PagesUnknown(NamedTuple):
    """Calls without a struct page."""

    calls: int


def _pages_unknown(case: Case) -> Iterator[Finding]:
    pool = case.captured.pool
    if pool.pages_unknown:
        yield Finding("pages-unknown", "warning", PagesUnknown(pool.maps), pool.maps)


class EventsLost(NamedTuple):
    """Events that tracing lost, `more` than are known where not every gap tells its number."""

    events: int
    more: bool
    intervals: int


def _losses(case: Case) -> Iterator[Finding]:
    lost = case.lost
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


class ProbeMisses(NamedTuple):
    """Calls that probes missed, by function, the most first."""

    missed: tuple[Missed, ...]


def _probe_misses(case: Case) -> Iterator[Finding]:
    """kprobe_profile counts the hits that were not recorded, of each probe by itself.

    kernel/kprobes.c: a probe that is hit while the handler of another one runs on that CPU is
    passed over, and so are all that stand at its address (aggr_pre_handler); so is a return probe
    without a free instance (pre_handler_kretprobe).
    """
    misses = sum(n for n in case.snapshot.probe_misses.values() if n > 0)
    if not misses:
        return
    found = missed_calls(case)
    if not found:  # the failed call returns an error pointer, whose fields the probe cannot fetch
        explained = MissesExplained(misses, case.captured.arena.failures)
        yield Finding("probe-misses", "info", explained, misses)
        return
    few = all(m.absent + m.unreturned <= FEW_MISSED * m.hits for m in found)
    number = sum(m.absent + m.unreturned for m in found)
    yield Finding("probe-misses", "info" if few else "warning", ProbeMisses(found), number)


PAGES: Final = FindingRule(
    "pages-unknown", ("warning",),
    "The trace counts calls of kmap(), and does not tell which pages they map.",
    "record with kprobes that fetch the page (docs/capture.md)",
    _pages_unknown,
)  # fmt: skip
LOST: Final = FindingRule(
    "events-lost", ("warning",),
    "Tracing lost events, so that counts are lower bounds and what depends on every call is not "
    "known.",
    "a larger trace buffer (buffer_size_kb), fewer events, or a shorter capture",
    _losses,
)  # fmt: skip
MISSES: Final = FindingRule(
    "probe-misses", ("warning", "info"),
    "Probes passed over calls: there is no event of them.",
    "fewer probes that are hit inside each other, more instances of return probes (r512:…)",
    _probe_misses,
)  # fmt: skip
RULES: Final = (PAGES, LOST, MISSES)
