"""Allocations of address space that failed, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.machine.arches import ARCHES
from replay.outcome import Finding
from replay.rules import evidence
from replay.rules.rule import FindingRule, Limit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.rules.rule import Case

TIMES_LARGEST: Final = 1.0
"""Times the largest request that the largest hole is never smaller than where there is room."""
FEW_UNTOLD: Final = 0.01
"""Share of allocations whose return was lost or is still to come when the trace ends."""


class ArenaExhausted(NamedTuple):
    """Failed allocations in an arena of `size` bytes.

    Attributes
    ----------
    failures, allocs
        Those that failed, and the others.
    smallest
        Bytes: the least that was asked for in vain.
    hole
        Bytes: the largest, at its least.
    callers
        The calls are those of vmap() and vmalloc(): they return NULL for want of memory as well.
    option
        What makes the arena larger, "" nothing.
    enough
        Bytes of it with which none of them fails, if those that failed are given back at once: the
        least that is needed. None: not looked for, or not found.
    """

    failures: int
    size: int
    allocs: int
    smallest: int | None
    hole: int | None
    callers: bool
    option: str
    enough: int | None = None


def _exhausted(case: Case) -> Iterator[Finding]:
    """mm/vmalloc.c: alloc_vmap_area gives up after one purge."""
    arena, machine = case.outcome.arena, case.outcome.machine
    modules = arena.modules
    failures = arena.failures - (modules.failures if modules else 0)
    if not failures:
        return
    found = ArenaExhausted(
        failures,
        arena.size,
        arena.allocs - (modules.allocs if modules else 0),
        arena.smallest_failed,
        arena.largest_hole_min,
        arena.derived,
        ARCHES[machine.arch].arena_option,
    )
    yield Finding("arena-exhausted", "problem", found, failures, arena.first)


class ArenaInPieces(NamedTuple):
    """Bytes that were asked for in vain, that were free, and of the largest hole."""

    asked: int
    free: int
    hole: int


def _in_pieces(case: Case) -> Iterator[Finding]:
    """The arena has as much free as was asked for, and no hole of that size."""
    arena = case.outcome.arena
    if arena.at_failure is not None and not evidence.is_missed(evidence.ARENA, case):
        found = ArenaInPieces(*arena.at_failure)
        if found.hole < found.asked <= found.free:
            yield Finding("arena-fragmented", "warning", found, 1, arena.first)


class ArenaTight(NamedTuple):
    """Bytes and alignment of the largest request, and of the largest hole at its least."""

    asked: int
    align: int
    hole: int


def _tight(case: Case) -> Iterator[Finding]:
    """Nothing failed, and the largest request would have if it had come at the worst time."""
    arena = case.outcome.arena
    needed, hole = arena.hole_needed, arena.largest_hole_min
    if needed is None or hole is None or arena.largest_request is None or arena.failures:
        return
    if hole < TIGHT.limit_in(case) * needed and not evidence.is_missed(evidence.ARENA, case):
        found = ArenaTight(*arena.largest_request, hole)
        yield Finding("arena-tight", "warning", found)


class NullCalls(NamedTuple):
    """Calls of vmap() and vmalloc() that returned NULL for another reason."""

    calls: int


def _null_calls(case: Case) -> Iterator[Finding]:
    """mm/vmalloc.c: __vmalloc_area_node, vmap: no memory for the pages or their tables."""
    arena = case.outcome.arena
    if arena.null_calls:
        yield Finding("vmalloc-null", "problem", NullCalls(arena.null_calls), arena.null_calls)


class ArenaUntold(NamedTuple):
    """Allocations of which the trace does not tell whether they failed, and all."""

    untold: int
    calls: int


def _untold(case: Case) -> Iterator[Finding]:
    arena = case.outcome.arena
    if not arena.untold:
        return
    calls = arena.allocs + arena.failures
    severity = "info" if arena.untold <= max(1, FEW_UNTOLD * calls) < calls else "warning"
    yield Finding("arena-untold", severity, ArenaUntold(arena.untold, calls), arena.untold)


EXHAUSTED: Final = FindingRule(
    "arena-exhausted", ("problem",),
    "vmap(), vmalloc() or vm_map_ram() found no hole in the arena that is large enough.",
    "a larger vmalloc= (hmtrace sweep --find min:vmalloc --where failures=0 tells how large), or "
    "fewer and smaller areas that live long",
    _exhausted, (evidence.ARENA, evidence.FAILURES),
)  # fmt: skip
PIECES: Final = FindingRule(
    "arena-fragmented", ("warning",),
    "An allocation failed though as much was free: the arena was in pieces.",
    "fewer areas that live long between others; allocate large ones early and keep them; a larger "
    "vmalloc= has a larger hole",
    _in_pieces, (evidence.ARENA, evidence.AREAS),
)  # fmt: skip
TIGHT: Final = FindingRule(
    "arena-tight", ("warning",),
    "At the worst time no hole in the arena was as large as the largest request.",
    "a larger vmalloc=, or fewer areas that live long",
    _tight, (evidence.ARENA, evidence.AREAS), Limit(TIMES_LARGEST, "times the largest request"),
)  # fmt: skip
NULL: Final = FindingRule(
    "vmalloc-null", ("problem",),
    "vmap() or vmalloc() returned NULL though address space was found: memory was missing.",
    "the kernel's log tells which request failed",
    _null_calls, (evidence.CALLERS,),
)  # fmt: skip
UNTOLD: Final = FindingRule(
    "arena-untold", ("warning", "info"),
    "The trace does not tell of allocations whether they failed.",
    "a return probe on alloc_vmap_area, or the tracepoint vmalloc:alloc_vmap_area",
    _untold,
)  # fmt: skip
