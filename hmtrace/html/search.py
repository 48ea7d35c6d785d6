"""The page of `sweep --find`: the answers, and what was tried for each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from hmtrace.html.blocks import (
    Section,
    TableBlock,
    TableCell,
    TableColumn,
    pairs_of,
    runs_of,
    sections_of,
)
from hmtrace.html.choice import choice_section
from hmtrace.html.heat import Shading, heat_map
from hmtrace.html.plotted import Plotted, key_of, plotted
from hmtrace.html.steps import steps
from hmtrace.html.sweep import MACHINES_LISTED as LISTED
from hmtrace.html.sweep import HeatParts, StepsParts, page_of
from hmtrace.report.caveats import caveats_section
from hmtrace.report.machine import machine_in_words
from hmtrace.report.searching import (
    answer_in_words,
    caveats_of_search,
    combination_section,
    enough_in_words,
    sense_of_value,
    value_in_words,
)
from hmtrace.report.sweep import COLUMNS, values_in_words
from hmtrace.report.text import clean, count, plural
from replay.whatif.sweep import SweptMachine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hmtrace.report.searching import Search, Searched

_TOLD: Final = 24
"""Combinations of the other axes that have a section each."""
_NO_VALUE: Final = "no value that was tried meets what is asked"


def search_page(searches: Sequence[Search], command: Sequence[str]) -> str:
    """The page; parameters as of :func:`hmtrace.html.sweep.sweep_page`."""
    maps: list[dict[str, Any]] = []
    found = [list(_sections(one, maps, len(searches))) for one in searches]
    return page_of([one.source for one in searches], found, command, maps)


def _sections(search: Search, maps: list[dict[str, Any]], pages: int) -> Iterator[Section]:
    yield _answer(search)
    is_one = len(search.searched) == 1
    if not is_one:
        yield from _frontier(search, maps, pages)
    for number, one in enumerate(search.searched[:_TOLD], 1):
        title = f"Over {clean(search.name)}" if is_one else values_in_words(one.words)
        aside = "" if is_one else value_in_words(search, one)
        told = next(sections_of(combination_section(search, one)))
        yield replace(
            _tried(search, one, told, maps), ident=f"tried-{number}", title=title, aside=aside
        )
    caveats = [*caveats_of_search(search), *search.assumptions, *search.source.notes]
    yield from sections_of(caveats_section(caveats))


def _answer(search: Search) -> Section:
    baseline = search.baseline
    rows = [("captured", machine_in_words(baseline.machine, baseline.layout))]
    blocks = [pairs_of(rows)]
    if len(search.searched) == 1:
        (one,) = search.searched
        level = "warning" if one.found.value is None else "fine"
        tried = len(one.found.tried)
        lines = [f"{plural(tried, 'value')} of {clean(search.name)} tried"]
        return choice_section(answer_in_words(search, one), lines, level=level, blocks=blocks)
    found = sorted(
        (one for one in search.searched if one.found.value is not None),
        key=lambda one: one.found.value or 0,
    )
    asked = clean(" and ".join(condition.words for condition in search.conditions))
    ends = dict.fromkeys(value_in_words(search, one) for one in (*found[:1], *found[-1:]))
    words = f"{_title(search).capitalize()} with {asked}: {' to '.join(ends) or 'none'}"
    none = len(search.searched) - len(found)
    lines = [f"for {plural(len(search.searched), 'combination')} of the other axes"]
    lines += [f"{count(none)} of them: {_NO_VALUE}"] if none else []
    return choice_section(words, lines, level="warning" if none else "fine", blocks=blocks)


def _title(search: Search) -> str:
    return f"{'least' if search.is_least else 'greatest'} {clean(search.name)}"


def _frontier(search: Search, maps: list[dict[str, Any]], pages: int) -> Iterator[Section]:
    """The values that were found, over the other axes."""
    names = list(search.searched[0].words)
    words = {
        name: tuple(dict.fromkeys(one.words[name] for one in search.searched)) for name in names
    }
    axes = [name for name in names if len(words[name]) > 1]
    found = {key_of(one.words, axes): one for one in search.searched}
    answers = {key: one for key, one in found.items() if one.found.value is not None}
    figure = Plotted(
        search.name,
        _title(search),
        not search.is_least,
        {key: one.found.value for key, one in answers.items()},
        lambda key: value_in_words(search, answers[key]),
        lambda key: sense_of_value(search, answers[key]),
        lambda value: search.word(round(value)),
    )
    table = _answers_table(search, names)
    title = f"{_title(search).capitalize()} by {' and '.join(map(clean, axes))}"
    if len(axes) == 1:
        chart = steps(axes[0], words[axes[0]], None, [figure], number=len(maps))
        maps.append({})
        yield Section("frontier", title, "", "steps.html", StepsParts(chart, (table,)))
        return
    shading = Shading(
        {name: words[name] for name in axes},
        [figure],
        dict.fromkeys(found.keys() - answers.keys(), ("none", _NO_VALUE)),
        (),
        next(iter(answers), next(iter(found))),
        {},
        {},
    )
    heat, data = heat_map(shading, len(maps), pages)
    maps.append(data)
    yield Section("frontier", title, "", "heat.html", HeatParts(heat, (table,)))


def _answers_table(search: Search, names: Sequence[str]) -> TableBlock:
    columns = [TableColumn(clean(name), is_right=False) for name in names]
    return TableBlock(
        (*columns, TableColumn(_title(search), is_right=True)),
        tuple(
            (
                *(TableCell(runs_of(clean(one.words[name]))) for name in names),
                TableCell(runs_of(value_in_words(search, one)), one.found.value),
            )
            for one in search.searched[:LISTED]
        ),
    )


def _tried(search: Search, one: Searched, told: Section, maps: list[dict[str, Any]]) -> Section:
    """What was tried for one answer: a chart of the figures, and the terminal's table."""
    values = {v: m for v, m in sorted(one.tried.items()) if isinstance(m, SweptMachine)}
    asked = [condition.figure for condition in search.conditions]
    figures = plotted([*asked, *COLUMNS], values.values(), [search.name])
    if not figures:
        return told
    found = None
    if one.found.value is not None:
        found = search.word(one.found.value), f"← {enough_in_words(search, one)}"
    words = [search.word(value) for value in values]
    chart = steps(search.name, words, list(values), figures, (), found, len(maps))
    maps.append({})
    return replace(told, template="steps.html", parts=StepsParts(chart, told.parts))  # type: ignore[arg-type]
