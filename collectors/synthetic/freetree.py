"""The free blocks of the address space, in the kernel's red-black tree.

Which hole an aligned request gets depends on the shape of the tree, so the tree has to be the
kernel's: lib/rbtree.c is the textbook algorithm (Cormen et al., chapter 13; a node with two
children gives its place to its successor). mm/vmalloc.c: find_vmap_lowest_match,
adjust_va_to_fit_type, merge_or_add_vmap_area.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from collectors.synthetic.board import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator


class Node:
    """A free block [start, end) and, in `most`, the size of the largest one below it."""

    __slots__ = ("end", "left", "most", "parent", "red", "right", "start")

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        self.most = end - start
        self.red = True
        self.left: Node | None = None
        self.right: Node | None = None
        self.parent: Node | None = None


def _most(node: Node | None) -> int:
    return 0 if node is None else node.most


def _is_red(node: Node | None) -> bool:
    return node is not None and node.red


class FreeTree:
    """Free blocks, ordered by address."""

    def __init__(self, page_size: int = PAGE) -> None:
        self.page_size = page_size
        self.root: Node | None = None

    # What the allocator asks for

    def find(self, size: int, align: int, low: int, high: int) -> int:
        """Address for a request, -1 where there is none.

        The way down looks for a block of size + align - 1 (unless the alignment is that of a
        page, or the request may only go to one place), but a block on the way is taken as soon
        as the request fits into it.
        """
        exact = align <= self.page_size or high - low == size
        length = size if exact else size + align - 1
        lowest = low
        node = self.root
        found: Node | None = None
        while node is not None and found is None:
            if _most(node.left) >= length and lowest < node.start:
                node = node.left
            elif self._fits(node, size, align, low):
                found = node
            elif _most(node.right) >= length:
                node = node.right
            else:
                lowest, node, found = self._climb(node, size, align, low, lowest, length)
        if found is None:
            return -1
        start = self._place(found, align, low)
        return start if start + size <= high else -1

    def _climb(
        self, node: Node, size: int, align: int, low: int, lowest: int, length: int
    ) -> tuple[int, Node | None, Node | None]:
        """Go up until a block fits, or until there is something to the right to go down to."""
        up = node.parent
        while up is not None:
            if self._fits(up, size, align, low):
                return lowest, None, up
            if _most(up.right) >= length and lowest <= up.start:
                return up.start + 1, up.right, None
            up = up.parent
        return lowest, None, None

    @staticmethod
    def _place(node: Node, align: int, low: int) -> int:
        return -(-max(node.start, low) // align) * align

    def _fits(self, node: Node, size: int, align: int, low: int) -> bool:
        return self._place(node, align, low) + size <= node.end

    def take(self, start: int, end: int) -> None:
        """Take a range out of the block that holds it."""
        node = self._holding(start)
        if node.start == start and node.end == end:
            self._erase(node)
        elif node.start == start:
            node.start = end
            self._grew(node)
        elif node.end == end:
            node.end = start
            self._grew(node)
        else:  # the block becomes what is left above; what is left below is a new one
            below = Node(node.start, start)
            node.start = end
            self._grew(node)
            self._insert(below)

    def give_back(self, start: int, end: int) -> None:
        """Put a range back; it joins the blocks that it touches."""
        before, after = self._around(start)
        if after is not None and after.start == end:
            after.start = start
            if before is not None and before.end == start:
                end = after.end
                self._erase(after)
                before.end = end
                self._grew(before)
            else:
                self._grew(after)
        elif before is not None and before.end == start:
            before.end = end
            self._grew(before)
        else:
            self._insert(Node(start, end))

    def blocks(self) -> list[tuple[int, int]]:
        """All blocks, ascending."""
        return [(node.start, node.end) for node in self._in_order(self.root)]

    def as_json(self, node: Node | None = None, *, top: bool = True) -> list[Any] | None:
        """Nested [start, end, red, left, right], as ``state.json`` has it."""
        node = self.root if top else node
        if node is None:
            return None
        left = self.as_json(node.left, top=False)
        right = self.as_json(node.right, top=False)
        return [node.start, node.end, int(node.red), left, right]

    # The tree itself

    def _in_order(self, node: Node | None) -> Iterator[Node]:
        if node is not None:
            yield from self._in_order(node.left)
            yield node
            yield from self._in_order(node.right)

    def _holding(self, address: int) -> Node:
        node = self.root
        while node is not None and not node.start <= address < node.end:
            node = node.left if address < node.start else node.right
        if node is None:
            msg = f"{address:#x} is not free"
            raise RuntimeError(msg)
        return node

    def _around(self, address: int) -> tuple[Node | None, Node | None]:
        """Blocks before and behind an address that is in none."""
        before = after = None
        node = self.root
        while node is not None:
            if address < node.start:
                after, node = node, node.left
            else:
                before, node = node, node.right
        return before, after

    @staticmethod
    def _grew(node: Node | None) -> None:
        """Renew `most` from a node up to the root."""
        while node is not None:
            node.most = max(node.end - node.start, _most(node.left), _most(node.right))
            node = node.parent

    def _insert(self, new: Node) -> None:
        parent, node = None, self.root
        while node is not None:
            parent, node = node, (node.left if new.start < node.start else node.right)
        new.parent = parent
        if parent is None:
            self.root = new
        elif new.start < parent.start:
            parent.left = new
        else:
            parent.right = new
        self._grew(parent)
        self._mend_insertion(new)

    def _mend_insertion(self, node: Node) -> None:
        while (parent := node.parent) is not None and parent.red:
            grand = parent.parent
            if grand is None:
                break
            is_left = parent is grand.left
            uncle = grand.right if is_left else grand.left
            if uncle is not None and uncle.red:
                parent.red = uncle.red = False
                grand.red = True
                node = grand
                continue
            if node is (parent.right if is_left else parent.left):
                self._rotate(parent, left=is_left)
                parent = node
            parent.red = False
            grand.red = True
            self._rotate(grand, left=not is_left)
            break
        if self.root is not None:
            self.root.red = False

    def _rotate(self, node: Node, *, left: bool) -> None:
        """Rotate so that the right (`left`) or left child takes the node's place."""
        child = node.right if left else node.left
        if child is None:
            raise RuntimeError("rotation without a child")
        inner = child.left if left else child.right
        if left:
            node.right, child.left = inner, node
        else:
            node.left, child.right = inner, node
        if inner is not None:
            inner.parent = node
        self._replace(node, child)
        node.parent = child
        for changed in (node, child):
            size = changed.end - changed.start
            changed.most = max(size, _most(changed.left), _most(changed.right))

    def _replace(self, old: Node, new: Node | None) -> None:
        """Hang `new` where `old` hangs."""
        parent = old.parent
        if parent is None:
            self.root = new
        elif old is parent.left:
            parent.left = new
        else:
            parent.right = new
        if new is not None:
            new.parent = parent

    def _erase(self, node: Node) -> None:
        if node.left is None or node.right is None:
            child = node.left or node.right
            parent, black = node.parent, not node.red
            self._replace(node, child)
        else:
            heir = node.right
            while heir.left is not None:
                heir = heir.left
            child, black = heir.right, not heir.red
            if heir.parent is node:
                parent = heir
            else:
                parent = heir.parent
                self._replace(heir, child)
                heir.right = node.right
                heir.right.parent = heir
            self._replace(node, heir)
            heir.left = node.left
            heir.left.parent = heir
            heir.red = node.red
        self._grew(parent)
        if black:
            self._mend_erasure(child, parent)

    def _mend_erasure(self, node: Node | None, parent: Node | None) -> None:
        """Give a black node back to the paths through `node`, which may be no node at all."""
        while parent is not None and not _is_red(node):
            is_left = node is parent.left
            sibling = parent.right if is_left else parent.left
            if sibling is None:
                break
            if sibling.red:
                sibling.red, parent.red = False, True
                self._rotate(parent, left=is_left)
                sibling = parent.right if is_left else parent.left
                if sibling is None:
                    break
            far = sibling.right if is_left else sibling.left
            near = sibling.left if is_left else sibling.right
            if not _is_red(far) and not _is_red(near):
                sibling.red = True
                node, parent = parent, parent.parent
                continue
            if not _is_red(far) and near is not None:
                near.red, sibling.red = False, True
                self._rotate(sibling, left=not is_left)
                far, sibling = sibling, near
            sibling.red, parent.red = parent.red, False
            if far is not None:
                far.red = False
            self._rotate(parent, left=is_left)
            return
        if node is not None:
            node.red = False
