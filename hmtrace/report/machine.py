"""A machine: in one line, as figures, and drawn as an address space."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from hmtrace.report.charts import bar
from hmtrace.report.findings import findings_section
from hmtrace.report.parts import heading, indented, joined, labelled
from hmtrace.report.text import address, clean, count, mib, plural, share, size
from replay.machine.arches import ARCHES
from replay.machine.tlb import flush_class
from replay.machine.words import kernel_words
from replay.machine.zones import kasan_bytes, memory_of
from replay.rules.machine import machine_findings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from replay.machine.layout import Layout, LayoutZone
    from replay.machine.model import Machine
    from replay.machine.zones import Memory

_MIB = 1 << 20
_GAP = "gap"
_HIGHMEM = "HighMem"
_SHADES = {"DMA": "▒", "Normal": "█", _HIGHMEM: "░"}
_REGION_STYLES = {
    "lowmem": "green",
    "pkmap": "cyan",
    "kmap_local": "cyan",
    "vmalloc": "magenta",
    "user": "blue",
}
_BOX_WIDTH = 14
_BAR_WIDTH = 12
_SMALL_GAP = 32 * _MIB
_WIDE = 70


def machine_in_words(machine: Machine, layout: Layout) -> str:
    """Architecture, CPUs, split and how RAM divides, in one line."""
    arch = ARCHES.get(machine.arch)
    pae = arch.pae_name if arch is not None and machine.pae else ""
    high = f"{mib(layout.highmem_bytes)} highmem" if layout.highmem_bytes else "no highmem"
    pages = "" if layout.page_size == 4096 else f", pages of {size(layout.page_size)}"
    return (
        f"{clean(machine.arch)}{' ' + pae if pae else ''}, {plural(machine.cpus, 'CPU')}{pages}, "
        f"{_split_in_words(machine, layout)}: {mib(layout.lowmem_bytes)} lowmem + {high}"
    )


def _split_in_words(machine: Machine, layout: Layout) -> str:
    """The split, or PAGE_OFFSET where it is a number that no split has."""
    if _has_split(machine, layout):
        return f"split {clean(machine.split)}"
    return f"PAGE_OFFSET {address(layout.page_offset)}"


def _has_split(machine: Machine, layout: Layout) -> bool:
    """Whether PAGE_OFFSET is the split's: configured, or with more lowmem, it may not be."""
    arch = ARCHES.get(machine.arch)
    if arch is None or not arch.takes & {"page_offset", "lowmem_limit"}:
        return True
    return layout.page_offset == arch.splits.get(machine.split, layout.page_offset)


def machine_rows(machine: Machine, layout: Layout) -> tuple[tuple[str, str], ...]:
    """Name and value of what sets machines apart, in a fixed order."""
    return (
        (
            "split",
            clean(machine.split) if _has_split(machine, layout) else address(layout.page_offset),
        ),
        ("RAM", mib(machine.ram_bytes)),
        ("  lowmem", mib(layout.lowmem_bytes)),
        ("  highmem", mib(layout.highmem_bytes) if layout.highmem_bytes else "none"),
        ("user space", size(layout.user_end)),
        ("CPUs", count(machine.cpus)),
        ("TLB flush", flush_class(layout, machine.cpus).words),
        ("pool slots", count(layout.pkmap_slots)),
        ("kernel", clean(machine.generation)),
    )


def machine_section(
    machine: Machine, layout: Layout, *, tall: bool = False
) -> Iterator[RenderableType]:
    """Address space and zones.

    Parameters
    ----------
    machine, layout
        The machine and what follows from it.
    tall
        Draw every region as a box of its own, gaps included, and give the layout's notes.

    Yields
    ------
    RenderableType
        Heading, picture, zones.
    """
    split = f", {_split_in_words(machine, layout)}" if _has_split(machine, layout) else ""
    yield heading("Address space", f"PAGE_OFFSET {address(layout.page_offset)}{split}")
    yield indented(_boxes(layout) if tall else _column(layout))
    yield heading("RAM", mib(machine.ram_bytes))
    yield from zones_picture(machine, layout)
    if tall:  # where there is no capture whose caveats have them
        for note in layout.notes:
            yield indented(Text(f"- {clean(note, 500)}"))


