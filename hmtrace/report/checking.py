"""What `check` came to: findings of captures, those that are excused, and whether it fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, NamedTuple

from hmtrace.report.findings import in_words
from replay.rules.rule import SEVERITIES
from replay.sites.names import function_named

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from hmtrace.report.wording import Words
    from replay.outcome import Finding
    from replay.rules.evidence import Missing
    from replay.rules.judge import Looked
    from replay.rules.rule import FindingRule

BY_BASELINE: Final = "baseline"
BY_OPTION: Final = "ignored"
_EVIDENCE: Final = {
    "pool": "kmap() and kunmap()",
    "local": "local mappings",
    "arena": "allocations of address space",
    "flushes": "TLB flushes",
    "failures": "whether allocations failed",
    "times": "times",
    "returns": "returns of calls",
    "switches": "context switches",
    "areas": "areas that were there before",
    "zones": "zones",
    "stalls": "waits of the allocator",
    "log": "the kernel's log",
}
FILES: Final = {
    "areas": "vmallocinfo.start",
    "zones": "zoneinfo",
    "stalls": "vmstat at both ends",
    "log": "dmesg",
}
"""File of a capture folder that tells of a kind of evidence."""


class Ignored(NamedTuple):
    """Findings that are not to count: a rule, and a pattern of function or task (``*``: all)."""

    rule: str
    pattern: str


@dataclass(frozen=True)
class Excuses:
    """What does not count.

    Attributes
    ----------
    ignored
        By ``--ignore``.
    known
        Fingerprints of the baseline with the worst severity that each had there.
    """

    ignored: tuple[Ignored, ...] = ()
    known: Mapping[str, str] = field(default_factory=dict)

    def of(self, finding: Finding) -> str:
        """Why a finding does not count; empty: it does."""
        names = [function_of(finding), (finding.first and finding.first.comm) or ""]
        for rule, pattern in self.ignored:
            if rule == finding.rule and any(fnmatchcase(name, pattern) for name in names):
                return BY_OPTION
        before = self.known.get(fingerprint(finding))
        if before is not None and SEVERITIES.index(before) <= SEVERITIES.index(finding.severity):
            return BY_BASELINE
        return ""


def function_of(finding: Finding) -> str:
    """Function that a finding is about, without offset and compiler's suffix; empty: none."""
    site = finding.first.site if finding.first is not None else None
    site = site or getattr(finding.figures, "site", None)
    return function_named(site or "")


def fingerprint(finding: Finding) -> str:
    """What tells a finding from others, the same in another run of the same workload.

    Examples
    --------
    >>> from replay.outcome import Finding, Moment
    >>> where = Moment(7, 0, 77, "perl", "dir_get_page.isra.0+0x50/0x140 [minix]")
    >>> fingerprint(Finding("kmap-held", "problem", None, 3, where))
    'kmap-held:dir_get_page [minix]'
    """
    return f"{finding.rule}:{function_of(finding)}"


class JudgedFinding(NamedTuple):
    """A finding, its words, and why it does not count (empty: it does)."""

    finding: Finding
    words: Words
    excuse: str


@dataclass(frozen=True)
class CheckedCapture:
    """A capture.

    Attributes
    ----------
    path
        As the user gave it.
    looked
        What each rule found; empty where the capture could not be read.
    lost
        Losses in words; empty where nothing was lost.
    error
        Why it could not be read.
    """

    path: str
    looked: tuple[Looked, ...] = ()
    lost: str = ""
    error: str = ""


@dataclass(frozen=True)
class CheckRun:
    """All of it.

    Attributes
    ----------
    captures
        In the order given.
    rules
        Those that were looked at.
    limits
        Limits other than the usual ones, by rule.
    fail_on
        Least severity that fails.
    fails_unknown
        Whether it fails, too, where a rule cannot know.
    excuses
        What does not count.
    """

    captures: tuple[CheckedCapture, ...]
    rules: tuple[FindingRule, ...]
    limits: Mapping[str, float]
    fail_on: str
    fails_unknown: bool = False
    excuses: Excuses = field(default_factory=Excuses)

    def found(self, looked: Sequence[Looked]) -> Iterator[JudgedFinding]:
        """Findings of a capture, worst first."""
        every = [finding for one in looked for finding in one.findings]
        for finding in sorted(every, key=lambda f: SEVERITIES.index(f.severity)):
            yield JudgedFinding(finding, in_words(finding), self.excuses.of(finding))

    def fails(self, found: JudgedFinding) -> bool:
        """Whether a finding is one to fail for."""
        rank = SEVERITIES.index
        return not found.excuse and rank(found.finding.severity) <= rank(self.fail_on)

    @property
    def is_failed(self) -> bool:
        """Whether anything is found to fail for."""
        looked = [one for capture in self.captures for one in capture.looked]
        if self.fails_unknown and any(one.is_unknown for one in looked):
            return True
        return any(map(self.fails, self.found(looked)))

    @property
    def exit_code(self) -> int:
        """3 where a capture could not be read, 1 where it fails, else 0."""
        if any(capture.error for capture in self.captures):
            return 3
        return int(self.is_failed)


def why_unknown(missing: Sequence[Missing]) -> str:
    """Why a rule cannot know, in words."""
    return "; ".join(dict.fromkeys(map(_in_words, missing)))


def _in_words(missing: Missing) -> str:
    what = _EVIDENCE[missing.evidence]
    return {
        "untraced": f"no probe was set on {what}",
        "untold": f"the trace has no {what}, and no file tells whether they were traced",
        "pageless": "the trace has no page arguments",
        "lost": "tracing lost events",
        "missed": f"probes missed {what}",
        "counter": "the trace clock counts no time",
        "unreturned": f"the trace does not tell {what}",
        "file": f"no file tells of {what} ({FILES.get(missing.evidence, '')})",
    }[missing.reason]
