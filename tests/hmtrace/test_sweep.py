"""`sweep`: what `replay` says of each machine, on one page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from hmtrace.cli import app, jobs
from hmtrace.cli.journal import NAME
from hmtrace.report.searching import AskedFigure
from hmtrace.report.sweep import figure_in_words
from replay.whatif.figures import FIGURES
from replay.whatif.run import Server
from replay.whatif.sweep import SweptMachine
from tests.hmtrace.sweeps import journalled, run

FIXTURES = Path(__file__).parents[2] / "fixtures"
WAITERS = FIXTURES / "i386-hog-a-waiters-pae-smp2"
FAILING = FIXTURES / "i386-hog-e-vmapfail-pae-smp1"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Machines that were served."""
    machines: list[Any] = []
    real = Server.on

    def on(server: Server, target: Any, **how: Any) -> Any:
        machines.append(target)
        return real(server, target, **how)

    monkeypatch.setattr(Server, "on", on)
    return machines


PKMAPS = {"64", "51", "10"}
"""How the rows of three pools begin."""


def document(*words: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*words, "--format", "json"))
    return found


def figures_of(outcome: dict[str, Any]) -> dict[str, Any]:
    """Some figures of a document of `replay`, by the names of a sweep."""
    return {
        "lowmem": outcome["machine"]["lowmem_bytes"],
        "highmem": outcome["machine"]["highmem_bytes"],
        "kmap": outcome["pool"]["maps"],
        "pool_flushes": outcome["pool"]["flushes"],
        "waits": outcome["pool"]["waits"],
        "wait_ns": outcome["pool"]["wait_ns"],
        "local": outcome["local"]["maps"],
        "vmalloc": outcome["arena"]["size"],
        "failures": outcome["arena"]["failures"],
        "purges": outcome["arena"]["lazy_purges"],
        "largest_hole": outcome["arena"]["largest_hole_min"],
        "ipis": outcome["tlb"]["ipis"],
        "cost_ns": outcome["cost"]["total_ns"],
    }


@pytest.mark.parametrize(
    ("capture", "axes"),
    [
        (WAITERS, {"split": ("3g", "2g"), "pkmap": ("256", "512", "1024"), "cpus": ("1", "2")}),
        (FAILING, {"vmalloc": ("128M", "192M"), "ram": ("1G", "2G"), "kernel": ("5.10", "6.1")}),
    ],
)
def test_each_machine_is_what_replay_says(capture: Path, axes: dict[str, tuple[str, ...]]) -> None:
    """The shared parts are those of each machine alone."""
    given = [w for name, words in axes.items() for w in ("--axis", f"{name}={','.join(words)}")]
    found = document("sweep", capture, *given)
    assert found["axes"] == {name: list(words) for name, words in axes.items()}
    assert found["left_out"] == []
    number = 1
    for words in axes.values():
        number *= len(words)
    assert len(found["machines"]) == number
    for row in found["machines"]:
        options = [word for name in axes for word in (f"--{name}", row[name])]
        alone = document("replay", capture, *options)
        expected = figures_of(alone)
        assert {name: row["figures"][name] for name in expected} == expected
        assert row["bound"] == alone["bound"]
        assert row["caveats"] == alone["caveats"]
        assert row["figures"].keys() == FIGURES.keys()
    assert sum(row["is_captured"] for row in found["machines"]) == ("split" in axes)


def test_what_no_kernel_can_have_is_left_out_and_counted() -> None:
    axes = "--axis", "split=3g,3g_opt", "--axis", "ram=1G,8G", "--axis", "pae=yes,no"
    found = document("sweep", WAITERS, *axes)
    assert len(found["machines"]) == 4
    reasons = {(o["split"], o["ram"], o["pae"]): o["reason"] for o in found["left_out"]}
    assert reasons["3g_opt", "1G", "yes"] == "the split 3g_opt does not exist with PAE"
    assert "need" in reasons["3g", "8G", "no"]
    assert len(reasons) == 4
    text = run("sweep", WAITERS, *axes)
    assert "4 machines, least cost_ns first" in text
    assert "4 combinations left out" in text
    assert "2 ×" in text
    assert "--axis pae" not in text, "it is an axis"


