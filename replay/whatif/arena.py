"""The captured arena's workload in another machine's arena.

Every allocation is placed by the model, every purge is the model's own: when more waits than the
other machine lets wait, when an allocation finds no room, or when the kernel asked for it
(vm_unmap_aliases() after set_memory() or a freed module). The trace tells who asks for what, in
which order, and what is freed; its addresses tell only which allocation a free belongs to.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from replay.arena.calls import FAILED, UNSEEN, arena_calls
from replay.arena.lazy import LISTS, lazy_stream, replay_lazy
from replay.arena.replay import served_order
from replay.arena.state import SPACE, complement, forest_of, histories, initial_state, rule_of
from replay.machine.generations import GENERATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from collectors.snapshot import Snapshot
    from replay.arena.calls import ArenaCalls
    from replay.arena.loops.forward import Forward
    from replay.arena.loops.freetree import Forest, Rule
    from replay.arena.replay import Places
    from replay.arena.state import ArenaState
    from replay.machine.layout import Layout
    from replay.machine.model import Machine

PERCPU: Final = "pcpu_get_vm_areas"
"""Caller of chunks that are taken from the top of the arena downwards (mm/vmalloc.c)."""
FIXED: Final = ("pci_reserve_io", "iotable_init", "pmd_empty_section_gap", "debug_ll_io_init")
"""Callers of ARM's static mappings, whose addresses are written in the source."""
SHAPES: Final = 12
"""Other shapes of the free tree that are tried where the true one is not known."""
SOON_NS: Final = 1
"""From the free that passes the limit to the worker's purge, where the capture shows none."""


@dataclass(frozen=True)
class ArenaForecast:
    """What the model makes of the workload.

    Attributes
    ----------
    row : ndarray of int64
        Row of the event table of each allocation.
    address : ndarray of int64
        Where the model places it; FAILED where there is no room.
    start, end : ndarray of int64, shape (areas, )
        Areas in use at the start, as the model moved them.
    failures
        Allocations that fail.
    purges
        Purges by the number of pages that they flush.
    causes
        Purges by cause: ``asked``, ``limit``, ``full``.
    peak_lazy, peak_live, peak_used, largest_hole_min
        Bytes: most waiting for a purge, most in use, most of both, smallest that the largest hole
        ever was.
    failures_of_modules, smallest_failed
        Failures of those that asked for addresses outside of the arena; least that the others asked
        for in vain.
    unplaced
        Areas of the start that found no room.
    borrowed
        Allocations that failed where they were captured and do not here: the trace does not show
        what would have become of them, so they are given back at once.
    lost_frees
        Frees of areas that could not be allocated here.
    shapes
        Shapes of the free tree that the calls were served with; 1: it is known, or does not matter.
        The figures are those of the first.
    ambiguous : ndarray of bool
        Per allocation: another shape places it elsewhere.
    failures_between, purges_between
        Fewest and most under all shapes.
    """

    row: NDArray[np.int64]
    address: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    failures: int
    purges: Counter[int]
    causes: dict[str, int]
    peak_lazy: int
    peak_live: int
    peak_used: int
    largest_hole_min: int
    unplaced: int
    borrowed: int
    lost_frees: int
    failures_of_modules: int = 0
    smallest_failed: int | None = None
    shapes: int = 1
    ambiguous: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    failures_between: tuple[int, int] = (0, 0)
    purges_between: tuple[int, int] = (0, 0)


def same_arena(one: Machine, other: Machine, before: Layout, after: Layout) -> bool:
    """Whether the arena of both machines behaves alike, so that the capture tells all."""
    return (
        one.generation == other.generation
        and before.lazy_max_pages == after.lazy_max_pages
        and (before.vmalloc_start, before.vmalloc_end) == (after.vmalloc_start, after.vmalloc_end)
        and (before.modules_start, before.modules_end) == (after.modules_start, after.modules_end)
    )


