"""Which answers no other state that fits the evidence would have given.

A request whose answer does not depend on the tree's shape gets the lowest place that fits, so the
more is free, the lower its answer (from the top down: the higher). What is free is known but for
three things, each of which only adds to it:

- A purge gives areas back one after another, on a CPU, while others allocate. All purges together
  give back one sequence of areas (vmap_purge_lock), and how far it had come is all that can
  differ. A request has one possible answer where the fewest areas that may have been back and the
  most of them lead to the same one.
- A free that was under way when a purge took the list may have reached it too late.
- /proc/vmallocinfo may lack areas that were in use or lazily freed. What the trace itself showed
  to be given back is known to be free; the rest of what the snapshot leaves free is in doubt once
  an answer contradicts it.

The order of overlapping calls is given (:mod:`replay.arena.loops.order`): with the same areas
back, every other order contradicts the address of another call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from replay.arena.loops.doubt import (
    carve_piece,
    certain_in_doubt,
    end_doubt_below,
    learn,
    lose,
    phase_after,
)
from replay.arena.loops.evidence import (
    ALIGN,
    ALIKE,
    ALONE,
    AREA,
    AREA_END,
    BUDGET,
    CLEAN,
    CONTRADICTED,
    DOUBT,
    EARLY,
    GIVEN,
    HI,
    LATE,
    LEARNT,
    LO,
    LOST,
    LOST_AT,
    OPEN,
    PATHS,
    PHASE,
    PIN,
    PINNED,
    SAME_PATH,
    SEEN,
    SHAPED,
    SINCE_ENTRY,
    SIZE,
    SURE,
    TAIL,
    TRUSTED,
    TRY,
    UNDECIDED,
    UNKNOWN,
    UNTIL,
    UNTOLD,
    WINDOW,
    Given,
    Ruling,
    answer_of,
    any_late,
    certainly_back,
    end_of_step,
    fewest_back,
    give_up_to,
    in_time,
    is_shaped,
    make_free,
    needed,
    perhaps_back,
    remember,
    span_of,
)
from replay.arena.loops.freetree import (
    END,
    FAIL,
    HIGH,
    NIL,
    SPARE,
    Forest,
    neighbours,
    take,
)
from replay.arena.loops.paths import carve_paths, follow_path
from replay.arena.loops.shapes import copy, count
from replay.compiled import loop, part

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@part
def _fill(full: Forest, room: Forest) -> None:
    """Make the tree of `room` equal to `full`."""
    room.reg[HIGH], room.reg[SPARE] = 0, NIL
    room.root[0] = NIL
    copy(full, 0, room, 0)


@part
def _at_fewest(full: Forest, room: Forest, g: Given, r: Ruling, least: int) -> None:
    """Make `room` what was free when only `least` areas were back."""
    _fill(full, room)
    for k in range(least, r.reg[GIVEN]):
        take(room, 0, g.area[k, 0], g.area[k, 1])
    for k in range(r.reg[GIVEN], least):
        make_free(room, g.area[k, 0], g.area[k, 1])


@part
def _most_that_explain(
    full: Forest, room: Forest, g: Given, r: Ruling, e: NDArray[np.int64], most: int
) -> int:  # fmt: skip
    """Areas that may have been back at most, for the call's answer to be what it was."""
    _fill(full, room)
    k = r.reg[GIVEN]
    while k < most:
        end = end_of_step(g, k)
        for n in range(k, end):
            make_free(room, g.area[n, 0], g.area[n, 1])
        r.reg[BUDGET] -= end - k
        if answer_of(room, e) != e[SEEN]:
            return k
        k = end
    return most


@part
def _compare(
    full: Forest, room: Forest, g: Given, r: Ruling, e: NDArray[np.int64], i: int, least: int,
    most: int,
) -> int:  # fmt: skip
    """Rule on a request during a purge; return the most areas that may have been back."""
    steps = 2 * count(full, 0) + most - least
    if r.reg[BUDGET] < steps:
        return most
    r.reg[BUDGET] -= steps
    _at_fewest(full, room, g, r, least)
    fewest, shaped = answer_of(room, e), is_shaped(room, e)
    r.answer[i] = fewest
    _fill(full, room)
    for k in range(r.reg[GIVEN], most):
        make_free(room, g.area[k, 0], g.area[k, 1])
    if shaped or is_shaped(room, e):
        return most
    if fewest == answer_of(room, e):
        r.found[i] |= SURE
        return most
    return _most_that_explain(full, room, g, r, e, most)


