"""The pkmap pool: kmap() and kunmap() of highmem pages (mm/highmem.c).

Small functions named after the kernel's, over one :class:`Pool` of arrays. A page is a dense
index (0 to pages - 1), not an address. The kernel finds a free slot by visiting one after the
other; here a bitmap of free slots gives the same slot and the same number of visits.

A pool with colours (asm/highmem.h of xtensa) is a lane of slots per colour, each with a cursor of
its own; only the flush goes over all. Slots are numbered lane after lane here, where the kernel
interleaves them (:class:`replay.pool.window.PoolWindow`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from replay.compiled import piece

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORD = 32
"""Slots per word of a bitmap; words are int64, so that no arithmetic on them overflows."""

ASLEEP = -1
"""Result of an attempt that found no free slot: the task sleeps."""
UNKNOWN = -2
"""No result: the operation returns no slot, or the cursor is not known."""

# Positions in Pool.reg
USED = 0  # slots with a count of 2 or more
STALE = 1  # slots with a count of 1: no user, but still mapped
SCANNED = 2  # slots visited by the last map_new_virtual
FREED = 3  # slots freed by the last flush_all_zero_pkmaps, -1 if the last operation made none
ERRORS = 4  # operations that the kernel would have answered with BUG()
LAST = 5  # last_pkmap_nr; with colours the cursor of each lane from here on

_DE_BRUIJN = 0x077CB531
_BIT = np.array(
    [0, 1, 28, 2, 29, 14, 24, 3, 30, 22, 20, 15, 25, 17, 4, 8,
     31, 27, 13, 23, 21, 19, 16, 7, 26, 12, 18, 6, 11, 5, 10, 9],
    np.int64,
)  # fmt: skip


class Pool(NamedTuple):
    """State of the pool.

    Attributes
    ----------
    counts : ndarray of int64, shape (slots,)
        pkmap_count[]: 0 free, 1 stale (mapped, no users), n >= 2: n - 1 users.
    page : ndarray of int64, shape (slots,)
        Page of each slot; -1 where there is none or it is not known.
    slot : ndarray of int64, shape (pages,)
        Slot of each page, -1 none: page_address().
    free, stale : ndarray of int64, shape (slots / 32,)
        Bitmaps of the slots with count 0 and 1.
    touched : ndarray of int64, shape (slots / 32,)
        Bitmap of the slots that were changed since somebody cleared it.
    colour : ndarray of int64, shape (pages,)
        Colour of each page; empty where the pool has none.
    reg : ndarray of int64, shape (LAST + colours,)
        Scalars; see the constants.
    """

    counts: NDArray[np.int64]
    page: NDArray[np.int64]
    slot: NDArray[np.int64]
    free: NDArray[np.int64]
    stale: NDArray[np.int64]
    touched: NDArray[np.int64]
    colour: NDArray[np.int64]
    reg: NDArray[np.int64]


def new_pool(
    slots: int, pages: int, colours: int = 1, colour: NDArray[np.int64] | None = None
) -> Pool:
    """Pool as it is after boot: everything free, every cursor at its lane's first slot.

    Parameters
    ----------
    slots, pages
        Size of the pool, a multiple of the number of colours; number of pages.
    colours, colour
        Number of colours, and, if there is more than one, each page's.
    """
    if colours == 1 or colour is None:
        colours, colour = 1, np.zeros(0, np.int64)
    reg = np.zeros(LAST + colours, np.int64)
    reg[LAST:] = np.arange(colours) * (slots // colours)
    words = (slots + WORD - 1) // WORD
    free = np.zeros(words, np.int64)
    for s in range(slots):
        free[s // WORD] |= 1 << (s % WORD)
    return Pool(
        np.zeros(slots, np.int64),
        np.full(slots, -1, np.int64),
        np.full(pages, -1, np.int64),
        free,
        np.zeros(words, np.int64),
        np.zeros(words, np.int64),
        colour,
        reg,
    )


@piece
def colour_of(pool: Pool, page: int) -> int:
    """Colour of a page; get_pkmap_color()."""
    if pool.colour.shape[0] == 0:
        return 0
    return pool.colour[page]


@piece
def lane(pool: Pool, colour: int) -> tuple[int, int]:
    """First slot of a colour's lane, and the slot behind its last."""
    slots = pool.counts.shape[0]
    if pool.colour.shape[0] == 0:
        return 0, slots
    length = slots // (pool.reg.shape[0] - LAST)
    return colour * length, (colour + 1) * length


