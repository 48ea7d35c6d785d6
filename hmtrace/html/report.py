"""The page of `report`: which sections, in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hmtrace.html.blocks import sections_of
from hmtrace.html.findings import finding_entries, findings_part
from hmtrace.html.overview import overview_section, page_head
from hmtrace.html.page import page
from hmtrace.html.space import space_section
from hmtrace.html.timeline import timeline_data, timeline_section
from hmtrace.report.caveats import caveats_section
from hmtrace.report.histograms import times_sections
from hmtrace.report.terminal import behind_sections

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hmtrace.report.source import InputSummary
    from replay.cost.calibrate import Calibration
    from replay.outcome import Outcome

SITES: Final = 1000
"""Call sites on a page."""
LONGEST: Final = 16
"""Longest calls on a page."""


def report_page(
    source: InputSummary,
    outcome: Outcome,
    assumptions: Sequence[str] = (),
    calibration: Calibration | None = None,
) -> str:
    """The page.

    Parameters
    ----------
    source, outcome, assumptions, calibration
        As of :func:`hmtrace.report.terminal.report_renderables`; charts are there where the outcome
        has its timeline.

    Returns
    -------
    str
        Text of an HTML file.
    """
    behind = list(
        sections_of(behind_sections(source, outcome, calibration, longest=LONGEST, sites=SITES))
    )
    behind += sections_of(times_sections(outcome.observed))
    caveats = list(sections_of(caveats_section((*outcome.caveats, *assumptions, *source.notes))))
    space = space_section(outcome.machine, outcome.layout)
    titles = {section.ident: section.title for section in (*behind, *caveats, space)}
    line = outcome.timeline
    findings = finding_entries(outcome.findings, line, titles)
    timed = [] if line is None else [timeline_section(source, outcome, line)]
    sections = [
        overview_section(source, outcome, findings),
        findings_part(findings),
        *timed,
        *behind,
        space,
        *caveats,
    ]
    data = None
    if line is not None:
        data = timeline_data(timed[0], line, findings, clock_is_ns=source.clock_is_ns)
    return page(page_head("report", source), sections, data)