@part
def _is_free(f: Forest, start: int, end: int) -> bool:
    before, _ = neighbours(f, 0, start)
    return bool(before != NIL and f.node[before, END] >= end)


@part
def _after_the_others(
    full: Forest, room: Forest, event: NDArray[np.int64], i: int
) -> int:  # fmt: skip
    """What a call gets if all that were under way with it, and are served later, came before.

    With some of them before it, it gets that, what it gets now, or something in between. (From the
    top down the same.)
    """
    e = event[i]
    _fill(full, room)
    for n in range(i + 1, min(event.shape[0], i + 1 + WINDOW)):
        o = event[n]
        start, end = o[SEEN], o[SEEN] + o[SIZE]
        under_way = o[LO] <= e[HI] and o[HI] >= e[LO]
        if under_way and not o[TRY] and start >= 0 and _is_free(room, start, end):
            take(room, 0, start, end)
    return answer_of(room, e)


@part
def _rule(
    full: Forest, known: Forest, room: Forest, g: Given, r: Ruling, event: NDArray[np.int64],
    i: int,
) -> None:  # fmt: skip
    """Rule on one event, and note what it tells."""
    e = event[i]
    least = fewest_back(g, r, e[LO])
    most = max(min(perhaps_back(g, e[HI]), r.cap[i]), least, r.reg[GIVEN])
    r.most[i] = most
    if e[TRY]:
        _at_fewest(full, room, g, r, least)
        r.found[i] = SURE if answer_of(room, e) == FAIL else 0
        return
    span = span_of(g, least, most, e[LO], e[HI])
    if span != NIL and span == r.reg[PIN]:
        most = max(min(most, r.reg[PINNED]), least, r.reg[GIVEN])
    need = needed(g, e, least, most)
    give_up_to(full, known, g, r, need)
    least = min(least, r.reg[GIVEN])
    _rule_on_shape(full, g, r, e, i, told=least == most)
    if r.reg[PHASE] == DOUBT:
        r.answer[i] = answer_of(known, e)
        if least == most and certain_in_doubt(full, known, r, e):
            r.found[i] |= SURE
    elif least == most:
        if not r.found[i] & (SAME_PATH | ALIKE):
            r.answer[i] = answer_of(full, e)
        r.found[i] |= SURE
    else:
        r.found[i] |= OPEN
        most = _compare(full, room, g, r, e, i, least, most)
    r.most[i] = most
    if r.found[i] & SURE and _may_have_missed(full, known, room, g, r, e, r.answer[i]):
        r.found[i] = OPEN | r.found[i] & SHAPED
    explained = False  # then the order that was found is not the kernel's
    if r.found[i] & SURE and not e[ALONE] and r.answer[i] != e[SEEN]:
        last = _after_the_others(full, room, event, i)
        explained = last == e[SEEN]
        if last != r.answer[i]:
            r.found[i] = OPEN | r.found[i] & SHAPED
    if e[SEEN] == UNKNOWN:
        if r.found[i] & SURE and not is_shaped(full, e):
            _serve(full, known, r, e, r.answer[i])
        else:
            lose(r, UNTOLD)
        return
    if not explained:
        _check(full, g, r, e, i)
    if r.reg[PHASE] == DOUBT:
        learn(full, r, e)
    if span != NIL:
        r.reg[PIN], r.reg[PINNED] = span, most
    remember(r, e[HI], need)
    if e[SEEN] >= 0 and any_late(g, r, e):
        in_time(g, r, e)
    _serve(full, known, r, e, e[SEEN])


