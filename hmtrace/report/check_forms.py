"""Result of `check` in the forms that services of continuous integration read.

- JUnit XML as Jenkins, GitLab and others take it: a suite per capture, a case per rule.
- SARIF 2.1.0 (OASIS), which GitHub and editors show.
- Workflow commands of GitHub Actions, a line per finding.

Whoever could name a task on the board has a word in all of them: every string passes
:func:`hmtrace.report.text.clean`, which leaves no control character, and is then escaped as the
form wants it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from xml.etree import ElementTree as ET

from hmtrace import __version__
from hmtrace.report.check import excuses_in_words
from hmtrace.report.checking import fingerprint, function_of
from hmtrace.report.findings import evidence_lines
from hmtrace.report.text import clean, unglued
from hmtrace.report.unknowing import what_to_record, why_unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hmtrace.report.checking import CheckedCapture, CheckRun, JudgedFinding
    from replay.rules.evidence import Missing

_TEXT_LIMIT: Final = 4000
_LEVELS: Final = {"problem": "error", "warning": "warning", "info": "note"}
_COMMANDS: Final = {"problem": "error", "warning": "warning", "info": "notice"}
_SARIF: Final = "https://json.schemastore.org/sarif-2.1.0.json"


def _lines(found: JudgedFinding) -> list[str]:
    """What a finding says, line by line, safe to print."""
    evidence = evidence_lines(found.finding, found.words)
    return [clean(found.words.message, _TEXT_LIMIT), *map(unglued, evidence)]


def _unknown(missing: Sequence[Missing]) -> str:
    """Why a rule cannot know, and what to record."""
    return f"{why_unknown(missing)}; record: {what_to_record(missing)}"


def junit(check: CheckRun) -> str:
    """JUnit XML: a failure is what `check` fails for, other findings are output of their case."""
    suites = ET.Element("testsuites", name="hmtrace check")
    for capture in check.captures:
        suite = ET.SubElement(suites, "testsuite", name=clean(capture.path))
        if capture.error:
            case = ET.SubElement(suite, "testcase", classname="hmtrace.check", name="read")
            ET.SubElement(case, "error", message=clean(capture.error, _TEXT_LIMIT))
        for one in capture.looked:
            name = one.rule.name
            case = ET.SubElement(suite, "testcase", classname="hmtrace.check", name=name)
            _judge(case, [*check.found([one])], check)
            if one.is_unknown:
                kind = "failure" if check.fails_unknown else "skipped"
                ET.SubElement(case, kind, message=f"unknown: {_unknown(one.missing)}")
        _count(suite)
    for key in ("tests", "failures", "errors"):
        suites.set(key, str(sum(int(suite.get(key, 0)) for suite in suites)))
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, "unicode") + "\n"


def _judge(case: ET.Element, found: list[JudgedFinding], check: CheckRun) -> None:
    """Failures and output of a rule."""
    said = []
    for one in found:
        lines = _lines(one)
        if check.fails(one):
            failure = ET.SubElement(case, "failure", message=lines[0], type=one.finding.severity)
            failure.text = "\n".join(lines)
        else:
            excuse = f" ({one.excuse})" if one.excuse else ""
            said.append(f"{one.finding.severity}{excuse}: " + "\n".join(lines))
    if said:
        ET.SubElement(case, "system-out").text = "\n".join(said)


def _count(suite: ET.Element) -> None:
    suite.set("tests", str(len(suite.findall("testcase"))))
    for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(key, str(sum(case.find(tag) is not None for case in suite)))


def sarif(check: CheckRun) -> dict[str, Any]:
    """SARIF 2.1.0, of one run."""
    index = {rule.name: number for number, rule in enumerate(check.rules)}
    results = [
        _result(found, capture, index)
        for capture in check.captures
        for found in check.found(capture.looked)
    ]
    notes: list[dict[str, Any]] = [
        {
            "level": "note",
            "message": {
                "text": f"{one.rule.name} is unknown of {clean(capture.path)}: "
                f"{_unknown(one.missing)}"
            },
            "associatedRule": {"id": one.rule.name, "index": index[one.rule.name]},
        }
        for capture in check.captures
        for one in capture.looked
        if one.is_unknown
    ]
    notes += [
        {"level": "note", "message": {"text": line}}
        for line in excuses_in_words(check.excuses_standing())
    ]
    notes += [
        {"level": "error", "message": {"text": clean(f"{c.path}: {c.error}", _TEXT_LIMIT)}}
        for c in check.captures
        if c.error
    ]
    driver = {
        "name": "hmtrace",
        "version": __version__,
        "rules": [
            {
                "id": rule.name,
                "shortDescription": {"text": rule.meaning.split(". ")[0]},
                "fullDescription": {"text": rule.meaning},
                "help": {"text": rule.remedy},
                "defaultConfiguration": {"level": _LEVELS[rule.severities[0]]},
            }
            for rule in check.rules
        ],
    }
    return {
        "$schema": _SARIF,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "invocations": [
                    {
                        "executionSuccessful": not any(c.error for c in check.captures),
                        "exitCode": check.exit_code,
                        "toolExecutionNotifications": notes,
                    }
                ],
                "results": results,
                "columnKind": "unicodeCodePoints",
            }
        ],
    }


def _result(found: JudgedFinding, capture: CheckedCapture, index: dict[str, int]) -> dict[str, Any]:
    finding = found.finding
    place: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": {"uri": quote(clean(capture.path), safe="/")}}
    }
    if function := function_of(finding):
        place["logicalLocations"] = [{"name": clean(function), "kind": "function"}]
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": index[finding.rule],
        "level": _LEVELS[finding.severity],
        "message": {"text": "\n".join(_lines(found))},
        "locations": [place],
        "partialFingerprints": {"hmtrace/1": clean(fingerprint(finding))},
        "occurrenceCount": max(finding.count, 1),
    }
    if found.excuse:
        result["suppressions"] = [{"kind": "external", "justification": found.excuse}]
    return result


def github(check: CheckRun) -> str:
    """Workflow commands of GitHub Actions; excused findings have none."""
    lines = []
    for capture in check.captures:
        path = clean(capture.path)
        if capture.error:
            lines.append(_command("error", path, "read", clean(capture.error, _TEXT_LIMIT)))
        lines.extend(
            _command(
                _COMMANDS[found.finding.severity],
                path,
                found.finding.rule,
                "\n".join(_lines(found)),
            )
            for found in check.found(capture.looked)
            if not found.excuse
        )
        if unknown := [one for one in capture.looked if one.is_unknown]:
            names = ", ".join(one.rule.name for one in unknown)
            why = _unknown([missing for one in unknown for missing in one.missing])
            lines.append(_command("notice", path, "unknown", f"{names}: {why}"))
    return "".join(line + "\n" for line in lines)


def _command(kind: str, path: str, rule: str, message: str) -> str:
    """A command; what would end a value is escaped (github.com/actions/toolkit: command.ts)."""
    text = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    title, file = (
        word.replace("%", "%25").replace(":", "%3A").replace(",", "%2C") for word in (rule, path)
    )
    return f"::{kind} file={file},title={title}::{text}"
