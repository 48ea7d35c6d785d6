"""Calls that must not be made: synthetic traces with one line too many, or in another state."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from hmtrace.cli import app

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RULES = "local-order,local-stray,kunmap-twice,kmap-atomic,kmap-held-long,kmap-crossed"


def found(folder: Path, *words: str) -> dict[str, dict[str, Any]]:
    """Findings of these rules, by rule."""
    done = CliRunner().invoke(app, ["check", str(folder), "--rule", RULES, "--format", "json"])
    assert done.exit_code in (0, 1), done.output
    return {f["rule"]: f for f in json.loads(done.stdout)["findings"]} | {w: {} for w in words}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of scenarios in which nothing is wrong."""
    root = tmp_path_factory.mktemp("use")

    def make(scenario: str) -> Path:
        folder = root / f"{scenario}-{len(list(root.iterdir()))}"
        words = ["synth", scenario, "--events", "2000", "-o", str(folder)]
        if scenario == "local-order":
            words += ["--set", "wrong=0"]
        made = CliRunner().invoke(app, words)
        assert made.exit_code == 0, made.output
        return folder

    return make


def change(folder: Path, function: str, number: int, to: Callable[[str], str]) -> None:
    """Change one of the lines of a function's entry, counted from 0."""
    trace = folder / "trace.txt"
    lines = trace.read_text().split("\n")
    at = [n for n, line in enumerate(lines) if f": {function}: " in line][number]
    lines[at] = to(lines[at])
    trace.write_text("\n".join(lines))


def twice(line: str) -> str:
    return f"{line}\n{line}"


def flagged(flags: str) -> Callable[[str], str]:
    return lambda line: re.sub(r"(\[\d+\]) \S+ ", rf"\1 {flags} ", line)


@pytest.mark.parametrize("scenario", ["local-order", "minix-walk"])
def test_nothing_is_wrong_at_first(folders: Callable[[str], Path], scenario: str) -> None:
    assert found(folders(scenario)) == {}


def test_a_page_that_is_given_back_twice(folders: Callable[[str], Path]) -> None:
    folder = folders("minix-walk")
    change(folder, "kunmap_high", 400, twice)
    told = found(folder)
    assert told.keys() == {"kunmap-twice"}
    assert told["kunmap-twice"]["count"] == 1
    assert told["kunmap-twice"]["first"]["comm"].startswith("find-")


def test_a_local_mapping_that_is_given_back_twice(folders: Callable[[str], Path]) -> None:
    """By a task that holds none; where it holds others, the newest of them goes."""
    folder = folders("local-order")
    lines = (folder / "trace.txt").read_text().split("\n")
    open_by: dict[str, int] = {}
    unmaps = [line for line in lines if ": kunmap_local: " in line]
    for line in lines:
        task = line.split("[")[0].strip()
        if ": kmap_local_page: " in line:
            open_by[task] = open_by.get(task, 0) + 1
        elif ": kunmap_local: " in line:
            open_by[task] -= 1
            if not open_by[task] and unmaps.index(line) > 100:
                break
    change(folder, "kunmap_local", unmaps.index(line), twice)
    told = found(folder)
    assert told["local-stray"]["count"] == 1
    assert "local-order" not in told


@pytest.mark.parametrize(("flags", "words"), [("..s1.", "in an interrupt"), ("d....", "off")])
def test_kmap_where_nobody_may_sleep(
    folders: Callable[[str], Path], flags: str, words: str
) -> None:
    folder = folders("minix-walk")
    change(folder, "kmap_high", 300, flagged(flags))
    told = found(folder)["kmap-atomic"]
    assert (told["count"], told["severity"]) == (1, "problem")
    assert words in told["message"]


def test_a_state_that_all_calls_are_in_is_the_probes_own(folders: Callable[[str], Path]) -> None:
    folder = folders("minix-walk")
    trace = folder / "trace.txt"
    trace.write_text(re.sub(r"(\[\d+\]) \S+ ", r"\1 d..1. ", trace.read_text()))
    assert found(folder) == {}


def test_calls_that_probes_missed_excuse_contradictions(folders: Callable[[str], Path]) -> None:
    folder = folders("local-order")
    change(folder, "kunmap_local", 200, twice)
    before = found(folder)
    assert before.keys() <= {"local-stray", "local-order"}
    assert before
    (folder / "kprobe_profile").write_text("  kunmap_local      1000      400\n")
    done = CliRunner().invoke(app, ["check", str(folder), "--rule", RULES, "--format", "json"])
    told = json.loads(done.stdout)
    assert told["findings"] == []
    reasons = {u["rule"]: u["reason"] for u in told["unknown"]}
    assert reasons["local-order"] == reasons["local-stray"] == "probes missed local mappings"


