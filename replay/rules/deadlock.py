"""Tasks that hold slots of the pool and sleep for another one, so that nobody wakes anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.outcome import Finding
from replay.rules import evidence
from replay.rules.rule import FindingRule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.outcome import Outcome, SlotHolder
    from replay.rules.rule import Case


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


DEADLOCK: Final = FindingRule(
    "kmap-deadlock", ("problem",),
    "Every slot of the pool is held by a task that sleeps for another one: they sleep for ever.",
    "map one page at a time, or with kmap_local_page(), where several have to be mapped at once",
    _deadlock, (evidence.POOL,),
)  # fmt: skip
