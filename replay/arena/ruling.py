"""Which of the arena's answers are certain: no other state that fits the evidence gives another.

The loop is :mod:`replay.arena.loops.judge`; here its events are put together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from replay.arena.calls import NEVER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.arena.calls import ArenaCalls
    from replay.arena.lazy import LazyReplay
    from replay.arena.loops.evidence import Given, Ruling
    from replay.arena.loops.freetree import Rule
    from replay.arena.state import ArenaState

STEPS: Final = 100_000_000
"""Free blocks and areas that comparisons of states may go through."""
_MARGIN: Final = 1 << 10


class Ruled(NamedTuple):
    """What was found.

    Attributes
    ----------
    lost
        An answer contradicted what was known to be free, and others followed.
    sure, learnt : ndarray of bool
        Per allocation: no other state gives another answer; its answer showed first that the
        snapshot lacks an area.
    answer : ndarray of int64
        Per allocation that is sure.
    purged, foretold : ndarray of bool
        Per allocation: it purged, as its first attempt failed; the model's fails too.
    """

    lost: bool
    sure: NDArray[np.bool_]
    learnt: NDArray[np.bool_]
    answer: NDArray[np.int64]
    purged: NDArray[np.bool_]
    foretold: NDArray[np.bool_]


def rule_on(
    calls: ArenaCalls,
    state: ArenaState,
    lazy: LazyReplay,
    items: NDArray[np.int64],
    at: NDArray[np.int64],
    turn: NDArray[np.int64],
    rule: Rule,
) -> Ruled:
    """Tell which answers are certain.

    Parameters
    ----------
    calls, state, lazy
        The trace, the state before it, and what its purges took.
    items, at
        Of :func:`replay.arena.items.ordering_items`: the items, and that of each allocation.
    turn
        Number of the step that served each item.
    rule
        How the kernel searches.

    Returns
    -------
    Ruled
    """
    from replay.arena.loops import evidence

    event, of_alloc, of_try, owners = _events(calls, items, at, turn)
    given = _given(calls, lazy)
    judged = given._replace(late=given.late.copy())
    ruling = _judged(calls, state, rule, event, judged, np.full(len(event), NEVER))
    if (ruling.found & evidence.OPEN).any():
        lo = np.argsort(event[:, evidence.LO], kind="stable")
        least = np.append(np.minimum.accumulate(ruling.most[lo][::-1])[::-1], NEVER)
        behind = np.searchsorted(event[lo, evidence.LO], event[:, evidence.HI], side="right")
        ruling = _judged(calls, state, rule, event, given, least[behind])
    found = ruling.found[of_alloc]
    purged, foretold = np.zeros((2, len(at)), bool)
    purged[owners] = True
    foretold[owners] = ruling.found[of_try] & evidence.SURE > 0
    return Ruled(
        lost=bool(ruling.reg[evidence.LOST_AT]),
        sure=found & evidence.SURE > 0,
        learnt=found & evidence.LEARNT > 0,
        answer=ruling.answer[of_alloc],
        purged=purged,
        foretold=foretold,
    )


def _judged(
    calls: ArenaCalls,
    state: ArenaState,
    rule: Rule,
    event: NDArray[np.int64],
    given: Given,
    cap: NDArray[np.int64],
) -> Ruling:
    """Run the loop; `cap` as in :class:`replay.arena.loops.evidence.Ruling`."""
    from replay.arena.loops import evidence, judge
    from replay.arena.loops.freetree import new_forest
    from replay.arena.loops.shapes import plant

    n = len(event)
    ruling = evidence.Ruling(
        np.zeros(n, np.uint8),
        np.zeros(n, np.int64),
        cap,
        np.full(n, NEVER, np.int64),
        np.zeros((evidence.MAX_PIECES, 3), np.int64),
        np.zeros((evidence.MAX_PENDING, 2), np.int64),
        np.zeros(evidence.REGISTERS, np.int64),
    )
    _begin(ruling, calls, state, rule)
    room = len(state.free) + n + len(given.area) + _MARGIN
    full, known, spare = (new_forest(1, room, rule) for _ in range(3))
    plant(full, 0, np.ascontiguousarray(state.free), np.zeros(0, np.int64))
    judge.run(full, known, spare, given, ruling, event)
    return ruling


def _begin(ruling: Ruling, calls: ArenaCalls, state: ArenaState, rule: Rule) -> None:
    """What is in doubt, and until when."""
    from replay.arena.loops import evidence

    purges = calls.purges.get_column("hi")
    first = purges[0] if purges.len() else NEVER
    ruling.reg[evidence.BUDGET] = STEPS
    ruling.reg[evidence.PIN] = -1
    ruling.reg[evidence.CLEAN] = first
    ruling.reg[evidence.PAGE] = rule.page_size
    ruling.reg[evidence.TAIL] = state.tail
    ruling.reg[evidence.PHASE] = evidence.DOUBT if state.tail else evidence.TRUSTED
    if len(state.free) < evidence.MAX_PIECES:
        ruling.piece[: len(state.free), :2] = state.free
        ruling.piece[: len(state.free), 2] = evidence.NO_LIMIT
        ruling.reg[evidence.PIECES] = len(state.free)


def _events(
    calls: ArenaCalls, items: NDArray[np.int64], at: NDArray[np.int64], turn: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Allocations in the order in which they were served, and first attempts before them.

    Returns
    -------
    event : ndarray of int64, shape (n, COLUMNS)
    of_alloc : ndarray of int64
        Event of each allocation.
    of_try, owners : ndarray of int64
        Event of each first attempt that failed, and the allocation that it is of.
    """
    from replay.arena.loops import evidence
    from replay.arena.loops import items as kernel

    columns = [kernel.LO, kernel.HI, kernel.SIZE, kernel.ALIGN, kernel.VSTART, kernel.VEND,
               kernel.SEEN]  # fmt: skip
    served = np.argsort(turn[at], kind="stable")
    entered = calls.allocs.get_column("lo").to_numpy().astype(np.int64)
    owners = np.unique(
        calls.purges.select("parent")
        .join(
            calls.allocs.select(parent="seq").with_row_index("owner"), on="parent"
        )
        .get_column("owner").to_numpy().astype(np.int64)
    )  # fmt: skip
    event = np.zeros((len(at) + owners.size, evidence.COLUMNS), np.int64)
    event[: len(at), evidence.LO : evidence.ALONE] = items[at[served]][:, columns]
    tries = event[len(at) :]
    tries[:, evidence.TRY] = 1
    tries[:, evidence.LO : evidence.ALONE] = items[at[owners]][:, columns]
    tries[:, evidence.LO] = tries[:, evidence.HI] = entered[owners]
    tries[:, evidence.SEEN] = kernel.UNKNOWN
    event[: len(at), evidence.ALONE] = _alone(event[: len(at)])
    # A first attempt comes before all that may have been served behind it.
    reached = np.maximum.accumulate(event[: len(at), evidence.HI])
    before = np.searchsorted(reached, entered[owners])
    order = np.argsort(np.concatenate([np.arange(len(at)) * 2 + 1, before * 2]), kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    of_alloc = np.empty(len(at), np.int64)
    of_alloc[served] = place[: len(at)]
    return np.ascontiguousarray(event[order]), of_alloc, place[len(at) :], owners


def _alone(event: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which calls overlap in time with no other."""
    from replay.arena.loops import evidence

    by = np.argsort(event[:, evidence.LO], kind="stable")
    lo, hi = event[by, evidence.LO], event[by, evidence.HI]
    ends = np.maximum.accumulate(np.concatenate([[-1], hi[:-1]]))
    follows = np.append(lo[1:], NEVER)
    out = np.zeros(len(event), bool)
    out[by] = (ends[: len(lo)] < lo) & (follows > hi)
    return out


def _late(lazy: LazyReplay) -> NDArray[np.int64]:
    """Areas that were being freed when a purge took the list: it may have missed them.

    Not where the flushed hull ends with the area, nor where the next purge's does not reach it.
    """
    from replay.arena.loops import lazy as kernel

    stream, taken = lazy.stream, lazy.lazy.taken_by
    frees = np.flatnonzero(taken >= 0)
    frees = frees[stream[frees, kernel.HI] > stream[taken[frees], kernel.LO]]
    purges = np.sort(lazy.of_purge[: lazy.purges])
    over = np.append(stream[purges, kernel.HI], NEVER)
    following = np.searchsorted(purges, taken[frees], side="right")
    area, end = stream[frees, kernel.START], stream[frees, kernel.END]
    here = stream[taken[frees]]
    told = here[:, kernel.SEEN_END] > 0
    edge = told & ((area == here[:, kernel.SEEN_START]) | (end == here[:, kernel.SEEN_END]))
    after = stream[np.append(purges, 0)[following]]
    flushed = (following < purges.size) & (after[:, kernel.SEEN_END] >= 0)
    beyond = flushed & ((area < after[:, kernel.SEEN_START]) | (end > after[:, kernel.SEEN_END]))
    late = np.stack([area, end, here[:, kernel.LO], over[following]], axis=1)[~edge & ~beyond]
    return np.ascontiguousarray(late[np.argsort(late[:, 2], kind="stable")])


def _given(calls: ArenaCalls, lazy: LazyReplay) -> Given:
    """The areas that purges give back, in their order."""
    from replay.arena.loops import evidence

    purges = calls.purges.select("lo", "hi").to_numpy().astype(np.int64).reshape(-1, 2)
    flushes = calls.flushes.select(lo="at", hi="at").to_numpy().astype(np.int64).reshape(-1, 2)
    span = np.concatenate([purges, flushes])
    taken = lazy.lazy.purge[lazy.of_purge, :2]
    number = np.flatnonzero(taken[:, 1] > taken[:, 0])
    number = number[np.argsort(taken[number, 0], kind="stable")]
    purge = np.zeros((number.size, evidence.PURGE_COLUMNS), np.int64)
    purge[:, evidence.FIRST : evidence.LAST + 1] = taken[number]
    purge[:, evidence.REACH] = np.maximum.accumulate(span[number, 1])
    purge[:, evidence.SINCE] = np.minimum.accumulate(span[number, 0][::-1])[::-1]
    away = calls.away.to_numpy().astype(np.int64).reshape(-1, 3)
    purge[:, evidence.SPAN] = np.searchsorted(away[:, 0], number)
    purge[:, evidence.SPANS] = np.searchsorted(away[:, 0], number, side="right")
    areas = int(taken[:, 1].max(initial=0))
    whole = int(lazy.whole)
    return evidence.Given(
        lazy.lazy.given[:areas], purge, np.ascontiguousarray(away[:, 1:]), _late(lazy), whole
    )
