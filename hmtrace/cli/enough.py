"""The least ``vmalloc=`` with which no allocation of a capture would have failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.errors import HmtraceError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from replay.outcome import Finding
    from replay.rules.judge import Looked


def with_enough(path: str, looked: Iterable[Looked]) -> tuple[Looked, ...]:
    """What rules found, with the least ``vmalloc=`` that is needed where the arena was full.

    It is searched as ``sweep --find min:vmalloc --where failures=0`` does.
    """
    return tuple(
        one._replace(findings=tuple(_enough(path, finding) for finding in one.findings))
        for one in looked
    )


def _enough(path: str, finding: Finding) -> Finding:
    from dataclasses import replace

    from replay.rules.arena import ArenaExhausted

    figures = finding.figures
    if not isinstance(figures, ArenaExhausted) or not figures.option or path == "-":
        return finding
    value = _least_vmalloc(path)
    if value is None or value <= figures.size:
        return finding
    return replace(finding, figures=figures._replace(enough=value))


def _least_vmalloc(path: str) -> int | None:
    """Bytes; None where none of those that a kernel can have is enough, or none can be asked."""
    from hmtrace.cli.crew import Alone
    from hmtrace.cli.finding import parse_goal
    from hmtrace.cli.grid import Grid
    from hmtrace.cli.where import parse_where
    from replay.whatif.run import PLACEMENTS, TIMINGS

    conditions = parse_where(["failures=0"])
    grid = Grid((), None, None, PLACEMENTS[0], TIMINGS[0], "cost", conditions, Alone())
    try:
        search = grid.find(path, parse_goal("min:vmalloc", ()))
    except HmtraceError:  # no model of this kernel's arena, or nothing to be served elsewhere
        return None
    return search.searched[0].found.value