def _column(layout: Layout) -> RenderableType:
    """One line per region, top down, with a bar to scale."""
    regions = [
        r for r in reversed(layout.regions) if r.name != _GAP or r.end - r.start >= _SMALL_GAP
    ]
    space, digits = _space(layout)
    lines = [Text(f"{address(space):>{digits}} ┌{'─' * _BOX_WIDTH}┐", style="dim")]
    for region in regions:
        extent = region.end - region.start
        line = Text(f"{address(region.start):>{digits}} │", style="dim")
        line.append(f" {region.name:<{_BOX_WIDTH - 1}}", style=_style(region.name))
        line.append("│")
        line.append(f"{size(extent):>10} ", style="not dim")
        line.append(f"{bar(extent / space, _BAR_WIDTH):<{_BAR_WIDTH}} ", style="not dim")
        line.append("" if region.name == _GAP else region.what)
        lines.append(line)
    lines.append(Text(f"{'':>{digits}} └{'─' * _BOX_WIDTH}┘", style="dim"))
    return _stack(lines)


def _boxes(layout: Layout) -> RenderableType:
    """One box per region, top down; larger regions are taller."""
    width = _BOX_WIDTH + 8
    space, digits = _space(layout)
    lines = [Text(f"{address(space):>{digits}} ┌{'─' * width}┐", style="dim")]
    regions = list(reversed(layout.regions))
    for position, region in enumerate(regions):
        extent = region.end - region.start
        height = _height(extent)
        for row in range(height):
            last = position == len(regions) - 1 and row == height - 1
            line = Text(f"{address(0) if last else '':>{digits}} │", style="dim")
            name = region.name if row == (height - 1) // 2 and region.name != _GAP else ""
            line.append(f" {name:<{width - 1}}", style=_style(region.name))
            line.append("│")
            if row == (height - 1) // 2:
                line.append(f"{size(extent):>10}  ", style="not dim")
                line.append(region.what)
            lines.append(line)
        if position < len(regions) - 1:
            lines.append(Text(f"{address(region.start):>{digits}} ├{'─' * width}┤", style="dim"))
    lines.append(Text(f"{'':>{digits}} └{'─' * width}┘", style="dim"))
    return _stack(lines)


def _space(layout: Layout) -> tuple[int, int]:
    """Size of the address space, and the digits that its addresses take."""
    space = layout.regions[-1].end
    return space, len(address(space))


def _height(extent: int) -> int:
    """Lines of a box: grows with the logarithm of the size."""
    return 1 + sum(extent >= limit for limit in (64 * _MIB, 512 * _MIB, 1536 * _MIB))


def _style(name: str) -> str:
    return f"not dim {_REGION_STYLES.get(name, '')}".strip()


def _stack(lines: Sequence[Text]) -> Text:
    text = Text("\n").join(lines)
    text.no_wrap = True
    text.overflow = "ellipsis"
    return text


def zones_picture(machine: Machine, layout: Layout) -> Iterator[RenderableType]:
    """Zones as one bar to scale, holes in them as dots, and how much RAM each has.

    Parameters
    ----------
    machine
        Its RAM tells where the holes are.
    layout
        Its zones and the size of mem_map are shown.

    Yields
    ------
    RenderableType
        Bar, legend.
    """
    total = sum(zone.end_pfn - zone.start_pfn for zone in layout.zones)
    if not total:
        return
    picture, legend = Text(), []
    for zone in layout.zones:
        pages = zone.end_pfn - zone.start_pfn
        shade = _SHADES.get(zone.name, "▓")
        style = "yellow" if zone.name == _HIGHMEM else "green"
        for has_ram in _cells(machine, layout, zone, max(round(pages / total * _WIDE), 1)):
            picture.append(shade if has_ram else "·", style=style)
        first, last = (address(pfn * layout.page_size) for pfn in (zone.start_pfn, zone.end_pfn))
        hole = (pages - zone.present) * layout.page_size
        extent = mib(zone.present * layout.page_size)
        holes = f", {size(hole)} of that a hole" if hole >= _MIB else ""
        legend.append((f"{shade} {clean(zone.name)}", f"{extent:>11}  {first}-{last}{holes}"))
    yield indented(picture)
    if layout.mem_map_bytes and layout.lowmem_bytes:
        part = share(layout.mem_map_bytes / layout.lowmem_bytes)
        legend.append(("mem_map", f"{size(layout.mem_map_bytes):>11}  {part} of lowmem"))
    yield labelled(legend)


