"""The model against the kernel in bounded memory: the event table window by window.

The arena's calls are written down in pieces, for what is known of its start rests on all of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
import polars as pl

from collectors.snapshot import FactName, Snapshot
from replay.arena.picture import arena_picture
from replay.arena.pieces import ArenaCutter, ArenaPieces
from replay.arena.replay import replay_pieces
from replay.local.stacks import LocalStacks, direct_of, reuses, switch_hook, takes_slot
from replay.machine.generations import GENERATIONS
from replay.machine.layout import check, derived_layout
from replay.machine.words import kernel_words
from replay.pool.picture import views_of
from replay.pool.replay import window_of
from replay.trace.beside import Beside
from replay.trace.columns import has_ops, of_ops
from replay.trace.parts import Parts
from replay.trace.windows import WINDOW_ROWS
from replay.validate.sleeps import Sleeps
from replay.validate.verdicts import (
    Divergence,
    Inferred,
    Passes,
    Result,
    Share,
    Validation,
    arena_result,
    local_result,
    passes_result,
    pool_result,
)
from replay.walk import PoolPart, TraceWalk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from replay.arena.result import Answers
    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.pool.lock_order import Piece
    from replay.pool.picture import PoolView
    from replay.pool.replay import PoolAt
    from replay.pool.window import PoolState
    from replay.survey import Survey
    from replay.trace.losses import Gaps, Loss
    from replay.trace.windows import Window
    from replay.walk import Ordered, PoolPiece


_LAST: Final = np.iinfo(np.int64).max
_VIEWS: Final = 64
"""Calls without a slot of which the pool before them is kept, for each may become the first that
the model does not explain."""


class _Wrong(NamedTuple):
    """A call that the model does not explain: its row, two addresses, the depth of its stack."""

    row: int
    predicted: int
    observed: int
    depth: int


class _Verdicts:
    """Verdicts on one kind of address, added up; `first` is the earliest wrong one."""

    def __init__(self) -> None:
        self.total = self.exact = self.initial = self.ordering = self.nameless = 0
        self.first: _Wrong | None = None

    def add(self, result: Result, depth: NDArray[np.int32] | None = None) -> None:
        """Add what a window told."""
        self.total += int(result.counted.sum())
        self.exact += int(result.exact.sum())
        self.initial += result.initial
        self.ordering += result.ordering
        self.nameless += result.nameless
        wrong = result.wrong
        if wrong.size:
            at = wrong[np.argmin(result.row[wrong])]
            if self.first is None or result.row[at] < self.first.row:
                self.first = _Wrong(
                    int(result.row[at]),
                    int(result.predicted[at]),
                    int(result.seen[at]),
                    -1 if depth is None else int(depth[at]),
                )

    def share(self) -> Share:
        return Share(self.total, self.exact)


def validate(
    events: pl.LazyFrame | pl.DataFrame,
    machine: Machine,
    *,
    values: Snapshot | None = None,
    sources: Mapping[FactName, str] | None = None,
    lost: Loss | None = None,
    progress: Callable[[int, int], None] | None = None,
    rows: int = WINDOW_ROWS,
) -> Validation:
    """Compare what the kernel reported with what the model predicts.

    Parameters
    ----------
    events, machine, values, lost, progress, rows
        As for :func:`replay.walk.replay`.
    sources
        Fact name to the file that it came from.

    Returns
    -------
    Validation

    Raises
    ------
    HmtraceError
        If `events` is no event table, or not in order.
    """
    values = values or Snapshot()
    walk = TraceWalk(events, machine, values, lost, progress, rows)
    layout, found, losses = walk.layout, walk.found, walk.losses
    pool = _PoolChecks(layout, found, walk.state, losses)
    local = _LocalChecks(layout, found, losses)
    pieces = ArenaPieces(Parts())
    cutter = ArenaCutter(
        layout, values, found.ops, pieces,
        by_pointer=GENERATIONS[machine.generation].purge_by_pointer,
    )  # fmt: skip
    sleeps = Sleeps(found, machine)

    def follow(ordered: Ordered) -> None:
        window = ordered.window
        pool.follow(ordered)
        local.feed(window)
        cutter.feed(window)
        sleeps.feed(window.table)

    with Beside(follow) as others:
        for step in walk.windows():
            others.give(pool.order_calls(step))
    pool = walk.better(pool, lambda: _PoolChecks(layout, found, None, losses))
    areas = _ArenaChecks(pieces, machine, layout, values, losses)
    checks = (pool, local, areas)
    order = pool.order
    return Validation(
        kmap=pool.verdicts.share(),
        kmap_local=local.verdicts.share(),
        pool_flushes=pool.passes(),
        waits_observed=sleeps.number,
        waits_predicted=pool.outcome().waits,
        vmap=areas.verdicts.share(),
        arena=areas.replayed,
        inferred=Inferred(
            initial_state=sum(c.verdicts.initial for c in checks),
            ordering=sum(c.verdicts.ordering for c in checks) + order.moved_unmaps,
            assumed_free=order.assumed_free,
            nameless=pool.verdicts.nameless,
        ),
        first_divergence=_first_divergence(checks, walk.table),
        layout=tuple(check(derived_layout(machine), values, sources)),
        initial_state=pool.initial_state,
        generation=machine.generation,
        kernel=tuple(kernel_words(machine, layout)),
        final_pool=pool.final(),
    )


class _Checks(Protocol):
    """Verdicts on one kind of address."""

    verdicts: _Verdicts

    def around(self, wrong: _Wrong, table: pl.LazyFrame) -> tuple[str, dict[str, Any] | None]:
        """The model's state at the first wrong one, in words and as a picture."""
        ...


