"""Which split to choose: every one that the kernel has, with highmem and without, and a verdict.

Each is a machine that the workload is served on (:class:`replay.whatif.run.Server`), so a verdict
rests on the model, not on rules of thumb. What a trace cannot tell stands beside it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.errors import HmtraceError
from replay.cost.verdict import cost_verdict
from replay.machine.arches import ARCHES
from replay.machine.layout import layout_of
from replay.machine.model import MiB, align_up, clip
from replay.machine.options import kernel_splits, with_options
from replay.machine.zones import HIGHMEM, kasan_bytes, memory_of
from replay.whatif.reasons import (
    SCARCE_PART,
    Advice,
    Build,
    Cost,
    Failures,
    FixedCosts,
    LessHighmem,
    LessRam,
    MoreLowmem,
    MoreUser,
    NothingMapped,
    NotReleased,
    Option,
    PurgedPages,
    SmallerArena,
    TightHole,
    TinyZone,
    UserSpace,
    Waits,
    WithoutWide,
    purged_pages,
)
from replay.whatif.sweep import is_alike

if TYPE_CHECKING:
    from collections.abc import Iterator

    from collectors.snapshot import Process, Snapshot
    from replay.cost.verdict import CostVerdict
    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.outcome import Outcome
    from replay.whatif.reasons import Reason
    from replay.whatif.run import Server

TINY_ZONE: Final = 64 * MiB
"""A highmem zone of less runs out first: its low watermark and per-CPU lists alone take some MiB,
and every page of a process is looked for there first (mm/page_alloc.c: get_page_from_freelist)."""
SMALL_PART: Final = 64
"""One part in so many of RAM may be given up for a kernel without highmem."""
MUCH: Final = 0.05
"""Change of a cost, or of the purged pages, that is worth a word."""
LEAST_SHARE: Final = 1e-4
"""Part of the CPUs' time below which nobody builds a kernel for what mapping costs."""
LEAST_VMALLOC: Final = 64 * MiB
"""No smaller arena is advised than this, or than twice what was in use."""


