"""What kind of machine the addresses in a trace come from.

A trace without the machine's files still shows where its kernel maps things. The address map
of every kernel that the architectures know is compared with them, and the one that explains
them is taken. Facts from files always come first.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from collectors.errors import HmtraceError
from collectors.records import dataclass
from replay.machine.arches import ARCHES
from replay.machine.generations import DEFAULT, GENERATIONS, generation_for
from replay.machine.layout import layout_of
from replay.machine.model import PAGE_SHIFT, GiB, Machine, MiB, align_up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from collectors.snapshot import Snapshot
    from replay.machine.model import Arch, Layout, Ranges

_USUAL: Final = ("i386", "arm")
"""Architectures that are tried first; the others only where these do not explain a trace."""

NR_CPUS: Final = (32, 8, 4, 64, 16, 2, 1)
"""CONFIG_NR_CPUS to try, after the architecture's default."""

_BEFORE_LOCAL: Final = "5.10"
"""Generation of kernels with kmap_atomic() of its own."""

_OLDER: Final = (_BEFORE_LOCAL, "4.4", "4.1", "3.16", "3.10")
"""Generations with kmap_atomic() whose address maps differ on some architecture, newest first."""


@dataclass(frozen=True)
class _Seen:
    """The addresses of :mod:`collectors.table.seen`."""

    pool: tuple[int, int] | None
    local: tuple[tuple[int, int], ...]
    ranges: tuple[tuple[int, int], ...]
    flushes: tuple[tuple[int, int], ...]
    pfns: tuple[int, int] | None


def complete(snapshot: Snapshot) -> tuple[Snapshot, list[str]]:
    """Add to the facts what the trace's addresses tell, where no file does.

    Parameters
    ----------
    snapshot
        ``Facts.snapshot()``.

    Returns
    -------
    snapshot
        With ``arch``, ``pae``, ``split``, ``nr_cpus``, and where areas were asked for
        ``lowmem_end_pfn`` and RAM.
    found
        In words, what was told by addresses.
    """
    seen = _Seen(
        pool=snapshot.seen_pool,
        local=snapshot.seen_local,
        ranges=snapshot.seen_ranges,
        flushes=snapshot.seen_flushes,
        pfns=snapshot.seen_pfns,
    )
    if None not in (snapshot.arch, snapshot.pae, snapshot.split, snapshot.nr_cpus):
        return snapshot, []
    scored: list[tuple[int, Machine, Layout]] = []
    for arches in (_USUAL, tuple(name for name in ARCHES if name not in _USUAL)):
        if not scored:
            scored = [
                (score, machine, layout)
                for machine, layout in _candidates(snapshot, arches)
                if (score := _score(layout, seen, machine))
                and (arches == _USUAL or snapshot.arch is not None or _two_windows(layout, seen))
            ]
    if not scored:
        return snapshot, []
    score, machine, layout = max(scored, key=lambda entry: entry[0])  # the first of the best
    release = snapshot.release
    if release is None and machine.generation != DEFAULT:
        release = machine.generation
    out = replace(
        snapshot,
        arch=machine.arch if snapshot.arch is None else snapshot.arch,
        pae=machine.pae if snapshot.pae is None else snapshot.pae,
        split=machine.split if snapshot.split is None else snapshot.split,
        nr_cpus=machine.nr_cpus if snapshot.nr_cpus is None else snapshot.nr_cpus,
        release=release,
    )
    arch = ARCHES[machine.arch]
    pae = f" {'with' if machine.pae else 'without'} {arch.pae_name}" if arch.pae_name else ""
    offset = machine.page_offset
    split = f"split {machine.split}" if offset is None else f"PAGE_OFFSET {offset:#x}"
    words = [
        f"{machine.arch}{pae}, "
        f"{split}, NR_CPUS {machine.nr_cpus}, kernel like {machine.generation}: "
        "the addresses in the trace fit"
    ]
    if arch.pae_name and any(entry[0] == score and entry[1].pae != machine.pae for entry in scored):
        words.append(f"no {arch.pae_name}: the addresses in the trace fit both")
    if not (snapshot.ram or snapshot.zones or snapshot.zone_ranges):
        out, more = _with_memory(out, seen, layout)
        words += more
    return out, words


