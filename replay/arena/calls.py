"""From the event table to the calls on the vmap arena.

The compiled loops of :mod:`replay.arena.loops.lazy` and :mod:`replay.arena.loops.order` need
numbers only: allocations, frees and purges with their intervals, in positions of the trace
(twice `seq`, so that a moment just before an event has a number too).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

from replay.trace.tasks import own_events

if TYPE_CHECKING:
    from collectors.snapshot import Snapshot
    from replay.machine.layout import Layout

_TOP = 1 << 32
NEVER = 1 << 61
"""Position behind every event."""
FAILED = -2
UNSEEN = -1
_PURGE_FUNCTION = "__purge_vmap_area_lazy"
_FLUSH_FUNCTION = "flush_tlb_kernel_range"


@dataclass(frozen=True)
class ArenaCalls:
    """Calls on the arena, one frame each; positions are Int64, addresses too.

    Attributes
    ----------
    allocs
        `row`, `seq`, `lo`, `hi`, `at` (default place), `size`, `align` (negative: from the top
        down, a percpu chunk; mm/vmalloc.c: pcpu_get_vm_areas), `vstart`, `vend`,
        `seen` (address, FAILED, or UNSEEN where no return was traced), `cpu`, `end_cpu`,
        `parent` (seq), `order` (position of the return).
    frees
        `row`, `lo`, `hi`, `start`, `end`, `nr_lazy` (pages on the list after it, as the
        tracepoint tells; -1 unknown).
    purges
        `row`, `seq`, `lo`, `hi`, `at`, `detach`, `start`, `end`, `seen_start`, `seen_end`
        (0: no flush; -1: not traced), `parent`, `purged` (areas given back, as the tracepoint
        tells; -1 unknown), `gave` (it returned that it gave some back).
    flushes
        `row`, `at`, `start`, `end`: ranged flushes, where purges themselves are not traced.
    unusable
        Allocations and frees of which the trace does not tell size or address.
    derived
        True where alloc_vmap_area() was not probed and the calls are those of vmap() and the
        vmalloc family: ioremap, percpu and others are not seen then.
    purges_traced
        Whether __purge_vmap_area_lazy() was probed, as far as the trace shows.
    """

    allocs: pl.DataFrame
    frees: pl.DataFrame
    purges: pl.DataFrame
    flushes: pl.DataFrame
    unusable: int
    derived: bool
    purges_traced: bool


def arena_calls(
    events: pl.DataFrame,
    layout: Layout,
    values: Snapshot,
    *,
    by_pointer: bool = False,
) -> ArenaCalls:
    """Pick the calls on the arena out of a trace.

    Parameters
    ----------
    events
        Event table, sorted by `seq`.
    layout
        For the arena's bounds and the pool's window, whose flushes are not the arena's.
    values
        Facts; ``areas`` tell the ends of areas where the trace does not, ``probes`` what was
        probed.
    by_pointer
        ``Generation.purge_by_pointer``: what purges were given and returned is not the range.

    Returns
    -------
    ArenaCalls
    """
    probed = {probe.symbol.partition(".")[0] for probe in values.probes}
    table = _with_counters(events).with_row_index("row")
    ops = set(table.get_column("op").unique().cast(pl.String))
    derived = "area_alloc" not in ops and bool(ops & {"vmap", "vmalloc"})
    arena = _rows_of_the_arena(table, ops, derived=derived)
    all_allocs = _allocs(arena, layout, derived=derived)
    allocs = all_allocs.filter(_SANE_ALLOC)
    all_frees = _frees(arena, allocs, values)
    frees = all_frees.filter(_SANE_FREE)
    purges_traced = "area_purge" in ops or _PURGE_FUNCTION in probed
    flushes_traced = "flush_range" in ops or _FLUSH_FUNCTION in probed
    flushes = _kernel_flushes(arena, layout)
    if by_pointer:
        told = pl.when(pl.col("op") != "area_purge")
        arena = arena.with_columns(told.then(n).alias(n) for n in ("start", "end", "pages"))
    return ArenaCalls(
        allocs=allocs,
        frees=frees,
        purges=_purges(arena, layout, flushes_traced=flushes_traced),
        flushes=flushes[:0] if purges_traced else flushes,
        unusable=all_allocs.height - allocs.height + all_frees.height - frees.height,
        derived=derived,
        purges_traced=purges_traced,
    )


_SANE_ALLOC: Final = (
    pl.col("size").is_between(1, _TOP - 1)
    & pl.col("align").abs().is_between(1, _TOP >> 1)
    & ((pl.col("align").abs() & (pl.col("align").abs() - 1)) == 0)
    & pl.col("vstart").is_between(0, _TOP)
    & pl.col("vend").is_between(0, _TOP)
).fill_null(value=False)
_SANE_FREE: Final = (
    pl.col("start").is_between(0, _TOP)
    & (pl.col("end") > pl.col("start"))
    & (pl.col("end") <= _TOP)
).fill_null(value=False)


def _rows_of_the_arena(table: pl.DataFrame, ops: set[str], *, derived: bool) -> pl.DataFrame:
    """Rows that take, give back, purge or flush, each with what its task does next."""
    tasks = own_events(table.lazy()).select(
        "row",
        bound=pl.col("seq").shift(-1).over("pid"),
        next_op=pl.col("op").cast(pl.String).shift(-1).over("pid"),
        next_seq=pl.col("seq").shift(-1).over("pid"),
        next_start=pl.col("start").shift(-1).over("pid"),
        next_end=pl.col("end").shift(-1).over("pid"),
    )
    wanted = ["area_alloc", "percpu_alloc", "area_free", "area_purge", "flush_range"]
    if derived:
        wanted += ["vmap", "vmalloc"]
    if "area_free" not in ops:
        wanted += ["vfree", "vunmap"]
    return (
        table.lazy()
        .filter(pl.col("op").is_in(wanted))
        .join(tasks, on="row", how="left", maintain_order="left")
        .with_columns(
            (pl.col("seq").cast(pl.Int64) * 2).alias("position"),
            (pl.col("end_seq").cast(pl.Int64) * 2).alias("end_position"),
            (pl.col("bound").cast(pl.Int64) * 2 - 1).alias("bound"),
            (pl.col("next_seq").cast(pl.Int64) * 2).alias("next_seq"),
            *(
                pl.col(name).cast(pl.Int64, strict=False)  # beyond it: no address, no count
                for name in ("vaddr", "size", "align", "start", "end", "pages", "seq",
                             "next_start", "next_end", "parent", "nr_lazy", "purged")
            ),
        )
        .collect()
    )  # fmt: skip


def _with_counters(events: pl.DataFrame) -> pl.DataFrame:
    """The table with the columns that only tracepoints fill, which not every reader gives."""
    names = ("nr_lazy", "purged")
    missing = [name for name in names if name not in events.columns]
    return events.with_columns(pl.lit(None, pl.UInt64).alias(name) for name in missing)


def _allocs(arena: pl.DataFrame, layout: Layout, *, derived: bool) -> pl.DataFrame:
    ops = ("vmap", "vmalloc") if derived else ("area_alloc",)
    rows = arena.filter(pl.col("op").is_in((*ops, "percpu_alloc")))
    guard = layout.page_size
    is_chunk = pl.col("op") == "percpu_alloc"
    groups = pl.when(is_chunk).then(pl.col("pages")).otherwise(1).fill_null(1)
    if derived:
        # mm/vmalloc.c: __get_vm_area_node adds a guard page to what is asked for
        is_vmap = pl.col("op") == "vmap"
        rounded = (pl.col("size") + guard - 1) // guard * guard
        asked = pl.when(is_vmap).then(pl.col("pages") * guard).otherwise(rounded) + guard
        rows = rows.with_columns(
            size=pl.when(is_chunk).then("size").otherwise(asked),
            align=pl.when(is_vmap).then(1).otherwise(pl.col("align")),
            start=pl.when(is_vmap).then(layout.vmalloc_start).otherwise(pl.col("start")),
            end=pl.when(is_vmap).then(layout.vmalloc_end).otherwise(pl.col("end")),
        )
    end = pl.coalesce("end_position", "bound", pl.lit(NEVER))
    returned = pl.col("end_position").is_not_null() & pl.col("vaddr").is_not_null()
    return rows.select(
        "row",
        "seq",
        lo="position",
        hi=end,
        at=pl.coalesce("end_position", "position"),
        size=pl.when(groups == 1).then("size"),  # of more than one only the first is told
        align=pl.col("align").fill_null(pl.when(is_chunk).then(guard).otherwise(1))
        * pl.when(is_chunk).then(-1).otherwise(1),
        vstart=pl.col("start").fill_null(layout.vmalloc_start),
        vend=pl.col("end").fill_null(layout.vmalloc_end),
        seen=pl.when(~returned)
        .then(UNSEEN)
        .when(pl.col("vaddr") == 0)
        .then(FAILED)
        .otherwise(pl.col("vaddr")),
        cpu="cpu",
        end_cpu=pl.coalesce("end_cpu", "cpu"),
        parent="parent",
    )


def _frees(arena: pl.DataFrame, allocs: pl.DataFrame, values: Snapshot) -> pl.DataFrame:
    """Lazily freed areas; the end of one that the trace does not tell is that of its allocation.

    Without area_free rows, vunmap() and vfree() tell the addresses.
    """
    has_frees = bool(arena.filter(pl.col("op") == "area_free").height)
    rows = (
        arena.filter(pl.col("op").is_in(("area_free",) if has_frees else ("vunmap", "vfree")))
        .filter(pl.col("vaddr").fill_null(1) != 0)  # vfree(NULL) does nothing
        .select(
            "row",
            lo="position",
            hi=pl.coalesce("bound", pl.lit(NEVER)),
            start="vaddr",
            end=pl.col("end") if has_frees else pl.lit(None, pl.Int64),
            nr_lazy=pl.col("nr_lazy").fill_null(-1),
        )
    )
    if not rows.get_column("end").null_count():
        return rows
    known = pl.concat([
        pl.DataFrame(
            [(a.start, -1, a.end) for a in values.areas],
            schema={"start": pl.Int64, "lo": pl.Int64, "known_end": pl.Int64}, orient="row",
        ),
        allocs.filter(pl.col("seen") > 0).select(
            start="seen", lo="lo", known_end=pl.col("seen") + pl.col("size")
        ),
    ]).sort("lo")  # fmt: skip
    return (
        rows.sort("lo")
        .join_asof(known, on="lo", by="start", strategy="backward", check_sortedness=False)
        .with_columns(pl.coalesce("end", "known_end").alias("end"))
        .drop("known_end")
    )


def _kernel_flushes(arena: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Ranged flushes of other addresses than the kmap() pool's."""
    return arena.filter((pl.col("op") == "flush_range") & ~_is_pool("start", "end", layout)).select(
        "row", at="position", start="start", end="end"
    )


