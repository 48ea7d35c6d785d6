"""From the event table to a sequence of pool operations in lock order.

What the compiled loop in :mod:`replay.kernels.order` needs is prepared here: calls with dense
page numbers and observed slots, and one stream of their entries, returns and flushes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from collectors.events import HmtraceError
from replay.tasks import own_events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from replay.kernels.placing import Work
    from replay.kernels.pool import Pool
    from replay.kernels.search import Checkpoint

_POOL_OPS = ("kmap", "kunmap", "kmap_get", "pool_flush", "flush_unused")
_MAX_ROWS = 1 << 28
"""Bound on the output of the ordering, in operations: 12 GiB."""


@dataclass(frozen=True)
class PoolWindow:
    """Where the pool lies: first address, number of slots, bytes per slot."""

    base: int
    slots: int
    page_size: int = 4096

    @property
    def end(self) -> int:
        """Address behind the last slot."""
        return self.base + self.slots * self.page_size


@dataclass(frozen=True)
class PoolState:
    """State of the pool at one moment, as the recorder's snapshot has it.

    Attributes
    ----------
    last
        last_pkmap_nr.
    slots
        (slot, pkmap_count, page frame number or -1) of every slot that is not free.
    seq
        Position in the trace at which it was taken (0: before the first event).
    """

    last: int
    slots: tuple[tuple[int, int, int], ...] = ()
    seq: int = 0


@dataclass(frozen=True)
class PoolCalls:
    """The calls on the pool that a trace shows, one element each.

    Attributes
    ----------
    row : ndarray of int64
        Row of the event table.
    is_map : ndarray of bool
        kmap (true), or kunmap / kmap_high_get.
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
    """

    row: NDArray[np.int64]
    is_map: NDArray[np.bool_]
    page: NDArray[np.int64]
    pages: int
    seen: NDArray[np.int64]
    vaddr: NDArray[np.int64]
    pfn: NDArray[np.int64]


@dataclass(frozen=True)
class PoolSequence:
    """Pool operations in the order in which they took the lock.

    Attributes
    ----------
    operations : ndarray of int64, shape (n, 4)
        For :func:`replay.kernels.sequence.run`.
    time : ndarray of int64, shape (n,)
        When, in ns of the trace clock; never falls.
    call : ndarray of int64, shape (n,)
        Index into `calls`, -1 none.
    at_pass : ndarray of int64, shape (n,)
        Index into the traced flushes (`passes`) that this operation belongs to, -1 none.
    calls
        The calls themselves.
    status : ndarray of uint8
        Per call: how its place was found (``DEFAULT``, ``ORDERED``, ``INITIAL``, ``DIVERGED``).
    passes : ndarray of int64
        Row of the event table of every traced flush_all_zero_pkmaps.
    pass_flushed : ndarray of int8
        Per pass: 1 the TLB was flushed, 0 it was not, -1 not known.
    moved_unmaps, assumed_free : int
        kunmaps whose place an observed address decided; new mappings of slots whose initial
        state was not known.
    snapshot
        Pool that SNAPSHOT operations set.
    """

    operations: NDArray[np.int64]
    time: NDArray[np.int64]
    call: NDArray[np.int64]
    at_pass: NDArray[np.int64]
    calls: PoolCalls
    status: NDArray[np.uint8]
    passes: NDArray[np.int64]
    pass_flushed: NDArray[np.int8]
    moved_unmaps: int
    assumed_free: int
    snapshot: Pool


def linearise(
    events: pl.DataFrame,
    window: PoolWindow,
    *,
    state: PoolState | None = None,
    losses: Sequence[int] = (),
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
    from replay.kernels import placing as kernel
    from replay.kernels import search
    from replay.kernels.pool import new_pool

    table = events.with_row_index("row").filter(
        pl.col("op").is_in(_POOL_OPS) | (pl.col("op") == "flush_range")
    )
    calls = _calls(table, window)
    passes = _passes(table, window)
    kinds, who, time = _stream(events, table, calls, passes, state, losses)
    final_pass = np.full(calls.row.size, -1, np.int64)
    at = np.flatnonzero(kinds == kernel.PASS)
    own = who[at] >= 0
    final_pass[who[at[own]]] = at[own]  # positions rise: the last one stays
    last_pass = final_pass.copy()
    final_pass[_slept_afterwards(events, calls, passes)] = -1
    snapshot = _snapshot(state, window, calls)
    returns = np.full(calls.row.size, -1, np.int64)
    returned = np.flatnonzero(kinds == kernel.RETURN_MAP)
    returns[who[returned]] = returned
    before = np.concatenate([[-1], at])[np.searchsorted(at, returns)]
    arrays = kernel.Calls(calls.page, calls.seen, before, last_pass, final_pass)
    capacity = 3 * kinds.size + 8 * window.slots + 1024
    while True:
        work = _work(window, calls, capacity)
        checkpoint = _checkpoint(window, work)
        if search.order(work, checkpoint, snapshot, arrays, kinds, who, 0) == kinds.size:
            break
        capacity *= 4
        if capacity > _MAX_ROWS:
            msg = "the mapping events contradict each other throughout"
            raise HmtraceError(msg, hint="was this trace put together from several machines?")
    out = work.out[: work.reg[kernel.N_OUT]]
    out = out[np.argsort(out[:, kernel.KEY], kind="stable")]
    position = out[:, kernel.KEY] // kernel.SUB
    pass_of_event = np.full(kinds.size + 1, -1, np.int64)
    pass_of_event[at] = np.arange(at.size)
    is_pass = out[:, kernel.KEY] % kernel.SUB == kernel.AT_PASS
    return PoolSequence(
        operations=np.ascontiguousarray(out[:, :4]),
        time=np.maximum.accumulate(time[position]) if position.size else time[:0],
        call=out[:, kernel.CALL],
        at_pass=np.where(is_pass, pass_of_event[position], -1),
        calls=calls,
        status=work.status,
        passes=passes.get_column("row").to_numpy().astype(np.int64),
        pass_flushed=_pass_flushed(table, passes, window),
        moved_unmaps=int(work.reg[kernel.MOVED_UNMAPS]),
        assumed_free=int(work.reg[kernel.ASSUMED_FREE]),
        snapshot=new_pool(window.slots, calls.pages) if state is None else snapshot,
    )


def is_anonymous() -> pl.Expr:
    """Rows that say neither which page they map nor where: nothing can be replayed of them."""
    return pl.col("page").is_null() & pl.col("vaddr").is_null()


def _calls(table: pl.DataFrame, window: PoolWindow) -> PoolCalls:
    """Number the pages and turn addresses into slots."""
    calls = table.filter(pl.col("op").is_in(("kmap", "kunmap", "kmap_get")) & ~is_anonymous())
    # A return whose entry was lost: its slot is known, its page is one of its own.
    page = calls.get_column("page").fill_null(0).to_numpy().copy()
    unknown = np.flatnonzero(page == 0)
    page[unknown] = np.arange(unknown.size, dtype=np.uint64) + np.uint64(1 << 63)
    unique, first, dense = np.unique(page, return_index=True, return_inverse=True)
    pfn = calls.get_column("pfn").cast(pl.Int64).fill_null(-1).to_numpy()[first]
    vaddr = calls.get_column("vaddr").cast(pl.Int64).fill_null(-1).to_numpy()
    slot = (vaddr - window.base) // window.page_size
    inside = (vaddr >= window.base) & (slot < window.slots)
    return PoolCalls(
        row=calls.get_column("row").to_numpy().astype(np.int64),
        is_map=(calls.get_column("op") == "kmap").to_numpy(),
        page=dense.astype(np.int64),
        pages=unique.size,
        seen=np.where(inside, slot, -1).astype(np.int64),
        vaddr=vaddr,
        pfn=pfn,
    )


def _passes(table: pl.DataFrame, window: PoolWindow) -> pl.DataFrame:
    """Rows that show a run of flush_all_zero_pkmaps.

    Where the function itself is not probed, the TLB flush of the whole window shows the runs
    that freed something, and __kmap_flush_unused() those that it made.
    """
    passes = table.filter(pl.col("op") == "pool_flush")
    if passes.height:
        return passes
    return table.filter((pl.col("op") == "flush_unused") | is_window_flush(window))


def is_window_flush(window: PoolWindow) -> pl.Expr:
    """Rows that are the TLB flush of the whole pool (mm/highmem.c: flush_all_zero_pkmaps)."""
    return (
        (pl.col("op") == "flush_range")
        & (pl.col("start") == window.base)
        & (pl.col("end") == window.end)
    )


def _pass_flushed(
    table: pl.DataFrame, passes: pl.DataFrame, window: PoolWindow
) -> NDArray[np.int8]:
    """Whether each pass was followed by the window's TLB flush, still under the lock."""
    seen = np.full(passes.height, -1, np.int8)
    if not table.filter(pl.col("op") == "flush_range").height:
        return seen
    flushes = table.filter(is_window_flush(window))
    start = passes.get_column("seq").to_numpy()
    after = np.append(start[1:], np.iinfo(np.uint64).max)
    flush = flushes.get_column("seq").to_numpy()
    index = np.searchsorted(flush, start, side="left")
    found = (index < flush.size) & (np.append(flush, 0)[np.minimum(index, flush.size)] < after)
    return found.astype(np.int8)


