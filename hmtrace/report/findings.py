"""Findings and caveats in words.

A rule (:mod:`replay.rules`) says what it found in a record of figures; here each record has its
words, which terminal and JSON documents share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.table import Table
from rich.text import Text

from hmtrace.report import pool_words  # noqa: F401  (registers its words)
from hmtrace.report.longest import behind_in_words, off_in_words, was_off
from hmtrace.report.parts import heading, indented
from hmtrace.report.plain import plain
from hmtrace.report.text import (
    clean,
    clock,
    count,
    duration,
    mib,
    plural,
    share,
    size,
    symbol,
    unglued,
)
from hmtrace.report.wording import Words, first_in_words, task_in_words, times
from hmtrace.report.wording import words_of as _words
from replay.rules import (
    arena,
    cost,
    judge,
    local_depth,
    local_held,
    log,
    modules,
    purges,
    sleepers,
    slow,
    splits,
    trace,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from replay.outcome import Finding, LongCall, Moment

_STYLE = {"problem": "bold red", "warning": "yellow", "info": "green"}
_RANK = {"problem": 0, "warning": 1}
_TEXT_LIMIT = 1000
_INSTANCES: Final = 256
"""Instances of a return probe that were always enough, in captures of up to 4 CPUs."""
_MOST_INSTANCES: Final = 4096
"""KRETPROBE_MAXACTIVE_MAX (kernel/trace/trace_kprobe.c)."""
_FIRST: Final = {
    purges.PurgeHull: "largest",
    local_depth.LocalDepth: "deepest",
    sleepers.PoolNearFull: "so many first",
    purges.PurgeStorm: "longest",
}
"""What the event of a finding is where it is not the first one."""
_TELLING: Final = (slow.SlowCalls, local_held.LongHold)
"""Findings whose first event is what they are about: they name it themselves."""
_MIB: Final = 1 << 20
_WHY_SLOW_POOL: Final = (
    "its task was preempted meanwhile, waited for kmap_lock, or its CPU stood still"
)
_WHY_SLOW_AREA: Final = "its task was preempted meanwhile, or waited for a lock or a purge"
_WHY_SLOW_LOCAL: Final = "no lock is taken there: its task was preempted, or its CPU stood still"
_WHY_SLOW: Final = {
    "kmap": f"no slot was missing: {_WHY_SLOW_POOL}",
    "kunmap": _WHY_SLOW_POOL,
    "kmap_get": _WHY_SLOW_POOL,
    "area_alloc": _WHY_SLOW_AREA,
    "area_free": _WHY_SLOW_AREA,
    "area_purge": _WHY_SLOW_AREA,
}
"""By operation, why a call may take long that has little to do."""
_WHICH: Final = {
    "lost": "; events were lost in it, so which is not known",
    "idle": "; it was an idle task's, so which is not known",
    "task": "; its task, and so which, is not known",
    "clock": "; the trace clock counts no time, so which is not known",
    "switches": "; with sched_switch in the trace hmtrace report --longest tells which",
    "edge": "; no context switch was traced before or after it, so which is not known",
    "return": "; its return is not in the trace, so which is not known",
    None: "; hmtrace report --longest tells which, where sched_switch was traced",
}
"""What tells what a call waited for, by the reason why context switches do not."""
_WHY_ON_CPU_POOL: Final = "it waited for kmap_lock, interrupts ran, or the CPU itself stood still"
_WHY_ON_CPU_AREA: Final = "it worked or waited for a lock, interrupts ran, or the CPU stood still"
_WHY_ON_CPU_LOCAL: Final = "no lock is taken there: interrupts ran, or the CPU itself stood still"
_WHY_ON_CPU: Final = dict.fromkeys(("kmap", "kunmap", "kmap_get"), _WHY_ON_CPU_POOL) | (
    dict.fromkeys(("area_alloc", "area_free", "area_purge"), _WHY_ON_CPU_AREA)
)
"""The same of a task that was not off its CPU meanwhile."""


def findings_section(
    findings: Sequence[Finding], *, brief: bool = False, aside: str = ""
) -> Iterator[RenderableType]:
    """What a kernel engineer should act on, worst first, each with its evidence.

    The severity is a word in front, so that nothing depends on colour. In brief only what is a
    problem or a warning has its evidence. `aside` says what to know of their figures.

    Yields
    ------
    RenderableType
        Heading and findings; nothing if there are none.
    """
    if not findings:
        return
    yield heading("Findings", aside)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, min_width=7)
    grid.add_column(overflow="fold")
    for finding in ranked(findings):
        words = _words(finding.figures)
        body = Text(clean(words.message, _TEXT_LIMIT))
        if not (brief and finding.severity == "info"):
            for line in evidence_lines(finding, words):
                body.append("\n" + line, style="dim")
        grid.add_row(severity_text(finding), body)
    yield indented(grid)


def ranked(findings: Sequence[Finding]) -> list[Finding]:
    """Findings in the order in which they are shown: worst first."""
    return sorted(findings, key=lambda f: _RANK.get(f.severity, 2))


def severity_text(finding: Finding) -> Text:
    """How grave a finding is, in a word that needs no colour."""
    word = finding.severity.upper() if finding.severity == "problem" else finding.severity
    return Text(clean(word), style=_STYLE.get(finding.severity, ""))


def evidence_lines(finding: Finding, words: Words) -> Iterator[str]:
    """Lines below a finding: who it was, what it rests on, and the event where neither has it.

    Yields
    ------
    str
        Safe to print.
    """
    for line in (*words.who, words.evidence):
        yield clean(line, _TEXT_LIMIT)
    if finding.first and not words.who and not isinstance(finding.figures, _TELLING):
        yield first_in_words(finding.first, _FIRST.get(type(finding.figures), "first"))


def in_words(finding: Finding) -> Words:
    """A finding in words, by the record of its figures, with ordinary blanks."""
    words = _words(finding.figures)
    return Words(unglued(words.message), unglued(words.evidence), tuple(map(unglued, words.who)))


def finding_document(finding: Finding) -> dict[str, Any]:
    """A finding as the JSON documents have it."""
    words = in_words(finding)
    return {
        "rule": finding.rule,
        "severity": finding.severity,
        "message": words.message,
        "evidence": "; ".join(filter(None, (*words.who, words.evidence))),
        "count": finding.count,
        "first": plain(finding.first),
    }


@_words.register(slow.SlowCalls)
def _(f: slow.SlowCalls) -> Words:
    worst, *others = f.calls
    more = tuple(f"{call.op} {duration(call.max_ns)}{_by(call.slowest)}" for call in others)
    usual = f"{duration(worst.median_ns)} are usual"
    if not worst.median_ns:
        usual = "most are over before the trace clock moves"
    if f.around is None:
        why = _WHY_SLOW.get(worst.op, _WHY_SLOW_LOCAL)
        tells = _WHICH[f.unseen]
    else:
        why, tells = _why_it_was_slow(f.around), ""
    if worst.op == "area_purge" and f.hull and not (f.around and was_off(f.around)):
        why = f"to invalidate up to {count(f.hull)} pages one by one takes long by itself; or {why}"
    return Words(
        f"one {worst.op} took {duration(worst.max_ns)}, where {usual}:{_by(worst.slowest)}",
        why + tells,
        (f"and one {'; one '.join(more)}",) if more else (),
    )


def _why_it_was_slow(call: LongCall) -> str:
    """Why a call took long of which it is known how long its task was off its CPU."""
    behind = behind_in_words(call)
    behind = behind and f"it began to wait {behind}"
    if was_off(call):
        return "; ".join(filter(None, (f"its task was {off_in_words(call)}", behind)))
    off = f"off its CPU for {duration(call.off_ns)} only" if call.off_ns else "never off its CPU"
    return f"its task was {off}; {behind or _WHY_ON_CPU.get(call.op, _WHY_ON_CPU_LOCAL)}"


@_words.register(local_held.LongHold)
def _(f: local_held.LongHold) -> Words:
    meanwhile = "is not preempted" if f.per_cpu else "cannot migrate"
    return Words(
        f"a local mapping was held for {duration(f.hold_ns)}{_by(f.by)}",
        f"its task {meanwhile} meanwhile; a mapping held over a context switch is taken down and "
        "put back",
    )


def _by(moment: Moment | None) -> str:
    """Who did it, from where, when."""
    if moment is None:
        return ""
    site = "" if moment.site is None else f" from {symbol(moment.site)}"
    return f" by {task_in_words(moment)}{site} at {clock(moment.ts)}"


@_words.register(purges.PurgeHull)
def _(f: purges.PurgeHull) -> Words:
    cost = "" if f.share is None else f"; purges are {share(f.share)} of the estimated cost"
    return Words(
        f"flush_tlb_kernel_range() invalidated up to {count(f.largest)} pages one by one: the "
        "hull of a lazy purge from the modules to the vmap arena",
        f"{count(f.flushes)} ranged flushes of {count(f.pages)} pages in all{cost}; what modules "
        "(unloaded, or done with their init part) and BPF programs gave back makes it so large",
    )


@_words.register(local_depth.LocalDepth)
def _(f: local_depth.LocalDepth) -> Words:
    more = ", one more is a BUG" if f.deepest >= f.limit else ""
    return Words(
        f"local mappings nest {f.deepest} deep; {f.limit} fit{more}",
        "an interrupt handler's mappings come on top of the interrupted task's",
    )


@_words.register(local_held.HeldOverSwitch)
def _(f: local_held.HeldOverSwitch) -> Words:
    each = "<0.01" if f.per_map < 0.005 else f"{f.per_map:.2f}"  # a mapping may be held over many
    return Words(
        f"{plural(f.switches, 'context switch', 'context switches')} found local mappings held: "
        f"{plural(f.mappings, 'mapping')} taken out and put back",
        f"{each} for each of the {count(f.maps)} that were made; one TLB entry is flushed per "
        "mapping held, and the task cannot migrate meanwhile",
    )


@_words.register(arena.ArenaExhausted)
def _(f: arena.ArenaExhausted) -> Words:
    least = "" if f.smallest is None else f", the smallest of {size(f.smallest)}"
    why = "; NULL is returned for want of memory as well" if f.callers else ""
    parts = [f"{count(f.allocs)} found room"]
    if f.hole is not None:
        parts.append(f"largest hole down to {mib(f.hole)}")
    if f.enough is not None:
        parts.append(
            f"at least {f.option}{f.enough // _MIB}M is needed, for {mib(f.enough - f.size)} of "
            "lowmem, and more if those that failed would have been in use for long"
        )
    elif f.option:
        parts.append(
            f"a larger {f.option} costs as much lowmem (the least: hmtrace sweep CAPTURE --find "
            "min:vmalloc --where failures=0)"
        )
    what = plural(f.failures, "allocation") + " of virtual address space"
    if f.callers:
        what = plural(f.failures, "call") + " of vmap() or vmalloc()"
    return Words(
        f"{what} failed in an arena of {mib(f.size)}{least}",
        "; ".join(parts) + why,
    )


@_words.register(modules.ModulesExhausted)
def _(f: modules.ModulesExhausted) -> Words:
    least = "" if f.smallest is None else f", the smallest of {size(f.smallest)}"
    who = ", ".join(f"{mib(held)} by {name}()" for name, held in f.holders)
    held = f"{'at least ' if f.more else ''}{mib(f.held)} of it in use"
    if f.more and not f.held:
        held = "what is in use of it the trace does not show"
    helps = ["vmalloc= does not enlarge it, whatever the kernel's log says"]
    if f.spills:
        helps.append("CONFIG_ARM_MODULE_PLTS is set: what finds no room goes to the arena instead")
    else:
        helps.append("CONFIG_ARM_MODULE_PLTS lets modules spill over into the arena")
    if f.without_highmem is not None:
        helps.append(f"without HIGHMEM it has {size(f.without_highmem)}")
    helps.append(
        "fewer BPF programs (net.core.bpf_jit_enable=0 compiles none) and drivers that are built "
        "in leave more"
    )
    return Words(
        f"{plural(f.failures, 'allocation')} failed in the modules area of {size(f.size)}{least}: "
        f"{held}" + (f" ({who})" if who else ""),
        "; ".join(helps),
    )


@_words.register(arena.NullCalls)
def _(f: arena.NullCalls) -> Words:
    return Words(
        f"{plural(f.calls, 'call')} of vmap() or vmalloc() returned NULL, and the trace shows no "
        "failed allocation of address space in them",
        "then memory was missing, for the pages or for page tables; the kernel's log tells",
    )


@_words.register(arena.ArenaUntold)
def _(f: arena.ArenaUntold) -> Words:
    return Words(
        f"whether {count(f.untold)} of {plural(f.calls, 'allocation')} of virtual address space "
        "failed is not in this trace",
        "a return probe on alloc_vmap_area with va=$retval tells it, so does a vmap() or vmalloc() "
        "that returns NULL, and since 6.2 the tracepoint vmalloc:alloc_vmap_area (docs/capture.md)",
    )


@_words.register(cost.MappingCost)
def _(f: cost.MappingCost) -> Words:
    causes = (f"{name} {share(of)} of it" for name, of in f.causes)
    return Words(
        f"temporary mappings cost {share(f.share)} of all CPU time ({duration(f.ns)}, estimated; "
        f"{share(f.low_share)} to {share(f.high_share)} over the whole range of costs)",
        "; ".join(causes),
    )


@_words.register(splits.OtherSplits)
def _(f: splits.OtherSplits) -> Words:
    best = f.without_highmem
    fewer = [split for split in f.splits if split.highmem < f.highmem]
    nearest = next((split for split in fewer if not split.without), None)
    if best is not None and best == nearest:
        message = (
            f"split {best.name} would make all RAM lowmem: {mib(f.highmem)} of highmem and every "
            "mapping of it would be gone"
        )
        if best.cost_ns > f.cost_ns:
            message += (
                f", but hulls of purges reach over more RAM: {duration(best.cost_ns)} instead of "
                f"{duration(f.cost_ns)}"
            )
        if fewer[0] != best and not fewer[0].highmem:
            message += f"; {_split_name(fewer[0])} does so too"
    else:
        left = ", ".join(
            f"{_split_name(split)} {mib(split.highmem) if split.highmem else 'none'}"
            for split in fewer
        )
        message = f"other splits would leave less than the {mib(f.highmem)} of highmem: {left}"
    return Words(
        message,
        "compare user space with the largest process"
        + ("; so small a highmem zone is the first to run out of pages" if f.scarce else "")
        + ("; laid out by rules that this machine's files contradict" if f.doubted else ""),
        (
            f"{f.now} now: {size(f.user)} user space, {mib(f.highmem)} highmem, mappings cost "
            f"{_bound(f.bound)}{duration(f.cost_ns)}",
            *map(_split_words, f.splits),
        ),
    )


def _split_name(split: splits.Split) -> str:
    return f"{split.name} without {split.without}" if split.without else split.name


def _bound(bound: str) -> str:
    return "" if bound == "=" else bound


def _split_words(split: splits.Split) -> str:
    """What one split leaves and costs."""
    highmem = mib(split.highmem) if split.highmem else "no"
    return (
        f"{_split_name(split)}: {size(split.user)} user space, {highmem} highmem, "
        f"{_bound(split.bound)}{duration(split.cost_ns)}"
        + (f"; {split.proposed}" if split.proposed else "")
    )


@_words.register(judge.NothingTraced)
def _(_f: judge.NothingTraced) -> Words:
    return Words(
        "the trace holds no mapping call: it says nothing of what mappings cost here",
        "either the probes were off, or nothing was mapped while they were on; hmtrace info lists "
        "what was traced, README.md ('How to capture') what to enable",
    )


@_words.register(judge.Fine)
def _(f: judge.Fine) -> Words:
    parts = []
    if f.share is not None:
        parts.append(f"mapping costs {share(f.share)} of CPU time")
    if f.used is not None:
        parts.append(f"at most {f.used[0]} of {count(f.used[1])} slots in use, nobody waited")
    if f.depth is not None:
        parts.append(f"local depth {f.depth[0]} of {f.depth[1]}")
    if f.allocs:
        parts.append(f"none of {count(f.allocs)} arena allocations failed")
    return Words(
        "nothing to complain about", "; ".join(parts) or "hmtrace info shows what was traced"
    )


@_words.register(trace.PagesUnknown)
def _(f: trace.PagesUnknown) -> Words:
    return Words(
        "the trace has no page arguments: calls are counted, but reuse, occupancy, flushes and "
        "other machines cannot be worked out",
        f"{count(f.calls)} kmap calls without a struct page; record with kprobes that fetch it",
    )


@_words.register(trace.EventsLost)
def _(f: trace.EventsLost) -> Words:
    number = f"{'at least ' if f.more else ''}{count(f.events)}"
    return Words(
        f"tracing lost {number if f.events else 'an unknown number of'} events: counts are lower "
        "bounds",
        f"{plural(f.intervals, 'interval')}; after each the model has to find its state again; a "
        "larger trace buffer avoids it",
    )


@_words.register(trace.MissesExplained)
def _(f: trace.MissesExplained) -> Words:
    return Words(
        f"probes missed {times(f.misses)}, which the {plural(f.failures, 'failed allocation')} "
        "explain",
        "this kernel counts a faulting fetch as two misses; no call was lost",
    )


@_words.register(trace.ProbeMisses)
def _(f: trace.ProbeMisses) -> Words:
    absent, unreturned = sum(m.absent for m in f.missed), sum(m.unreturned for m in f.missed)
    said, why = [], []
    if absent:
        names = [f"{count(m.absent)} of {m.function}()" for m in f.missed if m.absent]
        said.append(
            f"{plural(absent, 'call')} {'has' if absent == 1 else 'have'} no event at all "
            f"({_some(names)})"
        )
        why.append(
            "a probe that is hit while another one's handler runs on that CPU is passed over, at "
            "entry and return alike, and more instances of return probes do not change it"
        )
    if unreturned:
        names = [f"{count(m.unreturned)} of {m.function}()" for m in f.missed if m.unreturned]
        verb = "has" if unreturned == 1 else "have"
        said.append(f"{plural(unreturned, 'call')} {verb} no return ({_some(names)})")
        now = [m.instances for m in f.missed if m.unreturned and m.instances]
        more = min(2 * max(now, default=_INSTANCES // 2), _MOST_INSTANCES)
        has = f", it has r{max(now)} now" if now else ""
        why.append(f"a return probe wants more instances (r{more}:group/event{has})")
    return Words(
        "probes missed calls since they were set: " + "; ".join(said),
        "; ".join(why) + "; kprobe_profile does not say which of them came while tracing was on",
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {plural(len(names) - 3, 'other function')}" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _logged(lines: int, what: str) -> Words:
    return Words(
        f"the kernel's log has {plural(lines, 'line')} about {what}",
        "counted in the boot log beside the capture, also outside the traced time",
    )


@_words.register(log.VmapFailuresLogged)
def _(f: log.VmapFailuresLogged) -> Words:
    return _logged(f.lines, "failed vmap allocations")


@_words.register(log.KmapWarningsLogged)
def _(f: log.KmapWarningsLogged) -> Words:
    return _logged(f.lines, "warnings about kmap")


@_words.register(log.RamComplaints)
def _(f: log.RamComplaints) -> Words:
    more = f" (and {plural(len(f.lines) - 3, 'line')} more)" if len(f.lines) > 3 else ""
    return Words(
        "the kernel's log says that RAM or highmem is not what it was told to be",
        "; ".join(line[:100] for line in f.lines[:3]) + more,
    )
