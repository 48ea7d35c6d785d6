"""Left halves from the table against those that are read anew, and numbers eight digits at a time.

The table only saves work: rows, counters and names must be the same without it, whatever the
lines.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.input.source import Source
from collectors.raw import RAW_DTYPE, ROW_WORDS
from collectors.text import tables
from collectors.text.digits import decimal, decimal_digits, hex_digits, hexadecimal
from collectors.text.layout import (
    Cell,
    Left,
    Status,
    new_stats,
)
from collectors.text.reader import read_raw
from collectors.text.scan import scan

if TYPE_CHECKING:
    from collections.abc import Callable

FIXTURES = Path(__file__).parents[2] / "fixtures"
TRACES = (
    "i386-minix-pae-smp2/trace.txt.gz",
    "i386-minix-pae-smp2/trace_latency.txt.gz",
    "i386-minix-pae-smp2/trace_latverbose.txt.gz",
    "i386-minix-pae-smp2/trace_noirqinfo.txt.gz",
    "i386-minix-pae-smp2/trace_symoffset.txt.gz",
    "i386-func-minix-pae-smp2/trace.txt.gz",
    "i386-func-minix-pae-smp2/report.txt.gz",
    "i386-hog-a-waiters-pae-smp2/trace.txt.gz",
)
HEADER = b"# tracer: nop\n#\n"
ENDING = b"# the end of the text is read byte by byte, so that it is to be far from the lines\n" * 3


def lines_of(name: str) -> list[bytes]:
    """Some lines of a real trace: several tasks, several seconds."""
    lines = gzip.decompress((FIXTURES / name).read_bytes()).splitlines()
    step = max(len(lines) // 60, 1)
    return [*lines[20:40], *lines[40::step]]


REAL = {name: lines_of(name) for name in TRACES}


def read(text: bytes, rows: int) -> tuple[Any, ...]:
    """Everything that a reading gives, with a table of so many left halves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "LEFTS", rows)
        # Which of two threads meets a name first would number it.
        raw, _, stats, names = read_raw(Source.from_bytes(text), threads=1)
    table = raw.rows.view(np.int64).reshape(len(raw.rows), -1).copy()
    table[:, 8] &= 0xFFFF  # the row ends in bytes of no meaning
    return table.tolist(), stats.tolist(), raw.comms, raw.sites, raw.counts, names.comms


def mutated(line: bytes, at: int, what: bytes, cut: int) -> bytes:
    """Replace `cut` bytes of a line by others."""
    at %= len(line) + 1
    return line[:at] + what + line[at + cut :]


MUTATIONS = st.tuples(
    st.integers(0, 90),
    st.one_of(
        st.sampled_from([b"", b"-", b" ", b".", b":", b"[", b"]", b"(", b"#", b"7", b"99", b"\n"]),
        st.binary(max_size=3),
    ),
    st.integers(0, 3),
)


@st.composite
def texts(draw: Callable[[Any], Any]) -> bytes:
    """Lines of one real trace or of two, some of them damaged, many of them twice."""
    names = draw(st.lists(st.sampled_from(TRACES), min_size=1, max_size=2))
    pool = [line for name in names for line in REAL[name]]
    chosen = draw(st.lists(st.sampled_from(pool), min_size=4, max_size=24))
    damaged = draw(
        st.lists(st.tuples(st.integers(0, 200), MUTATIONS), max_size=10).map(
            lambda found: [(index % len(chosen), how) for index, how in found]
        )
    )
    lines = [*chosen, *(mutated(chosen[index], *how) for index, how in damaged), *chosen]
    return HEADER + b"\n".join(draw(st.permutations(lines))) + b"\n" + ENDING


@settings(max_examples=220)
@given(texts(), st.sampled_from([1, 4, tables.LEFTS]))
def test_rows_are_those_of_a_scan_without_the_table(text: bytes, rows: int) -> None:
    assert read(text, rows) == read(text, 0)


@pytest.mark.parametrize("name", TRACES)
def test_whole_traces_are_read_alike(name: str) -> None:
    text = gzip.decompress((FIXTURES / name).read_bytes())
    assert read(text, tables.LEFTS) == read(text, 0)


@pytest.mark.parametrize("name", [TRACES[0], TRACES[1], TRACES[3], TRACES[6]])
def test_the_table_is_used(name: str) -> None:
    """Else the tests above compare nothing: what stands in the table comes out."""
    made: list[tables.Tables] = []
    with pytest.MonkeyPatch.context() as patch:

        class Kept(tables.Tables):
            def counts(self) -> dict[str, int]:
                made.append(self)
                return super().counts()

        patch.setattr("collectors.text.scanning.Tables", Kept)
        source = Source.from_bytes(b"\n".join(REAL[name]) + b"\n" + ENDING)
        raw, header, _, _ = read_raw(source, threads=1)
    known = made[0]
    known.lefts[:, Left.PID] = 4242
    work = np.zeros(Cell.CELLS, np.int64)
    work[Cell.END] = len(source.data)
    rows = np.zeros((len(raw.rows) + 1, ROW_WORDS), np.int64)
    status = scan(known.scan(work, new_stats(), rows, header.columns))
    assert status == Status.DONE
    pids = rows.view(RAW_DTYPE).reshape(-1)["pid"][: work[Cell.ROWS]]
    assert len(pids) == len(raw.rows) > 30
    assert np.count_nonzero(pids == 4242) > len(pids) // 2


@numba.njit
def _numbers(word: Any, decimals: Any, hexes: Any) -> Any:
    return (
        decimal_digits(word),
        decimal(word, decimals),
        hex_digits(word),
        hexadecimal(word, hexes),
    )


@settings(max_examples=1000)
@given(
    st.one_of(
        st.binary(min_size=8, max_size=8),
        st.text("0123456789abcdefABCDEFgG/:@` \n,", min_size=8, max_size=8).map(str.encode),
        st.text("0123456789", min_size=8, max_size=8).map(str.encode),
    )
)
def test_numbers_of_a_word(text: bytes) -> None:
    decimals = re.match(rb"[0-9]*", text)
    hexes = re.match(rb"[0-9a-fA-F]*", text)
    assert decimals is not None
    assert hexes is not None
    word = np.uint64(int.from_bytes(text, "little"))
    found = _numbers(word, max(decimals.end(), 1), max(hexes.end(), 1))
    assert found[0] == decimals.end()
    assert found[2] == hexes.end()
    if decimals.end():
        assert found[1] == int(decimals[0])
    if hexes.end():
        assert found[3] == int(hexes[0], 16)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        # the blank between flags and time is missing
        ("    bash-112       0...11 3070875us!: ", "    bash-112       0...113070875us!: "),
        # the name of an event is no number
        ("    bash-112 [000] ...1.    14.644878: ", "    bash-112 [000] ...1.    14.644878:0x "),
    ],
)
def test_lines_that_are_nearly_the_same(left: str, right: str) -> None:
    body = "kmap_local_pfn: (__kmap_local_pfn_prot+0x0/0x180) pfn=0x3fabe\n"
    lines = "".join(start + body for start in (left,) * 5 + (right,) + (left,) * 3)
    text = (
        "# tracer: nop\n#\n" + lines + "# far from the end of the text, which is slow\n" * 6
    ).encode()
    assert read(text, 4) == read(text, 0)
