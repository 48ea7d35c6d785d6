"""Which pages of the vmap arena are in use: a map of pages, and its largest hole."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from replay.compiled import loop, part

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALLOC = 0
FREE = 1  # lazily: the pages stay unavailable
PURGE = 2
FAIL = 3  # `end - start` pages were asked for in vain

PAGE_FREE, PAGE_USED, PAGE_LAZY = 0, 1, 2
"""States of a page."""

# Positions in Arena.reg
IN_USE = 0  # pages in use or lazily freed
PEAK = 1  # most of them ever
HOLE = 2  # the smallest that the largest hole ever was
FIRST = 3  # first page and length of the largest hole
LENGTH = 4
OTHERS = 5  # a bound on all other holes: only when it does not tell is the map searched
LAZY_START = 6  # the pages freed since the last purge lie between these
LAZY_END = 7
LIVE = 8  # pages in use
PEAK_LIVE = 9  # most of them ever
FAILED_HOLE = 10  # at the first failure: the largest hole, free pages, pages asked for (0: none)
FAILED_FREE = 11
FAILED_SIZE = 12
REGISTERS = 13


class Arena(NamedTuple):
    """State of the arena.

    Attributes
    ----------
    state : ndarray of uint8, shape (pages,)
        Per page: free, in use, or lazily freed.
    reg : ndarray of int64, shape (REGISTERS,)
        Scalars; see the constants.
    """

    state: NDArray[np.uint8]
    reg: NDArray[np.int64]


@part
def two_largest_holes(state: NDArray[np.uint8]) -> tuple[int, int, int]:
    """First page and length of the largest hole, and the length of the next."""
    start, best, second = 0, 0, 0
    length = 0
    for page in range(state.shape[0] + 1):
        if page < state.shape[0] and state[page] == PAGE_FREE:
            length += 1
            continue
        if length > best:
            start, best, second = page - length, length, best
        elif length > second:
            second = length
        length = 0
    return start, best, second


def new_arena(pages: int, areas: NDArray[np.int64], freed: NDArray[np.int64]) -> Arena:
    """Arena of `pages` pages at the start of a capture.

    Parameters
    ----------
    pages
        Size.
    areas, freed : ndarray of int64, shape (a, 2)
        First page and page after the last of the areas in use, and of those that were freed
        lazily and wait for a purge.
    """
    state = np.full(pages, PAGE_FREE, np.uint8)
    for code, spans in ((PAGE_LAZY, freed), (PAGE_USED, areas)):
        for start, end in spans:
            state[start:end] = code
    reg = np.zeros(REGISTERS, np.int64)
    reg[IN_USE] = reg[PEAK] = np.count_nonzero(state)
    reg[LIVE] = reg[PEAK_LIVE] = np.count_nonzero(state == PAGE_USED)
    reg[FIRST], reg[LENGTH], reg[OTHERS] = two_largest_holes(state)
    reg[HOLE] = reg[LENGTH]
    lazy = np.flatnonzero(state == PAGE_LAZY)
    reg[LAZY_START], reg[LAZY_END] = (lazy[0], lazy[-1] + 1) if lazy.size else (pages, 0)
    return Arena(state, reg)


@part
def _alloc(state: NDArray[np.uint8], reg: NDArray[np.int64], start: int, end: int) -> None:
    """Take pages, and see what is left of the largest hole."""
    for page in range(start, end):
        reg[IN_USE] += state[page] == PAGE_FREE
        reg[LIVE] += state[page] != PAGE_USED
        state[page] = PAGE_USED
    reg[PEAK_LIVE] = max(reg[PEAK_LIVE], reg[LIVE])
    reg[PEAK] = max(reg[PEAK], reg[IN_USE])
    first, length = reg[FIRST], reg[LENGTH]
    if start >= first + length or end <= first:
        return
    left = max(start - first, 0)
    right = max(first + length - end, 0)
    if right > left:
        first = end
    length = max(left, right)
    if length < reg[OTHERS]:
        first, length, reg[OTHERS] = two_largest_holes(state)
    reg[FIRST], reg[LENGTH] = first, length
    reg[HOLE] = min(reg[HOLE], length)


@part
def take_step(
    state: NDArray[np.uint8], reg: NDArray[np.int64], code: int, start: int, end: int
) -> None:
    """Follow one step; as of :func:`run`."""
    if code == ALLOC:
        _alloc(state, reg, start, end)
    elif code == FREE:
        for page in range(start, end):
            if state[page] == PAGE_USED:
                state[page] = PAGE_LAZY
                reg[LIVE] -= 1
        reg[LAZY_START] = min(reg[LAZY_START], start)
        reg[LAZY_END] = max(reg[LAZY_END], end)
    elif code == FAIL:
        if reg[FAILED_SIZE] == 0:
            _, reg[FAILED_HOLE], _ = two_largest_holes(state)
            reg[FAILED_FREE] = state.shape[0] - reg[IN_USE]
            reg[FAILED_SIZE] = end - start
    else:
        for page in range(reg[LAZY_START], reg[LAZY_END]):
            if state[page] == PAGE_LAZY:
                state[page] = PAGE_FREE
                reg[IN_USE] -= 1
        reg[LAZY_START], reg[LAZY_END] = state.shape[0], 0
        reg[OTHERS] = state.shape[0]


@loop
def run(
    arena: Arena, code: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64]
) -> None:
    """Follow the arena through a trace.

    Parameters
    ----------
    arena
        State, changed in place.
    code, start, end : ndarray, shape (n,)
        What happened (ALLOC, FREE, PURGE, FAIL), and to which pages.
    """
    for i in range(code.shape[0]):
        take_step(arena.state, arena.reg, np.int64(code[i]), start[i], end[i])
