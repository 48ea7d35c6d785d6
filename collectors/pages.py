"""struct page addresses and page frame numbers.

With FLATMEM (all 32-bit distribution kernels) ``page = mem_map + (pfn - first) * sizeof(struct
page)`` (include/asm-generic/memory_model.h), so two (page, pfn) pairs give the whole map. A
kmap_local of a highmem page shows both: every capture with such calls calibrates itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

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

    def pfn(self, page: pl.Expr) -> pl.Expr:
        """Frame of each page address; null for what is no struct page."""
        offset = page.cast(pl.Int64, strict=False) - self.base
        return pl.when((offset >= 0) & (offset % self.size == 0)).then(
            (offset // self.size).cast(pl.UInt64)
        )


def calibrate(pairs: pl.DataFrame) -> PageMap | None:
    """Learn the map from the trace's own pairs.

    Parameters
    ----------
    pairs
        Columns `page` and `pfn`, without nulls.

    Returns
    -------
    PageMap or None
        None if there are fewer than two frames, or if the pairs do not lie on one line
        (SPARSEMEM, or a trace of more than one machine).
    """
    unique = pairs.unique().sort("pfn")
    if unique.height < 2 or (unique.max_horizontal() >= _BEYOND).any():
        return None
    pfn = unique.get_column("pfn").to_numpy().astype(np.int64)
    page = unique.get_column("page").to_numpy().astype(np.int64)
    span = int(pfn[-1] - pfn[0])
    if not span or (page[-1] - page[0]) % span:
        return None
    size = int(page[-1] - page[0]) // span
    base = int(page[0] - pfn[0] * size)
    if not _MIN_STRUCT <= size <= _MAX_STRUCT or not np.array_equal(base + pfn * size, page):
        return None
    return PageMap(base, size)


def fill_frames(frame: pl.DataFrame, page_map: PageMap | None = None) -> pl.DataFrame:
    """Fill column `pfn` from `page` where it is null.

    Parameters
    ----------
    frame
        Event table.
    page_map
        Known map; the trace's own pairs, where there are any, go before it.
    """
    pairs = frame.lazy().select("page", "pfn").drop_nulls().collect()
    learned = calibrate(pairs)
    best = learned or (page_map if pairs.is_empty() else None)
    if best is None:
        return frame
    return frame.with_columns(pl.coalesce("pfn", best.pfn(pl.col("page"))).alias("pfn"))
