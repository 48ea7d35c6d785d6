"""What the trace's own addresses show: facts for captures that come without the machine's files.

Observations only; what they say about the machine is worked out in :mod:`replay.seen`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from collectors.facts.model import Fact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MOST: Final = 16
"""Distinct ranges that are kept, the most frequent first."""

_ERRORS: Final = 0xFFFF_F000
"""Addresses from here on are error codes (include/linux/err.h)."""


def seen(
    events: pl.DataFrame, source: str, raw_events: Mapping[str, int] | None = None
) -> dict[str, Fact]:
    """Write down which addresses occur in a trace.

    Facts: seen_pool (lowest and highest address that kmap() returned), seen_local (tuple of
    (CPU, highest address that kmap_local returned there)), seen_ranges (tuple of (start, end)
    that areas were asked from), seen_flushes (tuple of (start, end) of flushes), seen_pfns
    (lowest and highest frame that was mapped), seen_direct ((pfn, address) of the lowest frame
    that kmap_local answered without a mapping, if there is one), seen_atomic (True where the
    kernel has kmap_atomic() of its own).

    Parameters
    ----------
    events
        Event table.
    source
        Name of the trace, for the facts' sources.
    raw_events
        ``Capture.raw_events``: number of events by function.

    Returns
    -------
    dict
        Fact name to fact, for ``Facts.with_facts``; nothing for what does not occur.
    """
    facts = {name: Fact(value, source, "addresses in the trace") for name, value in _facts(events)}
    if any(name.split(" ")[0].startswith("kmap_atomic") for name in raw_events or ()):
        facts["seen_atomic"] = Fact(value=True, source=source, detail="kmap_atomic_high_prot")
    return facts


def _facts(events: pl.DataFrame) -> Iterator[tuple[str, Any]]:
    op, vaddr = pl.col("op").cast(pl.String), pl.col("vaddr")
    mapped = events.filter(vaddr.is_not_null() & vaddr.is_between(1, _ERRORS - 1))
    pool = mapped.filter(op == "kmap").select(low=vaddr.min(), high=vaddr.max()).row(0)
    if pool[0] is not None:
        yield "seen_pool", pool
    local = (
        mapped.filter((op == "kmap_local") & pl.col("cpu").is_not_null())
        .group_by("cpu")
        .agg(vaddr.max())
        .sort("cpu")
        .rows()
    )
    if local:
        yield "seen_local", tuple(local)
        # the lowest address of all: a lowmem page, unless only highmem was mapped
        lowest = (
            mapped.filter((op == "kmap_local") & pl.col("pfn").is_not_null())
            .select("pfn", "vaddr")
            .bottom_k(1, by="vaddr")
            .rows()
        )
        if lowest:
            yield "seen_direct", lowest[0]
    for name, ops in (
        ("seen_ranges", ["area_alloc", "vmalloc"]),
        ("seen_flushes", ["flush_range"]),
    ):
        ranges = (
            events.filter(op.is_in(ops) & (pl.col("start") < pl.col("end")))
            .group_by("start", "end")
            .len()
            .sort("len", "start", descending=[True, False])
            .head(MOST)
            .select("start", "end")
            .rows()
        )
        if ranges:
            yield name, tuple(ranges)
    high = events.filter(op.is_in(["kmap", "kmap_local"]) & pl.col("pfn").is_not_null())
    low_pfn, high_pfn = high.select(low=pl.col("pfn").min(), high=pl.col("pfn").max()).row(0)
    if low_pfn is not None:
        yield "seen_pfns", (low_pfn, high_pfn)
