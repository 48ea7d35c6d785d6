"""What is known of an event with a probed address: a hash table that the walks fill and ask.

An event alone says too little: kprobe events of one format may sit at several addresses. Compiled;
import only from functions that decode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.compiled import loop, part

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Columns of the table of (event, probed address) pairs.
PAIR_EVENT = 0  # one more than the event's number; 0: free
PAIR_IP = 1
PAIR_PLAN = 2  # -1: not wanted
PAIR_NEED = 3  # bytes that a record must have
PAIR_COUNT = 4
PAIR_FOLLOWS = 5  # 1: belongs to the record before it, and is wanted only if that is
PAIR_COLUMNS = 6

PAIRS = 1 << 18
"""Most rows of the table; a full function trace has some 50 000 addresses."""
FEW_PAIRS = 1 << 8
"""Rows to begin with: there is a table for every CPU."""

UNRESOLVED = -2
"""Plan of a pair that has not been asked for."""

_PROBES = 128  # a table that is a quarter full never needs so many, unless a file is made for it


@part
def find_pair(pairs: NDArray[np.int64], used: int, event: int, ip: int) -> tuple[int, int]:
    """Find or make the row of an (event, probed address) pair in an open hash table.

    Parameters
    ----------
    pairs : ndarray of int64, shape (power of two, PAIR_COLUMNS)
        Rows; zeros at first. An event needs a row of its own for address 0, so there must be
        many more rows than events.
    used : int
        Rows in use.
    event, ip : int
        The key.

    Returns
    -------
    slot, used : int
        An address for which there is no room is not told apart: it gets the row of address 0.
    """
    size = len(pairs)
    slot = 0
    for turn in range(2):
        key = ip if turn == 0 else 0
        slot = (event * 0x9E37_79B1 + (key ^ key >> 15) * 0x85EB_CA6B >> 7) & (size - 1)
        for step in range(size):
            if pairs[slot, PAIR_EVENT] == 0:
                if key == 0 or used < size // 4:
                    pairs[slot, PAIR_EVENT] = event + 1
                    pairs[slot, PAIR_IP] = key
                    pairs[slot, PAIR_PLAN] = UNRESOLVED
                    return slot, used + 1
                break
            if pairs[slot, PAIR_EVENT] == event + 1 and pairs[slot, PAIR_IP] == key:
                return slot, used
            if key != 0 and step > _PROBES:
                break
            slot = (slot + 1) & (size - 1)
    return slot, used


@loop
def move_pairs(pairs: NDArray[np.int64], larger: NDArray[np.int64]) -> None:
    """Copy a table of pairs into a larger one, which is empty."""
    used = 0
    for slot in range(len(pairs)):
        if pairs[slot, PAIR_EVENT] != 0:
            event, ip = pairs[slot, PAIR_EVENT] - 1, pairs[slot, PAIR_IP]
            place, used = find_pair(larger, used, event, ip)
            for column in range(PAIR_COLUMNS):
                larger[place, column] = pairs[slot, column]
