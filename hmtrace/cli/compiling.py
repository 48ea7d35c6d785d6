"""First runs: what a user is told while loops are compiled, and the processes that help."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress

from collectors import compiling
from hmtrace.cli import progress
from hmtrace.rehearsal import COMMANDS, LEAST_FIRST

WORDS = "hmtrace: compiling for this machine, once; this takes some 20 seconds\n"
_UNKEPT = (
    "hmtrace: there is no folder of yours to keep compiled loops in, so every run compiles them\n"
    "  hint: set XDG_CACHE_HOME to a folder that only you can write to\n"
)
_MOST = 3
"""Processes that help. With more, one of them would still compile the largest loop."""
_NICE = 10
"""Of the one that is more than free cores: while the main process waits for a loop, one is free."""


class FirstRun:
    """Told of the loops that are not kept, it tells the user, and once asks for help.

    Parameters
    ----------
    command
        What the user asked for: report.
    """

    def __init__(self, command: str) -> None:
        self._command = command
        self._has_begun = False
        self.helpers: list[subprocess.Popen[bytes]] = []

    def __call__(self, name: str | None) -> None:
        """Of a loop that is compiled now, or None: it is there."""
        if name is None:
            progress.aside("")
            return
        if not self._has_begun:
            self._has_begun = True
            self._begin()
        progress.aside(f"compiling loop {len(compiling.ready) + 1}: {name.rpartition('.')[0]}")

    def _begin(self) -> None:
        from collectors.compiled.store import folders

        is_kept = any(folders())
        progress.line(WORDS if is_kept else _UNKEPT)
        if is_kept and self._command in COMMANDS:
            self.helpers += _helpers(self._command)


def explain_compiling(command: str) -> None:
    """From now on say that loops are compiled where they are, and have it done side by side."""
    if not any(isinstance(listener, FirstRun) for listener in compiling.listeners):
        compiling.listeners.append(FirstRun(command))


def _helpers(command: str) -> list[subprocess.Popen[bytes]]:
    """Processes that compile what the command will replay with, while the trace is read.

    Each ends when it is done, or when this process ends: its stdin is a pipe from here.
    """
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    started = []
    for n in range(1, 1 + (min(free, _MOST) if free > 1 else 0)):
        words = [command] if n < free else [LEAST_FIRST, command]
        try:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-P", "-m", "hmtrace.rehearsal", *words],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=child_environment(),
                    start_new_session=True,  # Ctrl-C is for this process; then they end, too
                )
            )
        except OSError:  # it only takes longer
            break
    if len(started) == free:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, started[-1].pid, _NICE)
    return started


def begun(module: str) -> subprocess.Popen[str]:
    """Begin a module of ours in a process that is asked and answers line by line.

    It is in a session of its own: Ctrl-C is for the asking process, and then it ends, too.
    """
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        env=child_environment(),
        start_new_session=True,
    )


def child_environment() -> dict[str, str]:
    """Environment in which a process of ours finds what this one imports, and keeps to one core."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "POLARS_MAX_THREADS": "1",
    }