def _stream(
    events: pl.DataFrame,
    table: pl.DataFrame,
    calls: PoolCalls,
    passes: pl.DataFrame,
    state: PoolState | None,
    losses: Sequence[int],
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """One stream of entries, returns and flushes, sorted by position in the trace."""
    from replay.kernels import placing as kernel

    bound = (
        own_events(events.lazy().with_row_index("row"))
        .select("row", pl.col("seq").shift(-1).over("pid").alias("bound"))
        .collect()
    )
    rows = (
        pl.DataFrame({"row": calls.row.astype(np.uint32)})
        .join(
            table.select("row", "seq", "end_seq", "ts", "end_ts", "op", "entry_traced"),
            on="row",
            how="left",
            maintain_order="left",
        )
        .join(bound, on="row", how="left", maintain_order="left")
    )
    last = np.uint64((1 << 62) - 1)
    seq = rows.get_column("seq").to_numpy()
    end = rows.select(pl.coalesce("end_seq", "bound").fill_null(int(last))).to_series().to_numpy()
    ts = rows.get_column("ts").to_numpy()
    end_ts = rows.select(pl.coalesce("end_ts", "ts")).to_series().to_numpy()
    index = np.arange(calls.row.size, dtype=np.int64)
    is_map, op = calls.is_map, rows.get_column("op")
    is_unmap = (op == "kunmap").to_numpy()
    got = (op == "kmap_get").to_numpy() & (calls.seen >= 0)
    call_of_seq = pl.DataFrame({"parent": seq[is_map], "call": index[is_map]})
    parents = (
        passes.select("parent")
        .join(call_of_seq, on="parent", how="left", maintain_order="left")
        .get_column("call")
        .fill_null(-1)
        .to_numpy()
    )
    none = np.int64(-1)
    loss = np.array(sorted(losses), np.uint64)
    parts: list[tuple[int, int, NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]] = [
        # kind, rank among events of one position, position, time, call
        (kernel.ENTER_MAP, 4, seq[is_map], ts[is_map], index[is_map]),
        (kernel.RETURN_MAP, 5, end[is_map], end_ts[is_map], index[is_map]),
        (kernel.ENTER_UNMAP, 4, seq[is_unmap], ts[is_unmap], index[is_unmap]),
        (kernel.END_UNMAP, 2, end[is_unmap], end_ts[is_unmap], index[is_unmap]),
        (
            kernel.PASS,
            3,
            passes.get_column("seq").to_numpy(),
            passes.get_column("ts").to_numpy(),
            parents.astype(np.int64),
        ),
        (kernel.GET_MAP, 3, end[got], end_ts[got], index[got]),
        (kernel.LOSS, 1, loss, np.zeros(loss.size, np.int64), np.full(loss.size, none)),
    ]
    if state is not None:
        at = np.array([state.seq], np.uint64)
        parts.append((kernel.SNAP, 0, at, np.zeros(1, np.int64), np.full(1, none)))
    position = np.concatenate([p[2] for p in parts])
    rank = np.concatenate([np.full(p[2].size, p[1], np.uint8) for p in parts])
    kinds = np.concatenate([np.full(p[2].size, p[0], np.uint8) for p in parts])
    # Snapshots and losses have no time of their own: that of what lies before them.
    start = int(ts.min()) if ts.size else 0
    time = np.maximum(np.concatenate([p[3] for p in parts]), start)
    who = np.concatenate([p[4] for p in parts])
    by = np.lexsort((rank, position))
    return kinds[by], who[by], np.maximum.accumulate(time[by])


def _slept_afterwards(
    events: pl.DataFrame, calls: PoolCalls, passes: pl.DataFrame
) -> NDArray[np.int64]:
    """Calls that went to sleep after the last flush that they made: that attempt failed too.

    They got their slot in an attempt that did not wrap, because a flush of somebody else's had
    freed one behind the cursor.
    """
    asleep = events.filter((pl.col("op") == "switch") & pl.col("blocked"))
    if not asleep.height:
        return np.zeros(0, np.int64)
    last_pass = passes.group_by("parent").agg(pl.col("seq").max().alias("pass_seq"))
    index = pl.DataFrame({"row": calls.row.astype(np.uint32), "call": np.arange(calls.row.size)})
    made = (
        events.with_row_index("row")
        .filter((pl.col("op") == "kmap") & pl.col("end_seq").is_not_null())
        .join(last_pass, left_on="seq", right_on="parent", how="inner")
        .join(index, on="row", how="inner")
        .select("call", "pid", "pass_seq", at="end_seq")
        .sort("at")
    )
    sleeps = asleep.select("pid", at="seq", slept="seq").sort("at")
    last = made.join_asof(sleeps, on="at", by="pid", strategy="backward", check_sortedness=False)
    return last.filter(pl.col("slept") > pl.col("pass_seq")).get_column("call").to_numpy()


def _snapshot(state: PoolState | None, window: PoolWindow, calls: PoolCalls) -> Pool:
    """The recorder's snapshot as a pool over the trace's page numbers."""
    from replay.kernels.pool import LAST, new_pool, place

    pool = new_pool(window.slots, calls.pages)
    if state is None:
        return pool
    number = {int(frame): i for i, frame in enumerate(calls.pfn) if frame >= 0}
    for slot, count, pfn in state.slots:
        if 0 <= slot < window.slots and count > 0:
            place(pool, number.get(pfn, -1), slot, count)
    pool.reg[LAST] = min(max(state.last, 0), window.slots - 1)
    return pool


def _work(window: PoolWindow, calls: PoolCalls, capacity: int) -> Work:
    """Fresh state of the search, with room for `capacity` operations."""
    from replay.kernels import placing as kernel
    from replay.kernels.pool import new_pool

    slots, n = window.slots, calls.row.size
    pending = min(n, kernel.MAX_PENDING) + 1
    return kernel.Work(
        pool=new_pool(slots, calls.pages),
        doubt=np.full(slots, kernel.DOUBT, np.uint8),
        limbo_page=np.full(slots, -1, np.int64),
        limbo_unmap=np.full(slots, -1, np.int64),
        limbo_slot=np.full(calls.pages, -1, np.int64),
        maps=np.zeros(pending, np.int64),
        unmaps=np.zeros(pending, np.int64),
        placed=np.zeros(n, bool),
        status=np.zeros(n, np.uint8),
        row_of=np.full(n, -1, np.int64),
        deferred=np.zeros(pending + 1, np.int64),
        choices=np.zeros(512, np.int64),
        moves=np.zeros((1 << 13, 2), np.int64),
        out=np.empty((capacity, 6), np.int64),
        reg=np.zeros(kernel.REGISTERS, np.int64),
    )


def _checkpoint(window: PoolWindow, work: Work) -> Checkpoint:
    """Room for a checkpoint of `work`."""
    from replay.kernels.search import Checkpoint

    return Checkpoint(
        counts=np.zeros(window.slots, np.int64),
        page=np.zeros(window.slots, np.int64),
        free=np.zeros_like(work.pool.free),
        stale=np.zeros_like(work.pool.stale),
        pool_reg=np.zeros_like(work.pool.reg),
        doubt=np.zeros(window.slots, np.uint8),
        limbo_page=np.zeros(window.slots, np.int64),
        limbo_unmap=np.zeros(window.slots, np.int64),
        maps=np.zeros_like(work.maps),
        unmaps=np.zeros_like(work.unmaps),
        map_status=np.zeros(work.maps.size, np.uint8),
        reg=np.zeros_like(work.reg),
        best=np.zeros_like(work.choices),
    )
