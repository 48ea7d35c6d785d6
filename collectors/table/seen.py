"""What the trace's own addresses show: facts for captures that come without the machine's files.

Observations only; what they say about the machine is worked out in
:mod:`replay.machine.from_addresses`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from collectors.events import OP_CODE
from collectors.facts.model import Fact
from collectors.probes import base_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from collectors.snapshot import FactName
    from collectors.table.areas import Verdicts
    from collectors.table.part import Part

MOST: Final = 16
"""Distinct ranges that are kept, the most frequent first."""

_RANGES_KEPT: Final = 1 << 18
_RANGES: Final[dict[FactName, list[str]]] = {
    "seen_ranges": ["area_alloc", "vmalloc"],
    "seen_flushes": ["flush_range"],
}
"""Facts that are ranges, and the operations whose `start` and `end` they come from."""
_KMAP_LOCAL: Final = {"__kmap_local_page_prot", "__kmap_local_pfn_prot"}
_PURGES: Final = {"__purge_vmap_area_lazy", "purge_vmap_area_lazy"}
"""A function, and a tracepoint."""
_ERRORS: Final = 0xFFFF_F000
"""Addresses from here on are error codes (include/linux/err.h)."""
_WIDE: Final = np.uint64(1 << 32)
_WIDE_ERRORS: Final = np.uint64((1 << 64) - 4096)
"""The same of a 64-bit kernel, whose addresses lie from `_WIDE` on."""


class Seen:
    """Which addresses occur in a trace, gathered piece by piece.

    Facts: seen_pool (lowest and highest address that kmap() returned), seen_local (tuple of
    (CPU, highest address that kmap_local returned there)), seen_ranges (tuple of (start, end)
    that areas were asked from), seen_flushes (tuple of (start, end) of flushes), seen_pfns
    (lowest and highest frame that was mapped), seen_direct ((pfn, address) of the lowest frame
    that kmap_local answered without a mapping, if there is one), seen_atomic (True where the
    kernel has kmap_atomic() of its own), seen_kmap_local (True where it has kmap_local), seen_wide
    (an address of more than 32 bits, where most have as many), seen_unsure and seen_found (numbers
    of allocations, :class:`collectors.table.areas.Verdicts`).
    """

    def __init__(self) -> None:
        self._pool = _Bounds()
        self._pfns = _Bounds()
        self._local: dict[int, int] = {}
        self._wide_local: dict[int, int] = {}
        self._wide: int | None = None
        self._narrow_more = 0
        self._lowest: tuple[int, int] | None = None  # address, frame
        self._ranges = {name: _Counter() for name in _RANGES}

    def add(self, part: Part) -> None:
        """Take further rows of the event table."""
        op = part.columns["op"].values
        assert op is not None  # is never null
        kmap, local = (np.flatnonzero(op == OP_CODE[name]) for name in ("kmap", "kmap_local"))
        vaddr, pfn = part.columns["vaddr"], part.columns["pfn"]
        is_address = vaddr.has(part.rows)
        self._add_wide(part, local)
        if vaddr.values is not None:
            is_address &= (vaddr.values > 0) & (vaddr.values < _ERRORS)
            self._pool.add(vaddr.values[kmap[is_address[kmap]]])
            rows = local[is_address[local]]
            _raise_highest(self._local, part, rows, vaddr.values)
            self._add_direct(part, rows, vaddr.values)
        if pfn.values is not None:
            has = pfn.has(part.rows)
            for rows in (kmap, local):
                self._pfns.add(pfn.values[rows[has[rows]]])
        for name, ops in _RANGES.items():
            self._add_ranges(self._ranges[name], part, [OP_CODE[each] for each in ops])

    def _add_wide(self, part: Part, local: NDArray[np.intp]) -> None:
        """Count addresses with more than 32 bits and others; an error code is neither."""
        for name in ("vaddr", "start", "end"):
            column = part.columns[name]
            if column.values is None:
                continue
            values = column.values
            known = column.has(part.rows) & (values > 0)
            if int(values.max(initial=0)) < _WIDE:
                self._narrow_more += int(np.count_nonzero(known))
                continue
            wide = known & (values >= _WIDE) & (values < _WIDE_ERRORS)
            number = int(np.count_nonzero(wide))
            self._narrow_more += int(np.count_nonzero(known & (values < _WIDE))) - number
            if not number:
                continue
            self._wide = self._wide or int(values[wide].min())
            if name == "vaddr":
                _raise_highest(self._wide_local, part, local[wide[local]], values)

    def _add_direct(self, part: Part, rows: NDArray[np.intp], vaddr: NDArray[np.uint64]) -> None:
        """Take the lowest address that kmap_local gave, and its frame."""
        pfn = part.columns["pfn"]
        if pfn.values is None:
            return
        rows = rows[pfn.has(part.rows)[rows]]
        if len(rows):
            # the lowest address of all: a lowmem page, unless only highmem was mapped
            least = int(vaddr[rows].min())
            found = least, int(pfn.values[rows[vaddr[rows] == least]].min())
            self._lowest = found if self._lowest is None else min(self._lowest, found)

    def _add_ranges(self, counter: _Counter, part: Part, wanted: list[int]) -> None:
        op, start, end = (part.columns[name] for name in ("op", "start", "end"))
        assert op.values is not None  # is never null
        if start.values is None or end.values is None:
            return
        rows = np.flatnonzero(start.has(part.rows) & end.has(part.rows))  # of few operations
        rows = rows[np.isin(op.values[rows], wanted)]
        rows = rows[start.values[rows] < end.values[rows]]
        if len(rows):
            counter.add(start.values[rows], end.values[rows])

    def facts(
        self,
        source: str,
        raw_events: Iterable[str] = (),
        *,
        probed: Iterable[str] = (),
        verdicts: Verdicts | None = None,
    ) -> dict[FactName, Fact]:
        """Write down what was seen.

        Parameters
        ----------
        source
            Name of the trace, for the facts' sources.
        raw_events
            ``Capture.raw_events``: the functions of which there are events.
        probed
            Symbols that had a probe, with events or without.
        verdicts
            What the trace tells of allocations.

        Returns
        -------
        dict
            Fact name to fact, for ``Facts.with_facts``; nothing for what does not occur.
        """
        wide = self._wide if self._narrow_more < 0 else None
        found: dict[FactName, Any] = {
            "seen_pool": self._pool.both(),
            "seen_local": tuple(sorted((self._wide_local if wide else self._local).items())),
            "seen_wide": wide,
            "seen_direct": None if self._lowest is None else self._lowest[::-1],
            **{name: counter.most() for name, counter in self._ranges.items()},
            "seen_pfns": self._pfns.both(),
        }
        facts = {
            name: Fact(value, source, "addresses in the trace")
            for name, value in found.items()
            if value
        }
        functions = {name.split(" ")[0] for name in raw_events}
        if any(name.startswith("kmap_atomic") for name in functions):
            facts["seen_atomic"] = Fact(value=True, source=source, detail="kmap_atomic_high_prot")
        for name in sorted(functions & _KMAP_LOCAL):
            facts["seen_kmap_local"] = Fact(value=True, source=source, detail=name)
        # alloc_vmap_area() does not fail without a purge: where one would be seen, none is proof.
        functions |= {base_name(symbol) for symbol in probed}
        if verdicts is not None and verdicts.unsure and not functions & _PURGES:
            facts["seen_unsure"] = Fact(verdicts.unsure, source, "alloc_vmap_area without va")
        if verdicts is not None and verdicts.found:
            facts["seen_found"] = Fact(verdicts.found, source, "alloc_vmap_area without va_start")
        return facts


def _raise_highest(
    highest_on: dict[int, int], part: Part, rows: NDArray[np.intp], vaddr: NDArray[np.uint64]
) -> None:
    """Take the rows of kmap_local that got an address: the highest on each CPU."""
    cpu = part.columns["cpu"].values
    assert cpu is not None  # is never null
    cpus = cpu[rows]
    highest = np.zeros(int(cpus.max(initial=0)) + 1, np.uint64)
    np.maximum.at(highest, cpus, vaddr[rows])
    for number in np.flatnonzero(highest).tolist():
        highest_on[number] = max(highest_on.get(number, 0), int(highest[number]))


class _Bounds:
    """The lowest and the highest of many numbers."""

    def __init__(self) -> None:
        self._all: list[int] = []

    def add(self, values: NDArray[np.uint64]) -> None:
        """Take further numbers."""
        if len(values):
            low, high = int(values.min()), int(values.max())
            self._all = [min(*self._all, low, high), max(*self._all, low, high)]

    def both(self) -> tuple[int, int] | None:
        """Lowest and highest; None without a number."""
        return (self._all[0], self._all[1]) if self._all else None


class _Counter:
    """How often which range occurs.

    Ranges that occur least are forgotten where there are more than `_RANGES_KEPT` different ones.
    """

    def __init__(self) -> None:
        self._start, self._end = np.zeros((2, 0), np.uint64)
        self._number = np.zeros(0, np.int64)

    def add(self, start: NDArray[np.uint64], end: NDArray[np.uint64]) -> None:
        """Take further ranges."""
        start, end = np.concatenate([self._start, start]), np.concatenate([self._end, end])
        number = np.concatenate([self._number, np.ones(len(start) - len(self._start), np.int64)])
        order = np.lexsort((end, start))
        start, end = start[order], end[order]
        new = np.ones(len(order), np.bool_)
        new[1:] = (start[1:] != start[:-1]) | (end[1:] != end[:-1])
        first = np.flatnonzero(new)
        self._start, self._end = start[first], end[first]
        self._number = np.add.reduceat(number[order], first)
        if len(first) > 2 * _RANGES_KEPT:
            kept = self._frequent(_RANGES_KEPT)
            self._start, self._end = self._start[kept], self._end[kept]
            self._number = self._number[kept]

    def most(self) -> tuple[tuple[int, int], ...]:
        """The most frequent ranges, the most frequent first."""
        some = self._frequent(MOST)
        return tuple(zip(self._start[some].tolist(), self._end[some].tolist(), strict=True))

    def _frequent(self, most: int) -> NDArray[np.intp]:
        """Positions of the most frequent ranges; of those as frequent, the lower ones first."""
        return np.lexsort((self._end, self._start, -self._number))[:most]
