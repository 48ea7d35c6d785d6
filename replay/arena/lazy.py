"""The lazy list of the arena over a trace, piece by piece: which purge took which areas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from collectors.records import dataclass
from replay.arena.result import LazyCount

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from replay.arena.calls import ArenaCalls
    from replay.arena.loops.lazy import Lazy
    from replay.arena.pieces import ArenaPiece

_MAX_UNDER_WAY: Final = 2
"""Purges that can count at once: vmap_purge_lock lets one in, another may be about to end."""

LISTS: Final = {"newest-first": 0, "ascending": 1, "descending": 2}
"""``Generation.lazy_list`` as :mod:`replay.arena.loops.lazy` numbers it."""


class ListBefore(NamedTuple):
    """The list where a piece begins, oldest first.

    Attributes
    ----------
    initial : ndarray of int64, shape (n, 2)
        Areas that have been on it since before the trace.
    freed : ndarray of int64, shape (m, 6)
        Frees in the trace: start, end, the free's interval, row, and 1 where it is supposed to
        have come too late for a purge.
    """

    initial: NDArray[np.int64]
    freed: NDArray[np.int64]

    def with_bounds(self, bounds: pl.DataFrame) -> ListBefore:
        """The same where ends of intervals (`row`, `hi`) have become known."""
        if not bounds.height or not len(self.freed):
            return self
        told = dict(bounds.iter_rows())
        freed = self.freed.copy()
        freed[:, 3] = [told.get(row, hi) for row, hi in freed[:, [4, 3]].tolist()]
        return ListBefore(self.initial, freed)


@dataclass(frozen=True)
class LazyReplay:
    """Frees and purges of a piece as one stream, and what the model makes of it.

    Attributes
    ----------
    stream : ndarray of int64
        For :func:`replay.arena.loops.lazy.run`.
    of_purge : ndarray of int64
        Stream event of each purge, then of each flush that may be one.
    of_free : ndarray of int64
        Stream event of each free.
    purges
        How many of `of_purge` are purges.
    lazy
        Filled.
    whole
        Whether a purge gives all its areas back under one lock.
    """

    stream: NDArray[np.int64]
    of_purge: NDArray[np.int64]
    of_free: NDArray[np.int64]
    purges: int
    lazy: Lazy
    whole: bool

    def waiting(self, before: ListBefore, frees: pl.DataFrame) -> ListBefore:
        """The list behind the piece.

        Parameters
        ----------
        before
            The list where it began.
        frees
            Those of the piece.
        """
        from replay.arena.loops.lazy import END, HI, HOLD, LO, N_LAZY, START

        left = self.lazy.waiting[: self.lazy.reg[N_LAZY]]
        more = np.zeros((len(self.stream), 2), np.int64)
        more[: len(before.freed)] = before.freed[:, 4:]
        more[self.of_free, 0] = frees.get_column("row").to_numpy()
        more[:, 1] |= self.stream[:, HOLD] > 0
        event = left[left[:, 3] >= 0, 3]
        freed = np.column_stack([self.stream[event][:, [START, END, LO, HI]], more[event]])
        return ListBefore(left[left[:, 3] < 0, :2].copy(), freed)

    def crossings(self, limit: int) -> int:
        """Frees of this piece after which more than `limit` bytes waited."""
        return int((self.lazy.nr_lazy[self.of_free] > limit).sum())

    def held(self, before: ListBefore) -> int:
        """Frees that are supposed here, and not before, to have come too late for a purge."""
        from replay.arena.loops.lazy import HOLD

        held = self.stream[:, HOLD] > 0
        held[: len(before.freed)] &= before.freed[:, 5] == 0
        return int(held.sum())

    def hulls(self, gave: NDArray[np.bool_]) -> tuple[int, int, int]:
        """Purges that flushed a hull: observed, predicted, and equal.

        Parameters
        ----------
        gave
            Purges that returned that they gave areas back. Where flushes are not traced that is
            what can be observed, and foretold.
        """
        predicted, seen = self._ranges()
        told = gave & (seen[:, 1] < 0)
        flushed = int(((seen[:, 1] > 0) | told).sum())
        missed = self.missed() + int((told & (predicted[:, 1] <= 0)).sum())
        return flushed, int((predicted[:, 1] > 0).sum()), flushed - missed

    def misses(self) -> NDArray[np.bool_]:
        """Which of the purges flushed another hull than predicted."""
        predicted, seen = self._ranges()
        return np.asarray((seen[:, 1] > 0) & (predicted != seen).any(axis=1), bool)

    def missed(self) -> int:
        """How many did."""
        return int(self.misses().sum())

    def _ranges(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        from replay.arena.loops.lazy import SEEN_END, SEEN_START

        where = self.of_purge[: self.purges]
        return self.lazy.purge[where, 2:], self.stream[where][:, SEEN_START : SEEN_END + 1]


class Counters:
    """The model's counters beside those of the vmalloc tracepoints, piece by piece.

    Where more waited at the first free than the snapshot lists, areas were freed between the
    snapshot and the trace: so many pages are added until the first purge takes them, and that
    number counts as inferred.

    Attributes
    ----------
    nr_lazy, purged
        Frees after which as many pages waited as the kernel says (mm/vmalloc.c: vmap_lazy_nr);
        purges that gave back as many areas (merged ones count once).
    """

    def __init__(self, page_size: int) -> None:
        self.nr_lazy = self.purged = LazyCount()
        self._page_size = page_size
        self._unlisted = 0
        self._begun = self._emptied = False

    def add(self, replay: LazyReplay, calls: ArenaCalls) -> None:
        """Take a piece."""
        lazy, page_size = replay.lazy, self._page_size
        seen = calls.frees.get_column("nr_lazy").to_numpy()
        told = seen >= 0
        event = replay.of_free[told]
        here = lazy.nr_lazy[event] // page_size
        emptied = -1 if self._emptied else _first_purge(replay)
        first = not self._begun and event.size > 0
        if first:
            self._begun = True
            if event[0] < emptied:
                self._unlisted = max(0, int(seen[told][0] - here[0]))
        here = here + np.where(event < emptied, self._unlisted, 0)
        here = here + _being_given_back(
            replay, calls, seen[told] - here, page_size, emptied, told=told,
            unlisted=self._unlisted,
        )  # fmt: skip
        right = here == seen[told]
        learnt = first and self._unlisted > 0
        if learnt:
            right[0] = False
        self._emptied |= emptied < len(replay.stream)
        purged = calls.purges.get_column("purged").to_numpy()
        counted = purged >= 0
        given = lazy.purge[replay.of_purge[: replay.purges]]
        areas = given[counted, 1] - given[counted, 0]
        self.nr_lazy += LazyCount(int(told.sum()), int(right.sum()), int(learnt))
        self.purged += LazyCount(int(counted.sum()), int((areas == purged[counted]).sum()))


class LazyRun:
    """Follows the list of a trace, piece by piece.

    Parameters
    ----------
    initial : ndarray of int64, shape (n, 2)
        The list before the trace, oldest first.
    lazy_list
        ``Generation.lazy_list``.
    limit
        lazy_max_pages() in bytes.

    Attributes
    ----------
    before
        The list where the piece begins.
    limit
        As given.
    """

    def __init__(self, initial: NDArray[np.int64], lazy_list: str, limit: int) -> None:
        self.before = ListBefore(initial, np.zeros((0, 6), np.int64))
        self.limit = limit
        self._lazy_list = lazy_list
        self._calls: ArenaCalls
        self._of_purge: NDArray[np.int64]
        self._of_free: NDArray[np.int64]

    def begin(self, piece: ArenaPiece) -> NDArray[np.int64]:
        """The frees and purges of the next piece as a stream (:func:`lazy_stream`)."""
        self._calls = piece.calls
        self.before = self.before.with_bounds(piece.bounds)
        stream, self._of_purge, self._of_free = lazy_stream(piece.calls, self.before.freed)
        return stream

    def follow(self, stream: NDArray[np.int64]) -> LazyReplay:
        """What the model makes of the stream, or of one like it with others in HOLD."""
        return replay_lazy(
            stream, self._of_purge, self._of_free, self._calls.purges.height,
            self.before.initial, self._lazy_list, self.limit,
        )  # fmt: skip

    def end(self, replay: LazyReplay) -> None:
        """Go on behind the piece, of which this is the replay to believe."""
        self.before = replay.waiting(self.before, self._calls.frees)


def _first_purge(replay: LazyReplay) -> int:
    """Stream event of the first purge that took something."""
    of_purge = replay.of_purge
    given = replay.lazy.purge[of_purge]
    return int(of_purge[given[:, 1] > given[:, 0]].min(initial=len(replay.stream)))


def _being_given_back(
    replay: LazyReplay,
    calls: ArenaCalls,
    more: NDArray[np.int64],
    page_size: int,
    first_purge: int,
    *,
    told: NDArray[np.bool_],
    unlisted: int,
) -> NDArray[np.int64]:
    """Pages that purges had taken off the list and still counted when each free came.

    A purge takes its areas off the counter as it gives them back, from 6.9 on all at its end
    (mm/vmalloc.c: __purge_vmap_area_lazy, purge_vmap_node). Only what explains `more`, the pages
    that the kernel counted beyond the model's list, is returned; else 0. `unlisted` pages are
    also in what the first purge took, if that is in this piece (`first_purge`).
    """
    lazy = replay.lazy
    out = np.zeros(more.size, np.int64)
    detach, end = calls.purges.select("detach", "hi").to_numpy().reshape(-1, 2).T
    entered = calls.frees.get_column("lo").to_numpy()[told]
    for number in np.flatnonzero(more > 0).tolist():
        left = int(more[number])
        under_way = np.flatnonzero((detach < entered[number]) & (entered[number] <= end))
        possible = {0}
        for purge in under_way[-_MAX_UNDER_WAY:].tolist():
            event = replay.of_purge[purge]
            first, last = lazy.purge[event, :2]
            areas = lazy.given[first:last]
            pages = (areas[:, 1] - areas[:, 0])[::-1].cumsum() // page_size
            if event == first_purge and unlisted:
                pages = np.concatenate([pages, pages + unlisted])
            possible |= {n + p for n in possible for p in pages.tolist() if n + p <= left}
        if left in possible:
            out[number] = left
    return out


def lazy_stream(
    calls: ArenaCalls, freed: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Frees and purges of a piece in the order of their default places.

    A free reaches the list at its entry, a purge takes it at its flush, or at its entry where it
    flushed nothing.

    Parameters
    ----------
    calls
        The piece.
    freed
        Of :class:`ListBefore`: these come first.

    Returns
    -------
    stream, of_purge, of_free
        As in :class:`LazyReplay`.
    """
    from replay.arena.loops import lazy as kernel

    frees, purges, flushes = calls.frees, calls.purges, calls.flushes
    n_free, n_purge = frees.height, purges.height
    stream = np.zeros((n_free + n_purge + flushes.height, kernel.COLUMNS), np.int64)
    f, p, q = np.split(stream, [n_free, n_free + n_purge])
    f[:, kernel.KIND] = kernel.FREE
    f[:, kernel.START : kernel.HI + 1] = frees.select("start", "end", "lo", "hi").to_numpy()
    p[:, kernel.KIND] = kernel.PURGE
    p[:, kernel.START : kernel.HOLD] = purges.select(
        "start", "end", "entry", "hi", "seen_start", "seen_end"
    ).to_numpy()
    q[:, kernel.KIND] = kernel.FLUSH
    q[:, kernel.START : kernel.HOLD] = (
        flushes.select("start", "end", lo="at", hi="at", seen_start="start", seen_end="end")
        .fill_null(0)
        .to_numpy()
    )
    at = np.concatenate([
        frees.get_column("lo").to_numpy(),
        purges.get_column("detach").to_numpy(),
        flushes.get_column("at").to_numpy(),
    ])  # fmt: skip
    by = np.argsort(at, kind="stable")
    place = np.empty_like(by)
    place[by] = np.arange(by.size)
    before = np.zeros((len(freed), kernel.COLUMNS), np.int64)
    before[:, kernel.KIND] = kernel.FREE
    before[:, kernel.START : kernel.HI + 1] = freed[:, :4]
    place += len(freed)
    return np.concatenate([before, stream[by]]), place[n_free:], place[:n_free]


def replay_lazy(
    stream: NDArray[np.int64],
    of_purge: NDArray[np.int64],
    of_free: NDArray[np.int64],
    purges: int,
    initial: NDArray[np.int64],
    lazy_list: str,
    limit: int,
) -> LazyReplay:
    """Follow the list.

    Parameters
    ----------
    stream, of_purge, of_free, purges
        As in :class:`LazyReplay`.
    initial : ndarray of int64, shape (n, 2)
        The list at the start, oldest first.
    lazy_list
        ``Generation.lazy_list``.
    limit
        lazy_max_pages() in bytes.
    """
    from replay.arena.loops import lazy as kernel

    lazy = kernel.new_lazy(stream.shape[0], initial)
    kernel.run(lazy, stream, LISTS[lazy_list], limit)
    return LazyReplay(stream, of_purge, of_free, purges, lazy, whole=lazy_list == "descending")
