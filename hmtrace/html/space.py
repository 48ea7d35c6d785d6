"""The address space and RAM, drawn to scale.

What is too small to be seen beside the whole address space has a picture of its own, magnified,
as often as it takes: 2 MiB of pkmap are a thousandth of 4 GiB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from collectors.records import dataclass
from hmtrace.html.blocks import Section, TableBlock, TableCell, TableColumn, pairs_of, runs_of
from hmtrace.report.machine import limits_rows, memory_rows
from hmtrace.report.parts import Valued
from hmtrace.report.text import address, clean, mib, number, size
from replay.machine.zones import kasan_bytes, memory_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hmtrace.html.blocks import Block
    from replay.machine.layout import Layout
    from replay.machine.model import Machine, Region

HEIGHT: Final = 480
"""Height of a picture, in units of its drawing."""
_READABLE: Final = 15
"""Height from which a region's name fits into its box."""
_WORTH: Final = 1 << 20
"""Bytes of a region from which it has a picture even if it is alone in it."""
_DEEPEST: Final = 4
"""How often a picture magnifies one that is magnified, at most."""
_GAP: Final = "gap"
_KINDS: Final = {
    "user": "user",
    "lowmem": "lowmem",
    "vmalloc": "vmalloc",
    "modules": "modules",
    "pkmap": "pkmap",
    "kmap_local": "local",
    "fixmap": "fixmap",
    _GAP: "gap",
}
"""Regions that have a colour of their own."""


@dataclass(frozen=True)
class Box:
    """A region in a picture: where it is drawn, from the top, and what it says."""

    y: float
    height: float
    kind: str
    name: str
    extent: str
    what: str
    addresses: str

    @property
    def is_readable(self) -> bool:
        """Whether its name fits."""
        return self.height >= _READABLE


@dataclass(frozen=True)
class Tick:
    """An address beside a border."""

    y: float
    address: str


@dataclass(frozen=True)
class SpacePicture:
    """One stretch of the address space, to scale.

    `times` is how much larger it is drawn than the whole, in words; "" for the whole.
    """

    title: str
    times: str
    boxes: tuple[Box, ...]
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class ZoneBar:
    """A zone, or a hole in one, in the picture of RAM; `x` and `width` are shares of it."""

    x: float
    width: float
    kind: str
    title: str


@dataclass(frozen=True)
class SpaceParts:
    """What the section of the address space shows."""

    pictures: tuple[SpacePicture, ...]
    zones: tuple[ZoneBar, ...]
    blocks: tuple[Block, ...]


def space_section(machine: Machine, layout: Layout) -> Section:
    """Pictures, exact addresses, zones, and what follows from them.

    Returns
    -------
    Section
    """
    memory, kasan = memory_of(machine, layout), kasan_bytes(machine, layout)
    rows = [*limits_rows(machine, layout), *memory_rows(memory, layout.page_size, kasan)]
    parts = SpaceParts(
        tuple(pictures(layout.regions)),
        tuple(zone_bars(machine, layout)),
        (
            _regions_table(layout),
            _zones_table(layout),
            pairs_of(rows),
        ),
    )
    aside = f"PAGE_OFFSET {address(layout.page_offset)}, RAM {mib(machine.ram_bytes)}"
    return Section("address-space", "Address space", aside, "space.html", parts)


def pictures(
    regions: Sequence[Region], whole: int | None = None, depth: int = 0
) -> Iterator[SpacePicture]:
    """The picture of a stretch, then those of what is too small in it, from the top.

    Parameters
    ----------
    regions
        Neighbours, in ascending order.
    whole
        Bytes of the whole address space; None: this is it.
    depth
        Pictures that this one is magnified from.

    Yields
    ------
    SpacePicture
    """
    start, end = regions[0].start, regions[-1].end
    extent = end - start
    boxes, ticks = [], [Tick(0, address(end))]
    for region in reversed(regions):
        top = (end - region.end) / extent * HEIGHT
        height = (region.end - region.start) / extent * HEIGHT
        boxes.append(_box(region, top, height))
        if top + height - ticks[-1].y >= _READABLE and HEIGHT - top - height >= _READABLE:
            ticks.append(Tick(top + height, address(region.start)))
    ticks.append(Tick(HEIGHT, address(start)))
    times = "" if whole is None else f"{number(whole / extent, 0)} ×"
    yield SpacePicture(f"{address(start)} – {address(end)}", times, tuple(boxes), tuple(ticks))
    for cluster in reversed(list(_small(regions, extent))):
        if len(cluster) < len(regions) and depth < _DEEPEST:
            yield from pictures(cluster, whole or extent, depth + 1)


