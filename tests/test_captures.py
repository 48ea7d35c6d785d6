"""Real captures through the real command line: exact figures, formats that agree, forgeries."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from typer.testing import CliRunner

from collectors import open_capture
from hmtrace.cli import app
from tests.expected import AREAS_IN_DOUBT, ORDERING_AT_MOST, REPORTS, VALIDATIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FIXTURES = Path(__file__).parents[1] / "fixtures"
APART = {"machines", "cases", "twins"}
"""Folders of fixtures that hold no whole captures."""
WAITERS = FIXTURES / "i386-hog-a-waiters-pae-smp2"
TWIN = FIXTURES / "i386-510-twin-vmalloc128"
MINIX = FIXTURES / "i386-minix-pae-smp2"


@cache
def document(command: str, *arguments: str) -> dict[str, Any]:
    """JSON document of one command."""
    result = CliRunner().invoke(app, [command, "--format", "json", *arguments])
    assert result.exit_code == 0, (result.exception, result.stderr)
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def validation(path: Path) -> dict[str, Any]:
    (entry,) = document("validate", str(path))["captures"]
    return entry  # type: ignore[no-any-return]


def part(found: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of `found` that `expected` has, at all depths, so that the two can be compared."""
    return {
        key: part(found[key], value) if isinstance(value, dict) else found[key]
        for key, value in expected.items()
    }


def operations(path: Path, *columns: str) -> pl.DataFrame:
    """Mapping operations of a capture in the order of each CPU."""
    return (
        open_capture(path)
        .events.filter(~pl.col("op").is_in(["switch"]))
        .sort("cpu", "seq")
        .select(*columns)
        .collect()
    )


def folder_with(path: Path, trace: bytes, source: Path) -> Path:
    """A copy of a capture folder that holds another text trace and no other trace."""
    shutil.copytree(source, path, ignore=lambda _, names: [n for n in names if is_trace(n)])
    (path / "trace.txt").write_bytes(trace)
    return path


def is_trace(name: str) -> bool:
    return name.startswith(("trace.", "trace_", "report", "perf")) and name != "trace_settings"


# --- exact figures -----------------------------------------------------------------------------


def test_every_fixture_has_its_figures_and_its_story() -> None:
    folders = {p.name for p in FIXTURES.iterdir() if p.is_dir() and p.name not in APART}
    assert folders == set(REPORTS) == set(VALIDATIONS)
    for name in folders:
        assert "Expected" in (FIXTURES / name / "README.md").read_text(), name
        assert name in (FIXTURES / "README.md").read_text()


def test_fixtures_hold_no_answers_and_stay_small() -> None:
    files = [p for p in FIXTURES.rglob("*") if p.is_file()]
    judges = [p for p in files if p.name.startswith("truth") or ".end" in p.name]
    assert judges == []
    assert sum(p.stat().st_size for p in files) < 20e6


@pytest.mark.parametrize("name", REPORTS)
def test_report_shows_the_figures_of_the_run(name: str) -> None:
    found = document("report", str(FIXTURES / name))
    expected = dict(REPORTS[name])
    ranges, rules = expected.pop("flush_ranges"), expected.pop("findings", set())
    assert part(found, expected) == expected
    pool = found["pool"]
    if name != "i386-func-minix-pae-smp2":  # pages are unknown: every call may be either
        assert pool["hits"] + pool["new_mappings"] == pool["maps"]
        assert pool["passes"] == pool["wraps"] + pool["unused_passes"]
    assert found["tlb"]["full"] + found["tlb"]["range"] == ranges
    shown = {f["rule"] for f in found["findings"]}
    problems = {"pool-exhausted", "arena-exhausted", "local-depth", "events-lost", "pages-unknown"}
    assert rules <= shown
    assert shown & problems == rules & problems


@pytest.mark.parametrize("name", VALIDATIONS)
def test_the_model_predicts_the_kernel(name: str) -> None:
    found, expected = validation(FIXTURES / name), VALIDATIONS[name]
    assert part(found, expected) == expected
    assert found["inferred"]["ordering"] <= ORDERING_AT_MOST.get(name, 0)
    doubt = AREAS_IN_DOUBT.get(name, 3)
    assert found["vmap"]["exact"] >= found["vmap"]["total"] - doubt
    assert found.get("arena", {}).get("wrong", 0) == 0
    assert [c for c in found["layout"] if not c["ok"]] == []
    # mips32 has two zones, the others three
    assert len(found["layout"]) >= (8 if name.startswith("mips32") else 9)


def test_purges_without_flushes_are_observed_by_what_they_return() -> None:
    """A kernel without flush_tlb_kernel_range(): six purges gave areas back, as foretold."""
    purges = validation(FIXTURES / "mips32-61-minix")["arena"]["purges"]
    assert purges == {"observed": 6, "predicted": 6, "matched": 6}


