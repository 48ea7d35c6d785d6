"""Many captures at once: one page, one document, one damaged capture left out, nothing lost."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console
from typer.testing import CliRunner

from collectors.compiled import store
from collectors.errors import HmtraceError
from hmtrace.cli import app, fleet, workloads
from hmtrace.cli.fleet import BUG, Asking, FleetQuestion, answer, gather
from hmtrace.report.fleet import AdvisedFleet, advised_fleet_renderables
from replay.whatif.common import DOUBTED, GAINS, LOSES, SAME
from tests.hmtrace.test_cluster import dask_in

FIXTURES = Path(__file__).parents[2] / "fixtures"
SOURCES = ("i386-twin-vmap-vmalloc128", "arm-612-percpu-lpae-smp2", "i386-510rt-minix-pae-smp2")
BOARDS = 9
DAMAGED = 7
AXES = ("--axis", "pkmap=256,512")


@pytest.fixture(autouse=True)
def _empty_shelf(shelf: Path) -> None:
    """Nothing is kept from other tests."""


def run(*words: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, list(map(str, words)), env={"COLUMNS": "80"})
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Workload files of boards of three kinds, most of the last, and one of those cut off."""
    folder = tmp_path_factory.mktemp("fleet")
    made = folder / "boards"
    made.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workloads, "cache_home", lambda: folder / "cache")
        for number, source in enumerate(SOURCES):
            run("convert", FIXTURES / source, "-o", made / f"board-{number:02}.workload")
    for number in range(len(SOURCES), BOARDS):
        source = made / f"board-{len(SOURCES) - 1:02}.workload"  # it is answered soonest
        shutil.copyfile(source, made / f"board-{number:02}.workload")
    damaged = made / f"board-{DAMAGED:02}.workload"
    damaged.write_bytes(damaged.read_bytes()[:-50])
    return made


@pytest.fixture(scope="module")
def answers() -> dict[str, dict[str, Any]]:
    """Answers to the question for advice, by the path of a capture."""
    return {}


@pytest.fixture(scope="module")
def asked(
    boards: Path, answers: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """The document of all, and what was said beside it."""
    cache = tmp_path_factory.mktemp("cache")
    ask = fleet._ASKED["advise"]

    def noted(path: str, options: dict[str, Any]) -> dict[str, Any]:
        answers[path] = ask(path, options)
        return answers[path]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workloads, "cache_home", lambda: cache)
        patch.setitem(fleet._ASKED, "advise", noted)
        return run("advise", boards, "--format", "json", code=3)