def _is_pool(start: str, end: str, layout: Layout) -> pl.Expr:
    """Whether a range is that of the kmap() pool."""
    whole = (pl.col(start) == layout.pkmap_base) & (pl.col(end) == layout.pkmap_end)
    return whole.fill_null(value=False)


def _purges(arena: pl.DataFrame, layout: Layout, *, flushes_traced: bool) -> pl.DataFrame:
    """Purges with what they flushed.

    The flush belongs to the purge that it was called from; where purges have no return probe, a
    flush that is the task's next event does.
    """
    rows = arena.filter(pl.col("op") == "area_purge")
    inner = (
        arena.filter((pl.col("op") == "flush_range") & pl.col("parent").is_not_null())
        .filter(~_is_pool("start", "end", layout))
        .group_by("parent", maintain_order=True)
        .agg(
            pl.col("position").first().alias("flush"),
            pl.col("start").first().alias("flush_start"),
            pl.col("end").first().alias("flush_end"),
        )
        .rename({"parent": "seq"})
    )
    rows = rows.join(inner, on="seq", how="left", maintain_order="left")
    is_next = (pl.col("next_op") == "flush_range") & ~_is_pool("next_start", "next_end", layout)
    follows = pl.col("end_position").is_null() & is_next
    rows = rows.with_columns(
        flush=pl.when(follows).then("next_seq").otherwise("flush"),
        flush_start=pl.when(follows).then("next_start").otherwise("flush_start"),
        flush_end=pl.when(follows).then("next_end").otherwise("flush_end"),
    )
    # The tracepoint alone (include/trace/events/vmalloc.h): its range is the one flushed, and it
    # stands at the end, so the list may have been taken at any time since the purge before.
    told = pl.col("purged").is_not_null() & ~pl.col("entry_traced")
    some = pl.col("purged") > 0
    rows = rows.with_columns(
        entry=pl.when(told).then(pl.col("position").shift(1, fill_value=0)).otherwise("position"),
        flush=pl.when(told & some).then("position").otherwise("flush"),
        flush_start=pl.when(told).then("start").otherwise("flush_start"),
        flush_end=pl.when(told).then("end").otherwise("flush_end"),
        start=pl.when(told).then(_TOP - 1).otherwise("start"),
        end=pl.when(told).then(0).otherwise("end"),
    )
    # Returned false: the list was empty; the only answer where flushes are not traced.
    none = (pl.lit(flushes_traced) | (pl.col("pages") == 0) | told).fill_null(value=False)
    silent = pl.when(none).then(0).otherwise(-1)
    detach = pl.coalesce("flush", "position")
    return rows.select(
        "row",
        "seq",
        lo=detach,
        hi=pl.coalesce(pl.col("end_position") - 1, "bound", pl.lit(NEVER)),
        at=pl.coalesce(pl.col("end_position") - 1, detach),
        entry="entry",
        detach=detach,
        start=pl.col("start").fill_null(_TOP - 1),
        end=pl.col("end").fill_null(0),
        seen_start=pl.when(pl.col("flush").is_not_null()).then("flush_start").otherwise(silent),
        seen_end=pl.when(pl.col("flush").is_not_null()).then("flush_end").otherwise(silent),
        parent="parent",
        purged=pl.col("purged").fill_null(-1),
        gave=(pl.col("pages") > 0).fill_null(value=False),
    ).with_columns(
        pl.col("start").clip(0, _TOP), pl.col("end").clip(0, _TOP),
        pl.col("seen_start").fill_null(-1), pl.col("seen_end").fill_null(-1),
    )  # fmt: skip
