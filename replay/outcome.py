"""What a replay found: the numbers that terminal, HTML and JSON reports all show.

Field names are the keys of the JSON documents (design.md section 4). Times are nanoseconds
of the trace clock, addresses are integers, shares are 0 to 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from collectors.records import dataclass, field

if TYPE_CHECKING:
    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.memory import LowmemOutcome
    from replay.over_time import MarkedTimes, Series, Timeline

NAMED: Final = 16
"""Tasks, holders and the like that an outcome names."""


@dataclass(frozen=True)
class Moment:
    """When something happened, and who did it; None where the trace does not tell.

    `site` is where the call came from.
    """

    ts: int
    cpu: int | None = None
    pid: int | None = None
    comm: str | None = None
    site: str | None = None


@dataclass(frozen=True)
class Waiter:
    """A task that slept in kmap() for a slot: how often, how long, and its longest wait.

    `asleep`: it still did when the trace ended, and its times are the least that they can be.
    """

    pid: int
    waits: int
    wait_ns: int
    longest_ns: int
    asleep: bool = False
    longest: Moment | None = None


@dataclass(frozen=True)
class SlotHolder:
    """A task that held slots of the pool, from one call site.

    `first` is its earliest kmap() of them; None: they were held since before the trace, by nobody
    knows whom. `asleep`: it slept in kmap() for one more when the trace ended.
    """

    slots: int
    first: Moment | None = None
    asleep: bool = False


@dataclass(frozen=True)
class NestedTask:
    """A task that needed one more slot while it held some: most of them, and that kmap()."""

    pid: int
    slots: int
    at: Moment | None = None


@dataclass(frozen=True)
class NestedKmaps:
    """kmap() of tasks that held slots of the pool already, and needed one more.

    A task holds a slot that no other task uses, and that it mapped in the trace: what is shared or
    older is left out, so that all of it is at least so much.

    Attributes
    ----------
    calls, tasks
        How many, by how many tasks.
    at_once
        Most slots of such tasks at one time, each counted with what it held when it needed one
        more: so many would be held by sleepers if all of them had needed it at once.
    when
        The call that made it so many.
    worst
        The tasks that held most, the first :data:`NAMED`.
    """

    calls: int
    tasks: int
    at_once: int
    when: Moment | None = None
    worst: tuple[NestedTask, ...] = ()


@dataclass(frozen=True)
class JammedTask:
    """A task that held slots, or waited for one; `holds`, `asks`: where it got and wants one."""

    pid: int
    slots: int
    asleep: bool
    holds: Moment | None = None
    asks: Moment | None = None


@dataclass(frozen=True)
class PoolJam:
    """Who held and who waited at `ts`, when the tasks that slept held most slots.

    Attributes
    ----------
    by_asleep, by_awake, by_unknown
        Slots by their newest user: a task that slept, one that did not, nobody knows whom.
    sleepers
        Tasks that slept.
    holders, both
        Tasks that held slots, and those of them that slept.
    tasks
        Those of all, the first :data:`NAMED` that held most, then as many that only waited.
    """

    ts: int
    by_asleep: int
    by_awake: int
    by_unknown: int
    sleepers: int
    holders: int
    both: int
    tasks: tuple[JammedTask, ...] = ()


@dataclass(frozen=True)
class CrossedKmaps:
    """kunmap() calls of what another task had mapped, the first of them; of one's own elsewhere."""

    other_task: int
    other_cpu: int
    first: Moment | None = None


