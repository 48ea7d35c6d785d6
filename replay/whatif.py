"""The same workload on another machine.

The calls of the capture are replayed against the other machine's pool and stacks. Which of its
pages would be highmem there is a matter of placement:

``class``
    A page that was highmem stays highmem while the other machine has room there, in the order
    of first use, and falls back to lowmem then (the zonelist's order, mm/page_alloc.c:
    get_page_from_freelist). Room ends at the zone's low watermark (:mod:`replay.memory`).
``same-pfn``
    Pages keep their frame numbers; the other machine's border decides.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from collectors.events import HmtraceError
from replay.arena import arena_figures
from replay.arena_tally import arena_tally
from replay.arena_whatif import forecast, same_arena
from replay.costing import Work, cost_of
from replay.figures import common_caveats
from replay.findings import findings
from replay.layout import layout_of
from replay.memory import HIGHMEM, memory_of
from replay.outcome import ArenaOutcome, LocalOutcome, Outcome
from replay.pool import window_of
from replay.pool_tally import BINS, PoolTally
from replay.sites import call_sites
from replay.survey import PoolWindow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from replay.arena_tally import ArenaTally
    from replay.arena_whatif import ArenaForecast
    from replay.layout import Layout
    from replay.loss import Loss
    from replay.machine import Machine
    from replay.memory import Memory
    from replay.outcome import PoolOutcome
    from replay.run import Replayed

PLACEMENTS = ("class", "same-pfn")
TIMINGS = ("closed", "fixed")


class _PoolPart(NamedTuple):
    """Figures of the pool, and what the cost needs of it."""

    outcome: PoolOutcome
    tally: PoolTally
    stuck: int


def what_if(
    done: Replayed,
    target: Machine,
    *,
    values: Mapping[str, Any] | None = None,
    lost: Loss | None = None,
    clock_is_ns: bool = True,
    placement: str = "class",
    timing: str = "closed",
) -> Outcome:
    """Replay a capture on another machine.

    Parameters
    ----------
    done
        Replay on the captured machine (:func:`replay.run.replay_events`).
    target
        The other machine.
    values, lost, clock_is_ns
        As for :func:`replay.run.replay`.
    placement, timing
        One of :data:`PLACEMENTS` and :data:`TIMINGS`. ``closed``: a task that has to wait does
        everything later; ``fixed``: the captured times stay, and a kmap() without a slot is
        counted and dropped.

    Returns
    -------
    Outcome

    Raises
    ------
    HmtraceError
        For an unknown placement or timing (exit code 2).
    """
    for word, known in ((placement, PLACEMENTS), (timing, TIMINGS)):
        if word not in known:
            msg = f"unknown choice {word!r}"
            raise HmtraceError(msg, hint=f"one of {', '.join(known)}", exit_code=2)
    layout = layout_of(target)
    memory = memory_of(target, layout, values)
    high = _high_frames(done, layout, placement, memory.highmem_room)
    pool = _replay_pool(done, target, layout, high, closed=timing == "closed")
    local = _local_figures(done, target, layout, high)
    arena = _arena_part(done, target, layout, values or {})
    work = Work(
        pool=pool.outcome,
        local=local,
        scanned=pool.tally.scanned,
        freed_by_wraps=pool.tally.freed_by_wraps,
        freed_by_unused=pool.tally.freed_by_unused,
        held_at_switches=local.mappings_saved,
        arena=arena.tally,
    )
    span_ns = done.span[1] - done.span[0]
    cost, tlb = cost_of(work, target, layout, span_ns if clock_is_ns else None)
    outcome = Outcome(
        machine=target,
        layout=layout,
        span_ns=span_ns,
        cpus=target.cpus,
        pool=pool.outcome,
        local=local,
        arena=arena.outcome,
        tlb=tlb,
        cost=cost,
        sites=call_sites(_needed_calls(done, high), done.local),
        caveats=(
            *_caveats(done, layout, pool, placement),
            *_memory_caveats(memory, layout, high, values or {}),
            *arena.caveats,
            *common_caveats(
                done.survey,
                done.pool.initial_state,
                done.beyond,
                values or {},
                lost,
                clock_is_ns=clock_is_ns,
            ),
        ),
    )
    return replace(outcome, findings=findings(outcome, values or {}, lost))


class _ArenaPart(NamedTuple):
    """Figures of the arena, its work, and what limits them."""

    outcome: ArenaOutcome
    tally: ArenaTally
    caveats: tuple[str, ...]


def _arena_part(
    done: Replayed, target: Machine, layout: Layout, values: Mapping[str, Any]
) -> _ArenaPart:
    """The captured arena where the other machine's is the same, else the model's forecast."""
    tally = arena_tally(done.events, done.layout, window_of(done.layout))
    figures = arena_figures(done.events, done.layout, values)
    size = layout.vmalloc_end - layout.vmalloc_start
    captured = _ArenaPart(replace(figures, size=size), tally, ())
    if not tally.allocs or same_arena(done.machine, target, done.layout, layout):
        return captured
    found = forecast(done.events, done.machine, done.layout, target, layout, values)
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
        allocs=found.address.size - found.failures,
        failures=found.failures,
        peak_used=found.peak_used,
        largest_hole_min=found.largest_hole_min,
        lazy_purges=found.purges.total(),
    )
    changed = replace(tally, purges=found.purges, frees=tally.frees - found.lost_frees)
    return _ArenaPart(outcome, changed, tuple(_forecast_caveats(found)))


def _forecast_caveats(found: ArenaForecast) -> list[str]:
    """What the trace does not tell of the arena's workload there."""
    caveats = []
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


