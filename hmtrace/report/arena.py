"""The vmap/vmalloc arena."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from hmtrace.report.parts import heading, indented, joined, labelled
from hmtrace.report.text import count, plural, share, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from replay.outcome import ArenaOutcome


def arena_section(arena: ArenaOutcome) -> Iterator[RenderableType]:
    """Allocations, failures, room left, lazy purges.

    Parameters
    ----------
    arena
        Figures of the arena.

    Yields
    ------
    RenderableType
        Heading and figures.
    """
    yield heading("Arena", f"vmap(), vmalloc(), vm_map_ram() · {size(arena.size)}")
    if not (arena.allocs or arena.failures or arena.lazy_purges):
        yield indented(Text("no allocation in this capture"))
        return
    rows = [
        (
            "calls",
            joined(
                [
                    plural(arena.allocs, "allocation"),
                    f"{count(arena.failures)} failed" if arena.failures else "none failed",
                ]
            ),
        ),
        ("purges", plural(arena.lazy_purges, "lazy purge")),
    ]
    if arena.peak_used is not None or arena.largest_hole_min is not None:
        used = share(arena.peak_used / arena.size) if arena.peak_used and arena.size else "n/a"
        rows.insert(
            1,
            (
                "room",
                joined(
                    [
                        f"peak use {size(arena.peak_used)} ({used})",
                        f"largest hole never below {size(arena.largest_hole_min)}",
                    ]
                ),
            ),
        )
    yield labelled(rows)
