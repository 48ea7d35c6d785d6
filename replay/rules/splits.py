"""Advice over the user/kernel splits that a kernel has: what each leaves, and what it costs.

The more lowmem a split gives, the less highmem is left to be mapped, and the less room a process
has. What mappings cost under each is worked out from what was counted: without highmem they are
gone, all but the walks of kmap_flush_unused() over an empty pool and the purges of the arena, whose
hulls on ARM reach across a direct mapping that has become larger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.errors import HmtraceError
from replay.cost.causes import Cause
from replay.cost.formulas import pool_pass_ns, range_flush_ns
from replay.machine.layout import layout_of
from replay.machine.options import kernel_splits, with_options
from replay.outcome import Finding
from replay.rules.rule import FindingRule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.machine.layout import Layout
    from replay.outcome import Outcome
    from replay.rules.rule import Case

OF_ARENA: Final = (Cause.AREAS, Cause.PURGE, Cause.RANGE, Cause.FULL)
"""Causes of cost that stay where there is no highmem."""
_SIGNS: Final = {"least": "≥", "most": "≤", "about": "≈", None: "="}
SCARCE: Final = 1 << 30
"""RAM up to which what is highmem is so little that it runs out first."""


class Split(NamedTuple):
    """A split, and what it leaves.

    Attributes
    ----------
    name
        Key in the architecture's table.
    without
        What the kernel has to be built without for it: ``PAE``; empty: nothing.
    lowmem, highmem, user
        Bytes of RAM, and of a process's address space.
    cost_ns
        What the counted work costs there.
    bound
        ``=``: so much; ``≤``: at most, if no page that is highmem now becomes lowmem; ``≥``: at
        least, for a trace does not show the pages that are lowmem now; ``≈``: neither, for what the
        counted work costs now is itself a bound (:attr:`replay.outcome.Outcome.bound`).
    proposed
        Where no released kernel has it, the state of things.
    """

    name: str
    without: str
    lowmem: int
    highmem: int
    user: int
    cost_ns: float
    bound: str
    proposed: str | None


class OtherSplits(NamedTuple):
    """The splits of a kernel beside the present one, those with most room for a process first.

    Attributes
    ----------
    now
        Name of the present one.
    highmem, user, cost_ns, bound
        As of :class:`Split`, as they are.
    splits
        The others.
    scarce
        There is so little highmem that it runs out first.
    doubted
        The machine's own files contradict the rules that the others are laid out by.
    """

    now: str
    highmem: int
    user: int
    cost_ns: float
    bound: str
    splits: tuple[Split, ...]
    scarce: bool
    doubted: bool = False

    @property
    def without_highmem(self) -> Split | None:
        """The one that leaves no highmem and most room for a process, the kernel built alike."""
        fitting = (s for s in self.splits if not s.highmem and not s.without and not s.proposed)
        return next(fitting, None)


def sign_of(outcome: Outcome) -> str:
    """``≥``, ``≤``, ``≈`` as figures of highmem are bounds (:attr:`Outcome.bound`), else ``=``."""
    return _SIGNS[outcome.bound]


def _other_splits(case: Case) -> Iterator[Finding]:
    """Whether another split would be worth a thought.

    Yields
    ------
    Finding
        None where there is no highmem, where RAM is a guess, or where no split leaves less.
    """
    outcome = case.outcome
    machine, layout = outcome.machine, outcome.layout
    if not layout.highmem_bytes or not machine.highmem_enabled:
        return
    if not case.is_ram_told:
        return
    splits = tuple(_splits(outcome))
    if not any(split.highmem < layout.highmem_bytes for split in splits):
        return
    scarce = layout.max_pfn * layout.page_size - layout.phys_offset <= SCARCE
    found = OtherSplits(
        machine.split,
        layout.highmem_bytes,
        layout.user_end,
        outcome.cost.total_ns,
        sign_of(outcome),
        splits,
        scarce,
        machine.told is not None,
    )
    yield Finding("split", "info", found)


def _splits(outcome: Outcome) -> Iterator[Split]:
    """Every other split that the kernel's age has, if need be without PAE."""
    machine = outcome.machine
    for name, without, proposed in kernel_splits(machine):
        if name == machine.split:
            continue
        try:
            other = with_options(machine, split=name, pae=False if without else None)
            layout = layout_of(other)
        except HmtraceError:
            continue  # RAM that only PAE reaches, or too little lowmem for its page array
        cost_ns, bound = _cost(outcome, layout)
        yield Split(
            name,
            without,
            layout.lowmem_bytes,
            layout.highmem_bytes,
            layout.user_end,
            cost_ns,
            bound,
            proposed,
        )


def _cost(outcome: Outcome, layout: Layout) -> tuple[float, str]:
    """What the counted work costs under another split, and in which sense."""
    here, tlb, costs = outcome.layout, outcome.tlb, outcome.machine.costs
    more = _direct_pages(layout) - _direct_pages(here)
    pages = tlb.range_pages_max
    grown = range_flush_ns(costs, layout, pages + more, outcome.cpus) - range_flush_ns(
        costs, here, pages, outcome.cpus
    )
    hulls = tlb.across * float(grown)
    if not layout.highmem_bytes:
        arena = sum(
            cause["ns"] for name, cause in outcome.cost.by_cause.items() if name in OF_ARENA
        )
        # A kernel with HIGHMEM walks its empty pool all the same (mm/highmem.c).
        passes = outcome.pool.unused_passes * float(pool_pass_ns(costs, layout, 0, outcome.cpus))
        low = (outcome.local.maps + outcome.local.lowmem) * costs.low_map
        return arena + hulls + passes + low, "="
    bound = "≤" if layout.highmem_bytes < here.highmem_bytes else "≥"
    if outcome.bound is not None and bound != sign_of(outcome):
        bound = "≈"  # the one bound, of the other one
    # without PAE a pass over the pool has twice as many slots to look at
    now, then = (float(pool_pass_ns(costs, at, 0, outcome.cpus)) for at in (here, layout))
    walks = outcome.pool.passes * (then - now)
    return outcome.cost.total_ns + hulls + walks, bound


def _direct_pages(layout: Layout) -> int:
    """Pages from where RAM is mapped directly to where the arena begins."""
    return (layout.vmalloc_start - layout.page_offset) // layout.page_size


SPLIT: Final = FindingRule(
    "split", ("info",),
    "Another split would leave less highmem to be mapped.",
    "hmtrace advise weighs all builds against each other",
    _other_splits, is_advice=True,
)  # fmt: skip