@pytest.fixture(scope="module")
def swept(boards: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The document of a sweep of all."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workloads, "cache_home", lambda: cache)
        found: str = run("sweep", boards, *AXES, "--format", "json", code=3).stdout
        return found


@pytest.fixture
def known(asked: Any, answers: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """What a capture's answer is, is known: it is not computed again."""

    def told(path: str, _: dict[str, Any]) -> dict[str, Any]:
        if path not in answers:
            raise HmtraceError("its end is missing", source=path)
        return answers[path]

    monkeypatch.setitem(fleet._ASKED, "advise", told)


def test_advice_for_a_fleet_leaves_a_damaged_capture_out_and_loses_nothing(
    boards: Path, asked: Any
) -> None:
    document = json.loads(asked.stdout)
    paths = [one["source"]["path"] for one in document["captures"]]
    expected = [str(boards / f"board-{n:02}.workload") for n in range(BOARDS) if n != DAMAGED]
    assert paths == expected
    (left_out,) = document["unreadable"]
    assert left_out["path"] == str(boards / f"board-{DAMAGED:02}.workload")
    assert "its end is missing" in left_out["error"]
    assert f"board-{DAMAGED:02}.workload" in asked.stderr
    assert sum(one["captures"] for one in document["common"]) == BOARDS - 1
    for one in document["common"]:
        told = one["gain"] + one["gain_nothing"] + one["doubted"] + one["lose"]
        assert told == one["captures"] == sum(one["kinds"].values())


def test_a_capture_of_a_fleet_is_told_as_it_is_alone(boards: Path, asked: Any) -> None:
    file = boards / "board-00.workload"
    alone = json.loads(run("advise", file, "--format", "json").stdout)
    assert json.loads(asked.stdout)["captures"][0] == alone["captures"][0]


@pytest.mark.usefixtures("known")
def test_the_page_of_a_fleet_is_short_and_narrow(boards: Path) -> None:
    page = run("advise", boards, code=3).stdout
    lines = page.splitlines()
    assert len(lines) < 70
    assert max(map(len, lines)) <= 80
    assert "8 captures of 3 kinds of machine" in lines[0]
    assert "The best for all" in page
    assert "1 capture left out" in page
    assert f"board-{DAMAGED:02}.workload" in page


def test_the_page_of_many_is_no_longer_than_that_of_few() -> None:
    """Of 1 000 captures of 40 kinds as of 40: kinds and reasons are listed up to a bound."""
    found = AdvisedFleet()
    for number in range(1000):
        record = _record({"2g": GAINS if number % 3 else LOSES, "3g": SAME})
        record["kind"] = f"arm {number % 40} GiB"
        record["builds"][0]["why"] = f"{number} MiB are out of reach"
        found.add(record)
    console = Console(width=80, file=io.StringIO(), color_system=None)
    for part in advised_fleet_renderables(found, [f"b{n}" for n in range(100)]):
        console.print(part)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) < 60
    assert max(map(len, lines)) <= 80
    assert any("666 gain · 334 lose" in line for line in lines)


@pytest.mark.slow
def test_processes_and_workers_find_the_same(
    boards: Path, asked: Any, swept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = asked.stdout
    loops, cache = Path("hmtrace", "loops"), workloads.cache_home()
    shutil.copytree(store.cache_home() / loops, cache / loops)  # else they are compiled anew
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    assert run("advise", boards, "--format", "json", "--jobs", 2, code=3).stdout == here
    with dask_in(tmp_path) as dask:
        dask.worker()
        found = run("advise", boards, "--format", "json", "--cluster", dask.file, code=3)
        assert found.stdout == here
        found = run("sweep", boards, *AXES, "--format", "json", "--cluster", dask.file, code=3)
        assert found.stdout == swept


def test_a_sweep_of_a_fleet(boards: Path, swept: str, tmp_path: Path) -> None:
    table = tmp_path / "rows.parquet"
    document = json.loads(swept)
    page = run("sweep", boards, *AXES, "-o", table, code=3).stdout
    assert len(document["captures"]) == BOARDS - 1
    assert len(document["unreadable"]) == 1
    assert len(document["machines"]) + len(document["left_out"]) == 2 * (BOARDS - 1)
    rows = pl.read_parquet(table)
    assert rows.height == len(document["machines"])
    assert max(map(len, page.splitlines())) <= 80
    assert "8 captures of 3 kinds of machine" in page
    one = json.loads(run("sweep", boards / "board-00.workload", *AXES, "--format", "json").stdout)
    of_first = [m for m in document["machines"] if m["capture"].endswith("board-00.workload")]
    assert of_first == one["machines"]


@pytest.mark.usefixtures("known")
def test_a_bug_costs_one_capture(boards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fleet._ASKED["advise"]

    def buggy(path: str, options: dict[str, Any]) -> dict[str, Any]:
        if path.endswith("board-03.workload"):
            raise ZeroDivisionError("\x1b[2J")
        return real(path, options)

    monkeypatch.setitem(fleet._ASKED, "advise", buggy)
    result = run("advise", boards, "--format", "json", code=BUG)
    assert "bug in hmtrace" in result.stderr
    assert "\x1b" not in result.stderr
    assert len(json.loads(result.stdout)["captures"]) == BOARDS - 2


def test_what_is_wrong_with_the_question_ends_all(boards: Path, tmp_path: Path) -> None:
    costs = tmp_path / "costs.toml"
    costs.write_text("no = such\n")
    result = CliRunner().invoke(app, ["advise", str(boards), "--costs", str(costs)])
    assert isinstance(result.exception, HmtraceError)
    assert result.exception.exit_code == 2


def test_none_that_can_be_read_is_an_error(tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / f"b{number}.workload").write_bytes(b"hmtrace-workload 1\n")
    result = CliRunner().invoke(app, ["advise", str(tmp_path)])
    assert isinstance(result.exception, HmtraceError)
    assert result.exception.exit_code == 3


def test_a_process_that_ends_costs_one_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that is no JSON ends the process that reads it, twice; the others are answered."""
    bad = FleetQuestion("advise", {})
    monkeypatch.setattr(FleetQuestion, "of", lambda _, path: path)
    paths = ["not JSON", json.dumps({"form": "old"})]
    crew = fleet._Processes(2)
    try:
        answers = dict(crew.ask([bad.of(path) for path in paths]))
    finally:
        crew.end()
    assert "ended, 2 times" in json.loads(answers[0])["error"]
    assert json.loads(answers[1])["code"] == 2


def test_jobs_and_cluster_exclude_each_other() -> None:
    with pytest.raises(HmtraceError, match="exclude each other"):
        gather(["a"], FleetQuestion("advise", {}), Asking(2, "tcp://localhost:1"))


def test_an_unknown_capture_is_told_in_the_answer() -> None:
    told = json.loads(answer(FleetQuestion("advise", {}).of("/nowhere")))
    assert told["code"] == 3
    assert "/nowhere" in told["error"]


def _record(standing: dict[str, int], arch: str = "arm") -> dict[str, Any]:
    return {
        "path": "b", "arch": arch, "kind": arch, "now": "3g", "choice": "2g", "evidence": "good",
        "builds": [
            {"key": [name], "name": name, "standing": of, "why": "40 MiB are out of reach",
             "highmem": 0, "tiny": False, "user": 2 << 30}
            for name, of in standing.items()
        ],
    }  # fmt: skip


def test_one_of_many_does_not_decide_for_all() -> None:
    """2g gains 50 and loses 1, 3g_opt is doubted for all, by 3g nobody loses: 2g is best."""
    found = AdvisedFleet()
    for number in range(51):
        found.add(_record({"2g": GAINS if number else LOSES, "3g_opt": DOUBTED, "3g": SAME}))
    (best,) = found.document()
    assert (best["build"], best["gain"], best["lose"]) == ("2g", 50, 1)
    found = AdvisedFleet()
    for number in range(3):
        found.add(_record({"2g": LOSES if number else GAINS, "3g": SAME}))
    (best,) = found.document()
    assert best["build"] == "3g"


def test_who_cannot_have_a_build_loses_by_it() -> None:
    found = AdvisedFleet()
    found.add(_record({"2g": GAINS}))
    found.add(_record({"3g": GAINS}))
    assert {one["lose"] for one in found.document()} == {1}
