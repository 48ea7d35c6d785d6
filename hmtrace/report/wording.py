"""Words of findings, by the record of figures: the dispatcher, and those about a machine itself."""

from __future__ import annotations

from functools import singledispatch
from typing import Final, NamedTuple

from hmtrace.report.text import mib, plural, share, size
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
    free = f" while {size(f.high_free)} of highmem were free" if f.high_free else ""
    return Words(
        f"lowmem ran short: the allocator waited {plural(f.stalls, 'time')} for memory that "
        f"highmem cannot serve{killed}",
        f"{size(f.low_free)} of lowmem were free when the capture began{free}; a split with more "
        "lowmem gives these requests more",
    )


@words_of.register(lowmem.LowmemLow)
def _(f: lowmem.LowmemLow) -> Words:
    return Words(
        f"lowmem is at its low watermark: {size(f.free)} free of {size(f.low)} that are kept",
        f"kswapd reclaims there already; {size(f.high_free)} of highmem were free",
    )
