"""The order in which the pool's lock was taken, found piece by piece.

:class:`LockOrder` is fed the event table in pieces and gives the pool's operations in lock order,
as far as nothing that comes later can change it. Where the pieces end makes no difference: the
search (:mod:`replay.pool.loops.search`) goes on from its last checkpoint, and what it may still put
elsewhere is held back. How much that can be is bounded by the constants of
:mod:`replay.pool.stream` and :mod:`replay.pool.loops.search`, not by the trace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from collectors.errors import HmtraceError
from replay.pool.stream import PoolStream, is_pass
from replay.trace.numbering import Numbering

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl
    from numpy.typing import NDArray

    from replay.pool.calls import CallTable
    from replay.pool.loops.highmem import Pool
    from replay.pool.loops.placing import Calls, Work
    from replay.pool.loops.search import Checkpoint
    from replay.pool.stream import Known
    from replay.pool.window import PoolFacts, PoolState, PoolWindow

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
    pages : ndarray of uint64
        The page that each page number of the operations stands for, ascending.
    colour : ndarray of int64
        Colour of each of them.
    snapshot
        Pool that SNAPSHOT operations set.
    """

    operations: NDArray[np.int64]
    time: NDArray[np.int64]
    call: NDArray[np.int64]
    at_pass: NDArray[np.int64]
    flushed: NDArray[np.bool_]
    calls: CallTable
    pages: NDArray[np.uint64]
    colour: NDArray[np.int64]
    snapshot: Pool


