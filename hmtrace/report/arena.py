"""The vmap/vmalloc arena."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from hmtrace.report.parts import heading, indented, joined, labelled
from hmtrace.report.text import clean, count, mib, plural, share, size, symbol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from replay.outcome import ArenaOutcome, ModulesOutcome, Site


_SHOWN = 4


def arena_section(
    arena: ArenaOutcome, absent: str, sites: Sequence[Site] = ()
) -> Iterator[RenderableType]:
    """Allocations, failures, room left, lazy purges, and who fills it.

    Parameters
    ----------
    arena
        Figures of the arena.
    absent
        What to say where no allocation is in the trace.
    sites
        Call sites, those of the arena among them.

    Yields
    ------
    RenderableType
        Heading and figures.
    """
    yield heading("Arena", f"vmap(), vmalloc(), vm_map_ram() · {mib(arena.size)}")
    at_start = [(clean(h.caller, 60), h.bytes, plural(h.areas, "area")) for h in arena.holders]
    start_row = [("at start", _who(at_start))] if at_start else []
    if not (arena.allocs or arena.failures or arena.lazy_purges or arena.purge_runs):
        yield indented(Text(absent))
        if start_row:
            yield labelled(start_row)
        return
    rows = [("calls", calls_in_words(arena)), ("purges", _purges(arena))]
    if arena.modules is not None and (arena.modules.allocs or arena.modules.failures):
        rows.append(("modules", _modules(arena.modules)))
    if arena.peak_used is not None or arena.largest_hole_min is not None:
        used = share(arena.peak_used / arena.size) if arena.peak_used and arena.size else "n/a"
        live = [] if arena.peak_live is None else [f"{mib(arena.peak_live)} without what is freed"]
        rows.insert(
            1,
            (
                "room",
                joined(
                    [
                        f"peak use {mib(arena.peak_used)} ({used})",
                        *live,
                        f"largest hole never below {mib(arena.largest_hole_min)}",
                    ]
                ),
            ),
        )
    in_trace = [
        (symbol(site.site), site.bytes, plural(site.count, "call"))
        for site in sorted(sites, key=lambda s: (-(s.bytes or 0), s.site, s.op))
        if site.bytes
    ]
    rows += start_row
    rows += [("asked for", _who(in_trace))] if in_trace else []
    yield labelled(rows)


def calls_in_words(arena: ArenaOutcome) -> str:
    """Allocations, and how many of them failed, as far as the trace tells."""
    what = ("call of vmap() or vmalloc()", "calls of vmap() or vmalloc()")
    parts = [plural(arena.allocs, *(what if arena.derived else ("allocation", None)))]
    if arena.failures:
        parts.append(f"{count(arena.failures)} failed")
    elif not arena.untold:
        parts.append("none failed")
    if arena.untold:
        whole = arena.untold == arena.allocs and not arena.failures
        who = "which of them" if whole else f"whether {count(arena.untold)} more"
        parts.append(f"{who} failed is not traced")
    return joined(parts)


def _purges(arena: ArenaOutcome) -> str:
    """Purges by one meaning: runs, and those that gave something back and flushed it."""
    runs = [] if arena.purge_runs is None else [plural(arena.purge_runs, "run")]
    gave = "not known how many flushed"
    if arena.lazy_purges is not None:
        gave = f"{count(arena.lazy_purges)} flushed"
    return joined([*runs, gave])


def _modules(modules: ModulesOutcome) -> str:
    """The area that only modules are given from."""
    failed = f"{count(modules.failures)} failed" if modules.failures else "none failed"
    parts = [f"{size(modules.size)} of their own", plural(modules.allocs, "allocation"), failed]
    return joined(parts)


def _who(users: Sequence[tuple[str, int, str]]) -> str:
    """The largest users: bytes, name and number of each."""
    words = [f"{size(bytes_)} {name} ({number})" for name, bytes_, number in users[:_SHOWN]]
    if rest := sum(bytes_ for _, bytes_, _ in users[_SHOWN:]):
        words.append(f"{size(rest)} others")
    return joined(words)
