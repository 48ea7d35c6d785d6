"""Answers that depend on the tree's shape, certain where an earlier one tells enough of it."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from replay.arena.loops import freetree as tree
from replay.arena.loops.shapes import plant, shape_matters
from replay.arena.result import AMBIGUOUS, CERTAIN, WRONG
from tests.replay import arena_simulator as sim
from tests.replay.test_arena_replay import P, _alloc, replayed, small

A = 0xF7800000
S = 16 * P
HOLE, ABOVE = A, A + 2 * S
"""A hole that serves S bytes aligned to S by luck only; where the block above it serves them."""
AREAS = (
    sim.Area(0xF77FE000, A, "vmalloc", ""),
    sim.Area(A + 24 * P, A + 25 * P, "vmalloc", ""),
    sim.Area(0xFE000000, 0xFE001000, "vmalloc", ""),
)


def stack(seq: int, seen: int | None, **more: Any) -> dict[str, Any]:
    return _alloc(seq, seq + 1, S, seen, align=S, **more)


PASSED = [stack(0, ABOVE), stack(2, ABOVE + S)]  # the second one cuts the block at its start


def test_a_block_that_was_passed_over_is_again() -> None:
    r = small(*PASSED, stack(4, ABOVE + 2 * S), stack(6, ABOVE + 3 * S), areas=AREAS)
    assert r.verdict.tolist()[0] == AMBIGUOUS
    assert r.verdict.tolist()[2:] == [CERTAIN, CERTAIN]
    assert (r.predicted[2:] == r.seen[2:]).all()
    assert [c.partition(",")[0] for c in r.caveats] == [
        f"{r.ambiguous} left open: aligned requests"
    ]


def test_the_answer_itself_is_not_asked() -> None:
    r = small(*PASSED, stack(4, HOLE), stack(6, ABOVE + 2 * S), areas=AREAS)
    assert r.verdict.tolist()[2:] == [WRONG, AMBIGUOUS]
    assert r.predicted[2] == ABOVE + 2 * S


FREED = [
    {"seq": 4, "op": "area_free", "pid": 2, "vaddr": 0xFE000000, "end": 0xFE001000},
    {"seq": 5, "op": "area_purge", "pid": 1, "start": 0xFFFFFFFF, "end": 0, "end_seq": 7},
    {"seq": 6, "op": "flush_range", "pid": 1, "start": 0xFE000000, "end": 0xFE001000, "parent": 5},
]
FAR = 0xFE800000


@pytest.mark.parametrize(
    ("between", "verdict"),
    [
        ([], CERTAIN),
        ([_alloc(4, 5, 9 * P, A)], CERTAIN),  # the hole is less than it was: it fits no more
        ([_alloc(4, 5, P, FAR) | {"start": FAR}], CERTAIN),  # a leaf that is not between them
        ([_alloc(4, 5, P, A + 20 * P) | {"start": A + 20 * P}], AMBIGUOUS),  # one that is
        (FREED, AMBIGUOUS),
        ([_alloc(4, 12, P, A)], AMBIGUOUS),  # under way with it
        ([_alloc(4, 5, P, None) | {"start": FAR}], AMBIGUOUS),  # its address is not told
    ],
)
def test_what_may_come_in_between(between: list[dict[str, Any]], verdict: int) -> None:
    r = small(*PASSED, *between, stack(10, ABOVE + 2 * S), areas=AREAS)
    assert r.verdict[r.seen == ABOVE + 2 * S].tolist() == [verdict]


def random_tree(rng: random.Random, search: str) -> tuple[tree.Forest, list[tuple[int, int]]]:
    """A tree of some shape over some blocks, the first of which is below the arena."""
    blocks = [(1, 1000 * P)]
    at = 1001 * P
    for _ in range(rng.randint(3, 24)):
        size = rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 20)) * P
        blocks.append((at, at + size))
        at += size + rng.randint(1, 3) * P
    rule = tree.Rule(search, moves=search != "padded", page_size=P)
    forest = tree.new_forest(1, 256, rule)
    order = blocks[:]
    rng.shuffle(order)
    extra = [(b[1], b[1] + 1) for b in blocks[1:-1] if rng.random() < 0.3]
    history = np.array([*order, *extra], np.int64)
    history = history[np.array(rng.sample(range(len(history)), len(history)))]
    plant(forest, 0, history, np.array([e[0] for e in extra], np.int64))
    return forest, blocks


@pytest.mark.parametrize("search", ["adjusted", "padded"])
def test_what_changes_no_answer_in_trees_of_any_shape(search: str) -> None:
    """The proof of replay.arena.loops.paths, tried on trees that are not those of a machine."""
    rng = random.Random(1)
    kind = (3 * P, 4 * P, 1001 * P, 1 << 31)
    length = 3 * P + 4 * P - 1
    tried = 0
    for _ in range(3000):
        forest, blocks = random_tree(rng, search)
        if not shape_matters(forest, 0, *kind):
            continue
        wide = next((b for b in blocks[1:] if b[1] - b[0] >= length), None)
        start = tree.lowest(forest, 0, *kind)
        if wide is None or not wide[0] <= start < wide[1]:
            continue
        dice = rng.randrange(3)
        if dice == 0:  # blocks shrink in place
            for low, high in blocks[1:]:
                if high - low > P and (low, high) != wide and rng.random() < 0.5:
                    at = low if rng.random() < 0.5 else high - P
                    tree.take(forest, 0, at, at + P)
        elif dice == 1:  # leaves are put in above, and below the arena
            for n in range(rng.randint(1, 8)):
                tree.insert(forest, 0, (1 << 30) + 2 * n * P, (1 << 30) + (2 * n + 1) * P)
        else:
            tree.take(forest, 0, 500 * P, 501 * P)
        tried += 1
        assert tree.lowest(forest, 0, *kind) == start
    assert tried > 300


@pytest.mark.parametrize(
    ("seed", "calls", "tasks", "generation", "aligns", "stretch"),
    [
        (110, 400, 1, "6.12", (1, 2 * P, 64 * P), 0),
        (377, 800, 1, "6.1", (1, 2 * P, 64 * P), 0),
        (1403, 800, 1, "6.5", (1, 16 * P), 0),
        (1991, 800, 1, "6.12", (4 * P,), 0),
        (1406, 400, 4, "6.1", (1, 2 * P, 64 * P), 1.5),
        (137, 150, 4, "5.10", (1, P, 4 * P), 0.5),
        (2294, 800, 4, "6.1", (1, 16 * P), 0.1),
    ],
)
def test_simulated_kernels_whose_trees_were_unlike_those_tried(
    seed: int, calls: int, tasks: int, generation: str, aligns: tuple[int, ...], stretch: float
) -> None:
    """All trees agreed, and the kernel did something else; or other calls had come first.

    Or a free was supposed to have come too late for a purge, and had not.
    """
    events, areas = sim.simulate(seed, calls, tasks, generation, aligns, stretch)
    assert replayed(events, areas, generation=generation).wrong == 0
