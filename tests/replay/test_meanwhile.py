"""What was around long calls, worked out by hand on small traces, and on a real PREEMPT_RT one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from collectors import open_capture
from collectors.events import SCHEMA
from replay.machine.from_facts import machine_from
from replay.observed.longest import LongestTally
from replay.outcome import LongCall, Moment
from replay.trace.told import tell
from replay.walk import replay

FIXTURES = Path(__file__).parents[2] / "fixtures"
US = 1000


def events(*rows: dict[str, Any]) -> pl.DataFrame:
    """Rows of the event table; `seq` and `ts` (µs) count up where they are not given."""
    full = []
    for at, row in enumerate(rows):
        name = f"task-{row['pid']}"
        full.append({"seq": 10 * at, "ts": at * US, "cpu": 0, "ctx": 0, "comm": name} | row)
    return pl.DataFrame(full, schema={name: SCHEMA[name] for name in SCHEMA})


def call(op: str, pid: int, until: int, **more: Any) -> dict[str, Any]:
    """A call that returns just before the row of this number."""
    return {"op": op, "pid": pid, "end_seq": 10 * until - 5, "end_ts": until * US - 500} | more


def switch(pid: int, to: int, cpu: int = 0, *, asleep: bool = False) -> dict[str, Any]:
    return {"op": "switch", "pid": pid, "next_pid": to, "cpu": cpu, "blocked": asleep}


def longest(
    table: pl.DataFrame, rows: int = 1000, *, sleeps_for_lock: bool = False
) -> list[LongCall]:
    tally = LongestTally(4096, clock_is_ns=True, sleeps_for_lock=sleeps_for_lock)
    for first in range(0, table.height, rows):
        tally.feed(table.slice(first, rows), first)
    return list(tally.result(tell(table.lazy(), tally.rows(), table.height, 1000)))


@pytest.mark.parametrize("rows", [1000, 3, 1])
def test_who_ran_while_a_task_was_preempted(rows: int) -> None:
    table = events(
        {"op": "kunmap", "pid": 8},
        call("kmap_local", 7, until=6),
        switch(7, 8),
        switch(8, 9),
        switch(9, 7),
        switch(5, 0, cpu=1),
        {"op": "kunmap_local", "pid": 7},
    )
    (told,) = longest(table, rows)
    assert (told.ns, told.off_ns, told.sleeps) == (4500, 2 * US, 0)
    assert told.instead is not None
    assert [(task.pid, task.ns) for task in told.instead] == [(8, US), (9, US)]
    assert told.instead[0].comm == "task-8"
    assert told.behind is None
    assert told.waiters == ()


@pytest.mark.parametrize("rows", [1000, 2])
def test_what_ipis_find_on_other_cpus(rows: int) -> None:
    table = events(
        switch(4, 5, cpu=2),
        switch(3, 0, cpu=1),
        switch(0, 6, cpu=1),
        switch(1, 7),
        call("area_purge", 7, until=7, pages=1),
        {"op": "flush_range", "pid": 7, "parent": 40, "start": 0, "end": 8192},
        switch(6, 2, cpu=1),  # came when it was over
        {"op": "kunmap_local", "pid": 6, "cpu": 1},
    )
    (told,) = longest(table, rows)
    assert told.interrupted is not None
    assert [(task.cpu, task.pid) for task in told.interrupted] == [(1, 6), (2, 5)]
    assert told.flushes == 1
    assert told.pages == 2


@pytest.mark.parametrize("rows", [1000, 2])
def test_who_waits_for_a_purge_purges_next(rows: int) -> None:
    table = events(
        call("area_purge", 7, until=5, pages=1),
        switch(8, 0, cpu=1, asleep=True),
        switch(9, 0, cpu=2, asleep=True),
        {"op": "switch", "pid": 0, "next_pid": 9, "cpu": 2},
        {"op": "kunmap_local", "pid": 9, "cpu": 2},  # waited for something else
        call("area_purge", 8, until=6, cpu=1, pages=0),
    )
    first = longest(table, rows)[0]
    assert first.ns == 4500
    assert first.waiters is not None
    assert [(task.pid, task.comm, task.ns) for task in first.waiters] == [(8, "task-8", 3500)]


@pytest.mark.parametrize("sleeps_for_lock", [False, True])
def test_a_sleep_in_kmap_is_for_a_slot_or_for_the_lock(*, sleeps_for_lock: bool) -> None:
    table = events(
        {"op": "flush_unused", "pid": 2, "cpu": 1},
        {"op": "pool_flush", "pid": 2, "cpu": 1},
        call("kmap", 7, until=5),
        switch(7, 0, asleep=True),
        switch(0, 7),
        {"op": "area_free", "pid": 2, "cpu": 1},
    )
    (told,) = longest(table, sleeps_for_lock=sleeps_for_lock)
    assert (told.off_ns, told.sleeps) == (US, 1)
    if sleeps_for_lock:
        assert told.behind is not None
        assert told.behind.op == "flush_unused"
        assert told.behind.at == Moment(0, 1, 2, "task-2")
    else:
        assert told.behind is None


def test_a_pass_is_over_when_its_task_does_something_else() -> None:
    table = events(
        {"op": "flush_unused", "pid": 2, "cpu": 1},
        {"op": "pool_flush", "pid": 2, "cpu": 1},
        {"op": "vfree", "pid": 2, "cpu": 1},
        call("kmap", 7, until=4),
    )
    (told,) = longest(table)
    assert told.behind is None


@pytest.mark.parametrize("rows", [1000, 1])
@pytest.mark.parametrize("end_seq", [0, 5, 10, 1 << 40])
def test_returns_that_cannot_be_tell_nothing(end_seq: int, rows: int) -> None:
    table = events(
        switch(7, 8), call("kmap", 7, until=5) | {"end_seq": end_seq}, switch(7, 0), switch(0, 7)
    )
    (told,) = longest(table, rows)
    assert told.op == "kmap"
    assert told.off_ns is None


def test_without_switches_nothing_is_known_of_tasks() -> None:
    (told,) = longest(events(call("kmap", 7, until=1)))
    assert told.off_ns is None
    assert told.sleeps is told.instead is told.interrupted is told.waiters is None


@pytest.mark.parametrize("rows", [1 << 18, 700])
def test_a_real_time_kernel(rows: int) -> None:
    """A purge of 15.7 ms on CPU 0, 5.10-rt: CPU 1 idled, modprobe waited for it at its end."""
    capture = open_capture(str(FIXTURES / "i386-510rt-minix-pae-smp2"))
    values = capture.facts.snapshot()
    machine, _ = machine_from(values)
    outcome = replay(capture.events, machine, values=values, lost=capture.lost, rows=rows)
    assert outcome.observed is not None
    purge = next(c for c in outcome.observed.longest if c.at.ts == 50_025_752_000)
    assert (purge.op, purge.ns, purge.ipis) == ("area_purge", 15_720_000, 1)
    assert purge.interrupted is not None
    assert [(task.cpu, task.pid) for task in purge.interrupted] == [(1, 0)]
    assert purge.waiters is not None
    assert [(task.pid, task.comm, task.ns) for task in purge.waiters] == [(217, "modprobe", 63_000)]
    worst = outcome.observed.longest[0]
    assert (worst.op, worst.off_ns) == ("kmap_local", 0), "its CPU itself stood still"


def test_marks_are_what_happened() -> None:
    for name, waits in (("i386-minix-pae-smp2", 0), ("i386-hog-a-waiters-pae-smp2", 8)):
        capture = open_capture(str(FIXTURES / name))
        values = capture.facts.snapshot()
        machine, _ = machine_from(values)
        for rows in (1 << 18, 997):
            outcome = replay(capture.events, machine, values=values, lost=capture.lost, rows=rows)
            assert outcome.observed is not None
            marks = outcome.observed.marks
            assert marks is not None
            assert sum(marks.wraps) + sum(marks.passes) == outcome.pool.flushes
            assert sum(marks.purges) == sum(p.found for p in outcome.purges)
            assert sum(marks.waits) == waits, "calls, each of which may have slept several times"
            assert outcome.pool.used is not None
            assert marks.bin_ns == outcome.pool.used.bin_ns