class _High(NamedTuple):
    """Which calls map highmem on the other machine, by row of the event table."""

    kmap: NDArray[np.bool_]  # per pool call
    local: NDArray[np.bool_]  # per local mapping
    spilled: int = 0  # pages that were highmem and find no room there


def _high_frames(done: Replayed, layout: Layout, placement: str, room: int) -> _High:
    """Decide for every call whether its page is highmem on the other machine.

    `room` is the number of pages that ZONE_HIGHMEM gives out before its low watermark.
    """
    calls = done.pool.sequence.calls
    local_rows = done.events.select("pfn").to_series().gather(done.local.row)
    local_pfn = local_rows.cast(pl.Int64).fill_null(-1).to_numpy()
    call_pfn = calls.pfn[calls.page] if calls.pages else np.zeros(0, np.int64)
    was_high = done.local.takes_slot
    spilled = 0
    if placement == "same-pfn":
        first, end = layout.lowmem_end_pfn, layout.max_pfn
        some = end > first
        kmap = np.where(call_pfn >= 0, (call_pfn >= first) & (call_pfn < end), some)
        in_zone = (local_pfn >= first) & (local_pfn < end)
        local = np.where(local_pfn >= 0, in_zone, was_high & some)
    else:
        # Every page is known by its frame, or (kmap only) by its number.
        key = np.where(call_pfn >= 0, call_pfn, -2 - calls.page.astype(np.int64))
        rows = np.concatenate([calls.row, done.local.row[was_high]])
        keys = np.concatenate([key, local_pfn[was_high]])
        first_use = pl.DataFrame({"row": rows, "key": keys}).sort("row")
        wanted = first_use.get_column("key").unique(maintain_order=True)
        placed = wanted.head(room)
        spilled = wanted.len() - placed.len()
        kmap = pl.Series(key).is_in(placed.implode()).to_numpy()
        local = was_high & pl.Series(local_pfn).is_in(placed.implode()).to_numpy()
    if layout.kmap_force_map:
        local = np.ones_like(was_high)
    return _High(kmap, local, spilled)


