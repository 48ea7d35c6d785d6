"""Which of the arena's answers are certain: no other state that fits the evidence gives another.

The loop is :mod:`replay.arena.loops.judge`; here its events are put together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from replay.arena.calls import NEVER
from replay.arena.pieces import NextPurge

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.arena.calls import ArenaCalls
    from replay.arena.lazy import LazyReplay
    from replay.arena.loops.evidence import Given, Ruling
    from replay.arena.loops.freetree import Forest, Rule
    from replay.arena.state import ArenaState

STEPS: Final = 100_000_000
"""Free blocks and areas that comparisons of states may go through."""
_MARGIN: Final = 1 << 10
_GOES_ON: Final = NEVER - 1
"""In the place of the end of a purge that had not ended with its piece: the next one's entry is."""


class _Known(NamedTuple):
    """What is known of the free areas, as far as the trace was ruled on.

    Attributes
    ----------
    full, known
        Trees of :func:`replay.arena.loops.judge.run`.
    late : ndarray of int64, shape (areas, LATE_COLUMNS)
        As of :class:`replay.arena.loops.evidence.Given`.
    piece, path, reg : ndarray of int64
        As of :class:`replay.arena.loops.evidence.Ruling`.
    """

    full: Forest
    known: Forest
    late: NDArray[np.int64]
    piece: NDArray[np.int64]
    path: NDArray[np.int64]
    reg: NDArray[np.int64]


class Ruled(NamedTuple):
    """What was found.

    Attributes
    ----------
    sure, learnt : ndarray of bool
        Per allocation: no other state gives another answer; its answer showed first that the
        snapshot lacks an area.
    shaped, same, alike : ndarray of bool
        Per allocation: another shape of the tree could give another answer; but not one that
        explains the last answer to such a request; the same, where it explains also what was put
        in since (:mod:`replay.arena.loops.paths`).
    open : ndarray of bool
        Per allocation: how far a purge had come, which areas it had found, or which of the calls
        under way came first could change its answer.
    answer : ndarray of int64
        Per allocation that is sure.
    purged, foretold : ndarray of bool
        Per allocation: it purged, as its first attempt failed; the model's fails too.
    lost : ndarray of bool
        Per allocation: what is free was not known any more, and so it was not ruled on.
    why_lost
        A reason of :mod:`replay.arena.loops.evidence`.
    """

    sure: NDArray[np.bool_]
    learnt: NDArray[np.bool_]
    shaped: NDArray[np.bool_]
    same: NDArray[np.bool_]
    alike: NDArray[np.bool_]
    open: NDArray[np.bool_]
    answer: NDArray[np.int64]
    purged: NDArray[np.bool_]
    foretold: NDArray[np.bool_]
    lost: NDArray[np.bool_]
    why_lost: int


