"""The same workload on another machine.

The calls of the capture are replayed against the other machine's pool and stacks. Which of its
pages would be highmem there is a matter of placement:

``class``
    A page that was highmem stays highmem while the other machine has room there, in the order
    of first use, and falls back to lowmem then (the zonelist's order, mm/page_alloc.c:
    get_page_from_freelist). Room ends at the zone's low watermark (:mod:`replay.machine.zones`).
``same-pfn``
    Pages keep their frame numbers; the other machine's border decides.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from collectors.errors import HmtraceError
from collectors.snapshot import Snapshot
from replay.arena.state import LOST_END, lost_end
from replay.cost.account import CountedWork, cost_of
from replay.figures import common_caveats, outcome_from, span_of, unseen_flushes
from replay.machine.layout import layout_of
from replay.machine.zones import HIGHMEM, memory_of
from replay.outcome import ArenaOutcome, ModulesOutcome, Outcome
from replay.pool.replay import state_from
from replay.rules.figures import findings
from replay.trace.sanitise import narrowed
from replay.trace.windows import WINDOW_ROWS
from replay.whatif.arena import forecast, same_arena
from replay.whatif.placement import place
from replay.whatif.pool import PoolThereRun
from replay.whatif.rest import RestThere
from replay.whatif.workload import distil

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from replay.arena.tally import ArenaTally
    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.machine.zones import Memory
    from replay.outcome import PoolOutcome
    from replay.trace.losses import Loss
    from replay.whatif.arena import ArenaForecast
    from replay.whatif.pool import PoolThere
    from replay.whatif.workload import Workload

LEAST, MOST = "least", "most"
"""Values of :attr:`replay.outcome.Outcome.bound`."""
PLACEMENTS = ("class", "same-pfn")
TIMINGS = ("closed", "fixed")


def what_if(
    events: pl.LazyFrame | pl.DataFrame,
    machine: Machine,
    target: Machine,
    *,
    values: Snapshot | None = None,
    lost: Loss | None = None,
    clock_is_ns: bool = True,
    span_ns: int | None = None,
    placement: str = "class",
    timing: str = "closed",
    progress: Callable[[int, int], None] | None = None,
    rows: int = WINDOW_ROWS,
) -> tuple[Outcome, Outcome]:
    """Replay a trace on its own machine and on another one, in bounded memory.

    Parameters
    ----------
    events, machine, values, lost, clock_is_ns, span_ns, progress, rows
        As for :func:`replay.walk.replay`.
    target, placement, timing
        As for :func:`serve`.

    Returns
    -------
    captured, other : Outcome

    Raises
    ------
    HmtraceError
        For an unknown placement or timing (exit code 2), a table that is none or not in order.
    """
    _check(placement, timing)
    workload = distil(events, machine, values=values, lost=lost, progress=progress, rows=rows)
    return serve(
        workload, machine, target, values=values, lost=lost, clock_is_ns=clock_is_ns,
        span_ns=span_ns, placement=placement, timing=timing,
    )  # fmt: skip


def serve(
    workload: Workload,
    machine: Machine,
    target: Machine,
    *,
    values: Snapshot | None = None,
    lost: Loss | None = None,
    clock_is_ns: bool = True,
    span_ns: int | None = None,
    placement: str = "class",
    timing: str = "closed",
) -> tuple[Outcome, Outcome]:
    """Serve a workload on another machine, beside the one that it is from.

    Parameters
    ----------
    workload
        The trace (:func:`replay.whatif.workload.distil`).
    machine, values, lost, clock_is_ns, span_ns
        As for :func:`replay.walk.replay`; the machine that the workload was distilled on, though
        its costs may be others.
    target
        The other machine.
    placement, timing
        One of :data:`PLACEMENTS` and :data:`TIMINGS`. ``closed``: a task that has to wait does
        everything later; ``fixed``: the captured times stay, and a kmap() without a slot is
        counted and dropped.

    Returns
    -------
    captured, other : Outcome

    Raises
    ------
    HmtraceError
        For an unknown placement or timing (exit code 2).
    """
    _check(placement, timing)
    values = values or Snapshot()
    found, figures = workload.found, workload.figures
    shown = layout_of(machine)
    before, layout = narrowed(shown), layout_of(target)
    memory = memory_of(target, layout, values)
    placed = place(
        workload.column("pages", "key"), workload.column("lows", "frame"),
        layout, placement, memory.highmem_room,
    )  # fmt: skip
    same_pool = _same_pool(machine, target, before, layout)
    has_snapshot = figures.initial_state == "snapshot" and same_pool
    pool = PoolThereRun(
        workload, placed, state_from(values) if has_snapshot else None,
        same_kernel=target.arch == machine.arch and target.highmem_enabled, same_pool=same_pool,
    )  # fmt: skip
    rest = RestThere(workload, placed, target.cpus)
    for stretch in workload.stretches():
        rest.feed(stretch)
    there = pool.replay(target, layout, closed=timing == "closed")
    local = rest.local.outcome(layout)
    baseline = outcome_from(
        figures, machine, shown, values, lost, clock_is_ns=clock_is_ns, span_ns=span_ns
    )
    arena = _arena_part(workload, baseline.arena, (machine, before), (target, layout), values)
    work = CountedWork(
        pool=there.outcome,
        local=local,
        scanned=there.tally.scanned,
        freed_by_wraps=there.tally.freed_by_wraps,
        freed_by_unused=there.tally.freed_by_unused,
        held_at_switches=local.mappings_saved,
        arena=arena.tally,
        online=figures.online if target.cpus == machine.cpus else None,
    )
    span = span_of(found, span_ns)
    cost, tlb = cost_of(work, target, layout, span if clock_is_ns else None)
    outcome = Outcome(
        machine=target,
        layout=layout,
        span_ns=span,
        cpus=target.cpus,
        pool=there.outcome,
        local=local,
        arena=arena.outcome,
        tlb=tlb,
        cost=cost,
        sites=rest.sites((before.page_size, layout.page_size)),
        bound=bound_of(before, layout, placement),
        caveats=(
            *_caveats(before, layout, there, placement),
            *_rules_in_doubt(machine, target),
            *(note for note in layout.notes if note not in shown.notes),
            *_memory_caveats(memory, layout, placed.spilled, values),
            *_ram_caveats(target, layout, placed.beyond, values),
            *arena.caveats,
            *([] if has_snapshot else _empty_pool(baseline.pool, there.outcome)),
            *unseen_flushes(baseline.arena, figures.work, layout, kmaps=there.outcome.maps),
            *([LOST_END] if lost_end(values, machine, before) else ()),
            *figures.remarks,
            *common_caveats(
                found,
                figures.initial_state,
                figures.beyond,
                values,
                lost,
                clock_is_ns=clock_is_ns,
            ),
        ),
    )
    return baseline, replace(outcome, findings=findings(outcome, values, lost, baseline))


def bound_of(before: Layout, layout: Layout, placement: str) -> str | None:
    """In which sense the figures of highmem hold on another machine.

    A trace shows kmap() of pages only that are highmem where it was taken (include/linux/
    highmem-internal.h: kmap returns the direct address of a lowmem page). With less lowmem there
    would be more of them; with more lowmem some would be lowmem, where it is not their frames that
    say which. Without any highmem there is nothing that could be mapped: figures are exact.
    """
    if layout.max_pfn <= layout.lowmem_end_pfn:
        return None
    here, there = _lowmem_end(before), _lowmem_end(layout)
    if there < here:
        return LEAST
    return MOST if there > here and placement == "class" else None


def _lowmem_end(layout: Layout) -> int:
    """Bytes from the start of RAM to the end of lowmem."""
    return layout.lowmem_end_pfn * layout.page_size - layout.phys_offset


def _check(placement: str, timing: str) -> None:
    for word, known in ((placement, PLACEMENTS), (timing, TIMINGS)):
        if word not in known:
            msg = f"unknown choice {word!r}"
            raise HmtraceError(msg, hint=f"one of {', '.join(known)}", exit_code=2)


def _same_pool(one: Machine, other: Machine, before: Layout, after: Layout) -> bool:
    """Whether what happened to the pool before the trace would have left it alike."""
    return (
        (one.arch, one.generation) == (other.arch, other.generation)
        and (before.pkmap_slots, before.pkmap_colours) == (after.pkmap_slots, after.pkmap_colours)
        and after.highmem_bytes > 0
    )


class _ArenaPart(NamedTuple):
    """Figures of the arena, its work, and what limits them."""

    outcome: ArenaOutcome
    tally: ArenaTally
    caveats: tuple[str, ...]


def _arena_part(
    workload: Workload,
    figures: ArenaOutcome,
    here: tuple[Machine, Layout],
    there: tuple[Machine, Layout],
    values: Snapshot,
) -> _ArenaPart:
    """The captured arena where the other machine's is the same, else the model's forecast."""
    tally, layout = workload.figures.work, there[1]
    size = layout.vmalloc_end - layout.vmalloc_start
    captured = _ArenaPart(replace(figures, size=size), tally, ())
    if same_arena(here[0], there[0], here[1], layout):
        return captured
    found = forecast(workload.arena(), *here, *there, values)
    if found is None and not tally.allocs:
        return captured
    if found is None:
        return captured._replace(
            caveats=(
                "the arena's addresses are those of the capture, for /proc/vmallocinfo does not "
                "tell what was in use: failures and purges under the other machine's arena are "
                "not predicted",
            )
        )
    outcome = ArenaOutcome(
        size=size,
        allocs=found.allocs - found.failures,
        failures=found.failures,
        peak_used=found.peak_used,
        peak_live=found.peak_live,
        largest_hole_min=found.largest_hole_min,
        lazy_purges=found.purges.total(),
        holders=figures.holders,
        ambiguous=found.ambiguous,
        untold=figures.untold,
        derived=figures.derived,
        null_calls=figures.null_calls,
        smallest_failed=found.smallest_failed,
        modules=_modules_there(figures, found, layout),
    )
    changed = replace(tally, purges=found.purges, frees=tally.frees - found.lost_frees)
    return _ArenaPart(outcome, changed, tuple(_forecast_caveats(found)))


def _modules_there(
    figures: ArenaOutcome, found: ArenaForecast, layout: Layout
) -> ModulesOutcome | None:
    """The modules' own area, of which the model foretells failures only."""
    here = figures.modules
    if here is None:
        return None
    calls = here.allocs + here.failures
    return ModulesOutcome(
        size=layout.modules_end - layout.modules_start,
        allocs=calls - found.failures_of_modules,
        failures=found.failures_of_modules,
        holders=here.holders,
        smallest_failed=here.smallest_failed,
    )


