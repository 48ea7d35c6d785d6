"""What the trace's own addresses show: facts for captures that come without the machine's files.

Observations only; what they say about the machine is worked out in
:mod:`replay.machine.from_addresses`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from collectors.compiled import loop, piece
from collectors.events import OP_CODE
from collectors.facts.model import Fact
from collectors.probes import base_name
from collectors.table.masks import bit_of, has_value, mask_of, read_only

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
_ERRORS: Final = np.uint64(0xFFFF_F000)
"""Addresses from here on are error codes (include/linux/err.h)."""
_WIDE: Final = np.uint64(1 << 32)
_WIDE_ERRORS: Final = np.uint64((1 << 64) - 4096)
"""The same of a 64-bit kernel, whose addresses lie from `_WIDE` on."""
_HIGHEST: Final = np.uint64((1 << 64) - 1)
_CPUS: Final = 1 << 16
_WIDE_COLUMNS: Final = ("vaddr", "start", "end")
_LOOKED_AT: Final = (*_WIDE_COLUMNS, "pfn")
_VADDR, _START, _END, _PFN = range(4)
_POOL, _DIRECT, _PFNS = range(3)
_NOTHING: Final = np.zeros(0, np.uint64)
_KMAP_CODE, _KMAP_LOCAL_CODE = OP_CODE["kmap"], OP_CODE["kmap_local"]
_AREA_ALLOC, _VMALLOC, _FLUSH_RANGE = (
    OP_CODE[name] for name in ("area_alloc", "vmalloc", "flush_range")
)


class Seen:
    """Which addresses occur in a trace, gathered piece by piece.

    Facts: seen_pool (lowest and highest address that kmap() returned), seen_local (tuple of
    (CPU, highest address that kmap_local returned there)), seen_ranges (tuple of (start, end)
    that areas were asked from), seen_flushes (tuple of (start, end) of flushes), seen_pfns
    (lowest and highest frame that was mapped), seen_direct ((pfn, address) of the lowest frame
    that kmap_local answered without a mapping, if there is one), seen_atomic (True where the
    kernel has kmap_atomic() of its own), seen_kmap_local (True where it has kmap_local), seen_wide
    (an address of more than 32 bits, where most have as many), seen_cpus (one more than the highest
    number of a CPU), seen_unsure and seen_found (numbers
    of allocations, :class:`collectors.table.areas.Verdicts`).
    """

    def __init__(self) -> None:
        self._found = new_bounds()
        self._local, self._wide_local = np.zeros((2, _CPUS), np.uint64)
        self._wide: int | None = None
        self._narrow_more = 0
        self._cpus = 0
        self._ranges = {name: _Counter() for name in _RANGES}

    def add(self, part: Part) -> None:
        """Take further rows of the event table."""
        op, cpu = part.columns["op"].values, part.columns["cpu"].values
        assert op is not None  # is never null
        assert cpu is not None
        self._cpus = max(self._cpus, int(cpu.max(initial=0)) + 1)
        asked = [part.columns[name] for name in _LOOKED_AT]
        values = tuple(read_only(_NOTHING if c.values is None else c.values) for c in asked)
        wide = np.full(len(_WIDE_COLUMNS), _HIGHEST)
        rows = np.empty(part.rows, np.int64)
        narrow_more, number = look_at(
            read_only(op),
            read_only(cpu),
            values,
            tuple(mask_of(made) for made in asked),
            np.array([bit_of(made) for made in asked], np.int64),
            self._found,
            self._local,
            self._wide_local,
            wide,
            rows,
        )
        self._narrow_more += narrow_more
        if self._wide is None:
            self._wide = next((value for value in wide.tolist() if value < int(_HIGHEST)), None)
        start, end = asked[_START].values, asked[_END].values
        if not number or start is None or end is None:
            return
        ranges = rows[:number]
        for name, ops in _RANGES.items():
            of_name = ranges[np.isin(op[ranges], [OP_CODE[each] for each in ops])]
            if len(of_name):
                self._ranges[name].add(start[of_name], end[of_name])

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
            "seen_pool": self._both(_POOL),
            "seen_local": _by_cpu(self._wide_local if wide else self._local),
            "seen_wide": wide,
            "seen_cpus": self._cpus if self._cpus > 1 else None,
            "seen_direct": (self._both(_DIRECT) or ())[::-1],
            **{name: counter.most() for name, counter in self._ranges.items()},
            "seen_pfns": self._both(_PFNS),
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

    def _both(self, which: int) -> tuple[int, int] | None:
        """A pair of bounds; None where there is none."""
        low, high = self._found[2 * which : 2 * which + 2].tolist()
        return None if (low, high) == (int(_HIGHEST), 0) else (low, high)


def new_bounds() -> NDArray[np.uint64]:
    """Bounds of nothing, as :func:`look_at` takes them."""
    return np.array([_HIGHEST, 0] * 3, np.uint64)


def _by_cpu(highest: NDArray[np.uint64]) -> tuple[tuple[int, int], ...]:
    """Highest address on each CPU that has one."""
    cpus = np.flatnonzero(highest)
    return tuple(zip(cpus.tolist(), highest[cpus].tolist(), strict=True))


@loop
def look_at(
    op: NDArray[np.uint8],
    cpu: NDArray[np.uint16],
    values: tuple[NDArray[np.uint64], ...],
    masks: tuple[NDArray[np.uint32], ...],
    bits: NDArray[np.int64],
    found: NDArray[np.uint64],
    local: NDArray[np.uint64],
    wide_local: NDArray[np.uint64],
    wide: NDArray[np.uint64],
    ranges: NDArray[np.int64],
) -> tuple[int, int]:
    """Look at the addresses of some rows.

    Parameters
    ----------
    op, cpu : ndarray of uint8, uint16, shape (n,)
    values, masks, bits : four ndarrays each, and ndarray of int64, shape (4,)
        Of the columns vaddr, start, end and pfn (:mod:`collectors.table.masks`).
    found : ndarray of uint64, shape (6,)
        Changed: lowest and highest address of kmap(); lowest address of kmap_local, and its lowest
        frame; lowest and highest frame.
    local, wide_local : ndarray of uint64, shape (CPUs,)
        Changed: highest address of kmap_local, up to 32 bits and beyond.
    wide : ndarray of uint64, shape (3,)
        Changed: lowest address beyond 32 bits in vaddr, start and end.
    ranges : ndarray of int64, shape (n,)
        Filled with the rows whose start and end are a range of :data:`_RANGES`.

    Returns
    -------
    narrow_more, number : int
        How many more addresses have up to 32 bits than have more; how many rows have a range.
    """
    narrow_more, number = 0, 0
    vaddr, start, end, pfn = values
    of_vaddr, of_start, of_end, of_pfn = masks
    for row in range(op.shape[0]):
        code = op[row]
        is_local = code == _KMAP_LOCAL_CODE
        is_mapped = is_local or code == _KMAP_CODE
        has_frame = is_mapped and has_value(of_pfn, bits[_PFN], row)
        if has_frame:
            found[4], found[5] = min(found[4], pfn[row]), max(found[5], pfn[row])
        if has_value(of_vaddr, bits[_VADDR], row):
            address = vaddr[row]
            narrow_more += width_of(address, wide, _VADDR)
            if is_local and _WIDE <= address < _WIDE_ERRORS:
                wide_local[cpu[row]] = max(wide_local[cpu[row]], address)
            if is_mapped and 0 < address < _ERRORS:
                if is_local:
                    local[cpu[row]] = max(local[cpu[row]], address)
                    if has_frame and (
                        address < found[2] or (address == found[2] and pfn[row] < found[3])
                    ):
                        found[2], found[3] = address, pfn[row]
                else:
                    found[0], found[1] = min(found[0], address), max(found[1], address)
        has_start = has_value(of_start, bits[_START], row)
        if has_start:
            narrow_more += width_of(start[row], wide, _START)
        if has_value(of_end, bits[_END], row):
            narrow_more += width_of(end[row], wide, _END)
            is_range = code in (_AREA_ALLOC, _VMALLOC, _FLUSH_RANGE)
            if has_start and is_range and start[row] < end[row]:
                ranges[number] = row
                number += 1
    return narrow_more, number


@piece
def width_of(address: np.uint64, wide: NDArray[np.uint64], column: int) -> int:
    """1 for an address of up to 32 bits, -1 for one of more, which is noted; 0 for none."""
    if address == 0 or address >= _WIDE_ERRORS:
        return 0
    if address < _WIDE:
        return 1
    wide[column] = min(wide[column], address)
    return -1


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
