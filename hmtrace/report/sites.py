"""Top call sites."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from hmtrace.report.parts import Elided, heading, indented, plain_table
from hmtrace.report.text import clean, count, duration, share, symbol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from replay.outcome import Site

SHOWN = 10


def sites_section(sites: Sequence[Site]) -> Iterator[RenderableType]:
    """The sites that map most, most first.

    Parameters
    ----------
    sites
        In any order.

    Yields
    ------
    RenderableType
        Heading and one row per site, at most :data:`SHOWN`.
    """
    if not sites:
        yield heading("Call sites")
        yield indented(Text("the trace has no call sites (record $retip or return probes)"))
        return
    ranked = sorted(sites, key=lambda s: (-s.count, s.site, s.op))
    aside = f"{SHOWN} of {len(sites)}" if len(sites) > SHOWN else ""
    yield heading("Call sites", aside)
    held = any(site.hold_ns_max is not None for site in ranked[:SHOWN])
    table = plain_table(
        ("site", "left"),
        ("op", "left"),
        ("count", "right"),
        ("share", "right"),
        ("tasks", "right"),
        *((("held mean", "right"), ("longest", "right")) if held else ()),
        expand_first=True,
    )
    for site in ranked[:SHOWN]:
        times = (duration(site.hold_ns_mean), duration(site.hold_ns_max)) if held else ()
        table.add_row(
            site_name(symbol(site.site) or "?"),
            Text(clean(site.op)),
            count(site.count),
            share(site.share),
            count(site.tasks),
            *times,
        )
    yield indented(table)


def site_name(name: str) -> Elided:
    """Symbol whose offset stays readable when the function's name is cut."""
    return Elided(name, len(name) - name.rfind("+") if "+" in name else 0)
