"""Allocations and give-backs of the vmap arena, in an order that explains their addresses.

Calls on different CPUs overlap. Each allocation has its default place at its return, and each
purge gives its areas back at its own return. Where that does not lead to the address that the
kernel returned, and calls overlap, another order within their intervals is searched
(:func:`_repair`): an allocation earlier, or between two areas of a purge that gives them back one
by one (the kernel drops the lock in between). Observed addresses serve three ends only: to order
overlapping calls, to drop trees whose shape contradicts them, and to go on after a wrong
prediction. The prediction itself never sees them. Where several orders explain the addresses, the
trees of all of them are kept (:mod:`replay.arena.loops.overlaps`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from replay.arena.loops.freetree import COLUMNS as TREE_COLUMNS
from replay.arena.loops.freetree import (
    CONTRADICTIONS,
    HIGH,
    NIL,
    Forest,
    give_back,
    lowest,
    take,
)
from replay.arena.loops.items import (
    AGAIN,
    AGREED,
    ALIGN,
    ALLOC,
    BUDGET,
    DIVERGED,
    DROPPED,
    FIRST,
    GIVE,
    GIVEN_UP,
    GIVING,
    GROUP,
    HI,
    KIND,
    LAST,
    LEFT,
    LEFT_OUT,
    LO,
    LOG_FIRST,
    MAX_LOG,
    MERGED,
    N_LOG,
    NEXT,
    ORDERED,
    REPAIRS,
    RESHAPED,
    RIGHT,
    SEED,
    SEEN,
    SHAPED,
    SINCE,
    SIZE,
    STREAK,
    SUPPOSES,
    TURN,
    UNKNOWN,
    UNSURE,
    VEND,
    VSTART,
)
from replay.arena.loops.overlaps import explore
from replay.arena.loops.shapes import (
    copy,
    count,
    release,
    reshape,
    same_shape,
    shape_matters,
)
from replay.compiled import loop, part

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.arena.loops.items import RunState
    from replay.arena.loops.overlaps import Orders

WINDOW = 192
"""Items that a search looks at behind the first that is not placed."""
SEARCH = 20_000
"""Steps of one search, divided among the trees."""
UNDO = 64
"""Steps that a search can undo at least (at most twice as many)."""
SINCE_MERGE = 64
"""Placed items between two looks for trees that have become equal."""
SETTLED = 48
"""So many right answers in a row, where the shape matters, end the search for shapes."""
CHANGES = 3
"""Blocks that are moved in a variant of a tree, at most."""


@part
def _ask(f: Forest, w: RunState, item: NDArray[np.int64]) -> tuple[int, bool, int]:
    """What the trees predict: the most frequent answer, whether all agree, their number."""
    n = 0
    first = np.int64(UNKNOWN)
    agree = True
    for c in range(f.root.shape[0]):
        if f.alive[c]:
            w.answer[c] = lowest(f, c, item[SIZE], item[ALIGN], item[VSTART], item[VEND])
            if n == 0:
                first = w.answer[c]
            agree = agree and w.answer[c] == first
            n += 1
    best, most = first, 0
    if not agree:
        for c in range(f.root.shape[0]):
            if f.alive[c]:
                votes = 0
                for d in range(f.root.shape[0]):
                    votes += f.alive[d] and w.answer[d] == w.answer[c]
                if votes > most:
                    best, most = w.answer[c], votes
    return int(best), agree, n


@part
def _alloc(f: Forest, w: RunState, items: NDArray[np.int64], i: int, force: bool) -> bool:  # noqa: FBT001
    """Serve one allocation; False, and nothing done, if no tree explains its address."""
    item = items[i]
    best, agree, n = _ask(f, w, item)
    shaped = False
    for c in range(f.root.shape[0]):
        if f.alive[c]:
            shaped = shape_matters(f, c, item[SIZE], item[ALIGN], item[VSTART], item[VEND])
            break
    seen = item[SEEN]
    explained = seen == UNKNOWN
    for c in range(f.root.shape[0]):
        explained = explained or (f.alive[c] and w.answer[c] == seen)
    if not explained and not force:
        return False
    w.predicted[i] = best
    w.trees[i] = n
    status = (AGREED if agree else 0) | (SHAPED if shaped else 0) | (LEFT if w.reg[LEFT_OUT] else 0)
    if seen != UNKNOWN and best == seen:
        status |= RIGHT
    if not explained:
        status |= DIVERGED
    if shaped and seen != UNKNOWN:
        w.reg[STREAK] = w.reg[STREAK] + 1 if best == seen else 0
    w.status[i] = status | (w.status[i] & ORDERED)
    target = best if seen == UNKNOWN else seen
    for c in range(f.root.shape[0]):
        if not f.alive[c]:
            continue
        if explained and seen != UNKNOWN and w.answer[c] != seen:
            f.alive[c] = 0
            w.reg[AGAIN] = 1
        elif target >= 0 and not take(f, c, target, target + item[SIZE]):
            f.reg[CONTRADICTIONS] += 1
    if not explained and not shaped and seen > best >= 0 and w.reg[SUPPOSES]:
        _pass_over(f, item)
    return True


@part
def _pass_over(f: Forest, item: NDArray[np.int64]) -> None:
    """Suppose areas in use where a request would have fitted that the kernel served above."""
    if item[ALIGN] < 0:
        return
    for c in range(f.root.shape[0]):
        for _ in range(MAX_LOG if f.alive[c] else 0):
            start = lowest(f, c, item[SIZE], item[ALIGN], item[VSTART], item[VEND])
            if not 0 <= start < item[SEEN]:
                break
            take(f, c, start, min(start + item[SIZE], item[SEEN]))


@part
def _give(f: Forest, w: RunState, items: NDArray[np.int64], i: int) -> None:
    """Give one area of a purge back."""
    item = items[i]
    if item[NEXT] < item[LAST]:
        area = w.given[item[NEXT]]
        for c in range(f.root.shape[0]):
            if f.alive[c] and not give_back(f, c, area[0], area[1]):
                f.reg[CONTRADICTIONS] += 1
    item[NEXT] += 1


@part
def _step(f: Forest, w: RunState, items: NDArray[np.int64], i: int, whole: bool) -> bool:  # noqa: FBT001
    """Apply an item, or one area of it; False if it cannot be applied here."""
    w.reg[TURN] += 1
    w.turn[i] = w.reg[TURN]
    if items[i, KIND] == ALLOC:
        if not _alloc(f, w, items, i, force=False):
            return False
        w.placed[i] = 1
        return True
    _give(f, w, items, i)
    while whole and items[i, NEXT] < items[i, LAST]:
        _give(f, w, items, i)
    if items[i, NEXT] >= items[i, LAST]:
        w.placed[i] = 1
    return True


@part
def _save(f: Forest, saved: Forest) -> None:
    for x in range(f.reg[HIGH]):
        for column in range(TREE_COLUMNS):
            saved.node[x, column] = f.node[x, column]
    for c in range(f.root.shape[0]):
        saved.root[c] = f.root[c]
        saved.alive[c] = f.alive[c]
    for k in range(f.reg.shape[0]):
        saved.reg[k] = f.reg[k]


@part
def _move(target: NDArray[np.int64], source: NDArray[np.int64], first: int, n: int) -> None:
    """Copy n numbers from position `first` of one array to the start of another."""
    for k in range(n):
        target[k] = source[first + k]


@part
def _undo(
    f: Forest, saved: Forest, w: RunState, items: NDArray[np.int64], steps: NDArray[np.int64],
    n: int, whole: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """Go back to the checkpoint, `n` steps ago."""
    for k in range(n):
        i = steps[k]
        w.placed[i] = 0
        if items[i, KIND] == GIVE:
            items[i, NEXT] = items[i, FIRST] if whole else items[i, NEXT] - 1
    _save(saved, f)


@part
def _redo(
    f: Forest, w: RunState, items: NDArray[np.int64], steps: NDArray[np.int64], n: int,
    whole: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """Apply steps that were applied before in the same state."""
    for k in range(n):
        _step(f, w, items, steps[k], whole)


@part
def _next_option(w: RunState, items: NDArray[np.int64], first: int, after: int) -> int:
    """Next item behind `after` that may come now: nothing unplaced ends before it begins."""
    end = min(items.shape[0], first + WINDOW)
    earliest = np.int64(1) << 62
    for i in range(first, end):
        if not w.placed[i]:
            earliest = min(earliest, items[i, HI])
            if items[i, LO] > earliest:
                break  # all that follow end later still
    for i in range(max(after + 1, first), end):
        if not w.placed[i] and items[i, LO] <= earliest:
            return i
    g = _giving(w, items, earliest)
    return g if g > after and g >= end else NIL


@part
def _alive(f: Forest) -> int:
    """Trees that count."""
    n = 0
    for c in range(f.root.shape[0]):
        n += f.alive[c]
    return n


@part
def _giving(w: RunState, items: NDArray[np.int64], hi: int) -> int:
    """The purge that gives areas back next, if it may have done so by a position; NIL none."""
    while w.reg[GIVING] < w.give.shape[0] and w.placed[w.give[w.reg[GIVING]]]:
        w.reg[GIVING] += 1
    while w.reg[GIVING] > 0 and not w.placed[w.give[w.reg[GIVING] - 1]]:
        w.reg[GIVING] -= 1
    if w.reg[GIVING] == w.give.shape[0]:
        return NIL
    g = w.give[w.reg[GIVING]]
    return int(g) if items[g, LO] <= hi else NIL


@part
def _explains(f: Forest, item: NDArray[np.int64]) -> bool:
    for c in range(f.root.shape[0]):
        if f.alive[c]:
            seen = lowest(f, c, item[SIZE], item[ALIGN], item[VSTART], item[VEND])
            if seen == item[SEEN]:
                return True
    return False


@part
def _pull(
    f: Forest, spare: Forest, w: RunState, items: NDArray[np.int64], i: int,
    whole: bool,  # noqa: FBT001
) -> bool:  # fmt: skip
    """Have purges give back as much as it takes to explain an address; else change nothing.

    As late as possible: where a request does not depend on the tree's shape, no earlier time
    explains more.
    """
    first = _giving(w, items, items[i, HI])
    if first == NIL:
        return False
    _save(f, spare)
    at, begun = w.reg[GIVING], items[first, NEXT]
    g, steps = first, 0
    while g != NIL:
        _step(f, w, items, g, whole)
        if w.reg[N_LOG] + steps < MAX_LOG:
            w.log[w.reg[N_LOG] + steps] = g
        steps += 1
        if _explains(f, items[i]):
            # What the log cannot hold cannot be undone any more.
            forgotten = w.reg[N_LOG] + steps > MAX_LOG
            w.reg[LEFT_OUT] += forgotten
            w.reg[N_LOG] = 0 if forgotten else w.reg[N_LOG] + steps
            w.status[i] |= ORDERED
            return True
        g = _giving(w, items, items[i, HI])
    for k in range(at, min(w.reg[GIVING] + 1, w.give.shape[0])):
        g = w.give[k]
        items[g, NEXT] = begun if k == at else items[g, FIRST]
        w.placed[g] = 0
    w.reg[GIVING] = at
    _save(spare, f)
    return False


@part
def _repair(
    f: Forest,
    saved: Forest,
    room: Forest,
    w: RunState,
    o: Orders,
    items: NDArray[np.int64],
    fail: int,
    whole: bool,  # noqa: FBT001
) -> bool:
    """Find an order of the items since the checkpoint, up to `fail`, that explains addresses.

    Depth first, the default order first. On success the trees and the log are those of the new
    order; else they are as they were.
    """
    n_prefix = w.reg[N_LOG]
    if n_prefix > 2 * UNDO:
        # Far back nothing is likely to be wrong, and every step back costs as much as the log
        # is long: move the checkpoint up.
        cut = n_prefix - UNDO
        _move(w.prefix, w.log, 0, n_prefix)
        _undo(f, saved, w, items, w.prefix, n_prefix, whole)
        _redo(f, w, items, w.prefix, cut, whole)
        explore(f, saved, room, w, o, items, w.prefix, cut, whole)
        _save(f, saved)
        n_prefix = UNDO
        _move(w.log, w.prefix, cut, UNDO)
        _move(w.prefix, w.log, 0, UNDO)
        while w.placed[w.reg[LOG_FIRST]]:
            w.reg[LOG_FIRST] += 1
    else:
        _move(w.prefix, w.log, 0, n_prefix)
        _undo(f, saved, w, items, w.prefix, n_prefix, whole)
    w.reg[REPAIRS] += 1
    budget = min(np.int64(SEARCH // min(10, _alive(f))), w.reg[BUDGET])
    spent = 0
    depth = 0
    w.choice[0] = NIL
    found = False
    while spent < budget and depth >= 0:
        first = w.reg[LOG_FIRST]
        while first <= fail and w.placed[first]:
            first += 1
        if first > fail:
            found = True
            break
        spent += 1
        option = NIL
        if depth < MAX_LOG:
            option = _next_option(w, items, first, w.choice[depth])
        if option == NIL:
            if depth == 0:
                break
            spent += depth
            _undo(f, saved, w, items, w.log, depth, whole)
            depth -= 1
            _redo(f, w, items, w.log, depth, whole)
            continue
        w.choice[depth] = option
        if _step(f, w, items, option, whole):
            if option != first and items[option, KIND] == ALLOC:
                w.status[option] |= ORDERED
            w.log[depth] = option
            depth += 1
            w.choice[depth] = NIL
    w.reg[BUDGET] -= spent
    if found:
        w.status[fail] |= ORDERED
        w.reg[N_LOG] = depth
        return True
    _undo(f, saved, w, items, w.log, depth, whole)
    _move(w.log, w.prefix, 0, n_prefix)
    _redo(f, w, items, w.log, n_prefix, whole)
    w.reg[N_LOG] = n_prefix
    w.reg[GIVEN_UP] += 1
    return False


@part
def _merge_trees(f: Forest, w: RunState) -> None:
    """Forget trees that contradicted the trace or that have come to equal another one."""
    for c in range(f.root.shape[0]):
        if f.alive[c]:
            for d in range(c):
                if f.alive[d] and same_shape(f, c, f, d):
                    f.alive[c] = 0
                    w.reg[MERGED] += 1
                    release(f, c)
                    break
        elif f.root[c] != NIL:
            w.reg[DROPPED] += 1
            release(f, c)


@part
def _blocks(f: Forest) -> int:
    """Free blocks in each tree."""
    for c in range(f.root.shape[0]):
        if f.alive[c]:
            return int(count(f, c))
    return 0


@part
def _refill(f: Forest, w: RunState) -> None:
    """Put variants of the trees that are left in the place of those that contradicted the trace.

    That keeps the answers of the trees as different as the true tree may be from each of them,
    so that they do not agree because few are left.
    """
    trees = f.root.shape[0]
    blocks = _blocks(f)
    left = _alive(f)
    if left > trees // 2:
        return  # the true tree may be among so many: a variant of it would be another one
    if f.reg[HIGH] + trees * (blocks + 2 * MAX_LOG) > f.node.shape[0]:
        return
    seed = w.reg[SEED]
    for c in range(trees):
        if f.alive[c]:
            continue
        seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
        d = (seed >> 8) % trees
        while not f.alive[d] or f.root[d] == NIL:
            d = (d + 1) % trees
            if d == (seed >> 8) % trees:
                return
        copy(f, d, f, c)
        f.alive[c] = 1
        for _ in range(1 + (seed >> 4) % CHANGES):
            seed = reshape(f, c, seed)
        w.reg[RESHAPED] += 1
    w.reg[SEED] = seed


@loop
def run(
    f: Forest,
    saved: Forest,
    spare: Forest,
    room: Forest,
    w: RunState,
    o: Orders,
    items: NDArray[np.int64],
    start: int,
    whole: bool,  # noqa: FBT001
    last: bool,  # noqa: FBT001
) -> int:
    """Place all items.

    Parameters
    ----------
    f
        Trees at the start; at the end those that did not contradict the trace.
    saved, spare
        Room for copies of `f`.
    room, o
        For the search for other orders: :mod:`replay.arena.loops.overlaps`.
    w
        Filled.
    items : ndarray of int64, shape (n, COLUMNS)
        Sorted by default place. NEXT of each GIVE is changed.
    start
        Item to go on with.
    whole
        True where a purge gives all its areas back under one lock.
    last
        No items come behind these; none that do overlap with them.

    Returns
    -------
    int
        n, or the item to go on with after `f` and `saved` were given more room.
    """
    trees = f.root.shape[0]
    group = np.int64(NIL)
    w.reg[N_LOG] = 0
    i = start
    while i < items.shape[0]:
        if w.placed[i]:
            i += 1
            continue
        item = items[i]
        units = max(item[LAST] - item[NEXT], 1) if item[KIND] == GIVE else 1
        other = item[GROUP] == NIL or item[GROUP] != group
        if other or w.reg[N_LOG] + units > MAX_LOG:
            if group != NIL:
                explore(f, saved, room, w, o, items, w.log, w.reg[N_LOG], whole)
            w.reg[N_LOG] = 0
        group = item[GROUP]
        if w.reg[N_LOG] == 0:
            blocks = 0 if group == NIL or trees == 1 else _blocks(f)
            if f.reg[HIGH] + trees * (blocks + 2 * MAX_LOG + units) > f.node.shape[0]:
                w.reg[SINCE] = 0
                return i
            w.reg[SINCE] += 1
            if w.reg[SINCE] % SINCE_MERGE == 1 or w.reg[AGAIN]:
                _merge_trees(f, w)
                if trees > 1 and w.reg[UNSURE] and w.reg[STREAK] < SETTLED:
                    _refill(f, w)
                w.reg[AGAIN] = 0
            w.reg[LOG_FIRST] = i
            if group != NIL:
                _save(f, saved)
        if item[KIND] == ALLOC:
            if not _step(f, w, items, i, whole):
                if group != NIL:
                    if _pull(f, spare, w, items, i, whole):
                        continue
                    if _repair(f, saved, room, w, o, items, i, whole):
                        continue
                    explore(f, saved, room, w, o, items, w.log, w.reg[N_LOG], whole)
                _alloc(f, w, items, i, force=True)
                w.reg[TURN] += 1
                w.turn[i] = w.reg[TURN]
                if w.status[i] & DIVERGED:
                    w.reg[UNSURE] = 1
                w.placed[i] = 1
                w.reg[N_LOG] = 0
                i += 1
                continue
            w.log[w.reg[N_LOG]] = i
            w.reg[N_LOG] += 1
        else:
            while not w.placed[i]:
                _step(f, w, items, i, whole)
                if w.reg[N_LOG] < MAX_LOG:
                    w.log[w.reg[N_LOG]] = i
                    w.reg[N_LOG] += 1
            if w.reg[N_LOG] == MAX_LOG:
                w.reg[N_LOG] = 0  # the log may have lost steps: nothing before can be undone
        i += 1
    if last:
        _merge_trees(f, w)
    elif group != NIL:
        explore(f, saved, room, w, o, items, w.log, w.reg[N_LOG], whole)
    return i
