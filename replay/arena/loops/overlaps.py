"""Orders of overlapping calls on the arena that all explain the addresses, and their trees.

Where an allocation overlaps a purge that gives areas back, or another allocation, several orders
may lead to the addresses that the kernel returned, and to free trees of different shapes. Later
answers depend on the shape, so all the trees are kept side by side until an address contradicts
them (:mod:`replay.arena.loops.order`). The orders are followed in step: all that have served
equally much are states of one level, and two that served the same and have equal trees are one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from replay.arena.loops.freetree import COLUMNS as TREE_COLUMNS
from replay.arena.loops.freetree import (
    HIGH,
    NIL,
    SPARE,
    Forest,
    give_back,
    lowest,
    take,
)
from replay.arena.loops.items import (
    ALIGN,
    ALLOC,
    FIRST,
    FORKED,
    GIVE,
    HI,
    KIND,
    LAST,
    LEFT_OUT,
    LO,
    MAX_LOG,
    NEXT,
    SEEN,
    SIZE,
    UNKNOWN,
    UNSURE,
    VEND,
    VSTART,
)
from replay.arena.loops.shapes import copy, count, release, same_shape
from replay.compiled import part

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.arena.loops.items import RunState

WIDTH = 48
"""Orders that are followed at once, at most."""
START = 12
"""Trees at the start of overlapping calls: where there are more, the true one is not known, and
the shapes that other orders lead to are likely to be among them."""
SPAN = 2 * MAX_LOG
"""Items among which those of one search lie."""

# Positions in Orders.reg
STATES = 0  # states of the level
NEXT_STATES = 1  # states of the next level so far
FREE = 2  # unused states
REGISTERS = 3


class Orders(NamedTuple):
    """States of a search for other orders.

    Attributes
    ----------
    item, before, steps : ndarray of int64, shape (MAX_LOG,)
        Items that are ordered, ascending; NEXT of each (of a GIVE) at the start; steps that each
        takes: one, or one for each area that is given back.
    mark : ndarray of int64, shape (SPAN,)
        Steps of each item behind the first one.
    done : ndarray of int16, shape (states, MAX_LOG)
        Steps that each state has behind it, by item.
    cost : ndarray of int64, shape (states,)
        How far each is from the default order.
    level, upper, free : ndarray of int64, shape (states,)
        States of this level and of the next one; unused states.
    reg : ndarray of int64, shape (REGISTERS,)
    """

    item: NDArray[np.int64]
    before: NDArray[np.int64]
    steps: NDArray[np.int64]
    mark: NDArray[np.int64]
    done: NDArray[np.int16]
    cost: NDArray[np.int64]
    level: NDArray[np.int64]
    upper: NDArray[np.int64]
    free: NDArray[np.int64]
    reg: NDArray[np.int64]


def new_orders() -> Orders:
    """Room for a search."""
    states = 2 * WIDTH + 1

    def numbers(n: int) -> NDArray[np.int64]:
        return np.zeros(n, np.int64)

    return Orders(
        numbers(MAX_LOG), numbers(MAX_LOG), numbers(MAX_LOG), numbers(SPAN),
        np.zeros((states, MAX_LOG), np.int16), numbers(states), numbers(states), numbers(states),
        numbers(states), numbers(REGISTERS),
    )  # fmt: skip


def room_for(forest: Forest, blocks: int, most: int) -> Forest:
    """A forest for the trees of a search, with the rule of another one.

    Parameters
    ----------
    forest
        The trees at the start.
    blocks
        Free blocks in each now; where there come to be many more, fewer orders are followed.
    most
        Nodes at most.
    """
    states = 2 * WIDTH + 1
    capacity = min(states * (4 * blocks + 2 * MAX_LOG), most)
    return Forest(
        np.zeros((capacity, TREE_COLUMNS), np.int64),
        np.full(states, NIL, np.int64),
        np.ones(states, np.uint8),
        forest.reg.copy(),
    )


@part
def _width(room: Forest, blocks: int) -> int:
    """Orders that there is room for."""
    return min(WIDTH, (room.node.shape[0] // (blocks + MAX_LOG) - 1) // 2)


@part
def _pick(
    o: Orders, items: NDArray[np.int64], log: NDArray[np.int64], n: int,
    whole: bool,  # noqa: FBT001
) -> int:  # fmt: skip
    """Note the items of the log and their steps; return how many items, 0: too far apart."""
    first = last = log[0]
    for k in range(n):
        first, last = min(first, log[k]), max(last, log[k])
    if last - first >= SPAN:
        return 0
    for k in range(last - first + 1):
        o.mark[k] = 0
    for k in range(n):
        o.mark[log[k] - first] += 1
    m = 0
    for k in range(last - first + 1):
        if o.mark[k]:
            i = first + k
            o.item[m], o.steps[m] = i, o.mark[k]
            o.before[m] = items[i, FIRST] if whole else items[i, NEXT] - o.mark[k]
            m += 1
    return m


@part
def _given_in_part(o: Orders, items: NDArray[np.int64], s: int, front: int, m: int) -> int:
    """Purge that has given back some of its areas: vmap_purge_lock lets no other in; NIL none."""
    for j in range(front, m):
        i = o.item[j]
        under_way = items[i, KIND] == GIVE and o.done[s, j] < o.steps[j]
        if under_way and o.before[j] + o.done[s, j] > items[i, FIRST]:
            return j
    return NIL


@part
def _next(o: Orders, items: NDArray[np.int64], s: int, front: int, m: int, after: int) -> int:
    """Next item behind `after` that may come now: nothing unfinished ends before it begins."""
    earliest = np.int64(1) << 62
    for j in range(front, m):
        if o.done[s, j] < o.steps[j]:
            if items[o.item[j], LO] > earliest:
                break  # all that follow end later still
            earliest = min(earliest, items[o.item[j], HI])
    giving = _given_in_part(o, items, s, front, m)
    for j in range(max(front, after + 1), m):
        i = o.item[j]
        if o.done[s, j] == o.steps[j] or items[i, LO] > earliest:
            continue
        if items[i, KIND] == ALLOC or giving in (NIL, j):
            return j
    return NIL


@part
def _explains(f: Forest, tree: int, item: NDArray[np.int64]) -> bool:
    """Whether a tree would serve an item as the kernel did."""
    if item[KIND] == GIVE or item[SEEN] == UNKNOWN:
        return True
    seen = lowest(f, tree, item[SIZE], item[ALIGN], item[VSTART], item[VEND])
    return bool(seen == item[SEEN])


@part
def _serve(
    f: Forest, w: RunState, o: Orders, items: NDArray[np.int64], s: int, j: int,
    whole: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """One step of an item in a state."""
    i = o.item[j]
    item = items[i]
    if item[KIND] == ALLOC:
        start = w.predicted[i] if item[SEEN] == UNKNOWN else item[SEEN]
        if start >= 0:
            take(f, s, start, start + item[SIZE])
    else:
        first = o.before[j] + o.done[s, j]
        last = item[LAST] if whole else min(first + 1, item[LAST])
        for k in range(first, last):
            give_back(f, s, w.given[k, 0], w.given[k, 1])
    o.done[s, j] += 1


@part
def _drop(f: Forest, o: Orders, s: int) -> None:
    release(f, s)
    o.free[o.reg[FREE]] = s
    o.reg[FREE] += 1


@part
def _equal(f: Forest, o: Orders, s: int, t: int, front: int, m: int) -> bool:
    for j in range(front, m):
        if o.done[s, j] != o.done[t, j]:
            return False
    return bool(same_shape(f, s, f, t))


@part
def _join(
    f: Forest, w: RunState, o: Orders, s: int, front: int, m: int, width: int
) -> None:  # fmt: skip
    """Put a state among those of the next level, unless it is there or too far off."""
    n = o.reg[NEXT_STATES]
    worst = 0
    for k in range(n):
        t = o.upper[k]
        if _equal(f, o, s, t, front, m):
            o.cost[t] = min(o.cost[t], o.cost[s])
            _drop(f, o, s)
            return
        if o.cost[t] > o.cost[o.upper[worst]]:
            worst = k
    if n < width:
        o.upper[n] = s
        o.reg[NEXT_STATES] = n + 1
        return
    w.reg[LEFT_OUT] += 1
    if o.cost[s] < o.cost[o.upper[worst]]:
        s, o.upper[worst] = o.upper[worst], s
    _drop(f, o, s)


@part
def _fork(
    f: Forest, w: RunState, o: Orders, items: NDArray[np.int64], s: int, front: int, m: int,
    width: int, whole: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """All that may come next in a state."""
    option = _next(o, items, s, front, m, front - 1)
    while option != NIL and not _explains(f, s, items[o.item[option]]):
        option = _next(o, items, s, front, m, option)
    skipped = 0
    while option != NIL:
        following = _next(o, items, s, front, m, option)
        while following != NIL and not _explains(f, s, items[o.item[following]]):
            following = _next(o, items, s, front, m, following)
        t = s
        if following != NIL:
            o.reg[FREE] -= 1
            t = o.free[o.reg[FREE]]
            copy(f, s, f, t)
            for j in range(front, m):
                o.done[t, j] = o.done[s, j]
            o.cost[t] = o.cost[s]
        o.cost[t] += skipped
        _serve(f, w, o, items, t, option, whole)
        _join(f, w, o, t, front, m, width)
        skipped += 1
        option = following
        if following == NIL:
            return
    _drop(f, o, s)  # nothing that may come next explains its address


@part
def _begin(saved: Forest, room: Forest, o: Orders, m: int) -> None:
    """The states before the first item: the trees at the checkpoint."""
    room.reg[HIGH], room.reg[SPARE] = 0, NIL
    for s in range(room.root.shape[0]):
        room.root[s] = NIL
    o.reg[STATES] = o.reg[FREE] = 0
    for s in range(room.root.shape[0]):
        o.free[s] = room.root.shape[0] - 1 - s
        o.reg[FREE] += 1
    for c in range(saved.root.shape[0]):
        if saved.alive[c]:
            o.reg[FREE] -= 1
            s = o.free[o.reg[FREE]]
            copy(saved, c, room, s)
            o.cost[s] = 0
            for j in range(m):
                o.done[s, j] = 0
            o.level[o.reg[STATES]] = s
            o.reg[STATES] += 1


@part
def _keep(f: Forest, w: RunState, room: Forest, s: int) -> None:
    """Put a tree that another order led to beside those that there are."""
    place = NIL
    for c in range(f.root.shape[0]):
        if not f.alive[c]:
            place = c if place == NIL else place
        elif same_shape(room, s, f, c):
            return
    if place == NIL:
        w.reg[LEFT_OUT] += 1
        return
    release(f, place)
    copy(room, s, f, place)
    f.alive[place] = 1
    w.reg[FORKED] += 1


@part
def explore(
    f: Forest, saved: Forest, room: Forest, w: RunState, o: Orders, items: NDArray[np.int64],
    log: NDArray[np.int64], n: int, whole: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """Add to the trees those that other orders of the last steps lead to.

    Parameters
    ----------
    f
        The trees after these steps; those of other orders are put where one is not alive.
    saved
        The trees before them.
    room
        For the trees of the search.
    w
        Its registers are counted up.
    o
        For the search.
    items : ndarray of int64, shape (n, COLUMNS)
        All items.
    log : ndarray of int64
        The steps: their items, in the order that is known to explain the addresses.
    n
        Number of steps.
    whole
        True where a purge gives all its areas back under one lock.
    """
    if f.root.shape[0] == 1 or n < 2:
        return
    trees, blocks = 0, 0
    for c in range(saved.root.shape[0]):
        if saved.alive[c]:
            blocks = max(blocks, count(saved, c)) if trees == 0 else blocks
            trees += 1
    width = _width(room, blocks)
    if trees > START or trees > width:
        w.reg[LEFT_OUT] += w.reg[UNSURE] == 0
        return
    m = _pick(o, items, log, n, whole)
    if m < 2:
        w.reg[LEFT_OUT] += m == 0
        return
    _begin(saved, room, o, m)
    front = 0  # all states have the items before it behind them
    for _ in range(n):
        reached = m
        for k in range(o.reg[STATES]):
            for j in range(front, reached):
                if o.done[o.level[k], j] < o.steps[j]:
                    reached = j
                    break
        front = reached
        o.reg[NEXT_STATES] = 0
        for k in range(o.reg[STATES]):
            _fork(room, w, o, items, o.level[k], front, m, width, whole)
        for k in range(o.reg[NEXT_STATES]):
            o.level[k] = o.upper[k]
        o.reg[STATES] = o.reg[NEXT_STATES]
    for k in range(o.reg[STATES]):
        _keep(f, w, room, o.level[k])
