"""Folded stacks: every line as flame graph programs read it, and sums that are the report's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from collectors.errors import HmtraceError
from hmtrace.cli import app
from hmtrace.export.folded import frame

FIXTURES = Path(__file__).parents[3] / "fixtures"
LEAK = FIXTURES / "cases" / "i386-leak100"
FAILS = FIXTURES / "i386-hog-e-vmapfail-pae-smp1"


def run(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(done.exception, HmtraceError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def stacks(text: str) -> dict[tuple[str, ...], int]:
    found = {}
    for line in text.splitlines():
        match = re.fullmatch(r"([^;]+(?:;[^;]+)*) (\d+)", line)
        assert match, line
        found[tuple(match[1].split(";"))] = int(match[2])
    return found


def sites(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("sites", "--format", "json", path))["sites"]
    return found


@pytest.mark.parametrize("path", [LEAK, FAILS])
def test_counts_and_costs_are_those_of_the_sites(path: Path) -> None:
    known = sites(path)
    counted = stacks(run("sites", "--format", "folded", path))
    assert sum(counted.values()) == sum(site["count"] for site in known)
    assert {stack[-1] for stack in counted} == {site["api"] for site in known}
    dear = stacks(run("sites", "--format", "folded", "--by", "cost", path))
    total = sum(site["cost_ns"] for site in known)
    assert sum(dear.values()) == pytest.approx(total, abs=len(known))


def test_times_held_are_at_least_the_longest_and_at_most_all_of_it() -> None:
    held = stacks(run("sites", "--format", "folded", "--by", "hold", LEAK))
    known = [site for site in sites(LEAK) if site["held_ns"]]
    assert held
    longest = sum(site["held_ns"]["max"] for site in known)
    most = sum(site["held_ns"]["max"] * site["count"] for site in known)
    assert longest <= sum(held.values()) <= most


def test_of_several_captures_the_name_is_the_outermost_frame() -> None:
    found = stacks(run("sites", "--format", "folded", LEAK, FAILS))
    assert {stack[0] for stack in found} == {str(LEAK), str(FAILS)}
    alone = stacks(run("sites", "--format", "folded", FAILS))
    assert {s[1:]: n for s, n in found.items() if s[0] == str(FAILS)} == alone


def test_by_is_for_folded_stacks_alone() -> None:
    with pytest.raises(HmtraceError, match="--by is for --format folded") as caught:
        run("sites", "--by", "hold", LEAK)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["a;b", "a\nb 7", "\x1b[2J", ""])
def test_a_frame_is_one_frame(text: str) -> None:
    assert stacks(f"{frame(text)};leaf 1\n") == {(frame(text), "leaf"): 1}
