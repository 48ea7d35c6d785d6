"""The calls that took longest, beside the whole table."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from collectors import open_capture
from hmtrace.cli import app
from replay.machine.from_facts import machine_from
from replay.observed.longest import KEPT, LongestTally
from replay.trace.told import tell
from replay.walk import replay

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.mark.parametrize("rows", [1 << 18, 700])
@pytest.mark.parametrize("name", ["i386-510-hog-e-vmapfail-pae-smp1", "i386-minix-pae-smp2"])
def test_they_are_the_longest_of_the_table(name: str, rows: int) -> None:
    capture = open_capture(str(FIXTURES / name))
    values = capture.facts.snapshot()
    machine, _ = machine_from(values)
    outcome = replay(capture.events, machine, values=values, lost=capture.lost, rows=rows)
    assert outcome.observed is not None
    told = outcome.observed.longest
    calls = capture.events.filter(~pl.col("op").is_in(["switch", "sched_out", "sched_in"]))
    took = calls.select(ns=pl.col("end_ts") - pl.col("ts")).drop_nulls().collect()["ns"]
    assert [call.ns for call in told] == took.sort(descending=True).head(KEPT).to_list()
    longest = {time.op: time.max_ns for time in outcome.observed.durations}
    assert told[0].ns == longest[told[0].op] == max(longest.values())


def test_flushes_behind_the_end_of_a_piece_are_its_own() -> None:
    events = open_capture(str(FIXTURES / "arm-61-1g-minix")).events.collect().sort("seq")

    def did(*cuts: int) -> list[tuple[int, int | None, int]]:
        tally = LongestTally(4096, clock_is_ns=True)
        for first, behind in pairwise((0, *cuts, events.height)):
            tally.feed(events[first:behind], first)
        told = tell(events.lazy(), tally.rows(), events.height, events.height)
        return [(call.at.ts, call.pages, call.flushes) for call in tally.result(told)]

    whole = did()
    flushing = [ts for ts, _, flushes in whole if flushes]
    assert flushing
    for row in events.select(pl.arg_where(pl.col("ts").is_in(flushing))).to_series():
        assert did(row + 1) == whole


def test_what_a_purge_did_is_told_with_it() -> None:
    path = str(FIXTURES / "i386-510-hog-e-vmapfail-pae-smp1")
    shown = CliRunner().invoke(app, ["report", path, "--format", "json"]).stdout
    purges = [call for call in json.loads(shown)["longest"] if call["op"] == "area_purge"]
    assert purges
    assert {"ts", "cpu", "pid", "comm", "op", "ns", "pages", "ipis"} <= purges[0].keys()
    assert max(purge["pages"] or 0 for purge in purges) > 10_000, "the hull, not a truth value"


def test_switches_of_another_cpu_that_were_lost_hide_what_kept_a_call() -> None:
    """CPU 0 lost all until 20.067536 s: of calls of CPU 1 before, only the time is known."""
    path = str(FIXTURES / "i386-lost-overrun-pae-smp2")
    shown = CliRunner().invoke(app, ["report", path, "--format", "json"]).stdout
    calls = json.loads(shown)["longest"]
    until = 20_067_536_000
    lost = [call for call in calls if call["ts"] <= until]
    assert len(lost) == 12
    assert {call["cpu"] for call in lost} == {1}
    for call in calls:
        assert (call["unseen"] == "lost") is (call["ts"] <= until)
        assert (call["off_ns"] is None) is (call["ts"] <= until)
    printed = CliRunner().invoke(app, ["report", path, "--longest", "7"]).stdout
    assert printed.count(" 19.887851   events were lost in it: who kept it, or waited,") == 1


def test_as_many_as_are_wanted() -> None:
    path = str(FIXTURES / "i386-510-hog-e-vmapfail-pae-smp1")
    for wanted in (0, 3, 20):
        words = ["report", path, "--longest", str(wanted)]
        shown = CliRunner().invoke(app, words).stdout
        assert ("Longest calls" in shown) is (wanted > 0)
        part = shown.partition("Longest calls")[2].partition("\n\n")[0]
        assert part.count("insmod[") + part.count("rmmod[") <= wanted
        assert max(map(len, shown.splitlines())) <= 80