@dataclass(frozen=True)
class PoolOutcome:
    """The pkmap pool (kmap, kunmap).

    `unmaps` leaves out kunmap() of pages that were mapped before the trace, or whose kmap() was
    lost: the model knows no slot of theirs.

    `flushes` counts TLB flushes of the pool's window, `passes` the runs of
    flush_all_zero_pkmaps that may lead to one, `wraps` those passes that kmap() itself caused and
    `unused_passes` those of kmap_flush_unused(). `share_above` maps "50", "75", "90", "100" to
    the share of the time in which at least that percentage of the slots was in use. `scan_mean` is
    the slots visited per new mapping, by attempts that found none too; `scan_max` those of one.
    Both leave out searches of which it is not known where they began, `scans_unknown`; None: all.

    `asleep` counts tasks that still slept when the trace ended (on another machine: for ever): then
    `wait_ns` and `longest_wait_ns` are the least that they can be. `waiters` are the tasks that
    slept, those that waited longest first, `first_wait` is where the first of all fell asleep;
    `holders` had the slots when the worst of it began, most slots first. `held` have the slots that
    are in use at the end, `held_by_asleep` counts those of tasks that are asleep. Of each list the
    first
    :data:`NAMED` are given. `first_flush` and `first_unused_pass` are when the window's TLB entries
    were first flushed, and when kmap_flush_unused() first ran; `fullest` is when `max_used` slots
    were first in use. `unmapped_twice` counts kunmap() calls of pages that have a slot and no user:
    the kernel's BUG(); None where tracing lost events, a kmap() perhaps. `nested` is None where
    more users shared slots than are told apart, `jam` where nobody slept; both on another machine.
    `crossed` is None where events were lost, too.
    """

    slots: int = 0
    maps: int = 0
    unmaps: int = 0
    hits: int = 0
    new_mappings: int = 0
    passes: int = 0
    wraps: int = 0
    unused_passes: int = 0
    flushes: int = 0
    waits: int = 0
    waiting_tasks: int = 0
    wait_ns: int = 0
    longest_wait_ns: int = 0
    max_used: int = 0
    mean_used: float = 0.0
    max_stale: int = 0
    scan_mean: float | None = 0.0
    scan_max: int | None = 0
    scans_unknown: int = 0
    share_above: dict[str, float] = field(default_factory=dict)
    used: Series | None = None
    stale: Series | None = None
    still_used: int = 0
    asleep: int = 0
    first_wait: Moment | None = None
    first_flush: Moment | None = None
    first_unused_pass: Moment | None = None
    fullest: Moment | None = None
    waiters: tuple[Waiter, ...] = ()
    holders: tuple[SlotHolder, ...] = ()
    held: tuple[SlotHolder, ...] = ()
    held_by_asleep: int = 0
    unmapped_twice: int | None = 0
    first_unmapped_twice: Moment | None = None
    nested: NestedKmaps | None = None
    jam: PoolJam | None = None
    crossed: CrossedKmaps | None = None

    @property
    def pages_unknown(self) -> bool:
        """Whether calls could only be counted: use, flushes, waits and their cost are unknown."""
        return self.maps > 0 and not self.hits + self.new_mappings


@dataclass(frozen=True)
class WrongOrder:
    """Unmaps of local mappings that the kernel warns of (mm/highmem.c: kunmap_local_indexed).

    `unmaps` were given another mapping than the newest one; at the first the mapping of level
    `given` (0: the task's first) where that of level `newest` was the newest, whose call site
    stands for one that was not traced. `strays` had no mapping of their own: their task held none,
    or the address is another CPU's. `holder` is the mapping of another task that the first of them
    was given; None: nobody is known to hold it.
    """

    unmaps: int = 0
    given: int | None = None
    newest: int | None = None
    first: Moment | None = None
    strays: int = 0
    first_stray: Moment | None = None
    holder: Moment | None = None


@dataclass(frozen=True)
class LocalOutcome:
    """The kmap_local stacks (kmap_local_page, kmap_atomic).

    `maps` counts mappings that took a slot, `lowmem` the calls for pages that need none,
    `reused` those that found a mapping of the pool (kmap_high_get), `unknown` those among `maps`
    of which the trace tells neither page nor address, so that they may be of lowmem.
    `depth_by_cpu` holds per CPU the number of mappings made at each depth (index 0: the first).
    `tlb_single` counts single-entry flushes on the local CPU. `longest_hold` is the mapping that
    was held longest of those that were given back, `deepest` the first of the deepest ones,
    `first_switch` the first context switch that found mappings held. `wrong_order` is None where
    every unmap was of the newest mapping.
    """

    maps: int = 0
    lowmem: int = 0
    unmaps: int = 0
    max_depth: int = 0
    limit: int = 0
    depth_by_cpu: dict[int, tuple[int, ...]] = field(default_factory=dict)
    saved_on_switch: int = 0
    mappings_saved: int = 0
    tlb_single: int = 0
    reused: int = 0
    unknown: int = 0
    longest_hold_ns: int | None = None
    longest_hold: Moment | None = None
    deepest: Moment | None = None
    first_switch: Moment | None = None
    wrong_order: WrongOrder | None = None


