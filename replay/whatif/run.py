"""The same workload on other machines.

The calls of the capture are replayed against another machine's pool and stacks. Which of its
pages would be highmem there is a matter of placement:

``class``
    A page that was highmem stays highmem while the other machine has room there, in the order
    of first use, and falls back to lowmem then (the zonelist's order, mm/page_alloc.c:
    get_page_from_freelist). Room ends at the zone's low watermark (:mod:`replay.machine.zones`).
``same-pfn``
    Pages keep their frame numbers; the other machine's border decides.

Of many machines most share a pool, an arena or a border, so what was found for one serves all that
do not differ in what it rests on.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from collectors.errors import HmtraceError
from collectors.snapshot import Snapshot
from replay.arena.state import LOST_END, lost_end
from replay.cost.account import CountedWork, cost_of
from replay.cost.verdict import cost_verdict
from replay.figures import common_caveats, outcome_from, span_of, unseen_flushes, with_ipis
from replay.machine.layout import layout_of
from replay.machine.options import has_highpte
from replay.machine.zones import memory_of
from replay.outcome import Outcome
from replay.pool.replay import state_from
from replay.rules.judge import findings
from replay.trace.sanitise import narrowed
from replay.trace.windows import WINDOW_ROWS
from replay.whatif.arena import forecast
from replay.whatif.arena_there import arena_there
from replay.whatif.caveats import (
    border_caveats,
    bound_of,
    doubtful_rules,
    loss_caveats,
    memory_caveats,
    pool_caveats,
    proposed_split,
    purge_caveats,
    ram_caveats,
    shadow_caveats,
)
from replay.whatif.convert import ConvertedCalls, conversion_caveats
from replay.whatif.page_tables import PageTables, page_table_caveats, page_tables_of
from replay.whatif.placement import place
from replay.whatif.pool import PoolThereRun
from replay.whatif.rest import RestThere
from replay.whatif.workload import distil

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import polars as pl

    from replay.local.tally import LocalTally
    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.machine.zones import Memory
    from replay.outcome import Site
    from replay.trace.losses import Loss
    from replay.whatif.arena import ArenaForecast
    from replay.whatif.arena_there import ArenaThere
    from replay.whatif.placement import Placed
    from replay.whatif.pool import PoolThere
    from replay.whatif.workload import Workload

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
        As for :meth:`Server.on`.

    Returns
    -------
    captured, other : Outcome

    Raises
    ------
    HmtraceError
        For an unknown placement or timing (exit code 2), a table that is none or not in order.
    """
    _check(placement, timing)
    workload = distil(
        events, machine, values=values, lost=lost, clock_is_ns=clock_is_ns, progress=progress,
        rows=rows, turns=bool(target.converted),
    )  # fmt: skip
    server = Server(
        workload, machine, values=values, lost=lost, clock_is_ns=clock_is_ns, span_ns=span_ns
    )
    return server.baseline, server.on(target, placement=placement, timing=timing)


class _RestAt(NamedTuple):
    """What one placement makes of local mappings and call sites."""

    local: LocalTally
    sites: tuple[Site, ...]