def advise(
    server: Server,
    machine: Machine,
    snapshot: Snapshot,
    *,
    lost: bool = False,
    target: Machine | None = None,
) -> Advice:
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
    target
        The machine that the advice is for; None: that one.
    """
    asker = _Asker(server, machine if target is None else target, snapshot, target is not None)
    options = asker.options()
    choice = _choice(options)
    return Advice(
        tuple(options),
        choice,
        _worth_trying(options) if choice.is_now else None,
        asker.largest,
        tuple(_not_seen(snapshot, asker.now, choice, lost)),
    )


class _Variant(NamedTuple):
    """A build with the machine that it makes."""

    build: Build
    machine: Machine


class _Asker:
    """Asks what the workload comes to on each build of a machine."""

    def __init__(
        self,
        server: Server,
        machine: Machine,
        snapshot: Snapshot,
        is_another: bool,  # noqa: FBT001
    ) -> None:
        self._server, self._machine, self._snapshot = server, machine, snapshot
        self.now = server.on(machine) if is_another else server.baseline
        self.largest = snapshot.processes[0] if snapshot.processes else None
        flags = snapshot.cpu_flags
        self._may_have_nx = machine.arch == "i386" and (
            is_another or flags is None or "nx" in flags
        )

    def options(self) -> list[Option]:
        """All of them, those with most room for a process first."""
        found = [self._present()]
        found += [self._option(variant) for variant in self._variants()]
        found.sort(key=lambda o: (-o.outcome.layout.user_end, not o.build.highmem, o.build.without))
        return found

    def _present(self) -> Option:
        machine, now = self._machine, self.now
        build = Build(machine.split, machine.highmem_enabled, machine.pae)
        return Option(
            build, now, self._fixed(now),
            is_now=True,
            is_default=_is_default(build, machine),
            lost_ram=self._unreached(now),
            mind=tuple(_tiny(now)),
        )  # fmt: skip

    def _variants(self) -> Iterator[_Variant]:
        """The builds that this kernel can have beside the present one."""
        machine = self._machine
        for split in kernel_splits(machine):
            for highmem in (True, False):
                build = Build(
                    split.name, highmem, machine.pae and not split.without,
                    split.without, split.proposed,
                )  # fmt: skip
                yield from self._variant(build)
                if build.pae and self._fits_without_pae(build):
                    without = ARCHES[machine.arch].pae_name
                    yield from self._variant(build._replace(pae=False, without=without), like=build)

    def _fits_without_pae(self, build: Build) -> bool:
        """Whether no RAM is lost without PAE; the present build is asked about anyway."""
        machine = self._machine
        is_present = (build.split, build.highmem) == (machine.split, machine.highmem_enabled)
        return is_present or machine.ram[-1][1] <= ARCHES[machine.arch].max_phys

    def _variant(self, build: Build, like: Build | None = None) -> Iterator[_Variant]:
        """The build, unless it is the present one, cannot be, or is another by a second name.

        `like` is one that it may be alike to.
        """
        machine = self._machine
        if build.key == (machine.split, machine.highmem_enabled, machine.pae):
            return
        try:
            other = _built(machine, build)
        except HmtraceError:
            return  # too little lowmem for its page array, no RAM below 4 GiB
        layout = layout_of(other)
        # without highmem a build with HIGHMEM is what one without it is
        if is_alike(other, machine) or (build.highmem and not layout.highmem_bytes):
            return
        if like is not None and is_alike(other, _built(machine, like)):
            return
        yield self._reaching_all(_Variant(build, other), layout)

    def _reaching_all(self, variant: _Variant, layout: Layout) -> _Variant:
        """The same with so small an arena that all RAM is reached, where that is enough of one."""
        build, machine = variant
        lost = self._machine.ram_bytes - layout.lowmem_bytes
        peak = self.now.arena.peak_used
        by_option = ARCHES[machine.arch].arena_option == "vmalloc="
        if build.highmem or build.proposed or lost < MiB or not by_option:
            return variant
        if peak is None or not self.now.arena.allocs:
            return variant  # nobody knows how large an arena is enough
        vmalloc = (layout.vmalloc_bytes - lost) // MiB * MiB
        if vmalloc < max(LEAST_VMALLOC, 2 * peak):
            return variant
        try:
            smaller = with_options(machine, vmalloc=vmalloc)
        except HmtraceError:
            return variant
        if layout_of(smaller).lowmem_bytes <= layout.lowmem_bytes:
            return variant
        return _Variant(build._replace(vmalloc=vmalloc), smaller)

    def _unreached(self, outcome: Outcome) -> int:
        """Bytes of RAM that a kernel does not reach."""
        layout = outcome.layout
        return max(self._machine.ram_bytes - layout.lowmem_bytes - layout.highmem_bytes, 0)

    def _option(self, variant: _Variant) -> Option:
        build, machine = variant
        there = self._server.on(machine)
        lost = max(self._unreached(there) - self._unreached(self.now), 0)
        found = _Found()
        self._of_machine(build, there, lost, found)
        _of_workload(there, self.now, found)
        verdict = cost_verdict(self.now, there)
        _of_cost(_cost(self.now, there, verdict), found)
        return Option(
            build, there, self._fixed(there),
            is_now=False,
            is_default=_is_default(build, self._machine),
            lost_ram=lost,
            against=tuple(found.against), mind=tuple(found.mind), gains=tuple(found.gains),
            may=tuple(found.may),
            cost=verdict,
        )  # fmt: skip

    def _of_machine(self, build: Build, there: Outcome, lost: int, found: _Found) -> None:
        """What the build itself says."""
        now, layout = self.now, there.layout
        if lost:
            reached = now.layout.lowmem_bytes + now.layout.highmem_bytes
            much = lost * SMALL_PART > reached
            (found.against if much else found.mind).append(LessRam(lost, reached))
        if build.proposed:
            found.against.append(NotReleased(build.proposed))
        if build.without:
            found.mind.append(WithoutWide(build.without, self._may_have_nx))
        if build.vmalloc is not None:
            plain = _built(self._machine, build._replace(vmalloc=None))
            spared = layout.lowmem_bytes - layout_of(plain).lowmem_bytes
            found.mind.append(SmallerArena(build.vmalloc, spared))
        found.mind.extend(_tiny(there))
        less = now.layout.user_end - layout.user_end
        if less > 0:
            space = UserSpace(less, layout.user_end, self.largest)
            (found.against if _is_too_small(layout.user_end, self.largest) else found.mind).append(
                space
            )
        elif less < 0 and self.largest is not None and _is_close(now, self.largest):
            found.gains.append(MoreUser(now.layout.user_end, layout.user_end, self.largest))
        before, after = now.layout.lowmem_bytes, layout.lowmem_bytes
        lowmem = self._server.baseline.lowmem
        if lowmem is not None and lowmem.is_short and after > before:
            found.gains.append(MoreLowmem(before, after))

    def _fixed(self, outcome: Outcome) -> FixedCosts:
        """What lowmem pays whatever runs. See docs/advise.md for the sources."""
        machine, layout = outcome.machine, outcome.layout
        memory = memory_of(machine, layout, self._snapshot)
        kasan = kasan_bytes(machine, layout)
        managed = sum(zone.managed for zone in memory.zones if zone.zone != HIGHMEM)
        return FixedCosts(
            mem_map=layout.mem_map_bytes,
            of_highmem=_mem_map_of_highmem(machine, layout),
            pool=_pool_bytes(machine, layout),
            kasan=kasan,
            left=max(managed * layout.page_size - kasan, 0),
        )


class _Found:
    """Reasons as they are found."""

    def __init__(self) -> None:
        self.against: list[Reason] = []
        self.mind: list[Reason] = []
        self.gains: list[Reason] = []
        self.may: list[Reason] = []


_PAGE_ADDRESS: Final = 16
"""struct page_address_map of 32 bit (mm/highmem.c), one for each slot."""
_PAGE_ADDRESS_HASH: Final = 128 * 64
"""page_address_htable there: 128 buckets, each in a cache line of its own on SMP."""


def _pool_bytes(machine: Machine, layout: Layout) -> int:
    """Lowmem that the pool takes: its page tables, and the addresses of its pages.

    An entry has 8 bytes with PAE or its like, else 4; ARM keeps a second table beside the CPU's.
    """
    if not layout.pkmap_slots:
        return 0
    entry = 8 if machine.pae or machine.arch == "arm" else 4
    table = align_up(layout.pkmap_slots * entry, layout.page_size)
    return table + layout.pkmap_slots * _PAGE_ADDRESS + _PAGE_ADDRESS_HASH


def _mem_map_of_highmem(machine: Machine, layout: Layout) -> int:
    """Bytes of the page array that a kernel without HIGHMEM spares.

    One that is flat describes the holes below highmem, too (mm/mm_init.c: alloc_node_mem_map).
    """
    if not layout.highmem_bytes:
        return 0
    low = layout_of(replace(machine, highmem_enabled=False, highmem=None))
    return max(layout.mem_map_bytes - low.mem_map_bytes, 0)


def _built(machine: Machine, build: Build) -> Machine:
    """A machine whose kernel is built so; without PAE, RAM above 4 GiB is gone.

    Raises
    ------
    HmtraceError
        If it cannot exist.
    """
    if build.without:
        kept = clip(machine.ram, ARCHES[machine.arch].max_phys)
        machine = replace(machine, ram=tuple((a, b) for a, b in kept if a < b))
    other = with_options(
        machine, split=build.split, pae=False if build.without else None, highmem=build.highmem
    )
    return other if build.vmalloc is None else with_options(other, vmalloc=build.vmalloc)


def _is_default(build: Build, machine: Machine) -> bool:
    defaults = ARCHES[machine.arch].proposed_defaults
    return defaults.get((build.highmem, build.pae)) == build.split


def _is_too_small(user: int, largest: Process | None) -> bool:
    return largest is not None and largest.vm_peak > user


def _is_close(outcome: Outcome, largest: Process) -> bool:
    return largest.vm_peak > SCARCE_PART * outcome.layout.user_end


def _of_workload(there: Outcome, now: Outcome, found: _Found) -> None:
    """What the workload itself says."""
    _of_arena(there, now, found)
    if (there.pool.waits, there.pool.asleep) != (now.pool.waits, now.pool.asleep):
        is_least = there.bound in ("least", "about")
        waits = Waits(now.pool.waits, there.pool.waits, there.pool.asleep, is_least=is_least)
        worse = waits.there > waits.here or waits.asleep > now.pool.asleep
        gained = found.may if is_least else found.gains
        (found.against if worse else gained).append(waits)
    before, after = now.layout.highmem_bytes, there.layout.highmem_bytes
    calls = now.pool.maps + now.local.maps + now.local.reused
    if before and not after:
        spared = NothingMapped(now.pool.maps, now.local.maps, now.pool.flushes, traced=calls > 0)
        (found.gains if calls else found.may).append(spared)
    elif 0 < after < before:
        ram = now.layout.lowmem_bytes + before
        found.may.append(LessHighmem(before, after, ram))
    here, pages = purged_pages(now), purged_pages(there)
    if there.layout.flush_ceiling_pages is None and pages > here * (1 + MUCH):
        found.mind.append(PurgedPages(here, pages))


def _cost(now: Outcome, there: Outcome, verdict: CostVerdict) -> Cost:
    shares = [one.cost.share_of_span for one in (now, there)]
    share = max((share for share in shares if share is not None), default=None)
    return Cost(now.cost.total_ns, there.cost.total_ns, share, verdict)


def _of_cost(cost: Cost, found: _Found) -> None:
    """What it costs: reason enough for or against only where it is so over all costs' ranges."""
    verdict = cost.verdict
    if verdict.is_bounded or abs(verdict.likely) < MUCH * cost.here:
        return
    if cost.share is not None and cost.share < LEAST_SHARE:
        return
    if verdict.word == "cheaper":
        (found.gains if verdict.holds or found.gains else found.may).append(cost)
    else:
        gains = found.gains or found.may
        (found.against if verdict.holds and not gains else found.mind).append(cost)


