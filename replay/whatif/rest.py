"""Local mappings and call sites of a workload on another machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from replay.local.tally import LocalTally
from replay.sites.tally import sites_of

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from replay.outcome import Site
    from replay.sites.loops import Counts
    from replay.whatif.convert import ConvertedCalls
    from replay.whatif.placement import Placed
    from replay.whatif.workload import Stretch, Workload

_BY_PAGES = ("vmap", "vm_map_ram")
"""Calls that ask for pages, not for bytes."""


class RestThere:
    """Counts what is left of a workload's local mappings and of its sites on another machine.

    Parameters
    ----------
    workload
        The workload.
    placed
        Which pages are highmem there.
    cpus
        Of the other machine.
    converted
        Calls of kmap() that are local mappings there.
    lowered : ndarray of bool, shape (keys,)
        Call sites that map nothing there; None: all do.

    Attributes
    ----------
    local
        Local mappings.
    """

    def __init__(
        self,
        workload: Workload,
        placed: Placed,
        cpus: int,
        converted: ConvertedCalls | None = None,
        lowered: NDArray[np.bool_] | None = None,
    ) -> None:
        own = workload.figures.local
        self.local = LocalTally(lowmem=own.lowmem, reused=own.reused, unmaps=own.unmaps)
        keys = workload.column("pages", "key")
        if placed.local[:-1][keys == -1].all():
            self.local.unknown = own.unknown
        self._placed = placed
        self._cpus = cpus
        self._converted = converted
        self._lowered = None if lowered is None else np.append(lowered, np.False_)
        self._window = 0
        self._names = workload.site_names
        self._counts = _without_maps(workload)
        self._keys_here = self._member_keys = workload.column("members", "key")
        if converted is not None:
            self._members, more = converted.members()
            self._member_keys = np.concatenate([self._member_keys, more])
            self.local.unmaps += int(placed.local[converted.ended_pages].sum())
            self.local.reused -= converted.turned_reuses
            if not converted.outcome.sees_switches:
                self.local.switches += converted.outcome.away
                self.local.saved += converted.outcome.away
        self._calls = np.zeros(self._member_keys.size, np.int64)

    def feed(self, stretch: Stretch) -> None:
        """Count a window."""
        from replay.sites.loops import count_holds

        member, page, is_local = _columns(stretch.calls, "member", "page", "is_local")
        needed = self._needed(page, is_local)
        low = is_local & (page < -1)
        if self._lowered is not None:
            gone = self._lowered[np.append(self._keys_here, np.int32(-1))[member]]
            needed &= ~gone
            self.local.lowmem -= int((low & gone).sum())
        if self._converted is not None:
            member = np.append(self._members, np.int32(-1))[member]
        made = np.bincount(member[needed & (member >= 0)], minlength=self._calls.size)
        self._calls += made
        turned = int((needed & low).sum())
        key, page, hold, is_local = _columns(stretch.holds, "key", "page", "hold", "is_local")
        needed = self._needed(page, is_local)
        self._drop_lowered(needed, key)
        if self._converted is not None:
            key = self._converted.keys(key)
        count_holds(self._counts, np.where(needed, key, np.int32(-1)), hold)
        self.local.turned += turned
        self.local.unmaps += turned - int((is_local & ~needed).sum())
        self.local.lowmem -= turned
        self._feed_held(stretch)
        self._window += 1

    def _needed(self, page: NDArray[np.int32], is_local: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which calls need a slot there."""
        if not is_local.any():
            return self._placed.high[page]
        needed = self._placed.of_local(page)
        of_pool = ~is_local
        needed[of_pool] = self._placed.high[page[of_pool]]
        return needed

    def _drop_lowered(self, some: NDArray[np.bool_], key: NDArray[np.int32]) -> None:
        """Take away what is no mapping there."""
        if self._lowered is not None:
            some &= ~self._lowered[key]

    def _feed_held(self, stretch: Stretch) -> None:
        held, under = stretch.held, stretch.below
        if self._converted is not None:
            held, under = self._converted.held(stretch, self._window)
        page, depth, cpu, below, is_map, key = _columns(
            held, "page", "depth", "cpu", "below", "is_map", "key"
        )
        under_page, under_key = _columns(under, "page", "key")
        is_there = self._placed.local[under_page]
        self._drop_lowered(is_there, under_key)
        gone = ~is_there
        stop = np.cumsum(below, dtype=np.int64)
        upto = np.append(0, np.cumsum(gone))
        depth = (depth - (upto[stop] - upto[stop - below])).astype(np.int32)
        needed = is_map & self._placed.local[page]
        lowmem = is_map & ~needed
        if self._converted is not None:
            lowmem &= key >= 0  # kmap() of lowmem costs no less, and is counted nowhere
        self._drop_lowered(needed, key)
        self._drop_lowered(lowmem, key)
        # what a switch found held may be of a mapping that the trace does not show
        switches = depth[~is_map] if self._placed.local[-1] else depth[:0]
        self.local.add(depth[needed], cpu[needed] % self._cpus, switches[switches > 0])
        self.local.lowmem += int(lowmem.sum())

    def sites(self, page_sizes: tuple[int, int]) -> tuple[Site, ...]:
        """The sites; `page_sizes` are the bytes of a page here and there."""
        from replay.sites.loops import APIS

        counts, keys = self._counts, self._member_keys
        np.add.at(counts.calls, keys, self._calls)
        np.add.at(counts.tasks, keys, self._calls > 0)
        here, there = page_sizes
        if here != there:
            by_pages = np.isin(np.arange(counts.calls.size) % len(APIS), _numbers(_BY_PAGES))
            counts.asked[by_pages] *= there / here
        return sites_of(counts, self._names)


def _without_maps(workload: Workload) -> Counts:
    """What was counted by call site, without the calls of which there may be fewer."""
    from replay.sites.loops import APIS

    counts = workload.site_counts()
    maps = np.isin(np.arange(counts.calls.size) % len(APIS), _numbers(("kmap", "kmap_local")))
    for figures in (counts.calls, counts.tasks, counts.held, counts.total, counts.longest):
        figures[maps] = 0
    return counts


def _numbers(apis: tuple[str, ...]) -> list[int]:
    from replay.sites.loops import APIS

    return [APIS.index(api) for api in apis]


def _columns(table: pl.DataFrame, *names: str) -> tuple[NDArray[Any], ...]:
    return tuple(table.get_column(name).to_numpy() for name in names)