class Judge:
    """Tells which answers are certain, piece by piece.

    What later calls show of how far purges had come bounds what earlier ones may have met, so
    where that matters a piece is ruled on twice; what both ways know is carried on.

    Parameters
    ----------
    state
        Before the trace.
    rule
        How the kernel searches.
    """

    def __init__(self, state: ArenaState, rule: Rule) -> None:
        self._rule = rule
        self._lazy = state.lazy
        self._first = _begin(state, rule)
        self._second: _Known | None = None  # None: the same
        self._purged = False

    def give_up(self) -> None:
        """What is free is not known from here on."""
        from replay.arena.loops import evidence

        for known in (self._first, self._second):
            if known is not None and known.reg[evidence.PHASE] != evidence.LOST:
                known.reg[evidence.PHASE], known.reg[evidence.WHY] = evidence.LOST, evidence.MISSED

    def rule_on(
        self,
        calls: ArenaCalls,
        lazy: LazyReplay,
        items: NDArray[np.int64],
        at: NDArray[np.int64],
        turn: NDArray[np.int64],
        following: NextPurge | None,
        end: int,
    ) -> Ruled:
        """Rule on a piece.

        Parameters
        ----------
        calls, lazy
            The piece, and what its purges took.
        items, at
            Of :func:`replay.arena.items.ordering_items`: the items, and that of each allocation.
        turn
            Number of the step that served each item.
        following, end
            The purge behind the piece; its last position.
        """
        from replay.arena.loops import evidence

        event, of_alloc, of_try, owners = _events(calls, items, at, turn)
        given = _given(calls, lazy, following, self._lazy)
        first = _first_purge(lazy, following)
        clean = None
        if not self._purged and calls.purges.height:
            clean, self._purged = int(calls.purges.get_column("hi")[0]), True
        begin, one = self._first, self._second is None
        free = np.full(len(event), NEVER)
        ruling, self._first = self._judged(begin, event, given, first, free, clean, end)
        again = begin
        if not one or (ruling.found & evidence.OPEN).any():
            lo = np.argsort(event[:, evidence.LO], kind="stable")
            least = np.append(np.minimum.accumulate(ruling.most[lo][::-1])[::-1], NEVER)
            behind = np.searchsorted(event[lo, evidence.LO], event[:, evidence.HI], side="right")
            again = begin if self._second is None else self._second
            ruling, self._second = self._judged(
                again, event, given, first, least[behind], clean, end
            )
        self._leave_open(calls, lazy)
        was_lost = again.reg[evidence.PHASE] == evidence.LOST
        lost_at = 0 if was_lost else int(ruling.reg[evidence.LOST_AT]) or len(event)
        found = ruling.found[of_alloc]
        purged, foretold = np.zeros((2, len(at)), bool)
        purged[owners] = True
        foretold[owners] = ruling.found[of_try] & evidence.SURE > 0
        return Ruled(
            sure=found & evidence.SURE > 0,
            learnt=found & evidence.LEARNT > 0,
            shaped=found & evidence.SHAPED > 0,
            same=found & evidence.SAME_PATH > 0,
            alike=found & evidence.ALIKE > 0,
            open=found & (evidence.OPEN | evidence.SURE) == evidence.OPEN,
            answer=ruling.answer[of_alloc],
            purged=purged,
            foretold=foretold,
            lost=of_alloc >= lost_at,
            why_lost=int(ruling.reg[evidence.WHY]),
        )

    def _leave_open(self, calls: ArenaCalls, lazy: LazyReplay) -> None:
        """What purges that go on behind the piece took may be back, or may not."""
        goes_on = calls.purges.get_column("open").to_numpy()
        taken = lazy.lazy.purge[lazy.of_purge[: lazy.purges][goes_on], :2]
        areas = [lazy.lazy.given[first:last] for first, last in taken.tolist()]
        if not areas:
            return
        area = np.concatenate(areas)
        none = np.zeros(len(area), np.int64)
        rows = np.column_stack([area, none - 1, none + _GOES_ON, none])
        self._first = self._first._replace(late=np.concatenate([rows, self._first.late]))
        if self._second is not None:
            self._second = self._second._replace(late=np.concatenate([rows, self._second.late]))

    def _judged(
        self,
        begin: _Known,
        event: NDArray[np.int64],
        given: Given,
        first: NextPurge,
        cap: NDArray[np.int64],
        clean: int | None,
        end: int,
    ) -> tuple[Ruling, _Known]:
        """Run the loop; `cap` as in :class:`replay.arena.loops.evidence.Ruling`."""
        from replay.arena.loops import evidence, judge
        from replay.arena.loops.freetree import HIGH, grown, new_forest

        n = len(event)
        given = given._replace(late=_still_late(begin.late, given.late, first))
        more = n + len(given.area) + len(given.late) + int(begin.reg[evidence.PIECES]) + _MARGIN
        full, known = (
            grown(f, len(f.node) + max(0, int(f.reg[HIGH]) + more - len(f.node)))._replace(
                root=f.root.copy(), reg=f.reg.copy()
            )
            for f in (begin.full, begin.known)
        )
        ruling = evidence.Ruling(
            np.zeros(n, np.uint8),
            np.zeros(n, np.int64),
            cap,
            np.full(n, NEVER, np.int64),
            begin.piece.copy(),
            np.zeros((evidence.MAX_PENDING, 2), np.int64),
            begin.path.copy(),
            begin.reg.copy(),
        )
        for register, value in ((evidence.GIVEN, 0), (evidence.PENDING, 0), (evidence.LATE, 0),
                                (evidence.PIN, -1), (evidence.LOST_AT, 0)):  # fmt: skip
            ruling.reg[register] = value
        if clean is not None:
            ruling.reg[evidence.CLEAN] = clean
        spare = new_forest(1, max(len(full.node), len(known.node)), self._rule)
        judge.run(full, known, spare, given, ruling, event)
        late = given.late[given.late[:, evidence.UNTIL] >= end]
        return ruling, _Known(full, known, late, ruling.piece, ruling.path, ruling.reg)


def _begin(state: ArenaState, rule: Rule) -> _Known:
    """What is in doubt before the trace, and until when."""
    from replay.arena.loops import evidence
    from replay.arena.loops.freetree import new_forest
    from replay.arena.loops.shapes import plant

    reg = np.zeros(evidence.REGISTERS, np.int64)
    piece = np.zeros((evidence.MAX_PIECES, 3), np.int64)
    reg[evidence.BUDGET] = STEPS
    reg[evidence.CLEAN] = NEVER
    reg[evidence.PAGE] = rule.page_size
    reg[evidence.TAIL] = state.tail
    reg[evidence.PHASE] = evidence.DOUBT if state.tail else evidence.TRUSTED
    doubted = np.concatenate([state.free, state.lazy])
    if len(doubted) < evidence.MAX_PIECES:
        piece[: len(doubted), :2] = doubted[np.argsort(doubted[:, 0], kind="stable")]
        piece[: len(doubted), 2] = evidence.NO_LIMIT
        reg[evidence.PIECES] = len(doubted)
    full, known = new_forest(1, len(state.free) + _MARGIN, rule), new_forest(1, _MARGIN, rule)
    plant(full, 0, np.ascontiguousarray(state.free), np.zeros(0, np.int64))
    late = np.zeros((len(state.doubtful), evidence.LATE_COLUMNS), np.int64)
    late[:, : evidence.AREA_END + 1] = state.doubtful[:, :2]
    late[:, evidence.SINCE_ENTRY], late[:, evidence.UNTIL] = -1, state.doubtful[:, 2]
    path = np.zeros((evidence.MAX_PATHS, evidence.PATH_COLUMNS), np.int64)
    return _Known(full, known, late, piece, path, reg)


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


