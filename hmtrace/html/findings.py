"""Findings on a page: severity, words, evidence, and where each leads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from collectors.records import dataclass
from hmtrace.html.blocks import Section
from hmtrace.report.findings import evidence_lines, ranked, severity_text
from hmtrace.report.text import clean, clock
from hmtrace.report.wording import words_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from replay.outcome import Finding
    from replay.over_time import Timeline

_MESSAGE_LIMIT: Final = 1000
_ABOUT: Final = (
    ("local-", "local-stacks"),
    ("arena-", "arena"),
    ("modules-", "arena"),
    ("vmalloc-null", "arena"),
    ("purge-", "purges"),
    ("full-flush", "flushes-and-cost"),
    ("mapping-cost", "flushes-and-cost"),
    ("slow-calls", "longest-calls"),
    ("lowmem-", "memory"),
    ("split", "address-space"),
    ("ram-", "address-space"),
    ("mem-map", "address-space"),
    ("vmalloc-option", "address-space"),
    ("events-lost", "caveats"),
    ("probe-misses", "caveats"),
    ("pool-", "pool"),
    ("kmap-", "pool"),
    ("kunmap-", "pool"),
    ("flush-", "pool"),
    ("pages-unknown", "pool"),
)
"""What a rule's name begins with, and the section that has more about it."""


@dataclass(frozen=True)
class FindingEntry:
    """One finding.

    Attributes
    ----------
    number
        Its place in the list, from 1.
    severity, rule
        As of :class:`replay.outcome.Finding`.
    word
        The severity as it is shown.
    message, evidence
        Words, and the lines below them.
    at_ns
        When its event was, from the start of the timeline; None: it has no moment.
    at_words
        The same on the trace's clock.
    section, section_title
        Anchor and title of the section that has more about it; "" for none.
    """

    number: int
    severity: str
    rule: str
    word: str
    message: str
    evidence: tuple[str, ...]
    at_ns: int | None
    at_words: str
    section: str
    section_title: str


def finding_entries(
    findings: Sequence[Finding], timeline: Timeline | None, titles: Mapping[str, str]
) -> tuple[FindingEntry, ...]:
    """Findings, worst first.

    Parameters
    ----------
    findings
        In any order.
    timeline
        Where they lead, if the page has one and their moment is on it.
    titles
        Anchor and title of the sections that the page has.

    Returns
    -------
    tuple of FindingEntry
    """
    return tuple(
        _entry(number, finding, timeline, titles)
        for number, finding in enumerate(ranked(findings), 1)
    )


def _entry(
    number: int, finding: Finding, timeline: Timeline | None, titles: Mapping[str, str]
) -> FindingEntry:
    words = words_of(finding.figures)
    lines = (line for text in evidence_lines(finding, words) for line in text.split("\n"))
    section = next((to for prefix, to in _ABOUT if finding.rule.startswith(prefix)), "")
    at = None
    if timeline is not None and finding.first is not None:
        at = min(max(finding.first.ts, timeline.start_ns), timeline.end_ns) - timeline.start_ns
    return FindingEntry(
        number,
        finding.severity,
        clean(finding.rule),
        severity_text(finding).plain,
        clean(words.message, _MESSAGE_LIMIT),
        tuple(filter(None, lines)),
        at,
        "" if finding.first is None else clock(finding.first.ts),
        section if section in titles else "",
        titles.get(section, ""),
    )


def findings_part(entries: tuple[FindingEntry, ...]) -> Section:
    """The section of findings."""
    return Section("findings", "Findings", "", "findings.html", entries)
