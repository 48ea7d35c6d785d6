"""trace.dat of real kernels: exact figures, and the same table as from the text beside it."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import polars as pl
import pytest

import collectors
from collectors import HmtraceError, open_capture
from collectors.ahead import ahead
from collectors.raw import join
from collectors.tracecmd_dat import capture, read_raw
from collectors.tracecmd_dat.read import open_stream
from tests.collectors.everyfield import scan

FIXTURES = Path(__file__).parents[2] / "fixtures"
HOG = FIXTURES / "i386-hog-a-waiters-pae-smp2"
FUNC = FIXTURES / "i386-func-minix-pae-smp2"


def test_figures_of_a_capture() -> None:
    # fixtures/i386-hog-a-waiters-pae-smp2: eight tasks that wait for a full pool
    got = read_raw((HOG / "trace.dat").read_bytes(), name="trace.dat")
    assert (got.format, got.clock, got.clock_is_ns, got.cpus) == ("trace.dat-v7", "local", True, 2)
    assert (got.word, got.order, got.events) == (4, "little", 42902)
    assert got.uname == "Linux (none) 6.1.0-50-686-pae i686"
    assert (got.lost, got.notes) == ((), ())
    assert got.cpu_stats[0]["overrun"] == 0
    counts = got.raw.counts
    assert sum(counts.values()) == got.events
    assert (counts["kmap_high"], counts["kunmap_high (return)"]) == (520, 520)
    assert (counts["flush_all_zero_pkmaps"], counts["__kmap_flush_unused"]) == (61, 16)
    assert counts["_vm_unmap_aliases"] == 18  # probed as _vm_unmap_aliases.part.0
    assert len(got.symbols) > 20_000


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*/trace.dat")), ids=lambda p: p.parent.name)
def test_small_windows_give_the_same(path: Path) -> None:
    data = path.read_bytes()
    whole = read_raw(data, name="trace.dat")
    stream = open_stream(data, name="trace.dat", rows=64, span=5000, piece=777)
    pieces = list(stream.pieces)
    end = stream.ending()
    assert {len(p.rows) for p in pieces[:-1]} == {777}
    rows = join([p.rows for p in pieces])
    assert rows.tobytes() == whole.raw.rows.tobytes()
    assert (end.raw.comms, end.raw.counts) == (whole.raw.comms, whole.raw.counts)
    assert (end.lost, end.events, end.notes) == (whole.lost, whole.events, whole.notes)


def test_a_folder_is_read_from_its_trace_dat() -> None:
    capture = open_capture(HOG)
    assert capture.origin.format == "trace.dat-v7"
    assert capture.facts.get("release") == "6.1.0-50-686-pae"
    assert capture.events.filter(pl.col("op") == "kmap").select(pl.len()).collect().item() == 520


@pytest.mark.parametrize("folder", [HOG, FUNC], ids=lambda p: p.name)
def test_same_table_as_from_text(folder: Path) -> None:
    """`trace` and trace.dat were saved from one ring buffer."""
    ours = open_capture(folder / "trace.dat").events.collect()
    text = open_capture(folder / "trace.txt.gz").events.collect()
    assert ours.height == text.height > 17_000
    for name in set(ours.columns) - {"ts", "end_ts", "caller", "site"}:
        left, right = ours[name], text[name]
        if ours.schema[name] == pl.Categorical:
            left, right = left.cast(pl.String), right.cast(pl.String)
        assert left.equals(right, check_names=False), name
    for name in ("ts", "end_ts"):
        # text is rounded to microseconds (kernel/trace/trace_output.c: lat_print_timestamp)
        rounded = (ours[name] + 500) // 1000 * 1000
        assert rounded.equals(text[name], check_names=False), name


def test_call_sites_are_named_from_embedded_symbols() -> None:
    events = open_capture(FUNC / "trace.dat").events.collect()
    text = open_capture(FUNC / "trace.txt.gz").events.collect()
    plain = events["site"].cast(pl.String).str.split("+").list.first()
    theirs = text["site"].cast(pl.String).str.split("+").list.first()
    assert plain.null_count() == 0
    assert (plain == theirs).mean() > 0.99


def test_frames_of_a_capture() -> None:
    frames = scan(HOG / "trace.dat")
    assert frames["kmap_high"].select(pl.len()).collect().item() == 520
    switch = frames["sched_switch"].select("prev_comm", "next_pid", "common_pid").collect()
    assert switch.schema == {
        "prev_comm": pl.String(),
        "next_pid": pl.Int32(),
        "common_pid": pl.Int32(),
    }
    assert "bash" in switch["prev_comm"].to_list()
    returns = frames["kmap_high_ret"].collect()
    # PKMAP_BASE of this kernel is ff000000, 512 slots of one page (model.md A.2)
    assert returns["vaddr"].min() == 0xFF000000
    assert returns["vaddr"].max() == 0xFF000000 + 511 * 4096
    texts = frames["bprint"].collect()["text"].to_list()
    assert len(texts) == 10
    assert all(texts)


def _threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "hmtrace-ahead"]


def test_a_thread_of_its_own_makes_the_pieces_of_a_large_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same table and losses, damage told as without it, and no thread that is left over."""
    path = FIXTURES / "i386-hog-h-race-pae-smp4"
    expected = open_capture(path)
    damaged = shutil.copytree(path, tmp_path / "damaged")
    data = bytearray((damaged / "trace.dat").read_bytes())
    page = len(data) // 2 & -4096
    data[page : page + 8192] = b"\xff" * 8192
    (damaged / "trace.dat").write_bytes(data)
    with pytest.raises(HmtraceError) as told:
        open_capture(damaged)
    monkeypatch.setattr(capture, "LARGE", 0)
    made: list[str] = []
    monkeypatch.setattr(capture, "ahead", lambda pieces: made.append("") or ahead(pieces))
    found = open_capture(path)
    assert found.events.collect().equals(expected.events.collect())
    assert (found.lost, found.origin) == (expected.lost, expected.origin)
    assert collectors.scan(path).head(10).collect().height == 10
    with pytest.raises(HmtraceError) as again:
        open_capture(damaged)
    assert str(again.value) == str(told.value)
    assert len(made) == 3
    assert _threads() == []
