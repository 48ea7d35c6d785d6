"""The pkmap pool on the machine of the trace: its replay and its figures, piece by piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from replay.pool.calls import NEVER, REPLAYED
from replay.pool.lock_order import over_pages
from replay.pool.tally import PassTimes, PoolTally
from replay.pool.users import PoolUsers
from replay.pool.window import PoolState, PoolWindow
from replay.times import SERIES_BINS, TimeBins
from replay.trace.numbering import Numbering

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from collectors.snapshot import Snapshot
    from replay.machine.model import Layout
    from replay.outcome import PoolOutcome
    from replay.pool.calls import CallTable
    from replay.pool.lock_order import Piece
    from replay.pool.loops.highmem import Pool
    from replay.trace.told import Told

MISFITS = 4
"""Contradictions from which a snapshot is suspected to be of another run, and how many times
fewer there must be without it. Fewer are the trace's own."""


class PoolAt(NamedTuple):
    """State of the pool between two pieces.

    Attributes
    ----------
    pool
        Not to be changed.
    pages
        The page that each page number stands for.
    """

    pool: Pool
    pages: Numbering

    def over(self, piece: Piece) -> Pool:
        """A copy over the page numbers of a piece; pages that nobody names any more have none."""
        page = self.pool.page.copy()
        mapped = page >= 0
        page[mapped] = piece.pages.find(self.pages.keys()[page[mapped]])
        return over_pages(self.pool._replace(page=page), piece.pages.count, piece.colour)


class FinalPool(NamedTuple):
    """The pool that the model ends with.

    Attributes
    ----------
    last
        last_pkmap_nr; None where every colour has one of its own.
    stale, used
        Slots with a pkmap_count of 1, and of more.
    """

    last: int | None
    stale: int
    used: int


