"""What speaks for a build and against it, in words."""

from __future__ import annotations

from functools import singledispatch
from typing import TYPE_CHECKING, Final

from hmtrace.report.sidebyside import difference
from hmtrace.report.text import clean, count, duration, plural, share, size
from hmtrace.report.verdict import verdict_in_words
from replay.whatif import reasons

if TYPE_CHECKING:
    from collectors.snapshot import Process

STATUS: Final = 'for p in /proc/[0-9]*; do cat "$p/status"; done > status.txt'
NOT_SEEN: Final = {
    "lost": "events were lost in tracing: what they were is missing from every figure",
    "processes": f"the largest process was not recorded; at the end of a capture: {STATUS}",
    "dead-processes": "processes that had ended when status.txt was written: how large they were",
    "zones": "how full highmem was: no zoneinfo in the capture",
    "areas": "the arena at the start: no vmallocinfo in the capture, so failures and purges under "
    "another arena are not predicted",
    "no-calls": "no mapping was traced, so nothing is known of what other splits would spare",
    "no-locals": "kmap_local_page() and kmap_atomic(), of which no call was traced",
    "no-arena": "no allocation of the arena was traced",
    "bound": "pages that are lowmem now: under a split with less lowmem more would be mapped",
    "dma": "devices that reach only part of lowmem (DMA masks): with more lowmem the kernel may "
    "hand out memory that they do not reach",
    "never-mapped": "pages of processes that were never mapped by the kernel: how much of highmem "
    "they fill",
}
"""What the capture could not show, by code."""


def name_of(build: reasons.Build) -> str:
    """A build in a few words."""
    return split_of(build) + (", HIGHMEM" if build.highmem else ", no HIGHMEM")


def split_of(build: reasons.Build) -> str:
    """Its split, and that PAE has to go."""
    return clean(build.split) + (f" -{build.without}" if build.without else "")


@singledispatch
def words(reason: object) -> str:
    """A reason in words."""
    raise TypeError(type(reason))


@words.register(reasons.LessRam)
def _(reason: reasons.LessRam) -> str:
    part = share(reason.bytes / reason.now) if reason.now else "n/a"
    return f"{size(reason.bytes)} of RAM are out of reach ({part})"


@words.register(reasons.TinyZone)
def _(reason: reasons.TinyZone) -> str:
    return f"a highmem zone of {size(reason.bytes)} runs out first, with lowmem free"


@words.register(reasons.NotReleased)
def _(reason: reasons.NotReleased) -> str:
    return reason.words


@words.register(reasons.WithoutWide)
def _(reason: reasons.WithoutWide) -> str:
    nx = ", and with it no-execute pages" if reason.with_nx else ""
    return f"{reason.name} has to go{nx}"


@words.register(reasons.SmallerArena)
def _(reason: reasons.SmallerArena) -> str:
    return (
        f"boots with vmalloc={reason.vmalloc >> 20}M: with the default arena {size(reason.spared)} "
        "of RAM are out of reach"
    )


@words.register(reasons.Failures)
def _(reason: reasons.Failures) -> str:
    which = "the modules' allocations" if reason.of_modules else "the arena's allocations"
    told = f"{count(reason.there)} of {which} fail, now {count(reason.here)}"
    if reason.is_least and reason.here > reason.there:
        return f"{told}: how long those would then be in use is not told"
    return told


@words.register(reasons.Waits)
def _(reason: reasons.Waits) -> str:
    least = "at least " if reason.is_least else ""
    told = f"{least}{count(reason.there)} waits for a slot of the pool, now {count(reason.here)}"
    return f"{told}; {plural(reason.asleep, 'task')} never wake up" if reason.asleep else told


@words.register(reasons.NothingMapped)
def _(reason: reasons.NothingMapped) -> str:
    if not reason.traced:
        return "no page is highmem; what that spares is not known: the trace has no mapping"
    told = (
        f"no page is highmem: {count(reason.kmap)} kmap() and {count(reason.local)} local mappings "
        "need no slot"
    )
    if not reason.flushes:
        return told
    return f"{told}, {plural(reason.flushes, 'flush', 'flushes')} of the pool are gone"


@words.register(reasons.LessHighmem)
def _(reason: reasons.LessHighmem) -> str:
    part = share(reason.there / reason.ram) if reason.ram else "n/a"
    return (
        f"highmem falls from {size(reason.here)} to {size(reason.there)}, {part} of RAM: fewer "
        "pages to map, how many the trace does not tell"
    )


@words.register(reasons.MoreLowmem)
def _(reason: reasons.MoreLowmem) -> str:
    return f"lowmem, which was short, grows from {size(reason.here)} to {size(reason.there)}"


@words.register(reasons.MoreUser)
def _(reason: reasons.MoreUser) -> str:
    more = f"a process has {size(reason.there - reason.here)} more: {size(reason.there)}"
    return f"{more}; {process_in_words(reason.largest, reason.there)}"


@words.register(reasons.UserSpace)
def _(reason: reasons.UserSpace) -> str:
    told = f"a process has {size(reason.less)} less: {size(reason.user)}"
    if reason.largest is None:
        return f"{told}; the largest process was not recorded"
    return f"{told}; {process_in_words(reason.largest, reason.user)}"


def process_in_words(largest: Process, user: int) -> str:
    """The largest process, and whether so much address space is enough for it."""
    fits = "fits" if largest.vm_peak <= user else "does not fit"
    close = largest.vm_peak > reasons.SCARCE_PART * user and fits == "fits"
    return (
        f"the largest was {clean(largest.name)}-{largest.pid} with {size(largest.vm_peak)}: "
        f"{'only just ' if close else ''}{fits}"
    )


@words.register(reasons.TightHole)
def _(reason: reasons.TightHole) -> str:
    return (
        f"the largest request ({request_in_words(reason.size, reason.align)}) has no place in the "
        f"largest hole of the arena when that is smallest, {size(reason.hole)}"
    )


def request_in_words(asked: int, align: int) -> str:
    """A request of the arena."""
    return size(asked) + (f", aligned to {size(align)}" if align > 1 << 12 else "")


@words.register(reasons.PurgedPages)
def _(reason: reasons.PurgedPages) -> str:
    more = difference(reason.here, reason.there)
    return (
        f"{count(reason.there)} pages are flushed one by one, now {count(reason.here)} ({more}): "
        "purges take all that lies between areas, which is more with more lowmem"
    )


@words.register(reasons.Cost)
def _(reason: reasons.Cost) -> str:
    more = difference(reason.here, reason.there)
    if reason.share is not None:
        more = f"{more}; {share(reason.share)} of CPU time"
    return (
        f"mapping costs {duration(reason.there)}, now {duration(reason.here)} ({more}): "
        f"{verdict_in_words(reason.verdict)}"
    )
