"""In which sense the figures of another machine hold, and what the trace does not tell of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from replay.arena.purges import SET_MEMORY
from replay.machine.arches import ARCHES
from replay.machine.zones import HIGHMEM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collectors.snapshot import Snapshot
    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.machine.zones import Memory
    from replay.outcome import ArenaOutcome, PoolOutcome, PurgeOutcome
    from replay.trace.losses import Loss
    from replay.whatif.arena import ArenaForecast

LEAST, MOST, ABOUT = "least", "most", "about"
"""Values of :attr:`replay.outcome.Outcome.bound`."""
_OF_THE_START: Final = ("new_mappings", "flushes", "scan_max", "max_stale")
"""Figures of the pool that tell how it began."""
_X86: Final = ("i386", "x86_64")
BEGINS_EMPTY: Final = (
    "the pool begins empty there, as after boot, and began here with whatever was mapped before "
    "the trace: new mappings and all that follows from them differ by that, too"
)
"""What it means for a pool whose slots nobody has seen."""


def bound_of(
    before: Layout, layout: Layout, placement: str, values: Snapshot | None = None
) -> str | None:
    """In which sense the figures of highmem hold on another machine.

    A trace shows kmap() of pages only that are highmem where it was taken (include/linux/
    highmem-internal.h: kmap returns the direct address of a lowmem page). With less lowmem there
    would be more of them; with more lowmem some would be lowmem, where it is not their frames that
    say which. So it is with less highmem, which others fill, too, and with more of it where it was
    full here. Where one thing makes more of them and another makes less, figures are no bounds.
    Without any highmem there is nothing that could be mapped: figures are exact.
    """
    if layout.max_pfn <= layout.lowmem_end_pfn:
        return None
    here, there = _lowmem_end(before), _lowmem_end(layout)
    by_class = placement == "class"
    change = layout.highmem_bytes - before.highmem_bytes
    more = there < here or (by_class and change > 0 and values is not None and was_full(values))
    less = by_class and (there > here or change < 0)
    if more and less:
        return ABOUT
    if more:
        return LEAST
    return MOST if less else None


def was_full(values: Snapshot) -> bool:
    """Whether highmem was at its low watermark when the capture began, or when it ended."""
    zones = [zone for zone in (*values.zones, *values.zones_end) if zone.name == HIGHMEM]
    return any(zone.free <= zone.marks[1] for zone in zones if len(zone.marks) > 1 and zone.free)


def _lowmem_end(layout: Layout) -> int:
    """Bytes from the start of RAM to the end of lowmem."""
    return layout.lowmem_end_pfn * layout.page_size - layout.phys_offset


def border_caveats(
    before: Layout, layout: Layout, stuck: int, placement: str, bound: str | None
) -> list[str]:
    """What the zones' sizes there mean for the answer; `stuck` tasks sleep for ever."""
    caveats = []
    is_border = _lowmem_end(before) != _lowmem_end(layout)
    if bound == LEAST and is_border:
        caveats.append(
            "lower bound: this machine has less lowmem than the captured one, and a trace shows "
            "kmap() of pages only that were highmem there; capture on a machine (or with "
            "vmalloc=) whose lowmem is no larger to see the others"
        )
    elif bound == LEAST:
        caveats.append(
            "lower bound: the captured machine's highmem was full, and what fell back to lowmem "
            "there would find room here; a trace shows no kmap() of it"
        )
    elif bound == ABOUT:
        caveats.append(
            "no bounds: what was lowmem on the captured machine and is highmem here is not in the "
            "trace, and what was highmem may find no room beside what else fills it"
        )
    elif bound == MOST and is_border:
        caveats.append(
            "upper bound: this machine has more lowmem than the captured one, and every page that "
            "was highmem is taken for highmem while there is room"
        )
    elif bound == MOST:
        caveats.append(
            "upper bound: this machine has less highmem than the captured one, and nothing but the "
            "traced pages is taken to fill it"
        )
    if layout.page_size != before.page_size:
        caveats.append(
            f"pages of {layout.page_size >> 10} KiB: each is taken for one of the "
            f"{before.page_size >> 10} KiB pages of the capture, of which it holds more"
        )
    if placement == "class" and layout.max_pfn > layout.lowmem_end_pfn:
        caveats.append(
            "frames keep their class: pages that were highmem stay highmem while there is room, "
            "in the order of first use; what else fills highmem is not known"
        )
    if stuck:
        caveats.append(
            f"{stuck} tasks sleep for ever on this machine's pool: everything that they "
            "would have done later is missing"
        )
    return caveats


def doubtful_rules(machine: Machine, target: Machine) -> list[str]:
    """What is derived by rules that the captured machine's kernel does not follow."""
    alike = (machine.arch, machine.generation) == (target.arch, target.generation)
    if machine.told is None or target.told is not None or not alike:
        return []
    return [
        "the captured machine's files contradict the address map that hmtrace's rules give it (see "
        "below): this machine is laid out by the rules all the same"
    ]


def proposed_split(machine: Machine, target: Machine) -> list[str]:
    """That no released kernel has the split, if so."""
    told = ARCHES[target.arch].proposed_splits.get(target.split)
    if told is None or machine.split == target.split:
        return []
    return [split_in_words(target.split, told)]


