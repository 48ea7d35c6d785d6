"""What the snapshot leaves free and the trace has not touched, once an answer contradicts it.

For :mod:`replay.arena.loops.judge`. It is kept in pieces, and what answers tell makes them smaller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from replay.arena.loops.evidence import (
    ALIGN,
    ALONE,
    CLEAN,
    DOUBT,
    LO,
    LOST,
    MAX_PIECES,
    PAGE,
    PHASE,
    PIECES,
    SEEN,
    SIZE,
    TOO_MANY,
    TRUSTED,
    VEND,
    VSTART,
    WHY,
    Ruling,
    answer_of,
    is_shaped,
)
from replay.arena.loops.freetree import (
    END,
    FAIL,
    NIL,
    START,
    Forest,
    fits,
    give_back,
    neighbours,
    place_in,
    search_length,
    take,
)
from replay.compiled import part

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@part
def lose(r: Ruling, why: int) -> None:
    """What is free is not known from here on."""
    r.reg[PHASE], r.reg[WHY] = LOST, why


@part
def split(r: Ruling, k: int, at: int) -> None:
    """Make two pieces of one; where there are too many, doubt cannot be told from loss."""
    if r.reg[PIECES] == MAX_PIECES:
        if r.reg[PHASE] == DOUBT:
            lose(r, TOO_MANY)
        r.reg[PIECES] = 0
        return
    for j in range(r.reg[PIECES], k, -1):
        for column in range(3):
            r.piece[j, column] = r.piece[j - 1, column]
    r.reg[PIECES] += 1
    r.piece[k, 1], r.piece[k + 1, 0] = at, at


@part
def carve_piece(r: Ruling, start: int, end: int) -> None:
    """What the trace touched is in doubt no more."""
    k = piece_in(r, start, end)
    if k != NIL and r.piece[k, 0] < start and end < r.piece[k, 1]:
        split(r, k, start)
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
def piece_in(r: Ruling, start: int, end: int) -> int:
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
def learn(full: Forest, r: Ruling, e: NDArray[np.int64]) -> None:
    """What an answer tells of what is in doubt: nothing below it fits, nor does it begin lower.

    Only behind the first purge, which may have given back areas that nobody saw freed. What a
    search asks for may be more than the request (search_length): a block of the request's own size
    may be passed over, one of that length never is.
    """
    seen = e[SEEN]
    length = search_length(full, e[SIZE], e[ALIGN], e[VEND] - e[VSTART])
    if e[ALIGN] < 0 or e[ALIGN] > r.reg[PAGE] or e[LO] <= r.reg[CLEAN]:
        return
    upper = seen if seen >= 0 else e[VEND]
    k = piece_in(r, seen, seen + 1) if seen >= 0 else NIL
    if k != NIL and r.piece[k, 0] < seen:
        split(r, k, seen)
    for k in range(r.reg[PIECES]):
        if r.piece[k, 0] >= e[VSTART] and r.piece[k, 1] <= upper:
            r.piece[k, 2] = min(r.piece[k, 2], length)
    below = seen - r.reg[PAGE]
    if e[ALONE] and below >= e[VSTART] and piece_in(r, below, seen) != NIL:
        take(full, 0, below, seen)
        carve_piece(r, below, seen)


@part
def certain_in_doubt(full: Forest, known: Forest, r: Ruling, e: NDArray[np.int64]) -> bool:
    """Whether nothing in doubt can serve a request, so that the known places do or none does."""
    place = answer_of(known, e)
    if e[ALIGN] < 0 or is_shaped(full, e) or is_shaped(known, e):
        return False
    if place == FAIL:
        return bool(answer_of(full, e) == FAIL)
    before, x = neighbours(full, 0, e[VSTART])
    if before != NIL and full.node[before, END] > e[VSTART]:
        x = before
    while x != NIL and full.node[x, START] <= place:
        start, end = full.node[x, START], full.node[x, END]
        if fits(full.node, x, e[SIZE], e[ALIGN], e[VSTART]):
            k = piece_in(r, start, end)
            if k == NIL:  # all of it is known to be free, or a part that begins above
                return bool(place_in(full.node, x, e[ALIGN], e[VSTART]) == place)
            alone = r.piece[k, 0] <= start and end <= r.piece[k, 1]
            if not (alone and e[SIZE] >= r.piece[k, 2]):
                return False
        _, x = neighbours(full, 0, start)
    return True


@part
def phase_after(full: Forest, r: Ruling, e: NDArray[np.int64], answer: int) -> int:
    """The phase after an answer that the model excludes.

    A place that the kernel passed over may be in use, if the trace has not touched it.
    """
    if answer < 0:
        return LOST
    passed = e[SEEN] < 0 or (e[SEEN] < answer if e[ALIGN] < 0 else e[SEEN] > answer)
    x, _ = neighbours(full, 0, answer)
    if not passed or x == NIL:
        return LOST
    return DOUBT if piece_in(r, full.node[x, START], full.node[x, END]) != NIL else LOST


@part
def end_doubt_below(known: Forest, r: Ruling, top: int) -> None:
    """Behind the first purge nothing waits that the snapshot lacked: what is free below is."""
    k = piece_in(r, top, top + 1)
    if k != NIL and r.piece[k, 0] < top:
        split(r, k, top)
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
