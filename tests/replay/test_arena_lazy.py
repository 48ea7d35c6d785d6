"""The lazy list: which hull a purge flushes, in which order areas come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from replay.arena.loops import lazy as k

if TYPE_CHECKING:
    from numpy.typing import NDArray

P = 4096
NOTHING = (0xFFFFFFFF, 0)


def free(start: int, end: int, at: int, until: int | None = None) -> list[int]:
    return [k.FREE, start, end, at, at if until is None else until, 0, 0, 0]


def purge(
    at: int, seen: tuple[int, int] = (k.UNKNOWN, 0), given: tuple[int, int] = NOTHING
) -> list[int]:
    return [k.PURGE, *given, at, at, *seen, 0]


def run(
    *events: list[int],
    order: int = k.ASCENDING_MERGED,
    initial: list[tuple[int, int]] | None = None,
    limit: int = 1 << 40,
) -> k.Lazy:
    stream = np.array(events, np.int64)
    lazy = k.new_lazy(len(stream), np.array(initial or [], np.int64).reshape(-1, 2))
    k.run(lazy, stream, order, limit)
    return lazy


def given(lazy: k.Lazy) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in lazy.given[: lazy.reg[k.N_GIVEN]]]


def hull(lazy: k.Lazy, event: int) -> tuple[int, int]:
    return int(lazy.purge[event, 2]), int(lazy.purge[event, 3])


def test_one_flush_covers_the_hull() -> None:
    """Worked example: two areas of 2 pages, 9 pages are flushed though only 4 were freed."""
    lazy = run(free(0xF7800000, 0xF7802000, 1), free(0xF7807000, 0xF7809000, 2), purge(3))
    assert hull(lazy, 2) == (0xF7800000, 0xF7809000)
    assert lazy.nr_lazy.tolist() == [2 * P, 4 * P, 0]
    assert given(lazy) == [(0xF7800000, 0xF7802000), (0xF7807000, 0xF7809000)]


def test_an_empty_list_flushes_nothing_whatever_the_caller_gave() -> None:
    lazy = run(purge(1, given=(0xF7800000, 0xF7900000)))
    assert hull(lazy, 0) == (0, 0)


def test_the_callers_range_widens_the_hull() -> None:
    lazy = run(free(0x5000, 0x7000, 1), purge(2, given=(0x3000, 0x9000)))
    assert hull(lazy, 1) == (0x3000, 0x9000)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (k.ASCENDING_MERGED, [(0x2000, 0x6000), (0x9000, 0xA000)]),
        (k.DESCENDING, [(0x9000, 0xA000), (0x4000, 0x6000), (0x2000, 0x4000)]),
        (k.NEWEST_FIRST, [(0x2000, 0x4000), (0x9000, 0xA000), (0x4000, 0x6000)]),
    ],
)
def test_order_of_giving_back(order: int, expected: list[tuple[int, int]]) -> None:
    lazy = run(
        free(0x4000, 0x6000, 1), free(0x9000, 0xA000, 2), free(0x2000, 0x4000, 3), purge(4),
        order=order,
    )  # fmt: skip
    assert given(lazy) == expected


def test_areas_of_the_snapshot_come_first() -> None:
    lazy = run(free(0x9000, 0xA000, 1), purge(2), initial=[(0x2000, 0x3000)])
    assert hull(lazy, 1) == (0x2000, 0xA000)


def test_a_purge_that_flushed_nothing_took_nothing() -> None:
    lazy = run(free(0x2000, 0x3000, 1, 1), purge(2, seen=(0, 0)), purge(3, seen=(0x2000, 0x3000)))
    assert given(lazy) == [(0x2000, 0x3000)]
    assert lazy.taken_by.tolist() == [2, -1, -1]


def test_a_late_free_is_left_to_the_next_purge() -> None:
    """The second free was under way when the list was taken: the hull says that it came late."""
    events = (
        free(0x2000, 0x3000, 1), free(0x8000, 0x9000, 2, until=6),
        purge(4, seen=(0x2000, 0x3000)), purge(8, seen=(0x8000, 0x9000)),
    )  # fmt: skip
    lazy = run(*events)
    assert [hull(lazy, i) for i in (2, 3)] == [(0x2000, 0x3000), (0x8000, 0x9000)]
    assert lazy.reg[k.MOVED] == 1


def test_a_finished_free_is_never_late() -> None:
    lazy = run(
        free(0x2000, 0x3000, 1), free(0x8000, 0x9000, 2, until=3), purge(4, seen=(0x2000, 0x3000))
    )
    assert hull(lazy, 2) == (0x2000, 0x9000)  # the prediction stays, and is wrong
    assert lazy.reg[k.MOVED] == 0


def test_held_frees_wait() -> None:
    events: list[list[int]] = [free(0x2000, 0x3000, 1), purge(2), purge(3)]
    events[0][k.HOLD] = 2
    lazy = run(*events)
    assert lazy.taken_by.tolist() == [2, -1, -1]
    assert hull(lazy, 1) == (0, 0)


def test_crossings_of_the_limit() -> None:
    frees = [free(i * 2 * P, i * 2 * P + P, i) for i in range(1, 6)]
    lazy = run(*frees, purge(9), *frees[:2], limit=3 * P)
    assert lazy.reg[k.CROSSINGS] == 2
    assert lazy.reg[k.PEAK] == 5 * P


def test_a_flush_of_the_hull_stands_for_a_purge_that_was_not_traced() -> None:
    flushes: NDArray[np.int64] = np.array(
        [
            free(0x2000, 0x3000, 1),
            [k.FLUSH, 0x7000, 0x8000, 2, 2, 0x7000, 0x8000, 0],
            [k.FLUSH, 0x2000, 0x3000, 3, 3, 0x2000, 0x3000, 0],
        ],
        np.int64,
    )
    lazy = k.new_lazy(3, np.zeros((0, 2), np.int64))
    k.run(lazy, flushes, k.ASCENDING_MERGED, 1 << 40)
    assert lazy.taken_by.tolist() == [2, -1, -1]
