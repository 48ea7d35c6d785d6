"""What the captured kernel was asked of its arena, as another arena is asked it.

Piece by piece: who asks for what, in the order in which it was served, and what is freed. Areas
are numbered, those of the start first; the trace's addresses tell only which allocation a free
belongs to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import polars as pl

from replay.arena.calls import FAILED, UNSEEN
from replay.arena.lazy import LazyRun
from replay.arena.purges import TRIGGERS, UNKNOWN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.arena.calls import ArenaCalls
    from replay.arena.pieces import ArenaPiece
    from replay.arena.replay import Places
    from replay.arena.state import ArenaState
    from replay.machine.generations import Generation
    from replay.machine.layout import Layout

SOON_NS: Final = 1
"""From the free that passes the limit to the worker's purge, where the capture shows none."""
MOST_DELAYS: Final = 1 << 16
"""Purges above the limit of which each has its own delay."""
_BORN: Final = {"start": pl.Int64, "lo": pl.Int64, "area": pl.Int64}
MAX_BORN: Final = 1 << 20
"""Addresses at most of which the last area is known: all pages of 4 GiB."""


class Requests(NamedTuple):
    """What is asked in a piece.

    Attributes
    ----------
    table : ndarray of int64, shape (n, COLUMNS)
        Calls in lock order, as :mod:`replay.arena.loops.forward` has them.
    kept : ndarray of int64
        Numbers that areas of the piece before had there; here they are 0, 1, …
    row : ndarray of int64
        Row of the event table of each allocation; their areas have the numbers behind.
    size : ndarray of int64
        Bytes that each asks for.
    failed, elsewhere : ndarray of bool
        It failed where it was captured; it asks for addresses outside of the arena.
    """

    table: NDArray[np.int64]
    kept: NDArray[np.int64]
    row: NDArray[np.int64]
    size: NDArray[np.int64]
    failed: NDArray[np.bool_]
    elsewhere: NDArray[np.bool_]


