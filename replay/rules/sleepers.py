"""Tasks that sleep in kmap() for a slot of the pool, and how near to that a pool came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.outcome import Finding
from replay.rules import evidence
from replay.rules.rule import FindingRule, Limit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.outcome import Moment, SlotHolder, Waiter
    from replay.rules.rule import Case

NEAR_FULL: Final = 75
"""Per cent of slots in use from which a burst as large again would exhaust the pool."""


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


class PoolNearFull(NamedTuple):
    """Most slots in use; `above`: share of the time at or above 75 % of them."""

    used: int
    slots: int
    above: float
    mean: float


def _pool_near_full(case: Case) -> Iterator[Finding]:
    pool = case.outcome.pool
    near = NEAR.limit_in(case) / 100
    if pool.waits or not pool.slots or pool.max_used < near * pool.slots:
        return
    found = PoolNearFull(pool.max_used, pool.slots, pool.share_above.get("75", 0.0), pool.mean_used)
    yield Finding("pool-near-full", "warning", found, pool.max_used, pool.fullest)


EXHAUSTED: Final = FindingRule(
    "pool-exhausted", ("problem",),
    "All slots of the pool were in use, and kmap() slept until one was given back.",
    "unmap sooner at the call sites that held the slots, or convert them to kmap_local_page()",
    _pool_exhausted, (evidence.POOL,),
)  # fmt: skip
NEAR: Final = FindingRule(
    "pool-near-full", ("warning",),
    "So many slots of the pool were in use at once that a burst as large again fills it, and then "
    "every kmap() sleeps.",
    "convert call sites that hold mappings long to kmap_local_page(); hmtrace replay --pkmap N "
    "tells what a larger pool does",
    _pool_near_full, (evidence.POOL,), Limit(NEAR_FULL, "% of the slots"),
)  # fmt: skip
