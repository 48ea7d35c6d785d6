"""The pkmap pool of a whole trace in one piece, keeping every single call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from replay.pool.calls import GET_CODE, is_window_flush, pass_flushed
from replay.pool.entries import PoolEntries
from replay.pool.lock_order import LockOrder
from replay.pool.replay import MISFITS, PoolRun, is_of_another_run, not_used, window_of
from replay.survey import survey
from replay.trace.losses import NO_GAPS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.machine.layout import Layout
    from replay.outcome import PoolOutcome
    from replay.pool.lock_order import Piece
    from replay.pool.tally import PoolTally
    from replay.pool.window import PoolFacts, PoolState, PoolWindow
    from replay.trace.losses import Gaps


@dataclass(frozen=True)
class PoolCalls:
    """The calls on the pool that a trace shows, one element each.

    Attributes
    ----------
    row : ndarray of int64
        Row of the event table.
    is_map : ndarray of bool
        kmap().
    is_get : ndarray of bool
        kmap_high_get() that found a mapping.
    page : ndarray of int64
        Dense page number.
    pages : int
        Number of pages.
    seen : ndarray of int64
        Slot that the kernel returned; -1 unknown, or no address of the pool.
    vaddr : ndarray of int64
        Address that the kernel returned, -1 unknown.
    pfn : ndarray of int64, shape (pages,)
        Frame of each page number, -1 unknown.
    colour : ndarray of int64, shape (pages,)
        Colour of each page number.
    """

    row: NDArray[np.int64]
    is_map: NDArray[np.bool_]
    is_get: NDArray[np.bool_]
    page: NDArray[np.int64]
    pages: int
    seen: NDArray[np.int64]
    vaddr: NDArray[np.int64]
    pfn: NDArray[np.int64]
    colour: NDArray[np.int64]


@dataclass(frozen=True)
class PoolSequence:
    """Pool operations in the order in which they took the lock.

    Attributes
    ----------
    piece
        The operations.
    calls
        The calls themselves.
    status : ndarray of uint8
        Per call: how its place was found (``DEFAULT``, ``ORDERED``, ``INITIAL``, ``DIVERGED``).
    passes : ndarray of int64
        Row of the event table of every traced flush_all_zero_pkmaps.
    pass_flushed : ndarray of int8
        Per pass: 1 the TLB was flushed, 0 it was not, -1 not known.
    moved_unmaps, told_passes, assumed_free : int
        kunmaps that were put behind a flush by what was observed; flushes whose TLB flush, or its
        absence, decided that; new mappings of slots whose initial state was not known.
    """

    piece: Piece
    calls: PoolCalls
    status: NDArray[np.uint8]
    passes: NDArray[np.int64]
    pass_flushed: NDArray[np.int8]
    moved_unmaps: int
    told_passes: int
    assumed_free: int

    @property
    def operations(self) -> NDArray[np.int64]:
        """For :func:`replay.pool.loops.sequence.run`, shape (n, 4)."""
        return self.piece.operations

    @property
    def time(self) -> NDArray[np.int64]:
        """When each operation was carried out, in ns of the trace clock; never falls."""
        return self.piece.time

    @property
    def call(self) -> NDArray[np.int64]:
        """Index into `calls` of each operation, -1 none."""
        return self.piece.call

    @property
    def at_pass(self) -> NDArray[np.int64]:
        """Index into `passes` of the flush that each operation belongs to, -1 none."""
        return self.piece.at_pass


def linearise(
    events: pl.DataFrame,
    window: PoolWindow,
    *,
    state: PoolState | None = None,
    losses: Gaps = NO_GAPS,
) -> PoolSequence:
    """Order the pool's calls as the kernel served them.

    Parameters
    ----------
    events
        Event table, sorted by `seq`.
    window
        The pool.
    state
        Snapshot; without one the initial state is inferred from the first addresses.
    losses
        `seq` of the first event after each loss of events.

    Returns
    -------
    PoolSequence

    Raises
    ------
    HmtraceError
        If the trace contradicts itself so much that its order cannot be searched in memory.
    """
    facts = survey(events, state, window).pool
    order = LockOrder(window, facts, state=state, losses=losses)
    piece = order.feed(PoolEntries(window, facts).of(events, 0), last=True)
    calls = piece.calls
    first = np.zeros(piece.pages.count, np.int64)
    first[calls["number"][::-1]] = np.arange(calls.size)[::-1]
    passes = _passes_of(events.with_row_index("row"), window, facts)
    return PoolSequence(
        piece=piece,
        calls=PoolCalls(
            row=calls["row"].copy(),
            is_map=calls["code"] == 0,
            is_get=(calls["code"] == GET_CODE) & (calls["seen"] >= 0),
            page=calls["number"].copy(),
            pages=piece.pages.count,
            seen=calls["seen"].copy(),
            vaddr=calls["vaddr"].copy(),
            pfn=calls["pfn"][first],
            colour=piece.colour,
        ),
        status=calls["status"].copy(),
        passes=passes.get_column("row").to_numpy().astype(np.int64),
        pass_flushed=_pass_flushed(events, passes, window),
        moved_unmaps=order.moved_unmaps,
        told_passes=order.told_passes,
        assumed_free=order.assumed_free,
    )


def _pass_flushed(
    events: pl.DataFrame, passes: pl.DataFrame, window: PoolWindow
) -> NDArray[np.int8]:
    ranges = events.filter(pl.col("op") == "flush_range")
    if not ranges.height:
        return np.full(passes.height, -1, np.int8)
    flushes = ranges.filter(is_window_flush(window))
    seq = (table.get_column("seq").cast(pl.Int64).to_numpy() for table in (passes, flushes))
    return pass_flushed(*seq).astype(np.int8)


def _passes_of(table: pl.DataFrame, window: PoolWindow, facts: PoolFacts) -> pl.DataFrame:
    """Rows that show a run of flush_all_zero_pkmaps.

    Where the function itself is not probed, the TLB flush of the whole window shows the runs
    that freed something, and __kmap_flush_unused() those that it made.
    """
    if facts.passes_traced:
        return table.filter(pl.col("op") == "pool_flush")
    return table.filter((pl.col("op") == "flush_unused") | is_window_flush(window))


@dataclass(frozen=True)
class PoolReplay:
    """A replayed trace.

    Attributes
    ----------
    sequence
        The operations, in lock order.
    result, scanned, freed : ndarray of int32
        Per operation: slot, ASLEEP or UNKNOWN; slots visited; slots freed by a flush (-1: none).
    predicted : ndarray of int32
        Per call: the slot that the model gives it in the end.
    tally, outcome
        Figures.
    initial_state
        ``snapshot``, ``inferred`` or, in words, why the snapshot was not used.
    """

    sequence: PoolSequence
    result: NDArray[np.int32]
    scanned: NDArray[np.int32]
    freed: NDArray[np.int32]
    predicted: NDArray[np.int32]
    tally: PoolTally
    outcome: PoolOutcome
    initial_state: str


def replay_pool(
    events: pl.DataFrame,
    layout: Layout,
    *,
    state: PoolState | None = None,
    losses: Gaps = NO_GAPS,
    span: tuple[int, int] = (0, 0),
) -> PoolReplay:
    """Order the calls of a trace and replay them.

    Parameters
    ----------
    events
        Event table, sorted by `seq`.
    layout
        Of the machine that the trace is from.
    state
        Snapshot of the pool. One that contradicts the trace (it belongs to another run) is
        left aside if the trace explains itself better without.
    losses
        `seq` of the first event after each loss of events.
    span
        Time of the first and of the last event of the capture.

    Returns
    -------
    PoolReplay
    """
    from replay.pool.loops.placing import DIVERGED

    window = window_of(layout)
    sequence = linearise(events, window, state=state, losses=losses)
    initial = "inferred" if state is None else "snapshot"
    misfits = int((sequence.status == DIVERGED).sum())
    if state is not None and misfits >= MISFITS:
        without = linearise(events, window, losses=losses)
        if is_of_another_run(misfits, int((without.status == DIVERGED).sum())):
            sequence, initial = without, not_used(misfits)
    return replay_sequence(sequence, window, events, span, initial)


def replay_sequence(
    sequence: PoolSequence,
    window: PoolWindow,
    events: pl.DataFrame,
    span: tuple[int, int],
    initial: str,
) -> PoolReplay:
    run = PoolRun(window, span)
    result, scanned, freed = run.take(sequence.piece, last=True)
    calls = sequence.piece.calls
    run.finish(calls)
    predicted = calls["predicted"].copy()
    return PoolReplay(
        sequence, result, scanned, freed, predicted, run.tally, run.outcome(), initial
    )
