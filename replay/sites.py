"""Who maps: call sites of every API, how often and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from replay.outcome import Site

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


APIS: Final = ("kmap", "kmap_local", "vmap", "vm_map_ram", "vmalloc")
"""Operations that somebody asks for; the others happen inside them."""

UNKNOWN_SITE: Final = "(not traced)"
MOST_OPEN: Final = 1 << 18
"""kmap() calls that are remembered until their own task calls kunmap() for the page."""

_KEY: Final = ("site", "op")
_TOTAL: Final = pl.when(pl.col("asked").is_not_null().any()).then(
    pl.col("asked").cast(pl.Float64).sum()
)
"""Bytes in all, null where no call told any; as numbers that cannot overflow."""


class SiteTally:
    """Counts the calls of every site, piece by piece.

    Parameters
    ----------
    page_size
        Bytes.

    Attributes
    ----------
    forgotten
        kmap() calls whose holding time is not known because too many were open.
    """

    def __init__(self, page_size: int) -> None:
        self.forgotten = 0
        self._page_size = page_size
        self._calls: list[pl.DataFrame] = []
        self._tasks: list[pl.DataFrame] = []
        self._holds: list[pl.DataFrame] = []
        self._kmaps: pl.DataFrame | None = None
        self._locals: pl.DataFrame | None = None

    def feed(
        self,
        events: pl.DataFrame,
        first_row: int,
        ended: NDArray[np.int64],
        hold_ns: NDArray[np.int64],
        open_rows: NDArray[np.int64],
    ) -> None:
        """Count a piece of the event table.

        Parameters
        ----------
        events
            Sorted by `seq`, behind everything before.
        first_row
            Number of its first row.
        ended, hold_ns
            Rows of the local mappings that ended in it, of this piece or earlier ones, and how
            long they were held.
        open_rows
            Rows of the local mappings that are open at its end.
        """
        table = events.with_row_index("row", first_row).with_columns(pl.col("row").cast(pl.Int64))
        calls = (
            table.lazy()
            .filter(pl.col("op").is_in(APIS))
            # What vmap() asks of vmalloc, or vm_map_ram() of vmap, is not a caller's own call.
            .join(_addresses(events).lazy(), on="caller", how="left", maintain_order="left")
            .select(
                "row", "pid", "page", "op",
                at=pl.max_horizontal("end_seq", "seq"),
                since=pl.coalesce("end_ts", "ts"),
                asked=pl.coalesce("size", pl.col("pages") * self._page_size),
                site=pl.coalesce(pl.col("site").cast(pl.String), "address").fill_null(UNKNOWN_SITE),
            )
            .collect()
        )  # fmt: skip
        self._calls = [
            _sum(
                [*self._calls, calls.group_by(_KEY).agg(n=pl.len(), asked=_TOTAL)],
                pl.col("n").sum(),
                _TOTAL,
            )
        ]
        tasks = calls.select(*_KEY, "pid")
        self._tasks = [pl.concat([*self._tasks, tasks]).unique(maintain_order=True)]
        self._end_kmaps(calls.filter(pl.col("op") == "kmap"), events)
        self._end_locals(calls.filter(pl.col("op") == "kmap_local"), ended, hold_ns, open_rows)

    def _end_kmaps(self, maps: pl.DataFrame, events: pl.DataFrame) -> None:
        """Time from a kmap's return to the next kunmap of the page by the same task."""
        maps = maps.filter(pl.col("page").is_not_null())
        if self._kmaps is not None:
            maps = pl.concat([self._kmaps, maps])
        unmaps = events.filter((pl.col("op") == "kunmap") & pl.col("page").is_not_null())
        found = maps.sort("at").join_asof(
            unmaps.select("pid", "page", at="seq", until="ts"), on="at", by=["pid", "page"],
            strategy="forward", check_sortedness=False,
        )  # fmt: skip
        held = found.filter(pl.col("until").is_not_null())
        self._add_holds(held.with_columns(hold=pl.col("until") - pl.col("since")))
        waiting = found.filter(pl.col("until").is_null()).drop("until")
        self.forgotten += max(waiting.height - MOST_OPEN, 0)
        self._kmaps = waiting.tail(MOST_OPEN)

    def _end_locals(
        self,
        maps: pl.DataFrame,
        ended: NDArray[np.int64],
        hold_ns: NDArray[np.int64],
        open_rows: NDArray[np.int64],
    ) -> None:
        if self._locals is not None:
            maps = pl.concat([self._locals, maps])
        held = pl.DataFrame(
            {"row": ended, "hold": hold_ns}, schema={"row": pl.Int64, "hold": pl.Int64}
        )
        self._add_holds(maps.join(held.filter(pl.col("hold") >= 0), on="row", how="inner"))
        still = pl.Series(open_rows, dtype=pl.Int64)
        self._locals = maps.filter(pl.col("row").is_in(still.implode()))

    def _add_holds(self, held: pl.DataFrame) -> None:
        new = held.group_by(_KEY).agg(
            held=pl.len(), total=pl.col("hold").cast(pl.Float64).sum(), longest=pl.col("hold").max()
        )
        self._holds = [
            _sum(
                [*self._holds, new],
                pl.col("held", "total").sum(), pl.col("longest").max(),
            )
        ]  # fmt: skip

    def remarks(self) -> tuple[str, ...]:
        """What was left out, in words."""
        if not self.forgotten:
            return ()
        return (
            f"{self.forgotten} kmap() calls wait in vain for a kunmap() of their own task: their "
            "holding times are left out",
        )

    def sites(self) -> tuple[Site, ...]:
        """The sites, most calls first."""
        if not self._calls:
            return ()
        tasks = self._tasks[0].group_by(_KEY).agg(tasks=pl.len())
        rows = (
            self._calls[0]
            .join(tasks, on=_KEY)
            .join(self._holds[0], on=_KEY, how="left")
            .with_columns(pl.col("op").cast(pl.String))
            .sort(["n", "site", "op"], descending=[True, False, False])
        )
        total = int(rows.get_column("n").sum())
        return tuple(
            Site(
                site=row["site"],
                op=row["op"],
                count=row["n"],
                tasks=row["tasks"],
                share=row["n"] / total,
                hold_ns_mean=row["total"] / row["held"] if row["held"] else None,
                hold_ns_max=row["longest"],
                bytes=None if row["asked"] is None else int(row["asked"]),
            )
            for row in rows.iter_rows(named=True)
        )


def _sum(frames: list[pl.DataFrame], *figures: pl.Expr) -> pl.DataFrame:
    return pl.concat(frames).group_by(_KEY, maintain_order=True).agg(*figures)


def _addresses(events: pl.DataFrame) -> pl.DataFrame:
    """Callers without a symbol (a module loaded after kallsyms was read), as text."""
    unnamed = events.filter(pl.col("site").is_null() & pl.col("caller").is_not_null())
    callers = unnamed.get_column("caller").unique()
    text = [f"{caller:#010x}" for caller in callers]
    return pl.DataFrame({"caller": callers, "address": pl.Series(text, dtype=pl.String)})
