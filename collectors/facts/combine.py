"""From what the files say one by one to what is believed."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from collectors.facts.model import Fact, Facts, disagreement

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from collectors.facts.model import Sheet
    from collectors.snapshot import FactName

ORDER: Final[dict[FactName, tuple[str, ...]]] = {
    # mem= and vmalloc= as the kernel got them; iomem knows RAM better than the early ranges,
    # which have whole pages only
    "ram": ("iomem", "dmesg"),
    "page_offset": ("config", "pkmap.start"),
    "pool_state": ("pkmap.start", "state.json"),
    "cpus": ("cpuinfo",),
}
"""Whom to believe first, where it is not the order in which the files are read."""

QUIET: Final[frozenset[FactName]] = frozenset(
    {"ram", "pool_state", "cmdline", "cpus", "clock", "highmem_bytes", "cma_total", "mem_total"}
)
"""Facts whose sources may differ without a contradiction (rounding, other moment, spacing)."""


def combine(sheets: Iterable[Sheet]) -> Facts:
    """Put the files' facts together.

    Parameters
    ----------
    sheets
        One per file, in the order of trust.

    Returns
    -------
    Facts
        With derived facts, contradictions and the files' notes.
    """
    by_name: dict[FactName, list[tuple[str, Fact]]] = {}
    notes: list[str] = []
    for sheet in sheets:
        notes += sheet.notes
        kind = sheet.source.rsplit("/", 1)[-1]
        for name, fact in sheet.facts.items():
            by_name.setdefault(name, []).append((kind, fact))
    facts: dict[FactName, Fact] = {}
    contradictions: list[str] = []
    for name, said in by_name.items():
        order = ORDER.get(name, ())
        said.sort(key=lambda pair: _rank(pair[0], order))
        believed = said[0][1]
        facts[name] = believed
        if name not in QUIET:
            contradictions += [
                disagreement(name, believed, other)
                for _, other in said[1:]
                if other.value != believed.value
            ]
    _derive(facts)
    contradictions += _contradictions(facts)
    return Facts(MappingProxyType(facts), tuple(contradictions), tuple(notes))


def _rank(kind: str, order: tuple[str, ...]) -> int:
    return next((i for i, name in enumerate(order) if kind.startswith(name)), len(order))


def _derive(facts: dict[FactName, Fact]) -> None:
    """Facts that follow from others, where no file gave them."""

    def derive(name: FactName, value: object, source: str, detail: str = "") -> None:
        facts.setdefault(name, Fact(value, source, detail))

    if "machine_arch" in facts:
        derive("arch", facts["machine_arch"].value, facts["machine_arch"].source)
    family = facts.get("cpu_family")
    if family is not None:
        derive("arch", {"x86": "i386"}.get(family.value, family.value), family.source, "CPU fields")
    _derive_pae(facts)
    _scale_frames(facts)
    arch = facts.get("arch")
    ram = facts.get("ram")
    if arch is not None and arch.value == "arm" and ram is not None:
        # arch/arm: PHYS_OFFSET is where the kernel's RAM starts, a multiple of 2 MiB
        base = -(-ram.value[0][0] // (2 << 20)) * (2 << 20)
        derive("phys_pfn_offset", base >> 12, ram.source, "first RAM, up to 2 MiB")
    start, total = facts.get("vmalloc_start"), facts.get("vmalloc_total")
    if start is not None and total is not None:
        derive("vmalloc_end", start.value + total.value, f"{start.source} + {total.source}")
    block = facts.get("layout_block")
    if block is not None and "vmalloc" in block.value:
        derive("vmalloc_start", block.value["vmalloc"][0], block.source, block.detail)
        derive("vmalloc_end", block.value["vmalloc"][1], block.source, block.detail)
    if block is not None and "lowmem" in block.value:
        derive("page_offset", block.value["lowmem"][0], block.source, "start of lowmem")
    _derive_mem_map(facts)


def _scale_frames(facts: dict[FactName, Fact]) -> None:
    """The boot log has addresses, which its reader turned into frames of 4 KiB: scale those."""
    page = facts.get("page_size")
    if page is None or page.value == 4096:
        return
    times = page.value // 4096
    frames: tuple[FactName, ...] = ("lowmem_end_pfn", "max_pfn")
    for name in frames:
        fact = facts.get(name)
        if fact is not None and fact.source.startswith("dmesg"):
            facts[name] = Fact(fact.value // times, fact.source, fact.detail)
    ranges = facts.get("zone_ranges")
    if ranges is not None:
        scaled = tuple((zone, a // times, b // times) for zone, a, b in ranges.value)
        facts["zone_ranges"] = Fact(scaled, ranges.source, ranges.detail)


def _derive_pae(facts: dict[FactName, Fact]) -> None:
    """PAE without a configuration: what the boot log or the pool's size give away."""
    if "pae" in facts:
        return
    pfns, slots, release, top = (
        facts.get(n) for n in ("max_arch_pfn", "pkmap_slots", "release", "max_pfn")
    )
    if pfns is not None:  # arch/x86/kernel/e820.c: MAX_ARCH_PFN is 2^24 with PAE, else 2^20
        facts["pae"] = Fact(pfns.value > 1 << 20, pfns.source, pfns.detail)
    elif top is not None and top.value > 1 << 20:
        facts["pae"] = Fact(value=True, source=top.source, detail="RAM above 4 GiB is in use")
    elif slots is not None and facts.get("arch", Fact("", "")).value == "i386":
        facts["pae"] = Fact(slots.value == 512, slots.source, "LAST_PKMAP")
    elif release is not None and (named := pae_by_name(release)) is not None:
        facts["pae"] = named


