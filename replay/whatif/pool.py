"""The captured calls on another machine's pool.

While the trace goes by window by window, its calls are written down in lock order; then they are
served there. A task that waits less or more than it did makes its next calls at other times, so
what is needed next may lie anywhere behind: the calls stay on disk where they are many.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from replay.pool.calls import CALL
from replay.pool.tally import BINS, PoolTally
from replay.survey import PoolWindow
from replay.trace.numbering import Numbering
from replay.trace.spool import SpooledRows
from replay.walk import PoolPart
from replay.whatif.placement import page_keys

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.outcome import PoolOutcome
    from replay.pool.lock_order import Piece
    from replay.pool.loops.closed import Done, Load, Loop
    from replay.pool.loops.sequence import Gauges
    from replay.survey import PoolState, Survey
    from replay.trace.windows import Window
    from replay.walk import PoolPiece
    from replay.whatif.placement import High, Placing

_OPEN: Final = np.dtype([("row", "i8"), ("at", "i8")])
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


class PoolCallsThere(PoolPart):
    """The captured pool, whose calls are written down for the other machine.

    Parameters
    ----------
    layout, found, state, losses
        As for :class:`replay.walk.PoolPart`.
    placing
        Which pages are highmem there.
    same_kernel
        Whether the other machine's kernel calls kmap_flush_unused() where this one did.
    same_pool
        Whether it has the same pool: then that begins in the state of the snapshot, else as it is
        after boot.

    Attributes
    ----------
    high
        What the last window maps there.
    """

    def __init__(
        self,
        layout: Layout,
        found: Survey,
        state: PoolState | None,
        losses: tuple[int, ...],
        placing: Placing,
        *,
        same_kernel: bool,
        same_pool: bool,
    ) -> None:
        from replay.pool.loops import closed as kernel
        from replay.pool.loops import sequence

        super().__init__(layout, found, state, losses)
        self.high: High
        self._span = found.span
        self._placing = placing
        self._state = state if same_pool else None
        self._frames_of_state = found.pool.pages
        kept = (sequence.FLUSH_UNUSED,) * same_kernel + (sequence.SNAPSHOT,) * same_pool
        self._of_nobody = np.array(kept, np.int64)
        self._calls = SpooledRows(kernel.CALL)
        self._pages, self._tasks = Numbering(), Numbering()
        self._frames = np.zeros(0, np.int64)  # of each page, -1 unknown
        self._open = np.zeros(0, _OPEN)  # kmap() calls that were tried, and where they stand

    def feed(self, window: Window) -> PoolPiece:
        """As :meth:`replay.walk.PoolPart.feed`."""
        told = super().feed(window)
        self.high = self._placing.feed(window.table, window.first_row, told.piece.calls)
        self._write_down(told.piece)
        self._note_waits(told.over)
        return told

    def _write_down(self, piece: Piece) -> None:
        """Add a piece's calls; the first attempt of a kmap() is where it comes in."""
        from replay.pool.loops import closed as kernel
        from replay.pool.loops.sequence import GET, MAP, UNMAP

        code, call = piece.operations[:, 0], piece.call
        is_call = np.isin(code, (MAP, UNMAP, GET)) & (call >= 0)
        is_call[is_call] = self.high.calls[call[is_call]]
        maps = np.flatnonzero(is_call & (code == MAP))
        _, first = np.unique(call[maps], return_index=True)
        again = np.ones(maps.size, bool)
        again[first] = np.isin(piece.calls["row"][call[maps[first]]], self._open["row"])
        is_call[maps[again]] = False
        index = np.flatnonzero(is_call | np.isin(code, self._of_nobody))
        calls = piece.calls[call[index]] if piece.calls.size else np.zeros(index.size, CALL)
        rows = np.zeros(index.size, kernel.CALL)
        rows["code"], rows["time"] = code[index], piece.time[index]
        of_task = is_call[index]
        rows["page"][of_task] = self._page(calls[of_task])
        pid = np.full(index.size, -1, np.int64)
        pid[of_task] = calls["pid"][of_task]
        rows["task"] = self._tasks.of(pid)
        tried = np.flatnonzero(rows["code"] == MAP)
        opened = np.zeros(tried.size, _OPEN)
        opened["row"], opened["at"] = calls["row"][tried], self._calls.count + tried
        self._open = np.concatenate([self._open, opened])
        self._calls.append(rows)

    def _page(self, calls: NDArray[np.void]) -> NDArray[np.int64]:
        """Number of each call's page."""
        pages = self._pages.of(page_keys(calls))
        new = self._pages.count - self._frames.size
        self._frames = np.concatenate([self._frames, np.full(new, -1, np.int64)])
        self._frames[pages] = calls["pfn"]
        return pages

    def _note_waits(self, over: NDArray[np.void]) -> None:
        """How long the calls that are over slept in the capture."""
        by = np.argsort(over["row"], kind="stable")
        at = np.searchsorted(over["row"][by], self._open["row"])
        done = at < over.size
        done[done] = over["row"][by[at[done]]] == self._open["row"][done]
        ended = over[by[at[done]]]
        waited = ended["last_try"] - ended["first_try"]
        some = waited > 0
        if some.any():
            self._calls.view()["waited"][self._open["at"][done][some]] = waited[some]
            self._calls.release()
        self._open = self._open[~done]

    def replay(self, target: Machine, layout: Layout, *, closed: bool) -> PoolThere:
        """Serve the calls on the other machine's pool, once the trace is over."""
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
        pids = self._tasks.keys()
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
        nameless = self.nameless if layout.highmem_bytes else (0, 0)
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
