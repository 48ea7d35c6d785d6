"""Purges of the arena's lazy list, by what made them run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from hmtrace.report.parts import Valued, heading, indented, plain_table
from hmtrace.report.text import clean, count, duration
from hmtrace.report.wording import first_in_words, times

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import RenderableType

    from replay.outcome import PurgeOutcome

_MEANINGS: Final = {
    "failed allocation": "an allocation found no hole, purged, and tried again",
    "lazy limit": "more was freed than lazy_max_pages(); the task that freed it purged",
    "drain worker": "more was freed than lazy_max_pages(); a worker purged",
    "set_memory": "attributes of pages were changed: modules and BPF programs, on x86",
    "freed module": "memory of a module, or of its init part, or of a BPF program was freed",
    "vm_unmap_aliases": "some other caller of it",
}


_COLUMNS: Final = (
    ("why", "left"),
    ("runs", "right"),
    ("gave", "right"),
    ("pages", "right"),
    ("hull", "right"),
    ("IPIs", "right"),
    ("median", "right"),
    ("longest", "right"),
)
_ASIDE: Final = "what was freed lazily is given back behind one flush of its hull"


def purges_section(purges: Sequence[PurgeOutcome]) -> Iterator[RenderableType]:
    """Purges of a capture by their trigger: how often, how much, how far and how long.

    Yields
    ------
    RenderableType
        Heading and one row per trigger; nothing without purges.
    """
    if not purges:
        return
    yield heading("Purges", _ASIDE)
    table = plain_table(*_COLUMNS)
    for purge in purges:
        table.add_row(*_cells(purge))
    yield indented(table)
    yield _notes(purges)


def purges_beside(
    captured: Sequence[PurgeOutcome], there: Sequence[PurgeOutcome], *, about: bool = False
) -> Iterator[RenderableType]:
    """Purges of the captured arena, and of another machine's.

    `about`: those there may be more or less.

    Yields
    ------
    RenderableType
        Heading, one row per trigger and arena; nothing without purges in both.
    """
    if not captured and not there:
        return
    yield heading("Purges", "captured, and what if: without times, which nobody measured there")
    table = plain_table(*_COLUMNS)
    for name, purges in (("captured", captured), ("≈ what if" if about else "what if", there)):
        table.add_row(Text(name, style="dim"))
        for purge in purges:
            why, *others = _cells(purge)
            table.add_row(Text.assemble(" ", why), *others)
    yield indented(table)
    yield _notes((*captured, *there))


def _cells(purge: PurgeOutcome) -> tuple[Text | str, ...]:
    """What is told of the purges of one trigger."""
    times_of = (purge.median_ns, purge.longest_ns)
    numbers = (purge.count, purge.found, purge.pages, purge.hull_pages, purge.ipis)
    return (
        Text(clean(purge.trigger)),
        *(Valued(count(number), number) for number in numbers),
        *(Valued("·" if ns is None else duration(ns), ns) for ns in times_of),
    )


def _notes(purges: Sequence[PurgeOutcome]) -> RenderableType:
    """What the words mean, which run was the longest, and who wanted purges."""
    triggers = dict.fromkeys(purge.trigger for purge in purges)
    notes = [f"{name}: {_MEANINGS[name]}" for name in triggers if name in _MEANINGS]
    timed = [purge for purge in purges if purge.longest_ns is not None and purge.longest]
    if timed:
        worst = max(timed, key=lambda purge: purge.longest_ns or 0)
        assert worst.longest is not None
        notes.append(first_in_words(worst.longest, "the longest"))
    notes.append("gave: found something; pages freed before, and invalidated for it (hull)")
    notes += [
        f"{purge.trigger} wanted by {_callers(purge.callers)}" for purge in purges if purge.callers
    ]
    return indented(Text("\n".join(notes), style="dim"))


def _callers(callers: Mapping[str, int]) -> str:
    """Who wanted purges, by stack traces."""
    return ", ".join(f"{clean(name, 60)} {times(number)}" for name, number in callers.items())
