"""The order in which the pool's lock was taken, found piece by piece.

:class:`LockOrder` is fed the event table in pieces and gives the pool's operations in lock order,
as far as nothing that comes later can change it. Where the pieces end makes no difference: the
search (:mod:`replay.pool.loops.search`) goes on from its last checkpoint, and what it may still put
elsewhere is held back. How much that can be is bounded by the constants of
:mod:`replay.pool.stream` and :mod:`replay.pool.loops.search`, not by the trace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from collectors.errors import HmtraceError
from collectors.records import dataclass
from replay.pool.stream import PoolStream, renamed
from replay.trace.losses import NO_GAPS
from replay.trace.numbering import Numbering

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.pool.calls import CallTable
    from replay.pool.entries import Entries
    from replay.pool.loops.highmem import Pool
    from replay.pool.loops.output import Settled
    from replay.pool.loops.placing import Work
    from replay.pool.loops.search import Checkpoint
    from replay.pool.stream import Known
    from replay.pool.window import PoolFacts, PoolState, PoolWindow
    from replay.trace.losses import Gaps

_ROWS_PER_EVENT: Final = 64
_FEW_ROWS: Final = 1 << 22
"""Bounds on the output of the search: in an honest trace it is little more than the calls."""


@dataclass(frozen=True)
class Piece:
    """Operations of the pool in lock order, behind those of the piece before.

    Attributes
    ----------
    operations : ndarray of int64, shape (n, 4)
        For :func:`replay.pool.loops.sequence.run`.
    time : ndarray of int64, shape (n,)
        When, in ns of the trace clock; never falls.
    call : ndarray of int64, shape (n,)
        Index into `calls`, -1 none.
    at_pass : ndarray of int64, shape (n,)
        Number of the traced flush that this operation belongs to, -1 none.
    flushed : ndarray of bool, shape (n,)
        Whether a TLB flush of the window followed that traced flush.
    calls
        The calls; what the replay finds out is to be written into them.
    kept : ndarray of int64
        Those that come again, ascending: the next piece begins with them.
    pages
        The page that each page number of the operations stands for.
    colour : ndarray of int64
        Colour of each of them.
    snapshot
        Pool that SNAPSHOT operations set.
    nameless
        kmap() and kunmap() calls that came with it and of which the trace has no argument.
    """

    operations: NDArray[np.int64]
    time: NDArray[np.int64]
    call: NDArray[np.int64]
    at_pass: NDArray[np.int64]
    flushed: NDArray[np.bool_]
    calls: CallTable
    kept: NDArray[np.int64]
    pages: Numbering
    colour: NDArray[np.int64]
    snapshot: Pool
    nameless: tuple[int, int]

    @property
    def over(self) -> CallTable:
        """The calls that do not come again."""
        is_over = np.ones(self.calls.size, bool)
        is_over[self.kept] = False
        return self.calls[is_over]


class _State(NamedTuple):
    """State of the search between two pieces; see :class:`replay.pool.loops.placing.Work`.

    Pages are numbers in `LockOrder._pages`, calls are indices of the stream's calls.
    """

    pool: Pool
    doubt: NDArray[np.uint8]
    limbo_page: NDArray[np.int64]
    limbo_unmap: NDArray[np.int64]
    maps: NDArray[np.int64]
    unmaps: NDArray[np.int64]
    deferred: NDArray[np.int64]
    choices: NDArray[np.int64]
    moves: NDArray[np.int64]
    out: NDArray[np.int64]  # output that may still change, with room for more
    reg: NDArray[np.int64]

    @property
    def held(self) -> NDArray[np.int64]:
        """Output that may still change."""
        from replay.pool.loops.placing import N_OUT

        return self.out[: self.reg[N_OUT]]

    @property
    def pending(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Calls of kmap() that are not placed, and kunmap() calls that may not have happened."""
        from replay.pool.loops.placing import N_MAPS, N_UNMAPS

        return self.maps[: self.reg[N_MAPS]], self.unmaps[: self.reg[N_UNMAPS]]


