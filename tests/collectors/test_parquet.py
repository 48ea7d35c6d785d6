"""Parquet files: what is written is what is read, and nothing else is believed."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from collectors import HmtraceError, open_capture, write_parquet
from collectors.capture import Capture, Lost, LostInterval, Marker, Origin
from collectors.events import OPS, SCHEMA, empty
from collectors.facts import Fact, Facts, read_folder
from collectors.parquet.layout import KEY
from collectors.parquet.metadata import Document, encode
from collectors.parquet.shapes import SHAPES, fact_fits
from collectors.parquet.writer import TableWriter
from collectors.snapshot import Area, Probe, Zone
from collectors.table.writer import write_capture

FIXTURES = Path(__file__).parents[2] / "fixtures"
APART = ("machines", "cases", "twins")
FOLDERS = sorted(p.name for p in FIXTURES.iterdir() if p.is_dir() and p.name not in APART)
WAITERS = FIXTURES / "i386-hog-a-waiters-pae-smp2"
ALIKE = ("raw_events", "clock", "clock_is_ns", "span_ns", "facts", "lost", "notes")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("parquet") / "waiters.parquet"
    write_parquet(WAITERS, path)
    return path


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_capture_comes_back(folder, tmp_path):
    path = tmp_path / "some.name"
    original = open_capture(FIXTURES / folder)
    write_parquet(FIXTURES / folder, path)
    back = open_capture(path)
    assert back.origin == Origin(str(path), str(path), "hmtrace-parquet", path.stat().st_size)
    assert back.events.collect().equals(original.events.collect())
    assert back.events.collect_schema() == pl.Schema(SCHEMA)
    for name in ALIKE:
        assert getattr(back, name) == getattr(original, name)


def test_a_copy_of_a_copy(written, tmp_path):
    write_parquet(written, tmp_path / "two")
    one, two = open_capture(written), open_capture(tmp_path / "two")
    assert one.events.collect().equals(two.events.collect())
    assert one.facts == two.facts


def test_compressed_and_from_stdin(written, tmp_path, monkeypatch):
    packed = tmp_path / "x.gz"
    packed.write_bytes(gzip.compress(written.read_bytes()))
    expected = open_capture(written).events.collect()
    assert open_capture(packed).events.collect().equals(expected)
    stdin = SimpleNamespace(buffer=io.BytesIO(written.read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert open_capture("-").events.collect().equals(expected)


VALUES = {
    "areas": (Area(1, 2, "vmap", "f", None, 5), Area(1 << 40, 2, "user", "é\n", 1, None)),
    "zones": (Zone("HighMem", 1, 2, 3, 4, 0),),
    "probes": (Probe(bool(1), "hm", "e", "kmap_high", ("page=%ax:x32",), None),),
    "config": {"PAE": "y"},
    "kernel_words": {0xC0000000: 17},
    "arena_state": {
        "free": [1, 2, 0, None, [3, 4, 1, None, None]],
        "busy": None,
        "lazy": [7, 8, 0, None, None],
        "lazy_nr": 1,
    },
    "cpu_flags": frozenset({"pae", "pge"}),
    "pool_state": (5, ((0, 1, None), (7, 2, 99))),
    "nokaslr": True,
    "highmem_complaints": ("Warning only 4GB will be used.",),
    "release": "6.1",
    "something new": [1.5, None],
}


def capture(**changes):
    facts = Facts(
        {name: Fact(value, "file", "words") for name, value in VALUES.items()},
        ("a contradicts b",),
        ("c is damaged",),
    )
    lost = Lost((LostInterval(None, 3, 0, None, 5, "why"), LostInterval(1, None, 9, 4, None, "")))
    what = {
        "origin": Origin("x", "y", "ftrace-text", 7),
        "events": empty().lazy(),
        "raw_events": {"kmap_high": 3},
        "clock": "local",
        "clock_is_ns": True,
        "span_ns": 5,
        "facts": facts,
        "lost": lost,
        "notes": ("n",),
    }
    return Capture(**(what | changes))


def test_every_kind_of_fact_comes_back(tmp_path):
    made = capture()
    write_capture(made, TableWriter(tmp_path / "f"))
    back = open_capture(tmp_path / "f")
    for name in ALIKE:
        assert getattr(back, name) == getattr(made, name)
    assert {n: type(f.value) for n, f in back.facts.items()} == {
        n: type(v) for n, v in VALUES.items()
    }


def test_synthetic_traces_stay_so(tmp_path):
    write_capture(capture(origin=Origin("s", "s", "synthetic", 0)), TableWriter(tmp_path / "f"))
    assert open_capture(tmp_path / "f").origin.format == "synthetic"


def lie(**changes):
    return json.dumps(json.loads(encode(capture(), 0)) | changes)


LOSS = {"cpu": 0, "count": 1, "after_seq": 0, "start_ts": 0, "end_ts": 0, "reason": "r"}


def test_a_loss_is_read():
    found = Document(lie(lost=[LOSS, LOSS | {"cpu": None, "start_ts": -1}]), "f").lost
    assert [(loss.cpu, loss.count, loss.start_ts) for loss in found] == [(0, 1, 0), (None, 1, -1)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "[" * 100_000,
        lie(rows="many"),
        lie(rows=True),
        lie(rows=-1),
        lie(span_ns=None),
        lie(span_ns=-5),
        lie(span_ns=1 << 97),
        lie(raw_events={"f": "x"}),
        lie(raw_events={"f": -1}),
        lie(raw_events={"f": 10**30}),
        lie(markers=[[-1, 0, "m"]]),
        lie(markers=[[0, 1 << 97, "m"]]),
        lie(lost=[LOSS | {"count": -1}]),
        lie(lost=[LOSS | {"after_seq": -1}]),
        lie(lost=[LOSS | {"cpu": -1}]),
        lie(lost=[LOSS | {"end_ts": -(1 << 97)}]),
        lie(raw_events=3),
        lie(facts={"release": [5, "s", ""]}),
        lie(facts={"cpus": [True, "s", ""]}),
        lie(facts={"ram": [[1], "s", ""]}),
        lie(facts={"areas": [{"tuple": [{"Area": [1]}]}, "s", ""]}),
        lie(facts={"areas": [{"tuple": [{"Area": ["1", 2, "a", "b", None, None]}]}, "s", ""]}),
        lie(facts={"areas": [{"exec": []}, "s", ""]}),
        lie(facts={"config": [{"dict": [[1]]}, "s", ""]}),
        lie(facts={"config": [{"dict": [[[], 1]]}, "s", ""]}),
        lie(facts={"arena_state": [{"dict": [["free", [1, [], 0, None, None]]]}, "s", ""]}),
        lie(facts={"pool_state": [{"tuple": [1, {"tuple": [{"tuple": [1, 2]}]}]}, "s", ""]}),
        lie(facts={"cpu_flags": [{"frozenset": ["pae", 1]}, "s", ""]}),
        lie(facts={"zones": [{"tuple": [{"Zone": ["a", *[1] * 6, [1], [1]]}]}, "s", ""]}),
        lie(facts={"x": [{}, "s", ""]}),
        lie(facts={"x": 1}),
        lie(lost=[{}]),
        lie(lost=[{"cpu": "a", "count": 1, "after_seq": 0, "start_ts": 0, "end_ts": 0}]),
        lie(notes=[1]),
        lie(origin=[]),
    ],
)
def test_metadata_is_not_believed(text):
    with pytest.raises(HmtraceError, match="metadata of the file is damaged") as caught:
        Document(text, "f.parquet")
    assert caught.value.exit_code == 3
    assert caught.value.source == "f.parquet"


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("value", [1.5, [], None, {"dict": [[1.5, 1.5]]}, {"tuple": [[]]}])
def test_facts_of_another_shape(name, value):
    with pytest.raises(HmtraceError, match=f"is no value of '{name}'"):
        Document(lie(facts={name: [value, "s", ""]}), "f.parquet")


@pytest.mark.parametrize("folder", FOLDERS)
def test_shapes_of_the_facts_of_real_machines(folder):
    facts = read_folder(FIXTURES / folder)
    assert facts.keys() <= SHAPES.keys()
    assert [n for n, fact in facts.items() if not fact_fits(n, fact.value)] == []


def test_files_from_before_markers_are_read():
    document = json.loads(encode(capture(markers=(Marker(3, 4, "go"),)), 0))
    assert Document(json.dumps(document), "f").markers == (Marker(3, 4, "go"),)
    del document["markers"]
    assert Document(json.dumps(document), "f").markers == ()


def test_files_of_fewer_operations_are_read(tmp_path):
    """A version that did not know the last operation wrote an Enum without it."""
    old = tmp_path / "old.parquet"
    source = FIXTURES / "i386-44-mix-pae-smp2"
    write_parquet(source, old)
    metadata = pl.read_parquet_metadata(old)
    table = pl.read_parquet(old)
    fewer = pl.Enum(OPS[: OPS.index("percpu_alloc")])
    table = table.with_columns(pl.col("op").cast(pl.String).cast(fewer))
    table.write_parquet(old, metadata={KEY: metadata[KEY]})
    assert pl.read_parquet_schema(old)["op"] == fewer
    back = open_capture(old).events.collect()
    assert back.schema["op"] == pl.Enum(OPS)
    assert back.equals(open_capture(source).events.collect())


def test_other_versions_are_refused():
    with pytest.raises(HmtraceError, match="hmtrace/parquet/99"):
        Document(lie(schema="hmtrace/parquet/99"), "f")


def rewrite(written, path, change=lambda frame: frame, **metadata):
    """The file with other rows and other metadata."""
    document = json.loads(pl.read_parquet_metadata(written)[KEY])
    frame = change(pl.read_parquet(written))
    document |= {"rows": frame.height} | metadata
    frame.write_parquet(path, metadata={KEY: json.dumps(document)})
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.reverse(), "not in the order of 'seq'"),
        (lambda f: pl.concat([f[:500], f[499:]]), "not in the order of 'seq'"),
        (lambda f: f.drop("vaddr"), "vaddr"),
        (lambda f: f.cast({"ts": pl.Float64}), "'ts' is Float64"),
        (lambda f: f.cast({"op": pl.String}), "'op' is String"),
        (lambda f: f.with_columns(seq=pl.lit(None, pl.UInt64)), "'seq' has empty cells"),
        (lambda f: f.with_columns(end_seq=pl.lit(0, pl.UInt64)), "returns before it enters"),
        (lambda f: f.with_columns(end_seq=pl.lit(1 << 62, pl.UInt64)), "before it enters, or"),
    ],
)
def test_tables_that_are_none_are_refused(written, tmp_path, change, said):
    path = rewrite(written, tmp_path / "f", change)
    with pytest.raises(HmtraceError, match=said) as caught:
        open_capture(path)
    assert caught.value.source == str(path)


def test_a_wrong_number_of_rows(written, tmp_path):
    with pytest.raises(HmtraceError, match="its metadata speaks of 7"):
        open_capture(rewrite(written, tmp_path / "f", rows=7))


def test_a_foreign_file(tmp_path):
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "f")
    with pytest.raises(HmtraceError, match="none that hmtrace wrote") as caught:
        open_capture(tmp_path / "f")
    assert "hmtrace convert" in (caught.value.hint or "")


def test_a_bomb_of_rows(tmp_path):
    rows = 3_000_000
    one = pl.DataFrame([{"seq": 1}], schema=SCHEMA)
    frame = one.select(pl.all().first().repeat_by(rows).list.explode(empty_as_null=True))
    document = json.loads(encode(capture(), rows))
    frame.write_parquet(tmp_path / "f", metadata={KEY: json.dumps(document)})
    with pytest.raises(HmtraceError, match="claim 3000000 rows"):
        open_capture(tmp_path / "f")


def test_damage_anywhere_is_told(written, tmp_path):
    data = bytearray(written.read_bytes())
    path = tmp_path / "f"
    told = 0
    for at in [*range(4, len(data), len(data) // 60), *range(len(data) - 900, len(data), 41)]:
        damaged = data.copy()
        damaged[at] ^= 0xFF
        path.write_bytes(damaged)
        try:
            open_capture(path)
        except HmtraceError:
            told += 1
    assert told > 20  # a value that still decodes is damage that nobody can see
    for size in (4, 11, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(HmtraceError):
            open_capture(path)


def test_a_writer_that_is_left_leaves_no_thread(tmp_path):
    import threading

    def fail(writer):
        writer.write(pl.DataFrame([{"seq": 1}], schema=SCHEMA))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), TableWriter(tmp_path / "f") as writer:
        fail(writer)
    assert not any(t.name == "hmtrace-table" for t in threading.enumerate())


def test_a_file_that_cannot_be_written(tmp_path):
    with (
        pytest.raises(HmtraceError, match="cannot be written"),
        TableWriter(tmp_path / "none" / "f") as writer,
    ):
        writer.finish(capture(), 0)
