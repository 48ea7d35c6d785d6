"""Where results go: stdout or a file that appears only when it is complete."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager, nullcontext, suppress
from enum import StrEnum
from itertools import chain
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any, TextIO

from collectors.errors import HmtraceError
from collectors.opened import name_of, note
from collectors.records import dataclass
from hmtrace.cli.settling import settled
from hmtrace.leftovers import unfinished
from hmtrace.report import signs
from hmtrace.report.text import clean, digits_grouped, group_digits, unglued

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.console import Console, RenderableType

WIDEST = 120
"""Reports do not get wider than this: longer lines are hard to read."""


class OutputFormat(StrEnum):
    """Value of ``--format``."""

    TABLE = "table"
    JSON = "json"


class Color(StrEnum):
    """Value of ``--color``."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True)
class Output:
    """What the shared options say about the result.

    Attributes
    ----------
    format, color
        ``--format``, ``--color``.
    path
        ``--output``; None: stdout.
    force
        ``--force``: an existing file is replaced.
    """

    format: OutputFormat
    color: Color
    path: Path | None
    force: bool

    @classmethod
    def create(
        cls,
        output_format: OutputFormat,
        color: Color,
        path: Path | None,
        *,
        force: bool,
        captures: Iterable[str] = (),
        files: Iterable[Path | None] = (),
    ) -> Output:
        """Check the options before any slow work is done.

        `captures` and `files` are what the command reads.

        Raises
        ------
        HmtraceError
            Exit code 2: the file exists and ``--force`` is not given, or it cannot be written.
        """
        if path is not None and str(path) != "-":
            check_target(path, force=force, captures=captures, files=files)
        else:
            path = None
            check_stdout(captures, files)
        group_digits(wanted=path is None and sys.stdout.isatty())
        return cls(output_format, color, path, force)

    @property
    def is_json(self) -> bool:
        """Whether a JSON document is wanted."""
        return self.format is OutputFormat.JSON

    def document(self, document: dict[str, Any]) -> None:
        """Write a JSON document, ASCII only, so that no foreign string reaches a terminal raw."""
        self._write(json.dumps(document, indent=2, allow_nan=False) + "\n")

    def text(self, text: str) -> None:
        """Write text as it is, of a form that escapes what is foreign by its own rules."""
        self._write(text)

    def documents(self, head: dict[str, Any], key: str, parts: Iterable[dict[str, Any]]) -> None:
        """Write a JSON document with a list that is too long for memory, part by part."""
        text = json.dumps(head | {key: []}, indent=2, allow_nan=False)
        begin, end = text.removesuffix("[]\n}") + "[", "\n  ]\n}\n"
        pieces = (
            "," * (number > 0) + "\n" + indent(json.dumps(part, indent=2, allow_nan=False), "    ")
            for number, part in enumerate(parts)
        )
        if self.path is None:
            refuse_stdout()
            with stdout_errors():
                sys.stdout.writelines(chain([begin], pieces, [end]))
                sys.stdout.flush()
            return
        with (
            complete_file(self.path, force=self.force) as temporary,
            temporary.open("w", encoding="ascii") as file,
        ):
            file.writelines(chain([begin], pieces, [end]))
        sys.stderr.write(f"wrote {clean(self.path)}\n")

    def table(self, *renderables: RenderableType) -> None:
        """Write rich renderables one below the other.

        A file is as wide as a pipe would be, and gets no colour unless it is asked for. What does
        not fit on a terminal is shown page by page.
        """
        from hmtrace.cli import pager

        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            console = make_console(sys.stdout if self.path is None else nowhere, self.color)
            with stdout_errors(), console.capture() as captured:
                for renderable in renderables:
                    console.print(renderable)
        # rich fills lines with blanks up to the width; they only get in the way of diff and grep.
        text = unglued(captured.get())
        text = "\n".join(line.rstrip(" ") for line in text.split("\n"))
        if self.path is None and signs.is_plain(sys.stdout):
            text = signs.plain(text, console.width)
        if self.path is not None or not pager.show(text):
            self._write(text)

    def _write(self, text: str) -> None:
        if self.path is None:
            refuse_stdout()
            with stdout_errors():
                sys.stdout.write(text)
                sys.stdout.flush()
        else:
            write_atomically(self.path, text.encode(errors="replace"), force=self.force)
            sys.stderr.write(f"wrote {clean(self.path)}\n")