class Server:
    """Serves a workload on machines that it is not from, beside the one that it is from.

    Parameters
    ----------
    workload
        The trace (:func:`replay.whatif.workload.distil`).
    machine, values, lost, clock_is_ns, span_ns
        As for :func:`replay.walk.replay`; the machine that the workload was distilled on, though
        its costs may be others.
    """

    def __init__(
        self,
        workload: Workload,
        machine: Machine,
        *,
        values: Snapshot | None = None,
        lost: Loss | None = None,
        clock_is_ns: bool = True,
        span_ns: int | None = None,
    ) -> None:
        self._workload, self._machine = workload, machine
        self._values, self._lost = values or Snapshot(), lost
        self._clock_is_ns, self._span_ns = clock_is_ns, span_ns
        self._shown = layout_of(machine)
        self._before = narrowed(self._shown)
        self._places: dict[Hashable, Placed] = {}
        self._pools: dict[Hashable, PoolThere] = {}
        self._rests: dict[Hashable, _RestAt] = {}
        self._arenas: dict[Hashable, ArenaThere] = {}
        self._converted: dict[tuple[str, ...], ConvertedCalls] = {}

    def converted(self, target: Machine) -> ConvertedCalls | None:
        """The kmap() calls that are kmap_local_page() there; None: it is none.

        Raises
        ------
        HmtraceError
            Exit code 2: there is no such call site, or the trace does not tell who unmaps; 3: the
            workload has no turns.
        """
        asked = target.converted
        if not asked:
            return None
        if asked not in self._converted:
            self._converted[asked] = ConvertedCalls(self._workload, asked)
        return self._converted[asked]

    @cached_property
    def baseline(self) -> Outcome:
        """The outcome on the machine that the trace is from."""
        return outcome_from(
            self._workload.figures, self._machine, self._shown, self._values, self._lost,
            clock_is_ns=self._clock_is_ns, span_ns=self._span_ns,
        )  # fmt: skip

    def on(self, target: Machine, *, placement: str = "class", timing: str = "closed") -> Outcome:
        """The outcome on another machine.

        Parameters
        ----------
        target
            The other machine.
        placement, timing
            One of :data:`PLACEMENTS` and :data:`TIMINGS`. ``closed``: a task that has to wait does
            everything later; ``fixed``: the captured times stay, and a kmap() without a slot is
            counted and dropped.

        Raises
        ------
        HmtraceError
            For an unknown placement or timing, or a call site that there is not (exit code 2).
        """
        _check(placement, timing)
        figures = self._workload.figures
        layout = layout_of(target)
        memory = memory_of(target, layout, self._values)
        bound = bound_of(self._before, layout, placement, self._values)
        at, placed = self._placed(layout, placement, memory.highmem_room)
        there = self._pool(target, layout, at, closed=timing == "closed")
        tables = self._lowered_tables(target)
        rest = self._rest(target, layout.page_size, at, tables)
        local = rest.local.outcome(layout)
        arena = self._arena(target, layout)
        work = CountedWork(
            pool=there.outcome,
            local=local,
            scanned=there.tally.scanned,
            freed_by_wraps=there.tally.freed_by_wraps,
            freed_by_unused=there.tally.freed_by_unused,
            held_at_switches=local.mappings_saved,
            arena=arena.tally,
            online=figures.online if target.cpus == self._machine.cpus else None,
        )
        span = span_of(figures.survey, self._span_ns)
        cost, tlb = cost_of(work, target, layout, span if self._clock_is_ns else None)
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
            sites=rest.sites,
            bound=bound,
            unfit=self._unfit(target, layout),
            purges=with_ipis(arena.purges, layout, work.online or target.cpus),
            caveats=(
                *border_caveats(self._before, layout, there.stuck, placement, bound),
                *doubtful_rules(self._machine, target),
                *proposed_split(self._machine, target),
                *shadow_caveats(self._machine, target),
                *(note for note in layout.notes if note not in self._shown.notes),
                *self._memory_caveats(target, layout, memory, placed),
                *page_table_caveats(tables, (self._machine, target), layout, self._values),
                *arena.caveats,
                *purge_caveats(self._machine, target, arena.purges),
                *self._pool_caveats(target, layout, there),
                *self._conversion_caveats(target, layout),
                *self._own_caveats(target),
            ),
        )
        verdict = cost_verdict(self.baseline, outcome)
        cost = replace(cost, change_ns=(verdict.low, verdict.likely, verdict.high))
        outcome = replace(outcome, cost=cost)
        return replace(outcome, findings=findings(outcome, self._values, self._lost, self.baseline))

    def _placed(self, layout: Layout, placement: str, room: int) -> tuple[Hashable, Placed]:
        """Which pages are highmem there, and what that rests on."""
        keys = self._workload.column("pages", "key")
        border: tuple[int, ...] = (min(room, keys.size),)
        if placement == "same-pfn":
            border = (layout.lowmem_end_pfn, layout.max_pfn)
        some = layout.max_pfn > layout.lowmem_end_pfn
        at = placement, border, some, max(keys.size - room, 0), layout.kmap_force_map
        if at not in self._places:
            lows = self._workload.column("lows", "frame")
            self._places[at] = place(keys, lows, layout, placement, room)
        return at, self._places[at]

    def _pool(self, target: Machine, layout: Layout, at: Hashable, *, closed: bool) -> PoolThere:
        machine = self._machine
        same_pool = self._has_same_pool(target, layout)
        same_kernel = target.arch == machine.arch and target.highmem_enabled
        key = (
            at, layout.pkmap_slots, layout.pkmap_colours, layout.pkmap_base, layout.page_size,
            layout.highmem_bytes > 0, same_pool, same_kernel, target.costs.sleep, closed,
            target.converted,
        )  # fmt: skip
        if key not in self._pools:
            has_snapshot = self._has_snapshot(target, layout)
            state = state_from(self._values) if has_snapshot else None
            run = PoolThereRun(
                self._workload, self._places[at], state,
                same_kernel=same_kernel, same_pool=same_pool, converted=self.converted(target),
            )  # fmt: skip
            self._pools[key] = run.replay(target, layout, closed=closed)
        return self._pools[key]

    def _has_same_pool(self, target: Machine, layout: Layout) -> bool:
        """Whether what happened to the pool before the trace would have left it alike there."""
        calls = self.converted(target)
        if calls is not None and calls.is_all:
            return False
        return _same_pool(self._machine, target, self._before, layout)

    def _has_snapshot(self, target: Machine, layout: Layout) -> bool:
        """Whether the pool begins there with what was in it here."""
        same_pool = self._has_same_pool(target, layout)
        return self._workload.figures.initial_state == "snapshot" and same_pool

    def _lowered_tables(self, target: Machine) -> PageTables | None:
        """The page tables, where they are highmem here and lowmem there; else None."""
        is_lowered = has_highpte(self._machine) and not has_highpte(target)
        return self._page_tables if is_lowered and target.highmem_enabled else None

    @cached_property
    def _page_tables(self) -> PageTables:
        return page_tables_of(self._workload)

    def _rest(
        self, target: Machine, page_size: int, at: Hashable, tables: PageTables | None
    ) -> _RestAt:
        key = at, target.cpus, page_size, tables is None, target.converted
        if key not in self._rests:
            lowered = None if tables is None else tables.keys
            rest = RestThere(
                self._workload, self._places[at], target.cpus, self.converted(target), lowered
            )
            for stretch in self._workload.stretches():
                rest.feed(stretch)
            self._rests[key] = _RestAt(rest.local, rest.sites((self._before.page_size, page_size)))
        return self._rests[key]

    def _arena(self, target: Machine, layout: Layout) -> ArenaThere:
        key = (
            target.generation, layout.lazy_max_pages, layout.page_size, layout.vmalloc_start,
            layout.vmalloc_end, layout.modules_start, layout.modules_end,
        )  # fmt: skip
        if key not in self._arenas:
            self._arenas[key] = arena_there(
                self._workload, self.baseline.arena, (self._machine, self._before),
                (target, layout), self._values, lambda: self._own_arena,
            )  # fmt: skip
        return self._arenas[key]

    @cached_property
    def _own_arena(self) -> ArenaForecast | None:
        """What the arena's model makes of the machine that the trace is from."""
        here = self._machine, self._shown
        return forecast(self._workload.arena(), *here, *here, self._values)

    def _memory_caveats(
        self, target: Machine, layout: Layout, memory: Memory, placed: Placed
    ) -> tuple[str, ...]:
        return (
            *memory_caveats(memory, layout, placed.spilled, self._values),
            *ram_caveats(target, layout, placed.beyond, self._values),
        )

    def _pool_caveats(self, target: Machine, layout: Layout, there: PoolThere) -> list[str]:
        pool, baseline = there.outcome, self.baseline
        begins_empty = not self._has_snapshot(target, layout)
        work = self._workload.figures.work
        calls = self.converted(target)
        is_all = calls is not None and calls.is_all
        return [
            *(pool_caveats(baseline.pool, pool) if begins_empty and not is_all else ()),
            *loss_caveats(self._lost, baseline.pool, pool),
            *unseen_flushes(baseline.arena, work, target, layout, kmaps=pool.maps),
        ]

    def _unfit(self, target: Machine, layout: Layout) -> int:
        calls = self.converted(target)
        return 0 if calls is None else calls.outcome.unfit(layout.km_usable_depth)

    def _conversion_caveats(self, target: Machine, layout: Layout) -> list[str]:
        calls = self.converted(target)
        return [] if calls is None else conversion_caveats(calls, layout.km_usable_depth)

    def _own_caveats(self, target: Machine) -> tuple[str, ...]:
        """What limits any answer from this trace."""
        figures = self._workload.figures
        return (
            *([LOST_END] if lost_end(self._values, self._machine, self._before) else ()),
            *figures.remarks,
            *common_caveats(
                figures.survey,
                figures.initial_state,
                figures.beyond,
                self._values,
                self._lost,
                target.costs,
                clock_is_ns=self._clock_is_ns,
            ),
        )


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
