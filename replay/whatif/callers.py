"""Call sites of a workload: how they use their mappings, and what kmap_local_page() would change.

Times are counted in bins, depths and switches from what is kept of each local mapping, window by
window, so memory grows with the call sites alone. Of kmap() it is followed who unmaps what, as if
it were kmap_local_page() (:mod:`replay.whatif.convert`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from collectors.records import dataclass
from replay.cost.causes import Cause
from replay.sites.loops import APIS
from replay.sites.tally import sites_of
from replay.times import bins_of, quantile
from replay.whatif.turns import knows_holders

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from replay.outcome import Outcome, Site
    from replay.sites.loops import Counts
    from replay.whatif.convert import Conversion, ConvertedSite
    from replay.whatif.run import Server
    from replay.whatif.workload import Workload

ALL: Final = "kmap=kmap_local"
MOST_ALONE: Final = 8
"""Sites of kmap() that are converted alone, each by a replay of its own, most calls first."""
_OF_KMAP: Final = (Cause.KMAP, Cause.EVERY_KMAP, Cause.KUNMAP, Cause.WRAP, Cause.SLEEPS)
_OF_LOCAL: Final = (Cause.LOCAL, Cause.LOCAL_UNMAP, Cause.LOWMEM)
_OF_SWITCHES: Final = (Cause.SWITCHES,)
_OF_ARENA: Final = (Cause.AREAS,)
_OF_PURGES: Final = (Cause.PURGE,)
"""Causes of :mod:`replay.cost.account` by whose calls they are shared out."""


_NOT_ASKED: Final = "conversions were not asked for"


class HoldTimes(NamedTuple):
    """How long mappings are held, ns: within 2.2 %, the longest exactly."""

    median: float
    p99: float
    longest: int


class Exchange(NamedTuple):
    """What a conversion changes: figures before and after.

    `flushes` are those of the pool; `ranged` all ranged ones of every CPU's TLB: those of the pool
    where it is flushed so, and of each kmap() where the kernel flushes at it
    (:mod:`replay.cost.account`).
    """

    flushes: tuple[int, int]
    ranged: tuple[int, int]
    ipis: tuple[int, int]
    single: tuple[int, int]
    depth: tuple[int, int]
    waits: tuple[int, int]


@dataclass(frozen=True)
class SiteUse:
    """How a call site uses its mappings.

    Attributes
    ----------
    site
        Site, operation, calls, tasks, bytes.
    held
        None: no mapping of it is known to have ended.
    depth
        Local mappings that its task had at once, at most, its own among them; None: not a local
        one, or none took a slot.
    over_switch
        Mappings held over a context switch (a local one as often as it was); None: not known.
    other_task, out_of_order
        Mappings that another task unmapped (of local ones: and their own never), and that were not
        the newest of their task when unmapped. None: not known.
    slept
        Of kmap(): mappings that were held while their task slept. None: not known, or no kmap().
    in_interrupt
        Share of the calls that an interrupt made; None: the trace has no flags.
    held_at_end
        None: not known.
    total_hold_ns
        For how long its mappings were held, all together; None: as `held`.
    cost_ns
        Share of the estimated cost: by calls, of purges by bytes, of switches by mappings held.
    conversion, exchange
        Of kmap() as kmap_local_page(): how the site keeps to its rules, and what changes where
        this site alone is converted. None: not asked.
    """

    site: Site
    held: HoldTimes | None
    depth: int | None
    over_switch: int | None
    other_task: int | None = None
    out_of_order: int | None = None
    slept: int | None = None
    in_interrupt: float | None = None
    held_at_end: int | None = None
    total_hold_ns: float | None = None
    cost_ns: float = 0.0
    conversion: ConvertedSite | None = None
    exchange: Exchange | None = None


class Callers(NamedTuple):
    """The call sites of a workload.

    Attributes
    ----------
    uses
        Most calls first.
    exchange
        What changes where every kmap() is converted; None: there is none, or it is not known.
    why_not
        Why conversions are not known; empty: they are.
    sees_switches
        Whether the trace shows context switches.
    limit
        Local mappings that a task may have.
    """

    uses: tuple[SiteUse, ...]
    exchange: Exchange | None
    why_not: str
    sees_switches: bool
    limit: int


def callers_of(
    server: Server,
    workload: Workload,
    converted: Callable[[str], tuple[Outcome, Conversion]] | None,
    *,
    lossy: bool,
) -> Callers:
    """Describe the call sites.

    Parameters
    ----------
    server
        Serves the workload on its own machine.
    workload
        The workload.
    converted
        Replays a conversion (:func:`replay.machine.options.conversion_of`), and says what it means;
        None: nobody asks for conversions.
    lossy
        Whether the trace lost events: what is held at its end is not known then.
    """
    baseline = server.baseline
    counts, names = workload.site_counts(), workload.site_names
    times, local = _times(workload), _local_use(workload)
    numbers = {name: number for number, name in enumerate(names)}
    limit = baseline.layout.km_usable_depth
    why_not = _NOT_ASKED if converted is None else _why_not(workload, baseline)
    by_site: dict[str, tuple[ConvertedSite, Exchange | None]] = {}
    total = None
    if converted is not None and not why_not:
        outcome, meaning = converted(ALL)
        total = _exchange(baseline, outcome, meaning.sites)
        by_site = {site.site: (site, None) for site in meaning.sites if site.site}
        for site in [s.site for s in meaning.sites if s.site][:MOST_ALONE]:
            if len(by_site) == 1:
                by_site[site] = (by_site[site][0], total)
                break
            alone, of_one = converted(f"{ALL}@{site}")
            mine = next((s for s in of_one.sites if s.site == site), None)
            if mine is not None:
                by_site[site] = (mine, _exchange(baseline, alone, of_one.sites))
    uses = []
    for row in sites_of(counts, names):
        key = numbers[row.site] * len(APIS) + APIS.index(row.op)
        use = SiteUse(
            row, times.get(key), None, None, in_interrupt=_share_of(counts, key),
            total_hold_ns=float(counts.total[key]) if counts.held[key] else None,
        )  # fmt: skip
        if row.op == "kmap_local":
            use = _as_local(use, local, key, lossy=lossy)
            if "kunmap_local" in workload.found.ops:
                use = replace(
                    use,
                    out_of_order=int(counts.misordered[key]),
                    other_task=int(counts.handed[key]),
                )
        elif row.op == "kmap" and row.site in by_site:
            use = _as_kmap(use, *by_site[row.site], lossy=lossy)
        uses.append(use)
    shares = _shares(uses, baseline)
    told = tuple(replace(use, cost_ns=ns) for use, ns in zip(uses, shares, strict=True))
    return Callers(told, total, why_not, "switch" in workload.found.ops, limit)


def _share_of(counts: Counts, key: int) -> float | None:
    """Share of a key's calls that interrupts made, of those whose context is known."""
    known = int(counts.flagged[key])
    return int(counts.interrupted[key]) / known if known else None


