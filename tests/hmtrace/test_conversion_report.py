"""`--convert`, `--highmem-size` and `--highpte` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from hmtrace.cli import app
from hmtrace.report.conversion import conversion_document, conversion_section, verdict
from replay.whatif.convert import Conversion, ConvertedSite, FirstCase

FIXTURES = Path(__file__).parents[2] / "fixtures"
CLEAN = ConvertedSite(
    "driver_read+0x1c/0x90 [driver]", 7, 7, 2, (5, 2), 0, 0, 0, 0, 0, 0, 0, 0, 0, {}
)
FIRST = FirstCase(1_500_000_000, 42)


def changed(**figures: int) -> ConvertedSite:
    firsts = dict.fromkeys(("handed", "misordered", "at_end", "depths"), FIRST)
    return ConvertedSite(**{**vars(CLEAN), "firsts": firsts, **figures})


def told(*sites: ConvertedSite, sees_switches: bool = True) -> str:
    found = Conversion("kmap=kmap_local", sites, 20, 0, 0, 0, 0, sees_switches)
    console = Console(width=80, record=True, file=open("/dev/null", "w"), color_system=None)  # noqa: SIM115, PTH123
    for part in conversion_section(found, 15):
        console.print(part)
    return console.export_text()


@pytest.mark.parametrize(
    ("site", "word", "line"),
    [
        (CLEAN, "fits", "unmapped by their own task, the newest first, depth at most 2 of 15"),
        (changed(handed=3), "wrong", "3 unmapped by another task than the one that mapped"),
        (changed(misordered=1), "wrong", "1 not the newest mapping of their task"),
        (changed(depths=(1,) * 17, max_depth=17), "wrong", "2 deeper than the 15 local mappings"),
        (changed(at_end=2), "open", "2 held when the trace ended"),
        (changed(switched=4, switches=9, slept=1), "costs", "4 held while their task lost its CPU"),
        (changed(at_end=2, never_served=2), "fits", "unmapped by their own task"),
    ],
)
def test_what_is_said_of_a_site(site: ConvertedSite, word: str, line: str) -> None:
    assert verdict(site, 15) == word
    text = " ".join(told(site).split())
    assert line in text
    assert f"driver_read+0x1c [driver]: {line}" in text
    assert max(map(len, told(site).splitlines())) <= 80
    if word == "wrong":
        assert "pid 42, 1.500000" in text


def test_without_switches_what_is_held_over_them_is_a_bound() -> None:
    assert "≥ 5" in told(changed(away=5), sees_switches=False)
    assert "nothing to convert" in told()


def test_the_document_has_all_of_it() -> None:
    found = Conversion(
        "kmap=kmap_local", (changed(handed=3), CLEAN), 20, 1, 2, 3, 0, sees_switches=True
    )
    document = conversion_document(found, 15)
    assert (document["kmaps"], document["vanished_sleeps"], document["limit"]) == (20, 1, 15)
    handed, clean = document["sites"]
    assert (handed["other_task"], handed["verdict"], clean["verdict"]) == (3, "wrong", "fits")
    assert handed["first"]["other_task"] == {"ts": 1_500_000_000, "pid": 42}
    assert clean["first"] == {"other_task": None, "out_of_order": None, "held_at_end": None}
    assert clean["depths"] == [5, 2]


def replayed(*words: str) -> dict:
    capture = str(FIXTURES / "i386-minix-pae-smp2")
    result = CliRunner().invoke(app, ["replay", "--format", "json", capture, *words])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_converted_site_in_the_document() -> None:
    document = replayed("--convert", "kmap=kmap_local@dir_get_page", "--no-highpte")
    (site,) = document["conversion"]["sites"]
    assert (site["calls"], site["unmapped"], site["verdict"]) == (7905, 7905, "costs")
    assert document["changed"]
    assert document["machine"]["converted"] == ["kmap=kmap_local@dir_get_page"]
    assert (document["pool"]["maps"], document["baseline"]["pool"]["maps"]) == (0, 7905)
    assert document["local"]["maps"] == 14256 - 6345 + 7905
    assert "conversion" not in replayed("--cpus", "1")


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (
            ["--convert", "kmap=kmap_local@dir_gte_page"],
            "'dir_gte_page' is no site of the trace that calls kmap()",
            "did you mean dir_get_page.isra.0+0x50 [minix]?",
        ),
        (["--convert", "kmap=vmap"], "'kmap=vmap' is no conversion", "kmap=kmap_local@SITE"),
        (["--convert", "kmap=kmap_local", "--kernel", "5.10"], "came with 5.11", "--kernel 6.1"),
        (["--highmem-size", "4G"], "larger than the RAM above lowmem", "143 MiB of 1023 MiB"),
        (["--no-highmem", "--highpte"], "without HIGHMEM has no HIGHPTE", "leave --highpte out"),
    ],
)
def test_questions_that_cannot_be_asked(words: list[str], error: str, hint: str) -> None:
    capture = str(FIXTURES / "i386-minix-pae-smp2")
    result = CliRunner().invoke(app, ["replay", capture, *words])
    raised = result.exception
    assert result.exit_code == 2 or getattr(raised, "exit_code", None) == 2
    text = result.output + str(raised) + str(getattr(raised, "hint", ""))
    assert error in text
    assert hint in text
