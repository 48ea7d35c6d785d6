"""How the process ends: at once, but tidied up, with its last words and the right code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = (sys.executable, "-m", "hmtrace")
FULL = Path("/dev/full")


def ended(code: str, ignored: str = "") -> subprocess.CompletedProcess[str]:
    """A process whose command is `code`, and then leaves as every command does.

    `ignored` is the name of a signal that it is started with as ignored.
    """
    # A shell has background processes ignore SIGINT and SIGQUIT, and so would this one.
    before = "import signal\nsignal.signal(signal.SIGQUIT, signal.SIG_DFL)\n"
    if ignored:
        before += f"signal.signal(signal.{ignored}, signal.SIG_IGN)\n"
    before += "import hmtrace.__main__ as m\ndef run():\n"
    body = "".join(f"    {line}\n" for line in code.splitlines())
    return subprocess.run(
        [sys.executable, "-c", f"{before}{body}m.run = run\nm.main()\n"],
        env={**os.environ, "PYTHONUNBUFFERED": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_spool_goes_and_what_was_said_arrives() -> None:
    done = ended(
        "from collectors.input.spool import spool_file\n"
        "file = spool_file('x')\n"
        "file.write_text('rows')\n"
        "print(file)\n"
        "return 1"
    )
    assert done.returncode == 1
    assert done.stdout.endswith("-x\n")
    assert not Path(done.stdout.strip()).parent.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_does_not_keep_the_spool_from_going(number: signal.Signals) -> None:
    done = ended(
        "import atexit, signal\n"
        "from collectors.input.spool import spool_file\n"
        "print(spool_file('x'))\n"
        f"atexit.register(signal.raise_signal, {int(number)})\n"
        "return 0"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not Path(done.stdout.strip()).parent.exists()


def test_who_measures_is_not_cut_short() -> None:
    done = ended("import sys\nsys.setprofile(lambda *_: None)\nprint('x')\nreturn 3")
    assert (done.returncode, done.stdout) == (3, "x\n")


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--help",), 2),
        (("--version",), 2),
        (("report", "--help"), 2),
        (("layout",), 2),
        (("synth", "--list"), 2),
        (("layout", "--format", "json"), 2),
        (("report", "/none"), 3),
    ],
)
def test_full_outputs_keep_the_code(words: tuple[str, ...], code: int) -> None:
    with FULL.open("w") as full:
        done = subprocess.run(
            [*PROGRAM, *words], stdout=full, stderr=full, timeout=300, check=False
        )
    assert done.returncode == code


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_a_full_output_is_said_in_one_line() -> None:
    with FULL.open("w") as full:
        done = subprocess.run(
            [*PROGRAM, "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.stderr == "hmtrace: cannot be written: No space left on device\n"


def test_a_reader_that_is_gone_before_the_last_flush() -> None:
    done = ended(
        "import os, sys\n"
        "read, write = os.pipe()\n"
        "os.close(read)\n"
        "os.dup2(write, 1)\n"
        "sys.stdout.write('words')\n"
        "return 0"
    )
    assert (done.returncode, done.stderr) == (141, "")


UNFINISHED = (
    "import os, signal, sys, time\n"
    "from pathlib import Path\n"
    "from collectors.input.spool import spool_file\n"
    "from hmtrace.cli.output import complete_file\n"
    "spool = spool_file('x')\n"
    "spool.write_text('rows')\n"
    "print(spool.parent, flush=True)\n"
    "with complete_file(Path({target!r}), force=False) as part:\n"
    "    part.write_text('half')\n"
    "    {end}\n"
    "    time.sleep(20)\n"
    "return 0"
)
"""A command that is ended while it writes."""


@pytest.mark.parametrize("name", ["TERM", "HUP", "QUIT", "XCPU", "ALRM", "VTALRM", "USR1", "USR2"])
def test_a_signal_leaves_nothing_half_written(name: str, tmp_path: Path) -> None:
    number = signal.Signals[f"SIG{name}"]
    end = f"os.kill(os.getpid(), {int(number)})"
    done = ended(UNFINISHED.format(target=str(tmp_path / "out"), end=end))
    assert (done.returncode, done.stderr) == (128 + number, "")
    assert list(tmp_path.iterdir()) == []
    assert not Path(done.stdout.strip()).exists()


def test_a_signal_that_is_ignored_stays_so(tmp_path: Path) -> None:
    """As under nohup."""
    end = "os.kill(os.getpid(), signal.SIGHUP); time.sleep = print"
    code = UNFINISHED.format(target=str(tmp_path / "out"), end=end)
    done = ended(code, ignored="SIGHUP")
    assert done.returncode == 0
    assert (tmp_path / "out").read_text() == "half"


def test_a_file_that_is_cut_while_it_is_read_leaves_nothing_half_written(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_bytes(bytes(1 << 20))
    end = (
        "import mmap; from hmtrace.fatal import explain_fatal_signals; "
        f"explain_fatal_signals('trace'); file = open({str(trace)!r}, 'r+b'); "
        "mapped = mmap.mmap(file.fileno(), 0); file.truncate(0); mapped[1 << 19]"
    )
    done = ended(UNFINISHED.format(target=str(tmp_path / "out"), end=end))
    assert done.returncode == 3
    assert "became shorter while it was read" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["trace"]
    assert not Path(done.stdout.strip()).exists()


def test_a_table_that_claims_more_than_memory_is_named() -> None:
    """Its pages claim 10**18 values; polars ends the process where it is refused their memory."""
    table = "fixtures/cases/parquet-huge-run/table.parquet"
    done = subprocess.run(
        [*PROGRAM, "info", table],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        f"hmtrace: {table}: reading takes more memory than there is: damaged, or too large for "
        "this machine",
        "  hint: copy the file again, or convert the trace again",
    ]