def forecast(
    events: pl.DataFrame,
    captured: Machine,
    before: Layout,
    target: Machine,
    after: Layout,
    values: Snapshot,
) -> ArenaForecast | None:
    """Serve the captured calls in another arena.

    Parameters
    ----------
    events
        Event table, sorted by `seq`.
    captured, before
        The machine that the trace is from.
    target, after
        The other one.
    values
        Facts of the capture: the areas in use at the start.

    Returns
    -------
    ArenaForecast or None
        None where the areas at the start are not known, or the other machine has other pages or
        a 64-bit address space.
    """
    rules = GENERATIONS[captured.generation]
    calls = arena_calls(events, before, values, by_pointer=rules.purge_by_pointer)
    state = initial_state(calls, values, rules.lazy_list)
    comparable = before.page_size == after.page_size and after.vmalloc_end <= SPACE[1]
    if not state.known or not comparable:
        return None
    anchors = {a.start: a.caller.partition("+")[0] for a in values.areas}
    moved = _moved(state, anchors, before, after)
    generation = GENERATIONS[target.generation]
    places = served_order(calls, state, before, rules)
    table, areas = _calls(events, calls, state, captured, before, after, places)
    rule = rule_of(generation, after)
    stays = state.shape is not None and np.array_equal(moved[:, 0], _starts(state))
    if stays:
        forest, unplaced = _as_captured(state, len(table), rule), 0
    else:
        forest, unplaced = _planted(moved, len(table), rule, after)
    in_use = moved[: len(state.busy)].copy()
    by_worker = generation.purger != "freeing-task"
    at_once = np.zeros(1, np.int64), np.zeros(1, np.int64)
    delays = _delays(events, calls, state, captured, before) if by_worker else at_once
    limit = after.lazy_max_pages * after.page_size
    done, lazy = _run(forest, table, areas, moved, len(state.busy), generation.lazy_list,
                      limit, delays)  # fmt: skip
    found = _result(calls, table, done, lazy, in_use, (before, after), unplaced)
    shaped = _others(moved, len(table), rule)
    served = [
        _run(other, table, areas, moved, len(state.busy), generation.lazy_list, limit, delays)[0]
        for other in (shaped if not stays and _needs_shape(calls, rule) else ())
    ]
    return _with_shapes(found, table, served)


def _needs_shape(calls: ArenaCalls, rule: Rule) -> bool:
    """Whether the shape of the free tree decides where an area comes to lie (mm/vmalloc.c)."""
    aligned = calls.allocs.get_column("align").max()
    return isinstance(aligned, int) and rule.shape_decides(aligned)


def _others(areas: NDArray[np.int64], calls: int, rule: Rule) -> Iterator[Forest]:
    """The blocks that areas leave free in trees of several shapes, each with room for more."""
    from replay.arena.loops.freetree import new_forest
    from replay.arena.loops.shapes import plant

    blocks = complement(areas[areas[:, 0] >= 0])
    for history in histories(blocks, SHAPES):
        room = 3 * len(blocks) + 2 * calls + (1 << 12)
        forest = new_forest(1, room, rule)
        plant(forest, 0, *history)
        yield forest


def _with_shapes(
    found: ArenaForecast, table: NDArray[np.int64], served: list[Forward]
) -> ArenaForecast:
    """Mark what other shapes of the free tree would have made otherwise."""
    from replay.arena.loops import forward as kernel

    is_alloc = table[:, kernel.KIND] == kernel.ALLOC
    by_call = np.argsort(table[is_alloc, kernel.AREA], kind="stable")
    places = [done.result[is_alloc][by_call] for done in served]
    failures = [found.failures, *(int((place < 0).sum()) for place in places)]
    purges = [found.purges.total(), *(int(done.counts[0]) for done in served)]
    ambiguous = np.zeros(found.address.size, bool)
    for place in places:
        ambiguous |= place != found.address
    return replace(
        found,
        shapes=1 + len(served),
        ambiguous=ambiguous,
        failures_between=(min(failures), max(failures)),
        purges_between=(min(purges), max(purges)),
    )


