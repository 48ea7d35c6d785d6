"""Answers that depend on the shape of the free tree, and yet are what they must be.

For :mod:`replay.arena.loops.judge`. Where the shape is not known, an earlier answer may tell enough
of it. Let B be the lowest block that is as large as the descent asks for (search_length) and Z the
highest such block that begins at or below the range. find_vmap_lowest_match() then looks at those
blocks between Z and B only that are ancestors of Z or of B: on its way down it goes left wherever
Z or B lies there, and right only towards B; on its way up from Z it meets Z's ancestors. The first
of them that fits is taken, else B. So an answer in B tells that no block between Z and B that fits
is an ancestor of either, and the next request of the same kind gets B again if still none is:

- A block that shrinks or moves its border in place changes no link of the tree, and none of the
  sizes that the descent compares with, as long as B stays large enough.
- Putting a new leaf in lifts a node (lib/rbtree.c: __rb_insert) only if the leaf is below that
  node. To become an ancestor of B or Z, which lies outside, the node and so the leaf must be
  between Z and B. A leaf elsewhere changes nothing.
- Where B is cut in its middle, the part below becomes a leaf next to B. It can lift one block that
  was two links below B to the left. This is known only as far as the trees that are tried tell
  (BELOW_PUT).
- Whatever else puts a block in, takes one out or gives one back may change any link: nothing is
  known then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from replay.arena.loops.evidence import (
    ALIGN,
    ALIKE,
    ANCHOR,
    BELOW_PUT,
    BLOCK,
    MAX_PATHS,
    OF_ALIGN,
    OF_SIZE,
    OF_VEND,
    OF_VSTART,
    PATHS,
    SAME,
    SAME_PATH,
    SEEN,
    SIZE,
    STATE,
    VEND,
    VSTART,
    Ruling,
)
from replay.arena.loops.freetree import END, NIL, START, Forest, neighbours, search_length
from replay.arena.loops.shapes import next_block
from replay.compiled import part

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@part
def _length(f: Forest, e: NDArray[np.int64]) -> int:
    return int(search_length(f, e[SIZE], e[ALIGN], e[VEND] - e[VSTART]))


@part
def _wide_block(f: Forest, e: NDArray[np.int64]) -> int:
    """The lowest block above the range's start that is large enough for any alignment."""
    length = _length(f, e)
    _, x = neighbours(f, 0, e[VSTART])
    while x != NIL and f.node[x, END] - f.node[x, START] < length:
        x = next_block(f.node, x)
    return int(x)


@part
def _anchor(f: Forest, e: NDArray[np.int64]) -> int:
    """Start of the highest such block that does not begin above the range's start; NIL none."""
    length = _length(f, e)
    x, _ = neighbours(f, 0, e[VSTART])
    while x != NIL and f.node[x, END] - f.node[x, START] < length:
        x, _ = neighbours(f, 0, f.node[x, START] - 1)
    return NIL if x == NIL else int(f.node[x, START])


@part
def _path_of(r: Ruling, e: NDArray[np.int64]) -> int:
    """Row of what is known of requests of a kind; NIL nothing."""
    for k in range(r.reg[PATHS]):
        p = r.path[k]
        same = p[OF_SIZE] == e[SIZE] and p[OF_ALIGN] == e[ALIGN]
        if same and p[OF_VSTART] == e[VSTART] and p[OF_VEND] == e[VEND]:
            return k
    return NIL


@part
def _drop(r: Ruling, k: int) -> None:
    n = r.reg[PATHS] - 1
    for column in range(r.path.shape[1]):
        r.path[k, column] = r.path[n, column]
    r.reg[PATHS] = n


@part
def follow_path(f: Forest, r: Ruling, e: NDArray[np.int64], i: int) -> None:
    """Rule on a request whose answer depends on the shape, and note what the answer tells.

    Its answer, if it was given one by the last, is put in the place of another.
    """
    k = _path_of(r, e)
    x, anchor = _wide_block(f, e), _anchor(f, e)
    place = 0 if x == NIL else (f.node[x, START] + e[ALIGN] - 1) & -e[ALIGN]
    good = x != NIL and place + e[SIZE] <= e[VEND]
    if k != NIL:
        p = r.path[k]
        if good and p[BLOCK] == f.node[x, START] and p[ANCHOR] == anchor:
            r.answer[i] = place
            r.found[i] |= SAME_PATH if p[STATE] == SAME else ALIKE
        _drop(r, k)
    if good and e[SEEN] == place:
        n = r.reg[PATHS]
        if n == MAX_PATHS:
            _drop(r, 0)
            n -= 1
        p = r.path[n]
        p[OF_SIZE], p[OF_ALIGN], p[OF_VSTART] = e[SIZE], e[ALIGN], e[VSTART]
        p[OF_VEND], p[BLOCK], p[ANCHOR], p[STATE] = e[VEND], f.node[x, START], anchor, SAME
        r.reg[PATHS] = n + 1


@part
def carve_paths(f: Forest, r: Ruling, start: int, end: int) -> None:
    """What is known still when [start, end) has been taken out of the tree, which holds it yet."""
    x, _ = neighbours(f, 0, start)
    if r.reg[PATHS] == 0:
        return
    if x == NIL or f.node[x, END] < end or (f.node[x, START] == start and f.node[x, END] == end):
        r.reg[PATHS] = 0
        return
    first, last = f.node[x, START], f.node[x, END]
    middle = first < start and end < last
    for k in range(r.reg[PATHS] - 1, -1, -1):
        p = r.path[k]
        length = search_length(f, p[OF_SIZE], p[OF_ALIGN], p[OF_VEND] - p[OF_VSTART])
        if first == p[BLOCK]:
            left = last - end if end < last else start - first
            below = (first + p[OF_ALIGN] - 1) & -p[OF_ALIGN]
            if left < length or (middle and below + p[OF_SIZE] <= start):
                _drop(r, k)
                continue
            if end < last:
                p[BLOCK] = end
            if middle:
                p[STATE] = BELOW_PUT
        elif first == p[ANCHOR] or (middle and p[ANCHOR] < first < p[BLOCK]):
            _drop(r, k)