def _why_not(workload: Workload, baseline: Outcome) -> str:
    """Why a conversion cannot be judged; empty: it can."""
    if not workload.found.ops.get("kmap"):
        return "the trace has no call of kmap()"
    if not knows_holders(workload.found):
        return "the trace has no call of kunmap(): who unmaps, and when, is not known"
    if baseline.layout.kmap_per_cpu:
        return "this kernel has no kmap_local_page(), which came with 5.11"
    return ""


def _as_kmap(
    use: SiteUse, site: ConvertedSite, exchange: Exchange | None, *, lossy: bool
) -> SiteUse:
    """With what is known of who unmaps."""
    return replace(
        use,
        over_switch=site.switched,
        other_task=site.handed,
        out_of_order=site.misordered,
        slept=site.slept,
        held_at_end=None if lossy else site.at_end,
        conversion=site,
        exchange=exchange,
    )


def _exchange(before: Outcome, after: Outcome, sites: Sequence[ConvertedSite]) -> Exchange:
    deepest = max((site.max_depth for site in sites), default=0)
    return Exchange(
        (before.pool.flushes, after.pool.flushes),
        (before.tlb.range, after.tlb.range),
        (before.tlb.ipis, after.tlb.ipis),
        (before.tlb.single, after.tlb.single),
        (before.local.max_depth, max(before.local.max_depth, deepest)),
        (before.pool.waits, after.pool.waits),
    )


# Times ------------------------------------------------------------------------------------------


