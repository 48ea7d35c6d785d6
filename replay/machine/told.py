"""Where a machine's own files and hmtrace's address map differ: what they say, and believing them.

The files are those of the machine: zones and addresses that its kernel printed. The rules are the
mainline kernel's, and a vendor's kernel, a board with holes or a kernel that hmtrace was not
compared with may follow others. Then the files are right.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from replay.machine.arches.common import fill_gaps
from replay.machine.model import MAX_POOL, Layout, LayoutZone, MiB, Told, align_down, ram_between

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from collectors.snapshot import Snapshot
    from replay.machine.layout import Check
    from replay.machine.model import Machine

_FIRST: Final = 0x110
"""Frames below 1 MiB and a little more: where lowmem begins, kernels differ by a few."""
_ZONES: Final = ("DMA", "DMA32", "Normal", "HighMem")


class _MapPart(NamedTuple):
    """A part of the address map: its name, the comparisons that are about it, and how it is told.

    `field` is that of :class:`Told`; empty: it is not believed, for nothing can be made of it.
    """

    name: str
    checks: tuple[str, ...]
    field: str = ""


_PARTS: Final = (
    _MapPart("PAGE_OFFSET", ("page_offset",)),
    _MapPart(
        "the border of lowmem",
        ("lowmem_end_pfn", "highmem pfns", "low_ram_end", "lowmem at boot", "lowmem_mib"),
        "lowmem_end_pfn",
    ),
    _MapPart("the end of RAM", ("max_pfn",)),
    _MapPart("highmem", ("high_total_mib",)),
    _MapPart(
        "the arena", ("vmalloc at boot", "vmalloc_start", "vmalloc_end", "vmalloc_total"), "vmalloc"
    ),
    _MapPart("the pool", ("pkmap at boot", "pkmap_slots"), "pkmap"),
)
_FRAMES: Final = frozenset({"lowmem_end_pfn", "max_pfn"})


def told_by(layout: Layout, snapshot: Snapshot) -> Told | None:
    """What the files say otherwise than a layout that was derived.

    Parameters
    ----------
    layout
        By the rules.
    snapshot
        ``Facts.snapshot()``.

    Returns
    -------
    Told or None
        Only what differs; None where nothing does.
    """
    border = border_of(layout, snapshot)
    border = None if border == layout.lowmem_end_pfn else border
    zones = _zones_of(snapshot)
    arena, pool = _arena_of(layout, snapshot), snapshot.layout_block.get("pkmap")
    modules = snapshot.layout_block.get("modules")
    apart = layout.modules_start != layout.vmalloc_start
    # with the border the arena would move, too
    same = border is None and arena == (layout.vmalloc_start, layout.vmalloc_end)
    told = Told(
        lowmem_end_pfn=border,
        vmalloc=None if same else arena,
        modules=modules if apart and modules != _modules_of(layout) else None,
        pkmap=None if not layout.pkmap_slots or _same_pool(layout, pool) else pool,
        zones=() if not zones or zones == tuple(z[:3] for z in layout.zones) else zones,
    )
    return None if told == Told() else told


def _modules_of(layout: Layout) -> tuple[int, int]:
    """Where modules are loaded, [start, end)."""
    return layout.modules_start, layout.modules_end


def _first_frame(layout: Layout) -> int:
    return min((zone.start_pfn for zone in layout.zones), default=0)


def border_of(layout: Layout, snapshot: Snapshot) -> int | None:
    """First frame above lowmem, by whichever file says it; the zones know best."""
    if snapshot.lowmem_end_pfn is not None:
        return snapshot.lowmem_end_pfn
    if snapshot.high_pfns is not None:
        return snapshot.high_pfns[0]
    if "lowmem" in snapshot.layout_block:
        start, end = snapshot.layout_block["lowmem"]
        return (layout.phys_offset + end - start) // layout.page_size
    pages = dict(snapshot.zone_pages)
    first = _first_frame(layout)
    holes = layout.max_pfn - first - sum(pages.values())
    if pages.get("HighMem") and abs(holes) < _FIRST:
        # no holes, so that sizes tell places
        return layout.max_pfn - pages["HighMem"]
    return None


def _zones_of(snapshot: Snapshot) -> tuple[tuple[str, int, int], ...]:
    zones = tuple((z.name, z.start_pfn, z.start_pfn + z.spanned) for z in snapshot.zones)
    zones = zones or snapshot.zone_ranges
    known = tuple(zone for zone in zones if zone[0] in _ZONES and zone[2] > zone[1])
    # of several nodes: one zone of a name
    return known if len({zone[0] for zone in known}) == len(known) else ()


def _arena_of(layout: Layout, snapshot: Snapshot) -> tuple[int, int] | None:
    start, end = snapshot.vmalloc_start, snapshot.vmalloc_end
    if start is None and end is None and snapshot.vmalloc_total is not None:
        start = layout.vmalloc_end - snapshot.vmalloc_total  # its end moves least
    if start is None and end is None:
        return None
    return start or layout.vmalloc_start, end or layout.vmalloc_end


def _same_pool(layout: Layout, pool: tuple[int, int] | None) -> bool:
    # some architectures print the address of the last slot, some the end
    return pool is None or (
        pool[0] == layout.pkmap_base and 0 <= layout.pkmap_end - pool[1] <= layout.page_size
    )


def believing(layout: Layout, machine: Machine, told: Told) -> Layout:
    """A layout with what the machine's files say in place of what was derived.

    Parameters
    ----------
    layout
        By the rules.
    machine
        Its RAM tells how much of it is on either side of the border.
    told
        What to believe.

    Returns
    -------
    Layout

    Raises
    ------
    HmtraceError
        If the parts then overlap.
    """
    page = layout.page_size
    border = layout.lowmem_end_pfn if told.lowmem_end_pfn is None else told.lowmem_end_pfn
    high_memory = layout.high_memory
    if told.lowmem_end_pfn is not None:
        high_memory = layout.page_offset + border * page - layout.phys_offset
    start, end = told.vmalloc or (_arena_start(layout, high_memory), layout.vmalloc_end)
    pool, pool_end = told.pkmap or (layout.pkmap_base, layout.pkmap_end)
    slots = -(-(pool_end - pool) // page)
    slots = 1 << (slots - 1).bit_length() if told.pkmap and slots > 0 else slots
    in_arena = layout.modules_start == layout.vmalloc_start
    modules = (start, end) if in_arena else told.modules or _modules_of(layout)
    moved = {
        "lowmem": (layout.page_offset, high_memory),
        "vmalloc": (start, end),
        "modules": modules,
        "pkmap": (pool, pool + slots * page),
    }
    regions = [
        region._replace(start=moved[region.name][0], end=moved[region.name][1])
        if region.name in moved
        else region
        for region in layout.regions
        if region.name != "gap"
    ]
    first = _first_frame(layout)
    return replace(
        layout,
        lowmem_end_pfn=border,
        high_memory=high_memory,
        lowmem_bytes=ram_between(machine.ram, first, border, page),
        highmem_bytes=ram_between(machine.ram, border, layout.max_pfn, page),
        vmalloc_start=start,
        vmalloc_end=end,
        modules_start=modules[0],
        modules_end=modules[1],
        pkmap_base=pool,
        pkmap_slots=slots,
        zones=_zones(layout, machine, told, border),
        regions=fill_gaps(regions, layout.regions[-1].end),
    )


def _arena_start(layout: Layout, high_memory: int) -> int:
    """Where the arena begins above another border: VMALLOC_OFFSET above it, where it follows it.

    The offset is 8 MiB, on PowerPC 16; but for i386 the sum is rounded down to a multiple of it.
    """
    gap = layout.vmalloc_start - layout.high_memory
    unit = 8 * MiB if gap <= 8 * MiB else 16 * MiB
    if not 0 <= gap <= unit:
        return layout.vmalloc_start
    start = high_memory + unit
    return start if layout.vmalloc_start % unit else align_down(start, unit)


def _zones(layout: Layout, machine: Machine, told: Told, border: int) -> tuple[LayoutZone, ...]:
    page = layout.page_size
    zones: Iterable[tuple[str, int, int]] = told.zones
    if not zones:
        zones = [
            # behind a hole at the border it begins there in any case
            (name, border if start == layout.lowmem_end_pfn else max(start, border), end)
            if name == "HighMem"
            else (name, start, min(end, border))
            for name, start, end, _ in layout.zones
        ]
        if border < layout.max_pfn and not any(zone[0] == "HighMem" for zone in zones):
            zones = [*zones, ("HighMem", border, layout.max_pfn)]
    return tuple(
        LayoutZone(name, start, end, ram_between(machine.ram, start, end, page) // page)
        for name, start, end in zones
        if end > start
    )


def contradictions(checks: Sequence[Check], told: Told | None) -> list[str]:
    """In words, each part of the address map in which the files contradict the rules.

    Parameters
    ----------
    checks
        Of :func:`replay.machine.layout.check` for the derived layout.
    told
        What of it is believed.

    Returns
    -------
    list of str
        One for each part, with both values; the zones only where no other part tells it.
    """
    wrong = {check.name: check for check in checks if not check.ok}
    words = []
    for part in _PARTS:
        found = next((wrong[name] for name in part.checks if name in wrong), None)
        if found is not None:
            believed = bool(part.field and told and getattr(told, part.field) is not None)
            words.append(_words(part.name, found, believed=believed))
    zone = next(
        (
            check
            for name, check in wrong.items()
            if name.startswith("zone ") and not _nearly(check.predicted, check.observed)
        ),
        None,
    )
    if zone is not None and not words:
        words.append(_words(zone.name, zone, believed=bool(told and told.zones)))
    return words


def _nearly(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether zones differ in no more than a few frames at their start."""
    return one[1] == other[1] and abs(one[0] - other[0]) < _FIRST


