"""Findings and caveats in words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from hmtrace.report.parts import heading, indented
from hmtrace.report.text import GLUE, clean, clock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from replay.outcome import Finding

_STYLE = {"problem": "bold red", "warning": "yellow", "info": "green"}
_RANK = {"problem": 0, "warning": 1}
_TEXT_LIMIT = 1000
_GROUP = re.compile(r"(?<=\d) (?=\d{3}\b)")


def findings_section(findings: Sequence[Finding]) -> Iterator[RenderableType]:
    """What a kernel engineer should act on, worst first, each with its evidence.

    The severity is a word in front, so that nothing depends on colour.

    Yields
    ------
    RenderableType
        Heading and findings; nothing if there are none.
    """
    if not findings:
        return
    yield heading("Findings")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, min_width=7)
    grid.add_column(overflow="fold")
    for finding in sorted(findings, key=lambda f: _RANK.get(f.severity, 2)):
        word = finding.severity.upper() if finding.severity == "problem" else finding.severity
        body = Text(_shown(finding.message))
        if finding.evidence:
            body.append("\n" + _shown(finding.evidence), style="dim")
        if finding.first:
            body.append("\n" + first_in_words(finding.first), style="dim")
        grid.add_row(Text(clean(word), style=_STYLE.get(finding.severity, "")), body)
    yield indented(grid)


def _shown(text: str) -> str:
    """A finding's words, without line breaks inside numbers."""
    return _GROUP.sub(GLUE, clean(text, _TEXT_LIMIT))


def first_in_words(first: dict[str, object]) -> str:
    """Time, CPU and task of a finding's first event."""
    parts = []
    ts = first.get("ts")
    if isinstance(ts, int | float):
        parts.append(f"at {clock(ts)}")
    if first.get("cpu") is not None:
        parts.append(f"on CPU {clean(first['cpu'])}")
    if first.get("comm") is not None or first.get("pid") is not None:
        parts.append(f"by {clean(first.get('comm') or '?')}[{clean(first.get('pid', '?'))}]")
    return "first " + " ".join(parts)


def caveats_section(caveats: Sequence[str]) -> Iterator[RenderableType]:
    """What limits the figures above.

    Yields
    ------
    RenderableType
        Heading and a list; nothing if there is nothing to say.
    """
    if not caveats:
        return
    yield heading("Caveats")
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for caveat in dict.fromkeys(caveats):
        grid.add_row(Text("-"), Text(clean(caveat, _TEXT_LIMIT)))
    yield indented(grid)
