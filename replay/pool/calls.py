"""What of the event table is the pool's, and what is known of each of its calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.survey import PoolFacts, PoolWindow

POOL_CALLS: Final = ("kmap", "kunmap", "kmap_get")
GET_CODE: Final = 2
NEVER: Final = (1 << 62) - 1
"""Position behind every event."""
FLUSH_EVENTS: Final = 1 << 12
"""Positions of the trace in which the TLB flush of a flush_all_zero_pkmaps() has to show; it
holds the lock, and other CPUs go on with something else."""
UNSET: Final = np.iinfo(np.int64).min
UNKNOWN_PAGE: Final = 1 << 63

CALL: Final = np.dtype(
    [
        ("row", "i8"),  # of the event table
        ("seq", "u8"),
        ("end", "u8"),  # position of the return, or where the call is over at the latest
        ("is_open", "?"),  # `end` is not known yet
        ("returned", "?"),  # the trace shows the return
        ("ts", "i8"),
        ("end_ts", "i8"),
        ("pid", "i4"),
        ("code", "u1"),  # position in POOL_CALLS
        ("page", "u8"),  # address of struct page, or a number of its own from 1 << 63 on
        ("pfn", "i8"),
        ("vaddr", "i8"),
        ("seen", "i8"),  # slot that the kernel returned; -1 unknown, or outside the pool
        ("entered", "i8"),  # stream position of the entry, counted from the trace's first
        ("status", "u1"),  # how its place was found
        ("is_placed", "?"),
        ("predicted", "i4"),  # what the model gave it last
        ("first_try", "i8"),  # time of the first and last attempt to serve it, UNSET none
        ("last_try", "i8"),
        ("sleeps", "i4"),  # attempts that failed
    ]
)
"""What is known of a call: from the table, and from the search and the replay so far."""


def is_anonymous() -> pl.Expr:
    """Rows that say neither which page they map nor where: nothing can be replayed of them."""
    return pl.col("page").is_null() & pl.col("vaddr").is_null()


def is_mapping(calls: NDArray[np.void]) -> NDArray[np.bool_]:
    """Calls that took a mapping: kmap(), and kmap_high_get() that found one.

    To the pool the latter is a kmap() that must be a hit.
    """
    found = (calls["code"] == GET_CODE) & (calls["seen"] >= 0)
    return np.asarray((calls["code"] == 0) | found, bool)


def is_reuse(window: PoolWindow) -> pl.Expr:
    """Rows of kmap_local() that got a mapping of the pool: kmap_high_get() found one."""
    inside = (pl.col("vaddr") >= window.base) & (pl.col("vaddr") < window.end)
    return (pl.col("op") == "kmap_local") & inside.fill_null(value=False)


def passes_of(table: pl.DataFrame, window: PoolWindow, facts: PoolFacts) -> pl.DataFrame:
    """Rows that show a run of flush_all_zero_pkmaps.

    Where the function itself is not probed, the TLB flush of the whole window shows the runs
    that freed something, and __kmap_flush_unused() those that it made.
    """
    if facts.passes_traced:
        return table.filter(pl.col("op") == "pool_flush")
    return table.filter((pl.col("op") == "flush_unused") | is_window_flush(window))


def is_window_flush(window: PoolWindow) -> pl.Expr:
    """Rows that are the TLB flush of the whole pool (mm/highmem.c: flush_all_zero_pkmaps)."""
    return (
        (pl.col("op") == "flush_range")
        & (pl.col("start") == window.base)
        & (pl.col("end") == window.end)
    )


def pass_flushed(passes: NDArray[np.uint64], flushes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether each pass was followed by the window's TLB flush, still under the lock.

    Parameters
    ----------
    passes, flushes
        `seq` of the passes, and of the flushes of the whole window; both ascending.
    """
    before = np.minimum(np.append(passes[1:], np.uint64(NEVER)), passes + np.uint64(FLUSH_EVENTS))
    index = np.searchsorted(flushes, passes, side="left")
    following = np.append(flushes, np.uint64(NEVER))[index]
    return np.asarray(following < before, bool)
