"""The windows of a trace with numbers for their pages, and everything but the pool counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from replay.trace.carried import CarriedRows
from replay.whatif.pages import PageNumbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.local.stacks import NewMaps
    from replay.trace.windows import Window
    from replay.walk import Rest, RestPiece


class NumberedWindow(NamedTuple):
    """A window, and what was counted in it.

    Attributes
    ----------
    window, told
        The window; its local mappings and call sites.
    pages : ndarray of int32
        Number of each row's page (:class:`replay.whatif.pages.PageNumbers`).
    keys : ndarray of int32
        Call site of each row, -1 none.
    """

    window: Window
    told: RestPiece
    pages: NDArray[np.int32]
    keys: NDArray[np.int32]


class NumberedRows:
    """Numbers the pages and call sites of a trace, window by window: its workload rests on them.

    They follow from the trace alone. So what is made of it a second time has the same.

    Parameters
    ----------
    rest
        Counts everything but the pool.

    Attributes
    ----------
    numbers
        Numbers of pages.
    """

    def __init__(self, rest: Rest) -> None:
        self.numbers = PageNumbers()
        self._rest = rest
        self._pages = CarriedRows()
        self._keys = CarriedRows()

    def feed(
        self, window: Window, calls: tuple[NDArray[np.int64], NDArray[np.int64]]
    ) -> NumberedWindow:
        """Count a window, and number it.

        Parameters
        ----------
        window
            The window.
        calls
            As for :meth:`replay.whatif.pages.PageNumbers.of_window`.
        """
        pages = np.zeros(0, np.int32)

        def numbered(maps: NewMaps) -> NDArray[np.int32]:
            nonlocal pages
            pages = self.numbers.of_window(window.table.height, window.first_row, calls, maps)
            return pages

        for carried in (self._pages, self._keys):
            carried.keep(self._rest.open_rows)
        told = self._rest.feed(window, numbered)
        keys = np.append(self._rest.sites.member_keys, np.int32(-1))[told.sites.member]
        self._pages.take(pages, window.first_row)
        self._keys.take(keys, window.first_row)
        return NumberedWindow(window, told, pages, keys)

    def pages_of(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Numbers of the pages of rows, of the last window or of mappings that were open then."""
        return self._pages.of(rows)

    def keys_of(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Call sites of such rows."""
        return self._keys.of(rows)
