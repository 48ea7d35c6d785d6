"""A small simulation of kmap()/kunmap() on several CPUs, written apart from the model.

It follows the text of mm/highmem.c with dictionaries and lists, one lock, sleeping tasks, and
probes that fire before the lock is taken and after it is released. Tests replay what its probes
saw and compare with what it did. It knows colours (a cursor and a wait queue each) and
kmap_high_get().
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

import polars as pl

from collectors.events import SCHEMA

BASE = 0xFF00_0000
PAGE = 4096


@dataclass
class Kernel:
    """The pool as the kernel has it."""

    slots: int
    counts: dict[int, int] = field(default_factory=dict)
    slot_of: dict[int, int] = field(default_factory=dict)
    colours: int = 1
    last: dict[int, int] = field(default_factory=dict)

    def flush(self) -> int:
        freed = [s for s, n in self.counts.items() if n == 1]
        for slot in freed:
            del self.counts[slot]
            page = next(p for p, s in self.slot_of.items() if s == slot)
            del self.slot_of[page]
        return len(freed)

    def attempt(self, page: int) -> tuple[int | None, int | None]:
        """One try of kmap_high: (slot or None to sleep, slots freed or None without a flush)."""
        freed = None
        if page not in self.slot_of:
            colour = page % self.colours
            left = self.slots // self.colours
            while True:
                # get_next_pkmap_nr(), no_more_pkmaps(): the cursor counts in steps of all colours
                last = (self.last.get(colour, 0) + self.colours) % self.slots
                self.last[colour] = last
                index = last + colour
                if index < self.colours:
                    freed = self.flush()
                    left = self.slots // self.colours
                if self.counts.get(index, 0) == 0:
                    break
                left -= 1
                if not left:
                    return None, freed
            self.slot_of[page] = index
            self.counts[index] = 1
        slot = self.slot_of[page]
        self.counts[slot] += 1
        return slot, freed

    def get(self, page: int) -> int | None:
        """kmap_high_get: pins what is mapped, maps nothing."""
        slot = self.slot_of.get(page)
        if slot is not None:
            self.counts[slot] += 1
        return slot

    def unmap(self, page: int) -> bool:
        """kunmap_high: whether sleepers are to be woken."""
        slot = self.slot_of[page]
        self.counts[slot] -= 1
        return self.counts[slot] == 1


@dataclass
class Run:
    """What a simulation did and what its probes saw.

    Attributes
    ----------
    events
        Event table.
    sleeps
        Times a task slept.
    flushed
        Per flush pass: whether the TLB was flushed.
    """

    events: pl.DataFrame
    sleeps: int
    flushed: list[bool]


def simulate(
    seed: int,
    *,
    slots: int,
    tasks: int,
    pages: int,
    rounds: int,
    most: int,
    unused_every: int = 0,
    jitter: int = 40,
    colours: int = 1,
    gets: float = 0.0,
) -> Run:
    """Run `tasks` tasks, each mapping up to `most` pages at once, `rounds` times.

    `jitter` is how long before the lock an entry probe can fire, and after it a return probe;
    steps of one task take 1 to 10, so calls of different tasks overlap a lot. A share of `gets`
    of the pages is asked for with kmap_high_get() first.
    """
    rng = random.Random(seed)
    kernel = Kernel(slots, colours=colours)
    probes: list[tuple[int, int, dict[str, object]]] = []  # time, tie, event
    stamp = iter(range(1 << 30))

    def probe(time: int, **event: object) -> dict[str, object]:
        probes.append((time, next(stamp), event))
        return event

    agenda: list[tuple[int, int, int]] = []  # time of the lock, tie, task
    program: dict[int, list[tuple[str, int]]] = {}
    entered: dict[int, dict[str, object]] = {}
    sleeping: list[tuple[int, int]] = []
    sleeps, flushed = 0, []
    done_at = dict.fromkeys(range(1, tasks + 1), 0)

    def enter(task: int) -> None:
        """Let a task enter its next call: the probe fires, the lock comes later."""
        if not program[task]:
            return
        op, page = program[task][0]
        start = done_at[task] + rng.randint(1, 10)
        entered[task] = probe(start, what="enter", op=op, page=page, pid=task)
        heapq.heappush(agenda, (start + rng.randint(1, jitter), next(stamp), task))

    for task in range(1, tasks + 1):
        steps: list[tuple[str, int]] = []
        for _ in range(rounds):
            held = [rng.randrange(pages) for _ in range(rng.randint(1, most))]
            steps += [("kmap_get" if rng.random() < gets else "kmap", page) for page in held]
            rng.shuffle(held)
            steps += [("kunmap", page) for page in held]
        program[task] = steps
        enter(task)
    served = 0
    while agenda:
        now, _, task = heapq.heappop(agenda)
        op, page = program[task][0]
        call = entered[task]
        served += 1
        if unused_every and served % unused_every == 0:
            flushed.append(kernel.flush() > 0)
            probe(now, what="pass", pid=0, parent=None, flushed=flushed[-1])
        if op == "kmap":
            slot, freed = kernel.attempt(page)
            if freed is not None:
                flushed.append(freed > 0)
                probe(now, what="pass", pid=task, parent=call, flushed=flushed[-1])
            if slot is None:
                sleeps += 1
                sleeping.append((task, page % colours))
                probe(now, what="sleep", pid=task)
                continue
            call["slot"] = slot
        elif op == "kmap_get":
            call["slot"] = kernel.get(page)
            if call["slot"] is None:  # nothing to unmap
                program[task].remove(("kunmap", page))
        elif kernel.unmap(page):
            for woken, _ in reversed([s for s in sleeping if s[1] == page % colours]):
                heapq.heappush(agenda, (now + rng.randint(1, jitter), next(stamp), woken))
            sleeping = [s for s in sleeping if s[1] != page % colours]
        done_at[task] = now + rng.randint(1, jitter)
        probe(done_at[task], what="return", call=call)
        program[task].pop(0)
        enter(task)
    assert not sleeping, "the scenario deadlocks: choose other numbers"
    return Run(_table(probes, slots), sleeps, flushed)


def _table(probes: list[tuple[int, int, dict[str, object]]], slots: int) -> pl.DataFrame:
    """The event table that a reader would make of these probes (kunmap without a return)."""
    rows: list[dict[str, object]] = []
    row_of: dict[int, dict[str, object]] = {}
    for number, (time, _, event) in enumerate(sorted(probes, key=lambda p: p[:2])):
        seq = 2 * number  # the TLB flush of a pass takes the position behind it
        if event["what"] == "return":
            call = event["call"]
            assert isinstance(call, dict)
            row_of[id(call)] |= {"end_ts": time, "end_seq": seq, "end_cpu": 0}
            if call["op"] == "kmap_get":
                got = call["slot"]
                row_of[id(call)]["vaddr"] = 0 if got is None else BASE + PAGE * int(str(got))
            elif call["op"] == "kmap":
                row_of[id(call)]["vaddr"] = BASE + PAGE * call["slot"]
            else:
                row_of[id(call)] |= {"end_ts": None, "end_seq": None, "end_cpu": None}
            continue
        row: dict[str, object] = dict.fromkeys(SCHEMA)
        row |= {"seq": seq, "ts": time, "cpu": 0, "ctx": 0, "entry_traced": True}
        row["pid"] = event["pid"]
        if event["what"] == "enter":
            page = int(str(event["page"]))
            row |= {"op": event["op"], "page": 0xF600_0000 + 40 * page, "pfn": page}
            row_of[id(event)] = row
        elif event["what"] == "sleep":
            row |= {"op": "switch", "next_pid": 0, "blocked": True}
        else:
            parent = event["parent"]
            row |= {"op": "pool_flush", "parent": row_of[id(parent)]["seq"] if parent else None}
            if event["flushed"]:
                window = {"op": "flush_range", "start": BASE, "end": BASE + PAGE * slots}
                rows += [row, row | window | {"seq": seq + 1, "parent": None}]
                continue
        rows.append(row)
    return pl.DataFrame(rows, schema=SCHEMA)
