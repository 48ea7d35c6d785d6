"""From rows of the event table to the pool's calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from collectors.events import IN_INTERRUPT, OP_CODE
from replay.compiled import loop, piece

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.pool.calls import CallColumns

NONE = -1
"""What is not known, in every column."""
NO_OP = len(OP_CODE)

# What a row is to the pool
OWN = 1  # shows that its task's call before is over
CALL = 2
FLUSHES = 4  # a run of flush_all_zero_pkmaps
SLEEPS = 8  # its task went to sleep
TLB_FLUSH = 16  # of the whole window

# What a call does to the pool
NOTHING = 0  # kmap_high_get() that found no mapping
MAPS = 1
UNMAPS = 2

# Positions in Place.reg: the pool's window, and what is known of the whole trace
BASE = 0
END = 1
PAGE_SIZE = 2
SLOTS = 3
COLOURS = 4
GETS_TRACED = 5
PASSES_TRACED = 6
REGISTERS = 7

GET_CODE = 2
"""As replay.pool.calls.GET_CODE."""
FAR = 1 << 60
"""Place in the stream behind every event."""
_UNKNOWN_PAGE = np.uint64(1 << 63)
_UNPREDICTED = -2
UNSET = -(1 << 63)
"""A time that is not known."""

_KMAP, _KUNMAP, _KMAP_GET, _KMAP_LOCAL = (
    OP_CODE[op] for op in ("kmap", "kunmap", "kmap_get", "kmap_local")
)
_POOL_FLUSH, _FLUSH_RANGE, _FLUSH_UNUSED = (
    OP_CODE[op] for op in ("pool_flush", "flush_range", "flush_unused")
)
_SWITCH, _USER_FLUSH = OP_CODE["switch"], OP_CODE["tlb_flush"]


class PoolRows(NamedTuple):
    """Columns of a piece of the event table, NONE where null.

    Attributes
    ----------
    op, ctx : ndarray of uint8
        Codes of :data:`collectors.events.OP_CODE`, NO_OP; a row without flags counts as one that
        an interrupt made.
    blocked : ndarray of bool
    pid : ndarray of int32
    cpu : ndarray of uint16
    seq, end_seq, ts, end_ts, page, pfn, vaddr, start, end, parent : ndarray of int64
        `end_ts` is UNSET where the trace shows no return.
    """

    op: NDArray[np.uint8]
    ctx: NDArray[np.uint8]
    blocked: NDArray[np.bool_]
    pid: NDArray[np.int32]
    cpu: NDArray[np.uint16]
    seq: NDArray[np.int64]
    end_seq: NDArray[np.int64]
    ts: NDArray[np.int64]
    end_ts: NDArray[np.int64]
    page: NDArray[np.int64]
    pfn: NDArray[np.int64]
    vaddr: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    parent: NDArray[np.int64]


@piece
def _is_call(rows: PoolRows, i: int, place: NDArray[np.int64]) -> bool:
    """Whether a row is a call on the pool of which anything is known.

    kmap_local() that got a mapping of the pool shows what kmap_high_get() found.
    """
    op = rows.op[i]
    if op == _KMAP_LOCAL:
        inside = place[BASE] <= rows.vaddr[i] < place[END]
        return inside and not place[GETS_TRACED]
    is_call = op in (_KMAP, _KUNMAP, _KMAP_GET)
    return is_call and (rows.page[i] != NONE or rows.vaddr[i] != NONE)


@piece
def _is_own(rows: PoolRows, i: int) -> bool:
    """Whether a row shows that its task's call before is over, whatever call that was.

    Not switches and the TLB flushes that come with them, for a task can be switched out in the
    middle of a call; not what interrupts did on top of it; not the flushes that a call itself
    makes: kmap_high() may flush, and then sleep for ever.
    """
    op = rows.op[i]
    if op in (_SWITCH, _USER_FLUSH, NO_OP) or rows.ctx[i] & IN_INTERRUPT:
        return False
    return rows.parent[i] == NONE or (op not in (_POOL_FLUSH, _FLUSH_RANGE))


@loop
def classify(
    rows: PoolRows,
    place: NDArray[np.int64],
    what: NDArray[np.uint8],
    nameless: NDArray[np.int64],
) -> int:
    """Tell what rows are to the pool.

    Parameters
    ----------
    rows
        A piece of the event table.
    place : ndarray of int64, shape (REGISTERS,)
        The window, and what is known of the whole trace.
    what : ndarray of uint8, shape (rows,)
        Filled: OWN, CALL, FLUSHES, SLEEPS, TLB_FLUSH.
    nameless : ndarray of int64, shape (2,)
        Increased: kmap() and kunmap() calls of which nothing is known (function tracer).

    Returns
    -------
    int
        Number of calls.
    """
    calls = 0
    for i in range(rows.op.shape[0]):
        op = rows.op[i]
        bits = 0
        if _is_own(rows, i):
            bits |= OWN
        if _is_call(rows, i, place):
            bits |= CALL
            calls += 1
        elif op == _KMAP:
            nameless[0] += 1
        elif op == _KUNMAP:
            nameless[1] += 1
        if op == _SWITCH and rows.blocked[i]:
            bits |= SLEEPS
        if op == _FLUSH_RANGE and rows.start[i] == place[BASE] and rows.end[i] == place[END]:
            bits |= TLB_FLUSH
        # Where flush_all_zero_pkmaps() is not probed, the TLB flush of the whole window shows the
        # runs that freed something, and __kmap_flush_unused() those that it made.
        if place[PASSES_TRACED]:
            if op == _POOL_FLUSH:
                bits |= FLUSHES
        elif op == _FLUSH_UNUSED or bits & TLB_FLUSH:
            bits |= FLUSHES
        what[i] = bits
    return calls


@piece
def _slot(vaddr: int, place: NDArray[np.int64]) -> int:
    """Slot of an address as the loops number them, a colour's together; NONE outside the pool."""
    if not place[BASE] <= vaddr < place[END]:
        return NONE
    slot = (vaddr - place[BASE]) // place[PAGE_SIZE]
    colours = place[COLOURS]
    return slot % colours * (place[SLOTS] // colours) + slot // colours


@loop
def enter(
    rows: PoolRows,
    what: NDArray[np.uint8],
    place: NDArray[np.int64],
    calls: CallColumns,
    first: int,
    first_row: int,
    unknown_pages: int,
) -> int:
    """Write the calls of a piece down.

    Parameters
    ----------
    rows, what, place
        As for :func:`classify`.
    calls
        Filled from `first` on.
    first
        Calls that there are already.
    first_row
        Number of the first row.
    unknown_pages
        Pages so far that are known by a number of their own: those of returns whose entry was lost.

    Returns
    -------
    int
        The same behind this piece.
    """
    c = first
    for i in range(rows.op.shape[0]):
        if not what[i] & CALL:
            continue
        op = rows.op[i]
        code = 0 if op == _KMAP else 1 if op == _KUNMAP else GET_CODE
        page = np.uint64(rows.page[i])
        if rows.page[i] == NONE or rows.page[i] == 0:
            page = _UNKNOWN_PAGE + np.uint64(unknown_pages)
            unknown_pages += 1
        seen = _slot(rows.vaddr[i], place)
        calls.row[c] = first_row + i
        calls.seq[c] = rows.seq[i]
        calls.end[c] = max(rows.end_seq[i], rows.seq[i])  # behind its entry, whatever it says
        calls.ended[c] = False
        calls.returned[c] = rows.end_seq[i] != NONE
        calls.ts[c] = rows.ts[i]
        calls.end_ts[c] = rows.ts[i] if rows.end_ts[i] == UNSET else rows.end_ts[i]
        calls.pid[c], calls.cpu[c] = rows.pid[i], rows.cpu[i]
        calls.code[c] = code
        calls.role[c] = MAPS if code == 0 or (code == GET_CODE and seen >= 0) else NOTHING
        if code == 1:
            calls.role[c] = UNMAPS
        calls.page[c] = page
        calls.pfn[c], calls.vaddr[c], calls.seen[c] = rows.pfn[i], rows.vaddr[i], seen
        calls.entered[c], calls.returned_at[c] = NONE, FAR
        calls.flushed_in[c], calls.last_pass[c], calls.final_pass[c] = NONE, NONE, NONE
        calls.status[c], calls.placed[c], calls.out_row[c] = 0, False, NONE
        calls.predicted[c], calls.sleeps[c] = _UNPREDICTED, 0
        calls.first_try[c], calls.last_try[c] = UNSET, UNSET
        c += 1
    return unknown_pages
