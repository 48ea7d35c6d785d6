"""`hmtrace compare`, on real captures whose differences are known, and on hostile pairs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hmtrace.cli import app

FIXTURES = Path(__file__).parents[2] / "fixtures"
TWINS = FIXTURES / "twins"
OLD, NEW = TWINS / "i386-510-minix-pae-m1024-smp2", TWINS / "i386-65-minix-pae-m1024-smp2"
MINIX = FIXTURES / "i386-minix-pae-smp2"
ARM = FIXTURES / "arm-61-1g-minix"
LOST = FIXTURES / "i386-lost-overrun-pae-smp2"
FUNCTIONS = FIXTURES / "i386-func-minix-pae-smp2"


def run(*words: str | Path, code: int = 0, width: int = 80) -> str:
    result = CliRunner().invoke(app, ["compare", *map(str, words)], env={"COLUMNS": str(width)})
    # what is raised becomes words, and the exit code, in hmtrace.__main__
    assert getattr(result.exception, "exit_code", result.exit_code) == code, result.output
    return result.stdout


def document(*words: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*words, "--format", "json"))
    return found


def piped(stdin: bytes, *words: str | Path) -> dict[str, Any]:
    """The document of a run that is given something on stdin."""
    command = [sys.executable, "-m", "hmtrace", "compare", *map(str, words), "--format", "json"]
    done = subprocess.run(command, input=stdin, capture_output=True, check=True, timeout=300)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def figures(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in told["figures"]}


def made(folder: Path, *words: str | Path) -> Path:
    """A document of another command."""
    path = folder / f"{words[0]}.json"
    result = CliRunner().invoke(app, [*map(str, words), "--format", "json", "-o", str(path)])
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(scope="module")
def kernels() -> dict[str, Any]:
    return document(OLD, NEW)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    return made(folder, "replay", MINIX, "--convert", "kmap=kmap_local")


def test_two_kernels_have_the_figures_of_their_twins(kernels: dict[str, Any]) -> None:
    """As in tests/twins/expected.py: what the kernels themselves did."""
    found = figures(kernels)
    assert kernels["schema"] == "hmtrace/compare/1"
    assert kernels["per"] == {"unit": "kmap", "units": 1000, "a": 20193, "b": 20183}
    assert (found["kmap"]["a"], found["kmap"]["b"]) == (20193, 20183)
    assert (found["pool_flushes"]["a"], found["pool_flushes"]["b"]) == (8, 8)
    assert (found["local"]["a"], found["local"]["b"]) == (15020, 19621)
    assert {n for n, one in found.items() if one["verdict"] == "changed"} == {"local", "tlb_single"}
    assert found["local"]["change"] == pytest.approx(19621 / 20183 / (15020 / 20193) - 1)
    assert found["pool_flushes"]["verdict"] == "same"
    assert found["longest_hold_ns"]["reason"] == "emulated"
    assert kernels["cost"]["word"] == "dearer"
    assert {one["fact"] for one in kernels["machines"]} >= {"generation", "release"}


def test_sites_of_one_kernel_alone_are_told(kernels: dict[str, Any]) -> None:
    sites = {(one["function"], one["op"]): one for one in kernels["sites"]}
    walked = sites["dir_get_page [minix]", "kmap"]
    assert (walked["a"]["calls"], walked["b"]["calls"]) == (20183, 20183)
    assert walked["verdict"] == "same" or abs(walked["change"]) < 0.001
    assert sites["copy_strings", "kmap"]["b"]["calls"] == 0
    # of 6.5 the trace tells the wrapper alone: nothing is gone that may be behind it
    assert kernels["nameless"]["b"] == {"calls": 19621, "whole": 39804}
    assert sites["handle_mm_fault", "kmap_local"]["verdict"] == "unknown"


def test_the_page_says_it_in_its_first_lines() -> None:
    lines = run(OLD, NEW).splitlines()
    assert lines.index(next(line for line in lines if " changed " in line)) < 10
    assert " changed     local mappings +31 %" in lines
    assert any(line.startswith(" cost        191.4 µs → 218.8 µs") for line in lines)


@pytest.mark.parametrize("width", [80, 120])
def test_pages_keep_to_their_width(width: int) -> None:
    for one, other in ((OLD, NEW), (ARM, MINIX), (LOST, MINIX), (FUNCTIONS, MINIX)):
        assert max(map(len, run(one, other, width=width).splitlines())) <= width


def test_another_arena_moves_no_kmap() -> None:
    """One process under another `vmalloc=`: 14000 calls of the pool, all of it the same."""
    told = document(FIXTURES / "i386-twin-vmalloc128", FIXTURES / "i386-twin-vmalloc256")
    found = figures(told)
    assert (found["kmap"]["a"], found["kmap"]["b"]) == (14000, 14000)
    assert (found["new_mappings"]["a"], found["new_mappings"]["b"]) == (2175, 2175)
    assert found["new_mappings"]["verdict"] == "same"
    assert not [n for n, one in found.items() if one["verdict"] in ("changed", "bound")]
    facts = {one["fact"]: (one["a"], one["b"]) for one in told["machines"]}
    assert facts["vmalloc_bytes"] == (128 << 20, 256 << 20)


def test_a_smaller_arena_purges_more() -> None:
    """The 9000 rounds of vmap() under two arenas: 467 purges and 278 failures, 15 and none."""
    told = document(TWINS / "i386-twin-vmap-vmalloc256", TWINS / "i386-twin-vmap-vmalloc128")
    found = figures(told)
    assert [found["purges"][side] for side in "ab"] == [15, 467]
    assert [found["failures"][side] for side in "ab"] == [0, 278]
    assert found["purges"]["verdict"] == found["failures"]["verdict"] == "changed"
    assert told["findings"]["b"]["arena-exhausted"] == "problem"
    assert told["sites"] == []  # no caller was recorded


def test_a_capture_beside_itself() -> None:
    told = document(MINIX, MINIX)
    assert told["is_same"]
    assert {one["verdict"] for one in told["figures"]} == {"same"}
    assert "nothing changed" in run(MINIX, MINIX)


def test_losses_are_no_changes() -> None:
    told = document(LOST, MINIX)
    found = figures(told)
    assert found["kmap"]["a_sense"] == "least"
    assert not [one for one in told["figures"] if one["verdict"] == "changed"]
    assert told["cost"]["word"] is None
    assert "lost" in told["cost"]["reasons"]
    assert {one["code"] for one in told["not_comparable"]} >= {"lost"}


def test_lines_of_the_function_tracer_tell_calls_alone() -> None:
    told = document(FUNCTIONS, MINIX)
    found = figures(told)
    assert found["pool_flushes"]["verdict"] == "unknown"
    assert found["local"]["a_sense"] == "most"
    assert found["requests"]["reason"] == "untold"
    assert told["cost"]["verdict"] is None


def test_another_architecture_is_neither_better_nor_worse() -> None:
    told = document(ARM, MINIX)
    assert told["cost"]["word"] is None
    assert told["cost"]["reasons"] == ["arch"]
    assert figures(told)["local_lowmem"]["reason"] == "untraced"


def test_without_any_kmap_nothing_is_per_kmap() -> None:
    hog = FIXTURES / "i386-hog-d-local-pae-smp2"
    told = document(hog, MINIX, "--per", "kmap")
    assert [one["per"] for one in told["figures"] if one["name"] == "local"] == [
        [None, pytest.approx(14256 / 7.905)]
    ]
    assert not [o for o in told["figures"] if o["kind"] == "count" and o["verdict"] != "unknown"]
    assert "nothing can be given per 1000 kmap()" in " ".join(
        run(hog, MINIX, "--per", "kmap").split()
    )
    assert document(hog, MINIX)["per"]["unit"] == "event"


# Simulated kernels, whose truth is known ----------------------------------------------------------


def simulated(folder: Path, scenario: str, *options: str) -> tuple[Path, dict[str, Any]]:
    """A capture of a scenario, and what really happened in it."""
    target = folder / "-".join((scenario, *(word.strip("-") for word in options)))
    result = CliRunner().invoke(app, ["synth", scenario, *options, "-o", str(target)])
    assert result.exit_code == 0, result.output
    return target, json.loads((target / "truth.json").read_text())


def test_twice_the_walks_are_twice_the_calls_and_no_change_of_each(tmp_path: Path) -> None:
    one, truth = simulated(tmp_path, "minix-walk", "--events", "6000")
    other, there = simulated(tmp_path, "minix-walk", "--events", "12000")
    told = figures(document(one, other))
    for name, key in (("kmap", "maps"), ("new_mappings", "new"), ("pool_flushes", "flushes")):
        assert (told[name]["a"], told[name]["b"]) == (truth["pool"][key], there["pool"][key])
        assert told[name]["verdict"] in ("same", "within")
    run_by_run = figures(document(one, other, "--per", "run"))
    assert run_by_run["kmap"]["verdict"] == run_by_run["new_mappings"]["verdict"] == "changed"
    twice = there["pool"]["maps"] / truth["pool"]["maps"]
    assert run_by_run["kmap"]["change"] == pytest.approx(twice - 1)


def test_longer_directories_make_more_mappings_of_as_many_calls(tmp_path: Path) -> None:
    one, truth = simulated(tmp_path, "minix-walk", "--events", "6000")
    other, there = simulated(tmp_path, "minix-walk", "--events", "6000", "--set", "pages=24")
    rates = [pool["new"] / pool["maps"] for pool in (truth["pool"], there["pool"])]
    told = figures(document(one, other))["new_mappings"]
    assert told["verdict"] == "changed"
    assert told["change"] == pytest.approx(rates[1] / rates[0] - 1)


def test_a_leak_is_found_in_one_alone(tmp_path: Path) -> None:
    one, _ = simulated(tmp_path, "minix-walk", "--events", "6000")
    other, truth = simulated(tmp_path, "kmap-leak", "--events", "6000")
    told = document(one, other)
    held = figures(told)["still_used"]
    assert (held["a"], held["b"]) == (0, truth["pool"]["used_at_end"])
    assert "kmap-held" in told["findings"]["b"]
    assert " only in B   kmap-held" in run(one, other)
    assert told["findings"]["a"] == {}


# Documents, rows, stdin ---------------------------------------------------------------------------


def test_a_converted_driver(converted: Path) -> None:
    told = document(MINIX, converted)
    found = figures(told)
    assert told["noise"]["basis"] == "exact"
    assert [found["pool_flushes"][side] for side in "ab"] == [3, 0]
    assert [found["ipis"][side] for side in "ab"] == [12, 9]
    assert [found["local_saved"][side] for side in "ab"] == [0, 61]
    assert [found["local_depth"][side] for side in "ab"] == [2, 2]
    (one,) = told["converted"]
    assert one["function"] == "dir_get_page [minix]"
    assert (one["kmap"][0]["calls"], one["local"][1]["calls"]) == (7905, 7905)
    page = run(MINIX, converted)
    assert "From kmap() to kmap_local_page()" in page
    assert " pool flushes        3 → 0" in page


def test_a_document_is_the_capture_that_it_is_of(converted: Path, tmp_path: Path) -> None:
    report = made(tmp_path, "report", MINIX)
    for one in (f"{converted}:baseline", report):
        told = document(one, MINIX)
        assert told["is_same"], one
    assert piped(report.read_bytes(), "-", MINIX)["is_same"]
    assert piped(converted.read_bytes(), MINIX, "-")["converted"]
    trace = next(MINIX.glob("trace.*")).read_bytes()
    assert figures(piped(trace, MINIX, "-"))["kmap"]["b"] == 7905


def test_rows_of_a_sweep(tmp_path: Path) -> None:
    table, sheet = tmp_path / "sweep.parquet", tmp_path / "sweep.csv"
    path = made(tmp_path, "sweep", ARM, "--axis", "split=3g,2g")
    for target in (table, sheet):
        result = CliRunner().invoke(
            app, ["sweep", str(ARM), "--axis", "split=3g,2g", "-o", str(target)]
        )
        assert result.exit_code == 0
    for file in (path, table, sheet):
        told = document(f"{file}:captured", f"{file}:split=2g")
        assert [figures(told)["kmap"][side] for side in "ab"] == [10134, 0]
        assert told["cost"]["word"] == "cheaper"
        assert document(f"{file}:2", f"{file}:split=2G")["cost"]["word"] == "cheaper"
        run(file, f"{file}:split=2g", code=2)  # two rows fit
        run(f"{file}:split=9g", f"{file}:1", code=2)
        run(f"{file}:speed=1", f"{file}:1", code=2)


def test_damaged_tables_are_named(tmp_path: Path) -> None:
    table = tmp_path / "sweep.parquet"
    options = ["sweep", str(ARM), "--axis", "split=3g,2g", "-o", str(table)]
    assert CliRunner().invoke(app, options).exit_code == 0
    whole = table.read_bytes()
    for damaged in (whole[:400] + b"\xff" * 400 + whole[800:], whole[: len(whole) // 2], b"PAR1"):
        table.write_bytes(damaged)
        result = CliRunner().invoke(app, ["compare", f"{table}:1", str(ARM)])
        # where not even its columns can be read, it is taken for a capture
        assert getattr(result.exception, "exit_code", None) in (2, 3), result.output
    sheet = tmp_path / "sweep.csv"
    sheet.write_text("axis_split,kmap\n3g,many\n")
    run(f"{sheet}:1", ARM, code=3)
    sheet.write_bytes(b'axis_split\xff,\x00\n"')
    run(f"{sheet}:1", ARM, code=3)


def test_wrong_usage_and_what_cannot_be_read(tmp_path: Path, converted: Path) -> None:
    run("-", "-", code=2)
    run(MINIX, MINIX, "--fail-on", "much", code=2)
    run(f"{converted}:other", MINIX, code=2)
    run(MINIX, tmp_path / "none", code=3)
    for text in ("{", "{}", '{"schema": "hmtrace/info/1"}', '{"schema": 7}'):
        (tmp_path / "wrong.json").write_text(text)
        run(MINIX, tmp_path / "wrong.json", code=3)
    result = CliRunner().invoke(
        app, ["compare", str(MINIX), str(converted), "-o", str(converted), "--force"]
    )
    assert "never replaced" in str(result.exception)


def test_what_a_document_says_never_reaches_a_terminal_raw(tmp_path: Path) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07[red]x[/red]\u202e"
    told = json.loads(made(tmp_path, "report", FUNCTIONS).read_text())
    told["source"]["sha256"] = told["machine"]["release"] = told["machine"]["arch"] = evil
    told["machine"]["config"] = [evil, "A" + evil]
    told["sites"] = [{"site": f"{evil}+0x4", "op": evil, "count": 7000}]
    told["evidence"] = {"functions": [evil], "pool": evil, "kmap": evil}
    told["findings"] = [{"rule": evil, "severity": "problem"}]
    path = tmp_path / "evil.json"
    path.write_text(json.dumps(told))
    for pair in ((path, FUNCTIONS), (MINIX, path), (path, path)):
        page = run(*pair)
        assert not [char for char in page if not char.isprintable() and char != "\n"]
        assert run(*pair, "--format", "json").isascii()
    told["machine"]["ram_bytes"] = -1
    path.write_text(json.dumps(told))
    run(path, MINIX, code=3)


# Noise and continuous integration -----------------------------------------------------------------


def test_more_captures_measure_the_noise(tmp_path: Path) -> None:
    """The same figures once more, as of other traces: they repeat to the last call."""
    again = []
    for number, capture in enumerate((OLD, NEW)):
        (tmp_path / str(number)).mkdir()
        path = made(tmp_path / str(number), "report", capture)
        told = json.loads(path.read_text())
        told["source"]["sha256"] = None
        path.write_text(json.dumps(told))
        again.append(path)
    options = (OLD, NEW, "--noise", again[0], "--noise-b", again[1])
    told = document(*options)
    assert told["noise"] == {"basis": "repeated", "repeats": [1, 1]}
    found = figures(told)
    assert found["local"]["verdict"] == "changed"
    assert found["new_mappings"]["noise"]["most"] < 10
    words = "measured, by 1 more capture of A and 1 more capture of B"
    assert words in " ".join(run(*options).split())


def test_a_capture_that_is_given_again_measures_nothing() -> None:
    told = document(OLD, NEW, "--noise", OLD)
    assert told["noise"]["basis"] == "chance"
    assert told["not_comparable"][0]["about"] == "same trace"


def test_it_fails_where_more_than_so_much_is_more() -> None:
    run(OLD, NEW, "--fail-on", "10%", code=1)
    run(OLD, NEW, "--fail-on", "50", code=0)
    run(NEW, OLD, "--fail-on", "0", code=0)
