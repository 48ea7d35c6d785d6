"""Histograms of times: bins of the same share of a time, and what is read off them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from replay.compiled import piece
from replay.outcome import Histogram

if TYPE_CHECKING:
    from numpy.typing import NDArray

PER_DOUBLING: Final = 16
"""Bins per doubling of a time."""
BINS: Final = 1 + 63 * PER_DOUBLING
"""The first is of what was over before the trace clock moved."""
_LN2: Final = math.log(2)
_FINE: Final = PER_DOUBLING // 4
"""Bins that are one of a histogram's."""
SERIES_BINS: Final = 240
"""Bins of a series over time: more than a terminal or a small chart can show."""


class TimeAxis(NamedTuple):
    """A stretch of time in equal bins, the last of which may be shorter.

    Attributes
    ----------
    start, end
        Of the stretch, in ns.
    width
        Of a bin, in ns.
    bins
        How many there are.
    """

    start: int
    end: int
    width: int
    bins: int

    @classmethod
    def over(cls, start: int, end: int, bins: int) -> TimeAxis:
        """The stretch from `start` to `end` in at most `bins` bins.

        Examples
        --------
        >>> TimeAxis.over(100, 110, 4)
        TimeAxis(start=100, end=110, width=3, bins=4)
        >>> TimeAxis.over(100, 109, 4).bins
        3
        """
        width = max(1, -(-(end - start) // bins))
        return cls(start, end, width, max(1, min(bins, -(-(end - start) // width))))

    def at(self, moments: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bin of each moment, in ns; what lies outside is in the first or the last one."""
        return np.clip((moments - self.start) // self.width, 0, self.bins - 1)


class TimeBins:
    """Counts moments in equal bins of a stretch of time.

    Parameters
    ----------
    start, end
        Of the stretch, in ns; what lies outside counts in the first or the last bin.
    bins
        How many there are at most.

    Attributes
    ----------
    width
        Of a bin, in ns.
    counts : ndarray of int64, shape (bins,)
    """

    def __init__(self, start: int, end: int, bins: int) -> None:
        self._axis = TimeAxis.over(start, end, bins)
        self.width = self._axis.width
        self.counts = np.zeros(self._axis.bins, np.int64)

    def add(self, moments: NDArray[np.int64]) -> None:
        """Count moments, in ns of the trace clock."""
        if moments.size:
            self.counts += np.bincount(self._axis.at(moments), minlength=self.counts.size)


@piece
def bin_of(ns: int) -> int:
    """Bin of one time, for loops.

    Parameters
    ----------
    ns
        Not below 0.
    """
    if ns <= 0:
        return 0
    return 1 + math.floor(math.log(float(ns)) / _LN2 * PER_DOUBLING)


def bins_of(ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give each time's bin.

    Parameters
    ----------
    ns : ndarray of int64
        Times, none below 0.

    Examples
    --------
    >>> bins_of(np.array([0, 1, 2, 1000])).tolist()
    [0, 1, 17, 160]
    """
    bins = np.zeros(ns.size, np.int64)
    some = ns > 0
    bins[some] = 1 + np.floor(np.log2(ns[some]) * PER_DOUBLING).astype(np.int64)
    return bins


def histogram(number: NDArray[np.int64]) -> Histogram:
    """Bins of a quarter of a doubling, of the finer ones here.

    Parameters
    ----------
    number : ndarray of int64, shape (BINS,)
        How many times lie in each bin of :func:`bins_of`.

    Examples
    --------
    >>> histogram(np.bincount(bins_of(np.array([0, 5, 5, 16])), minlength=BINS))
    Histogram(from_ns=(0.0, 4.757, 16.0), counts=(1, 2, 1))
    """
    coarse = number[1:].reshape(-1, _FINE).sum(axis=1)
    filled = np.flatnonzero(coarse)
    edges = (2 ** (filled * _FINE / PER_DOUBLING)).round(3).tolist()
    zero = int(number[0])
    return Histogram(
        (*([0.0] if zero else []), *edges), (*([zero] if zero else []), *coarse[filled].tolist())
    )


def quantile(
    bins: NDArray[np.int64], number: NDArray[np.int64], share: float, longest: int
) -> float:
    """Middle of the bin that holds the time of a rank, but never more than was seen.

    Parameters
    ----------
    bins, number : ndarray of int64
        Bins, ascending, and how many times lie in each.
    share
        Of the times, at least so many are no longer.
    longest
        The longest time, in ns.

    Examples
    --------
    >>> quantile(np.array([0, 17]), np.array([1, 2]), 0.5, 2)
    2.0
    """
    upto = np.cumsum(number)
    at = int(bins[int((upto < share * upto[-1]).sum())])
    middle: float = 2 ** ((at - 0.5) / PER_DOUBLING) if at else 0.0
    return min(middle, float(longest))
