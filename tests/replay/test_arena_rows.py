"""What of a trace the arena's replay looks at, wherever the windows end."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from collectors.events import SCHEMA
from replay.arena.rows import ArenaRows
from replay.machine.layout import layout_of
from replay.machine.model import Machine
from replay.trace.windows import Window

LAYOUT = layout_of(Machine(arch="i386", pae=True, ram=((0, 2 << 30),)))
POOL = {"start": LAYOUT.pkmap_base, "end": LAYOUT.pkmap_base + LAYOUT.pkmap_slots * 4096}
AREA = {"start": LAYOUT.vmalloc_start, "end": LAYOUT.vmalloc_start + 8192}
HARDIRQ = 2


def told(*rows: dict[str, Any]) -> list[tuple[int, bool]]:
    """Rows that are kept and whether each is wanted; `pid` is 1 where none is named."""
    usual: dict[str, Any] = {"ts": 0, "cpu": 0, "pid": 1, "ctx": 0, "entry_traced": True}
    table = pl.DataFrame([usual | {"seq": 10 * n} | row for n, row in enumerate(rows)], SCHEMA)
    found = []
    for step in (1, 2, 3, len(rows)):
        picker = ArenaRows(LAYOUT)
        kept = [
            picker.feed(Window(table[at : at + step], at, at + step >= len(rows), 0))
            for at in range(0, len(rows), step)
        ]
        found.append(pl.concat(kept).select("row", "wanted").rows())
    # The end of a window is taken for the task's next event: a call more may seem to be around.
    assert all(set(found[-1]) <= set(more) for more in found)
    return found[-1]


def test_of_the_arena_and_the_next_event_of_its_task() -> None:
    assert told(
        {"op": "area_free"},
        {"op": "kmap", "pid": 2},
        {"op": "switch"},
        {"op": "kmap"},
        {"op": "kunmap"},
        {"op": "flush_range", **POOL},
        {"op": "flush_range", "pid": 2, **AREA},
    ) == [(0, True), (3, False), (6, True)]


def test_what_an_interrupt_asks_for_is_followed_too() -> None:
    assert told(
        {"op": "area_free", "ctx": HARDIRQ},
        {"op": "kmap", "ctx": HARDIRQ},
        {"op": "kmap"},
        {"op": "kmap"},
    ) == [(0, True), (2, False)]


def test_calls_around_others() -> None:
    around = {"op": "kmap", "end_seq": 25}
    assert told(around, {"op": "kunmap", "pid": 2}, {"op": "pool_flush"}) == [(0, False)]
    assert told(around, {"op": "kunmap", "pid": 2}, {"op": "kmap", "pid": 3}) == [(0, False)]
    assert told({"op": "kmap", "end_seq": 15}, {"op": "kunmap", "pid": 2}, {"op": "kunmap"}) == []


@pytest.mark.parametrize("to", [False, True])
def test_switches_of_tasks_in_a_purge(to: bool) -> None:  # noqa: FBT001
    switch = {"op": "switch", "pid": 9, "next_pid": 1} if to else {"op": "switch", "next_pid": 9}
    other = {"op": "switch", "pid": 2, "next_pid": 3}
    returned = {"op": "area_purge", "end_seq": 15, **AREA}
    opened = {"op": "area_purge", **AREA}
    assert told(returned, switch, other, {"op": "kmap"}, switch) == [
        (0, True), (1, False), (3, False),
    ]  # fmt: skip
    assert told(opened, switch, other, switch) == [(0, True), (1, False), (3, False)]
    nested = [returned | {"end_seq": 35}, {"op": "kmap", "end_seq": 12}, switch, other, switch]
    assert told(*nested) == [(0, True), (1, False), (2, False)]


def test_a_task_without_a_number_is_in_no_purge() -> None:
    nobody = {"pid": None}
    assert told({"op": "area_purge", **AREA, **nobody}, {"op": "switch", **nobody}) == [(0, True)]
