"""Calls that probes passed over."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from replay.machine.generations import GENERATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from collectors.snapshot import Snapshot
    from replay.rules.rule import Case


FEW_MISSED: Final = 0.001
"""Share of a function's calls that is missed without a figure being wrong for it."""
_RETURN: Final = re.compile(r"(_ret|_return|_exit)$")
_FAULTING: Final = "alloc_vmap_area"


class Missed(NamedTuple):
    """Calls of one function that its probes did not record.

    Attributes
    ----------
    function
        Symbol, or the event's name where it is not known.
    absent
        Calls of which there is no event: the probe was hit while another one's handler ran.
    unreturned
        Calls whose return was not recorded, for want of an instance of the return probe.
    hits
        Calls that were recorded.
    instances
        Instances that the return probe has (``maxactive``); None: the kernel's default.
    """

    function: str
    absent: int
    unreturned: int
    hits: int
    instances: int | None


def missed_calls(case: Case) -> tuple[Missed, ...]:
    """Calls that probes missed, but for those that failed allocations explain."""
    missed = {name: number for name, number in case.snapshot.probe_misses.items() if number > 0}
    failures = case.captured.arena.failures
    generation = GENERATIONS.get(case.captured.machine.generation)
    faults = 2 * failures if generation is not None and generation.fetch_faults_are_misses else 0
    return _missed(missed, case.snapshot, faults)


def _missed(missed: Mapping[str, int], snapshot: Snapshot, faults: int) -> tuple[Missed, ...]:
    """Calls that were missed, by function; `faults`: misses that are none, of one probe."""
    by_event = {probe.event: probe for probe in snapshot.probes}
    probed = {(p.symbol, p.is_return) for p in snapshot.probes}
    counts: dict[str, list[int]] = {}  # function to misses at entry and at return
    hits: Counter[str] = Counter()
    instances: dict[str, int | None] = {}
    for event, number in missed.items():
        probe = by_event.get(event)
        function = _RETURN.sub("", event) if probe is None else probe.symbol
        at_return = bool(_RETURN.search(event)) if probe is None else probe.is_return
        left = number - faults if at_return and function.startswith(_FAULTING) else number
        counts.setdefault(function, [0, 0])[at_return] += max(left, 0)
        hits[function] = max(hits[function], snapshot.probe_hits.get(event, 0))
        if at_return:
            instances[function] = None if probe is None else probe.maxactive
    found = []
    for function, (entries, returns) in counts.items():
        has_entry = (function, False) in probed or entries > 0 or function not in instances
        absent = entries if has_entry else 0
        unreturned = max(returns - absent, 0)
        if absent + unreturned:
            one = Missed(function, absent, unreturned, hits[function], instances.get(function))
            found.append(one)
    return tuple(sorted(found, key=lambda m: (-m.absent - m.unreturned, m.function)))
