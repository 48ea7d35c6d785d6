"""Which answers no other state that fits the evidence would have given.

A request whose answer does not depend on the tree's shape gets the lowest place that fits, so the
more is free, the lower its answer (from the top down: the higher). What is free is known but for
three things, each of which only adds to it:

- A purge gives areas back one after another, on a CPU, while others allocate. All purges together
  give back one sequence of areas (vmap_purge_lock), and how far it had come is all that can
  differ. A request has one possible answer where the fewest areas that may have been back and the
  most of them lead to the same one.
- A free that was under way when a purge took the list may have reached it too late.
- /proc/vmallocinfo may lack areas that were in use or lazily freed. What the trace itself showed
  to be given back is known to be free; the rest of what the snapshot leaves free is in doubt once
  an answer contradicts it.

The order of overlapping calls is given (:mod:`replay.arena.loops.order`): with the same areas
back, every other order contradicts the address of another call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from replay.arena.loops.freetree import (
    END,
    FAIL,
    HIGH,
    NIL,
    SPARE,
    START,
    Forest,
    fits,
    give_back,
    lowest,
    neighbours,
    take,
)
from replay.arena.loops.shapes import copy, count, shape_matters
from replay.compiled import loop, part

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Columns of an event, in the order in which the calls were served. A TRY is the first attempt of
# an allocation that failed and purged. ALONE: no other was under way with it.
TRY, LO, HI, SIZE, ALIGN, VSTART, VEND, SEEN, ALONE = 0, 1, 2, 3, 4, 5, 6, 7, 8
COLUMNS = 9

# Columns of an area of which nothing tells whether a purge found it on the list: from the entry of
# that purge until the next one was over it may have waited.
AREA, AREA_END, SINCE_ENTRY, UNTIL = 0, 1, 2, 3

# Columns of a purge that gave something back, in their order. REACH is the latest HI so far,
# SINCE the earliest LO from here on; SPAN and SPANS its first and last rows of `away`.
FIRST, LAST, REACH, SINCE, SPAN, SPANS = 0, 1, 2, 3, 4, 5
PURGE_COLUMNS = 6

# Bits of Ruling.found
SURE = 1  # no other state gives another answer
LEARNT = 2  # the first answer that an area which the snapshot lacks explains
OPEN = 4  # a purge may have given back more or less than the model has it

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
REGISTERS = 12

# Phases
TRUSTED = 0
DOUBT = 1  # what the trace has not touched may be in use
LOST = 2  # what was known to be free was not, or the other way round

WINDOW = 64
"""Events behind one that are looked at for calls under way with it."""
MAX_PIECES = 4096
MAX_PENDING = 256
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
    reg : ndarray of int64, shape (REGISTERS,)
    """

    found: NDArray[np.uint8]
    answer: NDArray[np.int64]
    cap: NDArray[np.int64]
    most: NDArray[np.int64]
    piece: NDArray[np.int64]
    pending: NDArray[np.int64]
    reg: NDArray[np.int64]


class Given(NamedTuple):
    """What purges give back.

    Attributes
    ----------
    area : ndarray of int64, shape (areas, 2)
        All areas in their order.
    purge : ndarray of int64, shape (purges, PURGE_COLUMNS)
    away : ndarray of int64, shape (spans, 2)
        Positions between which a purge's task was on no CPU.
    late : ndarray of int64, shape (areas, 4)
        Areas that a purge may have missed, by its entry.
    whole
        1 where a purge gives all its areas back under one lock.
    """

    area: NDArray[np.int64]
    purge: NDArray[np.int64]
    away: NDArray[np.int64]
    late: NDArray[np.int64]
    whole: int


@part
def _first_at_least(values: NDArray[np.int64], column: int, bound: int) -> int:
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
def _certainly_back(g: Given, lo: int) -> int:
    """Areas of the purges that were over at a position."""
    p = _first_at_least(g.purge, REACH, lo)
    return g.purge[p, FIRST] if p < g.purge.shape[0] else g.area.shape[0]


@part
def _perhaps_back(g: Given, hi: int) -> int:
    """Areas of the purges that had begun by a position."""
    p = _first_at_least(g.purge, SINCE, hi + 1)
    return g.purge[p - 1, LAST] if p > 0 else 0


