"""Ways that take an input to one reader of the program and no further: milliseconds each.

Each raises, or says what is wrong; :class:`HmtraceError` is how a reader says no.
"""

from __future__ import annotations

import functools
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

from tests.fuzz.case import WORDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fuzz.case import Verdict

LOOP: Final = "collectors.made.loop"
"""Name of the compiled loop that a case holds."""
_MOST_FRAMES: Final = 1 << 10
KEY: Final = "workload"
"""Folder of the workload that a case holds."""


def facts(path: Path, verdict: Verdict) -> None:
    """The files of a machine, and the machine that they make."""
    from collectors.errors import HmtraceError
    from collectors.facts import read_folder
    from collectors.facts.ranges import beyond
    from replay.machine.from_facts import machine_from
    from replay.machine.layout import layout_of

    said = read_folder(path)
    for name, fact in said.items():
        if wrong := beyond(name, fact.value):
            verdict.trouble = f"{name}: {wrong}"
    repr(said)
    if len(said.notes) > 1000 or any(len(note) > 10_000 for note in said.notes):
        verdict.trouble = "notes without a bound"
    try:
        layout_of(machine_from(said.snapshot())[0])
    except HmtraceError as error:
        verdict.ended = f"no machine: {error}"


def unpacked(path: Path, verdict: Verdict) -> None:
    """What is packed, up to the trace in it; nothing appears beside it."""
    from collectors import FORMATS
    from collectors.errors import HmtraceError
    from collectors.input.opening import open_source

    before = sorted(path.parent.rglob("*"))
    try:
        open_source(path, FORMATS)
    except HmtraceError as error:
        verdict.ended = f"{type(error).__name__}: {error} ({error.hint})"
        if error.exit_code != 3 or error.source is None:
            verdict.trouble = f"exit code {error.exit_code}, source {error.source}"
    if sorted(path.parent.rglob("*")) != before:
        verdict.trouble = "files were written"


def machine(path: Path, verdict: Verdict) -> None:
    """A machine in TOML, and its layout."""
    from hmtrace.cli.machines import read_machine
    from replay.machine.layout import layout_of

    _usage(lambda: layout_of(read_machine(path)), verdict)


def costs(path: Path, verdict: Verdict) -> None:
    """Costs in TOML."""
    from hmtrace.cli.toml import read_toml
    from replay.machine.costs import Costs

    _usage(lambda: Costs.default().with_values(read_toml(path, "x"), source=str(path)), verdict)


def described(path: Path, verdict: Verdict) -> None:
    """Costs and a machine that lie beside a trace."""
    for name, read in (("costs.toml", costs), ("machine.toml", machine)):
        if not verdict.trouble:
            read(path.with_name(name), verdict)


def _usage(read: Callable[[], Any], verdict: Verdict) -> None:
    """Read what the user wrote: what is wrong with it is wrong usage."""
    from collectors.errors import HmtraceError

    try:
        read()
    except HmtraceError as error:
        verdict.ended = f"{type(error).__name__}: {error} ({error.hint})"
        if error.exit_code != 2:
            verdict.trouble = f"exit code {error.exit_code} for a wrong description"


def elf(path: Path, verdict: Verdict) -> None:
    """A vmlinux and a module's file: sizes, functions, lines and inlines, never what was kept."""
    from collectors.errors import HmtraceError
    from collectors.symbols import kept as answers
    from collectors.symbols.places import SiteFinder
    from collectors.symbols.table import Symbols
    from tests.fuzz.elves import SITES

    try:
        with mock.patch.object(answers, "_name_of", return_value=None):
            finder = SiteFinder(Symbols.empty(), path)
            finder.sizes()
            found = finder.of(SITES)
    except HmtraceError as error:
        verdict.ended = f"{type(error).__name__}: {error} ({error.hint})"
        if error.exit_code != 3 or error.source is None:
            verdict.trouble = f"exit code {error.exit_code}, source {error.source}"
        return
    if any(len(place.frames) > _MOST_FRAMES for place in found.values()):
        verdict.trouble = "frames without a bound"


