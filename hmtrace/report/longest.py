"""The calls that took longest: when, where, who, what, and how far it reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from hmtrace.report.parts import Elided, heading, indented, plain_table
from hmtrace.report.text import clean, clock, count, duration, symbol
from hmtrace.report.wording import task_in_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from replay.outcome import LongCall, Observed


def longest_section(observed: Observed | None, most: int) -> Iterator[RenderableType]:
    """The calls that took longest.

    Parameters
    ----------
    observed
        None for another machine than the captured one.
    most
        How many.

    Yields
    ------
    RenderableType
        Heading and one row per call; nothing where no time was traced, or none is wanted.
    """
    calls = () if observed is None else observed.longest[:most]
    if not calls:
        return
    yield heading("Longest calls", "entry to return, sleeps included; inner calls in outer ones")
    table = plain_table(
        ("at", "left"),
        ("CPU", "right"),
        ("task", "left"),
        ("call", "left"),
        ("took", "right"),
        ("pages", "right"),
        ("IPIs", "right"),
        ("from", "left"),
    )
    rows = [_cells(call) for call in calls]
    for column, cells in zip(table.columns, zip(*rows, strict=True), strict=False):
        column.min_width = max(len(str(column.header)), *(cell.cell_len for cell in cells))
    table.columns[-1].no_wrap = False  # so that it is the one that gives way
    for call, cells in zip(calls, rows, strict=True):
        site = "" if call.at.site is None else symbol(call.at.site)
        table.add_row(*cells, Elided(site, len(site) - max(site.rfind("+"), 0)))
    yield indented(table)


def _cells(call: LongCall) -> tuple[Text, ...]:
    """What is told of a call, but for the place that it came from."""
    return (
        Text(clock(call.at.ts)),
        Text("" if call.at.cpu is None else str(call.at.cpu)),
        Text(task_in_words(call.at)),
        Text(clean(call.op)),
        Text(duration(call.ns)),
        Text("" if call.pages is None else count(call.pages)),
        Text(count(call.ipis) if call.flushes else ""),
    )
