"""Replay a capture on the machine that it was made on, and report what happened.

>>> outcome = replay(capture.events, machine, values=capture.facts.values())  # doctest: +SKIP
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from collectors.events import require_events
from replay.arena import arena_figures
from replay.arena_tally import arena_tally
from replay.costing import Work, cost_of
from replay.findings import findings
from replay.layout import layout_of
from replay.locals import LocalReplay, replay_locals
from replay.outcome import LocalOutcome, Outcome
from replay.pool import PoolReplay, replay_pool, state_from, window_of
from replay.sites import call_sites

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from replay.layout import Layout
    from replay.loss import Loss
    from replay.machine import Machine

_BEYOND = 1 << 48
"""No address, frame or size of the machines that are modelled reaches this."""
_VALUES = ("page", "pfn", "vaddr", "pages", "size", "align", "start", "end")


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
    span
        Time of the first and of the last event.
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
    span: tuple[int, int]
    losses: tuple[int, ...]
    beyond: int = 0


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
    table, beyond = _within_bounds(events.lazy().collect().sort("seq"))
    layout = layout_of(machine)
    times = table.select(
        pl.col("ts").min().fill_null(0).alias("first"),
        pl.max_horizontal(pl.col("ts").max(), pl.col("end_ts").max()).fill_null(0).alias("last"),
    ).row(0)
    losses = tuple(sorted({i.after_seq for i in lost.intervals})) if lost else ()
    tell("pkmap pool")
    pool = replay_pool(table, layout, state=state_from(values or {}), losses=losses, span=times)
    tell("kmap_local stacks")
    local = replay_locals(table, layout, losses=losses)
    return Replayed(table, machine, layout, pool, local, times, losses, beyond)


def _within_bounds(table: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Cut values to what fits into sums of 64 bits; the second is how many were cut."""
    beyond = int(table.select(pl.sum_horizontal((pl.col(_VALUES) > _BEYOND).sum())).item())
    if not beyond:
        return table, 0
    return table.with_columns(pl.col(_VALUES).clip(upper_bound=_BEYOND)), beyond


def replay(
    events: pl.LazyFrame | pl.DataFrame,
    machine: Machine,
    *,
    values: Mapping[str, Any] | None = None,
    lost: Loss | None = None,
    clock_is_ns: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Outcome:
    """Replay a trace on its own machine.

    Parameters
    ----------
    events, machine, values, lost, progress
        As for :func:`replay_events`.
    clock_is_ns
        False where the trace clock counts something else than time.

    Returns
    -------
    Outcome
    """
    done = replay_events(events, machine, values=values, lost=lost, progress=progress)
    return outcome_of(done, values or {}, lost, clock_is_ns=clock_is_ns)


def outcome_of(
    done: Replayed, values: Mapping[str, Any], lost: Loss | None, *, clock_is_ns: bool
) -> Outcome:
    """The figures of a replay as one outcome."""
    tally = done.pool.tally
    local = local_figures(done.local, done.layout)
    work = Work(
        pool=done.pool.outcome,
        local=local,
        scanned=tally.scanned,
        freed_by_wraps=tally.freed_by_wraps,
        freed_by_unused=tally.freed_by_unused,
        held_at_switches=local.mappings_saved,
        arena=arena_tally(done.events, done.layout, window_of(done.layout)),
    )
    span_ns = done.span[1] - done.span[0]
    cost, tlb = cost_of(work, done.machine, done.layout, span_ns if clock_is_ns else None)
    outcome = Outcome(
        machine=done.machine,
        layout=done.layout,
        span_ns=span_ns,
        cpus=done.machine.cpus,
        pool=done.pool.outcome,
        local=local,
        arena=arena_figures(done.events, done.layout, values),
        tlb=tlb,
        cost=cost,
        sites=call_sites(done.events, done.local),
        caveats=tuple(common_caveats(done, values, lost, clock_is_ns=clock_is_ns)),
    )
    return replace(outcome, findings=findings(outcome, values, lost))


def local_figures(local: LocalReplay, layout: Layout) -> LocalOutcome:
    """Figures of the local mappings."""
    slots = local.takes_slot
    depths = local.depth[slots]
    by_cpu = {
        int(cpu): tuple(np.bincount(depths[local.cpu[slots] == cpu]).tolist())
        for cpu in np.unique(local.cpu[slots])
    }
    maps, saved = int(slots.sum()), int(local.switches.sum())
    single = 0
    if layout.local_flush_on_map:
        single += maps + saved
    if layout.local_flush_on_unmap:
        single += local.unmaps
    single += saved  # taking mappings down at a switch always flushes
    return LocalOutcome(
        maps=maps,
        lowmem=int((~slots & ~local.reused).sum()),
        reused=int(local.reused.sum()),
        unmaps=local.unmaps,
        max_depth=int(depths.max(initial=-1)) + 1,
        limit=layout.km_usable_depth,
        depth_by_cpu=by_cpu,
        saved_on_switch=int(local.switches.size),
        mappings_saved=saved,
        tlb_single=single,
    )


def common_caveats(
    done: Replayed, values: Mapping[str, Any], lost: Loss | None, *, clock_is_ns: bool
) -> list[str]:
    """What the reader must know to trust the figures no more than they deserve."""
    caveats = []
    kmaps = done.events.filter(pl.col("op") == "kmap")
    if kmaps.height and kmaps.get_column("page").null_count() == kmaps.height:
        caveats.append(
            "the trace has no page arguments: every kmap() is taken for a page of its own, so "
            "hits, pool use and flushes are not known, only counts and call sites"
        )
    if done.pool.initial_state != "snapshot" and kmaps.height:
        caveats.append(f"initial state of the pool: {done.pool.initial_state}")
    if lost is not None and (lost.events or lost.unknown):
        caveats.append(
            "events were lost: the model starts anew after each gap, so counts are lower bounds "
            "and the pool's use right after a gap is not known"
        )
    if done.beyond:
        caveats.append(
            f"{done.beyond} values are beyond any address or size of such a machine: the trace is "
            "damaged, or of another machine"
        )
    if not clock_is_ns:
        caveats.append("the trace clock counts no time: durations and shares are not known")
    if "QEMU" in str(values.get("board", "")):
        caveats.append("the machine was emulated (QEMU): its times say nothing of real hardware")
    caveats.append(
        "costs in ns are estimates from replay/costs.toml, most of it assumptions; --costs FILE "
        "puts measured figures in"
    )
    return caveats
