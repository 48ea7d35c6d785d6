"""From what a capture's files say to a :class:`replay.machine.model.Machine`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from collectors.errors import HmtraceError
from replay.machine.arches import ARCHES
from replay.machine.fit import believe, fit_border
from replay.machine.from_addresses import complete, odd_offset, switches, with_such_a_pool
from replay.machine.generations import (
    DEFAULT,
    GENERATIONS,
    generation_for,
    is_newer,
    is_older,
    was_observed,
)
from replay.machine.layout import layout_of
from replay.machine.model import PAGE_SHIFT, GiB, Machine, MiB, align_down, align_up
from replay.machine.tlb import class_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from collectors.snapshot import FactName, Snapshot, Zone
    from replay.machine.model import Arch, Layout


def machine_from(
    snapshot: Snapshot, sources: Mapping[FactName, str] | None = None
) -> tuple[Machine, tuple[str, ...]]:
    """Describe the machine that a capture was made on.

    Parameters
    ----------
    snapshot
        ``Facts.snapshot()``; any of them may be missing.
    sources
        ``Facts.sources()``, for the words about what contradicts the rules.

    Returns
    -------
    machine
        With the distribution kernels' defaults where the facts say nothing.
    assumptions
        In words, what was assumed for want of facts, what its kernel would say or the model leaves
        out (:attr:`~replay.machine.model.Layout.notes`), and where the machine's files contradict
        the address map that hmtrace's rules give (:mod:`replay.machine.told`).

    Raises
    ------
    HmtraceError
        If the facts name an architecture that hmtrace does not model, or the trace is of a 64-bit
        kernel that they do not name.
    """
    snapshot, assumed = complete(snapshot)
    arch = _arch(snapshot, assumed)
    pae = snapshot.pae if arch.pae_name else False
    if pae is None:
        pae = False
        assumed.append(f"no {arch.pae_name}: no file says")
    generation = DEFAULT if snapshot.release is None else generation_for(snapshot.release)
    config = switches(snapshot, arch, generation)
    if not snapshot.config:
        whose = "Debian's kernels" if arch.name in ("i386", "arm") else "a usual kernel"
        assumed.append(f"the configuration is that of {whose}: there is no config file")
    config, dma_zone = _dma_zone(config, arch, snapshot, assumed, generation)
    release = snapshot.release or ""
    if release:
        # that it is older or newer than all that are modelled is said by the layout
        if not (was_observed(release) or is_older(release) or is_newer(release)):
            assumed.append(
                f"kernel {release} behaves as generation {generation}: hmtrace's model was not "
                "compared with this series"
            )
    else:
        assumed.append(f"the kernel behaves as {DEFAULT}: no file names its release")
    machine = Machine(
        arch=arch.name,
        split=_split(snapshot, arch, assumed),
        ram=_ram(snapshot, arch, assumed, pae=pae),
        pae=pae,
        cpus=_cpus(snapshot, arch, assumed),
        nr_cpus=_nr_cpus(snapshot, arch, assumed),
        vmalloc=snapshot.vmalloc,
        highmem=snapshot.highmem_opt if arch.highmem_option else None,
        mem=snapshot.mem_opt,
        reservetop=snapshot.reservetop if arch.name == "i386" else None,
        generation=generation,
        config=config,
        page_struct=arch.default_page_struct
        if snapshot.page_struct is None
        else snapshot.page_struct,
        mem_map=snapshot.mem_map,
        release=release,
        highmem_enabled=_highmem_enabled(snapshot, arch, assumed),
        phys_offset=_phys_offset(snapshot)
        if snapshot.phys_offset is None
        else snapshot.phys_offset,
        tlb_erratum="ARM_ERRATA_798181" in config and _has_erratum(snapshot.arm_cpu),
        pti="pti" in (snapshot.cpu_flags or ()),
        tlb_flush=class_of(arch.name, snapshot),
        page_size=_page_size(snapshot, arch, assumed),
        tlb_entries=snapshot.tlb_entries if "tlb_entries" in arch.takes else None,
        lowmem_limit=snapshot.lowmem_limit,
        page_offset=odd_offset(snapshot, arch),
        vmalloc_end=_platforms_own(snapshot, arch, generation),
        nomap=snapshot.no_map if "nomap" in arch.takes else (),
        acpi=snapshot.acpi_tables if "acpi" in arch.takes else (),
        dma_zone=dma_zone,
        border_told=snapshot.lowmem_end_pfn is not None,
        huge_pages=_huge_pages(arch, config or arch.default_config, snapshot, pae=pae),
    )
    machine = _possible(machine, arch, assumed)
    machine = fit_border(machine, snapshot, assumed)
    machine = believe(machine, snapshot, sources, assumed)
    layout = layout_of(machine)
    assumed += layout.notes
    if snapshot.arch is not None:
        assumed += _outside_the_pool(layout, snapshot)
    return machine, tuple(assumed)


def _possible(machine: Machine, arch: Arch, assumed: list[str]) -> Machine:
    """Leave out what cannot be true of a machine that booted, so that the rest can be used.

    Files can be damaged, or be of two machines.
    """
    nothing: dict[str, Any] = {}
    options = {"vmalloc": None, "highmem": None, "mem": None, "reservetop": None}
    ram = arch.ram_for(GiB, (), machine.pae)
    doubted = (
        (nothing, ""),
        (options, "the sizes on the command line are left out: they leave no room for lowmem"),
        (
            {"nr_cpus": arch.default_nr_cpus, "lowmem_limit": None, "page_offset": None},
            "NR_CPUS is left out: its fixmap has no room",
        ),
        (
            {"ram": ram, "phys_offset": None},
            f"1 GiB of RAM from {ram[0][0] or 0:#x} on: its map is no RAM",
        ),
    )
    trial = machine
    for changes, why in doubted:
        trial = replace(trial, **changes)
        try:
            layout_of(trial)
        except HmtraceError:
            continue
        if why:
            assumed.append(why)
        return trial
    return trial


_FROM_ZERO: Final = ("i386", "arm")
"""Their RAM is taken for one range from 0 on where no file says."""


def _arch(snapshot: Snapshot, assumed: list[str]) -> Arch:
    name = snapshot.arch
    if name is None and snapshot.seen_wide is not None:
        msg = (
            f"the trace is of a 64-bit kernel: its addresses, such as {snapshot.seen_wide:#x}, "
            "have more than 32 bits"
        )
        hint = "such a kernel has no highmem; the counts of info and convert work all the same"
        raise HmtraceError(msg, hint=hint)
    if name is None:
        # only ARM has RAM that does not start near 0, and its modules below PAGE_OFFSET
        name = "arm" if snapshot.phys_pfn_offset else "i386"
        assumed.append(f"architecture {name}: no file names it{_unlike(snapshot, name)}")
    arch = ARCHES.get(name)
    if arch is None:
        msg = f"the capture is of architecture {name}, of which hmtrace has no model"
        hint = f"it knows {', '.join(ARCHES)}; the counts of info and convert work all the same"
        raise HmtraceError(msg, hint=hint)
    return arch


def _unlike(snapshot: Snapshot, name: str) -> str:
    """What speaks against an architecture that is only supposed."""
    if snapshot.seen_pool is None:
        return ""
    fitting = with_such_a_pool(snapshot)
    if name in fitting:
        return ""
    others = f"they would fit {' or '.join(fitting)}" if fitting else "nor any other"
    return (
        f", and what kmap() gave ({snapshot.seen_pool[0]:#x}) is not in its pool ({others}): "
        "config.gz or dmesg beside the trace tells it"
    )


def _outside_the_pool(layout: Layout, snapshot: Snapshot) -> Iterator[str]:
    """What speaks against a layout whose architecture is known."""
    if snapshot.seen_pool is None or not layout.pkmap_slots:
        return
    first, last = snapshot.seen_pool
    if first < layout.pkmap_base or last >= layout.pkmap_end:
        strange = first if first < layout.pkmap_base else last
        yield (
            f"kmap() gave {strange:#x}, which is not in the pool of this layout "
            f"({layout.pkmap_base:#x}-{layout.pkmap_end:#x}): the trace is of another kernel than "
            "the files, or the kernel has a layout of its own; the pool is not foretold"
        )


def _split(snapshot: Snapshot, arch: Arch, assumed: list[str]) -> str:
    by_offset = {offset: name for name, offset in arch.splits.items()}
    for name in (snapshot.split, by_offset.get(snapshot.page_offset or 0)):
        if name in arch.splits:
            return str(name)
    if len(arch.splits) > 1 and odd_offset(snapshot, arch) is None:
        assumed.append(f"the {arch.default_split} split: no file says")
    return arch.default_split


def _highmem_enabled(snapshot: Snapshot, arch: Arch, assumed: list[str]) -> bool:
    """Whether the kernel has CONFIG_HIGHMEM: one whose kmap_high() gives addresses has it."""
    if snapshot.highmem_enabled is False and snapshot.seen_pool is not None and arch.has_highmem:
        assumed.append(
            f"kernel with HIGHMEM: kmap() gave {snapshot.seen_pool[0]:#x}, though a file says that "
            "there is none; it is of another kernel, or not whole"
        )
        return True
    return snapshot.highmem_enabled is not False


def _page_size(snapshot: Snapshot, arch: Arch, assumed: list[str]) -> int:
    known = snapshot.page_size
    if known in arch.page_sizes:
        return int(known)
    if len(arch.page_sizes) > 1:
        assumed.append(f"pages of {arch.page_sizes[0] >> 10} KiB: no file says")
    return arch.page_sizes[0]


def _ram(
    snapshot: Snapshot, arch: Arch, assumed: list[str], *, pae: bool
) -> tuple[tuple[int, int], ...]:
    ram = snapshot.ram
    if ram:
        return tuple((int(a), int(b)) for a, b in ram)
    zones = snapshot.zones
    page = snapshot.page_size or arch.page_sizes[0]
    if zones:
        return _ram_of_zones(zones, page, assumed)
    if snapshot.zone_ranges:
        assumed.append("RAM without holes from the first zone to the last: there is no iomem")
        first = min(zone[1] for zone in snapshot.zone_ranges)
        end = max(zone[2] for zone in snapshot.zone_ranges)
        return ((first * page, end * page),)
    if arch.name == "arm" and (banks := _two_banks(snapshot)):
        assumed.append(
            "RAM in two banks from 0 on, the second up to the end of highmem: by the boot log, "
            "which does not say where; no iomem"
        )
        return banks
    if snapshot.ram_bytes and (ranges := _ram_of_lowmem(snapshot, arch, page, assumed)):
        return ranges
    size, why = GiB, "no file says"
    if snapshot.ram_bytes:
        size, why = snapshot.ram_bytes, "by the boot log, which does not say where; no iomem"
    elif snapshot.mem_total:
        size = align_up(snapshot.mem_total, 64 * MiB)
        why = "by MemTotal, there is no iomem"
    try:
        ranges = arch.ram_for(size, (), pae)
    except HmtraceError:
        ranges = arch.ram_for(GiB, (), pae)
    if arch.name in _FROM_ZERO:
        ranges = ((0, size),)
    shown = f"{size // GiB} GiB" if size % GiB == 0 else f"{size // MiB} MiB"
    where = f"{ranges[0][0]:#x}" if ranges[0][0] else "0"
    assumed.append(f"{shown} of RAM from {where} on: {why}")
    return ranges


def _two_banks(snapshot: Snapshot) -> tuple[tuple[int, int], ...]:
    """Two banks with a hole between them, where a boot log tells it; else nothing.

    The line ``Memory:`` has their sizes and that of highmem, which begins where the lowmem of the
    layout block ends: so the end of the second is known. A part of highmem that is not free then
    makes no whole number of MiB of it.
    """
    lowmem = snapshot.layout_block.get("lowmem")
    if len(snapshot.banks) != 2 or lowmem is None or not snapshot.highmem_bytes:
        return ()
    first, second = snapshot.banks
    end = lowmem[1] - lowmem[0] + snapshot.highmem_bytes
    if end % MiB or end - second <= first:
        return ()
    return (0, first), (end - second, end)


def _ram_of_lowmem(
    snapshot: Snapshot, arch: Arch, page: int, assumed: list[str]
) -> tuple[tuple[int, int], ...]:
    """RAM where the boot log has its size, and that of lowmem, which then has holes; else empty.

    The hole is put into the middle of lowmem, and highmem where lowmem ends.
    """
    start, end = snapshot.layout_block.get("lowmem", (0, 0))
    pages = dict(snapshot.zone_pages)
    high = pages.get("HighMem", 0) * page if pages else snapshot.highmem_bytes
    if high is None or arch.name not in _FROM_ZERO:
        return ()
    low = sum(count for zone, count in pages.items() if zone != "HighMem") * page
    low = low if pages else int(snapshot.ram_bytes or 0) - high
    span = end - start
    if not 2 * MiB < low <= span - page:
        return ()
    kept = align_down(low // 2, 2 * MiB)
    hole = (span - low) // page * page
    assumed.append(
        f"RAM from 0 on, {(low + high) // MiB} MiB, as the boot log has its size; where the "
        f"{hole / MiB:.0f} MiB of holes below the end of lowmem lie, it does not say"
    )
    return tuple(r for r in ((0, kept), (kept + hole, span), (span, span + high)) if r[1] > r[0])


def _ram_of_zones(
    zones: tuple[Zone, ...], page: int, assumed: list[str]
) -> tuple[tuple[int, int], ...]:
    """RAM as the zones' sizes tell it, where no file has its ranges.

    A hole in lowmem is put into its middle, one in highmem at its start: there the memory ends that
    lowmem ended with, where the border is none of the kernel's making.
    """
    ranges: list[tuple[int, int]] = []
    holes = 0
    for zone in sorted(zones, key=lambda zone: zone.start_pfn):
        end = zone.start_pfn + zone.spanned
        hole = zone.spanned - zone.present
        kept = 0
        if 0 < hole < zone.spanned and zone.name != "HighMem":
            kept = align_down(zone.present // 2, 2 * MiB // page)
        hole = hole if 0 < hole < zone.spanned else 0
        holes += hole
        pieces = (zone.start_pfn, zone.start_pfn + kept), (zone.start_pfn + kept + hole, end)
        for start, last in pieces if hole else ((zone.start_pfn, end),):
            if last <= start:
                continue
            if ranges and ranges[-1][1] >= start:
                ranges[-1] = (ranges[-1][0], max(last, ranges[-1][1]))
            else:
                ranges.append((start, last))
    where = f"; where its {holes * page // MiB} MiB of holes lie, no file says" if holes else ""
    assumed.append(f"RAM as the zones have it: there is no iomem{where}")
    return tuple((start * page, end * page) for start, end in ranges)


def _cpus(snapshot: Snapshot, arch: Arch, assumed: list[str]) -> int:
    """CPUs, by what was brought up, or by the numbers that the kernel has for them.

    The latter come from the firmware; of a PC they count empty sockets, too.
    """
    known = snapshot.cpus or snapshot.cpus_booted
    if known is None and snapshot.smp is not False:
        known = None if arch.name in ("i386", "x86_64") else snapshot.nr_cpu_ids
        why = "as many as the boot log has numbers for" if known else "no file shows them"
        if (seen := snapshot.seen_cpus or 1) > (known or 1):
            known, why = seen, f"{why}, the trace has events of CPU {seen - 1}"
        shown = "one CPU" if known in (None, 1) else f"{known} CPUs"
        assumed.append(f"{shown}: {why}")
    return max(1, min(known or 1, 4096))


def _nr_cpus(snapshot: Snapshot, arch: Arch, assumed: list[str]) -> int:
    known = snapshot.nr_cpus
    if known is None and snapshot.smp is False:
        known = 1
    if known is None:
        whose = "Debian's" if arch.name in ("i386", "arm") else "usual"
        assumed.append(f"NR_CPUS {arch.default_nr_cpus}, as in {whose} kernels: no file says")
        known = arch.default_nr_cpus
    return max(1, min(int(known), 4096))


def _phys_offset(snapshot: Snapshot) -> int | None:
    pfn = snapshot.phys_pfn_offset
    return None if pfn is None else int(pfn) << PAGE_SHIFT


def _platforms_own(snapshot: Snapshot, arch: Arch, generation: str) -> int | None:
    """VMALLOC_END where it is no number of the kernel's, and the boot log has it."""
    if "vmalloc_end" not in arch.takes or GENERATIONS[generation].arm_vmalloc_end is not None:
        return None
    return snapshot.vmalloc_end


