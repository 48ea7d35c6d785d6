"""Layouts of booted kernels beside what these kernels said (fixtures/machines)."""

from dataclasses import replace
from pathlib import Path

import pytest

from collectors.facts import read_folder
from collectors.snapshot import Snapshot
from replay.machine.from_facts import machine_from
from replay.machine.layout import check, derived_layout, layout_of
from replay.machine.model import Machine

MACHINES = Path(__file__).parents[2] / "fixtures" / "machines"
CAPTURED = list(MACHINES.parent.glob("*/zoneinfo"))
MALTA = MACHINES.parent / "mips32-61-minix"


@pytest.mark.parametrize(
    ("name", "low", "vmalloc", "pkmap", "checks"),
    [
        ("i386-61-686", 0x36BFE, (0xF73FE000, 0xFEBFE000), (0xFEC00000, 1024), 19),
        ("i386-61-pae-vmalloc256", 0x2E7FE, (0xEEFFE000, 0xFEFFE000), (0xFF000000, 512), 19),
        ("i386-510-pae", 0x36FFE, (0xF77FE000, 0xFEFFE000), (0xFF000000, 512), 19),
        ("arm-510", 0x70000, (0xF0800000, 0xFF800000), (0xBFE00000, 512), 9),
        ("arm-612-lpae-4g", 0x70000, (0xF0800000, 0xFF800000), (0xBFE00000, 512), 9),
    ],
)
def test_booted_machines(name, low, vmalloc, pkmap, checks):
    facts = read_folder(MACHINES / name)
    machine, assumed = machine_from(facts.snapshot())
    layout = layout_of(machine)
    assert assumed == ()
    assert layout.lowmem_end_pfn == low
    assert (layout.vmalloc_start, layout.vmalloc_end) == vmalloc
    assert (layout.pkmap_base, layout.pkmap_slots) == pkmap
    results = check(layout, facts.snapshot(), {n: f.source for n, f in facts.items()})
    assert [result for result in results if not result.ok] == []
    assert len(results) == checks


@pytest.mark.parametrize("name", sorted(path.parent.name for path in CAPTURED))
def test_ram_of_the_zones_is_what_the_kernel_found(name):
    facts = read_folder(MACHINES.parent / name).snapshot()
    layout = layout_of(machine_from(facts)[0])
    present = {zone.name: zone.present for zone in facts.zones if zone.present}
    assert {zone.name: zone.present for zone in layout.zones} == present
    low = sum(pages for zone, pages in present.items() if zone != "HighMem")
    assert layout.lowmem_bytes // layout.page_size == low
    assert layout.highmem_bytes // layout.page_size == present.get("HighMem", 0)


def test_a_hole_in_lowmem_is_no_ram():
    """A MIPS Malta board with 1792 MiB: 256 MiB of lowmem, a hole up to 512 MiB."""
    layout = layout_of(machine_from(read_folder(MALTA).snapshot())[0])
    assert (layout.direct_bytes >> 20, layout.lowmem_bytes >> 20) == (512, 256)
    assert layout.highmem_bytes >> 20 == 1536


def test_a_wrong_machine_is_found_out():
    facts = read_folder(MACHINES / "i386-61-pae-vmalloc256")
    machine, _ = machine_from(replace(facts.snapshot(), vmalloc=128 << 20))
    wrong = {result.name: result for result in check(derived_layout(machine), facts.snapshot())}
    assert not wrong["lowmem_end_pfn"].ok
    assert wrong["lowmem_end_pfn"].observed == 0x2E7FE
    assert wrong["areas outside the arena"].observed > 0
    assert wrong["pkmap_slots"].ok


def test_no_facts_no_checks():
    assert check(layout_of(Machine(arch="i386")), Snapshot()) == []
