"""From the event table to the calls on the vmap arena.

The compiled loops of :mod:`replay.arena.loops.lazy` and :mod:`replay.arena.loops.order` need
numbers only: allocations, frees and purges with their intervals, in positions of the trace
(twice `seq`, so that a moment just before an event has a number too). A part of a trace is
enough where what came before it is told (:class:`Before`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from collectors.records import dataclass, field
from replay.arena.tally import FLUSH_FUNCTIONS
from replay.pool.calls import is_window_flush
from replay.pool.replay import window_of
from replay.trace.tasks import own_events

if TYPE_CHECKING:
    from collections.abc import Collection

    from collectors.snapshot import Snapshot
    from replay.machine.layout import Layout

_TOP = 1 << 32
NEVER = 1 << 61
"""Position behind every event."""
FAILED = -2
UNSEEN = -1
POINTS: Final = pl.Schema({"pid": pl.Int32, "at": pl.Int64})
_ENDS: Final = pl.Schema({"start": pl.Int64, "lo": pl.Int64, "known_end": pl.Int64})
_PURGE_FUNCTION = "__purge_vmap_area_lazy"


@dataclass(frozen=True)
class ArenaCalls:
    """Calls on the arena, one frame each; positions are Int64, addresses and times too.

    Attributes
    ----------
    allocs
        `row`, `seq`, `lo`, `hi`, `at` (default place), `size`, `align` (negative: from the top
        down, a percpu chunk; mm/vmalloc.c: pcpu_get_vm_areas), `vstart`, `vend`,
        `seen` (address, FAILED, or UNSEEN where no return was traced), `end_cpu`, `parent` (seq),
        `end_ts` (time of its return).
    frees
        `row`, `pid`, `lo`, `hi`, `start`, `end`, `nr_lazy` (pages on the list after it, as the
        tracepoint tells; -1 unknown), `ts`.
    purges
        `seq`, `since` (nothing of it comes before), `lo`, `hi`, `at`, `entry`, `detach`,
        `start`, `end`, `seen_start`, `seen_end` (0: no flush; -1: not traced), `parent`, `purged`
        (areas given back, as the tracepoint tells; -1 unknown), `gave` (it returned that it gave
        some back), `ts`, `detach_ts`, `end_ts`.
    away
        `purge` (row of `purges`), `lo`, `hi`: the task of a purge is on no CPU, and gives nothing
        back. Empty where switches are not traced.
    flushes
        `at`, `start`, `end`: ranged flushes, where purges themselves are not traced.
    unusable
        `at`: allocations and frees of which the trace does not tell size or address.
    derived
        True where alloc_vmap_area() was not probed and the calls are those of vmap() and the
        vmalloc family: ioremap, percpu and others are not seen then.
    purges_traced
        Whether __purge_vmap_area_lazy() was probed, as far as the trace shows.
    """

    allocs: pl.DataFrame
    frees: pl.DataFrame
    purges: pl.DataFrame
    away: pl.DataFrame
    flushes: pl.DataFrame
    unusable: pl.DataFrame
    derived: bool
    purges_traced: bool


@dataclass(frozen=True)
class Before:
    """What a part of a trace has to know of what came before it.

    Attributes
    ----------
    points
        Returns (`pid`, `at`) of tasks' own calls that began before.
    purge
        Position of the last purge.
    ends
        Areas by `start`: `lo` and `known_end` of the last allocation of each.
    """

    points: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=POINTS))
    purge: int = 0
    ends: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_ENDS))


def arena_calls(
    events: pl.DataFrame,
    layout: Layout,
    values: Snapshot,
    *,
    by_pointer: bool = False,
    ops: Collection[str] | None = None,
    before: Before | None = None,
) -> ArenaCalls:
    """Pick the calls on the arena out of a trace.

    Parameters
    ----------
    events
        Event table, sorted by `seq`; with a column `row` where its rows have other numbers.
    layout
        For the arena's bounds and the pool's window, whose flushes are not the arena's.
    values
        Facts; ``areas`` tell the ends of areas where the trace does not, ``probes`` what was
        probed.
    by_pointer
        ``Generation.purge_by_pointer``: what purges were given and returned is not the range.
    ops
        Operations of the whole trace; None: `events` is the whole.
    before
        Of a part that is not the first.

    Returns
    -------
    ArenaCalls
    """
    probed = {probe.symbol.partition(".")[0] for probe in values.probes}
    before = before or Before()
    table = _with_counters(events)
    if "row" not in table.columns:
        table = table.with_row_index("row")
    if ops is None:
        ops = set(table.get_column("op").unique().cast(pl.String))
    derived = "area_alloc" not in ops and not {"vmap", "vmalloc"}.isdisjoint(ops)
    own = own_points(table, before.points)
    arena = _rows_of_the_arena(table, own, ops, layout, derived=derived)
    all_allocs = _allocs(arena, layout, derived=derived)
    allocs = all_allocs.filter(_SANE_ALLOC)
    all_frees = _frees(arena, allocs, values, before.ends, has_frees="area_free" in ops)
    frees = all_frees.filter(_SANE_FREE)
    purges_traced = "area_purge" in ops or _PURGE_FUNCTION in probed
    flushes_traced = "flush_range" in ops or bool(FLUSH_FUNCTIONS & probed)
    flushes = arena.filter(pl.col("op") == "flush_range").select(
        at="position", start="start", end="end"
    )
    if by_pointer:
        told = pl.when(pl.col("op") != "area_purge")
        arena = arena.with_columns(told.then(n).alias(n) for n in ("start", "end", "pages"))
    switches = _switches(table)
    purges = _purges(arena, own, switches, flushes_traced=flushes_traced, last=before.purge)
    return ArenaCalls(
        allocs=allocs,
        frees=frees,
        purges=purges.drop("pid"),
        away=_away(purges, switches),
        flushes=flushes[:0] if purges_traced else flushes,
        unusable=pl.concat(
            [
                all_allocs.join(allocs, on="row", how="anti").select(at="lo"),
                all_frees.join(frees, on="row", how="anti").select(at="lo"),
            ]
        ),
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


def _rows_of_the_arena(
    table: pl.DataFrame,
    own: pl.DataFrame,
    ops: Collection[str],
    layout: Layout,
    *,
    derived: bool,
) -> pl.DataFrame:
    """Rows that take, give back, purge or flush, each with what its task does next.

    Flushes of the kmap() pool are none of them.
    """
    of_pool = is_window_flush(window_of(layout))
    flushes = (pl.col("op") == "flush_range") & ~of_pool
    tasks = own_events(table.lazy()).select(
        "row",
        flush_next=flushes.shift(-1).over("pid"),
        next_seq=pl.col("seq").shift(-1).over("pid"),
        next_start=pl.col("start").shift(-1).over("pid"),
        next_end=pl.col("end").shift(-1).over("pid"),
        next_ts=pl.col("ts").shift(-1).over("pid"),
    )
    wanted = ["area_alloc", "percpu_alloc", "area_free", "area_purge", "flush_range"]
    if derived:
        wanted += ["vmap", "vmalloc"]
    if "area_free" not in ops:
        wanted += ["vfree", "vunmap"]
    rows = (
        table.lazy()
        .filter(pl.col("op").is_in(wanted) & ~of_pool)
        .join(tasks, on="row", how="left", maintain_order="left")
        .with_columns(
            (pl.col("seq").cast(pl.Int64) * 2).alias("position"),
            (pl.col("end_seq").cast(pl.Int64) * 2).alias("end_position"),
            (pl.col("next_seq").cast(pl.Int64) * 2).alias("next_seq"),
            *(
                pl.col(name).cast(pl.Int64, strict=False)  # beyond it: no address, no count
                for name in ("vaddr", "size", "align", "start", "end", "pages", "seq",
                             "next_start", "next_end", "parent", "nr_lazy", "purged")
            ),
        )
        .collect()
    )  # fmt: skip
    return rows.with_columns(bound=first_after(rows, "position", own) - 1)


def own_points(table: pl.DataFrame, more: pl.DataFrame) -> pl.DataFrame:
    """Positions (`at`) at which each task (`pid`) was traced to enter or to leave a call.

    `more` are those of calls that are not in the table.
    """
    own = own_events(table.lazy())
    points = [own.select("pid", at=pl.col(name).cast(pl.Int64) * 2) for name in ("seq", "end_seq")]
    return pl.concat([more.lazy(), *points]).drop_nulls().sort("at").collect()


def first_after(rows: pl.DataFrame, after: str, points: pl.DataFrame) -> pl.Series:
    """The first of `points` of each row's task behind one of its positions; null: there is none."""
    keys = rows.select(pl.col("pid").cast(pl.Int32), at=pl.col(after)).with_row_index("number")
    return (
        keys.sort("at", maintain_order=True)
        .join_asof(
            points.select("pid", "at", found="at"),
            on="at", by="pid", strategy="forward", allow_exact_matches=False,
            check_sortedness=False,
        )
        .sort("number")
        .get_column("found")
    )  # fmt: skip


