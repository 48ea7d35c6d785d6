"""From the output of the search for the lock order to operations that are settled."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from replay.compiled import loop
from replay.pool.loops.calls import GET_CODE
from replay.pool.loops.placing import AT_PASS, CALL, CODE, COUNT, KEY, PAGE, SLOT, SUB
from replay.pool.loops.sequence import GET, MAP

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_MOVES = 16
"""Places that an operation is moved back by, in the mean, before all are sorted instead."""


class Settled(NamedTuple):
    """Operations, one element each; see :class:`replay.pool.lock_order.Piece`."""

    operations: NDArray[np.int64]  # shape (n, 4)
    time: NDArray[np.int64]
    call: NDArray[np.int64]
    at_pass: NDArray[np.int64]
    flushed: NDArray[np.bool_]


@loop
def split(out: NDArray[np.int64], hold: int, rows: NDArray[np.int64]) -> tuple[int, bool]:
    """Tell operations that are settled from those that may still move.

    Parameters
    ----------
    out : ndarray of int64, shape (n, 6)
        Output of the search.
    hold
        Lowest key of what may still move.
    rows : ndarray of int64, shape (n,)
        Filled: from its beginning with the rows that are settled, in the order of their keys and
        of themselves; from its end backwards with the others, ascending.

    Returns
    -------
    number, in_order
        How many are settled, and whether those are in order: they nearly are as they come, so
        each is put in its place among the last. If that takes too long they stand anyhow.
    """
    number = 0
    held = 0
    left = MOST_MOVES * out.shape[0]
    for row in range(out.shape[0]):
        key = out[row, KEY]
        if key >= hold:
            held += 1
            rows[out.shape[0] - held] = row
            continue
        at = number
        while at > 0 and out[rows[at - 1], KEY] > key and left > 0:
            rows[at] = rows[at - 1]
            at -= 1
            left -= 1
        rows[at] = row
        number += 1
    return number, left > 0 or number == 0


@loop
def write(
    done: Settled,
    out: NDArray[np.int64],
    order: NDArray[np.int64],
    time: NDArray[np.int64],
    passes: NDArray[np.int64],
    first_pass: int,
    flushed: NDArray[np.bool_],
    call_code: NDArray[np.uint8],
) -> None:
    """Write settled operations down in their order.

    Parameters
    ----------
    done
        Filled.
    out
        Output of the search.
    order : ndarray of int64
        Its rows that are settled, in the order of their keys.
    time : ndarray of int64
        Of each event of the stream.
    passes, flushed : ndarray of int64, bool
        Its flushes, ascending, and whether a TLB flush followed each.
    first_pass
        Number of the first of them.
    call_code : ndarray of uint8
        Per call: GET_CODE is kmap_high_get().
    """
    latest = 0
    for i in range(order.shape[0]):
        row = order[i]
        code, call = out[row, CODE], out[row, CALL]
        if code == MAP and call_code[call] == GET_CODE:
            code = GET
        done.operations[i, 0] = code
        done.operations[i, 1] = out[row, PAGE]
        done.operations[i, 2] = out[row, SLOT]
        done.operations[i, 3] = out[row, COUNT]
        event = out[row, KEY] // SUB
        done.time[i] = time[event]
        done.call[i] = call
        is_pass = out[row, KEY] % SUB == AT_PASS
        done.at_pass[i] = -1
        done.flushed[i] = False
        if is_pass:
            while latest < passes.shape[0] and passes[latest] < event:
                latest += 1
            if latest < passes.shape[0] and passes[latest] == event:
                done.at_pass[i] = first_pass + latest
                done.flushed[i] = flushed[latest]