@part
def _span_of(g: Given, least: int, most: int, lo: int, hi: int) -> int:
    """Row of `away` that spans an interval, where only one purge can be giving back; NIL none."""
    p = _first_at_least(g.purge, LAST, least + 1)
    if p >= g.purge.shape[0] or g.purge[p, LAST] < most:
        return NIL
    for k in range(g.purge[p, SPAN], g.purge[p, SPANS]):
        if g.away[k, 0] <= lo and hi <= g.away[k, 1]:
            return k
    return NIL


@part
def _end_of_step(g: Given, k: int) -> int:
    """Areas back after the one step that gives area `k` back."""
    if g.whole == 0:
        return k + 1
    p = _first_at_least(g.purge, LAST, k + 1)
    return g.purge[p, LAST] if p < g.purge.shape[0] else k + 1


@part
def _give_up_to(full: Forest, known: Forest, g: Given, r: Ruling, n: int) -> None:
    """Have `n` areas of the sequence back."""
    for k in range(r.reg[GIVEN], n):
        give_back(full, 0, g.area[k, 0], g.area[k, 1])
        give_back(known, 0, g.area[k, 0], g.area[k, 1])
    r.reg[GIVEN] = max(r.reg[GIVEN], n)


@part
def _fill(full: Forest, room: Forest) -> None:
    """Make the tree of `room` equal to `full`."""
    room.reg[HIGH], room.reg[SPARE] = 0, NIL
    room.root[0] = NIL
    copy(full, 0, room, 0)


@part
def _answer(f: Forest, e: NDArray[np.int64]) -> int:
    return int(lowest(f, 0, e[SIZE], e[ALIGN], e[VSTART], e[VEND]))


@part
def _shaped(f: Forest, e: NDArray[np.int64]) -> bool:
    return bool(shape_matters(f, 0, e[SIZE], e[ALIGN], e[VSTART], e[VEND]))


@part
def _least(g: Given, r: Ruling, lo: int) -> int:
    """Areas that were back at a position: purges that were over, and what earlier calls took."""
    least = _certainly_back(g, lo)
    for k in range(r.reg[PENDING]):
        if r.pending[k, 0] < lo:
            least = max(least, r.pending[k, 1])
    return least


@part
def _needed(g: Given, e: NDArray[np.int64], least: int, most: int) -> int:
    """Areas that must have been back for a call to get what it got."""
    need = least
    if e[SEEN] >= 0:
        for k in range(least, most):
            if g.area[k, 0] < e[SEEN] + e[SIZE] and g.area[k, 1] > e[SEEN]:
                need = max(need, _end_of_step(g, k))
    return need


@part
def _remember(r: Ruling, hi: int, need: int) -> None:
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
def _at_fewest(full: Forest, room: Forest, g: Given, r: Ruling, least: int) -> None:
    """Make `room` what was free when only `least` areas were back."""
    _fill(full, room)
    for k in range(least, r.reg[GIVEN]):
        take(room, 0, g.area[k, 0], g.area[k, 1])
    for k in range(r.reg[GIVEN], least):
        give_back(room, 0, g.area[k, 0], g.area[k, 1])


@part
def _most_that_explain(
    full: Forest, room: Forest, g: Given, r: Ruling, e: NDArray[np.int64], most: int
) -> int:  # fmt: skip
    """Areas that may have been back at most, for the call's answer to be what it was."""
    _fill(full, room)
    k = r.reg[GIVEN]
    while k < most:
        end = _end_of_step(g, k)
        for n in range(k, end):
            give_back(room, 0, g.area[n, 0], g.area[n, 1])
        r.reg[BUDGET] -= end - k
        if _answer(room, e) != e[SEEN]:
            return k
        k = end
    return most


@part
def _split(r: Ruling, k: int, at: int) -> None:
    """Make two pieces of one; where there are too many, doubt cannot be told from loss."""
    if r.reg[PIECES] == MAX_PIECES:
        if r.reg[PHASE] == DOUBT:
            r.reg[PHASE] = LOST
        r.reg[PIECES] = 0
        return
    for j in range(r.reg[PIECES], k, -1):
        for column in range(3):
            r.piece[j, column] = r.piece[j - 1, column]
    r.reg[PIECES] += 1
    r.piece[k, 1], r.piece[k + 1, 0] = at, at


