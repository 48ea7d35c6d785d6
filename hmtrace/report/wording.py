"""Words of findings, by the record of figures: the dispatcher, and those about a machine itself."""

from __future__ import annotations

from functools import singledispatch
from typing import Final, NamedTuple

from hmtrace.report.lowmem import oom_in_words
from hmtrace.report.text import count, mib, plural, share, size
from replay.rules import lowmem, machine

_MIB: Final = 1 << 20


class Words(NamedTuple):
    """What a finding says, what that rests on, and who it was, line by line."""

    message: str
    evidence: str
    who: tuple[str, ...] = ()


@singledispatch
def words_of(figures: object) -> Words:
    """A finding in words, by the record of its figures."""
    raise TypeError(f"there are no words for findings of {type(figures).__name__}")


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
