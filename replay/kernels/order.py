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

The output is a sequence for :mod:`replay.kernels.sequence`, which replays it without seeing any
observed address. What was decided by looking at one is marked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from replay.kernels.compiled import kernel
from replay.kernels.placing import (
    AT_PASS,
    CURSOR_KNOWN,
    DIVERGED_PASSES,
    DOUBT,
    DOUBT_FLUSHED,
    END_UNMAP,
    ENTER_MAP,
    ENTER_UNMAP,
    INITIAL,
    KNOWN,
    LOSS,
    MOVED_UNMAPS,
    N_MAPS,
    N_UNMAPS,
    NEVER_RETURNED,
    ORDERED,
    PASS,
    PASS_KEY,
    RETURN_MAP,
    SUB,
    Calls,
    Work,
    commit,
    emit,
    explain,
    find_in_use,
    first_after_flush,
    forget,
    free_ahead,
    give_up,
    mark,
    move,
    other_way,
    pending_map,
    revive,
    serve,
    set_cursor,
    settle_limbo,
    was_there,
)
from replay.kernels.pool import (
    LAST,
    UNKNOWN,
    Pool,
    colour_of,
    drop,
    flush_all_zero_pkmaps,
    kunmap_high,
    lane,
    next_free,
    place,
    set_count,
)
from replay.kernels.sequence import (
    FLUSH_UNUSED,
    PLACE,
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


@kernel
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
    if not w.reg[CURSOR_KNOWN + colour] and not calls.pin[call]:
        mark(w, call, INITIAL)
        set_cursor(w, colour, seen - 1, key)
        w.reg[CURSOR_KNOWN + colour] = 1
        if pool.counts[seen] != 0:
            drop(pool, seen)
            emit(w, RELEASE, -1, seen, 0, key, -1)
        return AGAIN
    free = free_ahead(pool, colour)
    if free == seen and not calls.pin[call]:
        return SERVED
    if w.limbo_slot[page] == seen:
        revive(w, seen, 1)
        mark(w, call, ORDERED)
        return AGAIN
    ahead = free < seen and free > pool.reg[LAST + colour]
    if free == lane(pool, colour)[1]:
        # A flush that the trace does not show (it is not probed, or it was lost).
        free = first_after_flush(pool, colour)
        if free == seen and not calls.pin[call]:
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


@kernel
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
    serve(w, calls, call, at * SUB + min(looks, SUB - 4), finding == SERVED)
    if not w.placed[call]:
        give_up(w, call)


@kernel
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
    if calls.pin[call] and w.pool.slot[calls.page[call]] < 0:
        # Somebody mapped the page before: a call that has not returned yet, if it is pending.
        for i in range(w.reg[N_MAPS]):
            other = w.maps[i]
            same = calls.page[other] == calls.page[call] and not calls.pin[other]
            if same and calls.seen[other] == calls.seen[call]:
                _settle(w, calls, kinds, who, at, other)
                mark(w, other, ORDERED)
                break
    _settle(w, calls, kinds, who, at, call)


@kernel
def _commit_hits(w: Work, calls: Calls, but: int, key: int) -> None:
    """Serve before a flush the kmaps that found a stale mapping which the flush would free.

    A call that returned the slot of its page's stale mapping found it; had the flush come first,
    the slot would be the same only by chance, and if the kmap that flushes got it, certainly not.
    """
    i = 0
    while i < w.reg[N_MAPS]:
        call = w.maps[i]
        seen = calls.seen[call]
        excluded = (
            call == but
            or calls.last_pass[call] >= key // SUB
            or (but >= 0 and calls.seen[but] == seen)
        )
        in_limbo = w.limbo_slot[calls.page[call]] == seen >= 0
        colour = colour_of(w.pool, calls.page[call])
        in_limbo = in_limbo and free_ahead(w.pool, colour) != seen
        if not excluded and in_limbo and not other_way(w):
            # Found a mapping that the flush before would have freed: its kunmap() came later.
            revive(w, seen, 1)
        slot = w.pool.slot[calls.page[call]]
        is_hit = not excluded and slot >= 0 and w.pool.counts[slot] == 1 and seen == slot
        if is_hit and not other_way(w):
            commit(w, calls, call, key)
            mark(w, call, ORDERED)
        else:
            i += 1


@kernel
def _enter_limbo(w: Work, calls: Calls) -> None:
    """Before a flush: slots that it frees only if an unfinished kunmap came before it."""
    for slot in range(w.doubt.shape[0]):
        if w.doubt[slot] == DOUBT:
            w.doubt[slot] = DOUBT_FLUSHED
    for i in range(w.reg[N_UNMAPS]):
        unmap = w.unmaps[i]
        slot = w.pool.slot[calls.page[unmap]]
        if slot >= 0 and w.pool.counts[slot] == 1 and w.row_of[unmap] >= 0:
            w.limbo_page[slot] = calls.page[unmap]
            w.limbo_unmap[slot] = unmap
            w.limbo_slot[calls.page[unmap]] = slot


@kernel
def _collapse_limbo(w: Work) -> None:
    """Before a flush: slots whose unmap has certainly happened are free whatever came first."""
    for slot in range(w.limbo_page.shape[0]):
        if w.limbo_page[slot] >= 0:
            pending = False
            for i in range(w.reg[N_UNMAPS]):
                pending = pending or w.unmaps[i] == w.limbo_unmap[slot]
            if not pending:
                settle_limbo(w, slot)


@kernel
def _commit_before(w: Work, calls: Calls, but: int, own: int, at: int, key: int) -> None:
    """Serve before a flush the kmaps that got the next slot though the flush frees a lower one.

    That is so in every lane but that of the colour `own`, whose cursor has passed its last slot.
    """
    sub = 0
    for colour in range(w.pool.reg.shape[0] - LAST):
        end = lane(w.pool, colour)[1]
        while colour != own and w.reg[CURSOR_KNOWN + colour] and sub < AT_PASS // 2:
            before = free_ahead(w.pool, colour)
            after = before
            for slot in range(w.pool.reg[LAST + colour] + 1, before):
                if w.pool.counts[slot] == 1:
                    after = slot
                    break
            in_limbo = before < end and w.limbo_page[before] >= 0
            if after == before and not in_limbo:
                break
            if after == before:
                # Perhaps the flush before left that one, because its kunmap() came later.
                further = next_free(w.pool, before + 1, end)
                call = pending_map(w, calls, before, but, at)
                taken = call >= 0 and calls.seen[call] == before
                call = pending_map(w, calls, further, but, at)
                if taken or call < 0 or calls.seen[call] != further or other_way(w):
                    break
                revive(w, before, 1)
                mark(w, call, ORDERED)
                continue
            call = pending_map(w, calls, before, but, at)
            if call < 0 or calls.seen[call] != before or other_way(w):
                break
            commit(w, calls, call, key + sub)
            mark(w, call, ORDERED)
            sub += 1


@kernel
def _flush_unused(w: Work, calls: Calls, nobody: int, at: int) -> None:
    """Flush caused by kmap_flush_unused(), which does not move the cursor."""
    key = at * SUB
    _commit_before(w, calls, nobody, -1, at, key)
    _commit_hits(w, calls, nobody, key + AT_PASS - 1)
    _collapse_limbo(w)
    _enter_limbo(w, calls)
    emit(w, FLUSH_UNUSED, -1, -1, 0, key + AT_PASS, -1)
    flush_all_zero_pkmaps(w.pool)
    w.reg[PASS_KEY] = key + AT_PASS


@kernel
def _defer_unmap(w: Work, calls: Calls, slot: int, deferred: NDArray[np.int64], n: int) -> int:
    """Put an unfinished kunmap of a stale slot behind the flush: the slot stays mapped."""
    for i in range(w.reg[N_UNMAPS]):
        unmap = w.unmaps[i]
        if w.pool.slot[calls.page[unmap]] == slot and w.row_of[unmap] >= 0:
            set_count(w.pool, slot, 2)
            deferred[n] = unmap
            return n + 1
    return n


@kernel
def _wrap(w: Work, calls: Calls, call: int, at: int) -> None:
    """Flush inside kmap_high(): the cursor has passed the last slot, the lock is held."""
    pool = w.pool
    colour = colour_of(pool, calls.page[call])
    end = lane(pool, colour)[1]
    key = at * SUB
    final = calls.final_pass[call] == at
    target = calls.seen[call] if final else -1
    sub = 0
    if not w.reg[CURSOR_KNOWN + colour]:
        set_cursor(w, colour, end - 1, key)
        w.reg[CURSOR_KNOWN + colour] = 1
        mark(w, call, INITIAL)
    # Everything free ahead of the cursor had been taken.
    free = free_ahead(pool, colour)
    while free < end:
        if not explain(w, calls, free, call, key + min(sub, AT_PASS - 4)):
            w.reg[DIVERGED_PASSES] += 1
            set_cursor(w, colour, end - 1, key + AT_PASS - 3)
        sub += 1
        free = free_ahead(pool, colour)
    _commit_before(w, calls, call, colour, at, key + AT_PASS // 2 - 4)
    _commit_hits(w, calls, call, key + AT_PASS - 3)
    _collapse_limbo(w)
    mapped = pool.slot[calls.page[call]]
    if mapped >= 0:
        # The kernel looked and found no address, the model has one.
        w.reg[DIVERGED_PASSES] += 1
        drop(pool, mapped)
        emit(w, RELEASE, -1, mapped, 0, key + AT_PASS - 3, -1)
    # Whatever is free after the flush and was not given to this call must have been held.
    deferred = w.deferred
    n_deferred = 0
    while True:
        free = first_after_flush(pool, colour)
        if free == end or (final and (free == target or target < 0)):
            break
        if pool.counts[free] == 1:
            before = n_deferred
            n_deferred = _defer_unmap(w, calls, free, deferred, n_deferred)
            if n_deferred > before:
                continue
        elif w.doubt[free]:
            w.doubt[free] = DOUBT_FLUSHED
            find_in_use(w, -1, free, key + AT_PASS - 2)
            mark(w, call, INITIAL)
            continue
        elif w.limbo_page[free] >= 0 and n_deferred < deferred.shape[0]:
            unmap = w.limbo_unmap[free]
            revive(w, free, 2)
            deferred[n_deferred] = unmap
            n_deferred += 1
            continue
        if final:
            break
        w.reg[DIVERGED_PASSES] += 1
        page = pool.page[free]
        place(pool, page, free, 2)
        emit(w, PLACE, page, free, 2, key + AT_PASS - 2, -1)
    _enter_limbo(w, calls)
    w.reg[PASS_KEY] = key + AT_PASS
    explained = not final or target < 0 or free in (target, end)
    serve(w, calls, call, key + AT_PASS, explained)
    for i in range(n_deferred):
        kunmap_high(pool, calls.page[deferred[i]])
        move(w, w.row_of[deferred[i]], key + AT_PASS + 1)
        w.reg[MOVED_UNMAPS] += 1
        mark(w, call, ORDERED)


@kernel
def _enter_unmap(w: Work, calls: Calls, call: int, at: int) -> None:
    """A kunmap entered: it takes effect here unless a later flush says otherwise."""
    page = calls.page[call]
    if w.pool.slot[page] < 0 and w.limbo_slot[page] >= 0:
        revive(w, w.limbo_slot[page], 2)  # somebody still uses the mapping
    if kunmap_high(w.pool, page) == UNKNOWN:
        return  # mapped before the trace began, or its kmap was lost
    emit(w, UNMAP, page, -1, 0, at * SUB, call)
    if w.reg[N_UNMAPS] < w.unmaps.shape[0]:
        w.unmaps[w.reg[N_UNMAPS]] = call
        w.reg[N_UNMAPS] += 1


@kernel
def _unknown_state(w: Work) -> None:
    """Nothing is known of the pool."""
    reset(w.pool)
    w.doubt[:] = DOUBT
    w.limbo_page[:] = -1
    w.limbo_slot[:] = -1
    w.reg[N_UNMAPS] = 0
    w.reg[CURSOR_KNOWN:] = 0


@kernel
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
    elif kind == PASS:
        if call >= 0 and not w.placed[call]:
            _wrap(w, calls, call, at)
        else:
            _flush_unused(w, calls, min(call, -1), at)
    elif kind == LOSS:
        _unknown_state(w)
        emit(w, RESET, -1, -1, 0, at * SUB, -1)
    else:
        load(w.pool, snapshot)
        w.doubt[:] = KNOWN
        w.limbo_page[:] = -1
        w.limbo_slot[:] = -1
        w.reg[N_UNMAPS] = 0
        w.reg[CURSOR_KNOWN:] = 1
        emit(w, SNAPSHOT, -1, -1, 0, at * SUB, -1)