@piece
def lowest_slot(word: int, bits: int) -> int:
    """Slot of the lowest bit that is set in a word of a bitmap."""
    lowest = bits & -bits
    return word * WORD + _BIT[(lowest * _DE_BRUIJN & 0xFFFFFFFF) >> 27]


@piece
def next_free(pool: Pool, start: int, end: int) -> int:
    """First free slot from `start` on that lies before `end`, the end of a lane; else `end`."""
    if start >= end:
        return end
    word = start // WORD
    bits = pool.free[word] >> (start % WORD) << (start % WORD)
    while bits == 0:
        word += 1
        if word * WORD >= end:
            return end
        bits = pool.free[word]
    return min(end, lowest_slot(word, bits))


@piece
def touch(pool: Pool, slot: int) -> None:
    """Note that a slot is changed."""
    pool.touched[slot // WORD] |= 1 << (slot % WORD)


@piece
def set_count(pool: Pool, slot: int, count: int) -> None:
    """Set pkmap_count[slot] and keep bitmaps and totals with it."""
    old = pool.counts[slot]
    pool.counts[slot] = count
    word, bit = slot // WORD, 1 << (slot % WORD)
    touch(pool, slot)
    if (old == 0) != (count == 0):
        pool.free[word] ^= bit
    if (old == 1) != (count == 1):
        pool.stale[word] ^= bit
        pool.reg[STALE] += 1 if count == 1 else -1
    if (old >= 2) != (count >= 2):
        pool.reg[USED] += 1 if count >= 2 else -1


@piece
def drop(pool: Pool, slot: int) -> None:
    """Unmap a slot: pte_clear() and set_page_address(page, NULL)."""
    page = pool.page[slot]
    if page >= 0:
        pool.slot[page] = -1
    pool.page[slot] = -1
    set_count(pool, slot, 0)


@piece
def flush_all_zero_pkmaps(pool: Pool) -> int:
    """Free every stale slot; return how many. The TLB is flushed if there was one."""
    freed = 0
    for word in range(pool.stale.shape[0]):
        bits = pool.stale[word]
        while bits != 0:
            drop(pool, lowest_slot(word, bits))
            bits &= bits - 1
            freed += 1
    pool.reg[FREED] = freed
    return freed


@piece
def map_new_virtual(pool: Pool, page: int) -> int:
    """Find a slot for a page that has none; one attempt: ASLEEP if there is no free slot.

    The budget of visits is refilled at the lane's first slot, so an attempt that wraps visits
    all slots of the lane before it gives up, and leaves the cursor at its last slot.
    """
    colour = colour_of(pool, page)
    first, end = lane(pool, colour)
    last = pool.reg[LAST + colour]
    slot = next_free(pool, last + 1, end)
    pool.reg[SCANNED] = min(slot, end - 1) - last
    if slot == end:
        flush_all_zero_pkmaps(pool)
        slot = next_free(pool, first, end)
        pool.reg[SCANNED] += min(slot, end - 1) - first + 1
        if slot == end:
            pool.reg[LAST + colour] = end - 1
            return ASLEEP
    pool.reg[LAST + colour] = slot
    pool.page[slot] = page
    pool.slot[page] = slot
    set_count(pool, slot, 1)
    return slot


@piece
def kmap_high(pool: Pool, page: int) -> int:
    """Serve one kmap() of a highmem page; return the slot, or ASLEEP."""
    slot = pool.slot[page]
    pool.reg[SCANNED] = 0
    if slot < 0:
        slot = map_new_virtual(pool, page)
        if slot == ASLEEP:
            return ASLEEP
    set_count(pool, slot, pool.counts[slot] + 1)
    return slot


@piece
def kunmap_high(pool: Pool, page: int) -> int:
    """Drop one user of a page; return its slot, UNKNOWN if it is not mapped.

    The kernel's BUG() cases (no address, count reaches 0) are counted and change nothing.
    """
    slot = pool.slot[page]
    if slot < 0:
        pool.reg[ERRORS] += 1
        return UNKNOWN
    if pool.counts[slot] < 2:
        pool.reg[ERRORS] += 1
        return UNKNOWN
    set_count(pool, slot, pool.counts[slot] - 1)
    return slot


@piece
def place(pool: Pool, page: int, slot: int, count: int) -> None:
    """Force a slot's state: `page` (-1 unknown) mapped there with `count`."""
    drop(pool, slot)
    if page >= 0:
        if pool.slot[page] >= 0:
            drop(pool, pool.slot[page])
        pool.slot[page] = slot
    pool.page[slot] = page
    set_count(pool, slot, count)
