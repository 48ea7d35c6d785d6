"""Which questions `info` says that a capture can answer."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from collectors.snapshot import Probe, Process, Snapshot
from hmtrace.cli import app
from hmtrace.report.answers import answers
from hmtrace.report.contents import Contents

FIXTURES = Path(__file__).parents[2] / "fixtures"
BACK = Probe(
    is_return=True,
    group="hm",
    event="kmap_high_ret",
    symbol="kmap_high",
    arguments=("vaddr=$retval",),
    maxactive=None,
)


def asked(question: str, snapshot: Snapshot = Snapshot(), **known: dict[str, int]):  # noqa: B008
    contents = Contents({op: found.get("rows", 1) for op, found in known.items()}, known)
    found = {a.question: a for a in answers(contents, snapshot, clock_is_ns=True)}
    return found[question].answered, found[question].reason


@pytest.mark.parametrize(
    ("snapshot", "reason"),
    [
        (Snapshot(), "needs a return probe on kmap_high"),
        (Snapshot(probes=(BACK,)), "the return probe on kmap_high had no hit"),
        (
            Snapshot(probes=(BACK,), probe_hits={"kmap_high_ret": 0}),
            "the return probe on kmap_high had no hit",
        ),
        # it fired, but not in this trace: its buffer has wrapped
        (
            Snapshot(probes=(BACK,), probe_hits={"kmap_high_ret": 9}),
            "needs a return probe on kmap_high",
        ),
        # an entry probe is none
        (Snapshot(probes=(BACK._replace(is_return=False),)), "needs a return probe on kmap_high"),
    ],
)
def test_a_probe_that_is_missing_and_one_without_a_hit(snapshot, reason):
    assert asked("who waited, and how long", snapshot) == (False, reason)


@pytest.mark.parametrize(
    ("snapshot", "answer"),
    [
        (Snapshot(), (False, "needs zoneinfo or vmstat")),
        (Snapshot(ooms=()), (False, "needs zoneinfo or vmstat")),
        (
            Snapshot(vmstat_start={"allocstall_normal": 1}, vmstat_end={"allocstall_normal": 2}),
            (True, "waits"),
        ),
        (
            Snapshot(buddies={"Normal": (1,)}, ooms=()),
            (True, "pieces, log; no vmstat at both ends"),
        ),
    ],
)
def test_what_tells_how_lowmem_fared(snapshot, answer):
    assert asked("how lowmem fared", snapshot) == answer


def test_what_tells_the_room_that_processes_need():
    process = Process("browser", 77, 1 << 30)
    assert asked("room that processes need")[0] is False
    assert asked("room that processes need", Snapshot(processes=(process,)))[0] is True


@pytest.mark.parametrize(
    ("known", "answer"),
    [
        ({}, (False, "needs pages or frame numbers, or areas")),
        ({"kmap": {"pfn": 1}}, (True, "frame numbers are known")),
        ({"kmap_local": {"pfn": 1}}, (True, "frame numbers are known")),
        ({"kmap": {"page": 1}}, (True, "pool; RAM and split need frame numbers")),
        ({"area_alloc": {}}, (True, "arena; the pool needs pages or frames")),
        (
            {"kmap": {"page": 1}, "area_alloc": {}},
            (True, "pool or arena; RAM and split need frames"),
        ),
    ],
)
def test_what_can_be_taken_to_another_machine(known, answer):
    assert asked("the workload on another machine", **known) == answer


def test_a_capture_of_the_arena_alone_is_replayed_as_info_says():
    folder = str(FIXTURES / "arm-612-percpu-lpae-smp2")
    info = json.loads(CliRunner().invoke(app, ["info", "--format", "json", folder]).stdout)
    found = {a["question"]: a for a in info["answers"]}
    assert found["the workload on another machine"]["answered"]
    assert found["call sites"]["reason"] == "1826 events with a caller"
    assert found["who waited, and how long"]["reason"] == "the return probe on kmap_high had no hit"
    replay = CliRunner().invoke(app, ["replay", "--vmalloc", "400M", "--format", "json", folder])
    assert json.loads(replay.stdout)["arena"]["allocs"] > 0


def test_info_shows_what_only_a_boot_log_says():
    told = CliRunner().invoke(app, ["info", str(FIXTURES / "cases" / "dmesg-level-prefix")]).stdout
    for line in (
        "release        3.4.103+  (dmesg, line 2)",
        "arch           arm  (dmesg, line 1)",
        "CPUs           2  (dmesg, line 25)",
        "RAM            2 GiB  (dmesg, line 15)",
        "vmalloc start  f0000000  (dmesg)",
    ):
        assert line in told


def test_nothing_is_promised_of_a_machine_without_a_model(tmp_path):
    """A trace of a 64-bit kernel: report, replay and validate refuse it."""
    trace = tmp_path / "trace"
    line = " cp-1 [000] d... 1.000100: alloc_vmap_area: va_start: {} size=8192 align=4096 "
    line += "vstart=0x{:x} vend=0x{:x} failed=0\n"
    for start, answered in ((0xFFFFC90000000000, False), (0xF0800000, True)):
        trace.write_text(line.format(start + 0x1000, start, start + (1 << 24)))
        result = CliRunner().invoke(app, ["info", str(trace), "--format", "json"])
        document = json.loads(result.stdout)
        by_question = {a["question"]: a for a in document["answers"]}
        assert by_question["arena use and fragmentation"]["answered"] is answered
        assert any(a["answered"] for a in document["answers"]) is answered
        refused = CliRunner().invoke(app, ["report", str(trace)]).exit_code != 0
        assert refused is not answered