@part
def _carve_piece(r: Ruling, start: int, end: int) -> None:
    """What the trace touched is in doubt no more."""
    k = _piece_in(r, start, end)
    if k != NIL and r.piece[k, 0] < start and end < r.piece[k, 1]:
        _split(r, k, start)
        if r.reg[PIECES]:
            r.piece[k + 1, 0] = end
        return
    kept = 0 if k == NIL else k
    for j in range(kept, r.reg[PIECES] if k != NIL else 0):
        first, last = r.piece[j, 0], r.piece[j, 1]
        if first < end and last > start:
            if first < start:
                last = start
            elif end < last:
                first = end
            else:
                continue
        r.piece[kept, 0], r.piece[kept, 1], r.piece[kept, 2] = first, last, r.piece[j, 2]
        kept += 1
    if k != NIL:
        r.reg[PIECES] = kept


@part
def _piece_in(r: Ruling, start: int, end: int) -> int:
    """First piece in doubt that reaches into a range, NIL none."""
    low, high = 0, r.reg[PIECES]
    while low < high:
        middle = (low + high) // 2
        if r.piece[middle, 1] <= start:
            low = middle + 1
        else:
            high = middle
    return low if low < r.reg[PIECES] and r.piece[low, 0] < end else NIL


@part
def _learn(full: Forest, r: Ruling, e: NDArray[np.int64]) -> None:
    """What an answer tells of what is in doubt: nothing below it fits, nor does it begin lower.

    Only behind the first purge, which may have given back areas that nobody saw freed.
    """
    seen, size = e[SEEN], e[SIZE]
    if e[ALIGN] < 0 or e[ALIGN] > r.reg[PAGE] or e[LO] <= r.reg[CLEAN]:
        return
    upper = seen if seen >= 0 else e[VEND]
    k = _piece_in(r, seen, seen + 1) if seen >= 0 else NIL
    if k != NIL and r.piece[k, 0] < seen:
        _split(r, k, seen)
    for k in range(r.reg[PIECES]):
        if r.piece[k, 0] >= e[VSTART] and r.piece[k, 1] <= upper:
            r.piece[k, 2] = min(r.piece[k, 2], size)
    below = seen - r.reg[PAGE]
    if e[ALONE] and below >= e[VSTART] and _piece_in(r, below, seen) != NIL:
        take(full, 0, below, seen)
        _carve_piece(r, below, seen)


@part
def _certain_in_doubt(full: Forest, known: Forest, r: Ruling, e: NDArray[np.int64]) -> bool:
    """Whether nothing in doubt can serve a request, so that the known places do or none does."""
    place = _answer(known, e)
    if e[ALIGN] < 0 or _shaped(full, e):
        return False
    if place == FAIL:
        return bool(_answer(full, e) == FAIL)
    before, x = neighbours(full, 0, e[VSTART])
    if before != NIL and full.node[before, END] > e[VSTART]:
        x = before
    while x != NIL and full.node[x, START] <= place:
        start, end = full.node[x, START], full.node[x, END]
        if fits(full.node, x, e[SIZE], e[ALIGN], e[VSTART]):
            k = _piece_in(r, start, end)
            if k == NIL:
                return True
            alone = r.piece[k, 0] <= start and end <= r.piece[k, 1]
            if not (alone and e[SIZE] >= r.piece[k, 2]):
                return False
        _, x = neighbours(full, 0, start)
    return True


@part
def _phase_after(full: Forest, r: Ruling, e: NDArray[np.int64], answer: int) -> int:
    """The phase after an answer that the model excludes.

    A place that the kernel passed over may be in use, if the trace has not touched it.
    """
    if answer < 0:
        return LOST
    passed = e[SEEN] < 0 or (e[SEEN] < answer if e[ALIGN] < 0 else e[SEEN] > answer)
    x, _ = neighbours(full, 0, answer)
    if not passed or x == NIL:
        return LOST
    return DOUBT if _piece_in(r, full.node[x, START], full.node[x, END]) != NIL else LOST


