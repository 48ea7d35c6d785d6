"""Who maps: call sites of every API, how often and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from replay.outcome import Site

if TYPE_CHECKING:
    from replay.locals import LocalReplay

APIS = ("kmap", "kmap_local", "vmap", "vm_map_ram", "vmalloc")
"""Operations that somebody asks for; the others happen inside them."""

UNKNOWN_SITE = "(not traced)"


def call_sites(events: pl.DataFrame, local: LocalReplay) -> tuple[Site, ...]:
    """Rank the call sites of a trace.

    Parameters
    ----------
    events
        Event table, sorted by `seq`.
    local
        Replay of the local mappings: it knows which unmap ends which.

    Returns
    -------
    tuple of Site
        Most calls first.
    """
    holds = pl.concat([_kmap_holds(events), _local_holds(local)])
    calls = (
        events.lazy()
        .with_row_index("row")
        .filter(pl.col("op").is_in(APIS))
        # What vmap() asks of vmalloc, or vm_map_ram() of vmap, is not a caller's own call.
        .join(holds.lazy(), on="row", how="left", maintain_order="left")
        .join(_addresses(events).lazy(), on="caller", how="left", maintain_order="left")
        .group_by(
            pl.coalesce(pl.col("site").cast(pl.String), "address")
            .fill_null(UNKNOWN_SITE)
            .alias("site"),
            pl.col("op").cast(pl.String),
        )
        .agg(
            pl.len().alias("count"),
            pl.col("pid").n_unique().alias("tasks"),
            pl.col("hold").mean().alias("mean"),
            pl.col("hold").max().alias("max"),
        )
        .sort(["count", "site", "op"], descending=[True, False, False])
        .collect()
    )
    total = int(calls.get_column("count").sum())
    return tuple(
        Site(
            site=row["site"],
            op=row["op"],
            count=row["count"],
            tasks=row["tasks"],
            share=row["count"] / total,
            hold_ns_mean=row["mean"],
            hold_ns_max=row["max"],
        )
        for row in calls.iter_rows(named=True)
    )


def _addresses(events: pl.DataFrame) -> pl.DataFrame:
    """Callers without a symbol (a module loaded after kallsyms was read), as text."""
    unnamed = events.filter(pl.col("site").is_null() & pl.col("caller").is_not_null())
    callers = unnamed.get_column("caller").unique()
    text = [f"{caller:#010x}" for caller in callers]
    return pl.DataFrame({"caller": callers, "address": pl.Series(text, dtype=pl.String)})


def _local_holds(local: LocalReplay) -> pl.DataFrame:
    return pl.DataFrame(
        {"row": local.row, "hold": local.hold_ns}, schema={"row": pl.UInt32, "hold": pl.Int64}
    ).filter(pl.col("hold") >= 0)


def _kmap_holds(events: pl.DataFrame) -> pl.DataFrame:
    """Time from a kmap's return to the next kunmap of the page by the same task."""
    rows = events.lazy().with_row_index("row").filter(pl.col("page").is_not_null())
    maps = rows.filter(pl.col("op") == "kmap").select(
        "row", "pid", "page", at=pl.coalesce("end_seq", "seq"), since=pl.coalesce("end_ts", "ts")
    )
    unmaps = rows.filter(pl.col("op") == "kunmap").select("pid", "page", at="seq", until="ts")
    return (
        maps.sort("at")
        .join_asof(
            unmaps.sort("at"), on="at", by=["pid", "page"], strategy="forward",
            check_sortedness=False,
        )
        .select(pl.col("row").cast(pl.UInt32), hold=pl.col("until") - pl.col("since"))
        .drop_nulls()
        .sort("row")
        .collect()
    )  # fmt: skip
