"""Trees of different shapes over the same free blocks: grown, copied, varied, compared.

Where the true shape of the arena's free tree is not known, several are kept side by side
(:mod:`replay.arena.loops.freetree`). What is here changes or compares shapes, never the set of free
blocks; nothing of it is the kernel's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from replay.arena.loops.freetree import (
    COLUMNS,
    END,
    LEFT,
    NIL,
    PARENT,
    RED,
    RIGHT,
    START,
    Forest,
    drop_row,
    erase,
    fits,
    insert,
    neighbours,
    new_row,
    search_length,
)
from replay.compiled import part

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@part
def plant(f: Forest, tree: int, blocks: NDArray[np.int64], erased: NDArray[np.int64]) -> None:
    """Build a tree by insertions, then erasures, in the given order.

    Parameters
    ----------
    f, tree
        A tree that is empty.
    blocks : ndarray of int64, shape (n, 2)
        Blocks to insert.
    erased : ndarray of int64, shape (m,)
        Starts of blocks to erase again.
    """
    for i in range(blocks.shape[0]):
        insert(f, tree, blocks[i, 0], blocks[i, 1])
    for i in range(erased.shape[0]):
        before, _ = neighbours(f, tree, erased[i])
        if before != NIL and f.node[before, START] == erased[i]:
            erase(f, tree, before)


@part
def release(f: Forest, tree: int) -> None:
    """Empty a tree."""
    x = f.root[tree]
    f.root[tree] = NIL
    while x != NIL:
        if f.node[x, LEFT] != NIL:
            x = f.node[x, LEFT]
        elif f.node[x, RIGHT] != NIL:
            x = f.node[x, RIGHT]
        else:
            parent = f.node[x, PARENT]
            if parent != NIL:
                if f.node[parent, LEFT] == x:
                    f.node[parent, LEFT] = NIL
                else:
                    f.node[parent, RIGHT] = NIL
            drop_row(f, x)
            x = parent


@part
def _copy_row(f: Forest, x: int, g: Forest, parent: int) -> int:
    y = new_row(g)
    for column in range(COLUMNS):  # a slice would need memory of its own to be copied safely
        g.node[y, column] = f.node[x, column]
    g.node[y, LEFT], g.node[y, RIGHT], g.node[y, PARENT] = NIL, NIL, parent
    return y


@part
def copy(f: Forest, source: int, g: Forest, target: int) -> None:
    """Make an empty tree of `g` equal to a tree of `f`, which may be the same forest."""
    old, new = f.node, g.node
    x = f.root[source]
    if x == NIL:
        return
    y = _copy_row(f, x, g, NIL)
    g.root[target] = y
    while x != NIL:
        side = NIL
        if old[x, LEFT] != NIL and new[y, LEFT] == NIL:
            side = LEFT
        elif old[x, RIGHT] != NIL and new[y, RIGHT] == NIL:
            side = RIGHT
        if side == NIL:
            x, y = old[x, PARENT], new[y, PARENT]
        else:
            x = old[x, side]
            new[y, side] = _copy_row(f, x, g, y)
            y = new[y, side]


@part
def count(f: Forest, tree: int) -> int:
    """Number of blocks."""
    n = 0
    x = _first(f.node, f.root[tree])
    while x != NIL:
        n += 1
        x = next_block(f.node, x)
    return n


@part
def _first(node: NDArray[np.int64], x: int) -> int:
    while x != NIL and node[x, LEFT] != NIL:
        x = node[x, LEFT]
    return x


@part
def next_block(node: NDArray[np.int64], x: int) -> int:
    """Next block by address: rb_next()."""
    if node[x, RIGHT] != NIL:
        return _first(node, node[x, RIGHT])
    parent = node[x, PARENT]
    while parent != NIL and node[parent, RIGHT] == x:
        x, parent = parent, node[parent, PARENT]
    return parent


@part
def shape_matters(f: Forest, tree: int, size: int, align: int, vstart: int, vend: int) -> bool:
    """Whether trees of another shape could serve a request from another block.

    A search reaches the lowest block that is large enough for any alignment and fits, or a lower
    block that fits by luck and happens to lie on its path. Only where there is such a block does
    the shape matter, and never where a request is served from the top down.
    """
    if align < 0:
        return False
    length = search_length(f, size, align, vend - vstart)
    if length == size:
        return False
    node = f.node
    before, x = neighbours(f, tree, vstart)
    if before != NIL and node[before, END] > vstart:
        x = before
    while x != NIL:
        if fits(node, x, size, align, vstart):
            return bool(node[x, END] - node[x, START] < length)
        x = next_block(node, x)
    return False


@part
def reshape(f: Forest, tree: int, seed: int) -> int:
    """Take a block out and put it back, which changes the shape; return the next seed."""
    node = f.node
    x = f.root[tree]
    while x != NIL:
        seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
        choice = (seed >> 16) & 7
        child = node[x, LEFT] if choice < 3 else node[x, RIGHT]
        if choice >= 6 or child == NIL:
            start, end = node[x, START], node[x, END]
            erase(f, tree, x)
            insert(f, tree, start, end)
            break
        x = child
    return seed


@part
def same_shape(f: Forest, one: int, g: Forest, other: int) -> bool:
    """Whether a tree of `f` and one of `g` are equal in blocks, links and colours."""
    node, twin = f.node, g.node
    x, y = f.root[one], g.root[other]
    came_x = NIL
    while NIL not in (x, y):
        # walk both in step: down on the left, then on the right, then up
        if came_x == node[x, PARENT]:
            if (
                node[x, START] != twin[y, START]
                or node[x, END] != twin[y, END]
                or node[x, RED] != twin[y, RED]
                or (node[x, LEFT] == NIL) != (twin[y, LEFT] == NIL)
                or (node[x, RIGHT] == NIL) != (twin[y, RIGHT] == NIL)
            ):
                return False
            if node[x, LEFT] != NIL:
                came_x, x, y = x, node[x, LEFT], twin[y, LEFT]
                continue
            came_x = NIL - 1  # nothing on the left: done with it
        if (came_x == NIL - 1 or came_x == node[x, LEFT]) and node[x, RIGHT] != NIL:
            came_x, x, y = x, node[x, RIGHT], twin[y, RIGHT]
        else:
            came_x, x, y = x, node[x, PARENT], twin[y, PARENT]
    return x == NIL and y == NIL
