"""The first rows of a large trace: no more is read than they need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import collectors
from collectors import build

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture
def read(monkeypatch):
    """Raw events that were taken, in small pieces, of traces that count as large."""
    taken = []
    choose = collectors._format_of

    def counting(source):
        fmt = choose(source)

        def stream(source, progress):
            opened = fmt.stream(source, progress)

            def pieces():
                for piece in opened.pieces:
                    for at in range(0, len(piece.rows), 500):
                        taken.append(len(piece.rows[at : at + 500]))
                        yield replace(piece, rows=piece.rows[at : at + 500])

            return replace(opened, pieces=pieces())

        return replace(fmt, stream=stream)

    monkeypatch.setattr(collectors, "_format_of", counting)
    monkeypatch.setattr(collectors, "LARGE", 1)
    monkeypatch.setattr(build, "HOLD", 700)
    return taken


@pytest.mark.parametrize(
    "name", ["i386-hog-h-race-pae-smp4/trace.dat", "i386-hog-a-waiters-pae-smp2"]
)
def test_head_stops_early(name, read):
    path = FIXTURES / name
    some = collectors.scan(path).head(1000).collect()
    assert sum(read) < 10_000
    del read[:]
    whole = collectors.scan(path).collect()
    assert sum(read) > 40_000
    assert some.drop("end_ts", "end_seq", "end_cpu", "vaddr", "caller", "pfn").equals(
        whole.head(1000).drop("end_ts", "end_seq", "end_cpu", "vaddr", "caller", "pfn")
    )
    ends = (some["end_seq"].drop_nulls().len(), whole["end_seq"].head(1000).drop_nulls().len())
    assert ends[0] > 0.99 * ends[1]


def test_more_than_there_is(read):
    path = FIXTURES / "i386-hog-a-waiters-pae-smp2"
    whole = collectors.scan(path).collect()
    assert collectors.scan(path).head(10**9).collect().equals(whole)
    assert collectors.scan(path).head(0).collect().equals(whole.head(0))
