"""From the figures of a replay's parts to one outcome, whichever way they were counted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from collectors.records import dataclass
from replay.arena.state import LOST_END, lost_end
from replay.arena.tally import FLUSH_FUNCTIONS, ArenaTally
from replay.cost.account import CountedWork, cost_of, sends_ipis, with_measured
from replay.lowmem import lowmem_of
from replay.machine.costs import FIGURE_NAMES, Costs
from replay.machine.generations import GENERATIONS
from replay.machine.words import is_emulated
from replay.outcome import Outcome
from replay.rules.judge import findings

if TYPE_CHECKING:
    from collectors.snapshot import Snapshot
    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.outcome import (
        ArenaOutcome,
        LocalOutcome,
        LongCall,
        Moment,
        Observed,
        PoolOutcome,
        PurgeOutcome,
        Site,
    )
    from replay.pool.tally import PoolTally
    from replay.survey import Survey
    from replay.trace.losses import Loss


LOSSY: Final = (
    "events were lost: the model starts anew after each gap, so counts are lower bounds and the "
    "pool's use right after a gap is not known"
)
EMULATED: Final = "the machine was emulated (QEMU): its times say nothing of real hardware"


@dataclass(frozen=True)
class Figures:
    """What the parts of a replay counted.

    Attributes
    ----------
    survey
        Facts of the whole trace.
    tally, pool
        The pool.
    local
        Local mappings.
    work, arena
        Calls on the arena with the flushes of kernel addresses, and the arena's use.
    sites
        Call sites.
    initial_state
        As in :class:`replay.walk.PoolPart`.
    beyond
        Number of values that no such machine has.
    online
        CPUs that were online at a flush, on average; None where no CPU is known to have gone.
    purges
        Purges by what made them run, without their IPIs.
    largest_flush
        The largest ranged flush, where the kernel makes no full one of it.
    remarks
        What was left out, in words.
    """

    survey: Survey
    tally: PoolTally
    pool: PoolOutcome
    local: LocalOutcome
    work: ArenaTally
    arena: ArenaOutcome
    sites: tuple[Site, ...]
    initial_state: str
    beyond: int
    online: float | None = None
    purges: tuple[PurgeOutcome, ...] = ()
    largest_flush: Moment | None = None
    remarks: tuple[str, ...] = ()


def outcome_from(
    figures: Figures,
    machine: Machine,
    layout: Layout,
    values: Snapshot,
    lost: Loss | None,
    *,
    clock_is_ns: bool,
    span_ns: int | None = None,
    observed: Observed | None = None,
) -> Outcome:
    """The outcome of a replay on the captured machine.

    Parameters
    ----------
    figures
        What the parts counted.
    machine, layout
        The machine and its address map.
    values, lost, clock_is_ns, span_ns
        As for :func:`replay.walk.replay`.
    observed
        What the kernel itself told beside the calls; the rules look at it, too.
    """
    span = span_of(figures.survey, span_ns)
    work = CountedWork(
        pool=figures.pool,
        local=figures.local,
        scanned=figures.tally.scanned,
        freed_by_wraps=figures.tally.freed_by_wraps,
        freed_by_unused=figures.tally.freed_by_unused,
        held_at_switches=figures.local.mappings_saved,
        arena=figures.work,
        online=figures.online,
    )
    cost, tlb = cost_of(work, machine, layout, span if clock_is_ns else None)
    if observed is not None:
        cost = with_measured(cost, observed.durations, figures.pool.wait_ns)
        others = others_at_a_flush(layout, figures.online or machine.cpus)
        observed = replace(
            observed,
            longest=tuple(_with_ipis(call, others) for call in observed.longest),
        )
    remarks = (*figures.remarks, *_gone_cpus(figures, machine))
    caveats = common_caveats(
        figures.survey, figures.initial_state, figures.beyond, values, lost, machine.costs,
        clock_is_ns=clock_is_ns,
    )  # fmt: skip
    ended = lost_end(values, machine, layout)
    arena = _arena(figures, machine, values)
    outcome = Outcome(
        machine=machine,
        layout=layout,
        span_ns=span,
        cpus=machine.cpus,
        pool=figures.pool,
        local=figures.local,
        arena=arena,
        tlb=replace(tlb, largest=figures.largest_flush),
        cost=cost,
        sites=figures.sites if clock_is_ns else tuple(map(_without_times, figures.sites)),
        caveats=(
            *remarks,
            *([LOST_END] if ended else []),
            *_of_no_highmem(figures, layout),
            *unseen_flushes(arena, figures.work, machine, layout, kmaps=figures.pool.maps),
            *caveats,
        ),
        observed=observed,
        purges=with_ipis(figures.purges, layout, figures.online or machine.cpus),
        lowmem=lowmem_of(values, machine, layout),
    )
    return replace(outcome, findings=findings(outcome, values, lost))


def others_at_a_flush(layout: Layout, cpus: float) -> float:
    """CPUs that a flush interrupts, where so many are online."""
    return cpus - 1 if sends_ipis(layout) else 0.0


def with_ipis(
    purges: tuple[PurgeOutcome, ...], layout: Layout, cpus: float
) -> tuple[PurgeOutcome, ...]:
    """Purges with the IPIs of their flushes, where so many CPUs are online."""
    others = others_at_a_flush(layout, cpus)
    return tuple(replace(purge, ipis=round(purge.flushes * others)) for purge in purges)


def _with_ipis(call: LongCall, others: float) -> LongCall:
    """A call with the IPIs of its flushes to so many other CPUs; without any it stops nobody so."""
    interrupted = call.interrupted if others or call.interrupted is None else ()
    return replace(call, ipis=round(call.flushes * others), interrupted=interrupted)


def span_of(survey: Survey, span_ns: int | None) -> int:
    """Time of a trace: of all its events, of which the table may have but some."""
    first, last = survey.span
    return max(last - first, span_ns or 0)


def _arena(figures: Figures, machine: Machine, values: Snapshot) -> ArenaOutcome:
    """The arena's figures; purges that found something count by their flushes, where traced."""
    probed = any(probe.symbol in FLUSH_FUNCTIONS for probe in values.probes)
    told = figures.work.flushes_told or probed or GENERATIONS[machine.generation].purge_by_pointer
    if not told:
        return figures.arena
    return replace(figures.arena, lazy_purges=figures.work.purges.total())


