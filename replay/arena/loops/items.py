"""What the ordering of the arena's calls works on: their items, its state, its registers.

See :mod:`replay.arena.loops.order`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALLOC = 0
GIVE = 1

# Columns of an item. FIRST and LAST of a GIVE are positions in RunState.given. GROUP tells items
# apart that do not overlap, NIL: overlaps with nothing. NEXT of a GIVE counts up as areas are given
# back.
KIND, LO, HI, SIZE, ALIGN, VSTART, VEND, SEEN, GROUP, NEXT = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
FIRST, LAST = 3, 4
COLUMNS = 10

UNKNOWN = -1  # SEEN: no return was traced; FAIL: the call failed

# Bits of RunState.status
AGREED = 1  # all trees predict the same
RIGHT = 2  # the prediction is what the kernel returned
ORDERED = 4  # its place is not the default one
DIVERGED = 8  # no tree explains the address: the prediction of all was wrong
SHAPED = 32  # another shape of the tree could give another answer
LEFT = 16  # orders that may have led to another tree were left out before

# Positions in RunState.reg
N_LOG = 0
LOG_FIRST = 1  # lowest item that was not placed at the checkpoint
BUDGET = 2  # steps that searches may still take
REPAIRS = 3
GIVEN_UP = 4  # searches that found no order
DROPPED = 5  # trees that contradicted an address
MERGED = 6  # trees that came to equal another one
STREAK = 7  # right answers in a row where the shape matters
SEED = 8
RESHAPED = 9  # trees replaced by a variant of another one
AGAIN = 10  # 1: trees contradicted the trace since the last look at them
UNSURE = 11  # 1: the true tree may not be among the trees, so that variants are tried
FORKED = 12  # trees that came about because overlapping calls may have had another order
LEFT_OUT = 13  # orders of overlapping calls that were not followed
TURN = 14  # steps so far
GIVING = 15  # position in RunState.give of the purge that gives areas back next
SUPPOSES = 16  # 1: where the kernel passed over a place, an area is supposed to be
SINCE = 17  # times that nothing could be undone any more: trees are compared now and then
REGISTERS = 18

MAX_LOG = 1024


class RunState(NamedTuple):
    """State of the run beside the trees.

    Attributes
    ----------
    given : ndarray of int64, shape (areas, 2)
        Areas that purges give back.
    give : ndarray of int64
        The items that are a GIVE, in the order of what they give back.
    placed : ndarray of uint8, shape (n,)
    predicted : ndarray of int64, shape (n,)
        Filled: address, FAIL or UNKNOWN.
    status : ndarray of uint8, shape (n,)
        Filled: see the bits.
    trees : ndarray of int32, shape (n,)
        Filled: trees that the prediction rests on.
    turn : ndarray of int64, shape (n,)
        Filled: number of the step that served each, or gave its last area back.
    answer : ndarray of int64, shape (trees,)
        What each tree predicts now.
    log, choice, prefix : ndarray of int64, shape (MAX_LOG + 1,)
        Items applied since the checkpoint; state of a search; copy of the log.
    reg : ndarray of int64, shape (REGISTERS,)
    """

    given: NDArray[np.int64]
    give: NDArray[np.int64]
    placed: NDArray[np.uint8]
    predicted: NDArray[np.int64]
    status: NDArray[np.uint8]
    trees: NDArray[np.int32]
    turn: NDArray[np.int64]
    answer: NDArray[np.int64]
    log: NDArray[np.int64]
    choice: NDArray[np.int64]
    prefix: NDArray[np.int64]
    reg: NDArray[np.int64]


def new_work(
    item: NDArray[np.int64],
    given: NDArray[np.int64],
    trees: int,
    *,
    known: bool,
    supposes: bool = True,
    reg: NDArray[np.int64] | None = None,
) -> RunState:
    """State before the first item.

    Parameters
    ----------
    item : ndarray of int64, shape (n, COLUMNS)
        All of them.
    given : ndarray of int64, shape (areas, 2)
        What purges give back.
    trees
        Number of trees.
    known
        Whether the shape of the tree at the start is.
    supposes
        Where the kernel passed over a place, an area that nobody saw is supposed to be.
    reg
        Registers behind the items before these; None: these are the first.
    """
    items = len(item)
    give = np.flatnonzero(item[:, KIND] == GIVE)
    if reg is None:
        reg = np.zeros(REGISTERS, np.int64)
        reg[BUDGET] = 1_000_000 // (1 if known else min(10, trees))
        reg[UNSURE] = not known
        reg[SUPPOSES] = supposes
    else:
        reg = reg.copy()
        reg[GIVING] = 0
    reg[BUDGET] += 2 * items
    return RunState(
        given,
        give[np.argsort(item[give, FIRST], kind="stable")],
        np.zeros(items, np.uint8),
        np.full(items, UNKNOWN, np.int64),
        np.zeros(items, np.uint8),
        np.zeros(items, np.int32),
        np.zeros(items, np.int64),
        np.zeros(trees, np.int64),
        np.zeros(MAX_LOG + 1, np.int64),
        np.zeros(MAX_LOG + 1, np.int64),
        np.zeros(MAX_LOG + 1, np.int64),
        reg,
    )
