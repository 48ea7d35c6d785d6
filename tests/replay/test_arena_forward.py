"""The arena by itself: given these requests, these addresses, failures and purges."""

from __future__ import annotations

import numpy as np
import pytest

from replay.arena.lazy import LISTS
from replay.arena.loops import forward as k
from replay.arena.loops import freetree as tree
from replay.arena.loops.lazy import BYTES, N_LAZY, Lazy, new_lazy

LOW, HIGH = 0xF780_0000, 0xF790_0000
P = 4096
MANY = 1 << 40


def serve(
    *calls: tuple[int, int, int],
    limit: int = MANY,
    delay: int = 0,
    spell: int = 0,
    order: str = "ascending",
) -> tuple[k.Forward, Lazy]:
    """Serve (kind, area, bytes) one nanosecond after the other in a window of 1 MiB."""
    table = np.zeros((len(calls), k.COLUMNS), np.int64)
    for i, (kind, area, size) in enumerate(calls):
        table[i] = kind, i, area, size, 1, LOW, HIGH
        if kind == k.PURGE:
            table[i, k.START :] = 1 << 40, 0
    forest = tree.new_forest(1, 4096, tree.Rule("adjusted", moves=True, page_size=P))
    tree.insert(forest, 0, 1, 0xFFFF_FFFF)
    lazy = new_lazy(len(calls), np.zeros((0, 2), np.int64))
    done = k.Forward(
        np.full((16, 2), -1, np.int64), np.zeros(len(calls), np.int64),
        np.zeros((len(calls) + 1, 5), np.int64), np.zeros(2, np.int64),
        k.registers(),
    )  # fmt: skip
    k.run(forest, lazy, done, table, LISTS[order], limit, np.array([delay]), np.array([spell]))
    return done, lazy


def purges(done: k.Forward) -> list[tuple[int, ...]]:
    return [tuple(row[:4]) for row in done.purge[: done.counts[0]].tolist()]


def test_lazily_freed_areas_are_not_reused_before_a_purge() -> None:
    """Worked example: the hull of nine pages is flushed though only four were freed."""
    alloc, free, purge = k.ALLOC, k.FREE, k.PURGE
    done, lazy = serve(
        (alloc, 0, 0x2000), (alloc, 1, 0x5000), (alloc, 2, 0x2000), (free, 0, 0),
        (alloc, 3, 0x2000), (free, 2, 0), (purge, 0, 0), (alloc, 4, 0x2000),
    )  # fmt: skip
    assert done.result[:3].tolist() == [LOW, LOW + 0x2000, LOW + 0x7000]
    assert done.result[4] == LOW + 0x9000
    assert done.result[5] == 4 * P
    assert purges(done) == [(6, k.ASKED, LOW, LOW + 0x9000)]
    assert done.result[7] == LOW
    assert lazy.reg[BYTES] == 0


def test_a_full_arena_purges_once_and_then_fails() -> None:
    alloc, free = k.ALLOC, k.FREE
    done, lazy = serve(
        *((alloc, n, 0x40000) for n in range(4)), (alloc, 4, 0x1000), (free, 1, 0), (free, 2, 0),
        (alloc, 5, 0x80000),
    )  # fmt: skip
    assert done.result[4] == tree.FAIL  # nothing waits: the attempt to purge flushes nothing
    assert purges(done) == [(7, k.FULL, LOW + 0x40000, LOW + 0xC0000)]  # 128 pages
    assert done.result[7] == LOW + 0x40000
    assert lazy.reg[N_LAZY] == 0


@pytest.mark.parametrize(("delay", "at"), [(0, 3), (1, 4), (3, 6)])
def test_the_purge_comes_when_the_limit_is_passed_or_a_little_later(delay: int, at: int) -> None:
    """The freeing task purges at once (up to 5.17), a worker when it gets to run."""
    alloc, free = k.ALLOC, k.FREE
    done, _ = serve(
        (alloc, 0, 0x4000), (alloc, 1, 0x4000), (free, 0, 0), (free, 1, 0), (alloc, 2, 0x1000),
        (alloc, 3, 0x1000), (alloc, 4, 0x1000), limit=0x7FFF, delay=delay,
    )  # fmt: skip
    assert purges(done) == [(at, k.LIMIT, LOW, LOW + 0x8000)]
    late = max(0, at - 4)
    expected = [LOW + 0x8000 + n * P for n in range(late)] + [LOW + n * P for n in range(3 - late)]
    assert done.result[4:].tolist() == expected


def test_what_a_purge_took_is_back_when_it_is_through_with_it() -> None:
    """Requests in between find neither area; a full arena waits for it instead of failing."""
    alloc, free = k.ALLOC, k.FREE
    begin = (alloc, 0, 0x4000), (alloc, 1, 0x4000), (free, 0, 0), (free, 1, 0)
    more = ((alloc, n, 0x1000) for n in range(2, 6))
    done, _ = serve(*begin, *more, limit=0x7FFF, delay=1, spell=2)
    assert purges(done) == [(4, k.LIMIT, LOW, LOW + 0x8000)]
    assert done.result[4:].tolist() == [LOW + 0x8000, LOW + 0x9000, LOW, LOW + P]
    done, _ = serve(*begin, (alloc, 2, 0x1000), (alloc, 3, 0xF8000), limit=0x7FFF, delay=1, spell=9)
    assert done.result[4:].tolist() == [LOW + 0x8000, tree.FAIL]
    done, _ = serve(*begin, (alloc, 2, 0xF8000), (alloc, 3, 0x8000), limit=0x7FFF, delay=1, spell=9)
    assert done.result[4:].tolist() == [LOW + 0x8000, LOW]


def test_frees_of_what_could_not_be_allocated_are_counted() -> None:
    done, _ = serve((k.ALLOC, 0, 0x200000), (k.FREE, 0, 0))
    assert done.result.tolist() == [tree.FAIL, 0]
    assert done.counts.tolist() == [0, 1]
