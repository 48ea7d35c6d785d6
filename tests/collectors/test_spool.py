"""Tables kept for this process: what comes back is what went in, packed or in a file."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import collectors
from collectors import HmtraceError, open_capture
from collectors.events import NO_TIMES, OPS, SCHEMA, batches, totals_of
from collectors.table import spool
from collectors.table.packed import Packer
from collectors.table.part import Column, Part, part_of
from collectors.table.spool import Spool

if TYPE_CHECKING:
    import random

    from collectors.capture import Capture

WAITERS = Path(__file__).parents[2] / "fixtures" / "i386-hog-a-waiters-pae-smp2"
KINDS = [(different, nulls) for different in (1, 2, 3, 0, 0) for nulls in (0, 0.3, 1)]
"""Kinds of column: how many values are repeated, 0 for none, and how many of them are null."""


def bounds(dtype: pl.DataType) -> tuple[int, int]:
    kind = np.iinfo(pl.Series([], dtype=dtype).to_numpy().dtype)
    return int(kind.min), int(kind.max)


@st.composite
def tables(draw: st.DrawFn) -> pl.DataFrame:
    """Tables whose values are anything that their types can hold.

    Hypothesis draws the number of rows and what kind of column each is; the values are drawn from
    a seed of its: a thousand of its own for a table take a tenth of a second.
    """
    rows = draw(st.integers(1, 40))
    rng = draw(st.randoms(use_true_random=True))
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=len(SCHEMA), max_size=len(SCHEMA)))
    made = {}
    for (name, dtype), (different, nulls) in zip(SCHEMA.items(), kinds, strict=True):
        full = name in ("seq", "ts", "cpu", "ctx", "op", "entry_traced")
        values: list[object] = [
            None if not full and rng.random() < nulls else value_of(rng, dtype)
            for _ in range(min(rows, different or rows))
        ]
        made[name] = pl.Series(name, (values * rows)[:rows], dtype, strict=False)
    return pl.DataFrame(made)


def value_of(rng: random.Random, dtype: pl.DataType) -> object:
    """Any value; of integers as often a bound, or one that needs few bits."""
    if dtype.is_integer():
        low, high = bounds(dtype)
        near = rng.getrandbits(rng.randrange(1, high.bit_length() + 1))
        return rng.choice((low, high, 0, near, max(low, -near), rng.randint(low, high)))
    if isinstance(dtype, pl.Enum):
        return rng.choice(dtype.categories.to_list())
    if dtype == pl.Boolean:
        return rng.random() < 0.5
    return rng.choice(["a", "b\N{SNOWMAN}", "", "x" * 40])


@cache
def waiters() -> Capture:
    return open_capture(WAITERS)


def kept(frames: list[pl.DataFrame]) -> pl.LazyFrame:
    with Spool() as writer:
        for frame in frames:
            writer.write(frame)
        writer.finish(waiters(), sum(frame.height for frame in frames))
    return writer.events


@settings(max_examples=60)
@given(st.lists(tables(), min_size=1, max_size=3), st.sampled_from([0, 300, 1 << 27]))
def test_any_table_comes_back(frames: list[pl.DataFrame], memory: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "IN_MEMORY", memory)
        events, whole = kept(frames), pl.concat(frames)
        assert events.collect().equals(whole)
        assert events.select("parent", "site").collect().equals(whole.select("parent", "site"))


@settings(max_examples=30)
@given(st.lists(tables(), min_size=1, max_size=3))
def test_what_a_table_comes_to_is_counted_on_the_way(frames: list[pl.DataFrame]) -> None:
    totals, whole = totals_of(kept(frames)), pl.concat(frames)
    assert totals is not None
    for code, op in enumerate(OPS):
        rows = whole.filter(pl.col("op") == op)
        named = rows.filter(pl.col("page").is_not_null() | pl.col("vaddr").is_not_null())
        first = named.get_column("ts").min()
        assert [int(column[code]) for column in totals[:4]] == [
            rows.height,
            rows.get_column("page").count(),
            rows.get_column("end_seq").count(),
            NO_TIMES[0] if first is None else first,
        ]
    times = [*whole.get_column("ts"), *whole.get_column("end_ts").drop_nulls()]
    assert totals.span.tolist() == [min(whole.get_column("ts")), max(times)]


def test_pieces_have_their_columns_as_they_are_named() -> None:
    whole = waiters().events.collect()
    names = ["ts", "pid", "comm", "site", "cpu", "seq"]
    pieces = list(batches(kept([whole[:1000], whole[1000:]]), names, 300))
    assert pl.concat(pieces).equals(whole.select(names))
    assert max(piece.height for piece in pieces) == 300


def test_what_is_asked_of_it_is_pushed_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "IN_MEMORY", 0)
    whole = waiters().events.collect()
    events = kept([whole[:1000], whole[1000:1001], whole[1001:]])
    wanted = pl.col("op") == "kmap"
    assert events.collect_schema() == pl.Schema(SCHEMA)
    assert (
        events.filter(wanted)
        .select("end_seq")
        .collect()
        .equals(whole.filter(wanted).select("end_seq"))
    )
    assert events.head(1001).collect().equals(whole.head(1001))
    assert events.select(pl.len()).collect().item() == whole.height


def test_names_that_no_row_has_are_not_kept() -> None:
    names = [f"task{n}" for n in range(1000)]
    numbers = np.array([999, 3, 3], np.uint32)
    some = Column(numbers, np.array([1, 0, 1], np.uint32), 0, names)
    part = Part(3, {"comm": Column(numbers, names=names), "site": some})
    packed, pieces = Packer().pack(part)
    held = np.concatenate(pieces)
    assert packed.size == len(held)
    back = packed.unpacked(["comm", "site"], lambda at, end: held[at:end])
    assert back.columns["comm"].names == ["task3", "task999"]
    assert back.columns["site"].names == ["task0", "task3", "task999"]  # 0: where there is none
    assert back.frame().equals(part.frame())


def test_a_part_is_small() -> None:
    """Of ten thousand calls: positions, times, a page, an address, and whose they are."""
    rows = 10_000
    at = np.arange(rows, dtype=np.uint64)
    columns = {name: Column() for name in SCHEMA}
    columns |= {
        "seq": Column(3 * at + 10**12),
        "ts": Column((1000 * at).view(np.int64)),
        "end_ts": Column((1000 * at + 900).view(np.int64)),
        "end_seq": Column(3 * at + 10**12 + 2),
        "page": Column(0xF7000000 + 40 * at),
        "cpu": Column(np.zeros(rows, np.uint16)),
        "op": Column(np.zeros(rows, np.uint8), names=OPS),
    }
    packed, _ = Packer().pack(Part(rows, columns))
    widths = {name: made.values.width for name, made in packed.columns.items() if made}
    assert widths == {"seq": 2, "ts": 4, "end_ts": 0, "end_seq": 0, "page": 4, "cpu": 0, "op": 0}
    assert packed.size == 10 * rows


def test_frames_and_parts_are_the_same_rows() -> None:
    whole = waiters().events.collect()
    assert part_of(whole).frame().equals(whole)


class Full:
    """A file on a disk that has no room."""

    def write(self, _data: object) -> int:
        raise OSError(28, "No space left on device")


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from hmtrace.cli import app

    monkeypatch.setattr(spool, "IN_MEMORY", 0)
    monkeypatch.setattr(collectors, "LARGE", 10)
    monkeypatch.setattr(spool.tempfile, "TemporaryFile", lambda **_: Full())
    with pytest.raises(HmtraceError, match="cannot be written: No space left") as caught:
        open_capture(WAITERS)
    assert "TMPDIR" in str(caught.value.hint)
    assert caught.value.exit_code == 3
    assert CliRunner().invoke(app, ["info", str(WAITERS)]).exit_code != 0


def test_a_file_that_was_cut_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "IN_MEMORY", 0)
    files = []
    make = spool.tempfile.TemporaryFile
    monkeypatch.setattr(
        spool.tempfile, "TemporaryFile", lambda **named: files.append(make(**named)) or files[-1]
    )
    events = kept([waiters().events.collect()])
    files[0].truncate(1000)
    with pytest.raises((HmtraceError, pl.exceptions.PolarsError), match="was cut"):
        events.collect()
