"""The page of `advise`: what to choose, the builds, their address spaces, reasons."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rich.console import Group

from collectors.records import dataclass
from hmtrace.html.blocks import (
    Run,
    Section,
    TableBlock,
    TableCell,
    TableColumn,
    blocks_of,
    pairs_of,
    runs_of,
    sections_of,
)
from hmtrace.html.choice import choice_section
from hmtrace.html.fleet import best_in_words
from hmtrace.html.group import anchor
from hmtrace.html.space import SpacePicture, ZoneBar, pictures, zone_bars
from hmtrace.html.sweep import page_of
from hmtrace.report.advising import choice_in_words, in_short, machines_rows, sections_behind
from hmtrace.report.common_choice import by_architecture, fleet_renderables
from hmtrace.report.options import options_table, verdict_word
from hmtrace.report.reasons import name_of
from hmtrace.report.text import clean, plural, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hmtrace.html.blocks import Block
    from hmtrace.report.advising import Advised
    from replay.machine.layout import Layout
    from replay.whatif.reasons import Advice, Option

_ORDER: Final = ("reasons", "the-others", "do", "not-told")
"""Sections that come before the others."""


@dataclass(frozen=True)
class BuildSpace:
    """The address space and RAM of a build."""

    title: str
    tag: str
    pictures: tuple[SpacePicture, ...]
    zones: tuple[ZoneBar, ...]


@dataclass(frozen=True)
class SidesParts:
    """Address spaces beside each other, to one scale.

    Attributes
    ----------
    name
        Of the choice among `others`: an anchor.
    now
        The present build.
    others
        The first is shown at first.
    blocks
        What stands below them.
    """

    name: str
    now: BuildSpace
    others: tuple[BuildSpace, ...]
    blocks: tuple[Block, ...]


def advise_page(advised: Sequence[Advised], command: Sequence[str]) -> str:
    """The page of one piece of advice for each capture.

    `command` and the result are as of :func:`hmtrace.html.sweep.sweep_page`.
    """
    sections = [list(_sections(number, one)) for number, one in enumerate(advised, 1)]
    first = list(_common(advised)) if len(advised) > 1 else []
    return page_of([one.source for one in advised], sections, command, [], first, "advise")


def _sections(number: int, advised: Advised) -> Iterator[Section]:
    advice = advised.advice
    yield choice_section(
        choice_in_words(advice.choice),
        [in_short(advice.choice, advice.now)],
        f"evidence: {advice.evidence}",
        "warning" if advice.evidence == "thin" else "fine",
        blocks=[pairs_of(machines_rows(advised)), *_builds(advice)],
    )
    yield _spaces(number, advice)
    behind = list(sections_of(sections_behind(advised)))
    yield from sorted(behind, key=lambda one: [*_ORDER, one.ident].index(one.ident))


def _builds(advice: Advice) -> Iterator[Block]:
    """The table of builds, each row's mark beside its split."""
    for block in blocks_of(Group(*options_table(advice).parts(wide=True))):
        if isinstance(block, TableBlock):
            rows = tuple(_marked(*row) for row in block.rows)
            yield replace(block, columns=block.columns[1:], rows=rows)
        else:
            yield block


def _marked(mark: TableCell, split: TableCell, *others: TableCell) -> tuple[TableCell, ...]:
    if not mark.runs:
        return split, *others
    return replace(split, runs=(*split.runs, Run(" "), *mark.runs)), *others


def _spaces(number: int, advice: Advice) -> Section:
    """The address space of now beside that of the choice, or of another build."""
    wanted = [advice.choice, *([advice.trial] if advice.trial else []), *advice.listed]
    others = list({id(one): one for one in wanted if not one.is_now}.values())
    parts = SidesParts(
        f"beside-{number}",
        _space_of(advice.now, advice),
        tuple(_space_of(one, advice) for one in others),
        (_regions(advice.now, others[0]),) if others else (),
    )
    return Section("address-space", "Address space", "to one scale", "sides.html", parts)


def _space_of(option: Option, advice: Advice) -> BuildSpace:
    layout = option.outcome.layout
    tag = "now" if option.is_now else verdict_word(option)
    if option is advice.choice:
        tag = "stay" if option.is_now else "the choice"
    elif option is advice.trial:
        tag = "worth a try"
    return BuildSpace(
        name_of(option.build),
        tag,
        tuple(pictures(layout.regions)),
        tuple(zone_bars(option.outcome.machine, layout)),
    )


def _regions(now: Option, other: Option) -> TableBlock:
    """How large each region is now and would be."""
    before, after = _sizes(now.outcome.layout), _sizes(other.outcome.layout)
    names = dict.fromkeys([*before, *after])
    titles = ("region", "now", name_of(other.build), "difference")
    return TableBlock(
        tuple(TableColumn(title, at > 0) for at, title in enumerate(titles)),
        tuple(
            (
                TableCell(runs_of(clean(name, 40))),
                *map(_sized, (before.get(name, 0), after.get(name, 0))),
                _change(after.get(name, 0) - before.get(name, 0)),
            )
            for name in names
        ),
    )


def _sizes(layout: Layout) -> dict[str, int]:
    """Bytes of each region, from the top; gaps together."""
    found: dict[str, int] = {}
    for region in reversed(layout.regions):
        found[region.name] = found.get(region.name, 0) + region.end - region.start
    return found


def _sized(extent: int) -> TableCell:
    return TableCell(runs_of(size(extent) if extent else "none"), extent)


def _change(extent: int) -> TableCell:
    words = f"{'+' if extent > 0 else '-'}{size(abs(extent))}" if extent else ""
    return TableCell(runs_of(words), extent)


def _common(advised: Sequence[Advised]) -> Iterator[Section]:
    """What is best for all, and a row for each capture that leads to its sections."""
    boards, *best = sections_of(fleet_renderables(advised))
    words = best_in_words(best) or "Each has a choice of its own"
    yield choice_section(words, [plural(len(advised), "capture")])
    numbers = {id(one): number for number, one in enumerate(advised, 1)}
    order = [numbers[id(one)] for group in by_architecture(advised).values() for one in group]
    yield replace(boards, parts=tuple(_leading(block, order) for block in boards.parts))  # type: ignore[attr-defined]
    yield from best


def _leading(block: Block, order: Sequence[int]) -> Block:
    """The table with a link in each row."""
    if not isinstance(block, TableBlock):
        return block
    rows = zip(block.rows, order, strict=True)
    return replace(
        block,
        rows=tuple((replace(row[0], leads_to=anchor(n)), *row[1:]) for row, n in rows),
    )
