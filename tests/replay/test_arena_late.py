"""Frees that reached the list after a purge had taken it: told by hulls, told by addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from replay.arena.late import hold_for_hulls
from replay.arena.lazy import LazyReplay, replay_lazy
from replay.arena.loops import lazy as k
from tests.replay import arena_simulator as sim
from tests.replay.test_arena_lazy import free, purge
from tests.replay.test_arena_replay import P, _alloc, small

if TYPE_CHECKING:
    from numpy.typing import NDArray


def settled(*events: list[int]) -> LazyReplay:
    stream = np.array(events, np.int64)
    of_purge = np.flatnonzero(stream[:, k.KIND] == k.PURGE)
    of_free = np.flatnonzero(stream[:, k.KIND] == k.FREE)

    def follow(stream: NDArray[np.int64]) -> LazyReplay:
        none = np.zeros((0, 2), np.int64)
        return replay_lazy(stream, of_purge, of_free, len(of_purge), none, "ascending", 1 << 40)

    return follow(hold_for_hulls(follow, stream))


def test_a_later_hull_tells_that_a_free_inside_an_earlier_one_was_late() -> None:
    found = settled(
        free(0x2000, 0x3000, 1), free(0x8000, 0x9000, 2), free(0x4000, 0x5000, 3, until=8),
        purge(4, seen=(0x2000, 0x9000)), purge(10, seen=(0x4000, 0x5000)),
    )  # fmt: skip
    assert found.missed() == 0
    assert found.lazy.taken_by.tolist() == [3, 3, 4, -1, -1]


def test_a_free_that_was_done_cannot_have_been_late() -> None:
    found = settled(
        free(0x2000, 0x3000, 1), free(0x8000, 0x9000, 2), free(0x4000, 0x5000, 3, until=3),
        purge(4, seen=(0x2000, 0x9000)), purge(10, seen=(0x4000, 0x5000)),
    )  # fmt: skip
    assert found.missed() == 1


def test_only_what_lies_outside_the_hull_is_left_to_the_next_purge() -> None:
    """Both frees are under way; the newer one fits into the hull, and nothing says it was late."""
    found = settled(
        free(0x2000, 0x3000, 1), free(0xA000, 0xB000, 2, until=6), free(0x4000, 0x5000, 3, until=6),
        free(0x6000, 0x7000, 3), purge(4, seen=(0x2000, 0x7000)), purge(10, seen=(0xA000, 0xB000)),
    )  # fmt: skip
    assert found.missed() == 0
    assert found.lazy.taken_by.tolist() == [4, 5, 4, 4, -1, -1]


def test_an_address_tells_that_a_free_was_late() -> None:
    """Nobody gets the middle area until the second purge: the first cannot have had it.

    Two answers behind it are right and not certain: the free may have been in time, and the area
    not back yet.
    """
    base = 0xF7800000
    busy = [sim.Area(base + i * P, base + (i + 1) * P, "vmalloc", "") for i in range(6)]
    below = sim.Area(0xF77FE000, base, "vmalloc", "")

    def freed(seq: int, pid: int, number: int) -> dict[str, Any]:
        area = busy[number]
        return {"seq": seq, "op": "area_free", "pid": pid, "vaddr": area.start, "end": area.end}

    def purged(seq: int, first: int, last: int) -> list[dict[str, Any]]:
        hull = {"start": busy[first].start, "end": busy[last].end}
        return [
            {"seq": seq, "op": "area_purge", "pid": 1, "start": 0xFFFFFFFF, "end": 0, "pages": 1,
             "end_seq": seq + 2},
            {"seq": seq + 1, "op": "flush_range", "pid": 1, **hull, "parent": seq},
        ]  # fmt: skip

    rows = [
        freed(0, 1, 1), freed(1, 1, 5), freed(2, 3, 3), *purged(3, 1, 5),
        {"seq": 8, "op": "area_free", "pid": 3, "vaddr": busy[0].start, "end": busy[0].end},
        _alloc(9, 10, P, busy[1].start), _alloc(11, 12, P, busy[5].start),
        _alloc(13, 14, P, busy[5].end), *purged(15, 0, 3),
        _alloc(20, 21, P, busy[0].start), _alloc(22, 23, P, busy[3].start),
    ]  # fmt: skip
    r = small(*rows, areas=(below, *busy))
    assert (r.certain, r.ambiguous, r.wrong, r.ordering) == (3, 2, 0, 1)
    assert r.purges.matched == r.purges.observed == 2
