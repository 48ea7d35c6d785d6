"""Placing calls on the pool in lock order: state of the search, and its elementary steps.

What :mod:`replay.pool.loops.order` decides is carried out here: serve a kmap, take back a kunmap,
find out why a slot was not free. Every step leaves its operation in the output, and every
conclusion from an observed address its mark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from replay.compiled import part, piece
from replay.pool.loops.calls import GET_CODE
from replay.pool.loops.highmem import (
    ASLEEP,
    LAST,
    Pool,
    colour_of,
    kmap_high,
    lane,
    next_free,
    place,
    touch,
)
from replay.pool.loops.sequence import (
    CURSOR,
    MAP,
    PLACE,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Kinds of stream events
ENTER_MAP = 0
RETURN_MAP = 1
ENTER_UNMAP = 2
END_UNMAP = 3  # the latest time at which the unmap can have happened
PASS = 4  # flush_all_zero_pkmaps; the call is the kmap that it is part of, or -1
LOSS = 5
SNAP = 6
QUIET_PASS = 7  # a PASS that freed nothing, for no TLB flush followed
FREEING_PASS = 8  # a PASS that freed a slot, for the TLB was flushed

# How a call's place was found
DEFAULT = 0
ORDERED = 1  # an observed address decided the order of overlapping calls
INITIAL = 2  # an observed address told something of the initial state
DIVERGED = 3  # no order explains what was observed
TWICE = 4  # a kunmap() of a page that has a slot and no user: the kernel's BUG()

NEVER_RETURNED = -2
"""Calls.seen: the task's events end inside the call."""

# What is not known of a slot's initial state (Work.doubt)
KNOWN = 0
DOUBT = 1  # taken for free; may be stale or held
DOUBT_FLUSHED = 2  # taken for free since a flush; may be held, for a stale one is free now

# Positions in Work.reg
N_OUT = 0
N_MAPS = 1
N_UNMAPS = 2
PASS_KEY = 3
MOVED_UNMAPS = 4
DIVERGED_PASSES = 5
ASSUMED_FREE = 6
DIVERGED_CALLS = 7
N_CHOICES = 8
N_MOVES = 9
ONE_FREED = 10  # the last PASS freed a slot, and it was one of those in limbo
TOLD_PASSES = 11  # passes whose TLB flush, or its absence, decided the order of calls
N_LIMBO = 12  # slots in limbo
CURSOR_KNOWN = 13  # one per colour, from here on

# Columns of Work.out
CODE, PAGE, SLOT, COUNT, KEY, CALL = range(6)
SUB = 1024  # keys per stream event
AT_PASS = 512  # key of the flush inside its stream event: what came before has a lower one
MAX_PENDING = 65536
LOOKAHEAD = 256


class Calls(NamedTuple):
    """The calls, one element each; their places count from the trace's first event.

    Attributes
    ----------
    page : ndarray of int64
        Dense page number.
    seen : ndarray of int64
        Slot that the kernel returned, -1 unknown, NEVER_RETURNED.
    code : ndarray of uint8
        GET_CODE is kmap_high_get(): takes a mapping that is there, and makes none.
    flushed_in : ndarray of int64
        Place in the stream of the last PASS before the return, whoever made it.
    last_pass : ndarray of int64
        Place of the last PASS inside the call, -1 none: it was not served before.
    final_pass : ndarray of int64
        The same if the call was served there, -1 if that attempt failed too.
    start
        Place of the first event that the search has; it counts from there.
    """

    page: NDArray[np.int64]
    seen: NDArray[np.int64]
    code: NDArray[np.uint8]
    flushed_in: NDArray[np.int64]
    last_pass: NDArray[np.int64]
    final_pass: NDArray[np.int64]
    start: int


@piece
def is_pin(calls: Calls, call: int) -> bool:
    """Whether a call takes a mapping only if there is one."""
    return calls.code[call] == GET_CODE


class Work(NamedTuple):
    """State of the search.

    Whoever changes what is kept per slot says so (:func:`replay.pool.loops.highmem.touch`):
    checkpoints are of the slots that were touched.
    """

    pool: Pool
    doubt: NDArray[np.uint8]  # per slot: KNOWN, DOUBT, DOUBT_FLUSHED
    limbo_page: NDArray[np.int64]  # per slot: page that may still be mapped there, -1
    limbo_unmap: NDArray[np.int64]  # per slot: the unmap whose place decides that
    limbo_slot: NDArray[np.int64]  # per page: its slot in limbo, -1
    maps: NDArray[np.int64]  # calls of kmap that have entered and are not placed
    unmaps: NDArray[np.int64]  # calls of kunmap that may not have happened yet
    placed: NDArray[np.bool_]  # per call
    status: NDArray[np.uint8]  # per call
    row_of: NDArray[np.int32]  # per call: its row in out
    deferred: NDArray[np.int64]  # scratch: unmaps that a flush is put before
    choices: NDArray[np.int64]  # which way to go at each open question since the checkpoint
    moves: NDArray[np.int64]  # (capacity, 2): rows of out whose key changed since, and old key
    out: NDArray[np.int64]  # (capacity, 6)
    reg: NDArray[np.int64]


