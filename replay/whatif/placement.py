"""Which of a trace's pages are highmem on another machine, window by window."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from replay.local.stacks import takes_slot
from replay.pool.calls import UNKNOWN_PAGE
from replay.trace.numbering import Numbering

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.machine.layout import Layout


class High(NamedTuple):
    """What maps highmem there.

    Attributes
    ----------
    calls : ndarray of bool
        Per call of the pool.
    gone : ndarray of bool
        Per row of the window: a mapping that needs nothing there.
    turned
        kmap_local() calls of the window that need a slot only there.
    """

    calls: NDArray[np.bool_]
    gone: NDArray[np.bool_]
    turned: int


class Placing:
    """Decides of every page whether it is highmem on the other machine.

    Parameters
    ----------
    before, layout
        Address maps of the captured machine and of the other one.
    placement
        As for :func:`replay.whatif.run.what_if`.
    room
        Pages that ZONE_HIGHMEM gives out before its low watermark.
    """

    def __init__(self, before: Layout, layout: Layout, placement: str, room: int) -> None:
        self._before, self._layout = before, layout
        self._keeps_frames = placement == "same-pfn"
        self._room = max(room, 0)
        self._pages = Numbering()

    @property
    def spilled(self) -> int:
        """Pages that were highmem and find no room there."""
        return max(self._pages.count - self._room, 0)

    def feed(self, table: pl.DataFrame, first_row: int, calls: NDArray[np.void]) -> High:
        """Place the pages of a window. The same window again gives the same.

        Parameters
        ----------
        table
            The window.
        first_row
            Number of its first row.
        calls : ndarray of replay.pool.calls.CALL
            The pool's calls that are of interest, those of the window among them.
        """
        maps = table.with_row_index("row", first_row).filter(pl.col("op") == "kmap_local")
        was_high = takes_slot(maps, self._before).to_numpy()
        row = maps.get_column("row").to_numpy().astype(np.int64)
        frame = maps.get_column("pfn").cast(pl.Int64).fill_null(-1).to_numpy()
        if self._keeps_frames:
            calls_high, local = self._by_frame(calls["pfn"], frame, was_high)
        else:
            calls_high, local = self._by_class(calls, first_row, row, frame, was_high)
        if self._layout.kmap_force_map:
            local = np.ones_like(was_high)
        gone = np.zeros(table.height, bool)
        gone[row[~local] - first_row] = True
        here = ~calls_high & (calls["row"] >= first_row)
        gone[calls["row"][here] - first_row] = True
        return High(calls_high, gone, int((local & ~was_high).sum()))

    def _by_frame(
        self, frame: NDArray[np.int64], local: NDArray[np.int64], was_high: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        first, end = self._layout.lowmem_end_pfn, self._layout.max_pfn
        some = end > first
        calls = np.where(frame >= 0, (frame >= first) & (frame < end), some)
        return calls, np.where(local >= 0, (local >= first) & (local < end), was_high & some)

    def _by_class(
        self,
        calls: NDArray[np.void],
        first_row: int,
        row: NDArray[np.int64],
        frame: NDArray[np.int64],
        was_high: NDArray[np.bool_],
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Number the pages in the order of first use: so many have room."""
        keys = page_keys(calls)
        new = calls["row"] >= first_row
        at = np.concatenate([calls["row"][new], row[was_high]])
        used = np.concatenate([keys[new], frame[was_high]])
        self._pages.of(used[np.argsort(at, kind="stable")])
        local = np.zeros(was_high.size, bool)
        local[was_high] = self._pages.of(frame[was_high]) < self._room
        return self._pages.of(keys) < self._room, local


def page_keys(calls: NDArray[np.void]) -> NDArray[np.int64]:
    """A key for each call's page: its frame, else what the trace knows it by."""
    page = calls["page"]
    named = -2 - (page & np.uint64(UNKNOWN_PAGE - 1)).astype(np.int64)
    named[page >= UNKNOWN_PAGE] -= 1 << 62
    return np.where(calls["pfn"] >= 0, calls["pfn"], named)
