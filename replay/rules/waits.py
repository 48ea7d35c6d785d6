"""Findings about tasks: who waits for slots, who keeps them, and whose calls took long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.outcome import Finding
from replay.rules import evidence
from replay.rules.rule import FindingRule, Limit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.outcome import CallTime, Moment, Outcome, SlotHolder, Waiter
    from replay.rules.rule import Case

FEW_HELD: Final = 4
"""Kmaps held at the end that are no more than calls in flight on a few CPUs."""
MS: Final = 1_000_000
SLOW_MS: Final = 10.0
"""Longest time of a call that is worth a word: it is work of microseconds, so a few ticks of the
scheduler show."""
SLOW_AREA: Final = 10
"""How many times as long calls of the arena may take, which wait for vmap_purge_lock and purges."""
_QUICK: Final = frozenset({"kmap", "kunmap", "kmap_get", "kmap_local", "kunmap_local"})
_OF_AREA: Final = frozenset({"area_alloc", "area_free", "area_purge"})
LONG_HOLD_MS: Final = 50.0
"""Time that a local mapping was held which no time slice explains."""


class Deadlock(NamedTuple):
    """All slots are held by tasks that themselves sleep for one; `holders` have the most."""

    slots: int
    tasks: int
    holders: tuple[SlotHolder, ...]


def is_deadlocked(outcome: Outcome) -> bool:
    """Whether every slot is held, when the trace ends, by a task that sleeps for another.

    mm/highmem.c: map_new_virtual sleeps until some kunmap() wakes it, and these are the tasks
    that would have to call it.
    """
    pool = outcome.pool
    return 0 < pool.slots == pool.still_used == pool.held_by_asleep


def _deadlock(case: Case) -> Iterator[Finding]:
    pool = case.outcome.pool
    if is_deadlocked(case.outcome):
        found = Deadlock(pool.slots, pool.asleep, pool.held)
        yield Finding("kmap-deadlock", "problem", found, pool.asleep, pool.first_wait)


class PoolExhausted(NamedTuple):
    """Sleeps of kmap() on a full pool.

    Attributes
    ----------
    waits, slots, tasks, wait_ns, longest_ns
        How often, on how many slots, how many tasks, how long in all and at most.
    full
        Share of the time that the pool was full.
    asleep
        Tasks that still slept when the trace ended: the times are the least that they can be.
    since
        When the first fell asleep.
    waiters, holders
        Those that slept longest, and who had the slots then.
    """

    waits: int
    slots: int
    tasks: int
    wait_ns: float
    longest_ns: float
    full: float | None
    asleep: int = 0
    since: Moment | None = None
    waiters: tuple[Waiter, ...] = ()
    holders: tuple[SlotHolder, ...] = ()


def _pool_exhausted(case: Case) -> Iterator[Finding]:
    """All slots in use: kmap() sleeps uninterruptibly (mm/highmem.c: map_new_virtual)."""
    pool = case.outcome.pool
    if not pool.waits:
        return
    found = PoolExhausted(
        pool.waits,
        pool.slots,
        pool.waiting_tasks,
        pool.wait_ns,
        pool.longest_wait_ns,
        pool.share_above.get("100"),
        pool.asleep,
        pool.first_wait,
        pool.waiters,
        pool.holders,
    )
    yield Finding("pool-exhausted", "problem", found, pool.waits, pool.first_wait)


class KmapHeld(NamedTuple):
    """Slots held at the end, and by whom; `leak`: more than calls in flight explain.

    `asleep` of them are those of tasks that wait for another slot; `sleepers` tasks wait.
    """

    held: int
    leak: bool
    maps: int
    unmaps: int
    holders: tuple[SlotHolder, ...] = ()
    asleep: int = 0
    sleepers: int = 0


def _still_held(case: Case) -> Iterator[Finding]:
    """A leaked kmap() takes its slot away for good; the pool only shrinks."""
    pool = case.outcome.pool
    if not pool.still_used or is_deadlocked(case.outcome):
        return
    idle = pool.still_used - pool.held_by_asleep
    # Where nobody tells who holds them, those that wait for ever may be it.
    leak = idle > FEW_HELD and not (pool.asleep and not pool.held)
    grave = pool.slots > 0 and idle * 8 >= pool.slots
    severity = "problem" if grave else "warning" if leak else "info"
    found = KmapHeld(
        pool.still_used, leak, pool.maps, pool.unmaps, pool.held, pool.held_by_asleep, pool.asleep
    )
    earliest = min((h.first for h in pool.held if h.first), key=lambda m: m.ts, default=None)
    yield Finding("kmap-held", severity, found, pool.still_used, earliest)


class SlowCalls(NamedTuple):
    """Calls that took long, one of each operation, the longest first.

    `hull`: pages that the largest flush of a purge over the direct mapping invalidates one by one.
    """

    calls: tuple[CallTime, ...]
    hull: int = 0


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
        found = SlowCalls(tuple(slow), tlb.range_pages_max if tlb.across else 0)
        yield Finding("slow-calls", "warning", found, len(slow), slow[0].slowest)


class LongHold(NamedTuple):
    """The local mapping that was held longest, and whether it was one of kmap_atomic()."""

    hold_ns: int
    by: Moment | None
    per_cpu: bool


def _long_hold(case: Case) -> Iterator[Finding]:
    """A task that holds a local mapping cannot migrate, and pays for it at each switch."""
    local = case.outcome.local
    if local.longest_hold_ns is None or local.longest_hold_ns < LONG.limit_in(case) * MS:
        return
    found = LongHold(local.longest_hold_ns, local.longest_hold, case.outcome.layout.kmap_per_cpu)
    yield Finding("local-held-long", "warning", found, 1, local.longest_hold)


DEADLOCK: Final = FindingRule(
    "kmap-deadlock", ("problem",),
    "Every slot of the pool is held by a task that sleeps for another one: they sleep for ever.",
    "map one page at a time, or with kmap_local_page(), where several have to be mapped at once",
    _deadlock, (evidence.POOL,),
)  # fmt: skip
EXHAUSTED: Final = FindingRule(
    "pool-exhausted", ("problem",),
    "All slots of the pool were in use, and kmap() slept until one was given back.",
    "unmap sooner at the call sites that held the slots, or convert them to kmap_local_page()",
    _pool_exhausted, (evidence.POOL,),
)  # fmt: skip
HELD: Final = FindingRule(
    "kmap-held", ("problem", "warning", "info"),
    "Slots of the pool are still held at the end: more than a few are a leak of kmap(), and the "
    "pool only shrinks.",
    "look for a path without kunmap() behind the call sites that are named",
    _still_held, (evidence.POOL,),
)  # fmt: skip
SLOW: Final = FindingRule(
    "slow-calls", ("warning",),
    "One call took much longer than its work: somebody waited.",
    "sched_switch in the trace tells what ran meanwhile; hmtrace report has the usual times",
    _slow_calls, (evidence.TIMES, evidence.RETURNS),
    Limit(SLOW_MS, f"ms (of the arena {SLOW_AREA} times as many)"),
)  # fmt: skip
LONG: Final = FindingRule(
    "local-held-long", ("warning",),
    "A local mapping was held so long that its task was preempted or slept with it; it could not "
    "migrate meanwhile.",
    "map, copy and unmap at once",
    _long_hold, (evidence.LOCAL, evidence.TIMES), Limit(LONG_HOLD_MS, "ms"),
)  # fmt: skip
