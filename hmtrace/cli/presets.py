"""Machines that hmtrace knows by name: real boards and PCs, one TOML file each."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from collectors.errors import HmtraceError
from hmtrace.cli.words import meant

LIST = "list"
"""Word that stands for all presets, in place of a name."""


class Preset(NamedTuple):
    """A preset's name, what it is in one line, where that is known from, and its file."""

    name: str
    title: str
    source: tuple[str, ...]
    path: Path


def presets() -> list[Preset]:
    """All presets, by name."""
    folder = Path(str(files("replay.machine").joinpath("presets")))
    found = []
    for path in sorted(folder.glob("*.toml")):
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        found.append(Preset(path.stem, table["title"], tuple(table["source"]), path))
    return found


def machine_file(word: Path) -> Path:
    """File that ``--machine`` means: one that exists, else the preset of that name.

    Raises
    ------
    HmtraceError
        Exit code 2: a bare name that is neither.
    """
    if word.is_file() or len(word.parts) != 1 or word.suffix:
        return word
    known = {preset.name: preset.path for preset in presets()}
    if word.name in known:
        return known[word.name]
    raise HmtraceError(
        f"--machine {word}: neither a preset nor a file",
        hint=f"{meant(word.name, known)} 'hmtrace layout --machine list' shows them".lstrip(),
        exit_code=2,
    )
