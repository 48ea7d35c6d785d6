"""A simulated arena: tasks whose calls overlap, and the event table that a tracer would see.

What is written here apart from the program is the bookkeeping of tasks, lists and times; the
free tree itself is the program's, which test_arena_tree.py compares with a sorted list.
"""

from __future__ import annotations

import heapq
import random
from typing import Any, NamedTuple

import polars as pl

from collectors.events import SCHEMA
from replay.arena.loops import freetree as tree

START, END = 0xF7800000, 0xFEFFE000
PERCPU = (0xFEFBC000, 0xFEFFF000)
P = 4096


class Area(NamedTuple):
    start: int
    end: int
    kind: str
    caller: str


class Arena:
    """The kernel's side: free tree, areas in use, lazy list."""

    def __init__(self, generation: str) -> None:
        self.generation = generation
        rule = {"5.10": "padded", "5.17": "exact"}.get(generation, "adjusted")
        self.trees = tree.new_forest(1, 1 << 14, search=rule, moves=rule != "padded")
        tree.insert(self.trees, 0, 1, 0xFFFFFFFF)
        tree.take(self.trees, 0, *PERCPU)
        self.busy: dict[int, int] = {}
        self.lazy: list[tuple[int, int]] = []

    def alloc(self, size: int, align: int) -> int:
        start = tree.lowest(self.trees, 0, size, align, START, END)
        assert start >= 0, "the simulated arena is full"
        assert tree.take(self.trees, 0, start, start + size)
        self.busy[start] = start + size
        return int(start)

    def detach(self) -> list[tuple[int, int]]:
        taken, self.lazy = self.lazy, []
        if self.generation == "5.10":
            return taken[::-1]
        taken.sort()
        if self.generation == "6.12":
            return taken[::-1]
        merged: list[tuple[int, int]] = []
        for start, end in taken:
            if merged and merged[-1][1] == start:
                merged[-1] = (merged[-1][0], end)
            else:
                merged.append((start, end))
        return merged

    def give_back(self, area: tuple[int, int]) -> None:
        assert tree.give_back(self.trees, 0, *area)


def simulate(
    seed: int,
    calls: int = 600,
    tasks: int = 1,
    generation: str = "6.1",
    aligns: tuple[int, ...] = (1,),
    stretch: float = 0.0,
) -> tuple[pl.DataFrame, tuple[Area, ...]]:
    """Event table, and the areas of /proc/vmallocinfo before it.

    `stretch` is the mean time from entry to the lock and from there to the return, in units of
    the mean time between two calls of a task.
    """
    rng = random.Random(seed)
    arena = Arena(generation)

    def request() -> tuple[int, int]:
        return rng.randint(1, 24) * P, rng.choice(aligns)

    for _ in range(200):
        if rng.random() < 0.55 or not arena.busy:
            arena.alloc(*request())
        else:
            start = rng.choice(list(arena.busy))
            arena.lazy.append((start, arena.busy.pop(start)))
        if len(arena.lazy) > 20:
            for area in arena.detach():
                arena.give_back(area)
    unpurged = arena.lazy[::-1] if generation == "5.10" else sorted(arena.lazy)
    areas = (
        *(Area(s, e, "vmalloc", "x") for s, e in sorted(arena.busy.items())),
        Area(*PERCPU, "vmalloc", "pcpu_get_vm_areas"),
        *(Area(s, e, "unpurged", "") for s, e in unpurged),
    )
    done = _run(rng, arena, request, calls, tasks, stretch)
    return _table(done), areas


