"""Long output on a terminal, page by page, as git shows it."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLES: Final = ("HMTRACE_PAGER", "PAGER")
"""Name the pager, the first that is set; ``cat`` or nothing: none."""
USUAL: Final = "less"
_LESS: Final = "FRX"
"""End where all fits, let colours through, leave the text on the screen."""
_NONE: Final = ("", "cat")


def show(text: str) -> bool:
    """Show text on a terminal page by page.

    Returns
    -------
    bool
        False, and nothing is shown, where stdout is no terminal, where all fits on it, and where
        there is no pager.
    """
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return False
    lines = shutil.get_terminal_size().lines
    if text.count("\n") < lines:  # one line is the prompt's
        return False
    pager = _pager()
    if pager is None:
        return False
    environment = {"LESS": _LESS} | dict(os.environ)
    content = text.encode(sys.stdout.encoding or "utf-8", errors="replace")
    try:
        process = subprocess.Popen(pager, stdin=subprocess.PIPE, env=environment)
    except OSError:
        return False
    with _interrupts_are_the_pagers():
        with contextlib.suppress(BrokenPipeError):  # it was left before the end
            process.communicate(content)
        process.wait()
    return True


def _pager() -> list[str] | None:
    """Command of the pager; None: there is none, or none is wanted."""
    named = next((os.environ[name] for name in VARIABLES if name in os.environ), USUAL)
    try:
        command = shlex.split(named)
    except ValueError:
        return None
    if not command or command[0] in _NONE or shutil.which(command[0]) is None:
        return None
    return command


@contextlib.contextmanager
def _interrupts_are_the_pagers() -> Iterator[None]:
    """Leave Ctrl-C to the pager, which stops a search with it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
