"""The vmap/vmalloc arena as the trace shows it: bookkeeping, not prediction.

Areas in use are those of /proc/vmallocinfo at the start, those allocated since, and those freed
lazily and not yet purged (mm/vmalloc.c: free_vmap_area_noflush): their addresses are not
available either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from replay.arena.holders import holders
from replay.arena.tally import ALLOC_OPS
from replay.outcome import ArenaOutcome
from replay.trace.columns import of_ops

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from collectors.snapshot import Snapshot
    from replay.machine.model import Layout

_STEP: Final = np.dtype([("at", "u8"), ("code", "u1"), ("start", "i8"), ("end", "i8")])


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
        from replay.arena.loops.use import new_arena

        self._layout = layout
        self._holders = holders(values, layout)
        self._allocs = self._failures = self._purges = 0
        self._coming = np.zeros(0, _STEP)  # steps behind the last piece
        areas = [
            (a.start, a.end)
            for a in values.areas
            if layout.vmalloc_start <= a.start < a.end <= layout.vmalloc_end
        ]
        self._arena = None
        if areas:
            pages = (np.array(sorted(areas), np.int64) - layout.vmalloc_start) // layout.page_size
            size = (layout.vmalloc_end - layout.vmalloc_start) // layout.page_size
            self._arena = new_arena(size, pages)

    def feed(self, events: pl.DataFrame, *, last: bool) -> None:
        """Count a piece of the event table.

        Parameters
        ----------
        events
            Sorted by `seq`, behind everything before.
        last
            Nothing comes behind it.
        """
        here = of_ops(events, (*ALLOC_OPS, "area_free", "area_purge"))
        allocs = here.filter(pl.col("op").is_in(ALLOC_OPS))
        failed = allocs.filter(pl.col("vaddr") == 0).height
        purges = here.filter((pl.col("op") == "area_purge") & (pl.col("pages").fill_null(1) > 0))
        self._failures += failed
        self._allocs += allocs.height - failed
        self._purges += purges.height
        if self._arena is None:
            return
        from replay.arena.loops.use import run

        steps = np.concatenate([self._coming, self._steps(here)])
        steps = steps[np.lexsort((steps["code"], steps["at"]))]
        end = int(events["seq"][-1]) if events.height else 0
        settled = steps.size if last else np.searchsorted(steps["at"], end, side="right")
        now, self._coming = steps[:settled], steps[settled:]
        run(self._arena, *(now[name].copy() for name in ("code", "start", "end")))

    def outcome(self) -> ArenaOutcome:
        """The figures; `peak_used` and `largest_hole_min` are None without the initial areas."""
        peak = hole = None
        if self._arena is not None:
            from replay.arena.loops.use import HOLE, PEAK

            peak = int(self._arena.reg[PEAK]) * self._layout.page_size
            hole = int(self._arena.reg[HOLE]) * self._layout.page_size
        return ArenaOutcome(
            size=self._layout.vmalloc_end - self._layout.vmalloc_start,
            allocs=self._allocs,
            failures=self._failures,
            peak_used=peak,
            largest_hole_min=hole,
            lazy_purges=self._purges,
            holders=self._holders,
        )

    def _steps(self, events: pl.DataFrame) -> NDArray[np.void]:
        """Allocations at their return, lazy frees at their entry, purges at their return."""
        from replay.arena.loops.use import ALLOC, FREE, PURGE

        layout = self._layout
        inside = (pl.col("vaddr") >= layout.vmalloc_start) & (pl.col("vaddr") < layout.vmalloc_end)
        returned = pl.max_horizontal("end_seq", "seq")
        lent = events.filter(pl.col("op").is_in(ALLOC_OPS) & inside).select(
            at=returned, code=ALLOC, start="vaddr", end=pl.col("vaddr") + pl.col("size")
        )
        freed = events.filter((pl.col("op") == "area_free") & inside).select(
            at="seq", code=FREE, start="vaddr", end="end"
        )
        nowhere = pl.lit(0, pl.UInt64)
        purged = events.filter(pl.col("op") == "area_purge").select(
            at=returned, code=PURGE, start=nowhere, end=nowhere
        )
        rows = pl.concat([lent, freed, purged]).drop_nulls()
        steps = np.zeros(rows.height, _STEP)
        steps["at"], steps["code"] = (rows.get_column(n).to_numpy() for n in ("at", "code"))
        for name in ("start", "end"):
            address = rows.get_column(name).clip(layout.vmalloc_start, layout.vmalloc_end)
            steps[name] = (address.cast(pl.Int64).to_numpy() - layout.vmalloc_start) // (
                layout.page_size
            )
        return steps
