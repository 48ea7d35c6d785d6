"""The forms of `check` for continuous integration, judged by readers that know nothing of it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console
from typer.testing import CliRunner

from collectors.snapshot import Snapshot
from hmtrace.cli import app
from hmtrace.report.check import check_renderables
from hmtrace.report.check_forms import github, junit, sarif
from hmtrace.report.checking import CheckedCapture, CheckRun, Excuses, Ignored
from replay.outcome import Moment
from replay.rules.judge import RULES, look

if TYPE_CHECKING:
    from types import ModuleType

FIXTURES = Path(__file__).parents[2] / "fixtures"
HOG, LOST = FIXTURES / "i386-hog-d-local-pae-smp2", FIXTURES / "i386-lost-overrun-pae-smp2"
LEVELS = {"none", "note", "warning", "error"}
EVIL = "\x1b[31m]]><!--\"'&<b>%0A::error::\r\n\x00\ud800\ufffe\u202e,:ü"


def printed(form: str, *captures: Path) -> str:
    done = CliRunner().invoke(app, ["check", *map(str, captures), "--format", form])
    assert done.exit_code == 1, done.output
    return done.stdout


@pytest.fixture
def evil(outcomes: ModuleType) -> CheckRun:
    """Captures, tasks and call sites whose names try to be something else."""
    busy = outcomes.busy_outcome()
    moment = Moment(1_200_000_000, 1, 77, EVIL, EVIL)
    pool = replace(busy.pool, waits=3, first_wait=moment)
    outcome = replace(busy, pool=pool)
    looked = look(outcome, Snapshot(), None, RULES)
    captures = (CheckedCapture(f"a/{EVIL}", looked), CheckedCapture(EVIL, error=EVIL))
    return CheckRun(
        captures, RULES, {}, "problem", excuses=Excuses((Ignored("arena-exhausted", "*"),))
    )


def judge_junit(text: str) -> ET.Element:
    """The format that Jenkins and GitLab read: suites of cases with at most one verdict each."""
    root = ET.fromstring(text.encode())
    assert root.tag == "testsuites"
    for suite in root:
        assert suite.tag == "testsuite"
        assert suite.get("name")
        cases = suite.findall("testcase")
        assert len(cases) == len(suite) == int(suite.get("tests", -1))
        for case in cases:
            assert case.get("name")
            assert case.get("classname")
            verdicts = [c.tag for c in case if c.tag in ("failure", "error", "skipped")]
            assert len(case) <= 2
            assert {c.tag for c in case} <= {"failure", "error", "skipped", "system-out"}
            assert len(verdicts) <= 1
        for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert len(suite.findall(f"testcase/{tag}")) == int(suite.get(key, -1))
    assert set(root.keys()) <= {"name", "time", "tests", "failures", "errors"}, "junit-10.xsd"
    for key in ("tests", "failures", "errors"):
        assert int(root.get(key, -1)) == sum(int(s.get(key, -1)) for s in root)
    return root


def judge_sarif(document: dict[str, Any]) -> list[dict[str, Any]]:
    """What the OASIS specification of SARIF 2.1.0 requires of what is used here (section 3)."""
    assert document["version"] == "2.1.0"
    assert urlsplit(document["$schema"]).scheme == "https"
    (run,) = document["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "hmtrace"
    ids = [rule["id"] for rule in driver["rules"]]
    assert len(set(ids)) == len(ids)
    for rule in driver["rules"]:
        assert all(rule[key]["text"] for key in ("shortDescription", "fullDescription", "help"))
        assert rule["defaultConfiguration"]["level"] in LEVELS
    for result in run["results"]:
        assert ids[result["ruleIndex"]] == result["ruleId"]
        assert result["level"] in LEVELS
        assert result["message"]["text"]
        assert result["occurrenceCount"] >= 1
        assert all(isinstance(v, str) for v in result["partialFingerprints"].values())
        for place in result["locations"]:
            uri = place["physicalLocation"]["artifactLocation"]["uri"]
            assert re.fullmatch(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-F]{2})+", uri)
            assert ":" not in uri.split("/")[0], "it would be a scheme"
            assert all(one["name"] for one in place.get("logicalLocations", ()))
        for one in result.get("suppressions", ()):
            assert one["kind"] in ("inSource", "external")
    for invocation in run["invocations"]:
        assert isinstance(invocation["executionSuccessful"], bool)
        for note in invocation["toolExecutionNotifications"]:
            assert note["level"] in LEVELS
            assert note["message"]["text"]
            rule = note.get("associatedRule")
            assert rule is None or ids[rule["index"]] == rule["id"]
    return list(run["results"])


def judge_github(text: str) -> list[tuple[str, dict[str, str], str]]:
    """As the runner reads a line (github.com/actions/runner: ActionCommand.cs)."""
    found = []
    for line in text.split("\n")[:-1]:
        match = re.fullmatch(r"::(error|warning|notice) ([^:]*)::(.*)", line)
        assert match is not None, line
        pairs = dict(part.split("=", 1) for part in match[2].split(","))
        assert pairs.keys() == {"file", "title"}
        found.append((match[1], pairs, match[3]))
    return found


def test_junit_of_captures() -> None:
    root = judge_junit(printed("junit", HOG, LOST))
    hog, lost = root
    failed = [case.get("name") for case in hog if case.find("failure") is not None]
    assert failed == ["local-depth"]
    (failure,) = hog.iter("failure")
    assert (failure.get("type"), "15 deep" in (failure.get("message") or "")) == ("problem", True)
    assert "hogd" in (failure.text or "") or "insmod" in (failure.text or "")
    skipped = {case.get("name") for case in lost if case.find("skipped") is not None}
    assert {"kmap-held", "kmap-deadlock"} <= skipped


def test_sarif_of_captures() -> None:
    document = json.loads(printed("sarif", HOG, LOST))
    results = judge_sarif(document)
    levels = {(r["ruleId"], r["level"]) for r in results}
    assert {("local-depth", "error"), ("local-over-switch", "warning")} <= levels
    assert document["runs"][0]["invocations"][0]["exitCode"] == 1


def test_github_of_captures() -> None:
    found = judge_github(printed("github", HOG, LOST))
    assert ("error", "local-depth") in {(kind, pairs["title"]) for kind, pairs, _ in found}
    unknown = [message for _, pairs, message in found if pairs["title"] == "unknown"]
    assert len(unknown) == 2
    assert "tracing lost events" in unknown[1]


def test_hostile_names_stay_where_they_are(evil: CheckRun) -> None:
    root = judge_junit(junit(evil))
    assert [suite.get("errors") for suite in root] == ["0", "1"]
    every = "".join([*root.itertext(), *(v for e in root.iter() for v in e.attrib.values())])
    results = judge_sarif(json.loads(json.dumps(sarif(evil))))
    lines = judge_github(github(evil))
    assert len(lines) < len(results) + 20
    assert not any(message.startswith("error") for _, _, message in lines)
    for text in (every, json.dumps(sarif(evil), ensure_ascii=False), github(evil)):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\u202e]", text)
    uri = results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert unquote(uri).startswith("a/\\x1b[31m]]><!--")


def test_hostile_names_do_nothing_in_a_terminal(evil: CheckRun) -> None:
    screen = Console(file=StringIO(), force_terminal=True, width=80, color_system="standard")
    screen.print(*check_renderables(evil))
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "\\x1b[31m]]><!--" in shown.replace("\n", "")
    assert not re.search(
        "\x1b(?!\\[[0-9;]*m)|\x1b\\[31m\\]|[\x00-\x09\x0b-\x1a\x7f\ufffe\u202e]", shown
    )


def test_what_is_excused_is_marked_in_each_form(evil: CheckRun) -> None:
    results = [r for r in judge_sarif(sarif(evil)) if r["ruleId"] == "arena-exhausted"]
    assert [r["suppressions"][0]["justification"] for r in results] == ["ignored"]
    assert "arena-exhausted" not in {pairs["title"] for _, pairs, _ in judge_github(github(evil))}
    (case,) = (
        case
        for case in judge_junit(junit(evil)).iter("testcase")
        if case.get("name") == "arena-exhausted"
    )
    assert [child.tag for child in case] == ["system-out"]


def test_what_is_unknown_fails_where_it_is_asked_for(evil: CheckRun) -> None:
    strict = replace(evil, fails_unknown=True)
    root = judge_junit(junit(strict))
    assert int(root.get("failures", 0)) > int(judge_junit(junit(evil)).get("failures", 0))
    assert [suite.get("skipped") for suite in root] == ["0", "0"]