def _dma_zone(
    config: frozenset[str], arch: Arch, snapshot: Snapshot, assumed: list[str], generation: str
) -> tuple[frozenset[str], int | None]:
    """Switches with ZONE_DMA as the zones show it, and the size of that zone where it is limited.

    Only ARM kernels differ in it from board to board.
    """
    if arch.name != "arm":
        return config, None
    zones = {zone[0]: (zone[1], zone[1] + zone[2]) for zone in snapshot.zones}
    zones |= {name: (start, end) for name, start, end in snapshot.zone_ranges}
    if not zones:
        if not config:
            assumed.append("a DMA zone holds all of lowmem, as in Debian's kernels: no zoneinfo")
        return config, None
    switches = config or arch.default_config
    if "DMA" not in zones:
        return (switches - {"ZONE_DMA"} if "ZONE_DMA" in switches else config), None
    limited = "Normal" in zones and zones["Normal"][1] > zones["Normal"][0]
    frames = zones["DMA"][1] - zones["DMA"][0]
    frames += not GENERATIONS[generation].arm_dma_zone_exact
    size = frames << PAGE_SHIFT if limited else None
    return (config if "ZONE_DMA" in switches else switches | {"ZONE_DMA"}), size


def _huge_pages(arch: Arch, config: frozenset[str], snapshot: Snapshot, *, pae: bool) -> bool:
    """Whether transparent huge pages are on: built in, and the CPU has large pages.

    arch/x86/Kconfig, arch/arm/Kconfig: HAVE_ARCH_TRANSPARENT_HUGEPAGE (ARM: with LPAE);
    mm/huge_memory.c: hugepage_init; large pages are the flag ``pse`` on x86.
    """
    if not config & {"TRANSPARENT_HUGEPAGE_ALWAYS", "TRANSPARENT_HUGEPAGE_MADVISE"}:
        return False
    return pae if arch.name == "arm" else snapshot.cpu_flags is None or "pse" in snapshot.cpu_flags


def _has_erratum(cpu: tuple[int, int, int, int] | None) -> bool:
    """Whether a CPU needs the workaround of erratum 798181.

    arch/arm/kernel/smp_tlb.c: erratum_a15_798181_init: Cortex-A15 up to r3p3 and Brahma-B15
    up to r0p2; the bits in REVIDR that clear some of them are not in any file.
    """
    if cpu is None:
        return False
    implementer, part, variant, revision = cpu
    if (implementer, part) == (0x41, 0xC0F):
        return (variant, revision) <= (3, 3)
    return (implementer, part) == (0x42, 0x0F0) and (variant, revision) <= (0, 2)
