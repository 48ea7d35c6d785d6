"""Which of a workload's pages are highmem on another machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.machine.layout import Layout


class Placed(NamedTuple):
    """What maps highmem there.

    Attributes
    ----------
    high : ndarray of bool, shape (pages + 1,)
        Of each page whether kmap() of it needs a slot; the last stands for calls of unknown pages,
        which need none where there is no highmem.
    local : ndarray of bool, shape (pages + 1,)
        The same for kmap_local().
    lows : ndarray of bool, shape (lows,)
        Of each frame that was mapped without a slot whether kmap_local() needs one there.
    spilled
        Pages that were highmem and find no room there.
    beyond
        Frames that lie behind the end of RAM there, where pages keep their frames.
    """

    high: NDArray[np.bool_]
    local: NDArray[np.bool_]
    lows: NDArray[np.bool_]
    spilled: int
    beyond: int

    def of_local(self, numbers: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Which calls of kmap_local() need a slot (:class:`replay.whatif.pages.PageNumbers`)."""
        needed = self.local[np.maximum(numbers, -1)]
        low = numbers < -1
        needed[low] = self.lows[-2 - numbers[low]]
        return needed


def place(
    keys: NDArray[np.int64],
    lows: NDArray[np.int64],
    layout: Layout,
    placement: str,
    room: int,
) -> Placed:
    """Decide of every page whether it is highmem on the other machine.

    Parameters
    ----------
    keys : ndarray of int64
        Of the pages, in the order of their first use: the frame, or below zero where that is not
        known.
    lows : ndarray of int64
        Frames that were mapped without a slot, -1 unknown.
    layout
        Address map of the other machine.
    placement
        As for :func:`replay.whatif.run.what_if`.
    room
        Pages that ZONE_HIGHMEM gives out before its low watermark.
    """
    spilled = beyond = 0
    some = layout.max_pfn > layout.lowmem_end_pfn
    if placement == "same-pfn":
        high = np.where(keys >= 0, _is_high(keys, layout), some)
        low = _is_high(lows, layout)
        touched = np.concatenate([keys, lows])
        beyond = np.unique(touched[touched >= layout.max_pfn]).size
    else:
        room = max(room, 0)
        high = np.arange(keys.size) < room
        low = np.zeros(lows.size, bool)
        spilled = max(keys.size - room, 0)
    high = np.append(high, some)
    if layout.kmap_force_map:
        return Placed(high, np.ones_like(high), np.ones_like(low), spilled, beyond)
    return Placed(high, high, low, spilled, beyond)


def _is_high(frame: NDArray[np.int64], layout: Layout) -> NDArray[np.bool_]:
    return np.asarray((frame >= layout.lowmem_end_pfn) & (frame < layout.max_pfn), bool)