@dataclass(frozen=True)
class PageFile:
    """File of ``--html``, beside the result itself.

    `command` are the words of the command that makes it, where the page shows them.
    """

    path: Path
    force: bool
    command: tuple[str, ...] = ()

    @classmethod
    def create(
        cls,
        path: Path | None,
        output: Path | None,
        *,
        force: bool,
        captures: Iterable[str] = (),
        files: Iterable[Path | None] = (),
        command: Iterable[str] = (),
    ) -> PageFile | None:
        """Check the option before any slow work is done; None where it is not given.

        Raises
        ------
        HmtraceError
            As :func:`check_target`, or `output` is the same file.
        """
        if path is None:
            return None
        if str(path) == "-":
            raise HmtraceError(
                "--html needs a file", hint="stdout has the report itself", exit_code=2
            )
        if output is not None and output.resolve() == path.resolve():
            raise HmtraceError("-o and --html name the same file", source=str(path), exit_code=2)
        check_target(path, force=force, captures=captures, files=files)
        return cls(path, force, tuple(command))

    def write(self, page: Callable[[], str]) -> None:
        """Write what `page` makes, whose figures are for people."""
        with digits_grouped():
            text = page()
        write_atomically(self.path, text.encode(errors="replace"), force=self.force)
        sys.stderr.write(f"wrote {clean(self.path)}\n")


class ReaderGoneError(Exception):
    """The reader of a pipe went away; no fault of anybody's."""


@contextmanager
def stdout_errors() -> Iterator[None]:
    """Turn what can go wrong with stdout into words; rich touches it too when it renders."""
    try:
        yield
    except BrokenPipeError as error:
        _discard_stdout()
        raise ReaderGoneError from error
    except OSError as error:
        _discard_stdout()
        raise HmtraceError(
            f"cannot be written: {error.strerror}", source="<stdout>", exit_code=2
        ) from error


def _discard_stdout() -> None:
    """Keep the interpreter from complaining again when it flushes at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def make_console(file: TextIO, color: Color) -> Console:
    """Console for a stream: 80 columns where it is no terminal, unless COLUMNS says otherwise.

    ``auto`` leaves NO_COLOR, FORCE_COLOR and TERM to rich; ``never`` writes no escape sequence
    at all, ``always`` writes them into pipes too.
    """
    from rich.console import Console, ConsoleDimensions

    # What a trace says is shown as it is: a task may be called ":fire:".
    as_it_is: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
    if color is Color.NEVER:
        console = Console(file=file, color_system=None, force_terminal=False, **as_it_is)
    elif color is Color.ALWAYS:
        console = Console(
            file=file,
            color_system="standard",
            force_terminal=True,
            no_color=False,
            **as_it_is,
        )
    else:
        console = Console(file=file, **as_it_is)
    width = console.width
    if "COLUMNS" not in os.environ:
        width = shutil.get_terminal_size().columns if file.isatty() else 80
    # without a height rich takes every dumb terminal for one of 80 columns
    console.size = ConsoleDimensions(min(width, WIDEST), console.height)
    return console


def check_target(
    path: Path,
    *,
    force: bool,
    captures: Iterable[str] = (),
    files: Iterable[Path | None] = (),
) -> None:
    """Check that a file can be written, before any slow work is done.

    Parameters
    ----------
    path
        Target.
    force
        An existing file may be replaced.
    captures, files
        What is read, as the user named it: never replaced.

    Raises
    ------
    HmtraceError
        Exit code 2: it exists and `force` is not given, it is what is read, or it cannot be
        written.
    """
    try:
        _note(captures, files)
        refuse_read(path, str(path))
        if path.is_dir():
            raise HmtraceError("is a folder, not a file", source=str(path), exit_code=2)
        if path.is_file() and not force:
            raise HmtraceError(
                "output file exists", source=str(path), hint="--force replaces it", exit_code=2
            )
        if not path.parent.is_dir():
            raise HmtraceError(
                "folder of the output file does not exist", source=str(path.parent), exit_code=2
            )
    except OSError as error:
        raise _cannot_write(path, error) from error


def _note(captures: Iterable[str], files: Iterable[Path | None]) -> None:
    """Remember what is going to be read, so that it is refused before any slow work."""
    for capture in captures:
        if capture == "-":
            with suppress(OSError, ValueError, AttributeError):
                note(sys.stdin.fileno(), "<stdin>")
            continue
        from collectors.input.opening import inputs_of

        with suppress(OSError):  # its reader will tell
            for path in inputs_of(capture):
                note(path, str(path))
    for file in files:
        with suppress(OSError, ValueError):  # a preset, or what is no file: its reader tells
            if file is not None:
                note(file, str(file))


def refuse_read(file: int | Path, shown: str) -> None:
    """Keep a file that this run reads from being replaced by what was made of it.

    Parameters
    ----------
    file
        Path or descriptor of what is to be written.
    shown
        Its name, for the error.

    Raises
    ------
    HmtraceError
        Exit code 2: it was read, under whatever name.
    """
    name = name_of(file)
    if name is not None:
        what = (
            "this very file is read" if name == shown else f"this is {clean(name)}, which is read"
        )
        raise HmtraceError(
            f"{what}: it is never replaced",
            source=shown,
            hint="give another name with -o",
            exit_code=2,
        )


def check_stdout(captures: Iterable[str] = (), files: Iterable[Path | None] = ()) -> None:
    """Check that stdout is no file that is read, as of ``report trace.txt >> trace.txt``.

    Raises
    ------
    HmtraceError
        As :func:`refuse_read`.
    """
    _note(captures, files)
    refuse_stdout()


def refuse_stdout() -> None:
    """Refuse to write into what was read, where stdout is that; errors as :func:`refuse_read`."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError, AttributeError):  # of no file
        return
    refuse_read(descriptor, "<stdout>")