def pae_by_name(release: Fact) -> Fact | None:
    """PAE, where a distribution calls its kernel by it."""
    if not release.value.endswith(("-pae", "-lpae")):
        return None
    return Fact(value=True, source=release.source, detail="guess by the kernel's name")


def _derive_mem_map(facts: dict[FactName, Fact]) -> None:
    """mem_map, where exactly one of the words that were read can be it.

    mm/page_alloc.c: alloc_node_mem_map takes it from lowmem, so it must end below high_memory.
    """
    words, low, end = (facts.get(n) for n in ("kernel_words", "page_offset", "lowmem_end_pfn"))
    size, pages = facts.get("page_struct"), facts.get("max_pfn")
    if words is None or low is None or end is None or size is None or pages is None:
        return
    room = low.value + (end.value << 12) - pages.value * size.value
    fitting = [w for w in words.value.values() if low.value < w <= room and w % 0x1000 == 0]
    if len(fitting) == 1:
        detail = "the one word read that can hold mem_map; page and pfn pairs of a trace tell more"
        facts.setdefault("mem_map", Fact(fitting[0], words.source, detail))


def _contradictions(facts: Mapping[FactName, Fact]) -> list[str]:
    """Facts of different names that cannot both hold."""
    out: list[str] = []

    def pair(a: FactName, b: FactName) -> tuple[Fact, Fact] | None:
        return (facts[a], facts[b]) if a in facts and b in facts else None

    if (both := pair("cpus", "nr_cpus")) and both[0].value > both[1].value:
        out.append(
            f"{both[0].source} shows {both[0].value} CPUs, {both[1].source} allows {both[1].value}"
        )
    if (both := pair("cpus", "cpus_booted")) and both[0].value != both[1].value:
        out.append(
            f"{both[0].source} shows {both[0].value} CPUs, at boot there were {both[1].value}: "
            "CPUs went on- or offline"
        )
    if (both := pair("arch", "cpu_family")) and both[1].value not in (
        {"i386": "x86", "x86_64": "x86", "arm64": "arm"}.get(both[0].value, both[0].value)
    ):
        out.append(
            f"arch: {both[0].source} is for {both[0].value}, {both[1].source} shows an "
            f"{both[1].value} processor; are the files of one machine?"
        )
    if (
        (both := pair("pae", "cpu_flags"))
        and both[0].value
        and not {"pae", "lpae"} & both[1].value
        and facts.get("cpu_family") is not None
    ):
        out.append(f"{both[0].source} needs PAE, which {both[1].source} does not show")
    if (both := pair("highmem_opt", "highmem_enabled")) and not both[1].value:
        out.append(f"highmem= in {both[0].source} is ignored: {both[1].source} has no HIGHMEM")
    if (both := pair("reservetop", "arch")) and both[1].value != "i386":
        out.append(f"reservetop= in {both[0].source} is for i386 only and ignored")
    start, end, total = (facts.get(n) for n in ("vmalloc_start", "vmalloc_end", "vmalloc_total"))
    if start and end and total and end.value - start.value != total.value:
        out.append(
            f"vmalloc range: {start.source} gives {end.value - start.value} bytes, "
            f"{total.source} gives {total.value}"
        )
    release, config = facts.get("release"), facts.get("config_version")
    if release and config and _series(release.value) != _series(config.value):
        out.append(
            f"{config.source} is the configuration of {config.value}, "
            f"the kernel is {release.value} ({release.source})"
        )
    ram, top = facts.get("ram"), facts.get("max_pfn")
    if ram and top and ram.value[-1][1] >> 12 < top.value:
        out.append(
            f"{top.source} has frames up to {top.value:#x}, above the RAM of {ram.source}: "
            "are the files of one machine?"
        )
    return out


def _series(release: str) -> str:
    """Major and minor number only; distributions keep the rest as they like."""
    return ".".join(release.partition("-")[0].split(".")[:2])
