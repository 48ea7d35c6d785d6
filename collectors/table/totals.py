"""What the parts of a table come to, counted while they are at hand as plain arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.compiled import loop
from collectors.events import OP_CODE, OPS, TableTotals
from collectors.table.masks import bit_of, has_value, mask_of, read_only

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from collectors.table.part import Column, Part

_LOOKED_AT: Final = ("page", "vaddr", "end_seq", "end_ts")
_PAGE, _VADDR, _END_SEQ, _END_TS = range(4)
_NO_TIMES: Final = np.zeros(0, np.int64)


class Counter:
    """Adds parts up.

    Attributes
    ----------
    totals
        Those of the parts so far.
    """

    def __init__(self) -> None:
        self.totals = TableTotals.none()

    def add(self, part: Part) -> None:
        """Add a part."""
        asked = [part.columns[name] for name in _LOOKED_AT]
        masks = tuple(mask_of(made) for made in asked)
        bits = np.array([bit_of(made) for made in asked], np.int64)
        ts, end_ts = part.columns["ts"].values, asked[_END_TS].values
        assert ts is not None  # is never null
        ends = _NO_TIMES if end_ts is None else end_ts
        codes = _codes(part.columns["op"])
        count(read_only(codes), read_only(ts), read_only(ends), masks, bits, self.totals)


def _codes(op: Column) -> NDArray[np.uint8]:
    """Position of each row's operation in OPS."""
    assert op.values is not None  # is never null
    assert op.names is not None
    numbers: NDArray[np.uint8] = op.values.astype(np.uint8, copy=False)
    if op.names is OPS:
        return numbers
    return np.array([OP_CODE[name] for name in op.names], np.uint8)[numbers]


@loop
def count(
    op: NDArray[np.uint8],
    ts: NDArray[np.int64],
    end_ts: NDArray[np.int64],
    masks: tuple[NDArray[np.uint32], ...],
    bits: NDArray[np.int64],
    totals: TableTotals,
) -> None:
    """Add rows to `totals`.

    Parameters
    ----------
    op : ndarray of uint8, shape (n,)
        Codes of their operations.
    ts, end_ts : ndarray of int64, shape (n,)
        Time of entry and of return; the latter of length 0 where none is known.
    masks, bits : four ndarrays of uint32, and ndarray of int64, shape (4,)
        Of the columns that are looked at, as :class:`collectors.table.part.Column` has them.
    totals
        Changed.
    """
    page, vaddr, end_seq, end = masks
    for row in range(op.shape[0]):
        code, time = op[row], ts[row]
        totals.rows[code] += 1
        has_page = has_value(page, bits[_PAGE], row)
        if has_page:
            totals.paged[code] += 1
        if has_page or has_value(vaddr, bits[_VADDR], row):
            totals.first_named[code] = min(totals.first_named[code], time)
        if has_value(end_seq, bits[_END_SEQ], row):
            totals.returned[code] += 1
        totals.span[0] = min(totals.span[0], time)
        totals.span[1] = max(totals.span[1], time)
        if has_value(end, bits[_END_TS], row):
            totals.span[1] = max(totals.span[1], end_ts[row])
