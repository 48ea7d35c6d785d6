"""Rows into the order of time, also where they do not fit into memory."""

from __future__ import annotations

import mmap
import tempfile
from typing import TYPE_CHECKING

import numpy as np

from collectors.raw import RAW_DTYPE
from collectors.reading import PIECE_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray


def is_ascending(ts: NDArray[np.int64]) -> bool:
    """Tell whether times never go back."""
    return not bool(np.any(ts[1:] < ts[:-1]))


def sorted_runs(
    pieces: Iterable[NDArray[np.void]], rows: int = PIECE_ROWS
) -> Iterator[NDArray[np.void]]:
    """Sort rows by time through a temporary file; rows of one time stay in their order.

    Parameters
    ----------
    pieces
        Rows of RAW_DTYPE, in any order; each piece fits into memory.
    rows
        Rows to give at a time, at most about.

    Yields
    ------
    ndarray of RAW_DTYPE
    """
    with tempfile.TemporaryFile(prefix="hmtrace-") as file:
        sizes = []
        for piece in pieces:
            if len(piece):
                file.write(piece[np.argsort(piece["ts"], kind="stable")].tobytes())
                sizes.append(len(piece))
        if not sizes:
            return
        file.flush()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        every = np.frombuffer(mapped, RAW_DTYPE)
        ends = np.cumsum(sizes)
        runs = [every[end - size : end] for end, size in zip(ends, sizes, strict=True)]
        for some in _merged(runs, max(rows // len(runs), 1), rows):
            mapped.madvise(mmap.MADV_DONTNEED)  # mapped pages count as memory of the process
            yield some


def _merged(runs: list[NDArray[np.void]], share: int, rows: int) -> Iterator[NDArray[np.void]]:
    """Merge sorted runs, about `share` rows of each at a time."""
    while runs := [run for run in runs if len(run)]:
        # Up to this time, no run gives more than its share.
        until = min(run["ts"][min(share, len(run)) - 1] for run in runs)
        cuts = [int(np.searchsorted(run["ts"], until, "left")) for run in runs]
        some = np.concatenate([run[:cut] for run, cut in zip(runs, cuts, strict=True)])
        if len(some):
            yield some[np.argsort(some["ts"], kind="stable")]
        # Of this time itself there may be any number; they are in order already.
        for number, (run, cut) in enumerate(zip(runs, cuts, strict=True)):
            end = int(np.searchsorted(run["ts"], until, "right"))
            for first in range(cut, end, rows):
                yield np.array(run[first : min(first + rows, end)])
            runs[number] = run[end:]
