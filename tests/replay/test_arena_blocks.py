"""vm_map_ram(): blocks per CPU, pieces behind each other, what is flushed and given up."""

from __future__ import annotations

import numpy as np
import pytest

from replay.arena.loops import blocks as k

P = 4096
BITS = 64
FIRST, SECOND, THIRD = 0xF7800000, 0xF7840000, 0xF7880000


def event(
    kind: int, address: int = -1, units: int = -1, cpu: int = 0, lo: int = 0, end: int = 0
) -> list[int]:
    return [kind, address, units, cpu, cpu, lo, end]


def run(*events: list[int], initial: tuple[int, ...] = (), forget: int = 0) -> k.Blocks:
    stream = np.array(events, np.int64)
    blocks = k.new_blocks(len(stream), np.array(initial, np.int64), P)
    k.run(blocks, stream, BITS, forget)
    return blocks


@pytest.mark.parametrize("page", [2 * P, 4 * P, 16 * P])
def test_pages_of_other_sizes(page: int) -> None:
    """Pieces, the blocks that hold them, and the range that was unmapped."""
    first, second = 16 << 20, (16 << 20) + BITS * page
    stream = np.array([
        event(k.NEW, first, 4), event(k.MAP, first + 4 * page, 8), event(k.NEW, second, 1),
        event(k.UNMAP, first + 4 * page, 8), event(k.UNMAP, second, 1), event(k.ALIAS),
        event(k.MAP, second + 4 * BITS * page, 1),
    ], np.int64)  # fmt: skip
    blocks = k.new_blocks(len(stream), np.zeros(0, np.int64), page)
    k.run(blocks, stream, BITS, 0)
    assert blocks.predicted[[1, 5]].tolist() == [first + 4 * page, first + 4 * page]
    assert blocks.predicted_end[5] == second + page
    assert blocks.status[6] == k.LEARNT
    assert blocks.block[2, k.START] == second + 4 * BITS * page


WORKED = (
    event(k.TRY, units=4), event(k.NEW, FIRST, 4),
    event(k.MAP, FIRST + 4 * P, 4),  # 3 pages take 4
    event(k.TRY, units=1, cpu=1), event(k.NEW, SECOND, 1, cpu=1),
    event(k.MAP, FIRST + 8 * P, 32),
    event(k.TRY, units=32), event(k.NEW, THIRD, 32),  # only 24 pages are left in the first
)  # fmt: skip


def test_pieces_and_new_blocks() -> None:
    blocks = run(*WORKED)
    predicted = blocks.predicted.tolist()
    assert [predicted[i] for i in (0, 3, 6)] == [k.NO_BLOCK] * 3
    assert [predicted[i] for i in (2, 5)] == [FIRST + 4 * P, FIRST + 8 * P]
    assert not blocks.status.any()


def test_aliases_are_flushed_again_and_again() -> None:
    unmap = event(k.UNMAP, FIRST + 4 * P, 4)
    alias = event(k.ALIAS)
    blocks = run(*WORKED, unmap, alias, alias)
    assert blocks.predicted[-2:].tolist() == [FIRST + 4 * P] * 2
    assert blocks.predicted_end[-2:].tolist() == [FIRST + 8 * P] * 2
    blocks = run(*WORKED, unmap, alias, alias, forget=1)  # dirty_range_reset
    assert blocks.predicted[-2:].tolist() == [FIRST + 4 * P, -1]


def test_others_unmap_while_the_blocks_are_looked_at() -> None:
    """What the range was at any time since the call may have begun, not only at its purge."""
    first, second = event(k.UNMAP, FIRST + 4 * P, 4), event(k.UNMAP, SECOND, 1, cpu=1)
    at = len(WORKED) + 1
    alias = event(k.ALIAS, FIRST + 4 * P, end=FIRST + 8 * P)
    blocks = run(*WORKED, first, event(k.OPEN, lo=at + 2), second, alias)
    assert (blocks.predicted[-1], blocks.predicted_end[-1]) == (FIRST + 4 * P, FIRST + 8 * P)
    assert blocks.status[-1] == k.ORDERED
    late = run(*WORKED, first, second, event(k.OPEN, lo=at + 2), alias)
    assert late.predicted_end[-1] == SECOND + P
    assert late.status[-1] == k.PLAIN


def test_a_block_of_nothing_but_unmapped_and_untouched_pages_goes() -> None:
    unmaps = [event(k.UNMAP, FIRST + at * P, n) for at, n in ((4, 4), (0, 4), (8, 32))]
    blocks = run(*WORKED, *unmaps[:2], event(k.RELEASE, FIRST))
    assert blocks.predicted[-1] == 0  # 32 pages are still mapped
    blocks = run(*WORKED, *unmaps, event(k.RELEASE, FIRST), event(k.ALIAS))
    assert blocks.predicted[-2:].tolist() == [1, -1]
    assert blocks.block[: blocks.reg[k.COUNT], k.START].tolist() == [SECOND, THIRD]


def test_a_block_of_the_snapshot_teaches_once() -> None:
    blocks = run(
        event(k.MAP, FIRST + 16 * P, 4), event(k.MAP, FIRST + 20 * P, 4), initial=(FIRST,)
    )  # fmt: skip
    assert blocks.status.tolist() == [k.LEARNT, k.PLAIN]
    assert blocks.predicted.tolist() == [k.NO_BLOCK, FIRST + 20 * P]


def test_a_call_under_way_came_first() -> None:
    """Two calls on one CPU, the second entered and was served while the first was preempted."""
    blocks = run(
        event(k.NEW, FIRST, 4),
        event(k.MAP, FIRST + 8 * P, 4, lo=10, end=10),
        event(k.MAP, FIRST + 4 * P, 4, lo=5, end=30),
        event(k.MAP, FIRST + 12 * P, 4, lo=50, end=1),
    )
    assert blocks.predicted[1:].tolist() == [FIRST + n * P for n in (8, 4, 12)]
    assert blocks.status.tolist() == [k.PLAIN, k.PLAIN, k.ORDERED, k.PLAIN]
