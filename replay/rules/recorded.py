"""What a capture recorded of each kind, so that another one beside it is read right.

That nothing of a kind is in a trace means that there was nothing only where it was traced; and
where one of two captures traced it alone, a difference of its figures says nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from replay.rules.evidence import (
    ARENA,
    FLUSHES,
    FUNCTIONS,
    LOCAL,
    POOL,
    SWITCHES,
    TIMES,
    events_of,
    missing,
)
from replay.rules.rule import Case

if TYPE_CHECKING:
    from collections.abc import Collection

    from collectors.snapshot import Snapshot
    from replay.outcome import Outcome
    from replay.trace.losses import Loss

LOWMEM: Final = "lowmem"
PURGES: Final = "purges"
ELSEWHERE: Final = "elsewhere"
"""Why evidence is missing, besides those of :class:`replay.rules.evidence.Missing`."""
_PROBED: Final = {
    FLUSHES: (
        "flush_tlb_kernel_range", "local_flush_tlb_kernel_range", "flush_tlb_all",
        "local_flush_tlb_all",
    ),
    PURGES: ("__purge_vmap_area_lazy", "purge_vmap_area_lazy", "try_purge_vmap_area_lazy"),
    SWITCHES: ("sched_switch", "__kmap_local_sched_out"),
    LOWMEM: ("__kmap_local_page_prot", "kmap_atomic", "kmap_atomic_prot", "__kmap_atomic"),
    "vmap": ("vmap",),
    "vmalloc": ("__vmalloc_node_range", "__vmalloc_node_range_noprof"),
    "vm_map_ram": ("vm_map_ram",),
}  # fmt: skip
"""Functions and tracepoints of which one at least has to be recorded (mm/highmem.c, mm/vmalloc.c).

Of lowmem: kmap_atomic_high_prot() and __kmap_local_pfn_prot() are called of highmem pages alone.
"""
_TRACEPOINTS: Final = frozenset({"sched_switch"})


def recorded(
    outcome: Outcome, snapshot: Snapshot, lost: Loss | None, events: Collection[str]
) -> dict[str, Any]:
    """Key ``evidence`` of the documents.

    Parameters
    ----------
    outcome, snapshot, lost
        Of the captured machine.
    events
        Names of the trace's events: functions and tracepoints.

    Returns
    -------
    dict
        By kind of evidence why it is missing, as of :class:`replay.rules.evidence.Missing`; None:
        it is there. ``functions`` lists what was probed, and what the trace has events of; None:
        no file tells what was probed.
    """
    case = Case(outcome, snapshot, lost, outcome)
    lacking = {one.evidence: one.reason for one in missing((POOL, LOCAL, ARENA, TIMES), case)}
    found: dict[str, Any] = {kind: lacking.get(kind) for kind in (POOL, LOCAL, ARENA, TIMES)}
    for kind in (POOL, LOCAL, ARENA):
        found[kind] = found[kind] or _elsewhere(FUNCTIONS[kind], snapshot, events)
    lossy = "lost" if lost is not None and lost.intervals else None
    seen = {_base(event) for event in events}
    probed = {_base(probe.symbol) for probe in snapshot.probes if "+" not in probe.symbol}
    for kind, functions in _PROBED.items():
        there = (seen | probed).intersection(functions)
        # a tracepoint that was on and never hit is in no list of probes
        is_told = bool(probed) and not _TRACEPOINTS.intersection(functions)
        found[kind] = "untraced" if is_told else "untold"
        if there:
            found[kind] = lossy or _elsewhere(functions, snapshot, events)
    return found | {"functions": sorted(probed | seen - _TRACEPOINTS) if probed else None}


def _elsewhere(
    functions: tuple[str, ...], snapshot: Snapshot, events: Collection[str]
) -> str | None:
    """Whether probes had hits, and the trace has none of them: they were at other times."""
    if any(_base(event) in functions for event in events):
        return None
    hits = [snapshot.probe_hits.get(event) for event in events_of(snapshot, functions)]
    return ELSEWHERE if any(hits) else None


def _base(symbol: str) -> str:
    """Name of a function, without its variant (``.constprop.0``) and `` (return)``."""
    return re.split(r"[+. ]", symbol, maxsplit=1)[0]
