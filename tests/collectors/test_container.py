"""Tables in a file that travels: they come back, and whatever is wrong with one is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from collectors.container import BLOCK, ContainerFile, ContainerWriter
from collectors.errors import HmtraceError
from collectors.events import OPS

if TYPE_CHECKING:
    from collections.abc import Mapping

TABLE = pl.DataFrame(
    {
        "row": pl.Series([0, 4_294_967_295, 7], dtype=pl.UInt32),
        "ts": pl.Series([-5, None, 1 << 62], dtype=pl.Int64),
        "cpu": pl.Series([0, 1, 65535], dtype=pl.UInt16),
        "share": [0.25, -1e300, 0.0],
        "is_local": [True, None, False],
        "comm": ["bash", None, "\x1b[2J\u202eü"],
        "op": pl.Series(["kmap", None, "percpu_alloc"], dtype=pl.Enum(OPS)),
    }
)


def packed(tables: Mapping[str, Any], document: Mapping[str, Any] | None = None) -> bytes:
    data = bytearray()
    packer = ContainerWriter(data.extend)
    for name, table in tables.items():
        if isinstance(table, pl.DataFrame):
            packer.table(name, table)
        else:
            packer.numbers(name, table)
    packer.finish(dict(document or {}))
    return bytes(data)


def opened(data: bytes) -> ContainerFile:
    return ContainerFile(np.frombuffer(data, np.uint8), "board.workload")


def whole(data: bytes) -> dict[str, Any]:
    """All that a file holds."""
    file = opened(data)
    return {
        name: list(file.numbers(name)) if file.is_column(name) else file.table(name)
        for name in file.rows
    }


def test_what_was_written_comes_back() -> None:
    data = packed({"calls": TABLE, "none": TABLE.clear()}, {"made_by": "1"})
    file = opened(data)
    assert file.document == {"made_by": "1"}
    assert file.rows == {"calls": 3, "none": 0}
    assert_frame_equal(file.table("calls"), TABLE)
    assert_frame_equal(file.table("none"), TABLE.clear())


@given(
    values=st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=40),
    kind=st.sampled_from(["<i1", "<u1", "<i2", "<u4", "<i4", "<i8", "<u8"]),
    ascending=st.booleans(),
)
def test_numbers_come_back_whatever_their_coding(
    values: list[int], kind: str, *, ascending: bool
) -> None:
    numbers = np.array(values, np.int64).astype(kind)
    numbers = np.sort(numbers) if ascending else numbers
    got = np.concatenate([np.zeros(0, kind), *opened(packed({"time": numbers})).numbers("time")])
    assert got.dtype == np.dtype(kind)
    assert np.array_equal(got, numbers)


def test_a_long_column_is_more_than_one_block() -> None:
    numbers = np.arange(2 * BLOCK + 5, dtype="<i8") * 1000
    pieces = list(opened(packed({"time": numbers})).numbers("time"))
    assert [piece.size for piece in pieces] == [BLOCK, BLOCK, 5]
    assert np.array_equal(np.concatenate(pieces), numbers)
    assert len(packed({"time": numbers})) < numbers.nbytes / 100  # steps of one size


def test_types_that_no_file_has_are_refused() -> None:
    with pytest.raises(TypeError, match="Date"):
        packed({"t": pl.DataFrame({"day": pl.Series([0]).cast(pl.Date)})})


def test_a_file_that_was_cut_off_anywhere_is_told_from_a_whole_one() -> None:
    data = packed({"calls": TABLE})
    for size in range(len(data)):
        with pytest.raises(HmtraceError) as told:
            opened(data[:size])
        assert (told.value.exit_code, told.value.source) == (3, "board.workload")
        assert told.value.offset is not None
        assert told.value.hint


@pytest.mark.parametrize("bit", [0, 7])
def test_a_file_with_any_bit_turned_is_refused(bit: int) -> None:
    data = packed({"calls": TABLE})
    for at in range(len(data)):
        turned = bytearray(data)
        turned[at] ^= 1 << bit
        with pytest.raises(HmtraceError) as told:
            whole(bytes(turned))
        assert told.value.offset is not None


def test_another_form_is_named() -> None:
    data = packed({}).replace(b"hmtrace-workload 1\n", b"hmtrace-workload 9\n")
    with pytest.raises(HmtraceError, match="form 9; this hmtrace reads form 1") as told:
        opened(data)
    assert told.value.exit_code == 3
    assert "convert the trace again" in str(told.value.hint)


@pytest.mark.parametrize(
    "tables",
    [
        [],
        {"t": {}},
        {"t": {"rows": -1, "columns": {}}},
        {"t": {"rows": 1 << 60, "columns": {}}},
        {"t": {"rows": True, "columns": {}}},
        {"t": {"rows": 1, "columns": {"a": {"kind": "O", "parts": []}}}},
        {"t": {"rows": 1, "columns": {"a": {"kind": "i8", "parts": []}}}},
        {"t": {"rows": 1, "column": {"kind": "i8", "parts": [{"coding": "x", "blocks": []}]}}},
        {"t": {"rows": 1, "column": {"kind": "i8", "parts": [{"coding": "plain", "blocks": []}]}}},
        {"t": {"rows": 1, "column": {"kind": "i8", "parts": [
            {"coding": "plain", "blocks": [[1 << 40, 8, 1, "00"]]}]}}},
        {"t": {"rows": 1 << 40, "column": {"kind": "i8", "parts": [
            {"coding": "plain", "blocks": [[0, 8, 1 << 40, "00"]]}]}}},
        {"t": {"rows": 1, "column": {"kind": "i8", "parts": [
            {"coding": "plain", "blocks": [[0, 8, 1]]}]}}},
    ],
)  # fmt: skip
def test_a_list_of_tables_that_cannot_be_is_refused(
    tables: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray()
    packer = ContainerWriter(data.extend)
    monkeypatch.setattr(packer, "_tables", tables)
    packer.finish({})
    with pytest.raises(HmtraceError) as told:
        whole(bytes(data))
    assert told.value.exit_code == 3


def test_a_block_that_holds_more_than_it_says_is_refused() -> None:
    """Room is made for what the document says, not for what a frame of zstd promises."""
    import zstandard

    from collectors import container as module

    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 28))
    data = bytearray()
    packer = ContainerWriter(data.extend)
    packer._put(bomb)
    told = module.hashlib.blake2b(bomb, digest_size=16).hexdigest()
    at = len(data) - len(bomb)
    block = {"coding": "plain", "blocks": [[at, len(bomb), 4, told]]}
    packer._tables["t"] = {"rows": 4, "column": {"kind": "i8", "parts": [block]}}
    packer.finish({})
    with pytest.raises(HmtraceError, match="a block of another size") as error:
        whole(bytes(data))
    assert error.value.offset == at
