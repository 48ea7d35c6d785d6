"""Calls that took much longer than their work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.observed.unseen import unseen
from replay.outcome import Finding
from replay.rules import evidence
from replay.rules.rule import FindingRule, Limit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.outcome import CallTime, LongCall, Observed
    from replay.rules.rule import Case

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
    `around`: the longest with what context switches tell of it; None where they tell nothing, for
    a reason (`unseen`) if it is among the calls that are kept.
    """

    calls: tuple[CallTime, ...]
    hull: int = 0
    around: LongCall | None = None
    unseen: str | None = None


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
        call = _kept(slow[0], outcome.observed)
        hidden = None if call is None else call.unseen or unseen(call, case.lost)
        found = SlowCalls(tuple(slow), hull, call if hidden is None else None, hidden)
        yield Finding("slow-calls", "warning", found, len(slow), slow[0].slowest)


def _kept(slow: CallTime, observed: Observed) -> LongCall | None:
    """The longest call of an operation, where it is among those of which more is kept."""
    same = (c for c in observed.longest if (c.op, c.at) == (slow.op, slow.slowest))
    return next(same, None)


SLOW: Final = FindingRule(
    "slow-calls", ("warning",),
    "One call took much longer than its work: somebody waited.",
    "sched_switch in the trace tells what ran meanwhile; hmtrace report has the usual times",
    _slow_calls, (evidence.TIMES, evidence.RETURNS),
    Limit(SLOW_MS, f"ms (of the arena {SLOW_AREA} times as many)"),
)  # fmt: skip
