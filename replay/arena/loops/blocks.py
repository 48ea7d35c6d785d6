"""vm_map_ram() of up to 32 pages: blocks cut into pieces, a queue of them per CPU (mm/vmalloc.c).

A piece is taken from the first block in the current CPU's queue with room for it, always behind
the last one (space inside a block is not used again); where none has room a new block comes from
the arena. A block is given up when all of it was unmapped, or when a purge finds nothing but
unmapped and (to be lost) untouched space in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from replay.compiled import loop, part

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Kinds of events
MAP = 0  # a piece, at the return of vm_map_ram()
TRY = 1  # a call that went on to allocate a block, when it had looked through the queue
NEW = 2  # its block joins the queue of the CPU, with the call's own piece in it
UNMAP = 3
RELEASE = 4  # free_vmap_area_noflush() of an area that may be a block
ALIAS = 5  # vm_unmap_aliases()
OPEN = 6  # from here on it may look at the blocks; LO is the number of its ALIAS event

# Columns of an event. ADDRESS: what the kernel returned or was given, -1 unknown. UNITS: pages,
# rounded up to a power of two. CPU, CPU2: at entry and return. LO: entry. END of an ALIAS: end
# of the range that it handed on (ADDRESS its start).
KIND, ADDRESS, UNITS, CPU, CPU2, LO, END = 0, 1, 2, 3, 4, 5, 6
COLUMNS = 7

NO_BLOCK = -2  # predicted: no block has room

# Status of an event
PLAIN = 0
ORDERED = 1  # another CPU's queue, or an earlier place among overlapping calls
LEARNT = 2  # the address told of a block that was there at the start

# Columns of a block
START, LEFT, DIRTY, DIRTY_MIN, DIRTY_MAX, OWNER, QUEUED, GUESSED = 0, 1, 2, 3, 4, 5, 6, 7
BLOCK_COLUMNS = 8  # GUESSED: what of it was unmapped before is not known
UNKNOWN = -1  # LEFT: a block of the snapshot, of which nothing is known yet

WINDOW = 64
"""Events behind one that are looked at for calls that were under way with it."""

MAX_OPEN = 64
"""Calls of vm_unmap_aliases() that may be under way at once."""

# What of the range of an ALIAS was seen while it may have looked at the blocks
MET_START = 1
MET_END = 2

# Positions in Blocks.reg
COUNT = 0
OPENED = 1
PAGE_SIZE = 2  # bytes
REGISTERS = 3


class Blocks(NamedTuple):
    """Blocks in the order in which they joined a queue, and what is predicted.

    Attributes
    ----------
    block : ndarray of int64, shape (capacity, BLOCK_COLUMNS)
    predicted, predicted_end : ndarray of int64, shape (n,)
        Per event: the piece's address or NO_BLOCK; for ALIAS the range; for RELEASE 1 where the
        model lets the block go, 0 where not, -1 where it is no block or little is known of it.
    status : ndarray of uint8, shape (n,)
    placed : ndarray of uint8, shape (n,)
    met : ndarray of uint8, shape (n,)
        Per ALIAS: MET_START, MET_END.
    under_way : ndarray of int64, shape (MAX_OPEN,)
        ALIAS events to come that may be looking at the blocks.
    reg : ndarray of int64, shape (REGISTERS,)
    """

    block: NDArray[np.int64]
    predicted: NDArray[np.int64]
    predicted_end: NDArray[np.int64]
    status: NDArray[np.uint8]
    placed: NDArray[np.uint8]
    met: NDArray[np.uint8]
    under_way: NDArray[np.int64]
    reg: NDArray[np.int64]


def new_blocks(events: int, initial: NDArray[np.int64], page_size: int) -> Blocks:
    """State with the blocks (start addresses) that the snapshot lists; `page_size` in bytes."""
    block = np.zeros((events + initial.size + 1, BLOCK_COLUMNS), np.int64)
    block[: initial.size, START] = initial
    block[: initial.size, LEFT] = UNKNOWN
    block[: initial.size, OWNER] = -1
    return Blocks(
        block,
        np.full(events, -1, np.int64),
        np.full(events, -1, np.int64),
        np.zeros(events, np.uint8),
        np.zeros(events, np.uint8),
        np.zeros(events, np.uint8),
        np.zeros(MAX_OPEN, np.int64),
        np.array([initial.size, 0, page_size], np.int64),
    )


def continued(blocks: Blocks, events: int) -> Blocks:
    """The same blocks, with room for what so many more events tell."""
    count = int(blocks.reg[COUNT])
    more = new_blocks(events, blocks.block[:0, START], int(blocks.reg[PAGE_SIZE]))
    block = np.zeros((events + count + 1, BLOCK_COLUMNS), np.int64)
    block[:count] = blocks.block[:count]
    more.reg[COUNT] = count
    return more._replace(block=block)


@part
def _size(b: Blocks, bits: int) -> int:
    """VMAP_BLOCK_SIZE."""
    return bits * b.reg[PAGE_SIZE]


@part
def _find(b: Blocks, address: int, bits: int) -> int:
    """Block that holds an address, -1 none."""
    for k in range(b.reg[COUNT]):
        if b.block[k, START] <= address < b.block[k, START] + _size(b, bits):
            return k
    return -1


@part
def _add(b: Blocks, start: int, left: int, cpu: int) -> None:
    k = b.reg[COUNT]
    b.reg[COUNT] += 1
    b.block[k, START], b.block[k, LEFT] = start, left
    b.block[k, DIRTY], b.block[k, DIRTY_MIN], b.block[k, DIRTY_MAX] = 0, np.int64(1) << 40, 0
    b.block[k, OWNER], b.block[k, QUEUED], b.block[k, GUESSED] = cpu, left > 0, 0


@part
def _remove(b: Blocks, k: int) -> None:
    for j in range(k, b.reg[COUNT] - 1):
        for column in range(BLOCK_COLUMNS):
            b.block[j, column] = b.block[j + 1, column]
    b.reg[COUNT] -= 1


@part
def _look(b: Blocks, cpu: int, units: int) -> int:
    """First block in a CPU's queue with room: vb_alloc(); -1 none."""
    for k in range(b.reg[COUNT]):
        if b.block[k, QUEUED] == 1 and b.block[k, OWNER] == cpu and b.block[k, LEFT] >= units:
            return k
    return -1


