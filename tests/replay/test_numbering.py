"""Numbers for keys, over pieces of any size."""

from __future__ import annotations

import numpy as np
import pytest

from replay.trace.numbering import Numbering


@pytest.mark.parametrize("piece", [1, 7, 700, 5_000])
def test_numbers_are_those_of_first_use(piece: int) -> None:
    rng = np.random.default_rng(4)
    keys = rng.integers(0, 1 << 63, 700, np.uint64)[rng.integers(0, 700, 5_000)]
    keys[:3] = 0, (1 << 64) - 1, 0
    numbering = Numbering()
    pieces = [numbering.of(keys[at : at + piece]) for at in range(0, keys.size, piece)]
    expected: dict[int, int] = {}
    for key in keys.tolist():
        expected.setdefault(key, len(expected))
    assert np.concatenate(pieces).tolist() == [expected[key] for key in keys.tolist()]
    assert numbering.keys().tolist() == list(expected)
    assert numbering.count == len(expected)
    found = numbering.find(np.array([0, 12345, keys[-1]], np.uint64))
    assert found.tolist() == [0, -1, expected[int(keys[-1])]]


def test_signed_keys_are_told_apart() -> None:
    numbering = Numbering()
    assert numbering.find(np.array([-1], np.int64)).tolist() == [-1]
    assert numbering.of(np.array([-1, 5, -1, -(1 << 63)], np.int64)).tolist() == [0, 1, 0, 2]
    assert numbering.keys().view(np.int64).tolist() == [-1, 5, -(1 << 63)]
