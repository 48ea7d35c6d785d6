"""What single rows of an event table tell of who made them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from collectors.events import rows_of
from replay.outcome import Moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Told = Mapping[int, Moment]

NO_ROW: Final = -1
_COLUMNS: Final = ("ts", "cpu", "pid", "comm", "site", "caller")


def tell(events: pl.LazyFrame, rows: Iterable[int], total: int, at_once: int) -> Told:
    """Look rows up.

    Parameters
    ----------
    events
        Event table.
    rows
        Numbers of rows, in the order in which windows have them
        (:func:`replay.trace.windows.windows`), less than `total`; NO_ROW is passed over.
    total, at_once
        Rows of the table, and of a window.

    Returns
    -------
    mapping
        Row to what it tells. A caller without a symbol is its address.
    """
    wanted = np.unique(np.fromiter(rows, np.int64))
    wanted = wanted[wanted >= 0]
    told: dict[int, Moment] = {}
    if not wanted.size:
        return told
    if total <= at_once:
        whole = events.select("seq", *_COLUMNS).collect().sort("seq").drop("seq")
        pieces = iter(((wanted, whole[wanted]),))
    else:
        pieces = rows_of(events, list(_COLUMNS), wanted, at_once)
    for numbers, piece in pieces:
        here = piece.with_columns(pl.col("comm", "site").cast(pl.String))
        rows_here = zip(numbers.tolist(), here.iter_rows(), strict=True)
        for row, (ts, cpu, pid, comm, site, caller) in rows_here:
            address = None if caller is None else f"{caller:#010x}"
            told[row] = Moment(ts, cpu, pid, comm, address if site is None else site)
    return told


def moment(told: Told, row: int, ts: int | None = None) -> Moment | None:
    """What a row tells, at another time than its own if one is given; None for NO_ROW."""
    if row == NO_ROW:
        return None
    return told[row] if ts is None else replace(told[row], ts=ts)