def _times(workload: Workload) -> dict[int, HoldTimes]:
    """How long the mappings of each key are held."""
    codes = np.zeros(0, np.int64)
    many = np.zeros(0, np.int64)
    longest: dict[int, int] = {}
    for stretch in workload.stretches():
        key = stretch.holds.get_column("key").to_numpy().astype(np.int64)
        hold = stretch.holds.get_column("hold").to_numpy()
        known = (key >= 0) & (hold >= 0)
        key, hold = key[known], hold[known]
        if not key.size:
            continue
        order = np.lexsort((hold, key))
        last = np.append(np.flatnonzero(np.diff(key[order])), key.size - 1)
        for of, most in zip(key[order][last].tolist(), hold[order][last].tolist(), strict=True):
            longest[of] = max(longest.get(of, 0), most)
        new, n = np.unique((key << 16) | bins_of(hold), return_counts=True)
        codes, place = np.unique(np.concatenate([codes, new]), return_inverse=True)
        many = np.bincount(place, np.concatenate([many, n]), codes.size).astype(np.int64)
    found: dict[int, HoldTimes] = {}
    keys = codes >> 16
    for of, most in longest.items():
        here = keys == of
        median, p99 = (quantile(codes[here] & 0xFFFF, many[here], s, most) for s in (0.5, 0.99))
        found[of] = HoldTimes(median, p99, most)
    return found


# Local mappings ---------------------------------------------------------------------------------


class _LocalUse(NamedTuple):
    """By key: mappings that took a slot, that ended, the deepest, and those held at switches.

    `unknown`: of some that ended the site is not known.
    """

    made: NDArray[np.int64]
    ended: NDArray[np.int64]
    deepest: NDArray[np.int64]
    switched: NDArray[np.int64]
    unknown: bool


def _local_use(workload: Workload) -> _LocalUse:
    """What became of local mappings, by key."""
    keys = len(workload.site_names) * len(APIS)
    made, ended, switched = np.zeros((3, keys), np.int64)
    deepest = np.full(keys, -1, np.int64)
    unknown = False
    for stretch in workload.stretches():
        held = stretch.held
        is_map = held.get_column("is_map").to_numpy()
        key = held.get_column("key").to_numpy()
        mine = is_map & (key >= 0)
        made += np.bincount(key[mine], minlength=keys)[:keys]
        np.maximum.at(deepest, key[mine], held.get_column("depth").to_numpy()[mine])
        # the mappings that lie below an element stand one element's behind the other's
        number = held.get_column("below").to_numpy().astype(np.int64)
        at_switch = np.repeat(~is_map, number)
        below = stretch.below.get_column("key").to_numpy()[: at_switch.size]
        there = below[at_switch[: below.size]]
        switched += np.bincount(there[there >= 0], minlength=keys)[:keys]
        over = stretch.holds.filter("is_local").get_column("key").to_numpy()
        unknown |= bool((over < 0).any())
        ended += np.bincount(over[over >= 0], minlength=keys)[:keys]
    return _LocalUse(made, ended, deepest, switched, unknown)


def _as_local(use: SiteUse, local: _LocalUse, key: int, *, lossy: bool) -> SiteUse:
    if not local.made[key]:
        return use
    left = int(local.made[key] - local.ended[key])
    return replace(
        use,
        depth=int(local.deepest[key]) + 1,
        over_switch=int(local.switched[key]),
        held_at_end=None if lossy or local.unknown or left < 0 else left,
    )


# Cost -------------------------------------------------------------------------------------------


def _shares(uses: Sequence[SiteUse], baseline: Outcome) -> list[float]:
    """Estimated cost of each site's calls."""
    causes = baseline.cost.by_cause
    is_arena = [use.site.op in ("vmap", "vm_map_ram", "vmalloc") for use in uses]
    calls = [float(use.site.count) for use in uses]
    told: list[tuple[tuple[str, ...], list[float]]] = [
        (_OF_KMAP, [n * (u.site.op == "kmap") for n, u in zip(calls, uses, strict=True)]),
        (_OF_LOCAL, [n * (u.site.op == "kmap_local") for n, u in zip(calls, uses, strict=True)]),
        (_OF_SWITCHES, [float((u.site.op == "kmap_local") * (u.over_switch or 0)) for u in uses]),
        (_OF_ARENA, [n * here for n, here in zip(calls, is_arena, strict=True)]),
        (_OF_PURGES, [float((u.site.bytes or 0) * h) for u, h in zip(uses, is_arena, strict=True)]),
    ]
    found = np.zeros(len(uses))
    for names, weights in told:
        ns, whole = _sum_of(causes, names), sum(weights)
        if whole:
            found += np.array(weights) * (ns / whole)
    return [float(ns) for ns in found]


def _sum_of(causes: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> float:
    return sum(causes[name]["ns"] for name in names if name in causes)
