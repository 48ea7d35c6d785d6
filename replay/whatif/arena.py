"""The captured arena's workload in another machine's arena.

Every allocation is placed by the model, every purge is the model's own: when more waits than the
other machine lets wait, when an allocation finds no room, or when the kernel asked for it
(vm_unmap_aliases() after set_memory() or a freed module). The trace tells who asks for what, in
which order, and what is freed (:mod:`replay.whatif.requests`).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import polars as pl

from collectors.records import dataclass
from replay.arena.lazy import LISTS
from replay.arena.purges import DRAIN, LIMIT
from replay.arena.replay import ArenaPlayer
from replay.arena.state import SPACE, complement, forest_of, histories, initial_state, rule_of
from replay.machine.generations import GENERATIONS
from replay.trace.parts import Parts
from replay.whatif.purges import PurgesThere
from replay.whatif.requests import Asked, Requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from collectors.snapshot import Snapshot
    from replay.arena.loops.forward import Forward
    from replay.arena.loops.freetree import Forest, Rule
    from replay.arena.loops.use import Arena
    from replay.arena.pieces import ArenaPiece
    from replay.arena.state import ArenaState
    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.outcome import PurgeOutcome

PERCPU: Final = "pcpu_get_vm_areas"
"""Caller of chunks that are taken from the top of the arena downwards (mm/vmalloc.c)."""
FIXED: Final = ("pci_reserve_io", "iotable_init", "pmd_empty_section_gap", "debug_ll_io_init")
"""Callers of ARM's static mappings, whose addresses are written in the source."""
SHAPES: Final = 12
"""Other shapes of the free tree that are tried where the true one is not known."""
_MARGIN: Final = 1 << 12
_OF_ALLOCS: Final = ("row", "size", "failed", "elsewhere")


@dataclass(frozen=True)
class ArenaForecast:
    """What the model makes of the workload.

    Attributes
    ----------
    allocs, failures
        Allocations, and those that fail.
    purges
        Purges by the number of pages that they flush.
    causes
        Purges by cause: ``asked``, ``limit``, ``full``.
    by_trigger
        Purges by what made them run, as the capture has them: without times.
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
    ambiguous
        Allocations that another shape places elsewhere.
    failures_between, purges_between
        Fewest and most under all shapes.
    """

    allocs: int
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
    ambiguous: int = 0
    failures_between: tuple[int, int] = (0, 0)
    purges_between: tuple[int, int] = (0, 0)
    by_trigger: tuple[PurgeOutcome, ...] = ()


class ArenaPlaces(NamedTuple):
    """Where the model places the allocations of a piece.

    Attributes
    ----------
    row : ndarray of int64
        Row of the event table of each.
    address : ndarray of int64
        FAILED where there is no room.
    ambiguous : ndarray of bool
        Another shape of the free tree places it elsewhere.
    """

    row: NDArray[np.int64]
    address: NDArray[np.int64]
    ambiguous: NDArray[np.bool_]


def same_arena(one: Machine, other: Machine, before: Layout, after: Layout) -> bool:
    """Whether the arena of both machines behaves alike, so that the capture tells all."""
    return (
        one.generation == other.generation
        and before.lazy_max_pages == after.lazy_max_pages
        and (before.vmalloc_start, before.vmalloc_end) == (after.vmalloc_start, after.vmalloc_end)
        and (before.modules_start, before.modules_end) == (after.modules_start, after.modules_end)
    )


