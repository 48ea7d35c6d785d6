"""Figures window by window: the same as of the whole trace, wherever the windows end."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from collectors import open_capture
from collectors.errors import HmtraceError
from hmtrace.report.document import outcome_document
from replay.machine.from_facts import machine_from
from replay.trace.windows import WINDOW_ROWS
from replay.validate.run import validate
from replay.walk import replay
from tests.expected import REPORTS
from tests.opened import opened
from tests.replay.whole import outcome_of, replay_capture, replay_events, verdicts_of

FIXTURES = Path(__file__).parents[2] / "fixtures"
CAPTURES = sorted(REPORTS)
KEYS = (
    "kmap", "kmap_local", "pool_flushes", "waits", "vmap", "lazy", "arena", "inferred",
    "initial_state", "generation", "kernel",
)  # fmt: skip
"""What of a validation the replay in one piece tells."""


@cache
def whole(name: str) -> dict[str, Any]:
    """Document of the replay that keeps every call."""
    capture = opened(name)[0]
    done, values = replay_capture(name), capture.facts.snapshot()
    outcome = outcome_of(done, values, capture.lost, clock_is_ns=capture.clock_is_ns)
    return outcome_document(outcome)


def windowed(name: str, rows: int, events: pl.LazyFrame | None = None) -> dict[str, Any]:
    capture, machine = opened(name)
    outcome = replay(
        capture.events if events is None else events,
        machine,
        values=capture.facts.snapshot(),
        lost=capture.lost,
        clock_is_ns=capture.clock_is_ns,
        rows=rows,
    )
    return outcome_document(outcome)


def figures(document: dict[str, Any]) -> dict[str, Any]:
    """What was counted, without who it was."""
    told = {
        "pool": ("asleep", "first_wait", "first_flush", "first_unused_pass", "fullest", "waiters",
                 "holders", "held", "held_by_asleep", "unmapped_twice", "first_unmapped_twice",
                 "nested", "jam", "crossed"),
        "tlb": ("largest",),
        "arena": ("first",),
        "local": ("longest_hold_ns", "longest_hold", "deepest", "first_switch"),
    }  # fmt: skip
    # purges by what made them run are counted piece by piece alone: tests/replay/test_purges.py
    left = {k: value for k, value in document.items() if k not in {"findings", "purges"}}
    for part, names in told.items():
        left[part] = {k: v for k, v in document[part].items() if k not in names}
    causes = document["cost"]["by_cause"].items()
    estimated = {name: {k: c[k] for k in ("count", "ns", "share")} for name, c in causes}
    left["cost"] = document["cost"] | {"by_cause": estimated}
    return left


def same(found: Any, expected: Any, where: str = "") -> None:
    """Compare documents; floating-point sums may differ by the order of their terms."""
    if found == expected:
        return
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            same(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for number, value in enumerate(expected):
            same(found[number], value, f"{where}[{number}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-9), where
    else:
        assert found == expected, where


@pytest.mark.parametrize("name", CAPTURES)
def test_small_windows_give_the_figures_of_the_whole_trace(name: str) -> None:
    found = windowed(name, 2_000)
    same(figures(found), figures(whole(name)))
    same(found, windowed(name, WINDOW_ROWS), "named")


def test_a_table_on_disk_is_read_window_by_window(tmp_path: Path) -> None:
    name = "i386-minix-pae-smp2"
    events = opened(name)[0].events.collect()
    events.write_parquet(tmp_path / "events.parquet", row_group_size=5_000)
    lazy = pl.scan_parquet(tmp_path / "events.parquet")
    same(windowed(name, 10_000, lazy), windowed(name, WINDOW_ROWS))


def test_a_table_out_of_order_is_refused(tmp_path: Path) -> None:
    name = "i386-minix-pae-smp2"
    events = opened(name)[0].events.collect()
    events.sort("cpu").write_parquet(tmp_path / "events.parquet", row_group_size=5_000)
    with pytest.raises(HmtraceError, match="not in order"):
        windowed(name, 10_000, pl.scan_parquet(tmp_path / "events.parquet"))


@pytest.mark.parametrize("name", CAPTURES)
def test_small_windows_give_the_verdicts_of_the_whole_trace(name: str) -> None:
    capture, machine = opened(name)
    options: dict[str, Any] = {"values": capture.facts.snapshot(), "lost": capture.lost}
    expected = verdicts_of(replay_capture(name), options["values"]).as_json()
    found = validate(capture.events, machine, **options).as_json()
    same({key: found[key] for key in KEYS}, {key: expected[key] for key in KEYS})
    same(validate(capture.events, machine, rows=2_000, **options).as_json(), found)


@pytest.mark.parametrize("op", ["kmap", "kmap_local"])
def test_a_forged_address_is_named_window_by_window(op: str) -> None:
    capture, machine = opened("i386-510-twin-vmalloc128")
    events = capture.events.collect()
    mapped = events.with_row_index().filter((pl.col("op") == op) & (pl.col("vaddr") > 0))
    row = mapped["index"][mapped.height // 2]
    forged = pl.when(pl.int_range(pl.len()) == row).then(pl.col("vaddr") ^ 0x5000)
    lazy = events.lazy().with_columns(vaddr=forged.otherwise("vaddr"))
    values = capture.facts.snapshot()
    expected = validate(lazy, machine, values=values).first_divergence
    found = validate(lazy, machine, values=values, rows=3_000).first_divergence
    assert found is not None
    assert found == expected
    assert found.seq == events["seq"][row]
    assert (found.picture is not None) == (op == "kmap")


def test_a_snapshot_of_another_run_is_left_aside_window_by_window() -> None:
    capture, machine = opened("i386-510-twin-vmalloc128")
    pool = (77, tuple((n, 2, None) for n in range(400)))
    values = replace(capture.facts.snapshot(), pool_state=pool)
    done = replay_events(capture.events, machine, values=values)
    expected = outcome_document(outcome_of(done, values, None, clock_is_ns=True))
    assert "the snapshot contradicts the trace" in expected["caveats"][0]
    found = replay(capture.events, machine, values=values, rows=3_000)
    same(figures(outcome_document(found)), figures(expected))
    verdicts = validate(capture.events.lazy(), machine, values=values, rows=3_000)
    assert verdicts.initial_state == done.pool.initial_state
    assert verdicts.kmap == verdicts_of(done, values).kmap


_CHILD = """
import os, re, sys
os.environ["POLARS_ROW_GROUP_PREFETCH_SIZE"] = "2"  # as the program: what is read ahead is no trace
from pathlib import Path
import polars as pl
from collectors import open_capture
from replay.machine.from_facts import machine_from
from replay.trace.windows import WINDOW_ROWS
from replay.validate.run import validate
values = open_capture(sys.argv[1]).facts.snapshot()
machine = machine_from(values)[0]
done = validate(pl.scan_parquet(sys.argv[2]), machine, values=values, rows=20_000)
peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
print(done.kmap.total, done.pool_flushes.observed, peak)
"""


@pytest.mark.slow
def test_memory_of_a_validation_does_not_grow_with_the_trace(tmp_path: Path) -> None:
    """Pool, stacks, flushes and purges: eight times as long a trace takes no more memory."""
    name = "i386-minix-pae-smp2"
    events = opened(name)[0].events.collect()
    events = events.filter(pl.col("op").is_in(("area_alloc", "area_free")).not_())
    length, span = int(events["seq"].max()) + 8, int(events["end_ts"].max()) + 1000
    peaks = []
    for copies in (6, 48):  # what is under way at once is full behind some ten windows
        path = tmp_path / f"{copies}.parquet"
        moved = (
            events.with_columns(
                pl.col("seq", "end_seq", "parent") + n * length, pl.col("ts", "end_ts") + n * span
            )
            for n in range(copies)
        )
        pl.concat(moved).cast(dict(events.schema)).write_parquet(path, row_group_size=20_000)
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, str(FIXTURES / name), str(path)],
            capture_output=True, text=True, check=True, cwd=FIXTURES.parent,
        )  # fmt: skip
        maps, flushes, peak = map(int, done.stdout.split())
        assert (maps, flushes) == (7905 * copies, 50 * copies)
        peaks.append(peak)
    assert peaks[1] < peaks[0] + 60_000  # kB; the table itself is 125 MB longer


@pytest.mark.filterwarnings("error")
def test_tasks_that_the_trace_does_not_tell(tmp_path: Path) -> None:
    """function_graph without option funcgraph-proc, and a call that never returns."""
    path = tmp_path / "trace"
    path.write_text(
        " 0)   3.100 us    |  } /* kmap_high <-minix_lookup ret=0xff800000 */\n"
        " 0)               |  kmap_high(page=0xc0de, prot=1) {\n"
        " 0)   0.123 us    |  kunmap_high(); /* = 0xff801000 */\n"
        " ------------------------------------------\n 0)  kswapd0-50   =>   bash-112   \n"
        " ------------------------------------------\n\n"
        " 0)   9.000 us    |  kmap_high(); /* = 0xff802000 */\n"
    )
    capture = open_capture(path)
    assert sorted(capture.events.collect()["pid"].to_list(), key=str) == [112, None, None, None]
    values = capture.facts.snapshot()
    machine = machine_from(values)[0]
    maps = [
        replay(
            capture.events, machine, values=values, lost=capture.lost,
            clock_is_ns=capture.clock_is_ns, rows=rows,
        ).pool.maps
        for rows in (1, 2, 100)
    ]  # fmt: skip
    assert maps == [3, 3, 3]
