"""Every command as its reader sees it, to the character; golden/README.md says how to renew.

A command runs once; what it wants to show is then shown at both widths, to a stream of UTF-8 and to
one of ASCII, on the way that :class:`hmtrace.cli.output.Output` has for it.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from rich.cells import cell_len

import hmtrace.__main__
from hmtrace import __version__
from hmtrace.cli.compiling import WORDS
from hmtrace.cli.output import Color, Output, OutputFormat

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

ROOT: Final = Path(__file__).parents[2]
GOLDEN: Final = Path(__file__).parent / "golden" / "commands"
RENEW: Final = os.environ.get("HMTRACE_RENEW_GOLDEN") == "1"
WIDTHS: Final = (80, 120)
ENCODINGS: Final = {"utf-8": "", "ascii": ".ascii"}

LEAK = "fixtures/cases/i386-leak100"
FAILS = "fixtures/i386-hog-e-vmapfail-pae-smp1"
ARM = "fixtures/arm-612-percpu-lpae-smp2"
SMALL, LARGE = "fixtures/i386-twin-vmap-vmalloc128", "fixtures/i386-twin-vmap-vmalloc256"
COMMANDS: Final = {
    "info": f"info {LEAK}",
    "report": f"report {FAILS}",
    "report-brief": f"report --brief {LEAK}",
    "report-all": f"report --all {LEAK}",
    "report-local": f"report --longest 3 {ARM}",
    "sites": f"sites {LEAK}",
    "replay": f"replay {FAILS} --vmalloc 256M",
    "replay-convert": f"replay {LEAK} --convert kmap=kmap_local",
    "sweep": f"sweep {LEAK} --axis split=3g,2g,1g --axis ram=1G,2G,8G",
    "sweep-find": f"sweep {FAILS} --find min:vmalloc --where failures=0",
    "advise": f"advise {FAILS}",
    "advise-several": f"advise {LEAK} {FAILS}",
    "check": f"check {FAILS}",
    "check-rules": "check --rules",
    "compare": f"compare {SMALL} {LARGE}",
    "validate": f"validate {LEAK} {SMALL} {FAILS} {ARM}",
    "layout": "layout --arch arm --ram 2G --split 2g",
    "layout-preset": "layout --machine rpi4-4g-lpae",
    "presets": "layout --machine list",
    "convert": f"convert {LEAK} -o x.nothing",
    "recorder-help": "recorder --help",
    "synth": "synth kmap-leak --events 12",
    "synth-list": "synth --list",
}
FIXED: Final = {"synth"}
"""What is no report: a trace is as wide as it is."""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, shared_shelf: None) -> None:
    """The repository, with nothing kept of earlier runs, and a world without a terminal."""
    monkeypatch.chdir(ROOT)
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM", "LANG", "LC_ALL", "LC_CTYPE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.usefixtures("place")
def test_commands_look_as_they_should(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        f"{name}-{width}{mark}.txt": f"$ hmtrace {COMMANDS[name]}\n{text}"
        for (width, mark), text in sorted(shown(name, monkeypatch))
    }
    for file, text in found.items():
        width = int(re.findall(r"\d+", file)[-1])
        wide = [line for line in text.splitlines()[1:] if cell_len(line) > width]
        assert name in FIXED or wide == []
        assert name in FIXED or [line for line in text.splitlines() if line != line.rstrip()] == []
        assert text.isascii() or "ascii" not in file
    if RENEW:
        GOLDEN.mkdir(exist_ok=True)
        for file, text in found.items():
            (GOLDEN / file).write_text(text, encoding="utf-8")
    kept = {file: (GOLDEN / file).read_text(encoding="utf-8") for file in found}
    assert found == kept, "renew with make golden, and read the difference"


def test_every_command_is_here_and_no_file_is_left_over() -> None:
    from hmtrace.cli import tree

    names = {line.split()[0] for line in COMMANDS.values()}
    assert names == {command.name for command in tree.root().commands}
    files = {f"{n}-{w}{mark}.txt" for n in COMMANDS for w in WIDTHS for mark in ENCODINGS.values()}
    assert {path.name for path in GOLDEN.iterdir()} == files


def shown(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[tuple[int, str], str]]:
    """What a command shows, by width and mark of the encoding."""
    parts: list[RenderableType] = []
    table = Output.table
    first = written(name, WIDTHS[0], "utf-8", monkeypatch, parts)
    for width in WIDTHS:
        for encoding, mark in ENCODINGS.items():
            if parts:
                with stream(width, encoding, monkeypatch) as file:
                    table(Output(OutputFormat.TABLE, Color.AUTO, None, force=False), *parts)
                    text = read(file)
                text += first  # remarks, on stderr
            else:
                text = written(name, width, encoding, monkeypatch, [])
            yield (width, mark), text


@contextmanager
def stream(
    width: int, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[io.TextIOWrapper]:
    """A stdout and stderr in one, as a pipe of that encoding."""
    with monkeypatch.context() as here:
        file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
        here.setenv("COLUMNS", str(width))
        here.setattr(sys, "stdout", file)
        here.setattr(sys, "stderr", file)
        yield file


def read(file: io.TextIOWrapper) -> str:
    """What was written, without what another version would write otherwise."""
    file.flush()
    text = file.buffer.getvalue().decode()  # type: ignore[attr-defined]
    text = text.replace(WORDS, "")  # said at a first run
    return text.replace(f"hmtrace {__version__}", f"hmtrace {'X.Y.Z':.{len(__version__)}}")


def written(
    name: str,
    width: int,
    encoding: str,
    monkeypatch: pytest.MonkeyPatch,
    parts: list[RenderableType],
) -> str:
    """What a command writes by itself; `parts` gets what it gives to :meth:`Output.table`."""
    with stream(width, encoding, monkeypatch) as file, monkeypatch.context() as here:
        here.setattr(sys, "argv", ["hmtrace", *shlex.split(COMMANDS[name])])
        here.setattr(Output, "table", lambda _, *given: parts.extend(given))
        hmtrace.__main__.run()
        return read(file)
