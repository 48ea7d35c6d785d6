"""Replay of the vmap/vmalloc arena: every address, failure and purge beside the prediction."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import polars as pl

from replay.arena.blocks import BlockRun, BlockTally
from replay.arena.calls import FAILED, NEVER, UNSEEN
from replay.arena.items import ordering_items
from replay.arena.late import ROUND_ROWS, find_late, hold_for_hulls
from replay.arena.lazy import Counters, LazyRun
from replay.arena.left import LeftOpen
from replay.arena.result import (
    AMBIGUOUS,
    CERTAIN,
    INITIAL,
    NOT_SEEN,
    WRONG,
    Answers,
    ArenaReplay,
    Tally,
)
from replay.arena.ruling import Judge
from replay.arena.state import TREES, forest_of, initial_state, lost_end, rule_of
from replay.machine.generations import GENERATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from collectors.snapshot import Snapshot
    from replay.arena.calls import ArenaCalls
    from replay.arena.lazy import LazyReplay
    from replay.arena.loops.freetree import Forest
    from replay.arena.pieces import ArenaPiece
    from replay.arena.ruling import Ruled
    from replay.arena.state import ArenaState
    from replay.machine.generations import Generation
    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.trace.losses import Gaps

_MAX_NODES: Final = 1 << 22
_MAX_ROOM: Final = 1 << 20


def replay_pieces(
    pieces: Iterable[ArenaPiece],
    machine: Machine,
    layout: Layout,
    values: Snapshot,
    losses: Gaps,
    each: Callable[[Answers], None],
) -> ArenaReplay:
    """Replay the arena's calls piece by piece.

    Parameters
    ----------
    pieces
        The trace; gone through twice.
    machine
        For its kernel generation's behaviours.
    layout
        Its address map.
    values
        Facts; the state at the start among them.
    losses
        `seq` of the first event after each loss of events: nothing is certain from there on.
    each
        Called with the answers to the allocations of every piece.

    Returns
    -------
    ArenaReplay
    """
    generation = GENERATIONS[machine.generation]
    tail = lost_end(values, machine, layout)
    state = initial_state(pieces, values, generation.lazy_list, tail, losses)
    if not generation.free_tree:
        text = f"{state.text}; the arena's search before 5.2 is not modelled"
        state = replace(state, known=False, text=text)
    verdicts = _Rulings(state, layout, values, losses, generation)
    player = ArenaPlayer(state, layout, generation)
    for piece in pieces:
        each(verdicts.take(piece, player.take(piece)))
    return verdicts.result(player)


class Places(NamedTuple):
    """Order in which calls were served, as far as the trace tells.

    Attributes
    ----------
    allocs, purges, frees : ndarray of int64
        Positions, per call.
    turn : ndarray of int64
        Decides between equal positions; allocations, then purges; -1: does not matter.
    """

    allocs: NDArray[np.int64]
    purges: NDArray[np.int64]
    frees: NDArray[np.int64]
    turn: NDArray[np.int64]


class ArenaPlayer:
    """Puts the calls of the arena into an order that explains their addresses, piece by piece.

    Parameters
    ----------
    state
        Before the trace.
    layout, generation
        Of the machine that it was captured on.

    Attributes
    ----------
    rule
        How the kernel searches.
    forest, reg
        The trees of free blocks, and the registers of :mod:`replay.arena.loops.items`, behind the
        last piece.
    shapes
        Trees at the start.
    peak_lazy, moved, held, crossings
        Most bytes that waited; frees put behind a purge by its hull, and by later ones or by
        addresses; frees after which too much waited.
    """

    def __init__(self, state: ArenaState, layout: Layout, generation: Generation) -> None:
        self.rule = rule_of(generation, layout)
        needs_shape = self.rule.shape_decides(state.align)
        self.forest = forest_of(state, self.rule, trees=TREES if needs_shape else 1)
        self.reg: NDArray[np.int64] | None = None
        self.shapes = int(self.forest.alive.sum())
        self.peak_lazy = self.moved = self.held = self.crossings = 0
        self._state = state
        limit = layout.lazy_max_pages * layout.page_size
        self._list = LazyRun(state.lazy, generation.lazy_list, limit)
        self._late_rows = ROUND_ROWS

    def take(self, piece: ArenaPiece) -> Played:
        """Replay a piece."""
        from replay.arena.loops import lazy as kernel

        follow = self._list.follow

        def play(stream: NDArray[np.int64]) -> Played:
            run = Played(piece.calls, follow(stream))
            run.play(self.forest, self.reg, self._state, last=piece.last)
            return run

        stream = hold_for_hulls(follow, self._list.begin(piece))
        best, self._late_rows = find_late(play, stream, self._late_rows)
        lazy = best.lazy
        self.forest, self.reg = best.forest, best.work.reg
        self.peak_lazy = max(self.peak_lazy, int(lazy.lazy.reg[kernel.PEAK]))
        self.moved += int(lazy.lazy.reg[kernel.MOVED])
        self.held += lazy.held(self._list.before)
        self.crossings += lazy.crossings(self._list.limit)
        self._list.end(lazy)
        return best


class Played:
    """A run of the ordering loop over the items of a piece, and what came of them.

    Attributes
    ----------
    calls, lazy
        The piece, and the lazy list over it.
    items, at
        Of :func:`replay.arena.items.ordering_items`: the items, and that of each allocation.
    work, forest
        What the loop found, and the trees behind it.
    """

    def __init__(self, calls: ArenaCalls, lazy: LazyReplay) -> None:
        self.calls, self.lazy = calls, lazy
        self.items, self._place = ordering_items(calls, lazy)
        self.at = self._place[: calls.allocs.height]

    def play(
        self,
        forest: Forest,
        reg: NDArray[np.int64] | None,
        state: ArenaState,
        *,
        last: bool,
    ) -> None:
        """Run the ordering loop over all items."""
        from collectors.errors import HmtraceError
        from replay.arena.loops import freetree as tree
        from replay.arena.loops import items as kernel
        from replay.arena.loops import order, overlaps

        whole = self.lazy.whole
        forest = tree.copied(forest)
        trees, known = len(forest.root), state.shape is not None
        work = kernel.new_work(
            self.items, self.lazy.lazy.given, trees, known=known, supposes=state.known, reg=reg
        )
        orders = overlaps.new_orders()
        at = 0
        while True:
            saved, spare = tree.like(forest), tree.like(forest)
            blocks = 1 + int(forest.reg[tree.HIGH]) // max(1, int(forest.alive.sum()))
            room = overlaps.room_for(forest, blocks, _MAX_ROOM)
            at = order.run(forest, saved, spare, room, work, orders, self.items, at, whole, last)
            if at == len(self.items):
                break
            if len(forest.node) > _MAX_NODES:
                msg = "the arena events contradict each other throughout"
                raise HmtraceError(msg, hint="was this trace put together from several machines?")
            units = int(self.items[at, kernel.LAST] - self.items[at, kernel.FIRST])
            is_give = self.items[at, kernel.KIND] == kernel.GIVE
            need = trees * (2 * kernel.MAX_LOG + (units if is_give else 0))
            forest = tree.grown(forest, 2 * len(forest.node) + need)
        self.work, self.forest = work, forest

    def places(self) -> Places:
        """The order that explains the trace."""
        allocs = self.calls.allocs.height
        given = self._place[allocs : allocs + self.lazy.purges]
        default = np.concatenate([
            self.calls.allocs.get_column("at").to_numpy(),
            self.calls.purges.get_column("detach").to_numpy(),
        ]).astype(np.int64)  # fmt: skip
        item = np.concatenate([self.at, given])
        served = np.flatnonzero(item >= 0)
        turn = np.full(len(item), -1, self.work.turn.dtype)
        turn[served] = self.work.turn[item[served]]
        # What was served before something else stands no later than that.
        served = served[np.argsort(turn[served], kind="stable")]
        at = default.copy()
        at[served] = np.minimum.accumulate(default[served][::-1])[::-1]
        return Places(at[:allocs], at[allocs:], self._listed(), turn)

    def _listed(self) -> NDArray[np.int64]:
        """Position at which each free had reached the list: behind the purges that missed it."""
        lazy = self.lazy.lazy
        took = np.full(len(self.lazy.stream), -1, np.int64)
        took[lazy.taken_by[lazy.taken_by >= 0]] = 1
        purges = np.flatnonzero(took > 0)
        detach = np.full(len(took), -1, np.int64)
        of_purge = self.lazy.of_purge[: self.lazy.purges]
        detach[of_purge] = self.calls.purges.get_column("detach").to_numpy()
        lo = self.calls.frees.get_column("lo").to_numpy().astype(np.int64)
        taken = lazy.taken_by[self.lazy.of_free]
        number = np.searchsorted(purges, taken)  # purges that took something before it was taken
        before = np.where((taken >= 0) & (number > 0), purges[number - 1] if purges.size else 0, -1)
        return np.asarray(np.where(before >= 0, np.maximum(lo, detach[before] + 1), lo), np.int64)

    def suspects(self) -> NDArray[np.int64]:
        """Wrong predictions, as :func:`replay.arena.late.find_late` asks for them."""
        from replay.arena.loops import items as kernel

        wrong = self.work.status & kernel.DIVERGED > 0
        item = self.items[wrong]
        columns = item[:, kernel.SEEN], item[:, kernel.SIZE], item[:, kernel.HI]
        return np.stack([self.work.predicted[wrong], *columns], axis=1)

    def areas(self) -> pl.DataFrame:
        """Allocations with their predictions, as :class:`replay.arena.blocks.BlockRun` asks."""
        return self.calls.allocs.select(
            "parent", "seq", "size", "align", "seen", "end_cpu", end=pl.col("hi") // 2
        ).with_columns(predicted=pl.Series(self.work.predicted[self.at]))


class _Rulings:
    """Verdicts on what was played, and counts."""

    def __init__(
        self,
        state: ArenaState,
        layout: Layout,
        values: Snapshot,
        losses: Gaps,
        generation: Generation,
    ) -> None:
        self._state = state
        self._lost_from = NEVER if losses.begin is None else 2 * losses.begin
        self._blocks = BlockRun(layout, values, forget=generation.dirty_range_reset)
        self._judge = Judge(state, rule_of(generation, layout))
        self._shapes = _Shapes(known=state.shape is not None)
        self._counters = Counters(layout.page_size)
        self._number = np.zeros(NOT_SEEN + 1, np.int64)
        self._ambiguous_right = self._ordering = self._unusable = 0
        self._failures = self._overflows = self._purges = Tally()
        self._block_tally = BlockTally()
        self._left = LeftOpen(state)

    def take(self, piece: ArenaPiece, run: Played) -> Answers:
        """Rule on a piece."""
        from replay.arena.loops import items as arena_items

        calls, work, state = piece.calls, run.work, self._state
        at = run.at
        seen = calls.allocs.get_column("seen").to_numpy()
        row = calls.allocs.get_column("row").to_numpy().astype(np.int64)
        predicted, status = work.predicted[at], work.status[at]
        ruled = self._judge.rule_on(
            calls, run.lazy, run.items, at, work.turn, piece.next_purge, piece.end
        )
        shaped = ruled.shaped | (status & arena_items.SHAPED > 0)
        predicted = np.where(ruled.sure & (~shaped | ruled.same), ruled.answer, predicted)
        right = predicted == seen
        by_shape = self._shapes.sure(ruled, run, shaped, predicted)
        sure = by_shape & ruled.sure & state.known
        if calls.derived or (not calls.purges_traced and state.frees):
            sure[:] = False  # of the latter what became free again is not told
        behind_loss = calls.allocs.get_column("lo").to_numpy() >= self._lost_from
        sure &= ~behind_loss
        verdict = np.where(sure, np.where(right, CERTAIN, WRONG), AMBIGUOUS).astype(np.uint8)
        excused = np.isin(row, state.excused) & ~right | ruled.learnt & state.known
        verdict[excused] = INITIAL
        verdict[seen == UNSEEN] = NOT_SEEN
        self._left.add(verdict == AMBIGUOUS, ruled, calls, behind_loss, ruled.sure & ~by_shape)
        ordered = status & arena_items.ORDERED > 0
        self._count(piece, run, ruled, predicted, seen)
        self._number += np.bincount(verdict, minlength=NOT_SEEN + 1)
        self._ambiguous_right += int((right & (verdict == AMBIGUOUS)).sum())
        self._ordering += int(ordered.sum())
        if piece.forced:
            self._judge.give_up()
        return Answers(
            row=row,
            predicted=predicted,
            seen=seen,
            verdict=verdict,
            ordered=ordered,
            trees=work.trees[at],
            size=calls.allocs.get_column("size").to_numpy(),
            align=calls.allocs.get_column("align").to_numpy(),
        )

    def _count(
        self,
        piece: ArenaPiece,
        run: Played,
        ruled: Ruled,
        predicted: NDArray[np.int64],
        seen: NDArray[np.int64],
    ) -> None:
        """Count what does not rest on verdicts."""
        calls = piece.calls
        compared = seen != UNSEEN
        failed = compared & (seen == FAILED)
        foretold = compared & (predicted == FAILED)
        both = int((failed & foretold).sum())
        matched = int(ruled.foretold.sum())
        self._failures += Tally(int(failed.sum()), int(foretold.sum()), both)
        self._overflows += Tally(int(ruled.purged.sum()), matched, matched)
        self._purges += Tally(*run.lazy.hulls(calls.purges.get_column("gave").to_numpy()))
        self._unusable += calls.unusable.height
        self._left.learnt |= bool(ruled.learnt.any())
        begin = (piece.begin + 1) // 2
        self._block_tally += self._blocks.take(piece.blocks, run.areas(), begin)
        self._counters.add(run.lazy, calls)

    def result(self, player: ArenaPlayer) -> ArenaReplay:
        """The figures of the whole trace, which `player` has been through."""
        from replay.arena.loops import freetree as tree
        from replay.arena.loops import items as arena_items

        state, blocks, number = self._state, self._block_tally, self._number.tolist()
        reg = np.zeros(arena_items.REGISTERS, np.int64) if player.reg is None else player.reg
        return ArenaReplay(
            certain=number[CERTAIN],
            ambiguous=number[AMBIGUOUS],
            ambiguous_right=self._ambiguous_right,
            wrong=number[WRONG],
            initial=number[INITIAL],
            failures=self._failures,
            overflows=self._overflows,
            purges=self._purges,
            blocks=blocks,
            ordering=self._ordering + player.held + player.moved + blocks.ordering,
            shapes=player.shapes + int(reg[arena_items.RESHAPED]),
            shapes_dropped=int(reg[arena_items.DROPPED]),
            overlap_shapes=int(reg[arena_items.FORKED]),
            orders_left_out=int(reg[arena_items.LEFT_OUT]),
            areas_added=state.added,
            areas_removed=state.removed,
            peak_lazy=player.peak_lazy,
            limit_crossings=player.crossings,
            contradictions=int(player.forest.reg[tree.CONTRADICTIONS]),
            unusable=self._unusable,
            text=state.text,
            caveats=self._left.caveats(),
            nr_lazy=self._counters.nr_lazy,
            purged=self._counters.purged,
        )


class _Shapes:
    """Which answers are certain as far as the shape of the free tree goes.

    Certain is one that no shape changes, and one that every shape gives which explains the last
    answer to such a request (:mod:`replay.arena.loops.paths`); if a leaf was put in next to its
    block since, all trees must agree with that. Where the shape at the start is known, all trees
    must agree, no order of overlapping calls that may have led to another tree may have been left
    out, and no answer may have contradicted all trees before.

    Parameters
    ----------
    known
        Whether the shape of the tree at the start is.
    """

    def __init__(self, *, known: bool) -> None:
        self._known = known

    def sure(
        self, ruled: Ruled, run: Played, shaped: NDArray[np.bool_], predicted: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Which predictions of a piece are certain; `shaped`: the shape may matter to them."""
        from replay.arena.loops import items as arena_items

        status = run.work.status[run.at]
        agreed = status & arena_items.AGREED > 0
        sure = ~shaped | ruled.same | ruled.alike & agreed & (predicted == ruled.answer)
        if not self._known:
            return np.asarray(sure, bool)
        by = np.argsort(run.at, kind="stable")
        missed = (shaped & (status & arena_items.DIVERGED > 0))[by]
        before = np.empty_like(shaped)
        before[by] = np.cumsum(missed) > missed
        left = status & arena_items.LEFT > 0
        self._known = not missed.any()
        return np.asarray(sure | agreed & ~left & ~before, bool)
