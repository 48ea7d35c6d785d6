"""What was around long calls, worked out by hand on small traces, and on a real PREEMPT_RT one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from collectors import open_capture
from collectors.capture import Lost, LostInterval
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
        full.append({"seq": 10 * at + 1, "ts": at * US, "cpu": 0, "ctx": 0, "comm": name} | row)
    return pl.DataFrame(full, schema={name: SCHEMA[name] for name in SCHEMA})


def call(op: str, pid: int, until: int, **more: Any) -> dict[str, Any]:
    """A call that returns just before the row of this number."""
    return {"op": op, "pid": pid, "end_seq": 10 * until - 5, "end_ts": until * US - 500} | more


def switch(pid: int, to: int, cpu: int = 0, *, asleep: bool = False) -> dict[str, Any]:
    return {"op": "switch", "pid": pid, "next_pid": to, "cpu": cpu, "blocked": asleep}


def between_switches(*rows: dict[str, Any]) -> pl.DataFrame:
    """Rows between two switches to nobody: in the middle of a trace that has context switches."""
    table, end = events(*rows), 1 << 50
    first, last = (
        events(switch(99, -1, cpu=9) | {"seq": seq, "ts": ts, "next_pid": None})
        for seq, ts in ((0, -1), (end, end))
    )
    return pl.concat([first, table, last])


def longest(
    table: pl.DataFrame,
    rows: int = 1000,
    *,
    sleeps_for_lock: bool = False,
    lost: Lost | None = None,
    clock_is_ns: bool = True,
) -> list[LongCall]:
    tally = LongestTally(4096, clock_is_ns=clock_is_ns, sleeps_for_lock=sleeps_for_lock)
    for first in range(0, table.height, rows):
        tally.feed(table.slice(first, rows), first)
    return list(tally.result(tell(table.lazy(), tally.rows(), table.height, 1000), lost))


def gap(cpu: int | None, start: int | None, end: int | None) -> Lost:
    """Events of a CPU are missing between two rows of :func:`events`; None: since or for ever."""
    return Lost(
        (
            LostInterval(
                cpu, 3, 0, start and start * US, None if end is None else end * US, "LOST marker"
            ),
        )
    )


@pytest.mark.parametrize("rows", [1000, 3, 1])
def test_who_ran_while_a_task_was_preempted(rows: int) -> None:
    table = between_switches(
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
    table = between_switches(
        switch(4, 5, cpu=2),
        switch(3, 0, cpu=1),
        switch(0, 6, cpu=1),
        switch(1, 7),
        call("area_purge", 7, until=7, pages=1),
        {"op": "flush_range", "pid": 7, "parent": 41, "start": 0, "end": 8192},
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
    table = between_switches(
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
    table = between_switches(
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
    assert told.unseen == ("edge" if 10 < end_seq < 1 << 40 else "return")


def nothing_but_its_time(told: LongCall) -> bool:
    """Whether a call is told nothing of but how long it took."""
    return (
        told.off_ns is told.sleeps is told.instead is told.interrupted is told.waiters is None
    ) and told.behind is None


def test_without_switches_nothing_is_known_of_tasks() -> None:
    (told,) = longest(events(call("kmap", 7, until=1)))
    assert nothing_but_its_time(told)
    assert told.unseen == "switches"


PREEMPTED = (
    {"op": "pool_flush", "pid": 2, "cpu": 1},
    call("kmap", 7, until=5),  # row 1
    switch(7, 8),
    switch(8, 7),
    {"op": "vfree", "pid": 2, "cpu": 1},
)
"""A kmap() that began behind a flush of the pool, and was off its CPU for 1 µs."""


@pytest.mark.parametrize("rows", [1000, 2])
@pytest.mark.parametrize(
    ("lost", "hides"),
    [
        (gap(0, 2, 3), True),
        (gap(1, 2, 3), True),  # there it may have run, too
        (gap(None, 2, 3), True),
        (gap(0, 0, 9), True),  # only known to lie somewhere in there
        (gap(1, None, 1), True),  # CPU 1 has no event before: overwritten
        (gap(1, 4, None), True),  # and none any more
        (gap(None, None, None), True),
        (gap(0, 6, 9), False),
        (gap(0, 6, None), False),
        (Lost(), False),
    ],
)
def test_events_lost_in_a_call_may_be_its_switches(lost: Lost, hides: bool, rows: int) -> None:  # noqa: FBT001
    (told,) = longest(between_switches(*PREEMPTED), rows, lost=lost)
    if hides:
        assert nothing_but_its_time(told)
        assert (told.ns, told.unseen) == (3500, "lost")
    else:
        assert (told.ns, told.off_ns, told.unseen) == (3500, US, None)
        assert told.behind is not None
        assert (told.behind.op, told.behind.at.pid) == ("pool_flush", 2)


def test_what_a_call_began_behind_may_be_over_where_events_were_lost() -> None:
    """The end of the flush, or what its task did next, may be among what was lost before."""
    later = [{"op": "kunmap_local", "pid": 3, "cpu": 2}] * 3
    table = between_switches(PREEMPTED[0], *later, call("kmap", 7, until=6), switch(7, 7))
    (told,) = longest(table, lost=gap(1, 1, 2))
    assert (told.off_ns, told.behind, told.unseen) == (0, None, None)
    (told,) = longest(table, lost=gap(2, None, None))
    assert told.unseen == "lost"
    (told,) = longest(table)
    assert told.behind is not None


def test_a_cpu_may_have_switched_where_its_events_were_lost() -> None:
    """CPU 1 lost events before the purge, and CPU 2 before its last switch: task 5 ran there."""
    table = between_switches(
        switch(3, 6, cpu=1),
        switch(2, 4, cpu=2),
        switch(4, 5, cpu=2),
        call("area_purge", 7, until=6, pages=1),
        {"op": "flush_range", "pid": 7, "parent": 31, "start": 0, "end": 8192},
        {"op": "kunmap_local", "pid": 5, "cpu": 2},
    )
    for lost, ran in (
        (None, [(1, 6), (2, 5)]), (gap(1, 1, 2), [(2, 5)]), (gap(2, 1, 2), [(1, 6), (2, 5)]),
        (gap(None, 1, 2), [(2, 5)]),
    ):  # fmt: skip
        (told,) = longest(table, lost=lost)
        assert told.interrupted is not None
        assert [(task.cpu, task.pid) for task in told.interrupted] == ran


def test_what_a_waiter_did_next_may_be_lost() -> None:
    table = between_switches(
        call("area_purge", 7, until=3, pages=1),
        switch(8, 0, cpu=1, asleep=True),
        switch(5, 6, cpu=2),
        {"op": "kmap_local", "pid": 6, "cpu": 2},
        call("area_purge", 8, until=5, cpu=1, pages=0),
    )
    assert [task.pid for task in longest(table)[0].waiters or ()] == [8]
    assert longest(table, lost=gap(1, 3, 4))[0].waiters == ()


@pytest.mark.parametrize(("pid", "why"), [(0, "idle"), (None, "task")])
def test_of_idle_and_unknown_tasks_switches_tell_nothing(pid: int | None, why: str) -> None:
    (told,) = longest(between_switches(PREEMPTED[0], call("kmap", 7, until=5) | {"pid": pid}))
    assert nothing_but_its_time(told)
    assert told.unseen == why


def test_before_the_first_switch_and_behind_the_last_none_may_be_traced() -> None:
    """Tracepoints are enabled one behind the other, and so they are disabled."""
    one = call("kmap", 7, until=3)
    for rows, why in (
        ((one, switch(8, 9, cpu=1), {"op": "vfree", "pid": 2}, switch(8, 9, cpu=1)), "edge"),
        ((switch(8, 9, cpu=1), one, switch(9, 8, cpu=1)), "edge"),
        ((switch(8, 9, cpu=1), one, {"op": "vfree", "pid": 2}, switch(9, 8, cpu=1)), None),
    ):
        (told,) = longest(events(*rows))
        assert told.unseen == why
        assert told.off_ns == (0 if why is None else None)


def test_a_clock_that_counts_no_time_tells_no_time_off_a_cpu() -> None:
    table = between_switches(*PREEMPTED).with_columns(
        duration=pl.when(pl.col("op") == "kmap").then(3500)
    )
    (told,) = longest(table, clock_is_ns=False)
    assert (told.ns, told.off_ns, told.unseen) == (3500, None, "clock")


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
