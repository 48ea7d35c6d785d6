"""Who holds areas: before the trace began, by /proc/vmallocinfo, and since."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from replay.outcome import Holder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from collectors.snapshot import Snapshot

MOST: Final = 32
"""Holders that an outcome names."""
_PLACE: Final = re.compile(r"\+0x[0-9a-f]+(/0x[0-9a-f]+)?( \[.*)?$")


def function_in(place: str) -> str:
    """The function of a call site.

    Examples
    --------
    >>> function_in("load_module+0x3b2/0x19d0")
    'load_module'
    """
    return _PLACE.sub("", place)


def at_start(values: Snapshot, start: int, end: int) -> list[tuple[int, int, str]]:
    """Areas that /proc/vmallocinfo had between two addresses: first, end, and who asked for it."""
    return [
        (area.start, area.end, function_in(area.caller) or f"({area.kind})")
        for area in values.areas
        if start <= area.start < area.end <= end
    ]


def holders(held: Iterable[tuple[str, int]]) -> tuple[Holder, ...]:
    """Functions that asked for areas, the most address space first.

    Parameters
    ----------
    held
        Of each area who asked for it, and bytes.

    Returns
    -------
    tuple of Holder
        At most :data:`MOST`.
    """
    areas: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for name, size in held:
        areas[name] += 1
        sizes[name] += size
    ranked = sorted(sizes, key=lambda name: (-sizes[name], name))
    return tuple(Holder(name, areas[name], sizes[name]) for name in ranked[:MOST])
