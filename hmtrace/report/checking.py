"""What `check` came to: findings of captures, those that are excused, and whether it fails."""

from __future__ import annotations

from datetime import date
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.records import dataclass, field
from hmtrace.report.findings import in_words
from replay.rules.rule import SEVERITIES
from replay.sites.names import function_named

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from hmtrace.report.wording import Words
    from replay.outcome import Finding
    from replay.rules.judge import Looked
    from replay.rules.rule import FindingRule

BY_BASELINE: Final = "baseline"
BY_OPTION: Final = "ignored"


class Ignored(NamedTuple):
    """Findings that are not to count: a rule, and a pattern of function or task (``*``: all).

    `until` is the last day on which they do not; None: there is none.
    """

    rule: str
    pattern: str
    until: date | None = None

    def is_for(self, finding: Finding) -> bool:
        """Whether it is this finding, on whichever day."""
        names = [function_of(finding), (finding.first and finding.first.comm) or ""]
        is_like = any(fnmatchcase(name, self.pattern) for name in names)
        return self.rule == finding.rule and is_like


@dataclass(frozen=True)
class Excuses:
    """What does not count.

    Attributes
    ----------
    ignored
        By ``--ignore``.
    known
        Fingerprints of the baseline with the worst severity that each had there.
    today
        After which ignored findings count again whose last day it was.
    """

    ignored: tuple[Ignored, ...] = ()
    known: Mapping[str, str] = field(default_factory=dict)
    today: date = date.min

    def is_over(self, one: Ignored) -> bool:
        """Whether its last day has gone."""
        return one.until is not None and one.until < self.today

    def of(self, finding: Finding) -> str:
        """Why a finding does not count; empty: it does."""
        if any(one.is_for(finding) and not self.is_over(one) for one in self.ignored):
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


class IgnoredStanding(NamedTuple):
    """What became of an :class:`Ignored`: findings that it is for, and whether its time is over."""

    ignored: Ignored
    matched: int
    is_over: bool


class ExcusesStanding(NamedTuple):
    """What excuses there were for, and which are needed no more.

    Attributes
    ----------
    ignored
        Each that was given.
    gone
        Fingerprints of the baseline that were looked for in every capture, and not found.
    unknown
        Those that were not found, and that may be there: the rule was not looked at, is no more, or
        lacked its evidence.
    """

    ignored: tuple[IgnoredStanding, ...] = ()
    gone: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


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

    def excuses_standing(self) -> ExcusesStanding:
        """Which excuses were for something, and which are needed no more."""
        looked = [one for capture in self.captures for one in capture.looked]
        every = [finding for one in looked for finding in one.findings]
        found = set(map(fingerprint, every))
        told = {one.rule.name for one in looked} - {o.rule.name for o in looked if o.is_unknown}
        if any(capture.error for capture in self.captures):
            told = set()
        left = sorted(known for known in self.excuses.known if known not in found)
        return ExcusesStanding(
            tuple(
                IgnoredStanding(one, sum(map(one.is_for, every)), self.excuses.is_over(one))
                for one in self.excuses.ignored
            ),
            tuple(known for known in left if known.partition(":")[0] in told),
            tuple(known for known in left if known.partition(":")[0] not in told),
        )

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
