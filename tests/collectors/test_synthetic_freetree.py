"""The simulated kernel's free tree: a red-black tree, and the same one as the model's."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.synthetic.freetree import FreeTree, Node
from replay.arena.loops import freetree as model

P = 4096
LOW, HIGH = 0xF780_0000, 0xF7A0_0000

requests = st.tuples(
    st.integers(1, 40), st.sampled_from((1, P, 4 * P, 16 * P, 64 * P)), st.integers(0, 1 << 30)
)


def check(node: Node | None) -> tuple[int, int]:
    """Black height and largest block below a node; every rule of the tree is kept."""
    if node is None:
        return 1, 0
    for child in (node.left, node.right):
        if child is not None:
            assert child.parent is node
            assert not (node.red and child.red)
    (left, most_left), (right, most_right) = check(node.left), check(node.right)
    assert left == right
    assert node.most == max(node.end - node.start, most_left, most_right)
    return left + (not node.red), node.most


def shape(trees: Any, row: int) -> list[Any] | None:
    """The model's tree in the form of `FreeTree.as_json`."""
    if row == model.NIL:
        return None
    start, end, left, right, red = (
        int(trees.node[row, c])
        for c in (model.START, model.END, model.LEFT, model.RIGHT, model.RED)
    )
    return [start, end, red, shape(trees, left), shape(trees, right)]


@settings(max_examples=60)
@given(st.lists(requests, max_size=120), st.sampled_from((P, 4 * P, 16 * P)))
def test_same_shape_as_the_models(steps: list[tuple[int, int, int]], page: int) -> None:
    """Two trees written apart give the same addresses and have the same shape throughout."""
    ours = FreeTree(page)
    ours.give_back(1, 0xFFFF_FFFF)
    theirs = model.new_forest(1, 1 << 10, model.Rule("adjusted", moves=True, page_size=page))
    model.insert(theirs, 0, 1, 0xFFFF_FFFF)
    used: list[tuple[int, int]] = []
    for pages, align, choice in steps:
        if choice % 5 < 2 and used:
            start, end = used.pop(choice % len(used))
            ours.give_back(start, end)
            assert model.give_back(theirs, 0, start, end)
        else:
            start = ours.find(pages * P, align, LOW, HIGH)
            assert start == model.lowest(theirs, 0, pages * P, align, LOW, HIGH)
            if start < 0:
                continue
            ours.take(start, start + pages * P)
            assert model.take(theirs, 0, start, start + pages * P)
            used.append((start, start + pages * P))
        assert ours.root is None or not ours.root.red
        check(ours.root)
        assert ours.as_json() == shape(theirs, int(theirs.root[0]))
    taken = sum(end - start for start, end in used)
    assert sum(end - start for start, end in ours.blocks()) == 0xFFFF_FFFE - taken


def test_the_vector_that_depends_on_the_shape() -> None:
    """Blocks L, M, B; 0x8000 aligned to itself: L fits and is lowest, but M's way leads to B."""
    blocks = ((0xF781_0000, 0xF781_8000), (0xF782_1000, 0xF782_3000), (0xF784_0000, 0xF788_0000))
    found = []
    for order in ((0, 1, 2), (1, 0, 2), (2, 1, 0)):
        tree = FreeTree()
        for index in order:
            tree.give_back(*blocks[index])
        found.append(tree.find(0x8000, 0x8000, 0xF780_0000, 0xF790_0000))
    assert found == [0xF784_0000] * 3
    tree = FreeTree()
    for index in (0, 2):
        tree.give_back(*blocks[index])
    assert tree.find(0x8000, 0x8000, 0xF780_0000, 0xF790_0000) == 0xF781_0000