def with_such_a_pool(snapshot: Snapshot) -> tuple[str, ...]:
    """Architectures of which some kernel has its pool where the trace's addresses lie.

    Parameters
    ----------
    snapshot
        ``Facts.snapshot()`` of a trace that :func:`complete` could not explain.

    Returns
    -------
    tuple of str
        Names; with "an older" in front where it is one of kernels before 5.11.
    """
    pool = snapshot.seen_pool
    if pool is None:
        return ()
    found: dict[str, str] = {}
    for older, words in ((False, "{}"), (True, "an older {}")):
        for machine, layout in _candidates(replace(snapshot, seen_atomic=older), tuple(ARCHES)):
            if layout.pkmap_base <= pool[0] <= pool[1] < layout.pkmap_end:
                found.setdefault(machine.arch, words.format(machine.arch))
    return tuple(found.values())


def switches(snapshot: Snapshot, arch: Arch, generation: str) -> frozenset[str]:
    """Options of the kernel that are set; empty where there is no config file.

    Without one, the kernel's version still tells PREEMPT_RT, and the functions in the trace one
    that brought kmap_local along (:func:`replay.machine.kconfig.has_kmap_atomic`): then usual
    ones, and PREEMPT_RT, KMAP_LOCAL.

    Parameters
    ----------
    snapshot
        ``Facts.snapshot()``.
    arch, generation
        Of the machine.
    """
    config = frozenset(name for name, value in snapshot.config.items() if value == "y")
    if config:
        return config
    if snapshot.realtime:
        config |= {"PREEMPT_RT"}
    if snapshot.seen_kmap_local and GENERATIONS[generation].local_per_cpu:
        config |= {"KMAP_LOCAL"}
    return arch.default_config | config if config else config


def _candidates(snapshot: Snapshot, arches: tuple[str, ...]) -> Iterator[tuple[Machine, Layout]]:
    """Machines with highmem that the known facts allow, the most usual first."""
    release = snapshot.release
    generations: tuple[str, ...]
    if release:
        generations = (generation_for(release),)
    elif snapshot.seen_atomic:
        generations = _OLDER
    else:
        generations = (DEFAULT, _BEFORE_LOCAL)
    for arch in (ARCHES[name] for name in arches):
        if snapshot.arch not in (None, arch.name):
            continue
        sizes = (arch.default_nr_cpus, *(n for n in NR_CPUS if n != arch.default_nr_cpus))
        known = snapshot.nr_cpus
        for split in _splits(snapshot, arch):
            for pae in (snapshot.pae,) if snapshot.pae is not None else (False, True):
                if split not in (arch.pae_splits if pae else arch.splits):
                    continue
                for nr_cpus in (known,) if known else sizes:
                    for generation in generations:
                        found = _candidate(
                            arch.name,
                            split,
                            nr_cpus,
                            generation,
                            switches(snapshot, arch, generation),
                            snapshot.page_size or arch.page_sizes[0],
                            odd_offset(snapshot, arch),
                            pae=pae,
                        )
                        if found is not None:
                            yield found


@functools.lru_cache(maxsize=4096)
def _candidate(
    name: str,
    split: str,
    nr_cpus: int,
    generation: str,
    config: frozenset[str],
    page_size: int,
    page_offset: int | None,
    *,
    pae: bool,
) -> tuple[Machine, Layout] | None:
    """A machine with plenty of RAM, and its layout; None where there is no such machine.

    Kept, since every capture without files is compared with the same thousand.
    """
    machine = Machine(
        arch=name,
        split=split,
        pae=pae,
        nr_cpus=nr_cpus,
        generation=generation,
        config=config,
        ram=_any_ram(ARCHES[name], pae=pae),
        page_size=page_size,
        page_offset=page_offset,
    )
    try:
        return machine, layout_of(machine)
    except HmtraceError:
        return None


def _splits(snapshot: Snapshot, arch: Arch) -> tuple[str, ...]:
    """Splits that the files allow: the one that they name, or that has their PAGE_OFFSET."""
    if snapshot.split is not None:
        return (snapshot.split,)
    told = tuple(name for name, at in arch.splits.items() if at == snapshot.page_offset)
    return told or tuple(arch.splits)


def _two_windows(layout: Layout, seen: _Seen) -> bool:
    """Whether both pool and local slots speak for a layout.

    An old or odd i386 kernel may have its pool where another architecture has it; that its slots
    are there too is past belief. 64-bit addresses speak for themselves.
    """
    inside = any(layout.fixaddr_start <= at <= layout.fixaddr_top for _, at in seen.local)
    return inside and (seen.pool is not None or not layout.pkmap_slots)


def _any_ram(arch: Arch, *, pae: bool) -> Ranges:
    """RAM that an architecture has highmem with."""
    if arch.name in _USUAL:
        return ((0, 4 * GiB),)
    return arch.ram_for(2 * GiB, (), pae)


