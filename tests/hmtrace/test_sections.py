"""Every section that a terminal shows has its part of the JSON document, and says what that has."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hmtrace.cli import app

FIXTURES = Path(__file__).parents[2] / "fixtures"
WAITERS, FULL, ARM, REAL_TIME = (
    str(FIXTURES / name)
    for name in (
        "i386-hog-a-waiters-pae-smp2",
        "i386-510-hog-e-vmapfail-pae-smp1",
        "arm-61-1g-minix",
        "i386-510rt-minix-pae-smp2",
    )
)
RULED = re.compile(r"^(?P<title>\S.*?) ?─+$")
"""Title of a section, with what stands beside it."""

SECTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "report": {
        "Findings": ("findings",),
        "Pool": ("pool", "marks"),
        "Local stacks": ("local",),
        "Arena": ("arena",),
        "Purges": ("purges", "marks"),
        "Flushes and cost": ("tlb", "cost"),
        "Time in calls": ("durations",),
        "Slots over time": ("pool",),  # a picture of it
        "Hold times": ("holds",),
        "Times of calls": ("durations",),
        "Longest calls": ("longest", "marks"),
        "Calibration": ("calibration",),
        "TLB flushes of user space": ("user_flushes",),
        "Memory": ("lowmem",),
        "Call sites": ("sites",),
        "Call stacks": ("stacks",),
        "Address space": ("machine",),
        "RAM": ("machine.zones",),
        "Caveats": ("caveats",),
    },
    "replay": {
        "Captured and what if": ("baseline.pool", "pool", "baseline.cost", "cost", "cost_verdict"),
        "Conversion": ("conversion",),
        "Findings": ("findings",),
        "Purges": ("baseline.purges",),
        "Calibration": ("calibration",),
        "Caveats": ("caveats",),
    },
    "info": {
        "Machine": ("facts", "machine"),
        "Operations": ("events",),
        "Events in the trace": ("raw_events",),
        "What it can answer": ("answers",),
        "What it lacks for an exact replay": ("lacks",),
    },
    "validate": {"": ("captures.path", "captures.kmap", "captures.first_divergence")},
    "layout": {
        "Findings": ("findings",),
        "Address space": ("regions",),
        "RAM": ("memory",),
        "Kept free": ("memory",),
        "Limits": ("layout",),
    },
    "sweep": {
        r"\d+ machines": ("machines.figures",),
        "Caveats": ("machines.caveats", "captures.assumptions"),
        r"\d+ combinations? left out": ("left_out.reason",),
        ".* over .*": ("axes", "machines.figures"),
        "Tried": ("searches",),
        "": ("searches",),
    },
    "advise": {
        "Choose": ("captures.choice",),
        "Reasons": ("captures.choice.reasons",),
        "The others": ("captures.splits.reasons",),
        "Memory": ("captures.lowmem",),
        "Not told": ("captures.not_seen",),
        "Do": ("captures.choice.config",),
        "Caveats": ("captures.choice.caveats",),
    },
    "check": {"": ("captures.path", "findings", "rules", "unknown")},
    "sites": {
        "Call sites": ("sites",),
        "As kmap_local_page": ("sites.conversion",),
        "By module": ("modules",),
        "Not told": ("notes", "not_converted"),
        "Caveats": ("assumptions",),
    },
}
"""By command: how the titles of its sections begin, and where the document has the same; dots go
into objects, and through lists. Of several one may be empty, not all."""

ASKED = (
    ("report", "--all", WAITERS),
    ("report", "--calibrate", FULL),
    ("report", ARM),
    ("report", REAL_TIME),
    ("replay", FULL, "--vmalloc", "100M"),
    ("replay", WAITERS, "--convert", "kmap=kmap_local", "--calibrate"),
    ("info", WAITERS),
    ("info", ARM),
    ("validate", FULL, WAITERS),
    ("layout", "--arch", "arm", "--split", "3g", "--ram", "2G"),
    ("sweep", WAITERS, "--axis", "split=3g,2g,3g_opt", "--axis", "ram=1G,4G"),
    ("advise", WAITERS),
    ("check", WAITERS, FULL),
    ("sites", WAITERS),
    ("sites", ARM),
)


@cache
def shown(*words: str) -> str:
    return CliRunner().invoke(app, list(words)).stdout


def parts_of(document: Any, path: str) -> list[Any]:
    """What stands at a path, once for each element of the lists on its way."""
    found = [document]
    for name in path.split("."):
        inside = [one for part in found for one in (part if isinstance(part, list) else [part])]
        found = [part[name] for part in inside if isinstance(part, dict) and name in part]
    return found


def keys_of(command: str, title: str) -> tuple[str, ...]:
    """Where the document has a section."""
    for begin, keys in SECTIONS[command].items():
        if begin and re.match(begin, title):
            return keys
    return SECTIONS[command].get("", ())


@pytest.mark.slow
@pytest.mark.parametrize("words", ASKED, ids=" ".join)
def test_each_section_has_its_part_of_the_document(words: tuple[str, ...]) -> None:
    printed = shown(*words)
    document = json.loads(shown(*words, "--format", "json"))
    titles = [m["title"] for line in printed.splitlines() if (m := RULED.match(line))]
    assert titles, printed
    for title in titles:
        keys = keys_of(words[0], title)
        assert keys, f"a new section {title!r}: where does the document have it?"
        there = [part for key in keys for part in parts_of(document, key)]
        assert any(part not in (None, [], {}, "") for part in there), (title, keys)


@pytest.mark.slow
@pytest.mark.parametrize("path", [WAITERS, FULL, REAL_TIME], ids=["waiters", "full", "real-time"])
def test_what_the_document_of_report_has_is_shown(path: str) -> None:
    printed = shown("report", path)
    document = json.loads(shown("report", path, "--format", "json"))
    sections = SECTIONS["report"]
    titles = {title for title in sections if f"\n{title} " in printed}
    for title, (key, *_) in sections.items():
        if title in {"Hold times", "Times of calls", "Slots over time"}:
            continue  # with --all
        if key in {"durations", "longest", "user_flushes", "sites", "lowmem", "purges", "stacks"}:
            assert bool(document[key]) is (title in titles), title


def numbers_in(text: str) -> set[str]:
    """Whole numbers, without the blanks between their digits."""
    return set(re.findall(r"\d+", text))


@pytest.mark.slow
def test_both_forms_say_the_same_numbers() -> None:
    """Of purges, which a terminal shows whole: the same part makes both."""
    printed = shown("report", FULL).partition("\nPurges ")[2].partition("\n\n")[0]
    for purge in json.loads(shown("report", FULL, "--format", "json"))["purges"]:
        row = next(
            line for line in printed.splitlines() if line.startswith(f" {purge['trigger']} ")
        )
        told = {str(purge[key]) for key in ("count", "found", "pages", "hull_pages", "ipis")}
        assert told <= numbers_in(row)
