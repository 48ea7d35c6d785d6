"""The calls of a workload on another machine's pool.

They are taken in lock order, without those that need nothing there, and served. A task that waits
less or more than it did makes its next calls at other times, so what is needed next may lie
anywhere behind: the calls stay on disk where they are many.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from replay.outcome import NAMED, Moment, SlotHolder, Waiter
from replay.pool.tally import PoolTally
from replay.pool.window import PoolWindow
from replay.times import SERIES_BINS
from replay.trace.spool import SpooledRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.outcome import PoolOutcome
    from replay.pool.loops.closed import Done, Load, Loop
    from replay.pool.loops.highmem import Pool
    from replay.pool.loops.sequence import Gauges
    from replay.pool.window import PoolState
    from replay.whatif.convert import ConvertedCalls
    from replay.whatif.placement import Placed
    from replay.whatif.workload import Workload

USERS: Final = 2
"""Count of a slot from which somebody uses it."""
AT_ONCE: Final = 1 << 18
"""Calls that are served between two looks at the memory that they take."""


class PoolThere(NamedTuple):
    """Figures of the pool there, and what the cost needs of it.

    Attributes
    ----------
    outcome, tally
        Figures.
    stuck
        Tasks that sleep for ever.
    """

    outcome: PoolOutcome
    tally: PoolTally
    stuck: int


class PoolThereRun:
    """Serves the calls of a workload on another machine's pool.

    Parameters
    ----------
    workload
        The workload.
    placed
        Which pages are highmem there.
    state
        State in which the pool begins; None: as it is after boot.
    same_kernel
        Whether the other machine's kernel calls kmap_flush_unused() where this one did: without
        HIGHMEM it is empty (include/linux/highmem-internal.h).
    same_pool
        Whether it has the same pool, so that a snapshot of this one holds there too.
    converted
        What is no call of the pool any more.
    """

    def __init__(
        self,
        workload: Workload,
        placed: Placed,
        state: PoolState | None,
        *,
        same_kernel: bool,
        same_pool: bool,
        converted: ConvertedCalls | None = None,
    ) -> None:
        from replay.pool.loops import sequence

        self._span = workload.found.span
        self._state = state
        self._nameless = workload.nameless
        self._frames_of_state = workload.found.pool.pages
        self._calls = workload.calls()
        self._count = self._calls["code"].count
        self._slept = (workload.of_calls("waits", "at"), workload.of_calls("waits", "waited"))
        self._pids = workload.of_calls("tasks", "pid")
        self._comms = workload.of_calls("tasks", "comm")
        self._happens = np.zeros(sequence.SNAPSHOT + 1, bool)
        self._happens[sequence.FLUSH_UNUSED] = same_kernel
        self._happens[sequence.SNAPSHOT] = same_pool
        keys = workload.column("pages", "key")
        # Pages that are mapped there, in the order in which they are first served.
        order = workload.of_calls("first", "page")
        self._served = order[placed.high[order]]
        self._there = np.full(keys.size, -1, np.int64)
        self._there[self._served] = np.arange(self._served.size)
        self._frames = keys[self._served]
        rows = self._calls.pop("row")
        if converted is not None:
            self._calls["page"] = _without(self._calls["page"], rows, converted)

    def replay(self, target: Machine, layout: Layout, *, closed: bool) -> PoolThere:
        """Serve the calls."""
        from replay.pool.loops import closed as kernel
        from replay.pool.loops.highmem import USED
        from replay.pool.loops.sequence import new_gauges

        slots, colours = max(layout.pkmap_slots, 1), layout.pkmap_colours
        frames = self._all_frames()
        pages = np.arange(frames.size)
        # Of unknown frames: spread.
        colour = np.where(frames >= 0, frames, pages) % colours
        window = PoolWindow(layout.pkmap_base, slots, layout.page_size, colours)
        pool = window.pool(pages.size, colour)
        numbers = {int(f): n for n, f in enumerate(frames.tolist()) if f in self._frames_of_state}
        snapshot = window.pool_of(self._state, numbers, pages.size, colour)
        gauges = new_gauges(slots, *self._span, SERIES_BINS if self._makes_any() else 0)
        loop = kernel.new_loop(max(self._pids.size, 1), gauges.start)
        done = kernel.new_done(min(AT_ONCE, self._count + 1))
        tally = PoolTally(slots, starts=np.ones(1 + colours, np.int64))  # all begins with it
        followers = SpooledRows(np.dtype(np.int64))
        load = self._load(followers)
        users = UsersThere(self._pids, self._comms, slots)
        stuck, wake_ns = 0, int(target.costs.sleep)
        while not loop.reg[kernel.OVER]:
            number = kernel.run(pool, snapshot, load, loop, done, wake_ns, closed, gauges)
            if loop.reg[kernel.UNLINKED]:
                load = self._linked(followers)
            self._release(followers)
            stuck += _count(tally, done, number, self._pids)
            users.take(done, number)
        there = self._there_told(tally, loop, gauges, layout, int(pool.reg[USED]), stuck * closed)
        return there._replace(outcome=users.named(there.outcome, pool))

    def _all_frames(self) -> NDArray[np.int64]:
        """Frame of each page in the pool, below zero unknown; behind them those of the snapshot."""
        known = set(self._frames.tolist())
        more = [frame for frame in sorted(self._frames_of_state) if frame not in known]
        return np.concatenate([self._frames, np.array(more, np.int64)])

    def _makes_any(self) -> bool:
        """Whether anything at all happens there."""
        if self._served.size:
            return True
        code = self._calls["code"].view()
        at_once = range(0, code.size, AT_ONCE)
        page = self._calls["page"].view()
        return any(
            bool(self._happens[code[at : at + AT_ONCE][page[at : at + AT_ONCE] < 0]].any())
            for at in at_once
        )

    def _load(self, followers: SpooledRows) -> Load:
        from replay.pool.loops.closed import Load

        columns = {name: column.view() for name, column in self._calls.items()}
        return Load(
            **columns, there=self._there, happens=self._happens, slept_at=self._slept[0],
            slept_ns=self._slept[1], follower=followers.view(),
        )  # fmt: skip

    def _linked(self, followers: SpooledRows) -> Load:
        """The calls with their followers."""
        from replay.pool.loops.closed import link

        for at in range(0, self._count, AT_ONCE):
            followers.append(np.empty(min(AT_ONCE, self._count - at), np.int64))
        load = self._load(followers)
        later = np.full(max(self._pids.size, 1), -1, np.int64)
        for stop in range(self._count, 0, -AT_ONCE):
            link(load, max(stop - AT_ONCE, 0), stop, later)
            self._release(followers)
        return load

    def _release(self, followers: SpooledRows) -> None:
        for column in (*self._calls.values(), followers):
            column.release()

    def _there_told(
        self,
        tally: PoolTally,
        loop: Loop,
        gauges: Gauges,
        layout: Layout,
        still_used: int,
        stuck: int,
    ) -> PoolThere:
        from replay.pool.loops import closed as kernel

        # Passes of attempts that failed are not told apart by how many slots they freed.
        tally.freed_by_wraps[1] += loop.reg[kernel.FREEING]
        tally.freed_by_wraps[0] += loop.reg[kernel.QUIET]
        tally.scanned += int(loop.reg[kernel.IN_VAIN])
        tally.visited += int(loop.reg[kernel.IN_VAIN])
        tally.visited_max = int(loop.reg[kernel.MOST_SCANNED])
        tally.most_used = int(loop.reg[kernel.MOST_USED])
        tally.most_stale = int(loop.reg[kernel.MOST_STALE])
        nameless = self._nameless if layout.highmem_bytes else (0, 0)
        outcome = tally.outcome(gauges, still_used=still_used, nameless=nameless)
        return PoolThere(replace(outcome, slots=layout.pkmap_slots, asleep=stuck), tally, stuck)


def _without(pages: SpooledRows, rows: SpooledRows, converted: ConvertedCalls) -> SpooledRows:
    """The pages of the calls, -1 of those that are none any more."""
    left = SpooledRows(np.dtype(np.int32))
    page, row = pages.view(), rows.view()
    for at in range(0, page.size, AT_ONCE):
        some = page[at : at + AT_ONCE]
        is_gone = (some >= 0) & converted.is_gone(row[at : at + AT_ONCE])
        left.append(np.where(is_gone, np.int32(-1), some))
        pages.release()
        rows.release()
    return left


class UsersThere:
    """Which tasks wait for slots there, and which have them.

    Parameters
    ----------
    pids, comms : ndarray, shape (tasks,)
        Of the tasks by their numbers.
    slots
        Size of the pool.
    """

    def __init__(self, pids: NDArray[np.int64], comms: NDArray[np.object_], slots: int) -> None:
        self._pids, self._comms = pids, comms
        self._sleeps, self._wait, self._longest, self._since = np.zeros((4, pids.size), np.int64)
        self._asleep = np.zeros(pids.size, bool)
        self._first = (0, -1)  # when, and which task
        # Task that mapped a slot and has it, -1 where that is not known, and since when.
        self._newest = np.full((slots, 2), -1, np.int64)

    def take(self, done: Done, number: int) -> None:
        """Take calls that are over."""
        from replay.pool.loops.highmem import ASLEEP
        from replay.pool.loops.sequence import UNMAP

        code, task, result = done.code[:number], done.task[:number], done.result[:number]
        served = np.flatnonzero(result >= 0)
        user = np.where(code == UNMAP, -1, task)[served]  # whose slot it is then, is not followed
        got = done.since[served] + done.wait[served]
        self._newest[result[served]] = np.column_stack([user, got])  # the last one stays
        slept = np.flatnonzero(done.sleeps[:number] > 0)
        if not slept.size:
            return
        task, wait, since = task[slept], done.wait[slept], done.since[slept]
        by = np.argsort(wait, kind="stable")  # of each task the longest comes last, and stays
        longer = by[(wait[by] > self._longest[task[by]]) | (self._sleeps[task[by]] == 0)]
        self._longest[task[longer]], self._since[task[longer]] = wait[longer], since[longer]
        np.add.at(self._sleeps, task, done.sleeps[slept])
        np.add.at(self._wait, task, wait)
        self._asleep[task[result[slept] == ASLEEP]] = True
        earliest = int(np.argmin(since))
        if self._first[1] < 0 or since[earliest] < self._first[0]:
            self._first = int(since[earliest]), int(task[earliest])

    def named(self, outcome: PoolOutcome, pool: Pool) -> PoolOutcome:
        """The figures with who waits and who holds, for a pool that ends so."""
        if not outcome.asleep:
            self._asleep[:] = False  # no more than calls that were dropped
        when, task = self._first
        held = self._newest[(pool.counts >= USERS) & (self._newest[:, 0] >= 0)]
        return replace(
            outcome,
            first_wait=None if task < 0 else self._moment(task, when),
            waiters=self._waiters(),
            held=self._holders(held),
            held_by_asleep=int(self._asleep[held[:, 0]].sum()),
        )

    def _waiters(self) -> tuple[Waiter, ...]:
        """Those that waited longest."""
        waited = np.flatnonzero(self._sleeps)
        order = np.lexsort((self._pids[waited], -self._wait[waited]))
        return tuple(
            Waiter(
                int(self._pids[task]),
                int(self._sleeps[task]),
                int(self._wait[task]),
                int(self._longest[task]),
                bool(self._asleep[task]),
                self._moment(task, int(self._since[task])),
            )
            for task in waited[order][:NAMED].tolist()
        )

    def _holders(self, held: NDArray[np.int64]) -> tuple[SlotHolder, ...]:
        """Tasks by the slots that they have, most first."""
        holders = []
        for task in np.unique(held[:, 0]).tolist():
            times = held[held[:, 0] == task, 1]
            first = self._moment(task, int(times.min()))
            holders.append(SlotHolder(times.size, first, bool(self._asleep[task])))
        return tuple(sorted(holders, key=lambda holder: -holder.slots)[:NAMED])

    def _moment(self, task: int, ts: int) -> Moment:
        return Moment(ts, None, int(self._pids[task]), self._comms[task])


def _count(tally: PoolTally, done: Done, number: int, pids: NDArray[np.int64]) -> int:
    """Count calls that are over; return how many were never served."""
    from replay.pool.loops.highmem import ASLEEP
    from replay.pool.loops.sequence import MAP

    code, task, result, scanned, freed, sleeps, wait = (
        getattr(done, name)[:number]
        for name in ("code", "task", "result", "scanned", "freed", "sleeps", "wait")
    )
    tally.add(code, np.zeros(number, np.int64), result, scanned, freed)
    slept = sleeps > 0
    tally.add_waits(pids[task[slept]], sleeps[slept], wait[slept])
    return int(((code == MAP) & (result == ASLEEP)).sum())
