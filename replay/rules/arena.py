"""Findings about the arena of vmap() and vmalloc(), and the modules' own area."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.machine.arches import ARCHES
from replay.outcome import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.machine.model import Layout, Machine
    from replay.outcome import ArenaOutcome, ModulesOutcome

FEW_UNTOLD: Final = 0.01
"""Share of allocations whose return was lost or is still to come when the trace ends."""
_SHOWN: Final = 3


def arena_findings(arena: ArenaOutcome, machine: Machine, layout: Layout) -> Iterator[Finding]:
    """What is worth knowing of the arena's allocations.

    Yields
    ------
    Finding
        In no order of severity.
    """
    yield from _exhausted(arena, machine)
    if arena.modules is not None:
        yield from _modules(arena.modules, machine, layout)
    yield from _null_calls(arena)
    yield from _untold(arena)


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
    """

    failures: int
    size: int
    allocs: int
    smallest: int | None
    hole: int | None
    callers: bool
    option: str


def _exhausted(arena: ArenaOutcome, machine: Machine) -> Iterator[Finding]:
    """mm/vmalloc.c: alloc_vmap_area gives up after one purge."""
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


class ModulesExhausted(NamedTuple):
    """Failed allocations in the modules' own area of `size` bytes.

    Attributes
    ----------
    failures
        How many.
    smallest
        Bytes: the least that was asked for in vain.
    held, more
        Bytes in use at the first failure, of which areas from before the trace are missing.
    holders
        Who asked for them, and bytes.
    without_highmem
        Bytes that the area would have in a kernel without HIGHMEM; None: as many, or it has none.
    spills
        Whether modules go to the arena where they find no room here (CONFIG_ARM_MODULE_PLTS);
        None: not known.
    """

    failures: int
    size: int
    smallest: int | None
    held: int
    more: bool
    holders: tuple[tuple[str, int], ...]
    without_highmem: int | None
    spills: bool | None


def _modules(modules: ModulesOutcome, machine: Machine, layout: Layout) -> Iterator[Finding]:
    """arch/arm/kernel/module.c: module_alloc; the pool's window lies above (asm/memory.h)."""
    if not modules.failures:
        return
    below = layout.modules_end == layout.pkmap_base and machine.highmem_enabled
    spills = "ARM_MODULE_PLTS" in machine.config if machine.config else None
    found = ModulesExhausted(
        modules.failures,
        modules.size,
        modules.smallest_failed,
        modules.held,
        not modules.complete,
        tuple((holder.caller, holder.bytes) for holder in modules.holders[:_SHOWN]),
        layout.page_offset - layout.modules_start if below else None,
        spills,
    )
    severity = "warning" if spills else "problem"
    yield Finding("modules-exhausted", severity, found, modules.failures, modules.first)


class NullCalls(NamedTuple):
    """Calls of vmap() and vmalloc() that returned NULL for another reason."""

    calls: int


def _null_calls(arena: ArenaOutcome) -> Iterator[Finding]:
    """mm/vmalloc.c: __vmalloc_area_node, vmap: no memory for the pages or their tables."""
    if arena.null_calls:
        yield Finding("vmalloc-null", "problem", NullCalls(arena.null_calls), arena.null_calls)


class ArenaUntold(NamedTuple):
    """Allocations of which the trace does not tell whether they failed, and all."""

    untold: int
    calls: int


def _untold(arena: ArenaOutcome) -> Iterator[Finding]:
    if not arena.untold:
        return
    calls = arena.allocs + arena.failures
    severity = "info" if arena.untold <= max(1, FEW_UNTOLD * calls) < calls else "warning"
    yield Finding("arena-untold", severity, ArenaUntold(arena.untold, calls), arena.untold)
