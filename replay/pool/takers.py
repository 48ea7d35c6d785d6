"""Tasks that need slots while they hold some, and who waits for whom where all are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from replay.outcome import NAMED, JammedTask, NestedKmaps, NestedTask, PoolJam
from replay.trace.told import NO_ROW, moment

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.pool.loops.takers import Takers
    from replay.trace.told import Told


class _Jammed(NamedTuple):
    """A task: its slots, row and time of its earliest kmap(), row of the one that it sleeps in.

    `asks` is NO_ROW for a task that is awake, and for one of more sleepers than are told apart.
    """

    pid: int
    slots: int
    is_asleep: bool
    row: int
    since: int
    asks: int


def rows_of(takers: Takers) -> set[int]:
    """Rows of the event table that :func:`nested_of` and :func:`jam_of` need."""
    from replay.pool.loops.takers import MOST_ROW

    rows = {int(takers.reg[MOST_ROW])} if takers.reg[MOST_ROW] else set()
    rows |= {int(takers.row[pid]) for pid in _deepest(takers).tolist()}
    return rows | {row for task in _jammed(takers) for row in (task.row, task.asks)}


def nested_of(takers: Takers, told: Told) -> NestedKmaps:
    """Calls of tasks that held slots; `told` is what :func:`rows_of` tell."""
    from replay.pool.loops.takers import CALLS, MOST_AT_ONCE, MOST_ROW

    reg = takers.reg
    return NestedKmaps(
        calls=int(reg[CALLS]),
        tasks=int(np.count_nonzero(takers.most)),
        at_once=int(reg[MOST_AT_ONCE]),
        when=moment(told, int(reg[MOST_ROW])) if reg[MOST_AT_ONCE] else None,
        worst=tuple(
            NestedTask(pid, int(takers.most[pid]), moment(told, int(takers.row[pid])))
            for pid in _deepest(takers).tolist()
        ),
    )


def _deepest(takers: Takers) -> NDArray[np.int64]:
    """The tasks that held most when they needed one more."""
    tasks = np.flatnonzero(takers.most)
    return tasks[np.argsort(-takers.most[tasks], kind="stable")][:NAMED]


def jam_of(takers: Takers, told: Told) -> PoolJam | None:
    """Who held and who waited when those that slept held most; None: nobody ever slept."""
    from replay.pool.loops.takers import JAM_ASLEEP, JAM_TIME

    if not takers.reg[JAM_ASLEEP]:
        return None
    pid, asleep = takers.jam[:, 1], takers.jam[:, 3] > 0
    known = pid >= 0
    return PoolJam(
        ts=int(takers.reg[JAM_TIME]),
        by_asleep=int(asleep.sum()),
        by_awake=int((known & ~asleep).sum()),
        by_unknown=int((~known).sum()),
        sleepers=int(takers.reg[JAM_ASLEEP]),
        holders=int(np.unique(pid[known]).size),
        both=int(np.unique(pid[asleep]).size),
        tasks=tuple(
            JammedTask(
                task.pid,
                task.slots,
                asleep=task.is_asleep,
                holds=moment(told, task.row, task.since),
                asks=moment(told, task.asks),
            )
            for task in _jammed(takers)
        ),
    )


def _jammed(takers: Takers) -> list[_Jammed]:
    """Tasks of the jam: those that held most, then those that only waited."""
    from replay.pool.loops.takers import JAM_ASLEEP, JAM_QUEUED, Q_PID, Q_ROW

    if not takers.reg[JAM_ASLEEP]:
        return []
    queue = takers.jam_queue[: takers.reg[JAM_QUEUED]]
    asks = dict(zip(queue[:, Q_PID].tolist(), queue[:, Q_ROW].tolist(), strict=True))
    slots: dict[int, list[tuple[int, int]]] = {}
    asleep = set()
    for row, pid, since, is_asleep in takers.jam[takers.jam[:, 1] >= 0].tolist():
        slots.setdefault(pid, []).append((since, row))
        if is_asleep:
            asleep.add(pid)
    first = {pid: min(of) for pid, of in slots.items()}
    holders = sorted(slots, key=lambda pid: (-len(slots[pid]), pid))[:NAMED]
    waiters = sorted(asks.keys() - slots.keys())[:NAMED]
    return [
        *(
            _Jammed(
                pid,
                len(slots[pid]),
                pid in asleep,
                first[pid][1],
                first[pid][0],
                asks.get(pid, NO_ROW),
            )
            for pid in holders
        ),
        *(_Jammed(pid, 0, pid in asks, NO_ROW, 0, asks[pid]) for pid in waiters),
    ]
