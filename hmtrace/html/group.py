"""Sections of one capture, on a page of several."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from collectors.records import dataclass
from hmtrace.html.blocks import Lines, Run, Section
from hmtrace.html.overview import loss_banner
from hmtrace.report.source import reproducibility, source_in_words
from hmtrace.report.text import last_part

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hmtrace.html.blocks import Runs
    from hmtrace.html.overview import LossBanner
    from hmtrace.report.source import InputSummary

REPEAT: Final = "To repeat it"


@dataclass(frozen=True)
class GroupParts:
    """What tracing lost, and the sections below a heading of their own."""

    facts: tuple[str, ...]
    lost: LossBanner | None
    sections: tuple[Section, ...]


def group(number: int, source: InputSummary, sections: Iterable[Section]) -> Section:
    """One section that holds those of a capture.

    Parameters
    ----------
    number
        Of the capture, from 1: anchors begin with it.
    source
        What was read.
    sections
        Its sections.

    Returns
    -------
    Section
    """
    held = tuple(replace(one, ident=f"{anchor(number)}-{one.ident}") for one in sections)
    facts = (source_in_words(source), reproducibility(source).plain)
    parts = GroupParts(facts, loss_banner(source), held)
    return Section(anchor(number), last_part(source.origin.path), "", "group.html", parts)


def anchor(number: int) -> str:
    """Anchor of the capture of this number."""
    return f"capture-{number}"


def repeat_section(command: Sequence[str]) -> Section:
    """The command that made the page, to be copied."""
    line: Runs = (Run(" ".join(command), "command-line"),)
    return Section("repeat", REPEAT, "", parts=(Lines((line,)),))
