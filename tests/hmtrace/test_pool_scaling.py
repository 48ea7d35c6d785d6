"""What a smaller pool and more CPUs did to a real machine, a replay has to do as well.

M. Bligh, linux-kernel, 2002 (16-way NUMA-Q, kernel compile with page tables in highmem): with 128
slots instead of 1024 the pool is emptied more often, more calls have to map anew, and the search
for a slot gets longer, for it steps over those that are held for long. Persistent kmaps scale as
O(1/N^2) with CPUs: N of them drain the pool N times as fast, and each flush costs N times as much.
"""

from __future__ import annotations

import json
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hmtrace.cli import app

CAPTURE = Path(__file__).parents[2] / "fixtures" / "i386-hog-h-race-pae-smp4"
"""Four CPUs that kmap() 40 051 times, up to 23 pages at once."""
POOLS = (1024, 512, 256, 128, 64)


def document(*arguments: str | Path) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--format", "json"])
    assert result.exit_code == 0, result.output
    out: dict[str, Any] = json.loads(result.stdout)
    return out


@cache
def with_pool(slots: int, cpus: int = 4) -> dict[str, Any]:
    return document("replay", CAPTURE, "--pkmap", str(slots), "--cpus", str(cpus))


@pytest.mark.parametrize(("larger", "smaller"), list(pairwise(POOLS)))
def test_a_smaller_pool(larger: int, smaller: int) -> None:
    before, after = with_pool(larger), with_pool(smaller)
    assert after["pool"]["maps"] == before["pool"]["maps"] == 40_051
    for figure in ("flushes", "new_mappings", "scan_mean", "scan_max"):
        assert after["pool"][figure] > before["pool"][figure], figure
    for figure in ("full", "ipis"):
        assert after["tlb"][figure] > before["tlb"][figure], figure
    assert after["cost"]["total_ns"] > before["cost"]["total_ns"]


def test_a_pool_of_an_eighth_is_flushed_more_than_eight_times_as_often() -> None:
    """Also what would have been hits has to be mapped anew."""
    assert with_pool(128)["pool"]["flushes"] > 8 * with_pool(1024)["pool"]["flushes"]


def test_a_flush_costs_in_proportion_to_the_cpus_that_it_interrupts() -> None:
    by_cpus = {cpus: with_pool(128, cpus) for cpus in (1, 2, 4, 8)}
    assert len({one["pool"]["flushes"] for one in by_cpus.values()}) == 1
    assert by_cpus[1]["tlb"]["ipis"] == 0
    for cpus in (4, 8):
        assert by_cpus[cpus]["tlb"]["ipis"] == (cpus - 1) * by_cpus[2]["tlb"]["ipis"]


def test_cpus_with_work_of_their_own_pay_for_each_other(tmp_path: Path) -> None:
    """N CPUs with N times the tasks: N times the flushes in a second, N^2 times their cost."""
    rates, prices = {}, {}
    for cpus in (2, 4, 8):
        folder = tmp_path / str(cpus)
        made = CliRunner().invoke(
            app,
            f"synth minix-walk --cpus {cpus} --set tasks={2 * cpus} --events {6000 * cpus} "
            f"--format trace.dat-v7 -o {folder}",
        )
        assert made.exit_code == 0, made.output
        report = document("report", folder)
        seconds = report["span_ns"] / 1e9
        rates[cpus] = report["pool"]["flushes"] / seconds
        prices[cpus] = report["cost"]["by_cause"]["pool flush (wrap)"]["ns"] / seconds
    for few, many in pairwise(rates):
        assert 1.5 < rates[many] / rates[few] < 2.7
        assert 3 < prices[many] / prices[few] < 5.4