@dataclass(frozen=True)
class Holder:
    """A function that asked for areas that were there before the trace: how many, how large."""

    caller: str
    areas: int
    bytes: int


@dataclass(frozen=True)
class ModulesOutcome:
    """An area of addresses that only modules are given from, apart from the arena. Bytes.

    `allocs` and `failures` are among the arena's. `held` is what was in use at the first failure,
    where there was none at the end, by `holders`, `peak` the most; `complete` where what was there
    before the trace is among it. `smallest_failed` is the least that was asked for in vain, `first`
    the first time.
    """

    size: int = 0
    allocs: int = 0
    failures: int = 0
    held: int = 0
    peak: int = 0
    complete: bool = False
    holders: tuple[Holder, ...] = ()
    smallest_failed: int | None = None
    first: Moment | None = None


@dataclass(frozen=True)
class ArenaOutcome:
    """The vmap/vmalloc arena, as the trace shows it. Bytes; None where unknown.

    `allocs` and `failures` count `modules` in. `untold` counts those among `allocs` of which the
    trace does not tell whether they failed, `derived` is set where the calls are those of vmap()
    and vmalloc(), since alloc_vmap_area() was not traced; where it was, `null_calls` counts such
    calls that returned NULL without a failure of their allocation.
    `peak_used` counts what waits for a purge, `peak_live` does not. `purge_runs` counts calls of
    the purge, `lazy_purges` those that found something to give back, and flushed it.
    `smallest_failed` is the least that was asked for in vain, `largest_request` the bytes and the
    alignment of the request that needs the largest hole (without the modules' own area; None: not
    looked for, or none).
    `holders` are those of the areas at the start, guard pages included, largest first.
    `ambiguous` counts allocations whose predicted address rests on a shape of the free tree that
    is one of several possible ones. `first` is the first failure outside of the modules' area.
    `at_failure` is what the first failed allocation of the arena asked for, how much was free then,
    and the largest hole.
    `apart` counts allocations of a what-if that fail on one of both machines alone: what their
    callers did instead is not in the trace, so the arena's figures may be more or less from there;
    and failures and purges of the captured machine that the model does not make, or makes too many.
    """

    size: int = 0
    allocs: int = 0
    failures: int = 0
    peak_used: int | None = None
    largest_hole_min: int | None = None
    lazy_purges: int | None = 0
    holders: tuple[Holder, ...] = ()
    ambiguous: int = 0
    untold: int = 0
    derived: bool = False
    null_calls: int = 0
    peak_live: int | None = None
    purge_runs: int | None = None
    smallest_failed: int | None = None
    largest_request: tuple[int, int] | None = None
    modules: ModulesOutcome | None = None
    first: Moment | None = None
    apart: int = 0
    at_failure: tuple[int, int, int] | None = None

    @property
    def hole_needed(self) -> int | None:
        """Bytes of a hole that any place in it serves the largest request of."""
        if self.largest_request is None:
            return None
        size, align = self.largest_request
        return size + max(align - (1 << 12), 0)


@dataclass(frozen=True)
class TlbOutcome:
    """TLB flushes of kernel addresses: full, ranged, single, and the IPIs they send.

    `range_pages` counts the pages of all ranged flushes, `range_pages_max` those of the largest;
    `across` counts ranged flushes of more pages than are mapped directly: they go over all of RAM.
    `largest` is that largest one, where the kernel makes no full flush of it.
    """

    full: int = 0
    range: int = 0
    range_pages: int = 0
    range_pages_max: int = 0
    across: int = 0
    largest: Moment | None = None
    single: int = 0
    ipis: int = 0