def _moved(
    state: ArenaState, callers: Mapping[int, str], before: Layout, after: Layout
) -> NDArray[np.int64]:
    """Areas in use, then lazily freed ones, where they would have come to lie at boot.

    Allocations start at the bottom of the arena, percpu chunks at its top; what lies outside, and
    ARM's static mappings, does not move. The order of what happened at boot is not known, so
    holes keep their places.
    """
    areas = np.concatenate([state.busy, state.lazy])
    inside = (areas[:, 0] >= before.vmalloc_start) & (areas[:, 1] <= before.vmalloc_end)
    caller = np.array([callers.get(start, "") for start in areas[:, 0].tolist()], object)
    at_top = caller == PERCPU
    up = after.vmalloc_start - before.vmalloc_start
    down = after.vmalloc_end - before.vmalloc_end
    by = np.where(inside, np.where(at_top, down, up), 0)
    modules = ~inside & (areas[:, 0] >= before.modules_start) & (areas[:, 1] <= before.modules_end)
    by[modules] = after.modules_start - before.modules_start
    by[np.isin(caller, FIXED)] = 0
    return np.asarray(areas + by[:, None], np.int64)


def _starts(state: ArenaState) -> NDArray[np.int64]:
    return np.concatenate([state.busy, state.lazy])[:, 0]


def _as_captured(state: ArenaState, calls: int, rule: Rule) -> Forest:
    """The free tree of the capture, whose shape is known, with room for more."""
    from replay.arena.loops.freetree import grown

    forest = forest_of(state, rule, trees=1)
    return grown(forest, len(forest.node) + 2 * calls)


def _planted(
    areas: NDArray[np.int64], calls: int, rule: Rule, layout: Layout
) -> tuple[Forest, int]:
    """The free tree around these areas; one that has no room there goes where there is some.

    `areas` is corrected in place. The second value is the number of areas without any room.
    """
    from replay.arena.loops import freetree as tree

    capacity = 2 * len(areas) + calls + (1 << 12)
    forest = tree.new_forest(1, capacity, rule)
    tree.insert(forest, 0, *SPACE)
    again = []
    for number in np.argsort(areas[:, 0], kind="stable").tolist():
        start, end = areas[number].tolist()
        before, _ = tree.neighbours(forest, 0, start)
        if before != tree.NIL and forest.node[before, tree.END] >= end:
            tree.take(forest, 0, start, end)
        else:
            again.append((number, end - start))
    unplaced = 0
    for number, size in again:
        start = tree.lowest(forest, 0, size, 1, layout.vmalloc_start, layout.vmalloc_end)
        if start == tree.FAIL:
            areas[number] = -1
            unplaced += 1
        else:
            tree.take(forest, 0, start, start + size)
            areas[number] = start, start + size
    return forest, unplaced


