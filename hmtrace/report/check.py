"""Result of `check` for the terminal and as a JSON document, and the list of rules."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table
from rich.text import Text

from hmtrace.report.checking import fingerprint
from hmtrace.report.document import schema
from hmtrace.report.findings import evidence_lines, finding_document, severity_text
from hmtrace.report.parts import heading, indented
from hmtrace.report.plain import plain
from hmtrace.report.text import clean, plural
from hmtrace.report.unknowing import EVIDENCE, needs_in_words, what_to_record, why_unknown
from replay.rules.rule import SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from hmtrace.report.checking import CheckedCapture, CheckRun, ExcusesStanding
    from replay.rules.rule import FindingRule

_TEXT_LIMIT: Final = 1000
_NAMED: Final = 8
"""Fingerprints that a line names."""
_MOST: Final = 256
"""Fingerprints that a document names."""


def check_renderables(check: CheckRun) -> Iterator[RenderableType]:
    """Each capture with what was found in it, worst first, and a line about all.

    Yields
    ------
    RenderableType
        Heading and findings per capture; the sum.
    """
    for capture in check.captures:
        yield heading(clean(capture.path))
        if capture.error:
            yield indented(Text(clean(capture.error, _TEXT_LIMIT), style="red"))
            continue
        if capture.lost:
            yield indented(Text(f"!! {clean(capture.lost, _TEXT_LIMIT)}", style="bold red"))
        yield indented(_findings(check, capture))
    if said := excuses_in_words(check.excuses_standing()):
        yield Text()
        yield from (Text(line) for line in said)
    yield Text()
    yield Text(_sum(check), style="bold red" if check.exit_code else "bold")


def _findings(check: CheckRun, capture: CheckedCapture) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, min_width=7)
    grid.add_column(overflow="fold")
    rules = set()
    for found in check.found(capture.looked):
        finding, words, excuse = found
        rules.add(finding.rule)
        body = Text(finding.rule, style="bold")
        if excuse:
            body.append(f" ({excuse})", style="dim not bold")
        body.append(f": {clean(words.message, _TEXT_LIMIT)}", style="not bold")
        if not excuse and finding.severity != "info":
            for line in evidence_lines(finding, words):
                body.append("\n" + line, style="dim not bold")
        grid.add_row(Text("known" if excuse else "") if excuse else severity_text(finding), body)
    for (why, record), names in _unknown(capture).items():
        body = Text(f"{', '.join(names)}: {why}")
        if record:
            body.append(f"\nrecord: {record}", style="dim")
        grid.add_row(Text("unknown"), body)
    silent = [one for one in capture.looked if not one.is_unknown and one.rule.name not in rules]
    if silent:
        grid.add_row(Text("fine", style="green"), Text(plural(len(silent), "rule")))
    return grid


def _unknown(capture: CheckedCapture) -> dict[tuple[str, str], list[str]]:
    """Rules that cannot know, by the reason and what to record; those that want a file together."""
    reasons: dict[tuple[str, str], list[str]] = {}
    files: dict[str, None] = {}
    wanting = []
    for one in capture.looked:
        if not one.is_unknown:
            continue
        if all(missing.reason == "file" for missing in one.missing):
            wanting.append(one.rule.name)
            files |= dict.fromkeys(EVIDENCE[missing.evidence].record for missing in one.missing)
        else:
            words = why_unknown(one.missing), what_to_record(one.missing)
            reasons.setdefault(words, []).append(one.rule.name)
    if wanting:
        reasons[f"not beside the capture: {', '.join(files)}", ""] = wanting
    return reasons


def _sum(check: CheckRun) -> str:
    """What all captures come to, and what that means."""
    counted: Counter[str] = Counter()
    for capture in check.captures:
        for found in check.found(capture.looked):
            counted["known" if found.excuse else found.finding.severity] += 1
        counted["unknown"] += sum(one.is_unknown for one in capture.looked)
        counted["unreadable"] += bool(capture.error)
    nouns = {"info": "remark", "unknown": "rule without evidence", "known": "known"}
    many = {"unknown": "rules without evidence", "known": "known"}
    parts = [
        plural(counted[key], nouns.get(key, key), many.get(key))
        for key in (*SEVERITIES, "known", "unknown")
        if counted[key]
    ]
    if counted["unreadable"]:
        parts.append(f"{counted['unreadable']} cannot be read")
    least = "anything" if check.fail_on == "info" else f"a {check.fail_on}"
    if check.fail_on == "warning":
        least = "a warning or a problem"
    failed = f"fails for {least}" if check.is_failed else f"{least} would fail"
    captures = plural(len(check.captures), "capture")
    return f"{captures}: {', '.join(parts) or 'nothing found'} · {failed}"


def check_document(check: CheckRun) -> dict[str, Any]:
    """Document of `check`."""
    return {
        **schema("check"),
        "fail_on": check.fail_on,
        "failed": check.is_failed,
        "captures": [
            {"path": c.path, "lost": c.lost} | ({"error": c.error} if c.error else {})
            for c in check.captures
        ],
        "findings": [
            {
                "capture": capture.path,
                **finding_document(found.finding),
                "fingerprint": fingerprint(found.finding),
                "excused": found.excuse or None,
                "figures": plain(found.finding.figures),
            }
            for capture in check.captures
            for found in check.found(capture.looked)
        ],
        "rules": rules_document(check.rules, check),
        "excuses": _excuses_document(check.excuses_standing()),
        "unknown": [
            {
                "capture": capture.path,
                "rule": one.rule.name,
                "reason": why_unknown(one.missing),
                "record": what_to_record(one.missing),
                "missing": plain(one.missing),
            }
            for capture in check.captures
            for one in capture.looked
            if one.is_unknown
        ],
    }


def excuses_in_words(standing: ExcusesStanding) -> list[str]:
    """Excuses that are needed no more, a line each; safe to print."""
    lines = []
    for (rule, pattern, until), matched, is_over in standing.ignored:
        what = clean(rule if pattern == "*" else f"{rule}@{pattern}")
        if is_over:
            lines.append(f"ignored until {until}, which is over: {what} counts again")
        elif not matched:
            lines.append(f"ignored, and nothing like it is found: {what}")
    if standing.gone:
        names = [clean(name) for name in standing.gone[:_NAMED]]
        more = len(standing.gone) - len(names)
        lines.append(
            f"in the baseline, and found no more: {', '.join(names)}"
            + (f" and {plural(more, 'other')}" if more else "")
        )
    return lines


def _excuses_document(standing: ExcusesStanding) -> dict[str, Any]:
    return {
        "ignored": [
            {
                "rule": one.rule,
                "pattern": one.pattern,
                "until": None if one.until is None else one.until.isoformat(),
                "expired": is_over,
                "matched": matched,
            }
            for one, matched, is_over in standing.ignored
        ],
        "baseline_gone": _some(standing.gone),
        "baseline_unknown": _some(standing.unknown),
    }


def _some(fingerprints: Sequence[str]) -> dict[str, Any]:
    return {"count": len(fingerprints), "fingerprints": list(fingerprints[:_MOST])}


def rules_document(
    rules: Sequence[FindingRule], check: CheckRun | None = None
) -> list[dict[str, Any]]:
    """Rules as the documents have them, with the limits that hold."""
    limits = {} if check is None else check.limits
    return [
        {
            "rule": rule.name,
            "severities": list(rule.severities),
            "meaning": rule.meaning,
            "remedy": rule.remedy,
            "needs": list(rule.needs),
            "limit": None
            if rule.limit is None
            else {"value": limits.get(rule.name, rule.limit.usual), "unit": rule.limit.unit},
        }
        for rule in rules
    ]


def rules_renderables(rules: Sequence[FindingRule]) -> Iterator[RenderableType]:
    """Every rule: what it says and what to do.

    Yields
    ------
    RenderableType
        A table.
    """
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for rule in rules:
        body = Text(f"{rule.meaning}\n")
        body.append(f"do: {rule.remedy}\n", style="dim")
        if rule.needs:
            body.append(f"needs: {needs_in_words(rule.needs)}\n", style="dim")
        worst = ", ".join(rule.severities)
        limit = ""
        if rule.limit is not None:
            usual = "N " if rule.limit.usual is None else f"{rule.limit.usual:g} "
            limit = f" · from {usual}{rule.limit.unit} on (--rule {rule.name}=N)"
        body.append(worst + limit, style="dim")
        grid.add_row(Text(rule.name, style="bold"), body)
    yield grid
