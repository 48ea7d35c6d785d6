"""What is kept of the pool's operations, by hand."""

from __future__ import annotations

import numpy as np

from replay.pool.loops.sequence import FLUSH_UNUSED, GET, MAP, SNAPSHOT, UNMAP
from replay.whatif.loops import served as kernel

OTHER = 7  # none of those
CALLS = [  # operation, call
    (MAP, 1), (MAP, 0), (FLUSH_UNUSED, -1), (MAP, 1), (UNMAP, 2), (OTHER, 2), (SNAPSHOT, -1),
    (GET, 3), (MAP, -1), (MAP, 4),
]  # fmt: skip


def test_each_kmap_is_kept_at_its_first_attempt() -> None:
    operations = np.zeros((len(CALLS), 4), np.int64)
    operations[:, 0] = [code for code, _ in CALLS]
    ordered = kernel.OrderedCalls(
        operations, 100 + np.arange(len(CALLS)), np.array([call for _, call in CALLS]),
        10 + np.arange(5), 500 + np.arange(5), np.arange(5, dtype=np.int32) + 30,
        np.array([True, False, False, False, False]),  # the first was tried before
    )  # fmt: skip
    kept = kernel.PickedCalls(
        np.zeros(10, np.uint8), *np.zeros((2, 10), np.int64), np.zeros(10, np.bool_),
        *np.zeros((4, 10), np.int64),
    )  # fmt: skip
    assert kernel.keep_served(ordered, kept) == (6, 4, 2)
    assert kept.code[:6].tolist() == [MAP, FLUSH_UNUSED, UNMAP, SNAPSHOT, GET, MAP]
    assert kept.time[:6].tolist() == [100, 102, 104, 106, 107, 109]
    assert kept.pid[:6].tolist() == [31, -1, 32, -1, 33, 34]
    assert kept.is_call[:6].tolist() == [True, False, True, False, True, True]
    assert kept.key[:4].tolist() == [501, 502, 503, 504]
    assert kept.row[:4].tolist() == [11, 12, 13, 14]
    assert kept.map_row[:2].tolist() == [11, 14]
    assert kept.map_at[:2].tolist() == [0, 5]


def test_what_comes_up_first_is_noted() -> None:
    served = kernel.ServedNumbers(
        np.array([True, False, True, True, True]), np.array([2, 0, 1, 2, 3], np.int32),
        np.array([5, 4, 5, 0]), np.array([70, 71, 72, 73]),
    )  # fmt: skip
    seen = np.array([True, False, False, False, False, False])
    firsts = kernel.FirstUses(seen, np.zeros(4, np.int32), np.array([-1, 60, -1, -1]))
    page, row = np.zeros(5, np.int32), np.zeros(5, np.uint32)
    assert kernel.spread(served, firsts, page, row) == 2
    assert firsts.order[:2].tolist() == [5, 4]
    assert firsts.row_of_task.tolist() == [-1, 60, 70, 73]
    assert firsts.seen.tolist() == [True, False, False, False, True, True]
    assert page.tolist() == [5, -1, 4, 5, 0]
    assert row.tolist() == [70, 0, 71, 72, 73]
