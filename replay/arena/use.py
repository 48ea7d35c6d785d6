"""The vmap/vmalloc arena as the trace shows it: bookkeeping, not prediction.

Areas in use are those of /proc/vmallocinfo at the start, those allocated since, and those freed
lazily and not yet purged (mm/vmalloc.c: free_vmap_area_noflush): their addresses are not
available either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from replay.arena.holders import at_start, holders
from replay.arena.modules import ModulesUse, asked_elsewhere, modules_area, row_of
from replay.arena.tally import ALLOC_OPS
from replay.outcome import ArenaOutcome
from replay.trace.columns import of_ops
from replay.trace.told import NO_ROW, moment

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from collectors.snapshot import Snapshot
    from replay.arena.loops.use import Arena
    from replay.machine.model import Layout
    from replay.trace.told import Told

CALLERS: Final = ("vmap", "vmalloc")
"""Calls that an allocation is made for each."""
MOST_MISSING: Final = 0.01
"""Share of allocations without an address, up to which use and holes are figures at all."""
_STEP: Final = np.dtype(
    [("at", "u8"), ("ts", "i8"), ("code", "u1"), ("start", "i8"), ("end", "i8")]
)


class _Calls:
    """Allocations, as calls of some operations show them.

    Attributes
    ----------
    number, failures, untold, outermost
        All; those that failed; those of which no result is known; failures in no other call.
    smallest, first_row
        Least that was asked for in vain, and row of the first time, outside of the modules' area.
    largest
        The request that needs the largest hole, as (bytes, alignment), outside of it.
    """

    def __init__(self, layout: Layout, ops: tuple[str, ...]) -> None:
        self.ops = ops
        self.number = self.failures = self.untold = self.outermost = 0
        self.smallest: int | None = None
        self.first_row = NO_ROW
        self.largest: tuple[int, int] | None = None
        self._elsewhere = asked_elsewhere(layout)

    def add(self, rows: pl.DataFrame, events: pl.DataFrame, first_row: int) -> None:
        """Count the operations among some rows of a piece, whose first row has a number."""
        calls = rows.filter(pl.col("op").is_in(self.ops))
        failed = calls.filter(pl.col("vaddr") == 0)
        self.number += calls.height
        self.failures += failed.height
        self.outermost += failed.get_column("parent").null_count()
        self.untold += calls.get_column("vaddr").null_count()
        self._see_sizes(calls.filter(~self._elsewhere))
        failed = failed.filter(~self._elsewhere)
        if not failed.height:
            return
        if self.first_row == NO_ROW:
            self.first_row = first_row + row_of(events, failed["seq"][0])
        sizes = failed.get_column("size").drop_nulls().to_list()
        self.smallest = min(
            [*sizes, *([] if self.smallest is None else [self.smallest])], default=None
        )

    def _see_sizes(self, calls: pl.DataFrame) -> None:
        """Remember the request that needs the largest hole; `report` has no alignments."""
        if "align" not in calls.columns:
            return
        top = (
            calls.select(pl.col("size"), pl.col("align").fill_null(1))
            .drop_nulls()
            .top_k(1, by=pl.col("size") + pl.col("align"))
        )
        for asked in top.iter_rows():
            self.largest = asked if self.largest is None else max(self.largest, asked, key=sum)


def arena_at_start(layout: Layout, values: Snapshot) -> Arena | None:
    """The arena before the first event; None where nothing is known of it."""
    from replay.arena.loops.use import new_arena

    areas = at_start(values, layout.vmalloc_start, layout.vmalloc_end)
    if not areas:
        return None
    freed = {area.start for area in values.areas if area.kind == "unpurged"}
    bounds = np.array([(start, end) for start, end, _ in areas], np.int64)
    pages = (bounds - layout.vmalloc_start) // layout.page_size
    size = (layout.vmalloc_end - layout.vmalloc_start) // layout.page_size
    waiting = np.array([start in freed for start, _, _ in areas])
    return new_arena(size, pages[~waiting], pages[waiting])


class ArenaUse:
    """Counts what happens in the arena, piece by piece.

    Parameters
    ----------
    layout
        For the arena's bounds.
    values
        Facts; ``areas`` are the areas at the start of the capture. Without them only calls are
        counted.
    """

    def __init__(self, layout: Layout, values: Snapshot) -> None:
        self._layout = layout
        areas = at_start(values, layout.vmalloc_start, layout.vmalloc_end)
        self._holders = holders((name, end - start) for start, end, name in areas)
        # By alloc_vmap_area(), and by its callers, which count where it was not traced
        self._found = _Calls(layout, ALLOC_OPS), _Calls(layout, CALLERS)
        self._unsure = values.seen_unsure - values.seen_found
        self._runs = self._returned = self._gave = 0
        self._coming = np.zeros(0, _STEP)  # steps behind the last piece
        own = modules_area(layout, values)
        self._modules = (
            []
            if own is None
            else [ModulesUse(own, op, layout, values) for op in ("area_alloc", "vmalloc")]
        )
        self._arena = arena_at_start(layout, values)

    def feed(self, events: pl.DataFrame, first_row: int = 0, *, last: bool) -> NDArray[np.void]:
        """Count a piece of the event table.

        Parameters
        ----------
        events
            Sorted by `seq`, behind everything before.
        first_row
            Number of its first row in the whole table.
        last
            Nothing comes behind it.

        Returns
        -------
        ndarray
            The steps that are settled with it, in order: `at` (position), `ts` (ns of the trace
            clock), `code` of :mod:`replay.arena.loops.use`, `start` and `end` in pages of the
            arena. None without the areas at the start.
        """
        here = of_ops(events, (*ALLOC_OPS, *CALLERS, "area_free", "area_purge", "vfree"))
        if here.height:
            for calls in self._found:
                calls.add(here, events, first_row)
            for modules in self._modules:
                modules.feed(here, events, first_row)
            purges = here.filter(pl.col("op") == "area_purge").get_column("pages")
            self._runs += len(purges)
            self._returned += len(purges) - purges.null_count()
            self._gave += int((purges > 0).sum())
        if self._arena is None or not (here.height or self._coming.size):
            return np.zeros(0, _STEP)
        from replay.arena.loops.use import run

        steps = np.concatenate([self._coming, self._steps(here)])
        steps = steps[np.lexsort((steps["code"], steps["at"]))]
        end = int(events["seq"][-1]) if events.height else 0
        settled = steps.size if last else np.searchsorted(steps["at"], end, side="right")
        now, self._coming = steps[:settled], steps[settled:]
        run(self._arena, *(now[name].copy() for name in ("code", "start", "end")))
        return now

    def rows(self) -> set[int]:
        """Rows that :meth:`outcome` needs to name tasks."""
        rows = {calls.first_row for calls in self._found}
        return (rows | {modules.first_row for modules in self._modules}) - {NO_ROW}

    def outcome(self, told: Told | None = None) -> ArenaOutcome:
        """The figures; those that need to know the initial areas are None without them.

        `lazy_purges` is by what the purges returned; None where no return was traced. `told` is
        what :meth:`rows` tell.
        """
        by_area, by_caller = self._found
        derived = not by_area.number and by_caller.number > 0
        calls = by_caller if derived else by_area
        peak = live = hole = None
        failed: tuple[int, int, int] | None = None
        # Areas whose addresses are not known are missing from the map.
        if self._arena is not None and not derived and calls.untold <= MOST_MISSING * calls.number:
            from replay.arena.loops.use import (
                FAILED_FREE,
                FAILED_HOLE,
                FAILED_SIZE,
                HOLE,
                PEAK,
                PEAK_LIVE,
            )

            peak, live, hole = (
                int(self._arena.reg[n]) * self._layout.page_size for n in (PEAK, PEAK_LIVE, HOLE)
            )
            asked, free, largest = (
                int(self._arena.reg[n]) * self._layout.page_size
                for n in (FAILED_SIZE, FAILED_FREE, FAILED_HOLE)
            )
            failed = (asked, free, largest) if asked else None
        return ArenaOutcome(
            size=self._layout.vmalloc_end - self._layout.vmalloc_start,
            allocs=calls.number - calls.failures,
            failures=calls.failures,
            untold=max(calls.untold + (0 if derived else self._unsure), 0),
            derived=derived,
            null_calls=0 if derived else max(by_caller.outermost - by_area.failures, 0),
            smallest_failed=calls.smallest,
            largest_request=calls.largest,
            first=None if told is None else moment(told, calls.first_row),
            peak_used=peak,
            peak_live=live,
            largest_hole_min=hole,
            at_failure=failed,
            lazy_purges=self._gave if self._returned or not self._runs else None,
            purge_runs=self._runs,
            holders=self._holders,
            modules=self._modules[derived].outcome(told) if self._modules else None,
        )

    def _steps(self, events: pl.DataFrame) -> NDArray[np.void]:
        """Allocations at their return, lazy frees at their entry, purges at their return."""
        from replay.arena.loops.use import ALLOC, FAIL, FREE, PURGE

        layout = self._layout
        inside = (pl.col("vaddr") >= layout.vmalloc_start) & (pl.col("vaddr") < layout.vmalloc_end)
        returned = pl.max_horizontal("end_seq", "seq")
        entered = pl.col("ts").fill_null(0)
        then = pl.coalesce("end_ts", entered)
        lent = events.filter(pl.col("op").is_in(ALLOC_OPS) & inside).select(
            at=returned, ts=then, code=ALLOC, start="vaddr", end=pl.col("vaddr") + pl.col("size")
        )
        freed = events.filter((pl.col("op") == "area_free") & inside).select(
            at="seq", ts=entered, code=FREE, start="vaddr", end="end"
        )
        nowhere = pl.lit(0, pl.UInt64)
        base = pl.lit(layout.vmalloc_start, pl.UInt64)
        failed = events.filter(
            pl.col("op").is_in(ALLOC_OPS) & (pl.col("vaddr") == 0) & ~asked_elsewhere(layout)
        ).select(at=returned, ts=then, code=FAIL, start=base, end=base + pl.col("size"))
        purged = events.filter(pl.col("op") == "area_purge").select(
            at=returned, ts=then, code=PURGE, start=nowhere, end=nowhere
        )
        rows = pl.concat([lent, freed, purged, failed]).drop_nulls()
        steps = np.zeros(rows.height, _STEP)
        for name in ("at", "ts", "code"):
            steps[name] = rows.get_column(name).to_numpy()
        for name in ("start", "end"):
            address = rows.get_column(name).clip(layout.vmalloc_start, layout.vmalloc_end)
            steps[name] = (address.cast(pl.Int64).to_numpy() - layout.vmalloc_start) // (
                layout.page_size
            )
        return steps
