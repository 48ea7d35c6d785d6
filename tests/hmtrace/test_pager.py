"""What does not fit on a terminal is shown page by page, findings in sight."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from collectors.errors import HmtraceError
from hmtrace.cli import app
from tests import warm
from tests.hmtrace.terminals import pieces

FIXTURE = str(Path(__file__).parents[2] / "fixtures/cases/i386-leak100")


def on_terminal(arguments: list[str], lines: int, columns: int = 80, **variables: str) -> str:
    """What a terminal of so many lines and columns gets."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "PAGER")}
    environment |= {"TERM": "xterm", **variables}
    child = subprocess.Popen(
        [*warm.program_with(variables), *arguments],
        stdin=subprocess.DEVNULL, stdout=slave, stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    os.close(slave)
    shown = b"".join(pieces(master))
    assert child.wait(timeout=300) == 0
    return shown.decode()


def paged_by(folder: Path) -> str:
    """A pager that marks what it gets."""
    pager = folder / "pager"
    pager.write_text("#!/bin/sh\necho PAGED\ncat\n")
    pager.chmod(0o755)
    return str(pager)


def test_a_long_report_is_paged(tmp_path: Path) -> None:
    shown = on_terminal(["report", FIXTURE], 24, HMTRACE_PAGER=paged_by(tmp_path))
    assert shown.startswith("PAGED")
    screen = shown.splitlines()[1:24]
    assert any("100" in line and "still held" in line for line in screen), "findings in sight"


@pytest.mark.parametrize(
    ("lines", "variables"),
    [(500, {}), (24, {"HMTRACE_PAGER": "cat"}), (24, {"HMTRACE_PAGER": ""}),
     (24, {"HMTRACE_PAGER": "no-such-pager"}), (24, {"TERM": "dumb"})],
)  # fmt: skip
def test_what_fits_or_has_no_pager_is_not_paged(
    lines: int, variables: dict[str, str], tmp_path: Path
) -> None:
    variables = {"HMTRACE_PAGER": paged_by(tmp_path)} | variables
    shown = on_terminal(["report", FIXTURE], lines, **variables)
    assert "PAGED" not in shown
    assert "still held" in shown


def test_a_pager_that_is_left_early_is_no_error(tmp_path: Path) -> None:
    pager = tmp_path / "early"
    pager.write_text("#!/bin/sh\nhead -n 1\n")
    pager.chmod(0o755)
    shown = on_terminal(["report", FIXTURE], 24, HMTRACE_PAGER=str(pager))
    assert "hmtrace report" in shown


def test_a_pipe_and_json_are_never_paged(tmp_path: Path) -> None:
    run = CliRunner().invoke(app, ["report", FIXTURE], env={"HMTRACE_PAGER": paged_by(tmp_path)})
    assert "PAGED" not in run.stdout
    shown = on_terminal(
        ["report", "--format", "json", FIXTURE], 24, HMTRACE_PAGER=paged_by(tmp_path)
    )
    assert shown.startswith("{")


def test_brief_fits_on_a_terminal_and_all_has_the_pictures() -> None:
    runner = CliRunner()
    brief = runner.invoke(app, ["report", "--brief", FIXTURE]).stdout
    usual = runner.invoke(app, ["report", FIXTURE]).stdout
    whole = runner.invoke(app, ["report", "--all", FIXTURE]).stdout
    assert len(brief.splitlines()) < 24
    for text in (brief, usual, whole):
        assert "still held at the end" in text
    assert "Caveats" not in brief
    assert "without --brief" in brief
    assert "Address space" not in usual
    assert "Address space" in whole
    assert "RAM  1023" in whole
    both = runner.invoke(app, ["report", "--all", "--brief", FIXTURE])
    assert isinstance(both.exception, HmtraceError)
    assert both.exception.exit_code == 2


@pytest.mark.skipif(shutil.which("less") is None, reason="less is not installed")
@pytest.mark.parametrize("keys", [b"q", b"\x03q", b" q"], ids=["q", "ctrl-c", "next"])
def test_less_is_left_as_readers_leave_it(keys: bytes) -> None:
    """Ctrl-C is less's own; whoever has read enough hears nothing of a broken pipe."""
    child, terminal = pty.fork()
    if child == 0:
        variables = {**os.environ, "TERM": "xterm", "PAGER": "less", "LESS": "FRX"}
        variables.pop("HMTRACE_PAGER", None)
        os.execve(sys.executable, [sys.executable, "-m", "hmtrace", "report", FIXTURE], variables)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 80, 0, 0))
    shown = b""
    waiting = [keys[at : at + 1] for at in range(len(keys))]
    stuck = time.monotonic() + 120
    try:
        while True:
            if select.select([terminal], [], [], 0.1)[0]:
                shown += os.read(terminal, 1 << 16)
            elif b"hmtrace report" in shown:  # a screen is there, and the pager waits for a key
                os.write(terminal, waiting.pop(0) if len(waiting) > 1 else waiting[0])
            if time.monotonic() > stuck:
                os.kill(child, signal.SIGKILL)
                pytest.fail(f"less waits behind {shown[-200:]!r}")
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(terminal)
    assert os.waitpid(child, 0)[1] == 0
    text = shown.decode(errors="replace")
    assert "hmtrace report" in text
    assert "Caveats" not in text  # far below the first screens
    assert "rror" not in text
    assert "ipe" not in text.replace("probes", "")


