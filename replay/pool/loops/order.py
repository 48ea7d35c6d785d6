"""The order in which overlapping calls took the pool's lock.

A trace shows when a call entered and when it returned; the kernel served it somewhere between.
Neither order is the lock's. This loop chooses a point inside each call's interval such that the
model returns what the kernel returned (a linearisation; design.md section 5):

* kmap() at its return and kunmap() at its entry, unless something says otherwise;
* flush_all_zero_pkmaps is always entered under the lock: its entry is a fixed point, for itself
  and for the kmap() that caused it;
* new mappings take slots in rising order: of two overlapping kmap()s the one with the lower slot
  came first;
* a kunmap() that had entered but perhaps not got the lock when a flush ran leaves its slot in
  limbo: freed (the default) or stale. The next call that meets the slot decides.

The output is a sequence for :mod:`replay.pool.loops.sequence`, which replays it without seeing any
observed address. What was decided by looking at one is marked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from replay.compiled import part, piece
from replay.pool.loops.highmem import (
    LAST,
    UNKNOWN,
    Pool,
    colour_of,
    drop,
    kunmap_high,
    lane,
)
from replay.pool.loops.passes import flush_unused, wrap
from replay.pool.loops.placing import (
    CURSOR_KNOWN,
    DEFAULT,
    DOUBT,
    END_UNMAP,
    ENTER_MAP,
    ENTER_UNMAP,
    FREEING_PASS,
    INITIAL,
    KNOWN,
    LOSS,
    N_LIMBO,
    N_MAPS,
    N_UNMAPS,
    NEVER_RETURNED,
    ORDERED,
    PASS,
    QUIET_PASS,
    RETURN_MAP,
    SUB,
    TWICE,
    Calls,
    Work,
    commit_here,
    diverge,
    emit,
    explain,
    find_in_use,
    first_after_flush,
    forget,
    free_ahead,
    give_up,
    is_pin,
    mark,
    revive,
    set_cursor,
    was_there,
)
from replay.pool.loops.sequence import (
    RELEASE,
    RESET,
    SNAPSHOT,
    UNMAP,
    load,
    reset,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# What one look at a returning call finds
SERVED = 0  # the model gives it the observed slot now
AGAIN = 1  # something else came first and has been placed: look again
UNEXPLAINED = 2


@piece
def _look(
    w: Work,
    calls: Calls,
    kinds: NDArray[np.uint8],
    who: NDArray[np.int64],
    at: int,
    call: int,
    key: int,
) -> int:
    """Compare what a call got with what the model would give it now."""
    pool = w.pool
    page, seen = calls.page[call], calls.seen[call]
    colour = colour_of(pool, page)
    mapped = pool.slot[page]
    if mapped >= 0:
        return SERVED if mapped == seen else UNEXPLAINED
    if not w.reg[CURSOR_KNOWN + colour] and not is_pin(calls, call):
        mark(w, call, INITIAL)
        set_cursor(w, colour, seen - 1, key)
        w.reg[CURSOR_KNOWN + colour] = 1
        if pool.counts[seen] != 0:
            drop(pool, seen)
            emit(w, RELEASE, -1, seen, 0, key, -1)
        return AGAIN
    free = free_ahead(pool, colour)
    if free == seen and not is_pin(calls, call):
        return SERVED
    if w.limbo_slot[page] == seen:
        revive(w, seen, 1)
        mark(w, call, ORDERED)
        return AGAIN
    ahead = free < seen and free > pool.reg[LAST + colour]
    if free == lane(pool, colour)[1]:
        # A flush that the trace does not show (it is not probed, or it was lost).
        free = first_after_flush(pool, colour)
        if free == seen and not is_pin(calls, call):
            return SERVED
        ahead = free < seen
    anonymous = pool.page[seen] < 0 and pool.counts[seen] >= 1
    from_before = w.doubt[seen] != KNOWN or anonymous
    if from_before and (not ahead or was_there(w, calls, kinds, who, at, call, free)):
        find_in_use(w, page, seen, key)
        mark(w, call, INITIAL)
        return AGAIN
    if anonymous:
        drop(pool, seen)
        emit(w, RELEASE, -1, seen, 0, key, -1)
        mark(w, call, INITIAL)
        return AGAIN
    if ahead and pool.counts[free] == 0 and explain(w, calls, free, call, key):
        return AGAIN
    return UNEXPLAINED


@piece
def _settle(
    w: Work, calls: Calls, kinds: NDArray[np.uint8], who: NDArray[np.int64], at: int, call: int
) -> None:
    """Serve a call that has been served by now."""
    looks = 0
    finding = SERVED if calls.seen[call] < 0 else AGAIN
    while finding == AGAIN:
        finding = _look(w, calls, kinds, who, at, call, at * SUB + min(looks, SUB - 5))
        looks += 1
        if looks > 4 * w.pool.counts.shape[0]:
            finding = UNEXPLAINED
    key = at * SUB + min(looks, SUB - 4)
    slot = commit_here(w, calls, call, key)
    if finding != SERVED:
        diverge(w, calls, call, slot, key)
    if not w.placed[call]:
        give_up(w, call)


@part
def _mapper(w: Work, calls: Calls, call: int) -> int:
    """Whose mapping a kmap_high_get() found: a call that has not returned yet; -1 none pending."""
    if is_pin(calls, call) and w.pool.slot[calls.page[call]] < 0:
        for i in range(w.reg[N_MAPS]):
            other = w.maps[i]
            same = calls.page[other] == calls.page[call] and not is_pin(calls, other)
            if same and calls.seen[other] == calls.seen[call]:
                return other
    return -1


@piece
def _return_map(
    w: Work, calls: Calls, kinds: NDArray[np.uint8], who: NDArray[np.int64], at: int
) -> None:
    """A kmap returned: it has been served by now."""
    call = who[at]
    if w.placed[call]:
        return
    if calls.seen[call] == NEVER_RETURNED and w.row_of[call] >= 0:
        give_up(w, call)  # it has tried, and sleeps for ever
        return
    before = _mapper(w, calls, call)
    if before >= 0:
        mark(w, before, ORDERED)
    for settled in (before, call):
        if settled >= 0:
            _settle(w, calls, kinds, who, at, settled)


@piece
def _is_coming(w: Work, calls: Calls, page: int) -> bool:
    """Whether a kmap() of the page has entered and not been placed yet."""
    for n in range(w.reg[N_MAPS]):  # noqa: SIM110  (compiled)
        if calls.page[w.maps[n]] == page:
            return True
    return False


@piece
def _enter_unmap(w: Work, calls: Calls, call: int, at: int) -> None:
    """A kunmap entered: it takes effect here unless a later flush says otherwise."""
    page = calls.page[call]
    if w.pool.slot[page] < 0 and w.limbo_slot[page] >= 0:
        revive(w, w.limbo_slot[page], 2)  # somebody still uses the mapping
    if kunmap_high(w.pool, page) == UNKNOWN:  # mapped before the trace began, or its kmap was lost
        if w.pool.slot[page] >= 0 and not _is_coming(w, calls, page):
            mark(w, call, TWICE)
        return
    if w.status[call] == TWICE:  # an order that was tried before
        w.status[call] = DEFAULT
    emit(w, UNMAP, page, -1, 0, at * SUB, call)
    if w.reg[N_UNMAPS] < w.unmaps.shape[0]:
        w.unmaps[w.reg[N_UNMAPS]] = call
        w.reg[N_UNMAPS] += 1


@piece
def _unknown_state(w: Work) -> None:
    """Nothing is known of the pool."""
    reset(w.pool)
    w.doubt[:] = DOUBT
    w.limbo_page[:] = -1
    w.limbo_slot[:] = -1
    w.reg[N_LIMBO] = 0
    w.reg[N_UNMAPS] = 0
    w.reg[CURSOR_KNOWN:] = 0


@piece
def handle(
    w: Work,
    snapshot: Pool,
    calls: Calls,
    kinds: NDArray[np.uint8],
    who: NDArray[np.int64],
    at: int,
) -> None:
    """Take one event of the stream into account.

    Parameters
    ----------
    w
        State, changed in place.
    snapshot
        State at a SNAP event.
    calls
        The calls of kmap, kunmap and kmap_high_get; one of the last that found a mapping is
        placed as a kmap.
    kinds, who : ndarray of uint8, int64, shape (n,)
        Stream events in trace order: kind, and call (-1 none).
    at
        Position of the event.
    """
    kind = kinds[at]
    call = who[at]
    if kind == ENTER_MAP:
        if w.reg[N_MAPS] < w.maps.shape[0]:
            w.maps[w.reg[N_MAPS]] = call
            w.reg[N_MAPS] += 1
    elif kind == RETURN_MAP:
        _return_map(w, calls, kinds, who, at)
    elif kind == ENTER_UNMAP:
        _enter_unmap(w, calls, call, at)
    elif kind == END_UNMAP:
        w.reg[N_UNMAPS] = forget(w.unmaps, w.reg[N_UNMAPS], call)
    elif kind in (PASS, QUIET_PASS, FREEING_PASS):
        if call >= 0 and not w.placed[call]:
            wrap(w, calls, kind, call, at)
        else:
            flush_unused(w, calls, kind, min(call, -1), at)
    elif kind == LOSS:
        _unknown_state(w)
        emit(w, RESET, -1, -1, 0, at * SUB, -1)
    else:
        load(w.pool, snapshot)
        w.doubt[:] = KNOWN
        w.limbo_page[:] = -1
        w.limbo_slot[:] = -1
        w.reg[N_LIMBO] = 0
        w.reg[N_UNMAPS] = 0
        w.reg[CURSOR_KNOWN:] = 1
        emit(w, SNAPSHOT, -1, -1, 0, at * SUB, -1)
