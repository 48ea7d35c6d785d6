"""Pairing of entry and return events: the compiled loop behind :mod:`collectors.assemble`.

Every task has a stack of calls that have entered and not yet returned; an interrupt's calls
stack on top of the interrupted task's, as they do in the kernel. A return closes the innermost
open call of its function; calls above it have lost their return.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NONE = -1
WALK = 64
"""How many open calls of a task a return looks through: nesting in the kernel is far below."""

IRQ_LEVELS = 14  # Ctx.HARDIRQ | Ctx.SOFTIRQ | Ctx.NMI
CTX_UNKNOWN = 128


@numba.njit(cache=True, nogil=True)
def pair(
    kind: NDArray[np.uint16],
    task: NDArray[np.int32],
    ctx: NDArray[np.uint8],
    functions: int,
    has_return: NDArray[np.bool_],
    page_call: int,
    pfn_call: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], int]:
    """Give every raw event its row, and every row its return and its parent.

    Parameters
    ----------
    kind, task, ctx : ndarray of uint16, int32, uint8, shape (n,)
        Raw events in trace order; `task` is dense (idle tasks: one per CPU).
    functions : int
        Number of functions; kinds from ``2 * functions`` on are no calls.
    has_return : ndarray of bool, shape (functions,)
        Whether the trace holds return events of a function at all.
    page_call, pfn_call : int
        Functions __kmap_local_page_prot and __kmap_local_pfn_prot: a call of the second directly
        inside one of the first is the same operation (mm/highmem.c).

    Returns
    -------
    row_of : ndarray of int64, shape (n,)
        Row that an entry, an orphaned return or another event makes; -1: no row of its own.
    return_of : ndarray of int64, shape (n,)
        For an entry: raw index of its return, -1 none.
    parent_of : ndarray of int64, shape (n,)
        For an entry: raw index of the innermost open call, -1 none.
    inner_of : ndarray of int64, shape (n,)
        For a page call: raw index of the pfn call folded into it, -1 none.
    rows : int
        Number of rows.
    """
    n = kind.shape[0]
    tasks = 0
    for i in range(n):
        tasks = max(tasks, task[i] + 1)
    top = np.full(tasks, NONE, np.int64)  # innermost open call of each task
    last = np.full(tasks, NONE, np.int64)  # previous event of each task
    below = np.full(n, NONE, np.int64)  # the call that an open call stands on
    row_of = np.full(n, NONE, np.int64)
    return_of = np.full(n, NONE, np.int64)
    parent_of = np.full(n, NONE, np.int64)
    inner_of = np.full(n, NONE, np.int64)
    rows = 0
    for i in range(n):
        k = kind[i]
        if k >= 2 * functions:
            row_of[i] = rows
            rows += 1
            continue
        t = task[i]
        function = k >> 1
        previous = last[t]
        last[t] = i
        if k & 1 == 0:
            if has_return[function]:
                # The same function cannot run twice in one context: an older open call of it
                # there, and what stands on it, lost its return.
                call = top[t]
                steps = 0
                while call != NONE and steps < WALK:
                    if (
                        kind[call] == k
                        and ctx[call] != CTX_UNKNOWN
                        and (ctx[call] & IRQ_LEVELS) == (ctx[i] & IRQ_LEVELS)
                    ):
                        top[t] = below[call]
                        break
                    call = below[call]
                    steps += 1
            parent = top[t]
            parent_of[i] = parent
            if function == pfn_call:
                outer = parent
                if outer == NONE or kind[outer] >> 1 != page_call:
                    outer = previous if not has_return[page_call] else NONE
                if outer != NONE and kind[outer] == 2 * page_call and inner_of[outer] == NONE:
                    inner_of[outer] = i
                else:
                    row_of[i] = rows
                    rows += 1
            else:
                row_of[i] = rows
                rows += 1
            if has_return[function]:
                below[i] = parent
                top[t] = i
            continue
        call = top[t]
        steps = 0
        while call != NONE and kind[call] >> 1 != function and steps < WALK:
            call = below[call]
            steps += 1
        if call != NONE and kind[call] >> 1 == function:
            return_of[call] = i
            top[t] = below[call]
        else:
            row_of[i] = rows
            rows += 1
    return row_of, return_of, parent_of, inner_of, rows
