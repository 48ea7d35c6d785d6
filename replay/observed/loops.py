"""Counting how long calls took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from collectors.events import OPS
from replay.compiled import loop
from replay.times import BINS, bin_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_TIME: Final = -(1 << 63)
"""In place of a time that is not known."""
TAKES_TIME: Final = ~np.isin((*OPS, ""), ("switch", "sched_out", "sched_in", "tlb_flush"))
"""By code of an operation whether it is a call: others take no time of their own."""
TAKES_TIME[-1] = False


class Bins(NamedTuple):
    """Times by operation and bin, each an array of shape (OPS, BINS).

    Attributes
    ----------
    n : ndarray of int64
        How many.
    total : ndarray of float64
    longest, row : ndarray of int64
        The longest time, and the row of the first that took it.
    """

    n: NDArray[np.int64]
    total: NDArray[np.float64]
    longest: NDArray[np.int64]
    row: NDArray[np.int64]


def no_times() -> Bins:
    """Nothing counted."""
    n, longest, row = np.zeros((3, len(OPS), BINS), np.int64)
    return Bins(n, np.zeros((len(OPS), BINS)), longest, row)


@loop
def count_times(
    bins: Bins,
    op: NDArray[np.uint8],
    ts: NDArray[np.int64],
    end_ts: NDArray[np.int64],
    duration: NDArray[np.int64],
    first_row: int,
) -> None:
    """Count the rows of a piece that took a time.

    Parameters
    ----------
    bins
        Changed.
    op, ts, end_ts, duration : ndarray
        Columns of the piece, NO_TIME where null; `duration` counts where there is one. `end_ts` or
        `duration` of length 0: nowhere.
    first_row
        Number of its first row.
    """
    for i in range(op.shape[0]):
        kind = np.int64(op[i])
        if not TAKES_TIME[kind]:
            continue
        ns = NO_TIME
        if duration.shape[0]:
            ns = duration[i]
        if ns == NO_TIME and end_ts.shape[0] and end_ts[i] != NO_TIME and ts[i] != NO_TIME:
            ns = end_ts[i] - ts[i]
        if ns < 0:
            continue
        at = bin_of(ns)
        if bins.n[kind, at] == 0 or ns > bins.longest[kind, at]:
            bins.longest[kind, at] = ns
            bins.row[kind, at] = first_row + i
        bins.n[kind, at] += 1
        bins.total[kind, at] += np.float64(ns)
