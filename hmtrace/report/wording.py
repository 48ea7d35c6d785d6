"""Words of findings, by the record of figures: the dispatcher, and those that name no task."""

from __future__ import annotations

from functools import singledispatch
from typing import TYPE_CHECKING, Final, NamedTuple

from hmtrace.report.lowmem import oom_in_words
from hmtrace.report.text import (
    GLUE,
    clean,
    clock,
    count,
    mib,
    plural,
    share,
    size,
    symbol,
)
from replay.rules import (
    arena,
    full_flushes,
    local_order,
    lowmem,
    machine,
    modules,
    purges,
)

if TYPE_CHECKING:
    from replay.outcome import Moment

_MIB: Final = 1 << 20
_PAGE: Final = 1 << 12


class Words(NamedTuple):
    """What a finding says, what that rests on, and who it was, line by line."""

    message: str
    evidence: str
    who: tuple[str, ...] = ()


@singledispatch
def words_of(figures: object) -> Words:
    """A finding in words, by the record of its figures."""
    raise TypeError(f"there are no words for findings of {type(figures).__name__}")


def times(value: int) -> str:
    """How often: once, twice, 3 times."""
    return {1: "once", 2: "twice"}.get(value, f"{count(value)}{GLUE}times")


def task_in_words(moment: Moment) -> str:
    """Name and pid of a task, as sched_switch prints them."""
    pid = "?" if moment.pid is None else moment.pid
    return f"{clean(moment.comm or '?')}[{pid}]"


def first_in_words(first: Moment, word: str = "first") -> str:
    """Time, CPU and task of the event that a finding gives; `word` says which one that is."""
    where = "" if first.cpu is None else f" on CPU {first.cpu}"
    by = "" if first.pid is None else f" by {task_in_words(first)}"
    return f"{word} at {clock(first.ts)}{where}{by}"


@words_of.register(machine.MemMap)
def _(f: machine.MemMap) -> Words:
    return Words(
        f"describing RAM takes {share(f.mem_map / f.lowmem)} of lowmem: mem_map is "
        f"{size(f.mem_map)} of {mib(f.lowmem)}",
        f"{f.page_struct} bytes for each of {f.frames} frames; "
        + ("a split with more lowmem, or less RAM," if f.more else "only less RAM")
        + " relieves it",
    )


@words_of.register(machine.MuchRam)
def _(f: machine.MuchRam) -> Words:
    return Words(
        f"{mib(f.ram)} of RAM: more than 8 GiB are not recommended on a 32-bit machine",
        f"Documentation/mm/highmem.rst; for each page of lowmem there are {f.high_per_low:.0f} of "
        "highmem, whose page tables and inodes must fit into lowmem",
    )


@words_of.register(machine.RamDropped)
def _(f: machine.RamDropped) -> Words:
    why = f"a kernel {f'with {f.pae}' if f.pae else 'without PAE'} ends at {size(f.limit)}"
    if f.series:
        why = f"CONFIG_HIGHMEM64G is gone since 6.15: RAM ends at {size(f.limit)}, even with PAE"
    return Words(f"{mib(f.lost)} of RAM are not used by this kernel", why)


@words_of.register(machine.RamUnmapped)
def _(f: machine.RamUnmapped) -> Words:
    return Words(
        f"{mib(f.lost)} of RAM are not used by this kernel: it is built without HIGHMEM",
        f"lowmem holds {mib(f.lowmem)}; "
        + (
            "a split with more lowmem would hold more of it"
            if f.more
            else "only a kernel with HIGHMEM uses more, for no split has more lowmem"
        ),
    )


@words_of.register(machine.VmallocOption)
def _(f: machine.VmallocOption) -> Words:
    return Words(
        f"vmalloc={f.vmalloc // _MIB}M is more than the default: it takes {size(f.taken)} of "
        "lowmem",
        "the default arena is 120 MiB, not 128: its reserve includes an 8 MiB gap",
    )


@words_of.register(lowmem.LowmemStalled)
def _(f: lowmem.LowmemStalled) -> Words:
    killed = f"; {plural(f.oom_kills, 'process', 'processes')} killed" if f.oom_kills else ""
    parts = []
    if f.low_free or f.high_free:
        parts.append(
            f"{size(f.low_free)} of lowmem and {size(f.high_free)} of highmem were free when the "
            "capture began"
        )
    if f.scanned is not None:
        parts.append(f"{count(f.scanned)} pages were looked at to find some to reclaim")
    parts.append("a split with more lowmem gives these requests more")
    return Words(
        f"lowmem ran short: the allocator waited {plural(f.stalls, 'time')} for memory that "
        f"highmem cannot serve{killed}",
        "; ".join(parts),
    )


