"""The compiled loop that gives call chains their numbers. Import only to decode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from collectors.compiled import loop, part
from collectors.traceevent.loads import u64

if TYPE_CHECKING:
    from numpy.typing import NDArray

DONE = 0
NEW_CHAIN = 1  # one that is not in the table
CROWDED = 2  # the table is half full

# Cells of `state`.
POSITION = 0
USED = 1
BEGIN = 2  # of the new chain: place of its first kernel address, and how many there are
LENGTH = 3
FULL = 4  # 1: there are too many chains, those not in the table get number 0
CELLS = 5

# Columns of the table; a slot whose length is 0 is free.
SLOT_AT = 0
SLOT_LENGTH = 1
SLOT_HASH = 2
SLOT_NUMBER = 3
SLOT_COLUMNS = 4

# enum perf_callchain_context (include/uapi/linux/perf_event.h): what follows is of this context.
_KERNEL = -128
_GUEST_KERNEL = -2176
_LOWEST = -4095


@part
def _kernel_part(base: Any, chain: Any, big: Any) -> Any:
    """Place of the first kernel address of a chain, and number of those that follow each other."""
    count = u64(base, chain, big)
    at = chain + 8
    end = at + 8 * count
    begin, length = at, np.int64(0)
    is_kernel = False
    while at < end:
        ip = u64(base, at, big)
        if _LOWEST <= ip < 0:
            if length > 0:
                break
            is_kernel = ip in (_KERNEL, _GUEST_KERNEL)
            begin = at + 8
        elif is_kernel:
            length += 1
        at += 8
    return begin, length


@part
def _word(base: Any, at: Any) -> Any:
    """Eight bytes, of which only equality counts."""
    return u64(base, at, False)  # noqa: FBT003 - their order is the same everywhere


@part
def _place(table: NDArray[np.int64], base: Any, begin: Any, length: Any, h: Any) -> Any:
    """Slot of a chain: where it is, or the free one where it belongs."""
    mask = len(table) - 1
    slot = (h >> 20) & mask
    while table[slot, SLOT_LENGTH] > 0:
        if table[slot, SLOT_HASH] == h and table[slot, SLOT_LENGTH] == length:
            other = table[slot, SLOT_AT]
            word = np.int64(0)
            while word < length and _word(base, begin + 8 * word) == _word(base, other + 8 * word):
                word += 1
            if word == length:
                break
        slot = (slot + 1) & mask
    return slot


@loop
def number_chains(
    data: NDArray[np.uint8],
    big: bool,  # noqa: FBT001
    chains: NDArray[np.int64],
    state: NDArray[np.int64],
    table: NDArray[np.int64],
    numbers: NDArray[np.int64],
) -> int:
    """Give each call chain the number of its kernel part.

    Parameters
    ----------
    data : ndarray of uint8, read only
        The records.
    big : bool
        Their endianness.
    chains : ndarray of int64, shape (n,)
        Places of chains, checked to lie within `data`; 0: none.
    state : ndarray of int64, shape (CELLS,)
        Where the loop is, and what it asks for.
    table : ndarray of int64, shape (power of 2, SLOT_COLUMNS)
        Chains by their addresses.
    numbers : ndarray of int64, shape (n,)
        Filled; 0 where there is no kernel part.

    Returns
    -------
    int
        DONE, or why it came back; NEW_CHAIN: the state says which chain has got the next number.
    """
    base = data.ctypes.data
    for i in range(state[POSITION], len(chains)):
        numbers[i] = 0
        if chains[i] <= 0:
            continue
        begin, length = _kernel_part(base, chains[i], big)
        if length == 0:
            continue
        h = length
        for word in range(length):
            h = (h ^ _word(base, begin + 8 * word)) * 0x1E3779B97F4A7C15
            h ^= (h >> 29) & 0x7_FFFF_FFFF
        slot = _place(table, base, begin, length, h)
        if table[slot, SLOT_LENGTH] == 0:
            if state[FULL]:
                continue
            state[POSITION] = i
            if 2 * (state[USED] + 1) > len(table):
                return CROWDED
            state[USED] += 1
            table[slot, SLOT_AT], table[slot, SLOT_LENGTH] = begin, length
            table[slot, SLOT_HASH], table[slot, SLOT_NUMBER] = h, state[USED]
            state[BEGIN], state[LENGTH] = begin, length
            return NEW_CHAIN
        numbers[i] = table[slot, SLOT_NUMBER]
    state[POSITION] = len(chains)
    return DONE


@loop
def move_chains(old: NDArray[np.int64], new: NDArray[np.int64]) -> None:
    """Move a table of chains, all different, into a larger one."""
    mask = len(new) - 1
    for i in range(len(old)):
        if old[i, SLOT_LENGTH] > 0:
            slot = (old[i, SLOT_HASH] >> 20) & mask
            while new[slot, SLOT_LENGTH] > 0:
                slot = (slot + 1) & mask
            for column in range(SLOT_COLUMNS):
                new[slot, column] = old[i, column]
