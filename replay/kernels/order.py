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

from typing import TYPE_CHECKING, NamedTuple

from replay.kernels.compiled import kernel
from replay.kernels.pool import (
    ASLEEP,
    LAST,
    UNKNOWN,
    Pool,
    drop,
    flush_all_zero_pkmaps,
    kmap_high,
    kunmap_high,
    next_free,
    place,
    set_count,
)
from replay.kernels.sequence import (
    CURSOR,
    FLUSH_UNUSED,
    GET,
    MAP,
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

# Kinds of stream events
ENTER_MAP = 0
RETURN_MAP = 1
ENTER_UNMAP = 2
END_UNMAP = 3  # the latest time at which the unmap can have happened
PASS = 4  # flush_all_zero_pkmaps; the call is the kmap that it is part of, or -1
GET_MAP = 5  # kmap_high_get that found a mapping
LOSS = 6
SNAP = 7

# How a call's place was found
DEFAULT = 0
ORDERED = 1  # an observed address decided the order of overlapping calls
INITIAL = 2  # an observed address told something of the initial state
DIVERGED = 3  # no order explains what was observed

# What is not known of a slot's initial state (Work.doubt)
KNOWN = 0
DOUBT = 1  # taken for free; may be stale or held
DOUBT_FLUSHED = 2  # taken for free since a flush; may be held, for a stale one is free now

# Positions in Work.reg
N_OUT = 0
N_MAPS = 1
N_UNMAPS = 2
CURSOR_KNOWN = 3
PASS_KEY = 4
MOVED_UNMAPS = 5
DIVERGED_PASSES = 6
STRAY_UNMAPS = 7
ASSUMED_FREE = 8
DIVERGED_CALLS = 9
N_CHOICES = 10
N_MOVES = 11
REGISTERS = 12

# Columns of Work.out
CODE, PAGE, SLOT, COUNT, KEY, CALL = range(6)
SUB = 1024  # keys per stream event
AT_PASS = 512  # key of the flush inside its stream event: what came before has a lower one
MAX_PENDING = 65536
LOOKAHEAD = 256


class Calls(NamedTuple):
    """The calls, one element each.

    Attributes
    ----------
    page : ndarray of int64
        Dense page number.
    seen : ndarray of int64
        Slot that the kernel returned, -1 unknown.
    flushed_in : ndarray of int64
        Stream position of the last PASS before the return, whoever made it.
    last_pass : ndarray of int64
        Stream position of the last PASS inside the call, -1 none: it was not served before.
    final_pass : ndarray of int64
        The same if the call was served there, -1 if that attempt failed too.
    """

    page: NDArray[np.int64]
    seen: NDArray[np.int64]
    flushed_in: NDArray[np.int64]
    last_pass: NDArray[np.int64]
    final_pass: NDArray[np.int64]


class Work(NamedTuple):
    """State of the search."""

    pool: Pool
    doubt: NDArray[np.uint8]  # per slot: KNOWN, DOUBT, DOUBT_FLUSHED
    limbo_page: NDArray[np.int64]  # per slot: page that may still be mapped there, -1
    limbo_unmap: NDArray[np.int64]  # per slot: the unmap whose place decides that
    limbo_slot: NDArray[np.int64]  # per page: its slot in limbo, -1
    maps: NDArray[np.int64]  # calls of kmap that have entered and are not placed
    unmaps: NDArray[np.int64]  # calls of kunmap that may not have happened yet
    placed: NDArray[np.bool_]  # per call
    status: NDArray[np.uint8]  # per call
    row_of: NDArray[np.int64]  # per call: its row in out
    deferred: NDArray[np.int64]  # scratch: unmaps that a flush is put before
    choices: NDArray[np.int64]  # which way to go at each open question since the checkpoint
    moves: NDArray[np.int64]  # (capacity, 2): rows of out whose key changed since, and old key
    out: NDArray[np.int64]  # (capacity, 6)
    reg: NDArray[np.int64]


@kernel
def _emit(w: Work, code: int, page: int, slot: int, count: int, key: int, call: int) -> None:
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


@kernel
def _mark(w: Work, call: int, status: int) -> None:
    w.status[call] = max(w.status[call], status)


@kernel
def _other_way(w: Work) -> bool:
    """Answer of the search to the next open question: False is the likely way."""
    question = w.reg[N_CHOICES]
    w.reg[N_CHOICES] = question + 1
    return question < w.choices.shape[0] and w.choices[question] == 1


@kernel
def _move(w: Work, row: int, key: int) -> None:
    """Put an operation of the output elsewhere, in a way that can be taken back."""
    if w.reg[N_MOVES] < w.moves.shape[0]:
        w.moves[w.reg[N_MOVES], 0] = row
        w.moves[w.reg[N_MOVES], 1] = w.out[row, KEY]
        w.reg[N_MOVES] += 1
    w.out[row, KEY] = key


@kernel
def _forget(pending: NDArray[np.int64], length: int, call: int) -> int:
    """Take a call off a list of pending ones, keeping their order; return the new length."""
    for i in range(length):
        if pending[i] == call:
            for j in range(i, length - 1):
                pending[j] = pending[j + 1]
            return length - 1
    return length


@kernel
def _settle_limbo(w: Work, slot: int) -> None:
    """The slot's page is certainly unmapped."""
    page = w.limbo_page[slot]
    if page >= 0:
        w.limbo_slot[page] = -1
        w.limbo_page[slot] = -1


@kernel
def _commit(w: Work, calls: Calls, call: int, key: int) -> int:
    """Serve a kmap here; return its slot or ASLEEP."""
    page = calls.page[call]
    is_new = w.pool.slot[page] < 0
    slot = kmap_high(w.pool, page)
    _emit(w, MAP, page, -1, 0, key, call)
    if slot != ASLEEP:
        _settle_limbo(w, slot)
        if w.limbo_slot[page] >= 0:
            _settle_limbo(w, w.limbo_slot[page])
        if is_new:
            w.reg[ASSUMED_FREE] += w.doubt[slot] != KNOWN and w.status[call] < INITIAL
            w.doubt[slot] = KNOWN
        w.placed[call] = True
        w.reg[N_MAPS] = _forget(w.maps, w.reg[N_MAPS], call)
    return slot


@kernel
def _revive(w: Work, slot: int, count: int) -> None:
    """The unmap in limbo happened after the last flush: its page is still mapped."""
    page = w.limbo_page[slot]
    unmap = w.limbo_unmap[slot]
    _settle_limbo(w, slot)
    place(w.pool, page, slot, count)
    _move(w, w.row_of[unmap], w.reg[PASS_KEY] + 1)
    w.reg[MOVED_UNMAPS] += 1


@kernel
def _pending_map(w: Work, calls: Calls, slot: int, but: int, at: int) -> int:
    """A pending kmap that was given `slot` (else one with unknown result) for a new mapping."""
    unseen = -1
    later = -1
    for i in range(w.reg[N_MAPS]):
        call = w.maps[i]
        if call != but and calls.last_pass[call] < at and w.pool.slot[calls.page[call]] < 0:
            if calls.seen[call] == slot:
                if calls.flushed_in[call] <= at:
                    return call  # no flush comes that could give it the slot once more
                if later < 0:
                    later = call
            if calls.seen[call] < 0 and unseen < 0:
                unseen = call
    if later >= 0:
        return later
    return unseen


@kernel
def _find_in_use(w: Work, page: int, slot: int, key: int) -> None:
    """A slot in doubt turns out to be in use: stale, or held if it outlived a flush."""
    count = 1 if w.doubt[slot] == DOUBT else 2
    if count == 2:
        w.doubt[slot] = KNOWN
    place(w.pool, page, slot, count)
    _emit(w, PLACE, page, slot, count, key, -1)


@kernel
def _explain(w: Work, calls: Calls, slot: int, call: int, key: int) -> bool:
    """Say why `call` did not get the free `slot`: somebody else had it. False: no reason."""
    other = _pending_map(w, calls, slot, call, key // SUB)
    in_question = w.doubt[slot] != KNOWN or w.limbo_page[slot] >= 0
    if other >= 0 and in_question and _other_way(w):
        other = -1
    if other >= 0 and next_free(w.pool, w.pool.reg[LAST] + 1) == slot:
        _commit(w, calls, other, key)
        _mark(w, other, ORDERED)
        return True
    if w.doubt[slot]:
        _find_in_use(w, -1, slot, key)
        _mark(w, call, INITIAL)
        return True
    if w.limbo_page[slot] >= 0:
        _revive(w, slot, 1)
        _mark(w, call, ORDERED)
        return True
    return False


@kernel
def _was_there(
    w: Work, calls: Calls, kinds: NDArray[np.uint8], who: NDArray[np.int64], at: int, free: int
) -> bool:
    """Tell a hit on a mapping from before the trace from a new mapping far ahead.

    After a new mapping the next one lies behind it; after a hit it is at `free` or little later.
    """
    call = who[at]
    for i in range(at + 1, min(at + LOOKAHEAD, kinds.shape[0])):
        if kinds[i] == RETURN_MAP:
            other = who[i]
            page = calls.page[other]
            seen = calls.seen[other]
            if page != calls.page[call] and seen >= 0 and w.pool.slot[page] < 0:
                return free <= seen < calls.seen[call]
    return False


@kernel
def _serve(w: Work, calls: Calls, call: int, key: int, explained: bool) -> None:  # noqa: FBT001
    """Serve a kmap here for good.

    If no order explains the slot that it returned, the model's prediction stands, and what was
    observed is taken over for what follows.
    """
    slot = _commit(w, calls, call, key)
    if explained:
        return
    page, seen = calls.page[call], calls.seen[call]
    w.reg[DIVERGED_CALLS] += 1
    _mark(w, call, DIVERGED)
    if slot == ASLEEP:
        _give_up(w, call)
    count = 2
    if w.pool.slot[page] >= 0:
        count = w.pool.counts[w.pool.slot[page]]
    _settle_limbo(w, seen)
    w.doubt[seen] = KNOWN
    place(w.pool, page, seen, count)
    _emit(w, PLACE, page, seen, count, key + 1, -1)
    w.pool.reg[LAST] = seen
    _emit(w, CURSOR, -1, seen, 0, key + 2, -1)


@kernel
def _give_up(w: Work, call: int) -> None:
    """The call returned, though the model lets it sleep."""
    w.placed[call] = True
    w.reg[N_MAPS] = _forget(w.maps, w.reg[N_MAPS], call)


@kernel
def _first_after_flush(pool: Pool) -> int:
    """First slot that would be free after flush_all_zero_pkmaps; the pool's size if none."""
    for slot in range(pool.counts.shape[0]):
        if pool.counts[slot] <= 1:
            return slot
    return pool.counts.shape[0]


# What one look at a returning call finds
SERVED = 0  # the model gives it the observed slot now
AGAIN = 1  # something else came first and has been placed: look again
UNEXPLAINED = 2


@kernel
def _look(
    w: Work, calls: Calls, kinds: NDArray[np.uint8], who: NDArray[np.int64], at: int, key: int
) -> int:
    """Compare what a returning call got with what the model would give it now."""
    call = who[at]
    pool = w.pool
    slots = pool.counts.shape[0]
    page, seen = calls.page[call], calls.seen[call]
    mapped = pool.slot[page]
    if mapped >= 0:
        return SERVED if mapped == seen else UNEXPLAINED
    if not w.reg[CURSOR_KNOWN]:
        _mark(w, call, INITIAL)
        pool.reg[LAST] = seen - 1
        _emit(w, CURSOR, -1, seen - 1, 0, key, -1)
        w.reg[CURSOR_KNOWN] = 1
        if pool.counts[seen] != 0:
            drop(pool, seen)
            _emit(w, RELEASE, -1, seen, 0, key, -1)
        return AGAIN
    free = next_free(pool, pool.reg[LAST] + 1)
    if free == seen:
        return SERVED
    if w.limbo_slot[page] == seen:
        _revive(w, seen, 1)
        _mark(w, call, ORDERED)
        return AGAIN
    ahead = free < seen and free > pool.reg[LAST]
    if free == slots:
        # A flush that the trace does not show (it is not probed, or it was lost).
        free = _first_after_flush(pool)
        if free == seen:
            return SERVED
        ahead = free < seen
    anonymous = pool.page[seen] < 0 and pool.counts[seen] >= 1
    from_before = w.doubt[seen] != KNOWN or anonymous
    if from_before and (not ahead or _was_there(w, calls, kinds, who, at, free)):
        _find_in_use(w, page, seen, key)
        _mark(w, call, INITIAL)
        return AGAIN
    if anonymous:
        drop(pool, seen)
        _emit(w, RELEASE, -1, seen, 0, key, -1)
        _mark(w, call, INITIAL)
        return AGAIN
    if ahead and pool.counts[free] == 0 and _explain(w, calls, free, call, key):
        return AGAIN
    return UNEXPLAINED


@kernel
def _return_map(
    w: Work, calls: Calls, kinds: NDArray[np.uint8], who: NDArray[np.int64], at: int
) -> None:
    """A kmap returned: it has been served by now."""
    call = who[at]
    if w.placed[call]:
        return
    looks = 0
    finding = SERVED if calls.seen[call] < 0 else AGAIN
    while finding == AGAIN:
        finding = _look(w, calls, kinds, who, at, at * SUB + min(looks, SUB - 5))
        looks += 1
        if looks > 4 * w.pool.counts.shape[0]:
            finding = UNEXPLAINED
    _serve(w, calls, call, at * SUB + min(looks, SUB - 4), finding == SERVED)
    if not w.placed[call]:
        _give_up(w, call)


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
        in_limbo = in_limbo and next_free(w.pool, w.pool.reg[LAST] + 1) != seen
        if not excluded and in_limbo and not _other_way(w):
            # Found a mapping that the flush before would have freed: its kunmap() came later.
            _revive(w, seen, 1)
        slot = w.pool.slot[calls.page[call]]
        is_hit = not excluded and slot >= 0 and w.pool.counts[slot] == 1 and seen == slot
        if is_hit and not _other_way(w):
            _commit(w, calls, call, key)
            _mark(w, call, ORDERED)
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
                _settle_limbo(w, slot)


@kernel
def _flush_unused(w: Work, calls: Calls, nobody: int, at: int) -> None:
    """Flush caused by kmap_flush_unused(), which does not move the cursor."""
    key = at * SUB
    sub = 0
    while w.reg[CURSOR_KNOWN] and sub < AT_PASS - 2:
        before = next_free(w.pool, w.pool.reg[LAST] + 1)
        after = before
        for slot in range(w.pool.reg[LAST] + 1, before):
            if w.pool.counts[slot] == 1:
                after = slot
                break
        if after == before:
            break
        call = _pending_map(w, calls, before, nobody, at)
        if call < 0 or calls.seen[call] != before or _other_way(w):
            break
        _commit(w, calls, call, key + sub)
        _mark(w, call, ORDERED)
        sub += 1
    _commit_hits(w, calls, nobody, key + AT_PASS - 1)
    _collapse_limbo(w)
    _enter_limbo(w, calls)
    _emit(w, FLUSH_UNUSED, -1, -1, 0, key + AT_PASS, -1)
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
    slots = pool.counts.shape[0]
    key = at * SUB
    final = calls.final_pass[call] == at
    target = calls.seen[call] if final else -1
    sub = 0
    if not w.reg[CURSOR_KNOWN]:
        pool.reg[LAST] = slots - 1
        _emit(w, CURSOR, -1, slots - 1, 0, key, -1)
        w.reg[CURSOR_KNOWN] = 1
        _mark(w, call, INITIAL)
    # Everything free ahead of the cursor had been taken.
    free = next_free(pool, pool.reg[LAST] + 1)
    while free < slots:
        if not _explain(w, calls, free, call, key + min(sub, AT_PASS - 4)):
            w.reg[DIVERGED_PASSES] += 1
            pool.reg[LAST] = slots - 1
            _emit(w, CURSOR, -1, slots - 1, 0, key + AT_PASS - 3, -1)
        sub += 1
        free = next_free(pool, pool.reg[LAST] + 1)
    _commit_hits(w, calls, call, key + AT_PASS - 3)
    _collapse_limbo(w)
    mapped = pool.slot[calls.page[call]]
    if mapped >= 0:
        # The kernel looked and found no address, the model has one.
        w.reg[DIVERGED_PASSES] += 1
        drop(pool, mapped)
        _emit(w, RELEASE, -1, mapped, 0, key + AT_PASS - 3, -1)
    # Whatever is free after the flush and was not given to this call must have been held.
    deferred = w.deferred
    n_deferred = 0
    while True:
        free = _first_after_flush(pool)
        if free == slots or (final and (free == target or target < 0)):
            break
        if pool.counts[free] == 1:
            before = n_deferred
            n_deferred = _defer_unmap(w, calls, free, deferred, n_deferred)
            if n_deferred > before:
                continue
        elif w.doubt[free]:
            w.doubt[free] = DOUBT_FLUSHED
            _find_in_use(w, -1, free, key + AT_PASS - 2)
            _mark(w, call, INITIAL)
            continue
        elif w.limbo_page[free] >= 0 and n_deferred < deferred.shape[0]:
            unmap = w.limbo_unmap[free]
            _revive(w, free, 2)
            deferred[n_deferred] = unmap
            n_deferred += 1
            continue
        if final:
            break
        w.reg[DIVERGED_PASSES] += 1
        page = pool.page[free]
        place(pool, page, free, 2)
        _emit(w, PLACE, page, free, 2, key + AT_PASS - 2, -1)
    _enter_limbo(w, calls)
    w.reg[PASS_KEY] = key + AT_PASS
    explained = not final or target < 0 or free in (target, slots)
    _serve(w, calls, call, key + AT_PASS, explained)
    for i in range(n_deferred):
        kunmap_high(pool, calls.page[deferred[i]])
        _move(w, w.row_of[deferred[i]], key + AT_PASS + 1)
        w.reg[MOVED_UNMAPS] += 1
        _mark(w, call, ORDERED)


@kernel
def _enter_unmap(w: Work, calls: Calls, call: int, at: int) -> None:
    """A kunmap entered: it takes effect here unless a later flush says otherwise."""
    page = calls.page[call]
    if w.pool.slot[page] < 0 and w.limbo_slot[page] >= 0:
        _revive(w, w.limbo_slot[page], 2)  # somebody still uses the mapping
    if kunmap_high(w.pool, page) == UNKNOWN:
        w.reg[STRAY_UNMAPS] += 1  # mapped before the trace began, or its kmap was lost
        return
    _emit(w, UNMAP, page, -1, 0, at * SUB, call)
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
    w.reg[CURSOR_KNOWN] = 0


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
        The calls of kmap, kunmap and kmap_high_get.
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
        w.reg[N_UNMAPS] = _forget(w.unmaps, w.reg[N_UNMAPS], call)
    elif kind == PASS:
        if call >= 0 and not w.placed[call]:
            _wrap(w, calls, call, at)
        else:
            _flush_unused(w, calls, min(call, -1), at)
    elif kind == GET_MAP:
        page = calls.page[call]
        slot = w.pool.slot[page]
        if slot >= 0:
            set_count(w.pool, slot, w.pool.counts[slot] + 1)
        _emit(w, GET, page, -1, 0, at * SUB, call)
    elif kind == LOSS:
        _unknown_state(w)
        _emit(w, RESET, -1, -1, 0, at * SUB, -1)
    else:
        load(w.pool, snapshot)
        w.doubt[:] = KNOWN
        w.limbo_page[:] = -1
        w.limbo_slot[:] = -1
        w.reg[N_UNMAPS] = 0
        w.reg[CURSOR_KNOWN] = 1
        _emit(w, SNAPSHOT, -1, -1, 0, at * SUB, -1)