def _gone_cpus(figures: Figures, machine: Machine) -> tuple[str, ...]:
    if figures.online is None:
        return ()
    return (
        f"CPUs went offline or came online meanwhile (dmesg.end): of {machine.cpus}, "
        f"{figures.online:.1f} were online at a flush, on average; only those are interrupted",
    )


def _without_times(site: Site) -> Site:
    return replace(site, hold_ns_mean=None, hold_ns_max=None)


def _of_no_highmem(figures: Figures, layout: Layout) -> list[str]:
    """kmap_high() is called of pages of highmem alone (linux/highmem-internal.h: kmap)."""
    if layout.highmem_bytes or not figures.pool.maps:
        return []
    return [
        "the trace has kmap() of highmem pages, and by what is known of the machine it has no "
        "highmem: its files are of another boot, or RAM is taken for less than it is"
    ]


def unseen_flushes(
    arena: ArenaOutcome, work: ArenaTally, machine: Machine, layout: Layout, *, kmaps: int
) -> list[str]:
    """TLB flushes that a trace does not show, in words.

    Parameters
    ----------
    arena, work
        Of the captured machine.
    machine, layout
        The machine that is told of.
    kmaps
        Calls of kmap() that it serves.
    """
    caveats = []
    purges = arena.lazy_purges or 0
    if purges and not work.purges:
        caveats.append(
            f"{purges} lazy purge{'s' * (purges > 1)} flushed, and the trace has no flush of "
            "theirs: how many pages they invalidated is not known, and TLB flushes and cost of "
            "the captured machine are without them"
        )
    if kmaps and layout.kmap_flush_each and GENERATIONS[machine.generation].kmap_flushes_lowmem:
        caveats.append(
            "kmap() of a lowmem page flushes a TLB entry here too, and no trace shows such a call: "
            "there are more flushes than these"
        )
    return caveats


def common_caveats(
    survey: Survey,
    initial_state: str,
    beyond: int,
    values: Snapshot,
    lost: Loss | None,
    costs: Costs,
    *,
    clock_is_ns: bool,
) -> list[str]:
    """What the reader must know to trust the figures no more than they deserve."""
    caveats = []
    kmaps = survey.ops.get("kmap", 0)
    if kmaps and survey.pageless == kmaps:
        caveats.append(
            "the trace has no page arguments: every kmap() is taken for a page of its own, so "
            "hits, pool use and flushes are not known, only counts and call sites"
        )
    if initial_state != "snapshot" and kmaps:
        free = ": what was mapped or stale before, and no call shows, counts as free"
        inferred = initial_state == "inferred"
        caveats.append(f"initial state of the pool: {initial_state}{free if inferred else ''}")
    if lost is not None and (lost.events or lost.unknown):
        caveats.append(LOSSY)
    if beyond:
        caveats.append(
            f"{beyond} values are beyond any address or size of such a machine: the trace is "
            "damaged, or of another machine"
        )
    if not clock_is_ns:
        caveats.append("the trace clock counts no time: durations and shares are not known")
    if is_emulated(values):
        caveats.append(EMULATED)
    caveats.append(_of_costs(costs))
    return caveats


def _of_costs(costs: Costs) -> str:
    """Where the costs are from."""
    usual = Costs.default()
    own = sum(costs.spread(name) != usual.spread(name) for name in FIGURE_NAMES)
    if not own:
        return (
            "costs in ns are estimates from replay/machine/costs.toml, most of it assumptions; "
            "--costs FILE puts measured figures in"
        )
    return (
        f"costs in ns: {own} of {len(FIGURE_NAMES)} figures were given or measured, the others are "
        "those of replay/machine/costs.toml, most of it assumptions"
    )