class _Carry(NamedTuple):
    """State of the search between two pieces; see :class:`replay.pool.loops.placing.Work`.

    Pages are numbers in `LockOrder._pages`, calls are indices of the stream's calls.
    """

    pool: Pool
    doubt: NDArray[np.uint8]
    limbo_page: NDArray[np.int64]
    limbo_unmap: NDArray[np.int64]
    maps: NDArray[np.int64]
    unmaps: NDArray[np.int64]
    row_of: NDArray[np.int64]
    held: NDArray[np.int64]  # output that may still change
    reg: NDArray[np.int64]


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
        losses: Sequence[int] = (),
    ) -> None:
        from replay.pool.loops import search

        self._window = window
        self._facts = facts
        self._state = state
        self._stream = PoolStream(window, facts, losses, None if state is None else state.seq)
        self._pages = np.zeros(0, np.uint64)
        self._colour = np.zeros(0, np.int64)
        self._carry = _nothing(window)
        self._done = 0  # events of the stream that the search has handled
        self._effort = np.zeros(search.EFFORT, np.int64)
        self._effort[search.LEFT] = 100 * search.LONGEST

    @property
    def moved_unmaps(self) -> int:
        """Kunmaps that were put behind a flush by what was observed."""
        from replay.pool.loops.placing import MOVED_UNMAPS

        return int(self._carry.reg[MOVED_UNMAPS])

    @property
    def told_passes(self) -> int:
        """Flushes whose TLB flush, or its absence, decided the order of calls."""
        from replay.pool.loops.placing import TOLD_PASSES

        return int(self._carry.reg[TOLD_PASSES])

    @property
    def assumed_free(self) -> int:
        """New mappings of slots whose initial state was not known."""
        from replay.pool.loops.placing import ASSUMED_FREE

        return int(self._carry.reg[ASSUMED_FREE])

    def feed(self, events: pl.DataFrame, first_row: int, *, last: bool) -> Piece:
        """Take a piece of the event table and order what it settles.

        Parameters
        ----------
        events, first_row, last
            As for :meth:`replay.pool.stream.PoolStream.take`.

        Raises
        ------
        HmtraceError
            If the trace contradicts itself so much that its order cannot be searched in memory.
        """
        self._stream.take(events, first_row, last=last)
        known = self._stream.known(last=last)
        calls = self._stream.calls
        arrays = known.arrays._replace(page=self._number_pages())
        snapshot = self._snapshot()
        work = self._search(known, arrays, snapshot, last=last)
        calls["status"][:], calls["placed"][:] = work.status, work.placed
        return self._settled(work, known, snapshot)

    def forget(self) -> CallTable:
        """Drop what the last piece settled; return the calls that are over."""
        from replay.pool.loops.placing import CALL, KEY, PASS_KEY, SUB

        carry = self._carry
        in_limbo = carry.limbo_page >= 0
        held_calls = carry.held[:, CALL]
        used = np.zeros(self._stream.calls.size, bool)
        for calls in (carry.maps, carry.unmaps, carry.limbo_unmap[in_limbo]):
            used[calls] = True
        used[held_calls[held_calls >= 0]] = True
        settled = min(self._done, int(carry.held[:, KEY].min(initial=self._done * SUB)) // SUB)
        dropped, renamed = self._stream.forget(settled, used)
        carry.held[:, KEY] -= settled * SUB
        carry.held[:, CALL] = renamed[held_calls]
        carry.reg[PASS_KEY] -= settled * SUB
        self._carry = carry._replace(
            maps=renamed[carry.maps],
            unmaps=renamed[carry.unmaps],
            limbo_unmap=renamed[np.where(in_limbo, carry.limbo_unmap, -1)],
            row_of=carry.row_of[renamed[:-1] >= 0],
        )
        self._done -= settled
        return dropped

    def _number_pages(self) -> NDArray[np.int64]:
        """Give a number to every page that is still of interest, and rename what is carried.

        Returns
        -------
        ndarray of int64
            Number of each call's page.
        """
        from replay.pool.loops.placing import PAGE

        carry, old, of_calls = self._carry, self._pages, self._stream.calls["page"]
        live = np.concatenate([carry.pool.page, carry.limbo_page, carry.held[:, PAGE]])
        mapped = np.array(list(self._facts.pages.values()), np.uint64)
        numbering = Numbering()
        number = numbering.of(np.concatenate([of_calls, old[live[live >= 0]], mapped]))
        pages = numbering.keys()
        ascending = np.argsort(pages)
        rank = np.empty(pages.size + 1, np.int64)
        rank[ascending], rank[-1] = np.arange(pages.size), -1
        renamed = np.append(numbering.find(old), -1)  # -1 stays -1
        renamed = rank[renamed]
        carry.pool.page[:] = renamed[carry.pool.page]
        carry.limbo_page[:] = renamed[carry.limbo_page]
        carry.held[:, PAGE] = renamed[carry.held[:, PAGE]]
        pages = pages[ascending]
        number = rank[number[: of_calls.size]]
        self._colour = self._colours_of(pages, renamed[:-1], number)
        self._pages = pages
        return number

    def _colours_of(
        self, pages: NDArray[np.uint64], renamed: NDArray[np.int64], number: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Colour of each page: its frame's lowest bits, or its slot's if no frame is known."""
        colour = np.zeros(pages.size, np.int64)
        if self._window.colours == 1:
            return colour
        still = renamed >= 0
        colour[renamed[still]] = self._colour[still]
        calls, mask = self._stream.calls, self._window.colours
        slot = self._window.by_address(calls["seen"])
        for known, told in ((slot >= 0, slot), (calls["pfn"] >= 0, calls["pfn"])):
            colour[number[known]] = told[known] % mask
        for pfn, page in self._facts.pages.items():
            colour[np.searchsorted(pages, np.uint64(page))] = pfn % mask
        return colour

    def _search(self, known: Known, arrays: Calls, snapshot: Pool, *, last: bool) -> Work:
        """Go on with the search up to where later events could tell something."""
        from replay.pool.loops import search

        stop = max(known.limit, self._done)
        size = stop - self._done
        capacity = 3 * size + self._carry.held.shape[0] + 8 * self._window.slots + 1024
        while True:
            work = self._fresh_work(capacity)
            effort = self._effort.copy()
            done = search.order(
                work, _checkpoint(work), snapshot, arrays, known.kinds, known.who,
                self._done, stop, last, effort,
            )  # fmt: skip
            if not effort[search.IS_FULL]:
                break
            capacity *= 4
            if capacity > max(_FEW_ROWS, _ROWS_PER_EVENT * size):
                msg = "the mapping events contradict each other throughout"
                raise HmtraceError(msg, hint="was this trace put together from several machines?")
        self._effort, self._done = effort, done
        return work

    def _settled(self, work: Work, known: Known, snapshot: Pool) -> Piece:
        """Split the output into what is settled, as a piece, and what may still change."""
        from replay.pool.loops import placing as kernel
        from replay.pool.loops.output import split

        reg = work.reg
        unmaps = work.unmaps[: reg[kernel.N_UNMAPS]]
        out = work.out[: reg[kernel.N_OUT]]
        movable = np.concatenate([unmaps, work.limbo_unmap[work.limbo_page >= 0]])
        if self._done == known.kinds.size:
            movable = movable[:0]  # nothing comes that could move them
        keys = out[:, kernel.KEY]
        hold = int(keys[work.row_of[movable]].min(initial=self._done * kernel.SUB))
        settled, new_row = np.empty((2, len(out)), np.int64)
        number, in_order = split(out, hold, settled, new_row)
        settled = settled[:number]
        if not in_order:
            settled = settled[np.argsort(keys[settled], kind="stable")]
        row_of = work.row_of.copy()
        row_of[movable] = new_row[row_of[movable]]
        reg[kernel.N_OUT] = len(out) - number
        held = out[keys >= hold] if number else out
        self._carry = _Carry(
            work.pool, work.doubt, work.limbo_page, work.limbo_unmap,
            work.maps[: reg[kernel.N_MAPS]].copy(), unmaps.copy(), row_of, held, reg,
        )  # fmt: skip
        return self._piece(out, settled, known, snapshot)

    def _piece(
        self, out: NDArray[np.int64], settled: NDArray[np.int64], known: Known, snapshot: Pool
    ) -> Piece:
        """Operations of the output in the order in which they are settled."""
        from replay.pool.loops.output import Settled, write

        n = settled.size
        time, call, at_pass = np.empty((3, n), np.int64)
        done = Settled(np.empty((n, 4), np.int64), time, call, at_pass, np.empty(n, np.bool_))
        passes = np.flatnonzero(is_pass(known.kinds))
        number = np.full(known.kinds.size, -1, np.int64)
        number[passes] = np.arange(passes.size) + self._stream.passes
        write(done, out, settled, known.time, number, known.flushed, known.arrays.pin)
        return Piece(
            **done._asdict(),
            calls=self._stream.calls,
            pages=self._pages,
            colour=self._colour,
            snapshot=snapshot,
        )

    def _snapshot(self) -> Pool:
        """The recorder's snapshot as a pool over the page numbers."""
        pages = self._facts.pages
        number = {pfn: int(np.searchsorted(self._pages, page)) for pfn, page in pages.items()}
        return self._window.pool_of(self._state, number, self._pages.size, self._colour)

    def _fresh_work(self, capacity: int) -> Work:
        """State of the search as carried, with room for `capacity` operations."""
        from replay.pool.loops import placing as kernel

        carry, calls = self._carry, self._stream.calls
        n = calls.size
        pending = min(n, kernel.MAX_PENDING) + 1
        maps, unmaps = np.zeros(pending, np.int64), np.zeros(pending, np.int64)
        maps[: carry.maps.size], unmaps[: carry.unmaps.size] = carry.maps, carry.unmaps
        row_of = np.full(n, -1, np.int64)
        row_of[: carry.row_of.size] = carry.row_of
        limbo_slot = np.full(self._pages.size, -1, np.int64)
        limbo = np.flatnonzero(carry.limbo_page >= 0)
        limbo_slot[carry.limbo_page[limbo]] = limbo
        out = np.empty((capacity, 6), np.int64)
        out[: carry.held.shape[0]] = carry.held
        return kernel.Work(
            pool=over_pages(carry.pool, self._pages.size, self._colour),
            doubt=carry.doubt.copy(),
            limbo_page=carry.limbo_page.copy(),
            limbo_unmap=carry.limbo_unmap.copy(),
            limbo_slot=limbo_slot,
            maps=maps,
            unmaps=unmaps,
            placed=calls["placed"].copy(),
            status=calls["status"].copy(),
            row_of=row_of,
            deferred=np.zeros(pending + 1, np.int64),
            choices=np.zeros(512, np.int64),
            moves=np.zeros((1 << 13, 2), np.int64),
            out=out,
            reg=carry.reg.copy(),
        )


def over_pages(pool: Pool, pages: int, colour: NDArray[np.int64]) -> Pool:
    """A copy of a pool with room for `pages` page numbers of these colours."""
    from replay.pool.loops.highmem import LAST

    slot = np.full(pages, -1, np.int64)
    mapped = np.flatnonzero(pool.page >= 0)
    slot[pool.page[mapped]] = mapped
    copy = type(pool)(*(array.copy() for array in pool))
    return copy._replace(slot=slot, colour=colour if pool.reg.size > LAST + 1 else colour[:0])


def _nothing(window: PoolWindow) -> _Carry:
    """State of the search before the first event."""
    from replay.pool.loops import placing as kernel

    none = np.zeros(0, np.int64)
    slots = window.slots
    return _Carry(
        pool=window.pool(),
        doubt=np.full(slots, kernel.DOUBT, np.uint8),
        limbo_page=np.full(slots, -1, np.int64),
        limbo_unmap=np.full(slots, -1, np.int64),
        maps=none,
        unmaps=none,
        row_of=none,
        held=np.zeros((0, 6), np.int64),
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
        maps=np.zeros_like(work.maps),
        unmaps=np.zeros_like(work.unmaps),
        map_status=np.zeros(work.maps.size, np.uint8),
        reg=np.zeros_like(work.reg),
        best=np.zeros_like(work.choices),
    )
