"""A published result: Martin Bligh's pool of 128 slots instead of 1024, on 16 CPUs (2002).

A kernel compile with page tables in highmem took 43 s instead of 40; kmap_lock was held 35.5 % of
the time instead of 33.4 %, and for 6.0 µs instead of 5.4 on average. A synthetic workload of that
shape (many CPUs, many pages, few of them mapped at a time) has to go the same way.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from collectors import open_capture
from hmtrace.cli import app
from replay.cost.verdict import cost_verdict, lock_verdict
from replay.machine.costs import Costs
from replay.machine.from_facts import machine_from
from replay.machine.options import with_options
from replay.whatif.run import what_if

if TYPE_CHECKING:
    from pathlib import Path


def run(*words: object) -> str:
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic capture of that shape, with 1024 slots."""
    made: Path = tmp_path_factory.mktemp("bligh") / "trace.dat"
    shape = "--set", "tasks=16", "--set", "directories=400"
    run("synth", "minix-walk", "--events", "60000", "--no-pae", "--cpus", "16", *shape, "-o", made)
    return made


@pytest.fixture(scope="module")
def figures(trace: Path) -> dict[str, dict[str, Any]]:
    """Figures by the number of slots."""
    found = run("sweep", trace, "--axis", "pkmap=128,1024", "--format", "json")
    return {row["pkmap"]: row["figures"] for row in json.loads(found)["machines"]}


def test_all_three_effects_go_his_way(figures: dict[str, dict[str, Any]]) -> None:
    few, many = figures["128"], figures["1024"]
    assert few["cost_ns"] > many["cost_ns"]
    assert few["lock_share"] > many["lock_share"]
    assert few["lock_hold_ns"] > many["lock_hold_ns"]


def test_it_is_the_drained_pool_that_makes_them(figures: dict[str, dict[str, Any]]) -> None:
    few, many = figures["128"], figures["1024"]
    assert few["waits"] == many["waits"] == 0
    assert few["kmap"] == many["kmap"]
    assert few["pool_used"] == many["pool_used"] < 64
    assert few["pool_flushes"] > 5 * many["pool_flushes"] > 0
    assert few["scan"] > many["scan"]  # slots that are held for long are stepped over


def test_they_go_his_way_whatever_operations_cost(trace: Path) -> None:
    """Compile time, hold time and contention: every operation becomes more frequent, none less."""
    capture = open_capture(trace)
    values = capture.facts.snapshot()
    machine = machine_from(values)[0]
    many, few = what_if(
        capture.events, machine, with_options(machine, pkmap=128), values=values, lost=capture.lost
    )
    assert machine.costs.spread("ipi_base") == Costs.default().spread("ipi_base")
    for verdict in (cost_verdict(many, few), lock_verdict(many, few)):
        assert (verdict.word, verdict.holds) == ("dearer", True)
        assert verdict.low > 0
    # a call holds the lock for longer, and there are as many calls: so the lock is taken for more
    assert many.pool.maps + many.pool.unmaps == few.pool.maps + few.pool.unmaps
    for unit, number in many.cost.lock_units.items():
        assert few.cost.lock_units[unit] >= number, unit


def test_what_one_pass_holds() -> None:
    """The caller's flush and its wait; receivers and refills hold nothing."""
    from hmtrace.cli.machines import default_machine
    from replay.cost.formulas import pool_pass_held_ns, pool_pass_ns
    from replay.machine.layout import layout_of

    machine = default_machine("i386", None)
    layout, costs = layout_of(machine), machine.costs
    alone = layout.pkmap_slots * costs.scan + costs.clear_pte + costs.hash
    assert pool_pass_held_ns(costs, layout, 0, 4) == layout.pkmap_slots * costs.scan
    one = alone + costs.full_flush
    assert pool_pass_held_ns(costs, layout, 1, 1) == pytest.approx(one)
    four = one + costs.ipi_base + 3 * costs.ipi_cpu
    assert pool_pass_held_ns(costs, layout, 1, 4) == pytest.approx(four)
    assert pool_pass_held_ns(costs, layout, 1, 4) < pool_pass_ns(costs, layout, 1, 4)
