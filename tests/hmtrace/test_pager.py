"""What does not fit on a terminal is shown page by page, findings in sight."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from typer.testing import CliRunner

from collectors.errors import HmtraceError
from hmtrace.cli import app
from tests.hmtrace.terminals import pieces

FIXTURE = str(Path(__file__).parents[2] / "fixtures/cases/i386-leak100")


def on_terminal(arguments: list[str], lines: int, **variables: str) -> str:
    """What a terminal of so many lines of 80 columns gets."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, 80, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "PAGER")}
    environment |= {"TERM": "xterm", **variables}
    child = subprocess.Popen(
        [sys.executable, "-m", "hmtrace", *arguments],
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
