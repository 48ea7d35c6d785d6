"""Figures of a trace from the replay that keeps every single call: what windows must come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from replay.arena.tally import ArenaTally
from replay.arena.use import ArenaUse
from replay.figures import Figures, outcome_from
from replay.local.stacks import nameless
from replay.local.tally import LocalTally
from replay.machine.layout import layout_of
from replay.pool.replay import window_of
from replay.sites import SiteTally

if TYPE_CHECKING:
    from collections.abc import Mapping

    from replay.local.whole import LocalReplay
    from replay.machine.layout import Layout
    from replay.outcome import ArenaOutcome, LocalOutcome, Outcome, Site
    from replay.run import Replayed
    from replay.survey import PoolWindow
    from replay.trace.losses import Loss


def outcome_of(
    done: Replayed, values: Mapping[str, Any], lost: Loss | None, *, clock_is_ns: bool
) -> Outcome:
    """The figures of a replay as one outcome."""
    figures = Figures(
        survey=done.survey,
        tally=done.pool.tally,
        pool=done.pool.outcome,
        local=local_figures(done),
        work=arena_tally(done.events, done.layout, window_of(done.layout)),
        arena=arena_figures(done.events, done.layout, values),
        sites=call_sites(done.events, done.local, done.layout.page_size),
        initial_state=done.pool.initial_state,
        beyond=done.beyond,
    )
    shown = layout_of(done.machine)
    return outcome_from(figures, done.machine, shown, values, lost, clock_is_ns=clock_is_ns)


def local_figures(done: Replayed) -> LocalOutcome:
    """Figures of all local mappings."""
    local, tally = done.local, LocalTally()
    slots = local.takes_slot
    tally.add(local.depth[slots], local.cpu[slots], local.switches)
    tally.unmaps, tally.reused = local.unmaps, int(local.reused.sum())
    tally.lowmem = int((~slots & ~local.reused).sum())
    tally.unknown = nameless(done.events.filter(pl.col("op") == "kmap_local"))
    return tally.outcome(done.layout)


def arena_tally(events: pl.DataFrame, layout: Layout, window: PoolWindow) -> ArenaTally:
    """Work of the arena in a whole trace."""
    tally = ArenaTally()
    tally.add(events, window, layout.page_size)
    return tally


def arena_figures(events: pl.DataFrame, layout: Layout, values: Mapping[str, Any]) -> ArenaOutcome:
    """What happened in the arena in a whole trace."""
    use = ArenaUse(layout, values)
    use.feed(events, last=True)
    return use.outcome()


def call_sites(events: pl.DataFrame, local: LocalReplay, page_size: int = 4096) -> tuple[Site, ...]:
    """The call sites of a whole trace, most calls first."""
    tally = SiteTally(page_size)
    tally.feed(events, 0, local.row, local.hold_ns, np.zeros(0, np.int64))
    return tally.sites()