@dataclass(frozen=True)
class CostOutcome:
    """Estimated cost in CPU time of all mapping work.

    `share_of_span` is the cost over span times online CPUs (None for a counter clock).
    `by_cause` maps a cause to count, ns, share of `total_ns`, low_ns and high_ns, and where the
    trace has the calls' returns to measured_ns, from entry to return. `low_ns` and `high_ns` are
    what the work comes to where every operation costs its least, and its most. `units` has how
    often each operation happens (:mod:`replay.cost.units`): the work without any cost. `change_ns`
    is what it costs more than on the captured machine: at least over the ranges of costs, with the
    likely ones, and at most (:mod:`replay.cost.verdict`); None on that machine itself.

    `lock_hold_ns` is how long a call of the pool holds kmap_lock, on average, `lock_share` the part
    of the span in which it is held: about as often a call that comes at any time finds it taken.
    None where there are no calls, or the clock is no time. `lock_units` is as `units`, of the time
    in which a call holds it, on average.
    """

    total_ns: int = 0
    low_ns: int = 0
    high_ns: int = 0
    share_of_span: float | None = None
    by_cause: dict[str, dict[str, float]] = field(default_factory=dict)
    lock_hold_ns: float | None = None
    lock_share: float | None = None
    change_ns: tuple[float, float, float] | None = None
    units: dict[str, float] = field(default_factory=dict)
    lock_units: dict[str, float] = field(default_factory=dict)

    def count_of(self, cause: str) -> int:
        """How often there was a cause (:mod:`replay.cost.causes`)."""
        return int(self.by_cause.get(cause, {}).get("count", 0))


@dataclass(frozen=True)
class Site:
    """One call site and API: who maps, how often, for how long.

    `bytes` is what it asked the arena for in all; None where it did not, or no size was traced.
    """

    site: str
    op: str
    count: int
    tasks: int
    share: float
    hold_ns_mean: float | None = None
    hold_ns_max: int | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Histogram:
    """How many times are how long, in bins of a quarter of a doubling; empty ones are left out.

    Attributes
    ----------
    from_ns
        Where each bin begins, ascending: whole powers of the fourth root of 2, or 0.
    counts
        How many times it holds.
    """

    from_ns: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class HoldHistogram:
    """How long mappings of one API were held, by one task from map to unmap."""

    api: str
    held: int
    histogram: Histogram


@dataclass(frozen=True)
class CallTime:
    """Time from entry to return of one operation's calls, probes included.

    Median and 99th percentile are right within 2.2 %. A call that another one made counts in both.
    `slowest` is the one that took `max_ns`.
    """

    op: str
    calls: int
    total_ns: int
    median_ns: float
    p99_ns: float
    max_ns: int
    slowest: Moment | None = None
    histogram: Histogram | None = None


@dataclass(frozen=True)
class UserFlush:
    """TLB flushes of user addresses for one reason (tracepoint tlb:tlb_flush).

    `full` counts those of all pages, `pages` the pages of the others.
    """

    reason: str
    count: int
    full: int
    pages: int


@dataclass(frozen=True)
class StackCount:
    """One stack trace, ``innermost<-caller<-caller``, and how many operations have it."""

    op: str
    stack: str
    count: int


@dataclass(frozen=True)
class Running:
    """A task that ran on a CPU, or waited, beside a long call; pid 0 is the idle task.

    `ns` is how long it ran or waited; None: not looked at.
    """

    pid: int
    comm: str | None = None
    cpu: int | None = None
    ns: int | None = None


@dataclass(frozen=True)
class Behind:
    """What was under way when a call began to wait: it may have held the lock."""

    op: str
    at: Moment