def kept(path: Path, verdict: Verdict) -> None:
    """A workload in the cache: whole, or made anew."""
    from hmtrace.cli.workloads import Place

    place = Place(path, KEY)
    found = place.find()
    verdict.ended = "read" if found is not None else "made anew"
    if found is None and place.folder.exists():
        verdict.trouble = "a workload that is damaged stays"
    if found is not None and not place.with_turns(found).workload.can_convert:
        verdict.ended = "turns made anew"
        if (place.folder / "turns").exists():
            verdict.trouble = "turns that are damaged stay"


def loop(path: Path, verdict: Verdict) -> None:
    """A compiled loop in the cache: whole, or compiled anew."""
    from collectors.compiled import store

    before = os.environ.get("NUMBA_CACHE_DIR")
    os.environ["NUMBA_CACHE_DIR"] = str(path)
    try:
        found = store.load(LOOP)
    finally:
        if before is None:
            del os.environ["NUMBA_CACHE_DIR"]
        else:
            os.environ["NUMBA_CACHE_DIR"] = before
    verdict.ended = "read" if found is not None else "compiled anew"
    if found is not None and found != (path / "whole").read_bytes():
        verdict.trouble = "what was kept is not what is loaded"


def words(path: Path, verdict: Verdict) -> None:
    """A command line as :func:`options` takes it, up to where the command would begin."""
    import typer.main

    group = _group_without_bodies()
    with mock.patch.object(typer.main, "get_command", return_value=group):
        options(path, verdict)


@functools.cache
def _group_without_bodies() -> Any:
    """The program's commands, of which none does anything."""
    import typer.main

    from hmtrace.cli import app

    make = getattr(typer.main.get_command, "__wrapped__", typer.main.get_command)
    group = make(app)
    for command in group.commands.values():
        command.callback = lambda **_options: None
    return group


def options(path: Path, verdict: Verdict) -> None:
    """A command line: words that are separated by zero bytes; ``@NAME`` is a file of the case."""
    from hmtrace.__main__ import run as main
    from tests.fuzz.trial import unprintable

    raw = (path / "words").read_bytes().split(b"\0")
    words = [os.fsdecode(word) for word in raw]
    words = [str(path / word[1:]) if word.startswith("@") else word for word in words]
    kept_streams = sys.argv, sys.stdin, sys.stdout, sys.stderr, Path.cwd()
    out, err = (
        io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="replace", write_through=True)
        for _ in range(2)
    )
    sys.argv, sys.stdout, sys.stderr = ["hmtrace", *words], out, err
    sys.stdin = io.TextIOWrapper(io.BytesIO(b""))
    os.chdir(path)
    try:
        code = main()
    finally:
        *streams, folder = kept_streams
        sys.argv, sys.stdin, sys.stdout, sys.stderr = streams  # type: ignore[assignment]
        os.chdir(folder)
    shown, said = (_content(stream) for stream in (out, err))
    verdict.ended = f"exit {code}: {said[-2000:]}"
    if code not in (0, 1, 2, 3):
        verdict.trouble = f"exit code {code}: {said[:300]}"
    elif code and not said and not shown:
        verdict.trouble = "no word about the error"
    elif any(wrong := [unprintable(said), unprintable(shown, colours=True)]):
        verdict.trouble = max(wrong)


def _content(stream: io.TextIOWrapper) -> str:
    stream.flush()
    content: bytes = stream.buffer.getvalue()  # type: ignore[attr-defined]
    return content.decode("utf-8", "surrogateescape").replace("\t", " ")


WAYS: Final[dict[str, Callable[[Path, Verdict], None]]] = {
    "facts": facts,
    "unpacked": unpacked,
    "elf": elf,
    "machine": machine,
    "kept": kept,
    "described": described,
    "loop": loop,
    WORDS: words,
    "options": options,
}
"""Ways by name."""
