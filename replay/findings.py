"""Findings: what an outcome means, in words, each with its evidence.

One function per rule, each a pure function of the figures; :func:`findings` calls them in the
order of :data:`RULES`. Thresholds are constants with their reasons. The pathologies are those of
mm/highmem.c, mm/vmalloc.c and arch/x86/mm/tlb.c; rules that need single events (deadlock by
nesting, LIFO order) belong to the checks over the event table, not here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from collectors.events import HmtraceError
from replay.arches import ARCHES
from replay.generations import GENERATIONS
from replay.layout import layout_of
from replay.machine_findings import machine_findings
from replay.outcome import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from replay.layout import Layout
    from replay.machine import Machine
    from replay.outcome import Outcome

SEVERITIES: Final = ("problem", "warning", "info")
"""Worst first."""

NEAR_FULL: Final = 0.75
"""Share of slots in use from which a burst as large again would exhaust the pool."""
FEW_HELD: Final = 4
"""Kmaps held at the end that are no more than calls in flight on a few CPUs."""
STORM_PER_S: Final = 10.0
"""Pool flushes per second from which they show up in latency traces."""
UNUSED_PER_S: Final = 50.0
"""kmap_flush_unused() passes per second: one module load or unload makes about 16."""
HULL_PAGES: Final = 10_000
"""Pages of one flush that no set of areas in the arena alone accounts for."""
COST_WARNING: Final = 0.01
COST_PROBLEM: Final = 0.05
SPARE_DEPTH: Final = 3
SWITCH_SHARE: Final = 0.01
PAGE: Final = 4096
MIB: Final = 1 << 20


class Loss(Protocol):
    """What tracing lost, as :class:`collectors.capture.Lost` has it."""

    @property
    def events(self) -> int:
        """Number known to be lost."""
        ...

    @property
    def unknown(self) -> int:
        """Number of intervals of unknown count."""
        ...

    @property
    def intervals(self) -> Sequence[object]:
        """One per stretch of time and CPU."""
        ...


class _Case(NamedTuple):
    """What the rules look at; the arguments of :func:`findings`."""

    outcome: Outcome
    values: Mapping[str, Any]
    lost: Loss | None


def findings(
    outcome: Outcome, values: Mapping[str, Any], lost: Loss | None = None
) -> tuple[Finding, ...]:
    """Everything that a kernel engineer should know about an outcome.

    Parameters
    ----------
    outcome
        Figures of a replay; its own `findings` are ignored.
    values
        Facts of the machine (:mod:`collectors.facts`), name to value.
    lost
        What tracing lost; None: not known here.

    Returns
    -------
    tuple of Finding
        Worst severity first. Never empty: that there is nothing to complain about is said too.
    """
    case = _Case(outcome, values, lost)
    found = [finding for rule in RULES for finding in rule(case)]
    if not _has_calls(outcome):
        found.insert(0, _NOTHING)
    elif all(f.severity == "info" for f in found):
        found.insert(0, _fine(outcome))
    return tuple(sorted(found, key=lambda f: SEVERITIES.index(f.severity)))


def _pool_exhausted(case: _Case) -> Iterator[Finding]:
    """All slots in use: kmap() sleeps uninterruptibly (mm/highmem.c: map_new_virtual)."""
    pool = case.outcome.pool
    if not pool.waits:
        return
    full = pool.share_above.get("100")
    yield Finding(
        rule="pool-exhausted",
        severity="problem",
        message=(
            f"kmap() slept {_times(pool.waits)} because all {_grouped(pool.slots)} slots were in "
            f"use: {_number(pool.waiting_tasks, 'task')} waited {_time(pool.wait_ns)} in all, "
            f"the longest {_time(pool.longest_wait_ns)}"
        ),
        evidence=(
            (f"pool full for {_percent(full)} of the time; " if full is not None else "")
            + "every kunmap() to zero wakes all sleepers (map_new_virtual waits non-exclusively)"
        ),
        count=pool.waits,
    )


def _pool_near_full(case: _Case) -> Iterator[Finding]:
    pool = case.outcome.pool
    if pool.waits or not pool.slots or pool.max_used < NEAR_FULL * pool.slots:
        return
    above = pool.share_above.get("75", 0.0)
    yield Finding(
        rule="pool-near-full",
        severity="warning",
        message=(
            f"{pool.max_used} of {_grouped(pool.slots)} pool slots were in use at once "
            f"({_percent(pool.max_used / pool.slots)}): at {_grouped(pool.slots)} kmap() sleeps"
        ),
        evidence=f"at or above 75 % for {_percent(above)} of the time, mean {pool.mean_used:.1f}",
        count=pool.max_used,
    )


def _still_held(case: _Case) -> Iterator[Finding]:
    """A leaked kmap() takes its slot away for good; the pool only shrinks."""
    pool = case.outcome.pool
    if not pool.still_used:
        return
    many = pool.still_used > FEW_HELD
    grave = pool.slots > 0 and pool.still_used * 8 >= pool.slots
    yield Finding(
        rule="kmap-held",
        severity="problem" if grave else "warning" if many else "info",
        message=(
            f"{_number(pool.still_used, 'slot')} of the pool "
            f"{'is' if pool.still_used == 1 else 'are'} still held at the end of the capture"
            + (": suspect a leaked kmap()" if many else ", as calls in flight would explain")
        ),
        evidence=(
            f"{_grouped(pool.maps)} kmap, {_grouped(pool.unmaps)} kunmap; slots that are never "
            "given back make every search longer and the pool full sooner"
        ),
        count=pool.still_used,
    )


def _flush_storm(case: _Case) -> Iterator[Finding]:
    """Each flush that freed a slot drops the TLB of every CPU, under kmap_lock."""
    pool = case.outcome.pool
    rate = _per_second(pool.flushes, case.outcome)
    if rate is None or rate < STORM_PER_S or pool.flushes < STORM_PER_S:
        return
    yield Finding(
        rule="flush-storm",
        severity="warning",
        message=(
            f"{_grouped(pool.flushes)} TLB flushes of the whole pool window, {rate:.0f} a second, "
            f"each on {'every one of ' if case.outcome.cpus > 1 else ''}"
            f"{_number(case.outcome.cpus, 'CPU')} and under kmap_lock"
        ),
        evidence=(
            f"{_grouped(pool.wraps)} wraps of kmap(), {_grouped(pool.unused_passes)} passes of "
            "kmap_flush_unused()"
        ),
        count=pool.flushes,
    )


def _purge_hull(case: _Case) -> Iterator[Finding]:
    """A lazy purge flushes the hull of all freed areas, however sparse.

    ARM has no ceiling (arch/arm/kernel/smp_tlb.c), and its modules lie below PAGE_OFFSET: a
    module's area and a stack in the arena make a hull over the whole direct mapping.
    """
    tlb, layout = case.outcome.tlb, case.outcome.layout
    if layout.flush_ceiling_pages is not None or tlb.range_pages_max < HULL_PAGES:
        return
    cost = case.outcome.cost.by_cause.get("lazy purge flush")
    yield Finding(
        rule="purge-hull",
        severity="warning",
        message=(
            f"flush_tlb_kernel_range() invalidated up to {_grouped(tlb.range_pages_max)} pages one "
            "by one: the hull of a lazy purge from the modules to the vmap arena"
        ),
        evidence=(
            f"{_grouped(tlb.range)} ranged flushes of {_grouped(tlb.range_pages)} pages in all"
            + (f"; purges are {_percent(cost['share'])} of the estimated cost" if cost else "")
        ),
        count=tlb.range,
    )


def _unused_passes(case: _Case) -> Iterator[Finding]:
    """set_memory_*() and module loading call kmap_flush_unused() per change of attributes.

    arch/x86/mm/pat/set_memory.c: change_page_attr_set_clr.
    """
    pool = case.outcome.pool
    idle = pool.passes - pool.flushes
    # Passes are not told apart by what they freed, so those of kmap() itself must be few.
    if pool.unused_passes < 16 or pool.wraps * 4 > pool.passes or idle * 2 < pool.passes:
        return
    rate = _per_second(pool.unused_passes, case.outcome)
    storm = rate is not None and rate >= UNUSED_PER_S
    often = f", {rate:.0f} a second" if rate is not None else ""
    yield Finding(
        rule="flush-unused-idle",
        severity="warning" if storm else "info",
        message=(
            f"kmap_flush_unused() ran {_times(pool.unused_passes)}{often}, mostly with nothing to "
            f"free: {_grouped(idle)} of {_grouped(pool.passes)} passes found no stale slot"
        ),
        evidence=(
            f"each pass walks all {_grouped(pool.slots)} slots under kmap_lock; on x86 module "
            "loading, BPF and set_memory_*() cause them"
        ),
        count=pool.unused_passes,
    )


def _depth(case: _Case) -> Iterator[Finding]:
    """kmap_local_idx_push() has a BUG_ON for one nesting too many."""
    local = case.outcome.local
    if not local.limit or local.max_depth <= local.limit - SPARE_DEPTH:
        return
    at_limit = local.max_depth >= local.limit
    yield Finding(
        rule="local-depth",
        severity="problem" if at_limit else "warning",
        message=(
            f"local mappings nest {local.max_depth} deep; {local.limit} fit"
            + (", one more is a BUG" if at_limit else "")
        ),
        evidence="an interrupt handler's mappings come on top of the interrupted task's",
        count=local.max_depth,
    )


def _held_over_switch(case: _Case) -> Iterator[Finding]:
    """kernel/sched/core.c: prepare_task_switch takes the mappings out, finish_task_switch back."""
    local = case.outcome.local
    if not local.saved_on_switch:
        return
    part = local.mappings_saved / local.maps if local.maps else 0.0
    yield Finding(
        rule="local-over-switch",
        severity="warning" if part >= SWITCH_SHARE else "info",
        message=(
            f"{_number(local.saved_on_switch, 'context switch', 'context switches')} found local "
            f"mappings held: {_number(local.mappings_saved, 'mapping')} taken out and put back"
        ),
        evidence=(
            f"{_percent(part)} of {_grouped(local.maps)} local mappings; one TLB entry is flushed "
            "per mapping held, and the task cannot migrate meanwhile"
        ),
        count=local.saved_on_switch,
    )


def _arena(case: _Case) -> Iterator[Finding]:
    """mm/vmalloc.c: alloc_vmap_area gives up after one purge."""
    arena = case.outcome.arena
    if not arena.failures:
        return
    hole = arena.largest_hole_min
    yield Finding(
        rule="arena-exhausted",
        severity="problem",
        message=(
            f"{_number(arena.failures, 'allocation')} of virtual address space failed in an arena "
            f"of {_size(arena.size)}"
        ),
        evidence=(
            _number(arena.allocs, "allocation")
            + (f", largest hole down to {_size(hole)}" if hole is not None else "")
            + "; a larger vmalloc= costs as much lowmem"
        ),
        count=arena.failures,
    )


def _cost(case: _Case) -> Iterator[Finding]:
    cost = case.outcome.cost
    if cost.share_of_span is None or cost.share_of_span < COST_WARNING:
        return
    worst = sorted(cost.by_cause.items(), key=lambda c: -c[1].get("ns", 0))[:2]
    yield Finding(
        rule="mapping-cost",
        severity="problem" if cost.share_of_span >= COST_PROBLEM else "warning",
        message=(
            f"temporary mappings cost {_percent(cost.share_of_span)} of all CPU time "
            f"({_time(cost.total_ns)}, estimated)"
        ),
        evidence="; ".join(
            f"{name.replace('_', ' ')} {_percent(c.get('share', 0.0))} of it" for name, c in worst
        ),
    )


def _pages_unknown(case: _Case) -> Iterator[Finding]:
    pool = case.outcome.pool
    if not pool.pages_unknown:
        return
    yield Finding(
        rule="pages-unknown",
        severity="warning",
        message=(
            "the trace has no page arguments: calls are counted, but reuse, occupancy, flushes "
            "and other machines cannot be worked out"
        ),
        evidence=(
            f"{_grouped(pool.maps)} kmap calls without a struct page; record with kprobes that "
            "fetch it"
        ),
        count=pool.maps,
    )


def _losses(case: _Case) -> Iterator[Finding]:
    lost = case.lost
    if lost is None or not lost.intervals:
        return
    number = f"{'at least ' if lost.unknown else ''}{_grouped(lost.events)}"
    yield Finding(
        rule="events-lost",
        severity="warning",
        message=(
            f"tracing lost {number if lost.events else 'an unknown number of'} events: "
            "counts are lower bounds"
        ),
        evidence=(
            f"{_number(len(lost.intervals), 'interval')}; after each the model has to find its "
            "state again; a larger trace buffer avoids it"
        ),
        count=max(lost.events, 1),
    )


def _probe_misses(case: _Case) -> Iterator[Finding]:
    """kprobe_profile counts the hits that found no free return instance."""
    misses = case.values.get("probe_misses")
    if not isinstance(misses, dict):
        return
    missed = {k: v for k, v in misses.items() if isinstance(v, int) and v > 0}
    if not missed:
        return
    worst = sorted(missed.items(), key=lambda m: (-m[1], m[0]))[:3]
    generation = GENERATIONS.get(case.outcome.machine.generation)
    failures = case.outcome.arena.failures
    if (
        generation is not None
        and generation.fetch_faults_are_misses
        and sum(missed.values()) <= 2 * failures
    ):
        # The failed call returns an error pointer, whose fields the probe cannot fetch.
        yield Finding(
            rule="probe-misses",
            severity="info",
            message=(
                f"probes missed {_times(sum(missed.values()))}, which the "
                f"{_number(failures, 'failed allocation')} explain"
            ),
            evidence="this kernel counts a faulting fetch as two misses; no call was lost",
            count=sum(missed.values()),
        )
        return
    yield Finding(
        rule="probe-misses",
        severity="warning",
        message=f"probes missed {_times(sum(missed.values()))}: those calls have no return value",
        evidence=", ".join(f"{name}: {number}" for name, number in worst)
        + "; return probes want more instances (r64:group/event)",
        count=sum(missed.values()),
    )


def _kernel_log(case: _Case) -> Iterator[Finding]:
    """What the kernel itself complained about (mm/highmem.c, mm/vmalloc.c)."""
    for name, rule, what in (
        ("vmap_failures", "arena-exhausted-log", "failed vmap allocations"),
        ("kmap_warnings", "kmap-warnings-log", "warnings about kmap"),
    ):
        lines = case.values.get(name)
        if isinstance(lines, int) and lines > 0:
            yield Finding(
                rule=rule,
                severity="warning",
                message=f"the kernel's log has {_number(lines, 'line')} about {what}",
                evidence="counted in the boot log beside the capture, also outside the traced time",
                count=lines,
            )


def _machine(case: _Case) -> Iterator[Finding]:
    """What holds of the machine whatever runs on it."""
    return machine_findings(case.outcome.machine, case.outcome.layout)


def _highmem_avoidable(case: _Case) -> Iterator[Finding]:
    """A split under which all RAM is lowmem makes every figure here vanish."""
    machine, layout = case.outcome.machine, case.outcome.layout
    if not layout.highmem_bytes or not machine.highmem_enabled:
        return
    if not case.values.keys() & {"ram", "zones", "mem_total"}:
        return  # the RAM is a guess
    better = _split_without_highmem(machine, layout)
    if better is None:
        return
    split, other = better
    gigabyte = layout.max_pfn * layout.page_size - layout.phys_offset <= 1 << 30
    yield Finding(
        rule="split",
        severity="info",
        message=(
            f"split {split} would make all RAM lowmem: {_size(layout.highmem_bytes)} of highmem "
            f"and every mapping of it would be gone"
        ),
        evidence=(
            f"user space would be {_size(other.user_end)} instead of {_size(layout.user_end)}: "
            "compare it with the largest process"
            + ("; a small highmem zone also runs out first" if gigabyte else "")
        ),
    )


def _split_without_highmem(machine: Machine, layout: Layout) -> tuple[str, Layout] | None:
    """The split nearest to the present one that leaves no highmem, and its layout."""
    splits = ARCHES[machine.arch].splits
    lower = [name for name, offset in splits.items() if offset < layout.page_offset]
    for name in sorted(lower, key=lambda n: -splits[n]):
        try:
            other = layout_of(machine.with_options(split=name))
        except HmtraceError:
            continue  # no such split with PAE
        if not other.highmem_bytes:
            return name, other
    return None


_NOTHING: Final = Finding(
    rule="nothing-traced",
    severity="warning",
    message="the trace holds no mapping call: it says nothing of what mappings cost here",
    evidence="either the probes were off, or nothing was mapped while they were on; hmtrace info "
    "lists what was traced, README.md ('How to capture') what to enable",
)


def _has_calls(outcome: Outcome) -> bool:
    pool, local, arena = outcome.pool, outcome.local, outcome.arena
    calls = pool.maps + pool.unmaps + pool.passes + local.maps + local.lowmem + local.reused
    return bool(calls + local.unmaps + arena.allocs + arena.failures + arena.lazy_purges)


def _fine(outcome: Outcome) -> Finding:
    pool, cost = outcome.pool, outcome.cost
    parts = []
    if cost.share_of_span is not None:
        parts.append(f"mapping costs {_percent(cost.share_of_span)} of CPU time")
    if pool.maps and pool.slots:
        parts.append(
            f"at most {pool.max_used} of {_grouped(pool.slots)} slots in use, nobody waited"
        )
    if outcome.local.limit and outcome.local.maps:
        parts.append(f"local depth {outcome.local.max_depth} of {outcome.local.limit}")
    if outcome.arena.allocs:
        parts.append(f"none of {_grouped(outcome.arena.allocs)} arena allocations failed")
    return Finding(
        rule="fine",
        severity="info",
        message="nothing to complain about",
        evidence="; ".join(parts) or "hmtrace info shows what was traced",
    )


def _per_second(number: int, outcome: Outcome) -> float | None:
    """Rate over the capture; None for a counter clock or an empty span."""
    if outcome.cost.share_of_span is None or outcome.span_ns <= 0:
        return None
    return number / outcome.span_ns * 1e9


def _percent(part: float) -> str:
    return "under 0.1 %" if 0 < part < 0.001 else f"{100 * part:.1f} %"


def _grouped(value: int) -> str:
    """Digits in groups of three, as the reports have them."""
    return f"{value:,}".replace(",", " ")


def _number(value: int, one: str, many: str | None = None) -> str:
    return f"{_grouped(value)} {one if value == 1 else many or one + 's'}"


def _times(value: int) -> str:
    return {1: "once", 2: "twice"}.get(value, f"{_grouped(value)} times")


def _time(ns: float) -> str:
    for factor, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if ns >= factor:
            return f"{ns / factor:.1f} {unit}"
    return f"{ns:.0f} ns"


def _size(value: int) -> str:
    """Bytes, cut off as in the kernel's messages; GiB only where nothing is left over."""
    if value and value % (1 << 30) == 0:
        return f"{value >> 30} GiB"
    if value >= MIB:
        return f"{value // MIB} MiB"
    return f"{value // 1024} KiB" if value >= 1024 else f"{value} bytes"


RULES: Final[tuple[Callable[[_Case], Iterator[Finding]], ...]] = (
    _pool_exhausted,
    _still_held,
    _arena,
    _depth,
    _cost,
    _pool_near_full,
    _flush_storm,
    _purge_hull,
    _unused_passes,
    _held_over_switch,
    _pages_unknown,
    _losses,
    _probe_misses,
    _kernel_log,
    _machine,
    _highmem_avoidable,
)
"""Every rule; among findings of one severity this order stays."""
