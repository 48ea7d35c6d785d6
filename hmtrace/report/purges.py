"""Purges of the arena's lazy list, by what made them run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from hmtrace.report.marks import marks_alone
from hmtrace.report.parts import heading, indented, plain_table
from hmtrace.report.text import clean, count, duration
from hmtrace.report.wording import first_in_words, times

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import RenderableType

    from replay.outcome import Observed

_MEANINGS: Final = {
    "failed allocation": "an allocation found no hole, purged, and tried again",
    "lazy limit": "more was freed than lazy_max_pages(); the task that freed it purged",
    "drain worker": "more was freed than lazy_max_pages(); a worker purged",
    "set_memory": "attributes of pages were changed: modules and BPF programs, on x86",
    "freed module": "memory of a module, or of its init part, or of a BPF program was freed",
    "vm_unmap_aliases": "some other caller of it",
}


def purges_section(observed: Observed | None, *, draws: bool = False) -> Iterator[RenderableType]:
    """Purges by their trigger: how often, how much, how far and how long.

    Parameters
    ----------
    observed
        None for another machine than the captured one.
    draws
        Whether the time axis is drawn here, since no chart has it.

    Yields
    ------
    RenderableType
        Heading and one row per trigger; nothing without purges.
    """
    if observed is None or not any(purge.count for purge in observed.purges):
        return
    yield heading("Purges", "what was freed lazily is given back behind one flush of its hull")
    table = plain_table(
        ("why", "left"),
        ("runs", "right"),
        ("gave", "right"),
        ("pages", "right"),
        ("hull", "right"),
        ("IPIs", "right"),
        ("median", "right"),
        ("longest", "right"),
    )
    for purge in observed.purges:
        table.add_row(
            Text(clean(purge.trigger)),
            count(purge.count),
            count(purge.found),
            count(purge.pages),
            count(purge.hull_pages),
            count(purge.ipis),
            duration(purge.median_ns),
            duration(purge.longest_ns),
        )
    yield indented(table)
    notes = [
        f"{purge.trigger}: {_MEANINGS[purge.trigger]}"
        for purge in observed.purges
        if purge.trigger in _MEANINGS
    ]
    timed = [purge for purge in observed.purges if purge.longest_ns is not None and purge.longest]
    if timed:
        worst = max(timed, key=lambda purge: purge.longest_ns or 0)
        assert worst.longest is not None
        notes.append(first_in_words(worst.longest, "the longest"))
    notes.append("gave: found something; pages freed before, and invalidated for it (hull)")
    notes += [
        f"{purge.trigger} wanted by {_callers(purge.callers)}"
        for purge in observed.purges
        if purge.callers
    ]
    yield indented(Text("\n".join(notes), style="dim"))
    if draws:
        yield from marks_alone(observed.marks)


def _callers(callers: Mapping[str, int]) -> str:
    """Who wanted purges, by stack traces."""
    return ", ".join(f"{clean(name, 60)} {times(number)}" for name, number in callers.items())
