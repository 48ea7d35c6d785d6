"""What first happens to each area in a trace, and what that tells of the areas at its start.

An area in use cannot be allocated again before it is freed, nor a lazily freed one before a purge;
what is freed without having been allocated was in use. A snapshot that is of another moment is
corrected so before the trace is replayed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from replay.arena.calls import UNSEEN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.arena.calls import ArenaCalls

MAX_AREAS: Final = 1 << 16
MAX_STARTS: Final = 1 << 20
"""Addresses at most of which is kept what happened first: all pages of 4 GiB."""
_NEVER: Final = 1 << 62
_FREED: Final = {"start": pl.Int64, "lo": pl.Int64, "end": pl.Int64}
_BORN: Final = {"start": pl.Int64, "lo": pl.Int64}
_UNTOLD: Final = {"size": pl.Int64, "lo": pl.Int64}


class Firsts:
    """What happens first, followed piece by piece.

    Parameters
    ----------
    busy, lazy : ndarray of int64, shape (n, 2)
        Areas in use, and lazily freed ones, as a snapshot has them.

    Attributes
    ----------
    align
        Largest alignment that was asked for.
    frees
        Whether anything was freed.

    Notes
    -----
    Behind a loss of events what happens first may be what happened second: `until` is the position
    of the first loss.
    """

    def __init__(
        self, busy: NDArray[np.int64], lazy: NDArray[np.int64], until: int | None = None
    ) -> None:
        self._until = _NEVER if until is None else until
        self.align = 1
        self.frees = False
        self._busy, self._lazy = _Taken(busy), _Taken(lazy)
        self._first_purge = _NEVER
        self._freed = pl.DataFrame(schema=_FREED)
        self._born = pl.DataFrame(schema=_BORN)
        self._untold = pl.DataFrame(schema=_UNTOLD)

    def look(self, calls: ArenaCalls) -> None:
        """Take a piece, behind everything before."""
        aligned = calls.allocs.get_column("align").max()
        self.align = max(self.align, aligned if isinstance(aligned, int) else 1)
        self.frees |= calls.frees.height > 0
        before = pl.col("lo") < self._until
        allocs, frees = calls.allocs.filter(before), calls.frees.filter(before)
        for areas in (self._busy, self._lazy):
            areas.look(allocs)
        for frame, name in ((calls.purges, "lo"), (calls.flushes, "at")):
            first = frame.get_column(name).min()
            self._first_purge = min(self._first_purge, first if isinstance(first, int) else _NEVER)
        # What happened to an address in an earlier piece happened first.
        freed = frees.group_by("start", maintain_order=True).agg(
            pl.col("lo").min(), pl.col("end").first()
        )
        born = allocs.filter(pl.col("seen") > 0).select("lo", start="seen")
        born = born.group_by("start", maintain_order=True).agg(pl.col("lo").min())
        self._freed = _with_new(self._freed, freed.select(*_FREED))
        self._born = _with_new(self._born, born.select(*_BORN))
        untold = allocs.filter(pl.col("seen") == UNSEEN).group_by("size").agg(pl.col("lo").min())
        self._untold = pl.concat([self._untold, untold]).group_by("size").agg(pl.col("lo").min())

    def gone(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]:
        """Areas in use, and lazily freed ones, that were there; rows that tell of the others.

        One that is first freed with another end has become another area since the snapshot.
        """
        first_free = {start: (lo, end) for start, lo, end in self._freed.iter_rows()}
        freed = [first_free.get(start, (_NEVER, end)) for start, end in self._busy.areas.tolist()]
        lo, end = np.array(freed, np.int64).reshape(-1, 2).T
        there = self._busy.when >= lo
        busy = there & (end == self._busy.areas[:, 1])
        lazy = self._lazy.when >= self._first_purge
        told = np.concatenate([self._busy.row[~there], self._lazy.row[~lazy]])
        return busy, lazy, np.unique(told)

    def unlisted(self, busy: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Areas that are freed without having been allocated or listed.

        Parameters
        ----------
        busy : ndarray of int64, shape (n, 2)
            The areas of the snapshot that were there.

        Returns
        -------
        sure : ndarray of int64, shape (m, 2)
            In use at the start.
        doubtful : ndarray of int64, shape (k, 3)
            Where a call whose return was not traced asked for as much before: perhaps it got them.
            Start, end, position of the free.
        """
        first_alloc = dict(self._born.iter_rows())
        untold = dict(self._untold.select("size", "lo").iter_rows())
        listed = set(busy[:, 0].tolist())
        found = [
            (start, end, lo)
            for start, lo, end in self._freed.sort("start").iter_rows()
            if start not in listed and lo < first_alloc.get(start, _NEVER)
        ]
        out: list[tuple[int, int]] = []
        doubtful: list[tuple[int, int, int]] = []
        starts = np.sort(busy[:, 0])
        ends = np.sort(busy[:, 1])
        for start, end, lo in found[:MAX_AREAS]:
            if untold.get(end - start, _NEVER) < lo:
                doubtful.append((start, end, lo))
                continue
            # areas never overlap: as many must have ended at `start` as have begun before `end`
            clear = np.searchsorted(ends, start, "right") == np.searchsorted(starts, end, "left")
            if clear and (not out or out[-1][1] <= start):
                out.append((start, end))
        return areas_of(out), np.array(doubtful, np.int64).reshape(-1, 3)


class _Taken:
    """When some areas were first handed out, by which row.

    Attributes
    ----------
    areas : ndarray of int64, shape (n, 2)
    when, row : ndarray of int64, shape (n,)
        Earliest return of an allocation that reaches into each, and its row.
    """

    def __init__(self, areas: NDArray[np.int64]) -> None:
        self.areas = areas
        self.when = np.full(len(areas), _NEVER, np.int64)
        self.row = np.full(len(areas), -1, np.int64)

    def look(self, allocs: pl.DataFrame) -> None:
        """Take the allocations of a piece."""
        told = allocs.filter(pl.col("seen") >= 0).sort("seen", maintain_order=True)
        start, size, done, row = (
            told.get_column(name).cast(pl.Int64).to_numpy()
            for name in ("seen", "size", "hi", "row")
        )
        end = start + size
        # an allocation that starts below an area reaches into it only if it is large
        reach = int(size.max(initial=0))
        low = np.searchsorted(start, self.areas[:, 0] - reach)
        high = np.searchsorted(start, self.areas[:, 1])
        for index in np.flatnonzero((low < high) & (self.when == _NEVER)).tolist():
            here = slice(low[index], high[index])
            inside = np.flatnonzero(end[here] > self.areas[index, 0])
            if inside.size:
                first = int(low[index] + inside[np.argmin(done[here][inside])])
                self.when[index], self.row[index] = done[first], row[first]


def _with_new(known: pl.DataFrame, more: pl.DataFrame) -> pl.DataFrame:
    """What is known by `start`, and what comes to it, as far as there is room."""
    new = more.join(known, on="start", how="anti", maintain_order="left")
    return pl.concat([known, new]).head(MAX_STARTS) if new.height else known


def areas_of(pairs: list[tuple[int, int]]) -> NDArray[np.int64]:
    """Areas that lie where the model's addresses do; shape (n, 2)."""
    out = np.array(pairs, np.int64).reshape(-1, 2)
    good = (out[:, 0] >= 0) & (out[:, 0] < out[:, 1]) & (out[:, 1] <= 1 << 32)
    return out[good]
