"""Who has slots of the pool, and who waits for them."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from collectors import open_capture
from hmtrace.cli import app
from hmtrace.report.findings import in_words
from replay.machine.from_facts import machine_from
from replay.machine.kconfig import is_realtime
from replay.outcome import JammedTask, PoolJam
from replay.pool.loops.sequence import GET, MAP, PLACE, RESET, UNMAP
from replay.pool.loops.takers import CALLS, MOST_AT_ONCE, new_takers
from replay.pool.loops.users import UNSET, Tries, follow, new_users
from replay.rules.deadlock import EDGES, WaitEdge, graph_of
from replay.validate.run import validate
from replay.walk import replay

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.outcome import Finding, Outcome

FIXTURES = Path(__file__).parent.parent.parent / "fixtures"


@cache
def report(name: str, rows: int = 1 << 18) -> Outcome:
    capture = open_capture(FIXTURES / name if not Path(name).is_absolute() else Path(name))
    values = capture.facts.snapshot()
    machine, _ = machine_from(values)
    return replay(capture.events, machine, values=values, lost=capture.lost, rows=rows)


def finding(outcome: Outcome, rule: str) -> Finding:
    return next(found for found in outcome.findings if found.rule == rule)


@pytest.mark.parametrize("rows", [1 << 18, 500])
def test_waiters_and_the_holder_of_all_slots_are_named(rows: int) -> None:
    """One insmod holds all 512 slots, eight threads of its module want one each."""
    pool = report("i386-hog-a-waiters-pae-smp2", rows).pool
    assert (pool.waits, pool.waiting_tasks, pool.asleep) == (36, 8, 0)
    (holder,) = pool.holders
    assert holder.first is not None
    assert (holder.slots, holder.first.comm, holder.first.pid) == (512, "insmod", 150)
    assert {w.longest.comm for w in pool.waiters if w.longest} == {f"hogw/{n}" for n in range(8)}
    assert sum(w.waits for w in pool.waiters) == 36
    assert sum(w.wait_ns for w in pool.waiters) == pool.wait_ns
    assert max(w.longest_ns for w in pool.waiters) == pool.longest_wait_ns
    assert pool.held == ()
    found = finding(report("i386-hog-a-waiters-pae-smp2", rows), "pool-exhausted")
    assert found.first is not None
    assert (found.first.ts, found.first.comm) == (13_637_689_318, "hogw/0")
    assert any("insmod[150] 512" in line for line in in_words(found).who)


@pytest.mark.parametrize("rows", [1 << 18, 500])
def test_a_leak_is_told_by_task_call_site_and_time(rows: int) -> None:
    outcome = report("cases/i386-leak100", rows)
    (held,) = outcome.pool.held
    assert (held.slots, outcome.pool.still_used) == (100, 100)
    found = finding(outcome, "kmap-held")
    assert found.severity == "problem"
    assert found.first == held.first
    assert in_words(found).who == ("held by: insmod[146] 100 from kmap+0x40 [hog] since 15.177908",)


@pytest.fixture(scope="module")
def deadlock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synth") / "dead"
    run = CliRunner().invoke(app, ["synth", "kmap-deadlock", "--events", "3000", "-o", str(folder)])
    assert run.exit_code == 0, run.output
    return folder


def test_who_sleeps_for_ever_waits_until_the_trace_ends(deadlock: Path) -> None:
    truth = json.loads((deadlock / "truth.json").read_text())
    outcome = report(str(deadlock))
    pool = outcome.pool
    assert pool.asleep == pool.waiting_tasks == len(truth["at_end"]["asleep_for_ever"]) == 48
    assert {w.pid for w in pool.waiters} <= {
        task["pid"] for task in truth["at_end"]["asleep_for_ever"]
    }
    # Counted from the trace's own lines: 48 entries of kmap_high without a return.
    assert (pool.wait_ns, pool.longest_wait_ns) == (1_816_171_000, 37_874_000)
    assert pool.held_by_asleep == pool.slots == 512
    rules = [found.rule for found in outcome.findings]
    assert "kmap-held" not in rules, "no leak: those that have the slots sleep"
    assert rules.index("kmap-deadlock") < rules.index("pool-exhausted")
    words = in_words(finding(outcome, "kmap-deadlock"))
    assert "all 512 slots are held by tasks that sleep in kmap()" in words.message
    assert words.message.endswith("48 tasks sleep for ever")
    assert "≥1.8 s" in in_words(finding(outcome, "pool-exhausted")).message


def test_who_sleeps_for_ever_on_another_machine_waits_too(deadlock: Path) -> None:
    """With half of the slots the same tasks sleep, and sooner."""
    asked = ["replay", str(deadlock), "--pkmap", "256", "--format", "json"]
    document = json.loads(CliRunner().invoke(app, asked).stdout)
    pool, before = document["pool"], document["baseline"]["pool"]
    assert (pool["asleep"], before["asleep"]) == (48, 48)
    assert pool["wait_ns"] > before["wait_ns"] == 1_816_171_000
    assert pool["held_by_asleep"] == pool["slots"] == 256
    rules = [f["rule"] for f in document["findings"]]
    assert rules[:2] == ["kmap-deadlock", "pool-exhausted"]
    assert "kmap-held" not in rules, "no leak: those that have the slots sleep"


def test_one_task_that_runs_is_no_deadlock(deadlock: Path, tmp_path: Path) -> None:
    """The last of the sleepers is taken out of the trace: its task may yet give a slot back."""
    lines = (deadlock / "trace.txt").read_text().splitlines(keepends=True)
    mapped = [n for n, line in enumerate(lines) if ": kmap_high: " in line]
    del lines[mapped[-1]]
    for file in deadlock.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "trace.txt").write_text("".join(lines))
    outcome = report(str(tmp_path))
    assert outcome.pool.asleep == 47
    assert not [found for found in outcome.findings if found.rule == "kmap-deadlock"]
    held = in_words(finding(outcome, "kmap-held")).message
    assert "by tasks that wait for another slot" in held


@pytest.mark.parametrize(
    ("version", "realtime"),
    [
        ("#1 SMP PREEMPT_RT Debian 5.10.223-1 (2024-08-10)", True),
        ("#1 SMP PREEMPT RT Debian 4.19.67-2 (2019-08-28)", True),
        ("#1 SMP PREEMPT Debian 5.10.223-1 (2024-08-10)", False),
    ],
)
def test_a_version_tells_preempt_rt_where_no_config_does(
    tmp_path: Path, version: str, *, realtime: bool
) -> None:
    """Blocked on kmap_lock, which is an rtmutex there, is no wait for a slot: nobody can count."""
    for file in (FIXTURES / "i386-510rt-minix-pae-smp2").iterdir():
        if not file.name.startswith(("config", "dmesg")):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "version").write_text(f"Linux version 5.10.0 (a@b) (gcc 10) {version}\n")
    capture = open_capture(tmp_path)
    values = capture.facts.snapshot()
    machine, _ = machine_from(values)
    assert is_realtime(machine.config) is realtime
    waits = validate(capture.events, machine, values=values).waits_observed
    assert (waits is None) is realtime


def test_slots_have_the_users_that_a_list_per_slot_has() -> None:
    """Random calls of few tasks on few slots, against lists."""
    draw = random.Random(4)
    slots, calls = 8, 4000
    lists: dict[int, list[tuple[int, int]]] = {slot: [] for slot in range(slots)}
    pid = np.array([draw.randrange(5) for _ in range(calls)], np.int32)
    code, slot_of, scanned = np.empty((3, calls), np.int64)
    for n in range(calls):
        slot = draw.randrange(slots)
        users = lists[slot]
        code[n] = draw.choices((MAP, GET, UNMAP, PLACE, RESET), (40, 5, 50, 2, 1))[0]
        if len(users) >= 3 and code[n] in (MAP, GET):
            code[n] = UNMAP
        scanned[n] = code[n] == MAP and not users
        slot_of[n] = slot
        if code[n] in (MAP, GET):
            users.append((n, int(pid[n])))
        elif code[n] == UNMAP and users:
            own = [user for user in users if user[1] == pid[n]]
            users.remove(own[-1] if own else users[-1])
        elif code[n] == PLACE:
            users.clear()
        elif code[n] == RESET:
            for every in lists.values():
                every.clear()
    cpu = (pid % 2).astype(np.uint16)
    operations = np.zeros((calls, 4), np.int64)
    operations[:, 0], operations[:, 2] = code, slot_of
    users_of = new_users(slots)
    number = np.arange(calls)
    tries = Tries(*np.zeros((2, calls), np.int32), *np.full((2, calls), UNSET), number, pid, cpu)
    follow(
        users_of, new_takers(slots), tries, operations, number, number, slot_of.astype(np.int32),
        scanned.astype(np.int32), np.zeros((0, 3), np.int64),
    )  # fmt: skip
    assert {slot: found(users_of.newest, users_of.entries, slot) for slot in range(slots)} == {
        slot: [n for n, _ in reversed(users)] for slot, users in lists.items()
    }


def test_what_tasks_hold_when_they_need_more_is_as_counted_by_hand() -> None:
    """Random calls of few tasks on few slots, against sets."""
    draw = random.Random(7)
    slots, calls = 8, 6000
    users: dict[int, list[int]] = {slot: [] for slot in range(slots)}
    whole: dict[int, bool] = dict.fromkeys(range(slots), False)
    nest: Counter[int] = Counter()
    most: Counter[int] = Counter()
    asked, at_once = 0, 0

    def held(pid: int) -> int:
        return sum(whole[slot] and set(of) == {pid} for slot, of in users.items())

    pid = np.array([draw.randrange(1, 6) for _ in range(calls)], np.int32)
    code, slot_of, scanned = np.empty((3, calls), np.int64)
    for n in range(calls):
        task, slot = int(pid[n]), draw.randrange(slots)
        code[n] = draw.choices((MAP, GET, UNMAP, PLACE, RESET), (40, 5, 50, 2, 1))[0]
        if len(users[slot]) >= 3 and code[n] in (MAP, GET):
            code[n] = UNMAP
        scanned[n] = code[n] == MAP and not users[slot]
        slot_of[n] = slot
        if scanned[n] and held(task):
            asked += 1
            nest[task] = max(nest[task], held(task))
            most[task] = max(most[task], held(task))
            at_once = max(at_once, nest.total())
        if code[n] in (MAP, GET):
            whole[slot] |= bool(scanned[n])
            users[slot].append(task)
        elif code[n] == UNMAP and users[slot]:
            own = [at for at, user in enumerate(users[slot]) if user == task]
            users[slot].pop(own[-1] if own else -1)
        elif code[n] == PLACE:
            users[slot].clear()
            whole[slot] = False
        elif code[n] == RESET:
            users, whole = {s: [] for s in users}, dict.fromkeys(users, False)
        for each in list(nest):
            if not held(each):
                del nest[each]
    cpu = (pid % 2).astype(np.uint16)
    operations = np.zeros((calls, 4), np.int64)
    operations[:, 0], operations[:, 2] = code, slot_of
    takers, number = new_takers(slots), np.arange(calls)
    tries = Tries(*np.zeros((2, calls), np.int32), *np.full((2, calls), UNSET), number, pid, cpu)
    follow(
        new_users(slots), takers, tries, operations, number, number, slot_of.astype(np.int32),
        scanned.astype(np.int32), np.zeros((0, 3), np.int64),
    )  # fmt: skip
    assert (takers.reg[CALLS], takers.reg[MOST_AT_ONCE]) == (asked, at_once)
    assert {task: int(takers.most[task]) for task in most} == dict(most)
    assert [int(takers.held[task]) for task in range(1, 6)] == [held(n) for n in range(1, 6)]
    assert asked > 100 < at_once * 100


def test_nested_kmaps_are_told_with_the_task_that_held_most() -> None:
    """One insmod maps 512 pages, one after the other, and holds them all."""
    nested = report("i386-hog-a-waiters-pae-smp2").pool.nested
    assert nested is not None
    assert (nested.calls, nested.tasks, nested.at_once) == (511, 1, 511)
    (worst,) = nested.worst
    assert worst.at is not None
    assert (worst.pid, worst.slots, worst.at.comm) == (150, 511, "insmod")
    jam = report("i386-hog-a-waiters-pae-smp2").pool.jam
    assert jam is not None
    assert (jam.by_asleep, jam.by_awake, jam.by_unknown) == (0, 512, 0)
    assert (jam.sleepers, jam.holders, jam.both) == (8, 1, 0)
    assert [(task.slots, task.asleep) for task in jam.tasks] == [(512, False)] + 8 * [(0, True)]


def test_the_graph_of_a_deadlock_has_its_tasks_and_a_cycle(deadlock: Path) -> None:
    truth = json.loads((deadlock / "truth.json").read_text())
    asleep = {task["pid"] for task in truth["at_end"]["asleep_for_ever"]}
    found = finding(report(str(deadlock)), "kmap-deadlock")
    graph = graph_of(report(str(deadlock)).pool.jam)
    assert graph is not None
    assert (graph.by_asleep, graph.by_awake, graph.by_unknown) == (512, 0, 0)
    assert (graph.sleepers, graph.holders) == (48, 48)
    assert graph.edges_all == 48 * 47
    assert len(graph.edges) == EDGES
    assert all(e.waiter != e.holder and {e.waiter, e.holder} <= asleep for e in graph.edges)
    assert len(set(graph.cycle)) == 3
    assert set(graph.cycle) <= asleep
    line = next(line for line in in_words(found).who if line.startswith("cycle: "))
    assert line.count(" waits for ") == 3
    assert line.endswith(line.removeprefix("cycle: ").split(" (")[0])


def test_a_task_that_waits_for_itself_is_a_cycle_of_one() -> None:
    jam = PoolJam(5, 512, 0, 0, 1, 1, 1, (JammedTask(7, 512, asleep=True),))
    graph = graph_of(jam)
    assert graph is not None
    assert (graph.cycle, graph.edges, graph.edges_all) == ((7,), (WaitEdge(7, 7, 512),), 1)
    alone = graph_of(
        replace(jam, holders=2, tasks=(*jam.tasks, JammedTask(8, 3, asleep=False)), by_awake=3)
    )
    assert alone is not None
    assert (alone.cycle, alone.edges, alone.edges_all) == ((), (WaitEdge(7, 8, 3),), 1)


def found(newest: NDArray[np.int64], entries: NDArray[np.int64], slot: int) -> list[int]:
    """Rows of a slot's users, the newest first."""
    rows, entry = [], int(newest[slot])
    while entry >= 0:
        rows.append(int(entries[entry, 0]))
        entry = int(entries[entry, 3])
    return rows
