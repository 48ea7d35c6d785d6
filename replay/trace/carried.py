"""Numbers of rows of the event table that are asked for again while something is open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class CarriedRows:
    """A number for each row of a piece, and for the rows before that are still open.

    Parameters
    ----------
    unknown
        Number of rows of which nothing is known any more.
    """

    def __init__(self, unknown: int = -1) -> None:
        self._unknown = unknown
        self._first_row = 0
        self._numbers = np.zeros(0, np.int32)
        self._open = np.zeros(0, np.int64)  # ascending
        self._of_open = np.zeros(0, np.int32)

    def take(self, numbers: NDArray[np.int32], first_row: int) -> None:
        """Take the numbers of a piece, whose first row this is."""
        self._numbers, self._first_row = numbers, first_row

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Numbers of rows, of this piece or of those that were open before it."""
        out = np.full(rows.size, self._unknown, np.int32)
        new = rows >= self._first_row
        out[new] = self._numbers[rows[new] - self._first_row]
        before = np.flatnonzero(~new)
        at = np.searchsorted(self._open, rows[before])
        known = at < self._open.size
        known[known] = self._open[at[known]] == rows[before][known]
        out[before[known]] = self._of_open[at[known]]
        return out

    def keep(self, open_rows: NDArray[np.int64]) -> None:
        """Forget all rows but these, which are open at the end of the piece."""
        still = np.sort(open_rows)
        self._of_open, self._open = self.of(still), still
