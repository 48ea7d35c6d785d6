"""Arrow IPC files: captures that come back, tables that other programs read, lies that are told."""

from __future__ import annotations

import random
import struct
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from collectors import HmtraceError, open_capture, write_arrow, write_parquet
from collectors.arrow.ending import Ending
from collectors.arrow.headers import BATCHES, BLOCK, DICTIONARIES, HeaderTable
from collectors.arrow.writer import ArrowWriter
from collectors.events import SCHEMA
from collectors.parquet import checked
from collectors.parquet.metadata import encode
from collectors.table.writer import write_capture
from hmtrace.cli import app
from tests.collectors.test_spool import tables
from tests.writers.arrow import put_document

if TYPE_CHECKING:
    from collections.abc import Callable

    from collectors.capture import Capture

FIXTURES = Path(__file__).parents[2] / "fixtures"
WAITERS = FIXTURES / "i386-hog-a-waiters-pae-smp2"
LZ4 = b"\4\x22M\x18"
NAMED = [name for name, dtype in SCHEMA.items() if isinstance(dtype, (pl.Enum, pl.Categorical))]


@cache
def waiters() -> Capture:
    return open_capture(WAITERS)


@pytest.fixture(scope="module")
def arrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("arrow") / "x.arrow"
    write_arrow(WAITERS, path)
    return path


def test_a_capture_comes_back(arrow: Path) -> None:
    back, whole = open_capture(arrow), waiters()
    assert back.origin.format == "hmtrace-arrow"
    assert back.events.collect().equals(whole.events.collect())
    for name in ("raw_events", "clock", "clock_is_ns", "span_ns", "facts", "lost", "notes"):
        assert getattr(back, name) == getattr(whole, name)


