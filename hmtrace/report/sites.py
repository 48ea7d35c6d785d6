"""Top call sites."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from hmtrace.report.parts import Elided, Valued, heading, indented, plain_table
from hmtrace.report.text import clean, count, duration, share, symbol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from replay.outcome import Site

SHOWN = 10


def sites_section(sites: Sequence[Site], most: int = SHOWN) -> Iterator[RenderableType]:
    """The sites that map most, most first.

    Parameters
    ----------
    sites
        In any order.
    most
        How many are told.

    Yields
    ------
    RenderableType
        Heading and one row per site, at most `most`.
    """
    if not sites:
        yield heading("Call sites")
        yield indented(Text("the trace has no call sites (record $retip or return probes)"))
        return
    ranked = sorted(sites, key=lambda s: (-s.count, s.site, s.op))
    aside = f"{most} of {len(sites)}" if len(sites) > most else ""
    yield heading("Call sites", aside)
    held = any(site.hold_ns_max is not None for site in ranked[:most])
    table = plain_table(
        ("site", "left"),
        ("op", "left"),
        ("count", "right"),
        ("share", "right"),
        ("tasks", "right"),
        *((("held mean", "right"), ("longest", "right")) if held else ()),
        expand_first=True,
    )
    for site in ranked[:most]:
        hold = (site.hold_ns_mean, site.hold_ns_max) if held else ()
        table.add_row(
            site_name(symbol(site.site) or "?"),
            Text(clean(site.op)),
            Valued(count(site.count), site.count),
            Valued(share(site.share), site.share),
            Valued(count(site.tasks), site.tasks),
            *(Valued(duration(ns), ns) for ns in hold),
        )
    yield indented(table)


def site_name(name: str) -> Elided:
    """Symbol whose offset stays readable when the function's name is cut."""
    return Elided(name, len(name) - name.rfind("+") if "+" in name else 0)
