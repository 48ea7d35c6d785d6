"""Sections of a terminal report as parts of a page: pairs, tables, lines."""

from __future__ import annotations

import io
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from collectors.records import dataclass, field
from hmtrace.html.histograms import HistogramBlock, histogram_block
from hmtrace.report.charts import Bar
from hmtrace.report.histograms import Histograms
from hmtrace.report.parts import Cut, Elided, Fitted, Heading, Labelled, Picture, Valued

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import RenderableType
    from rich.style import Style

_SHOWN_STYLES: Final = ("bold", "dim", "red", "green", "yellow", "cyan", "magenta", "blue")
"""Words of rich's styles that the page has classes for."""
_PRE_WIDTH: Final = 100


@dataclass(frozen=True)
class Run:
    """A stretch of text in one style; `classes` are names of the style sheet's."""

    text: str
    classes: str = ""


Runs = tuple[Run, ...]
"""A cell, or a line."""


@dataclass(frozen=True)
class Pairs:
    """Labels with their values."""

    rows: tuple[tuple[Runs, Runs], ...]
    kind: str = field(default="pairs", init=False)


@dataclass(frozen=True)
class TableColumn:
    """Title of a column, and whether it is one of numbers, which stand at its right."""

    title: str
    is_right: bool


@dataclass(frozen=True)
class TableCell:
    """A cell; `value` is what to sort by, `fraction` the length of a bar, None without.

    `leads_to` is the anchor of what has more about it; "" for none.
    """

    runs: Runs
    value: float | None = None
    fraction: float | None = None
    leads_to: str = ""