@piece
def emit(w: Work, code: int, page: int, slot: int, count: int, key: int, call: int) -> None:
    """Append an operation to the output."""
    row = w.reg[N_OUT]
    w.out[row, CODE] = code
    w.out[row, PAGE] = page
    w.out[row, SLOT] = slot
    w.out[row, COUNT] = count
    w.out[row, KEY] = key
    w.out[row, CALL] = call
    if call >= 0:
        w.row_of[call] = row
    w.reg[N_OUT] = row + 1


@piece
def mark(w: Work, call: int, status: int) -> None:
    """Note how a call's place was found, the most doubtful way counting."""
    w.status[call] = max(w.status[call], status)


@piece
def other_way(w: Work) -> bool:
    """Answer of the search to the next open question: False is the likely way."""
    question = w.reg[N_CHOICES]
    w.reg[N_CHOICES] = question + 1
    return question < w.choices.shape[0] and w.choices[question] == 1


@piece
def move(w: Work, row: int, key: int) -> None:
    """Put an operation of the output elsewhere, in a way that can be taken back."""
    if w.reg[N_MOVES] < w.moves.shape[0]:
        w.moves[w.reg[N_MOVES], 0] = row
        w.moves[w.reg[N_MOVES], 1] = w.out[row, KEY]
        w.reg[N_MOVES] += 1
    w.out[row, KEY] = key


@piece
def free_ahead(pool: Pool, colour: int) -> int:
    """Slot that the next new mapping of a colour takes; the lane's end if it will wrap."""
    return next_free(pool, pool.reg[LAST + colour] + 1, lane(pool, colour)[1])


@piece
def set_cursor(w: Work, colour: int, slot: int, key: int) -> None:
    """Put a cursor where an observed address shows it to be."""
    w.pool.reg[LAST + colour] = slot
    emit(w, CURSOR, -1, slot, colour, key, -1)


@part
def forget(pending: NDArray[np.int64], length: int, call: int) -> int:
    """Take a call off a list of pending ones, keeping their order; return the new length."""
    for i in range(length):
        if pending[i] == call:
            for j in range(i, length - 1):
                pending[j] = pending[j + 1]
            return length - 1
    return length


@part
def end_unmaps(w: Work, calls: Calls, page: int) -> None:
    """The page had no mapping, so every kunmap() of it that has entered has happened."""
    kept = 0
    for i in range(w.reg[N_UNMAPS]):
        unmap = w.unmaps[i]
        w.unmaps[kept] = unmap
        kept += calls.page[unmap] != page
    w.reg[N_UNMAPS] = kept


@piece
def _leave_limbo(w: Work, slot: int) -> None:
    """It is certain whether the slot's page is mapped."""
    touch(w.pool, slot)
    w.limbo_slot[w.limbo_page[slot]] = -1
    w.limbo_page[slot] = -1
    w.reg[N_LIMBO] -= 1


@part
def settle_limbo(w: Work, calls: Calls, slot: int) -> None:
    """The slot's page is certainly unmapped."""
    page = w.limbo_page[slot]
    if page >= 0:
        _leave_limbo(w, slot)
        end_unmaps(w, calls, page)
        w.reg[ONE_FREED] = 0


@piece
def commit_here(w: Work, calls: Calls, call: int, key: int) -> int:
    """Serve a kmap here; return its slot or ASLEEP."""
    page = calls.page[call]
    is_new = w.pool.slot[page] < 0
    slot = kmap_high(w.pool, page)
    emit(w, MAP, page, -1, 0, key, call)
    if slot != ASLEEP:
        if w.limbo_page[slot] >= 0:
            settle_limbo(w, calls, slot)
        if w.limbo_slot[page] >= 0:
            settle_limbo(w, calls, w.limbo_slot[page])
        if is_new:
            end_unmaps(w, calls, page)
            w.reg[ASSUMED_FREE] += w.doubt[slot] != KNOWN and w.status[call] < INITIAL
            w.doubt[slot] = KNOWN
        w.placed[call] = True
        w.reg[N_MAPS] = forget(w.maps, w.reg[N_MAPS], call)
    return slot


@part
def commit(w: Work, calls: Calls, call: int, key: int) -> int:
    """As :func:`commit_here`, for what does not happen at every call."""
    return commit_here(w, calls, call, key)


@part
def revive(w: Work, slot: int, count: int) -> None:
    """The unmap in limbo happened after the last flush: its page is still mapped."""
    page = w.limbo_page[slot]
    unmap = w.limbo_unmap[slot]
    _leave_limbo(w, slot)
    place(w.pool, page, slot, count)
    move(w, w.row_of[unmap], w.reg[PASS_KEY] + 1)
    w.reg[MOVED_UNMAPS] += 1


