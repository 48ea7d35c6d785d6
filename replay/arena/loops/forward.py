"""The arena's calls served by the model alone: other addresses, failures and purges than captured.

Here nothing observed decides anything. Areas are known by number; where each lies is the model's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from replay.arena.loops.freetree import FAIL, Forest, give_back, lowest, take
from replay.arena.loops.lazy import BYTES, N_GIVEN, N_LAZY, PEAK, Lazy, detach
from replay.compiled import loop, part

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALLOC = 0
FREE = 1
PURGE = 2  # asked for by the kernel whatever the list's length: vm_unmap_aliases()

# Columns of a call. AREA is the number of the area; START and END of a PURGE the range that it
# was called with, SIZE who asked for it, which is nothing to the arena.
KIND, TIME, AREA, SIZE, ALIGN, START, END = 0, 1, 2, 3, 4, 5, 6
COLUMNS = 7

# Why a purge ran
ASKED = 0
LIMIT = 1  # more was waiting than lazy_max_pages()
FULL = 2  # an allocation found no room

# Positions in Forward.reg
DUE = 0  # when the worker will purge
BACK = 1  # when the areas of its last purge will be back
NUMBER = 2  # its purges so far
TAKEN = 3  # where those areas begin in `given`
REGISTERS = 4

NEVER = 1 << 62
NOTHING = 1 << 40
"""Start of an empty range."""


class Forward(NamedTuple):
    """What becomes of the calls.

    Attributes
    ----------
    area : ndarray of int64, shape (areas, 2)
        Start and end of each area while it is in use, start -1 else.
    result : ndarray of int64, shape (n,)
        Per call: address, or FAIL, of an allocation; bytes waiting after a free.
    purge : ndarray of int64, shape (purges, 5)
        Call at which each ran, its cause, the range that it flushed, and the bytes that it gave
        back.
    counts : ndarray of int64, shape (2,)
        Purges that flushed something; frees of areas that were not in use.
    reg : ndarray of int64, shape (REGISTERS,)
        What is under way; of earlier calls at the start.
    """

    area: NDArray[np.int64]
    result: NDArray[np.int64]
    purge: NDArray[np.int64]
    counts: NDArray[np.int64]
    reg: NDArray[np.int64]


def registers() -> NDArray[np.int64]:
    """Registers before the first call."""
    reg = np.zeros(REGISTERS, np.int64)
    reg[DUE] = reg[BACK] = NEVER
    return reg


@part(allocates=True)
def _flush(
    lazy: Lazy, out: Forward, order: int, call: int, cause: int, start: int, end: int
) -> int:
    """Flush the hull of the list and of [start, end), and take the list; return where it begins.

    Its areas are those of `lazy.given` from there on.
    """
    n = lazy.reg[N_LAZY]
    if n == 0:
        return int(lazy.reg[N_GIVEN])
    given = 0
    for j in range(n):
        start = min(start, lazy.waiting[j, 0])
        end = max(end, lazy.waiting[j, 1])
        given += lazy.waiting[j, 1] - lazy.waiting[j, 0]
    first = lazy.reg[N_GIVEN]
    detach(lazy, np.zeros(n, np.uint8), order, 0)
    at = out.counts[0]
    out.purge[at, 0], out.purge[at, 1] = call, cause
    out.purge[at, 2], out.purge[at, 3] = start, end
    out.purge[at, 4] = given
    out.counts[0] = at + 1
    return int(first)


@part
def _give(f: Forest, lazy: Lazy, first: int) -> None:
    """Give the areas back that a purge took."""
    for g in range(first, lazy.reg[N_GIVEN]):
        give_back(f, 0, lazy.given[g, 0], lazy.given[g, 1])


@loop(allocates=True)
def run(
    f: Forest,
    lazy: Lazy,
    out: Forward,
    call: NDArray[np.int64],
    order: int,
    limit: int,
    delay: NDArray[np.int64],
    spell: NDArray[np.int64],
) -> None:
    """Serve the calls in their order.

    Parameters
    ----------
    f
        One tree, with room for a node per call.
    lazy
        The list at the start, with room for all frees.
    out
        Filled.
    call : ndarray of int64, shape (n, COLUMNS)
        Calls in lock order.
    order
        How a purge gives areas back; see :mod:`replay.arena.loops.lazy`.
    limit
        lazy_max_pages() in bytes.
    delay, spell : ndarray of int64, shape (n,)
        ns from the free that passes the limit to the purge, and from there until its areas are
        back, of the first, the second, … such purge, the last one for all that follow; 0 where
        the freeing task purges.
    """
    due, back = out.reg[DUE], out.reg[BACK]
    number, taken = out.reg[NUMBER], out.reg[TAKEN]
    for i in range(call.shape[0]):
        kind = call[i, KIND]
        if call[i, TIME] >= due:
            taken = _flush(lazy, out, order, i, LIMIT, NOTHING, 0)
            back = due + spell[min(number, spell.shape[0] - 1)]
            number += 1
            due = NEVER
        if back != NEVER and (call[i, TIME] >= back or kind == PURGE):
            _give(f, lazy, taken)  # vmap_purge_lock: another purge waits for it
            back = NEVER
        if kind == ALLOC:
            size, align, vstart, vend = call[i, SIZE], call[i, ALIGN], call[i, START], call[i, END]
            at = lowest(f, 0, size, align, vstart, vend)
            if at == FAIL:
                if back != NEVER:
                    _give(f, lazy, taken)
                    back = NEVER
                _give(f, lazy, _flush(lazy, out, order, i, FULL, NOTHING, 0))
                at = lowest(f, 0, size, align, vstart, vend)
            out.result[i] = at
            if at != FAIL:
                take(f, 0, at, at + size)
                out.area[call[i, AREA], 0], out.area[call[i, AREA], 1] = at, at + size
        elif kind == FREE:
            area = call[i, AREA]
            if out.area[area, 0] >= 0:
                n = lazy.reg[N_LAZY]
                lazy.waiting[n, 0], lazy.waiting[n, 1] = out.area[area, 0], out.area[area, 1]
                lazy.waiting[n, 3] = -1
                lazy.reg[N_LAZY] = n + 1
                lazy.reg[BYTES] += out.area[area, 1] - out.area[area, 0]
                lazy.reg[PEAK] = max(lazy.reg[PEAK], lazy.reg[BYTES])
                out.area[area, 0] = -1
            else:
                out.counts[1] += 1
            if lazy.reg[BYTES] > limit and due == NEVER and back == NEVER:
                due = call[i, TIME] + delay[min(number, delay.shape[0] - 1)]
                if due == call[i, TIME]:
                    _give(f, lazy, _flush(lazy, out, order, i, LIMIT, NOTHING, 0))
                    due = NEVER
            out.result[i] = lazy.reg[BYTES]
        else:
            start, end = call[i, START], call[i, END]
            _give(f, lazy, _flush(lazy, out, order, i, ASKED, start, end))
    out.reg[DUE], out.reg[BACK], out.reg[NUMBER], out.reg[TAKEN] = due, back, number, taken
