"""Evidence that rules need, and why a capture may lack it.

A rule that finds nothing says that there is nothing only where all that it looks at was recorded;
else it says that it does not know.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from replay.cost.causes import Cause
from replay.rules.misses import FEW_MISSED, missed_calls

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from collectors.snapshot import Snapshot
    from replay.rules.rule import Case

POOL: Final = "pool"
LOCAL: Final = "local"
ARENA: Final = "arena"
CALLERS: Final = "callers"
FAILURES: Final = "failures"
FLUSHES: Final = "flushes"
FULL_FLUSHES: Final = "full_flushes"
PURGES: Final = "purges"
TIMES: Final = "times"
RETURNS: Final = "returns"
SWITCHES: Final = "switches"
AREAS: Final = "areas"
ZONES: Final = "zones"
STALLS: Final = "stalls"
LOG: Final = "log"

FUNCTIONS: Final = {
    POOL: ("kmap_high", "kunmap_high"),
    LOCAL: (
        "__kmap_local_page_prot",
        "__kmap_local_pfn_prot",
        "kunmap_local_indexed",
        "kmap_atomic_high_prot",
        "kmap_atomic_prot",
        "kmap_atomic",
        "kmap_atomic_prot_pfn",
        "kmap_atomic_pfn",
        "kunmap_atomic_high",
        "__kunmap_atomic",
    ),
    CALLERS: ("vmap", "__vmalloc_node_range", "__vmalloc_node_range_noprof"),
    ARENA: ("alloc_vmap_area", "vmap", "__vmalloc_node_range", "vm_map_ram"),
    FLUSHES: ("flush_tlb_kernel_range", "local_flush_tlb_kernel_range"),
    FULL_FLUSHES: ("flush_tlb_all", "local_flush_tlb_all"),
    PURGES: ("__purge_vmap_area_lazy",),
}
"""Functions whose probes record a kind of call, of all kernels."""


class Missing(NamedTuple):
    """Evidence that is not there.

    Attributes
    ----------
    evidence
        One of the constants.
    reason
        ``untraced``: no probe was set; ``untold``: no call is in the trace, and no file tells
        whether any was probed; ``pageless``: calls without their pages; ``lost``: tracing lost
        events; ``missed``: probes passed over calls; ``contradicted``: mappings are nested deeper
        than a kernel lets them; ``counter``: the clock is no time; ``unreturned``: no returns were
        traced; ``file``: no file of the machine tells.
    """

    evidence: str
    reason: str


def missing(needs: Iterable[str], case: Case) -> Iterator[Missing]:
    """Evidence among `needs` that a case lacks.

    Yields
    ------
    Missing
        One of each, the weightiest reason.
    """
    for need in needs:
        reason = _why(need, case)
        if reason is not None:
            yield Missing(need, reason)


def _why(need: str, case: Case) -> str | None:
    """Why evidence is missing; None: it is there."""
    outcome, snapshot = case.captured, case.snapshot
    if need in FUNCTIONS:
        return _why_no_calls(need, case)
    lowmem = outcome.lowmem
    lacks = {
        TIMES: (not case.has_times, "counter"),
        RETURNS: (outcome.observed is None or not outcome.observed.durations, "unreturned"),
        FAILURES: (outcome.arena.untold > FEW_MISSED * max(outcome.arena.allocs, 1), "unreturned"),
        SWITCHES: (bool(case.lost and case.lost.intervals), "lost"),
        AREAS: (outcome.arena.peak_used is None, "file"),
        ZONES: (lowmem is None or not any(zone.low for zone in lowmem.zones), "file"),
        STALLS: (lowmem is None or lowmem.stalls is None, "file"),
        LOG: (snapshot.ooms is None, "file"),
    }
    is_missing, reason = lacks[need]
    return reason if is_missing else None


def _why_no_calls(need: str, case: Case) -> str | None:
    outcome, snapshot = case.captured, case.snapshot
    pool, local, arena = outcome.pool, outcome.local, outcome.arena
    seen = {
        POOL: pool.maps + pool.unmaps,
        LOCAL: local.maps + local.lowmem + local.reused + local.unmaps,
        CALLERS: sum(site.count for site in outcome.sites if site.op in ("vmap", "vmalloc")),
        ARENA: arena.allocs + arena.failures,
        FLUSHES: outcome.tlb.range + outcome.tlb.full,
        FULL_FLUSHES: outcome.cost.count_of(Cause.FULL),
        PURGES: sum(purge.count for purge in outcome.purges),
    }
    if need == POOL and not outcome.layout.highmem_bytes and not pool.maps:
        return None  # kmap_high() is called of highmem alone
    if not seen[need] and (reason := _why_untraced(snapshot, FUNCTIONS[need])):
        return reason
    if need == POOL and pool.pages_unknown:
        return "pageless"
    if need == LOCAL and is_contradicted(case):
        return "contradicted"
    if case.lost is not None and case.lost.intervals:
        return "lost"
    return "missed" if is_missed(need, case) else None


def _why_untraced(snapshot: Snapshot, functions: tuple[str, ...]) -> str | None:
    """Whether probes were set on any of these functions."""
    if not snapshot.probes:
        return "untold"
    return None if events_of(snapshot, functions) else "untraced"


def events_of(snapshot: Snapshot, functions: tuple[str, ...]) -> list[str]:
    """Events of probes on functions, of whichever variant of them."""
    return [p.event for p in snapshot.probes if _function(p.symbol) in functions]


def is_contradicted(case: Case) -> bool:
    """Whether local mappings are nested deeper than fits: the kernel would have had a BUG().

    Then unmaps are missing, or the machine is another one than is told, with slots elsewhere.
    """
    local = case.outcome.local
    return not case.is_whatif and 0 < local.limit < local.max_depth


def is_missed(need: str, case: Case) -> bool:
    """Whether probes passed over more than a few calls of a kind: what is left may contradict."""
    return any(
        _function(m.function) in FUNCTIONS[need] and m.absent + m.unreturned > FEW_MISSED * m.hits
        for m in missed_calls(case)
    )


def _function(symbol: str) -> str:
    """Name of a probed function, without its variant (``.constprop.0``) and offset."""
    return re.split(r"[+.]", symbol, maxsplit=1)[0]
