"""`advise`: which split to choose, and never what the evidence does not carry."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hmtrace.cli import app

FIXTURES = Path(__file__).parents[2] / "fixtures"
BOARD = FIXTURES / "arm-61-1g-minix"
FAILING = FIXTURES / "i386-hog-e-vmapfail-pae-smp1"
TWO_GIB = FIXTURES / "i386-arena-pae-m2048-smp2"


pytestmark = pytest.mark.usefixtures("shelf")


@pytest.fixture
def board(tmp_path: Path) -> Path:
    folder = tmp_path / "board"
    shutil.copytree(BOARD, folder, ignore=shutil.ignore_patterns("report*", "trace.txt*"))
    return folder


def document(*words: object, code: int = 0) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*map(str, words), "--format", "json"])
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def advice(*captures: object) -> dict[str, Any]:
    found: dict[str, Any] = document("advise", *captures)["captures"][0]
    return found


def page(*captures: object) -> str:
    result = CliRunner().invoke(app, ["advise", *map(str, captures)], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    return result.stdout


def split(found: dict[str, Any], name: str, *, highmem: bool) -> dict[str, Any]:
    (one,) = (s for s in found["splits"] if (s["split"], s["highmem_enabled"]) == (name, highmem))
    return one


def told(one: dict[str, Any]) -> str:
    return "; ".join(one["reasons"])


def of_process(mib: int) -> str:
    return f"Name:\tbrowser\nPid:\t77\nVmPeak:\t{mib << 10} kB\n"


def test_a_board_of_1_gib_should_move_to_3g_opt() -> None:
    """The advice of the patches of December 2025 (users-and-peers.md)."""
    found = advice(BOARD)
    assert (found["choice"]["split"], found["choice"]["highmem"]) == ("3g_opt", False)
    assert found["evidence"] == "fair"  # the largest process is not known
    assert "processes" in {one["code"] for one in found["not_seen"]}
    assert split(found, "3g", highmem=False)["verdict"] == "no"
    assert "256 MiB of RAM are out of reach" in told(split(found, "3g", highmem=False)).replace(
        "\u2800", " "
    )
    assert not split(found, "2g_opt", highmem=False)["available"]
    assert split(found, "2g_opt", highmem=False)["verdict"] == "no"


def test_its_figures_are_those_of_replay() -> None:
    found = advice(BOARD)
    for one in found["splits"]:
        options = [
            "--split",
            one["split"],
            "--highmem" if one["highmem_enabled"] else "--no-highmem",
        ]
        alone = document("replay", BOARD, *options)
        assert one["lowmem"] == alone["machine"]["lowmem_bytes"]
        assert one["highmem"] == alone["machine"]["highmem_bytes"]
        assert one["user"] == alone["machine"]["user_end"]
        assert (one["maps"], one["flushes"]) == (alone["pool"]["maps"], alone["pool"]["flushes"])
        assert one["failures"] == alone["arena"]["failures"]
        assert one["cost_ns"] == alone["cost"]["total_ns"]
        assert one["bound"] == alone["bound"]


@pytest.mark.parametrize(
    ("mib", "choice", "verdicts"),
    [
        (41, "3g_opt", {"3g_opt": "mind", "2g": "mind", "1g": "mind"}),
        (2000, "3g_opt", {"3g_opt": "mind", "2g": "mind", "1g": "no"}),
        (2700, "3g_opt", {"3g_opt": "mind", "2g": "no", "1g": "no"}),
        (2900, "3g", {"3g_opt": "no", "2g": "no", "1g": "no"}),
    ],
)
def test_the_largest_process_has_to_fit(
    mib: int, choice: str, verdicts: dict[str, str], board: Path
) -> None:
    (board / "status.txt").write_text(of_process(mib))
    found = advice(board)
    assert found["largest_process"] == {"name": "browser", "pid": 77, "vm_peak": mib << 20}
    assert found["choice"]["split"] == choice
    assert {n: split(found, n, highmem=False)["verdict"] for n in verdicts} == verdicts
    assert found["evidence"] == "good"
    close = "only just fits" in told(split(found, "3g_opt", highmem=False))
    assert close is (mib == 2700)


def test_little_user_space_is_not_advised_without_evidence(tmp_path: Path) -> None:
    """i386 with PAE, 2 GiB: only 1g makes all of it lowmem, and leaves a process 1 GiB."""
    found = advice(TWO_GIB)
    assert found["choice"]["is_now"]
    words = " ".join(page(TWO_GIB).split())
    assert "1g, no HIGHMEM would be better if no process needs more than 1 GiB" in words
    folder = tmp_path / "known"
    shutil.copytree(TWO_GIB, folder)
    (folder / "status.txt").write_text(of_process(300))
    found = advice(folder)
    assert (found["choice"]["split"], found["choice"]["highmem"]) == ("1g", False)


def test_failures_decide() -> None:
    found = advice(FAILING)
    now = next(one for one in found["splits"] if one["is_now"])
    chosen = split(found, found["choice"]["split"], highmem=found["choice"]["highmem"])
    assert now["failures"] == 40
    assert chosen["failures"] == 0
    assert found["evidence"] == "thin"  # not one mapping was traced
    text = page(FAILING)
    assert "CONFIG_VMSPLIT_2G=y CONFIG_NOHIGHMEM=y" in " ".join(text.split())
    assert max(map(len, text.split("\n"))) <= 80


def test_a_small_zone_is_named(board: Path) -> None:
    """Of 800 MiB a split of 3g leaves 32 MiB of highmem, which run out first."""
    (board / "iomem").write_text("40000000-71ffffff : System RAM\n")
    for name in ("zoneinfo", "meminfo", "dmesg.gz", "dmesg.end.gz"):
        (board / name).unlink(missing_ok=True)
    found = advice(board)
    now = next(one for one in found["splits"] if one["is_now"])
    assert 0 < now["highmem"] < 64 << 20
    assert "runs out first" in told(now)
    assert found["choice"]["split"] == "3g_opt"


def test_a_fleet_has_a_best_for_all(tmp_path: Path) -> None:
    bad = tmp_path / "trace.dat"
    bad.write_bytes(b"\x17\x08\x44tracing6\x00" + b"\x00" * 40)
    result = CliRunner().invoke(app, ["advise", str(BOARD), str(bad), str(FAILING)])
    assert result.exit_code == 3
    assert str(bad) in result.stderr
    words = " ".join(result.stdout.split())
    assert "2 captures" in words
    assert "The best for all: 3g_opt, no HIGHMEM" in words
    assert "nobody loses by it" in words
