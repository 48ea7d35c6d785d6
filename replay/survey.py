"""What has to be known of a whole trace before it can be replayed piece by piece."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from collectors.events import OPS, batches
from replay.pool.calls import POOL_CALLS, is_anonymous, is_window_flush
from replay.pool.window import PoolFacts
from replay.trace.beside import ahead
from replay.trace.columns import op_codes
from replay.trace.windows import WINDOW_ROWS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from replay.pool.window import PoolState, PoolWindow


@dataclass(frozen=True)
class Survey:
    """What a first look at a whole trace tells.

    Attributes
    ----------
    rows
        Rows of the event table.
    span
        Time of the first and of the last event.
    ops
        Rows by operation.
    pageless
        kmap() calls without a page.
    returned
        kmap() calls with a return.
    pool
        For the pool's lock order.
    """

    rows: int
    span: tuple[int, int]
    ops: Mapping[str, int]
    pageless: int
    returned: int
    pool: PoolFacts


def survey(
    events: pl.LazyFrame | pl.DataFrame,
    state: PoolState | None,
    window: PoolWindow,
    rows: int = WINDOW_ROWS,
) -> Survey:
    """Look through a trace once, in bounded memory.

    Parameters
    ----------
    events
        Event table.
    state
        The pool's snapshot.
    window
        The pool.
    rows
        Rows that are looked at together.

    Returns
    -------
    Survey
    """
    frames = sorted({pfn for _, _, pfn in state.slots if pfn >= 0}) if state is not None else []
    of_pool = pl.col("op").is_in(POOL_CALLS) & ~is_anonymous()
    is_kmap = pl.col("op") == "kmap"
    figures = (
        pl.col("ts").min().alias("first"),
        pl.max_horizontal(pl.col("ts").max(), pl.col("end_ts").max()).alias("last"),
        pl.col("ts").filter(of_pool).min().alias("start"),
        is_window_flush(window).any().alias("flushed"),
        (is_kmap & pl.col("page").is_null()).sum().alias("pageless"),
        (is_kmap & pl.col("end_seq").is_not_null()).sum().alias("returned"),
    )
    columns = ["ts", "end_ts", "end_seq", "op", "page", "vaddr", "start", "end"]
    codes = np.zeros(len(OPS) + 1, np.int64)
    told: list[pl.DataFrame] = []
    pages: dict[int, int] = {}
    for piece in ahead(batches(events.lazy(), columns + ["pfn"] * bool(frames), rows)):
        codes += np.bincount(op_codes(piece), minlength=codes.size)
        told.append(piece.select(figures))
        if frames:
            named = piece.filter(
                of_pool & pl.col("pfn").is_in(frames) & pl.col("page").is_not_null()
            )
            for pfn, page in named.group_by("pfn").agg(pl.col("page").max()).iter_rows():
                pages[pfn] = max(page, pages.get(pfn, 0))
    whole = pl.concat([pl.DataFrame(schema=events.collect_schema()).select(figures), *told])
    row = whole.select(
        pl.col("first", "start").min().fill_null(0),
        pl.col("last").max().fill_null(0),
        pl.col("flushed").any(),
        pl.col("pageless", "returned").sum(),
    ).row(0, named=True)
    number = {op: int(codes[code]) for code, op in enumerate(OPS) if codes[code]}
    return Survey(
        rows=int(codes.sum()),
        span=(row["first"], row["last"]),
        ops=number,
        pageless=row["pageless"],
        returned=row["returned"],
        pool=PoolFacts(
            start=row["start"],
            passes_traced="pool_flush" in number,
            flushes_traced=row["flushed"],
            gets_traced="kmap_get" in number,
            pages=pages,
        ),
    )
