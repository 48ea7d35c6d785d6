"""Indices in compiled loops: taken as they are, or refused where that is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from collectors.compiled import loop, piece

ROOT = Path(__file__).parents[2]
VALUES = np.array([2, 3, 5, 7, 11, 13])


@piece
def plus_one(values: np.ndarray, at: int) -> int:
    return values[at] + 1


@loop
def read(values: np.ndarray, at: int) -> int:
    return plus_one(values, at) - 1


@loop
def read_in_row(values: np.ndarray, row: int, at: int) -> int:
    return values[row, at]


@loop
def last(values: np.ndarray) -> int:
    return values[-1]


@loop
def write(values: np.ndarray, at: int) -> None:
    values[at] = 17


@pytest.mark.skipif("NUMBA_BOUNDSCHECK" in os.environ, reason="such an index is refused then")
def test_an_index_does_not_count_from_the_end() -> None:
    """What stands before the array is ours here: 3 is before 5."""
    behind = VALUES[2:]
    assert read(behind, 1) == 7
    assert read(behind, -1) == 3
    assert read_in_row(VALUES.reshape(3, 2), 2, -1) == 7
    some = VALUES.copy()
    write(some[2:], -1)
    assert some.tolist() == [2, 17, 5, 7, 11, 13]


def test_one_that_is_written_down_does() -> None:
    assert last(VALUES[:3]) == 5


def told() -> list[object]:
    """Of each access, what it gives."""
    table, found = VALUES.reshape(3, 2), list[object]()
    for made, *given in (
        (read, VALUES, 5), (read, VALUES, 6), (read, VALUES, -1),
        (read_in_row, table, 2, 1), (read_in_row, table, 3, 0), (read_in_row, table, -1, 0),
        (read_in_row, table, 0, -1), (write, VALUES.copy(), -1), (last, VALUES),
    ):  # fmt: skip
        try:
            found.append(made(*given))
        except IndexError as error:
            found.append(str(error))
    return found


def test_make_bounds_refuses_both_sides() -> None:
    run = subprocess.run(
        [sys.executable, "-c", "from tests.collectors.test_indices import told; print(told())"],
        cwd=ROOT, env=os.environ | {"NUMBA_BOUNDSCHECK": "1"},
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    no = "index is out of bounds"
    assert run.stdout == f"{[13, no, no, 13, no, no, no, no, 13]}\n"
