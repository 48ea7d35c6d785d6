"""What limits the figures of a report, in words that whoever found it gave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from hmtrace.report.parts import heading, indented
from hmtrace.report.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

_TEXT_LIMIT: Final = 1000


def caveats_section(caveats: Sequence[str]) -> Iterator[RenderableType]:
    """What limits the figures above.

    Yields
    ------
    RenderableType
        Heading and a list; nothing if there is nothing to say.
    """
    if not caveats:
        return
    yield heading("Caveats")
    yield bullets(caveats)


def bullets(lines: Sequence[str]) -> RenderableType:
    """Lines as a list, each once; long ones are wrapped under themselves."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for line in dict.fromkeys(lines):
        grid.add_row(Text("-"), Text(clean(line, _TEXT_LIMIT)))
    return indented(grid)
