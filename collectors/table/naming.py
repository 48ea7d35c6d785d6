"""Names of tasks, call sites and stack traces for the event table, by their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from collectors.table.distinct import ValueNumbers
from collectors.table.part import Column, column
from collectors.traceevent.stacks import caller_in, caller_of, is_wrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

EARLIER: Final = np.uint32(1 << 31)
"""Mark of a number that an earlier pass over the trace gave."""

_MOST_CALLERS: Final = 1 << 16
"""Addresses of callers whose names are kept: a kernel has some hundreds that map."""


class Symboliser(Protocol):
    """What turns return addresses into call sites (:class:`collectors.symbols.table.Symbols`)."""

    def lookup_many(self, addresses: NDArray[np.uint64]) -> list[str]:
        """Symbol with offset of each address, "" where there is none."""
        ...


class NameTable:
    """Names by number, and the call sites of bare addresses. Number 0 has no name.

    Parameters
    ----------
    symbols
        Called when the first address of a call site has to be named.

    Attributes
    ----------
    sites, stacks
        Those of this pass over the trace, as far as they are known.
    earlier, earlier_stacks
        Those of the pass before.
    """

    def __init__(self, symbols: Callable[[], Symboliser | None]) -> None:
        self._comms: Sequence[str] = ("",)
        self.sites: Sequence[str] = ("",)
        self.earlier: Sequence[str] = ("",)
        self.stacks: Sequence[str] = ("",)
        self.earlier_stacks: Sequence[str] = ("",)
        self._find_symbols = symbols
        self._symbols: Symboliser | None = None
        self._asked = False
        self._numbering = ValueNumbers()
        self._callers: dict[int, str] = {}
        self._tops: dict[str, str] = {}

    def take(self, comms: Sequence[str], sites: Sequence[str], stacks: Sequence[str]) -> None:
        """Take the tables of a piece."""
        if len(comms) > len(self._comms):
            self._comms = tuple(comms)
        if len(sites) > len(self.sites):
            self.sites = tuple(sites)
        if len(stacks) > len(self.stacks):
            self.stacks = tuple(stacks)

    def comm(self, numbers: NDArray[np.uint32]) -> Column:
        """Task names."""
        return _named(numbers.copy(), self._comms)

    def stack(self, numbers: NDArray[np.uint32]) -> Column:
        """Stack traces."""
        if not self._has_stacks:
            return Column()
        return _named(*_together(numbers, self.stacks, self.earlier_stacks))

    @property
    def _has_stacks(self) -> bool:
        return len(self.stacks) > 1 or len(self.earlier_stacks) > 1

    def site(
        self,
        numbers: NDArray[np.uint32],
        caller: Column,
        stacks: NDArray[np.uint32],
        inner: NDArray[np.uint32],
    ) -> Column:
        """Call sites: as the trace has them, else of the caller's address, else of the stack.

        A site in a function that maps for others (``vmalloc+0x5f``) is looked through where a stack
        tells who called that: of the event (`stacks`), or of one inside the call (`inner`).
        """
        found, names = _together(numbers, self.sites, self.earlier)
        unnamed = found == 0
        if caller.values is not None:
            has = caller.has(len(found))
            names = self._of_callers(found, names, caller.values, unnamed & has)
            unnamed &= ~has
        if self._has_stacks:
            names = self._by_stacks(found, names, stacks, inner, unnamed)
        return _named(found, names)

    def _by_stacks(
        self,
        found: NDArray[np.uint32],
        names: Sequence[str],
        stacks: NDArray[np.uint32],
        inner: NDArray[np.uint32],
        unnamed: NDArray[np.bool_],
    ) -> Sequence[str]:
        """Name what is `unnamed` by its stack, and look through what maps for others."""
        traced, texts = _together(stacks, self.stacks, self.earlier_stacks)
        names = self._of_stacks(found, names, traced, texts, unnamed & (traced != 0))
        if traced.any():
            names = self._outside(found, names, traced, texts, _outer)
        within, texts = _together(inner, self.stacks, self.earlier_stacks)
        if within.any():
            names = self._outside(found, names, within, texts, caller_of)
        return names

    def _outside(
        self,
        found: NDArray[np.uint32],
        names: Sequence[str],
        stacks: NDArray[np.uint32],
        texts: Sequence[str],
        ask: Callable[[str, str], str | None],
    ) -> Sequence[str]:
        """Look through sites that are in functions that map for others, where `ask` tells whose."""
        through = np.array([bool(name) and is_wrapper(name) for name in names], np.bool_)
        wanted = through[found] & (stacks != 0)
        if not wanted.any():
            return names
        pairs = (found.astype(np.uint64) << np.uint64(32)) | stacks
        keys, codes = self._different(pairs, wanted)
        outer = [ask(names[key >> 32], texts[key & 0xFFFF_FFFF]) or "" for key in keys]
        seen = np.array([False, *map(bool, outer)]).take(codes)
        found[seen] = 0
        return _added(found, names, np.where(seen, codes, 0), outer)

    def _of_callers(
        self,
        found: NDArray[np.uint32],
        names: Sequence[str],
        callers: NDArray[np.uint64],
        wanted: NDArray[np.bool_],
    ) -> Sequence[str]:
        """Name the callers of the rows that are `wanted`; the names, with those that are new."""
        if not wanted.any():
            return names
        if not self._asked:
            self._symbols, self._asked = self._find_symbols(), True
        if self._symbols is None:
            return names
        addresses, codes = self._different(callers, wanted)
        new = np.array([a for a in addresses if a not in self._callers], np.uint64)
        if len(self._callers) > _MOST_CALLERS:
            self._callers.clear()
            new = np.array(addresses, np.uint64)
        if len(new):
            self._callers |= zip(new.tolist(), self._symbols.lookup_many(new), strict=True)
        return _added(found, names, codes, [self._callers[a] for a in addresses])

    def _of_stacks(
        self,
        found: NDArray[np.uint32],
        names: Sequence[str],
        stacks: NDArray[np.uint32],
        texts: Sequence[str],
        wanted: NDArray[np.bool_],
    ) -> Sequence[str]:
        """Name the rows that are `wanted` by who calls in their stack traces."""
        if not wanted.any():
            return names
        numbers, codes = self._different(stacks.astype(np.uint64), wanted)
        tops = []
        for text in (texts[number] for number in numbers):
            if text not in self._tops:
                self._tops[text] = caller_in(text) or ""
            tops.append(self._tops[text])
        return _added(found, names, codes, tops)

    def _different(
        self, values: NDArray[np.uint64], wanted: NDArray[np.bool_]
    ) -> tuple[list[int], NDArray[np.int32]]:
        keys, codes = self._numbering.of(values.view(np.int64), wanted)
        return keys.view(np.uint64).tolist(), codes


def _outer(site: str, stack: str) -> str | None:
    """Who called the function of a site, by the stack of the site's own event.

    One made by frame pointers does not show who called the function that was just entered.
    """
    return caller_of(site, stack) or caller_in(stack)


def _added(
    found: NDArray[np.uint32], names: Sequence[str], codes: NDArray[np.int32], new: list[str]
) -> Sequence[str]:
    """Put further names behind those that there are, "" is none; `codes` counts them from 1."""
    numbers = [len(names) + n if name else 0 for n, name in enumerate(new)]
    found += np.array([0, *numbers], np.uint32).take(codes)
    return [*names, *new]


def _together(
    numbers: NDArray[np.uint32], names: Sequence[str], earlier: Sequence[str]
) -> tuple[NDArray[np.uint32], Sequence[str]]:
    """Numbers into one table, also those of an earlier pass, which have a mark; a copy."""
    if len(earlier) <= 1:  # there was none, or it met no names
        return numbers.copy(), names
    marked = numbers >= EARLIER
    if not marked.any():
        return numbers.copy(), names
    old = numbers & ~EARLIER
    old[old != 0] += np.uint32(len(names))
    return np.where(marked, old, numbers), [*names, *earlier]


def _named(numbers: NDArray[np.uint32], names: Sequence[str]) -> Column:
    return column(numbers, numbers != 0, names)