@part
def _end_doubt_below(known: Forest, r: Ruling, top: int) -> None:
    """Behind the first purge nothing waits that the snapshot lacked: what is free below is."""
    k = _piece_in(r, top, top + 1)
    if k != NIL and r.piece[k, 0] < top:
        _split(r, k, top)
    kept = 0
    for k in range(r.reg[PIECES]):
        if r.piece[k, 1] <= top:
            give_back(known, 0, r.piece[k, 0], r.piece[k, 1])
            continue
        for column in range(3):
            r.piece[kept, column] = r.piece[k, column]
        kept += 1
    r.reg[PIECES] = kept
    if kept == 0:
        r.reg[PHASE] = TRUSTED


@part
def _compare(
    full: Forest, room: Forest, g: Given, r: Ruling, e: NDArray[np.int64], i: int, least: int,
    most: int,
) -> int:  # fmt: skip
    """Rule on a request during a purge; return the most areas that may have been back."""
    steps = 2 * count(full, 0) + most - least
    if r.reg[BUDGET] < steps:
        return most
    r.reg[BUDGET] -= steps
    _at_fewest(full, room, g, r, least)
    fewest, shaped = _answer(room, e), _shaped(room, e)
    r.answer[i] = fewest
    _fill(full, room)
    for k in range(r.reg[GIVEN], most):
        give_back(room, 0, g.area[k, 0], g.area[k, 1])
    if shaped or _shaped(room, e):
        return most
    if fewest == _answer(room, e):
        r.found[i] |= SURE
        return most
    return _most_that_explain(full, room, g, r, e, most)


@part
def _is_free(f: Forest, start: int, end: int) -> bool:
    before, _ = neighbours(f, 0, start)
    return bool(before != NIL and f.node[before, END] >= end)


@part
def _another_order_explains(
    full: Forest, room: Forest, r: Ruling, event: NDArray[np.int64], i: int
) -> bool:  # fmt: skip
    """Whether a call got what it did because others that were under way with it came first.

    Then the order that was found is not the kernel's.
    """
    e = event[i]
    if e[ALONE] or e[SEEN] == UNKNOWN or r.answer[i] == e[SEEN]:
        return False
    _fill(full, room)
    for n in range(i + 1, min(event.shape[0], i + 1 + WINDOW)):
        o = event[n]
        start, end = o[SEEN], o[SEEN] + o[SIZE]
        under_way = o[LO] <= e[HI] and o[HI] >= e[LO]
        if under_way and not o[TRY] and start >= 0 and _is_free(room, start, end):
            take(room, 0, start, end)
    return _answer(room, e) == e[SEEN]


@part
def _rule(
    full: Forest, known: Forest, room: Forest, g: Given, r: Ruling, event: NDArray[np.int64],
    i: int,
) -> None:  # fmt: skip
    """Rule on one event, and note what it tells."""
    e = event[i]
    least = _least(g, r, e[LO])
    most = max(min(_perhaps_back(g, e[HI]), r.cap[i]), least, r.reg[GIVEN])
    r.most[i] = most
    if e[TRY]:
        _at_fewest(full, room, g, r, least)
        r.found[i] = SURE if _answer(room, e) == FAIL else 0
        return
    span = _span_of(g, least, most, e[LO], e[HI])
    if span != NIL and span == r.reg[PIN]:
        most = max(min(most, r.reg[PINNED]), least, r.reg[GIVEN])
    need = _needed(g, e, least, most)
    _give_up_to(full, known, g, r, need)
    least = min(least, r.reg[GIVEN])
    if r.reg[PHASE] == DOUBT:
        r.answer[i] = _answer(known, e)
        if least == most and _certain_in_doubt(full, known, r, e):
            r.found[i] |= SURE
    elif least == most:
        r.answer[i] = _answer(full, e)
        r.found[i] |= SURE
    else:
        r.found[i] |= OPEN
        most = _compare(full, room, g, r, e, i, least, most)
    r.most[i] = most
    if r.found[i] & SURE and _may_have_missed(full, known, room, g, r, e, r.answer[i]):
        r.found[i] = OPEN
    if e[SEEN] == UNKNOWN:
        if r.found[i] & SURE and not _shaped(full, e):
            _serve(full, known, r, e, r.answer[i])
        else:
            r.reg[PHASE] = LOST
        return
    if r.found[i] & SURE and _another_order_explains(full, room, r, event, i):
        r.found[i] = OPEN
    else:
        _check(full, g, r, e, i)
    if r.reg[PHASE] == DOUBT:
        _learn(full, r, e)
    if span != NIL:
        r.reg[PIN], r.reg[PINNED] = span, most
    _remember(r, e[HI], need)
    if e[SEEN] >= 0 and _any_late(g, r, e):
        _in_time(g, r, e[SEEN], e[SEEN] + e[SIZE])
    _serve(full, known, r, e, e[SEEN])


