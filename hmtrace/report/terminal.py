"""The report of one capture, from top to bottom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from hmtrace.report.arena import arena_section, calls_in_words
from hmtrace.report.calibration import calibration_section
from hmtrace.report.caveats import caveats_section
from hmtrace.report.cost import cost_in_words, cost_section
from hmtrace.report.findings import findings_section
from hmtrace.report.histograms import times_sections
from hmtrace.report.local import depth_in_words, local_section
from hmtrace.report.longest import longest_section
from hmtrace.report.lowmem import lowmem_section
from hmtrace.report.machine import machine_in_words, machine_section
from hmtrace.report.marks import marks_alone
from hmtrace.report.observed import durations_section, stacks_section, user_flushes_section
from hmtrace.report.parts import joined, labelled
from hmtrace.report.pool import has_chart, pool_section, waits_in_words
from hmtrace.report.purges import purges_section
from hmtrace.report.sites import SHOWN, sites_section
from hmtrace.report.slotmap import slots_section
from hmtrace.report.source import reproducibility, title_lines
from hmtrace.report.text import count, plural, share
from replay.machine.words import kernel_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import RenderableType

    from hmtrace.report.answers import Absence
    from hmtrace.report.parts import Labelled
    from hmtrace.report.source import InputSummary
    from replay.cost.calibrate import Calibration
    from replay.outcome import Outcome

UNTRACED: Final = "not traced"


def report_renderables(
    source: InputSummary,
    outcome: Outcome,
    assumptions: Sequence[str] = (),
    calibration: Calibration | None = None,
    *,
    detail: str = "usual",
    longest: int = 0,
) -> Iterator[RenderableType]:
    """Lines and sections of `report`, what to act on first.

    Parameters
    ----------
    source
        What was read.
    outcome
        What the replay found.
    assumptions
        What the machine's files did not say.
    calibration
        Costs measured from the trace, with ``--calibrate``.
    detail
        ``brief``, ``usual`` or ``all``.
    longest
        How many of the longest calls are told.

    Yields
    ------
    RenderableType
        Title, losses, key figures, findings; if it is not brief the sections behind them, and last
        pictures of the machine if all is wanted.
    """
    yield from title_lines("report", source)
    yield Text()
    yield key_figures(outcome, source.absent)
    yield from findings_section(outcome.findings, brief=detail == "brief")
    caveats = (*outcome.caveats, *assumptions, *source.notes)
    if detail == "brief":
        yield Text()
        yield Text(
            f"{plural(len(dict.fromkeys(caveats)), 'caveat')}, and what is behind these "
            "figures: without --brief",
            style="dim",
        )
        return
    yield from behind_sections(source, outcome, calibration, longest=longest)
    if detail == "all":
        yield from slots_section(outcome.timeline)
        yield from times_sections(outcome.observed)
        yield from machine_section(outcome.machine, outcome.layout)
    yield from caveats_section(caveats)
    yield Text()
    yield reproducibility(source)


def behind_sections(
    source: InputSummary,
    outcome: Outcome,
    calibration: Calibration | None = None,
    *,
    longest: int = 0,
    sites: int = SHOWN,
) -> Iterator[RenderableType]:
    """Sections with what is behind key figures and findings, for terminal and page.

    Parameters
    ----------
    source, outcome, calibration, longest
        As of :func:`report_renderables`.
    sites
        How many call sites are told.

    Yields
    ------
    RenderableType
        Headings, each with its parts.
    """
    absent = source.absent
    marks = None if outcome.observed is None else outcome.observed.marks
    yield from pool_section(outcome.pool, absent["pool"].words, outcome.span_ns, marks)
    yield from local_section(outcome.local, absent["local"].words)
    yield from arena_section(outcome.arena, absent["arena"].words, outcome.sites)
    yield from purges_section(outcome.purges)
    if not has_chart(outcome.pool):
        yield from marks_alone(marks)
    yield from cost_section(outcome)
    yield from durations_section(outcome.observed)
    yield from longest_section(outcome.observed, longest)
    yield from calibration_section(calibration)
    yield from user_flushes_section(outcome.observed)
    yield from lowmem_section(outcome.lowmem)
    yield from sites_section(outcome.sites, sites)
    yield from stacks_section(outcome.observed)


def key_figures(outcome: Outcome, absent: Mapping[str, Absence]) -> Labelled:
    """The handful of lines that most readers want; of what was not traced that it was not."""
    pool, local, arena = outcome.pool, outcome.local, outcome.arena
    rows: list[tuple[str, str]] = [
        ("machine", machine_in_words(outcome.machine, outcome.layout)),
        ("kernel", joined(kernel_words(outcome.machine, outcome.layout))),
        ("cost", cost_in_words(outcome.cost, outcome)),
    ]
    if pool.pages_unknown:
        rows.append(("pool", f"{count(pool.maps)} kmap, pages unknown: so are use, flushes, waits"))
    elif pool.maps:
        top = share(pool.max_used / pool.slots) if pool.slots else "n/a"
        used = f"at most {count(pool.max_used)} of {count(pool.slots)} slots ({top})"
        flushes = plural(pool.flushes, "flush", "flushes")
        rows += [
            ("pool", joined([f"{count(pool.maps)} kmap", used, flushes])),
            ("waits", waits_in_words(pool)),
        ]
    elif absent["pool"].untraced:
        rows.append(("pool", UNTRACED))
    if local.maps or local.lowmem:
        rows.append(
            ("local", joined([f"{count(local.maps)} mappings", f"depth {depth_in_words(local)}"]))
        )
    elif absent["local"].untraced:
        rows.append(("local", UNTRACED))
    if arena.allocs or arena.failures:
        rows.append(("arena", calls_in_words(arena)))
    elif absent["arena"].untraced:
        rows.append(("arena", UNTRACED))
    return labelled(rows)