def _small(regions: Sequence[Region], extent: int) -> Iterator[list[Region]]:
    """Neighbours that are too small for a name, where they are worth a picture.

    Yields
    ------
    list of Region
    """
    cluster: list[Region] = []
    for region in regions:
        if (region.end - region.start) / extent * HEIGHT < _READABLE:
            cluster.append(region)
            continue
        if _is_worth_it(cluster):
            yield cluster
        cluster = []
    if _is_worth_it(cluster):
        yield cluster


def _is_worth_it(cluster: Sequence[Region]) -> bool:
    """Whether there is something to be seen: a page or two alone have their line in the table."""
    named = [one for one in cluster if one.name != _GAP]
    return len(named) > 1 or any(one.end - one.start >= _WORTH for one in named)


def _box(region: Region, top: float, height: float) -> Box:
    return Box(
        round(top, 2),
        round(height, 2),
        _KINDS.get(region.name, "other"),
        "" if region.name == _GAP else clean(region.name, 40),
        size(region.end - region.start),
        clean(region.what, 200),
        f"{address(region.start)} – {address(region.end)}",
    )


def _regions_table(layout: Layout) -> TableBlock:
    columns = (("region", ""), ("from", ""), ("to", ""), ("size", "right"), ("what", ""))
    rows = [
        (
            runs_of(clean(region.name, 40)),
            region.start,
            region.end,
            region.end - region.start,
            runs_of(clean(region.what, 200)),
        )
        for region in reversed(layout.regions)
    ]
    return TableBlock(
        tuple(TableColumn(title, bool(side)) for title, side in columns),
        tuple(
            (
                TableCell(name),
                TableCell(runs_of(address(start)), start),
                TableCell(runs_of(address(end)), end),
                TableCell(runs_of(size(extent)), extent),
                TableCell(what),
            )
            for name, start, end, extent, what in rows
        ),
    )


def _zones_table(layout: Layout) -> TableBlock:
    columns = ("zone", "from", "to", "RAM", "hole")
    page = layout.page_size
    rows = []
    for zone in layout.zones:
        present = zone.present * page
        hole = (zone.end_pfn - zone.start_pfn) * page - present
        ends = [zone.start_pfn * page, zone.end_pfn * page]
        figures = [*(Valued(address(end), end) for end in ends), Valued(mib(present), present)]
        figures.append(Valued(size(hole) if hole else "none", hole))
        rows.append(
            (
                TableCell(runs_of(clean(zone.name))),
                *(TableCell(runs_of(figure), figure.value) for figure in figures),
            )
        )
    return TableBlock(
        tuple(TableColumn(title, at > 2) for at, title in enumerate(columns)), tuple(rows)
    )


def zone_bars(machine: Machine, layout: Layout) -> Iterator[ZoneBar]:
    """Zones side by side, and the holes of RAM on them, in shares of all frames.

    Yields
    ------
    ZoneBar
    """
    if not layout.zones:
        return
    first = layout.zones[0].start_pfn * layout.page_size
    extent = layout.zones[-1].end_pfn * layout.page_size - first
    if extent <= 0:
        return

    def at(start: int, end: int) -> tuple[float, float]:
        return round((start - first) / extent, 5), round((end - start) / extent, 5)

    for zone in layout.zones:
        start, end = zone.start_pfn * layout.page_size, zone.end_pfn * layout.page_size
        kind = "highmem" if zone.name == "HighMem" else "lowmem"
        words = f"{clean(zone.name)} {mib(zone.present * layout.page_size)}"
        yield ZoneBar(*at(start, end), kind, words)
    ends = [first, *(edge for pair in sorted(machine.ram) for edge in pair), first + extent]
    for start, end in zip(ends[::2], ends[1::2], strict=True):
        low, high = max(start, first), min(end, first + extent)
        if high > low:
            yield ZoneBar(*at(low, high), "hole", f"no RAM: {size(high - low)}")
