"""Quantities in bins of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from replay.times import TimeAxis


class FoldedLines:
    """Reduces steps of some quantities to bins.

    Parameters
    ----------
    axis
        The bins.
    values
        What each quantity is at the start.
    """

    def __init__(self, axis: TimeAxis, values: Sequence[int]) -> None:
        from replay.timeline.loops import NEVER_SEEN, Folded

        self._axis = axis
        shape = (len(values), axis.bins)
        value, since = np.array(values, np.int64), np.full(len(values), axis.start, np.int64)
        low, high = np.full(shape, NEVER_SEEN, np.int64), np.full(shape, -1, np.int64)
        low[:, 0] = high[:, 0] = value
        self._bins = Folded(low, high, np.zeros(shape), value, since)

    def add_row(self, value: int) -> int:
        """Begin one more quantity, which was so from the start on; return its row."""
        other = FoldedLines(self._axis, [value])._bins
        self._bins = type(other)(
            *(np.concatenate([mine, more]) for mine, more in zip(self._bins, other, strict=True))
        )
        return int(self._bins.value.size) - 1

    def take(self, row: int, time: NDArray[np.int64], value: NDArray[np.signedinteger]) -> None:
        """Take steps of one quantity: when it changed, in ns, and to what."""
        from replay.timeline.loops import fold

        values = np.ascontiguousarray(value, np.int64)
        fold(self._bins, row, time, values, self._axis.start, self._axis.width)

    def finish(self) -> None:
        """Nothing changes any more."""
        from replay.timeline.loops import settle

        settle(self._bins, self._axis.end, self._axis.start, self._axis.width)

    def low(self, row: int, unit: int = 1) -> tuple[int, ...]:
        """Lowest value of each bin."""
        return tuple((self._bins.low[row] * unit).tolist())

    def high(self, row: int, unit: int = 1) -> tuple[int, ...]:
        """Highest value of each bin."""
        return tuple((self._bins.high[row] * unit).tolist())

    def mean(self, row: int) -> tuple[float, ...]:
        """Mean over time of each bin; where no time passed, what was so at the end."""
        axis = self._axis
        last = axis.end - axis.start - (axis.bins - 1) * axis.width
        widths = np.full(axis.bins, axis.width, np.float64)
        widths[-1] = last
        if last <= 0:
            return tuple(self._bins.value[row : row + 1].astype(np.float64).tolist())
        return tuple((self._bins.area[row] / widths).tolist())


def shares(part: NDArray[np.float64], whole: NDArray[np.float64]) -> tuple[tuple[int, ...], ...]:
    """Shares as 0 to 255, at least 1 where there is anything.

    Parameters
    ----------
    part : ndarray of float64, shape (rows, columns)
    whole : ndarray of float64
        What it is a part of; of a shape that goes with it.

    Examples
    --------
    >>> shares(np.array([[0.0, 0.001, 2.0]]), np.array([2.0]))
    ((0, 1, 255),)
    """
    some = np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
    cells = np.where(part > 0, np.maximum(np.rint(np.minimum(some, 1) * 255), 1), 0)
    return tuple(map(tuple, cells.astype(np.int64).tolist()))


def monotone(time: NDArray[np.int64], floor: int) -> NDArray[np.int64]:
    """Times that never fall, from a floor on: those of other CPUs may be a little behind."""
    if not time.size:
        return time
    rising = np.maximum.accumulate(time)
    return np.maximum(rising, floor)
