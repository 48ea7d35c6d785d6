"""Which events the arena's replay looks at; what is asked of them stands in :mod:`..rows`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from replay.compiled import loop

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Bits of what a row is
WANTED = 1  # the arena's own
OWN = 2  # an event that its task itself made
PURGE = 4  # a purge of the arena, or a flush that is one's
SWITCH = 8

NOBODY = -1
"""In place of a task's number."""


class Doing(NamedTuple):
    """What the tasks are doing, by their numbers.

    Attributes
    ----------
    asked : ndarray of bool, shape (k,)
        The last that is known of the task is the arena's: what follows shows that it is over.
    purging : ndarray of bool, shape (k,)
        Its last own event is a purge or a flush.
    until : ndarray of int64, shape (k,)
        When the last of its purges to return does.
    latest : ndarray of int64, shape (k,)
        Row of its last own event in this window, NOBODY if there is none.
    """

    asked: NDArray[np.bool_]
    purging: NDArray[np.bool_]
    until: NDArray[np.int64]
    latest: NDArray[np.int64]


@loop
def pick(
    what: NDArray[np.uint8],
    task: NDArray[np.int64],
    next_task: NDArray[np.int64],
    seq: NDArray[np.int64],
    end_seq: NDArray[np.int64],
    doing: Doing,
    kept: NDArray[np.bool_],
) -> None:
    """Pick out the events of a window.

    Parameters
    ----------
    what : ndarray of uint8, shape (n,)
        What each row is.
    task, next_task : ndarray of int64, shape (n,)
        Number of its task, and of the one switched to; NOBODY if there is none.
    seq, end_seq : ndarray of int64, shape (n,)
        Positions of its entry and of its return, 0 unknown.
    doing
        The tasks before the window; changed to what they do behind it.
    kept : ndarray of bool, shape (n,), all false
        Filled.
    """
    rows = what.shape[0]
    for row in range(rows):
        is_wanted, is_own = what[row] & WANTED != 0, what[row] & OWN != 0
        at = task[row]
        if is_wanted:
            kept[row] = True
        if what[row] & SWITCH:
            for other in (at, next_task[row]):
                if other >= 0 and (doing.purging[other] or doing.until[other] > seq[row]):
                    kept[row] = True
        if not (is_wanted or is_own):
            continue
        if is_own:
            kept[row] |= doing.asked[at]
            before = doing.latest[at]
            if before >= 0 and end_seq[before] > seq[row]:  # it did something within
                kept[before] = True
            doing.latest[at] = row
            doing.purging[at] = what[row] & PURGE != 0
            if doing.purging[at]:
                doing.until[at] = max(doing.until[at], end_seq[row])
        doing.asked[at] = is_wanted
    for at in range(doing.latest.shape[0]):
        row = doing.latest[at]
        if row >= 0 and end_seq[row] > seq[rows - 1]:
            kept[row] = True