def _between(few: int, most: int) -> str:
    return f"{few}" if few == most else f"{few} to {most}"


def _forecast_caveats(found: ArenaForecast) -> list[str]:
    """What the trace does not tell of the arena's workload there."""
    caveats = []
    if found.ambiguous:
        few, most = found.failures_between
        purges = found.purges_between
        caveats.append(
            f"the shape of the arena's free tree at the start is not known: "
            f"{found.ambiguous} of {found.allocs} allocations lie elsewhere under "
            f"some of {found.shapes} shapes; failures {_between(few, most)}, purges "
            f"{_between(*purges)}"
        )
    if found.borrowed:
        caveats.append(
            f"{found.borrowed} allocations failed when they were captured and do not here: what "
            "would have become of them is not in the trace, they are given back at once"
        )
    if found.lost_frees:
        caveats.append(
            f"{found.lost_frees} areas of the capture find no room here: what their callers would "
            "have done instead is not in the trace"
        )
    if found.unplaced:
        caveats.append(
            f"{found.unplaced} areas that were in use when tracing began find no room in this "
            "arena: the machine would not have come so far"
        )
    return caveats


def _rules_in_doubt(machine: Machine, target: Machine) -> list[str]:
    """What is derived by rules that the captured machine's kernel does not follow."""
    alike = (machine.arch, machine.generation) == (target.arch, target.generation)
    if machine.told is None or target.told is not None or not alike:
        return []
    return [
        "the captured machine's files contradict the address map that hmtrace's rules give it (see "
        "below): this machine is laid out by the rules all the same"
    ]