def test_splits_that_only_kernels_without_pae_have_say_how_to_look_at_those() -> None:
    text = run("sweep", WAITERS, "--axis", "split=3g,3g_opt,2g_opt")
    assert " 3g_opt, 2g_opt without PAE: --axis pae=on,off\n" in text
    text = run("sweep", WAITERS, "--axis", "split=3g,2g", "--axis", "vmalloc=4000M")
    assert "2 combinations left out" in text
    assert "--axis pae" not in text


def test_the_best_is_first_and_conditions_leave_out() -> None:
    axes = "--axis", "pkmap=128..1024*2"
    found = [m["figures"] for m in document("sweep", WAITERS, *axes, "--by", "waits")["machines"]]
    assert found == sorted(found, key=lambda figures: (figures["asleep"], figures["waits"]))
    assert found[-1]["asleep"] == 9
    holes = [
        m["figures"]["largest_hole"]
        for m in document(
            "sweep", FAILING, "--axis", "vmalloc=64M..256M*2", "--by", "largest_hole"
        )["machines"]
    ]
    assert holes == sorted(holes, reverse=True)
    kept = document("sweep", WAITERS, *axes, "--where", "waits=0")["machines"]
    assert [m["pkmap"] for m in kept] == ["1024"]
    assert "3 machines do not meet --where" in run("sweep", WAITERS, *axes, "--where", "waits=0")


def test_where_nothing_is_left_that_is_said() -> None:
    axes = "--axis", "pkmap=128..512*2", "--where", "waits=0"
    assert "3 machines do not meet --where" in run("sweep", WAITERS, *axes)
    assert "1 machine does not meet --where" in run(
        "sweep", WAITERS, "--axis", "pkmap=512", *axes[2:]
    )


def test_ram_that_is_not_used_is_told_and_no_gain() -> None:
    """1 GiB of ARM: 768 MiB lowmem of 3g, all of it of 3g_opt; both have nothing to map."""
    arm = FIXTURES / "arm-61-1g-minix"
    axes = "--axis", "split=3g,3g_opt,2g_opt", "--axis", "highmem=on,off"
    found = [
        (m["split"], m["highmem"], m["figures"]["unused"] >> 20)
        for m in document("sweep", arm, *axes)["machines"]
    ]
    assert found == [
        ("3g_opt", "on", 0), ("3g_opt", "off", 0), ("2g_opt", "on", 0), ("2g_opt", "off", 0),
        ("3g", "off", 256), ("3g", "on", 0),
    ]  # fmt: skip
    text = " ".join(run("sweep", arm, *axes).split())
    assert "unused: RAM that a kernel without HIGHMEM does not reach" in text
    assert "the split 2g_opt is proposed on linux-mm in December 2025" in text
    kept = document("sweep", arm, *axes, "--where", "unused=0")["machines"]
    assert len(kept) == 5
    assert "unused" not in run("sweep", arm, *axes[:2])


def test_what_kasan_changes_besides_the_layout_is_said(tmp_path: Path) -> None:
    file = tmp_path / "kasan.toml"
    file.write_text('config = ["+KASAN"]\n')
    axes = FIXTURES / "arm-61-1g-minix", "--axis", "split=3g", "--axis", f"machine={file}"
    (machine,) = document("sweep", *axes)["machines"]
    assert machine["figures"]["user"] == 0xB6E00000
    assert any("thread stacks of twice the size" in caveat for caveat in machine["caveats"])


def test_purges_that_another_architecture_would_not_make_are_said() -> None:
    axes = FIXTURES / "i386-minix-pae-smp2", "--axis", "machine=gr740-256m,pc-4g-pae"
    there = {m["machine"]: " ".join(m["caveats"]) for m in document("sweep", *axes)["machines"]}
    assert "for which sparc32 makes none: they are replayed all the same" in there["gr740-256m"]
    assert "replayed all the same" not in there["pc-4g-pae"]


def test_a_pool_that_begins_empty_is_told_of_the_captured_machine_too() -> None:
    text = run("sweep", FIXTURES / "i386-510rt-minix-pae-smp2", "--axis", "split=3g,2g")
    told = "the captured one too, of which hmtrace report counts 1 flush"
    assert told in " ".join(text.split())
    known = run("sweep", FIXTURES / "i386-minix-pae-smp2", "--axis", "split=3g,2g")
    assert "begins empty" not in known


