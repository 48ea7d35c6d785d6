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

from replay.compiled import part

if TYPE_CHECKING:
    from numpy.typing import NDArray

NIL = -1
FAIL = -2
"""Result of a request that no block can serve below its upper limit."""

# Columns of Forest.node
START, END, MAX, LEFT, RIGHT, PARENT, RED = 0, 1, 2, 3, 4, 5, 6
COLUMNS = 7

# Positions in Forest.reg
SPARE = 0  # first row of the list of unused ones, linked by START; NIL: there is none
SEARCH = 1  # rule of the search: ADJUSTED, PADDED or EXACT
MOVES = 2  # 1: the climb of the search moves vstart behind the node that it leaves
HIGH = 3  # rows from here on were never used
CONTRADICTIONS = 4  # areas given back that were free already, in whole or in part
PAGE_SIZE = 5  # bytes
REGISTERS = 6

# Rules of the search: what the descent asks for. Generation.search
ADJUSTED = 0  # size + align - 1 for alignments above a page, else the size
PADDED = 1  # always size + align - 1
EXACT = 2  # always the size
RULES = {"adjusted": ADJUSTED, "padded": PADDED, "exact": EXACT}


class Rule(NamedTuple):
    """How a kernel searches its free tree.

    Attributes
    ----------
    search, moves
        ``Generation.search`` and ``search_moves_vstart``.
    page_size
        Bytes: up to a page an alignment costs the descent nothing (ADJUSTED).
    """

    search: str
    moves: bool
    page_size: int

    def shape_decides(self, align: int) -> bool:
        """Whether the shape of the tree may decide where a request of such alignment goes."""
        above = 1 if self.search == "padded" else self.page_size
        return self.search != "exact" and align > above


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


def new_forest(trees: int, capacity: int, rule: Rule) -> Forest:
    """Empty trees.

    Parameters
    ----------
    trees
        Number of trees.
    capacity
        Nodes that they have room for, together.
    rule
        How requests are searched for.

    Returns
    -------
    Forest
    """
    reg = np.zeros(REGISTERS, np.int64)
    reg[SPARE], reg[SEARCH], reg[MOVES] = NIL, RULES[rule.search], rule.moves
    reg[PAGE_SIZE] = rule.page_size
    return Forest(
        np.zeros((capacity, COLUMNS), np.int64),
        np.full(trees, NIL, np.int64),
        np.ones(trees, np.uint8),
        reg,
    )


def like(forest: Forest) -> Forest:
    """Room for a copy of these trees; what its nodes hold means nothing."""
    return Forest(
        np.empty_like(forest.node), forest.root.copy(), forest.alive.copy(), forest.reg.copy()
    )


def copied(forest: Forest) -> Forest:
    """The same trees, in memory of their own."""
    return Forest(forest.node.copy(), forest.root.copy(), forest.alive.copy(), forest.reg.copy())


def grown(forest: Forest, capacity: int) -> Forest:
    """The same trees with room for `capacity` nodes."""
    node = np.zeros((capacity, COLUMNS), np.int64)
    node[: forest.node.shape[0]] = forest.node
    return forest._replace(node=node)


@part
def new_row(f: Forest) -> int:
    """Row for a new node; the caller sees to it that there is room."""
    x = f.reg[SPARE]
    if x == NIL:
        x = f.reg[HIGH]
        f.reg[HIGH] += 1
    else:
        f.reg[SPARE] = f.node[x, START]
    return x


@part
def drop_row(f: Forest, x: int) -> None:
    """Give a node's row up for another one."""
    f.node[x, START] = f.reg[SPARE]
    f.reg[SPARE] = x


@part
def _update_max(node: NDArray[np.int64], x: int) -> None:
    """compute_subtree_max_size()."""
    best = node[x, END] - node[x, START]
    left, right = node[x, LEFT], node[x, RIGHT]
    if left != NIL:
        best = max(best, node[left, MAX])
    if right != NIL:
        best = max(best, node[right, MAX])
    node[x, MAX] = best


@part
def propagate(node: NDArray[np.int64], x: int) -> None:
    """Bring the subtree maxima up to date from a node to the root."""
    while x != NIL:
        _update_max(node, x)
        x = node[x, PARENT]


@part
def _replace_child(f: Forest, tree: int, parent: int, old: int, new: int) -> None:
    if parent == NIL:
        f.root[tree] = new
    elif f.node[parent, LEFT] == old:
        f.node[parent, LEFT] = new
    else:
        f.node[parent, RIGHT] = new


