"""What tells how far purges had come: calls before and after, and the CPU that a purge needs.

For :mod:`replay.arena.loops.judge`; its types and registers are here too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from replay.arena.loops.freetree import NIL, Forest, give_back, lowest, take
from replay.arena.loops.shapes import shape_matters
from replay.compiled import part

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Columns of an event, in the order in which the calls were served. A TRY is the first attempt of
# an allocation that failed and purged. ALONE: no other was under way with it.
TRY, LO, HI, SIZE, ALIGN, VSTART, VEND, SEEN, ALONE = 0, 1, 2, 3, 4, 5, 6, 7, 8
COLUMNS = 9

# Columns of an area of which nothing tells whether a purge found it on the list: from the entry of
# that purge until the next one was over it may have waited. EARLY 1: it is supposed that it did,
# and it may have been back; 0: the other way round.
AREA, AREA_END, SINCE_ENTRY, UNTIL, EARLY = 0, 1, 2, 3, 4
LATE_COLUMNS = 5

# Columns of a purge that gave something back, in their order. REACH is the latest HI so far,
# SINCE the earliest LO from here on; SPAN and SPANS its first and last rows of `away`.
FIRST, LAST, REACH, SINCE, SPAN, SPANS = 0, 1, 2, 3, 4, 5
PURGE_COLUMNS = 6

# Bits of Ruling.found
SURE = 1  # no other state gives another answer
LEARNT = 2  # the first answer that an area which the snapshot lacks explains
OPEN = 4  # a purge may have given back more or less than the model has it
SHAPED = 8  # another shape of the tree could give it something else, but for these:
SAME_PATH = 16  # the last answer to such a request tells that none that fits does
ALIKE = 32  # the same, but that a leaf was put in next to the block that serves it

# Columns of what an answer told of the shape (:mod:`replay.arena.loops.paths`): the kind of the
# request, starts of the block that served it and of the one where the search begins, and STATE.
OF_SIZE, OF_ALIGN, OF_VSTART, OF_VEND, BLOCK, ANCHOR, STATE = 0, 1, 2, 3, 4, 5, 6
PATH_COLUMNS = 7
SAME, BELOW_PUT = 0, 1

# Positions in Ruling.reg
PHASE = 0
GIVEN = 1  # areas of the sequence that are back in `full`
PIECES = 2
PENDING = 3
BUDGET = 4  # steps that the comparison of states may still take
PIN = 5  # row of `away` in which the sequence is known to stand ...
PINNED = 6  # ... at no more than this
CLEAN = 7  # position at which the first purge is over: nothing waits that nobody saw freed
TAIL = 8  # in doubt from the start: below this address until CLEAN, above it always; 0: not so
PAGE = 9
LATE = 10  # first row of `late` that may still have waited
LOST_AT = 11  # first event before which what is free was LOST; 0: none
PATHS = 12
WHY = 13  # why it is LOST
REGISTERS = 14

# Reasons in WHY (replay.arena.left has the words)
MISSED = 0  # a call that does not end: its return was missed
CONTRADICTED = 1
UNTOLD = 2  # an allocation has no address, and more than one is possible
UNDECIDED = 3  # an answer tells that a purge found other areas, and not which
TOO_MANY = 4

# Phases
TRUSTED = 0
DOUBT = 1  # what the trace has not touched may be in use
LOST = 2  # what was known to be free was not, or the other way round

WINDOW = 64
"""Events behind one that are looked at for calls under way with it."""
MAX_PIECES = 4096
MAX_PENDING = 256
MAX_PATHS = 8
NO_LIMIT = 1 << 40
UNKNOWN = -1  # SEEN: no return was traced


class Ruling(NamedTuple):
    """State of the comparison beside the trees.

    Attributes
    ----------
    found : ndarray of uint8, shape (n,)
        Per event: see the bits; of a TRY SURE where it fails however little was back.
    answer : ndarray of int64, shape (n,)
        The answer where it is SURE.
    cap, most : ndarray of int64, shape (n,)
        Per event: areas that later calls show to have been back at most; those that its own answer
        allows.
    piece : ndarray of int64, shape (MAX_PIECES, 3)
        What the snapshot leaves free and the trace has not touched: start, end, and the least
        request that is known not to fit into it. Ascending.
    pending : ndarray of int64, shape (MAX_PENDING, 2)
        Ends of intervals, and how many areas must have been back by then.
    path : ndarray of int64, shape (MAX_PATHS, PATH_COLUMNS)
        What answers that depend on the tree's shape told of it.
    reg : ndarray of int64, shape (REGISTERS,)
    """

    found: NDArray[np.uint8]
    answer: NDArray[np.int64]
    cap: NDArray[np.int64]
    most: NDArray[np.int64]
    piece: NDArray[np.int64]
    pending: NDArray[np.int64]
    path: NDArray[np.int64]
    reg: NDArray[np.int64]


class Given(NamedTuple):
    """What purges give back.

    Attributes
    ----------
    area : ndarray of int64, shape (areas, 2)
        All areas in their order.
    listed : ndarray of uint8, shape (areas,)
        1 where nothing but the snapshot told that it had been freed, or part of it.
    purge : ndarray of int64, shape (purges, PURGE_COLUMNS)
    away : ndarray of int64, shape (spans, 2)
        Positions between which a purge's task was on no CPU.
    late : ndarray of int64, shape (areas, LATE_COLUMNS)
        Areas that a purge may have missed, by its entry.
    whole
        1 where a purge gives all its areas back under one lock.
    """

    area: NDArray[np.int64]
    listed: NDArray[np.uint8]
    purge: NDArray[np.int64]
    away: NDArray[np.int64]
    late: NDArray[np.int64]
    whole: int


@part
def first_at_least(values: NDArray[np.int64], column: int, bound: int) -> int:
    """First row whose value, which does not fall, is at least `bound`."""
    low, high = 0, values.shape[0]
    while low < high:
        middle = (low + high) // 2
        if values[middle, column] < bound:
            low = middle + 1
        else:
            high = middle
    return low


@part
def certainly_back(g: Given, lo: int) -> int:
    """Areas of the purges that were over at a position."""
    p = first_at_least(g.purge, REACH, lo)
    return g.purge[p, FIRST] if p < g.purge.shape[0] else g.area.shape[0]


@part
def perhaps_back(g: Given, hi: int) -> int:
    """Areas of the purges that had begun by a position."""
    p = first_at_least(g.purge, SINCE, hi + 1)
    return g.purge[p - 1, LAST] if p > 0 else 0


@part
def span_of(g: Given, least: int, most: int, lo: int, hi: int) -> int:
    """Row of `away` that spans an interval, where only one purge can be giving back; NIL none."""
    p = first_at_least(g.purge, LAST, least + 1)
    if p >= g.purge.shape[0] or g.purge[p, LAST] < most:
        return NIL
    for k in range(g.purge[p, SPAN], g.purge[p, SPANS]):
        if g.away[k, 0] <= lo and hi <= g.away[k, 1]:
            return k
    return NIL


@part
def end_of_step(g: Given, k: int) -> int:
    """Areas back after the one step that gives area `k` back."""
    if g.whole == 0:
        return k + 1
    p = first_at_least(g.purge, LAST, k + 1)
    return g.purge[p, LAST] if p < g.purge.shape[0] else k + 1


@part
def make_free(f: Forest, start: int, end: int) -> None:
    """Have all of an area free, whatever part of it is already.

    The trace saw it freed. Where the tree has a part of it free before it is given back, the tree
    was wrong until then: an old snapshot has an area there that waited, or has nothing there. What
    is given back is free all the same; a tree that lacked it would be no upper bound of what is.
    """
    if not give_back(f, 0, start, end):
        take(f, 0, start, end)
        give_back(f, 0, start, end)


@part
def give_up_to(full: Forest, known: Forest, g: Given, r: Ruling, n: int) -> None:
    """Have `n` areas of the sequence back."""
    if n > r.reg[GIVEN]:
        r.reg[PATHS] = 0
    for k in range(r.reg[GIVEN], n):
        start, end = g.area[k, 0], g.area[k, 1]
        make_free(full, start, end)
        if not g.listed[k]:
            make_free(known, start, end)
        _forget_limits(r, start, end)
    r.reg[GIVEN] = max(r.reg[GIVEN], n)


@part
def _forget_limits(r: Ruling, start: int, end: int) -> None:
    """What did not fit into pieces in doubt may fit now that an area there was given back.

    Before there is doubt nothing is known of that.
    """
    for k in range(r.reg[PIECES] if r.reg[PHASE] == DOUBT else 0):
        if r.piece[k, 0] < end and r.piece[k, 1] > start:
            r.piece[k, 2] = NO_LIMIT


@part
def fewest_back(g: Given, r: Ruling, lo: int) -> int:
    """Areas that were back at a position: purges that were over, and what earlier calls took."""
    least = certainly_back(g, lo)
    for k in range(r.reg[PENDING]):
        if r.pending[k, 0] < lo:
            least = max(least, r.pending[k, 1])
    return least


@part
def needed(g: Given, e: NDArray[np.int64], least: int, most: int) -> int:
    """Areas that must have been back for a call to get what it got."""
    need = least
    if e[SEEN] >= 0:
        for k in range(least, most):
            if g.area[k, 0] < e[SEEN] + e[SIZE] and g.area[k, 1] > e[SEEN]:
                need = max(need, end_of_step(g, k))
    return need


@part
def remember(r: Ruling, hi: int, need: int) -> None:
    """Note how many areas must have been back at the end of a call."""
    n = r.reg[PENDING]
    if n == MAX_PENDING:  # forget the weakest: less is known then, nothing wrong
        weakest = 0
        for k in range(n):
            if r.pending[k, 1] < r.pending[weakest, 1]:
                weakest = k
        r.pending[weakest, 0], r.pending[weakest, 1] = hi, need
        return
    kept = 0
    for k in range(n):  # one that came earlier and tells less is of no more use
        if not (r.pending[k, 0] >= hi and r.pending[k, 1] <= need):
            r.pending[kept, 0], r.pending[kept, 1] = r.pending[k, 0], r.pending[k, 1]
            kept += 1
    r.pending[kept, 0], r.pending[kept, 1] = hi, need
    r.reg[PENDING] = kept + 1


@part
def any_late(g: Given, r: Ruling, e: NDArray[np.int64]) -> bool:
    """Whether an area may still have waited that the model has free."""
    for k in range(r.reg[LATE], g.late.shape[0]):
        if g.late[k, SINCE_ENTRY] > e[HI]:
            return False
        if g.late[k, UNTIL] >= e[LO]:
            return True
    return False


@part
def in_time(g: Given, r: Ruling, e: NDArray[np.int64]) -> None:
    """What was handed out had been given back, so the purge had found it.

    That tells nothing of a later purge, which came when the area had been freed again.
    """
    start, end = e[SEEN], e[SEEN] + e[SIZE]
    for k in range(r.reg[LATE], g.late.shape[0]):
        if g.late[k, SINCE_ENTRY] > e[HI]:
            return
        if g.late[k, AREA] < end and g.late[k, AREA_END] > start:
            g.late[k, UNTIL] = -1


@part
def answer_of(f: Forest, e: NDArray[np.int64]) -> int:
    """What a request gets."""
    return int(lowest(f, 0, e[SIZE], e[ALIGN], e[VSTART], e[VEND]))


@part
def is_shaped(f: Forest, e: NDArray[np.int64]) -> bool:
    """Whether another shape of the tree could give it something else."""
    return bool(shape_matters(f, 0, e[SIZE], e[ALIGN], e[VSTART], e[VEND]))
