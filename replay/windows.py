"""The figures of a capture in bounded memory: the event table window by window.

The parts are those of the replay of a whole trace, each fed in pieces and carrying what is open:
the pool with its lock order, the stacks of local mappings, the arena, the call sites. Where the
windows end changes no figure. What is kept grows with the machine (slots, tasks, areas, call
sites) and with what is under way, not with the trace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from collectors.events import HmtraceError, require_events
from replay.arena import ArenaUse
from replay.arena_tally import ArenaTally
from replay.bounds import within_bounds
from replay.figures import Figures, outcome_from
from replay.layout import layout_of
from replay.local_stacks import LocalStacks
from replay.local_tally import LocalTally
from replay.locals import switch_hook
from replay.lock_order import LockOrder
from replay.loss import gaps_of
from replay.pool import MISFITS, PoolRun, is_of_another_run, not_used, state_from, window_of
from replay.sites import SiteTally
from replay.survey import survey
from replay.wide import narrow_events, narrowed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from replay.layout import Layout
    from replay.loss import Loss
    from replay.machine import Machine
    from replay.outcome import Outcome, PoolOutcome
    from replay.pool_tally import PoolTally
    from replay.survey import PoolState, Survey

WINDOW_ROWS: Final = 1 << 18
"""Rows of the event table that are looked at together: about 0.2 GB of memory."""
_UNUSED: Final = ("comm", "align", "entry_traced", "next_pid")
_LAST_POSITION: Final = 1 << 61


def replay(
    events: pl.LazyFrame | pl.DataFrame,
    machine: Machine,
    *,
    values: Mapping[str, Any] | None = None,
    lost: Loss | None = None,
    clock_is_ns: bool = True,
    progress: Callable[[int, int], None] | None = None,
    rows: int = WINDOW_ROWS,
) -> Outcome:
    """Replay a trace on its own machine, for its figures alone.

    Parameters
    ----------
    events
        Event table. A lazy one of more than `rows` rows has to be in the order of `seq`.
    machine
        The machine that the trace is from.
    values
        Its facts; the pool's initial state among them.
    lost
        What tracing lost.
    clock_is_ns
        False where the trace clock counts something else than time.
    progress
        Called with the rows done and the rows in all.
    rows
        Rows per window.

    Returns
    -------
    Outcome

    Raises
    ------
    HmtraceError
        If `events` is no event table, or not in order.
    """
    require_events(events)
    values = values or {}
    shown, state = layout_of(machine), state_from(values)
    events, layout = narrow_events(events, shown), narrowed(shown)
    found = survey(events, state)
    losses = gaps_of(lost)
    tell = progress or (lambda _done, _total: None)
    pool = _Pool(layout, found, state, losses)
    rest = _Rest(layout, found, values, losses)
    for window, first_row, last in windows(events, found.rows, rows):
        pool.feed(window, first_row, last=last)
        rest.feed(window, first_row, last=last)
        tell(first_row + window.height, found.rows)
    initial = "inferred" if state is None else "snapshot"
    if state is not None and pool.misfits >= MISFITS:
        other = _Pool(layout, found, None, losses)
        for window, first_row, last in windows(events, found.rows, rows):
            other.feed(window, first_row, last=last)
            tell(first_row + window.height, found.rows)
        if is_of_another_run(pool.misfits, other.misfits):
            pool, initial = other, not_used(pool.misfits)
    return outcome_from(
        rest.figures(found, pool, initial), machine, shown, values, lost, clock_is_ns=clock_is_ns
    )


def windows(
    events: pl.LazyFrame | pl.DataFrame, total: int, rows: int
) -> Iterator[tuple[pl.DataFrame, int, bool]]:
    """Go through an event table in pieces.

    Parameters
    ----------
    events
        Event table.
    total
        Its rows.
    rows
        Rows per window.

    Yields
    ------
    window : polars.DataFrame
        Sorted by `seq`; at least one, if need be without rows.
    first_row : int
        Number of its first row.
    last : bool
        Whether nothing comes behind it.

    Raises
    ------
    HmtraceError
        If a table that does not fit into one window is not in order.
    """
    table = events.lazy().drop(_UNUSED)
    if total <= rows or isinstance(events, pl.DataFrame):
        whole = table.collect().sort("seq")
        for start in range(0, max(total, 1), rows):
            yield whole[start : start + rows], start, start + rows >= total
        return
    first_row, position = 0, -1
    for window in table.collect_batches(chunk_size=rows, maintain_order=True):
        if not window.height:
            continue
        seq = window.get_column("seq")
        if not seq.is_sorted() or seq[0] < position or seq[-1] >= _LAST_POSITION:
            raise HmtraceError(
                f"the events are not in order near row {first_row}",
                hint="sort the table by column seq",
            )
        position = seq[-1]
        yield window, first_row, first_row + window.height >= total
        first_row += window.height


class _Pool:
    """The pool: its order, its replay, and how many calls contradict the model."""

    def __init__(
        self, layout: Layout, found: Survey, state: PoolState | None, losses: tuple[int, ...]
    ) -> None:
        window = window_of(layout)
        self._order = LockOrder(window, found.pool, state=state, losses=losses)
        self._run = PoolRun(window, found.span)
        self.misfits = 0

    def feed(self, window: pl.DataFrame, first_row: int, *, last: bool) -> None:
        from replay.kernels.placing import DIVERGED

        window, _ = within_bounds(window)
        piece = self._order.feed(window, first_row, last=last)
        self._run.take(piece, last=last)
        self._run.count_nameless(window)
        over = piece.calls if last else self._order.forget()
        self._run.finish(over)
        self.misfits += int((over["status"] == DIVERGED).sum())

    @property
    def tally(self) -> PoolTally:
        return self._run.tally

    def outcome(self) -> PoolOutcome:
        return self._run.outcome()


class _Rest:
    """Everything but the pool."""

    def __init__(
        self, layout: Layout, found: Survey, values: Mapping[str, Any], losses: tuple[int, ...]
    ) -> None:
        self._layout = layout
        self._stacks = LocalStacks(layout, switch_hook(found.ops), losses)
        self._local = LocalTally()
        self._sites = SiteTally()
        self._work = ArenaTally()
        self._use = ArenaUse(layout, values)
        self._beyond = 0

    def feed(self, window: pl.DataFrame, first_row: int, *, last: bool) -> None:
        window, beyond = within_bounds(window)
        self._beyond += beyond
        local = self._stacks.feed(window, first_row, last=last)
        self._local.add(local.depth, local.cpu, local.switches)
        self._local.unmaps += local.unmaps
        self._local.lowmem += local.lowmem
        self._local.reused += local.reused
        self._sites.feed(window, first_row, local.ended, local.hold_ns, self._stacks.open_rows)
        self._work.add(window, window_of(self._layout), self._layout.page_size)
        self._use.feed(window, last=last)

    def figures(self, found: Survey, pool: _Pool, initial_state: str) -> Figures:
        remarks = []
        if self._sites.forgotten:
            remarks.append(
                f"{self._sites.forgotten} kmap() calls wait in vain for a kunmap() of their own "
                "task: their holding times are left out"
            )
        return Figures(
            survey=found,
            tally=pool.tally,
            pool=pool.outcome(),
            local=self._local.outcome(self._layout),
            work=self._work,
            arena=self._use.outcome(),
            sites=self._sites.sites(),
            initial_state=initial_state,
            beyond=self._beyond,
            remarks=tuple(remarks),
        )