def _calls(
    events: pl.DataFrame,
    calls: ArenaCalls,
    state: ArenaState,
    captured: Machine,
    before: Layout,
    after: Layout,
    places: Places,
) -> tuple[NDArray[np.int64], int]:
    """The calls as :mod:`replay.arena.loops.forward` has them, and the number of areas.

    Areas are numbered: those of the start first, then the allocations.
    """
    from replay.arena.loops import forward as kernel

    ts = events.get_column("ts").to_numpy()
    end_ts = events.select(pl.coalesce("end_ts", "ts")).to_series().to_numpy()
    old, n = len(state.busy), calls.allocs.height
    a = calls.allocs.select("row", "at", "size", "align", "vstart", "vend", "seen").to_numpy()
    a = a.astype(np.int64)
    alloc = np.zeros((n, kernel.COLUMNS), np.int64)
    alloc[:, kernel.KIND] = kernel.ALLOC
    alloc[:, kernel.TIME] = end_ts[a[:, 0]]
    alloc[:, kernel.AREA] = old + np.arange(n)
    alloc[:, kernel.SIZE : kernel.ALIGN + 1] = a[:, 2:4]
    alloc[:, kernel.START] = _bound(a[:, 4], before, after)
    alloc[:, kernel.END] = _bound(a[:, 5], before, after)
    births = pl.DataFrame(
        {
            "start": np.concatenate([state.busy[:, 0], a[:, 6]]),
            "lo": np.concatenate([np.full(old, -1, np.int64), a[:, 1]]),
            "area": np.arange(old + n),
        }
    )
    born = births.filter(pl.col("start") > 0).sort("lo")
    frees = (
        calls.frees.select("row", "lo", "start", listed=pl.Series(places.frees))
        .sort("lo")
        .join_asof(born, on="lo", by="start", strategy="backward", check_sortedness=False)
        .drop_nulls("area")
    )
    free = np.zeros((frees.height, kernel.COLUMNS), np.int64)
    free[:, kernel.KIND] = kernel.FREE
    free[:, kernel.TIME] = ts[frees.get_column("row").to_numpy()]
    free[:, kernel.AREA] = frees.get_column("area").to_numpy()
    # What failed there and may succeed here is given back at once: no free of it is traced.
    failed = np.flatnonzero((a[:, 6] == FAILED) | (a[:, 6] == UNSEEN))
    back = alloc[failed].copy()
    back[:, kernel.KIND] = kernel.FREE
    is_asked = ~_own_purges(calls, state, captured, before)
    asked = calls.purges.filter(pl.Series(is_asked))
    purge = np.zeros((asked.height, kernel.COLUMNS), np.int64)
    purge[:, kernel.KIND] = kernel.PURGE
    purge[:, kernel.TIME] = ts[asked.get_column("row").to_numpy()]
    for column, name in ((kernel.START, "start"), (kernel.END, "end")):
        purge[:, column] = _bound(asked.get_column(name).to_numpy(), before, after)
    table = np.concatenate([alloc, back, free, purge])
    at = np.concatenate([
        places.allocs, places.allocs[failed], frees.get_column("listed").to_numpy(),
        places.purges[is_asked],
    ])  # fmt: skip
    turn = np.concatenate([
        places.turn[:n], places.turn[failed], np.full(frees.height, -1, np.int64),
        places.turn[n:][is_asked],
    ])  # fmt: skip
    table = table[np.lexsort((np.arange(len(table)), turn, at))]
    table[:, kernel.TIME] = np.maximum.accumulate(table[:, kernel.TIME])
    return np.ascontiguousarray(table), old + n


def _bound(address: NDArray[np.int64], before: Layout, after: Layout) -> NDArray[np.int64]:
    """Limits of a request, or of a purge: the other arena's for the captured one's."""
    by = after.vmalloc_start - before.vmalloc_start
    inside = (address >= before.vmalloc_start) & (address < before.vmalloc_end)
    out = np.where(inside, np.minimum(address + by, after.vmalloc_end), address)
    for old, new in (
        (before.modules_start, after.modules_start),
        (before.modules_end, after.modules_end),
        (before.vmalloc_start, after.vmalloc_start),
        (before.vmalloc_end, after.vmalloc_end),
    ):
        out[address == old] = new
    return out


