"""What a user is told while loops are compiled: at the first run, and after an update."""

from __future__ import annotations

from collectors import compiling
from hmtrace.cli import progress

WORDS = "hmtrace: compiling for this machine, once; this takes some 20 seconds\n"
_UNKEPT = (
    "hmtrace: there is no folder of yours to keep compiled loops in, so every run compiles them\n"
    "  hint: set XDG_CACHE_HOME to a folder that only you can write to\n"
)


def explain_compiling() -> None:
    """Say, once, that loops are compiled, and in a progress bar which one."""
    if _explain not in compiling.listeners:
        compiling.listeners.append(_explain)


def _explain(name: str | None) -> None:
    if name is None:
        progress.aside("")
        return
    if not _said:
        from collectors.compiled.store import folders

        _said.append(WORDS if folders() else _UNKEPT)
        progress.line(_said[0])
    number = f"{len(compiling.ready) + 1} of {len(compiling.loops)}"
    progress.aside(f"compiling loop {number}: {name.rpartition('.')[0]}")


_said: list[str] = []
