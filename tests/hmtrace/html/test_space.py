"""Regions of the address space, to scale, whatever the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from hmtrace.cli.machines import default_machine
from hmtrace.html.space import HEIGHT, SpaceParts, pictures, space_section
from replay.machine.layout import layout_of
from replay.machine.model import Machine, Region
from replay.machine.presets import presets

MIB = 1 << 20


def test_a_box_is_as_tall_as_its_region_is_large() -> None:
    regions = [
        Region("user", 0, 3072 * MIB, "a process"),
        Region("lowmem", 3072 * MIB, 4096 * MIB, "direct mapping of RAM"),
    ]
    (picture,) = pictures(regions)
    top, bottom = picture.boxes
    assert (top.name, top.y, top.height) == ("lowmem", 0, HEIGHT / 4)
    assert (bottom.name, bottom.y, bottom.height) == ("user", HEIGHT / 4, HEIGHT * 3 / 4)
    assert [(tick.y, tick.address) for tick in picture.ticks] == [
        (0, "100000000"),
        (HEIGHT / 4, "c0000000"),
        (HEIGHT, "00000000"),
    ]


def test_what_is_too_small_has_a_picture_of_its_own() -> None:
    regions = [
        Region("lowmem", 0, 4080 * MIB, ""),
        Region("pkmap", 4080 * MIB, 4082 * MIB, ""),
        Region("gap", 4082 * MIB, 4096 * MIB, ""),
    ]
    whole, magnified = pictures(regions)
    assert whole.times == ""
    assert (magnified.title, magnified.times) == ("ff000000 – 100000000", "256 ×")
    assert [(box.kind, box.height) for box in magnified.boxes] == [("gap", 420), ("pkmap", 60)]


def test_a_page_alone_is_not_magnified() -> None:
    regions = [
        Region("lowmem", 0, 4095 * MIB, ""),
        Region("fixmap", 4095 * MIB, 4095 * MIB + 4096, ""),
        Region("gap", 4095 * MIB + 4096, 4096 * MIB, ""),
    ]
    assert len(list(pictures(regions))) == 1


@pytest.mark.parametrize("name", [preset.name for preset in presets()])
def test_every_large_region_of_every_preset_has_its_name_somewhere(name: str) -> None:
    machine = default_machine(None, Path(name))
    layout = layout_of(machine)
    parts = space_section(machine, layout).parts
    assert isinstance(parts, SpaceParts)
    readable = {box.addresses for p in parts.pictures for box in p.boxes if box.is_readable}
    for region in layout.regions:
        if region.name != "gap" and region.end - region.start >= 1 << 20:
            assert f"{region.start:08x} – {region.end:08x}" in readable, region
    for picture in parts.pictures:
        assert sum(box.height for box in picture.boxes) == pytest.approx(HEIGHT, abs=0.5)


def test_ram_has_its_holes() -> None:
    machine = Machine(arch="i386", pae=True, ram=((0x1000, 0x9F000), (0x100000, 0x3FFD4000)))
    parts = space_section(machine, layout_of(machine)).parts
    assert isinstance(parts, SpaceParts)
    holes = [bar.title for bar in parts.zones if bar.kind == "hole"]
    assert holes == ["no RAM: 388\u2800KiB"]
    zones = [(bar.kind, bar.title.split()[0]) for bar in parts.zones if bar.kind != "hole"]
    assert zones == [("lowmem", "DMA"), ("lowmem", "Normal"), ("highmem", "HighMem")]
    assert sum(bar.width for bar in parts.zones if bar.kind != "hole") == pytest.approx(1, abs=1e-4)