def _first_divergence(checks: Iterable[_Checks], table: pl.LazyFrame) -> Divergence | None:
    """The earliest address that is neither exact nor excused; `table` is in order."""
    best: tuple[_Wrong, _Checks] | None = None
    for one in checks:
        wrong = one.verdicts.first
        if wrong is not None and (best is None or wrong.row < best[0].row):
            best = wrong, one
    if best is None:
        return None
    wrong, one = best
    event = table.slice(wrong.row, 1).collect().row(0, named=True)
    state, picture = one.around(wrong, table)
    return Divergence(
        op=event["op"],
        seq=event["seq"],
        ts=event["ts"],
        cpu=event["cpu"],
        pid=event["pid"],
        comm=event["comm"] or "",
        predicted=wrong.predicted if wrong.predicted >= 0 else None,
        observed=wrong.observed,
        state=state,
        picture=picture,
    )


class _PoolChecks(PoolPart):
    """Verdicts on calls of the pool and on its flushes."""

    def __init__(
        self, layout: Layout, found: Survey, state: PoolState | None, losses: Gaps
    ) -> None:
        super().__init__(layout, found, state, losses)
        self.verdicts = _Verdicts()
        self._layout = layout
        self._found = found
        self._passes = Passes(tlb_observed=0, tlb_matched=0)
        self._views: dict[int, PoolView] = {}  # by row, of calls that may be the first wrong one

    def follow(self, ordered: Ordered) -> PoolPiece:
        before = self.at
        told = super().follow(ordered)
        self._look(before, told.piece)
        self.verdicts.add(pool_result(told.over, self._layout))
        self._forget(told.over["row"])
        self._count(told.piece, told.freed)
        return told

    def _look(self, before: PoolAt, piece: Piece) -> None:
        """Keep the pool as it was before calls of a piece that the model does not explain.

        A call that got no slot may get one later: it is looked at again then. Of those that have
        theirs only the earliest matters.
        """
        from replay.pool.loops.highmem import ASLEEP
        from replay.pool.loops.placing import INITIAL
        from replay.pool.loops.sequence import GET, MAP

        calls, code = piece.calls, piece.operations[:, 0]
        tried = piece.call[(code == MAP) | (code == GET)]
        odd = (calls["predicted"] != calls["seen"]) | (calls["status"] > INITIAL)
        is_tried = np.zeros(calls.size, bool)
        is_tried[tried[odd[tried]]] = True
        index = np.flatnonzero(is_tried)
        wrong = index[pool_result(calls[index], self._layout).wrong]
        row, asleep = calls["row"][wrong], calls["predicted"][wrong] == ASLEEP
        first = self.verdicts.first
        earliest = int(row[~asleep].min(initial=_LAST if first is None else first.row))
        wrong = wrong[(row < earliest) | ((row == earliest) & ~asleep)][: _VIEWS + 1]
        for call, view in zip(wrong, views_of(before, piece, wrong.tolist()), strict=True):
            self._views[int(calls["row"][call])] = view

    def _forget(self, over: NDArray[np.int64]) -> None:
        """Of the calls that are over only the first wrong one matters any more."""
        if not self._views:
            return
        first = self.verdicts.first
        rows = np.array(list(self._views), np.int64)
        for row in rows[np.isin(rows, over)].tolist():
            if first is None or row != first.row:
                del self._views[row]
        for row in sorted(self._views)[_VIEWS + 1 :]:
            del self._views[row]

    def around(self, wrong: _Wrong, table: pl.LazyFrame) -> tuple[str, dict[str, Any] | None]:
        """The slots around those that the model and the kernel chose."""
        view = self._views.get(wrong.row)
        if view is None:
            return "the model never came to serve it", None
        window = window_of(self._layout)
        frames = table.filter(pl.col("page").is_in(view.pages(window))).group_by("page")
        known = frames.agg(pl.col("pfn").sort_by("seq").drop_nulls().first()).collect()
        picture = view.picture(window, dict(known.iter_rows()))
        words = (
            f"last_pkmap_nr {picture['last']}, {picture['used']} slots used, "
            f"{picture['stale']} stale, {picture['free']} free"
        )
        return words, picture

    def _count(self, piece: Piece, freed: NDArray[np.int32]) -> None:
        """Add a piece's flushes, each of which is one operation."""
        at = piece.at_pass >= 0
        traced = "flush_range" in self._found.ops
        flushed = np.where(piece.flushed[at], 1, 0 if traced else -1).astype(np.int8)
        index = np.full(at.size, -1, np.int64)
        index[at] = np.arange(flushed.size)
        more, sofar = vars(passes_result(flushed, index, freed, 0)), vars(self._passes)
        self._passes = Passes(**{name: sofar[name] + (more[name] or 0) for name in more})

    def passes(self) -> Passes:
        passes = replace(self._passes, ordered=self.order.told_passes)
        if "flush_range" in self._found.ops and passes.observed:
            return passes
        return replace(passes, tlb_observed=None, tlb_matched=None)