def test_a_deadlock_is_no_saving() -> None:
    """What tasks that sleep for ever would have done is missing, so it costs less."""
    text = run("sweep", WAITERS, "--axis", "pkmap=64,512,1024")
    first, captured, stuck = [line.split() for line in text.splitlines() if line[1:3] in PKMAPS]
    assert (first[0], first[-1]) == ("1024", "less?")
    assert (captured[:2], captured[-1]) == (["512", "*"], "same")
    assert (stuck[0], stuck[-1]) == ("64", "stuck")
    answer = run("replay", WAITERS, "--pkmap", "64")
    assert "not the same work: 9 tasks more sleep for ever there" in answer
    assert "cheaper" not in answer


def test_columns_that_find_no_room_are_named() -> None:
    axes = ("--axis", "split=3g,2g", "--axis", "pkmap=64,512", "--axis", "ram=1G,2G")
    narrow, wide = (run("sweep", WAITERS, *axes, columns=n).splitlines() for n in (80, 140))
    (said,) = [line for line in narrow if "no room for" in line]
    at, at_wide = (
        next(n for n, line in enumerate(page) if line.startswith(" split"))
        for page in (narrow, wide)
    )
    left_out = said.split("no room for: ")[1].split(" (")[0].split(", ")
    assert sorted(narrow[at].split() + left_out) == sorted(wide[at_wide].split())
    assert not any("…" in line for line in narrow[at : at + 9])
    assert not any("no room for" in line for line in wide)


def test_a_map_of_two_axes() -> None:
    text = run(
        "sweep", WAITERS, "--axis", "split=3g,2g,3g_opt", "--axis", "ram=1G,2G", "--by", "kmap"
    )
    part = text.partition("kmap over split and ram")[2].partition("left out")[0].split("\n")
    assert part[1].split() == ["split", "1G", "2G"]
    assert [line.split() for line in part[2:5]] == [
        ["3g", "520", "520"], ["2g", "·", "≤", "520"], ["3g_opt", "n/a", "n/a"],
    ]  # fmt: skip
    assert max(map(len, text.split("\n"))) <= 80