def forecast(
    pieces: Iterable[ArenaPiece],
    captured: Machine,
    before: Layout,
    target: Machine,
    after: Layout,
    values: Snapshot,
    each: Callable[[ArenaPlaces], None] | None = None,
    triggers: pl.DataFrame | None = None,
) -> ArenaForecast | None:
    """Serve the captured calls in another arena, in bounded memory.

    Parameters
    ----------
    pieces
        Calls of the arena; gone through twice.
    captured, before
        The machine that the trace is from.
    target, after
        The other one.
    values
        Facts of the capture: the areas in use at the start.
    each
        Called with what became of every piece.
    triggers
        Who asked for the captured purges (:data:`replay.arena.purges.RAN`); None: it is not known.

    Returns
    -------
    ArenaForecast or None
        None where the areas at the start are not known, or the other machine has other pages or
        a 64-bit address space.
    """
    rules, generation = GENERATIONS[captured.generation], GENERATIONS[target.generation]
    state = initial_state(pieces, values, rules.lazy_list)
    comparable = before.page_size == after.page_size and after.vmalloc_end <= SPACE[1]
    if not state.known or not comparable:
        return None
    asked = Asked(state, rules, before, after)
    player = ArenaPlayer(state, before, rules)
    parts, number = Parts(), 0
    for piece in pieces:
        _write(parts, number, asked.take(piece, player.take(piece).places(), triggers))
        number += 1
    by_worker = generation.purger != "freeing-task"
    delays = asked.delays() if by_worker else (np.zeros(1, np.int64), np.zeros(1, np.int64))
    limit = after.lazy_max_pages * after.page_size
    rule = rule_of(generation, after)
    anchors = {a.start: a.caller.partition("+")[0] for a in values.areas}
    moved = _moved(state, anchors, before, after)
    stays = state.shape is not None and np.array_equal(moved[:, 0], _starts(state))
    if stays:
        forest, unplaced = forest_of(state, rule, trees=1), 0
    else:
        forest, unplaced = _planted(moved, rule, after)
    shaped = [] if stays or not rule.shape_decides(state.align) else list(_others(moved, rule))
    worlds = [
        _World(tree, moved, len(state.busy), generation.lazy_list, limit, delays)
        for tree in (forest, *shaped)
    ]
    tally = _Tally(moved, len(state.busy), after, DRAIN if by_worker else LIMIT)
    for index in range(number):
        requests = _read(parts, index)
        places = [world.serve(requests) for world in worlds]
        placed = tally.add(requests, worlds[0], places)
        if each is not None:
            each(placed)
    return tally.result(worlds, unplaced)


def _write(parts: Parts, number: int, requests: Requests) -> None:
    """Write the requests of a piece down."""
    from replay.arena.loops import forward as kernel

    names = [f"c{column}" for column in range(kernel.COLUMNS)]
    parts.put(f"table-{number}", pl.DataFrame(requests.table, schema=names))
    parts.put(f"kept-{number}", pl.DataFrame({"kept": requests.kept}))
    allocs = {name: getattr(requests, name) for name in _OF_ALLOCS}
    parts.put(f"allocs-{number}", pl.DataFrame(allocs))


def _read(parts: Parts, number: int) -> Requests:
    """The requests that were written down."""
    allocs = parts.get(f"allocs-{number}")
    return Requests(
        np.ascontiguousarray(parts.get(f"table-{number}").to_numpy(), np.int64),
        parts.get(f"kept-{number}").get_column("kept").to_numpy(),
        *(allocs.get_column(name).to_numpy() for name in _OF_ALLOCS),
    )


