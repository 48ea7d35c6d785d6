"""Findings about tasks: who waits for slots, who keeps them, and whose calls took long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.outcome import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.outcome import CallTime, Moment, Outcome, SlotHolder, Waiter

FEW_HELD: Final = 4
"""Kmaps held at the end that are no more than calls in flight on a few CPUs."""
MS: Final = 1_000_000
SLOW_NS: Final = {
    "kmap": 10 * MS,
    "kunmap": 10 * MS,
    "kmap_get": 10 * MS,
    "kmap_local": 10 * MS,
    "kunmap_local": 10 * MS,
    "area_alloc": 100 * MS,
    "area_free": 100 * MS,
    "area_purge": 100 * MS,
}
"""Longest times of calls that are worth a word. The first ones are work of microseconds, so a few
ticks of the scheduler show; the others may wait for vmap_purge_lock, and for a purge."""
LONG_HOLD_NS: Final = 50 * MS
"""Time that a local mapping was held which no time slice explains."""


def task_findings(outcome: Outcome) -> Iterator[Finding]:
    """What is worth knowing of the tasks that map.

    Yields
    ------
    Finding
        In no order of severity.
    """
    yield from _deadlock(outcome)
    yield from _pool_exhausted(outcome)
    yield from _still_held(outcome)
    yield from _slow_calls(outcome)
    yield from _long_hold(outcome)


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


def _deadlock(outcome: Outcome) -> Iterator[Finding]:
    pool = outcome.pool
    if is_deadlocked(outcome):
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


def _pool_exhausted(outcome: Outcome) -> Iterator[Finding]:
    """All slots in use: kmap() sleeps uninterruptibly (mm/highmem.c: map_new_virtual)."""
    pool = outcome.pool
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


def _still_held(outcome: Outcome) -> Iterator[Finding]:
    """A leaked kmap() takes its slot away for good; the pool only shrinks."""
    pool = outcome.pool
    if not pool.still_used or is_deadlocked(outcome):
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


def _slow_calls(outcome: Outcome) -> Iterator[Finding]:
    """Calls that took much longer than their work.

    Of a kmap() that slept for a slot :func:`_pool_exhausted` tells.
    """
    if outcome.observed is None:
        return
    slow = [
        call
        for call in outcome.observed.durations
        if call.max_ns >= SLOW_NS.get(call.op, call.max_ns + 1)
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


def _long_hold(outcome: Outcome) -> Iterator[Finding]:
    """A task that holds a local mapping cannot migrate, and pays for it at each switch."""
    local = outcome.local
    if local.longest_hold_ns is None or local.longest_hold_ns < LONG_HOLD_NS:
        return
    found = LongHold(local.longest_hold_ns, local.longest_hold, outcome.layout.kmap_per_cpu)
    yield Finding("local-held-long", "warning", found, 1, local.longest_hold)