class PoolRun:
    """Replays operations piece by piece and counts what they come to.

    Parameters
    ----------
    window
        The pool.
    span
        Time of the first and of the last event of the capture.
    is_lossy
        Whether tracing lost events.
    wants_ended
        Whether `ended` is wanted.

    Attributes
    ----------
    tally
        Figures so far.
    ended : ndarray of int64, shape (n, 3)
        Which mappings the operations of the last piece ended
        (:func:`replay.pool.loops.users.follow`); of length 0: not wanted.
    at
        State of the pool behind the last piece.
    nameless
        Calls of kmap() and kunmap() of which the trace has no argument: they are counted, no more.
    flushes, waits
        When the window was flushed, and when calls fell asleep.
    """

    def __init__(
        self,
        window: PoolWindow,
        span: tuple[int, int],
        *,
        is_lossy: bool = False,
        wants_ended: bool = False,
    ) -> None:
        from replay.pool.loops.sequence import new_gauges

        self._wants_ended = wants_ended
        self.ended = np.zeros((0, 3), np.int64)
        self.tally = PoolTally(window.slots, starts=np.zeros(1 + window.colours, np.int64))
        self.at = PoolAt(window.pool(), Numbering())
        self._gauges = new_gauges(window.slots, *span, SERIES_BINS)
        self.flushes, self.waits = PassTimes(span, SERIES_BINS), TimeBins(*span, SERIES_BINS)
        self._users = PoolUsers(window.slots, is_lossy=is_lossy)
        self._end = span[1]
        self.nameless = (0, 0)
        self._started = False
        self._carried = {name: np.zeros(0) for name in REPLAYED}

    def take(
        self, piece: Piece, *, last: bool
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """Replay a piece, and write into its calls what became of them (:data:`REPLAYED`).

        Returns
        -------
        result, scanned, freed : ndarray of int32
            Per operation: slot, ASLEEP or UNKNOWN; slots visited; slots freed by a flush (-1: no
            flush).
        """
        from replay.pool.loops import sequence as kernel

        time = piece.time
        result, scanned, freed = (np.zeros(time.size, np.int32) for _ in range(3))
        self._started |= time.size > 0
        self.nameless = self.nameless[0] + piece.nameless[0], self.nameless[1] + piece.nameless[1]
        gauges = self._gauges
        until = int(time[-1]) if time.size else gauges.since
        gauges = gauges._replace(until=gauges.end if last and self._started else until)
        pool = self.at.over(piece)
        most_used, most_stale, fullest = kernel.run(
            pool, piece.snapshot, piece.operations, time, result, scanned, freed, gauges
        )
        self.at = PoolAt(pool, piece.pages)
        self._gauges = gauges._replace(since=until)
        code = piece.operations[:, 0]
        self.tally.add(code, piece.operations[:, 3], result, scanned, freed)
        self.flushes.add(code, time, freed)
        if most_used > self.tally.most_used:
            self.tally.most_used = int(most_used)
            self._users.note_fullest(piece, int(fullest))
        self.tally.most_stale = max(self.tally.most_stale, int(most_stale))
        for name, before in self._carried.items():
            piece.calls[name][: before.size] = before
        self.ended = np.full((time.size * self._wants_ended, 3), -1, np.int64)
        self._users.take(piece, result, scanned, freed, self.ended)
        self._carried = {name: piece.calls[name][piece.kept] for name in REPLAYED}
        return result, scanned, freed

    def finish(self, calls: CallTable) -> None:
        """Count calls that are over, or that nothing comes behind.

        One whose return never comes, and that has no slot, waits until the trace ends.
        """
        from replay.pool.loops.highmem import ASLEEP

        slept = calls[calls["sleeps"] > 0]
        is_open = (slept["predicted"] == ASLEEP) & (slept["end"] == NEVER)
        self.waits.add(slept["first_try"])
        until = np.where(is_open, self._end, slept["last_try"])
        waited = np.maximum(until - slept["first_try"], 0)
        self.tally.add_waits(slept["pid"], slept["sleeps"], waited)
        self._users.add_waits(slept, waited, is_open)
        self._users.note_twice(calls)

    @property
    def noted_rows(self) -> NDArray[np.int64]:
        """Rows of the kmap() calls whose mappings are in use, and of some that ended."""
        return self._users.noted_rows

    @property
    def using(self) -> NDArray[np.int64]:
        """Row, task and time of each kmap() whose mapping is in use, shape (n, 3)."""
        return self._users.using

    def rows(self) -> set[int]:
        """Rows of the event table that tell who waits and who holds."""
        return self._users.rows(self.at.pool)

    def outcome(self, told: Told | None = None) -> PoolOutcome:
        """The figures, with who waits and who holds by what :meth:`rows` tell."""
        from replay.pool.loops.highmem import USED

        used = int(self.at.pool.reg[USED])
        outcome = self.tally.outcome(self._gauges, still_used=used, nameless=self.nameless)
        return outcome if told is None else self._users.named(outcome, self.at.pool, told)

    def final(self) -> FinalPool | None:
        """The pool behind the last piece; None without operations, or with calls of no argument."""
        from replay.pool.loops.highmem import LAST, STALE, USED

        if not self._started or any(self.nameless):
            return None
        last, *others = (int(cursor) for cursor in self.at.pool.reg[LAST:])
        used, stale = int(self.at.pool.reg[USED]), int(self.at.pool.reg[STALE])
        return FinalPool(None if others else last, stale, used)


def window_of(layout: Layout) -> PoolWindow:
    """The pool's window in a layout."""
    return PoolWindow(layout.pkmap_base, layout.pkmap_slots, layout.page_size, layout.pkmap_colours)


def state_from(values: Snapshot) -> PoolState | None:
    """The recorder's snapshot among a capture's facts."""
    state = values.pool_state
    if state is None:
        return None
    last, slots = state
    return PoolState(
        int(last),
        tuple((slot, count, -1 if pfn is None else pfn) for slot, count, pfn in slots),
        0,
    )


def is_of_another_run(misfits: int, without: int) -> bool:
    """Whether a snapshot contradicts the trace: how many calls do, with it and without it."""
    return without <= misfits // MISFITS


def not_used(misfits: int) -> str:
    """Words for a snapshot that was left aside."""
    return f"inferred: the snapshot contradicts the trace in {misfits} calls"
