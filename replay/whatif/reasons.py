"""What speaks for a way to build the kernel, what against it, and what is to be minded: in numbers.

:mod:`replay.whatif.advise` finds them, a report puts them into words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.machine.model import MiB

if TYPE_CHECKING:
    from collectors.snapshot import Process
    from replay.cost.verdict import CostVerdict
    from replay.outcome import Outcome

SCARCE_PART: Final = 0.9
"""Part of the user address space that a process may have had before it is called close."""
SAFE_USER: Final = 1776 * MiB
"""User address space that is enough for most: what ARM's 2G_OPT leaves, the smallest that the
defaults proposed in December 2025 would give. Less is advised only if the largest process is known
to fit."""


class Build(NamedTuple):
    """A way to build the kernel, and to boot it.

    Attributes
    ----------
    split
        Key in the architecture's table.
    highmem, pae
        Whether with CONFIG_HIGHMEM, and with PAE or its like.
    without
        Name of PAE where the captured kernel has it and this one has not; else empty.
    proposed
        Where no released kernel has the split, the state of things.
    vmalloc
        ``vmalloc=`` that it has to be booted with; None: as now.
    """

    split: str
    highmem: bool
    pae: bool
    without: str = ""
    proposed: str | None = None
    vmalloc: int | None = None

    @property
    def key(self) -> tuple[str, bool, bool]:
        """What the kernel's configuration says of it."""
        return self.split, self.highmem, self.pae


class LessRam(NamedTuple):
    """Bytes of RAM that cannot be reached, and of those that can be now."""

    bytes: int
    now: int


class TinyZone(NamedTuple):
    """Bytes of a highmem zone that runs out first."""

    bytes: int


class NotReleased(NamedTuple):
    """The state of a split that no released kernel has."""

    words: str


class WithoutWide(NamedTuple):
    """PAE, or its like, has to go; with it no-execute pages, where the CPU may have them."""

    name: str
    with_nx: bool


class SmallerArena(NamedTuple):
    """``vmalloc=`` that makes room for `spared` bytes of RAM that would else be out of reach."""

    vmalloc: int
    spared: int


class Failures(NamedTuple):
    """Failed allocations of the arena, or of the modules' own area, here and there.

    `is_least`: how long what failed on one of both alone would be in use, no trace tells.
    """

    here: int
    there: int
    of_modules: bool = False
    is_least: bool = False


class Waits(NamedTuple):
    """Waits for a slot of the pool, here and there; `asleep` tasks never wake up there.

    `is_least`: there may be more there.
    """

    here: int
    there: int
    asleep: int
    is_least: bool = False


class NothingMapped(NamedTuple):
    """Mappings that need no slot any more; `traced` where any were."""

    kmap: int
    local: int
    flushes: int
    traced: bool


class LessHighmem(NamedTuple):
    """Bytes of highmem, and of all RAM, here and there: how many mappings less is not told."""

    here: int
    there: int
    ram: int


class MoreLowmem(NamedTuple):
    """Bytes of lowmem here and there, where lowmem was short."""

    here: int
    there: int


class MoreUser(NamedTuple):
    """Bytes of user address space here and there, and the process that they are scarce for here."""

    here: int
    there: int
    largest: Process


class UserSpace(NamedTuple):
    """Bytes that a process loses, and the largest that was seen, if any was."""

    less: int
    user: int
    largest: Process | None


class TightHole(NamedTuple):
    """The largest request, its alignment, and the largest hole when that was smallest; bytes."""

    size: int
    align: int
    hole: int


class PurgedPages(NamedTuple):
    """Pages that purges flush one by one, here and there."""

    here: int
    there: int


class Cost(NamedTuple):
    """Cost in ns, here and there, and whether the one that is less is so over all costs' ranges.

    `share` is the greater one's part of the CPUs' time; None where the clock is no time.
    """

    here: float
    there: float
    share: float | None
    verdict: CostVerdict


Reason = (
    LessRam | TinyZone | NotReleased | WithoutWide | SmallerArena | Failures | Waits | NothingMapped
    | LessHighmem | MoreLowmem | MoreUser | UserSpace | TightHole | PurgedPages | Cost
)  # fmt: skip


def purged_pages(outcome: Outcome) -> int:
    """Pages of ranged flushes that are not of the pool's: what purges go over, page by page."""
    layout, pool = outcome.layout, outcome.pool
    ceiling = layout.flush_ceiling_pages
    window = layout.pkmap_slots if ceiling is None or layout.pkmap_slots <= ceiling else 0
    each = pool.maps if layout.kmap_flush_each else 0
    return max(outcome.tlb.range_pages - pool.flushes * window - each, 0)