SGR = re.compile(r"\x1b\[([0-9;]*)m")
"""What turns colours and weight of letters on and off."""


def is_coloured(text: str) -> bool:
    return any(re.fullmatch(r"3[0-7]|9[0-7]", n) for m in SGR.findall(text) for n in m.split(";"))


@pytest.mark.parametrize(
    ("variables", "colour", "escapes", "ascii_alone"),
    [
        ({}, True, True, False),
        ({"NO_COLOR": "1"}, False, True, False),
        ({"TERM": "dumb"}, False, False, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, False, False, False),
        ({"LC_ALL": "C"}, True, True, True),
        ({"LC_ALL": "POSIX", "TERM": "dumb"}, False, False, True),
        ({"PYTHONIOENCODING": "iso8859-1"}, True, True, True),
    ],
    ids=str,
)
def test_a_terminal_gets_what_it_can_show(
    variables: dict[str, str],
    colour: bool,  # noqa: FBT001
    escapes: bool,  # noqa: FBT001
    ascii_alone: bool,  # noqa: FBT001
) -> None:
    shown = on_terminal(["layout"], 100, **variables)
    assert is_coloured(shown) is colour
    assert ("\x1b" in shown) is escapes
    assert shown.isascii() is ascii_alone
    assert "direct mapping of RAM" in SGR.sub("", shown)


@pytest.mark.parametrize(("columns", "widest"), [(60, 60), (100, 100), (200, 120)])
def test_a_report_is_as_wide_as_the_terminal_up_to_a_limit(columns: int, widest: int) -> None:
    shown = on_terminal(["layout"], 100, columns, TERM="dumb")
    assert max(map(len, shown.splitlines())) == widest


def test_a_line_that_does_not_know_its_width_has_80_columns() -> None:
    """As a serial console."""
    shown = on_terminal(["layout"], 0, 0, TERM="vt100")
    assert max(len(SGR.sub("", line)) for line in shown.splitlines()) == 80


def test_colour_is_forced_into_a_pipe() -> None:
    def piped(**variables: str) -> str:
        kept = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "FORCE_COLOR", "TERM"}}
        return subprocess.run(
            [*warm.program(), "layout"],
            capture_output=True, check=True, text=True, env=kept | variables, timeout=300,
        ).stdout  # fmt: skip

    assert "\x1b" not in piped(TERM="xterm")
    assert is_coloured(piped(TERM="xterm", FORCE_COLOR="1"))
    assert not is_coloured(piped(TERM="xterm", FORCE_COLOR="1", NO_COLOR="1"))
