"""Words of findings about the pool: who waits, who holds, what is flushed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hmtrace.report.text import clock, count, duration, plural, share, symbol
from hmtrace.report.wording import Words, task_in_words, times, words_of
from replay.rules import crossed, deadlock, held, kmap_use, pool_flushes, sleepers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replay.outcome import JammedTask, SlotHolder, Waiter
    from replay.rules.deadlock import WaitGraph

_NAMED: Final = 4
"""Tasks that a finding names."""


@words_of.register(deadlock.Deadlock)
def _(f: deadlock.Deadlock) -> Words:
    return Words(
        f"deadlock by nesting: all {count(f.slots)} slots are held by tasks that sleep in kmap() "
        f"themselves, each for one slot more; {plural(f.tasks, 'task')} "
        f"{'sleeps' if f.tasks == 1 else 'sleep'} for ever",
        "only a kunmap() of one of them could wake the others; kmap_local_page() has no such "
        "limit, and neither has one kmap() at a time",
        (
            holders_in_words("held by", f.holders, f.slots, told=False),
            *(() if f.graph is None else waits_for(f.graph)),
        ),
    )


@words_of.register(deadlock.KmapNested)
def _(f: deadlock.KmapNested) -> Words:
    worst = [
        f"{task_in_words(task.at) if task.at else f'[{task.pid}]'} {count(task.slots)}"
        + (f" from {symbol(task.at.site)}" if task.at and task.at.site else "")
        for task in f.worst[:_NAMED]
    ]
    more = f"; {count(f.tasks - len(worst))} more" if f.tasks > len(worst) else ""
    return Words(
        f"{plural(f.calls, 'kmap() call')} of {plural(f.tasks, 'task')} needed one more slot while "
        f"the task held up to {count(f.deepest)} already: {plural(f.enough, 'such task')} at once "
        "would sleep for ever",
        f"at one time {count(f.at_once)} of {plural(f.slots, 'slot')} were held by such tasks, as "
        "many as each held when it needed one more; who sleeps in kmap() gives none back",
        (
            f"held most: {'; '.join(worst)}{more}",
            *(() if f.graph is None else waits_for(f.graph)),
        ),
    )


@words_of.register(sleepers.PoolExhausted)
def _(f: sleepers.PoolExhausted) -> Words:
    least = "≥" if f.asleep else ""
    asleep = ""
    if f.asleep:
        of = "" if f.asleep == f.tasks else f" {count(f.asleep)} of them"
        asleep = f";{of} still asleep at the end of the trace"
    who = []
    if f.waiters:
        who.append(waiters_in_words(f.waiters, f.tasks))
    if f.holders:
        who.append(holders_in_words("slots were held by", f.holders, f.slots))
    since = "" if f.since is None else f" from {clock(f.since.ts)} on"
    full = "" if f.full is None else f"pool full for {share(f.full)} of the time; "
    waited = "; with --timing fixed nobody waits, so for how long is not known"
    if f.wait_ns or f.asleep:
        waited = (
            f" waited {least}{duration(f.wait_ns)} in all, the longest {least}"
            f"{duration(f.longest_ns)}{asleep}"
        )
    return Words(
        f"kmap() slept {times(f.waits)}{since} because all {count(f.slots)} slots were in use: "
        f"{plural(f.tasks, 'task')}{waited}",
        f"{full}every kunmap() to zero wakes all sleepers (map_new_virtual waits non-exclusively)",
        tuple(who),
    )


@words_of.register(sleepers.PoolNearFull)
def _(f: sleepers.PoolNearFull) -> Words:
    slots = count(f.slots)
    return Words(
        f"{f.used} of {slots} pool slots were in use at once ({share(f.used / f.slots)}): "
        f"at {slots} kmap() sleeps",
        f"at or above 75 % for {share(f.above)} of the time, mean {f.mean:.1f}",
    )


@words_of.register(held.KmapHeld)
def _(f: held.KmapHeld) -> Words:
    why = ": suspect a leaked kmap()" if f.leak else ", as calls in flight would explain"
    if f.sleepers and not f.holders:
        why = f", while {plural(f.sleepers, 'task')} wait for one"
    if f.asleep:
        why = f", {count(f.asleep)} of them by tasks that wait for another slot" + (
            "; suspect a leaked kmap() of the others" if f.leak else ""
        )
    return Words(
        f"{plural(f.held, 'slot')} of the pool {'is' if f.held == 1 else 'are'} still held at "
        f"the end of the capture{why}",
        f"{count(f.maps)} kmap, {count(f.unmaps)} kunmap; slots that are never given back "
        "make every search longer and the pool full sooner",
        (holders_in_words("held by", f.holders, f.held),) if f.holders else (),
    )


@words_of.register(held.KmapHeldLong)
def _(f: held.KmapHeldLong) -> Words:
    others = f"; {plural(f.sites - 1, 'other site')} held one as long" if f.sites > 1 else ""
    return Words(
        f"a slot of the pool was held for {duration(f.hold_ns)} by one kmap() from "
        f"{symbol(f.site)}",
        f"{duration(f.mean_ns)} is the mean of this site{others}",
    )


@words_of.register(kmap_use.KmapAtomic)
def _(f: kmap_use.KmapAtomic) -> Words:
    states = (
        (f.in_interrupt, "in an interrupt"),
        (f.irqs_off or 0, "with interrupts off"),
        (f.preempt_off or 0, "with preemption off"),
    )
    told = ", ".join(f"{count(number)} {state}" for number, state in states if number)
    return Words(
        f"kmap() was called where it must not sleep: of {plural(f.calls, 'call')} {told}",
        "it sleeps where all slots are in use, and its first line is might_sleep()",
    )


@words_of.register(kmap_use.UnmappedTwice)
def _(f: kmap_use.UnmappedTwice) -> Words:
    return Words(
        f"{plural(f.calls, 'kunmap() call')} of a page that nobody had mapped any more",
        "kunmap_high() has a BUG() for it; before that the slot of another user may be given back",
    )


@words_of.register(crossed.KmapCrossed)
def _(f: crossed.KmapCrossed) -> Words:
    own = ""
    if f.other_cpu:
        own = (
            f"; {count(f.other_cpu)} more gave their own back on another CPU, where no task comes "
            "that holds a local mapping"
        )
    return Words(
        f"{count(f.other_task)} of {plural(f.unmaps, 'kunmap() call')} gave back what another task "
        "had mapped",
        "legal for kmap(), whose address holds on every CPU and in every task; a local mapping is "
        f"its task's{own}",
    )


@words_of.register(pool_flushes.FlushStorm)
def _(f: pool_flushes.FlushStorm) -> Words:
    return Words(
        f"{count(f.flushes)} TLB flushes of the whole pool window, {f.per_s:.0f} a second, each "
        f"on {'every one of ' if f.cpus > 1 else ''}{plural(f.cpus, 'CPU')} and under kmap_lock",
        f"{count(f.wraps)} wraps of kmap(), {count(f.unused_passes)} passes of kmap_flush_unused()",
    )


@words_of.register(pool_flushes.UnusedPasses)
def _(f: pool_flushes.UnusedPasses) -> Words:
    often = "" if f.per_s is None else f", {f.per_s:.0f} a second"
    return Words(
        f"kmap_flush_unused() ran {times(f.unused)}{often}, mostly with nothing to free: "
        f"{count(f.idle)} of {count(f.passes)} passes found no stale slot",
        f"each pass walks all {count(f.slots)} slots under kmap_lock; on x86 module loading, "
        "BPF and set_memory_*() cause them",
    )


def waits_for(graph: WaitGraph) -> tuple[str, ...]:
    """Who waited for whom, in lines: the sums, and a cycle where there is one."""
    slots = [
        f"{count(number)} by {whom}"
        for number, whom in (
            (graph.by_asleep, "tasks that slept themselves"),
            (graph.by_awake, "others"),
            (graph.by_unknown, "nobody knows whom"),
        )
        if number
    ]
    waits = f"{plural(graph.sleepers, 'task')} waited for {plural(graph.holders, 'holder')}"
    lines = [f"at {clock(graph.ts)} {waits}, slots held: {', '.join(slots)}"]
    if graph.cycle:
        named = {task.pid: task for task in graph.tasks}
        steps = [_step(named[pid]) for pid in graph.cycle]
        lines.append(f"cycle: {' waits for '.join([*steps, _name(named[graph.cycle[0]])])}")
    return tuple(lines)


def _step(task: JammedTask) -> str:
    return f"{_name(task)} ({plural(task.slots, 'slot')})"


def _name(task: JammedTask) -> str:
    moment = task.asks or task.holds
    return f"[{task.pid}]" if moment is None else task_in_words(moment)


def waiters_in_words(waiters: Sequence[Waiter], tasks: int) -> str:
    """Who waited, how long, and from where; those that waited longest."""
    shown = [
        (task_in_words(w.longest) if w.longest else f"[{w.pid}]")
        + (f" {'≥' if w.asleep else ''}{duration(w.wait_ns)}" if w.wait_ns or w.asleep else "")
        for w in waiters[:_NAMED]
    ]
    sites = {w.longest.site for w in waiters if w.longest and w.longest.site}
    where = f", from {symbol(sites.pop())}" if len(sites) == 1 else ""
    if tasks > len(shown):
        shown.append(f"{count(tasks - len(shown))} more")
    return f"waited: {'; '.join(shown)}{where}"


def holders_in_words(
    word: str, holders: Sequence[SlotHolder], slots: int, *, told: bool = True
) -> str:
    """Who held how many slots, from where, since when; those that held most.

    Parameters
    ----------
    word
        What the list begins with.
    holders
        Those that hold most first.
    slots
        That are held in all.
    told
        Say which of them sleep for another slot.
    """
    sites = {h.first.site for h in holders if h.first}
    one_site = sites.pop() if len(sites) == 1 and len(holders) > 1 else None
    shown, left = [], slots
    for holder in holders[:_NAMED]:
        left -= holder.slots
        if holder.first is None:
            shown.append(f"{count(holder.slots)} since before the trace, nobody knows by whom")
            continue
        first = holder.first
        where = f" from {symbol(first.site)}" if first.site and one_site is None else ""
        asleep = ", asleep itself" if holder.asleep and told else ""
        shown.append(
            f"{task_in_words(first)} {count(holder.slots)}{where} since {clock(first.ts)}{asleep}"
        )
    if left > 0:
        shown.append(f"others {count(left)}")
    return f"{word}: {'; '.join(shown)}" + (f", from {symbol(one_site)}" if one_site else "")
