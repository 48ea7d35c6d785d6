"""struct page addresses and page frame numbers.

With FLATMEM (all 32-bit distribution kernels) ``page = mem_map + (pfn - first) * sizeof(struct
page)`` (include/asm-generic/memory_model.h), so two (page, pfn) pairs give the whole map. A
kmap_local of a highmem page shows both: every capture with such calls calibrates itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.compiled import loop
from collectors.records import dataclass
from collectors.table.columns import VALUE_COLUMNS

if TYPE_CHECKING:
    from numpy.typing import NDArray

HAS_PAGE: Final = np.uint32(1 << VALUE_COLUMNS.index("page"))
_HAS_PFN: Final = np.uint32(1 << VALUE_COLUMNS.index("pfn"))
BOTH: Final = HAS_PAGE | _HAS_PFN
"""Bits of a row that has a page, and of one that has its frame, too."""

_SOME = 1 << 12
_HALF = np.uint64(1 << 63)
_MIN_STRUCT = 16
_MAX_STRUCT = 256
_BEYOND = 1 << 48
"""No page address and no frame of a 32-bit machine reaches this; sums below it fit 64 bits."""


@dataclass(frozen=True)
class PageMap:
    """Linear map from struct page to frame: ``pfn = (page - base) / size``.

    Attributes
    ----------
    base
        Address that the struct page of frame 0 has or would have; may be negative.
    size
        sizeof(struct page) in bytes.
    """

    base: int
    size: int

    def fill(
        self, page: NDArray[np.uint64], pfn: NDArray[np.uint64], valid: NDArray[np.uint32]
    ) -> None:
        """Give frames to the rows that have a page only; not to what is no struct page.

        Parameters
        ----------
        page, pfn : ndarray of uint64, shape (n,)
            The latter changed.
        valid : ndarray of uint32, shape (n,)
            Which of both there are (bits of :data:`VALUE_COLUMNS`); changed.
        """
        base = np.uint64(self.base % (1 << 64))
        fill_frames(page, pfn, valid, base, np.uint64(self.size), self.base < 0)

    def holds(self, pairs: NDArray[np.uint64]) -> bool:
        """Whether all pairs (frame, page) lie on the line."""
        base, size = np.uint64(self.base % (1 << 64)), np.uint64(self.size)
        on_line = pairs[:, 0] * size + base == pairs[:, 1]  # modulo 2**64
        return bool((on_line & (pairs < _BEYOND).all(axis=1)).all())


def calibrate(pairs: NDArray[np.uint64]) -> PageMap | None:
    """Learn the map from the trace's own pairs.

    Parameters
    ----------
    pairs : ndarray of uint64, shape (n, 2)
        Different pairs (frame, page), sorted.

    Returns
    -------
    PageMap or None
        None if there are fewer than two frames, or if the pairs do not lie on one line
        (SPARSEMEM, or a trace of more than one machine).
    """
    if len(pairs) < 2:
        return None
    (first, low), (last, high) = pairs[0].tolist(), pairs[-1].tolist()
    span = last - first
    if not span or (high - low) % span:
        return None
    size = (high - low) // span
    if not _MIN_STRUCT <= size <= _MAX_STRUCT:
        return None
    found = PageMap(low - first * size, size)
    return found if found.holds(pairs) else None


class Frames:
    """Fills the table's frame numbers by what the trace has shown so far.

    Parameters
    ----------
    told
        Map by the machine's own account; it counts where the trace shows no pair at all.
    """

    def __init__(self, told: PageMap | None = None) -> None:
        self._told = told
        self._pairs = np.zeros((0, 2), np.uint64)  # those that made the line, or do not
        self._line: PageMap | None = None
        self._broken = False
        self._forced: tuple[PageMap | None] | None = None
        self._used: set[PageMap | None] = set()

    @property
    def best(self) -> PageMap | None:
        """The map, as far as is known."""
        if self._broken or len(self._pairs):
            return self._line
        return self._told

    @property
    def changed(self) -> bool:
        """Whether rows were filled by another map than the one that is best now."""
        return bool(self._used - {self.best})

    @property
    def undecided(self) -> bool:
        """Whether the pairs so far make neither a map nor a contradiction."""
        return self._line is None and not self._broken

    def use(self, page_map: PageMap | None) -> None:
        """Fill by this map, whatever the pairs say meanwhile."""
        self._forced = (page_map,)

    def learn(self, pfn: NDArray[np.uint64], page: NDArray[np.uint64]) -> None:
        """Take pairs that the trace shows."""
        pairs = np.stack([pfn, page], axis=1)
        while len(pairs) and self.undecided:
            some, pairs = pairs[:_SOME], pairs[_SOME:]
            self._pairs = np.unique(np.concatenate([self._pairs, some]), axis=0)
            self._line = calibrate(self._pairs)
            self._broken = self._line is None and len(self._pairs) > 1
        if self._line is not None and not self._line.holds(pairs):
            self._line, self._broken = None, True

    def fill(
        self, page: NDArray[np.uint64], pfn: NDArray[np.uint64], valid: NDArray[np.uint32]
    ) -> None:
        """Give frames to the rows that have a page only, as :meth:`PageMap.fill`."""
        if not (valid & BOTH == HAS_PAGE).any():
            return
        page_map = self._forced[0] if self._forced else self.best
        self._used.add(page_map)
        if page_map is not None:
            page_map.fill(page, pfn, valid)


@loop
def fill_frames(
    page: NDArray[np.uint64],
    pfn: NDArray[np.uint64],
    valid: NDArray[np.uint32],
    base: np.uint64,
    size: np.uint64,
    below: bool,  # noqa: FBT001
) -> None:
    """Work frame numbers out (:meth:`PageMap.fill`); `below`: the base is negative."""
    for row in range(page.shape[0]):
        if valid[row] & BOTH != HAS_PAGE or page[row] >= _HALF:
            continue
        offset = page[row] - base
        number = offset // size
        # below the base: where that is negative, no address is
        is_above = offset < _HALF if below else page[row] >= base
        if is_above and number * size == offset:
            pfn[row] = number
            valid[row] |= _HAS_PFN
