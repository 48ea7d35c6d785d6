"""A simulated arena: tasks whose calls overlap, and the event table that a tracer would see.

Nothing here is the model's but the free trees of kernels before 5.18, which test_arena_tree.py
compares with a sorted list; that of later ones is the tree of :mod:`collectors.synthetic`.
"""

from __future__ import annotations

import heapq
import random
from typing import Any, NamedTuple

import polars as pl

from collectors.events import SCHEMA
from collectors.synthetic.freetree import FreeTree
from replay.arena.loops import freetree as tree

START, END = 0xF7800000, 0xFEFFE000
PERCPU = (0xFEFBC000, 0xFEFFF000)
P = 4096


class Area(NamedTuple):
    start: int
    end: int
    kind: str
    caller: str


class OldTree:
    """The model's tree, searched as before 5.18."""

    def __init__(self, search: str, page: int) -> None:
        rule = tree.Rule(search, moves=search != "padded", page_size=page)
        self.trees = tree.new_forest(1, 1 << 14, rule)

    def find(self, size: int, align: int, low: int, high: int) -> int:
        return int(tree.lowest(self.trees, 0, size, align, low, high))

    def take(self, start: int, end: int) -> None:
        assert tree.take(self.trees, 0, start, end)

    def give_back(self, start: int, end: int) -> None:
        assert tree.give_back(self.trees, 0, start, end)


class Arena:
    """The kernel's side: free tree, areas in use, lazy list."""

    def __init__(self, generation: str, page: int = P) -> None:
        self.generation = generation
        self.end = END // page * page
        self.percpu = PERCPU[0] // page * page, -(-PERCPU[1] // page) * page
        rule = {"5.10": "padded", "5.17": "exact"}.get(generation)
        self.tree = FreeTree(page) if rule is None else OldTree(rule, page)
        self.tree.give_back(1, 0xFFFFFFFF)
        self.tree.take(*self.percpu)
        self.busy: dict[int, int] = {}
        self.lazy: list[tuple[int, int]] = []

    def alloc(self, size: int, align: int) -> int:
        start = self.tree.find(size, align, START, self.end)
        assert start >= 0, "the simulated arena is full"
        self.tree.take(start, start + size)
        self.busy[start] = start + size
        return start

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
        self.tree.give_back(*area)


def simulate(
    seed: int,
    calls: int = 600,
    tasks: int = 1,
    generation: str = "6.1",
    aligns: tuple[int, ...] = (1,),
    stretch: float = 0.0,
    page: int = P,
) -> tuple[pl.DataFrame, tuple[Area, ...]]:
    """Event table, and the areas of /proc/vmallocinfo before it; `page` is the size of a page.

    `stretch` is the mean time from entry to the lock and from there to the return, in units of
    the mean time between two calls of a task.
    """
    rng = random.Random(seed)
    arena = Arena(generation, page)

    def request() -> tuple[int, int]:
        return rng.randint(1, 24) * page, rng.choice(aligns)

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
        Area(*arena.percpu, "vmalloc", "pcpu_get_vm_areas"),
        *(Area(s, e, "unpurged", "") for s, e in unpurged),
    )
    done = _run(rng, arena, request, calls, tasks, stretch)
    return _table(done, page), areas


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
            waiting = sum(end - start for start, end in arena.lazy)
            done.append(call | {"op": "area_free", "waiting": waiting})
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


def _table(done: list[dict[str, Any]], page: int) -> pl.DataFrame:
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
            limits = {"start": START, "end": END // page * page}
            row |= {"size": call["size"], "align": call["align"], **limits}
            row["vaddr"] = call["start"]
        elif call["op"] == "area_free":
            row["vaddr"], row["end"] = call["area"]
            row["nr_lazy"] = call["waiting"] // page
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