def test_polars_reads_the_table(arrow: Path) -> None:
    def plain(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(pl.col(NAMED).cast(pl.String))

    assert plain(pl.read_ipc(arrow)).equals(plain(waiters().events.collect()))


def test_messages_stand_one_behind_the_other(arrow: Path) -> None:
    """Framed, from the first on, which is the schema's: so a stream is read, too."""
    data = memoryview(arrow.read_bytes())
    top = HeaderTable.root(data[Ending(data).footer])
    at = 16 + struct.unpack_from("<8x4si", data)[1]
    assert data[:12] == b"ARROW1\0\0\xff\xff\xff\xff"
    for field in (BATCHES, DICTIONARIES):
        for place, header, body in top.structures(field, BLOCK):
            assert (place, at % 8) == (at, 0)
            assert data[at : at + 4] == b"\xff\xff\xff\xff"
            at += header + body
    assert bytes(data[at : at + 10]) == b'{"schema":'


def test_large_ones_are_read_batch_by_batch(arrow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked, "SMALL", 0)
    back, whole = open_capture(arrow), waiters().events.collect()
    assert back.spooled
    kmaps = pl.col("op") == "kmap"
    assert (
        back.events.filter(kmaps)
        .select("end_seq", "site")
        .collect()
        .equals(whole.filter(kmaps).select("end_seq", "site"))
    )
    assert back.events.head(100).collect().equals(whole.head(100))


def test_from_form_to_form(arrow: Path, tmp_path: Path) -> None:
    write_parquet(arrow, tmp_path / "x.parquet")
    write_arrow(tmp_path / "x.parquet", tmp_path / "y.arrow")
    assert open_capture(tmp_path / "y.arrow").events.collect().equals(waiters().events.collect())


@settings(max_examples=15)
@given(st.lists(tables(), min_size=1, max_size=3))
def test_any_table_is_read_by_polars(frames: list[pl.DataFrame]) -> None:
    with TemporaryDirectory() as folder:
        writer = ArrowWriter(Path(folder) / "x")
        with writer:
            for frame in frames:
                writer.write(frame)
            writer.finish(waiters(), sum(frame.height for frame in frames))
        whole = pl.concat(frames)
        assert writer.events.collect().equals(whole)
        read = pl.read_ipc(Path(folder) / "x").with_columns(pl.col(NAMED).cast(pl.String))
        assert read.equals(whole.with_columns(pl.col(NAMED).cast(pl.String)))


def test_the_command(tmp_path: Path) -> None:
    out = tmp_path / "x.arrow"
    run = CliRunner().invoke(app, ["convert", str(WAITERS), "-o", str(out)])
    assert (run.exit_code, run.stderr) == (0, f"wrote {out}\n")
    told = [CliRunner().invoke(app, ["info", str(p), "--format", "json"]) for p in (out, WAITERS)]
    assert '"format": "hmtrace-arrow"' in told[0].stdout
    counts = [t.stdout[t.stdout.index('"raw_events"') :].partition('"source"')[0] for t in told]
    assert counts[0].partition('"facts"')[0] == counts[1].partition('"facts"')[0]
    run = CliRunner().invoke(app, ["convert", str(WAITERS), "--format", "arrow", "-o", "-"])
    assert isinstance(run.exception, HmtraceError)
    assert "cannot be written to a pipe" in str(run.exception)


def small() -> Capture:
    from dataclasses import replace

    return replace(waiters(), events=waiters().events.head(40))


@pytest.fixture(scope="module")
def bytes_of_a_small_one(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("small") / "x.arrow"
    write_capture(small(), ArrowWriter(path))
    return path.read_bytes()


def test_damage_is_told(bytes_of_a_small_one: bytes, tmp_path: Path) -> None:
    """Bytes changed anywhere, some at once: an error in words, or a table with other values."""
    rng, path, told = random.Random(5), tmp_path / "x.arrow", 0
    for _ in range(300):
        data = bytearray(bytes_of_a_small_one)
        for _ in range(rng.choice([1, 1, 2, 5])):
            # the footer, and each batch's header, decide more than the values
            at = rng.choice([rng.randrange(len(data)), len(data) - 1 - rng.randrange(3000)])
            data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        path.write_bytes(data)
        try:
            open_capture(path).events.collect()
        except HmtraceError:
            told += 1
    assert told > 50


def test_cut_files_are_told(bytes_of_a_small_one: bytes, tmp_path: Path) -> None:
    data, path = bytes_of_a_small_one, tmp_path / "x.arrow"
    for size in (8, 14, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(HmtraceError, match=r"truncated|damaged"):
            open_capture(path)


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    pl.DataFrame({"a": [1]}).write_ipc(tmp_path / "x.arrow")
    with pytest.raises(HmtraceError, match="none that hmtrace wrote") as caught:
        open_capture(tmp_path / "x.arrow")
    assert "hmtrace convert" in str(caught.value.hint)


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HmtraceError, match="cannot be written: No space left"):
        write_arrow(WAITERS, Path("/dev/full"))


def written(path: Path, change: Callable[[bytes], bytes] = bytes, compression: str = "lz4") -> Path:
    """A file as hmtrace writes it but for its compression, or with other bytes in it."""
    small().events.sink_ipc(path, compression=compression)
    put_document(path, encode(small(), 40))
    path.write_bytes(change(path.read_bytes()))
    return path


def test_what_polars_dies_of_is_not_read(tmp_path: Path) -> None:
    """Under zstd a length that lies ends the process, with 134."""
    with pytest.raises(HmtraceError, match="otherwise than by LZ4") as caught:
        open_capture(written(tmp_path / "zstd", compression="zstd"))
    assert caught.value.exit_code == 3
    assert open_capture(written(tmp_path / "plain", compression="uncompressed")).span_ns > 0


@pytest.mark.parametrize(
    ("true", "lie", "words"),
    [
        # a FieldNode: 40 rows, none of them null
        (struct.pack("<qq", 40, 0), struct.pack("<qq", 1 << 40, 0), "of over 4194304 rows"),
        # a buffer: its length, then LZ4's magic
        (struct.pack("<q", 320) + LZ4, struct.pack("<q", 1 << 40) + LZ4, "bytes: refused"),
        (b"\xff\xff\xff\xff", b"\xff\xff\xff\xfe", "no batch at its place"),
    ],
)
def test_claims_are_bounded(tmp_path: Path, true: bytes, lie: bytes, words: str) -> None:
    path = written(tmp_path / "x", lambda data: data.replace(true, lie))
    with pytest.raises(HmtraceError, match=words) as caught:
        open_capture(path)
    assert caught.value.offset


def test_the_document_is_bounded(tmp_path: Path) -> None:
    def lengthened(data: bytes) -> bytes:
        at = data.rindex(b"hmtrace\n") - 8
        return data[:at] + struct.pack("<Q", 1 << 40) + data[at + 8 :]

    with pytest.raises(HmtraceError, match="facts are longer than the file"):
        open_capture(written(tmp_path / "x", lengthened))
