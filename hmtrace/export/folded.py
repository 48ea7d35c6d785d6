"""Call sites as folded stacks: what flamegraph.pl, inferno and speedscope read.

A line is a stack, outermost frame first and frames apart by semicolons, a blank and a whole number.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from hmtrace.report.callsites import NAMELESS, api_and_user, module_of
from hmtrace.report.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hmtrace.report.callsites import CallSites
    from replay.whatif.callers import SiteUse

COUNT: Final = "count"
HOLD: Final = "hold"
COST: Final = "cost"
MEASURES: Final = {
    COUNT: "calls",
    HOLD: "ns that mappings were held, all together",
    COST: "ns that they cost, flushes and purges shared out",
}
"""What a stack may be counted by, in words."""
_OFFSET: Final = re.compile(r"/0x[0-9a-f]+")


def folded(captures: Iterable[tuple[str, CallSites]], measure: str) -> str:
    """Text of the stacks.

    Parameters
    ----------
    captures
        Name and call sites of each capture; a name that is not empty is the outermost frame.
    measure
        A key of :data:`MEASURES`. What comes to nothing is left out.
    """
    sums: dict[str, int] = {}
    for name, found in captures:
        for use in found.callers.uses:
            value = _value(use, measure)
            if value > 0:
                stack = ";".join(map(frame, _frames(name, use, found)))
                sums[stack] = sums.get(stack, 0) + value
    return "".join(f"{stack} {value}\n" for stack, value in sorted(sums.items()))


def _value(use: SiteUse, measure: str) -> int:
    if measure == COUNT:
        return use.site.count
    return round(use.cost_ns if measure == COST else use.total_hold_ns or 0)


def _frames(name: str, use: SiteUse, found: CallSites) -> Iterator[str]:
    """Frames of a site from the outermost: capture, module, functions, and what is called."""
    if name:
        yield name
    place = found.places[use.site.site]
    yield module_of(place)
    api, user = api_and_user(use, place.frames)
    if user is None:
        text = found.text_of(use).split(" [")[0]
        yield _OFFSET.sub("", text) if text and not text.startswith("(") else NAMELESS
    else:
        callers = list(place.frames)[list(place.frames).index(user) :]
        for one in reversed(callers):
            yield f"{one.function} ({one.file}:{one.line})" if one.file else one.function
    yield api


def frame(text: str) -> str:
    r"""A frame: foreign, without what would end it.

    Examples
    --------
    >>> frame("evil;a\n7")
    'evil:a\\x0a7'
    """
    return clean(text).replace(";", ":") or "?"
