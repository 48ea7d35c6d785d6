"""Column chunks: what hmtrace encodes is what polars decodes, whatever the values."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.distinct import FEW, Numbering
from collectors.events import OPS, REASONS, SCHEMA
from collectors.parquet.layout import FULL
from collectors.parquet.thrift import Struct, items, varint, zigzag
from collectors.parquet.writer import TableWriter
from collectors.part import Column, Part, part_of

BOUNDS = {
    pl.UInt64: (0, 2**64 - 1),
    pl.Int64: (-(2**63), 2**63 - 1),
    pl.Int32: (-(2**31), 2**31 - 1),
    pl.UInt16: (0, 2**16 - 1),
    pl.UInt8: (0, 255),
}
TEXTS = ["", "a", "b c", "é\n", "x" * 300]


def values_of(name):
    """Values of a column: few, many, or in runs; also null where that is allowed."""
    base = SCHEMA[name].base_type()
    if base == pl.Boolean:
        one = st.booleans()
    elif base == pl.Categorical:
        one = st.sampled_from(TEXTS)
    elif base == pl.Enum:
        one = st.sampled_from(OPS if name == "op" else REASONS)
    else:
        one = st.integers(*BOUNDS[base]) | st.integers(*BOUNDS[base]).map(lambda n: n % 7)
    return one if name in FULL else st.none() | one


@st.composite
def tables(draw):
    runs = draw(st.lists(st.integers(1, 40), min_size=1, max_size=12))
    columns = {
        name: [v for n in runs for v in n * [draw(values_of(name))]]
        if draw(st.booleans())
        else draw(st.lists(values_of(name), min_size=sum(runs), max_size=sum(runs)))
        for name in draw(st.lists(st.sampled_from(list(SCHEMA)), max_size=4, unique=True))
    }
    rows = sum(runs)
    for name in SCHEMA:
        if name not in columns:
            filler = {"op": "kmap", "entry_traced": True}.get(name, 5) if name in FULL else None
            columns[name] = rows * [filler]
    return pl.DataFrame(columns, schema=SCHEMA)


def written(path, *parts):
    with TableWriter(path) as writer:
        for part in parts:
            writer.write(part)
        writer.finish("{}")
    return path


@settings(max_examples=150, deadline=None)
@given(st.lists(tables(), max_size=3))
def test_polars_reads_what_was_written(tmp_path_factory, frames):
    path = tmp_path_factory.getbasetemp() / "made"
    written(path, *(part_of(frame) for frame in frames))
    back = pl.read_parquet(path, glob=False)
    assert back.schema == pl.Schema(SCHEMA)
    assert back.equals(pl.concat([pl.DataFrame(schema=SCHEMA), *frames]))
    whole = [part_of(frame).frame() for frame in frames if not named_by_dict(frame)]
    assert all(frame.schema == pl.Schema(SCHEMA) for frame in whole)


def named_by_dict(frame):
    """Whether a frame's names stay with it: numbers of polars' own."""
    return any(column.names is not None for column in part_of(frame).columns.values())


@pytest.mark.parametrize("rows", [1, 7, 8, 128, 129, 5000, 70_000])
def test_long_columns(tmp_path, rows):
    rng = np.random.default_rng(rows)
    full = {name: Column(np.zeros(rows, np.uint64)) for name in ("seq", "cpu", "ctx", "op")}
    columns = {name: Column() for name in SCHEMA} | full
    columns["op"] = Column(np.zeros(rows, np.uint8), names=OPS)
    columns["entry_traced"] = Column(rng.random(rows) < 0.5)
    valid = rng.integers(0, 2**32, rows, np.uint32)
    ts = np.cumsum(rng.integers(0, 1 << rng.integers(1, 40), rows))
    page = rng.integers(0, 2**64, rows, np.uint64)
    pfn = rng.integers(0, FEW + 9, rows).astype(np.uint64)
    pid = rng.integers(-(2**31), 2**31, rows).astype(np.int32)
    stack = rng.integers(0, 3 * FEW, rows).astype(np.uint32)
    columns |= {
        "ts": Column(ts),
        "end_ts": Column(ts + 5, valid, 31),
        "page": Column(page, valid, 0),
        "pfn": Column(pfn),
        "pid": Column(pid, valid, 7),
        "stack": Column(stack, None, 0, [f"s{n}" for n in range(3 * FEW)]),
        "site": Column(stack % 9, None, 0, ["same"] * 5 + ["other"] * 4),
    }
    back = pl.read_parquet(written(tmp_path / "f", Part(rows, columns)))
    for name, found in columns.items():
        if found.values is not None and found.names is None:
            has = found.has(rows)
            series = back.get_column(name)
            assert np.array_equal(series.is_not_null().to_numpy(), has)
            assert np.array_equal(series.drop_nulls().to_numpy(), found.values[has])
    assert back["stack"].to_list() == [f"s{n}" for n in stack.tolist()]
    assert back["site"].to_list() == ["same" if n % 9 < 5 else "other" for n in stack.tolist()]
    assert back.equals(Part(rows, columns).frame())


def test_readers_skip_row_groups_by_their_bounds(tmp_path):
    frames = [
        pl.DataFrame(
            [{"seq": n, "ts": ts, "cpu": 0, "ctx": 0, "op": "kmap", "entry_traced": True}],
            schema=SCHEMA,
        )
        for n, ts in enumerate((-(2**63), -5, 2**40))
    ]
    path = written(tmp_path / "f", *(part_of(frame) for frame in frames))
    some = pl.scan_parquet(path).filter(pl.col("ts") > -6).select("seq").collect()
    assert some["seq"].to_list() == [1, 2]


def test_numbering_grows_where_it_may():
    values = np.arange(3 * FEW) // 2
    assert Numbering().of(values, FEW) is None
    keys, codes = Numbering().of(values)
    assert keys.tolist() == list(range(3 * FEW // 2))
    assert np.array_equal(codes, values)


def test_thrift():
    assert varint(300) == b"\xac\x02"
    assert [zigzag(n) for n in (0, -1, 1, -64, 64)] == [b"\0", b"\1", b"\2", b"\x7f", b"\x80\1"]
    assert items(5, [b"a"] * 15) == b"\xf5\x0f" + b"a" * 15
    assert items(5, [b"a"] * 2) == b"\x25aa"
    made = Struct().number(1, -1).binary(4, b"xy").struct(5, Struct().number(2, 3, 6))
    assert made.encoded() == b"\x15\1\x38\2xy\x1c\x26\6\0\0"
