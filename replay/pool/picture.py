"""What lies around the first divergence in the pool: some of its slots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from collectors.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from replay.pool.lock_order import Piece
    from replay.pool.loops.highmem import Pool
    from replay.pool.replay import PoolAt
    from replay.pool.window import PoolWindow

AROUND: Final = 3
"""Slots on each side of a place of interest."""


@dataclass(frozen=True)
class PoolView:
    """The model's pool just before a call was served; slots as inside the loops.

    Attributes
    ----------
    counts : ndarray of int64
        pkmap_count of each slot.
    page : ndarray of uint64
        Page of each slot, 0 where there is none or it is not known.
    cursor, model, kernel
        Slots: the cursor of the page's colour, and what the model and the kernel chose; negative
        ones are none.
    used, stale
        Numbers of slots.
    """

    counts: NDArray[np.int64]
    page: NDArray[np.uint64]
    cursor: int
    model: int
    kernel: int
    used: int
    stale: int

    def marks(self, window: PoolWindow) -> dict[int, list[str]]:
        """What is remarkable of which slot, by address."""
        places = {"cursor": self.cursor, "model": self.model, "kernel": self.kernel}
        marks: dict[int, list[str]] = {}
        for mark, inside in places.items():
            if inside >= 0:
                slot = int(window.by_address(np.array([inside], np.int64))[0])
                marks.setdefault(slot, []).append(mark)
        return marks

    def slots(self, window: PoolWindow) -> list[int]:
        """Slots around those that are remarkable, by address."""
        near = {
            slot
            for centre in self.marks(window)
            for slot in range(centre - AROUND, centre + AROUND + 1)
            if 0 <= slot < window.slots
        }
        return sorted(near)

    def pages(self, window: PoolWindow) -> list[int]:
        """Pages that these slots map."""
        inside = window.inside(np.array(self.slots(window), np.int64))
        return [int(page) for page in self.page[inside] if page]

    def picture(self, window: PoolWindow, frames: Mapping[int, int]) -> dict[str, Any]:
        """The slots as a document.

        Parameters
        ----------
        window
            The pool.
        frames
            Page to its frame number, as far as that is known.

        Returns
        -------
        dict
            ``kind`` "pool"; ``last`` (the cursor of the page's colour), ``used``, ``stale``,
            ``free`` (numbers of slots), ``rows``: slot, address, pkmap_count, frame (None unknown)
            and ``marks`` of "cursor", "model" and "kernel", by slot.
        """
        marks, rows = self.marks(window), []
        for slot in self.slots(window):
            inside = int(window.inside(np.array([slot], np.int64))[0])
            rows.append(
                {
                    "slot": slot,
                    "address": window.base + slot * window.page_size,
                    "count": int(self.counts[inside]),
                    "pfn": frames.get(int(self.page[inside])),
                    "marks": marks.get(slot, []),
                }
            )
        return {
            "kind": "pool",
            "last": int(window.by_address(np.array([self.cursor], np.int64))[0]),
            "used": self.used,
            "stale": self.stale,
            "free": window.slots - self.used - self.stale,
            "rows": rows,
        }


def views_of(before: PoolAt, piece: Piece, calls: Sequence[int]) -> list[PoolView]:
    """Run a piece once more, up to where some of its calls were served last.

    Parameters
    ----------
    before
        The pool before the piece.
    piece
        The piece, replayed.
    calls
        Indices of calls that it serves.

    Returns
    -------
    list of PoolView
        One per call.
    """
    from replay.pool.loops import sequence as kernel

    pool = before.over(piece)
    stops = {call: int(np.flatnonzero(piece.call == call)[-1]) for call in calls}
    gauges = kernel.new_gauges(pool.counts.size, 0, 0, 0)
    views: dict[int, PoolView] = {}
    start = 0
    for call, stop in sorted(stops.items(), key=lambda item: item[1]):
        result, scanned, freed = (np.zeros(stop - start, np.int32) for _ in range(3))
        kernel.run(
            pool, piece.snapshot, piece.operations[start:stop], piece.time[start:stop],
            result, scanned, freed, gauges,
        )  # fmt: skip
        views[call] = _view(pool, piece, call)
        start = stop
    return [views[call] for call in calls]


def _view(pool: Pool, piece: Piece, call: int) -> PoolView:
    from replay.pool.loops.highmem import LAST, STALE, USED

    calls = piece.calls
    page = np.zeros(pool.page.size, np.uint64)
    mapped = pool.page >= 0
    page[mapped] = piece.pages.keys()[pool.page[mapped]]
    number = int(calls["number"][call])
    colour = int(pool.colour[number]) if pool.colour.size else 0
    return PoolView(
        counts=pool.counts.copy(),
        page=page,
        cursor=int(pool.reg[LAST + colour]),
        model=int(calls["predicted"][call]),
        kernel=int(calls["seen"][call]),
        used=int(pool.reg[USED]),
        stale=int(pool.reg[STALE]),
    )
