"""What a new user meets: traces of something else, and figures that a trace cannot give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from hmtrace.cli import app

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


def printed(*arguments: str | Path) -> str:
    """What a command that succeeds prints, with the blanks of its lines as one."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


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
    times = text.split("Time in calls")[1].split("Call sites")[0]
    assert "%" not in times.split("of capture")[1]


def test_a_tracer_without_pages_counts_no_highmem() -> None:
    local = report(FUNCTIONS)["local"]
    assert local["unknown"] == local["maps"] > 0
    assert "of highmem or lowmem: the trace has no pages" in printed("report", FUNCTIONS)


def test_a_capture_with_pages_has_none_unknown() -> None:
    local = report(FIXTURES / "i386-hog-a-waiters-pae-smp2")["local"]
    assert (local["unknown"], local["maps"]) == (0, 7723)
