"""Purges by what made them run, beside what synthetic kernels say and what real ones did."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from typer.testing import CliRunner

from collectors import open_capture
from collectors.events import SCHEMA
from hmtrace.cli import app
from replay.arena.purges import (
    ALIASES,
    DRAIN,
    FAILED,
    LIMIT,
    MODULE,
    SET_MEMORY,
    UNKNOWN,
    PurgeTally,
)
from replay.machine.from_facts import machine_from
from replay.machine.layout import layout_of
from replay.trace.told import tell
from replay.walk import replay
from replay.whatif.arena import forecast
from replay.whatif.workload import distil

if TYPE_CHECKING:
    from replay.outcome import PurgeOutcome

FIXTURES = Path(__file__).parents[2] / "fixtures"


def purges(path: Path, rows: int = 1 << 18) -> dict[str, PurgeOutcome]:
    """By trigger."""
    capture = open_capture(str(path))
    values = capture.facts.snapshot()
    machine, _ = machine_from(values)
    outcome = replay(capture.events, machine, values=values, lost=capture.lost, rows=rows)
    return {purge.trigger: purge for purge in outcome.purges}


@pytest.mark.parametrize("scenario", ["purge-storm", "module-storm", "vmap-fragment"])
def test_runs_and_flushes_are_those_of_the_truth(tmp_path: Path, scenario: str) -> None:
    made = CliRunner().invoke(
        app, ["synth", scenario, "--events", "6000", "-o", str(tmp_path / "c")]
    )
    assert made.exit_code == 0, made.output
    truth = json.loads((tmp_path / "c" / "truth.json").read_text())["arena"]
    told = purges(tmp_path / "c")
    assert sum(p.count for p in told.values()) == truth["purges"]
    assert sum(p.found for p in told.values()) == truth["hulls"]
    assert sum(p.flushes for p in told.values()) == truth["hulls"]
    assert UNKNOWN not in told
    drained = told[DRAIN].count if DRAIN in told else 0
    # purges of the last ones may still be under way
    assert truth["drains"] - 2 <= drained <= truth["drains"]
    failed = told[FAILED].count if FAILED in told else 0
    assert failed == truth["overflows"]
    for purge in told.values():
        assert 0 <= purge.found <= purge.count
        assert purge.hull_pages >= purge.pages
        assert purge.longest is not None


def test_triggers_of_a_real_arena_that_runs_full() -> None:
    """5.10, no worker yet: whoever frees too much purges. Its returns and flushes are traced."""
    told = purges(FIXTURES / "i386-510-hog-e-vmapfail-pae-smp1")
    assert {t: (p.count, p.found) for t, p in told.items()} == {
        FAILED: (45, 25),
        ALIASES: (2, 0),
        MODULE: (4, 4),
        LIMIT: (3, 3),
        SET_MEMORY: (30, 2),
    }
    assert told[FAILED].hull_pages > 10 * told[FAILED].pages, "holes all over the arena"
    assert all(p.ipis == 0 for p in told.values()), "one CPU"


def test_purges_without_returns_are_counted_by_their_flushes() -> None:
    told = purges(FIXTURES / "i386-hog-e-vmapfail-pae-smp1")
    assert {t: (p.count, p.found) for t, p in told.items()} == {FAILED: (45, 26), UNKNOWN: (21, 6)}
    assert told[FAILED].median_ns is None


def test_windows_change_nothing() -> None:
    path = FIXTURES / "i386-510-hog-e-vmapfail-pae-smp1"
    whole = purges(path)
    for rows in (500, 90):
        small = purges(path, rows)
        assert {t: replace(p, longest=None) for t, p in small.items()} == {
            t: replace(p, longest=None) for t, p in whole.items()
        }


@pytest.mark.parametrize("name", ["i386-510-hog-e-vmapfail-pae-smp1", "i386-twin-vmap-vmalloc256"])
def test_the_model_alone_makes_the_same_purges_for_the_same_reasons(name: str) -> None:
    """Every figure but the times, of a machine that differs in nothing that the arena sees."""
    capture = open_capture(str(FIXTURES / name))
    values = capture.facts.snapshot()
    machine, _ = machine_from(values)
    workload = distil(capture.events, machine, values=values, lost=capture.lost)
    assert workload.triggers().height == sum(p.count for p in workload.figures.purges)
    here = machine, layout_of(machine)
    found = forecast(workload.arena(), *here, *here, values, triggers=workload.triggers())
    assert found is not None
    assert {p.trigger: p for p in found.by_trigger} == {
        p.trigger: replace(p, median_ns=None, longest_ns=None, longest=None)
        for p in workload.figures.purges
    }
    told = purges(FIXTURES / name)
    assert {p.trigger: p for p in workload.figures.purges} == told


def test_replay_tells_the_purges_of_both_arenas() -> None:
    path = str(FIXTURES / "i386-510-hog-e-vmapfail-pae-smp1")
    words = ["replay", path, "--vmalloc", "256M"]
    shown = CliRunner().invoke(app, words).stdout
    part = shown.partition("\nPurges")[2].partition("\n\n")[0]
    rows = [line.strip().split("  ")[0] for line in part.splitlines()[1:]]
    assert rows.index("captured") < rows.index("failed allocation") < rows.index("≈ what if")
    document = json.loads(CliRunner().invoke(app, [*words, "--format", "json"]).stdout)
    here, there = document["baseline"]["purges"], document["purges"]
    assert sum(p["found"] for p in here) == document["baseline"]["arena"]["lazy_purges"]
    assert sum(p["found"] for p in there) == document["arena"]["lazy_purges"]
    assert FAILED in {p["trigger"] for p in here}
    assert FAILED not in {p["trigger"] for p in there}, "256 MiB are enough"
    assert all(p["median_ns"] is p["longest"] is None for p in there)
    assert any(p["longest_ns"] for p in here)


def test_stack_traces_tell_who_wanted_a_purge() -> None:
    inner = "__purge_vmap_area_lazy+0x1<-_vm_unmap_aliases.part.0+0xe3<-vm_unmap_aliases+0x1b"
    rows = [
        {"seq": at, "ts": at, "pid": 1, "op": "area_purge", "site": "_vm_unmap_aliases+0x10"}
        | {"stack": stack}
        for at, stack in enumerate((f"{inner}<-xfs_buf_get+0x2 [xfs]<-x", f"{inner}<-z", None, ""))
    ]
    events = pl.DataFrame(rows, schema={name: SCHEMA[name] for name in SCHEMA})
    tally = PurgeTally(4096, clock_is_ns=True, span=(0, 3), ops=("area_purge",))
    tally.feed(events, 0)
    told = tally.result(tell(events.lazy(), tally.rows(), 4, 4))
    assert [(p.trigger, p.count, p.callers) for p in told] == [
        (ALIASES, 4, {"xfs_buf_get": 1, "z": 1})
    ]


def test_the_report_tells_them_in_words_and_numbers() -> None:
    path = str(FIXTURES / "i386-510-hog-e-vmapfail-pae-smp1")
    shown = CliRunner().invoke(app, ["report", path]).stdout
    assert "failed allocation: an allocation found no hole" in shown
    document = json.loads(CliRunner().invoke(app, ["report", path, "--format", "json"]).stdout)
    keys = {"trigger", "count", "pages", "hull_pages", "ipis", "median_ns", "longest_ns"}
    assert all(purge.keys() >= keys for purge in document["purges"])
    assert sum(p["count"] for p in document["purges"]) == document["arena"]["purge_runs"] == 84
    asked, free, hole = document["arena"]["at_failure"]
    assert hole < asked <= free