class _LocalChecks:
    """Verdicts on local mappings."""

    def __init__(self, layout: Layout, found: Survey, losses: Gaps) -> None:
        self.verdicts = _Verdicts()
        self._layout = layout
        self._stacks = LocalStacks(layout, switch_hook(found.ops), losses)

    def feed(self, window: Window) -> None:
        layout = self._layout
        piece = self._stacks.feed(window.table, window.first_row, last=window.last)
        address = layout.kmap_fix_top + piece.pages_in * layout.kmap_fix_step
        told = local_result(piece.row, piece.vaddr, address, piece.status)
        self.verdicts.add(told, piece.depth)
        if not has_ops(window.table, ("kmap_local",)):
            return
        table = window.table.with_row_index("row", window.first_row)
        maps = of_ops(table, ("kmap_local",))
        low = maps.filter(~takes_slot(maps, layout)).filter(~reuses(layout))
        self.verdicts.add(
            local_result(
                low.get_column("row").to_numpy().astype(np.int64),
                low.get_column("vaddr").cast(pl.Int64).fill_null(-1).to_numpy(),
                direct_of(low, layout),
                np.zeros(low.height, np.uint8),
            )
        )

    @staticmethod
    def around(wrong: _Wrong, _: pl.LazyFrame) -> tuple[str, None]:
        """The depth of the stack."""
        return f"depth {wrong.depth}" if wrong.depth >= 0 else "direct mapping of lowmem", None


class _ArenaChecks:
    """Verdicts on areas.

    Parameters
    ----------
    pieces
        Calls of the arena.
    machine, layout, values, losses
        As for :func:`replay.arena.replay.replay_pieces`.
    """

    def __init__(
        self,
        pieces: ArenaPieces,
        machine: Machine,
        layout: Layout,
        values: Snapshot,
        losses: Gaps,
    ) -> None:
        self.verdicts = _Verdicts()
        self._machine, self._layout, self._values = machine, layout, values
        self._pieces = pieces
        self._first: Answers | None = None
        self.replayed = replay_pieces(pieces, machine, layout, values, losses, self._add)
        self.verdicts.initial = self.replayed.inferred_initial
        self.verdicts.ordering = self.replayed.ordering

    def _add(self, answers: Answers) -> None:
        """Add what a piece told."""
        result = arena_result(answers)
        self.verdicts.add(result)
        if self._first is None and result.wrong.size:
            self._first = answers.only(int(result.wrong[0]))

    def around(self, wrong: _Wrong, _: pl.LazyFrame) -> tuple[str, dict[str, Any]]:
        """The areas and holes around the two addresses."""
        picture = arena_picture(
            self._pieces, self._machine, self._layout, self._values,
            wrong.row, wrong.predicted, wrong.observed,
        )  # fmt: skip
        words = "" if self._first is None else self._first.around(0, self.replayed.text)
        return words, picture
