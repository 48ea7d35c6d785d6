"""Calls that took much longer than their work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.outcome import Finding
from replay.rules import evidence
from replay.rules.rule import FindingRule, Limit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.outcome import CallTime, LongCall, Observed
    from replay.rules.rule import Case
    from replay.trace.losses import Loss

MS: Final = 1_000_000
SLOW_MS: Final = 10.0
"""Longest time of a call that is worth a word: it is work of microseconds, so a few ticks of the
scheduler show."""
SLOW_AREA: Final = 10
"""How many times as long calls of the arena may take, which wait for vmap_purge_lock and purges."""
_QUICK: Final = frozenset({"kmap", "kunmap", "kmap_get", "kmap_local", "kunmap_local"})
_OF_AREA: Final = frozenset({"area_alloc", "area_free", "area_purge"})


class SlowCalls(NamedTuple):
    """Calls that took long, one of each operation, the longest first.

    `hull`: pages that the largest flush of a purge over the direct mapping invalidates one by one.
    `around`: the longest with what context switches tell of it; None: they are not traced, some
    are lost, or it is not among the calls of which they are kept.
    """

    calls: tuple[CallTime, ...]
    hull: int = 0
    around: LongCall | None = None


def _slow_calls(case: Case) -> Iterator[Finding]:
    """Calls that took much longer than their work.

    Of a kmap() that slept for a slot :func:`_pool_exhausted` tells.
    """
    outcome = case.outcome
    if outcome.observed is None:
        return
    least = SLOW.limit_in(case) * MS
    slow = [
        call
        for call in outcome.observed.durations
        if (
            (call.op in _QUICK and call.max_ns >= least)
            or (call.op in _OF_AREA and call.max_ns >= SLOW_AREA * least)
        )
        and not (call.op == "kmap" and outcome.pool.waits)
    ]
    slow.sort(key=lambda call: -call.max_ns)
    if slow:
        tlb = outcome.tlb
        hull = tlb.range_pages_max if tlb.across else 0
        found = SlowCalls(tuple(slow), hull, _around(slow[0], outcome.observed, case.lost))
        yield Finding("slow-calls", "warning", found, len(slow), slow[0].slowest)


def _around(slow: CallTime, observed: Observed, lost: Loss | None) -> LongCall | None:
    """What context switches tell of the longest call of an operation; None where some are lost.

    The idle task is one number for every CPU: of its calls they tell nothing.
    """
    for call in observed.longest:
        if call.off_ns is not None and (call.op, call.at) == (slow.op, slow.slowest):
            return None if not call.at.pid or _is_in_a_gap(call, lost) else call
    return None


def _is_in_a_gap(call: LongCall, lost: Loss | None) -> bool:
    """Whether events of its time may be missing."""
    begin, end = call.at.ts, call.at.ts + call.ns
    return lost is not None and any(
        (gap.start_ts is None or gap.start_ts <= end)
        and (gap.end_ts is None or gap.end_ts >= begin)
        for gap in lost.intervals
    )


SLOW: Final = FindingRule(
    "slow-calls", ("warning",),
    "One call took much longer than its work: somebody waited.",
    "sched_switch in the trace tells what ran meanwhile; hmtrace report has the usual times",
    _slow_calls, (evidence.TIMES, evidence.RETURNS),
    Limit(SLOW_MS, f"ms (of the arena {SLOW_AREA} times as many)"),
)  # fmt: skip