def _late(lazy: LazyReplay, next_purge: NextPurge | None) -> NDArray[np.int64]:
    """Areas that were being freed when a purge took the list: it may have missed them.

    Not where the flushed hull ends with the area, nor where the next purge's does not reach it.
    `next_purge` is the one behind the piece.
    """
    from replay.arena.loops import lazy as kernel

    stream, taken = lazy.stream, lazy.lazy.taken_by
    frees = np.flatnonzero(taken >= 0)
    frees = frees[stream[frees, kernel.HI] > stream[taken[frees], kernel.LO]]
    purges = np.sort(lazy.of_purge[: lazy.purges])
    behind = next_purge or NextPurge()
    over = np.append(stream[purges, kernel.HI], behind.hi)
    following = np.searchsorted(purges, taken[frees], side="right")
    area, end = stream[frees, kernel.START], stream[frees, kernel.END]
    here = stream[taken[frees]]
    told = here[:, kernel.SEEN_END] > 0
    edge = told & ((area == here[:, kernel.SEEN_START]) | (end == here[:, kernel.SEEN_END]))
    first, last = (
        np.append(stream[purges, column], value)[following]
        for column, value in ((kernel.SEEN_START, behind.seen_start),
                              (kernel.SEEN_END, behind.seen_end))
    )  # fmt: skip
    beyond = (last >= 0) & ((area < first) | (end > last))
    late = np.stack([area, end, here[:, kernel.LO], over[following], 0 * area], axis=1)
    late = np.concatenate([late[~edge & ~beyond], _early(lazy)])
    return np.ascontiguousarray(late[np.argsort(late[:, 2], kind="stable")])


def _early(lazy: LazyReplay) -> NDArray[np.int64]:
    """Areas that are supposed to have come too late for a purge, and are in the hull it flushed.

    What later answers told of it (:mod:`replay.arena.late`) may have had another reason.
    """
    from replay.arena.loops import lazy as kernel

    stream, taken = lazy.stream, lazy.lazy.taken_by
    held = np.flatnonzero(stream[:, kernel.HOLD] > 0)
    area, end = stream[held, kernel.START], stream[held, kernel.END]
    missed = stream[stream[held, kernel.HOLD] - 1]
    told = missed[:, kernel.SEEN_END] > 0
    outside = (area < missed[:, kernel.SEEN_START]) | (end > missed[:, kernel.SEEN_END])
    until = np.where(taken[held] >= 0, stream[taken[held], kernel.HI], NEVER)
    early = np.stack([area, end, missed[:, kernel.LO], until, 0 * area + 1], axis=1)
    return np.asarray(early[~(told & outside)], np.int64)


def _given(
    calls: ArenaCalls,
    lazy: LazyReplay,
    next_purge: NextPurge | None,
    initial: NDArray[np.int64],
) -> Given:
    """The areas that purges give back, in their order; `initial`: those lazily freed before."""
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
    area = lazy.lazy.given[:areas]
    # As many of them begin below an area's end as end below its start: none is in it.
    ends, starts = np.sort(initial[:, 1]), np.sort(initial[:, 0])
    listed = np.searchsorted(ends, area[:, 0], "right") != np.searchsorted(starts, area[:, 1])
    return evidence.Given(
        area, listed.astype(np.uint8), purge, np.ascontiguousarray(away[:, 1:]),
        _late(lazy, next_purge), whole,
    )  # fmt: skip


def _first_purge(lazy: LazyReplay, following: NextPurge | None) -> NextPurge:
    """The first purge of a piece, or behind it where it has none."""
    from replay.arena.loops import lazy as kernel

    purges = lazy.of_purge[: lazy.purges]
    if not purges.size:
        return following or NextPurge()
    columns = [kernel.SEEN_START, kernel.SEEN_END, kernel.LO, kernel.HI]
    return NextPurge(*lazy.stream[purges.min(), columns].tolist())


def _still_late(
    before: NDArray[np.int64], here: NDArray[np.int64], first: NextPurge
) -> NDArray[np.int64]:
    """Areas that a purge may have missed, with those of earlier pieces (`before`)."""
    from replay.arena.loops import evidence

    area, end = before[:, evidence.AREA], before[:, evidence.AREA_END]
    beyond = (first.seen_end >= 0) & ((area < first.seen_start) | (end > first.seen_end))
    beyond &= before[:, evidence.UNTIL] == NEVER  # else it is known to be no such area
    left = before[~beyond].copy()
    until = left[:, evidence.UNTIL]
    left[:, evidence.UNTIL] = np.select(
        [until == NEVER, until == _GOES_ON], [first.hi, min(first.lo, _GOES_ON)], until
    )
    return np.ascontiguousarray(np.concatenate([left, here]))
