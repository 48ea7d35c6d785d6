"""Numbers for the pages of a workload, in the order of their first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from replay.pool.calls import UNKNOWN_PAGE
from replay.trace.numbering import Numbering

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.local.stacks import NewMaps
    from replay.pool.calls import CallTable


class PageNumbers:
    """Numbers the pages that are mapped, window by window.

    Pages that needed a slot where the trace is from have numbers from 0 on, in the order of first
    use: so they get highmem on another machine while there is room. What kmap_local() mapped
    without a slot is numbered apart: -2 - n for the n-th such frame. -1: not known.

    Attributes
    ----------
    pages
        Keys of the former (:func:`page_keys`; of local mappings the frame, -1 unknown).
    lows
        Frames of the latter.
    """

    def __init__(self) -> None:
        self.pages = Numbering()
        self.lows = Numbering()

    def of_window(
        self,
        rows: int,
        first_row: int,
        calls: tuple[NDArray[np.int64], NDArray[np.int64]],
        maps: NewMaps,
    ) -> NDArray[np.int32]:
        """Number of the page of each row.

        Parameters
        ----------
        rows, first_row
            Of the window.
        calls
            Rows of the pool's calls in it, and the keys of their pages.
        maps
            Its calls of kmap_local().
        """
        high = maps.needs_slot
        row = np.concatenate([calls[0], maps.row[high]])
        key = np.concatenate([calls[1], maps.frame[high]])
        order = np.argsort(row, kind="stable")
        numbers = np.full(rows, -1, np.int32)
        numbers[row[order] - first_row] = self.pages.of(key[order])
        numbers[maps.row[~high] - first_row] = -2 - self.lows.of(maps.frame[~high])
        return numbers


def page_keys(calls: CallTable) -> NDArray[np.int64]:
    """A key for each call's page: its frame, else what the trace knows it by."""
    page, pfn = calls["page"], calls["pfn"]
    unknown = pfn < 0
    if not unknown.any():
        return np.ascontiguousarray(pfn)
    named = -2 - (page & np.uint64(UNKNOWN_PAGE - 1)).astype(np.int64)
    named[page >= UNKNOWN_PAGE] -= 1 << 62
    return np.where(unknown, named, pfn)
