"""Speed of the model's other loops: events/s beside the same functions uncompiled, and memory.

Run ``python -m tests.benchmarks.bench_model``: stacks of local mappings, the pool with tasks that
wait, the arena served by the model alone, its lazy list, its blocks of vm_map_ram(). Each works on
made-up calls; the last column is how many bytes of input a second that is, as a share of what a
copy of memory reaches. All in one run on one machine; best of several runs.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tests.benchmarks.bench_pool import best, uncompiled

if TYPE_CHECKING:
    from collections.abc import Callable

EVENTS = 400_000
UNCOMPILED = 4_000
RUNS = 5
PAGE = 4096


class Case(NamedTuple):
    """One loop over made-up input: run it, and the bytes that it reads."""

    once: Callable[[], list[int]]
    nbytes: int


def local_stacks(events: int) -> Case:
    """Pairs of kmap_local and kunmap_local of forty tasks on four CPUs, up to two deep."""
    from replay.local import loops as kernel

    draw = np.random.default_rng(1)
    n = events // 4 * 4
    task = np.repeat(draw.integers(0, 40, n // 4), 4).astype(np.int32)
    kind = np.tile(np.array([kernel.MAP, kernel.MAP, kernel.UNMAP, kernel.UNMAP], np.uint8), n // 4)
    cpu = task % 4
    deep = np.tile(np.array([0, 1, 1, 0], np.int32), n // 4)

    def once() -> list[int]:
        done = kernel.Locals(
            kind, task, cpu, cpu * 16 + deep, np.full(n, -1, np.int32),
            *np.full((2, n), -1, np.int32), np.zeros(n, np.uint8), np.full(n, -1, np.int32),
            np.zeros(n, np.bool_), np.full(n, -1, np.int32),
        )  # fmt: skip
        stacks = kernel.Stacks(
            np.zeros(40, np.int64), np.ones(40, np.bool_), np.full((40, 17), -1, np.int32),
            np.zeros(40, np.uint8), np.zeros(40, np.int32),
        )  # fmt: skip
        notes = kernel.new_notes(0, 16)
        strays, misfits = kernel.run(done, stacks, notes, 0, n, 16, 1, True, False)  # noqa: FBT003
        return [int(strays), int(misfits), int(done.slot.sum()), int(done.status.sum())]

    return Case(once, n * (1 + 4 * 4))


def waiting(events: int) -> Case:
    """Forty tasks on a pool of 32 slots: most calls wait, closed loop."""
    from replay.pool.loops import closed as kernel
    from replay.pool.loops.highmem import new_pool
    from replay.pool.loops.sequence import MAP, UNMAP, new_gauges

    draw = np.random.default_rng(2)
    pairs = events // 2
    task, page = draw.integers(0, 40, pairs), draw.integers(0, 4096, pairs)
    time = np.sort(draw.integers(0, pairs * 1000, pairs))
    code = np.tile([MAP, UNMAP], pairs)
    both = [np.repeat(column, 2) for column in (page, task, time)]
    both[2][1::2] += 30_000
    by = np.argsort(both[2], kind="stable")
    n = 2 * pairs
    none = np.zeros(0, np.int64)
    load = kernel.Load(
        code[by].astype(np.uint8), both[0][by].astype(np.int32), both[1][by].astype(np.int32),
        both[2][by], np.arange(4096), np.ones(9, np.bool_), none, none, np.zeros(n, np.int64),
    )  # fmt: skip
    kernel.link(load, 0, n, np.full(40, -1, np.int64))

    def once() -> list[int]:
        loop, done = kernel.new_loop(40, 0), kernel.new_done(n + 1)
        gauges = new_gauges(32, 0, 1, 0)
        pool = new_pool(32, 4096)
        over = kernel.run(pool, pool, load, loop, done, 5000, True, gauges)  # noqa: FBT003
        return [int(over), *loop.reg.tolist(), int(done.wait.sum()), int(done.sleeps.sum())]

    return Case(once, n * 5 * 8)


def arena(events: int) -> Case:
    """Areas of 1 to 24 pages, half of them freed; purges as the model makes them."""
    from replay.arena.loops import forward as kernel
    from replay.arena.loops import freetree as tree
    from replay.arena.loops.lazy import new_lazy

    draw = np.random.default_rng(3)
    low, high = 0xF780_0000, 0xFEFF_E000
    calls = np.zeros((events, kernel.COLUMNS), np.int64)
    alive: list[int] = []
    for i in range(events):
        calls[i, kernel.TIME] = i
        if len(alive) > 600 or (alive and draw.random() < 0.45):
            calls[i, kernel.KIND] = kernel.FREE
            calls[i, kernel.AREA] = alive.pop(int(draw.integers(len(alive))))
        else:
            size = int(draw.integers(1, 25)) * PAGE
            calls[i, kernel.AREA :] = i, size, 1, low, high
            alive.append(i)

    at_once = np.zeros(1, np.int64)
    rule = tree.Rule("adjusted", moves=True, page_size=PAGE)

    def once() -> list[int]:
        forest = tree.new_forest(1, events + 4096, rule)
        tree.insert(forest, 0, 1, 0xFFFF_FFFF)
        lazy = new_lazy(events, np.zeros((0, 2), np.int64))
        done = kernel.Forward(
            np.full((events, 2), -1, np.int64), np.zeros(events, np.int64),
            np.zeros((events, 4), np.int64), np.zeros(2, np.int64),
        )  # fmt: skip
        kernel.run(forest, lazy, done, calls, 1, 32 << 20, at_once, at_once)
        return [int(done.result.sum()), *done.counts.tolist()]

    return Case(once, calls.nbytes)


def lazy_list(events: int) -> Case:
    """A purge after every 200 frees."""
    from replay.arena.loops import lazy as kernel

    stream = np.zeros((events, kernel.COLUMNS), np.int64)
    index = np.arange(events)
    stream[:, kernel.KIND] = np.where(index % 201 == 200, kernel.PURGE, kernel.FREE)
    stream[:, kernel.START] = np.random.default_rng(4).permutation(events) * 2 * PAGE
    stream[:, kernel.END] = stream[:, kernel.START] + PAGE
    stream[:, kernel.LO] = stream[:, kernel.HI] = index
    purges = stream[:, kernel.KIND] == kernel.PURGE
    stream[purges, kernel.START : kernel.END + 1] = 1 << 40, 0
    stream[purges, kernel.SEEN_START] = kernel.UNKNOWN

    def once() -> list[int]:
        lazy = kernel.new_lazy(events, np.zeros((0, 2), np.int64))
        kernel.run(lazy, stream, kernel.ASCENDING_MERGED, 32 << 20)
        return [*lazy.reg.tolist(), int(lazy.purge.sum())]

    return Case(once, stream.nbytes)


def blocks(events: int) -> Case:
    """Pieces of vm_map_ram() on two CPUs, unmapped at once; a block that is used up is freed."""
    from replay.arena.loops import blocks as kernel

    draw = np.random.default_rng(5)
    starts, left, top = [0, 0], [0, 0], 0xF780_0000
    rows: list[tuple[int, int, int, int]] = []  # kind, address, units, cpu
    while len(rows) < events:
        cpu, units = int(draw.integers(2)), 4
        new = left[cpu] < units
        if new:
            starts[cpu], left[cpu] = top, 64
            top = 0xF780_0000 + (top - 0xF780_0000 + 64 * PAGE) % (64 << 20)
        address = starts[cpu] + (64 - left[cpu]) * PAGE
        left[cpu] -= units
        rows.append((kernel.NEW if new else kernel.MAP, address, units, cpu))
        rows.append((kernel.UNMAP, address, units, cpu))
        if not left[cpu]:
            rows.append((kernel.RELEASE, starts[cpu], -1, cpu))
    stream = np.full((events, kernel.COLUMNS), -1, np.int64)
    stream[:, : kernel.CPU2] = rows[:events]
    stream[:, kernel.CPU2] = stream[:, kernel.CPU]
    stream[:, kernel.LO] = np.arange(events)
    stream[:, kernel.END] = 0

    def once() -> list[int]:
        done = kernel.new_blocks(events, np.zeros(0, np.int64), PAGE)
        kernel.run(done, stream, 64, 1)
        return [int(done.predicted.sum()), int(done.status.sum())]

    return Case(once, stream.nbytes)


CASES = {
    "local stacks": local_stacks,
    "tasks that wait": waiting,
    "arena": arena,
    "lazy list": lazy_list,
    "vm_map_ram": blocks,
}


def main(argv: list[str] | None = None) -> None:
    """Measure and print a table."""
    del argv
    say = sys.stdout.write
    source = np.zeros(16 << 20, np.uint8)
    memory = source.size / best(lambda: np.copyto(np.empty_like(source), source))
    say(f"the model's loops: {EVENTS:_} events, one core\n")
    for name, make in CASES.items():
        plain_seconds, plain = uncompiled(f"b.CASES[{name!r}]({UNCOMPILED}).once", "bench_model")
        same = make(UNCOMPILED).once() == plain
        case = make(EVENTS)
        rate = EVENTS / best(case.once, RUNS)
        ratio = rate / (UNCOMPILED / plain_seconds)
        share = rate * case.nbytes / EVENTS / memory
        say(
            f"  {name:16}{rate / 1e6:7.2f} M events/s · {ratio:5.0f} x plain Python"
            f" ({'same' if same else 'OTHER'} results) · {share:6.1%} of a memory copy\n"
        )
        if not same:
            raise SystemExit("compiled and plain functions disagree")


if __name__ == "__main__":
    main()
