"""The area that only modules are given from, where the machine has one beside the arena.

ARM loads modules within reach of a branch to the kernel, below PAGE_OFFSET
(arch/arm/kernel/module.c: module_alloc asks for MODULES_VADDR to MODULES_END); BPF programs are
compiled into the same place.
It is small, and no option enlarges it, so that what fails there is another matter than the arena.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from replay.arena.holders import at_start, function_in, holders
from replay.outcome import ModulesOutcome
from replay.trace.told import NO_ROW, moment

if TYPE_CHECKING:
    from collectors.snapshot import Snapshot
    from replay.machine.model import Layout
    from replay.trace.told import Told

_MOST_OPEN = 1 << 12
"""Calls of vmalloc() that are remembered for the allocations in them."""
_COLUMNS = ("op", "seq", "parent", "vaddr", "size", "end", "start", "site")


def modules_area(layout: Layout, values: Snapshot) -> tuple[int, int] | None:
    """First address and end of the modules' own area; None where there is none.

    By the layout, else by what was asked for most often outside of the arena.
    """
    own = layout.modules_start, layout.modules_end
    for start, end in (own, *values.seen_ranges):
        if start < end and (end <= layout.vmalloc_start or start >= layout.vmalloc_end):
            return start, end
    return None


def asked_elsewhere(layout: Layout) -> pl.Expr:
    """Whether a row asked for addresses that are none of the arena's."""
    outside = (pl.col("end") <= layout.vmalloc_start) | (pl.col("start") >= layout.vmalloc_end)
    return (outside & (pl.col("start") < pl.col("end"))).fill_null(value=False)


def row_of(events: pl.DataFrame, seq: int) -> int:
    """Number of a row in a piece of the event table."""
    return int(events.get_column("seq").search_sorted(seq))


class ModulesUse:
    """Counts what happens in the modules' area, piece by piece.

    Attributes
    ----------
    first_row
        Number of the row of the first failure, NO_ROW.

    Parameters
    ----------
    area
        First address and end.
    op
        What counts as an allocation: ``area_alloc``, or ``vmalloc``.
    layout, values
        As for :class:`replay.arena.use.ArenaUse`.
    """

    def __init__(self, area: tuple[int, int], op: str, layout: Layout, values: Snapshot) -> None:
        self._op = op
        self._start, self._end = area
        self._elsewhere = asked_elsewhere(layout)
        self._live = {start: (end - start, name) for start, end, name in at_start(values, *area)}
        self._complete = bool(values.areas)
        self._held = self._peak = sum(size for size, _ in self._live.values())
        self._then: list[tuple[int, str]] | None = None  # at the first failure
        self._askers: dict[int, str] = {}
        self._allocs = self._failures = 0
        self._smallest: int | None = None
        self.first_row = NO_ROW

    def feed(self, rows: pl.DataFrame, events: pl.DataFrame, first_row: int) -> None:
        """Take rows of the operations that allocate and give back, behind everything before.

        `events` is the piece that they are of, and `first_row` the number of its first row.
        """
        inside = pl.col("vaddr").is_between(self._start, self._end - 1)
        of_alloc = pl.col("op").cast(pl.String).is_in(("area_alloc", "vmalloc"))
        here = rows.filter((of_alloc & self._elsewhere) | (~of_alloc & inside)).select(_COLUMNS)
        for row in here.iter_rows(named=True):
            if row["op"] == self._op:
                self._alloc(row)
                if row["vaddr"] == 0 and self.first_row == NO_ROW:
                    self.first_row = first_row + row_of(events, row["seq"])
            elif row["op"] == "vmalloc":
                self._remember(row)
            elif row["op"] != "area_alloc":
                self._held -= self._live.pop(row["vaddr"], (0, ""))[0]

    def outcome(self, told: Told | None = None) -> ModulesOutcome:
        """The figures; `told` is what the row of the first failure tells."""
        held = list(self._live.values()) if self._then is None else self._then
        return ModulesOutcome(
            size=self._end - self._start,
            allocs=self._allocs,
            failures=self._failures,
            held=sum(size for size, _ in held),
            peak=self._peak,
            complete=self._complete,
            holders=holders((name, size) for size, name in held),
            smallest_failed=self._smallest,
            first=None if told is None else moment(told, self.first_row),
        )

    def _remember(self, row: dict[str, Any]) -> None:
        """Note who called vmalloc(): the allocation in it names but vmalloc()."""
        if len(self._askers) >= _MOST_OPEN:
            self._askers.clear()
        self._askers[row["seq"]] = row["site"] or ""

    def _alloc(self, row: dict[str, Any]) -> None:
        site = self._askers.pop(row["parent"], "") or row["site"] or "?"
        size = row["size"] or 0
        if row["vaddr"] == 0:
            self._failures += 1
            self._smallest = size if self._smallest is None else min(size, self._smallest)
            if self._then is None:
                self._then = list(self._live.values())
            return
        self._allocs += 1
        if row["vaddr"] is None:
            return
        start = row["vaddr"]
        self._held += size - self._live.pop(start, (0, ""))[0]
        self._live[start] = size, function_in(site)
        self._peak = max(self._peak, self._held)
