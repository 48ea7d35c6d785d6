"""The vmap/vmalloc arena as the trace shows it: bookkeeping, not prediction.

Areas in use are those of /proc/vmallocinfo at the start, those allocated since, and those freed
lazily and not yet purged (mm/vmalloc.c: free_vmap_area_noflush): their addresses are not
available either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from replay.outcome import ArenaOutcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from replay.arches.base import Layout


def arena_figures(events: pl.DataFrame, layout: Layout, values: Mapping[str, Any]) -> ArenaOutcome:
    """Count what happened in the arena.

    Parameters
    ----------
    events
        Event table.
    layout
        For the arena's bounds.
    values
        Facts; ``areas`` are the areas at the start of the capture.

    Returns
    -------
    ArenaOutcome
        `peak_used` and `largest_hole_min` are None without the initial areas.
    """
    allocs = events.filter(pl.col("op") == "area_alloc")
    failed = allocs.filter(pl.col("vaddr") == 0)
    purges = events.filter((pl.col("op") == "area_purge") & (pl.col("pages").fill_null(1) > 0))
    areas = [
        (a.start, a.end)
        for a in values.get("areas", ())
        if layout.vmalloc_start <= a.start < a.end <= layout.vmalloc_end
    ]
    peak = hole = None
    if areas:
        peak, hole = _peak_and_hole(events, layout, areas)
    return ArenaOutcome(
        size=layout.vmalloc_end - layout.vmalloc_start,
        allocs=allocs.height - failed.height,
        failures=failed.height,
        peak_used=peak,
        largest_hole_min=hole,
        lazy_purges=purges.height,
    )


def _peak_and_hole(
    events: pl.DataFrame, layout: Layout, areas: list[tuple[int, int]]
) -> tuple[int, int]:
    """Most bytes in use, and the smallest that the largest hole ever was."""
    from replay.kernels.arena_use import run

    inside = (pl.col("vaddr") >= layout.vmalloc_start) & (pl.col("vaddr") < layout.vmalloc_end)
    lent = events.filter((pl.col("op") == "area_alloc") & inside).select(
        at=pl.coalesce("end_seq", "seq"),
        start="vaddr",
        end=pl.col("vaddr") + pl.col("size"),
        code=0,
    )
    freed = events.filter((pl.col("op") == "area_free") & inside).select(
        at="seq", start="vaddr", end="end", code=1
    )
    purged = events.filter(pl.col("op") == "area_purge").select(
        at=pl.coalesce("end_seq", "seq"),
        start=pl.lit(0, pl.UInt64),
        end=pl.lit(0, pl.UInt64),
        code=2,
    )
    steps = pl.concat([lent, freed, purged]).drop_nulls().sort("at", maintain_order=True)
    pages = (layout.vmalloc_end - layout.vmalloc_start) // layout.page_size

    def page(addresses: pl.Series) -> Any:
        clipped = addresses.cast(pl.Int64).clip(layout.vmalloc_start, layout.vmalloc_end)
        return ((clipped - layout.vmalloc_start) // layout.page_size).to_numpy()

    table = np.array(sorted(areas), np.int64)
    peak, hole = run(
        pages,
        (table - layout.vmalloc_start) // layout.page_size,
        steps.get_column("code").to_numpy().astype(np.uint8),
        page(steps.get_column("start")),
        page(steps.get_column("end")),
    )
    return int(peak) * layout.page_size, int(hole) * layout.page_size