@pytest.fixture
def helped(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Processes that a sweep begins, though its work be little; it waits until one is ready."""
    begun: list[Any] = []

    def begin(crew: Any, left: float) -> None:
        if begun:
            return
        begun.append(jobs._Helper(crew._said))
        crew._helpers.append(begun[0])
        helper, line = crew._said.get()
        helper.is_ready = line == "ready\n"

    monkeypatch.setattr(jobs.Processes, "_begin", begin)
    return begun


GRID = ("--axis", "pkmap=64..1024*2", "--axis", "cpus=1,2,4", "--axis", "split=3g,2g")


def test_processes_find_the_same(shelf: Path, helped: list[Any], served: list[Any]) -> None:
    document("replay", WAITERS)
    del served[:]
    several = document("sweep", WAITERS, *GRID, "--jobs", "2")
    assert len(helped) == 1
    assert 0 < len(served) < 30, "both have served"
    assert len(several["machines"]) == len(set(journalled(shelf))) == 30
    assert helped[0]._process.returncode is not None
    shutil.rmtree(shelf)
    assert document("sweep", WAITERS, *GRID) == several


@pytest.mark.parametrize("how", ["killed", "mad"])
def test_a_process_that_ends_midway_loses_nothing(
    how: str, shelf: Path, helped: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was given, and has not served, is served here, and once."""
    here = document("sweep", WAITERS, *GRID)
    (folder,) = shelf.iterdir()
    (folder / NAME).unlink()
    given = []

    def give(helper: Any, work: Any, part: Any) -> None:
        given.extend(part)
        helper.parts.append(part)
        if how == "killed":
            helper._process.kill()
        else:
            helper._process.stdin.write("what?\n")
            helper._process.stdin.flush()

    monkeypatch.setattr(jobs._Helper, "give", give)
    assert document("sweep", WAITERS, *GRID, "--jobs", "2") == here
    assert given
    keys = journalled(shelf)
    assert len(keys) == len(set(keys)) == 30


def test_little_work_begins_no_process(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_Helper", pytest.fail)
    monkeypatch.setattr(jobs, "PAYS", 1e9)
    assert len(document("sweep", WAITERS, *GRID, "--jobs", "4")["machines"]) == 30


def test_as_many_processes_as_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Any] = []
    monkeypatch.setattr(jobs, "_Helper", begun.append)
    crew = jobs.Processes(4)
    for seconds, number in ((1.9, 1), (2.1, 2), (5.0, 3), (1.0, 3), (1e9, 4)):
        crew._begin(seconds)
        assert 1 + len(begun) == number
    assert crew.words == "4 processes"


def test_what_was_served_is_not_served_again(shelf: Path, served: list[Any]) -> None:
    first = document("sweep", WAITERS, "--axis", "pkmap=64,128,256")
    assert len(served) == 3
    more = document("sweep", WAITERS, "--axis", "pkmap=64,128,256,512")
    assert len(served) == 4
    assert [m for m in more["machines"] if m["pkmap"] != "512"] == first["machines"]
    document("sweep", WAITERS, "--axis", "pkmap=64,128,256,512", "--timing", "fixed")
    assert len(served) == 8
    (folder,) = shelf.iterdir()
    path = folder / NAME
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(
        b"\n".join([b"", lines[1][:-9], b"\xff{", *lines[2:]])[:-40]
    )  # two are damaged
    del served[:]
    assert document("sweep", WAITERS, "--axis", "pkmap=64,128,256,512") == more
    assert len(served) == 1
    document("sweep", WAITERS, "--axis", "pkmap=64,128,256,512")
    assert len(served) == 1


def test_a_journal_that_cannot_be_written(
    shelf: Path, served: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    document("replay", WAITERS)
    (folder,) = shelf.iterdir()
    (folder / NAME).mkdir()
    del served[:]
    found = document("sweep", WAITERS, "--axis", "pkmap=64,128")
    assert len(served) == 2
    assert len(found["machines"]) == 2


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_rows_for_other_programs(ending: str, tmp_path: Path) -> None:
    target = tmp_path / f"sweep.{ending}"
    text = run("sweep", WAITERS, "--axis", "split=3g,2g", "-o", target)
    assert "least cost_ns first" in text
    frame = pl.read_csv(target) if ending == "csv" else pl.read_parquet(target)
    rows = document("sweep", WAITERS, "--axis", "split=3g,2g")["machines"]
    assert frame["axis_split"].to_list() == [row["split"] for row in rows]
    for name, figure in FIGURES.items():
        assert frame[name].to_list() == [row["figures"][name] for row in rows]
        assert frame[name].dtype.is_integer() is figure.is_whole or frame[name].null_count()
    run("sweep", WAITERS, "--axis", "split=3g,2g", "-o", target, code=1)  # it is there


def test_of_several_captures_a_damaged_one_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "trace.dat"
    bad.write_bytes(b"\x17\x08\x44tracing6\x00" + b"\x00" * 40)
    result = CliRunner().invoke(
        app, ["sweep", str(WAITERS), str(bad), "--axis", "split=3g,2g", "--format", "json"]
    )
    assert result.exit_code == 3
    assert str(bad) in result.stderr
    assert {m["capture"] for m in json.loads(result.stdout)["machines"]} == {str(WAITERS)}


def test_the_least_arena_that_suffices() -> None:
    found = document("sweep", FAILING, "--find", "min:vmalloc", "--where", "failures=0",
                     "--axis", "vmalloc=120M..140M")  # fmt: skip
    (answer,) = found["answers"]
    value = answer["value"] >> 20
    assert answer["beside"] == answer["value"] - (1 << 20)
    assert answer["at"]["figures"]["failures"] == 0
    assert answer["at_beside"]["figures"]["failures"] > 0
    for size in range(120, 141, 4):
        alone = document("replay", FAILING, "--vmalloc", f"{size}M")
        assert (alone["arena"]["failures"] == 0) is (size >= value)
    text = run("sweep", FAILING, "--find", "min:vmalloc", "--where", "failures=0")
    assert f"{value}M is the least vmalloc with failures=0" in text
    assert "← at least" in text  # how long what failed would be in use, no trace tells


def test_a_search_for_each_of_the_others() -> None:
    found = document("sweep", WAITERS, "--find", "min:pkmap", "--where", "waits=0",
                     "--axis", "cpus=1,2")  # fmt: skip
    assert [(a["cpus"], a["value"], a["beside"]) for a in found["answers"]] == [
        ("1", 1024, 512), ("2", 1024, 512),
    ]  # fmt: skip
    none = document("sweep", WAITERS, "--find", "max:pkmap", "--where", "kmap=1")
    assert none["answers"][0]["value"] is None
    assert "no pkmap that was tried gives kmap=1" in run(
        "sweep", WAITERS, "--find", "max:pkmap", "--where", "kmap=1"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "nothing to sweep over"),
        (["--axis", "ram=1G..2G"], "range without steps"),
        (["--find", "min:vmalloc"], "--find needs --where"),
        (["--axis", "split=3g", "--by", "speed"], "no figure"),
        (["--axis", "split=3g", "--machine", "nowhere.toml"], "nowhere.toml"),
        (["--axis", "cpus=1..1000+1", "--axis", "pkmap=16..4096+4"], "more than 100000"),
    ],
)
def test_wrong_usage(words: list[str], told: str) -> None:
    result = CliRunner().invoke(app, ["sweep", str(WAITERS), *words])
    error = result.exception
    assert error is not None
    assert getattr(error, "exit_code", None) == 2
    assert told in str(error) + str(getattr(error, "hint", "")) + str(getattr(error, "source", ""))


