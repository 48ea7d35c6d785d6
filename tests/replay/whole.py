"""A trace in one piece, keeping every single call: what windows must come to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from collectors.snapshot import Snapshot
from replay.arena.tally import ArenaTally
from replay.arena.use import ArenaUse
from replay.figures import Figures, outcome_from
from replay.local.tally import LocalTally
from replay.machine.kconfig import is_realtime
from replay.machine.layout import check, layout_of
from replay.machine.words import kernel_words
from replay.pool.replay import state_from, window_of
from replay.sites.tally import SiteTally
from replay.survey import survey
from replay.trace.losses import gaps_of
from replay.trace.sanitise import narrow_events, narrowed, within_bounds
from replay.trace.tasks import finished_by
from replay.validate.verdicts import (
    Inferred,
    Share,
    Validation,
    arena_result,
    local_result,
    passes_result,
    pool_result,
)
from tests.opened import opened
from tests.replay.whole_arena import replay_arena
from tests.replay.whole_local import LocalReplay, replay_locals
from tests.replay.whole_pool import PoolReplay, replay_pool

if TYPE_CHECKING:
    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.outcome import ArenaOutcome, LocalOutcome, Outcome, Site
    from replay.pool.window import PoolWindow
    from replay.survey import Survey
    from replay.trace.losses import Gaps, Loss


@dataclass(frozen=True)
class Replayed:
    """A replay with everything that validation and what-if replays build on.

    Attributes
    ----------
    events
        Event table, sorted by `seq`.
    machine, layout
        Captured machine and its address map.
    pool, local
        Replays of the two kinds of temporary mappings.
    survey
        Facts of the whole trace.
    losses
        `seq` of the first event after each loss of events.
    beyond
        Number of values that no such machine has, from damaged or forged traces. They are cut to
        a value that is as wrong, so that sums of addresses stay within 64 bits.
    """

    events: pl.DataFrame
    machine: Machine
    layout: Layout
    pool: PoolReplay
    local: LocalReplay
    survey: Survey
    losses: Gaps
    beyond: int = 0

    @property
    def span(self) -> tuple[int, int]:
        """Time of the first and of the last event."""
        return self.survey.span


def replay_events(
    events: pl.LazyFrame | pl.DataFrame,
    machine: Machine,
    *,
    values: Snapshot | None = None,
    lost: Loss | None = None,
) -> Replayed:
    """Order and replay all temporary mappings of a trace.

    Parameters
    ----------
    events
        Event table.
    machine
        The machine that the trace is from.
    values
        Its facts; the pool's initial state among them.
    lost
        What tracing lost.
    """
    layout = layout_of(machine)
    events = narrow_events(events, layout)
    layout = narrowed(layout)
    table, beyond = within_bounds(events.lazy().collect().sort("seq"))
    losses = gaps_of(lost, table.lazy())
    state = state_from(values or Snapshot())
    found = survey(table, state, window_of(layout))
    pool = replay_pool(table, layout, state=state, losses=losses, span=found.span)
    local = replay_locals(table, layout, losses=losses)
    return Replayed(table, machine, layout, pool, local, found, losses, beyond)


@cache
def replay_capture(name: str) -> Replayed:
    """The same of a real capture, once for all that look at it."""
    capture, machine = opened(name)
    return replay_events(
        capture.events, machine, values=capture.facts.snapshot(), lost=capture.lost
    )


def outcome_of(
    done: Replayed, values: Snapshot, lost: Loss | None, *, clock_is_ns: bool
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
    maps = done.events.filter(pl.col("op") == "kmap_local")
    tally.unknown = maps.filter(pl.all_horizontal(pl.col("page", "pfn", "vaddr").is_null())).height
    return tally.outcome(done.layout)


def arena_tally(events: pl.DataFrame, layout: Layout, window: PoolWindow) -> ArenaTally:
    """Work of the arena in a whole trace."""
    tally = ArenaTally()
    tally.add(events, window, layout.page_size)
    return tally


def arena_figures(events: pl.DataFrame, layout: Layout, values: Snapshot) -> ArenaOutcome:
    """What happened in the arena in a whole trace."""
    use = ArenaUse(layout, values)
    use.feed(events, last=True)
    return use.outcome()


def call_sites(events: pl.DataFrame, local: LocalReplay, page_size: int = 4096) -> tuple[Site, ...]:
    """The call sites of a whole trace, most calls first."""
    tally = SiteTally(page_size)
    tally.feed(events, 0, local.row, local.hold_ns, np.zeros(0, np.int64))
    return tally.sites()


def validate(
    events: pl.LazyFrame | pl.DataFrame,
    machine: Machine,
    *,
    values: Snapshot | None = None,
    lost: Loss | None = None,
) -> Validation:
    """Verdicts on a trace, without its first divergence and its final pool."""
    values = values or Snapshot()
    return verdicts_of(replay_events(events, machine, values=values, lost=lost), values)


def verdicts_of(done: Replayed, values: Snapshot) -> Validation:
    """Verdicts on what was replayed."""
    machine, sequence = done.machine, done.pool.sequence
    pool = pool_result(sequence.piece.calls, done.layout)
    vaddr = done.events.get_column("vaddr").cast(pl.Int64).fill_null(-1).to_numpy()[done.local.row]
    seen = np.where(done.local.reused, -1, vaddr)  # the pool's are compared there
    local = local_result(done.local.row, seen, done.local.vaddr, done.local.status)
    arena = replay_arena(done.events, machine, done.layout, values, done.losses)
    areas = arena_result(arena.answers)
    return Validation(
        kmap=Share(int(pool.counted.sum()), int(pool.exact.sum())),
        kmap_local=Share(int(local.counted.sum()), int(local.exact.sum())),
        pool_flushes=passes_result(
            sequence.pass_flushed, sequence.at_pass, done.pool.freed, sequence.told_passes
        ),
        waits_observed=observed_waits(done),
        waits_predicted=done.pool.outcome.waits,
        vmap=Share(int(areas.counted.sum()), int(areas.exact.sum())),
        arena=arena.found,
        inferred=Inferred(
            initial_state=pool.initial + local.initial + arena.inferred_initial,
            ordering=pool.ordering + sequence.moved_unmaps + local.ordering + arena.ordering,
            assumed_free=sequence.assumed_free,
            nameless=pool.nameless,
        ),
        layout=tuple(check(done.layout, values)),
        initial_state=done.pool.initial_state,
        generation=machine.generation,
        kernel=tuple(kernel_words(machine, done.layout)),
    )


def observed_waits(done: Replayed) -> int | None:
    """Times a task went to uninterruptible sleep inside kmap_high()."""
    switches = done.events.filter(pl.col("op") == "switch")
    if not switches.height or is_realtime(done.machine.config):
        return None
    maps = done.events.filter(pl.col("op") == "kmap")
    if maps.get_column("end_seq").null_count() < maps.height:  # else returns are not traced
        more = finished_by(done.events.lazy()).select("pid", more="seq").collect()
        maps = maps.join_asof(
            more, left_on="seq", right_on="more", by="pid", strategy="forward",
            allow_exact_matches=False, check_sortedness=False,
        )  # fmt: skip
        never = pl.lit(np.iinfo(np.uint64).max, pl.UInt64)
        maps = maps.with_columns(end_seq=pl.coalesce("end_seq", "more", never))
    inside = switches.filter("blocked").select("seq", "pid").join_asof(
        maps.filter(pl.col("end_seq").is_not_null()).select("pid", "seq", "end_seq"),
        on="seq", by="pid", strategy="backward", check_sortedness=False,
    )  # fmt: skip
    return inside.filter(pl.col("end_seq") > pl.col("seq")).height
