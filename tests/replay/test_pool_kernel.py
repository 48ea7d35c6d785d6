"""The pool's functions against worked examples: given these calls, these slots and counts."""

from __future__ import annotations

import numpy as np
import pytest

from replay.pool.loops import highmem as k
from replay.pool.loops import sequence
from replay.pool.window import PoolWindow

A, B, C, D, E, X = range(6)


@pytest.fixture
def pool() -> k.Pool:
    return k.new_pool(4, 8)


def counts(pool: k.Pool) -> list[int]:
    return [int(n) for n in pool.counts]


def test_reuse_revival_and_wrap(pool: k.Pool) -> None:
    assert [k.kmap_high(pool, p) for p in (A, B, A)] == [1, 2, 1]
    k.kunmap_high(pool, A)
    k.kunmap_high(pool, A)
    assert counts(pool) == [0, 1, 2, 0]
    assert k.kmap_high(pool, A) == 1  # revived without a flush
    k.kunmap_high(pool, A)
    k.kunmap_high(pool, B)
    assert counts(pool) == [0, 1, 1, 0]
    assert k.kmap_high(pool, C) == 3
    pool.reg[k.FREED] = -1
    assert k.kmap_high(pool, D) == 0  # the cursor wraps
    assert pool.reg[k.FREED] == 2
    assert counts(pool) == [2, 0, 0, 2]


def test_full_pool_puts_a_task_to_sleep(pool: k.Pool) -> None:
    assert [k.kmap_high(pool, p) for p in (A, B, C)] == [1, 2, 3]
    pool.reg[k.FREED] = -1
    assert k.kmap_high(pool, D) == 0
    assert pool.reg[k.FREED] == 0  # wrapped, nothing to free: no TLB flush
    assert k.kmap_high(pool, E) == k.ASLEEP
    assert pool.reg[k.LAST] == 3
    assert counts(pool) == [2, 2, 2, 2]
    assert k.kunmap_high(pool, B) == 2
    pool.reg[k.FREED] = -1
    assert k.kmap_high(pool, E) == 2
    assert pool.reg[k.FREED] == 1
    assert pool.reg[k.SCANNED] == 3  # 0 and 1 are busy
    assert counts(pool) == [2, 2, 2, 2]


def test_second_sleeper_finds_the_page_mapped(pool: k.Pool) -> None:
    for page in (A, B, C, D):
        k.kmap_high(pool, page)
    assert k.kmap_high(pool, X) == k.ASLEEP
    assert k.kmap_high(pool, X) == k.ASLEEP
    k.kunmap_high(pool, A)
    assert k.kmap_high(pool, X) == 1
    assert k.kmap_high(pool, X) == 1
    assert counts(pool) == [2, 3, 2, 2]
    assert pool.reg[k.LAST] == 1


def test_flush_unused_leaves_the_cursor(pool: k.Pool) -> None:
    k.kmap_high(pool, A)
    k.kmap_high(pool, B)
    k.kunmap_high(pool, A)
    assert k.flush_all_zero_pkmaps(pool) == 1
    assert counts(pool) == [0, 0, 2, 0]
    assert k.kmap_high(pool, A) == 3  # not 1: last_pkmap_nr stayed at 2
    assert k.kmap_high(pool, C) == 0
    assert counts(pool) == [2, 0, 2, 2]


def test_bug_cases_change_nothing(pool: k.Pool) -> None:
    assert k.kunmap_high(pool, A) == k.UNKNOWN  # no address
    k.kmap_high(pool, A)
    k.kunmap_high(pool, A)
    assert k.kunmap_high(pool, A) == k.UNKNOWN  # count would reach 0
    assert pool.reg[k.ERRORS] == 2
    assert counts(pool) == [0, 1, 0, 0]


def test_two_colours() -> None:
    """Worked example with eight slots: each colour has four, and a cursor of its own."""
    window = PoolWindow(0, 8, 4096, 2)
    pages = {"A": 0, "B": 1, "C": 1, "D": 0, "E": 1, "F": 1, "G": 1, "H": 1}
    number = {name: i for i, name in enumerate(pages)}
    pool = window.pool(8, np.array(list(pages.values()), np.int64))

    def kmap(name: str) -> int:
        pool.reg[k.FREED] = -1
        slot = k.kmap_high(pool, number[name])
        return int(window.by_address(np.array([slot]))[0])

    assert [kmap(name) for name in "ABCD"] == [2, 3, 5, 4]
    k.kunmap_high(pool, number["B"])
    assert kmap("E") == 7
    assert kmap("F") == 1  # the odd colour wraps: one flush over all
    assert pool.reg[k.FREED] == 1
    assert kmap("G") == 3
    assert kmap("H") == k.ASLEEP
    assert pool.reg[k.SCANNED] == 2 + 4  # 5, 7, then 1, 3, 5, 7
    assert pool.reg[k.FREED] == 0
    assert pool.reg[k.LAST] == 2  # the even colour's cursor stays: slot 4 is its third


@pytest.mark.parametrize("slots", [1, 31, 32, 33, 512, 1024])
def test_search_visits_what_the_kernel_visits(slots: int) -> None:
    """Slot and number of visits against a walk over every slot."""
    rng = np.random.default_rng(slots)
    pool = k.new_pool(slots, 3 * slots)
    for page in rng.integers(0, 3 * slots, 4 * slots):
        if rng.random() < 0.4:
            k.kunmap_high(pool, page)
            continue
        busy = [n != 0 for n in pool.counts]
        stale = [n == 1 for n in pool.counts]
        mapped = pool.slot[page] >= 0
        at, visits, left = int(pool.reg[k.LAST]), 0, slots
        while not mapped:
            at = (at + 1) % slots
            visits += 1
            if at == 0:
                busy = [b and not s for b, s in zip(busy, stale, strict=True)]
                left = slots
            left -= 1
            if not busy[at] or not left:
                break
        slot = k.kmap_high(pool, page)
        assert pool.reg[k.SCANNED] == visits
        if not mapped:
            assert slot == (k.ASLEEP if busy[at] else at)


def test_totals_follow_the_counts() -> None:
    rng = np.random.default_rng(7)
    pool = k.new_pool(40, 100)
    for _ in range(3000):
        page = int(rng.integers(0, 100))
        if rng.random() < 0.5:
            k.kmap_high(pool, page)
        else:
            k.kunmap_high(pool, page)
        assert pool.reg[k.USED] == int((pool.counts >= 2).sum())
        assert pool.reg[k.STALE] == int((pool.counts == 1).sum())
    for slot in range(40):
        assert bool(pool.free[slot // k.WORD] >> slot % k.WORD & 1) == (pool.counts[slot] == 0)


def test_gauges_measure_time_by_use() -> None:
    """Two slots used from 10 to 30, one from 30 to 60, none until 100."""
    operations = np.array([[0, A, -1, 0], [0, B, -1, 0], [1, A, -1, 0], [1, B, -1, 0]], np.int64)
    time = np.array([10, 10, 30, 60], np.int64)
    result, scanned, freed = (np.zeros(4, np.int32) for _ in range(3))
    pool = k.new_pool(4, 2)
    gauges = sequence.new_gauges(4, 0, 100, 4)
    most = sequence.run(pool, pool, operations, time, result, scanned, freed, gauges)
    assert most == (2, 2, 1), "most in use, most stale, and since which operation"
    assert gauges.used_ns.tolist() == [50, 30, 20, 0, 0]
    assert gauges.used[:, 1].tolist() == [2, 2, 1, 0]
    assert gauges.used[:, 2].tolist() == [30, 30, 10, 0]