def _run(
    rng: random.Random, arena: Arena, request: Any, calls: int, tasks: int, stretch: float
) -> list[dict[str, Any]]:
    def wait(mean: float) -> float:
        return rng.expovariate(1 / mean) + 1e-9 if mean > 0 else 1e-9

    done: list[dict[str, Any]] = []
    heap: list[tuple[float, int, str, dict[str, Any]]] = [
        (rng.random(), task, "idle", {}) for task in range(tasks)
    ]
    heapq.heapify(heap)
    made, purging = 0, False
    while heap:
        now, task, state, call = heapq.heappop(heap)
        if state == "idle":
            if made == calls:
                continue
            made += 1
            call = {"task": task, "entry": now}
            dice = rng.random()
            if len(arena.lazy) > 40 and not purging and dice < 0.15:
                purging, state = True, "detach"
            elif (dice < 0.6 and len(arena.busy) < 180) or not arena.busy:
                state = "alloc"
                call["size"], call["align"] = request()
            else:
                state = "free"
                start = rng.choice(list(arena.busy))
                call["area"] = (start, arena.busy.pop(start))
            mean = stretch if state == "alloc" else 0.3 * stretch
            heapq.heappush(heap, (now + wait(mean), task, state, call))
        elif state == "alloc":
            start = arena.alloc(call["size"], call["align"])
            call["end"] = arena.busy.pop(start)  # nobody frees it before it is returned
            call |= {"op": "area_alloc", "start": start}
            heapq.heappush(heap, (now + wait(stretch), task, "returned", call))
        elif state == "free":
            arena.lazy.append(call["area"])
            waiting = sum(end - start for start, end in arena.lazy) // P
            done.append(call | {"op": "area_free", "nr_lazy": waiting})
            heapq.heappush(heap, (now + wait(1.0), task, "idle", {}))
        elif state == "detach":
            call |= {"op": "area_purge", "list": arena.detach()}
            call["purged"] = len(call["list"])
            ends = [address for area in call["list"] for address in area]
            if ends:
                call |= {"hull": (min(ends), max(ends)), "flush": now}
            heapq.heappush(heap, (now + wait(0.2 * stretch), task, "give", call))
        elif state == "give":
            whole = arena.generation == "6.12"
            for _ in range(len(call["list"]) if whole else min(len(call["list"]), 1)):
                arena.give_back(call["list"].pop(0))
            pause = wait(0.1 * stretch) if rng.random() < 0.2 else 1e-9
            state = "give" if call["list"] else "returned"
            heapq.heappush(heap, (now + pause, task, state, call))
        else:
            call["return"] = now
            purging = purging and call["op"] != "area_purge"
            if "size" in call:
                arena.busy[call["start"]] = call["end"]
            done.append(call)
            heapq.heappush(heap, (now + wait(1.0), task, "idle", {}))
    return done


def _table(done: list[dict[str, Any]]) -> pl.DataFrame:
    points = sorted(
        (call[point], index, point)
        for index, call in enumerate(done)
        for point in ("entry", "flush", "return")
        if point in call
    )
    position = {(index, point): seq for seq, (_, index, point) in enumerate(points)}
    rows: list[dict[str, Any]] = []
    for index, call in enumerate(done):
        seq = position[index, "entry"]
        who = {"cpu": call["task"], "pid": 100 + call["task"], "ctx": 0, "entry_traced": True}
        row = {"seq": seq, "ts": seq, "op": call["op"], **who}
        if (index, "return") in position:
            row |= {"end_seq": position[index, "return"], "end_cpu": call["task"]}
        if call["op"] == "area_alloc":
            row |= {"size": call["size"], "align": call["align"], "start": START, "end": END}
            row["vaddr"] = call["start"]
        elif call["op"] == "area_free":
            row["vaddr"], row["end"] = call["area"]
            row["nr_lazy"] = call["nr_lazy"]
        else:
            row |= {"start": 0xFFFFFFFF, "end": 0, "pages": int("hull" in call)}
            row["purged"] = call["purged"]
        rows.append(row)
        if "hull" in call:
            at = position[index, "flush"]
            start, end = call["hull"]
            rows.append(
                {"seq": at, "ts": at, "op": "flush_range", "start": start, "end": end,
                 "parent": seq, **who}
            )  # fmt: skip
    return table(rows)


def table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Event table of rows that lack most columns."""
    full = [dict.fromkeys(SCHEMA) | row for row in rows]
    columns = dict(SCHEMA) | {"nr_lazy": pl.UInt64(), "purged": pl.UInt64()}
    return pl.DataFrame(full, schema=pl.Schema(columns)).sort("seq")
