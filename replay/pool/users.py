"""Who waits for slots of the pool, and who has them.

Kept are a few users for each slot and the tasks that slept, as rows of the event table; what those
tell is looked up at the end.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from replay.outcome import NAMED, CrossedKmaps, Moment, SlotHolder, Waiter
from replay.pool.takers import jam_of, nested_of, rows_of
from replay.trace.told import NO_ROW, moment

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.outcome import PoolOutcome
    from replay.pool.calls import CallTable
    from replay.pool.lock_order import Piece
    from replay.pool.loops.highmem import Pool
    from replay.trace.told import Told


_NEVER: Final = (1 << 63) - 1


class _Slept(NamedTuple):
    """What a task slept: how often, how long, the longest, the row of that call."""

    waits: int
    wait_ns: int
    longest_ns: int
    row: int


class PoolUsers:
    """Follows users and sleepers through the operations of the pool.

    Parameters
    ----------
    slots
        Size of the pool.
    is_lossy
        Whether tracing lost events.
    """

    def __init__(self, slots: int, *, is_lossy: bool = False) -> None:
        from replay.pool.loops.takers import new_takers
        from replay.pool.loops.users import new_users

        self._users = new_users(slots)
        self._takers = new_takers(slots)
        self._slept: dict[int, _Slept] = {}
        self._asleep: set[int] = set()
        # Time and row of the first sleep, flush of the window, pass of kmap_flush_unused(), and of
        # the call since which most slots were in use.
        self._first, self._flushed, self._unused, self._fullest = ((_NEVER, NO_ROW),) * 4
        self._open_ns = 0
        self._is_lossy = is_lossy
        self._twice, self._first_twice = 0, NO_ROW

    def take(
        self,
        piece: Piece,
        result: NDArray[np.int32],
        scanned: NDArray[np.int32],
        freed: NDArray[np.int32],
        ended: NDArray[np.int64],
    ) -> None:
        """Follow a piece, and write into its calls which slot they got, when, and their sleeps.

        `ended` is filled as by :func:`replay.pool.loops.users.follow`.
        """
        from replay.pool.loops.sequence import FLUSH_UNUSED
        from replay.pool.loops.users import Tries, follow

        if self._flushed[0] == _NEVER:
            self._flushed = _first_of(piece, freed > 0)
        if self._unused[0] == _NEVER:
            self._unused = _first_of(piece, piece.operations[:, 0] == FLUSH_UNUSED)

        tries = Tries(*(piece.calls[name] for name in Tries._fields))
        follow(
            self._users,
            self._takers,
            tries,
            piece.operations,
            piece.call,
            piece.time,
            result,
            scanned,
            ended,
        )

    @property
    def noted_rows(self) -> NDArray[np.int64]:
        """Rows of the kmap() calls whose mappings are in use, and of some that ended."""
        from replay.pool.loops.users import ROW

        rows = np.unique(self._users.entries[:, ROW])
        return rows[rows >= 0]

    @property
    def using(self) -> NDArray[np.int64]:
        """Row, task and time of each kmap() whose mapping is in use, shape (n, 3)."""
        from replay.pool.loops.users import BELOW, NOBODY

        users, chosen = self._users, list[int]()
        for newest in users.newest.tolist():
            entry = newest
            while entry != NOBODY:
                chosen.append(entry)
                entry = int(users.entries[entry, BELOW])
        return users.entries[chosen, :3].copy()

    def note_fullest(self, piece: Piece, at: int) -> None:
        """Note the operation since which more slots are in use than ever before; -1: before it."""
        self._fullest = _time_and_row(piece, at) if at >= 0 else (_NEVER, NO_ROW)

    def note_twice(self, calls: CallTable) -> None:
        """Note kunmap() calls of pages that have no user; of calls that are over."""
        from replay.pool.loops.placing import TWICE

        rows = calls["row"][calls["status"] == TWICE]
        if rows.size and not self._is_lossy:
            first = int(rows.min())
            self._twice += rows.size
            self._first_twice = first if self._first_twice < 0 else min(first, self._first_twice)

    def add_waits(
        self, slept: CallTable, waited: NDArray[np.int64], is_open: NDArray[np.bool_]
    ) -> None:
        """Note calls that slept, how long (ns), and which of them still do at the end."""
        if not slept.size:
            return
        rows, tries = slept["row"], slept["first_try"]
        earliest = int(np.argmin(tries))
        self._first = min(self._first, (int(tries[earliest]), int(rows[earliest])))
        pids, which = np.unique(slept["pid"], return_inverse=True)
        waits, times = np.zeros((2, pids.size), np.int64)
        np.add.at(waits, which, slept["sleeps"])
        np.add.at(times, which, waited)
        by_time = np.argsort(waited, kind="stable")
        longest = np.zeros(pids.size, np.int64)
        longest[which[by_time]] = by_time  # the last of each task stays
        for pid, more, ns, at in zip(
            pids.tolist(), waits.tolist(), times.tolist(), longest.tolist(), strict=True
        ):
            new = _Slept(more, ns, int(waited[at]), int(rows[at]))
            old = self._slept.get(pid, new._replace(waits=0, wait_ns=0))
            worst = max(old, new, key=lambda slept: slept.longest_ns)
            self._slept[pid] = worst._replace(
                waits=old.waits + new.waits, wait_ns=old.wait_ns + new.wait_ns
            )
        self._asleep.update(slept["pid"][is_open].tolist())
        self._open_ns += int(waited[is_open].sum())

    def rows(self, pool: Pool) -> set[int]:
        """Rows that :meth:`named` needs, for a pool that ends so."""
        from replay.pool.loops.users import CROSSED

        rows = {slept.row for _, slept in self._waiters()}
        rows |= {row for row, _, _ in (*self._then(), *self._held(pool))}
        rows |= {self._first[1], self._flushed[1], self._unused[1], self._fullest[1]}
        return rows | {self._first_twice, int(self._users.reg[CROSSED])} | rows_of(self._takers)

    def named(self, outcome: PoolOutcome, pool: Pool, told: Told) -> PoolOutcome:
        """The figures of the pool with who waits and who holds.

        Parameters
        ----------
        outcome
            Without them.
        pool
            State at the end.
        told
            What the rows of :meth:`rows` tell.
        """
        from replay.pool.loops.users import UNNOTED

        held = self._held(pool)
        are_told_apart = not self._users.reg[UNNOTED]
        return replace(
            outcome,
            nested=nested_of(self._takers, told) if are_told_apart else None,
            jam=jam_of(self._takers, told),
            crossed=self._crossed(told) if are_told_apart and not self._is_lossy else None,
            asleep=len(self._asleep),
            first_wait=_at(self._first, told),
            first_flush=_at(self._flushed, told),
            first_unused_pass=_at(self._unused, told),
            fullest=_at(self._fullest, told),
            waiters=tuple(
                Waiter(
                    pid,
                    slept.waits,
                    slept.wait_ns,
                    slept.longest_ns,
                    pid in self._asleep,
                    moment(told, slept.row),
                )
                for pid, slept in self._waiters()
            ),
            holders=self._grouped(self._then(), told),
            held=self._grouped(held, told),
            unmapped_twice=None if self._is_lossy else self._twice,
            first_unmapped_twice=moment(told, self._first_twice),
            held_by_asleep=sum(pid in self._asleep for row, pid, _ in held if row != NO_ROW),
        )

    def _crossed(self, told: Told) -> CrossedKmaps:
        """Unmaps of other tasks' mappings, and on other CPUs."""
        from replay.pool.loops.users import CROSSED, OTHER_CPU, OTHER_TASK

        reg = self._users.reg
        first = moment(told, int(reg[CROSSED]))
        return CrossedKmaps(int(reg[OTHER_TASK]), int(reg[OTHER_CPU]), first)

    def _waiters(self) -> list[tuple[int, _Slept]]:
        """The tasks that waited longest."""
        waiters = sorted(self._slept.items(), key=lambda task: (-task[1].wait_ns, task[0]))
        return waiters[:NAMED]

    def _then(self) -> list[tuple[int, int, int]]:
        """Row, task and time of the slots' users when the worst wait began."""
        from replay.pool.loops.users import MOST_WAITED, WAITED

        users = self._users
        if not self._slept:
            return []
        is_last = users.reg[WAITED] + self._open_ns >= users.reg[MOST_WAITED]
        table = users.then if self._asleep and is_last else users.worst
        return [(row, pid, since) for row, pid, since in table.tolist()]

    def _held(self, pool: Pool) -> list[tuple[int, int, int]]:
        """The same of the slots in use at the end: the newest user of each."""
        users = self._users
        entry = users.newest[np.flatnonzero(pool.counts >= 2)]
        known = users.entries[np.maximum(entry, 0), :3].copy()
        known[entry < 0] = -1
        return [(row, pid, since) for row, pid, since in known.tolist()]

    def _grouped(self, users: list[tuple[int, int, int]], told: Told) -> tuple[SlotHolder, ...]:
        """Users by task and call site, most slots first."""
        groups: dict[tuple[int, str | None], list[tuple[int, int]]] = {}
        for row, pid, since in users:
            site = None if row == NO_ROW else told[row].site
            groups.setdefault((pid, site), []).append((since, row))
        holders = []
        for (pid, _), group in groups.items():
            since, row = min(group)
            asleep = row != NO_ROW and pid in self._asleep
            holders.append(SlotHolder(len(group), moment(told, row, since), asleep))
        return tuple(sorted(holders, key=lambda holder: -holder.slots)[:NAMED])


def _at(first: tuple[int, int], told: Told) -> Moment | None:
    """Time and row as a moment; None where it never came."""
    ts, row = first
    if ts == _NEVER:
        return None
    return Moment(ts) if row == NO_ROW else moment(told, row, ts)


def _first_of(piece: Piece, which: NDArray[np.bool_]) -> tuple[int, int]:
    """Time of the first of these operations, and the row of its call."""
    at = int(np.argmax(which)) if which.any() else -1
    return (_NEVER, NO_ROW) if at < 0 else _time_and_row(piece, at)


def _time_and_row(piece: Piece, at: int) -> tuple[int, int]:
    """Time of an operation, and the row of its call."""
    call = piece.call[at]
    return int(piece.time[at]), int(piece.calls["row"][call]) if call >= 0 else NO_ROW
