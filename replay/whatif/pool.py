"""The calls of a workload on another machine's pool.

They are taken in lock order, without those that need nothing there, and then served. A task that
waits less or more than it did makes its next calls at other times, so what is needed next may lie
anywhere behind: the calls stay on disk where they are many.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from replay.pool.tally import BINS, PoolTally
from replay.survey import PoolWindow
from replay.trace.numbering import Numbering
from replay.trace.spool import SpooledRows

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.outcome import PoolOutcome
    from replay.pool.loops.closed import Done, Load, Loop
    from replay.pool.loops.sequence import Gauges
    from replay.survey import PoolState
    from replay.whatif.placement import Placing
    from replay.whatif.workload import Workload

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


class PoolCallsThere:
    """The calls of a workload on another machine's pool.

    Parameters
    ----------
    workload
        The workload.
    placing
        Which pages are highmem there.
    state
        State in which the pool begins; None: as it is after boot.
    same_kernel
        Whether the other machine's kernel calls kmap_flush_unused() where this one did.
    same_pool
        Whether it has the same pool, so that a snapshot of this one holds there too.
    """

    def __init__(
        self,
        workload: Workload,
        placing: Placing,
        state: PoolState | None,
        *,
        same_kernel: bool,
        same_pool: bool,
    ) -> None:
        from replay.pool.loops import closed as kernel
        from replay.pool.loops import sequence

        self._span = workload.found.span
        self._placing = placing
        self._state = state
        self._nameless = workload.nameless
        self._frames_of_state = workload.found.pool.pages
        self._waits = workload.waits()
        kept = (sequence.FLUSH_UNUSED,) * same_kernel + (sequence.SNAPSHOT,) * same_pool
        self._of_nobody = np.array(kept, np.int64)
        self._calls = SpooledRows(kernel.CALL)
        self._pages, self._tasks = Numbering(), Numbering()
        self._frames = np.zeros(0, np.int64)  # of each page, -1 unknown
        self._seen = 0  # calls of the workload so far

    def feed(self, calls: pl.DataFrame) -> None:
        """Take the calls of a window that was placed (:class:`replay.whatif.calls.PoolCalls`)."""
        from replay.pool.loops import closed as kernel

        code, time, is_call, page, frame, pid = (
            calls.get_column(name).to_numpy()
            for name in ("code", "time", "is_call", "page", "frame", "pid")
        )
        waited = self._waited(calls.height)
        kept = np.isin(code, self._of_nobody)
        kept[is_call] = self._placing.of_calls(page[is_call], frame[is_call])
        is_call = is_call[kept]
        rows = np.zeros(is_call.size, kernel.CALL)
        rows["code"], rows["time"], rows["waited"] = code[kept], time[kept], waited[kept]
        rows["page"][is_call] = self._number(page[kept][is_call], frame[kept][is_call])
        rows["task"] = self._tasks.of(pid[kept])
        self._calls.append(rows)

    def _waited(self, number: int) -> NDArray[np.int64]:
        """How long each of the next calls slept in the capture."""
        at, waited = self._waits
        start, stop = np.searchsorted(at, (self._seen, self._seen + number))
        out = np.zeros(number, np.int64)
        out[at[start:stop] - self._seen] = waited[start:stop]
        self._seen += number
        return out

    def _number(self, page: NDArray[np.int64], frame: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of each call's page."""
        pages = self._pages.of(page)
        new = self._pages.count - self._frames.size
        self._frames = np.concatenate([self._frames, np.full(new, -1, np.int64)])
        self._frames[pages] = frame
        return pages

    def replay(self, target: Machine, layout: Layout, *, closed: bool) -> PoolThere:
        """Serve the calls on the other machine's pool, once all were fed."""
        from replay.pool.loops import closed as kernel
        from replay.pool.loops.highmem import USED
        from replay.pool.loops.sequence import new_gauges

        load = self._load()
        slots, colours = max(layout.pkmap_slots, 1), layout.pkmap_colours
        frames = np.array(sorted(self._frames_of_state), np.int64)
        numbers = dict(zip(frames.tolist(), self._pages.of(frames).tolist(), strict=True))
        more = np.full(self._pages.count - self._frames.size, -1, np.int64)
        self._frames = np.concatenate([self._frames, more])
        pages = np.arange(self._frames.size)
        # Of unknown frames: spread.
        colour = np.where(self._frames >= 0, self._frames, pages) % colours
        window = PoolWindow(layout.pkmap_base, slots, layout.page_size, colours)
        pool = window.pool(pages.size, colour)
        snapshot = window.pool_of(self._state, numbers, pages.size, colour)
        gauges = new_gauges(slots, *self._span, BINS if self._calls.count else 0)
        loop = kernel.new_loop(max(self._tasks.count, 1), gauges.start)
        done = kernel.new_done(min(AT_ONCE, self._calls.count + 1))
        tally = PoolTally(slots)
        pids = self._tasks.keys().view(np.int64)
        stuck, wake_ns = 0, int(target.costs.sleep)
        while not loop.reg[kernel.OVER]:
            number = kernel.run(pool, snapshot, load, loop, done, wake_ns, closed, gauges)
            self._calls.release()
            stuck += _count(tally, done, number, pids)
        return self._there(tally, loop, gauges, layout, int(pool.reg[USED]), stuck * closed)

    def _there(
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
        tally.scan_max = int(loop.reg[kernel.MOST_SCANNED])
        tally.most_used = int(loop.reg[kernel.MOST_USED])
        tally.most_stale = int(loop.reg[kernel.MOST_STALE])
        nameless = self._nameless if layout.highmem_bytes else (0, 0)
        outcome = tally.outcome(gauges, still_used=still_used, nameless=nameless)
        return PoolThere(replace(outcome, slots=layout.pkmap_slots), tally, stuck)

    def _load(self) -> Load:
        """The calls with their followers."""
        from replay.pool.loops import closed as kernel

        load = kernel.load_of(self._calls.view())
        later = np.full(max(self._tasks.count, 1), -1, np.int64)
        for stop in range(self._calls.count, 0, -AT_ONCE):
            kernel.link(load, max(stop - AT_ONCE, 0), stop, later)
            self._calls.release()
        return load


def _count(tally: PoolTally, done: Done, number: int, pids: NDArray[np.int64]) -> int:
    """Count calls that are over; return how many were never served."""
    from replay.pool.loops.highmem import ASLEEP
    from replay.pool.loops.sequence import MAP

    code, task, result, scanned, freed, sleeps, wait = (
        getattr(done, name)[:number]
        for name in ("code", "task", "result", "scanned", "freed", "sleeps", "wait")
    )
    tally.add(code, result, scanned, freed)
    slept = sleeps > 0
    tally.add_waits(pids[task[slept]], sleeps[slept], wait[slept])
    return int(((code == MAP) & (result == ASLEEP)).sum())
