"""Histograms of times: bins of the same share of a time, and what is read off them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PER_DOUBLING: Final = 16
"""Bins per doubling of a time."""
BINS: Final = 1 + 63 * PER_DOUBLING
"""The first is of what was over before the trace clock moved."""


SERIES_BINS: Final = 240
"""Bins of a series over time: more than a terminal or a small chart can show."""


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
        self.start = start
        self.width = max(1, -(-(end - start) // bins))
        self.counts = np.zeros(max(1, min(bins, -(-(end - start) // self.width))), np.int64)

    def add(self, moments: NDArray[np.int64]) -> None:
        """Count moments, in ns of the trace clock."""
        if moments.size:
            at = np.clip((moments - self.start) // self.width, 0, self.counts.size - 1)
            self.counts += np.bincount(at, minlength=self.counts.size)


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
