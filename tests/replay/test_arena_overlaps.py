"""Orders of overlapping calls: all shapes that they lead to, against plain enumeration."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from replay.arena.loops import freetree as tree
from replay.arena.loops import items as k
from replay.arena.loops import order, overlaps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

P = 4096
LOW, HIGH = 0x10_0000, 0x40_0000
SLOTS = 16
RULE = tree.Rule("adjusted", moves=True, page_size=P)
Shape = tuple[tuple[int, ...], ...]
Step = tuple[int, int]  # item, area


def shape_of(f: tree.Forest, c: int) -> Shape:
    """Nodes in preorder, with what tells their place."""
    out: list[tuple[int, ...]] = []
    waiting = [(int(f.root[c]), 0)]
    while waiting:
        x, depth = waiting.pop()
        if x == tree.NIL:
            continue
        start, end, red = (int(f.node[x, n]) for n in (tree.START, tree.END, tree.RED))
        out.append((depth, start, end, red))
        waiting += [(int(f.node[x, tree.RIGHT]), depth + 1), (int(f.node[x, tree.LEFT]), depth + 1)]
    return tuple(out)


def grown(seed: int) -> tree.Forest:
    """A tree of some holes, and room for more trees."""
    rng = random.Random(seed)
    f = tree.new_forest(SLOTS, 1 << 12, RULE)
    f.alive[1:] = 0
    for page in rng.sample(range(0, (HIGH - LOW) // P, 8), 12):
        tree.insert(f, 0, LOW + page * P, LOW + page * P + rng.randint(1, 6) * P)
    return f


def copied(f: tree.Forest) -> tree.Forest:
    return tree.Forest(*(part.copy() for part in f))


class Case:
    """Two allocations and two purges of some areas each, in intervals that overlap."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.start = grown(seed)
        free = {node[1] // P: node[2] for node in shape_of(self.start, 0)}
        taken = [p for start, end in free.items() for p in range(start, end // P)]
        rest = sorted(set(range(LOW // P, HIGH // P)) - set(taken))
        areas = sorted(rng.sample(rest, 4))
        self.given = np.array([(p * P, (p + 1) * P) for p in areas], np.int64)
        self.items = np.zeros((4, k.COLUMNS), np.int64)
        self.items[:, k.LO] = [rng.randint(0, 6) for _ in range(4)]
        self.items[:, k.HI] = self.items[:, k.LO] + [rng.randint(1, 8) for _ in range(4)]
        self.items[:2, k.KIND] = k.ALLOC
        self.items[:2, k.SIZE] = [rng.randint(1, 3) * P for _ in range(2)]
        self.items[:2, k.ALIGN] = [rng.choice((1, 2 * P, 4 * P)) for _ in range(2)]
        self.items[:2, k.VSTART], self.items[:2, k.VEND] = LOW, HIGH
        self.items[2:, k.KIND] = k.GIVE
        self.items[2:, k.FIRST] = self.items[2:, k.NEXT] = 0, 2
        self.items[2:, k.LAST] = 2, 4
        self.items = self.items[np.argsort(self.items[:, k.HI], kind="stable")]
        self._observe(rng)

    def _observe(self, rng: random.Random) -> None:
        """What the kernel returned, in one of the possible orders."""
        steps = rng.choice(list(self.orders()))
        f = copied(self.start)
        for item, area in steps:
            row = self.items[item]
            if area < 0:
                request = (int(row[n]) for n in (k.SIZE, k.ALIGN, k.VSTART, k.VEND))
                row[k.SEEN] = tree.lowest(f, 0, *request)
            self._serve(f, item, area)
        self.true = shape_of(f, 0)

    def orders(self) -> Iterator[tuple[Step, ...]]:
        """Every order of the steps that the intervals and the purges' lock allow."""
        todo = {
            i: [(i, -1)] if row[k.KIND] == k.ALLOC else [
                (i, a) for a in range(row[k.FIRST], row[k.LAST])
            ]
            for i, row in enumerate(self.items.tolist())
        }  # fmt: skip

        def further(done: list[Step], count: dict[int, int]) -> Iterator[tuple[Step, ...]]:
            left = [i for i in todo if count[i] < len(todo[i])]
            if not left:
                yield tuple(done)
            earliest = min((self.items[i, k.HI] for i in left), default=0)
            half = [i for i in left if count[i]]
            for i in left:
                purge = self.items[i, k.KIND] == k.GIVE
                if self.items[i, k.LO] <= earliest and not (purge and half and i not in half):
                    step = todo[i][count[i]]
                    yield from further([*done, step], count | {i: count[i] + 1})

        yield from further([], dict.fromkeys(todo, 0))

    def _serve(self, f: tree.Forest, item: int, area: int) -> None:
        row = self.items[item]
        if area >= 0:
            tree.give_back(f, 0, *self.given[area].tolist())
        elif row[k.SEEN] >= 0:
            tree.take(f, 0, int(row[k.SEEN]), int(row[k.SEEN] + row[k.SIZE]))

    def shapes(self) -> set[Shape]:
        """Trees of all orders that lead to the observed addresses."""
        found = set()
        for steps in self.orders():
            f = copied(self.start)
            for item, area in steps:
                row = self.items[item]
                request = (int(row[n]) for n in (k.SIZE, k.ALIGN, k.VSTART, k.VEND))
                if area < 0 and tree.lowest(f, 0, *request) != row[k.SEEN]:
                    break
                self._serve(f, item, area)
            else:
                found.add(shape_of(f, 0))
        return found

    def explored(self) -> set[Shape]:
        """Trees that the search adds to a forest in which there is none yet."""
        f = copied(self.start)
        f.alive[:] = 0
        f.root[:] = tree.NIL
        log = [i for i, row in enumerate(self.items) for _ in range(_steps(row))]
        self.items[:, k.NEXT] = np.where(
            self.items[:, k.KIND] == k.GIVE, self.items[:, k.LAST], self.items[:, k.NEXT]
        )
        w = k.new_work(self.items, self.given, SLOTS, known=True)
        room = overlaps.room_for(self.start, 20, 1 << 20)
        overlaps.explore(
            f, self.start, room, w, overlaps.new_orders(), self.items, np.array(log, np.int64),
            len(log), False,  # noqa: FBT003
        )  # fmt: skip
        assert w.reg[k.LEFT_OUT] == 0
        return {shape_of(f, c) for c in range(SLOTS) if f.alive[c]}


def _steps(row: NDArray[np.int64]) -> int:
    return int(row[k.LAST] - row[k.FIRST]) if row[k.KIND] == k.GIVE else 1


def test_every_shape_is_found_and_no_other() -> None:
    several = 0
    for seed in range(60):
        case = Case(seed)
        expected = case.shapes()
        assert case.true in expected
        if len(expected) <= SLOTS:
            assert case.explored() == expected, seed
            several += len(expected) > 1
    assert several > 8


def run(case: Case, more: list[list[int]]) -> tuple[k.RunState, tree.Forest]:
    """The ordering loop over a case and further requests (size, align, seen) behind it."""
    late = np.zeros((len(more), k.COLUMNS), np.int64)
    late[:, k.KIND] = k.ALLOC
    late[:, k.LO] = late[:, k.HI] = 100 + np.arange(len(more))
    late[:, k.VSTART], late[:, k.VEND], late[:, k.GROUP] = LOW, HIGH, tree.NIL
    late[:, [k.SIZE, k.ALIGN, k.SEEN]] = np.array(more, np.int64).reshape(-1, 3)
    items = np.concatenate([case.items, late])
    f = copied(case.start)
    w = k.new_work(items, case.given, SLOTS, known=True)
    room = overlaps.room_for(f, 20, 1 << 20)
    big = tree.grown(f, 1 << 16)
    done = order.run(
        big, copied(big), copied(big), room, w, overlaps.new_orders(), items, 0, False, True,  # noqa: FBT003
    )  # fmt: skip
    assert done == len(items)
    return w, big


def test_what_depends_on_the_order_is_ambiguous_until_an_address_tells() -> None:
    """All possible answers are asked for; the trees that gave another one are dropped."""
    told = 0
    for seed in range(60):
        case = Case(seed)
        shapes = case.shapes()
        if not 1 < len(shapes) <= SLOTS:
            continue
        for size, align in ((P, 4 * P), (2 * P, 8 * P), (3 * P, 4 * P)):
            answers = {_answer(shape, size, align) for shape in shapes}
            seen = _answer(case.true, size, align)
            w, f = run(Case(seed), [[size, align, seen]])
            agreed = bool(w.status[4] & k.AGREED)
            assert agreed == (len(answers) == 1)
            assert not w.status[4] & k.DIVERGED
            right = {shape for shape in shapes if _answer(shape, size, align) == seen}
            left = {shape_of(f, c) for c in range(SLOTS) if f.alive[c]}
            assert left == {_served(shape, seen, size) for shape in right}
            told += not agreed
    assert told > 3


def _answer(shape: Shape, size: int, align: int) -> int:
    return int(tree.lowest(planted(shape), 0, size, align, LOW, HIGH))


def _served(shape: Shape, start: int, size: int) -> Shape:
    f = planted(shape)
    if start >= 0:
        tree.take(f, 0, start, start + size)
    return shape_of(f, 0)


def planted(shape: Shape) -> tree.Forest:
    """A tree of this shape."""
    f = tree.new_forest(1, 64, RULE)
    rows: list[tuple[int, int]] = []  # depth, row
    for row, (depth, start, end, red) in enumerate(shape):
        while rows and rows[-1][0] >= depth:
            rows.pop()
        parent = rows[-1][1] if rows else tree.NIL
        f.node[row] = (start, end, end - start, tree.NIL, tree.NIL, parent, red)
        if parent == tree.NIL:
            f.root[0] = row
        else:
            side = tree.LEFT if start < f.node[parent, tree.START] else tree.RIGHT
            f.node[parent, side] = row
        rows.append((depth, row))
    f.reg[tree.HIGH] = len(shape)
    for row in range(len(shape) - 1, -1, -1):
        tree.propagate(f.node, row)
    return f


@pytest.mark.parametrize("seed", range(3))
def test_the_reference_finds_the_same(seed: int, monkeypatch: Any) -> None:
    """Plain Python and compiled loops give the same trees."""
    compiled = Case(seed).explored()
    for name in ("_pick", "_given_in_part", "_next", "_explains", "_serve", "_drop", "_equal",
                 "_join", "_fork", "_begin", "_keep", "_width", "explore"):  # fmt: skip
        monkeypatch.setattr(overlaps, name, getattr(overlaps, name).py_func)
    assert Case(seed).explored() == compiled
