"""The modules' own area of addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.outcome import Finding
from replay.rules import evidence
from replay.rules.rule import FindingRule, Limit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.rules.rule import Case

NEARLY_FULL: Final = 90.0
"""Per cent of the modules' area from which the next module or BPF program may fail."""
_SHOWN: Final = 3


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


def _modules(case: Case) -> Iterator[Finding]:
    """arch/arm/kernel/module.c: module_alloc; the pool's window lies above (asm/memory.h)."""
    modules, machine, layout = case.outcome.arena.modules, case.outcome.machine, case.outcome.layout
    if modules is None or not modules.failures:
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


class ModulesNearlyFull(NamedTuple):
    """Most bytes in use of the modules' own area, and its size; `more` as in ModulesExhausted."""

    peak: int
    size: int
    more: bool


def _nearly_full(case: Case) -> Iterator[Finding]:
    modules = case.outcome.arena.modules
    if modules is None or modules.failures or not modules.size:
        return
    if 100 * modules.peak >= NEARLY.limit_in(case) * modules.size:
        found = ModulesNearlyFull(modules.peak, modules.size, not modules.complete)
        yield Finding("modules-near-full", "warning", found)


EXHAUSTED: Final = FindingRule(
    "modules-exhausted", ("problem", "warning"),
    "The area that modules and BPF programs are given from was full.",
    "no vmalloc= enlarges it: CONFIG_ARM_MODULE_PLTS, drivers built in, fewer BPF programs",
    _modules, (evidence.ARENA, evidence.FAILURES),
)  # fmt: skip
NEARLY: Final = FindingRule(
    "modules-near-full", ("warning",),
    "The area that modules and BPF programs are given from is nearly full.",
    "as for modules-exhausted",
    _nearly_full, (evidence.ARENA,), Limit(NEARLY_FULL, "% of the area"),
)  # fmt: skip