class _World:
    """An arena in which the requests are served, piece by piece.

    Attributes
    ----------
    done
        What became of the last piece's calls.
    failures, purges, peak_lazy, lost
        So far: allocations without room, purges that flushed, most bytes waiting, frees of areas
        that were not in use.
    """

    def __init__(
        self,
        forest: Forest,
        areas: NDArray[np.int64],
        busy: int,
        lazy_list: str,
        limit: int,
        delays: tuple[NDArray[np.int64], NDArray[np.int64]],
    ) -> None:
        from replay.arena.loops import forward as kernel

        waiting = areas[busy:]
        self._forest, self._area = forest, areas[:busy].copy()
        self._waiting = np.ascontiguousarray(waiting[waiting[:, 0] >= 0])
        self._order, self._limit, self._delays = LISTS[lazy_list], limit, delays
        self._reg = kernel.registers()
        self._taken = np.zeros((0, 2), np.int64)  # by a purge that has not given back yet
        self.failures = self.purges = self.lost = 0
        self.peak_lazy = 0
        self.done: Forward

    def serve(self, requests: Requests) -> NDArray[np.int64]:
        """Serve the requests of a piece; the address of each allocation, or FAILED."""
        from replay.arena.loops import forward as kernel
        from replay.arena.loops.freetree import HIGH, grown
        from replay.arena.loops.lazy import N_GIVEN, N_LAZY, PEAK, new_lazy

        table = requests.table
        here, more = len(self._waiting) + len(self._taken), 2 * len(table) + _MARGIN
        need = int(self._forest.reg[HIGH]) + here + more
        if need > len(self._forest.node):
            self._forest = grown(self._forest, need)
        lazy = new_lazy(len(table) + len(self._taken) + 1, self._waiting)
        lazy.given[: len(self._taken)] = self._taken
        lazy.reg[N_GIVEN] = len(self._taken)
        area = np.full((len(requests.kept) + len(requests.row), 2), -1, np.int64)
        area[: len(requests.kept)] = self._area[requests.kept]
        done = kernel.Forward(
            area,
            np.zeros(len(table), np.int64),
            np.zeros((len(table) + 1, 5), np.int64),
            np.zeros(2, np.int64),
            self._reg,
        )
        kernel.run(self._forest, lazy, done, table, self._order, self._limit, *self._delays)
        self.done, self._area = done, area
        self._waiting = lazy.waiting[: lazy.reg[N_LAZY], :2].copy()
        first = self._reg[kernel.TAKEN] if self._reg[kernel.BACK] != kernel.NEVER else None
        self._taken = lazy.given[: 0 if first is None else lazy.reg[N_GIVEN]][first:].copy()
        self._reg[kernel.TAKEN] = 0
        is_alloc = table[:, kernel.KIND] == kernel.ALLOC
        by_call = np.argsort(table[is_alloc, kernel.AREA], kind="stable")
        address = done.result[is_alloc][by_call]
        self.failures += int((address < 0).sum())
        self.purges += int(done.counts[0])
        self.lost += int(done.counts[1])
        self.peak_lazy = max(self.peak_lazy, int(lazy.reg[PEAK]))
        return address


