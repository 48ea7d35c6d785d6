"""Entry point: runs a command, and turns every error into words and an exit code.

Exit codes: 0 fine; 1 a check found something or a threshold failed; 2 wrong usage, or an output
that cannot be written; 3 unreadable or damaged input. Beside these, as a shell would have them:
130 for Ctrl-C, 141 where the reader of a pipe went away, 128 and its number for a signal (143 for
SIGTERM), and 70 (EX_SOFTWARE) for a bug in hmtrace itself.

Nearly everything is imported where a Ctrl-C ends in silence, too.
"""

from __future__ import annotations

import atexit
import errno
import gc
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from types import FrameType

    from collectors.errors import HmtraceError

EXIT_BUG = 70
_GC_THRESHOLD = 200_000
"""New objects between two searches for cycles; Python's 700 are a seventh of all imports' time, and
20 000 still a twentieth of a short report's."""
EXIT_READER_GONE = 141
EXIT_UNWRITABLE = 2
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MESSAGE_LIMIT = 2000
_AGAIN = 0.02
"""Seconds after which a lost signal is sent again."""
_ENDS = (
    signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGXCPU, signal.SIGALRM,
    signal.SIGVTALRM, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
"""Signals that end the program as somebody wishes: a closed terminal or a lost ssh, timeout(1), a
limit of a batch system. They unwind it, so that nothing half-written is left."""
_lost: list[int] = []
"""Signals that were lost: what a library stumbles over after one is nobody's fault."""


def main() -> NoReturn:
    """Run the command line and leave the process; no traceback reaches a user."""
    gc.set_threshold(_GC_THRESHOLD)
    # numpy would start a thread for every CPU, for linear algebra that nothing here needs.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # polars would read 128 row groups of a Parquet file ahead: memory that grows with the file.
    os.environ.setdefault("POLARS_ROW_GROUP_PREFETCH_SIZE", "2")
    # polars would give freed memory back after half a second, and take as much anew right behind.
    os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:10000")
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a bar still works
    for number in _ENDS:
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, _terminated)
    sys.unraisablehook = _unraisable
    code = run()
    for number in (signal.SIGINT, *_ENDS):  # what is left is to tidy up, and quick
        signal.signal(number, signal.SIG_IGN)
    if sys.getprofile() is not None:  # who measures wants to say so at the end
        sys.exit(code)
    leave(code)


def leave(code: int) -> NoReturn:
    """Run the exit functions, flush, and end the process.

    Python would take itself and all that is loaded apart first, which takes 0.3 s.
    """
    try:
        atexit._run_exitfuncs()
    finally:
        os._exit(_flushed(code))


def _flushed(code: int) -> int:
    """Exit code after the last words are written; a full disk or a closed pipe may change it."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = code or EXIT_READER_GONE
    except (OSError, ValueError) as error:
        if code == 0:
            code = EXIT_UNWRITABLE
            _say(f"hmtrace: cannot write to stdout: {error}\n")
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    return code


def _say(words: str) -> None:
    """Write to stderr; where that cannot take it, the exit code has to do."""
    if not words.isascii():
        from hmtrace.report import signs

        words = signs.plain(words) if signs.is_plain(sys.stderr) else words
    with suppress(OSError, ValueError):
        sys.stderr.write(words)


def run() -> int:
    """Run the command line in ``sys.argv``.

    Returns
    -------
    int
        Exit code.
    """
    try:
        return _run()
    except KeyboardInterrupt:
        return 130
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except Exception as error:
        return 128 + _lost[0] if _lost else _confess(error)


def _run() -> int:
    from collectors.errors import HmtraceError
    from hmtrace.cli import app
    from hmtrace.cli.output import ReaderGoneError

    try:
        code = app(prog_name="hmtrace", standalone_mode=False)
    except HmtraceError as error:
        return _explain(error)
    except ReaderGoneError:
        return EXIT_READER_GONE
    except Exception as error:
        if not hasattr(error, "format_message"):  # of typer's
            raise
        return _misused(error)
    return code if isinstance(code, int) else 0


def _misused(error: Any) -> int:
    """Wrong usage; without any word the help is the answer."""
    if type(error).__name__ == "NoArgsIsHelpError":
        _say(f"{error.format_message()}\n")
        return 2
    from hmtrace.cli.usage import as_error

    return _explain(as_error(error))


def _explain(error: HmtraceError) -> int:
    from hmtrace.report.text import clean

    _say(f"hmtrace: {clean(error, _MESSAGE_LIMIT)}\n")
    if error.hint:
        _say(f"  hint: {clean(error.hint, _MESSAGE_LIMIT)}\n")
    return error.exit_code


def _confess(error: Exception) -> int:
    """Say that this is our fault; a full disk, a vanished file or too little memory are not."""
    from hmtrace import __version__
    from hmtrace.report.text import clean

    if isinstance(error, OSError):
        if error.errno in _NO_ROOM:
            _say(f"hmtrace: cannot be written: {clean(error.strerror)}\n")
            return EXIT_UNWRITABLE
        where = clean(error.filename) + ": " if error.filename is not None else ""
        _say(f"hmtrace: {where}{clean(error.strerror or error)}\n")
        return 3
    if isinstance(error, MemoryError):
        _say("hmtrace: not enough memory for this capture\n")
        return 3
    _say(
        f"hmtrace: {type(error).__name__}: {clean(error, _MESSAGE_LIMIT)}\n"
        f"  this is a bug in hmtrace {__version__}, not in your capture; please report it with\n"
        "  the command line and the output of the same command under HMTRACE_DEBUG=1\n"
    )
    if os.environ.get("HMTRACE_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    return EXIT_BUG


def _terminated(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    """Unwind, so that unfinished output files are removed."""
    sys.exit(128 + number)


def _unraisable(what: sys.UnraisableHookArgs) -> None:
    """Send a signal again that came while a library was calling back, as LLVM does: it was lost."""
    number = signal.SIGINT if what.exc_type is KeyboardInterrupt else None
    if what.exc_type is SystemExit:
        code = getattr(getattr(what, "exc_value", None), "code", None)
        number = next((n for n in _ENDS if code == 128 + n), signal.SIGTERM)
    if number is not None:
        _lost.append(number)
        threading.Timer(_AGAIN, os.kill, (os.getpid(), number)).start()
    else:
        sys.__unraisablehook__(what)


if __name__ == "__main__":
    main()
