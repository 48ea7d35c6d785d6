"""Replay a capture on the machine that it was made on, keeping every single call.

Calibration and the validation of captures that fit into memory build on this; figures alone can be
had in bounded memory (:mod:`replay.walk`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from collectors.events import require_events
from replay.local.whole import LocalReplay, replay_locals
from replay.machine.layout import layout_of
from replay.pool.replay import PoolReplay, replay_pool, state_from, window_of
from replay.survey import survey
from replay.trace.losses import gaps_of
from replay.trace.sanitise import narrow_events, narrowed, within_bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import polars as pl

    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.survey import Survey
    from replay.trace.losses import Loss


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
    losses: tuple[int, ...]
    beyond: int = 0

    @property
    def span(self) -> tuple[int, int]:
        """Time of the first and of the last event."""
        return self.survey.span


def replay_events(
    events: pl.LazyFrame | pl.DataFrame,
    machine: Machine,
    *,
    values: Mapping[str, Any] | None = None,
    lost: Loss | None = None,
    progress: Callable[[str], None] | None = None,
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
    progress
        Called with the name of each step as it begins.

    Raises
    ------
    HmtraceError
        If `events` is no event table.
    """
    require_events(events)
    tell = progress or (lambda _: None)
    tell("events")
    layout = layout_of(machine)
    events = narrow_events(events, layout)
    layout = narrowed(layout)
    table, beyond = within_bounds(events.lazy().collect().sort("seq"))
    losses = gaps_of(lost)
    state = state_from(values or {})
    found = survey(table, state, window_of(layout))
    tell("pkmap pool")
    pool = replay_pool(table, layout, state=state, losses=losses, span=found.span)
    tell("kmap_local stacks")
    local = replay_locals(table, layout, losses=losses)
    return Replayed(table, machine, layout, pool, local, found, losses, beyond)