def _replay_pool(
    done: Replayed, target: Machine, layout: Layout, high: _High, *, closed: bool
) -> _PoolPart:
    from replay.kernels import closed as kernel
    from replay.kernels.pool import ASLEEP, USED
    from replay.kernels.sequence import FLUSH_UNUSED, GET, MAP, UNMAP, new_gauges

    sequence = done.pool.sequence
    code, call = sequence.operations[:, 0], sequence.call
    is_map = code == MAP
    # The first attempt of a kmap() is where it comes in; the others show how long it slept.
    first = np.full(sequence.calls.row.size + 1, -1, np.int64)
    last = first.copy()
    at = np.flatnonzero(is_map)
    first[call[at[::-1]]] = at[::-1]
    last[call[at]] = at
    flushes = target.arch == done.machine.arch  # who calls kmap_flush_unused() is the arch's
    of_call = np.isin(code, (MAP, UNMAP, GET)) & (call >= 0)
    keep = of_call & np.append(high.kmap, False)[np.maximum(call, 0)]
    keep &= ~is_map | (first[np.maximum(call, 0)] == np.arange(code.size))
    keep |= (code == FLUSH_UNUSED) & flushes
    index = np.flatnonzero(keep)
    who = np.maximum(call[index], 0)
    row = sequence.calls.row
    pids = done.events.get_column("pid").to_numpy()
    owner = np.where(call[index] >= 0, pids[row[who]] if row.size else 0, -1)
    slept = (code[index] == MAP) & (call[index] >= 0)
    waited = np.where(slept, sequence.time[last[who]] - sequence.time[first[who]], 0)
    task = np.unique(owner, return_inverse=True)[1].astype(np.int64)
    n, slots = index.size, max(layout.pkmap_slots, 1)
    load = kernel.Load(
        code=code[index],
        page=np.maximum(sequence.operations[index, 1], 0),
        task=task,
        time=sequence.time[index],
        waited=waited.astype(np.int64),
        result=np.full(n, ASLEEP, np.int32),
        scanned=np.zeros(n, np.int32),
        freed=np.full(n, -1, np.int32),
        sleeps=np.zeros(n, np.int32),
        wait=np.zeros(n, np.int64),
        passes=np.zeros((n, 2), np.int32),
    )
    pfn, pages = sequence.calls.pfn, np.arange(sequence.calls.pages)
    colour = np.where(pfn >= 0, pfn, pages) % layout.pkmap_colours  # unknown frames: spread
    window = PoolWindow(layout.pkmap_base, slots, layout.page_size, layout.pkmap_colours)
    pool = window.pool(max(pages.size, 1), colour)
    gauges = new_gauges(slots, *done.span, BINS if n else 0)
    most_used, most_stale, stuck = kernel.run(
        pool, load, int(task.max(initial=0)) + 1, int(target.costs.sleep), closed, gauges
    )
    tally = PoolTally(slots, most_used=int(most_used), most_stale=int(most_stale))
    tally.add(load.code, load.result, load.scanned, np.full(n, -1, np.int32))
    by_map = load.code == MAP
    in_time = (load.freed >= 0) & ~(by_map & (load.result == ASLEEP))
    tally.add_passes(load.freed[in_time & by_map], load.freed[in_time & ~by_map])
    # Passes of attempts that failed are not told apart by how many slots they freed.
    tally.freed_by_wraps[1] += load.passes[:, 0].sum()
    tally.freed_by_wraps[0] += load.passes[:, 1].sum()
    sleepers = load.sleeps > 0
    tally.add_waits(owner[sleepers], load.sleeps[sleepers], load.wait[sleepers])
    outcome = tally.outcome(gauges, still_used=int(pool.reg[USED]))
    return _PoolPart(replace(outcome, slots=layout.pkmap_slots), tally, int(stuck))