@part
def _where(b: Blocks, cpu: int, units: int, bits: int) -> int:
    """Address of the next piece."""
    k = _look(b, cpu, units)
    return NO_BLOCK if k < 0 else b.block[k, START] + (bits - b.block[k, LEFT]) * b.reg[PAGE_SIZE]


@part
def _cut(b: Blocks, k: int, left: int) -> None:
    b.block[k, LEFT] = left
    b.block[k, QUEUED] = left > 0


@part
def _map(b: Blocks, event: NDArray[np.int64], i: int, bits: int) -> None:
    """One piece, at its place."""
    e = event[i]
    seen, units = e[ADDRESS], e[UNITS]
    b.placed[i] = 1
    cpu = e[CPU]
    best = _where(b, cpu, units, bits)
    if best != seen and e[CPU2] != cpu and _where(b, e[CPU2], units, bits) == seen:
        cpu, best = e[CPU2], seen
        b.status[i] = ORDERED
    if best != seen and seen >= 0:
        # a call under way that took this piece first
        for j in range(i + 1, min(event.shape[0], i + WINDOW)):
            o = event[j]
            under_way = o[KIND] == MAP and b.placed[j] == 0 and o[LO] < e[LO] + e[END]
            if under_way and o[CPU] == cpu and o[ADDRESS] == best == _where(b, cpu, o[UNITS], bits):
                k = _look(b, cpu, o[UNITS])
                _cut(b, k, b.block[k, LEFT] - o[UNITS])
                b.placed[j] = 1
                b.predicted[j] = best
                b.status[j] = ORDERED
                best = _where(b, cpu, units, bits)
                if best == seen:
                    break
    b.predicted[i] = best
    k = _look(b, cpu, units)
    if best != seen and seen >= 0:
        k = _find(b, seen, bits)
        if k < 0 or b.block[k, LEFT] == UNKNOWN:
            b.status[i] = LEARNT
            start = seen // _size(b, bits) * _size(b, bits)
            if k >= 0:
                _remove(b, k)
            _add(b, start, bits, cpu)
            k = b.reg[COUNT] - 1
            b.block[k, GUESSED] = 1
        left = bits - (seen - b.block[k, START]) // b.reg[PAGE_SIZE] - units
        _cut(b, k, max(min(left, b.block[k, LEFT]), 0))
    elif k >= 0:
        _cut(b, k, b.block[k, LEFT] - units)


@part
def _release(b: Blocks, address: int, bits: int) -> int:
    """Let a block go; whether free_vmap_block() or purge_fragmented_blocks() would."""
    k = _find(b, address, bits)
    if k < 0 or b.block[k, START] != address:
        return -1
    dirty, left = b.block[k, DIRTY], b.block[k, LEFT]
    known = left != UNKNOWN and b.block[k, GUESSED] == 0
    _remove(b, k)
    if not known:
        return -1
    return 1 if bits in (dirty, left + dirty) else 0


