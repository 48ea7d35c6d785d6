"""What ``--machine`` and ``--costs`` mean: a file, or the name of a preset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from collectors.errors import HmtraceError, meant
from replay.machine.cpus import cpu_costs
from replay.machine.presets import presets

if TYPE_CHECKING:
    from pathlib import Path

_WORD: Final = 60
"""Characters of a name that messages show."""
LIST: Final = "list"
"""Word that stands for all presets, in place of a name."""


def machine_file(word: Path) -> Path:
    """File that ``--machine`` means: one that exists, else the preset of that name.

    Raises
    ------
    HmtraceError
        Exit code 2: a bare name that is neither.
    """
    known = {preset.name: preset.path for preset in presets()}
    return _file(word, known, "--machine", "'hmtrace layout --machine list' shows them")


def costs_file(word: Path) -> Path:
    """File that ``--costs`` means: one that exists, else the costs of the CPU of that name.

    Raises
    ------
    HmtraceError
        Exit code 2: a bare name that is neither.
    """
    known = {cpu.name: cpu.path for cpu in cpu_costs()}
    return _file(word, known, "--costs", f"known: {', '.join(known)}")


def _file(word: Path, known: dict[str, Path], option: str, hint: str) -> Path:
    try:
        is_file = word.is_file()
    except (OSError, ValueError):  # too long a name is none of a file
        is_file = False
    if is_file or len(word.parts) != 1 or word.suffix:
        return word
    if word.name in known:
        return known[word.name]
    raise HmtraceError(
        f"{option} {str(word)[:_WORD]}: neither a preset nor a file",
        hint=f"{meant(word.name, known)} {hint}".lstrip(),
        exit_code=2,
    )