class LockOrder:
    """Orders the calls of a trace.

    Parameters
    ----------
    window
        The pool.
    facts
        What is known of the whole trace.
    state
        Snapshot; without one the initial state is inferred from the first addresses.
    losses
        `seq` of the first event after each loss of events.
    """

    def __init__(
        self,
        window: PoolWindow,
        facts: PoolFacts,
        *,
        state: PoolState | None = None,
        losses: Gaps = NO_GAPS,
    ) -> None:
        from replay.pool.loops import search

        self._window = window
        self._facts = facts
        self._state = state
        self._stream = PoolStream(window, facts, losses, None if state is None else state.seq)
        self._pages = Numbering()
        self._colour = np.zeros(0, np.int64)
        self._work = _nothing(window)
        self._done = 0  # events of the stream that the search has handled
        self._effort = np.zeros(search.EFFORT, np.int64)
        self._effort[search.LEFT] = 100 * search.LONGEST

    @property
    def moved_unmaps(self) -> int:
        """Kunmaps that were put behind a flush by what was observed."""
        from replay.pool.loops.placing import MOVED_UNMAPS

        return int(self._work.reg[MOVED_UNMAPS])

    @property
    def told_passes(self) -> int:
        """Flushes whose TLB flush, or its absence, decided the order of calls."""
        from replay.pool.loops.placing import TOLD_PASSES

        return int(self._work.reg[TOLD_PASSES])

    @property
    def assumed_free(self) -> int:
        """New mappings of slots whose initial state was not known."""
        from replay.pool.loops.placing import ASSUMED_FREE

        return int(self._work.reg[ASSUMED_FREE])

    def feed(self, entries: Entries, *, last: bool) -> Piece:
        """Take a piece of the event table, order what it settles, and forget that.

        Parameters
        ----------
        entries, last
            As for :meth:`replay.pool.stream.PoolStream.take`.

        Raises
        ------
        HmtraceError
            If the trace contradicts itself so much that its order cannot be searched in memory.
        """
        self._stream.take(entries, last=last)
        self._number_pages(entries.pages)
        known = self._stream.known(last=last)
        snapshot = self._snapshot()
        self._search(known, snapshot, last=last)
        settled = self._settled(known)
        calls = self._stream.calls
        return Piece(
            **settled._asdict(),
            calls=calls,
            kept=np.zeros(0, np.int64) if last else self._forget(),
            pages=self._pages,
            colour=self._colour,
            snapshot=snapshot,
            nameless=entries.nameless,
        )

    def _forget(self) -> NDArray[np.int64]:
        """Drop what is settled; return the calls that are not over."""
        from replay.pool.loops.placing import CALL, KEY, PASS_KEY, SUB

        work = self._work
        held, pending = work.held, work.pending
        in_limbo = work.limbo_page >= 0
        work.limbo_unmap[~in_limbo] = -1
        of_held = held[:, CALL]
        used = np.concatenate([*pending, work.limbo_unmap[in_limbo], of_held[of_held >= 0]])
        settled = min(self._done, int(held[:, KEY].min(initial=self._done * SUB)) // SUB)
        kept = self._stream.forget(settled, used)
        for calls in (*pending, work.limbo_unmap, of_held):
            calls[:] = renamed(calls, kept)
        held[:, KEY] -= settled * SUB
        work.reg[PASS_KEY] -= settled * SUB
        self._done -= settled
        return kept

    def _number_pages(self, numbers: Numbering) -> None:
        """Number pages as a window does, and rename what is carried.

        Parameters
        ----------
        numbers
            Numbers of the pages of the window's own calls; those of other calls are added.
        """
        from replay.pool.loops.placing import PAGE

        calls, work = self._stream.calls, self._work
        before = self._stream.carried
        calls["number"][:before] = numbers.of(calls["page"][:before])
        old = self._pages.keys()
        for pages in (work.pool.page, work.limbo_page, work.held[:, PAGE]):
            live = pages >= 0
            pages[live] = numbers.of(old[pages[live]])
        numbers.of(np.array(list(self._facts.pages.values()), np.uint64))
        self._colour = self._colours_of(numbers)
        self._pages = numbers

    def _colours_of(self, numbers: Numbering) -> NDArray[np.int64]:
        """Colour of each page: its frame's lowest bits, or its slot's if no frame is known."""
        colour = np.zeros(numbers.count, np.int64)
        if self._window.colours == 1:
            return colour
        now = numbers.find(self._pages.keys())
        colour[now[now >= 0]] = self._colour[now >= 0]
        calls, mask = self._stream.calls, self._window.colours
        slot = self._window.by_address(calls["seen"])
        for known, told in ((slot >= 0, slot), (calls["pfn"] >= 0, calls["pfn"])):
            colour[calls["number"][known]] = told[known] % mask
        for pfn, number in self._numbers_of_frames(numbers).items():
            colour[number] = pfn % mask
        return colour

    def _numbers_of_frames(self, numbers: Numbering) -> dict[int, int]:
        """Page number of each frame of the snapshot that the trace maps."""
        pages = self._facts.pages
        found = numbers.find(np.array(list(pages.values()), np.uint64))
        return dict(zip(pages, found.tolist(), strict=True))

    def _search(self, known: Known, snapshot: Pool, *, last: bool) -> None:
        """Go on with the search up to where later events could tell something."""
        from replay.pool.loops import search

        stop = max(known.limit, self._done)
        size = stop - self._done
        capacity = 3 * size + self._work.held.shape[0] + 8 * self._window.slots + 1024
        effort = self._effort
        while True:
            work = self._work_with_room(capacity)
            self._done = search.order(
                work, _checkpoint(work), snapshot, known.arrays, known.kinds, known.who,
                self._done, stop, last, effort,
            )  # fmt: skip
            if not effort[search.IS_FULL]:
                return
            capacity *= 4
            if capacity > max(_FEW_ROWS, _ROWS_PER_EVENT * size):
                msg = "the mapping events contradict each other throughout"
                raise HmtraceError(msg, hint="was this trace put together from several machines?")

    def _settled(self, known: Known) -> Settled:
        """Take what is settled out of the output, and leave what may still change."""
        from replay.pool.loops import placing as kernel
        from replay.pool.loops.output import Settled, split, write

        work, row_of = self._work, self._stream.calls["out_row"]
        out, (_, unmaps) = work.held, work.pending
        movable = np.concatenate([unmaps, work.limbo_unmap[work.limbo_page >= 0]])
        if self._done == known.kinds.size:
            movable = movable[:0]  # nothing comes that could move them
        keys = out[:, kernel.KEY]
        hold = int(keys[row_of[movable]].min(initial=self._done * kernel.SUB))
        rows = np.empty(len(out), np.int64)
        n, in_order = split(out, hold, rows)
        settled, held = rows[:n], rows[n:][::-1]
        if not in_order:
            settled = np.sort(settled)
            settled = settled[np.argsort(keys[settled], kind="stable")]
        time, call, at_pass = np.empty((3, n), np.int64)
        done = Settled(np.empty((n, 4), np.int64), time, call, at_pass, np.empty(n, np.bool_))
        write(
            done, out, settled, known.time, known.passes, self._stream.passes, known.flushed,
            known.arrays.code,
        )  # fmt: skip
        row_of[movable] = np.searchsorted(held, row_of[movable])
        out[: held.size] = out[held]
        work.reg[kernel.N_OUT] = held.size
        return done

    def _snapshot(self) -> Pool:
        """The recorder's snapshot as a pool over the page numbers."""
        number = self._numbers_of_frames(self._pages)
        return self._window.pool_of(self._state, number, self._pages.count, self._colour)

    def _work_with_room(self, capacity: int) -> Work:
        """State of the search over the calls there are, with room for `capacity` operations."""
        from replay.pool.loops import placing as kernel

        calls, state = self._stream.calls, self._work
        if capacity > state.out.shape[0]:
            larger = np.empty((capacity, 6), np.int64)
            larger[: state.held.shape[0]] = state.held
            state = state._replace(out=larger)
        pool = over_pages(state.pool, self._pages.count, self._colour)
        self._work = state = state._replace(pool=pool)
        limbo_slot = np.full(self._pages.count, -1, np.int64)
        limbo = np.flatnonzero(state.limbo_page >= 0)
        limbo_slot[state.limbo_page[limbo]] = limbo
        pending = min(calls.size, kernel.MAX_PENDING) + 1
        return kernel.Work(
            **state._replace(
                maps=state.maps[:pending],
                unmaps=state.unmaps[:pending],
                deferred=state.deferred[: pending + 1],
            )._asdict(),
            limbo_slot=limbo_slot,
            placed=calls["placed"],
            status=calls["status"],
            row_of=calls["out_row"],
        )


def over_pages(pool: Pool, pages: int, colour: NDArray[np.int64]) -> Pool:
    """A copy of a pool with room for `pages` page numbers of these colours."""
    from replay.pool.loops.highmem import LAST

    slot = np.full(pages, -1, np.int64)
    mapped = np.flatnonzero(pool.page >= 0)
    slot[pool.page[mapped]] = mapped
    copy = type(pool)(*(array.copy() for array in pool))
    return copy._replace(slot=slot, colour=colour if pool.reg.size > LAST + 1 else colour[:0])


def _nothing(window: PoolWindow) -> _State:
    """State of the search before the first event."""
    from replay.pool.loops import placing as kernel

    slots = window.slots
    maps, unmaps, deferred = np.empty((3, kernel.MAX_PENDING + 2), np.int64)
    return _State(
        pool=window.pool(),
        doubt=np.full(slots, kernel.DOUBT, np.uint8),
        limbo_page=np.full(slots, -1, np.int64),
        limbo_unmap=np.full(slots, -1, np.int64),
        maps=maps,
        unmaps=unmaps,
        deferred=deferred,
        choices=np.zeros(512, np.int64),
        moves=np.zeros((1 << 13, 2), np.int64),
        out=np.empty((0, 6), np.int64),
        reg=np.zeros(kernel.CURSOR_KNOWN + window.colours, np.int64),
    )


def _checkpoint(work: Work) -> Checkpoint:
    """Room for a checkpoint of `work`."""
    from replay.pool.loops.search import Checkpoint

    return Checkpoint(
        counts=np.zeros_like(work.pool.counts),
        page=np.zeros_like(work.pool.page),
        free=np.zeros_like(work.pool.free),
        stale=np.zeros_like(work.pool.stale),
        pool_reg=np.zeros_like(work.pool.reg),
        doubt=np.zeros_like(work.doubt),
        limbo_page=np.zeros_like(work.limbo_page),
        limbo_unmap=np.zeros_like(work.limbo_unmap),
        maps=np.empty_like(work.maps),
        unmaps=np.empty_like(work.unmaps),
        map_status=np.empty(work.maps.size, np.uint8),
        reg=np.zeros_like(work.reg),
        best=np.zeros_like(work.choices),
    )
