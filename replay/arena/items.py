"""The arena's calls as items of the loop that finds their order.

The loop is :mod:`replay.arena.loops.order`, an item's columns are those of
:mod:`replay.arena.loops.items`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.arena.calls import ArenaCalls
    from replay.arena.lazy import LazyReplay


def ordering_items(
    calls: ArenaCalls, lazy: LazyReplay
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Make an item of each allocation, and of each purge or flush that gives something back.

    Parameters
    ----------
    calls
        The trace.
    lazy
        What its purges gave back.

    Returns
    -------
    items : ndarray of int64, shape (items, COLUMNS)
        In the order in which they are tried first.
    place : ndarray of int64
        Item of each allocation, then of each purge, then of each flush; -1: it is none.
    """
    from replay.arena.loops import items as kernel

    allocs = calls.allocs.select("lo", "hi", "size", "align", "vstart", "vend", "seen", "at")
    a = allocs.to_numpy().astype(np.int64).reshape(-1, 8)
    gives, owner = _gives(calls)
    n, m = len(a), len(gives)
    items = np.zeros((n + m, kernel.COLUMNS), np.int64)
    items[:n, kernel.KIND] = kernel.ALLOC
    items[:n, kernel.LO : kernel.SEEN + 1] = a[:, :7]
    items[n:, kernel.KIND] = kernel.GIVE
    items[n:, kernel.LO : kernel.HI + 1] = gives[:, :2]
    items[n:, kernel.FIRST : kernel.LAST + 1] = lazy.lazy.purge[lazy.of_purge, :2]
    items[n:, kernel.NEXT] = items[n:, kernel.FIRST]
    # An allocation that purged succeeds, if at all, after that purge.
    own = owner >= 0
    np.maximum.at(items[:, kernel.LO], owner[own], gives[own, 1] + 1)
    items[:n, kernel.HI] = np.maximum(items[:n, kernel.HI], items[:n, kernel.LO])
    at = np.maximum(np.concatenate([a[:, 7], gives[:, 2]]), items[:, kernel.LO])
    useful = np.ones(n + m, bool)
    useful[n:] = items[n:, kernel.FIRST] < items[n:, kernel.LAST]
    by = np.argsort(at, kind="stable")
    by = by[useful[by]]
    place = np.full(n + m, -1, np.int64)
    place[by] = np.arange(by.size)
    items = np.ascontiguousarray(items[by])
    items[:, kernel.GROUP] = _groups(items[:, kernel.LO], items[:, kernel.HI])
    return items, place


def _gives(calls: ArenaCalls) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Interval and default position of each purge and flush, and the allocation that made it."""
    gives = pl.concat([
        calls.purges.select("lo", "hi", "at", "parent"),
        calls.flushes.select(lo="at", hi="at", at="at", parent=pl.lit(None, pl.Int64)),
    ])  # fmt: skip
    owner = (
        gives.select("parent")
        .join(
            calls.allocs.select(parent="seq").with_row_index("owner"),
            on="parent", how="left", maintain_order="left",
        )
        .get_column("owner").cast(pl.Int64).fill_null(-1).to_numpy()
    )  # fmt: skip
    return gives.select("lo", "hi", "at").to_numpy().astype(np.int64).reshape(-1, 3), owner


def _groups(lo: NDArray[np.int64], hi: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the cluster of overlapping intervals that each item is in, -1 alone."""
    if not lo.size:
        return lo
    by = np.argsort(lo, kind="stable")
    reached = np.maximum.accumulate(hi[by])
    begins = np.ones(lo.size, bool)
    begins[1:] = lo[by][1:] > reached[:-1]
    number = np.cumsum(begins) - 1
    alone = np.bincount(number) == 1
    out = np.empty(lo.size, np.int64)
    out[by] = np.where(alone[number], -1, number)
    return out
