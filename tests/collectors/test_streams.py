"""Text read piece by piece: the same rows, counters and losses as in one go."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors import FORMATS, HmtraceError, text
from collectors.input.opening import open_source
from collectors.input.source import Source
from collectors.probes import KIND_LOST
from collectors.raw import RAW_DTYPE, UNKNOWN_CPU
from collectors.reading import AgainError
from collectors.text import perf_script, reader
from collectors.text.perf_script import capture as perf_capture
from collectors.traceevent.losses import Losses
from collectors.traceevent.ordering import sorted_runs
from tests.writers import ftracetext
from tests.writers.ftracetext import Event

FIXTURES = Path(__file__).parents[2] / "fixtures"
TEXTS = sorted(
    str(p.relative_to(FIXTURES))
    for pattern in ("*/trace*.txt.gz", "*/report*.txt.gz", "*/perf-script*.txt.gz")
    for p in FIXTURES.glob(pattern)
)


def together(stream):
    """Rows of a stream with names for numbers, and its ending."""
    pieces = list(stream.pieces)
    last = pieces[-1]
    rows = np.concatenate([p.rows for p in pieces])
    for piece in pieces:  # a number means the same in every piece
        assert list(piece.comms) == list(last.comms)[: len(piece.comms)]
    return rows, named(rows, last), stream.ending()


def named(rows, raw):
    comms, sites = np.array(raw.comms, object), np.array(raw.sites, object)
    return comms[rows["comm"]].tolist(), sites[rows["site"]].tolist()


def same_rows(one, two):
    for name in ("ts", "values", "caller", "pid", "kind", "cpu", "ctx", "present"):
        wanted = one["kind"] < KIND_LOST if name == "ts" else slice(None)
        assert np.array_equal(one[name][wanted], two[name][wanted])


@pytest.mark.parametrize("name", TEXTS)
def test_captures(name):
    is_perf = "perf-script" in name
    source = open_source(FIXTURES / name, FORMATS)
    make = (perf_capture if is_perf else reader).stream
    try:
        whole = (perf_script if is_perf else text).read(source)
    except HmtraceError as refused:
        with pytest.raises(HmtraceError, match=re.escape(refused.message)):
            together(make(source, chunk=100_000))
        return
    rows, names, ending = together(make(source, chunk=100_000))
    same_rows(whole.raw.rows, rows)
    assert names == named(whole.raw.rows, whole.raw)
    assert ending.raw.counts == whole.raw.counts
    assert len(ending.raw.rows) == 0
    for field in ("format", "clock", "clock_is_ns", "span_ns", "lost", "release", "cpus", "notes"):
        assert getattr(ending, field) == getattr(whole, field)


def test_progress_goes_to_the_end():
    events = [Event("a", 7, 0, 1000 * i, "p: (kmap_high+0x0/0x260) page=1") for i in range(5000)]
    source = Source.from_bytes(ftracetext.tracefs(events).encode())
    steps = []
    stream = reader.stream(source, lambda done, total: steps.append((done, total)), chunk=50_000)
    assert sum(len(p.rows) for p in stream.pieces) == 5000
    size = len(source.data)
    assert steps[-1] == (size, size)
    assert steps == sorted(steps)
    assert len(steps) > 5


def test_no_trace_is_told_at_the_end():
    source = Source.from_bytes(b"no trace at all\n" * 10)
    with pytest.raises(HmtraceError, match="no line of this text is a trace event"):
        list(reader.stream(source).pieces)


def perf_line(ts, page):
    left = f"perl   143 [001] {ts // 10**6}.{ts % 10**6:06d}:"
    return f"{left} hm:kmap_high: (c126f820) page={page:#x}\n"


def test_lines_of_perf_script_out_of_order():
    rng = np.random.default_rng(1)
    times = rng.integers(10**7, 10**7 + 300, 4000)
    lines = [perf_line(int(t), n) for n, t in enumerate(times)]
    source = Source.from_bytes("".join(lines).encode())
    whole = perf_script.read(source)
    with pytest.raises(AgainError):
        list(perf_capture.stream(source, chunk=9000).pieces)
    rows, _, ending = together(perf_capture.stream(source, chunk=9000))
    same_rows(whole.raw.rows, rows)
    assert rows["values"][:, 0].tolist() == np.argsort(times, kind="stable").tolist()
    assert ending.span_ns == whole.span_ns


@settings(max_examples=200)
@given(st.lists(st.lists(st.integers(-3, 3), max_size=20), max_size=8), st.integers(1, 9))
def test_sorting_through_a_file(pieces, size):
    number = 0
    given_rows = []
    for piece in pieces:
        rows = np.zeros(len(piece), RAW_DTYPE)
        rows["ts"] = piece
        rows["pid"] = np.arange(number, number + len(piece))
        number += len(piece)
        given_rows.append(rows)
    got = list(sorted_runs(given_rows, size))
    every = np.concatenate([np.zeros(0, RAW_DTYPE), *given_rows])
    expected = every[np.argsort(every["ts"], kind="stable")]
    assert np.array_equal(np.concatenate([every[:0], *got])["pid"], expected["pid"])


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([0, 1, 2, UNKNOWN_CPU])), max_size=40),
    st.lists(st.integers(0, 9), max_size=10),
)
def test_losses_across_pieces(events, sizes):
    rows = np.zeros(len(events), RAW_DTYPE)
    for i, (lost, cpu) in enumerate(events):
        rows[i]["ts"] = 10 * i
        rows[i]["kind"] = KIND_LOST if lost else 0
        rows[i]["cpu"] = cpu if lost or cpu != UNKNOWN_CPU else 3
    pieces = Losses(0)
    at = 0
    for size in sizes:
        pieces.add(rows[at : at + size])
        at += size
    pieces.add(rows[at:])
    found = pieces.lost().intervals
    expected = []
    for i, (lost, cpu) in enumerate(events):
        if not lost:
            continue
        mine = [j for j, (gone, _) in enumerate(events) if not gone and rows[j]["cpu"] == cpu]
        other = [j for j, (gone, _) in enumerate(events) if not gone]
        after = [j for j in (other if cpu == UNKNOWN_CPU else mine) if j > i]
        before = [j for j in mine if j < i]
        expected.append(
            (
                None if cpu == UNKNOWN_CPU else cpu,
                i,
                10 * before[-1] if before else None,
                10 * after[0] if after else None,
            )
        )
    assert [(f.cpu, f.after_seq, f.start_ts, f.end_ts) for f in found] == expected