class _Tally:
    """Sums up what becomes of the requests.

    Parameters
    ----------
    areas : ndarray of int64, shape (n, 2)
        Areas at the start: `busy` of them in use, behind those the lazily freed ones.
    layout
        For the arena's bounds.
    at_limit
        What makes a purge run where more waits than may.
    """

    def __init__(self, areas: NDArray[np.int64], busy: int, layout: Layout, at_limit: str) -> None:
        from replay.arena.loops.use import new_arena

        self._layout = layout
        self._allocs = self._ambiguous = self._borrowed = self._never = self._elsewhere = 0
        self._smallest: int | None = None
        self._purges: Counter[int] = Counter()
        self._causes: Counter[int] = Counter()
        self._runs = PurgesThere(at_limit)
        self._spans = areas[:busy].copy()  # by number of area
        inside = (areas[:, 0] >= layout.vmalloc_start) & (areas[:, 1] <= layout.vmalloc_end)
        in_use, freed = (
            self._page(areas[part][inside[part]]) for part in (slice(busy), slice(busy, None))
        )
        pages = (layout.vmalloc_end - layout.vmalloc_start) // layout.page_size
        self._use: Arena = new_arena(pages, in_use, freed)

    def _page(self, address: NDArray[np.int64]) -> NDArray[np.int64]:
        layout = self._layout
        clipped = np.clip(address, layout.vmalloc_start, layout.vmalloc_end)
        return np.asarray((clipped - layout.vmalloc_start) // layout.page_size, np.int64)

    def add(
        self, requests: Requests, world: _World, places: list[NDArray[np.int64]]
    ) -> ArenaPlaces:
        """Take a piece: as the first world served it, and where all of them placed it."""
        layout, address = self._layout, places[0]
        purge = world.done.purge[: world.done.counts[0]]
        pages = (purge[:, 3] - purge[:, 2] + layout.page_size - 1) // layout.page_size
        self._purges.update(pages.tolist())
        self._causes.update(purge[:, 1].tolist())
        self._runs.add(requests.table, purge, pages, world.done.result, layout.page_size)
        ambiguous = np.zeros(address.size, bool)
        for other in places[1:]:
            ambiguous |= other != address
        self._allocs += address.size
        self._ambiguous += int(ambiguous.sum())
        self._borrowed += int((requests.failed & (address >= 0)).sum())
        in_vain = requests.size[(address < 0) & ~requests.elsewhere]
        if in_vain.size:
            least = int(in_vain.min())
            self._smallest = least if self._smallest is None else min(self._smallest, least)
        self._elsewhere += int(((address < 0) & requests.elsewhere).sum())
        # given back without having been there
        self._never += int((requests.failed & (address < 0)).sum())
        self._follow_use(requests, world.done, address)
        return ArenaPlaces(requests.row, address, ambiguous)

    def _follow_use(self, requests: Requests, done: Forward, address: NDArray[np.int64]) -> None:
        """Follow which pages are in use."""
        from replay.arena.loops import forward as kernel
        from replay.arena.loops import use

        table, layout = requests.table, self._layout
        first = len(requests.kept)
        spans = np.full((first + address.size, 2), -1, np.int64)
        spans[:first] = self._spans[requests.kept]
        is_alloc = table[:, kernel.KIND] == kernel.ALLOC
        sizes = np.zeros(len(spans), np.int64)
        sizes[table[is_alloc, kernel.AREA]] = table[is_alloc, kernel.SIZE]
        spans[first:, 0] = address
        spans[first:, 1] = address + sizes[first:]
        self._spans = spans
        moves = table[:, kernel.KIND] != kernel.PURGE
        area = table[moves, kernel.AREA]
        purges = done.purge[: done.counts[0], 0]
        # A purge runs inside its call: before an allocation's own place, after a free.
        order = np.concatenate([np.flatnonzero(moves) * 2 + 1, purges * 2])
        order[moves.sum() :] += 2 * (table[purges, kernel.KIND] == kernel.FREE)
        code = np.concatenate([
            np.where(table[moves, kernel.KIND] == kernel.ALLOC, use.ALLOC, use.FREE),
            np.full(purges.size, use.PURGE),
        ])  # fmt: skip
        none = np.zeros(purges.size, np.int64)
        start, end = (np.concatenate([spans[area, side], none]) for side in (0, 1))
        here = (start >= layout.vmalloc_start) & (end <= layout.vmalloc_end) | (code == use.PURGE)
        by = np.argsort(order, kind="stable")
        by = by[here[by]]
        use.run(self._use, code[by].astype(np.uint8), self._page(start[by]), self._page(end[by]))

    def result(self, worlds: list[_World], unplaced: int) -> ArenaForecast:
        """The figures."""
        from replay.arena.loops import forward as kernel
        from replay.arena.loops import use

        page = self._layout.page_size
        names = {"asked": kernel.ASKED, "limit": kernel.LIMIT, "full": kernel.FULL}
        failures, purges = ([getattr(w, name) for w in worlds] for name in ("failures", "purges"))
        return ArenaForecast(
            allocs=self._allocs,
            failures=failures[0],
            purges=self._purges,
            causes={name: self._causes[cause] for name, cause in names.items()},
            peak_lazy=worlds[0].peak_lazy,
            peak_live=int(self._use.reg[use.PEAK_LIVE]) * page,
            peak_used=int(self._use.reg[use.PEAK]) * page,
            largest_hole_min=int(self._use.reg[use.HOLE]) * page,
            unplaced=unplaced,
            borrowed=self._borrowed,
            lost_frees=worlds[0].lost - self._never,
            failures_of_modules=self._elsewhere,
            smallest_failed=self._smallest,
            shapes=len(worlds),
            ambiguous=self._ambiguous,
            failures_between=(min(failures), max(failures)),
            purges_between=(min(purges), max(purges)),
            by_trigger=self._runs.outcome(),
        )


def _others(areas: NDArray[np.int64], rule: Rule) -> Iterator[Forest]:
    """The blocks that areas leave free in trees of several shapes."""
    from replay.arena.loops.freetree import new_forest
    from replay.arena.loops.shapes import plant

    blocks = complement(areas[areas[:, 0] >= 0])
    for history in histories(blocks, SHAPES):
        forest = new_forest(1, 3 * len(blocks) + _MARGIN, rule)
        plant(forest, 0, *history)
        yield forest


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


def _planted(areas: NDArray[np.int64], rule: Rule, layout: Layout) -> tuple[Forest, int]:
    """The free tree around these areas; one that has no room there goes where there is some.

    `areas` is corrected in place. The second value is the number of areas without any room.
    """
    from replay.arena.loops import freetree as tree

    capacity = 2 * len(areas) + _MARGIN
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
