"""First runs: what is compiled beside the reading of a trace, and what never is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from hmtrace.rehearsal import COMMANDS
from tests.hmtrace.firstruns import WAITERS, all_but_first

FIXTURES: Final = Path(__file__).parents[2] / "fixtures"
ASKED: Final = """
import sys
from collectors.compiled import store
load = store.load
def told(name):
    print("asked for", name)
    return load(name)
store.load = told
"""
"""Says which loops are asked for, by name and digest of their code and their arguments' kinds."""
RUN: Final = "import hmtrace.__main__ as m\nsys.argv = ['hmtrace', *sys.argv[1:]]\nm.main()\n"
RUN_EACH: Final = """
import hmtrace.__main__ as m
command, one, other, *options = sys.argv[1:]
for capture in (one, other):
    sys.argv = ["hmtrace", command, capture, *options]
    assert m.run() == 0
m.leave(0)
"""
REHEARSE: Final = """
from collectors.compiled import noting
from hmtrace.rehearsal import pair, rehearse
with noting():
    pair()
rehearse(sys.argv[1])
"""


def asked_for(code: str, *words: str | Path, **environment: str) -> set[str]:
    """Loops that a process asks for."""
    done = subprocess.run(
        [sys.executable, "-c", ASKED + code, *map(str, words)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
        timeout=600,
        check=True,
    )
    start = "asked for "
    return {line.removeprefix(start) for line in done.stdout.split("\n") if line.startswith(start)}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_rehearsal_leaves_no_loop_of_the_replay_out(command: str) -> None:
    """Of a capture of the pool, and of one of the arena behind it in the same process."""
    options = ("--pkmap", "128", "--split", "2g") if command == "replay" else ()
    captures = [FIXTURES / name for name in ("i386-minix-pae-smp2", "i386-arena-pae-m2048-smp2")]
    needed = asked_for(RUN_EACH, command, *captures, *options)
    for part in ("pool", "arena"):
        assert any(loop.startswith(f"replay.{part}.") for loop in needed)
    of_readers = {loop for loop in needed if loop.startswith("collectors.")}
    rehearsed = asked_for(REHEARSE, command)
    assert needed - of_readers - rehearsed == set()
    paired = {loop for loop in rehearsed if loop.startswith("collectors.table.pairing.pair-")}
    assert len(paired) == 1
    assert paired < needed


def test_layout_and_info_of_a_table_need_no_loop(tmp_path: Path) -> None:
    table = tmp_path / "capture.parquet"
    made = asked_for(RUN, "convert", WAITERS, "-o", table)
    assert made
    nowhere = str(tmp_path / "nothing-compiled")
    for words in (("layout",), ("layout", "--machine", "list"), ("info", table)):
        assert asked_for(RUN, *words, XDG_CACHE_HOME=nowhere) == set()
    assert not Path(nowhere).exists()


def test_a_helper_goes_on_in_python_with_what_another_compiles(tmp_path: Path) -> None:
    """A lock that is never given up: this one neither waits nor compiles what is under it."""
    code = (
        "from collectors import compiling\n"
        "from collectors.compiled import _Loop, store\n"
        "compiling.waits = False\n"
        "store._lock = lambda file, place: False\n"
        "_Loop._make = None\n"
        "from hmtrace.rehearsal import rehearse\n"
        "for command in sys.argv[1:]:\n"
        "    rehearse(command)\n"
    )
    home = str(tmp_path)
    assert any("search.order" in name for name in asked_for(code, *COMMANDS, XDG_CACHE_HOME=home))
    assert [path.name for path in (tmp_path / "hmtrace" / "loops").iterdir()] == ["lock"]


def test_helpers_end_with_who_asked_for_them(tmp_path: Path) -> None:
    """Closing its stdin ends one in the midst of compiling."""
    helper = subprocess.Popen(
        [sys.executable, "-m", "hmtrace.rehearsal", *COMMANDS],
        stdin=subprocess.PIPE,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
    )
    assert helper.stdin is not None
    helper.stdin.close()
    assert helper.wait(timeout=300) == 0


@pytest.mark.slow
def test_two_first_runs_at_once(tmp_path: Path) -> None:
    """Of a small capture: the same answer twice.

    That neither has made the cache folder is in tests/collectors/test_compiled.py.
    """
    all_but_first(tmp_path)
    words = [sys.executable, "-m", "hmtrace", "info", "--format", "json"]
    runs = [
        subprocess.Popen(
            [*words, WAITERS],
            env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    (one, _), (other, _) = (run.communicate(timeout=600) for run in runs)
    assert [run.returncode for run in runs] == [0, 0]
    assert one == other
    assert one.startswith("{")
