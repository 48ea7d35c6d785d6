"""Where the pool lies, and what is known of it before a trace is replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from collectors.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from replay.pool.loops.highmem import Pool


@dataclass(frozen=True)
class PoolWindow:
    """Where the pool lies: first address, number of slots, bytes per slot, colours.

    Slots count by address outside the compiled loops, and lane after lane inside them, where a
    colour's slots stand together.
    """

    base: int
    slots: int
    page_size: int = 4096
    colours: int = 1

    @property
    def end(self) -> int:
        """Address behind the last slot."""
        return self.base + self.slots * self.page_size

    def inside(self, slot: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number inside the loops of slots by address; negative ones stay."""
        lanes = slot % self.colours * (self.slots // self.colours) + slot // self.colours
        return np.where(slot >= 0, lanes, slot)

    def by_address(self, slot: NDArray[np.int64]) -> NDArray[np.int64]:
        """The reverse of :meth:`inside`."""
        length = max(self.slots // self.colours, 1)
        return np.where(slot >= 0, slot % length * self.colours + slot // length, slot)

    def pool(self, pages: int = 0, colour: NDArray[np.int64] | None = None) -> Pool:
        """An empty pool for pages of these colours."""
        from replay.pool.loops.highmem import new_pool

        if colour is None:
            colour = np.zeros(pages, np.int64)
        return new_pool(self.slots, pages, self.colours, colour)

    def pool_of(
        self,
        state: PoolState | None,
        number: Mapping[int, int],
        pages: int,
        colour: NDArray[np.int64],
    ) -> Pool:
        """The recorder's snapshot as a pool over page numbers; empty without one.

        Parameters
        ----------
        state
            Snapshot.
        number
            Page number of its frames, as far as they have one.
        pages, colour
            How many pages have numbers, and the colour of each.
        """
        from replay.pool.loops.highmem import LAST, place

        pool = self.pool(pages, colour)
        if state is None:
            return pool
        for slot, count, pfn in state.slots:
            if 0 <= slot < self.slots and count > 0:
                here = int(self.inside(np.array([slot], np.int64))[0])
                place(pool, number.get(pfn, -1), here, count)
        if self.colours == 1:  # with colours the recorder's last_pkmap_nr is only one of them
            pool.reg[LAST] = min(max(state.last, 0), self.slots - 1)
        return pool


@dataclass(frozen=True)
class PoolState:
    """State of the pool at one moment, as the recorder's snapshot has it.

    Attributes
    ----------
    last
        last_pkmap_nr.
    slots
        (slot, pkmap_count, page frame number or -1) of every slot that is not free.
    seq
        Position in the trace at which it was taken (0: before the first event).
    """

    last: int
    slots: tuple[tuple[int, int, int], ...] = ()
    seq: int = 0


@dataclass(frozen=True)
class PoolFacts:
    """Facts of a whole trace.

    Attributes
    ----------
    start
        Time of the earliest call on the pool, ns of the trace clock; 0 without any.
    passes_traced
        Whether flush_all_zero_pkmaps() was probed, as far as the trace shows.
    flushes_traced
        Whether a TLB flush of the whole window shows: then flushes without one freed nothing.
    gets_traced
        Whether kmap_high_get() was. Else kmap_local() shows what it found.
    pages
        Frame number to address of struct page, of the snapshot's frames that the trace maps.
    """

    start: int = 0
    passes_traced: bool = False
    flushes_traced: bool = False
    gets_traced: bool = False
    pages: Mapping[int, int] = field(default_factory=dict)