@dataclass(frozen=True)
class TableBlock:
    """A table with titles."""

    columns: tuple[TableColumn, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    kind: str = field(default="grid", init=False)


@dataclass(frozen=True)
class Listed:
    """A list of short texts."""

    items: tuple[Runs, ...]
    kind: str = field(default="listed", init=False)


@dataclass(frozen=True)
class Lines:
    """Lines of text, as they are."""

    lines: tuple[Runs, ...]
    kind: str = field(default="lines", init=False)


@dataclass(frozen=True)
class Preformatted:
    """What only a terminal knows how to draw, as it draws it."""

    text: str
    kind: str = field(default="preformatted", init=False)


Block = Pairs | TableBlock | Listed | Lines | Preformatted | HistogramBlock


@dataclass(frozen=True)
class Section:
    """A section of a page.

    Attributes
    ----------
    ident
        Its anchor.
    title, aside
        Heading, and an explanation beside it.
    template
        Draws what is below the heading; its name in ``templates/``.
    parts
        What the template reads; blocks for ``blocks.html``.
    """

    ident: str
    title: str
    aside: str = ""
    template: str = "blocks.html"
    parts: object = ()


def slug(title: str) -> str:
    """Anchor of a section.

    Examples
    --------
    >>> slug("Flushes and cost")
    'flushes-and-cost'
    """
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def sections_of(renderables: Iterable[RenderableType]) -> Iterator[Section]:
    """Sections of a terminal report.

    Parameters
    ----------
    renderables
        What :mod:`hmtrace.report` yields: headings, each with its parts behind it. Charts over
        time are left out: a page has them in its timeline.

    Yields
    ------
    Section
        One for each heading, with an anchor that no other one has; what stands before the first
        has no title.
    """
    seen: Counter[str] = Counter()
    for one in _headed(renderables):
        seen[one.ident] += 1
        number = seen[one.ident]
        yield one if number == 1 else replace(one, ident=f"{one.ident}-{number}")


def _headed(renderables: Iterable[RenderableType]) -> Iterator[Section]:
    heading, blocks = Heading(""), list[Block]()
    for renderable in renderables:
        if isinstance(renderable, Heading):
            if blocks:
                yield _section(heading, blocks)
            heading, blocks = renderable, []
        else:
            blocks += blocks_of(renderable)
    if blocks:
        yield _section(heading, blocks)


def _section(heading: Heading, blocks: Sequence[Block]) -> Section:
    return Section(slug(heading.title), heading.title, heading.aside, parts=tuple(blocks))


def blocks_of(renderable: RenderableType) -> Iterator[Block]:
    """Parts of a page that say what a renderable says.

    Yields
    ------
    Block
        None for an empty line, and for a picture that a page draws elsewhere.
    """
    if isinstance(renderable, Picture):
        yield from _pictured(renderable)
        return
    if isinstance(renderable, Padding):
        yield from blocks_of(renderable.renderable)
    elif isinstance(renderable, Group):
        for part in renderable.renderables:
            yield from blocks_of(part)
    elif isinstance(renderable, Labelled):
        yield pairs_of(renderable.rows)
    elif isinstance(renderable, Fitted):
        yield _grid(renderable.columns, renderable.rows)
    elif isinstance(renderable, Table):
        yield _table(renderable)
    elif isinstance(renderable, str | Text | Elided):
        lines = _split(runs_of(renderable))
        if any(lines):
            yield Lines(lines)
    else:
        yield Preformatted(_drawn(renderable))


def pairs_of(rows: Iterable[tuple[str, str | Text]]) -> Pairs:
    """Labels with their values, as :func:`hmtrace.report.parts.labelled` has them."""
    return Pairs(tuple((runs_of(label), runs_of(value)) for label, value in rows))


def _pictured(picture: Picture) -> Iterator[Block]:
    """What a page draws of a terminal's picture in the same place: histograms.

    Yields
    ------
    HistogramBlock
    """
    for part in picture.parts:
        drawn = part.renderable if isinstance(part, Padding) else part
        if isinstance(drawn, Histograms):
            yield histogram_block(drawn.rows)


def _table(table: Table) -> TableBlock | Pairs | Listed:
    """A table with titles; without, its columns are labels and values, or dashes and items."""
    cells = [list(column.cells) for column in table.columns]
    rows = list(zip(*cells, strict=True))
    if table.show_header:
        titles = [(str(column.header), column.justify) for column in table.columns]
        return _grid(titles, rows)
    if cells and all(str(cell) == "-" for cell in cells[0]):
        return Listed(tuple(runs_of(row[-1]) for row in rows))
    return Pairs(
        tuple((runs_of(row[0]), _joined(runs_of(cell) for cell in row[1:])) for row in rows)
    )


def _joined(cells: Iterable[Runs]) -> Runs:
    runs: list[Run] = []
    for cell in cells:
        runs += [Run("  "), *cell] if runs and cell else cell
    return tuple(runs)


def _grid(
    columns: Iterable[tuple[str, str]], rows: Iterable[Sequence[RenderableType]]
) -> TableBlock:
    return TableBlock(
        tuple(TableColumn(title, justify == "right") for title, justify in columns),
        tuple(tuple(map(_cell, row)) for row in rows),
    )


def _cell(cell: RenderableType) -> TableCell:
    if isinstance(cell, Bar):
        return TableCell((), cell.fraction, cell.fraction)
    return TableCell(runs_of(cell), cell.value if isinstance(cell, Valued) else None)


def runs_of(cell: RenderableType) -> Runs:
    """Text of a cell, in runs of one style.

    Examples
    --------
    >>> runs_of(Text.assemble(("12", "bold"), " slots"))
    (Run(text='12', classes='bold'), Run(text=' slots', classes=''))
    """
    if isinstance(cell, Elided):
        return (Run(cell.text),)
    if isinstance(cell, Cut):
        cell = cell.whole
    if isinstance(cell, str):
        return (Run(cell),) if cell else ()
    if not isinstance(cell, Text):
        return (Run(_drawn(cell)),)
    edges = sorted({0, len(cell), *(at for span in cell.spans for at in (span.start, span.end))})
    found = []
    for start, end in pairwise(edges):
        styles = [span.style for span in cell.spans if span.start <= start < span.end]
        found.append(Run(cell.plain[start:end], _classes([cell.style, *styles])))
    return tuple(found)


def _classes(styles: Iterable[str | Style]) -> str:
    """Classes of styles that lie on each other: ``not dim`` takes the one below away."""
    held: list[str] = []
    for style in styles:
        words = str(style).split()
        for before, word in zip(["", *words], words, strict=False):
            if word in _SHOWN_STYLES:
                held = [name for name in held if name != word]
                held += [] if before == "not" else [word]
    return " ".join(held)


def _split(runs: Runs) -> tuple[Runs, ...]:
    """Runs of several lines, line by line; empty lines at both ends are left out."""
    lines: list[list[Run]] = [[]]
    for run in runs:
        first, *others = run.text.split("\n")
        lines[-1] += [Run(first, run.classes)] if first else []
        lines += [[Run(text, run.classes)] if text else [] for text in others]
    while lines and not lines[0]:
        lines.pop(0)
    while lines and not lines[-1]:
        lines.pop()
    return tuple(map(tuple, lines))


def _drawn(renderable: RenderableType) -> str:
    console = Console(
        file=io.StringIO(), width=_PRE_WIDTH, color_system=None, markup=False, emoji=False
    )
    with console.capture() as captured:
        console.print(renderable)
    return "\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n"))
