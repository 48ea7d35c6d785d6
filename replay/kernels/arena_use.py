"""Which pages of the vmap arena are in use: a map of pages, and its largest hole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALLOC = 0
FREE = 1  # lazily: the pages stay unavailable
PURGE = 2

_FREE, _USED, _LAZY = 0, 1, 2


@numba.njit(cache=True, nogil=True)
def _two_largest_holes(state: NDArray[np.uint8]) -> tuple[int, int, int]:
    """First page and length of the largest hole, and the length of the next."""
    start, best, second = 0, 0, 0
    length = 0
    for page in range(state.shape[0] + 1):
        if page < state.shape[0] and state[page] == _FREE:
            length += 1
            continue
        if length > best:
            start, best, second = page - length, length, best
        elif length > second:
            second = length
        length = 0
    return start, best, second


@numba.njit(cache=True, nogil=True)
def run(
    pages: int,
    initial: NDArray[np.int64],
    code: NDArray[np.uint8],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
) -> tuple[int, int]:
    """Follow the arena through a trace.

    Parameters
    ----------
    pages
        Size of the arena.
    initial : ndarray of int64, shape (a, 2)
        First page and page after the last of the areas in use at the start.
    code, start, end : ndarray, shape (n,)
        What happened (ALLOC, FREE, PURGE), and to which pages.

    Returns
    -------
    peak, hole : int
        Most pages in use or lazily freed; the smallest that the largest hole ever was.
    """
    state = np.zeros(pages, np.uint8)
    used = 0
    for i in range(initial.shape[0]):
        for page in range(initial[i, 0], min(initial[i, 1], pages)):
            used += state[page] == _FREE
            state[page] = _USED
    peak = used
    # The largest hole, and a bound on all others: only when neither tells is the map searched.
    first, length, others = _two_largest_holes(state)
    hole = length
    lazy = np.zeros((code.shape[0] + 1, 2), np.int64)
    n_lazy = 0
    for i in range(code.shape[0]):
        if code[i] == ALLOC:
            for page in range(start[i], end[i]):
                used += state[page] == _FREE
                state[page] = _USED
            peak = max(peak, used)
            if start[i] < first + length and end[i] > first:
                left = max(start[i] - first, 0)
                right = max(first + length - end[i], 0)
                if right > left:
                    first = end[i]
                length = max(left, right)
                if length < others:
                    first, length, others = _two_largest_holes(state)
                hole = min(hole, length)
        elif code[i] == FREE:
            for page in range(start[i], end[i]):
                if state[page] == _USED:
                    state[page] = _LAZY
            lazy[n_lazy] = start[i], end[i]
            n_lazy += 1
        else:
            for j in range(n_lazy):
                for page in range(lazy[j, 0], lazy[j, 1]):
                    if state[page] == _LAZY:
                        state[page] = _FREE
                        used -= 1
            n_lazy = 0
            others = pages
    return peak, hole
