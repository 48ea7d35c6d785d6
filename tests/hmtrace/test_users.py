"""What a new user meets: traces of something else, and figures that a trace cannot give."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from collectors import open_capture
from collectors.errors import HmtraceError
from collectors.snapshot import Snapshot
from hmtrace.cli import app
from hmtrace.report.findings import in_words
from replay.machine.from_facts import machine_from
from replay.machine.layout import layout_of
from replay.rules.judge import findings

if TYPE_CHECKING:
    from types import ModuleType

FIXTURES = Path(__file__).parents[2] / "fixtures"
FUNCTIONS = FIXTURES / "i386-func-minix-pae-smp2"
"""Captured with the function tracers: no argument of any call is known."""

HEADER = """\
# tracer: nop
#
# entries-in-buffer/entries-written: 2/2   #P:2
#
#           TASK-PID     CPU#     TIMESTAMP  FUNCTION
#              | |         |         |         |
"""
SCHEDULED = """\
bash-12 [000] 100.000001: sched_switch: prev_comm=bash prev_pid=12 prev_prio=120 \
prev_state=S ==> next_comm=perl next_pid=13 next_prio=120
perl-13 [000] 100.000101: sched_switch: prev_comm=perl prev_pid=13 prev_prio=120 \
prev_state=S ==> next_comm=bash next_pid=12 next_prio=120
"""


@cache
def printed(*arguments: str | Path) -> str:
    """What a command that succeeds prints, with the blanks of its lines as one."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