def _switches(table: pl.DataFrame) -> pl.DataFrame:
    """Positions (`at`) at which tasks (`pid`) left a CPU, for what sleep, or came to one."""
    if not {"next_pid", "blocked"} <= set(table.columns):
        table = table[:0].with_columns(
            next_pid=pl.lit(None, pl.Int32), blocked=pl.lit(None, pl.Boolean)
        )
    rows = table.filter(pl.col("op") == "switch").with_columns(at=pl.col("seq").cast(pl.Int64) * 2)
    out = rows.select("pid", "at", leaves=pl.lit(value=True), sleeps=pl.col("blocked"))
    to = rows.select(
        pid="next_pid", at="at", leaves=pl.lit(value=False), sleeps=pl.lit(value=False)
    )
    return pl.concat([out, to]).drop_nulls("pid").sort("at", maintain_order=True)


def _away(purges: pl.DataFrame, switches: pl.DataFrame) -> pl.DataFrame:
    """When the tasks of purges were on no CPU while the purges lasted.

    A task was on a CPU when it took the list: what began before is of no matter, and its end may
    not be among the switches. When one that only the tracepoint shows took it is not known.
    """
    back = pl.col("at").shift(-1).over("pid")
    spans = switches.with_columns(back=back).filter("leaves").sort("pid", "at").with_row_index("n")
    long = purges.with_row_index("purge").filter(
        (pl.col("hi") > pl.col("lo")) & (pl.col("lo") == pl.col("detach"))
    )
    # The first and the last of each, not all of the task's: those would be purges times switches.
    rows = long.select(pl.col("pid").cast(pl.Int32), "purge", "lo", "hi")
    for name, end, strategy in (("first", "lo", "forward"), ("last", "hi", "backward")):
        rows = rows.sort(end).join_asof(
            spans.select("pid", "at", pl.col("n").cast(pl.Int64).alias(name)),
            left_on=end, right_on="at", by="pid", strategy=strategy,  # type: ignore[arg-type]
            check_sortedness=False, coalesce=True,
        )  # fmt: skip
    inside = rows.filter(pl.col("first") <= pl.col("last")).select(
        pl.col("purge").cast(pl.Int64), n=pl.int_ranges("first", pl.col("last") + 1)
    )
    found = inside.explode("n")
    of_each = spans.select(lo="at", hi=pl.col("back").fill_null(NEVER))[found["n"]]
    return found.select("purge").hstack(of_each).sort("purge", "lo")


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
        end_cpu=pl.coalesce("end_cpu", "cpu"),
        parent="parent",
        end_ts=pl.coalesce("end_ts", "ts"),
    )


