"""Prometheus text: read back by its grammar, held against the document, checked by promtool."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from collectors import open_capture
from hmtrace.cli import app
from hmtrace.cli.captures import describe
from hmtrace.export.prometheus import prometheus
from replay.machine.from_facts import machine_from
from replay.walk import replay

FIXTURES = Path(__file__).parents[3] / "fixtures"
WAITERS = FIXTURES / "i386-hog-a-waiters-pae-smp2"
NAMELESS = FIXTURES / "i386-func-minix-pae-smp2"
_SAMPLE = re.compile(
    r"([a-z_][a-z0-9_]*)(?:\{((?:[a-z0-9_]+=\"(?:[^\"\\\n]|\\[\\\"n])*\",?)+)\})? (\S+)"
)
_LABEL = re.compile(r"([a-z0-9_]+)=\"((?:[^\"\\]|\\.)*)\"")


@cache
def shown(path: Path, form: str) -> str:
    done = CliRunner().invoke(app, ["report", "--format", form, str(path)])
    assert done.exit_code == 0, done.output
    return done.stdout


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Samples by name and labels; each belongs to the TYPE above it."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    name, kind = "", ""
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            assert len(line.split(" ", 3)[3]) > 3
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert not any(known == name for known, _ in found), "told twice"
            assert (kind == "counter") == name.endswith("_total")
        else:
            match = _SAMPLE.fullmatch(line)
            assert match, line
            assert match[1] == name or (kind == "summary" and match[1].startswith(f"{name}_"))
            labels = tuple(sorted(_LABEL.findall(match[2] or "")))
            assert (match[1], labels) not in found
            found[match[1], labels] = float(match[3])
    return found


def test_figures_are_those_of_the_document() -> None:
    found = samples(shown(WAITERS, "prometheus"))
    document: dict[str, Any] = json.loads(shown(WAITERS, "json"))
    pool = document["pool"]

    def value(name: str, **labels: str) -> float:
        return found[f"hmtrace_{name}", tuple(sorted(labels.items()))]

    assert value("pool_slots") == value("pool_used_slots_max") == pool["slots"] == 512
    assert value("pool_kmap_calls_total", result="new") == pool["new_mappings"]
    assert value("pool_passes_total", cause="wrap") == pool["wraps"]
    assert value("pool_waits_total") == 36
    assert value("pool_wait_seconds_total") == pytest.approx(pool["wait_ns"] / 1e9)
    assert value("local_map_calls_total", page="lowmem") == document["local"]["lowmem"]
    assert value("arena_size_bytes") == document["arena"]["size"]
    for cause, figures in document["cost"]["by_cause"].items():
        assert value("cost_seconds_total", cause=cause) == pytest.approx(figures["ns"] / 1e9)
    for call in document["durations"]:
        assert value("call_duration_seconds_count", op=call["op"]) == call["calls"]
        assert value("call_duration_seconds", op=call["op"], quantile="0.99") == pytest.approx(
            call["p99_ns"] / 1e9
        )
    calls = [n for (name, _), n in found.items() if name == "hmtrace_function_calls_total"]
    assert sum(calls) == sum(site["count"] for site in document["sites"])
    assert value("findings", severity="problem") == sum(
        one["severity"] == "problem" for one in document["findings"]
    )


def test_what_is_not_known_has_no_sample() -> None:
    """The function tracer tells no pages: nothing is known of the pool but calls."""
    found = samples(shown(NAMELESS, "prometheus"))
    names = {name for name, _ in found}
    assert "hmtrace_pool_flushes_total" not in names
    assert "hmtrace_arena_used_bytes_max" not in names
    assert found["hmtrace_pool_kmap_calls_total", (("result", "unknown"),)] > 0


def test_foreign_names_are_escaped() -> None:
    capture = open_capture(WAITERS)
    values = capture.facts.snapshot()
    outcome = replay(capture.events, machine_from(values)[0], values=values)
    site = replace(outcome.sites[0], site='e"vil\\\n\x1b[2J+0x1')
    text = prometheus(describe(capture), replace(outcome, sites=(site,)))
    (labels,) = [ls for name, ls in samples(text) if name == "hmtrace_function_calls_total"]
    assert dict(labels)["function"] == r"e\"vil\\\\x0a\\x1b[2J"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus)")
@pytest.mark.parametrize("path", [WAITERS, NAMELESS])
def test_promtool_has_nothing_to_say(path: Path) -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=shown(path, "prometheus"), text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