@part
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


@part
def _is_red(node: NDArray[np.int64], x: int) -> bool:
    return x != NIL and node[x, RED] == 1


@part
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


@part
def insert(f: Forest, tree: int, start: int, end: int) -> None:
    """Add a block as a new leaf: link_va() and rebalancing."""
    node = f.node
    x = new_row(f)
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


@part
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


@part
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
    drop_row(f, x)


@part
def place_in(node: NDArray[np.int64], x: int, align: int, vstart: int) -> int:
    """Lowest aligned address in a block that is not below vstart."""
    return (max(node[x, START], vstart) + align - 1) & -align


@part
def fits(node: NDArray[np.int64], x: int, size: int, align: int, vstart: int) -> bool:
    """is_within_this_va()."""
    return place_in(node, x, align, vstart) + size <= node[x, END]


@part
def search_length(f: Forest, size: int, align: int, room: int) -> int:
    """Size of the blocks that the descent looks for, in a range of `room` bytes."""
    rule = f.reg[SEARCH]
    if rule == EXACT or (rule == ADJUSTED and (align <= f.reg[PAGE_SIZE] or room == size)):
        return size
    return size + align - 1


@part
def find_vmap_lowest_match(
    f: Forest, tree: int, size: int, align: int, vstart: int, vend: int
) -> int:
    """Find the block that a request is taken from; return its row or NIL.

    mm/vmalloc.c: find_vmap_lowest_match, with one of its three rules.
    """
    node = f.node
    length = search_length(f, size, align, vend - vstart)
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
        if fits(node, x, size, align, vstart):
            return x
        right = node[x, RIGHT]
        if right != NIL and node[right, MAX] >= length:
            x = right
            continue
        while True:
            x = node[x, PARENT]
            if x == NIL:
                return NIL
            if fits(node, x, size, align, vstart):
                return x
            right = node[x, RIGHT]
            if right != NIL and node[right, MAX] >= length and vstart <= node[x, START]:
                if f.reg[MOVES] == 1:
                    vstart = node[x, START] + 1
                x = right
                break
    return NIL


@part
def neighbours(f: Forest, tree: int, start: int) -> tuple[int, int]:
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


@part
def highest(f: Forest, tree: int, size: int, align: int, vstart: int, vend: int) -> int:
    """Address of a percpu chunk of one area, or FAIL.

    mm/vmalloc.c: pcpu_get_vm_areas, pvm_find_va_enclose_addr, pvm_determine_end_from_reverse. The
    shape of the tree does not matter.
    """
    before, _ = neighbours(f, tree, vend)
    while before != NIL:
        start = (min(f.node[before, END], vend) & -align) - size
        if start < vstart:
            return FAIL
        if start >= f.node[before, START]:
            return int(start)
        before, _ = neighbours(f, tree, f.node[before, START] - 1)
    return FAIL


@part
def lowest(f: Forest, tree: int, size: int, align: int, vstart: int, vend: int) -> int:
    """Address that a request gets, or FAIL: __alloc_vmap_area() without the carving.

    A negative `align`: from the top down (:func:`highest`).
    """
    if align < 0:
        return int(highest(f, tree, size, -align, vstart, vend))
    x = find_vmap_lowest_match(f, tree, size, align, vstart, vend)
    if x == NIL:
        return FAIL
    start = place_in(f.node, x, align, vstart)
    return FAIL if start + size > vend else start


@part
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


@part
def take(f: Forest, tree: int, start: int, end: int) -> bool:
    """Make [start, end) unavailable; return whether it was one piece of a free block.

    What is not free stays as it is: a trace may contradict the model.
    """
    before, after = neighbours(f, tree, start)
    if before != NIL and f.node[before, END] >= end:
        _carve(f, tree, before, start, end)
        return True
    if before != NIL and f.node[before, END] > start:
        _carve(f, tree, before, start, f.node[before, END])
    while True:
        before, after = neighbours(f, tree, start)
        if after == NIL or f.node[after, START] >= end:
            return False
        _carve(f, tree, after, f.node[after, START], min(end, f.node[after, END]))


@part
def give_back(f: Forest, tree: int, start: int, end: int) -> bool:
    """Return an area to the free tree; False if part of it was free already.

    mm/vmalloc.c: merge_or_add_vmap_area_augment.
    """
    node = f.node
    before, after = neighbours(f, tree, start)
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
