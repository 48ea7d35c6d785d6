"""`hmtrace synth` from the command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from collectors import open_capture
from collectors.errors import HmtraceError
from collectors.synthetic.scenarios import SCENARIOS
from hmtrace.cli import app

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["synth", *map(str, words)])


def refused(*words: str | Path) -> HmtraceError:
    result = run(*words)
    assert isinstance(result.exception, HmtraceError), result.output
    assert result.exception.exit_code == 2
    return result.exception


def test_list() -> None:
    shown = run("--list").stdout
    assert all(name in shown for name in SCENARIOS)
    assert max(map(len, shown.splitlines())) <= 80
    document = json.loads(run("--list", "--format", "json").stdout)
    assert document["schema"] == "hmtrace/synth/1"
    assert [s["name"] for s in document["scenarios"]] == list(SCENARIOS)


def test_capture_folder_reports_its_truth(tmp_path: Path) -> None:
    """The main way: a folder, its report, and the figures of what really happened."""
    folder = tmp_path / "full"
    result = run("pool-full", "--events", 5000, "--seed", 9, "-o", folder)
    assert result.exit_code == 0, result.output
    truth = json.loads((folder / "truth.json").read_text())
    assert (truth["schema"], truth["seed"]) == ("hmtrace/synth/1", 9)
    shown = CliRunner().invoke(app, ["report", "--format", "json", str(folder)])
    pool = json.loads(shown.stdout)["pool"]
    assert pool["waits"] == truth["pool"]["waits"] > 50
    assert pool["flushes"] == truth["pool"]["flushes"]
    assert pool["slots"] == truth["machine"]["pkmap_slots"] == 512
    assert not list(tmp_path.glob(".*"))


def test_text_to_stdout() -> None:
    text = run("kmap-leak", "--events", 300).stdout
    assert re.match(
        r"# tracer: nop\n#\n# entries-in-buffer/entries-written: 3\d\d/3\d\d   #P:2 +\n#\n", text
    )
    assert "kmap_high_ret: (kunmap_missing+0x21/0x1400 <- kmap_high) vaddr=0xff" in text
    assert text == run("kmap-leak", "--events", 300, "-o", "-").stdout
    assert (
        "sched:sched_switch: prev_comm="
        in run("kmap-leak", "--events", 300, "--format", "perf-script").stdout
    )


def test_single_file_with_the_truth_beside_it(tmp_path: Path) -> None:
    for name, form in (("a.dat", "trace.dat-v6"), ("b.txt", "perf-script")):
        assert run("map-ram", "--events", 500, "--format", form, "-o", tmp_path / name)
        assert open_capture(tmp_path / name).origin.format == form
        assert (tmp_path / f"{name}.truth.json").is_file()
    assert len(list(tmp_path.iterdir())) == 4


def test_parquet_holds_everything(tmp_path: Path) -> None:
    """One file: the same events as a folder's trace, the machine's facts among the metadata."""
    for name in ("mixed.parquet", "folder"):
        words = ("mixed", "--events", 3000, "--ns", "--format")
        form = "hmtrace-parquet" if "." in name else "trace.dat-v7"
        assert run(*words, form, "-o", tmp_path / name).exit_code == 0
    table, folder = (open_capture(tmp_path / name) for name in ("mixed.parquet", "folder"))
    assert table.origin.format == "synthetic"
    assert table.events.collect().equals(folder.events.collect())
    assert table.facts.snapshot() == folder.facts.snapshot()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "folder", "mixed.parquet", "mixed.parquet.truth.json",
    ]  # fmt: skip
    assert "is one file" in str(
        refused("mixed", "--format", "hmtrace-parquet", "-o", tmp_path / "x")
    )


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "walk"
    assert run("minix-walk", "--events", 200, "-o", folder).exit_code == 0
    before = (folder / "trace.txt").read_bytes()
    assert "exists" in str(refused("minix-walk", "-o", folder))
    assert (folder / "trace.txt").read_bytes() == before
    assert run("minix-walk", "--events", 300, "-o", folder, "--force").exit_code == 0
    assert (folder / "trace.txt").read_bytes() != before
    (folder / "notes").write_text("mine")
    assert "holds notes" in str(refused("minix-walk", "-o", folder, "--force"))
    assert (folder / "notes").read_text() == "mine"
    assert "does not exist" in str(refused("minix-walk", "-o", tmp_path / "no" / "such"))
    (tmp_path / "dir.txt").mkdir()
    assert "another kind" in str(refused("kmap-leak", "-o", tmp_path / "dir.txt", "--force"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no scenario"),
        (("nonsense",), "there is no scenario"),
        (("map-ram", "--set", "tasks"), "is not NAME=NUMBER"),
        (("map-ram", "--set", "pages=3"), "has no option 'pages'"),
        (("map-ram", "--set", "tasks=0"), "outside 1 to 200"),
        (("map-ram", "--format", "trace.dat-v7"), "cannot go to stdout"),
        (("map-ram", "--format", "json"), "is for --list"),
        (("map-ram", "--arch", "vax"), "no synthetic machine"),
        (("map-ram", "--ram", "512M"), "no highmem"),
    ],
)
def test_wrong_usage(words: tuple[str, ...], message: str) -> None:
    assert message in str(refused(*words))


def test_machine_options(tmp_path: Path) -> None:
    folder = tmp_path / "arm"
    words = ("--arch", "arm", "--ram", "2G", "--cpus", "4", "--split", "2g", "--events", "2000")
    assert run("fork-exec", *words, "-o", folder).exit_code == 0
    shown = CliRunner().invoke(app, ["info", "--format", "json", str(folder)])
    info = json.loads(shown.stdout)
    assert (info["kernel"]["arch"], info["kernel"]["pae"], info["cpus"]) == ("arm", False, 4)
    assert info["machine"]["page_offset"] == 0x8000_0000


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    command = f"{sys.executable} -m hmtrace synth minix-walk --events 50000 | head -3"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 3


def test_a_real_capture_is_not_replaced(tmp_path: Path) -> None:
    """Its files have the same names, but no synthetic truth is beside them."""
    folder = tmp_path / "board"
    folder.mkdir()
    for name in ("trace.txt", "iomem", "config"):
        (folder / name).write_text("real")
    told = str(refused("minix-walk", "-o", folder, "--force"))
    assert "hmtrace synth has not made it" in told
    assert sorted(path.name for path in folder.iterdir()) == ["config", "iomem", "trace.txt"]