def _empty_pool(here: PoolOutcome, there: PoolOutcome) -> list[str]:
    """What it means that the pool begins empty there, where it means something."""
    if not there.maps or here.pages_unknown or here.new_mappings == there.new_mappings:
        return []
    return [
        "the pool begins empty there, as after boot, and began here with what was mapped before "
        "the trace: new mappings and all that follows from them differ by that, too"
    ]


def _memory_caveats(memory: Memory, layout: Layout, spilled: int, values: Snapshot) -> list[str]:
    """What the zones of the other machine mean for the answer."""
    if not spilled:
        return []
    used = sum(z.managed - z.free for z in values.zones if z.name == HIGHMEM and z.free)
    words = (
        f"{spilled} of the traced pages find no room in highmem above its low watermark and "
        "become lowmem"
    )
    if not layout.highmem_bytes:
        words = f"every traced page of highmem ({spilled}) becomes lowmem: there is no highmem"
    elif used:
        words += f"; {used} pages of highmem were in use already when the capture began"
    caveats = [words, *memory.assumptions]
    if spilled > memory.fallback_room:
        caveats.append(
            f"lowmem has room for {memory.fallback_room} of them before the kernel reclaims"
        )
    return caveats


def _ram_caveats(target: Machine, layout: Layout, beyond: int, values: Snapshot) -> list[str]:
    """What of the workload this machine has no RAM for."""
    caveats = []
    if beyond:
        caveats.append(
            f"{beyond} of the traced frames lie behind the end of this machine's RAM "
            f"({layout.max_pfn * layout.page_size >> 20} MiB): mappings of them are left out"
        )
    page = values.page_size or layout.page_size
    used = sum(zone.managed - zone.free for zone in values.zones if zone.free) * page
    if used > target.ram_bytes:
        caveats.append(
            f"{used >> 20} MiB were in use when the capture began, and this machine has "
            f"{target.ram_bytes >> 20} MiB of RAM: the workload would not have run there so, "
            "but reclaimed and swapped, or failed"
        )
    return caveats


def _caveats(before: Layout, layout: Layout, pool: PoolThere, placement: str) -> list[str]:
    """What limits the answer."""
    caveats = []
    bound = bound_of(before, layout, placement)
    if bound == LEAST:
        caveats.append(
            "lower bound: this machine has less lowmem than the captured one, and a trace shows "
            "kmap() of pages only that were highmem there; capture on a machine (or with "
            "vmalloc=) whose lowmem is no larger to see the others"
        )
    elif bound == MOST:
        caveats.append(
            "upper bound: this machine has more lowmem than the captured one, and every page that "
            "was highmem is taken for highmem while there is room"
        )
    if layout.page_size != before.page_size:
        caveats.append(
            f"pages of {layout.page_size >> 10} KiB: each is taken for one of the "
            f"{before.page_size >> 10} KiB pages of the capture, of which it holds more"
        )
    if placement == "class" and layout.max_pfn > layout.lowmem_end_pfn:
        caveats.append(
            "frames keep their class: pages that were highmem stay highmem while there is room, "
            "in the order of first use; what else fills highmem is not known"
        )
    if pool.stuck:
        caveats.append(
            f"{pool.stuck} tasks sleep for ever on this machine's pool: everything that they "
            "would have done later is missing"
        )
    return caveats
