"""`advise`: which split to choose, and never what the evidence does not carry."""

from __future__ import annotations

import gzip
import json
import shutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from hmtrace.cli import advise, app
from replay.cost.verdict import CostVerdict
from replay.whatif.advise import LEAST_SHARE, _Found, _of_cost
from replay.whatif.reasons import Cost
from tests.replay import ooms

if TYPE_CHECKING:
    from collections.abc import Iterator

FIXTURES = Path(__file__).parents[2] / "fixtures"
BOARD = FIXTURES / "arm-61-1g-minix"
FAILING = FIXTURES / "i386-hog-e-vmapfail-pae-smp1"
TWO_GIB = FIXTURES / "i386-arena-pae-m2048-smp2"


@pytest.fixture(scope="module", autouse=True)
def _asked_once(shared_shelf: None) -> Iterator[None]:
    """A capture is distilled once and its advice found once, however often they are shown."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(advise, "_advised", cache(advise._advised))
        yield


@pytest.fixture
def board(tmp_path: Path) -> Path:
    folder = tmp_path / "board"
    shutil.copytree(BOARD, folder, ignore=shutil.ignore_patterns("report*", "trace.txt*"))
    return folder


@cache
def shown(*words: str, columns: str = "80") -> Any:
    """What a command shows. A test changes its captures before it asks: never after."""
    return CliRunner().invoke(app, list(words), env={"COLUMNS": columns})


def document(*words: object, code: int = 0) -> dict[str, Any]:
    result = shown(*map(str, words), "--format", "json")
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def advice(*captures: object) -> dict[str, Any]:
    found: dict[str, Any] = document("advise", *captures)["captures"][0]
    return found


def page(*captures: object) -> str:
    result = shown("advise", *map(str, captures))
    assert result.exit_code == 0, result.output
    found: str = result.stdout
    return found


def split(found: dict[str, Any], name: str, *, highmem: bool) -> dict[str, Any]:
    """Of those with PAE and without the one with it."""
    fit = (s for s in found["splits"] if (s["split"], s["highmem_enabled"]) == (name, highmem))
    return max(fit, key=lambda s: s["pae"])


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
    """Of 800 MiB a split of 3g leaves 32 MiB of highmem, which run out first.

    The arena, of which little is used, can do without them.
    """
    (board / "iomem").write_text("40000000-71ffffff : System RAM\n")
    for name in ("zoneinfo", "meminfo", "dmesg.gz", "dmesg.end.gz"):
        (board / name).unlink(missing_ok=True)
    found = advice(board)
    now = next(one for one in found["splits"] if one["is_now"])
    assert 0 < now["highmem"] < 64 << 20
    assert "runs out first" in told(now)
    choice = found["choice"]
    assert (choice["split"], choice["highmem"]) == ("3g", False)
    assert choice["vmalloc_option"] == 208 << 20
    chosen = split(found, "3g", highmem=False)
    assert (chosen["lost_ram"], chosen["lowmem"], chosen["vmalloc"]) == (0, 800 << 20, 208 << 20)
    assert "boots with vmalloc=208M" in " ".join(told(chosen).split())


def test_a_fleet_has_a_best_for_all(tmp_path: Path) -> None:
    """Of an architecture: 2g makes all of 1 GiB lowmem, and most of 2 GiB."""
    bad = tmp_path / "trace.dat"
    bad.write_bytes(b"\x17\x08\x44tracing6\x00" + b"\x00" * 40)
    captures = [str(path) for path in (BOARD, bad, FAILING, TWO_GIB)]
    result = CliRunner().invoke(app, ["advise", *captures])
    assert result.exit_code == 3
    assert str(bad) in result.stderr
    words = " ".join(result.stdout.split())
    assert "3 captures" in words
    assert "The best for all: 2g, HIGHMEM i386, 2 captures" in words
    assert "loses nobody" in words
    assert "gives up" not in words  # a kernel with HIGHMEM whose highmem is empty is as good
    (common,) = document("advise", *captures, code=3)["common"]
    assert (common["arch"], common["split"], common["highmem"], common["pae"]) == (
        "i386", "2g", True, True,
    )  # fmt: skip
    assert [(c["verdict"], c["loses"]) for c in common["captures"]] == [
        ("mind", False), ("maybe", False),
    ]  # fmt: skip


def test_who_is_doubted_and_gives_up_by_the_best_for_all() -> None:
    """A kernel without PAE for three PCs, one of which has none now."""
    paths = (FIXTURES / "i386-latfmt-minix-686-smp2-global", FAILING, TWO_GIB)
    words = " ".join(page(*paths).split())
    assert "The best for all: 2g_opt -PAE, no HIGHMEM i386, 3 captures" in words
    assert f"doubted {TWO_GIB.name}: PAE has to go, and with it no-execute pages" in words
    assert f"gives up {FAILING.name}: its own choice is 2g, no HIGHMEM" in words
    assert "boot vmalloc=108M or less where all RAM is to be reached" in words
    (common,) = document("advise", *paths)["common"]
    assert [c["doubted"] for c in common["captures"]] == [False, True, True]


def test_lowmem_that_was_short_is_a_reason(tmp_path: Path) -> None:
    """With the log of a machine that ran out of lowmem a split is chosen that has more of it."""
    folder = tmp_path / "short"
    shutil.copytree(TWO_GIB, folder)
    (folder / "dmesg.end").write_text(ooms.LAPTOP_49)
    found = advice(folder)
    assert (found["choice"]["split"], found["choice"]["highmem"]) == ("2g", True)
    assert found["choice"]["config"] == [
        "CONFIG_EXPERT=y", "CONFIG_VMSPLIT_2G=y", "CONFIG_HIGHMEM64G=y", "CONFIG_X86_PAE=y",
    ]  # fmt: skip
    words = " ".join(page(folder).split())
    assert "lowmem, which was short, grows from 879" in words
    assert "ran out 28757.7 s after boot updatedb asked for a block of order 0" in words


def test_ram_above_4_gib_goes_with_pae() -> None:
    found = advice(FIXTURES / "i386-minix-pae-smp2", "--machine", "pc-4g-pae")
    without = next(
        one for one in found["splits"]
        if one["without"] and (one["split"], one["highmem_enabled"]) == ("3g", True)
    )  # fmt: skip
    assert without["lost_ram"] >> 30 == 1
    assert "of RAM are out of reach" in told(without).replace("\u2800", " ")
    assert found["largest_process"] is None


def test_what_lowmem_pays_is_what_zoneinfo_says() -> None:
    """What the page allocator has of lowmem, page array and kernel taken off."""
    for name in ("arm-61-1g-minix", "i386-minix-pae-smp2", "mips32-61-minix"):
        found = advice(FIXTURES / name)
        now = next(one for one in found["splits"] if one["is_now"])
        zones = [zone for zone in found["lowmem"]["zones"] if zone["name"] != "HighMem"]
        managed = sum(zone["managed"] for zone in zones)
        assert abs(now["fixed"]["left"] - managed) <= 64 << 10, name


def test_the_largest_request_needs_a_hole() -> None:
    found = advice(BOARD)
    chosen = split(found, "3g_opt", highmem=False)
    assert chosen["largest_request"] == {"bytes": 12 << 10, "align": 16 << 10}
    assert chosen["largest_hole"] >> 20 == 227


def test_kasan_takes_an_eighth_of_lowmem(board: Path) -> None:
    config = gzip.decompress((board / "config.gz").read_bytes()).decode()
    (board / "config.gz").write_bytes(gzip.compress((config + "CONFIG_KASAN=y\n").encode()))
    found = advice(board)
    now = next(one for one in found["splits"] if one["is_now"])
    assert now["fixed"]["kasan"] == 96 << 20
    assert "KASAN's shadow 128" in " ".join(page(board).split())


@pytest.mark.parametrize("columns", ["80", "120"])
def test_a_page_has_room(columns: str) -> None:
    for path in (BOARD, TWO_GIB, FAILING, FIXTURES / "arm-612-percpu-lpae-smp2"):
        result = shown("advise", str(path), columns=columns)
        assert result.exit_code == 0
        assert max(map(len, result.stdout.split("\n"))) <= int(columns)
        assert "…" not in result.stdout.partition("Reasons")[0]
        assert ("hole" in result.stdout.partition("Reasons")[0]) is (columns == "120")


def test_configuration_lines_are_those_of_the_architecture() -> None:
    """A PowerPC has numbers instead of splits."""
    found = advice(BOARD, "--machine", "p2020rdb-1g")
    assert found["choice"]["config"] == [
        "CONFIG_ADVANCED_OPTIONS=y", "CONFIG_PAGE_OFFSET=0x80000000",
        "CONFIG_LOWMEM_SIZE=0x70000000", "CONFIG_TASK_SIZE=0x80000000", "CONFIG_HIGHMEM=n",
    ]  # fmt: skip


def test_room_for_a_process_that_has_little_is_a_reason(tmp_path: Path) -> None:
    """A board that was moved to 2g, whose largest process has all but filled its 2 GiB."""
    folder = tmp_path / "moved"
    shutil.copytree(BOARD, folder, ignore=shutil.ignore_patterns("report*", "trace.txt*"))
    (folder / "status.txt").write_text(of_process(2000))
    machine = tmp_path / "moved.toml"
    machine.write_text('split = "2g"\n')
    found = advice(folder, "--machine", machine)
    assert (found["choice"]["split"], found["choice"]["highmem"]) == ("3g_opt", False)
    assert "768 MiB more: 2800 MiB" in " ".join(told(split(found, "3g_opt", highmem=False)).split())


def test_report_tells_the_largest_request_as_well() -> None:
    result = CliRunner().invoke(app, ["report", str(FAILING), "--format", "json"])
    told = json.loads(result.stdout)["arena"]["largest_request"]
    assert {"bytes": told[0], "align": told[1]} == advice(FAILING)["splits"][0]["largest_request"]


def test_what_costs_next_to_nothing_is_no_reason() -> None:
    """A hundredth of a percent of the CPUs' time, and nothing else, builds no kernel."""
    verdict = CostVerdict(-950, -900, -800, None)
    for share, is_one in ((0.9 * LEAST_SHARE, False), (2 * LEAST_SHARE, True), (None, True)):
        found = _Found()
        _of_cost(Cost(1000.0, 100.0, share, verdict), found)
        assert bool(found.gains) is is_one
        assert not found.may