FINAL_POOLS: dict[str, dict[str, int] | None] = {
    "i386-510-twin-vmalloc128": {"last": 156, "stale": 157, "used": 0},
    "i386-510-hog-e-vmapfail-pae-smp1": {"last": 40, "stale": 2, "used": 0},
    "i386-hog-a-waiters-pae-smp2": {"last": 15, "stale": 0, "used": 0},
    "i386-func-minix-pae-smp2": None,  # calls without arguments
}
"""What /proc/kcore said when tracing ended: last_pkmap_nr, and the slots by their pkmap_count."""


@pytest.mark.parametrize("name", FINAL_POOLS)
def test_the_model_ends_with_the_kernels_pool(name: str) -> None:
    assert validation(FIXTURES / name)["final_pool"] == FINAL_POOLS[name]


@pytest.mark.parametrize("name", REPORTS)
def test_info_counts_what_the_report_counts(name: str) -> None:
    info, report = (document(c, str(FIXTURES / name)) for c in ("info", "report"))
    assert info["events"].get("kmap", 0) == report["pool"]["maps"]
    local = report["local"]["maps"] + report["local"]["lowmem"]
    assert info["events"].get("kmap_local", 0) == local
    assert info["source"]["format"] == report["source"]["format"]


# --- one run in several formats ----------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["trace.txt.gz", "report.txt.gz", "report-R.txt.gz", "report-t.txt.gz"]
)
def test_formats_of_one_run_give_the_same_operations(name: str) -> None:
    columns = ("cpu", "pid", "op", "page", "pfn", "vaddr")
    recorded = operations(WAITERS / "trace.dat", *columns)
    assert recorded.height > 16_000
    assert operations(WAITERS / name, *columns).equals(recorded)


@pytest.mark.parametrize("name", ["trace.txt.gz", "report.txt.gz", "report-l.txt.gz"])
def test_formats_of_one_run_validate_alike(name: str) -> None:
    keys = ("kmap", "kmap_local", "pool_flushes", "waits", "first_divergence")
    text, recorded = validation(WAITERS / name), validation(WAITERS)
    assert {k: text[k] for k in keys} == {k: recorded[k] for k in keys}


def test_latency_format_and_report_text_agree() -> None:
    folder = FIXTURES / "i386-latfmt-minix-686-smp2-global"
    columns = ("cpu", "pid", "op", "page", "pfn", "vaddr")
    text = operations(folder / "trace.txt.gz", *columns)
    assert text.equals(operations(folder / "report.txt.gz", *columns))


def test_perf_data_and_its_script_agree() -> None:
    folder = FIXTURES / "i386-minix-pae-smp2-perf"
    columns = ("cpu", "op", "page", "vaddr")
    recorded = operations(folder / "perf.data.gz", *columns)
    assert operations(folder / "perf-script.txt.gz", *columns).equals(recorded)


def test_costs_from_the_capture_itself() -> None:
    """--calibrate: the flushes cost what the emulator took for them, and the report says so."""
    plain, measured = (document("report", str(WAITERS), *more) for more in ((), ("--calibrate",)))
    assert "calibration" not in plain
    by = {row["what"]: row for row in measured["calibration"]}
    assert by["kunmap()"]["count"] == 520
    assert by["kunmap()"]["q1_ns"] <= by["kunmap()"]["median_ns"] <= by["kunmap()"]["q3_ns"]
    costs = measured["machine"]["costs"]
    named = {name for row in measured["calibration"] for name in row["sets"]}
    before = plain["machine"]["costs"]
    assert {n for n in costs if n != "ranges" and costs[n] != before[n]} == named != set()
    old = {row["name"]: row for row in before["ranges"]}
    assert {row["name"] for row in costs["ranges"] if row != old[row["name"]]} == named
    assert any("emulation" in caveat for caveat in measured["caveats"])
    other = document("replay", str(WAITERS), "--calibrate", "--pkmap", "1024")
    assert other["calibration"] == measured["calibration"]
    assert other["machine"]["costs"] == costs


# --- the model predicts, it does not copy --------------------------------------------------------

_RETURN = re.compile(rb"(<- kmap_high\) vaddr=0x)([0-9a-f]+)")


def forged(text: bytes, which: Iterable[int], shift: int) -> tuple[bytes, list[int]]:
    """Change the addresses of some kmap() returns; give the text and the forged addresses."""
    wanted, number, made = set(which), -1, list[int]()

    def other(match: re.Match[bytes]) -> bytes:
        nonlocal number
        number += 1
        if number not in wanted:
            return match[0]
        address = int(match[2], 16)
        slot = (address - 0xFF000000) // 4096
        made.append(0xFF000000 + (slot + shift) % 512 * 4096)
        return match[1] + b"%x" % made[-1]

    return _RETURN.sub(other, text), made


