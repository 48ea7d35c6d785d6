"""Which findings follow from which figures."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from collectors import open_capture
from collectors.capture import Lost, LostInterval
from collectors.snapshot import Probe, Snapshot
from hmtrace.cli import app
from hmtrace.report.answers import absences
from hmtrace.report.findings import in_words
from hmtrace.report.terminal import key_figures
from hmtrace.report.text import unglued
from replay.machine.arches import ARCHES
from replay.machine.from_facts import machine_from
from replay.machine.layout import layout_of
from replay.machine.model import Machine
from replay.outcome import (
    ArenaOutcome,
    Behind,
    CallTime,
    CrossedKmaps,
    Finding,
    LocalOutcome,
    LongCall,
    Moment,
    NestedKmaps,
    NestedTask,
    Observed,
    PoolOutcome,
    Running,
    TlbOutcome,
)
from replay.rules.judge import SEVERITIES, findings
from replay.rules.rule import Case
from replay.rules.slow import SLOW, SlowCalls
from replay.rules.splits import OtherSplits
from replay.walk import replay

if TYPE_CHECKING:
    from types import ModuleType

    from replay.outcome import Outcome

FIXTURES = Path(__file__).parents[2] / "fixtures"
MIB = 1 << 20


def found(outcome: Outcome, rule: str, **values: Any) -> Finding | None:
    return next((f for f in findings(outcome, Snapshot(**values)) if f.rule == rule), None)


def need(outcome: Outcome, rule: str, **values: Any) -> Finding:
    finding = found(outcome, rule, **values)
    assert finding is not None, rule
    return finding


def test_worst_first(outcomes: ModuleType) -> None:
    order = [SEVERITIES.index(f.severity) for f in findings(outcomes.busy_outcome(), Snapshot())]
    assert order == sorted(order)
    assert order[0] == 0


def test_every_finding_has_words_and_evidence(outcomes: ModuleType) -> None:
    values = Snapshot(probe_misses={"kmap_high": 3}, vmap_failures=40)
    for finding in findings(outcomes.busy_outcome(), values):
        assert in_words(finding).message
        assert in_words(finding).evidence
        assert finding.count >= 1


def test_nothing_to_complain_about_is_said(outcomes: ModuleType) -> None:
    calm = replace(outcomes.quiet_outcome(), local=LocalOutcome(maps=3, unmaps=3, limit=15))
    assert in_words(need(calm, "fine")).evidence
    assert found(calm, "nothing-traced") is None
    assert found(outcomes.busy_outcome(), "fine") is None


def test_a_trace_of_no_call_is_not_called_fine(outcomes: ModuleType) -> None:
    finding = need(outcomes.quiet_outcome(), "nothing-traced")
    assert finding.severity == "warning"
    assert "How to capture" in in_words(finding).evidence
    assert found(outcomes.quiet_outcome(), "fine") is None


def test_another_split_is_advised_only_where_ram_is_known(outcomes: ModuleType) -> None:
    assert found(outcomes.quiet_outcome(), "split") is None
    assert need(outcomes.quiet_outcome(), "split", ram=((0, 1 << 30),)).severity == "info"


def test_waits_name_who_and_how_long(outcomes: ModuleType) -> None:
    finding = need(outcomes.busy_outcome(), "pool-exhausted")
    assert finding.severity == "problem"
    assert finding.count == 61
    assert "14 tasks" in in_words(finding).message
    assert "812.0 ms" in in_words(finding).message


def test_a_pool_near_its_end_without_waits(outcomes: ModuleType) -> None:
    busy = outcomes.busy_outcome()
    for used, expected in ((383, False), (384, True), (512, True)):
        outcome = replace(busy, pool=replace(busy.pool, waits=0, max_used=used))
        assert (found(outcome, "pool-near-full") is not None) is expected


def test_kmaps_held_at_the_end(outcomes: ModuleType) -> None:
    busy = outcomes.busy_outcome()
    for held, severity in ((1, "info"), (5, "warning"), (64, "problem")):
        outcome = replace(busy, pool=replace(busy.pool, still_used=held))
        assert need(outcome, "kmap-held").severity == severity
    assert found(replace(busy, pool=replace(busy.pool, still_used=0)), "kmap-held") is None


def test_flushes_with_nothing_to_free(outcomes: ModuleType) -> None:
    busy = outcomes.busy_outcome()
    pool = replace(busy.pool, passes=1108, unused_passes=1108, flushes=4, wraps=0)
    finding = need(replace(busy, pool=pool), "flush-unused-idle")
    assert finding.severity == "warning", "369 a second"
    assert "1104 of 1108" in in_words(finding).message
    assert found(busy, "flush-unused-idle") is None, "most passes freed something"


def test_a_counter_clock_gives_no_rates(outcomes: ModuleType) -> None:
    busy = outcomes.busy_outcome()
    outcome = replace(busy, cost=replace(busy.cost, share_of_span=None))
    assert found(busy, "flush-storm") is not None
    assert found(outcome, "flush-storm") is None
    assert found(outcome, "mapping-cost") is None


def test_nesting(outcomes: ModuleType) -> None:
    busy = outcomes.busy_outcome()
    for depth, severity in ((12, None), (13, "warning"), (15, "problem")):
        finding = found(replace(busy, local=replace(busy.local, max_depth=depth)), "local-depth")
        assert (finding and finding.severity) == severity


def test_traces_without_pages(outcomes: ModuleType) -> None:
    busy = outcomes.busy_outcome()
    outcome = replace(busy, pool=replace(busy.pool, hits=0, new_mappings=0))
    assert "no page arguments" in in_words(need(outcome, "pages-unknown")).message
    assert outcome.pool.pages_unknown
    console = Console(width=100, file=io.StringIO(), color_system=None)
    with console.capture() as captured:
        console.print(key_figures(outcome, absences(Snapshot())))
    text = unglued(captured.get())
    assert "kmap, pages unknown: so are use, flushes, waits" in text
    assert "at least" in text
    assert "waits " not in text.replace("flushes, waits", "")


def test_losses(outcomes: ModuleType) -> None:
    lost = Lost((LostInterval(0, None, 0, None, None, "LOST marker"),))
    rules = {f.rule: f for f in findings(outcomes.quiet_outcome(), Snapshot(), lost)}
    assert "unknown number" in in_words(rules["events-lost"]).message
    assert "fine" not in rules


def test_probe_misses_of_old_kernels_may_be_faults(outcomes: ModuleType) -> None:
    busy = outcomes.busy_outcome()
    misses = {"alloc_vmap_area_ret": 80, "x": 0}
    finding = need(busy, "probe-misses", probe_misses=misses)
    assert (finding.count, finding.severity) == (80, "warning")
    old = replace(busy, machine=outcomes.machine(generation="5.10"))
    finding = need(old, "probe-misses", probe_misses=misses)
    assert finding.severity == "info", "40 failures, two misses each"
    assert need(old, "probe-misses", probe_misses=misses | {"x": 1}).severity == "warning"


def test_what_probes_missed(outcomes: ModuleType) -> None:
    """i386-xfs16k-pae-m1024-smp2: 9 mappings that are not there, by three of their probes."""
    no, yes = False, True
    page, unmap = "__kmap_local_page_prot", "kunmap_local_indexed"
    probes = (
        Probe(no, "hm", "kmap_local_page", page, (), None),
        Probe(yes, "hm", "kmap_local_page_ret", page, (), 256),
        Probe(no, "hm", "kunmap_local", unmap, (), None),
    )
    hits = {"kmap_local_page": 93496, "kmap_local_page_ret": 93498, "kunmap_local": 93505}
    told: dict[str, Any] = {"probes": probes, "probe_hits": hits}
    nine = dict.fromkeys(hits, 9)
    finding = need(outcomes.busy_outcome(), "probe-misses", probe_misses=nine, **told)
    assert (finding.count, finding.severity) == (18, "info")
    message, evidence = in_words(finding)[:2]
    assert f"18 calls have no event at all (9 of {page}(), 9 of {unmap}())" in message
    assert "more instances of return probes do not change it" in evidence
    full = {"kmap_local_page": 9, "kmap_local_page_ret": 509}
    finding = need(outcomes.busy_outcome(), "probe-misses", probe_misses=full, **told)
    assert (finding.count, finding.severity) == (509, "warning")
    message, evidence = in_words(finding)[:2]
    assert f"500 calls have no return (500 of {page}())" in message
    assert "r512:group/event, it has r256 now" in evidence
    entry = need(outcomes.busy_outcome(), "probe-misses", probe_misses={"vfree": 1})
    assert "wants more instances" not in in_words(entry).evidence


def splits_of(outcomes: ModuleType, **changes: Any) -> tuple[OtherSplits, str]:
    """Advice over the splits of a machine, and its message."""
    machine = outcomes.machine(**changes)
    outcome = replace(outcomes.busy_outcome(), machine=machine, layout=layout_of(machine))
    finding = need(outcome, "split", ram=machine.ram)
    assert isinstance(finding.figures, OtherSplits)
    return finding.figures, in_words(finding).message


def left(found: OtherSplits) -> dict[str, int]:
    """MiB of highmem under each split, without PAE in brackets."""
    return {f"({s.name})" if s.without else s.name: s.highmem // (1 << 20) for s in found.splits}


def test_splits_that_make_highmem_vanish(outcomes: ModuleType) -> None:
    found_there, message = splits_of(outcomes)
    assert message.startswith("split 2g would make all RAM lowmem")
    assert "3g_opt without PAE does so too" in message
    assert left(found_there) == {"(3g_opt)": 0, "2g": 0, "(2g_opt)": 0, "1g": 0}
    arm = {"arch": "arm", "pae": False, "ram": ((1 << 30, 2 << 30),), "nr_cpus": 8}
    assert splits_of(outcomes, **arm)[1].startswith("split 3g_opt would make all RAM lowmem")
    found_there, message = splits_of(outcomes, **arm, generation="4.1")
    assert "3g_opt" not in left(found_there), "kernels have it from 4.4 on"
    assert message.startswith("split 2g ")


def test_splits_that_leave_a_little_highmem(outcomes: ModuleType) -> None:
    """2 GiB as booted kernels have them: 1171 MiB of highmem without PAE, 1167 with it."""
    ram = ((0x1000, 0x9F000), (0x100000, 0x7FFE0000))
    found_there, message = splits_of(outcomes, pae=False, ram=ram)
    assert left(found_there) == {"3g_opt": 915, "2g": 147, "2g_opt": 19, "1g": 0}
    assert "2g 147.88 MiB, 2g_opt 19.88 MiB, 1g none" in message
    found_there, message = splits_of(outcomes, ram=ram)
    assert left(found_there) == {"(3g_opt)": 915, "2g": 143, "(2g_opt)": 19, "1g": 0}
    assert "3g_opt without PAE 915.88 MiB, 2g 143.88 MiB" in message


def test_splits_are_weighed_wherever_ram_is_known(outcomes: ModuleType) -> None:
    """Boot logs have its size, or its zones; without either it would be a guess."""
    outcome = replace(outcomes.busy_outcome(), machine=outcomes.machine())
    outcome = replace(outcome, layout=layout_of(outcome.machine))
    assert found(outcome, "split", ram=()) is None
    assert found(outcome, "split", ram=(), ram_bytes=1 << 30)
    assert found(outcome, "split", ram=(), zone_ranges=(("HighMem", 0x36FFE, 0x40000),))


def test_no_split_is_advised_where_none_leaves_less(outcomes: ModuleType) -> None:
    board = outcomes.machine(arch="microblaze", pae=False, ram=((0, 1 << 30),), nr_cpus=1)
    outcome = replace(outcomes.busy_outcome(), machine=board, layout=layout_of(board))
    assert found(outcome, "split", ram=board.ram) is None


@pytest.mark.parametrize("split", ["3g_opt", "2g", "1g"])
def test_the_cost_of_a_split_is_that_of_its_replay(split: str, modules: Path) -> None:
    """Unloading modules on ARM flushes the hull from modules to arena, over all of lowmem."""
    advised = next(s for s in advice(modules).splits if s.name == split)
    run = CliRunner().invoke(app, ["replay", str(modules), "--split", split, "--format", "json"])
    document = json.loads(run.stdout)
    assert document["machine"]["highmem_bytes"] == advised.highmem == 0
    assert advised.cost_ns == pytest.approx(document["cost"]["total_ns"], rel=0.01)
    assert advised.cost_ns > document["baseline"]["cost"]["total_ns"] * 1.1
    assert advised.bound == "="


@pytest.mark.parametrize("fixture", ["i386-hog-a-waiters-pae-smp2", "i386-hog-d-local-pae-smp2"])
def test_the_cost_of_a_split_counts_the_walks_over_an_empty_pool(fixture: str) -> None:
    """kmap_flush_unused() walks the pool of a kernel with HIGHMEM whether it has any or not."""
    advised = next(s for s in advice(FIXTURES / fixture).splits if s.name == "2g")
    run = CliRunner().invoke(
        app, ["replay", str(FIXTURES / fixture), "--split", "2g", "--format", "json"]
    )
    document = json.loads(run.stdout)
    assert document["pool"]["unused_passes"] > 0
    assert advised.cost_ns == pytest.approx(document["cost"]["total_ns"], abs=1)


def test_a_dearer_split_is_called_one(modules: Path) -> None:
    found_there = advice(modules)
    message = in_words(Finding("split", "info", found_there)).message
    assert "but hulls of purges reach over more RAM" in message


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synth") / "modules"
    synth = ["synth", "module-storm", "--arch", "arm", "--events", "4000", "-o", str(folder)]
    assert CliRunner().invoke(app, synth).exit_code == 0
    return folder


@cache
def advice(folder: Path) -> OtherSplits:
    capture = open_capture(folder)
    values = capture.facts.snapshot()
    outcome = replay(capture.events, machine_from(values)[0], values=values)
    figures = next(f.figures for f in outcome.findings if f.rule == "split")
    assert isinstance(figures, OtherSplits)
    return figures


def test_mem_map_eats_lowmem(outcomes: ModuleType) -> None:
    busy = outcomes.busy_outcome()
    for gib, severity in ((4, None), (16, "warning"), (64, "problem")):
        machine = outcomes.machine(ram=((0x1000, gib << 30),), page_struct=40)
        outcome = replace(busy, machine=machine, layout=layout_of(machine))
        finding = found(outcome, "mem-map", ram=machine.ram)
        assert (finding and finding.severity) == severity


def test_no_split_is_advised_that_the_architecture_has_not(outcomes: ModuleType) -> None:
    """MIPS has one split: neither for the page array nor without HIGHMEM does another help."""
    ram = (0, 256 << 20), (0x9000_0000, 1 << 32)
    for arch, highmem, rule, helps in (
        ("mips32", True, "mem-map", "; only less RAM relieves it"),
        ("mips32", False, "ram-unmapped", "; only a kernel with HIGHMEM uses more, for no split"),
        ("arm", False, "ram-unmapped", "; a split with more lowmem would hold more"),
    ):
        split = ARCHES[arch].default_split
        machine = Machine(arch=arch, split=split, ram=ram, highmem_enabled=highmem)
        outcome = replace(outcomes.quiet_outcome(), machine=machine, layout=layout_of(machine))
        assert helps in in_words(need(outcome, rule, ram=ram)).evidence


def test_vmalloc_128_is_more_than_the_default(outcomes: ModuleType) -> None:
    busy = outcomes.busy_outcome()
    for mib, expected in ((64, False), (128, True), (256, False)):
        machine = outcomes.machine(vmalloc=mib << 20)
        outcome = replace(busy, machine=machine, layout=layout_of(machine))
        assert (found(outcome, "vmalloc-option") is not None) is expected


def test_a_purge_hull_over_the_direct_mapping(outcomes: ModuleType) -> None:
    """ARM flushes page by page: 204 341 pages in one purge of a real module unload."""
    arm = Machine(arch="arm", nr_cpus=8, ram=((0x4000_0000, 0x8000_0000),))
    tlb = TlbOutcome(range=268, range_pages=2_446_960, range_pages_max=204_341)
    outcome = replace(outcomes.quiet_outcome(), machine=arm, layout=layout_of(arm), tlb=tlb)
    finding = need(outcome, "purge-hull")
    assert finding.severity == "warning"
    assert "204341 pages" in in_words(finding).message
    assert "BPF programs gave back makes it so large" in in_words(finding).evidence
    small = replace(outcome, tlb=replace(tlb, range_pages_max=900))
    assert found(small, "purge-hull") is None
    i386 = outcomes.quiet_outcome()
    assert found(replace(i386, tlb=tlb), "purge-hull") is None  # x86 has a ceiling


@cache
def found_in(fixture: str) -> list[dict[str, Any]]:
    """Findings of `report` on a real capture."""
    result = CliRunner().invoke(app, ["report", str(FIXTURES / fixture), "--format", "json"])
    assert result.exit_code == 0, result.output
    findings: list[dict[str, Any]] = json.loads(result.stdout)["findings"]
    return findings


def test_slow_calls_of_a_real_trace_are_a_finding() -> None:
    """hogh/6-171 left kmap_high at 23.589501, by the trace's text, and entered 558.4 ms before."""
    slow = next(f for f in found_in("i386-hog-h-race-pae-smp4") if f["rule"] == "slow-calls")
    assert slow["severity"] == "warning"
    assert slow["message"].startswith("one kmap took 558.4 ms")
    assert slow["first"]["comm"] == "hogh/6"
    assert slow["first"]["ts"] // 1000 == 23_589_501 - 558_436
    assert slow["evidence"].startswith("its task was never off its CPU; it waited for kmap_lock,")