@dataclass(frozen=True)
class LongCall:
    """A call that took long: how long, the pages that it was about or invalidated, its flushes.

    `pages` None: not told. `at` is its entry, `end_ts` its return; `ipis` are those of its flushes.
    The others are what context switches tell; None: `unseen` says why (replay/observed/unseen.py).
    `off_ns` is how long its task did not run, `sleeps` how often it went to uninterruptible sleep,
    `instead` who ran on its CPU while it was preempted, `interrupted` what its IPIs found on other
    CPUs, `waiters` who waited longest for its lock, `behind` who held it, perhaps, at the begin.
    """

    op: str
    ns: int
    pages: int | None
    flushes: int
    at: Moment
    ipis: int = 0
    off_ns: int | None = None
    sleeps: int | None = None
    instead: tuple[Running, ...] | None = None
    interrupted: tuple[Running, ...] | None = None
    waiters: tuple[Running, ...] | None = None
    behind: Behind | None = None
    unseen: str | None = None
    end_ts: int | None = None


@dataclass(frozen=True)
class PurgeOutcome:
    """Purges of the arena's lazy list that ran for one reason (:mod:`replay.arena.purges`).

    `found` of `count` had something to give back: the `pages` that were freed lazily since the one
    before, as far as the trace shows frees. Their `flushes` invalidated `hull_pages`, and sent
    `ipis`. Median (right within 2.2 %) and longest are from entry to return, `longest` is when that
    ran; None: not traced, or another machine. `callers` has how often functions wanted one, as
    stack traces tell.
    """

    trigger: str
    count: int
    found: int
    pages: int
    hull_pages: int
    flushes: int
    ipis: int = 0
    median_ns: float | None = None
    longest_ns: int | None = None
    longest: Moment | None = None
    callers: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class AtomicKmaps:
    """Calls of kmap() and kunmap() by the state of their CPU.

    `in_interrupt` of `calls` were made by interrupts, `irqs_off` and `preempt_off` by tasks in
    these states; None where the probes themselves make the state (most calls are in it). `first`
    is the first kmap() of them.
    """

    calls: int = 0
    in_interrupt: int = 0
    irqs_off: int | None = None
    preempt_off: int | None = None
    first: Moment | None = None


@dataclass(frozen=True)
class Observed:
    """What the kernel itself told beside the calls. `stacked` counts operations with a stack."""

    durations: tuple[CallTime, ...] = ()
    user_flushes: tuple[UserFlush, ...] = ()
    stacks: tuple[StackCount, ...] = ()
    stacked: int = 0
    atomic: AtomicKmaps = field(default_factory=AtomicKmaps)
    longest: tuple[LongCall, ...] = ()
    marks: MarkedTimes | None = None
    holds: tuple[HoldHistogram, ...] = ()


@dataclass(frozen=True)
class Finding:
    """Something a kernel engineer should know; a report puts it into words.

    Attributes
    ----------
    rule
        Its code.
    severity
        ``info``, ``warning`` or ``problem``.
    figures
        What it says in numbers: the rule's own record in :mod:`replay.rules`.
    count
        How often it happened.
    first
        When it happened first, or most, and who did it, where that is known.
    """

    rule: str
    severity: str
    figures: object
    count: int = 1
    first: Moment | None = None


@dataclass(frozen=True)
class Outcome:
    """Result of replaying one capture on one machine.

    `observed` and `lowmem` are what no model predicts: None for another machine than the captured
    one. `bound` says in which sense figures of highmem hold there: ``least``, ``most``, ``about``
    (neither), or as they stand (None). `unfit` counts kmap() calls that another machine has as
    kmap_local_page() and that would be wrong so. `purges` has one element for each reason.
    `timeline` is there where it was asked for.
    """

    machine: Machine
    layout: Layout
    span_ns: int
    cpus: int
    pool: PoolOutcome
    local: LocalOutcome
    arena: ArenaOutcome
    tlb: TlbOutcome
    cost: CostOutcome
    sites: tuple[Site, ...] = ()
    findings: tuple[Finding, ...] = ()
    caveats: tuple[str, ...] = ()
    observed: Observed | None = None
    bound: str | None = None
    lowmem: LowmemOutcome | None = None
    unfit: int = 0
    purges: tuple[PurgeOutcome, ...] = ()
    timeline: Timeline | None = None