def _cells(machine: Machine, layout: Layout, zone: LayoutZone, width: int) -> Iterator[bool]:
    """Whether there is RAM in the middle of each of `width` equal parts of a zone."""
    start, pages = zone.start_pfn, zone.end_pfn - zone.start_pfn
    for cell in range(width):
        middle = (start + pages * (2 * cell + 1) // (2 * width)) * layout.page_size
        yield any(first <= middle < end for first, end in machine.ram)


def _lazy(layout: Layout) -> str:
    """What may wait for a purge, and whether the arena has room for as much."""
    most = layout.lazy_max_pages * layout.page_size
    words = f"up to {size(most)} wait for a purge"
    return words if most < layout.vmalloc_bytes else f"{words}, or until the arena is full"


def limits_rows(machine: Machine, layout: Layout) -> list[tuple[str, str]]:
    """Limits that follow from the layout, as label and value."""
    pool = f"{count(layout.pkmap_slots)} slots at {address(layout.pkmap_base)}"
    local = (
        f"depth {layout.km_usable_depth} per {'CPU' if layout.kmap_per_cpu else 'task'}, "
        f"slots {'upwards' if layout.kmap_upwards else 'downwards'} from "
        f"{address(layout.kmap_fix_top)}"
    )
    return [
        ("kernel", joined(kernel_words(machine, layout))),
        ("pool", pool if layout.pkmap_slots else "none"),
        ("local", local),
        ("arena", f"{size(layout.vmalloc_bytes)} from {address(layout.vmalloc_start)}"),
        ("lazy", _lazy(layout)),
        ("flush", flush_words(layout)),
    ]


def flush_words(layout: Layout) -> str:
    """What flush_tlb_kernel_range() does, and kmap_local where it does more than usual."""
    ceiling = layout.flush_ceiling_pages
    if not layout.range_flush:
        words = ["caches only, no TLB"]
    elif ceiling is None:
        words = ["page by page, however many"]
    else:
        words = [f"full above {plural(ceiling, 'page')}" if ceiling else "always full"]
    if layout.x86_flush:
        words.append(f"with {flush_class(layout, layout.nr_cpus).words}")
    if layout.range_flush and layout.nr_cpus > 1:
        words.append(
            "broadcast by the hardware" if layout.tlb_broadcast else "by IPI to other CPUs"
        )
    if layout.tlb_erratum_ipi:
        words.append("and an IPI (erratum 798181)")
    if layout.local_flush_all:
        words.append("kmap_local flushes all TLBs too")
    return joined(words)


def memory_rows(memory: Memory, page: int, kasan: int = 0) -> list[tuple[str, str]]:
    """Watermarks and reserves of the zones, as label and value; `kasan`: bytes of its shadow."""
    rows = []
    for zone in memory.zones:
        kept = f"{size(zone.low * page)} low, {size(zone.high * page)} high watermark"
        reserves = [
            f"{size(pages * page)} from requests for {name}"
            for name, pages in zone.reserve.items()
            if pages and name in {other.zone for other in memory.zones}
        ]
        rows.append((zone.zone, joined([kept, *reserves])))
    remain = sum(zone.managed for zone in memory.zones if zone.zone != _HIGHMEM) * page
    costs = f"{size(memory.mem_map_bytes)} mem_map, {size(memory.other_bytes)} kernel image"
    if kasan:
        costs = f"{costs}, {size(kasan)} KASAN's shadow"
    rows.append(("lowmem", f"{costs}; {size(max(remain - kasan, 0))} remain"))
    return rows


def layout_renderables(machine: Machine, layout: Layout) -> Iterator[RenderableType]:
    """Lines and sections of `layout`.

    Yields
    ------
    RenderableType
        Picture, zones, watermarks, limits, findings.
    """
    title = Table.grid(padding=(0, 2))
    title.add_row(Text("hmtrace layout", style="bold"), Text(machine_in_words(machine, layout)))
    yield title
    yield from machine_section(machine, layout, tall=True)
    yield heading("Kept free", "by the page allocator, estimated")
    memory, kasan = memory_of(machine, layout), kasan_bytes(machine, layout)
    yield labelled(memory_rows(memory, layout.page_size, kasan))
    yield heading("Limits")
    yield labelled(limits_rows(machine, layout))
    yield from findings_section(tuple(machine_findings(machine, layout)))