@pytest.mark.parametrize(
    ("source", "which"),
    [
        (TWIN, [7797]),
        (TWIN, [431, 4273, 7797, 15533, 18048]),
        (MINIX, [300, 3000, 6000]),
    ],
)
def test_a_forged_address_is_a_divergence(tmp_path: Path, source: Path, which: list[int]) -> None:
    """An address that the kernel never returned is found, and spoils little else."""
    text = gzip.decompress((source / "trace.txt.gz").read_bytes())
    changed, addresses = forged(text, which, 77)
    found = validation(folder_with(tmp_path / "forged", changed, source))
    honest = VALIDATIONS[source.name]["kmap"]["exact"]
    assert honest - 3 * len(which) <= found["kmap"]["exact"] <= honest - len(which)
    first = found["first_divergence"]
    assert first["op"] == "kmap"
    assert first["observed"] == addresses[0]
    assert first["predicted"] == 0xFF000000 + ((first["observed"] >> 12) - 77) % 512 * 4096
    marked = {mark: r for r in first["picture"]["rows"] for mark in r["marks"]}
    assert marked["model"]["address"] == first["predicted"]
    assert marked["kernel"]["address"] == first["observed"]
    assert "cursor" in marked


def test_a_forged_area_is_shown_among_its_neighbours(tmp_path: Path) -> None:
    """The kernel would have handed out an area that is in use: the picture says so."""
    source = FIXTURES / "i386-hog-e-vmapfail-pae-smp1"
    lines = gzip.decompress((source / "trace.txt.gz").read_bytes()).split(b"\n")
    returns = [i for i, line in enumerate(lines) if b"alloc_vmap_area_ret: " in line]
    chosen = returns[60]
    found = re.search(rb"va_start=0x([0-9a-f]+) va_end=0x([0-9a-f]+)", lines[chosen])
    assert found
    start, end = (int(text, 16) for text in found.groups())
    moved = start - (1 << 17)
    lines[chosen] = lines[chosen].replace(
        found[0], b"va_start=0x%x va_end=0x%x" % (moved, moved + end - start)
    )
    folder = folder_with(tmp_path / "forged", b"\n".join(lines), source)
    first = validation(folder)["first_divergence"]
    assert first["op"] == "area_alloc"
    # The true area is freed later without having been allocated: taken to be there from the start.
    assert first["predicted"] >= end
    assert first["observed"] == moved
    rows = {mark: r for r in first["picture"]["rows"] for mark in r["marks"]}
    assert rows["model"]["state"] == "free"
    assert rows["kernel"]["state"] == "busy"
    shown = CliRunner().invoke(app, ["validate", str(folder)]).stdout
    assert re.search(r"free +\S+ \S+B? +<- model", shown)
    assert re.search(r"busy +\S+ \S+B? +<- kernel", shown)


@pytest.mark.parametrize("position", [8498, 9000])
def test_a_forged_address_is_found_even_where_it_puts_the_snapshot_in_doubt(
    tmp_path: Path, position: int
) -> None:
    """The replay may take the forged address for a hint that the snapshot is wrong."""
    text = gzip.decompress((TWIN / "trace.txt.gz").read_bytes())
    changed, _ = forged(text, [position], 77)
    found = validation(folder_with(tmp_path / "forged", changed, TWIN))
    assert 18875 - 100 <= found["kmap"]["exact"] < 18875
    assert found["first_divergence"]["op"] == "kmap"


def test_a_forged_local_address_is_a_divergence(tmp_path: Path) -> None:
    source = FIXTURES / "i386-hog-d-local-pae-smp2"
    text = gzip.decompress((source / "trace.txt.gz").read_bytes())
    lines = text.split(b"\n")
    at = [i for i, line in enumerate(lines) if b"<- __kmap_local_page_prot) vaddr=" in line][7000]
    head, _, address = lines[at].rpartition(b"=")
    lines[at] = head + b"=%#x" % (int(address, 16) - 0x3000)
    found = validation(folder_with(tmp_path / "forged", b"\n".join(lines), source))
    assert 15427 - 6 <= found["kmap_local"]["exact"] < 15427
    assert found["first_divergence"]["op"] == "kmap_local"
    assert found["first_divergence"]["observed"] == int(address, 16) - 0x3000


def test_all_addresses_forged_leave_nothing_exact(tmp_path: Path) -> None:
    """A model that copied the observation would find all of them right."""
    text = gzip.decompress((TWIN / "trace.txt.gz").read_bytes())
    changed, addresses = forged(text, range(0, 20_000, 2), 131)
    assert len(addresses) == 9438
    found = validation(folder_with(tmp_path / "forged", changed, TWIN))
    assert found["kmap"]["exact"] <= 18875 - 9438


def test_a_trace_without_the_machines_files_is_predicted_all_the_same(tmp_path: Path) -> None:
    """The initial state is inferred then, which costs some predictions, and is said so."""
    lone = tmp_path / "trace.txt.gz"
    shutil.copy(MINIX / "trace.txt.gz", lone)
    found = validation(lone)
    assert found["kmap"]["total"] == 7905
    assert found["kmap"]["exact"] >= 7905 - 30
    assert found["kmap"]["exact"] + found["inferred"]["initial_state"] >= 7905
    assert found["first_divergence"] is None