def test_a_nothing_that_is_a_bound_is_marked() -> None:
    assert figure_in_words("failures", 0, None, apart=3) == "≈ 0"
    assert figure_in_words("kmap", 0, "least") == "≥ 0"
    assert figure_in_words("kmap", 0, "most") == figure_in_words("kmap", 0, None) == "·"


def test_conversions_that_are_wrong_are_named_and_come_last() -> None:
    """512 mappings of one task nest, of which it may have 15."""
    words = ("sweep", WAITERS, "--axis", "convert=kmap=kmap_local,none", "--axis", "pkmap=512")
    rows = document(*words)["machines"]
    assert [row["convert"] for row in rows] == ["none", "kmap=kmap_local"]
    assert [row["figures"]["local_wrong"] for row in rows] == [0, 512]
    text = run(*words)
    (line,) = (line for line in text.split("\n") if line.strip().startswith("kmap=kmap_local"))
    assert line.rstrip().endswith("wrong")
    assert "(BUG)" in text


def test_a_machine_with_lpae_is_not_the_captured_one() -> None:
    rows = document("sweep", FIXTURES / "arm-61-1g-minix", "--axis", "pae=yes,no")["machines"]
    assert {row["pae"]: row["is_captured"] for row in rows} == {"yes": False, "no": True}


def test_a_search_says_in_which_sense_its_value_holds() -> None:
    """The twin in whose arena nothing failed tells what the other one's search is a bound of."""
    words = ("--find", "min:vmalloc", "--where", "failures=0", "--axis", "vmalloc=120M..200M")
    found = {}
    for twin in ("128", "256"):
        told = document("sweep", FIXTURES / f"i386-twin-vmap-vmalloc{twin}", *words)
        (answer,) = told["answers"]
        found[twin] = answer["value"] >> 20, answer["value_sense"]
    assert found == {"128": (134, "least"), "256": (146, None)}


@pytest.mark.parametrize(
    ("sign", "value", "bound", "may_fail", "may_hold"),
    [
        ("=", 0, "least", True, True),
        ("=", 5, "least", True, False),
        ("=", 5, "most", True, True),
        ("<=", 10, "least", True, True),
        ("<=", 10, "most", False, True),
        ("<=", 11, "most", True, True),
        (">", 10, "most", True, False),
        (">=", 10, "least", False, True),
        (">=", 9, None, True, False),
    ],
)
def test_what_a_bound_leaves_open_of_a_condition(
    sign: str, value: int, bound: str | None, *, may_fail: bool, may_hold: bool
) -> None:
    number = 0 if sign == "=" else 10
    figures = dict.fromkeys(FIGURES, 0) | {"waits": value}
    machine = SweptMachine({}, dict(figures), bound, ())
    asked = AskedFigure("waits", sign, number, "")
    assert asked.may_be(machine, met=False) is may_fail
    assert asked.may_be(machine, met=True) is may_hold
