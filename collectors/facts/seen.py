"""What the trace's own addresses show: facts for captures that come without the machine's files.

Observations only; what they say about the machine is worked out in :mod:`replay.seen`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from collectors.facts.model import Fact

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST: Final = 16
"""Distinct ranges that are kept, the most frequent first."""

_RANGES_KEPT: Final = 1 << 18
_RANGES: Final = {"seen_ranges": ["area_alloc", "vmalloc"], "seen_flushes": ["flush_range"]}
"""Facts that are ranges, and the operations whose `start` and `end` they come from."""
_OPS: Final = ["kmap", "kmap_local", "area_alloc", "vmalloc", "flush_range"]
_ERRORS: Final = 0xFFFF_F000
"""Addresses from here on are error codes (include/linux/err.h)."""


class Seen:
    """Which addresses occur in a trace, gathered piece by piece.

    Facts: seen_pool (lowest and highest address that kmap() returned), seen_local (tuple of
    (CPU, highest address that kmap_local returned there)), seen_ranges (tuple of (start, end)
    that areas were asked from), seen_flushes (tuple of (start, end) of flushes), seen_pfns
    (lowest and highest frame that was mapped), seen_direct ((pfn, address) of the lowest frame
    that kmap_local answered without a mapping, if there is one), seen_atomic (True where the
    kernel has kmap_atomic() of its own).
    """

    def __init__(self) -> None:
        self._pool = _Bounds()
        self._pfns = _Bounds()
        self._local: dict[int, int] = {}
        self._lowest: tuple[int, int] | None = None  # address, frame
        self._ranges = {name: _Counter() for name in _RANGES}

    def add(self, events: pl.DataFrame) -> None:
        """Take further rows of the event table.

        Parameters
        ----------
        events
            Columns of :data:`collectors.events.SCHEMA`.
        """
        vaddr, pfn = pl.col("vaddr"), pl.col("pfn")
        wanted = events.filter(pl.col("op").is_in(_OPS)).select(
            "op", "cpu", "vaddr", "pfn", "start", "end"
        )
        mapped = wanted.filter(vaddr.is_between(1, _ERRORS - 1))
        self._pool.add(mapped.filter(pl.col("op") == "kmap").get_column("vaddr"))
        local = mapped.filter(pl.col("op") == "kmap_local")
        for cpu, highest in local.group_by("cpu").agg(vaddr.max()).iter_rows():
            self._local[cpu] = max(self._local.get(cpu, 0), highest)
        # the lowest address of all: a lowmem page, unless only highmem was mapped
        low = local.filter(pfn.is_not_null() & (vaddr == vaddr.filter(pfn.is_not_null()).min()))
        if low.height:
            found = low.select(vaddr.first(), pfn.min()).row(0)
            self._lowest = found if self._lowest is None else min(self._lowest, found)
        maps = wanted.filter(pl.col("op").is_in(["kmap", "kmap_local"]))
        self._pfns.add(maps.get_column("pfn"))
        for name, ops in _RANGES.items():
            ranges = wanted.filter(pl.col("op").is_in(ops) & (pl.col("start") < pl.col("end")))
            self._ranges[name].add(ranges.select("start", "end"))

    def facts(self, source: str, raw_events: Iterable[str] = ()) -> dict[str, Fact]:
        """Write down what was seen.

        Parameters
        ----------
        source
            Name of the trace, for the facts' sources.
        raw_events
            ``Capture.raw_events``: the functions of which there are events.

        Returns
        -------
        dict
            Fact name to fact, for ``Facts.with_facts``; nothing for what does not occur.
        """
        found: dict[str, Any] = {
            "seen_pool": self._pool.both(),
            "seen_local": tuple(sorted(self._local.items())),
            "seen_direct": None if self._lowest is None else self._lowest[::-1],
            **{name: counter.most() for name, counter in self._ranges.items()},
            "seen_pfns": self._pfns.both(),
        }
        facts = {
            name: Fact(value, source, "addresses in the trace")
            for name, value in found.items()
            if value
        }
        if any(name.split(" ")[0].startswith("kmap_atomic") for name in raw_events):
            facts["seen_atomic"] = Fact(value=True, source=source, detail="kmap_atomic_high_prot")
        return facts


class _Bounds:
    """The lowest and the highest of many numbers."""

    def __init__(self) -> None:
        self._all: list[int] = []

    def add(self, values: pl.Series) -> None:
        """Take further numbers; nulls do not count."""
        low, high = values.min(), values.max()
        if isinstance(low, int) and isinstance(high, int):
            self._all = [min(*self._all, low, high), max(*self._all, low, high)]

    def both(self) -> tuple[int, int] | None:
        """Lowest and highest; None without a number."""
        return (self._all[0], self._all[1]) if self._all else None


class _Counter:
    """How often which range occurs.

    Ranges that occur least are forgotten where there are more than `_RANGES_KEPT` different ones.
    """

    def __init__(self) -> None:
        self._counts: pl.DataFrame | None = None

    def add(self, ranges: pl.DataFrame) -> None:
        """Take further ranges, columns `start` and `end`."""
        if ranges.is_empty():
            return
        counts = ranges.group_by("start", "end").len("n")
        if self._counts is not None:
            counts = pl.concat([self._counts, counts])
            counts = counts.group_by("start", "end").agg(pl.col("n").sum())
        self._counts = _frequent(counts, _RANGES_KEPT) if len(counts) > 2 * _RANGES_KEPT else counts

    def most(self) -> tuple[tuple[int, int], ...]:
        """The most frequent ranges, the most frequent first."""
        if self._counts is None:
            return ()
        return tuple(_frequent(self._counts, MOST).select("start", "end").rows())


def _frequent(counts: pl.DataFrame, number: int) -> pl.DataFrame:
    order = counts.sort("n", "start", "end", descending=[True, False, False])
    return order.head(number)
