"""The README's commands: find them, run them, renew what they print.

``make readme`` (``python -m tests.readme``) runs every command of README.md and writes what it
prints now; tests/test_documentation.py compares. How the README writes them:

- A block marked ``console`` holds commands, each on a line that begins with ``$ ``, and below each
  what it prints on both streams, at 80 columns. A last line ``[…]`` says that the rest is left
  out: only the lines above it are compared, and renewing keeps their number.
- A block marked ``sh`` is for the reader: `make`, or lines for the target board.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
REST = "[…]"
LIMIT = 300
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """One command of the README and the output that stands below it."""

    line: str
    shown: tuple[str, ...]

    @property
    def shortened(self) -> bool:
        """Whether the README shows the beginning only."""
        return bool(self.shown) and self.shown[-1] == REST

    def agrees(self, printed: list[str]) -> bool:
        """Whether what was printed is what the README shows."""
        if self.shortened:
            kept = len(self.shown) - 1
            return list(self.shown[:-1]) == printed[:kept] and len(printed) > kept
        return list(self.shown) == printed

    def renewed(self, printed: list[str]) -> str:
        """The command and its output as they should stand in the README."""
        kept = printed
        if self.shortened and len(printed) > len(self.shown) - 1:
            kept = [*printed[: len(self.shown) - 1], REST]
        return "\n".join([f"$ {self.line}", *kept])


def blocks(text: str, kind: str) -> list[str]:
    """Bodies of the fenced blocks of one kind."""
    return [body for found, body in _BLOCK.findall(text) if found == kind]


def commands(body: str) -> list[Command]:
    """Commands of one console block, in order."""
    parts = re.split(r"(?m)^\$ ", body)
    if parts[0]:
        raise ValueError(f"a console block begins with {parts[0][:40]!r}, not with a command")
    found = []
    for part in parts[1:]:
        line, *shown = part.rstrip("\n").split("\n")
        found.append(Command(line, tuple(shown)))
    return found


class Workshop:
    """A scratch folder that looks like the repository to the README's commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "fixtures", folder / "fixtures")
        shutil.copy(README, folder)
        (folder / "bin").mkdir()
        program = folder / "bin" / "hmtrace"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hmtrace "$@"\n')
        program.chmod(0o755)
        self.environment = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "COLUMNS": "80",
            **{k: v for k, v in os.environ.items() if k.startswith(("NUMBA_", "XDG_CACHE"))},
        }
        # The very first run says that it compiles; no later one does.
        self.run("hmtrace report fixtures/i386-hog-a-waiters-pae-smp2")

    def run(self, command: str) -> list[str]:
        """Lines that a command prints, as a terminal would show them (without colour)."""
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LIMIT,
            check=False,
            text=True,
            encoding="utf-8",
        )
        return [line.rstrip() for line in done.stdout.rstrip("\n").split("\n") if done.stdout]


def main() -> None:
    """Write what the commands print now into README.md."""
    from hmtrace.compiled import use_cache_folder

    use_cache_folder()  # before HOME is another one, where everything would be compiled again
    with tempfile.TemporaryDirectory() as scratch:
        shop = Workshop(Path(scratch) / "hmtrace")

        def renew(match: re.Match[str]) -> str:
            if match[1] != "console":
                return match[0]
            new = [c.renewed(shop.run(c.line)) for c in commands(match[2])]
            return "```console\n" + "\n".join(new) + "\n```"

        README.write_text(_BLOCK.sub(renew, README.read_text()))


if __name__ == "__main__":
    main()