def test_a_slow_call_says_what_context_switches_tell_of_it() -> None:
    """Off its CPU, hardly, never, behind another call; a call that they tell nothing of: either."""
    where, other = Moment(10**9, 1, 7, "ls"), Moment(9 * 10**8, 0, 8, "rm")
    slow = CallTime("kmap", 9, 10**8, 1e4, 5e7, 10**8, where)
    known = LongCall("kmap", 10**8, None, 0, where, off_ns=0, sleeps=0)
    ran = (Running(9, "dd", ns=8 * 10**7),)

    def said(call: LongCall | None) -> str:
        return in_words(Finding("slow-calls", "warning", SlowCalls((slow,), 0, call))).evidence

    off = replace(known, off_ns=9 * 10**7, instead=ran)
    assert said(off) == "its task was off its CPU 90.0 ms, preempted by dd[9] 80.0 ms"
    assert said(replace(known, off_ns=10**6)).startswith(
        "its task was off its CPU for 1.0 ms only; it waited for kmap_lock"
    )
    assert said(replace(known, behind=Behind("flush_unused", other))) == (
        "its task was never off its CPU; it began to wait behind kmap_flush_unused() of rm[8] "
        "since 0.900000"
    )
    assert said(None).endswith("report --longest tells which, where sched_switch was traced")