def _purge_bytes(
    calls: ArenaCalls, state: ArenaState, machine: Machine, layout: Layout
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Bytes that waited when each captured purge came; and the stream event of each, all bytes."""
    stream, of_purge, of_free = lazy_stream(calls)
    limit = layout.lazy_max_pages * layout.page_size
    order = GENERATIONS[machine.generation].lazy_list
    purges = calls.purges.height
    lazy = replay_lazy(stream, of_purge, of_free, purges, state.lazy, order, limit).lazy
    of_purge = of_purge[: calls.purges.height]
    waiting = np.concatenate([[0], lazy.nr_lazy])[of_purge] if of_purge.size else of_purge
    return waiting, of_purge, lazy.nr_lazy


def _own_purges(
    calls: ArenaCalls, state: ArenaState, machine: Machine, layout: Layout
) -> NDArray[np.bool_]:
    """Captured purges that the arena made for itself: an allocation's, or above the limit."""
    waiting, _, _ = _purge_bytes(calls, state, machine, layout)
    of_alloc = calls.purges.get_column("parent").is_in(calls.allocs.get_column("seq").implode())
    over = waiting > layout.lazy_max_pages * layout.page_size
    return np.asarray(over | of_alloc.fill_null(value=False).to_numpy(), bool)


def _delays(
    events: pl.DataFrame,
    calls: ArenaCalls,
    state: ArenaState,
    machine: Machine,
    layout: Layout,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """From the free that passed the limit to the purge, and until its areas were back, in ns.

    Of each purge that the capture shows, and the median for all that follow.
    """
    from replay.arena.loops import lazy as kernel

    waiting, of_purge, nr_lazy = _purge_bytes(calls, state, machine, layout)
    limit = layout.lazy_max_pages * layout.page_size
    above = nr_lazy > limit
    begins = np.flatnonzero(above & ~np.concatenate([[False], above[:-1]]))
    late = np.flatnonzero(waiting > limit)
    if not late.size or not begins.size:
        return np.array([SOON_NS]), np.zeros(1, np.int64)
    ts, seq = events.get_column("ts").to_numpy(), events.get_column("seq").to_numpy()
    stream, _, _ = lazy_stream(calls)
    frees = calls.frees.select("lo", "row").sort("lo")
    crossing = begins[np.maximum(np.searchsorted(begins, of_purge[late]) - 1, 0)]
    at = np.searchsorted(frees.get_column("lo").to_numpy(), stream[crossing, kernel.LO])
    passed = ts[frees.get_column("row").to_numpy()[np.minimum(at, frees.height - 1)]]
    rows = calls.purges.get_column("row").to_numpy()[late]
    detach = calls.purges.get_column("detach").to_numpy()[late] // 2
    taken = ts[np.minimum(np.searchsorted(seq, detach), seq.size - 1)]
    end = events.select(pl.coalesce("end_ts", "ts")).to_series().to_numpy()[rows]
    delay, spell = np.maximum(taken - passed, SOON_NS), np.maximum(end - taken, 0)
    return _with_median(delay), _with_median(spell)


def _with_median(times: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.append(times, int(np.median(times))).astype(np.int64)


def _run(
    forest: Forest,
    table: NDArray[np.int64],
    areas: int,
    moved: NDArray[np.int64],
    busy: int,
    lazy_list: str,
    limit: int,
    delays: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> tuple[Forward, Any]:
    from replay.arena.loops import forward as kernel
    from replay.arena.loops.lazy import new_lazy

    waiting = moved[busy:]
    lazy = new_lazy(len(table) + 1, np.ascontiguousarray(waiting[waiting[:, 0] >= 0]))
    area = np.full((areas, 2), -1, np.int64)
    area[:busy] = moved[:busy]
    done = kernel.Forward(
        area,
        np.zeros(len(table), np.int64),
        np.zeros((len(table) + 1, 4), np.int64),
        np.zeros(2, np.int64),
    )
    kernel.run(forest, lazy, done, table, LISTS[lazy_list], limit, *delays)
    return done, lazy


def _result(
    calls: ArenaCalls,
    table: NDArray[np.int64],
    done: Forward,
    lazy: Any,
    in_use: NDArray[np.int64],
    layouts: tuple[Layout, Layout],
    unplaced: int,
) -> ArenaForecast:
    from replay.arena.loops import forward as kernel
    from replay.arena.loops.lazy import PEAK

    before, layout = layouts
    is_alloc = table[:, kernel.KIND] == kernel.ALLOC
    first = len(in_use)  # areas of the start have the first numbers
    by_call = np.argsort(table[is_alloc, kernel.AREA], kind="stable")
    address = done.result[is_alloc][by_call]
    failed_there = calls.allocs.get_column("seen").to_numpy() == FAILED
    failed = address < 0
    elsewhere = calls.allocs.select(
        (pl.col("vend") <= before.vmalloc_start) | (pl.col("vstart") >= before.vmalloc_end)
    ).to_series().to_numpy()  # fmt: skip
    sizes = calls.allocs.get_column("size").to_numpy()[failed & ~elsewhere]
    purge = done.purge[: done.counts[0]]
    pages = (purge[:, 3] - purge[:, 2] + layout.page_size - 1) // layout.page_size
    peak, live, hole = _use(table, done, in_use, address, first, layout)
    number = Counter(purge[:, 1].tolist())
    names = {"asked": kernel.ASKED, "limit": kernel.LIMIT, "full": kernel.FULL}
    never = int((failed_there & (address < 0)).sum())  # given back without having been there
    return ArenaForecast(
        row=calls.allocs.get_column("row").to_numpy().astype(np.int64),
        address=address,
        start=in_use[:, 0],
        end=in_use[:, 1],
        failures=int((address < 0).sum()),
        purges=Counter(pages.tolist()),
        causes={name: number[cause] for name, cause in names.items()},
        peak_lazy=int(lazy.reg[PEAK]),
        peak_live=live,
        peak_used=peak,
        largest_hole_min=hole,
        unplaced=unplaced,
        borrowed=int((failed_there & (address >= 0)).sum()),
        lost_frees=int(done.counts[1]) - never,
        failures_of_modules=int((failed & elsewhere).sum()),
        smallest_failed=int(sizes.min()) if sizes.size else None,
    )


def _use(
    table: NDArray[np.int64],
    done: Forward,
    in_use: NDArray[np.int64],
    address: NDArray[np.int64],
    first: int,
    layout: Layout,
) -> tuple[int, int, int]:
    """Most bytes in use or waiting, most in use, and the smallest that the largest hole was."""
    from replay.arena.loops import forward as kernel
    from replay.arena.loops import use

    sizes = np.zeros(first + address.size, np.int64)
    where = np.full(first + address.size, -1, np.int64)
    where[:first], sizes[:first] = in_use[:, 0], in_use[:, 1] - in_use[:, 0]
    is_alloc = table[:, kernel.KIND] == kernel.ALLOC
    where[first:] = address
    sizes[table[is_alloc, kernel.AREA]] = table[is_alloc, kernel.SIZE]
    moves = table[:, kernel.KIND] != kernel.PURGE
    area = table[moves, kernel.AREA]
    purges = done.purge[: done.counts[0], 0]
    # A purge runs inside its call: before an allocation's own place, after a free.
    order = np.concatenate([np.flatnonzero(moves) * 2 + 1, purges * 2 + 2 * 0])
    order[moves.sum() :] += 2 * (table[purges, kernel.KIND] == kernel.FREE)
    code = np.concatenate([
        np.where(table[moves, kernel.KIND] == kernel.ALLOC, use.ALLOC, use.FREE),
        np.full(purges.size, use.PURGE),
    ])  # fmt: skip
    none = np.zeros(purges.size, np.int64)
    start = np.concatenate([where[area], none])
    end = np.concatenate([where[area] + sizes[area], none])
    here = (start >= layout.vmalloc_start) & (end <= layout.vmalloc_end) | (code == use.PURGE)
    by = np.argsort(order, kind="stable")
    by = by[here[by]]

    def page(values: NDArray[np.int64]) -> NDArray[np.int64]:
        clipped = np.clip(values, layout.vmalloc_start, layout.vmalloc_end)
        return np.asarray((clipped - layout.vmalloc_start) // layout.page_size, np.int64)

    inside = (in_use[:, 0] >= layout.vmalloc_start) & (in_use[:, 1] <= layout.vmalloc_end)
    arena = use.new_arena(
        (layout.vmalloc_end - layout.vmalloc_start) // layout.page_size,
        page(in_use[inside][np.argsort(in_use[inside][:, 0])]),
    )
    use.run(arena, code[by].astype(np.uint8), page(start[by]), page(end[by]))
    peak, live, hole = (
        int(arena.reg[n]) * layout.page_size for n in (use.PEAK, use.PEAK_LIVE, use.HOLE)
    )
    return peak, live, hole