@part
def pending_map(w: Work, calls: Calls, slot: int, but: int, at: int) -> int:
    """A pending kmap that was given `slot` (else one with unknown result) for a new mapping."""
    unseen = -1
    later = -1
    until = calls.start + at
    for i in range(w.reg[N_MAPS]):
        call = w.maps[i]
        first, end = lane(w.pool, colour_of(w.pool, calls.page[call]))
        if is_pin(calls, call) or not first <= slot < end:
            continue
        if call != but and calls.last_pass[call] < until and w.pool.slot[calls.page[call]] < 0:
            if calls.seen[call] == slot:
                if calls.flushed_in[call] <= until:
                    return call  # no flush comes that could give it the slot once more
                if later < 0:
                    later = call
            if calls.seen[call] < 0 and unseen < 0:
                unseen = call
    if later >= 0:
        return later
    return unseen


@part
def find_in_use(w: Work, page: int, slot: int, key: int) -> None:
    """A slot in doubt turns out to be in use: stale, or held if it outlived a flush."""
    count = 1 if w.doubt[slot] == DOUBT else 2
    if count == 2:
        w.doubt[slot] = KNOWN
    place(w.pool, page, slot, count)
    emit(w, PLACE, page, slot, count, key, -1)


@part
def explain(w: Work, calls: Calls, slot: int, call: int, key: int) -> bool:
    """Say why `call` did not get the free `slot`: somebody else had it. False: no reason."""
    other = pending_map(w, calls, slot, call, key // SUB)
    in_question = w.doubt[slot] != KNOWN or w.limbo_page[slot] >= 0
    if other >= 0 and in_question and other_way(w):
        other = -1
    if other >= 0 and free_ahead(w.pool, colour_of(w.pool, calls.page[other])) == slot:
        commit(w, calls, other, key)
        mark(w, other, ORDERED)
        return True
    if w.doubt[slot]:
        find_in_use(w, -1, slot, key)
        mark(w, call, INITIAL)
        return True
    if w.limbo_page[slot] >= 0:
        revive(w, slot, 1)
        mark(w, call, ORDERED)
        return True
    return False


@part
def _may_have_mapped(w: Work, calls: Calls, page: int, slot: int) -> bool:
    """Whether a kmap that has entered and is not placed got this slot for this page."""
    for i in range(w.reg[N_MAPS]):
        if calls.page[w.maps[i]] == page and calls.seen[w.maps[i]] == slot:
            return True
    return False


@part
def was_there(
    w: Work,
    calls: Calls,
    kinds: NDArray[np.uint8],
    who: NDArray[np.int64],
    at: int,
    call: int,
    free: int,
) -> bool:
    """Tell a hit on a mapping from before the trace from a new mapping far ahead.

    After a new mapping the next one lies behind it; after a hit it is at `free` or little later.
    A page that a call may have mapped first, for it had entered before this one returned, tells
    nothing by its lower slot.
    """
    for i in range(at + 1, min(at + LOOKAHEAD, kinds.shape[0])):
        if kinds[i] == RETURN_MAP:
            other = who[i]
            page = calls.page[other]
            seen = calls.seen[other]
            if colour_of(w.pool, page) != colour_of(w.pool, calls.page[call]):
                continue
            if page != calls.page[call] and seen >= 0 and w.pool.slot[page] < 0:
                is_lower = free <= seen < calls.seen[call]
                if is_lower and _may_have_mapped(w, calls, page, seen):
                    continue
                return is_lower
    return False


@part
def diverge(w: Work, calls: Calls, call: int, slot: int, key: int) -> None:
    """No order explains the slot that a call returned.

    The model's prediction, `slot`, stands, and what was observed is taken over for what follows.
    """
    page, seen = calls.page[call], calls.seen[call]
    w.reg[DIVERGED_CALLS] += 1
    mark(w, call, DIVERGED)
    if slot == ASLEEP:
        give_up(w, call)
    count = 2
    if w.pool.slot[page] >= 0:
        count = w.pool.counts[w.pool.slot[page]]
    settle_limbo(w, calls, seen)
    w.doubt[seen] = KNOWN
    place(w.pool, page, seen, count)
    emit(w, PLACE, page, seen, count, key + 1, -1)
    set_cursor(w, colour_of(w.pool, page), seen, key + 2)


@part
def give_up(w: Work, call: int) -> None:
    """The call returned, though the model lets it sleep."""
    w.placed[call] = True
    w.reg[N_MAPS] = forget(w.maps, w.reg[N_MAPS], call)


@part
def first_after_flush(pool: Pool, colour: int) -> int:
    """First slot of a lane that would be free after flush_all_zero_pkmaps; its end if none."""
    first, end = lane(pool, colour)
    for slot in range(first, end):
        if pool.counts[slot] <= 1:
            return slot
    return end