def _frees(
    arena: pl.DataFrame,
    allocs: pl.DataFrame,
    values: Snapshot,
    ends: pl.DataFrame,
    *,
    has_frees: bool,
) -> pl.DataFrame:
    """Lazily freed areas; the end of one that the trace does not tell is that of its allocation.

    Without area_free rows, vunmap() and vfree() tell the addresses. `ends` are those of the
    allocations of earlier parts of the trace.
    """
    rows = (
        arena.filter(pl.col("op").is_in(("area_free",) if has_frees else ("vunmap", "vfree")))
        .filter(pl.col("vaddr").fill_null(1) != 0)  # vfree(NULL) does nothing
        .select(
            "row",
            pl.col("pid").cast(pl.Int32),
            lo="position",
            hi=pl.coalesce("bound", pl.lit(NEVER)),
            start="vaddr",
            end=pl.col("end") if has_frees else pl.lit(None, pl.Int64),
            nr_lazy=pl.col("nr_lazy").fill_null(-1),
            ts="ts",
        )
    )
    if not rows.get_column("end").null_count():
        return rows
    known = pl.concat([
        pl.DataFrame(
            [(a.start, -1, a.end) for a in values.areas], schema=_ENDS, orient="row",
        ),
        ends,
        known_ends(allocs),
    ]).sort("lo")  # fmt: skip
    return (
        rows.sort("lo")
        .join_asof(known, on="lo", by="start", strategy="backward", check_sortedness=False)
        .with_columns(pl.coalesce("end", "known_end").alias("end"))
        .drop("known_end")
    )


def known_ends(allocs: pl.DataFrame) -> pl.DataFrame:
    """Where allocated areas end, as :class:`Before` has it."""
    told = allocs.filter(pl.col("seen") > 0)
    return told.select(start="seen", lo="lo", known_end=pl.col("seen") + pl.col("size"))