class FixedCosts(NamedTuple):
    """What describing and mapping RAM takes of lowmem, whatever runs; bytes.

    Attributes
    ----------
    mem_map, of_highmem
        The page array, and the part of it that describes highmem.
    pool
        The pool's page table, and the addresses of its pages.
    kasan
        Shadow of lowmem.
    left
        What the page allocator gets of lowmem.
    """

    mem_map: int
    of_highmem: int
    pool: int
    kasan: int
    left: int


class Option(NamedTuple):
    """A build with what the workload comes to on it.

    Attributes
    ----------
    build
        How the kernel is built.
    outcome
        The workload on it.
    fixed
        What it takes of lowmem whatever runs.
    is_now
        It is the captured one.
    is_default
        Patches of December 2025 for Linux 7 would make its split the default of such a kernel.
    lost_ram
        Bytes of RAM that cannot be reached.
    against
        What speaks against it: each of them alone is enough.
    mind
        What to mind.
    gains
        What it gains.
    may
        What it may gain: how much the capture does not tell.
    cost
        What it costs more than the present one; None of that itself.
    """

    build: Build
    outcome: Outcome
    fixed: FixedCosts
    is_now: bool
    is_default: bool
    lost_ram: int
    against: tuple[Reason, ...] = ()
    mind: tuple[Reason, ...] = ()
    gains: tuple[Reason, ...] = ()
    may: tuple[Reason, ...] = ()
    cost: CostVerdict | None = None

    @property
    def verdict(self) -> str:
        """``now``, ``no``, ``better``, ``mind`` (better, with something to mind), ``maybe``."""
        if self.is_now:
            return "now"
        if self.against:
            return "no"
        if self.gains:
            return "mind" if self.mind else "better"
        return "maybe" if self.may else "as now"

    @property
    def is_better(self) -> bool:
        """Whether it gains something and nothing speaks against it."""
        return not self.is_now and bool(self.gains) and not self.against

    @property
    def doubts(self) -> tuple[Reason, ...]:
        """What the capture would have to show before it can be advised."""
        return tuple(
            reason
            for reason in self.mind
            if (isinstance(reason, WithoutWide) and reason.with_nx)
            or (
                isinstance(reason, UserSpace) and reason.largest is None and reason.user < SAFE_USER
            )
        )


_MERIT: Final = {"no": 0, "as now": 1, "now": 2, "maybe": 3, "mind": 4, "better": 5}


class Advice(NamedTuple):
    """What to choose for one capture.

    Attributes
    ----------
    options
        The splits with most room for a process first, each with highmem, then without.
    choice
        The one to choose; the present one where none is better.
    trial
        Where none is better, one whose gain another capture would show; None: there is none.
    largest
        The process with most addresses, if that was recorded.
    not_seen
        Codes of what the capture could not show.
    """

    options: tuple[Option, ...]
    choice: Option
    trial: Option | None
    largest: Process | None
    not_seen: tuple[str, ...]

    @property
    def now(self) -> Option:
        """The present build."""
        return next(option for option in self.options if option.is_now)

    @property
    def evidence(self) -> str:
        """``good``, ``fair`` or ``thin``."""
        if {"lost", "no-calls", "no-arena"} & set(self.not_seen):
            return "thin"
        fair = {"processes", "bound", "areas", "no-locals"}
        return "fair" if fair & set(self.not_seen) else "good"

    @property
    def listed(self) -> tuple[Option, ...]:
        """The options without those that lack PAE and are no better than the same with it."""
        with_it = {
            (option.build.split, option.build.highmem): option
            for option in self.options
            if option.build.pae
        }
        found = []
        for option in self.options:
            like = with_it.get((option.build.split, option.build.highmem))
            is_better = like is None or _MERIT[option.verdict] > _MERIT[like.verdict]
            if is_better or option is like or option in (self.choice, self.trial):
                found.append(option)
        return tuple(found)

    def option(self, key: tuple[str, bool, bool]) -> Option | None:
        """The option of a configuration (:attr:`Build.key`), if the kernel can have it.

        With HIGHMEM a kernel that leaves no highmem is what one without it is.
        """
        found = {option.build.key: option for option in self.options}
        split, highmem, pae = key
        alike = found.get((split, False, pae)) if highmem else None
        if key in found or alike is None or alike.lost_ram or alike.build.vmalloc is not None:
            return found.get(key)
        return alike
