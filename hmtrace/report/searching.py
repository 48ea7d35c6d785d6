"""What a search found: the value, and what the machines on both sides of it come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.text import Text

from hmtrace.report.caveats import caveats_section
from hmtrace.report.document import schema, source_document
from hmtrace.report.machine import machine_in_words
from hmtrace.report.parts import Fitted, heading, indented, labelled
from hmtrace.report.plain import plain
from hmtrace.report.source import reproducibility, title_lines
from hmtrace.report.sweep import (
    COLUMNS,
    ELSEWHERE,
    IN_MIB,
    TITLES,
    meaning_of_signs,
    shown,
    spare_titles,
)
from hmtrace.report.text import clean
from replay.whatif.figures import sense_of
from replay.whatif.sweep import SweptMachine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

    from hmtrace.report.source import InputSummary
    from replay.outcome import Outcome
    from replay.whatif.search import Found


@dataclass(frozen=True)
class Searched:
    """One combination of the other axes: what was found, and what was tried by value.

    `tried` has a machine, or why no kernel can have the value.
    """

    words: dict[str, str]
    found: Found
    tried: dict[int, SweptMachine | str]


@dataclass(frozen=True)
class Search:
    """What a search in one capture found.

    Attributes
    ----------
    source, assumptions, baseline
        As of :class:`hmtrace.report.sweep.Sweep`.
    goal, name
        What was asked for, and the axis in it.
    word
        The word of a value.
    conditions
        Figure and words of each condition.
    searched
        By combination of the other axes.
    """

    source: InputSummary
    assumptions: tuple[str, ...]
    baseline: Outcome
    goal: str
    name: str
    word: Callable[[int], str]
    conditions: tuple[tuple[str, str], ...]
    searched: tuple[Searched, ...]

    @property
    def is_least(self) -> bool:
        """Whether the least value was searched."""
        return self.goal.startswith("min")


def search_renderables(search: Search) -> Iterator[RenderableType]:
    """Lines and sections of a search.

    Yields
    ------
    RenderableType
        Title, captured machine, and per combination the answer with what was tried around it.
    """
    baseline = search.baseline
    yield from title_lines("sweep", search.source)
    yield Text()
    yield labelled([("captured", machine_in_words(baseline.machine, baseline.layout))])
    for one in search.searched:
        yield from _combination(search, one)
    yield from caveats_section([*_caveats(search), *search.assumptions, *search.source.notes])
    yield Text()
    yield reproducibility(search.source)


def _combination(search: Search, one: Searched) -> Iterator[RenderableType]:
    words = ", ".join(f"{name} {clean(word)}" for name, word in one.words.items())
    yield heading(_answer(search, one), words)
    machines = {v: m for v, m in sorted(one.tried.items()) if isinstance(m, SweptMachine)}
    if not machines:
        yield indented(Text(clean(next(iter(one.tried.values()), ""))))
        return
    asked = [figure for figure, _ in search.conditions]
    columns = [*asked, *(n for n in COLUMNS if n not in asked and _varies(machines.values(), n))]
    titles = [
        (search.name, "left"),
        *((TITLES.get(name, name), "right") for name in columns),
        ("", "left"),
    ]
    rows = [
        [
            Text(search.word(value)),
            *(Text(shown(name, machine)) for name in columns),
            Text("← enough" if value == one.found.value else ""),
        ]
        for value, machine in machines.items()
    ]
    yield indented(Fitted(titles, rows, spare_titles(*asked), ELSEWHERE))
    notes = meaning_of_signs(machines.values(), columns)
    if sizes := [TITLES.get(name, name) for name in columns if name in IN_MIB]:
        notes.insert(0, f"in whole MiB: {', '.join(sizes)}")
    left_out = len(one.tried) - len(machines)
    if left_out:
        reason = next(m for m in one.tried.values() if isinstance(m, str))
        notes.append(f"{left_out} values that no kernel can have, such as: {clean(reason)}")
    if notes:
        yield indented(Text("\n".join(notes), style="dim"))


def _varies(machines: Any, name: str) -> bool:
    return len({shown(name, machine) for machine in machines}) > 1


def _answer(search: Search, one: Searched) -> str:
    asked = " and ".join(words for _, words in search.conditions)
    found = one.found
    if found.value is None:
        return f"no {search.name} that was tried gives {asked}"
    which = "least" if search.is_least else "greatest"
    answer = f"{search.word(found.value)} is the {which} {search.name} with {asked}"
    if found.beside is None:
        return f"{answer} (the first that is tried)"
    return answer


def _caveats(search: Search) -> list[str]:
    """What the answers rest on."""
    caveats = []
    if any(not one.found.is_monotone for one in search.searched):
        caveats.append(
            "the condition is not met on one side alone: beyond the value all that were tried meet "
            "it, and some before it do, too"
        )
    answers = [
        machine
        for one in search.searched
        if one.found.value is not None
        and isinstance(machine := one.tried[one.found.value], SweptMachine)
    ]
    if any(
        sense_of(figure, machine.figures[figure], machine.bound) == "least"
        for machine in answers
        for figure, _ in search.conditions
    ):
        caveats.append(
            "the condition is about figures that are at least so much on the machine that was "
            "found: the trace does not show what is lowmem where it was captured"
        )
    kept = [set(machine.caveats) for machine in answers]
    if kept:
        common = set.intersection(*kept)
        caveats.extend(caveat for caveat in answers[0].caveats if caveat in common)
    return caveats


def search_document(searches: Sequence[Search], goal: str) -> dict[str, Any]:
    """Document of `sweep --find`."""
    return {
        **schema("sweep"),
        "find": goal,
        "where": [words for _, words in searches[0].conditions] if searches else [],
        "captures": [
            {**source_document(s.source), "assumptions": list(s.assumptions)} for s in searches
        ],
        "answers": [
            _answer_document(search, one) for search in searches for one in search.searched
        ],
    }


def _answer_document(search: Search, one: Searched) -> dict[str, Any]:
    found = one.found
    return {
        "capture": search.source.origin.path,
        **one.words,
        "axis": search.name,
        "value": found.value,
        "beside": found.beside,
        "is_monotone": found.is_monotone,
        "at": _machine_document(one, found.value),
        "at_beside": _machine_document(one, found.beside),
        "tried": [{"value": t.value, "holds": t.holds} for t in found.tried],
    }


def _machine_document(one: Searched, value: int | None) -> dict[str, Any] | None:
    machine = None if value is None else one.tried[value]
    if not isinstance(machine, SweptMachine):
        return None
    return {
        "bound": machine.bound,
        "figures": plain(machine.figures),
        "caveats": list(machine.caveats),
    }
