"""A run of flush_all_zero_pkmaps in the search for the lock order.

It is entered under the lock, so its place is certain, and the calls that overlap with it came
before or after. What tells: the addresses that they returned, and whether the kernel flushed the
TLB, which it does exactly if a slot was freed (mm/highmem.c: flush_all_zero_pkmaps). Both are
evidence for the order only; the replay of the order sees neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from replay.compiled import part
from replay.pool.loops.highmem import (
    LAST,
    STALE,
    colour_of,
    drop,
    flush_all_zero_pkmaps,
    kunmap_high,
    lane,
    next_free,
    place,
    set_count,
    touch,
)
from replay.pool.loops.placing import (
    AT_PASS,
    CURSOR_KNOWN,
    DIVERGED_PASSES,
    DOUBT,
    DOUBT_FLUSHED,
    FREEING_PASS,
    INITIAL,
    MOVED_UNMAPS,
    N_LIMBO,
    N_MAPS,
    N_UNMAPS,
    ONE_FREED,
    ORDERED,
    PASS_KEY,
    QUIET_PASS,
    SUB,
    TOLD_PASSES,
    Calls,
    Work,
    commit,
    diverge,
    emit,
    explain,
    find_in_use,
    first_after_flush,
    free_ahead,
    mark,
    move,
    other_way,
    pending_map,
    revive,
    set_cursor,
    settle_limbo,
)
from replay.pool.loops.sequence import (
    FLUSH_UNUSED,
    PLACE,
    RELEASE,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@part
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
            or calls.last_pass[call] >= calls.start + key // SUB
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


@part
def _pending_unmap(w: Work, calls: Calls, page: int) -> int:
    """The last kunmap of a page that may not have happened yet, -1 none."""
    found = -1
    for i in range(w.reg[N_UNMAPS]):
        if calls.page[w.unmaps[i]] == page and w.row_of[w.unmaps[i]] >= 0:
            found = w.unmaps[i]
    return found


@part
def _collapse_limbo(w: Work, calls: Calls) -> None:
    """Before a flush: slots whose unmap has certainly happened are free whatever came first."""
    for slot in range(w.limbo_page.shape[0]):
        if w.limbo_page[slot] >= 0:
            unmap = _pending_unmap(w, calls, w.limbo_page[slot])
            if unmap < 0:
                settle_limbo(w, calls, slot)
            else:
                touch(w.pool, slot)
                w.limbo_unmap[slot] = unmap


@part
def _sure(w: Work, calls: Calls) -> int:
    """Stale slots whose last kunmap has certainly happened."""
    sure = w.pool.reg[STALE]
    if sure:
        for slot in range(w.pool.counts.shape[0]):
            if w.pool.counts[slot] == 1 and _pending_unmap(w, calls, w.pool.page[slot]) >= 0:
                sure -= 1
    return sure


@part
def _enter_limbo(w: Work, calls: Calls, kind: int) -> None:
    """Before a flush: slots that it frees only if an unfinished kunmap came before it."""
    in_doubt = False
    for slot in range(w.doubt.shape[0]):
        if w.doubt[slot] == DOUBT:
            touch(w.pool, slot)
            w.doubt[slot] = DOUBT_FLUSHED
            in_doubt = True
    w.reg[ONE_FREED] = kind == FREEING_PASS and not in_doubt and _sure(w, calls) == 0
    for i in range(w.reg[N_UNMAPS]):
        unmap = w.unmaps[i]
        slot = w.pool.slot[calls.page[unmap]]
        if slot >= 0 and w.pool.counts[slot] == 1 and w.row_of[unmap] >= 0:
            touch(w.pool, slot)
            w.reg[N_LIMBO] += w.limbo_page[slot] < 0
            w.limbo_page[slot] = calls.page[unmap]
            w.limbo_unmap[slot] = unmap
            w.limbo_slot[calls.page[unmap]] = slot


@part
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


@part
def _defer_unmap(w: Work, calls: Calls, slot: int, deferred: NDArray[np.int64], n: int) -> int:
    """Put an unfinished kunmap of a stale slot behind the flush: the slot stays mapped."""
    for i in range(w.reg[N_UNMAPS]):
        unmap = w.unmaps[i]
        if w.pool.slot[calls.page[unmap]] == slot and w.row_of[unmap] >= 0:
            set_count(w.pool, slot, 2)
            deferred[n] = unmap
            return n + 1
    return n


@part
def _freed_nothing(w: Work, calls: Calls, kind: int, n: int) -> int:
    """If the kernel freed nothing, put the kunmaps of stale slots behind the flush.

    Returns the length of `w.deferred`.
    """
    if kind != QUIET_PASS or w.pool.reg[STALE] == 0:
        return n
    before = n
    for slot in range(w.pool.counts.shape[0]):
        if w.pool.counts[slot] == 1:
            n = _defer_unmap(w, calls, slot, w.deferred, n)
    w.reg[TOLD_PASSES] += n > before
    return n


@part
def _freed_something(w: Work, calls: Calls, kind: int) -> None:
    """If the kernel freed a slot and no slot is stale, the flush before left one in limbo.

    That is rather one whose kunmap is over. It is none if the flush before freed nothing else.
    """
    if kind != FREEING_PASS or w.pool.reg[STALE]:
        return
    found = -1
    over = -1
    number = 0
    for slot in range(w.limbo_page.shape[0]):
        page = w.limbo_page[slot]
        if page >= 0:
            number += 1
            found = slot
            if _pending_unmap(w, calls, page) < 0:
                over = slot
    if number > w.reg[ONE_FREED]:
        revive(w, over if over >= 0 else found, 1)
        w.reg[TOLD_PASSES] += 1


@part
def _end_deferred(w: Work, calls: Calls, n: int, key: int) -> None:
    """Carry out the kunmaps that were put behind the flush at `key`."""
    for i in range(n):
        kunmap_high(w.pool, calls.page[w.deferred[i]])
        move(w, w.row_of[w.deferred[i]], key + 1)
        w.reg[MOVED_UNMAPS] += 1


@part
def flush_unused(w: Work, calls: Calls, kind: int, nobody: int, at: int) -> None:
    """Flush caused by kmap_flush_unused(), which does not move the cursor."""
    key = at * SUB
    n_deferred = _freed_nothing(w, calls, kind, 0)
    _commit_before(w, calls, nobody, -1, at, key)
    _commit_hits(w, calls, nobody, key + AT_PASS - 1)
    _freed_something(w, calls, kind)
    _collapse_limbo(w, calls)
    _enter_limbo(w, calls, kind)
    emit(w, FLUSH_UNUSED, -1, -1, 0, key + AT_PASS, -1)
    flush_all_zero_pkmaps(w.pool)
    w.reg[PASS_KEY] = key + AT_PASS
    _end_deferred(w, calls, n_deferred, key + AT_PASS)


@part
def wrap(w: Work, calls: Calls, kind: int, call: int, at: int) -> None:
    """Flush inside kmap_high(): the cursor has passed the last slot, the lock is held."""
    pool = w.pool
    colour = colour_of(pool, calls.page[call])
    end = lane(pool, colour)[1]
    key = at * SUB
    final = calls.final_pass[call] == calls.start + at
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
    deferred = w.deferred
    n_deferred = _freed_nothing(w, calls, kind, 0)
    _commit_before(w, calls, call, colour, at, key + AT_PASS // 2 - 4)
    _commit_hits(w, calls, call, key + AT_PASS - 3)
    _freed_something(w, calls, kind)
    _collapse_limbo(w, calls)
    mapped = pool.slot[calls.page[call]]
    if mapped >= 0:
        # The kernel looked and found no address, the model has one.
        w.reg[DIVERGED_PASSES] += 1
        drop(pool, mapped)
        emit(w, RELEASE, -1, mapped, 0, key + AT_PASS - 3, -1)
    # Whatever is free after the flush and was not given to this call must have been held.
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
    _enter_limbo(w, calls, kind)
    w.reg[PASS_KEY] = key + AT_PASS
    explained = not final or target < 0 or free in (target, end)
    slot = commit(w, calls, call, key + AT_PASS)
    if not explained:
        diverge(w, calls, call, slot, key + AT_PASS)
    if n_deferred:
        mark(w, call, ORDERED)
    _end_deferred(w, calls, n_deferred, key + AT_PASS)