def test_a_slot_that_is_held_long(folders: Callable[[str], Path]) -> None:
    folder = folders("minix-walk")
    done = CliRunner().invoke(
        app, ["check", str(folder), "--rule", "kmap-held-long=0.001", "--format", "json"]
    )
    (told,) = json.loads(done.stdout)["findings"]
    assert (told["rule"], told["severity"]) == ("kmap-held-long", "warning")
    assert told["fingerprint"].startswith("kmap-held-long:")
    assert told["figures"]["hold_ns"] >= 1000


def by_another(line: str) -> str:
    """The same call by a task that does nothing else."""
    return re.sub(r"^ *\S+?-\d+ ", "        stranger-9999 ", line)


def on_cpu(cpu: int) -> Callable[[str], str]:
    return lambda line: re.sub(r" \[\d+\] ", f" [{cpu:03}] ", line)


def test_a_page_that_another_task_gives_back_is_told_and_is_no_fault(
    folders: Callable[[str], Path],
) -> None:
    folder = folders("minix-walk")
    change(folder, "kunmap_high", 400, by_another)
    told = found(folder)
    assert told.keys() == {"kmap-crossed"}
    crossed = told["kmap-crossed"]
    assert (crossed["severity"], crossed["count"], crossed["first"]["pid"]) == ("info", 1, 9999)
    assert "legal for kmap()" in crossed["evidence"]


def test_a_page_that_is_given_back_on_another_cpu_is_no_finding(
    folders: Callable[[str], Path],
) -> None:
    folder = folders("minix-walk")
    done = CliRunner().invoke(app, ["report", str(folder), "--format", "json"])
    before = json.loads(done.stdout)["pool"]["crossed"]
    lines = (folder / "trace.txt").read_text().split("\n")
    at = [line for line in lines if ": kunmap_high: " in line][400]
    (cpu,) = re.findall(r" \[(\d+)\] ", at)
    mapped = next(
        line for line in reversed(lines[: lines.index(at)])
        if ": kmap_high: " in line and at.split("page=")[1].split()[0] in line
    )  # fmt: skip
    assert f"[{cpu}]" in mapped, "else it says nothing"
    change(folder, "kunmap_high", 400, on_cpu(1 - int(cpu)))
    done = CliRunner().invoke(app, ["report", str(folder), "--format", "json"])
    after = json.loads(done.stdout)["pool"]["crossed"]
    assert after == before | {"other_cpu": before["other_cpu"] + 1}
    assert found(folder) == {}


def test_a_local_mapping_that_another_task_gives_back_is_a_fault(
    folders: Callable[[str], Path],
) -> None:
    folder = folders("local-order")
    open_by: dict[str, int] = {}
    unmaps = 0
    for line in (folder / "trace.txt").read_text().split("\n"):
        owner = line.split("[")[0].strip()
        if ": kmap_local_page: " in line:
            open_by[owner] = open_by.get(owner, 0) + 1
        elif ": kunmap_local: " in line:
            idle = [task for task, held in open_by.items() if not held]
            if unmaps > 100 and idle:
                break
            open_by[owner] -= 1
            unmaps += 1
    change(folder, "kunmap_local", unmaps, lambda line: line.replace(owner, idle[0], 1))
    told = found(folder)["local-stray"]
    assert told["severity"] == "problem"
    assert f"{told['first']['comm']}-{told['first']['pid']}" == idle[0]
    assert told["figures"]["holder"]["comm"] == owner.rsplit("-", 1)[0]
    assert "kmap() may be handed over, a local mapping may not" in told["evidence"]


def test_depths_that_no_kernel_has_are_no_finding(folders: Callable[[str], Path]) -> None:
    """Unmaps are missing: what is nested deeper than fits would have been a BUG()."""
    folder = folders("local-order")
    trace = folder / "trace.txt"
    lines = trace.read_text().split("\n")
    trace.write_text(
        "\n".join(
            re.sub(r" ret(val)?=\S+| vaddr=\S+", "", line)
            for line in lines
            if ": kunmap_local: " not in line
        )
    )
    done = CliRunner().invoke(app, ["check", str(folder), "--format", "json"])
    told = json.loads(done.stdout)
    assert not {f["rule"] for f in told["findings"]} & {"local-depth", "local-over-switch"}
    (unknown,) = (u for u in told["unknown"] if u["rule"] == "local-depth")
    assert "nested deeper than any kernel lets them" in unknown["reason"]
    assert unknown["record"]