def write_atomically(path: Path, content: bytes, *, force: bool) -> None:
    """Write a file so that it is either complete or not there.

    Parameters
    ----------
    path
        Target.
    content
        All of it.
    force
        Replace a file that exists.

    Raises
    ------
    HmtraceError
        As :func:`complete_file`.
    """
    with complete_file(path, force=force) as temporary:
        temporary.write_bytes(content)


@contextmanager
def complete_file(path: Path, *, force: bool) -> Iterator[Path]:
    """Write a file under another name beside it; it appears when the block is left without error.

    Parameters
    ----------
    path
        Target. Into a device or FIFO (``/dev/null``) the content is copied in the end.
    force
        Replace a file that exists.

    Yields
    ------
    Path
        An empty file to be written meanwhile.

    Raises
    ------
    HmtraceError
        Exit code 2: the file exists (also where another process made it meanwhile), or the
        system refuses.
    """
    temporary: Path | None = None
    special = path.exists() and not path.is_file()
    try:
        with tempfile.NamedTemporaryFile(
            dir=None if special else path.parent,
            prefix="hmtrace-" if special else f".{path.name[:40]}.",
            suffix=".part",
            delete=False,
        ) as file:
            temporary = Path(file.name)
            unfinished.add(temporary)
            with nullcontext() if special else settled(temporary):
                yield temporary
        refuse_read(path, str(path))
        if special:
            with temporary.open("rb") as content, path.open("wb") as target:
                shutil.copyfileobj(content, target, 1 << 20)
            return
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # what open() would have given it
        if force:
            temporary.replace(path)
        else:
            _rename_to_new(temporary, path)
        unfinished.discard(temporary)
        temporary = None
    except FileExistsError as error:
        raise HmtraceError(
            "output file exists", source=str(path), hint="--force replaces it", exit_code=2
        ) from error
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
            unfinished.discard(temporary)


def _cannot_write(path: Path, error: OSError) -> HmtraceError:
    return HmtraceError(
        f"cannot be written: {error.strerror or error}", source=str(path), exit_code=2
    )


def _rename_to_new(temporary: Path, path: Path) -> None:
    """Rename without replacing: link() fails where the name exists, rename() would not."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:  # FAT and some network file systems have no hard links
        if path.exists():
            raise FileExistsError(path) from None
        temporary.replace(path)
    else:
        temporary.unlink()
