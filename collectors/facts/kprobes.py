"""What was probed and what the probes missed: kprobe_events, kprobe_profile."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from collectors.snapshot import Probe

if TYPE_CHECKING:
    from collectors.facts.model import Sheet

_EVENT = re.compile(r"^([pr])(\d{0,9})(?::(?:(\w+)/)?(\w+))?\s+(\S+)(.*)$")
_PROFILE = re.compile(r"^\s*(\S+)\s+(\d{1,19})\s+(\d{1,19})\s*$")


def parse_events(text: str, sheet: Sheet) -> None:
    """Write down the probe definitions. Fact: probes (tuple of :class:`Probe`)."""
    probes = []
    for line in text.split("\n"):
        match = _EVENT.match(line)
        if match is None:
            continue
        kind, active, group, event, symbol, rest = match.groups()
        probes.append(
            Probe(
                kind == "r",
                group or "kprobes",
                event or symbol,
                symbol,
                tuple(rest.split()),
                int(active) if active else None,
            )
        )
    if probes:
        sheet.add("probes", tuple(probes), detail=f"{len(probes)} probes")


def parse_profile(text: str, sheet: Sheet) -> None:
    """Write down hits and misses.

    Facts: probe_hits, probe_misses (event name to number). A miss is a call that the probe
    did not record because another probe ran on that CPU or every kretprobe instance was in
    use. Kernels up to 5.10 count a faulting fetch argument there as well, twice per event.
    """
    hits: dict[str, int] = {}
    misses: dict[str, int] = {}
    for line in text.split("\n"):
        match = _PROFILE.match(line)
        if match is not None:
            hits[match[1]] = int(match[2])
            if int(match[3]):
                misses[match[1]] = int(match[3])
    if hits:
        sheet.add("probe_hits", hits, detail=f"{sum(hits.values())} hits")
        sheet.add("probe_misses", misses, detail=f"{sum(misses.values())} misses")
