"""The page of `sweep`: machines as a map or chart, and as a table."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from collectors.records import dataclass
from hmtrace.html.blocks import Lines, Section, pairs_of, runs_of, sections_of
from hmtrace.html.choice import choice_section
from hmtrace.html.group import group, repeat_section
from hmtrace.html.heat import HeatMap, Shading, heat_map
from hmtrace.html.overview import Tile, page_head
from hmtrace.html.page import MACHINES, PageHead, page
from hmtrace.html.plotted import figures_of_sweep, key_of, with_unit
from hmtrace.html.steps import Steps, steps
from hmtrace.report.caveats import caveats_section
from hmtrace.report.machine import machine_in_words
from hmtrace.report.sweep import (
    NONE,
    TITLES,
    UNFIT,
    UNMET,
    caveats_of,
    common_caveats,
    left_out_section,
    machines_section,
    meaning_of_signs,
    reasons_of,
    shown,
    than_captured,
    values_in_words,
)
from hmtrace.report.text import NA, clean, count, plural
from replay.whatif.figures import FIGURES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hmtrace.html.blocks import Block
    from hmtrace.html.plotted import Key
    from hmtrace.report.source import InputSummary
    from hmtrace.report.sweep import Sweep

MACHINES_LISTED: Final = 1000
"""Machines in tables of a page."""


@dataclass(frozen=True)
class HeatParts:
    """A heat map, and what stands below it."""

    map: HeatMap
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True)
class StepsParts:
    """Charts, and what stands below them."""

    steps: Steps
    blocks: tuple[Block, ...] = ()


def sweep_page(sweeps: Sequence[Sweep], command: Sequence[str]) -> str:
    """The page.

    Parameters
    ----------
    sweeps
        One for each capture.
    command
        Words of the command that repeats it, safe to print.

    Returns
    -------
    str
        Text of an HTML file.
    """
    maps: list[dict[str, Any]] = []
    found = [list(_sections(one, maps, len(sweeps))) for one in sweeps]
    return page_of([one.source for one in sweeps], found, command, maps)


def page_of(
    sources: Sequence[InputSummary],
    sections: Sequence[Sequence[Section]],
    command: Sequence[str],
    maps: Sequence[dict[str, Any]],
    first: Sequence[Section] = (),
    name: str = "sweep",
) -> str:
    """A page of the sections of each capture: with a heading for each where there are several.

    Parameters
    ----------
    sources, sections
        By capture.
    command
        Words of the command that repeats it, safe to print.
    maps
        What the script needs of each heat map.
    first
        Sections that are about all of them.
    name
        Command of hmtrace.

    Returns
    -------
    str
        Text of an HTML file.
    """
    repeat = repeat_section(command)
    data = {"maps": list(maps)}
    if len(sources) == 1:
        (source,) = sources
        return page(page_head(name, source), [*first, *sections[0], repeat], data, MACHINES)
    groups = [
        group(number, source, held)
        for number, (source, held) in enumerate(zip(sources, sections, strict=True), 1)
    ]
    head = PageHead(name, plural(len(sources), "capture"))
    return page(head, [*first, *groups, repeat], data, MACHINES)


def _sections(sweep: Sweep, maps: list[dict[str, Any]], pages: int) -> Iterator[Section]:
    yield _answer(sweep)
    yield from _picture(sweep, maps, pages)
    yield from sections_of(machines_section(sweep, MACHINES_LISTED // pages))
    yield from sections_of(left_out_section(sweep, numbered=True))
    yield from sections_of(caveats_section(caveats_of(sweep)))


def _answer(sweep: Sweep) -> Section:
    """The best machine beside the captured one."""
    baseline, by = sweep.baseline, sweep.by
    rows = [("captured", machine_in_words(baseline.machine, baseline.layout))]
    if sweep.conditions:
        rows.append(("asked", " and ".join(map(clean, sweep.conditions))))
    blocks = [pairs_of(rows)]
    least = "most" if FIGURES[by].more_is_better else "least"
    tried = len(sweep.machines) + sweep.without
    tiles = [Tile("machines", count(tried), _of_tried(sweep))]
    if not sweep.machines:
        words = f"none of {plural(tried, 'machine')} meets what is asked"
        return choice_section(words, level="warning", tiles=tiles, blocks=blocks)
    best = sweep.machines[0]
    figure = with_unit(by, shown(by, best))
    words = f"{least.capitalize()} {_title(by)}: {figure} with {values_in_words(best.words)}"
    lines = []
    if sweep.is_captured(best):
        lines.append("this is the captured machine")
    alike = sum(one.figures[by] == best.figures[by] for one in sweep.machines) - 1
    if alike:
        lines.append(f"{plural(alike, 'other machine')} with as much")
    change = than_captured(best, baseline.pool.asleep)
    if change in UNFIT:
        lines.append(f"{change}: the workload would not run there as it did")
    tiles.append(Tile(f"{least} {_title(by)}", figure, values_in_words(best.words)))
    for one in sweep.machines:
        if sweep.is_captured(one):
            told = with_unit(by, shown(by, one))
            tiles.append(Tile("the captured machine", told, values_in_words(one.words)))
            break
    return choice_section(words, lines, tiles=tiles, blocks=blocks)


def _of_tried(sweep: Sweep) -> str:
    parts = [f"{count(sweep.without)} {UNMET}"] if sweep.without else []
    parts += [f"{count(len(sweep.left_out))} that no kernel can be"] if sweep.left_out else []
    return ", ".join(parts)


def _title(name: str) -> str:
    return TITLES.get(name, name)


def _picture(sweep: Sweep, maps: list[dict[str, Any]], pages: int) -> Iterator[Section]:
    """A chart over one axis, a map over two or more."""
    axes = [name for name, words in sweep.axes.items() if len(words) > 1]
    figures = figures_of_sweep(sweep, axes)
    if not axes or not figures:
        return
    captured = [key_of(words, axes) for words in sweep.captured]
    if len(axes) == 1:
        (name,) = axes
        drawn = steps(
            name,
            sweep.axes[name],
            sweep.numbers.get(name),
            figures,
            captured,
            number=len(maps),
        )
        maps.append({})
        yield Section("over-axis", f"Over {clean(name)}", "", "steps.html",
                      StepsParts(drawn))  # fmt: skip
        return
    shading = Shading(
        axes={name: sweep.axes[name] for name in axes},
        figures=figures,
        states=_states(sweep, axes),
        captured=captured,
        start=captured[0] if captured else key_of(sweep.machines[0].words, axes),
        than={
            key_of(one.words, axes): than_captured(one, sweep.baseline.pool.asleep)
            for one in sweep.machines
        },
        caveats=_own_caveats(sweep, axes),
    )
    heat, data = heat_map(shading, len(maps), pages)
    maps.append(data)
    yield Section("map", "Map", "", "heat.html", HeatParts(heat, (_signs(sweep),)))


def _signs(sweep: Sweep) -> Block:
    """What the signs of figures mean."""
    words = [*meaning_of_signs(sweep.machines, FIGURES), f"{NONE} none"]
    if sweep.without:
        words.append(f"{UNMET}: not what is asked")
    if sweep.left_out:
        number = (
            ", with the number of the reason below" if len(reasons_of(sweep.left_out)) > 1 else ""
        )
        words.append(f"{NA}: no such kernel{number}")
    return Lines((runs_of(Text("; ".join(words), style="dim")),))


def _states(sweep: Sweep, axes: Sequence[str]) -> dict[Key, tuple[str, str]]:
    """What stands where no figure does, and why."""
    numbers = {reason: at for at, (reason, _) in enumerate(reasons_of(sweep.left_out), 1)}
    every = product(*(sweep.axes[name] for name in axes))
    states = dict.fromkeys(every, (UNMET, "does not meet what is asked"))
    for one in sweep.left_out:
        words = f"{NA} {numbers[one.reason]}" if len(numbers) > 1 else NA
        states[key_of(one.words, axes)] = words, clean(one.reason, 1000)
    for machine in sweep.machines:
        change = than_captured(machine, sweep.baseline.pool.asleep)
        key = key_of(machine.words, axes)
        if change in UNFIT:
            states[key] = change, "the workload would not run there as it did"
        else:
            states.pop(key, None)
    return states


def _own_caveats(sweep: Sweep, axes: Sequence[str]) -> dict[Key, tuple[str, ...]]:
    common = set(common_caveats(sweep.machines))
    return {
        key_of(one.words, axes): tuple(c for c in one.caveats if c not in common)
        for one in sweep.machines
    }