@words_of.register(lowmem.LowmemOom)
def _(f: lowmem.LowmemOom) -> Words:
    worst = f.worst
    killed = f", {plural(f.kills, 'process', 'processes')} killed" if f.kills else ""
    free = f" with {size(worst.high_free)} of highmem free" if worst.high_free else ""
    when = "" if f.meanwhile == f.reports else f"; {count(f.meanwhile)} while it was captured"
    return Words(
        f"lowmem was {'used up' if worst.is_used_up else 'in pieces'}{free}: "
        f"{plural(f.reports, 'request')} found no memory{killed}",
        f"by the kernel's log{when}; at {oom_in_words(worst)}",
    )


@words_of.register(lowmem.LowmemLow)
def _(f: lowmem.LowmemLow) -> Words:
    return Words(
        f"lowmem is at its low watermark: {size(f.free)} free of {size(f.low)} that are kept",
        f"kswapd reclaims there already; {size(f.high_free)} of highmem were free",
    )


@words_of.register(local_order.UnmapsOutOfOrder)
def _(f: local_order.UnmapsOutOfOrder) -> Words:
    which = ""
    if f.given is not None and f.newest is not None:
        which = f"the first time mapping {f.given + 1} of a task that had {f.newest + 1}; "
    return Words(
        f"{count(f.unmaps)} of {plural(f.unmaps_all, 'kunmap_local() call')} were not of the "
        "newest mapping",
        f"{which}the kernel warns once, and clears the entry of the newest one, which is still in "
        "use",
    )


@words_of.register(local_order.StrayUnmaps)
def _(f: local_order.StrayUnmaps) -> Words:
    why = "given back twice, or by another task than the one that mapped it"
    if f.holder is not None:
        site = "" if f.holder.site is None else f" from {symbol(f.holder.site)}"
        where = "" if f.holder.cpu is None else f" on CPU {f.holder.cpu}"
        why = (
            f"the first was given what {task_in_words(f.holder)} had mapped{site}{where} at "
            f"{clock(f.holder.ts)}: kmap() may be handed over, a local mapping may not"
        )
    return Words(
        f"{plural(f.unmaps, 'kunmap_local() call')} had no mapping: the task held none, or the "
        "address is another CPU's",
        why,
    )


@words_of.register(purges.PurgeStorm)
def _(f: purges.PurgeStorm) -> Words:
    ipis = f", {plural(f.ipis, 'IPI')}" if f.ipis else ""
    wide = f" ({f.hull_pages / f.pages:.1f} times as many)" if f.pages else ""
    hull = f"invalidated {count(f.hull_pages)} pages for {count(f.pages)} that were freed{wide}"
    caller = f", called by {symbol(f.caller)}" if f.caller else ""
    return Words(
        f"{count(f.flushes)} flushes of lazy purges, {f.per_s:.0f} a second{ipis}",
        f"mostly {f.trigger}{caller}; "
        + (hull if f.hull_pages else "their ranges are not in the trace"),
    )


@words_of.register(full_flushes.FullFlushStorm)
def _(f: full_flushes.FullFlushStorm) -> Words:
    return Words(
        f"flush_tlb_all() was called {plural(f.flushes, 'time')}, {f.per_s:.0f} a second, each on "
        f"{'every one of ' if f.cpus > 1 else ''}{plural(f.cpus, 'CPU')}",
        "it drops the entries of user space as well",
    )


@words_of.register(arena.ArenaInPieces)
def _(f: arena.ArenaInPieces) -> Words:
    return Words(
        f"the arena was in pieces when {size(f.asked)} were first asked for in vain: {mib(f.free)} "
        f"free, the largest hole {size(f.hole)}",
        "areas that live long, between others that came and went, make such holes",
    )


@words_of.register(arena.ArenaTight)
def _(f: arena.ArenaTight) -> Words:
    aligned = f", aligned to {size(f.align)}" if f.align > _PAGE else ""
    return Words(
        f"the arena's largest hole was down to {size(f.hole)}, and {size(f.asked)}{aligned} were "
        "asked for at another time",
        "nothing failed; what waits for a purge counts as taken here, and an allocation that finds "
        "no hole purges first",
    )


@words_of.register(modules.ModulesNearlyFull)
def _(f: modules.ModulesNearlyFull) -> Words:
    return Words(
        f"{'at least ' if f.more else ''}{mib(f.peak)} of {size(f.size)} of the modules area were "
        f"in use ({share(f.peak / f.size)})",
        "it is shared by modules and BPF programs, and no vmalloc= enlarges it",
    )
