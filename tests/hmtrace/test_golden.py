"""Reports as they look, character by character; golden/README.md says how to renew the files."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from collectors.capture import Lost
from collectors.snapshot import Snapshot
from hmtrace.cli.output import Color, make_console
from hmtrace.report.machine import layout_renderables
from hmtrace.report.sidebyside import replay_renderables
from hmtrace.report.terminal import report_renderables
from hmtrace.report.text import unglued
from hmtrace.report.validation import Checked, validation_table
from replay.machine.layout import Check
from replay.machine.options import with_options
from replay.rules.judge import findings

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from rich.console import RenderableType

GOLDEN = Path(__file__).parent / "golden"
RENEW = os.environ.get("HMTRACE_RENEW_GOLDEN") == "1"

ENTRY = {
    "kmap": {"total": 24271, "exact": 24271},
    "kmap_local": {"total": 16388, "exact": 16388},
    "vmap": {"total": 0, "exact": 0},
    "pool_flushes": {"observed": 10, "predicted": 10, "matched": 10},
    "waits": {"observed": 0, "predicted": 0},
    "first_divergence": None,
    "inferred": {"initial_state": 1, "ordering": 508},
}
DIVERGED = ENTRY | {
    "kmap": {"total": 100_000, "exact": 99_999},
    "waits": {"observed": 3, "predicted": 2},
    "first_divergence": {
        "seq": 1234,
        "ts": 77_123_456_789,
        "cpu": 1,
        "pid": 77,
        "comm": "perl",
        "op": "kmap",
        "predicted": 0xFF001000,
        "observed": 0xFF002000,
        "state": {"last": 511, "used": 12},
    },
}


def rendered(renderables: Iterable[RenderableType], width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None, highlight=False)
    with console.capture() as captured:
        for renderable in renderables:
            console.print(renderable)
    return re.sub(r" +$", "", unglued(captured.get()), flags=re.MULTILINE)


def validation() -> Iterable[RenderableType]:
    checks = (
        Check("lowmem_end_pfn", 0x36FFE, 0x36FFE, "zoneinfo", ok=True),
        Check("vmalloc_start", 0xF77FE000, 0xF7800000, "pkmap.start, line 2", ok=False),
    )
    return validation_table(
        [
            Checked("captures/board-7", ENTRY, checks[:1]),
            Checked(
                "captures/a-rather-long-name-of-a-folder-of-captures/board-8",
                DIVERGED,
                checks,
                "LOST: 12 events on CPU 0 in 1 interval",
            ),
            Checked("nothing.txt", None, error="nothing.txt: no trace"),
        ]
    )


CASES = (
    "busy",
    "brief",
    "observed",
    "lost",
    "quiet",
    "replay",
    "validate",
    "layout-i386",
    "layout-arm",
    "layout-mips32",
)


@pytest.fixture
def picture(outcomes: ModuleType, request: pytest.FixtureRequest) -> Iterable[RenderableType]:
    name = request.param
    source = outcomes.source_of
    if name == "busy":
        outcome = outcomes.busy_outcome()
        found = findings(outcome, Snapshot(ram=outcome.machine.ram), Lost())
        return report_renderables(source(), outcomes.busy_outcome(findings=found), detail="all")
    if name == "brief":
        return report_renderables(source(), outcomes.busy_outcome(), detail="brief")
    if name == "observed":
        return report_renderables(source(), outcomes.busy_outcome(observed=outcomes.observed()))
    if name == "lost":
        return report_renderables(source(lost=True), outcomes.busy_outcome())
    if name == "quiet":
        return report_renderables(source(), outcomes.quiet_outcome())
    if name == "replay":
        other = with_options(outcomes.machine(), vmalloc=512 << 20)
        calmer = outcomes.busy_outcome().pool.__class__(slots=512, maps=50_000, flushes=90)
        return replay_renderables(
            source(),
            outcomes.busy_outcome(),
            outcomes.busy_outcome(machine=other, pool=calmer, bound="least"),
            ("no file says how many CPUs there are",),
        )
    if name == "validate":
        return validation()
    arch = name.removeprefix("layout-")
    ram = ((0x4000_0000, 0xC000_0000),) if arch == "arm" else outcomes.RAM_1G
    split = "2g" if arch == "mips32" else "3g"
    machine = outcomes.machine(arch=arch, split=split, pae=False, ram=ram, nr_cpus=8)
    return layout_renderables(machine, outcomes.layout_of(machine))


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(("picture", "name"), [(n, n) for n in CASES], indirect=["picture"])
def test_reports_look_as_they_should(
    picture: Iterable[RenderableType], name: str, width: int
) -> None:
    text = rendered(picture, width)
    assert max(map(len, text.splitlines())) <= width
    file = GOLDEN / f"{name}-{width}.txt"
    if RENEW:
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("picture", ["busy"], indirect=True)
def test_colour_adds_only_escape_sequences(
    picture: Iterable[RenderableType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    renderables = list(picture)
    console = make_console(io.StringIO(), Color.ALWAYS)
    with console.capture() as captured:
        for renderable in renderables:
            console.print(renderable)
    coloured = captured.get()
    assert "\x1b[" in coloured
    plain = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    plain = re.sub(r" +$", "", unglued(plain), flags=re.MULTILINE)
    assert plain == rendered(renderables, 80)


@pytest.mark.parametrize("color", Color)
def test_what_a_trace_says_is_shown_as_it_is(color: Color) -> None:
    file = io.StringIO()
    make_console(file, color).print("task :fire: in [bold]x[/]", "and 12")
    assert file.getvalue() == "task :fire: in [bold]x[/] and 12\n"


def test_what_the_arena_left_open_is_no_error_and_an_error_is_one() -> None:
    """85.71 % of 7 addresses says nothing of the seventh."""
    for arena, words in (
        ({"ambiguous": 1, "ambiguous_right": 1, "wrong": 0}, "1 (guessed right: 1) · certain"),
        ({"ambiguous": 0, "ambiguous_right": 0, "wrong": 3}, "certain and wrong: 3"),
        ({"ambiguous": 0, "ambiguous_right": 0, "wrong": 0}, None),
        (None, None),
    ):
        entry = ENTRY | {"vmap": {"total": 7, "exact": 6}, "arena": arena}
        text = rendered(validation_table([Checked("a", entry)]), 80)
        assert ("vmap left open by the files" in text) is (words is not None)
        assert words is None or words in text
