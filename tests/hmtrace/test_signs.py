"""Digits for awk, and ASCII for terminals that have nothing else."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hmtrace.report import signs, text
from tests.hmtrace.terminals import pieces

FIXTURES = Path(__file__).parents[2] / "fixtures"
WAITERS = FIXTURES / "i386-hog-a-waiters-pae-smp2"


class Terminal(io.TextIOWrapper):
    """A stream that a person reads."""

    def isatty(self) -> bool:
        return True


def stream(kind: type[io.TextIOWrapper], encoding: str) -> io.TextIOWrapper:
    return kind(io.BytesIO(), encoding=encoding)


@pytest.mark.parametrize(
    ("kind", "encoding", "environment", "expected"),
    [
        (Terminal, "utf-8", {"LANG": "de_DE.UTF-8"}, False),
        (Terminal, "utf-8", {}, False),
        (Terminal, "utf-8", {"LANG": "C"}, True),
        (Terminal, "utf-8", {"LANG": "C", "LC_ALL": "C.UTF-8"}, False),
        (Terminal, "utf-8", {"LANG": "de_DE.UTF-8", "LC_ALL": "POSIX"}, True),
        (Terminal, "iso8859-1", {"LANG": "de_DE"}, True),
        (io.TextIOWrapper, "utf-8", {"LANG": "C"}, False),
        (io.TextIOWrapper, "ascii", {}, True),
    ],
)
def test_who_has_ascii_alone(
    kind: type[io.TextIOWrapper], encoding: str, environment: dict[str, str], *, expected: bool
) -> None:
    assert signs.is_plain(stream(kind, encoding), environment) is expected


def test_every_sign_of_the_reports_has_a_substitute() -> None:
    root = Path(signs.__file__).parents[2]
    sources = [
        path
        for folder in ("hmtrace", "replay")
        for path in (root / folder).rglob("*.py")
        if path.name != "signs.py"
    ]
    used = {char for path in sources for char in path.read_text() if not char.isascii()}
    drawn = signs.plain("".join(sorted(used - {"é", text.GLUE, "漢", "\u202e"})))
    assert drawn.isascii(), drawn


def test_columns_stay_below_each_other() -> None:
    lines = ("a    ≥3 of 10   1.2 µs  │", "bb   4 of 10    1.2 ms  │", "c    ≤1…2       9 ns    │")
    plain = signs.plain("\n".join(lines)).split("\n")
    assert {line.index("|") for line in plain} == {24}
    assert plain[0].startswith("a    >=3 of 10  1.2 us")


@pytest.mark.parametrize("name", sorted(p.name for p in Path(__file__).parent.glob("golden/*-80*")))
def test_pictures_stay_within_the_terminal(name: str) -> None:
    shown = (Path(__file__).parent / "golden" / name).read_text()
    plain = signs.plain(shown)
    assert plain.isascii()
    assert max(map(len, plain.split("\n"))) <= 84  # a line that is full has no room to give


def test_digits_are_grouped_for_people_only() -> None:
    try:
        text.group_digits(wanted=True)
        assert text.unglued(text.plural(24271, "wait")) == "24 271 waits"
    finally:
        text.group_digits(wanted=False)
    assert text.unglued(text.plural(24271, "wait")) == "24271 waits"


def test_a_pipe_and_a_terminal() -> None:
    command = [sys.executable, "-m", "hmtrace", "info", str(WAITERS)]
    piped = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    assert not re.search(r"\d \d{3}\b", piped)
    master, slave = os.openpty()
    environment = {**os.environ, "TERM": "dumb", "LC_ALL": "C"}
    with subprocess.Popen(command, stdout=slave, stderr=subprocess.DEVNULL, env=environment) as run:
        os.close(slave)
        shown = b"".join(pieces(master))
    assert run.returncode == 0
    assert shown.isascii()
    assert re.search(rb"\d \d{3}\b", shown)


def test_a_name_that_lost_its_middle_keeps_its_column() -> None:
    rows = "dir_get_page.isra…+0x50 [minix]  kmap\nkmap+0x40 [hog]                  kmap"
    plain = signs.plain(rows, 40).split("\n")
    assert plain[0].index("  kmap") == plain[1].index("  kmap", 20)
    assert plain[0].startswith("dir_get_page.is...+0x50")


def test_no_line_leaves_its_width_where_that_can_be_helped() -> None:
    assert signs.plain("≥ 3 " + "─" * 36, 40) == ">= 3 " + "-" * 35
    assert signs.plain("≥ 3 " + "-" * 36, 40) == ">= 3 " + "-" * 35  # rich's own for ASCII
    assert signs.plain("a → b", 5) == "a > b"
    assert signs.plain("a → b", 6) == "a -> b"
    assert signs.plain("x…0x1d8", 7) == "x~0x1d8"
