"""Pieces that every section of a report is made of.

rich prints them; :mod:`hmtrace.html.blocks` reads the same pieces, so that a section says its words
once for terminal and page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.measure import Measurement
from rich.padding import Padding
from rich.rule import Rule
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from collectors.records import dataclass
from hmtrace.report.text import GLUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

_GAP: Final = 2
"""Blanks between the columns of a table."""
LABEL_WIDTH = 10
"""Labels of all sections stand in one column, so that the eye finds the figures."""


@dataclass(frozen=True)
class Heading:
    """Title of a section, with an explanation in dim letters."""

    title: str
    aside: str = ""

    def __rich__(self) -> RenderableType:
        text = Text(self.title, style="bold")
        if self.aside:
            text.append(f"  {self.aside}", style="dim not bold")
        return Padding(Rule(text, align="left", style="dim"), (1, 0, 0, 0))


def heading(title: str, aside: str = "") -> Heading:
    """Title of a section."""
    return Heading(title, aside)


class Valued(Text):
    """A cell that knows its number, so that a page can sort by it.

    Parameters
    ----------
    words
        What is shown.
    value
        None: not known.
    """

    def __init__(self, words: str, value: float | None) -> None:
        super().__init__(words)
        self.value = value


@dataclass(frozen=True)
class Labelled:
    """Label and value, one pair a line; long values are wrapped under themselves."""

    rows: tuple[tuple[str, str | Text], ...]

    def __rich__(self) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True, min_width=LABEL_WIDTH)
        grid.add_column(overflow="fold")
        for label, value in self.rows:
            grid.add_row(Text(label), Text(value) if isinstance(value, str) else value)
        return indented(grid)


def labelled(rows: Iterable[tuple[str, str | Text]]) -> Labelled:
    """Labels with their values."""
    return Labelled(tuple(rows))


def plain_table(*columns: tuple[str, str], expand_first: bool = False) -> Table:
    """Table without frame.

    Parameters
    ----------
    columns
        Title and justification (``left`` or ``right``) of each.
    expand_first
        The first column takes the room that is left, and is cut with … where there is none.
    """
    table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="dim", pad_edge=False)
    table.expand = expand_first
    for position, (title, justify) in enumerate(columns):
        table.add_column(
            Text(title),
            justify="right" if justify == "right" else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if expand_first and position == 0 else None,
        )
    return table


class _Indented(Padding):
    """Padding on the left alone, for which nothing has to be measured: lines end as they do."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        inside = options.update_width(options.max_width - self.left)
        for line in console.render_lines(self.renderable, inside, pad=False):
            yield Segment(" " * self.left)
            yield from line
            yield Segment.line()


def indented(renderable: RenderableType) -> RenderableType:
    """Renderable one column to the right, in line with :func:`labelled`."""
    is_stretched = isinstance(renderable, Table) and renderable.expand
    kind = Padding if is_stretched else _Indented  # as far as its cells reach, no further
    return kind(renderable, (0, 0, 0, 1), expand=False)


class Picture:
    """What a terminal draws with characters, and a page in its own way: a chart and its legend."""

    def __init__(self, *parts: RenderableType) -> None:
        self.parts = parts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.parts


class Fitted:
    """Table that leaves whole columns out where there is no room, and names them below.

    A figure that is cut in its middle says something else, or nothing.

    Parameters
    ----------
    columns
        Title and justification of each, as for :func:`plain_table`.
    rows
        Cells, in the order of `columns`.
    spare
        Titles of columns that may be missing, the first to go first.
    elsewhere
        Where the others stand.
    """

    def __init__(
        self,
        columns: Sequence[tuple[str, str]],
        rows: Sequence[Sequence[Text]],
        spare: Iterable[str],
        elsewhere: str,
    ) -> None:
        self.columns, self.rows = columns, rows
        self._spare, self._elsewhere = tuple(spare), elsewhere

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        kept, left_out = self._kept(options.max_width)
        table = plain_table(*(self.columns[at] for at in kept))
        for row in self.rows:
            table.add_row(*(row[at] for at in kept))
        yield table
        if left_out:
            words = f"no room for: {', '.join(left_out)} ({self._elsewhere})"
            yield Text(words, style="dim")

    def _kept(self, width: int) -> tuple[list[int], list[str]]:
        """Columns that fit side by side, and the titles of the others."""
        widths = [
            max([cell_len(title), *(row[at].cell_len for row in self.rows)])
            for at, (title, _) in enumerate(self.columns)
        ]
        titles = [title for title, _ in self.columns]
        kept = list(range(len(titles)))
        for title in self._spare:
            if sum(widths[at] for at in kept) + _GAP * (len(kept) - 1) <= width:
                break
            if title in titles:
                kept.remove(titles.index(title))
        return kept, [title for at, title in enumerate(titles) if at not in kept]


class Elided:
    """One line that loses its middle, not its end, where there is no room.

    The end of a symbol (its offset) and of a path (the capture's name) tells rows apart.

    Parameters
    ----------
    text
        Safe to print.
    end
        Characters at the end to keep, if there is room for twice as many.
    """

    def __init__(self, text: str, end: int) -> None:
        self.text = text
        self._end = end

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        length = len(self.text)
        return Measurement(min(length, 8), min(length, options.max_width))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(elide(self.text, options.max_width, self._end), no_wrap=True)


class Cut(Text):
    """A cell that is cut to a width, and whole on a page; parameters as of :func:`elide`."""

    def __init__(self, text: str, width: int, end: int) -> None:
        super().__init__(elide(text, width, end))
        self.whole = text


_HEAD: Final = 3
"""Characters that an elided text begins with, at least, before its end is cut, too."""


def elide(text: str, width: int, end: int) -> str:
    """Cut the middle out of a text; of its end nothing, where that leaves a beginning to know.

    Parameters
    ----------
    text
        To be cut.
    width
        Characters that there is room for.
    end
        Characters at its end that belong together.

    Examples
    --------
    >>> elide("captures/i386-hog-waiters", 21, 17)
    'cap…/i386-hog-waiters'
    >>> elide("copy_user_highpage.constprop.0+0xc2", 20, 5)
    'copy_user_high…+0xc2'
    """
    if len(text) <= width:
        return text
    kept = end if width - end > _HEAD else min(end, width // 2)
    return f"{text[: width - kept - 1]}…{text[len(text) - kept :]}"


def joined(parts: Iterable[str]) -> str:
    """Phrases of one line, empty ones left out; no line begins with what stands between them."""
    return f"{GLUE}· ".join(part for part in parts if part)
