"""kmap_local and kmap_atomic: from the event table to predicted addresses and depths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from collectors.events import IN_INTERRUPT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from replay.arches.base import Layout

_PAGE_SHIFT = 12


@dataclass(frozen=True)
class LocalReplay:
    """What the model says of every local mapping.

    Attributes
    ----------
    row : ndarray of int64, shape (m,)
        Rows of the event table that are mappings (``kmap_local``).
    vaddr : ndarray of int64, shape (m,)
        Predicted address; -1 where nothing can be said (lowmem page of unknown frame).
    takes_slot : ndarray of bool, shape (m,)
        Whether the mapping took a slot; else it is the direct mapping of a lowmem page.
    status : ndarray of uint8, shape (m,)
        :mod:`replay.kernels.local`: DEFAULT, ORDERED, INITIAL or DIVERGED.
    depth, cpu : ndarray of int32, shape (m,)
        Depth (0: first) and CPU of the mappings that took a slot; -1 else.
    hold_ns : ndarray of int64, shape (m,)
        From the mapping's return to its unmap's entry; -1 unknown.
    partner : ndarray of int64, shape (m,)
        Row of the unmap that ends each mapping; -1 unknown.
    unmaps : int
        Unmaps that gave a slot back.
    switches : ndarray of int32
        Mappings held at each context switch that held any.
    strays, misfits : int
        Unmaps on an empty stack; unmaps that were not of the newest mapping.
    """

    row: NDArray[np.int64]
    vaddr: NDArray[np.int64]
    takes_slot: NDArray[np.bool_]
    status: NDArray[np.uint8]
    depth: NDArray[np.int32]
    cpu: NDArray[np.int32]
    hold_ns: NDArray[np.int64]
    partner: NDArray[np.int64]
    unmaps: int
    switches: NDArray[np.int32]
    strays: int
    misfits: int


def replay_locals(
    events: pl.DataFrame, layout: Layout, *, losses: Sequence[int] = ()
) -> LocalReplay:
    """Replay all local mappings of a trace.

    Parameters
    ----------
    events
        Event table, sorted by `seq`.
    layout
        Of the machine that the trace is from.
    losses
        `seq` of the first event after each loss of events.

    Returns
    -------
    LocalReplay
    """
    from replay.kernels import local as kernel

    maps = events.with_row_index("row").filter(pl.col("op") == "kmap_local")
    takes_slot = _takes_slot(maps, layout)
    stream = _stream(events, maps.filter(pl.Series(takes_slot)), layout, losses)
    n = stream.height
    replayed = kernel.Locals(
        kind=stream.get_column("kind").to_numpy(),
        stack=_stacks(stream, layout),
        cpu=stream.get_column("cpu").to_numpy(),
        seen=stream.get_column("slot").to_numpy(),
        outer=_outer(stream),
        slot=np.full(n, -1, np.int32),
        depth=np.full(n, -1, np.int32),
        status=np.zeros(n, np.uint8),
        partner=np.full(n, -1, np.int32),
    )
    stacks = int(replayed.stack.max(initial=0)) + 1
    strays, misfits = kernel.run(replayed, stacks, layout.km_max_idx, layout.km_step)
    vaddr = _direct(maps, layout)
    status = np.zeros(maps.height, np.uint8)
    depth = np.full(maps.height, -1, np.int32)
    cpu = np.full(maps.height, -1, np.int32)
    is_map = replayed.kind == kernel.MAP
    # The stream is in the order of returns, the table in the order of entries.
    where = np.searchsorted(
        maps.get_column("row").to_numpy(), stream.get_column("row").to_numpy()[is_map]
    )
    vaddr[where] = layout.kmap_fix_top - replayed.slot[is_map].astype(np.int64) * layout.page_size
    status[where] = replayed.status[is_map]
    depth[where] = replayed.depth[is_map]
    cpu[where] = replayed.cpu[is_map]
    hold = np.full(n, -1, np.int64)
    ended = np.flatnonzero(replayed.partner >= 0)
    ts = stream.get_column("ts").to_numpy()
    hold[replayed.partner[ended]] = ts[ended] - ts[replayed.partner[ended]]
    row = stream.get_column("row").to_numpy().astype(np.int64)
    end_row = np.full(n, -1, np.int64)
    end_row[replayed.partner[ended]] = row[ended]
    partner = np.full(maps.height, -1, np.int64)
    hold_ns = np.full(maps.height, -1, np.int64)
    hold_ns[where] = hold[is_map]
    partner[where] = end_row[is_map]
    held = replayed.depth[replayed.kind == kernel.SWITCH_OUT]
    return LocalReplay(
        row=maps.get_column("row").to_numpy().astype(np.int64),
        vaddr=vaddr,
        takes_slot=takes_slot,
        status=status,
        depth=depth,
        cpu=cpu,
        hold_ns=hold_ns,
        partner=partner,
        unmaps=int(((replayed.kind == kernel.UNMAP) & (replayed.slot >= 0)).sum()),
        switches=held[held > 0],
        strays=int(strays),
        misfits=int(misfits),
    )


def _takes_slot(maps: pl.DataFrame, layout: Layout) -> NDArray[np.bool_]:
    """Which mappings need a slot: highmem pages, and whatever is mapped by frame number.

    mm/highmem.c: __kmap_local_page_prot returns the direct address of a lowmem page, unless
    lowmem is forced through slots; __kmap_local_pfn_prot and kmap_atomic_high_prot always take
    one. A page whose frame is not known is judged by the address that came back.
    """
    by_page = pl.col("page").is_not_null()
    high = pl.col("pfn") >= layout.lowmem_end_pfn
    in_window = _slot_of(layout) >= 0
    return (
        maps.select(
            pl.when(~by_page | pl.lit(layout.kmap_per_cpu or layout.kmap_force_map))
            .then(pl.lit(value=True))
            .otherwise(pl.coalesce(high, in_window, pl.lit(value=True)))
        )
        .to_series()
        .to_numpy()
    )


def _slot_of(layout: Layout) -> pl.Expr:
    """Slot number of `vaddr`, counted down from slot 0 of CPU 0; -1 outside, null unknown."""
    vaddr = pl.col("vaddr").cast(pl.Int64)
    page = vaddr - vaddr % layout.page_size
    slot = (layout.kmap_fix_top - page) // layout.page_size
    inside = (slot >= 0) & (slot < layout.km_max_idx * layout.nr_cpus)
    return pl.when(inside).then(slot).when(vaddr.is_not_null()).then(-1)


def _direct(maps: pl.DataFrame, layout: Layout) -> NDArray[np.int64]:
    """Direct address of each page; -1 where its frame is not known."""
    address = layout.page_offset + pl.col("pfn").cast(pl.Int64) * layout.page_size
    return maps.select((address - layout.phys_offset).fill_null(-1)).to_series().to_numpy().copy()


def _stream(
    events: pl.DataFrame, maps: pl.DataFrame, layout: Layout, losses: Sequence[int]
) -> pl.DataFrame:
    """Mappings at their return, unmaps and switches at their entry, in trace order."""
    from replay.kernels import local as kernel

    columns = ("row", "at", "ts", "seq", "pid", "cpu", "ctx", "slot", "parent", "kind")

    def part(frame: pl.LazyFrame, kind: int, at: pl.Expr, cpu: pl.Expr) -> pl.LazyFrame:
        ended = kind == kernel.MAP
        return frame.with_columns(
            at.alias("at"),
            (pl.coalesce("end_ts", "ts") if ended else pl.col("ts")).alias("ts"),
            cpu.cast(pl.Int32).alias("cpu"),
            _slot_of(layout).fill_null(-1).cast(pl.Int32).alias("slot"),
            pl.lit(kind, pl.UInt8).alias("kind"),
        ).select(columns)

    table = events.lazy().with_row_index("row")
    unmaps = table.filter(pl.col("op") == "kunmap_local").filter(_slot_of(layout).fill_null(0) >= 0)
    # Where the kernel's own hook was traced it counts, else every switch does.
    hook = "sched_out" if "sched_out" in events.get_column("op").unique() else "switch"
    switches = table.filter(pl.col("op") == hook)
    seq, own_cpu = pl.col("seq"), pl.col("cpu")
    parts = [
        part(maps.lazy(), kernel.MAP, pl.coalesce("end_seq", seq), pl.coalesce("end_cpu", own_cpu)),
        part(unmaps, kernel.UNMAP, seq, own_cpu),
        part(switches, kernel.SWITCH_OUT, seq, own_cpu),
    ]
    stream = pl.concat(parts).collect()
    if losses:
        stream = pl.concat([stream, _losses(losses, stream.schema)])
    return stream.sort("at", "kind", descending=[False, True], maintain_order=True)


def _losses(losses: Sequence[int], schema: pl.Schema) -> pl.DataFrame:
    from replay.kernels import local as kernel

    n = len(losses)
    return pl.DataFrame(
        {
            "row": [0] * n, "at": list(losses), "ts": [0] * n, "seq": list(losses), "pid": [-1] * n,
            "cpu": [0] * n, "ctx": [0] * n, "slot": [-1] * n, "parent": [None] * n,
            "kind": [kernel.LOSS] * n,
        },
        schema=schema,
    )  # fmt: skip


def _stacks(stream: pl.DataFrame, layout: Layout) -> NDArray[np.int32]:
    """Stack of each event: the task's (an idle task's CPU), or the CPU's up to 5.10."""
    cpu = stream.get_column("cpu").to_numpy().astype(np.int64)
    if layout.kmap_per_cpu:
        return cpu.astype(np.int32)
    pid = stream.get_column("pid").to_numpy().astype(np.int64)
    key = np.where(pid == 0, -2 - cpu, pid)
    return np.unique(key, return_inverse=True)[1].astype(np.int32)


def _outer(stream: pl.DataFrame) -> NDArray[np.int32]:
    """For a mapping made by an interrupt: stream position of the mapping it interrupted."""
    outer = np.full(stream.height, -1, np.int32)
    nested = stream.with_row_index("i").filter(
        (pl.col("kind") == 0) & (pl.col("ctx") & IN_INTERRUPT != 0) & pl.col("parent").is_not_null()
    )
    if nested.height:
        seq = stream.with_row_index("o").filter(pl.col("kind") == 0).select("o", parent="seq")
        found = nested.join(seq, on="parent", how="inner")
        outer[found.get_column("i").to_numpy()] = found.get_column("o").to_numpy()
    return outer


__all__ = ["LocalReplay", "replay_locals"]
