"""What stands for the program in other tests prints what the program itself prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import warm

ROOT = Path(__file__).parents[1]
REAL = [sys.executable, "-m", "hmtrace"]
CAPTURE = "fixtures/cases/i386-leak100"


def ran(program: list[str], *words: str, given: bytes = b"") -> tuple[int, bytes, bytes]:
    done = subprocess.run(
        [*program, *words], cwd=ROOT, input=given, capture_output=True, check=False, timeout=300,
        env=os.environ | {"COLUMNS": "100"},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["report", CAPTURE], 0),
        (["check", CAPTURE], 1),
        (["layout", "--bogus"], 2),
        (["info", "fixtures/none"], 3),
    ],
)
def test_it_prints_and_ends_as_the_program_itself(words: list[str], code: int) -> None:
    real = ran(REAL, *words)
    assert real[0] == code
    assert ran(warm.program(), *words) == real


def test_it_stands_in_pipes() -> None:
    trace = (ROOT / CAPTURE / "trace.txt.gz").read_bytes()
    real = ran(REAL, "info", "-", given=trace)
    assert b"kmap_high" in real[1]
    assert ran(warm.program(), "info", "-", given=trace) == real
    with subprocess.Popen([*warm.program(), "layout"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=300) == 141