@part
def _rule_on_shape(
    full: Forest, g: Given, r: Ruling, e: NDArray[np.int64], i: int, told: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """Rule on what depends on the tree's shape, where the order of all that changed it is known.

    `told`: what purges have given back is.
    """
    shaped = is_shaped(full, e)
    if shaped:
        r.found[i] |= SHAPED
    if not e[ALONE] or e[SEEN] == UNKNOWN or r.reg[PHASE] != TRUSTED or any_late(g, r, e):
        r.reg[PATHS] = 0
    elif shaped and told:
        follow_path(full, r, e, i)


@part
def _may_have_missed(
    full: Forest, known: Forest, room: Forest, g: Given, r: Ruling, e: NDArray[np.int64],
    answer: int,
) -> bool:  # fmt: skip
    """Whether an answer rests on areas of which nothing tells whether a purge found them."""
    if not any_late(g, r, e):
        return False
    tree = full if r.reg[PHASE] == TRUSTED else known
    steps = 2 * (count(tree, 0) + g.late.shape[0] - r.reg[LATE])
    if r.reg[BUDGET] < steps:
        return True
    r.reg[BUDGET] -= steps
    _fill(tree, room)
    shaped = is_shaped(room, e)
    for k in range(r.reg[LATE], g.late.shape[0]):
        if g.late[k, SINCE_ENTRY] > e[HI]:
            break
        if g.late[k, UNTIL] >= e[LO] and not g.late[k, EARLY]:
            take(room, 0, g.late[k, AREA], g.late[k, AREA_END])
    if shaped or is_shaped(room, e) or answer_of(room, e) != answer:
        return True
    _fill(tree, room)
    for k in range(r.reg[LATE], g.late.shape[0]):
        if g.late[k, SINCE_ENTRY] > e[HI]:
            break
        if g.late[k, UNTIL] >= e[LO] and g.late[k, EARLY]:
            make_free(room, g.late[k, AREA], g.late[k, AREA_END])
    return bool(is_shaped(room, e) or answer_of(room, e) != answer)


@part
def _check(full: Forest, g: Given, r: Ruling, e: NDArray[np.int64], i: int) -> None:
    """See whether an answer contradicts what is known to be free."""
    place = answer_of(full, e)
    if is_shaped(full, e):
        if r.found[i] & SAME_PATH and r.answer[i] != e[SEEN]:
            lose(r, CONTRADICTED)
        return
    if r.reg[PHASE] == TRUSTED and place != e[SEEN]:
        after = phase_after(full, r, e, place)
        if after == DOUBT and r.found[i] & SURE:
            r.found[i] = LEARNT | r.found[i] & SHAPED
        if any_late(g, r, e):
            lose(r, UNDECIDED)
        elif after == LOST:
            lose(r, CONTRADICTED)
        else:
            r.reg[PHASE] = after
    elif r.reg[PHASE] == DOUBT:
        passed = 0 <= r.answer[i] < e[SEEN] or (r.answer[i] >= 0 and e[SEEN] < 0)
        if e[ALIGN] > 0 and passed:
            lose(r, CONTRADICTED)


@part
def _serve(full: Forest, known: Forest, r: Ruling, e: NDArray[np.int64], start: int) -> None:
    """Take what a call got."""
    if start < 0:
        return
    carve_paths(full, r, start, start + e[SIZE])
    if not take(full, 0, start, start + e[SIZE]):
        lose(r, CONTRADICTED)
    take(known, 0, start, start + e[SIZE])
    carve_piece(r, start, start + e[SIZE])


@loop
def run(
    full: Forest, known: Forest, room: Forest, g: Given, r: Ruling, event: NDArray[np.int64]
) -> None:  # fmt: skip
    """Rule on all events.

    Parameters
    ----------
    full
        One tree: what is free at the start, with room for all that may become so.
    known
        One empty tree, with as much room.
    room
        The same again.
    g
        What purges give back.
    r
        Filled.
    event : ndarray of int64, shape (n, COLUMNS)
        Calls in the order in which they were served. Behind them all purges are over.
    """
    for i in range(event.shape[0]):
        while r.reg[LATE] < g.late.shape[0] and g.late[r.reg[LATE], UNTIL] < event[i, LO]:
            r.reg[LATE] += 1
        if r.reg[TAIL] > 0 and event[i, LO] > r.reg[CLEAN]:
            give_up_to(full, known, g, r, certainly_back(g, event[i, LO]))
            end_doubt_below(known, r, r.reg[TAIL])
            r.reg[TAIL] = 0
        if r.reg[PHASE] == LOST:
            r.reg[LOST_AT] = i
            return
        _rule(full, known, room, g, r, event, i)
    give_up_to(full, known, g, r, g.area.shape[0])