@part
def _visited(b: Blocks, k: int, bits: int, forget: int) -> bool:
    """Whether vm_unmap_aliases() looks at a block, and finds it dirty."""
    left, dirty = b.block[k, LEFT], b.block[k, DIRTY]
    if forget:
        seen = left != UNKNOWN and not (left + dirty == bits and left < bits // 4)
    else:
        seen = b.block[k, QUEUED] == 1
    return bool(seen and 0 < dirty < bits and b.block[k, DIRTY_MAX] > 0)


@part
def vm_unmap_aliases(b: Blocks, bits: int, forget: int) -> tuple[int, int]:
    """Range of all unmapped pieces in blocks; (-1, -1) none.

    With `forget` (dirty_range_reset) each is flushed once only, blocks that have left their queue
    are visited too, and one that is given up at this visit is no part of the range: nothing in it
    is in use, and less than a quarter was never used. Else only those in a queue count.
    """
    start, end = np.int64(1) << 40, np.int64(-1)
    page = b.reg[PAGE_SIZE]
    for k in range(b.reg[COUNT]):
        if _visited(b, k, bits, forget):
            start = min(start, b.block[k, START] + b.block[k, DIRTY_MIN] * page)
            end = max(end, b.block[k, START] + b.block[k, DIRTY_MAX] * page)
    return (int(start), int(end)) if end >= 0 else (-1, -1)


@part
def _reset(b: Blocks, bits: int) -> None:
    """Forget what was flushed."""
    for k in range(b.reg[COUNT]):
        if _visited(b, k, bits, 1):
            b.block[k, DIRTY_MIN], b.block[k, DIRTY_MAX] = np.int64(1) << 40, 0


@part
def _look_on(b: Blocks, event: NDArray[np.int64], bits: int, forget: int) -> None:
    """Compare the range as it is now with those of the calls that may be looking."""
    if b.reg[OPENED] == 0:
        return
    start, end = vm_unmap_aliases(b, bits, forget)
    for n in range(b.reg[OPENED]):
        i = b.under_way[n]
        if start == event[i, ADDRESS]:
            b.met[i] |= MET_START
        if end == event[i, END]:
            b.met[i] |= MET_END


@part
def _alias(b: Blocks, event: NDArray[np.int64], i: int, bits: int, forget: int) -> None:
    """A call that has looked at all blocks, one after another while others may unmap pieces."""
    for n in range(b.reg[OPENED]):
        if b.under_way[n] == i:
            b.reg[OPENED] -= 1
            b.under_way[n] = b.under_way[b.reg[OPENED]]
            break
    start, end = vm_unmap_aliases(b, bits, forget)
    if forget:
        _reset(b, bits)
    seen = event[i, ADDRESS], event[i, END]
    if (start, end) != seen and b.met[i] == MET_START | MET_END:
        start, end = seen
        b.status[i] = ORDERED
    b.predicted[i], b.predicted_end[i] = start, end


@loop
def run(b: Blocks, event: NDArray[np.int64], bits: int, forget: int) -> None:
    """Follow the blocks through a trace.

    Parameters
    ----------
    b
        State at the start; filled.
    event : ndarray of int64, shape (n, COLUMNS)
        In order of their default places. END of a MAP: length of its interval.
    bits
        VMAP_BBMAP_BITS: pages of a block.
    forget
        1 where a flush resets the dirty range.
    """
    for i in range(event.shape[0]):
        e = event[i]
        kind = e[KIND]
        if kind == MAP:
            if b.placed[i] == 0:
                _map(b, event, i, bits)
        elif kind == TRY:
            b.predicted[i] = _where(b, e[CPU], e[UNITS], bits)
        elif kind == NEW:
            _add(b, e[ADDRESS], bits - e[UNITS], e[CPU])
        elif kind == UNMAP:
            k = _find(b, e[ADDRESS], bits)
            if k >= 0 and b.block[k, LEFT] != UNKNOWN:
                offset = (e[ADDRESS] - b.block[k, START]) // b.reg[PAGE_SIZE]
                b.block[k, DIRTY] += e[UNITS]
                b.block[k, DIRTY_MIN] = min(b.block[k, DIRTY_MIN], offset)
                b.block[k, DIRTY_MAX] = max(b.block[k, DIRTY_MAX], offset + e[UNITS])
        elif kind == RELEASE:
            b.predicted[i] = _release(b, e[ADDRESS], bits)
        elif kind == OPEN:
            if b.reg[OPENED] < MAX_OPEN:
                b.under_way[b.reg[OPENED]] = e[LO]
                b.reg[OPENED] += 1
        else:
            _alias(b, event, i, bits, forget)
        if kind != ALIAS:
            _look_on(b, event, bits, forget)
