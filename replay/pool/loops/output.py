"""From the output of the search for the lock order to operations that are settled."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from replay.compiled import loop
from replay.pool.loops.placing import AT_PASS, CALL, CODE, COUNT, KEY, PAGE, SLOT, SUB
from replay.pool.loops.sequence import GET, MAP

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Settled(NamedTuple):
    """Operations, one element each; see :class:`replay.pool.lock_order.Piece`."""

    operations: NDArray[np.int64]  # shape (n, 4)
    time: NDArray[np.int64]
    call: NDArray[np.int64]
    at_pass: NDArray[np.int64]
    flushed: NDArray[np.bool_]


@loop
def split(
    out: NDArray[np.int64], hold: int, settled: NDArray[np.int64], new_row: NDArray[np.int64]
) -> tuple[int, bool]:
    """Tell operations that are settled from those that may still move.

    Parameters
    ----------
    out : ndarray of int64, shape (n, 6)
        Output of the search; those that are held come to its beginning, in their order.
    hold
        Lowest key of what may still move.
    settled : ndarray of int64, shape (n,)
        Filled with the rows that are settled.
    new_row : ndarray of int64, shape (n,)
        Filled with the row to which each row that is held comes.

    Returns
    -------
    number, in_order
        How many are settled, and whether their keys never fall.
    """
    number = 0
    held = 0
    latest = out[0, KEY] if out.shape[0] else 0
    in_order = True
    for row in range(out.shape[0]):
        key = out[row, KEY]
        if key >= hold:
            new_row[row] = held
            held += 1
            continue
        settled[number] = row
        number += 1
        in_order = in_order and key >= latest
        latest = key
    return number, in_order


@loop
def write(
    done: Settled,
    out: NDArray[np.int64],
    order: NDArray[np.int64],
    time: NDArray[np.int64],
    pass_number: NDArray[np.int64],
    flushed: NDArray[np.bool_],
    pin: NDArray[np.bool_],
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
    time, pass_number, flushed : ndarray
        Per event of the stream: its time, the number of the flush (-1 none) and whether a TLB
        flush followed.
    pin : ndarray of bool
        Calls of kmap_high_get().
    """
    for i in range(order.shape[0]):
        row = order[i]
        code, call = out[row, CODE], out[row, CALL]
        if code == MAP and pin[call]:
            code = GET
        done.operations[i, 0] = code
        done.operations[i, 1] = out[row, PAGE]
        done.operations[i, 2] = out[row, SLOT]
        done.operations[i, 3] = out[row, COUNT]
        event = out[row, KEY] // SUB
        done.time[i] = time[event]
        done.call[i] = call
        is_pass = out[row, KEY] % SUB == AT_PASS
        done.at_pass[i] = pass_number[event] if is_pass else -1
        done.flushed[i] = is_pass and flushed[event]
