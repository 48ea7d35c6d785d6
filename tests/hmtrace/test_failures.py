"""Reports of failed allocations, from captures that were recorded in several ways."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hmtrace.cli import app

FIXTURES = Path(__file__).parents[2] / "fixtures"
HOG = FIXTURES / "i386-hog-e-vmapfail-pae-smp1"


def report(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["report", "--format", "json", *map(str, arguments)])
    assert result.exit_code in (0, 1), result.output
    return json.loads(result.stdout)


def findings(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {finding["rule"]: finding for finding in document["findings"]}


def test_a_full_modules_area_is_no_full_arena() -> None:
    """14 MiB between the pool and user space: no vmalloc= moves them."""
    document = report(FIXTURES / "cases" / "modules-area-advice")
    arena, found = document["arena"], findings(document)
    assert (arena["allocs"], arena["failures"], arena["size"]) == (398, 2, 240 << 20)
    modules = arena["modules"]
    assert (modules["size"], modules["allocs"], modules["failures"]) == (14 << 20, 398, 2)
    assert modules["holders"] == [{"caller": "module_alloc", "areas": 398, "bytes": 398 * 0x9000}]
    assert "arena-exhausted" not in found
    message, evidence = (
        found["modules-exhausted"]["message"],
        found["modules-exhausted"]["evidence"],
    )
    assert "2 allocations failed in the modules area of 14 MiB" in message
    assert "13.99 MiB by module_alloc()" in message
    for words in ("vmalloc= does not enlarge it", "CONFIG_ARM_MODULE_PLTS", "has 16 MiB"):
        assert words in evidence
    first = found["modules-exhausted"]["first"]
    assert (first["ts"], first["cpu"]) == (857900811930000, 0)
    assert (first["pid"], first["comm"]) == (23622, "tracebox")


@pytest.mark.parametrize("name", ["recipe-failure-x86", "recipe-failure-arm-fault"])
def test_one_failure_by_the_recipe_of_old(name: str) -> None:
    document = report(FIXTURES / "cases" / name / "trace.txt")
    assert (document["arena"]["allocs"], document["arena"]["failures"]) == (1, 1)
    assert findings(document)["arena-exhausted"]["severity"] == "problem"
    assert "fine" not in findings(document)


@pytest.mark.parametrize(
    ("left_out", "allocs", "failures", "untold"),
    [
        (" va=0x[0-9a-f]+(?= va_start)", 1323, 40, 0),
        # An address that fits, behind a purge in the call: the second attempt may have failed.
        (r" va=0x[0-9a-f]+(?= va_start)|[^\n]*(vmap|vmalloc)_ret:[^\n]*\n", 1323, 40, 5),
        (r"[^\n]*alloc_vmap_area_ret:[^\n]*\n", 1323, 40, 0),
        (r"[^\n]*vmap_area[^\n]*\n", 1323, 40, 0),  # vmap() and vmalloc() alone
        (r"[^\n]*_ret:[^\n]*\n", 1363, 0, 1363),
    ],
)
def test_what_is_left_of_the_evidence(
    tmp_path: Path, left_out: str, allocs: int, failures: int, untold: int
) -> None:
    text = gzip.decompress((HOG / "trace.txt.gz").read_bytes()).decode()
    (tmp_path / "trace.txt").write_text(re.sub(left_out, "", text))
    for name in ("cmdline", "config.gz", "cpuinfo", "iomem", "zoneinfo", "version"):
        (tmp_path / name).write_bytes((HOG / name).read_bytes())
    document = report(tmp_path)
    arena, found = document["arena"], findings(document)
    assert (arena["allocs"], arena["failures"], arena["untold"]) == (allocs, failures, untold)
    assert ("arena-exhausted" in found) == bool(failures)
    assert ("arena-untold" in found) == bool(untold)
    assert "fine" not in found


def test_purges_have_one_meaning() -> None:
    """66 runs of the purge, 32 of which found something: as many flushes as the cost counts."""
    document = report(HOG)
    arena, causes = document["arena"], document["cost"]["by_cause"]
    assert (arena["purge_runs"], arena["lazy_purges"]) == (66, 32)
    assert causes["lazy purge flush"]["count"] == 32


def test_one_span_for_title_and_cost() -> None:
    """The table has 145.2 s of it: events of other kinds came before."""
    document = report(FIXTURES / "i386-arena-pae-m2048-smp2")
    info = CliRunner().invoke(
        app, ["info", "--format", "json", str(FIXTURES / "i386-arena-pae-m2048-smp2")]
    )
    assert document["span_ns"] == json.loads(info.stdout)["span_ns"] == 157_695_802_000
    cost = document["cost"]
    assert cost["share_of_span"] == pytest.approx(cost["total_ns"] / 157_695_802_000 / 2)


def test_measured_times_stand_beside_the_estimates() -> None:
    """Sleeps for a slot are no work: 4.9 s of kmap(), 4.8 s of them asleep."""
    document = report(FIXTURES / "i386-hog-a-waiters-pae-smp2")
    kmap = document["cost"]["by_cause"]["kmap"]
    calls = {call["op"]: call["total_ns"] for call in document["durations"]}
    assert kmap["measured_ns"] == calls["kmap"] - document["pool"]["wait_ns"]
    assert kmap["measured_ns"] < document["span_ns"] * document["cpus"]
    assert "measured_ns" not in document["cost"]["by_cause"]["kunmap_local"]


def test_a_vmalloc_without_memory_is_a_failure_too(tmp_path: Path) -> None:
    """The area was found, and given back before NULL was returned."""
    lines = (
        "vmalloc: (__vmalloc_node_range+0x0/0x294) size=0x22000 align=0x1 start=0xf77fe000 "
        "end=0xfeffe000",
        "alloc_vmap_area: (alloc_vmap_area+0x0/0x7b0) size=0x23000 align=0x1 vstart=0xf77fe000 "
        "vend=0xfeffe000",
        "alloc_vmap_area_ret: (__get_vm_area_node+0x8c/0x120 <- alloc_vmap_area) "
        "va_start=0xfa493000 va_end=0xfa4b6000",
        "free_vmap_area_noflush: (free_vmap_area_noflush+0x0/0x1e0) va_start=0xfa493000 "
        "va_end=0xfa4b6000",
        "vmalloc_ret: (vmalloc+0x44/0x50 <- __vmalloc_node_range) vaddr=0x0",
    )
    text = "".join(
        f"  insmod-142     [000] .....    11.4681{i:02d}: {line}\n" for i, line in enumerate(lines)
    )
    (tmp_path / "trace.txt").write_text(f"# tracer: nop\n#\n{text}")
    document = report(tmp_path / "trace.txt")
    assert (document["arena"]["failures"], document["arena"]["null_calls"]) == (0, 1)
    assert findings(document)["vmalloc-null"]["severity"] == "problem"
