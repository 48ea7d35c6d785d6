"""Machines that hmtrace knows by name: real boards and PCs, one TOML file each.

Its keys are the fields of :class:`replay.machine.model.Machine`; ``title`` says in a line what it
is, ``source`` where that is known from.
"""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple


class Preset(NamedTuple):
    """A preset's name, what it is in one line, where that is known from, and its file."""

    name: str
    title: str
    source: tuple[str, ...]
    path: Path


def presets() -> list[Preset]:
    """All presets, by name."""
    found = []
    for path in sorted(Path(str(files(__name__))).glob("*.toml")):
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        found.append(Preset(path.stem, table["title"], tuple(table["source"]), path))
    return found
