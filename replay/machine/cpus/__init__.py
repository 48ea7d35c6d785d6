"""Costs of CPUs that hmtrace knows by name, for ``--costs``: one TOML file for each.

Its keys are figures of ``replay/machine/costs.toml``, as far as something is known of them that is
closer than the ranges there; ``title`` says in a line what it is, ``source`` where that is from.
"""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple


class CpuCosts(NamedTuple):
    """The name of a CPU, what it is in one line, where that is known from, and its file."""

    name: str
    title: str
    source: tuple[str, ...]
    path: Path


def cpu_costs() -> list[CpuCosts]:
    """All of them, by name."""
    found = []
    for path in sorted(Path(str(files(__name__))).glob("*.toml")):
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        found.append(CpuCosts(path.stem, table["title"], tuple(table["source"]), path))
    return found
