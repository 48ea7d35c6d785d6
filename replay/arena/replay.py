"""Replay of the vmap/vmalloc arena: every address, failure and purge beside the prediction."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import polars as pl

from collectors.snapshot import Snapshot
from replay.arena.blocks import replay_blocks
from replay.arena.calls import UNSEEN, arena_calls
from replay.arena.items import ordering_items
from replay.arena.late import find_late, hold_for_hulls
from replay.arena.lazy import counters, lazy_stream, replay_lazy
from replay.arena.result import (
    AMBIGUOUS,
    CERTAIN,
    FAILED,
    INITIAL,
    NOT_SEEN,
    WRONG,
    ArenaReplay,
    Tally,
)
from replay.arena.ruling import rule_on
from replay.arena.state import LOST_END, TREES, forest_of, initial_state, lost_end, rule_of
from replay.machine.generations import GENERATIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from replay.arena.blocks import BlockReplay
    from replay.arena.calls import ArenaCalls
    from replay.arena.lazy import LazyReplay
    from replay.arena.loops.freetree import Rule
    from replay.arena.ruling import Ruled
    from replay.arena.state import ArenaState
    from replay.machine.generations import Generation
    from replay.machine.layout import Layout
    from replay.machine.model import Machine

TRUST_AFTER: Final = 8
"""Right answers after a wrong one for which trees of unknown shape are believed again; as many more
for every further wrong one."""
_MAX_NODES: Final = 1 << 22
_MAX_ROOM: Final = 1 << 20


def replay_arena(
    events: pl.DataFrame,
    machine: Machine,
    layout: Layout,
    values: Snapshot | None = None,
    losses: Sequence[int] = (),
) -> ArenaReplay:
    """Replay the arena's calls and compare them with what the kernel did.

    Parameters
    ----------
    events
        Event table, sorted by `seq`.
    machine
        For its kernel generation's behaviours.
    layout
        Its address map.
    values
        Facts; the state at the start among them.
    losses
        `seq` of the first event after each loss of events: nothing is certain from there on.

    Returns
    -------
    ArenaReplay
    """
    values = values or Snapshot()
    generation = GENERATIONS[machine.generation]
    calls = arena_calls(events, layout, values, by_pointer=generation.purge_by_pointer)
    tail = lost_end(values, machine, layout)
    state = initial_state(calls, values, generation.lazy_list, tail)
    if not generation.free_tree:
        text = f"{state.text}; the arena's search before 5.2 is not modelled"
        state = replace(state, known=False, text=text)
    run, held = _play(calls, state, layout, generation)
    blocks = replay_blocks(events, layout, values, run.areas(), forget=generation.dirty_range_reset)
    found = run.result(state, blocks, losses, held)
    nr_lazy, purged = counters(run.lazy, calls, layout.page_size)
    return replace(found, nr_lazy=nr_lazy, purged=purged)


def _play(
    calls: ArenaCalls, state: ArenaState, layout: Layout, generation: Generation
) -> tuple[_Run, int]:
    """Replay; also how many frees are supposed to have come too late for a purge."""
    from replay.arena.loops.lazy import HOLD

    stream, of_purge, of_free = lazy_stream(calls)
    rule = rule_of(generation, layout)
    purges, limit = calls.purges.height, layout.lazy_max_pages * layout.page_size

    def follow(stream: NDArray[np.int64]) -> LazyReplay:
        return replay_lazy(
            stream, of_purge, of_free, purges, state.lazy, generation.lazy_list, limit
        )

    def play(stream: NDArray[np.int64]) -> _Run:
        run = _Run(calls, state, follow(stream), rule)
        run.play()
        return run

    best = find_late(play, hold_for_hulls(follow, stream))
    return best, int((best.lazy.stream[:, HOLD] > 0).sum())


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


def served_order(
    calls: ArenaCalls, state: ArenaState, layout: Layout, generation: Generation
) -> Places:
    """The order of overlapping calls that explains the addresses.

    Parameters
    ----------
    calls, state
        The trace, and the state before it.
    layout, generation
        Of the machine that it was captured on.

    Returns
    -------
    Places
    """
    return _play(calls, state, layout, generation)[0].places()


class _Run:
    """A run of the ordering loop over its items, and what came of them."""

    def __init__(self, calls: ArenaCalls, state: ArenaState, lazy: LazyReplay, rule: Rule) -> None:
        self.calls, self.state, self.lazy, self.rule = calls, state, lazy, rule
        self.items, self.place = ordering_items(calls, lazy)
        self.allocs = calls.allocs.height

    def play(self) -> None:
        """Run the ordering loop over all items."""
        from collectors.errors import HmtraceError
        from replay.arena.loops import freetree as tree
        from replay.arena.loops import items as kernel
        from replay.arena.loops import order, overlaps

        rule, whole = self.rule, self.lazy.whole
        aligned = self.items[self.items[:, kernel.KIND] == kernel.ALLOC, kernel.ALIGN]
        needs_shape = rule.shape_decides(int(aligned.max(initial=1)))
        forest = forest_of(self.state, rule, trees=TREES if needs_shape else 1)
        self.shapes = int(forest.alive.sum())
        trees, known = len(forest.root), self.state.shape is not None
        work = kernel.new_work(
            self.items, self.lazy.lazy.given, trees, known=known, supposes=self.state.known
        )
        orders = overlaps.new_orders()
        at = 0
        while True:
            saved, spare = tree.like(forest), tree.like(forest)
            blocks = 1 + int(forest.reg[tree.HIGH]) // max(1, int(forest.alive.sum()))
            room = overlaps.room_for(forest, blocks, _MAX_ROOM)
            at = order.run(forest, saved, spare, room, work, orders, self.items, at, whole)
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
        given = self.place[self.allocs : self.allocs + self.lazy.purges]
        default = np.concatenate([
            self.calls.allocs.get_column("at").to_numpy(),
            self.calls.purges.get_column("detach").to_numpy(),
        ]).astype(np.int64)  # fmt: skip
        item = np.concatenate([self.place[: self.allocs], given])
        turn = np.where(item >= 0, self.work.turn[item], -1)
        # What was served before something else stands no later than that.
        served = np.flatnonzero(item >= 0)
        served = served[np.argsort(turn[served], kind="stable")]
        at = default.copy()
        at[served] = np.minimum.accumulate(default[served][::-1])[::-1]
        return Places(at[: self.allocs], at[self.allocs :], self._listed(), turn)

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
        """Allocations with their predictions, as :func:`replay.arena.blocks.replay_blocks` asks."""
        return self.calls.allocs.select(
            "parent", "seq", "size", "align", "seen", "end_cpu", end=pl.col("hi") // 2
        ).with_columns(predicted=pl.Series(self.work.predicted[self.place[: self.allocs]]))

    def result(
        self, state: ArenaState, blocks: BlockReplay, losses: Sequence[int], held: int
    ) -> ArenaReplay:
        """Verdicts and counts."""
        from replay.arena.loops import freetree as tree
        from replay.arena.loops import items as arena_items
        from replay.arena.loops import lazy as arena_lazy

        calls, work, lazy = self.calls, self.work, self.lazy.lazy
        at = self.place[: self.allocs]
        seen = calls.allocs.get_column("seen").to_numpy()
        predicted, status = work.predicted[at], work.status[at]
        ruled = rule_on(calls, state, self.lazy, self.items, at, work.turn, self.rule)
        shaped, known = status & arena_items.SHAPED > 0, state.shape is not None
        predicted = np.where(ruled.sure & ~shaped, ruled.answer, predicted)
        right = predicted == seen
        sure = _trusted(status, work.trees[at], self.items, at, known=known)
        sure &= ruled.sure & state.known
        if not calls.purges_traced and calls.frees.height:
            sure[:] = False  # what became free again is not told
        if calls.derived:
            sure[:] = False
        if len(losses):
            first_loss = 2 * min(losses)
            sure &= calls.allocs.get_column("lo").to_numpy() < first_loss
        verdict = np.where(sure, np.where(right, CERTAIN, WRONG), AMBIGUOUS).astype(np.uint8)
        excused = state.excused & ~right | ruled.learnt & state.known
        verdict[excused] = INITIAL
        verdict[seen == UNSEEN] = NOT_SEEN
        compared = seen != UNSEEN
        failed = compared & (seen == FAILED)
        foretold = compared & (predicted == FAILED)
        overflows, matched = int(ruled.purged.sum()), int(ruled.foretold.sum())
        ordered = status & arena_items.ORDERED > 0
        return ArenaReplay(
            row=calls.allocs.get_column("row").to_numpy().astype(np.int64),
            predicted=predicted,
            seen=seen,
            verdict=verdict,
            ordered=ordered,
            trees=work.trees[at],
            size=calls.allocs.get_column("size").to_numpy(),
            align=calls.allocs.get_column("align").to_numpy(),
            ambiguous_right=int((right & (verdict == AMBIGUOUS)).sum()),
            failures=Tally(int(failed.sum()), int(foretold.sum()), int((failed & foretold).sum())),
            overflows=Tally(overflows, matched, matched),
            purges=Tally(*self.lazy.hulls(self.calls.purges.get_column("gave").to_numpy())),
            blocks=blocks,
            ordering=int(ordered.sum()) + held + int(lazy.reg[arena_lazy.MOVED]) + blocks.ordering,
            shapes=self.shapes + int(work.reg[arena_items.RESHAPED]),
            shapes_dropped=int(work.reg[arena_items.DROPPED]),
            overlap_shapes=int(work.reg[arena_items.FORKED]),
            orders_left_out=int(work.reg[arena_items.LEFT_OUT]),
            areas_added=state.added,
            areas_removed=state.removed,
            peak_lazy=int(lazy.reg[arena_lazy.PEAK]),
            limit_crossings=int(lazy.reg[arena_lazy.CROSSINGS]),
            contradictions=int(self.forest.reg[tree.CONTRADICTIONS]),
            unusable=calls.unusable,
            text=state.text,
            caveats=_caveats(state, ruled),
        )


def _caveats(state: ArenaState, ruled: Ruled) -> tuple[str, ...]:
    """Why less is certain than the trace would allow."""
    if not state.known:
        return ()
    caveats = [LOST_END] if state.tail else []
    if ruled.learnt.any():
        caveats.append(
            "an address above the lowest place that fits shows that /proc/vmallocinfo lacks areas: "
            "from there on only what the trace itself gave back counts as free"
        )
    if ruled.lost:
        caveats.append(
            "an address contradicts what was known to be free, and no other order explains it: "
            "nothing behind it is certain"
        )
    return tuple(caveats)


def _trusted(
    status: NDArray[np.uint8],
    trees: NDArray[np.int32],
    items: NDArray[np.int64],
    at: NDArray[np.int64],
    *,
    known: bool,
) -> NDArray[np.bool_]:
    """Predictions that the state at their time makes certain.

    One possible answer is certain. Where the shape of the tree decides, all trees must agree, no
    order of overlapping calls that may have led to another tree may have been left out, and since
    the trees were last wrong, so many answers must have been right that they can be believed again.
    """
    from replay.arena.loops import items as arena_items

    shaped = status & arena_items.SHAPED > 0
    left = (status & arena_items.LEFT > 0) & (known | (trees == 1))
    sure = ~shaped | (status & arena_items.AGREED > 0) & ~left
    by = np.argsort(at, kind="stable")
    matters = by[shaped[by] & (items[at[by], arena_items.SEEN] != UNSEEN)]
    if known:
        missed = status[matters] & arena_items.DIVERGED > 0
    else:
        missed = status[matters] & arena_items.RIGHT == 0
    number = np.arange(matters.size)
    last = np.maximum.accumulate(np.where(missed, number, -1))
    before = np.concatenate([[-1], last[:-1]]) if last.size else last
    times = np.concatenate([[0], np.cumsum(missed)[:-1]]) if last.size else last
    wait = np.inf if known else TRUST_AFTER * times
    doubted = (before >= 0) & (number - before <= wait)
    sure[matters[doubted]] = False
    return sure
