"""The pool's operations that are kept of a window, and what is new in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from replay.compiled import loop
from replay.pool.loops.sequence import FLUSH_UNUSED, GET, MAP, SNAPSHOT, UNMAP

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NOBODY = -1
"""In place of a task, or of a page's number."""
NO_ROW = -1  # as replay.trace.told.NO_ROW


class OrderedCalls(NamedTuple):
    """Operations in lock order, and the calls that they are of.

    Attributes
    ----------
    operations : ndarray of int64, shape (n, 4)
    time, call : ndarray of int64, shape (n,)
        As of :class:`replay.pool.lock_order.Piece`.
    row, key : ndarray of int64, shape (calls,)
        Of each call; the key is that of its page.
    pid : ndarray of int32, shape (calls,)
    tried : ndarray of bool, shape (calls,)
        kmap() calls that were tried before; changed in place.
    """

    operations: NDArray[np.int64]
    time: NDArray[np.int64]
    call: NDArray[np.int64]
    row: NDArray[np.int64]
    key: NDArray[np.int64]
    pid: NDArray[np.int32]
    tried: NDArray[np.bool_]


class PickedCalls(NamedTuple):
    """What is kept of them, with room for all; filled.

    Attributes
    ----------
    code : ndarray of uint8
    time, pid : ndarray of int64
    is_call : ndarray of bool
        As of :class:`replay.whatif.calls.Served`.
    key, row : ndarray of int64
        Of those that are calls, one behind the other.
    map_row, map_at : ndarray of int64
        Of kmap() calls that are tried here for the first time: row, and place in `code`.
    """

    code: NDArray[np.uint8]
    time: NDArray[np.int64]
    pid: NDArray[np.int64]
    is_call: NDArray[np.bool_]
    key: NDArray[np.int64]
    row: NDArray[np.int64]
    map_row: NDArray[np.int64]
    map_at: NDArray[np.int64]


@loop
def keep_served(ordered: OrderedCalls, kept: PickedCalls) -> tuple[int, int, int]:
    """Keep the calls, each kmap() at its first attempt, and what is nobody's.

    Parameters
    ----------
    ordered
        The operations.
    kept
        Filled.

    Returns
    -------
    kept, calls, maps : int
        How many there are of each length.
    """
    n = calls = maps = 0
    for i in range(ordered.time.shape[0]):
        code, call = ordered.operations[i, 0], ordered.call[i]
        is_call = call >= 0 and code in (MAP, UNMAP, GET)
        if is_call and code == MAP:
            if ordered.tried[call]:
                continue
            ordered.tried[call] = True
            kept.map_row[maps], kept.map_at[maps] = ordered.row[call], n
            maps += 1
        if is_call:
            kept.key[calls], kept.row[calls] = ordered.key[call], ordered.row[call]
            kept.pid[n] = ordered.pid[call]
            calls += 1
        elif code in (FLUSH_UNUSED, SNAPSHOT):
            kept.pid[n] = NOBODY
        else:
            continue
        kept.code[n], kept.time[n], kept.is_call[n] = code, ordered.time[i], is_call
        n += 1
    return n, calls, maps


class ServedNumbers(NamedTuple):
    """What was served, by the numbers of pages and tasks.

    Attributes
    ----------
    is_call : ndarray of bool, shape (n,)
    task : ndarray of int32, shape (n,)
    page, row : ndarray of int64, shape (calls,)
        Of those that are calls, one behind the other.
    """

    is_call: NDArray[np.bool_]
    task: NDArray[np.int32]
    page: NDArray[np.int64]
    row: NDArray[np.int64]


class FirstUses(NamedTuple):
    """What came up first, changed in place.

    Attributes
    ----------
    seen : ndarray of bool, shape (pages,)
        Pages that were served.
    order : ndarray of int32
        Room for the pages that are served for the first time here, in this order.
    row_of_task : ndarray of int64, shape (tasks,)
        First call of each task, NO_ROW none.
    """

    seen: NDArray[np.bool_]
    order: NDArray[np.int32]
    row_of_task: NDArray[np.int64]


@loop
def spread(
    served: ServedNumbers, firsts: FirstUses, page: NDArray[np.int32], row: NDArray[np.uint32]
) -> int:
    """Spread the calls' pages and rows over all that was served, and note what comes up first.

    Parameters
    ----------
    served, firsts
        What was served, and before.
    page, row : ndarray, shape (n,)
        Filled: -1 and 0 of what is nobody's.

    Returns
    -------
    int
        Pages that are served for the first time.
    """
    call = fresh = 0
    for i in range(served.is_call.shape[0]):
        page[i], row[i] = NOBODY, 0
        if not served.is_call[i]:
            continue
        number = served.page[call]
        page[i], row[i] = number, served.row[call]
        if not firsts.seen[number]:
            firsts.seen[number] = True
            firsts.order[fresh] = number
            fresh += 1
        if firsts.row_of_task[served.task[i]] == NO_ROW:
            firsts.row_of_task[served.task[i]] = served.row[call]
        call += 1
    return fresh