def _score(layout: Layout, seen: _Seen, machine: Machine) -> int:
    """How well a layout explains the addresses: 0 where one contradicts it, or nothing fits."""
    score = 0
    wide = machine.pae or not ARCHES[machine.arch].has_highmem
    if seen.pfns is not None and seen.pfns[1] >> (32 - layout.page_shift) and not wide:
        return 0
    if seen.pool is not None:
        if not layout.pkmap_base <= seen.pool[0] <= seen.pool[1] < layout.pkmap_end:
            return 0
        # a window that is used up to its last slot has no room to spare
        window = layout.pkmap_end - layout.pkmap_base
        score += 4 + (seen.pool[1] - seen.pool[0] + layout.page_size == window)
        score += 8 * ((layout.pkmap_base, layout.pkmap_end) in seen.flushes)
    for cpu, highest in seen.local:
        if highest < layout.fixaddr_start:
            continue  # only lowmem pages were mapped there
        if highest > layout.fixaddr_top:
            continue  # lowmem above the fixmap
        step = layout.kmap_fix_step * layout.pkmap_colours
        first = layout.kmap_fix_top + layout.km_max_idx * cpu * step
        slot = (highest - first) // step
        if not 0 <= slot < layout.km_max_idx:
            return 0
        score += 4 + (slot == layout.km_step - 1 and not layout.kmap_upwards)
    ends = {end for _, end in seen.ranges}
    score += 4 * (layout.vmalloc_end in ends)
    modules = layout.modules_start, layout.modules_end
    score += 2 * (modules in seen.ranges and layout.modules_end != layout.vmalloc_end)
    # 686 with 8 CPUs and 686-pae with 32 end their arenas at one address: prefer the usual build
    usual = machine.nr_cpus == ARCHES[machine.arch].default_nr_cpus
    return score + 3 * usual if score else 0


def _with_memory(told: Snapshot, seen: _Seen, layout: Layout) -> tuple[Snapshot, list[str]]:
    """Add RAM, and the border of lowmem where areas show the start of the arena, with words."""
    starts = [a for a, end in seen.ranges if end == layout.vmalloc_end and a > layout.page_offset]
    start = min(starts, default=layout.vmalloc_start)
    gap = 8 * MiB  # VMALLOC_OFFSET of both architectures
    lowmem = (start - gap - layout.page_offset) >> PAGE_SHIFT
    phys = _phys_pfn(told, seen, layout, lowmem)
    if phys and told.phys_pfn_offset is None:
        told = replace(told, phys_pfn_offset=phys)
    if seen.pfns is None:
        step, top = GiB >> PAGE_SHIFT, phys + lowmem + 1
    else:
        step, top = 128 * MiB >> PAGE_SHIFT, max(seen.pfns[1], phys + lowmem) + 1
    size = (told.ram_bytes or align_up(told.mem_total or 0, 64 * MiB)) >> PAGE_SHIFT
    if size and (seen.pfns is None or seen.pfns[1] < phys + size):
        top, why = (
            phys + size,
            "by the size that files name and the trace's frames, there is no iomem",
        )
    else:
        top = phys + -(-(top - phys) // step) * step
        why = "the frames in the trace need it, there is no iomem"
        if seen.pfns is None:
            why = "no file says, and the trace has no frames"
    told = replace(told, ram=((phys << PAGE_SHIFT, top << PAGE_SHIFT),))
    words = [f"RAM from {phys << PAGE_SHIFT:#x} to {top << PAGE_SHIFT:#x}: {why}"]
    if starts:
        if told.lowmem_end_pfn is None:
            told = replace(told, lowmem_end_pfn=phys + lowmem)
        words.append(f"lowmem ends at frame {phys + lowmem:#x}: areas are taken from {start:#x} on")
    return told, words


def _phys_pfn(told: Snapshot, seen: _Seen, layout: Layout, lowmem: int) -> int:
    """First frame of RAM on ARM; 0 elsewhere."""
    if told.arch != "arm":
        return 0
    direct = told.seen_direct
    if direct is not None and direct[1] < layout.high_memory:
        return max(0, int(direct[0]) - ((int(direct[1]) - layout.page_offset) >> PAGE_SHIFT))
    if seen.pfns is None:
        return 0
    # Highmem only: the lowest of its frames lies above lowmem, so RAM starts that much lower or
    # lower still; most boards have it at a multiple of 1 GiB.
    step = GiB >> PAGE_SHIFT
    return max(0, seen.pfns[0] - lowmem) // step * step


def odd_offset(snapshot: Snapshot, arch: Arch) -> int | None:
    """PAGE_OFFSET where the configuration has a number of its own, which no split has."""
    if "page_offset" not in arch.takes or snapshot.page_offset in arch.splits.values():
        return None
    return snapshot.page_offset
