"""What a search found: the value, and what the machines on both sides of it come to."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rich.text import Text

from collectors.records import dataclass
from hmtrace.report.caveats import caveats_section
from hmtrace.report.document import schema, source_document
from hmtrace.report.machine import machine_in_words
from hmtrace.report.parts import Fitted, Valued, heading, indented, labelled
from hmtrace.report.plain import plain
from hmtrace.report.sidebyside import SIGNS
from hmtrace.report.source import reproducibility, title_lines
from hmtrace.report.sweep import (
    COLUMNS,
    ELSEWHERE,
    IN_MIB,
    TITLES,
    meaning_of_signs,
    shown,
    spare_titles,
    values_in_words,
    varies,
)
from hmtrace.report.text import GLUE, clean
from replay.whatif.figures import sense_of
from replay.whatif.sweep import SweptMachine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

    from hmtrace.report.source import InputSummary
    from replay.outcome import Outcome
    from replay.whatif.search import Found

_LEAST: Final = {"failures": 1}
"""What a figure that may be more or less is at least: the first failure is foretold by what both
machines did alike until then."""
_BOUNDED: Final = "the figures that the condition is about are bounds"
_SENSES: Final = {
    (True, "least"): "≥: less is not enough, and more may be needed, for {}; to know, capture with "
    "as much as was found, or more",
    (True, "most"): "≤: so much is enough, and less may be, for {}",
    (False, "least"): "≥: so much is right, and more may be, for {}",
    (False, "most"): "≤: more is too much, and less may be needed, for {}",
    (True, "about"): "≈: the value may be more or less, for {}",
    (False, "about"): "≈: the value may be more or less, for {}",
}
"""What it means that a least value, or a greatest one, is a bound."""


class AskedFigure(NamedTuple):
    """A condition: a figure, how it is compared, with what, and all of that in words."""

    figure: str
    sign: str
    number: float
    words: str

    def may_be(self, machine: SweptMachine | None, *, met: bool) -> bool:
        """Whether a machine may meet the condition, or may not, its figures being bounds."""
        value = None if machine is None else machine.figures[self.figure]
        if machine is None or value is None:
            return False
        sense = sense_of(self.figure, value, machine.bound, machine.figures["arena_apart"])
        low = value if sense in (None, "least") else min(value, _LEAST.get(self.figure, 0))
        high = value if sense in (None, "most") else inf
        least, most = low - self.number, high - self.number
        may_fail, may_hold = {
            "<": (most >= 0, least < 0),
            "<=": (most > 0, least <= 0),
            ">": (least <= 0, most > 0),
            ">=": (least < 0, most >= 0),
        }.get(self.sign, (bool(least or most), least <= 0 <= most))
        return may_hold if met else may_fail


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
        What the machines have to meet.
    searched
        By combination of the other axes.
    """

    source: InputSummary
    assumptions: tuple[str, ...]
    baseline: Outcome
    goal: str
    name: str
    word: Callable[[int], str]
    conditions: tuple[AskedFigure, ...]
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
        yield from combination_section(search, one)
    yield from caveats_section(
        [*caveats_of_search(search), *search.assumptions, *search.source.notes]
    )
    yield Text()
    yield reproducibility(search.source)


def combination_section(search: Search, one: Searched) -> Iterator[RenderableType]:
    """What was found with one combination of the other axes, and what was tried.

    Yields
    ------
    RenderableType
    """
    yield heading(answer_in_words(search, one), values_in_words(one.words))
    machines = {v: m for v, m in sorted(one.tried.items()) if isinstance(m, SweptMachine)}
    if not machines:
        yield indented(Text(clean(next(iter(one.tried.values()), ""))))
        return
    asked = [condition.figure for condition in search.conditions]
    columns = [*asked, *(n for n in COLUMNS if n not in asked and varies(machines.values(), n))]
    titles = [
        (search.name, "left"),
        *((TITLES.get(name, name), "right") for name in columns),
        ("", "left"),
    ]
    enough = enough_in_words(search, one)
    rows = [
        [
            Valued(search.word(value), value),
            *(Valued(shown(name, machine), machine.figures[name]) for name in columns),
            Text(f"← {enough}".replace(" ", GLUE) if value == one.found.value else ""),
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


def enough_in_words(search: Search, one: Searched) -> str:
    """How the value that was found suffices: ``enough``, ``at least``, ``at most``, ``about``."""
    sense = sense_of_value(search, one)
    return {None: "enough", "about": "about"}.get(sense, f"at {sense}")


def value_in_words(search: Search, one: Searched) -> str:
    """The value that was found; ``none`` where there is none."""
    if one.found.value is None:
        return "none"
    return f"{SIGNS[sense_of_value(search, one)]} {search.word(one.found.value)}".strip()


def answer_in_words(search: Search, one: Searched) -> str:
    """What was found, and for what."""
    asked = " and ".join(condition.words for condition in search.conditions)
    found = one.found
    if found.value is None:
        return f"no {search.name} that was tried gives {asked}"
    which = "least" if search.is_least else "greatest"
    answer = f"{value_in_words(search, one)} is the {which} {search.name} with {asked}"
    if found.beside is None:
        return f"{answer} (the first that is tried)"
    return answer


def _machine_at(one: Searched, value: int | None) -> SweptMachine | None:
    machine = None if value is None else one.tried[value]
    return machine if isinstance(machine, SweptMachine) else None


def sense_of_value(search: Search, one: Searched) -> str | None:
    """In which sense the value holds that was found, where it rests on figures that are bounds.

    On its machine a figure may be worse than it is told to be, then it takes more (of a greatest
    value: less); on the machine beside it a figure may be better, then less would do.

    Returns
    -------
    str or None
        As of :func:`replay.whatif.figures.sense_of`.
    """
    found, beside = (_machine_at(one, value) for value in (one.found.value, one.found.beside))
    may_fail = any(condition.may_be(found, met=False) for condition in search.conditions)
    may_hold = all(condition.may_be(beside, met=True) for condition in search.conditions)
    if may_fail and may_hold:
        return "about"
    if not (may_fail or may_hold):
        return None
    return "least" if may_fail == search.is_least else "most"


def caveats_of_search(search: Search) -> list[str]:
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
        if (machine := _machine_at(one, one.found.value)) is not None
    ]
    senses = {sense_of_value(search, one) for one in search.searched}
    caveats.extend(
        words.format(_BOUNDED)
        for (is_least, sense), words in _SENSES.items()
        if is_least == search.is_least and sense in senses
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
        "where": [condition.words for condition in searches[0].conditions] if searches else [],
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
        "value_sense": sense_of_value(search, one),
        "beside": found.beside,
        "is_monotone": found.is_monotone,
        "at": _machine_document(one, found.value),
        "at_beside": _machine_document(one, found.beside),
        "tried": [{"value": t.value, "holds": t.holds} for t in found.tried],
    }


def _machine_document(one: Searched, value: int | None) -> dict[str, Any] | None:
    machine = _machine_at(one, value)
    if machine is None:
        return None
    return {
        "bound": machine.bound,
        "figures": plain(machine.figures),
        "caveats": list(machine.caveats),
    }
