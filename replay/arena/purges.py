"""Purges of the lazy list by what made them run: how often, how much, how far, how long.

A purge gives back what was freed lazily, and first flushes the hull of all of it (mm/vmalloc.c:
__purge_vmap_area_lazy). Who called it tells why it ran.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from collectors.records import dataclass, field
from replay.arena.tally import ALLOC_OPS, IS_RANGE_FLUSH
from replay.outcome import PurgeOutcome
from replay.times import SERIES_BINS, TimeBins, bins_of, quantile
from replay.trace.columns import has_ops, of_ops
from replay.trace.told import NO_ROW, moment

if TYPE_CHECKING:
    from collections.abc import Collection

    from replay.trace.told import Told

FAILED: Final = "failed allocation"
LIMIT: Final = "lazy limit"
DRAIN: Final = "drain worker"
SET_MEMORY: Final = "set_memory"
MODULE: Final = "freed module"
ALIASES: Final = "vm_unmap_aliases"
UNKNOWN: Final = "unknown"
TRIGGERS: Final = (FAILED, LIMIT, DRAIN, SET_MEMORY, MODULE, ALIASES, UNKNOWN)
_BEFORE: Final = {SET_MEMORY: "flush_unused", MODULE: "area_free"}
"""What a task did just before it called vm_unmap_aliases() for a reason: change_page_attr_set_clr()
(arch/x86/mm/pat/set_memory.c) calls kmap_flush_unused() first, and memory of modules and BPF
programs is purged as soon as it is freed (mm/vmalloc.c: VM_FLUSH_RESET_PERMS)."""
RAN: Final = {"seq": pl.UInt64, "trigger": pl.UInt8}
CALLERS: Final = 8
"""Callers of a purge that are named."""
_CALLERS: Final = {
    FAILED: "alloc_vmap_area|purge_vmap_area_lazy|reclaim_and_purge|pcpu_get_vm_areas|"
    "vmap_node_shrink|overflow_vmap",
    LIMIT: "free_vmap_area_noflush|try_purge_vmap_area_lazy|free_unmap_vmap_area",
    DRAIN: "drain_vmap_area_work",
    ALIASES: "_?vm_unmap_aliases",
}
"""Functions that call the purge, as the beginning of the call site."""
_OPS: Final = ("area_purge", "area_free", "flush_range", "flush_unused", *ALLOC_OPS)
_MOST_OPEN: Final = 1 << 10


@dataclass
class _PurgesOfOne:
    """Purges of one trigger; times by bin as of :mod:`replay.times`."""

    runs: int = 0
    found: int = 0
    freed_pages: int = 0
    hull_pages: int = 0
    flushes: int = 0
    times: Counter[int] = field(default_factory=Counter)
    longest: tuple[int, int] = (-1, NO_ROW)
    callers: Counter[str] = field(default_factory=Counter)

    def median(self) -> float | None:
        """Middle of the bin that holds the median."""
        if not self.times:
            return None
        bins, number = np.array(sorted(self.times.items())).T
        return quantile(bins, number, 0.5, self.longest[0])


class PurgeTally:
    """Counts purges, piece by piece.

    Parameters
    ----------
    page_size
        Bytes.
    clock_is_ns
        False where the trace clock counts something else than time.
    span
        Time of the first and of the last event of the capture.
    ops
        Operations of the capture: where no purge is among them nothing is looked at.
    also
        Other bins that are to count what `when` counts.

    Attributes
    ----------
    when
        When purges ran that found something.
    """

    def __init__(
        self,
        page_size: int,
        *,
        clock_is_ns: bool,
        span: tuple[int, int],
        ops: Collection[str],
        also: TimeBins | None = None,
    ) -> None:
        self._page_size = page_size
        self._clock_is_ns = clock_is_ns
        self.when = TimeBins(*span, SERIES_BINS)
        self._counting = (self.when,) if also is None else (self.when, also)
        self._has_any = "area_purge" in ops
        self._kinds: dict[str, _PurgesOfOne] = {}
        # Bytes freed since the last purge that found something, less what the piece has freed
        self._waiting = 0
        # Purges that may still flush: trigger, time, whether only a flush tells that they found
        # any, and the position of their return, before which they flush, if the trace has it
        self._open: dict[int, tuple[str, int, bool, int | None]] = {}
        self._ran: list[tuple[int, int]] = []  # of this piece: position and code of the trigger
        # Allocations that have not returned: position to that of the return, if there is one
        self._allocating: dict[int, int | None] = {}
        self._before: dict[int, tuple[str, int]] = {}  # task to its last operation and position

    def feed(self, events: pl.DataFrame, first_row: int) -> None:
        """Count a piece of the event table, which begins with this row."""
        self._ran = []
        if not self._has_any or not has_ops(events, _OPS):
            return
        rows = of_ops(events.select(_COLUMNS).with_row_index("row", first_row), _OPS)
        end = int(events.get_column("seq")[-1])
        rows = rows.with_columns(freed=_FREED)
        if self._open or has_ops(events, ("area_purge",)):  # else no flush is of a purge
            for row in self._marked(rows).iter_rows(named=True):
                if row["op"] == "area_purge":
                    self._purge(row)
                else:
                    self._flush(row)
        self._waiting += int(rows.get_column("freed")[-1]) if rows.height else 0
        self._carry(rows, end)

    def _marked(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Purges with their trigger, and flushes with the operation before of their task."""
        op, pid = pl.col("op").cast(pl.String), pl.col("pid")
        keys = list(self._before)
        carried_op = pid.replace_strict(
            keys, [self._before[key][0] for key in keys], default=None, return_dtype=pl.String
        )
        carried_seq = pid.replace_strict(
            keys, [self._before[key][1] for key in keys], default=None, return_dtype=pl.UInt64
        )
        allocating = rows.filter(pl.col("op").is_in(ALLOC_OPS)).get_column("seq").to_list()
        inside = pl.col("parent").is_in([*self._allocating, *allocating])
        site = pl.col("site").cast(pl.String)
        trigger: Any = pl.when(inside.fill_null(value=False)).then(pl.lit(FAILED))
        before = pl.coalesce(op.shift(1).over("pid"), carried_op)
        for name, functions in _CALLERS.items():
            called = site.str.contains(f"^(?:{functions})").fill_null(value=False)
            if name == ALIASES:
                for reason, last in _BEFORE.items():
                    is_it = called & (before == last).fill_null(value=False)
                    trigger = trigger.when(is_it).then(pl.lit(reason))
            trigger = trigger.when(called).then(pl.lit(name))
        return (
            rows.with_columns(
                trigger=trigger.otherwise(pl.lit(UNKNOWN)),
                before=before,
                before_seq=pl.coalesce(pl.col("seq").shift(1).over("pid"), carried_seq),
                took=pl.col("end_ts") - pl.col("ts"),
                flushed=(pl.col("end").cast(pl.Int64) - pl.col("start").cast(pl.Int64)),
            )
            .filter((pl.col("op") == "area_purge") | IS_RANGE_FLUSH)
            .select(
                "row", "op", "seq", "end_seq", "parent", "trigger", "before", "before_seq",
                "freed", "took", "flushed", "pages", "ts", pl.col("stack").cast(pl.String),
            )
        )  # fmt: skip

    def _purge(self, row: dict[str, Any]) -> None:
        """Count a run; what it gave back is known by its return, or by its flush."""
        kind = self._kinds.setdefault(row["trigger"], _PurgesOfOne())
        kind.runs += 1
        self._ran.append((int(row["seq"]), TRIGGERS.index(row["trigger"])))
        took = row["took"] if self._clock_is_ns else None
        if isinstance(took, int) and took >= 0:
            kind.times[int(bins_of(np.array([took]))[0])] += 1
            kind.longest = max(kind.longest, (took, int(row["row"])), key=lambda one: one[0])
        if len(self._open) >= _MOST_OPEN:
            self._open.clear()
        returns = row["end_seq"]
        self._open[int(row["seq"])] = row["trigger"], row["ts"], row["pages"] is None, returns
        if caller := caller_in(row["stack"]):
            kind.callers[caller] += 1
        if row["pages"]:
            self._found(kind, row["ts"], row["freed"])

    def _found(self, kind: _PurgesOfOne, ts: int, freed: int) -> None:
        """Count one that took what waited; `freed` bytes were freed in the piece up to it."""
        kind.found += 1
        for bins in self._counting:
            bins.add(np.array([ts]))
        kind.freed_pages += (self._waiting + freed) // self._page_size
        self._waiting = -freed

    def _flush(self, row: dict[str, Any]) -> None:
        """Give a ranged flush to the purge that it happened in."""
        of = row["parent"] if row["parent"] in self._open else None
        if of is None and row["before"] == "area_purge" and row["before_seq"] in self._open:
            of = row["before_seq"] if self._open[row["before_seq"]][3] is None else None
        if not isinstance(of, int):
            return
        trigger, ts, is_untold, returns = self._open[of]
        if returns is not None and row["seq"] > returns:
            return
        kind = self._kinds[trigger]
        kind.flushes += 1
        kind.hull_pages += -(-int(row["flushed"]) // self._page_size)
        if is_untold:
            self._open[of] = trigger, ts, False, returns
            self._found(kind, ts, row["freed"])

    def _carry(self, rows: pl.DataFrame, end: int) -> None:
        """Keep what the next piece needs."""
        last = rows.group_by("pid").agg(pl.col("op").last().cast(pl.String), pl.col("seq").last())
        for pid, op, seq in last.select("pid", "op", "seq").iter_rows():
            if pid is not None:
                self._before[pid] = op, seq
        if len(self._before) > _MOST_OPEN:
            self._before = dict(
                sorted(self._before.items(), key=lambda one: one[1][1])[-_MOST_OPEN:]
            )
        allocs = rows.filter(pl.col("op").is_in(ALLOC_OPS)).select("seq", "end_seq")
        under_way = [*self._allocating.items(), *allocs.iter_rows()]
        self._allocating = dict(
            [(seq, back) for seq, back in under_way if back is None or back > end][-_MOST_OPEN:]
        )
        returned = rows.filter((pl.col("op") == "area_purge") & (pl.col("end_seq") <= end))
        for seq in returned.get_column("seq").to_list():
            self._open.pop(seq, None)

    @property
    def ran(self) -> pl.DataFrame:
        """Purges of the last piece: `seq`, and `trigger` by its place in :data:`TRIGGERS`."""
        return pl.DataFrame(self._ran, schema=RAN, orient="row")

    def rows(self) -> set[int]:
        """Rows that :meth:`result` needs to name tasks."""
        return {kind.longest[1] for kind in self._kinds.values()}

    def result(self, told: Told) -> tuple[PurgeOutcome, ...]:
        """What was counted so far, those that took most time, or ran most, first."""
        out = [
            PurgeOutcome(
                trigger=trigger,
                count=kind.runs,
                found=kind.found,
                pages=kind.freed_pages,
                hull_pages=kind.hull_pages,
                flushes=kind.flushes,
                median_ns=kind.median(),
                longest_ns=kind.longest[0] if kind.times else None,
                longest=moment(told, kind.longest[1]),
                callers=dict(sorted(kind.callers.items(), key=lambda c: (-c[1], c[0]))[:CALLERS]),
            )
            for trigger, kind in self._kinds.items()
        ]
        return tuple(sorted(out, key=lambda one: (-one.found, -one.count, one.trigger)))


def caller_in(stack: str | None) -> str | None:
    """Function that wanted a purge, by its stack trace; None where there is none.

    Examples
    --------
    >>> caller_in("__purge_vmap_area_lazy+0x5<-_vm_unmap_aliases+0xe3<-xfs_buf_alloc+0x1a2")
    'xfs_buf_alloc'
    """
    names = [_NAME_ENDS.split(frame, maxsplit=1)[0] for frame in (stack or "").split("<-")]
    inner = [at for at, name in enumerate(names) if _OF_PURGE.fullmatch(name)]
    outer = names[inner[-1] + 1 :] if inner else []
    return outer[0] if outer and outer[0] else None


_NAME_ENDS: Final = re.compile(r"[+. ]")
_OF_PURGE: Final = re.compile(
    r"_{0,2}(?:purge_vmap_area_lazy|vm_unmap_aliases|try_purge_vmap_area_lazy"
    r"|reclaim_and_purge_vmap_areas)"
)
"""Functions of mm/vmalloc.c between a purge and who wanted it."""
_FREED: Final = (
    pl.when(pl.col("op") == "area_free")
    .then(pl.col("end").cast(pl.Int64) - pl.col("vaddr").cast(pl.Int64))
    .fill_null(0)
    .clip(0)
    .cum_sum()
)
"""Bytes freed in a piece up to each row."""
_COLUMNS: Final = (
    "seq", "end_seq", "ts", "end_ts", "pid", "op", "parent", "site", "vaddr", "start", "end",
    "pages", "stack",
)  # fmt: skip
