"""Searching the lock order: go the likely way, and back where it leads to a contradiction.

:mod:`replay.pool.loops.order` has an open question wherever two things explain an observed address
(another call came first, or a kunmap() came later). It goes the likely way. When an address
cannot be explained any more, the events since the checkpoint are gone through again with one
question answered the other way, the latest first; an answer that leads further is kept.
Checkpoints are set where nothing is pending, every few events in a real trace; the number of
tries is bounded, so that the whole stays linear.

A long trace is ordered piece by piece: each call of :func:`order` ends at a checkpoint, and the
next one goes on there, so that it makes no difference where the pieces end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from replay.compiled import loop, part, piece
from replay.pool.loops.highmem import lowest_slot, touch
from replay.pool.loops.order import handle
from replay.pool.loops.placing import (
    DIVERGED_CALLS,
    DIVERGED_PASSES,
    ENTER_MAP,
    ENTER_UNMAP,
    KEY,
    N_CHOICES,
    N_LIMBO,
    N_MAPS,
    N_MOVES,
    N_OUT,
    N_UNMAPS,
    PASS_KEY,
    SUB,
    Calls,
    Work,
    settle_limbo,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from replay.pool.loops.highmem import Pool

SHORTEST = 48
"""Events between checkpoints where nothing is pending."""
LONGEST = 2048
"""Events between checkpoints where something always is."""
TRIES = 2000
"""Ways tried between two checkpoints."""
BUDGET = 6
"""Events gone through again, in all, as a multiple of those before the checkpoint."""
LIMBO_EVENTS = 1 << 18
"""Events after a flush from which on nobody asks any more which slots it freed: an unmap that may
have come after it is taken to have come before."""

# Positions in the `effort` of :func:`order`
LEFT = 0  # events that may be gone through again
IS_FULL = 1  # the output had no room
EFFORT = 2


class Checkpoint(NamedTuple):
    """State to go back to: copies of what :class:`~replay.pool.loops.placing.Work` has.

    `best` are the answers that led furthest so far.
    """

    counts: NDArray[np.int64]
    page: NDArray[np.int64]
    free: NDArray[np.int64]
    stale: NDArray[np.int64]
    pool_reg: NDArray[np.int64]
    doubt: NDArray[np.uint8]
    limbo_page: NDArray[np.int64]
    limbo_unmap: NDArray[np.int64]
    maps: NDArray[np.int64]
    unmaps: NDArray[np.int64]
    map_status: NDArray[np.uint8]
    reg: NDArray[np.int64]
    best: NDArray[np.int64]


@part
def _troubles(reg: NDArray[np.int64]) -> int:
    """Contradictions so far."""
    return reg[DIVERGED_CALLS] + reg[DIVERGED_PASSES]


@piece
def _is_quiet(w: Work) -> bool:
    """Whether nothing is pending, so that no later event can tell of an earlier order."""
    return w.reg[N_MAPS] == 0 and w.reg[N_UNMAPS] == 0 and w.reg[N_LIMBO] == 0


@piece
def _settle_old(w: Work, calls: Calls, at: int) -> None:
    """Answer what has been open for too long, so that what lies before it is settled."""
    if at - w.reg[PASS_KEY] // SUB > LIMBO_EVENTS:
        for slot in range(w.limbo_page.shape[0]):
            settle_limbo(w, calls, slot)


@piece
def _copy(to: NDArray[np.int64], of: NDArray[np.int64]) -> None:
    """Copy an array; one loop for each, which becomes a copy of memory."""
    for i in range(to.shape[0]):
        to[i] = of[i]


@part
def _save(w: Work, c: Checkpoint) -> None:
    """Set a checkpoint: of the slots only those are copied that were touched since the last."""
    touched = w.pool.touched
    for word in range(touched.shape[0]):
        bits = touched[word]
        touched[word] = 0
        while bits != 0:
            slot = lowest_slot(word, bits)
            bits &= bits - 1
            c.counts[slot] = w.pool.counts[slot]
            c.page[slot] = w.pool.page[slot]
            c.doubt[slot] = w.doubt[slot]
            c.limbo_page[slot] = w.limbo_page[slot]
            c.limbo_unmap[slot] = w.limbo_unmap[slot]
    w.reg[N_CHOICES] = 0
    w.reg[N_MOVES] = 0
    _copy(c.free, w.pool.free)
    _copy(c.stale, w.pool.stale)
    _copy(c.pool_reg, w.pool.reg)
    _copy(c.reg, w.reg)
    for i in range(w.reg[N_MAPS]):
        c.maps[i] = w.maps[i]
        c.map_status[i] = w.status[w.maps[i]]
    for i in range(w.reg[N_UNMAPS]):
        c.unmaps[i] = w.unmaps[i]


@part
def _restore(
    w: Work, c: Checkpoint, kinds: NDArray[np.uint8], who: NDArray[np.int64], since: int, at: int
) -> None:
    """Undo everything that the events from `since` to `at` did."""
    for move in range(w.reg[N_MOVES] - 1, -1, -1):
        w.out[w.moves[move, 0], KEY] = w.moves[move, 1]
    touched = w.pool.touched
    for word in range(touched.shape[0]):
        bits = touched[word]
        while bits != 0:
            slot = lowest_slot(word, bits)
            bits &= bits - 1
            if w.pool.page[slot] >= 0:
                w.pool.slot[w.pool.page[slot]] = -1
            if w.limbo_page[slot] >= 0:
                w.limbo_slot[w.limbo_page[slot]] = -1
    for word in range(touched.shape[0]):
        bits = touched[word]
        touched[word] = 0
        while bits != 0:
            slot = lowest_slot(word, bits)
            bits &= bits - 1
            w.pool.counts[slot] = c.counts[slot]
            w.pool.page[slot] = c.page[slot]
            w.doubt[slot] = c.doubt[slot]
            w.limbo_page[slot] = c.limbo_page[slot]
            w.limbo_unmap[slot] = c.limbo_unmap[slot]
            if c.page[slot] >= 0:
                w.pool.slot[c.page[slot]] = slot
            if c.limbo_page[slot] >= 0:
                w.limbo_slot[c.limbo_page[slot]] = slot
    for word in range(c.free.shape[0]):
        w.pool.free[word] = c.free[word]
        w.pool.stale[word] = c.stale[word]
    for register in range(c.pool_reg.shape[0]):
        w.pool.reg[register] = c.pool_reg[register]
    for register in range(c.reg.shape[0]):
        w.reg[register] = c.reg[register]
    for event in range(since, at):
        if kinds[event] == ENTER_MAP or kinds[event] == ENTER_UNMAP:
            w.placed[who[event]] = False
            w.status[who[event]] = 0
            w.row_of[who[event]] = -1
    for i in range(c.reg[N_MAPS]):
        w.maps[i] = c.maps[i]
        w.placed[c.maps[i]] = False
        w.status[c.maps[i]] = c.map_status[i]
    for i in range(c.reg[N_UNMAPS]):
        w.unmaps[i] = c.unmaps[i]


@piece
def _answer(choices: NDArray[np.int64], best: NDArray[np.int64], other: int) -> None:
    """Answer as in `best`, but question `other` the other way and those behind it the likely way.

    With `other` at the number of questions the answers are those of `best`; with -1 all are the
    likely way.
    """
    for question in range(choices.shape[0]):
        choices[question] = best[question] if question <= other else 0
    if 0 <= other < choices.shape[0]:
        choices[other] = 1 - best[other]


@loop
def order(
    w: Work,
    c: Checkpoint,
    snapshot: Pool,
    calls: Calls,
    kinds: NDArray[np.uint8],
    who: NDArray[np.int64],
    start: int,
    stop: int,
    last: bool,  # noqa: FBT001
    effort: NDArray[np.int64],
) -> int:
    """Place the calls of the events from `start` to `stop`.

    Parameters
    ----------
    w
        State; `w.out`, `w.status` and `w.reg` are the result.
    c
        Room for a checkpoint.
    snapshot, calls, kinds, who
        As for :func:`replay.pool.loops.order.handle`.
    start, stop
        Positions in the stream. (A constant in the code would be a type of its own to numba, and
        everything called with it be compiled twice.)
    last
        Whether the trace ends at `stop`. Else the state is that of the last checkpoint before.
    effort : ndarray of int64, shape (EFFORT,)
        Tries that are left, carried from call to call, and whether `w.out` was too small.

    Returns
    -------
    int
        Number of stream events handled.
    """
    margin = 3 * w.pool.counts.shape[0] + w.maps.shape[0] + 64
    left = effort[LEFT]
    effort[IS_FULL] = 0
    searching = True
    tries = 0
    furthest = start
    question = 0
    since = start
    at = start
    for slot in range(w.pool.counts.shape[0]):
        touch(w.pool, slot)
    _answer(w.choices, c.best, -1)
    _save(w, c)
    while at < stop:
        if w.reg[N_OUT] + margin > w.out.shape[0]:
            effort[IS_FULL] = 1
            break
        if at - since >= LONGEST or (at - since >= SHORTEST and _is_quiet(w)):
            _settle_old(w, calls, at)
            if tries:
                _answer(w.choices, c.best, -1)
            _save(w, c)
            left += BUDGET * (at - since)
            effort[LEFT] = left
            since = at
            searching = True
            tries = 0
            furthest = at
        handle(w, snapshot, calls, kinds, who, at)
        at += 1
        if not searching or _troubles(w.reg) == _troubles(c.reg):
            continue
        if at > furthest:
            furthest = at
            question = min(w.reg[N_CHOICES], w.choices.shape[0])
            for i in range(c.best.shape[0]):
                c.best[i] = w.choices[i] if i < question else 0
        question -= 1
        tries += 1
        left -= at - since
        if tries > TRIES or left < 0 or question < 0:
            # No way leads on: take the one that came furthest, and go on behind it.
            searching = False
            question = w.choices.shape[0]
        _answer(w.choices, c.best, question)
        _restore(w, c, kinds, who, since, at)
        at = since
    if last and at == stop:
        return at
    _restore(w, c, kinds, who, since, at)
    return since
