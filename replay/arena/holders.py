"""Who held the arena before the trace began, by /proc/vmallocinfo."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from replay.outcome import Holder

if TYPE_CHECKING:
    from collectors.snapshot import Snapshot
    from replay.machine.layout import Layout

MOST: Final = 32
"""Holders that an outcome names."""
_PLACE: Final = re.compile(r"\+0x[0-9a-f]+(/0x[0-9a-f]+)?")


def holders(values: Snapshot, layout: Layout) -> tuple[Holder, ...]:
    """Functions that asked for the areas in use at the start, the most address space first.

    Parameters
    ----------
    values
        Facts; ``areas`` are those of vmallocinfo.start.
    layout
        For the arena's bounds.

    Returns
    -------
    tuple of Holder
        At most :data:`MOST`.
    """
    areas: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for area in values.areas:
        if layout.vmalloc_start <= area.start < area.end <= layout.vmalloc_end:
            name = _PLACE.sub("", area.caller) or f"({area.kind})"
            areas[name] += 1
            sizes[name] += area.end - area.start
    ranked = sorted(sizes, key=lambda name: (-sizes[name], name))
    return tuple(Holder(name, areas[name], sizes[name]) for name in ranked[:MOST])