def _words(name: str, check: Check, *, believed: bool) -> str:
    derived, said = (_value(check.name, value) for value in (check.predicted, check.observed))
    return (
        f"{name}: {derived} by the rules that hmtrace knows, {said} by {check.source}, which is "
        + ("believed" if believed else "not followed")
    )


def _value(name: str, value: Any) -> str:
    if isinstance(value, tuple) and value[0] == value[1]:
        return "none"
    if isinstance(value, tuple):
        return "-".join(f"{part:#x}" for part in value)
    if name in _FRAMES:
        return f"frame {value:#x}"
    if name == "vmalloc_total":
        return f"{value // MiB} MiB"
    for ending, unit in (("_mib", "MiB"), ("_slots", "slots")):
        if name.endswith(ending):
            return f"{value} {unit}"
    return f"{value:#x}"


def is_possible(layout: Layout, told: Told) -> bool:
    """Whether what the files say can be a map at all: they can be damaged, or of two machines."""
    page = layout.page_size
    border, pool = told.lowmem_end_pfn, told.pkmap
    first = _first_frame(layout)
    if border is not None and not first < border <= layout.max_pfn:
        return False
    for area in (told.vmalloc, told.modules, pool):
        if area is not None and (area[0] % page or not 0 < area[0] < area[1] <= 1 << 64):
            return False
    return pool is None or pool[1] - pool[0] <= MAX_POOL * page
