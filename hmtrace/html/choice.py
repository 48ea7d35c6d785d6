"""What comes first on a page that answers a question: the answer, and how far to trust it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.records import dataclass
from hmtrace.html.blocks import Section

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hmtrace.html.blocks import Block
    from hmtrace.html.overview import Tile


@dataclass(frozen=True)
class ChoiceParts:
    """The answer.

    Attributes
    ----------
    level
        As of :class:`hmtrace.html.overview.Verdict`.
    words
        The answer.
    grade
        How far to trust it; "" where that is not told.
    lines
        What belongs to it.
    tiles, blocks
        Figures in large letters, and what stands below them.
    """

    level: str
    words: str
    grade: str
    lines: tuple[str, ...]
    tiles: tuple[Tile, ...]
    blocks: tuple[Block, ...]


def choice_section(
    words: str,
    lines: Iterable[str] = (),
    grade: str = "",
    level: str = "fine",
    tiles: Iterable[Tile] = (),
    blocks: Iterable[Block] = (),
) -> Section:
    """The section that has the answer; parameters as of :class:`ChoiceParts`."""
    parts = ChoiceParts(level, words, grade, tuple(lines), tuple(tiles), tuple(blocks))
    return Section("answer", "Answer", "", "choice.html", parts)
