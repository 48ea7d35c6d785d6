"""Lazy purges of the arena: how often they flush, and how much."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from replay.cost.causes import Cause
from replay.outcome import Finding
from replay.rules import evidence
from replay.rules.rule import FindingRule, Limit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from replay.outcome import StackCount
    from replay.rules.rule import Case

PER_S: Final = 10.0
"""Flushes of all CPUs a second from which they show up in latency traces."""
_ALIASES: Final = re.compile(r"_?vm_unmap_aliases\b")
_OF_PURGE: Final = ("area_purge", "flush_range")
HULL_PAGES: Final = 10_000
"""Pages of one flush that no set of areas in the arena alone accounts for."""


class PurgeStorm(NamedTuple):
    """Purges that flushed, a second, the pages freed, and those invalidated for it.

    `trigger` made most of them, `caller` is who called most of those of vm_unmap_aliases(), by the
    stacks of the trace ("": no stack tells); `ipis` is what they sent.
    """

    flushes: int
    per_s: float
    trigger: str
    pages: int
    hull_pages: int
    ipis: int
    caller: str = ""


def caller_of_aliases(stacks: Iterable[StackCount]) -> str:
    """The function that called vm_unmap_aliases() most often for a purge; "": no stack tells.

    Examples
    --------
    >>> from replay.outcome import StackCount
    >>> stack = "_vm_unmap_aliases+0x13c<-change_page_attr_set_clr+0x94<-set_memory_ro+0x20"
    >>> caller_of_aliases([StackCount("area_purge", stack, 16)])
    'change_page_attr_set_clr+0x94'
    """
    callers: Counter[str] = Counter()
    for one in stacks:
        frames = [frame.strip() for frame in one.stack.split("<-")] if one.op in _OF_PURGE else []
        inside = [n for n, frame in enumerate(frames) if _ALIASES.match(frame)]
        if inside and inside[-1] + 1 < len(frames):
            callers[frames[inside[-1] + 1]] += one.count
    return callers.most_common(1)[0][0] if callers else ""


def _purge_storm(case: Case) -> Iterator[Finding]:
    """mm/vmalloc.c: __purge_vmap_area_lazy flushes on every CPU, under vmap_purge_lock."""
    observed = case.outcome.observed
    purges = () if observed is None else case.outcome.purges
    flushes = sum(purge.flushes or purge.found for purge in purges)
    rate = case.per_second(flushes)
    if rate is None or rate < STORM.limit_in(case) or flushes < PER_S:
        return
    most = max(purges, key=lambda purge: purge.found)
    found = PurgeStorm(
        flushes,
        rate,
        most.trigger,
        sum(purge.pages for purge in purges),
        sum(purge.hull_pages for purge in purges),
        sum(purge.ipis for purge in purges),
        caller_of_aliases(() if observed is None else observed.stacks),
    )
    yield Finding("purge-storm", "warning", found, flushes, most.longest)


class PurgeHull(NamedTuple):
    """Ranged flushes, the largest and all, in pages; `share`: of the estimated cost."""

    largest: int
    flushes: int
    pages: int
    share: float | None


def _purge_hull(case: Case) -> Iterator[Finding]:
    """A lazy purge flushes the hull of all freed areas, however sparse.

    ARM has no ceiling (arch/arm/kernel/smp_tlb.c), and its modules lie below PAGE_OFFSET: a
    module's area and a stack in the arena make a hull over the whole direct mapping.
    """
    tlb, layout = case.outcome.tlb, case.outcome.layout
    if layout.flush_ceiling_pages is not None or tlb.range_pages_max < HULL.limit_in(case):
        return
    cost = case.outcome.cost.by_cause.get(Cause.PURGE)
    found = PurgeHull(
        tlb.range_pages_max, tlb.range, tlb.range_pages, cost["share"] if cost else None
    )
    yield Finding("purge-hull", "warning", found, tlb.range, tlb.largest)


STORM: Final = FindingRule(
    "purge-storm", ("warning",),
    "The arena was purged so often that its flushes of every CPU show up as latency.",
    "keep areas instead of making them anew; fewer module loads and BPF programs; where "
    "allocations fail, a larger vmalloc=",
    _purge_storm, (evidence.FLUSHES, evidence.PURGES, evidence.TIMES),
    Limit(PER_S, "flushes a second"),
)  # fmt: skip
HULL: Final = FindingRule(
    "purge-hull", ("warning",),
    "A lazy purge flushed everything between two far areas page by page, for its kernel never "
    "makes a full flush of it.",
    "load and unload fewer modules and BPF programs; a split without highmem makes hulls across "
    "RAM even larger",
    _purge_hull, (evidence.FLUSHES,), Limit(HULL_PAGES, "pages of one flush"),
)  # fmt: skip