def _purges(
    arena: pl.DataFrame,
    own: pl.DataFrame,
    switches: pl.DataFrame,
    *,
    flushes_traced: bool,
    last: int,
) -> pl.DataFrame:
    """Purges with what they flushed; `last` is the position of the one before the first.

    The flush belongs to the purge that it was called from; where purges have no return probe, a
    flush that is the task's next event does. Areas go back one after another from the flush on,
    until the return; without a return probe (mm/vmalloc.c: __purge_vmap_area_lazy takes
    vmap_purge_lock, and never sleeps behind its flush) until the task does something else, or goes
    to sleep, or another purge begins.
    """
    rows = arena.filter(pl.col("op") == "area_purge")
    inner = (
        arena.filter((pl.col("op") == "flush_range") & pl.col("parent").is_not_null())
        .group_by("parent", maintain_order=True)
        .agg(
            pl.col("position").first().alias("flush"),
            pl.col("start").first().alias("flush_start"),
            pl.col("end").first().alias("flush_end"),
            pl.col("ts").first().alias("flush_ts"),
        )
        .rename({"parent": "seq"})
    )
    rows = rows.join(inner, on="seq", how="left", maintain_order="left")
    follows = pl.col("end_position").is_null() & pl.col("flush_next")
    rows = rows.with_columns(
        flush=pl.when(follows).then("next_seq").otherwise("flush"),
        flush_ts=pl.when(follows).then("next_ts").otherwise("flush_ts"),
        flush_start=pl.when(follows).then("next_start").otherwise("flush_start"),
        flush_end=pl.when(follows).then("next_end").otherwise("flush_end"),
    )
    # The tracepoint alone (include/trace/events/vmalloc.h): its range is the one flushed, and it
    # stands at the end, so the list may have been taken at any time since the purge before.
    told = pl.col("purged").is_not_null() & ~pl.col("entry_traced")
    some = pl.col("purged") > 0
    rows = rows.with_columns(
        entry=pl.when(told)
        .then(pl.col("position").shift(1, fill_value=last))
        .otherwise("position"),
        flush=pl.when(told & some).then("position").otherwise("flush"),
        flush_start=pl.when(told).then("start").otherwise("flush_start"),
        flush_end=pl.when(told).then("end").otherwise("flush_end"),
        flush_ts=pl.when(told & some).then("ts").otherwise("flush_ts"),
        start=pl.when(told).then(_TOP - 1).otherwise("start"),
        end=pl.when(told).then(0).otherwise("end"),
    )
    # Returned false: the list was empty; the only answer where flushes are not traced.
    none = (pl.lit(flushes_traced) | (pl.col("pages") == 0) | told).fill_null(value=False)
    silent = pl.when(none).then(0).otherwise(-1)
    detach = pl.coalesce("flush", "position")
    rows = rows.with_columns(detach=detach)
    rows = rows.with_columns(
        next_purge=pl.col("position").shift(-1),
        own=first_after(rows, "detach", own),
        asleep=first_after(rows, "detach", switches.filter("sleeps").select("pid", "at")),
    )
    # Where only the tracepoint shows it, it stands at the end.
    over = pl.min_horizontal("next_purge", "own", "asleep").fill_null(NEVER + 1) - 1
    hi = pl.when(told).then("detach").otherwise(pl.coalesce(pl.col("end_position") - 1, over))
    # Where no flush could tell it, the list may have been taken at any time: what was freed until
    # the end of the purge may have been taken (and may not: replay.arena.ruling).
    untold = pl.col("flush").is_null() & ~none
    taken = pl.when(untold).then(pl.max_horizontal(hi, "detach")).otherwise("detach")
    return rows.select(
        "seq",
        "pid",
        since=pl.when(told).then(pl.col("entry") + 1).otherwise("position"),
        lo=pl.when(told).then("entry").otherwise("detach"),
        hi=pl.max_horizontal(hi, "detach"),
        at=pl.max_horizontal(hi, "detach"),
        entry="entry",
        detach=taken,
        start=pl.col("start").fill_null(_TOP - 1),
        end=pl.col("end").fill_null(0),
        seen_start=pl.when(pl.col("flush").is_not_null()).then("flush_start").otherwise(silent),
        seen_end=pl.when(pl.col("flush").is_not_null()).then("flush_end").otherwise(silent),
        parent="parent",
        purged=pl.col("purged").fill_null(-1),
        gave=(pl.col("pages") > 0).fill_null(value=False),
        ts="ts",
        detach_ts=pl.coalesce("flush_ts", "ts"),
        end_ts=pl.coalesce("end_ts", "ts"),
    ).with_columns(
        pl.col("start").clip(0, _TOP), pl.col("end").clip(0, _TOP),
        pl.col("seen_start").fill_null(-1), pl.col("seen_end").fill_null(-1),
    )  # fmt: skip
