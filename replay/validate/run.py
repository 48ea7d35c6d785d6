"""The model against the kernel in bounded memory: the event table window by window.

The verdicts are those of :mod:`replay.validate.verdicts`. Events of the arena are kept, for its
replay goes over them several times; they are few beside those of the pool and the local mappings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from collectors.events import require_events
from replay.arena.replay import replay_arena
from replay.arena.rows import ArenaRows
from replay.local.stacks import LocalStacks, reuses, takes_slot
from replay.local.whole import direct_of, switch_hook
from replay.machine.kconfig import is_realtime
from replay.machine.layout import check, layout_of
from replay.machine.words import kernel_words
from replay.pool.replay import MISFITS, state_from, window_of
from replay.survey import survey
from replay.trace.losses import gaps_of
from replay.trace.tasks import finished_by
from replay.trace.windows import WINDOW_ROWS, windows
from replay.validate.verdicts import (
    FOR_EVER,
    Divergence,
    Inferred,
    Passes,
    Result,
    Share,
    Validation,
    arena_result,
    lasting,
    local_result,
    passes_result,
    pool_result,
    sleeps_inside,
)
from replay.walk import PoolPart, without_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.pool.lock_order import Piece
    from replay.survey import PoolState, Survey
    from replay.trace.losses import Loss
    from replay.trace.windows import Window

_NO_STATE: Final = "replayed window by window: the state there was not kept"


@dataclass(frozen=True)
class _Wrong:
    """The first call that the model does not explain."""

    row: int
    predicted: int
    observed: int
    state: str = _NO_STATE


class _Verdicts:
    """Verdicts on one kind of address, added up."""

    def __init__(self) -> None:
        self.total = self.exact = self.initial = self.ordering = 0
        self.first: _Wrong | None = None

    def add(self, result: Result) -> None:
        self.total += int(result.counted.sum())
        self.exact += int(result.exact.sum())
        self.initial += result.initial
        self.ordering += result.ordering
        wrong = result.wrong
        if wrong.size:
            at = wrong[np.argmin(result.row[wrong])]
            if self.first is None or result.row[at] < self.first.row:
                self.first = _Wrong(
                    int(result.row[at]), int(result.predicted[at]), int(result.seen[at])
                )

    def share(self) -> Share:
        return Share(self.total, self.exact)


def validate_windows(
    events: pl.LazyFrame,
    machine: Machine,
    *,
    values: Mapping[str, Any] | None = None,
    sources: Mapping[str, str] | None = None,
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
        As :func:`replay.validate.verdicts.validate` gives it, but without a picture of the state
        at the first divergence.
    """
    require_events(events)
    values = values or {}
    layout, state = layout_of(machine), state_from(values)
    found = survey(events, state, window_of(layout))
    losses = gaps_of(lost)
    pool = _PoolChecks(layout, found, state, losses)
    local = _LocalChecks(layout, found, losses)
    kept = ArenaRows(layout)
    waits = _Sleeps(returns=found.returned > 0)
    for window in windows(events, found.rows, rows, progress):
        pool.feed(window)
        local.feed(window)
        kept.feed(window)
        waits.feed(window.table)
    if state is not None and pool.misfits >= MISFITS:
        again = windows(events, found.rows, rows, progress)
        pool = without_snapshot(pool, _PoolChecks(layout, found, None, losses), again)
    table = kept.table(events.collect_schema())
    arena = replay_arena(table, machine, layout, values, losses)
    result = arena_result(arena)
    areas = _Verdicts()
    areas.add(result)
    wrongs = [w for w in (pool.verdicts.first, local.verdicts.first) if w is not None]
    if areas.first is not None:
        text = arena.around(int(result.wrong[0]))
        row = int(kept.rows[areas.first.row])
        wrongs.append(_Wrong(row, areas.first.predicted, areas.first.observed, text))
    silent = not found.ops.get("switch") or is_realtime(machine.config)
    order = pool.order
    return Validation(
        kmap=pool.verdicts.share(),
        kmap_local=local.verdicts.share(),
        pool_flushes=pool.passes(),
        waits_observed=None if silent else waits.number,
        waits_predicted=pool.outcome().waits,
        vmap=areas.share(),
        arena=arena,
        inferred=Inferred(
            initial_state=pool.verdicts.initial + local.verdicts.initial + areas.initial,
            ordering=pool.verdicts.ordering
            + order.moved_unmaps
            + local.verdicts.ordering
            + areas.ordering,
            assumed_free=order.assumed_free,
        ),
        first_divergence=_divergence(events, min(wrongs, key=lambda w: w.row, default=None)),
        layout=tuple(check(layout, values, sources)),
        initial_state=pool.initial_state,
        generation=machine.generation,
        kernel=tuple(kernel_words(machine, layout)),
    )