@part
def _may_have_missed(
    full: Forest, known: Forest, room: Forest, g: Given, r: Ruling, e: NDArray[np.int64],
    answer: int,
) -> bool:  # fmt: skip
    """Whether an answer rests on areas of which nothing tells whether a purge found them."""
    if not _any_late(g, r, e):
        return False
    tree = full if r.reg[PHASE] == TRUSTED else known
    steps = count(tree, 0)
    if r.reg[BUDGET] < steps:
        return True
    r.reg[BUDGET] -= steps
    _fill(tree, room)
    shaped = _shaped(room, e)
    for k in range(r.reg[LATE], g.late.shape[0]):
        if g.late[k, SINCE_ENTRY] > e[HI]:
            break
        if g.late[k, UNTIL] >= e[LO]:
            take(room, 0, g.late[k, AREA], g.late[k, AREA_END])
    return bool(shaped or _shaped(room, e) or _answer(room, e) != answer)


@part
def _any_late(g: Given, r: Ruling, e: NDArray[np.int64]) -> bool:
    """Whether an area may still have waited that the model has free."""
    for k in range(r.reg[LATE], g.late.shape[0]):
        if g.late[k, SINCE_ENTRY] > e[HI]:
            return False
        if g.late[k, UNTIL] >= e[LO]:
            return True
    return False


@part
def _in_time(g: Given, r: Ruling, start: int, end: int) -> None:
    """What was handed out had been given back, so the purge had found it."""
    for k in range(r.reg[LATE], g.late.shape[0]):
        if g.late[k, AREA] < end and g.late[k, AREA_END] > start:
            g.late[k, UNTIL] = -1


@part
def _check(full: Forest, g: Given, r: Ruling, e: NDArray[np.int64], i: int) -> None:
    """See whether an answer contradicts what is known to be free."""
    place = _answer(full, e)
    if _shaped(full, e):
        return
    if r.reg[PHASE] == TRUSTED and place != e[SEEN]:
        r.reg[PHASE] = LOST if _any_late(g, r, e) else _phase_after(full, r, e, place)
        if r.reg[PHASE] == DOUBT and r.found[i] & SURE:
            r.found[i] = LEARNT
    elif r.reg[PHASE] == DOUBT:
        passed = 0 <= r.answer[i] < e[SEEN] or (r.answer[i] >= 0 and e[SEEN] < 0)
        if e[ALIGN] > 0 and passed:
            r.reg[PHASE] = LOST


@part
def _serve(full: Forest, known: Forest, r: Ruling, e: NDArray[np.int64], start: int) -> None:
    """Take what a call got."""
    if start < 0:
        return
    if not take(full, 0, start, start + e[SIZE]):
        r.reg[PHASE] = LOST
    take(known, 0, start, start + e[SIZE])
    _carve_piece(r, start, start + e[SIZE])


@loop
def run(
    full: Forest, known: Forest, room: Forest, g: Given, r: Ruling, event: NDArray[np.int64]
) -> None:  # fmt: skip
    """Rule on all events.

    Parameters
    ----------
    full
        One tree: what is free at the start, with room for all that may become so.
    known
        One empty tree, with as much room.
    room
        The same again.
    g
        What purges give back.
    r
        Filled.
    event : ndarray of int64, shape (n, COLUMNS)
        Calls in the order in which they were served.
    """
    for i in range(event.shape[0]):
        while r.reg[LATE] < g.late.shape[0] and g.late[r.reg[LATE], UNTIL] < event[i, LO]:
            r.reg[LATE] += 1
        if r.reg[TAIL] > 0 and event[i, LO] > r.reg[CLEAN]:
            _give_up_to(full, known, g, r, _certainly_back(g, event[i, LO]))
            _end_doubt_below(known, r, r.reg[TAIL])
            r.reg[TAIL] = 0
        if r.reg[PHASE] == LOST:
            r.reg[LOST_AT] = i
            return
        _rule(full, known, room, g, r, event, i)
