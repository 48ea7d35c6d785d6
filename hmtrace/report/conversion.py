"""What `replay --convert` found: which call sites keep to the rules of kmap_local_page()."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from hmtrace.report.parts import heading, indented, labelled, plain_table
from hmtrace.report.sites import site_name
from hmtrace.report.text import clean, clock, count, plural, symbol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from replay.whatif.convert import Conversion, ConvertedSite

SHOWN: Final = 10
REUSES: Final = "(found in the pool)"
"""Name of what kmap_local_page() found in the pool, and finds there no more."""
FITS, COSTS, OPEN, WRONG = "fits", "costs", "open", "wrong"


def verdict(site: ConvertedSite, limit: int) -> str:
    """Whether a call site may be converted as it is.

    Parameters
    ----------
    site
        The call site.
    limit
        Local mappings that a task may have.

    Returns
    -------
    str
        ``wrong``: not as it is; ``open``: mappings were held at the end; ``costs``: right, but
        switches take mappings down; ``fits``.
    """
    if site.unfit(limit):
        return WRONG
    if site.at_end > site.never_served:
        return OPEN
    return COSTS if site.switches or site.away else FITS


def conversion_section(found: Conversion, limit: int) -> Iterator[RenderableType]:
    """Table of the call sites, and in words what speaks against each."""
    calls = sum(site.calls for site in found.sites if site.site)
    aside = f"{clean(found.words)}: {count(calls)} of {count(found.total)} kmap() calls"
    yield heading("Conversion", aside)
    if not found.sites:
        yield indented(Text("the trace has no call of kmap(): there is nothing to convert"))
        return
    table = plain_table(
        ("call site", "left"), ("calls", "right"), ("depth", "right"), ("switched", "right"),
        ("handed on", "right"), ("not LIFO", "right"), ("at end", "right"), ("", "left"),
        expand_first=True,
    )  # fmt: skip
    for site in found.sites[:SHOWN]:
        switched = site.switched if found.sees_switches else site.away
        table.add_row(
            site_name(symbol(site.site) or REUSES),
            count(site.calls),
            f"{site.max_depth}/{limit}",
            count(switched) if found.sees_switches else f"≥ {count(switched)}",
            count(site.handed),
            count(site.misordered),
            count(site.at_end),
            Text(verdict(site, limit)),
        )
    yield indented(table)
    if len(found.sites) > SHOWN:
        yield indented(Text(f"and {plural(len(found.sites) - SHOWN, 'call site')} more"))
    lines = []
    for site in found.sites[:SHOWN]:
        name = symbol(site.site) or REUSES
        first, *others = reasons(site, limit)
        lines.append((verdict(site, limit), f"{name}: {first}"))
        lines += [("", line) for line in others]
    yield Text()
    yield labelled(lines)
    if found.vanished:
        yield indented(
            Text(f"{plural(found.vanished, 'sleep')} for a slot with such mappings held go away")
        )


def reasons(site: ConvertedSite, limit: int) -> Iterator[str]:
    """What speaks against a call site, the worst first; else that nothing does."""
    said = False
    for name, number, words in (
        (
            "handed",
            site.handed,
            "unmapped by another task than the one that mapped: kunmap_local() takes down the "
            "newest mapping of the task that calls it",
        ),
        (
            "misordered",
            site.misordered,
            "not the newest mapping of their task when they, or an older local mapping, are "
            "unmapped: kunmap_local() warns, and on most architectures takes another one down",
        ),
        (
            "depths",
            site.beyond(limit),
            f"deeper than the {limit} local mappings that a task may have: BUG in "
            "kmap_local_idx_push()",
        ),
        (
            "at_end",
            site.at_end - site.never_served,
            "held when the trace ended: one that is never unmapped stays on its task's stack",
        ),
    ):
        if number:
            said = True
            first = site.firsts[name]
            which = "deepest" if name == "depths" else "first"
            yield f"{count(number)} {words} ({which}: pid {first.pid}, {clock(first.ts)})"
    if site.switches:
        said = True
        often = f" ({count(site.switches)} times in all)" * (site.switches > site.switched)
        asleep = f", {count(site.slept)} of them in a sleep" if site.slept else ""
        yield (
            f"{count(site.switched)} held while their task lost its CPU{asleep}: right, but each "
            f"is taken down and put back{often}"
        )
    if site.moved:
        said = True
        yield (
            f"{count(site.moved)} unmapped on another CPU: a task with a local mapping stays on "
            "its CPU (migrate_disable)"
        )
    if not said:
        yield (
            f"unmapped by their own task, the newest first, depth at most {site.max_depth} of "
            f"{limit}"
        )


def conversion_document(found: Conversion, limit: int) -> dict[str, Any]:
    """The same as a document."""
    return {
        "asked": found.words,
        "kmaps": found.total,
        "vanished_sleeps": found.vanished,
        "unknown_kunmaps": found.strays,
        "lost": found.dropped,
        "sees_switches": found.sees_switches,
        "limit": limit,
        "sites": [_site(site, limit) for site in found.sites],
    }


def _site(site: ConvertedSite, limit: int) -> dict[str, Any]:
    names = {
        "calls": "calls", "unmapped": "ended", "max_depth": "max_depth", "other_task": "handed",
        "out_of_order": "misordered", "over_switch": "switched", "switches": "switches",
        "asleep": "slept", "other_cpu": "moved", "away_at_least": "away", "held_at_end": "at_end",
        "never_served": "never_served",
    }  # fmt: skip
    firsts = {"other_task": "handed", "out_of_order": "misordered", "held_at_end": "at_end"}
    return {
        "site": site.site or None,
        **{name: getattr(site, of) for name, of in names.items()},
        "beyond_limit": site.beyond(limit),
        "depths": list(site.depths),
        "first": {
            name: site.firsts[of]._asdict() if of in site.firsts else None
            for name, of in firsts.items()
        },
        "verdict": verdict(site, limit),
    }
