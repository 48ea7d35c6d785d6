"""Watermarks and reserves beside the zoneinfo of booted machines, and placement's room.

HMTRACE_CAPTURES names a folder with more captures to compare.
"""

import os
from pathlib import Path

import pytest

from collectors.facts import read_folder
from hmtrace.cli.machines import default_machine
from hmtrace.report.findings import in_words
from replay.machine.from_facts import machine_from
from replay.machine.layout import layout_of
from replay.machine.model import Machine
from replay.machine.options import with_options
from replay.machine.zones import (
    HIGHMEM,
    HUGE_FROM,
    Pages,
    huge_block,
    huge_min_free_kib,
    memory_of,
    min_free_kib,
    watermarks,
)
from replay.rules.machine import machine_findings

FIXTURES = Path(__file__).parents[2] / "fixtures"
FOLDERS = [FIXTURES, FIXTURES / "machines"]
if "HMTRACE_CAPTURES" in os.environ:
    FOLDERS.append(Path(os.environ["HMTRACE_CAPTURES"]))
MACHINES = sorted(path.parent for folder in FOLDERS for path in folder.glob("*/zoneinfo*"))
MACHINES = sorted({m for m in MACHINES if any(m.glob("dmesg*"))})
GiB = 1 << 30


def known(folder):
    """Facts of a machine, the machine, and its zones as they were when it booted."""
    facts = read_folder(folder)
    values = facts.snapshot()
    late = (values.freed_late or 0) // (values.page_size or 4096)
    zones = sorted(values.zones, key=lambda zone: zone.name == HIGHMEM)
    largest = max((z for z in zones if z.name != HIGHMEM), key=lambda z: z.managed)
    pages = [Pages(z.name, z.managed - (late if z is largest else 0)) for z in zones]
    return values, machine_from(values)[0], pages


@pytest.mark.parametrize("folder", MACHINES, ids=lambda folder: folder.name)
def test_watermarks_are_the_kernels(folder):
    values, machine, pages = known(folder)
    least = min_free_kib(sum(p.managed for p in pages if p.zone != HIGHMEM), 4096)
    if machine.huge_pages and machine.ram_bytes >= HUGE_FROM:
        least = max(least, huge_min_free_kib(pages, 4096, huge_block(machine)))
    computed = {zone.zone: zone for zone in watermarks(pages, least, 4096)}
    compared = 0
    for zone in values.zones:
        mine = computed[zone.name]
        assert (mine.min, mine.low, mine.high) == zone.marks
        compared += 3
        # protection has a number for every zone of the kernel, empty ones too; the last two are
        # HighMem and Movable
        if HIGHMEM in mine.reserve:
            assert mine.reserve[HIGHMEM] == zone.protection[-2] == zone.protection[-1]
            compared += 1
        if "Normal" in mine.reserve:
            assert mine.reserve["Normal"] == zone.protection[-3]
            compared += 1
    assert compared >= 7


@pytest.mark.parametrize("folder", MACHINES, ids=lambda folder: folder.name)
def test_managed_pages_are_estimated_from_the_machine(folder):
    values, machine, _ = known(folder)
    memory = memory_of(machine, layout_of(machine), values)
    assert memory.assumptions == ()
    for zone in values.zones:
        mine = memory.zone(zone.name)
        # the parts of lowmem that the kernel takes are all counted against the largest zone; CMA
        # and reserved highmem are not known
        assert mine.managed == pytest.approx(zone.managed, rel=0.05)
        if zone.name != "DMA" or len(values.zones) == 2:
            assert mine.low == pytest.approx(zone.marks[1], rel=0.05)


def test_there_are_machines_to_compare():
    assert len(MACHINES) >= 15
    assert {folder.name[:3] for folder in MACHINES} >= {"arm", "i38"}


def test_min_free_is_clamped():
    assert min_free_kib(10, 4096) == 128
    assert min_free_kib(1 << 40, 4096) == 262_144


def test_blocks_of_huge_pages():
    assert huge_block(Machine(arch="i386", pae=True)) == 512
    assert huge_block(Machine(arch="i386")) == 1024
    zones = [Pages("DMA", 4000), Pages("Normal", 200_000), Pages(HIGHMEM, 1 << 20)]
    # mm/khugepaged.c: 2 and 9 blocks for each of two zones, at most 5 % of lowmem
    assert huge_min_free_kib(zones, 4096, 256) == 256 * 2 * 11 * 4
    assert huge_min_free_kib(zones, 4096, 512) == 204_000 // 20 * 4


def test_room_in_highmem():
    zones = watermarks([Pages("Normal", 200_000), Pages(HIGHMEM, 65_536)], 3600, 4096)
    normal, high = zones
    # min 900 pages of Normal; a quarter of 294 is less than 0.1 % of the zone, which counts
    assert (normal.min, normal.low, normal.high) == (900, 1125, 1350)
    assert (high.min, high.low, high.high) == (64, 137, 210)
    assert normal.reserve == {HIGHMEM: 2048}
    assert high.reserve == {}


def test_memory_of_a_machine_without_files():
    machine = with_options(default_machine("arm", None), ram=2 * GiB)
    memory = memory_of(machine, layout_of(machine))
    assert "16 MiB" in memory.assumptions[0]
    assert memory.zone("DMA").managed * 4096 == (768 << 20) - memory.mem_map_bytes - (16 << 20)
    assert memory.highmem_room < 1280 << 8
    assert 0 < memory.fallback_room < 768 << 8


@pytest.mark.parametrize(
    ("options", "rules"),
    [
        ({"ram": 4 * GiB}, set()),
        ({"ram": 8 * GiB}, {"mem-map"}),  # 40 bytes for each frame up to 9 GiB: 10.2 % of 879 MiB
        ({"ram": 16 * GiB}, {"ram-recommended", "mem-map"}),
        ({"ram": 8 * GiB, "generation": "7.2"}, {"ram-dropped"}),
        ({"ram": 4 * GiB, "generation": "7.2"}, {"ram-dropped"}),  # 1 GiB of it lies above 4 GiB
        ({"ram": 2 * GiB, "generation": "7.2"}, set()),
    ],
)
def test_documented_limits_of_pae(options, rules):
    machine = with_options(default_machine("i386", None), pae=True, **options)
    found = {finding.rule: finding for finding in machine_findings(machine, layout_of(machine))}
    assert set(found) == rules
    if options["ram"] == 16 * GiB:  # 40 bytes for each of 17 GiB / 4 KiB frames
        assert "170 MiB of 879.61 MiB" in in_words(found["mem-map"]).message


def test_arm_beyond_8_gib():
    machine = default_machine(None, Path("ecx2000-16g-lpae"))
    found = {finding.rule for finding in machine_findings(machine, layout_of(machine))}
    assert found == {"ram-recommended", "mem-map"}