def _of_arena(there: Outcome, now: Outcome, found: _Found) -> None:
    """What the arena says, and the modules' own area."""
    failures = _failures(now, there)
    for one in failures:
        (found.against if one.there > one.here else found.gains).append(one)
    tight = _tight(there)
    if tight is not None and _tight(now) is None and not failures:
        found.mind.append(tight)


def _failures(now: Outcome, there: Outcome) -> list[Failures]:
    """Where they differ, those of the arena, and those of the modules' own area."""
    own_here, own_there = (
        0 if outcome.arena.modules is None else outcome.arena.modules.failures
        for outcome in (now, there)
    )
    pairs = (
        Failures(
            now.arena.failures - own_here,
            there.arena.failures - own_there,
            is_least=there.arena.apart > 0,
        ),
        Failures(own_here, own_there, of_modules=True),
    )
    return [pair for pair in pairs if pair.here != pair.there]


def _tight(outcome: Outcome) -> TightHole | None:
    """The largest request where it would not have fitted at any time."""
    arena = outcome.arena
    needed, hole = arena.hole_needed, arena.largest_hole_min
    if needed is None or hole is None or arena.largest_request is None or hole >= needed:
        return None
    return TightHole(*arena.largest_request, hole)


def _tiny(outcome: Outcome) -> Iterator[TinyZone]:
    if 0 < outcome.layout.highmem_bytes < TINY_ZONE:
        yield TinyZone(outcome.layout.highmem_bytes)


