"""Whatever a run reads it never writes, whatever name leads there, with --force or without."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from collectors import opened
from hmtrace.__main__ import run
from hmtrace.cli import output
from tests.writers import ftracetext, tracedat
from tests.writers.ftracetext import Event

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
COMMANDS: Final = ("info", "report", "replay", "validate", "convert")
EVENTS: Final = [
    Event("bash", 7, 0, 10**9 + n, f"p: (kmap_high+0x0/0x260) page={n * 40:#x}") for n in range(20)
]
FILES: Final = {
    "trace.txt": ftracetext.header(5, entries=20) + ftracetext.tracefs(EVENTS),
    "cmdline": "vmalloc=192M\n",
    "config-6.1": "CONFIG_X86_32=y\n",
    "kallsyms": "c126f820 T kmap_high\n",
    "dmesg.txt": "[    0.000000] Linux version 6.1.0 (x)\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "capture"
    place.mkdir()
    for name, content in FILES.items():
        (place / name).write_text(content)
    yield place
    opened.forget()


def refused(monkeypatch: pytest.MonkeyPatch, *words: object) -> bool:
    """Run a command that would write onto an input; whether it is refused for that."""
    form = ("--format", "csv") if words[0] == "convert" else ()
    monkeypatch.setattr("sys.argv", ["hmtrace", *map(str, words), *form])
    err = io.StringIO()
    monkeypatch.setattr("sys.stderr", err)
    return run() == 2 and "it is never replaced" in err.getvalue()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("force", [("--force",), ()])
def test_files_of_a_capture(
    folder: Path, command: str, force: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "hard").hardlink_to(folder / "cmdline")
    (folder.parent / "soft").symlink_to(folder / "trace.txt")
    for name in (*FILES, "hard", "../soft"):
        for capture in (folder, folder / "trace.txt", f"{folder / 'trace.txt'}:"):
            assert refused(monkeypatch, command, capture, "-o", folder / name, *force)
    for name, content in FILES.items():
        assert (folder / name).read_text() == content


@pytest.mark.parametrize("command", COMMANDS)
def test_a_trace_under_the_name_of_a_buffer(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "trace.dat"
    events = tracedat.kernel_events(4)
    spec = tracedat.FileSpec([tracedat.BufferSpec({0: []})], list(events.values()))
    trace.write_bytes(before := tracedat.write(spec))
    for name in ("", ":", ":inner"):
        assert refused(monkeypatch, command, f"{trace}{name}", "-o", trace, "--force")
    assert trace.read_bytes() == before


def test_descriptions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, costs = folder.parent / "m.toml", folder.parent / "c.toml"
    machine.write_text('arch = "i386"\n')
    costs.write_text("invlpg = 140\n")
    for words in (
        ("layout", "--machine", machine, "-o", machine),
        ("replay", folder, "--machine", machine, "-o", machine),
        ("replay", folder, "--costs", costs, "-o", costs),
        ("report", folder, "--costs", costs, "-o", costs),
    ):
        assert refused(monkeypatch, *words, "--force")
    assert machine.read_text() == 'arch = "i386"\n'
    assert costs.read_text() == "invlpg = 140\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_file_that_is_stdin(
    folder: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = folder / "trace.txt"
    with trace.open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert refused(monkeypatch, command, "-", "-o", trace, "--force")
    assert trace.read_text() == FILES["trace.txt"]


@pytest.mark.parametrize("name", FILES)
def test_what_was_read_is_refused_in_the_end_too(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it could not be told beforehand, before the result is put in place."""
    monkeypatch.setattr(output, "_note", lambda *_: None)
    target = folder / name
    if name != "kallsyms":  # nothing in this trace needs it
        assert refused(monkeypatch, "info", folder, "-o", target, "--force")
        assert target.read_text() == FILES[name]
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)


def test_another_run_may_write_what_an_earlier_one_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = folder.parent / "m.toml"
    machine.write_text('arch = "i386"\n')
    for words in (
        ("layout", "--machine", machine, "-o", folder.parent / "out"),
        ("layout", "-o", machine, "--force"),
    ):
        monkeypatch.setattr("sys.argv", ["hmtrace", *map(str, words)])
        assert run() == 0
    assert "arch" not in machine.read_text()[:4]


def test_stdout_that_is_the_trace(folder: Path) -> None:
    trace = folder / "trace.txt"
    for words in (("info",), ("convert", "--format", "csv", "-o", "-")):
        with trace.open("ab") as target:
            done = subprocess.run(
                [sys.executable, "-m", "hmtrace", words[0], str(trace), *words[1:]],
                stdout=target,
                stderr=subprocess.PIPE,
                text=True,
                timeout=300,
                check=False,
            )
        assert done.returncode == 2
        assert "it is never replaced" in done.stderr
    assert trace.read_text() == FILES["trace.txt"]


def test_files_are_opened_in_one_place() -> None:
    """What opens a file by itself is named here, with the reason; the model opens its own only."""
    own = {
        "collectors/compiled/__init__.py",  # numba's settings
        "collectors/compiled/machinecode.py",  # numba's version
        "collectors/compiled/store.py",  # compiled loops
        "collectors/input/archive.py",  # writes members
        "collectors/input/remote.py",  # writes copies
        "collectors/opened.py",
        "hmtrace/cli/convert.py",  # the result
        "hmtrace/cli/journal.py",  # cache
        "hmtrace/cli/output.py",  # the result, /dev/null
        "hmtrace/cli/settling.py",  # the result
        "hmtrace/cli/sweep.py",  # the result
        "hmtrace/cli/synth.py",  # the result
        "hmtrace/cli/workloads.py",  # cache
        "collectors/arrow/writer.py",  # the result
        "collectors/parquet/reader.py",  # an unpacked copy
        "collectors/synthetic/outputs/folder.py",
        "hmtrace/leftovers.py",  # /dev/null
        "hmtrace/__main__.py",  # /dev/null
        "hmtrace/cli/quiet.py",  # descriptor 2
        "hmtrace/recorder/render.py",  # the template that is shipped
        "hmtrace/html/page.py",  # scripts and styles that are shipped
    }
    found = set()
    for package in ("collectors", "hmtrace"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text()
            if not re.search(r"open\(|read_(bytes|text)\(", text):
                continue
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Call) and _opens(node):
                    found.add(str(path.relative_to(ROOT)))
    assert found - own == set()


def _opens(call: ast.Call) -> bool:
    """Whether a call opens a file: Path.open with a mode, open(), read_bytes(), read_text()."""
    if isinstance(call.func, ast.Name):
        return call.func.id == "open"
    if not isinstance(call.func, ast.Attribute):
        return False
    if call.func.attr in ("read_bytes", "read_text") and not call.args:
        return True
    mode = call.args[0] if call.args else None
    is_mode = isinstance(mode, ast.Constant) and isinstance(mode.value, str)
    return call.func.attr == "open" and is_mode
