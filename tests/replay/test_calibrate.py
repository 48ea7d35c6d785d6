"""Costs from the trace's own durations: given these times, these figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from collectors import open_capture
from collectors.errors import HmtraceError
from collectors.events import SCHEMA
from collectors.snapshot import Snapshot
from replay.cost.calibrate import Basis, as_rows, flush_figures
from replay.machine.costs import Costs
from replay.machine.from_facts import machine_from
from replay.machine.layout import layout_of
from replay.machine.model import Machine
from replay.measure import measure

if TYPE_CHECKING:
    from replay.cost.calibrate import Calibration

FIXTURES = Path(__file__).parents[2] / "fixtures"
PC = Machine(arch="i386", pae=True)
BOARD = Machine(
    arch="arm", nr_cpus=8, cpus=2, ram=((0x4000_0000, 0x8000_0000),), config=frozenset({"SMP"})
)


def of(machine: Machine, *calls: dict[str, Any], **facts: Any) -> Calibration:
    """Calls one after the other; `took` is the time from entry to return."""
    rows, seq, now = [], 0, 0
    for call in calls:
        row: dict[str, Any] = dict.fromkeys(SCHEMA)
        row |= {"ctx": 0, "cpu": 0, "pid": 7, "entry_traced": True, "seq": seq, "ts": now}
        row |= {k: v for k, v in call.items() if k in SCHEMA}
        if "took" in call:
            row |= {"end_seq": seq + 1, "end_ts": now + call["took"], "end_cpu": 0}
        rows.append(row)
        seq, now = seq + 2, now + call.get("took", 0) + 1001
    return measure(pl.DataFrame(rows, schema=pl.Schema(SCHEMA)), machine, values=Snapshot(**facts))


def kmaps(machine: Machine, *, new: int, hit: int) -> list[dict[str, Any]]:
    """Twelve pages, each mapped twice and unmapped."""
    base, page_size = layout_of(machine).pkmap_base, 4096
    out: list[dict[str, Any]] = []
    for n in range(12):
        address = {"page": 0xF600_0000 + 40 * n, "vaddr": base + (n + 1) * page_size}
        out += [
            {"op": "kmap", "took": new + n % 3, **address},
            {"op": "kmap", "took": hit + n % 3, **address},
        ]
    return out


def low(took: int) -> list[dict[str, Any]]:
    """A kmap_local of a lowmem page does nothing: what it takes are the probes."""
    page = {"page": 0xF600_9999, "pfn": 0x1000, "vaddr": 0xC100_0000}
    return [{"op": "kmap_local", "took": took, **page}] * 9


def flush(machine: Machine, pages: int, took: int) -> list[dict[str, Any]]:
    start = layout_of(machine).vmalloc_start
    return [{"op": "flush_range", "start": start, "end": start + pages * 4096, "took": took}] * 9


def test_kmap_and_the_time_of_the_probes() -> None:
    found = of(PC, *low(500), *kmaps(PC, new=740, hit=600))
    by = {m.what: m for m in found.measured}
    assert found.probes_ns == 500
    assert by["kmap() that finds a mapping"].count == 12
    assert by["kmap() that finds a mapping"].median == 601
    assert found.costs.lock == found.costs.hash == 50.5  # half of 601 - 500
    assert found.costs.set_pte == 741 - 601 - 50.5
    assert found.costs.invlpg == Costs.default().invlpg


def test_flushes_of_x86() -> None:
    found = of(PC, *low(100), *flush(PC, 10, 1600), *flush(PC, 40, 900))
    assert found.costs.invlpg == 150
    assert found.costs.full_flush == 800


def test_flushes_of_arm_are_counted_by_page() -> None:
    found = of(BOARD, *flush(BOARD, 1000, 50_220))
    assert found.costs.tlbi_broadcast == 50
    assert any("probes themselves" in caveat for caveat in found.caveats)


def test_quartiles_are_the_ranges_of_what_was_measured() -> None:
    """9 flushes of 10 pages: a third each of 1000, 1600 and 3000 ns."""
    times = (*flush(PC, 10, 1000)[:3], *flush(PC, 10, 1600)[:3], *flush(PC, 10, 3000)[:3])
    found = of(PC, *low(100), *times)
    assert found.costs.spread("invlpg") == (90, 150, 290)
    assert found.costs.spread("scan") == PC.costs.spread("scan")
    (row,) = [row for row in as_rows(found) if row["sets"]]
    assert (row["sets"], row["ranges"]) == ({"invlpg": 150}, {"invlpg": [90, 290]})


def test_what_drowns_in_the_probes_is_not_told() -> None:
    """A new mapping that is faster than a hit tells nothing of a page-table entry."""
    found = of(PC, *low(500), *kmaps(PC, new=610, hit=600))
    assert "set_pte" not in {name for m in found.measured for name in m.sets}
    assert found.costs.spread("set_pte") == PC.costs.spread("set_pte")


def test_few_calls_are_shown_and_set_nothing() -> None:
    found = of(PC, *flush(PC, 10, 1600)[:3])
    (only,) = found.measured
    assert (only.count, only.median, only.sets) == (3, 1600, {})
    assert found.costs == PC.costs
    assert "too few" in found.caveats[0]


def test_emulators_are_named() -> None:
    found = of(PC, *flush(PC, 10, 1600), board="QEMU Standard PC")
    assert any("emulation" in caveat for caveat in found.caveats)


def test_a_clock_that_counts_no_time() -> None:
    capture = open_capture(FIXTURES / "i386-hog-a-waiters-pae-smp2")
    machine, _ = machine_from(capture.facts.snapshot())
    with pytest.raises(HmtraceError) as caught:
        measure(capture.events, machine, clock_is_ns=False)
    assert caught.value.exit_code == 2
    found = measure(capture.events, machine, values=capture.facts.snapshot())
    by = {m.what: m for m in found.measured}
    assert by["kmap() of a new page"].count == 511  # the others flushed or slept
    assert by["flush_all_zero_pkmaps"].count == 61
    assert by["kunmap()"].count == 520


@pytest.mark.parametrize(
    ("flags", "figure"),
    [
        ({"pge", "invpcid"}, "full_flush_invpcid"),
        ({"pge"}, "full_flush"),
        ({"fpu"}, "full_flush_cr3"),
    ],
)
def test_a_full_flush_calibrates_the_figure_of_the_cpus_class(flags: set[str], figure: str) -> None:
    """One CPU: the time is the flush's own; with more the IPI's is what lies beyond it."""
    facts = Snapshot(arch="i386", pae=True, cpu_flags=frozenset(flags))
    machine = machine_from(facts)[0]
    alone = Basis(machine, layout_of(machine), 0.0, {})
    assert flush_figures(alone, 700.0, 512) == {figure: 700.0}
    two = alone._replace(machine=replace(machine, cpus=2))
    own = getattr(machine.costs, figure)
    told = flush_figures(two, 4000.0, 512)
    assert told == {"ipi_base": 4000.0 - own - machine.costs.ipi_cpu}