def _local_figures(done: Replayed, target: Machine, layout: Layout, high: _High) -> LocalOutcome:
    """Depths and flushes of the local mappings that need a slot there.

    A mapping that turns from lowmem to highmem is counted; its depth is not known, for the
    trace does not show when it ended among the others.
    """
    local = done.local
    kept = high.local & local.takes_slot
    depth = _depths(local.row, local.partner, local.depth, local.takes_slot, kept)
    cpu = local.cpu % target.cpus
    depths = depth[kept]
    by_cpu = {
        int(c): tuple(np.bincount(depths[cpu[kept] == c]).tolist()) for c in np.unique(cpu[kept])
    }
    maps = int(high.local.sum())
    share = kept.sum() / max(local.takes_slot.sum(), 1)
    saved = round(int(local.switches.sum()) * share)
    ended = int((kept & (local.partner >= 0)).sum()) + maps - int(kept.sum())
    single = (maps + saved) * layout.local_flush_on_map + ended * layout.local_flush_on_unmap
    return LocalOutcome(
        maps=maps,
        lowmem=local.row.size - maps,
        unmaps=ended,
        max_depth=int(depths.max(initial=-1)) + 1,
        limit=layout.km_usable_depth,
        depth_by_cpu=by_cpu,
        saved_on_switch=round(local.switches.size * share),
        mappings_saved=saved,
        tlb_single=int(single) + saved,
    )


def _depths(
    row: NDArray[np.int64],
    partner: NDArray[np.int64],
    depth: NDArray[np.int32],
    took: NDArray[np.bool_],
    kept: NDArray[np.bool_],
) -> NDArray[np.int32]:
    """Depth of each mapping without the ones below it that need no slot any more."""
    if bool((took == kept).all()):
        return depth
    from replay.kernels.nesting import depths_of

    depths: NDArray[np.int32] = depths_of(row, partner, kept)
    return depths


def _needed_calls(done: Replayed, high: _High) -> pl.DataFrame:
    """Event rows without the calls that need no mapping on the other machine."""
    gone = np.zeros(done.events.height, bool)
    gone[done.pool.sequence.calls.row[~high.kmap]] = True
    gone[done.local.row[~high.local]] = True
    return done.events.with_columns(
        pl.when(pl.Series(gone) & pl.col("op").is_in(("kmap", "kmap_local")))
        .then(None)
        .otherwise(pl.col("op"))
        .alias("op")
    )


def _memory_caveats(
    memory: Memory, layout: Layout, high: _High, values: Mapping[str, Any]
) -> list[str]:
    """What the zones of the other machine mean for the answer."""
    if not high.spilled:
        return []
    used = sum(z.managed - z.free for z in values.get("zones", ()) if z.name == HIGHMEM and z.free)
    words = (
        f"{high.spilled} of the traced pages find no room in highmem above its low watermark and "
        "become lowmem"
    )
    if not layout.highmem_bytes:
        words = f"all {high.spilled} traced pages of highmem become lowmem: there is no highmem"
    elif used:
        words += f"; {used} pages of highmem were in use already when the capture began"
    caveats = [words, *memory.assumptions]
    if high.spilled > memory.fallback_room:
        caveats.append(
            f"lowmem has room for {memory.fallback_room} of them before the kernel reclaims"
        )
    return caveats


def _caveats(done: Replayed, layout: Layout, pool: _PoolPart, placement: str) -> list[str]:
    """What limits the answer."""
    caveats = []
    before = done.layout
    border, captured = layout.lowmem_end_pfn, before.lowmem_end_pfn
    if border - layout.phys_offset // layout.page_size < captured - (
        before.phys_offset // before.page_size
    ):
        caveats.append(
            "lower bound: this machine has less lowmem than the captured one, and a trace shows "
            "kmap() of pages only that were highmem there; capture on a machine (or with "
            "vmalloc=) whose lowmem is no larger to see the others"
        )
    if layout.page_size != before.page_size:
        caveats.append(
            f"pages of {layout.page_size >> 10} KiB: each is taken for one of the "
            f"{before.page_size >> 10} KiB pages of the capture, of which it holds more"
        )
    if placement == "class" and layout.max_pfn > border:
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
