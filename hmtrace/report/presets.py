"""The list of presets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hmtrace.report.document import schema
from hmtrace.report.parts import heading, labelled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from replay.machine.presets import Preset


def preset_table(presets: Sequence[Preset]) -> Iterator[RenderableType]:
    """A line per preset.

    Yields
    ------
    RenderableType
        Heading and lines.
    """
    yield heading("Presets", "hmtrace layout --machine NAME, hmtrace replay … --machine NAME")
    yield labelled([(preset.name, preset.title) for preset in presets])


def presets_document(presets: Sequence[Preset]) -> dict[str, Any]:
    """Names, titles and sources of the presets."""
    return {
        **schema("presets"),
        "presets": [
            {"name": preset.name, "title": preset.title, "source": list(preset.source)}
            for preset in presets
        ],
    }
