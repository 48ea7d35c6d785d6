"""Who purges and is on no CPU meanwhile: beside a count by hand, and of many purges."""

from __future__ import annotations

import numpy as np
import polars as pl

from replay.arena.calls import NEVER, _away

PURGES = {"pid": pl.Int64, "lo": pl.Int64, "hi": pl.Int64, "detach": pl.Int64}
SWITCHES = {"pid": pl.Int32, "at": pl.Int64, "leaves": pl.Boolean, "sleeps": pl.Boolean}


def by_hand(purges: pl.DataFrame, switches: pl.DataFrame) -> list[tuple[int, int, int]]:
    """Purge, position at which its task left its CPU, and that at which it came to one."""
    found = []
    moves = switches.rows(named=True)
    for number, purge in enumerate(purges.rows(named=True)):
        if not purge["hi"] > purge["lo"] == purge["detach"]:
            continue
        own = [move for move in moves if move["pid"] == purge["pid"]]
        for move, following in zip(own, [*own[1:], {"at": NEVER}], strict=False):
            if move["leaves"] and purge["lo"] <= move["at"] <= purge["hi"]:
                found.append((number, move["at"], following["at"]))
    return sorted(found)


def test_spans_are_those_that_begin_in_a_purge() -> None:
    rng = np.random.default_rng(3)
    total = 0
    for _ in range(60):
        n, k = rng.integers(0, 30, 2)
        lo = 2 * rng.integers(0, 100, n)
        purges = pl.DataFrame(
            {
                "pid": [int(pid) or None for pid in rng.integers(0, 4, n)],
                "lo": lo,
                "hi": lo + rng.integers(-3, 40, n),
                "detach": np.where(rng.random(n) < 0.8, lo, lo + 2),
            },
            schema=PURGES,
        )
        switches = pl.DataFrame(
            {
                "pid": rng.integers(1, 4, k),
                "at": np.sort(2 * rng.choice(120, k, replace=False)),
                "leaves": rng.random(k) < 0.6,
                "sleeps": rng.random(k) < 0.5,
            },
            schema=SWITCHES,
        )
        found = _away(purges, switches)
        assert found.rows() == by_hand(purges, switches)
        total += found.height
    assert total > 60


def test_purges_and_switches_of_one_task_are_not_multiplied() -> None:
    """40 000 of each: every pair of them would be some 50 GB."""
    n = 40_000
    at = 10 * np.arange(n)
    pid = np.full(n, 7)
    purges = pl.DataFrame({"pid": pid, "lo": at, "hi": at + 6, "detach": at}, schema=PURGES)
    switches = pl.DataFrame(
        {"pid": pid, "at": at + 2, "leaves": np.arange(n) % 2 == 0, "sleeps": True},
        schema=SWITCHES,
    )
    found = _away(purges, switches)
    assert found.height == n // 2
    assert (found["hi"] - found["lo"]).unique().to_list() == [10]
