"""Speed of the pool's replay: events/s beside the same functions uncompiled, and memory speed.

Run ``python -m tests.benchmarks.bench_pool``. Three sequences of kmap() and kunmap(): few slots in
use, nearly all, and all of them (every second kmap() finds no slot and sleeps); each without and
with gauges over time. All in one run on one machine; best of several runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
EVENTS = 4_000_000
UNCOMPILED = 20_000
SLOTS, PAGES = 512, 4096
BINS = 240
RUNS = 7
MAP, UNMAP = 0, 1


def rows(codes: NDArray[np.int64], pages: NDArray[np.int64]) -> NDArray[np.int64]:
    """Operations as replay.pool.loops.sequence has them: code, page, slot, count."""
    table = np.zeros((codes.size, 4), np.int64)
    table[:, 0], table[:, 1] = codes, pages
    return table


def few(events: int) -> NDArray[np.int64]:
    """Pairs of kmap() and kunmap() of random pages: one slot in use, the others fill up stale.

    The share of hits is that of directory work: most pages are among few.
    """
    draw = np.random.default_rng(1)
    wide, narrow = draw.integers(0, PAGES, events // 2), draw.integers(0, 64, events // 2)
    pages = np.where(draw.random(events // 2) < 0.2, wide, narrow)
    return rows(np.tile([MAP, UNMAP], events // 2), np.repeat(pages, 2))


def held(events: int, count: int) -> NDArray[np.int64]:
    """`count` slots taken once and never given back."""
    del events
    return rows(np.full(count, MAP), np.arange(count))


def nearly_full(events: int) -> NDArray[np.int64]:
    """500 of 512 slots held; the others change hands all the time."""
    pages = 500 + np.random.default_rng(2).integers(0, PAGES - 500, (events - 500) // 2)
    churn = rows(np.tile([MAP, UNMAP], pages.size), np.repeat(pages, 2))
    return np.concatenate([held(events, 500), churn])


def full(events: int) -> NDArray[np.int64]:
    """511 slots held; one task takes the last, another tries and sleeps, the first gives it up."""
    rounds = (events - 511) // 3
    first = 511 + np.random.default_rng(3).integers(0, 1000, rounds)
    pages = np.stack([first, first + 1000, first], axis=1).ravel()
    return np.concatenate([held(events, 511), rows(np.tile([MAP, MAP, UNMAP], rounds), pages)])


SEQUENCES = {"not full": few, "nearly full": nearly_full, "full": full}


def work(operations: NDArray[np.int64], bins: int) -> Callable[[], dict[str, int]]:
    """One replay from an empty pool; it gives figures that do not depend on how it ran."""
    from replay.pool.loops.highmem import new_pool
    from replay.pool.loops.sequence import new_gauges, run

    events = len(operations)
    times = np.arange(events, dtype=np.int64) * 700
    result, scanned, freed = (np.zeros(events, np.int32) for _ in range(3))
    snapshot = new_pool(SLOTS, PAGES)

    def once() -> dict[str, int]:
        pool = new_pool(SLOTS, PAGES)
        gauges = new_gauges(SLOTS, 0, events * 700, bins)
        most, _ = run(pool, snapshot, operations, times, result, scanned, freed, gauges)
        return {
            "results": int(result.sum(dtype=np.int64)),
            "scanned": int(scanned.sum(dtype=np.int64)),
            "passes": int((freed >= 0).sum()),
            "asleep": int((result == -1).sum()),
            "most": int(most),
        }

    return once


def best(call: Callable[[], object], runs: int = RUNS) -> float:
    """Shortest of several runs, in seconds; one unmeasured run goes before."""
    call()
    shortest = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        call()
        shortest = min(shortest, time.perf_counter() - start)
    return shortest


def uncompiled(once: str, module: str) -> tuple[float, Any]:
    """Seconds and figures of a call as plain Python, in a process without numba's JIT.

    Parameters
    ----------
    once
        Expression that makes the call; the benchmark's module is ``b`` in it.
    module
        Name of the benchmark's module.
    """
    code = (
        f"import json,sys,time;from tests.benchmarks import {module} as b;once={once};"
        "s=time.perf_counter();f=once();print(json.dumps([time.perf_counter()-s,f]))"
    )
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True
    )
    seconds, figures = json.loads(shown.stdout)
    return seconds, figures


def main(argv: list[str] | None = None) -> None:
    """Measure and print a table."""
    del argv
    say = sys.stdout.write
    source = np.zeros(EVENTS * 4, np.int64)
    target = np.empty_like(source)
    copied = best(lambda: np.copyto(target, source))
    say(f"pool replay: {EVENTS / 1e6:g} M events, {SLOTS} slots, one core\n")
    for name, make in SEQUENCES.items():
        operations = make(EVENTS)
        plain_seconds, plain = uncompiled(
            f"b.work(b.SEQUENCES[{name!r}]({UNCOMPILED}), 0)", "bench_pool"
        )
        same = work(make(UNCOMPILED), 0)() == plain
        figures = work(operations, 0)()
        bare, gauged = (best(work(operations, bins)) for bins in (0, BINS))
        rate = len(operations) / bare
        ratio = rate / (len(make(UNCOMPILED)) / plain_seconds)
        say(
            f"  {name:12}{rate / 1e6:7.1f} M events/s,"
            f" with gauges {len(operations) / gauged / 1e6:6.1f} M"
            f" · {ratio:5.0f} x plain Python ({'same' if same else 'OTHER'} results)"
            f" · scan {figures['scanned'] / len(operations):.1f} slots/event,"
            f" {figures['asleep']} asleep\n"
        )
        if not same:
            raise SystemExit("compiled and plain functions disagree")
    say(f"  numpy copy of the operations: {EVENTS / copied / 1e6:.0f} M events/s\n")


if __name__ == "__main__":
    main()
