"""The compiled loop that puts the records of several CPUs into one order. Import only to decode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from collectors.compiled import loop

if TYPE_CHECKING:
    from numpy.typing import NDArray


@loop
def merge(
    key: NDArray[np.int64],
    shift: int,
    block: NDArray[np.int64],
    first: NDArray[np.int64],
    rows: NDArray[np.int64],
    highest: NDArray[np.int64],
    more: NDArray[np.bool_],
    order: NDArray[np.int64],
    at: NDArray[np.int64],
    stop: NDArray[np.int64],
) -> int:
    """Put the records of several CPUs into one order, as far as it is known.

    The CPU whose next record is earliest comes next; where two are equal, the lower CPU. A record
    whose stamp lies before that of its predecessor on the same CPU stays behind it.

    Parameters
    ----------
    key : ndarray of int64
        Highest stamp so far of every record of every block.
    shift : int
        A block has room for 1 << shift records.
    block, first, rows : ndarray of int64, shape (CPUs,)
        Present block of each CPU, the first of its records that is not in the order yet
        (changed), and their number.
    highest : ndarray of int64, shape (CPUs,)
        Highest stamp in the block: what follows on this CPU is not earlier.
    more : ndarray of bool, shape (CPUs,)
        Whether anything follows.
    order : ndarray of int64
        Filled: positions in `key`.
    at, stop : ndarray of int64, shape (CPUs,)
        Room: next position, and behind the last, of those that have something.

    Returns
    -------
    int
        Number of positions. At least one block that more follows on is used up.
    """
    cpus = len(block)
    bound, lowest = np.int64((1 << 63) - 1), cpus
    for c in range(cpus):
        if more[c] and (lowest == cpus or highest[c] < bound):
            bound, lowest = highest[c], c
    active = 0
    for c in range(cpus):
        start = block[c] << shift
        low, high = start + first[c], start + rows[c]
        if lowest < cpus:
            begin = low
            while low < high:
                middle = (low + high) >> 1
                if key[middle] < bound or (key[middle] == bound and c <= lowest):
                    low = middle + 1
                else:
                    high = middle
            low = begin
        if low < high:
            at[active], stop[active] = low, high
            active += 1
        first[c] = high - start
    n = 0
    while active > 1:
        best, next_best = 0, -1
        for a in range(1, active):
            if key[at[a]] < key[at[best]]:
                next_best = best
                best = a
            elif next_best < 0 or key[at[a]] < key[at[next_best]]:
                next_best = a
        rival = key[at[next_best]]
        i, end = at[best], stop[best]
        if best < next_best:
            while i < end and key[i] <= rival:
                order[n] = i
                n += 1
                i += 1
        else:
            while i < end and key[i] < rival:
                order[n] = i
                n += 1
                i += 1
        at[best] = i
        if i == end:
            active -= 1
            for a in range(best, active):
                at[a], stop[a] = at[a + 1], stop[a + 1]
    if active == 1:
        for i in range(at[0], stop[0]):
            order[n] = i
            n += 1
    return n
