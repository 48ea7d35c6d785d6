"""How long the calls of a trace took, by what they had to do: picked out window by window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from replay.cost.samples import Samples
from replay.local.stacks import reuses, takes_slot
from replay.pool.calls import is_window_flush
from replay.pool.replay import window_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.machine.layout import Layout
    from replay.pool.lock_order import Piece

NEAR: Final = 8
FAR: Final = 128
"""Slots visited by a search that costs next to nothing, and by one that shows the cost of each."""
_STAMPS: Final = 1 << 16
"""Time stamps that tell in which steps the clock goes."""
_FAR_OFF: Final = 1 << 63


class PoolTimes:
    """kmap() by what it had to do; calls that slept are none of these.

    Attributes
    ----------
    hits, near, far, quiet, wraps : Samples
        Calls that found a mapping; that visited up to :data:`NEAR` slots, or :data:`FAR` and more
        (the slots beside them), without a flush; that wrapped around the pool and freed nothing,
        or something.
    freed : Samples
        Slots that the latter freed, whether their returns were traced or not.
    """

    def __init__(self) -> None:
        self.hits, self.near, self.far, self.quiet, self.wraps, self.freed = (
            Samples() for _ in range(6)
        )

    def add(self, piece: Piece, scanned: NDArray[np.int32], freed: NDArray[np.int32]) -> None:
        """Add the calls that a piece served.

        Parameters
        ----------
        piece
            Replayed operations.
        scanned, freed
            Slots that each visited, and that it freed (-1: no flush).
        """
        from replay.pool.loops.sequence import MAP

        maps = np.flatnonzero((piece.operations[:, 0] == MAP) & (piece.call >= 0))
        calls = piece.calls
        maps = maps[calls["sleeps"][piece.call[maps]] == 0]
        call, scanned, freed = piece.call[maps], scanned[maps], freed[maps]
        ns = np.where(calls["returned"][call], calls["end_ts"][call] - calls["ts"][call], -1)
        visited = (scanned > 0) & (freed < 0)
        far = visited & (scanned >= FAR)
        self.hits.add(ns[scanned == 0])
        self.near.add(ns[visited & (scanned <= NEAR)])
        self.far.add(ns[far], scanned[far].astype(np.int64))
        self.quiet.add(ns[freed == 0])
        self.wraps.add(ns[freed > 0])
        self.freed.add(freed[freed > 0].astype(np.int64))


class EventTimes:
    """Everything that a row of the event table tells alone, or with the rows around it.

    Attributes
    ----------
    kunmap, passes, pool_flush, small, large, idle, local, area, purging, vmap, vm_map_ram,
    purge : Samples
        Calls of kunmap(), of flush_all_zero_pkmaps(); TLB flushes of the whole pool, and others up
        to the machine's ceiling and above it (pages beside them); kmap_local of lowmem, which does
        nothing, and of highmem; alloc_vmap_area() without and with a purge; vmap(), vm_map_ram(),
        and purges.
    """

    def __init__(self, layout: Layout) -> None:
        self.kunmap, self.passes, self.pool_flush, self.small, self.large = (
            Samples() for _ in range(5)
        )
        self.idle, self.local, self.area, self.purging = (Samples() for _ in range(4))
        self.vmap, self.vm_map_ram, self.purge = (Samples() for _ in range(3))
        self._layout = layout
        self._of_pool = is_window_flush(window_of(layout))
        self._allocs = pl.DataFrame(schema={"seq": pl.UInt64, "end_seq": pl.UInt64, "ns": pl.Int64})
        self._parents = pl.Series("parent", [], pl.UInt64)
        self._stamps = self._step = 0

    @property
    def resolution(self) -> int:
        """Steps of the clock in ns."""
        return max(1, self._step)

    def add(self, events: pl.DataFrame, *, last: bool) -> None:
        """Add the rows of a window."""
        stamps = events.get_column("ts")[: _STAMPS - self._stamps].to_numpy()
        self._stamps += stamps.size
        self._step = int(np.gcd.reduce(np.abs(stamps), initial=self._step))
        table = events.with_columns(ns=(pl.col("end_ts") - pl.col("ts")).fill_null(-1))
        self._add_flushes(table)
        maps = table.filter(pl.col("op") == "kmap_local")
        high = takes_slot(maps, self._layout)
        self.local.add(_ns(maps.filter(high)))
        self.idle.add(_ns(maps.filter(~high & ~maps.select(reuses(self._layout)).to_series())))
        for op, samples in (
            ("kunmap", self.kunmap),
            ("pool_flush", self.passes),
            ("vmap", self.vmap),
            ("vm_map_ram", self.vm_map_ram),
            ("area_purge", self.purge),
        ):
            samples.add(_ns(table.filter(pl.col("op") == op)))
        self._add_areas(table, last=last)

    def _add_flushes(self, table: pl.DataFrame) -> None:
        page, ceiling = self._layout.page_size, self._layout.flush_ceiling_pages or NEAR
        flushes = table.filter((pl.col("op") == "flush_range") & (pl.col("end") > pl.col("start")))
        flushes = flushes.with_columns(
            pages=((pl.col("end") - pl.col("start") + page - 1) // page).cast(pl.Int64)
        )
        self.pool_flush.add(_ns(flushes.filter(self._of_pool)))
        others = flushes.filter(~self._of_pool)
        for samples, some in (
            (self.small, others.filter(pl.col("pages") <= ceiling)),
            (self.large, others.filter(pl.col("pages") > ceiling)),
        ):
            samples.add(_ns(some), some.get_column("pages").to_numpy())

    def _add_areas(self, table: pl.DataFrame, *, last: bool) -> None:
        """Allocations of areas: one may purge until it returns, maybe in a later window."""
        taken = (pl.col("op") == "area_alloc") & (pl.col("vaddr") > 0) & (pl.col("ns") >= 0)
        new = table.filter(taken).select("seq", "end_seq", "ns")
        parents = table.filter(pl.col("op") == "area_purge").get_column("parent").drop_nulls()
        allocs = pl.concat([self._allocs, new.cast(self._allocs.schema)])
        parents = pl.concat([self._parents, parents.cast(pl.UInt64)])
        reached = table.get_column("seq").max() if table.height else 0
        is_over = pl.lit(last) | (pl.col("end_seq") <= reached).fill_null(value=False)
        over, self._allocs = allocs.filter(is_over), allocs.filter(~is_over)
        purges = over.get_column("seq").is_in(parents.implode())
        self.area.add(_ns(over.filter(~purges)))
        self.purging.add(_ns(over.filter(purges)))
        oldest = self._allocs.get_column("seq").min()
        self._parents = parents.filter(parents >= (_FAR_OFF if oldest is None else oldest))


def _ns(rows: pl.DataFrame) -> NDArray[np.int64]:
    return rows.get_column("ns").to_numpy()
