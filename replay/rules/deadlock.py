"""Tasks that hold slots of the pool and need another one: all of them may sleep for ever.

mm/highmem.c: map_new_virtual sleeps until some kunmap() wakes it. A task that sleeps there gives
back none of the slots that it holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.outcome import Finding
from replay.rules import evidence
from replay.rules.rule import FindingRule, Limit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.outcome import JammedTask, NestedTask, Outcome, PoolJam, SlotHolder
    from replay.rules.rule import Case

NESTED_PERCENT: Final = 50.0
"""Per cent of the slots from which twice as many tasks, or a pool of half the size, would do."""
EDGES: Final = 64
"""Edges of a graph that are given."""
_CYCLE: Final = 3
"""Tasks of a cycle that are given: any of those that hold and sleep make one."""


class WaitEdge(NamedTuple):
    """A task that sleeps for a slot, and one that holds `slots` of them: both by their pid."""

    waiter: int
    holder: int
    slots: int


class WaitGraph(NamedTuple):
    """Who waited for whom when the tasks that slept held most slots.

    Whoever sleeps waits for any slot, so for every task that holds one: it is a deadlock only where
    all slots are held by tasks that sleep.

    Attributes
    ----------
    ts
        When, in ns of the trace clock.
    by_asleep, by_awake, by_unknown
        Slots by who held them: tasks that slept, others, nobody knows whom.
    sleepers, holders
        Tasks.
    edges
        Some of `edges_all`, between tasks of `tasks`.
    cycle
        Tasks that sleep and hold slots, each waiting for the next, and the last one for the first;
        empty: there is none.
    tasks
        Those that held most, and that waited.
    """

    ts: int
    by_asleep: int
    by_awake: int
    by_unknown: int
    sleepers: int
    holders: int
    edges: tuple[WaitEdge, ...]
    edges_all: int
    cycle: tuple[int, ...]
    tasks: tuple[JammedTask, ...]


def graph_of(jam: PoolJam | None) -> WaitGraph | None:
    """The graph of a jam; None: nobody slept, or it is not known who did."""
    if jam is None:
        return None
    waiters = [task for task in jam.tasks if task.asleep]
    holders = [task for task in jam.tasks if task.slots]
    both = [task.pid for task in holders if task.asleep]
    if len(both) == 1 and jam.holders > 1:
        both = []  # those that it waits for are awake
    edges = [
        WaitEdge(waiter.pid, holder.pid, holder.slots)
        for waiter in waiters
        for holder in holders
        if waiter.pid != holder.pid or len(holders) == 1
    ]
    own = jam.both if jam.holders > 1 else 0  # nobody waits for itself, unless it is all there is
    return WaitGraph(
        jam.ts, jam.by_asleep, jam.by_awake, jam.by_unknown, jam.sleepers, jam.holders,
        tuple(edges[:EDGES]), jam.sleepers * jam.holders - own, tuple(both[:_CYCLE]), jam.tasks,
    )  # fmt: skip


class Deadlock(NamedTuple):
    """All slots are held by tasks that themselves sleep for one; `holders` have the most."""

    slots: int
    tasks: int
    holders: tuple[SlotHolder, ...]
    graph: WaitGraph | None = None


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
        found = Deadlock(pool.slots, pool.asleep, pool.held, graph_of(pool.jam))
        yield Finding("kmap-deadlock", "problem", found, pool.asleep, pool.first_wait)


class KmapNested(NamedTuple):
    """kmap() of tasks that held slots, and needed one more.

    Attributes
    ----------
    calls, tasks, slots
        How many, by how many tasks, and the slots that there are.
    deepest
        Most that one task held.
    at_once
        As of :class:`replay.outcome.NestedKmaps`.
    enough
        Tasks that hold `deepest` each and would deadlock.
    worst
        Tasks that held most.
    graph
        Who waited for whom; None: nobody slept with slots.
    """

    calls: int
    tasks: int
    slots: int
    deepest: int
    at_once: int
    enough: int
    worst: tuple[NestedTask, ...]
    graph: WaitGraph | None


def _nested(case: Case) -> Iterator[Finding]:
    """What has not happened here, and happens where enough such tasks meet."""
    pool = case.outcome.pool
    nested = pool.nested
    if nested is None or not nested.calls or not pool.slots or is_deadlocked(case.outcome):
        return
    deepest = nested.worst[0].slots
    held = pool.jam.by_asleep if pool.jam is not None else 0
    near = max(nested.at_once, held) >= NESTED.limit_in(case) * pool.slots / 100
    found = KmapNested(
        nested.calls, nested.tasks, pool.slots, deepest, nested.at_once, -(-pool.slots // deepest),
        nested.worst, graph_of(pool.jam) if held else None,
    )  # fmt: skip
    severity = "warning" if near else "info"
    yield Finding("kmap-nested", severity, found, nested.calls, nested.worst[0].at)


DEADLOCK: Final = FindingRule(
    "kmap-deadlock", ("problem",),
    "Every slot of the pool is held by a task that sleeps for another one: they sleep for ever.",
    "map one page at a time, or with kmap_local_page(), where several have to be mapped at once",
    _deadlock, (evidence.POOL,),
)  # fmt: skip
NESTED: Final = FindingRule(
    "kmap-nested", ("warning", "info"),
    "Tasks needed one more slot of the pool while they held some: enough of them at once sleep for "
    "ever.",
    "map one page at a time, or with kmap_local_page(), where several have to be mapped at once",
    _nested, (evidence.POOL,), Limit(NESTED_PERCENT, "% of the slots, held by such tasks at once"),
)  # fmt: skip