def _choice(options: list[Option]) -> Option:
    """The best of those that nothing speaks against: no highmem, most room for a process."""
    now = next(option for option in options if option.is_now)
    good = [option for option in options if option.is_better and not option.doubts]

    def rank(option: Option) -> tuple[bool, bool, int, bool]:
        layout = option.outcome.layout
        tiny = 0 < layout.highmem_bytes < TINY_ZONE
        return (
            layout.highmem_bytes > 0, tiny or bool(option.build.without), -layout.user_end,
            option.build.highmem,
        )  # fmt: skip

    best = min(good, key=rank, default=now)
    return best if not best.outcome.layout.highmem_bytes or _gains_much(best) else now


def _worth_trying(options: list[Option]) -> Option | None:
    """Of those that may gain something the one with least highmem, if that is much less."""
    now = next(option for option in options if option.is_now).outcome.layout.highmem_bytes
    may = [
        option
        for option in options
        if option.verdict == "maybe"
        and not option.doubts
        and 2 * option.outcome.layout.highmem_bytes <= now
        and not any(isinstance(reason, TinyZone) for reason in option.mind)
    ]
    return min(
        may,
        key=lambda o: (o.outcome.layout.highmem_bytes, -o.outcome.layout.user_end),
        default=None,
    )


def _gains_much(option: Option) -> bool:
    """Whether it spares failures or waits, or gives what was short, highmem or not."""
    much = Failures | Waits | MoreLowmem | MoreUser
    return any(isinstance(reason, much) for reason in option.gains)


def _not_seen(snapshot: Snapshot, now: Outcome, choice: Option, lost: bool) -> Iterator[str]:  # noqa: FBT001
    """What the capture could not show, by code."""
    if lost:
        yield "lost"
    yield "dead-processes" if snapshot.processes else "processes"
    if not snapshot.zones:
        yield "zones"
    if not snapshot.areas:
        yield "areas"
    locals_seen = now.local.maps + now.local.lowmem + now.local.reused
    is_local_probed = _is_probed(snapshot, _LOCAL_CALLS)
    if not (now.pool.maps + locals_seen or (is_local_probed and _is_probed(snapshot, _POOL_CALLS))):
        yield "no-calls"
    elif not (locals_seen or is_local_probed):
        yield "no-locals"
    if not (now.arena.allocs + now.arena.failures or _is_probed(snapshot, _ARENA_CALLS)):
        yield "no-arena"
    if choice.outcome.bound is not None:
        yield "bound"
    yield "dma"
    yield "never-mapped"


_POOL_CALLS: Final = ("kmap_high",)
_LOCAL_CALLS: Final = ("__kmap_local", "kmap_atomic", "__kmap_atomic")
_ARENA_CALLS: Final = ("alloc_vmap_area",)


def _is_probed(snapshot: Snapshot, functions: tuple[str, ...]) -> bool:
    """Whether a call of these would be in the trace, so that none in it means that there was none.

    Of tracepoints and function tracers nothing is known.
    """
    return any(probe.symbol.startswith(functions) for probe in snapshot.probes)
