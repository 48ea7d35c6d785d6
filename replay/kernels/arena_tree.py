"""The free tree of the vmap arena: the kernel's augmented red-black tree (mm/vmalloc.c).

Free blocks [start, end) are kept in a red-black tree by address, and every node knows the size of
the largest block below it. Aligned requests depend on the shape of the tree, not only on the set
of blocks (:func:`find_vmap_lowest_match`), so insertion, erasure and rotations are those of
lib/rbtree.c and include/linux/rbtree_augmented.h, step by step.

Where a capture does not tell the shape, several trees over the same blocks are kept side by side:
a :class:`Forest`. Functions take the number of the tree that they work on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from replay.kernels.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAGE = 4096
NIL = -1
FAIL = -2
"""Result of a request that no block can serve below its upper limit."""

# Columns of Forest.node
START, END, MAX, LEFT, RIGHT, PARENT, RED = 0, 1, 2, 3, 4, 5, 6
COLUMNS = 7

# Positions in Forest.reg
SPARE = 0  # first row of the list of unused ones, linked by START; NIL: there is none
PADDED = 1  # 1: the search always asks for size + align - 1
MOVES = 2  # 1: the climb of the search moves vstart behind the node that it leaves
HIGH = 3  # rows from here on were never used
CONTRADICTIONS = 4  # areas given back that were free already, in whole or in part
REGISTERS = 5


class Forest(NamedTuple):
    """Free trees over the same blocks that differ in shape only.

    Attributes
    ----------
    node : ndarray of int64, shape (capacity, COLUMNS)
        Nodes of all trees: block, subtree maximum, links (rows, NIL none), colour.
    root : ndarray of int64, shape (trees,)
        Row of each tree's root, NIL where it is empty.
    alive : ndarray of uint8, shape (trees,)
        0: the tree contradicted the trace and counts no more.
    reg : ndarray of int64, shape (REGISTERS,)
        Scalars; see the constants.
    """

    node: NDArray[np.int64]
    root: NDArray[np.int64]
    alive: NDArray[np.uint8]
    reg: NDArray[np.int64]


def new_forest(trees: int, capacity: int, *, padded: bool, moves: bool) -> Forest:
    """Empty trees.

    Parameters
    ----------
    trees
        Number of trees.
    capacity
        Nodes that they have room for, together.
    padded, moves
        Rule of the search: ``Generation.search_length_padded`` and ``search_moves_vstart``.

    Returns
    -------
    Forest
    """
    reg = np.zeros(REGISTERS, np.int64)
    reg[SPARE], reg[PADDED], reg[MOVES] = NIL, padded, moves
    return Forest(
        np.zeros((capacity, COLUMNS), np.int64),
        np.full(trees, NIL, np.int64),
        np.ones(trees, np.uint8),
        reg,
    )


def grown(forest: Forest, capacity: int) -> Forest:
    """The same trees with room for `capacity` nodes."""
    node = np.zeros((capacity, COLUMNS), np.int64)
    node[: forest.node.shape[0]] = forest.node
    return forest._replace(node=node)


@kernel
def _new_row(f: Forest) -> int:
    x = f.reg[SPARE]
    if x == NIL:
        x = f.reg[HIGH]
        f.reg[HIGH] += 1
    else:
        f.reg[SPARE] = f.node[x, START]
    return x


@kernel
def _drop_row(f: Forest, x: int) -> None:
    f.node[x, START] = f.reg[SPARE]
    f.reg[SPARE] = x


@kernel
def _update_max(node: NDArray[np.int64], x: int) -> None:
    """compute_subtree_max_size()."""
    best = node[x, END] - node[x, START]
    left, right = node[x, LEFT], node[x, RIGHT]
    if left != NIL:
        best = max(best, node[left, MAX])
    if right != NIL:
        best = max(best, node[right, MAX])
    node[x, MAX] = best


@kernel
def propagate(node: NDArray[np.int64], x: int) -> None:
    """Bring the subtree maxima up to date from a node to the root."""
    while x != NIL:
        _update_max(node, x)
        x = node[x, PARENT]


@kernel
def _replace_child(f: Forest, tree: int, parent: int, old: int, new: int) -> None:
    if parent == NIL:
        f.root[tree] = new
    elif f.node[parent, LEFT] == old:
        f.node[parent, LEFT] = new
    else:
        f.node[parent, RIGHT] = new


@kernel
def _rotate(f: Forest, tree: int, x: int, down: int, up: int) -> None:
    """Lift the child of `x` on side `up` above it; `x` sinks to side `down`."""
    node = f.node
    y = node[x, up]
    inner = node[y, down]
    node[x, up] = inner
    if inner != NIL:
        node[inner, PARENT] = x
    parent = node[x, PARENT]
    node[y, PARENT] = parent
    _replace_child(f, tree, parent, x, y)
    node[y, down] = x
    node[x, PARENT] = y
    _update_max(node, x)
    _update_max(node, y)


@kernel
def _is_red(node: NDArray[np.int64], x: int) -> bool:
    return x != NIL and node[x, RED] == 1


@kernel
def _insert_fix(f: Forest, tree: int, x: int) -> None:
    """lib/rbtree.c: __rb_insert."""
    node = f.node
    while True:
        parent = node[x, PARENT]
        if parent == NIL:
            node[x, RED] = 0
            return
        if node[parent, RED] == 0:
            return
        grand = node[parent, PARENT]
        near, far = (LEFT, RIGHT) if node[grand, LEFT] == parent else (RIGHT, LEFT)
        uncle = node[grand, far]
        if _is_red(node, uncle):
            node[parent, RED] = 0
            node[uncle, RED] = 0
            node[grand, RED] = 1
            x = grand
            continue
        if node[parent, far] == x:
            _rotate(f, tree, parent, near, far)
            parent = x
        _rotate(f, tree, grand, far, near)
        node[parent, RED] = 0
        node[grand, RED] = 1
        return


@kernel
def insert(f: Forest, tree: int, start: int, end: int) -> None:
    """Add a block as a new leaf: link_va() and rebalancing."""
    node = f.node
    x = _new_row(f)
    parent = NIL
    at = f.root[tree]
    while at != NIL:
        parent = at
        at = node[at, LEFT] if start < node[at, START] else node[at, RIGHT]
    node[x, START], node[x, END], node[x, MAX] = start, end, end - start
    node[x, LEFT], node[x, RIGHT], node[x, PARENT], node[x, RED] = NIL, NIL, parent, 1
    if parent == NIL:
        f.root[tree] = x
    elif start < node[parent, START]:
        node[parent, LEFT] = x
    else:
        node[parent, RIGHT] = x
    propagate(node, parent)
    _insert_fix(f, tree, x)


@kernel
def _erase_fix(f: Forest, tree: int, parent: int) -> None:
    """lib/rbtree.c: ____rb_erase_color; one black node is missing below `parent`."""
    node = f.node
    x = NIL
    while True:
        near, far = (LEFT, RIGHT) if node[parent, RIGHT] != x else (RIGHT, LEFT)
        sibling = node[parent, far]
        if node[sibling, RED] == 1:
            _rotate(f, tree, parent, near, far)
            node[sibling, RED] = 0
            node[parent, RED] = 1
            sibling = node[parent, far]
        outer = node[sibling, far]
        if not _is_red(node, outer):
            inner = node[sibling, near]
            if not _is_red(node, inner):
                node[sibling, RED] = 1
                if node[parent, RED] == 1:
                    node[parent, RED] = 0
                    return
                x = parent
                parent = node[x, PARENT]
                if parent == NIL:
                    return
                continue
            _rotate(f, tree, sibling, far, near)
            outer = sibling
            sibling = inner
        _rotate(f, tree, parent, near, far)
        node[sibling, RED] = node[parent, RED]
        node[parent, RED] = 0
        node[outer, RED] = 0
        return


@kernel
def erase(f: Forest, tree: int, x: int) -> None:
    """Take a node out: __rb_erase_augmented() of include/linux/rbtree_augmented.h."""
    node = f.node
    left, right, parent = node[x, LEFT], node[x, RIGHT], node[x, PARENT]
    lacking = NIL  # where a black node is missing afterwards
    if NIL in (left, right):
        child = right if left == NIL else left
        _replace_child(f, tree, parent, x, child)
        if child != NIL:
            node[child, PARENT] = parent
            node[child, RED] = node[x, RED]
        elif node[x, RED] == 0:
            lacking = parent
        propagate(node, parent)
    else:
        heir = right
        while node[heir, LEFT] != NIL:
            heir = node[heir, LEFT]
        child = node[heir, RIGHT]
        was_red = node[heir, RED]
        above = node[heir, PARENT]
        if above == x:
            above = heir
        else:
            node[above, LEFT] = child
            if child != NIL:
                node[child, PARENT] = above
            node[heir, RIGHT] = right
            node[right, PARENT] = heir
        node[heir, LEFT] = left
        node[left, PARENT] = heir
        _replace_child(f, tree, parent, x, heir)
        node[heir, PARENT] = parent
        node[heir, RED] = node[x, RED]
        if child != NIL:
            node[child, RED] = 0
        elif was_red == 0:
            lacking = above
        propagate(node, above)
    if lacking != NIL:
        _erase_fix(f, tree, lacking)
    _drop_row(f, x)


@kernel
def _place_in(node: NDArray[np.int64], x: int, align: int, vstart: int) -> int:
    """Lowest aligned address in a block that is not below vstart."""
    return (max(node[x, START], vstart) + align - 1) & -align


@kernel
def _fits(node: NDArray[np.int64], x: int, size: int, align: int, vstart: int) -> bool:
    """is_within_this_va()."""
    return _place_in(node, x, align, vstart) + size <= node[x, END]


@kernel
def find_vmap_lowest_match(
    f: Forest, tree: int, size: int, align: int, vstart: int, vend: int
) -> int:
    """Find the block that a request is taken from; return its row or NIL.

    mm/vmalloc.c: find_vmap_lowest_match, with the rule of 5.10 (always size + align - 1, no
    change of vstart) or of 9f531973dff3 and later.
    """
    node = f.node
    exact = f.reg[PADDED] == 0 and (align <= PAGE or vend - vstart == size)
    length = size if exact else size + align - 1
    x = f.root[tree]
    # Each step either goes down, or climbs and turns right behind a node that vstart then
    # passes; the bound only matters for trees that the kernel cannot have.
    for _ in range(1 << 20):
        if x == NIL:
            return NIL
        left = node[x, LEFT]
        if left != NIL and node[left, MAX] >= length and vstart < node[x, START]:
            x = left
            continue
        if _fits(node, x, size, align, vstart):
            return x
        right = node[x, RIGHT]
        if right != NIL and node[right, MAX] >= length:
            x = right
            continue
        while True:
            x = node[x, PARENT]
            if x == NIL:
                return NIL
            if _fits(node, x, size, align, vstart):
                return x
            right = node[x, RIGHT]
            if right != NIL and node[right, MAX] >= length and vstart <= node[x, START]:
                if f.reg[MOVES] == 1:
                    vstart = node[x, START] + 1
                x = right
                break
    return NIL


@kernel
def lowest(f: Forest, tree: int, size: int, align: int, vstart: int, vend: int) -> int:
    """Address that a request gets, or FAIL: __alloc_vmap_area() without the carving."""
    x = find_vmap_lowest_match(f, tree, size, align, vstart, vend)
    if x == NIL:
        return FAIL
    start = _place_in(f.node, x, align, vstart)
    return FAIL if start + size > vend else start


@kernel
def _neighbours(f: Forest, tree: int, start: int) -> tuple[int, int]:
    """Blocks before and after an address: the last that starts at or below it, the next."""
    before, after = NIL, NIL
    x = f.root[tree]
    while x != NIL:
        if f.node[x, START] <= start:
            before = x
            x = f.node[x, RIGHT]
        else:
            after = x
            x = f.node[x, LEFT]
    return before, after


@kernel
def _carve(f: Forest, tree: int, x: int, start: int, end: int) -> None:
    """Take [start, end) out of block `x`, which holds it: adjust_va_to_fit_type()."""
    node = f.node
    first, last = node[x, START], node[x, END]
    if start == first and end == last:
        erase(f, tree, x)
    elif start == first:
        node[x, START] = end
        propagate(node, x)
    elif end == last:
        node[x, END] = start
        propagate(node, x)
    else:
        node[x, START] = end  # the old node becomes the right remainder
        propagate(node, x)
        insert(f, tree, first, start)


@kernel
def take(f: Forest, tree: int, start: int, end: int) -> bool:
    """Make [start, end) unavailable; return whether it was one piece of a free block.

    What is not free stays as it is: a trace may contradict the model.
    """
    before, after = _neighbours(f, tree, start)
    if before != NIL and f.node[before, END] >= end:
        _carve(f, tree, before, start, end)
        return True
    if before != NIL and f.node[before, END] > start:
        _carve(f, tree, before, start, f.node[before, END])
    while True:
        before, after = _neighbours(f, tree, start)
        if after == NIL or f.node[after, START] >= end:
            return False
        _carve(f, tree, after, f.node[after, START], min(end, f.node[after, END]))


@kernel
def give_back(f: Forest, tree: int, start: int, end: int) -> bool:
    """Return an area to the free tree; False if part of it was free already.

    mm/vmalloc.c: merge_or_add_vmap_area_augment.
    """
    node = f.node
    before, after = _neighbours(f, tree, start)
    if (before != NIL and node[before, END] > start) or (after != NIL and node[after, START] < end):
        return False
    merged = after != NIL and node[after, START] == end
    if merged:
        node[after, START] = start
        propagate(node, after)
    if before != NIL and node[before, END] == start:
        if merged:
            end = node[after, END]
            erase(f, tree, after)
        node[before, END] = end
        propagate(node, before)
    elif not merged:
        insert(f, tree, start, end)
    return True


@kernel
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
        before, _ = _neighbours(f, tree, erased[i])
        if before != NIL and f.node[before, START] == erased[i]:
            erase(f, tree, before)


@kernel
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
            _drop_row(f, x)
            x = parent


@kernel
def _copy_row(f: Forest, x: int, parent: int) -> int:
    y = _new_row(f)
    for column in range(COLUMNS):  # a slice would need memory of its own to be copied safely
        f.node[y, column] = f.node[x, column]
    f.node[y, LEFT], f.node[y, RIGHT], f.node[y, PARENT] = NIL, NIL, parent
    return y


@kernel
def copy(f: Forest, source: int, target: int) -> None:
    """Make an empty tree equal to another one."""
    node = f.node
    x = f.root[source]
    if x == NIL:
        return
    y = _copy_row(f, x, NIL)
    f.root[target] = y
    while x != NIL:
        side = NIL
        if node[x, LEFT] != NIL and node[y, LEFT] == NIL:
            side = LEFT
        elif node[x, RIGHT] != NIL and node[y, RIGHT] == NIL:
            side = RIGHT
        if side == NIL:
            x, y = node[x, PARENT], node[y, PARENT]
        else:
            x = node[x, side]
            node[y, side] = _copy_row(f, x, y)
            y = node[y, side]


@kernel
def count(f: Forest, tree: int) -> int:
    """Number of blocks."""
    n = 0
    x = _first(f.node, f.root[tree])
    while x != NIL:
        n += 1
        x = _after(f.node, x)
    return n


@kernel
def _first(node: NDArray[np.int64], x: int) -> int:
    while x != NIL and node[x, LEFT] != NIL:
        x = node[x, LEFT]
    return x


@kernel
def _after(node: NDArray[np.int64], x: int) -> int:
    """Next block by address: rb_next()."""
    if node[x, RIGHT] != NIL:
        return _first(node, node[x, RIGHT])
    parent = node[x, PARENT]
    while parent != NIL and node[parent, RIGHT] == x:
        x, parent = parent, node[parent, PARENT]
    return parent


@kernel
def shape_matters(f: Forest, tree: int, size: int, align: int, vstart: int, vend: int) -> bool:
    """Whether trees of another shape could serve a request from another block.

    A search reaches the lowest block that is large enough for any alignment and fits, or a lower
    block that fits by luck and happens to lie on its path. Only where there is such a block does
    the shape matter.
    """
    if f.reg[PADDED] == 0 and (align <= PAGE or vend - vstart == size):
        return False
    node = f.node
    before, x = _neighbours(f, tree, vstart)
    if before != NIL and node[before, END] > vstart:
        x = before
    while x != NIL:
        if _fits(node, x, size, align, vstart):
            return bool(node[x, END] - node[x, START] < size + align - 1)
        x = _after(node, x)
    return False


@kernel
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


@kernel
def same_shape(f: Forest, one: int, other: int) -> bool:
    """Whether two trees are equal in blocks, links and colours."""
    node = f.node
    x, y = f.root[one], f.root[other]
    came_x = NIL
    while NIL not in (x, y):
        # walk both in step: down on the left, then on the right, then up
        if came_x == node[x, PARENT]:
            if (
                node[x, START] != node[y, START]
                or node[x, END] != node[y, END]
                or node[x, RED] != node[y, RED]
                or (node[x, LEFT] == NIL) != (node[y, LEFT] == NIL)
                or (node[x, RIGHT] == NIL) != (node[y, RIGHT] == NIL)
            ):
                return False
            if node[x, LEFT] != NIL:
                came_x, x, y = x, node[x, LEFT], node[y, LEFT]
                continue
            came_x = NIL - 1  # nothing on the left: done with it
        if (came_x == NIL - 1 or came_x == node[x, LEFT]) and node[x, RIGHT] != NIL:
            came_x, x, y = x, node[x, RIGHT], node[y, RIGHT]
        else:
            came_x, x, y = x, node[x, PARENT], node[y, PARENT]
    return x == NIL and y == NIL