def test_a_slow_call_in_a_gap_says_nothing_of_switches(outcomes: ModuleType) -> None:
    """Switches may be among what was lost; a gap behind the call takes nothing away."""
    where = Moment(10**9, 1, 7, "ls")
    call = LongCall("kmap", 10**8, None, 0, where, off_ns=0, sleeps=0, end_ts=11 * 10**8)
    time = CallTime("kmap", 9, 10**8, 1e4, 5e7, 10**8, where)
    outcome = replace(
        outcomes.quiet_outcome(), observed=Observed(durations=(time,), longest=(call,))
    )
    for start, end, known in (
        (9 * 10**8, 10**9 + 1, False), (None, None, False), (2 * 10**9, 3 * 10**9, True),
    ):  # fmt: skip
        lost = Lost((LostInterval(0, 1, 5, start, end, "LOST marker"),))
        (slow,) = SLOW.find(Case(outcome, Snapshot(), lost, outcome))
        assert isinstance(slow.figures, SlowCalls)
        assert slow.figures.around == (call if known else None)
        assert ("events were lost in it" in in_words(slow).evidence) is not known


def test_a_purge_over_the_direct_mapping_is_slow_by_itself() -> None:
    """ARM invalidates its hull page by page: no lock and no preemption are needed for seconds."""
    calls = tuple(
        CallTime(op, 92, 10**9, 2e5, 5e9, 5 * 10**9) for op in ("area_purge", "area_free")
    )
    for slow, hull, said in ((calls, 204_341, True), (calls, 0, False), (calls[1:], 9, False)):
        finding = Finding("slow-calls", "warning", SlowCalls(slow, hull))
        words = in_words(finding).evidence
        assert ("pages one by one takes long by itself; or its task" in words) is said