def shadow_caveats(machine: Machine, target: Machine) -> list[str]:
    """What KASAN changes besides the layout.

    arch/arm/include/asm/thread_info.h: THREAD_SIZE_ORDER; arch/powerpc: MIN_THREAD_SHIFT (from
    memory); mm/kasan/common.c: red zones.
    """
    if "KASAN" not in target.config or "KASAN" in machine.config:
        return []
    return [
        "a kernel with KASAN asks for more than the captured one, among it thread stacks of twice "
        "the size, and slower code maps for longer: that is not in the figures"
    ]


def purge_caveats(machine: Machine, target: Machine, purges: Sequence[PurgeOutcome]) -> list[str]:
    """That purges are replayed which the other architecture's kernel would not have made.

    arch/x86/mm/pat/set_memory.c: change_page_attr_set_clr() calls vm_unmap_aliases(); those of
    other architectures do not.
    """
    runs = sum(one.count for one in purges if one.trigger == SET_MEMORY)
    if not runs or machine.arch not in _X86 or target.arch in _X86:
        return []
    return [
        f"{runs} purges ran because attributes of pages were changed, for which {target.arch} "
        "makes none: they are replayed all the same"
    ]


def split_in_words(name: str, told: str) -> str:
    """A split that no released kernel has, and the state of things."""
    return f"the split {name} is {told}"


def pool_caveats(here: PoolOutcome, there: PoolOutcome) -> list[str]:
    """What it means that the pool begins empty there, where it means something."""
    alike = all(getattr(here, name) in (None, getattr(there, name)) for name in _OF_THE_START)
    if not there.maps or here.pages_unknown or alike:
        return []
    return [BEGINS_EMPTY]


def loss_caveats(lost: Loss | None, here: PoolOutcome, there: PoolOutcome) -> list[str]:
    """What losses mean for a pool whose slots nobody has seen."""
    if lost is None or not lost.intervals or not there.maps or here.pages_unknown:
        return []
    return [
        "behind a loss the captured pool's state is found again by the addresses that the kernel "
        "returned, and that of the other machine is carried on without the calls that were lost: "
        "the two differ by that even where nothing was changed"
    ]


def memory_caveats(memory: Memory, layout: Layout, spilled: int, values: Snapshot) -> list[str]:
    """What the zones of the other machine mean for the answer."""
    if not spilled:
        return []
    used = sum(z.managed - z.free for z in values.zones if z.name == HIGHMEM and z.free)
    words = (
        f"{spilled} of the traced pages find no room in highmem above its low watermark and "
        "become lowmem"
    )
    if not layout.highmem_bytes:
        words = f"every traced page of highmem ({spilled}) becomes lowmem: there is no highmem"
    elif used:
        words += f"; {used} pages of highmem were in use already when the capture began"
    caveats = [words, *memory.assumptions]
    if spilled > memory.fallback_room:
        caveats.append(
            f"lowmem has room for {memory.fallback_room} of them before the kernel reclaims"
        )
    return caveats


def ram_caveats(target: Machine, layout: Layout, beyond: int, values: Snapshot) -> list[str]:
    """What of the workload this machine has no RAM for."""
    caveats = []
    if beyond:
        caveats.append(
            f"{beyond} of the traced frames lie behind the end of this machine's RAM "
            f"({layout.max_pfn * layout.page_size >> 20} MiB): mappings of them are left out"
        )
    page = values.page_size or layout.page_size
    used = sum(zone.managed - zone.free for zone in values.zones if zone.free) * page
    if used > target.ram_bytes:
        caveats.append(
            f"{used >> 20} MiB were in use when the capture began, and this machine has "
            f"{target.ram_bytes >> 20} MiB of RAM: the workload would not have run there so, "
            "but reclaimed and swapped, or failed"
        )
    return caveats


def _between(few: int, most: int) -> str:
    return f"{few}" if few == most else f"{few} to {most}"


def model_caveats(own: ArenaForecast, figures: ArenaOutcome) -> list[str]:
    """Where the arena's model does not come to what the captured machine did."""
    pairs = (
        ("failures", own.failures, figures.failures),
        ("purges", own.purges.total(), figures.lazy_purges),
    )
    told = [f"{made} {name} for {seen}" for name, made, seen in pairs if made != seen]
    if not told:
        return []
    return [
        f"of the captured machine itself the arena's model makes {' and '.join(told)} in the "
        "trace: a difference of so much may be the model's"
    ]


def forecast_caveats(found: ArenaForecast) -> list[str]:
    """What the trace does not tell of the arena's workload there."""
    caveats = []
    if found.ambiguous:
        few, most = found.failures_between
        purges = found.purges_between
        caveats.append(
            f"the shape of the arena's free tree at the start is not known: "
            f"{found.ambiguous} of {found.allocs} allocations lie elsewhere under "
            f"some of {found.shapes} shapes; failures {_between(few, most)}, purges "
            f"{_between(*purges)}"
        )
    if found.borrowed:
        caveats.append(
            f"{found.borrowed} allocations failed when they were captured and do not here: what "
            "would have become of them is not in the trace, they are given back at once"
        )
    if found.lost_frees:
        caveats.append(
            f"{found.lost_frees} areas of the capture find no room here: what their callers would "
            "have done instead is not in the trace"
        )
    if found.unplaced:
        caveats.append(
            f"{found.unplaced} areas that were in use when tracing began find no room in this "
            "arena: the machine would not have come so far"
        )
    return caveats