@cache
def report(capture: Path) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["report", "--format", "json", str(capture)])
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_a_trace_of_something_else_says_what_to_enable(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text(HEADER + SCHEDULED)
    assert "How to capture" in printed("info", trace)
    text = printed("report", trace)
    assert "the trace holds no mapping call" in text
    assert "How to capture" in text
    assert "nothing to complain about" not in text
    assert "split 2g would" not in text


def test_a_tracer_without_times_has_no_holding_times_and_no_shares() -> None:
    capture = FUNCTIONS / "trace_graph.txt.gz"
    document = report(capture)
    assert document["clock_is_ns"] is False
    assert document["durations"]
    assert [s for s in document["sites"] if s["hold_ns_mean"] or s["hold_ns_max"]] == []
    text = printed("report", capture)
    assert "without times" in text
    assert "held mean" not in text
    times = text.split("Time in calls")[1].split("Memory ")[0].split("Call sites")[0]
    assert "%" not in times.replace("99 %", "")


def test_a_tracer_without_pages_counts_no_highmem() -> None:
    local = report(FUNCTIONS)["local"]
    assert local["unknown"] == local["maps"] > 0
    assert "of highmem or lowmem: the trace has no pages" in printed("report", FUNCTIONS)


def test_a_capture_with_pages_has_none_unknown() -> None:
    local = report(FIXTURES / "i386-hog-a-waiters-pae-smp2")["local"]
    assert (local["unknown"], local["maps"]) == (0, 7723)


def refused(*arguments: str | Path) -> tuple[int, str]:
    """Exit code of a command that fails, and what its error and hint say."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    error = result.exception
    assert isinstance(error, HmtraceError), result.output
    return error.exit_code, f"{error.message} | {error.hint}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("layout --machine rpi4", "'rpi4-4g-lpae' or 'rpi4-8g-lpae'?"),
        ("layout --machine pc4g", "did you mean 'pc-4g-pae'?"),
        ("layout --machine qwerty", "'hmtrace layout --machine list' shows them"),
        ("layout --arch aarch64", "architecture 'aarch64' is not known"),
        ("layout --split 4g", "one of 3g, 3g_opt, 2g, 2g_opt, 1g"),
        ("layout --ram 4096", "4096 are bytes; sizes look like 256M or 4G"),
        ("synth poolfull", "did you mean 'pool-full'?"),
    ],
)
def test_what_was_meant(arguments: str, words: str) -> None:
    code, text = refused(*arguments.split())
    assert code == 2
    assert words in text


@pytest.mark.parametrize(
    ("typed", "same"),
    [
        ("--split VMSPLIT_2G", "--split 2g"),
        ("--split 2G/2G", "--split 2g"),
        ("--arch armhf --split CONFIG_VMSPLIT_3G_OPT", "--arch arm --split 3g_opt"),
        ("--arch x86", "--arch i386"),
        ("--arch ppc", "--arch powerpc32"),
    ],
)
def test_names_as_the_kernel_writes_them(typed: str, same: str) -> None:
    assert printed("layout", *typed.split()) == printed("layout", *same.split())


def test_a_folder_of_captures_names_some() -> None:
    code, text = refused("report", FIXTURES)
    assert code == 3
    assert "give one of the captures in it: arm-61-1g-minix, " in text
    assert " more; " in text


def test_a_split_that_is_only_proposed_is_called_so(outcomes: ModuleType) -> None:
    text = printed("layout", "--arch", "arm", "--ram", "2G", "--split", "2g_opt")
    assert "2 GiB lowmem + no highmem" in text
    machine = machine_from(Snapshot(arch="arm", ram=((0x4000_0000, 0xC000_0000),)))[0]
    outcome = replace(outcomes.quiet_outcome(), machine=machine, layout=layout_of(machine))
    found = next(f for f in findings(outcome, Snapshot(ram=machine.ram)) if f.rule == "split")
    assert "2g_opt none" in in_words(found).message
    proposed = [words for words in in_words(found).who if words.startswith("2g_opt:")]
    assert len(proposed) == 1
    assert "proposed on linux-mm" in proposed[0]


def test_who_fills_the_arena_is_told() -> None:
    """The test module of this capture vmap()s until it fails; kernel threads' stacks were there."""
    capture = FIXTURES / "i386-hog-e-vmapfail-pae-smp1"
    document = report(capture)
    areas = [
        (int(start, 16), int(end, 16), rest.split("+")[0])
        for line in (capture / "vmallocinfo.start").read_text().splitlines()
        for start, end, rest in [re.split(r"-|\s+\d+ ", line, maxsplit=2)]
        if "+0x" in rest
    ]
    holders = {h["caller"]: (h["areas"], h["bytes"]) for h in document["arena"]["holders"]}
    for name in ("load_module", "pcpu_get_vm_areas"):
        found = [end - start for start, end, caller in areas if caller == name]
        assert holders[name] == (len(found), sum(found))
    events = open_capture(capture).events.collect()
    vmap = events.filter(events["op"] == "vmap")
    asked = sum(site["bytes"] for site in document["sites"] if site["op"] == "vmap")
    assert asked == 4096 * vmap["pages"].sum() > 0
    text = printed("report", capture)
    assert "at start" in text
    assert "asked for" in text


def test_one_amount_of_ram_is_rounded_in_one_way() -> None:
    text = printed("replay", FIXTURES / "i386-hog-a-waiters-pae-smp2", "--pkmap", "1024")
    assert "split 3g: 879.61 MiB lowmem + 143.84 MiB highmem" in text
    assert "highmem 143.84 MiB 145.84 MiB changed" in text
    assert not re.search(r"\b14[35] MiB", text)


def test_a_bound_is_marked_whichever_way_it_goes() -> None:
    """A page that was lowmem may be highmem there, so fewer stay lowmem."""
    text = printed("replay", FIXTURES / "i386-hog-a-waiters-pae-smp2", "--vmalloc", "240M")
    assert "local mappings 7723 ≥ 7723 of lowmem pages 247 ≤ 247 depth, most 2 ≥ 2" in text
    assert "slots visited, mean 44.3 ≈ 44.3" in text
    assert "mappings cost ≥1.5 ms" in text


def test_what_was_not_traced_is_not_called_none() -> None:
    """No probe on kmap_atomic in one; probes on alloc_vmap_area without a hit in the other."""
    text = printed("report", FIXTURES / "i386-510-hog-e-vmapfail-pae-smp1")
    assert "not traced: no probe was set on local mappings" in text
    assert "local not traced" in text
    text = printed("report", FIXTURES / "i386-lost-overrun-pae-smp2")
    assert "no allocation in this capture: its probes had no hit" in text
    text = printed("report", FIXTURES / "i386-arena-pae-m2048-smp2")
    assert "no local mapping in this trace: its probes had hits, but at other times" in text


def test_a_clock_that_stands_still_has_no_usual_time(tmp_path: Path) -> None:
    """As the global clock of a machine whose CPUs went offline: most calls take no time."""
    lines = [
        f"perl-12 [000] ...1. {at:.6f}: kmap_high: (kmap_high+0x0/0x260) page=0xf62cd4c0\n"
        f"perl-12 [000] ...1. {at + took:.6f}: kmap_high_ret: (f+0x50/0x60 <- kmap_high) "
        "vaddr=0xff001000\n"
        f"perl-12 [000] ...1. {at + took:.6f}: kunmap_high: (kunmap_high+0x0/0xb0) "
        "page=0xf62cd4c0\n"
        for at, took in ((100.0, 0), (101.0, 0), (102.0, 0.04), (103.0, 0))
    ]
    trace = tmp_path / "trace"
    trace.write_text(HEADER + "".join(lines))
    text = printed("report", trace)
    assert "one kmap took 40.0 ms, where most are over before the trace clock moves" in text
    assert "kmap 4 0 ns" in text


def test_a_shorter_time_in_one_report_is_explained() -> None:
    """Markers of the script stand 12.5 s before and behind the first and the last mapping."""
    text = printed("report", FIXTURES / "i386-arena-pae-m2048-smp2")
    assert "events over 157.7 s" in text
    assert "145.2 s of 157.7 s: from the first event of a mapping to the last" in text
    assert "from the first event of a mapping" not in printed(
        "report", FIXTURES / "i386-hog-a-waiters-pae-smp2"
    )


def test_a_what_if_of_a_trace_with_losses_says_why_it_differs() -> None:
    text = printed("replay", FIXTURES / "i386-lost-overrun-pae-smp2")
    assert "new mappings 280 294 +5.0 %" in text
    assert "the two differ by that even where nothing was changed" in text
    assert "the pool begins empty there" in printed(
        "replay", FIXTURES / "i386-510rt-minix-pae-smp2"
    ), "its first searches step over slots that were in use before"


def test_what_the_arena_has_in_use_is_rounded_as_its_share_is() -> None:
    """118.99 of 120 MiB are 99.2 %; the report and replay's table say the same of live areas."""
    folder = FIXTURES / "i386-510-hog-e-vmapfail-pae-smp1"
    text = printed("report", folder)
    assert "peak use 118.99 MiB (99.2 %) · 117.63 MiB without what is freed" in text
    assert "in use, most 117.63 MiB 117.63 MiB" in printed("replay", folder)


def test_the_title_of_a_layout_stays_in_its_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for options in (["--ram", "2G", "--pae"], ["--ram", "16G", "--pae", "--cpus", "16"]):
        title = CliRunner().invoke(app, ["layout", *options]).stdout.split("\n\n")[0].split("\n")
        assert " ".join(" ".join(title).split()).endswith("MiB highmem")
        assert all(line.startswith(" " * 16) for line in title[1:])
    assert "CONFIG_HIGHMEM64G is gone since 6.15: RAM ends at 4 GiB, even with PAE" in printed(
        "layout", "--ram", "16G", "--pae", "--kernel", "6.15"
    )
