"""Durations of many calls, of which quartiles are asked: exact, and in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from replay.trace.spool import SpooledRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Pieces = Callable[[], Iterator[NDArray[np.uint64]]]

_ROW: Final = np.dtype([("ns", "i8"), ("beside", "i8")])
_IN_MEMORY: Final = 1 << 22
"""Bytes of one kind's durations that are kept in memory."""
_AT_ONCE: Final = 1 << 18
"""Durations that are looked at together."""
_FEW: Final = 1 << 18
"""Numbers that are sorted in memory."""
_BINS: Final = 1 << 16
_SIGN: Final = np.uint64(1 << 63)


class Samples:
    """Durations of one kind of call, each with a number that belongs to it."""

    def __init__(self) -> None:
        self._rows = SpooledRows(_ROW, _IN_MEMORY)

    @property
    def size(self) -> int:
        """How many there are."""
        return self._rows.count

    def add(self, ns: NDArray[np.int64], beside: NDArray[np.int64] | int = 0) -> None:
        """Add calls; a negative duration is none.

        Parameters
        ----------
        ns
            Durations in ns.
        beside
            Pages, or slots, of each call.
        """
        rows = np.zeros(ns.size, _ROW)
        rows["ns"], rows["beside"] = ns, beside
        self._rows.append(rows[ns >= 0])

    def quartiles(self) -> tuple[float, float, float]:
        """First quartile, median and third quartile of the durations, as numpy.percentile."""
        column = self._column("ns")
        q1, q2, q3 = (_quantile(column, self.size, share) for share in (0.25, 0.5, 0.75))
        return q1, q2, q3

    def median(self) -> float:
        """Median of the durations in ns; 0 without any."""
        return _median(self._column("ns"), self.size)

    def median_beside(self) -> float:
        """Median of the numbers that belong to them; 0 without any."""
        return _median(self._column("beside"), self.size)

    def quartiles_each(self, base: float) -> tuple[float, float, float]:
        """Quartiles of what a duration has beyond `base`, per unit of the number beside it.

        Those numbers have to be above 0. Zeros without any.
        """

        def pieces() -> Iterator[NDArray[np.uint64]]:
            for rows in self._pieces():
                bits = ((rows["ns"] - base) / rows["beside"]).view(np.uint64)
                yield np.where(bits & _SIGN, ~bits, bits | _SIGN)  # in the order of the floats

        if not self.size:
            return 0.0, 0.0, 0.0
        q1, q2, q3 = (_quantile(pieces, self.size, s, _float_of) for s in (0.25, 0.5, 0.75))
        return q1, q2, q3

    def _pieces(self) -> Iterator[NDArray[np.void]]:
        for start in range(0, self.size, _AT_ONCE):
            yield self._rows.view()[start : start + _AT_ONCE]
            self._rows.release()

    def _column(self, name: str) -> Pieces:
        def pieces() -> Iterator[NDArray[np.uint64]]:
            for rows in self._pieces():
                yield rows[name].astype(np.uint64)

        return pieces


def _quantile(
    column: Pieces, size: int, share: float, value: Callable[[int], float] = float
) -> float:
    """As numpy.percentile(method="linear"), to the last bit; `value` of the numbers."""
    place = (size - 1) * share
    below = int(place)
    low, high = (value(_ranked(column, min(r, size - 1))) for r in (below, below + 1))
    part, apart = place - below, high - low
    return high - apart * (1 - part) if part >= 0.5 else low + apart * part


def _middle(size: int) -> tuple[int, int]:
    return (size - 1) // 2, size // 2


def _median(column: Pieces, size: int) -> float:
    if not size:
        return 0.0
    low, high = (_ranked(column, rank) for rank in _middle(size))
    return (low + high) / 2


def _ranked(pieces: Pieces, rank: int) -> int:
    """The number that has `rank` smaller or equal ones before it in ascending order.

    The range that holds it is cut into bins until few numbers are left in it.
    """
    low, high, number = 0, (1 << 64) - 1, sum(piece.size for piece in pieces())
    while number > _FEW and low < high:
        width = -(-(high - low + 1) // _BINS)
        counts = np.zeros(_BINS, np.int64)
        for piece in pieces():
            inside = piece[(piece >= np.uint64(low)) & (piece <= np.uint64(high))]
            bins = (inside - np.uint64(low)) // np.uint64(width)
            counts += np.bincount(bins.astype(np.int64), minlength=_BINS)
        reached = np.cumsum(counts)
        at = int(np.searchsorted(reached, rank, side="right"))
        number = int(counts[at])
        rank -= int(reached[at]) - number
        low += at * width
        high = min(high, low + width - 1)
    if low == high:
        return low
    kept = [p[(p >= np.uint64(low)) & (p <= np.uint64(high))] for p in pieces()]
    return int(np.partition(np.concatenate(kept), rank)[rank])


def _float_of(key: int) -> float:
    bits = np.uint64(key)
    bits = bits ^ _SIGN if bits & _SIGN else ~bits
    return float(np.array([bits], np.uint64).view(np.float64)[0])
