"""Which split to choose: every one that the kernel has, with highmem and without, and a verdict.

Each is a machine that the workload is served on (:class:`replay.whatif.run.Server`), so a verdict
rests on the model, not on rules of thumb. What a trace cannot tell stands beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.errors import HmtraceError
from replay.machine.layout import layout_of
from replay.machine.model import MiB
from replay.machine.options import kernel_splits, with_options
from replay.whatif.sweep import is_alike

if TYPE_CHECKING:
    from collections.abc import Iterator

    from collectors.snapshot import Process, Snapshot
    from replay.machine.model import Machine
    from replay.outcome import Outcome
    from replay.whatif.run import Server

TINY_ZONE: Final = 64 * MiB
"""A highmem zone of less runs out first: its low watermark and per-CPU lists alone take some MiB,
and every page of a process is looked for there first (mm/page_alloc.c: get_page_from_freelist)."""
SAFE_USER: Final = 1776 * MiB
"""User address space that is enough for most: what ARM's 2G_OPT leaves, the smallest that the
defaults proposed in December 2025 would give. Less is advised only if the largest process is known
to fit."""
SCARCE_PART: Final = 0.9
"""Part of the user address space that a process may have had before it is called close."""


class Build(NamedTuple):
    """A way to build the kernel: the split, and whether with CONFIG_HIGHMEM."""

    split: str
    highmem: bool
    without: str
    proposed: str | None


class LessRam(NamedTuple):
    """Bytes of RAM that cannot be reached."""

    bytes: int


class TinyZone(NamedTuple):
    """Bytes of a highmem zone that runs out first."""

    bytes: int


class NotReleased(NamedTuple):
    """The state of a split that no released kernel has."""

    words: str


class WithoutWide(NamedTuple):
    """PAE, or its like, has to go."""

    name: str


class Failures(NamedTuple):
    """Failed allocations of the arena, here and there."""

    here: int
    there: int


class Waits(NamedTuple):
    """Waits for a slot of the pool, here and there; `asleep` tasks never wake up there."""

    here: int
    there: int
    asleep: int


class NothingMapped(NamedTuple):
    """Mappings that need no slot any more."""

    kmap: int
    local: int
    flushes: int


class UserSpace(NamedTuple):
    """Bytes that a process loses, and the largest that was seen, if any was."""

    less: int
    user: int
    largest: Process | None


class Cost(NamedTuple):
    """Cost in ns, here and there."""

    here: float
    there: float


Reason = (
    LessRam | TinyZone | NotReleased | WithoutWide | Failures | Waits | NothingMapped | UserSpace
    | Cost
)  # fmt: skip


class Option(NamedTuple):
    """A build with what the workload comes to on it.

    Attributes
    ----------
    build
        How the kernel is built.
    outcome
        The workload on it.
    is_now
        It is the captured one.
    lost_ram
        Bytes of RAM that cannot be reached.
    against
        What speaks against it: each of them alone is enough.
    mind
        What to mind.
    gains
        What it gains.
    """

    build: Build
    outcome: Outcome
    is_now: bool
    lost_ram: int
    against: tuple[Reason, ...]
    mind: tuple[Reason, ...]
    gains: tuple[Reason, ...]

    @property
    def verdict(self) -> str:
        """``now``, ``no``, ``better``, ``mind`` (better, with something to mind), or ``as now``."""
        if self.is_now:
            return "now"
        if self.against:
            return "no"
        if not self.gains:
            return "as now"
        return "mind" if self.mind else "better"

    @property
    def is_better(self) -> bool:
        """Whether it gains something and nothing speaks against it."""
        return not self.is_now and bool(self.gains) and not self.against

    @property
    def is_untold(self) -> bool:
        """Whether it leaves a process so little that it cannot be advised without evidence."""
        return any(
            isinstance(reason, UserSpace) and reason.largest is None and reason.user < SAFE_USER
            for reason in self.mind
        )


class Advice(NamedTuple):
    """What to choose for one capture.

    Attributes
    ----------
    options
        The splits with most room for a process first, each with highmem, then without.
    choice
        The one to choose; the present one where none is better.
    largest
        The process with most addresses, if that was recorded.
    not_seen
        Codes of what the capture could not show.
    """

    options: tuple[Option, ...]
    choice: Option
    largest: Process | None
    not_seen: tuple[str, ...]

    @property
    def evidence(self) -> str:
        """``good``, ``fair`` or ``thin``."""
        if {"lost", "no-calls", "no-arena"} & set(self.not_seen):
            return "thin"
        return "fair" if {"processes", "bound"} & set(self.not_seen) else "good"


def advise(server: Server, machine: Machine, snapshot: Snapshot, *, lost: bool = False) -> Advice:
    """What to choose for the workload.

    Parameters
    ----------
    server
        Serves it.
    machine
        The machine that it is from.
    snapshot
        Facts of that.
    lost
        Whether tracing lost events.
    """
    now = server.baseline
    largest = snapshot.processes[0] if snapshot.processes else None
    options = [_now(machine, now)]
    for build, other in _others(machine):
        options.append(_option(build, server.on(other), now, largest))
    options.sort(key=lambda o: (-o.outcome.layout.user_end, not o.build.highmem))
    choice = _choice(options)
    return Advice(
        tuple(options),
        choice,
        largest,
        tuple(_not_seen(snapshot, now, choice, lost)),
    )


def _now(machine: Machine, now: Outcome) -> Option:
    lost = _lost_ram(now)
    mind = tuple(_tiny(now))
    build = Build(machine.split, machine.highmem_enabled, "", None)
    return Option(build, now, is_now=True, lost_ram=lost, against=(), mind=mind, gains=())


def _others(machine: Machine) -> Iterator[tuple[Build, Machine]]:
    """The builds that this kernel can have beside the present one."""
    for split in kernel_splits(machine):
        for highmem in (True, False):
            try:
                other = with_options(
                    machine, split=split.name, pae=False if split.without else None, highmem=highmem
                )
            except HmtraceError:
                continue  # RAM that only PAE reaches, or too little lowmem for its page array
            if split.name == machine.split and highmem == machine.highmem_enabled:
                continue
            if is_alike(other, machine):
                continue
            if not highmem or layout_of(other).highmem_bytes:  # else the other one says it all
                yield Build(split.name, highmem, split.without, split.proposed), other


def _option(build: Build, there: Outcome, now: Outcome, largest: Process | None) -> Option:
    lost = max(_lost_ram(there) - _lost_ram(now), 0)
    against: list[Reason] = []
    mind: list[Reason] = []
    gains: list[Reason] = []
    if lost:
        against.append(LessRam(lost))
    if build.proposed:
        against.append(NotReleased(build.proposed))
    if build.without:
        mind.append(WithoutWide(build.without))
    mind.extend(_tiny(there))
    less = now.layout.user_end - there.layout.user_end
    if less > 0:
        space = UserSpace(less, there.layout.user_end, largest)
        too_small = largest is not None and largest.vm_peak > there.layout.user_end
        (against if too_small else mind).append(space)
    _compare(there, now, against, mind, gains)
    return Option(
        build, there, is_now=False, lost_ram=lost,
        against=tuple(against), mind=tuple(mind), gains=tuple(gains),
    )  # fmt: skip


def _compare(
    there: Outcome, now: Outcome, against: list[Reason], mind: list[Reason], gains: list[Reason]
) -> None:
    """What the workload itself says."""
    if there.arena.failures != now.arena.failures:
        failures = Failures(now.arena.failures, there.arena.failures)
        (against if failures.there > failures.here else gains).append(failures)
    if (there.pool.waits, there.pool.asleep) != (now.pool.waits, now.pool.asleep):
        waits = Waits(now.pool.waits, there.pool.waits, there.pool.asleep)
        worse = waits.there > waits.here or waits.asleep > now.pool.asleep
        (against if worse else gains).append(waits)
    if now.layout.highmem_bytes and not there.layout.highmem_bytes:
        gains.append(NothingMapped(now.pool.maps, now.local.maps, now.pool.flushes))
    if there.cost.total_ns > now.cost.total_ns and there.bound != "most":
        cost = Cost(now.cost.total_ns, there.cost.total_ns)
        (mind if gains else against).append(cost)


def _lost_ram(outcome: Outcome) -> int:
    layout = outcome.layout
    reached = layout.lowmem_bytes + layout.highmem_bytes
    return max(outcome.machine.ram_bytes - reached, 0)


def _tiny(outcome: Outcome) -> Iterator[TinyZone]:
    if 0 < outcome.layout.highmem_bytes < TINY_ZONE:
        yield TinyZone(outcome.layout.highmem_bytes)


def _choice(options: list[Option]) -> Option:
    """The best of those that nothing speaks against: no highmem, most room for a process."""
    now = next(option for option in options if option.is_now)
    good = [option for option in options if option.is_better and not option.is_untold]

    def rank(option: Option) -> tuple[bool, bool, int, bool]:
        layout = option.outcome.layout
        tiny = 0 < layout.highmem_bytes < TINY_ZONE
        return (
            layout.highmem_bytes > 0, tiny or bool(option.build.without), -layout.user_end,
            option.build.highmem,
        )  # fmt: skip

    best = min(good, key=rank, default=now)
    return best if not best.outcome.layout.highmem_bytes or _gains_much(best) else now


def _gains_much(option: Option) -> bool:
    """Whether it spares failures or waits, highmem or not."""
    return any(isinstance(reason, Failures | Waits) for reason in option.gains)


def _not_seen(snapshot: Snapshot, now: Outcome, choice: Option, lost: bool) -> Iterator[str]:  # noqa: FBT001
    """What the capture could not show, by code."""
    if lost:
        yield "lost"
    if not snapshot.processes:
        yield "processes"
    if not snapshot.zones:
        yield "zones"
    if not snapshot.areas:
        yield "areas"
    if not now.pool.maps + now.local.maps + now.local.lowmem:
        yield "no-calls"
    if not now.arena.allocs + now.arena.failures:
        yield "no-arena"
    if choice.outcome.bound is not None:
        yield "bound"
    yield "dma"
    yield "never-mapped"
