"""What a terminal shows while something takes long."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hmtrace.firstruns import WAITERS, all_but_first
from tests.hmtrace.terminals import pieces

ROOT = Path(__file__).parents[2]
WORK = """
import time
from hmtrace.cli import progress
progress.PATIENCE = 0.0
with progress.ProgressBar("reading", in_bytes=True) as bar:
    time.sleep(0.2)
    bar(500, 2000)
    time.sleep(0.4)
    progress.aside("compiling loop 1: some.where")
    time.sleep(0.3)
    progress.line("a line above\\n")
    progress.aside("")
    bar(2000, 2000)
    time.sleep(1.3)
with progress.ProgressBar("replaying") as bar:
    time.sleep(0.2)
    bar(1, 4)
    time.sleep(0.4)
"""


def shown(*command: str, until: bytes = b"", **environment: str) -> list[str]:
    """Lines that a command writes to a terminal, each state of one that is written over.

    With `until`, Ctrl-C is pressed when it is seen.
    """
    ours, theirs = pty.openpty()
    more = {"TERM": "xterm", "COLUMNS": "100", **environment}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=theirs, cwd=ROOT, env=os.environ | more
    ) as process:
        os.close(theirs)
        written = b""
        for piece in pieces(ours):
            written += piece
            if until and until in written:
                process.send_signal(signal.SIGINT)
                until = b""
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.decode())
    return [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]


def test_a_bar_says_what_is_done_and_no_more() -> None:
    lines = shown(sys.executable, "-c", WORK)
    reading = [line for line in lines if line.startswith("reading")]
    waiting = [line for line in lines if line.startswith("compiling loop 1: some.where")]
    assert any("500 bytes of 2.0 kB" in line for line in reading)
    assert waiting
    assert not any("of 2.0 kB" in line or "left" in line for line in waiting)
    assert not any("2.0 kB of 2.0 kB" in line for line in reading), "a full bar stands still"
    clock = re.search(r"0:(\d\d):(\d\d)$", reading[-1])
    assert clock is not None
    assert 60 * int(clock[1]) + int(clock[2]) >= 2, "it goes on"
    assert "a line above" in lines
    assert any(line.startswith("replaying") and "25 %" in line for line in lines)


SWEEP = """
import sys, time
from hmtrace.cli import progress
progress.PATIENCE = 0.0
with progress.ProgressBar("sweeping", unit="machines") as bar:
    for done in range(1, 9):
        time.sleep(float(sys.argv[1]))
        bar(done, 64, "2 processes")
    time.sleep(0.7)
"""


def test_a_bar_of_machines_tells_who_serves_and_the_time_left() -> None:
    lines = shown(sys.executable, "-c", SWEEP, "0.15")
    last = [line for line in lines if line.startswith("sweeping")][-1]
    told = re.search(r"8 of 64 machines, (\d+) s left +2 processes +0:\d\d:\d\d$", last)
    assert told is not None, lines
    assert int(told[1]) >= 56 * 0.15 * 0.8


def test_without_a_terminal_there_is_no_bar() -> None:
    command = [sys.executable, "-c", SWEEP, "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=300)
    assert done.stdout == done.stderr == b""


@pytest.mark.slow
def test_a_first_run_says_what_it_compiles_and_so_does_the_next(tmp_path: Path) -> None:
    """After a Ctrl-C, too: what is not there yet is told again."""
    all_but_first(tmp_path)
    command = [sys.executable, "-m", "hmtrace", "info", str(WAITERS)]
    first = shown(*command, until=b"compiling loop", XDG_CACHE_HOME=str(tmp_path))
    again = shown(*command, XDG_CACHE_HOME=str(tmp_path))
    for lines in (first, again):
        assert "hmtrace: compiling for this machine, once; this takes some 20 seconds" in lines
        assert any(line.startswith("compiling loop ") for line in lines)
    assert not any("compiling" in line for line in shown(*command, XDG_CACHE_HOME=str(tmp_path)))