def test_mappings_taken_out_at_switches_are_no_share() -> None:
    """2563 hits of __kmap_local_sched_out; a mapping may be held over several of them."""
    held = next(
        f for f in found_in("i386-hog-d-local-pae-smp2") if f["rule"] == "local-over-switch"
    )
    assert held["message"].startswith("2563 context switches found local mappings held")
    assert held["evidence"].startswith("0.48 for each of the 15162 that were made;")


def test_the_first_pass_over_unused_slots_names_its_task() -> None:
    """insmod-150 on CPU 1 entered __kmap_flush_unused at 16.545662, by the trace's text."""
    idle = next(
        f for f in found_in("i386-hog-d-local-pae-smp2") if f["rule"] == "flush-unused-idle"
    )
    first = idle["first"]
    assert (first["ts"] // 1000, first["cpu"], first["pid"]) == (16_545_662, 1, 150)
    assert first["comm"] == "insmod"


def test_a_what_if_names_who_waits_there() -> None:
    """hogw/0 fell asleep first, at 13.637766 by the in-lock trace; nobody waits longer than he."""
    folder = str(FIXTURES / "i386-hog-a-waiters-pae-smp2")
    run = CliRunner().invoke(app, ["replay", folder, "--ram", "2G", "--format", "json"])
    document = json.loads(run.stdout)
    waits = next(f for f in document["findings"] if f["rule"] == "pool-exhausted")
    assert waits["first"]["comm"] == "hogw/0"
    assert 0 <= 13_637_766_000 - waits["first"]["ts"] < 1_000_000
    waiters = document["pool"]["waiters"]
    assert sum(w["waits"] for w in waiters) == document["pool"]["waits"] == 36
    assert sum(w["wait_ns"] for w in waiters) == document["pool"]["wait_ns"]
    assert {w["longest"]["comm"] for w in waiters} == {f"hogw/{n}" for n in range(8)}
    assert "hogw/2[154]" in waits["evidence"]
    fixed = ["replay", folder, "--ram", "2G", "--timing", "fixed"]
    text = " ".join(unglued(CliRunner().invoke(app, fixed).stdout).split())
    assert "8 tasks; with --timing fixed nobody waits, so for how long is not known" in text
    assert "waited 0 ns" not in text


def test_when_most_slots_were_in_use_first() -> None:
    """insmod-150 got the 512th slot at 13.636170, and the one before at 13.636074 (in the lock)."""
    folder = str(FIXTURES / "i386-hog-a-waiters-pae-smp2")
    run = CliRunner().invoke(app, ["report", folder, "--format", "json"])
    fullest = json.loads(run.stdout)["pool"]["fullest"]
    assert 13_636_074_000 < fullest["ts"] < 13_636_170_000
    assert (fullest["pid"], fullest["comm"]) == (150, "insmod")


def test_where_the_first_gap_is() -> None:
    """The first event that is left of CPU 1 is older than that of CPU 0, by the trace's text."""
    lost = next(f for f in found_in("i386-lost-overrun-pae-smp2") if f["rule"] == "events-lost")
    assert (lost["first"]["ts"] // 1000, lost["first"]["cpu"]) == (19_801_254, 1)


def test_a_kernel_without_highmem_walks_no_pool() -> None:
    """Its kmap_flush_unused() is empty (include/linux/highmem-internal.h)."""
    folder = str(FIXTURES / "i386-hog-a-waiters-pae-smp2")
    run = CliRunner().invoke(app, ["replay", folder, "--no-highmem", "--format", "json"])
    document = json.loads(run.stdout)
    assert document["baseline"]["pool"]["unused_passes"] == 16
    assert document["pool"]["passes"] == 0
    assert not any(f["rule"] == "flush-unused-idle" for f in document["findings"])


def test_a_what_if_names_a_deadlock_and_its_holder() -> None:
    """insmod-150 maps 512 pages before it gives any back: with 128 slots it waits for itself."""
    folder = str(FIXTURES / "i386-hog-a-waiters-pae-smp2")
    run = CliRunner().invoke(app, ["replay", folder, "--pkmap", "128", "--format", "json"])
    document = json.loads(run.stdout)
    assert document["pool"]["asleep"] == 9
    assert document["pool"]["held_by_asleep"] == document["pool"]["slots"] == 128
    (held,) = document["pool"]["held"]
    assert (held["slots"], held["asleep"], held["first"]["comm"]) == (128, True, "insmod")
    deadlock = next(f for f in document["findings"] if f["rule"] == "kmap-deadlock")
    assert deadlock["message"].startswith("deadlock by nesting: all 128 slots are held by tasks")
    assert deadlock["message"].endswith("9 tasks sleep for ever")


def test_a_what_if_reads_the_trace_as_its_report_does() -> None:
    """80 misses are the 40 failures of the capture, whatever fails there."""
    folder = str(FIXTURES / "i386-510-hog-e-vmapfail-pae-smp1")
    run = CliRunner().invoke(app, ["replay", folder, "--vmalloc", "240M", "--format", "json"])
    document = json.loads(run.stdout)
    assert document["arena"]["failures"] == 0
    missed = next(f for f in document["findings"] if f["rule"] == "probe-misses")
    assert missed["severity"] == "info"
    assert missed == next(f for f in found_in(Path(folder).name) if f["rule"] == "probe-misses")


@pytest.mark.parametrize(
    ("hole", "failures", "is_tight"), [(2 * MIB - 1, 0, True), (2 * MIB, 0, False), (0, 1, False)]
)
def test_an_arena_is_tight_where_no_hole_fits_the_largest_request(
    outcomes: ModuleType, hole: int, failures: int, *, is_tight: bool
) -> None:
    """1 MiB aligned to 1 MiB + 4 KiB needs at most 2 MiB."""
    arena = ArenaOutcome(
        size=120 * MIB,
        allocs=9,
        failures=failures,
        largest_hole_min=hole,
        largest_request=(MIB, MIB + 4096),
    )
    tight = found(replace(outcomes.quiet_outcome(), arena=arena), "arena-tight")
    assert (tight is not None) is is_tight
    if tight is not None:
        assert "asked for at another time" in in_words(tight).message


@pytest.mark.parametrize(
    ("at_once", "severity"), [(255, "info"), (256, "warning"), (512, "warning")]
)
def test_nested_kmaps_are_a_warning_from_half_of_the_pool_on(
    outcomes: ModuleType, at_once: int, severity: str
) -> None:
    nested = NestedKmaps(900, 30, at_once, worst=(NestedTask(77, 9, Moment(5, 0, 77, "gather")),))
    pool = PoolOutcome(slots=512, maps=2000, unmaps=2000, nested=nested)
    finding = need(replace(outcomes.quiet_outcome(), pool=pool), "kmap-nested")
    assert (finding.severity, finding.count) == (severity, 900)
    assert "57 such tasks at once would sleep for ever" in in_words(finding).message
    assert "gather[77] 9" in in_words(finding).who[0]


def test_what_another_task_gives_back_is_a_remark(outcomes: ModuleType) -> None:
    quiet = outcomes.quiet_outcome()
    pool = PoolOutcome(slots=512, maps=9, unmaps=9, crossed=CrossedKmaps(0, 5))
    assert found(replace(quiet, pool=pool), "kmap-crossed") is None, "another CPU alone may be"
    crossed = replace(pool, crossed=CrossedKmaps(2, 5, Moment(7, 1, 8, "reader")))
    finding = need(replace(quiet, pool=crossed), "kmap-crossed")
    assert (finding.severity, finding.count) == ("info", 2)
    assert "5 more gave their own back on another CPU" in in_words(finding).evidence
