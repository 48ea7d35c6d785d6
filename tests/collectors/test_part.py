"""Rows as plain arrays, and as polars frames."""

import numpy as np
import polars as pl

from collectors.events import OPS
from collectors.table.distinct import ValueNumbers
from collectors.table.masks import bit_of, has_value, mask_of, take_filled
from collectors.table.part import Column, Part

BIT = 5
VALID = np.array([0, 1, 0, 0, 1, 1], np.uint32) << BIT


def test_where_there_is_no_value_the_one_before_stands():
    taken = np.full(6, 99, np.int64)
    take_filled(np.arange(10, 16), VALID, BIT, taken)
    assert taken.tolist() == [0, 11, 11, 11, 14, 15]


def test_a_frame_has_values_where_the_mask_says():
    columns = {
        "ts": Column(np.arange(6)),
        "comm": Column(np.array([1, 0, 2, 1, 1, 0], np.uint32), names=("", "a", "b")),
        "op": Column(np.full(6, 1, np.uint8), names=OPS),
        "vaddr": Column(np.arange(6, dtype=np.uint64), VALID, BIT),
        "site": Column(np.array([7, 1, 8, 9, 0, 1], np.uint32), VALID, BIT, ("f+0x1", "g+0x2")),
        "end_cpu": Column(np.arange(6, dtype=np.uint16), VALID, BIT),
        "blocked": Column(np.array([True, False] * 3), VALID, BIT),
        "size": Column(),
    }
    frame = Part(6, columns).frame()
    assert frame.schema["comm"] == pl.Categorical()
    assert frame.schema["op"] == pl.Enum(OPS)
    assert frame.to_dict(as_series=False) == {
        "ts": [0, 1, 2, 3, 4, 5],
        "comm": ["a", "", "b", "a", "a", ""],
        "op": [OPS[1]] * 6,
        "vaddr": [None, 1, None, None, 4, 5],
        "size": [None] * 6,
        "site": [None, "g+0x2", None, None, "f+0x1", "g+0x2"],
        "end_cpu": [None, 1, None, None, 4, 5],
        "blocked": [None, False, None, None, True, False],
    }


def test_masks_as_loops_take_them():
    some, every, none = Column(VALID, VALID, BIT), Column(VALID), Column()
    found = [
        [has_value.py_func(mask_of(made), bit_of(made), row) for row in range(6)]
        for made in (some, every, none)
    ]
    assert found == [[False, True, False, False, True, True], [True] * 6, [False] * 6]


def test_values_that_are_wanted_are_numbered_from_one():
    values = np.array([40, 7, 7, 40, 9, 7])
    wanted = np.array([True, False, True, True, False, True])
    keys, codes = ValueNumbers().of(values, wanted)
    assert keys.tolist() == [40, 7]
    assert codes.tolist() == [1, 0, 2, 1, 0, 2]


def test_more_different_values_than_the_first_table_has_room_for():
    values = np.arange(20_000) * 8
    keys, codes = ValueNumbers().of(values, np.ones(len(values), np.bool_))
    assert (keys[codes - 1] == values).all()
    assert len(keys) == 20_000
