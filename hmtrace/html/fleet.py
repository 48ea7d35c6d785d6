"""The pages of `advise` and `sweep` for more captures than have a page each."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from hmtrace.html.blocks import Section, TableBlock, TableCell, TableColumn, runs_of, sections_of
from hmtrace.html.choice import choice_section
from hmtrace.html.group import repeat_section
from hmtrace.html.page import MACHINES, PageHead, page
from hmtrace.report.common_choice import BEST
from hmtrace.report.fleet import advised_fleet_renderables, swept_fleet_renderables
from hmtrace.report.text import count, last_part, plural
from replay.whatif.common import DOUBTED, GAINS, LOSES, SAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import RenderableType

    from hmtrace.report.fleet import AdvisedFleet, SweptFleet

_MACHINES: Final = 1000
"""Machines of a sweep that are listed."""
_BOARDS: Final = 2000
"""Captures that are listed."""
_STANDINGS: Final = {GAINS: "gains", SAME: "no gain", DOUBTED: "doubted", LOSES: "loses"}


def swept_fleet_page(fleet: SweptFleet, left_out: Sequence[str], command: Sequence[str]) -> str:
    """The page of `sweep`.

    Parameters
    ----------
    fleet
        The sweeps of all captures.
    left_out
        Captures that could not be read.
    command
        Words of the command that repeats it, safe to print.

    Returns
    -------
    str
        Text of an HTML file.
    """
    parts = swept_fleet_renderables(fleet, left_out, _MACHINES)
    return _page("sweep", fleet.captures, parts, command)


def advised_fleet_page(
    fleet: AdvisedFleet,
    records: Iterable[Mapping[str, Any]],
    left_out: Sequence[str],
    command: Sequence[str],
) -> str:
    """The page of `advise`.

    Parameters
    ----------
    fleet
        The advice for all captures.
    records
        What :func:`hmtrace.report.fleet.advice_record` says of each.
    left_out, command
        As of :func:`swept_fleet_page`.

    Returns
    -------
    str
        Text of an HTML file.
    """
    parts = advised_fleet_renderables(fleet, left_out)
    return _page("advise", fleet.captures, parts, command, [_boards(fleet, records)])


def best_in_words(sections: Iterable[Section]) -> str:
    """The builds that are best for all, architecture by architecture; "" without any."""
    begin = f"{BEST}: "
    found = [
        f"{one.title.removeprefix(begin)} ({one.aside})"
        for one in sections
        if one.title.startswith(begin)
    ]
    return begin + "; ".join(found) if found else ""


def _boards(fleet: AdvisedFleet, records: Iterable[Mapping[str, Any]]) -> Section:
    """A row for each capture."""
    best = {arch: list(fleet.best(arch)[0]) for arch in fleet.kinds}
    titles = ("capture", "machine, kernel", "now", "choice", "for all", "evidence", "why")
    rows = []
    for record in islice(records, _BOARDS):
        key = best[record["arch"]]
        build = next((one for one in record["builds"] if one["key"] == key), None)
        words = (
            last_part(record["path"]),
            record["kind"],
            record["now"],
            record["choice"],
            "cannot" if build is None else _STANDINGS[build["standing"]],
            record["evidence"],
            "" if build is None else build["why"],
        )
        rows.append(tuple(TableCell(runs_of(text)) for text in words))
    table = TableBlock(tuple(TableColumn(title, is_right=False) for title in titles), tuple(rows))
    more = fleet.captures - len(rows)
    aside = f"{count(more)} more: --format json has all" if more > 0 else ""
    return Section("boards", "Each capture", aside, parts=(table,))


def _page(
    name: str,
    captures: int,
    parts: Iterable[RenderableType],
    command: Sequence[str],
    more: Sequence[Section] = (),
) -> str:
    """The terminal's page, what it comes to before it."""
    title, *others = parts
    sections = list(sections_of(others))
    words = best_in_words(sections) or sections[0].title
    facts = [text.plain for text in [title] if isinstance(text, Text)]
    return page(
        PageHead(name, plural(captures, "capture")),
        [choice_section(words, facts), *sections, *more, repeat_section(command)],
        None,
        MACHINES,
    )
