"""The commands of the README and of docs/: find them, run them, renew what they print.

``make readme`` (``python -m tests.readme [PAGE ...]``) runs every command of the pages and writes
what it prints now; tests/test_documentation.py compares. How the pages write them:

- A block marked ``console`` holds commands, each on a line that begins with ``$ ``, and below each
  what it prints on both streams, at 80 columns. A last line ``[…]`` says that the rest is left
  out: only the lines above it are compared, and renewing keeps their number. A block begins in a
  folder of its own that looks like the repository: what its commands write is there for the
  commands below them, not for other blocks.
  What reads fixtures alone is run once, however often and in whatever pipe it stands.
- A block marked ``python`` is run as it stands, one marked ``toml`` is a machine.
- A block marked ``sh`` is for the reader: `make`, or lines for the target board.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from collectors.compiled.store import cache_home
from hmtrace.cli.compiling import WORDS
from tests import warm

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = (README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
"""Every page whose commands are run."""
REST = "[…]"
LIMIT = 300
_ONCE = """#!/bin/sh
run() { exec HMTRACE "$@"; }
case $1 in
    advise|check|compare|info|replay|report|sites|sweep|validate) ;;
    *) run "$@" ;;
esac
for word; do
    case $word in
        fixtures/*) ;;
        -|-o*|--output*|*.[a-z]*) run "$@" ;;
        *) [ ! -e "${word%%:*}" ] || run "$@" ;;
    esac
done
known=$(printf '%s\\n' "$@" | sha256sum)
known=PRINTED/${known%% *}
if [ ! -e "$known" ]; then
    new=$(mktemp -d PRINTED/new-XXXXXX)
    HMTRACE "$@" >"$new/out" 2>"$new/err"
    echo $? >"$new/code"
    mv -T "$new" "$known" 2>/dev/null || rm -r "$new"
fi
cat "$known/out"
cat "$known/err" >&2
exit "$(cat "$known/code")"
"""
"""The program for the pages: with arguments of which no file but fixtures is one, it prints what it
printed the first time. PRINTED is a folder that all who run pages at the same time share, HMTRACE
what stands for the program (:mod:`tests.warm`)."""
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """One command of a page and the output that stands below it."""

    line: str
    shown: tuple[str, ...]

    @property
    def shortened(self) -> bool:
        """Whether the page shows the beginning only."""
        return bool(self.shown) and self.shown[-1] == REST

    def agrees(self, printed: list[str]) -> bool:
        """Whether what was printed is what the page shows."""
        if self.shortened:
            kept = len(self.shown) - 1
            return list(self.shown[:-1]) == printed[:kept] and len(printed) > kept
        return list(self.shown) == printed

    def renewed(self, printed: list[str]) -> str:
        """The command and its output as they should stand in the page."""
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
    """Scratch folders that look like the repository to the pages' commands."""

    def __init__(self, folder: Path, printed: Path) -> None:
        self.folder = folder
        self.used = 0
        shutil.copytree(ROOT / "fixtures", folder / "fixtures")
        (folder / "bin").mkdir()
        printed.mkdir(exist_ok=True)
        python = f'"{sys.executable}"'
        once = _ONCE.replace("HMTRACE", shlex.join(warm.program())).replace("PRINTED", str(printed))
        for name, text in (("hmtrace", once), ("python", f'#!/bin/sh\nexec {python} "$@"\n')):
            program = folder / "bin" / name
            program.write_text(text)
            program.chmod(0o755)
        self.environment = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "COLUMNS": "80",
            **{name: v for name, v in os.environ.items() if name.startswith("NUMBA_")},
            "XDG_CACHE_HOME": str(cache_home()),  # HOME is another one, with nothing compiled
        }

    def bench(self) -> Path:
        """A new folder for the commands of one block."""
        self.used += 1
        place = self.folder / f"bench-{self.used}"
        place.mkdir()
        (place / "fixtures").symlink_to(self.folder / "fixtures")
        shutil.copy(README, place)
        return place

    def run(self, command: str, place: Path) -> list[str]:
        """Lines that a command prints, as a terminal would show them (without colour)."""
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=place,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LIMIT,
            check=False,
            text=True,
            encoding="utf-8",
        )
        lines = [line.rstrip() for line in done.stdout.rstrip("\n").split("\n") if done.stdout]
        return [line for line in lines if line != WORDS.rstrip()]  # said at a first run


def renewed(text: str, shop: Workshop) -> str:
    """A page with what its commands print now."""

    def renew(match: re.Match[str]) -> str:
        if match[1] != "console":
            return match[0]
        place = shop.bench()
        new = [c.renewed(shop.run(c.line, place)) for c in commands(match[2])]
        return "```console\n" + "\n".join(new) + "\n```"

    return _BLOCK.sub(renew, text)


def main() -> None:
    """Write what the commands print now into the pages that are named, else into all."""
    pages = [Path(name).resolve() for name in sys.argv[1:]] or PAGES
    with tempfile.TemporaryDirectory() as scratch:
        shop = Workshop(Path(scratch) / "hmtrace", Path(scratch) / "printed")
        for page in pages:
            page.write_text(renewed(page.read_text(), shop))


if __name__ == "__main__":
    main()
