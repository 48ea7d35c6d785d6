"""Slots visited by searches of which it is known where they began, worked out by hand."""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest

from replay.pool.loops.highmem import ASLEEP, UNKNOWN
from replay.pool.loops.sequence import (
    CURSOR,
    FLUSH_UNUSED,
    MAP,
    PLACE,
    RESET,
    SNAPSHOT,
    UNMAP,
    new_gauges,
)
from replay.pool.tally import PoolTally

SLOTS: Final = 8


def cursor(lane: int = 0) -> tuple[int, ...]:
    """An address shows where the cursor is."""
    return CURSOR, lane, UNKNOWN, 0, -1


def new(slot: int, visited: int, *, wraps: bool = False) -> tuple[int, ...]:
    """A new mapping, by a search that visited so many slots."""
    return MAP, 0, slot, visited, 2 if wraps else -1


SNAP: Final = (SNAPSHOT, 0, UNKNOWN, 0, -1)
LOST: Final = (RESET, 0, UNKNOWN, 0, -1)
HIT: Final = (MAP, 0, 3, 0, -1)
QUIET: Final = (FLUSH_UNUSED, 0, UNKNOWN, 0, 0)
UNUSED: Final = (FLUSH_UNUSED, 0, UNKNOWN, 0, 5)
VAIN: Final = (MAP, 0, ASLEEP, SLOTS + 2, 0)
FOUND: Final = (PLACE, 0, UNKNOWN, 0, -1)
BACK: Final = (UNMAP, 0, 3, 0, -1)


@pytest.mark.parametrize("cuts", [(), (1,), (1, 2, 3)])
@pytest.mark.parametrize(
    ("done", "visited", "started"),
    [
        # From boot or a snapshot on every search is known.
        ([SNAP, new(3, 3), HIT, BACK, new(5, 2)], [3, 2], 2),
        # Without one it may be a hit of what was mapped before, and the next begins nowhere, too.
        ([cursor(), new(3, 1), new(7, 4), new(0, 2)], [], 0),
        # The search that wraps began somewhere; the next one begins where it ended.
        ([cursor(), new(3, 1), new(2, 7, wraps=True), new(4, 2)], [2], 1),
        ([cursor(), VAIN, new(0, 1, wraps=True), new(1, 1)], [1, 1], 2),
        # Behind a pass what is new is new, but nobody knows where the first search began.
        ([UNUSED, cursor(), new(3, 1), new(6, 3)], [3], 1),
        ([QUIET, cursor(), FOUND, new(3, 1), new(6, 3)], [3], 1),
        # An address that contradicts the model puts the cursor somewhere else.
        ([SNAP, new(3, 3), cursor(), new(7, 1), new(0, 2)], [3, 2], 2),
        # Behind a loss all is as it was at the start.
        ([SNAP, new(3, 3), LOST, cursor(),
          new(7, 1), new(0, 2)], [3], 1),
    ],
)  # fmt: skip
def test_where_a_search_began(
    done: list[tuple[int, ...]], visited: list[int], started: int, cuts: tuple[int, ...]
) -> None:
    tally = PoolTally(SLOTS, starts=np.zeros(2, np.int64))
    count(tally, done, cuts)
    outcome = tally.outcome(new_gauges(SLOTS, 0, 0, 0), still_used=0)
    fresh = sum(code == MAP and slot >= 0 and seen > 0 for code, _, slot, seen, _ in done)
    assert outcome.new_mappings == fresh
    assert outcome.scans_unknown == fresh - started
    assert outcome.scan_mean == (sum(visited) / started if started else None)
    assert outcome.scan_max == (max(visited) if started else None)
    assert tally.scanned == sum(seen for _, _, _, seen, _ in done), "what the work costs"


def test_every_lane_has_a_cursor_of_its_own() -> None:
    """Two colours: slots 0 to 3 and 4 to 7."""
    tally = PoolTally(SLOTS, starts=np.zeros(3, np.int64))
    count(tally, [UNUSED, new(1, 1), new(5, 1), new(6, 1), cursor(1), new(7, 1), new(2, 1)], ())
    assert (tally.started, tally.visited) == (2, 2), "6 behind 5, and 2 behind 1"
    count(tally, [VAIN, new(3, 1)], ())
    assert (tally.started, tally.visited) == (3, 3), "in vain in one of the two"


def count(tally: PoolTally, done: list[tuple[int, ...]], cuts: tuple[int, ...]) -> None:
    """Let operations be counted in pieces."""
    table = np.array(done, np.int64).reshape(-1, 5)
    for piece in np.split(table, cuts):
        code, lane, *rest = piece.T.copy()
        tally.add(code, lane, *(column.astype(np.int32) for column in rest))