class Asked:
    """Makes the requests of a trace.

    Parameters
    ----------
    state
        Before the trace.
    generation, before
        Behaviours and layout of the machine that it was captured on.
    after
        Layout of the other one.
    """

    def __init__(
        self, state: ArenaState, generation: Generation, before: Layout, after: Layout
    ) -> None:
        self._before, self._after = before, after
        limit = before.lazy_max_pages * before.page_size
        self._list = LazyRun(state.lazy, generation.lazy_list, limit)
        self._bytes = 0
        start = state.busy[:, 0]
        self._born = pl.DataFrame(
            {
                "start": start,
                "lo": np.full(start.size, -1, np.int64),
                "area": np.arange(start.size),
            },
            schema=_BORN,
        )
        self._kept = np.arange(start.size)
        self._time = np.iinfo(np.int64).min
        self._passed: int | None = None  # when the limit was passed last
        self._delays: list[NDArray[np.int64]] = []

    def take(
        self, piece: ArenaPiece, places: Places, triggers: pl.DataFrame | None = None
    ) -> Requests:
        """The requests of a piece, given the order in which it was served.

        `triggers` tells who asked for purges (:data:`replay.arena.purges.RAN`).
        """
        from replay.arena.loops import forward as kernel

        calls, before, after = piece.calls, self._before, self._after
        own = self._own_purges(piece)
        n, first = calls.allocs.height, self._kept.size
        a = calls.allocs.select("at", "size", "align", "vstart", "vend", "seen", "end_ts")
        numbers = a.to_numpy().astype(np.int64).reshape(-1, 7)
        alloc = np.zeros((n, kernel.COLUMNS), np.int64)
        alloc[:, kernel.KIND] = kernel.ALLOC
        alloc[:, kernel.TIME] = numbers[:, 6]
        alloc[:, kernel.AREA] = first + np.arange(n)
        alloc[:, kernel.SIZE : kernel.ALIGN + 1] = numbers[:, 1:3]
        alloc[:, kernel.START] = bound(numbers[:, 3], before, after)
        alloc[:, kernel.END] = bound(numbers[:, 4], before, after)
        seen = numbers[:, 5]
        frees = self._frees(calls, places, alloc[:, kernel.AREA])
        free = np.zeros((frees.height, kernel.COLUMNS), np.int64)
        free[:, kernel.KIND] = kernel.FREE
        free[:, kernel.TIME] = frees.get_column("ts").to_numpy()
        free[:, kernel.AREA] = frees.get_column("area").to_numpy()
        # What failed there and may succeed here is given back at once: no free of it is traced.
        failed = np.flatnonzero((seen == FAILED) | (seen == UNSEEN))
        back = alloc[failed].copy()
        back[:, kernel.KIND] = kernel.FREE
        asked = calls.purges.filter(pl.Series(~own))
        purge = np.zeros((asked.height, kernel.COLUMNS), np.int64)
        purge[:, kernel.KIND] = kernel.PURGE
        purge[:, kernel.TIME] = asked.get_column("ts").to_numpy()
        purge[:, kernel.SIZE] = _triggers(asked, triggers)
        for column, name in ((kernel.START, "start"), (kernel.END, "end")):
            purge[:, column] = bound(asked.get_column(name).to_numpy(), before, after)
        table = np.concatenate([alloc, back, free, purge])
        at = np.concatenate([
            places.allocs, places.allocs[failed], frees.get_column("listed").to_numpy(),
            places.purges[~own],
        ])  # fmt: skip
        turn = np.concatenate([
            places.turn[:n], places.turn[failed], np.full(frees.height, -1, np.int64),
            places.turn[n:][~own],
        ])  # fmt: skip
        table = table[np.lexsort((np.arange(len(table)), turn, at))]
        if len(table):
            table[0, kernel.TIME] = max(self._time, int(table[0, kernel.TIME]))
            table[:, kernel.TIME] = np.maximum.accumulate(table[:, kernel.TIME])
            self._time = int(table[-1, kernel.TIME])
        row = calls.allocs.get_column("row").to_numpy().astype(np.int64)
        elsewhere = (numbers[:, 4] <= before.vmalloc_start) | (numbers[:, 3] >= before.vmalloc_end)
        done = Requests(
            np.ascontiguousarray(table), self._kept, row, numbers[:, 1], seen == FAILED, elsewhere
        )
        self._kept = self._born.get_column("area").to_numpy()
        self._born = self._born.with_columns(area=pl.int_range(pl.len(), dtype=pl.Int64))
        return done

    def _frees(self, calls: ArenaCalls, places: Places, areas: NDArray[np.int64]) -> pl.DataFrame:
        """Frees whose area has a number (`area`), and where each reached the list (`listed`)."""
        new = calls.allocs.select(start="seen", lo="at", area=pl.Series(areas, dtype=pl.Int64))
        born = pl.concat([self._born, new.select(*_BORN)]).filter(pl.col("start") > 0).sort("lo")
        self._born = born.unique("start", keep="last", maintain_order=True).tail(MAX_BORN)
        return (
            calls.frees.select("lo", "start", "ts", listed=pl.Series(places.frees))
            .sort("lo")
            .join_asof(born, on="lo", by="start", strategy="backward", check_sortedness=False)
            .drop_nulls("area")
        )

    def _own_purges(self, piece: ArenaPiece) -> NDArray[np.bool_]:
        """Captured purges that the arena made for itself: an allocation's, or above the limit."""
        calls = piece.calls
        done = self._list.follow(self._list.begin(piece))
        of_purge = done.of_purge[: done.purges]
        count = np.concatenate([[self._bytes], done.lazy.nr_lazy])
        late = count[of_purge] > self._list.limit
        carried = len(self._list.before.freed)
        self._note_delays(calls, count, carried, done.of_free, of_purge[late], late)
        self._bytes = int(count[-1])
        self._list.end(done)
        of_alloc = calls.purges.get_column("parent").is_in(calls.allocs.get_column("seq").implode())
        return np.asarray(late | of_alloc.fill_null(value=False).to_numpy(), bool)

    def _note_delays(
        self,
        calls: ArenaCalls,
        count: NDArray[np.int64],
        carried: int,
        of_free: NDArray[np.int64],
        of_purge: NDArray[np.int64],
        late: NDArray[np.bool_],
    ) -> None:
        """Times from frees that passed the limit to purges, and until their areas were back.

        `count`: bytes that waited before each event of the list and behind the last one; of the
        events the first `carried` are of earlier pieces.
        """
        above = count > self._list.limit
        begins = np.flatnonzero(above[1:] & ~above[:-1])
        begins = begins[begins >= carried]
        ts = np.zeros(len(count), np.int64)
        ts[of_free] = calls.frees.get_column("ts").to_numpy()
        known = [] if self._passed is None else [self._passed]
        passed = np.concatenate([np.array(known, np.int64), ts[begins]])
        if of_purge.size:
            before = np.searchsorted(begins, of_purge) - 1 + len(known)
            purges = calls.purges.filter(pl.Series(late))
            taken, end = (purges.get_column(n).to_numpy() for n in ("detach_ts", "end_ts"))
            since = passed[np.maximum(before, 0)] if passed.size else taken
            delay = np.maximum(taken - since, SOON_NS)
            if sum(map(len, self._delays)) < MOST_DELAYS:
                self._delays.append(np.stack([delay, np.maximum(end - taken, 0)], axis=1))
        if passed.size:
            self._passed = int(passed[-1])

    def delays(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """From the free that passed the limit to the purge, and until its areas were back, in ns.

        Of each purge that the capture shows, and the median for all that follow.
        """
        if not self._delays or self._passed is None:
            return np.array([SOON_NS]), np.zeros(1, np.int64)
        delay, spell = np.concatenate(self._delays).T
        return _with_median(delay), _with_median(spell)


def _triggers(purges: pl.DataFrame, triggers: pl.DataFrame | None) -> NDArray[np.int64]:
    """What made purges run, by its place in :data:`replay.arena.purges.TRIGGERS`."""
    unknown = TRIGGERS.index(UNKNOWN)
    if triggers is None or not triggers.height:
        return np.full(purges.height, unknown, np.int64)
    seq = purges.select(pl.col("seq").cast(pl.UInt64))
    told = seq.join(triggers, on="seq", how="left", maintain_order="left").get_column("trigger")
    return told.cast(pl.Int64).fill_null(unknown).to_numpy()


def _with_median(times: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.append(times, int(np.median(times))).astype(np.int64)


def bound(address: NDArray[np.int64], before: Layout, after: Layout) -> NDArray[np.int64]:
    """Limits of a request, or of a purge: the other arena's for the captured one's."""
    by = after.vmalloc_start - before.vmalloc_start
    inside = (address >= before.vmalloc_start) & (address < before.vmalloc_end)
    out = np.where(inside, np.minimum(address + by, after.vmalloc_end), address)
    for old, new in (
        (before.modules_start, after.modules_start),
        (before.modules_end, after.modules_end),
        (before.vmalloc_start, after.vmalloc_start),
        (before.vmalloc_end, after.vmalloc_end),
    ):
        out[address == old] = new
    return out
