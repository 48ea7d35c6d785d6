"""Which of a trace's pages are highmem on another machine, window by window."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from replay.local.stacks import takes_slot
from replay.trace.numbering import Numbering

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.machine.layout import Layout


class High(NamedTuple):
    """What of a window maps highmem there.

    Attributes
    ----------
    gone : ndarray of bool
        Per row of the window: a mapping that needs nothing there.
    turned
        kmap_local() calls of the window that need a slot only there.
    """

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
        self._beyond = Numbering()

    @property
    def beyond(self) -> int:
        """Frames that lie behind the end of RAM there, where pages keep their frames."""
        return self._beyond.count

    @property
    def spilled(self) -> int:
        """Pages that were highmem and find no room there."""
        return max(self._pages.count - self._room, 0)

    def feed(self, table: pl.DataFrame, new: pl.DataFrame) -> High:
        """Place the pages of a window.

        Parameters
        ----------
        table
            Rows of the event table.
        new
            Calls of the pool among them: `row`, counted from the first, `page`, `frame`
            (:class:`replay.whatif.calls.PoolCalls`).
        """
        maps = table.with_row_index("row").filter(pl.col("op") == "kmap_local")
        was_high = takes_slot(maps, self._before).to_numpy()
        row = maps.get_column("row").to_numpy().astype(np.int64)
        frame = maps.get_column("pfn").cast(pl.Int64).fill_null(-1).to_numpy()
        at, page, frames = (new.get_column(n).to_numpy() for n in ("row", "page", "frame"))
        if self._keeps_frames:
            local = np.where(frame >= 0, self._is_high(frame), was_high & self._some)
            for touched in (frame, frames):
                self._beyond.of(touched[touched >= self._layout.max_pfn])
        else:
            local = self._first_used(at, page, row, frame, was_high)
        if self._layout.kmap_force_map:
            local = np.ones_like(was_high)
        gone = np.zeros(table.height, bool)
        gone[row[~local]] = True
        gone[at[~self.of_calls(page, frames)]] = True
        return High(gone, int((local & ~was_high).sum()))

    def of_calls(self, page: NDArray[np.int64], frame: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which calls of the pool are of highmem there, once their window was placed."""
        if self._keeps_frames:
            return np.where(frame >= 0, self._is_high(frame), self._some)
        return np.asarray(self._pages.of(page) < self._room, bool)

    @property
    def _some(self) -> bool:
        """Whether there is highmem at all."""
        return self._layout.max_pfn > self._layout.lowmem_end_pfn

    def _is_high(self, frame: NDArray[np.int64]) -> NDArray[np.bool_]:
        return (frame >= self._layout.lowmem_end_pfn) & (frame < self._layout.max_pfn)

    def _first_used(
        self,
        at: NDArray[np.int64],
        page: NDArray[np.int64],
        row: NDArray[np.int64],
        frame: NDArray[np.int64],
        was_high: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        """Number the pages in the order of first use, so many have room; which mappings do."""
        used = np.concatenate([page, frame[was_high]])
        order = np.argsort(np.concatenate([at, row[was_high]]), kind="stable")
        self._pages.of(used[order])
        local = np.zeros(was_high.size, bool)
        local[was_high] = self._pages.of(frame[was_high]) < self._room
        return local