def _divergence(events: pl.LazyFrame, wrong: _Wrong | None) -> Divergence | None:
    if wrong is None:
        return None
    event = events.slice(wrong.row, 1).collect().row(0, named=True)
    return Divergence(
        op=event["op"],
        seq=event["seq"],
        ts=event["ts"],
        cpu=event["cpu"],
        pid=event["pid"],
        comm=event["comm"] or "",
        predicted=wrong.predicted if wrong.predicted >= 0 else None,
        observed=wrong.observed,
        state=wrong.state,
    )


class _PoolChecks(PoolPart):
    """Verdicts on calls of the pool and on its flushes."""

    def __init__(
        self, layout: Layout, found: Survey, state: PoolState | None, losses: tuple[int, ...]
    ) -> None:
        super().__init__(layout, found, state, losses)
        self.verdicts = _Verdicts()
        self._layout = layout
        self._found = found
        self._passes = Passes(tlb_observed=0, tlb_matched=0)

    def feed(self, window: Window) -> tuple[Piece, NDArray[np.int32], NDArray[np.void]]:
        piece, freed, over = super().feed(window)
        self.verdicts.add(pool_result(over, self._layout))
        self._count(piece, freed)
        return piece, freed, over

    def _count(self, piece: Piece, freed: NDArray[np.int32]) -> None:
        """Add a piece's flushes, each of which is one operation."""
        at = piece.at_pass >= 0
        traced = "flush_range" in self._found.ops
        flushed = np.where(piece.flushed[at], 1, 0 if traced else -1).astype(np.int8)
        index = np.full(at.size, -1, np.int64)
        index[at] = np.arange(flushed.size)
        more, sofar = vars(passes_result(flushed, index, freed, 0)), vars(self._passes)
        self._passes = Passes(**{name: sofar[name] + max(more[name], 0) for name in more})

    def passes(self) -> Passes:
        passes = replace(self._passes, ordered=self.order.told_passes)
        if "flush_range" in self._found.ops and passes.observed:
            return passes
        return replace(passes, tlb_observed=-1, tlb_matched=-1)


class _LocalChecks:
    """Verdicts on local mappings."""

    def __init__(self, layout: Layout, found: Survey, losses: tuple[int, ...]) -> None:
        self.verdicts = _Verdicts()
        self._layout = layout
        self._stacks = LocalStacks(layout, switch_hook(found.ops), losses)

    def feed(self, window: Window) -> None:
        layout = self._layout
        piece = self._stacks.feed(window.table, window.first_row, last=window.last)
        address = layout.kmap_fix_top - piece.pages_down * layout.page_size
        self.verdicts.add(local_result(piece.row, piece.vaddr, address, piece.status))
        table = window.table.with_row_index("row", window.first_row)
        maps = table.filter(pl.col("op") == "kmap_local")
        low = maps.filter(~takes_slot(maps, layout)).filter(~reuses(layout))
        self.verdicts.add(
            local_result(
                low.get_column("row").to_numpy().astype(np.int64),
                low.get_column("vaddr").cast(pl.Int64).fill_null(-1).to_numpy(),
                direct_of(low, layout),
                np.zeros(low.height, np.uint8),
            )
        )


class _Sleeps:
    """Counts switches to uninterruptible sleep inside kmap().

    Parameters
    ----------
    returns
        Whether returns of kmap() are traced.
    """

    def __init__(self, *, returns: bool) -> None:
        self.number = 0
        self._returns = returns
        self._open: pl.DataFrame | None = None

    def feed(self, table: pl.DataFrame) -> None:
        maps = table.filter(pl.col("op") == "kmap").select("pid", "seq", "end_seq")
        if self._returns:
            maps = lasting(maps, table)
        if self._open is not None:
            maps = pl.concat([self._still_open(self._open, table), maps])
        self.number += sleeps_inside(maps, table.filter(pl.col("op") == "switch"))
        if table.height:
            latest = maps.filter(pl.col("end_seq").is_not_null()).unique("pid", keep="last")
            self._open = latest.filter(pl.col("end_seq") > table["seq"][-1]).sort("seq")

    @staticmethod
    def _still_open(calls: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
        """Calls of before; what seemed to last for ever is over when its task does more."""
        more = finished_by(table.lazy()).group_by("pid").agg(more=pl.col("seq").min()).collect()
        over = (pl.col("end_seq") == FOR_EVER) & pl.col("more").is_not_null()
        return (
            calls.join(more, on="pid", how="left", maintain_order="left")
            .with_columns(end_seq=pl.when(over).then("more").otherwise("end_seq"))
            .drop("more")
        )
