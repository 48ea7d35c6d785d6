"""Layouts of i386: computed by hand from asm/pgtable_32_areas.h, and of booted machines."""

from dataclasses import replace
from itertools import pairwise

import pytest

from collectors.errors import HmtraceError
from replay.machine.arches.i386 import DEFAULT_CONFIG, border
from replay.machine.layout import (
    direct_address,
    is_high,
    layout_of,
    local_address,
    pool_address,
    region_at,
)
from replay.machine.model import Machine

MiB = 1 << 20
GiB = 1 << 30
BIG = ((0x1000, 0x9FC00), (MiB, 0x7FFD_7000))


def machine(**changes):
    return Machine(**({"arch": "i386", "ram": BIG, "page_struct": 40} | changes))


@pytest.mark.parametrize(
    ("pae", "nr_cpus", "cpu_entry", "ldt", "pkmap", "vmalloc_end", "maxmem_pfn"),
    [
        (False, 8, 0xFF800000, 0xFF400000, 0xFF000000, 0xFEFFE000, 0x36FFE),
        (False, 32, 0xFF400000, 0xFF000000, 0xFEC00000, 0xFEBFE000, 0x36BFE),
        (False, 64, 0xFEC00000, 0xFE800000, 0xFE400000, 0xFE3FE000, 0x363FE),
        (True, 8, 0xFFA00000, 0xFF800000, 0xFF600000, 0xFF5FE000, 0x375FE),
        (True, 32, 0xFF400000, 0xFF200000, 0xFF000000, 0xFEFFE000, 0x36FFE),
        (True, 64, 0xFEC00000, 0xFEA00000, 0xFE800000, 0xFE7FE000, 0x367FE),
    ],
)
def test_address_map(pae, nr_cpus, cpu_entry, ldt, pkmap, vmalloc_end, maxmem_pfn):
    layout = layout_of(machine(pae=pae, nr_cpus=nr_cpus))
    starts = {region.name: region.start for region in layout.regions}
    assert starts["cpu entry"] == cpu_entry
    assert starts["ldt"] == ldt
    assert layout.pkmap_base == pkmap == starts["pkmap"]
    assert layout.vmalloc_end == vmalloc_end
    assert layout.lowmem_end_pfn == maxmem_pfn
    assert layout.pkmap_slots == (512 if pae else 1024)
    # the default arena is 120 MiB, 8 MiB above high_memory
    assert layout.vmalloc_bytes == 120 * MiB
    assert layout.vmalloc_start == layout.high_memory + 8 * MiB


def test_before_cpu_entry_area():
    """Ubuntu's 4.4.0-210-generic: what its boot messages say (NR_CPUS 8)."""
    ubuntu = DEFAULT_CONFIG - {"X86_IOPL_IOPERM"} | {"PARAVIRT", "X86_INTEL_MID", "INTEL_TXT"}
    old = machine(pae=True, nr_cpus=8, config=ubuntu, generation="4.4")
    layout = layout_of(old)
    starts = {region.name: region.start for region in layout.regions}
    assert 0xFFF15000 in {region.start for region in layout.regions}  # the fixmap
    assert layout.pkmap_base == 0xFFC00000
    assert (layout.vmalloc_start, layout.vmalloc_end) == (0xF83FE000, 0xFFBFE000)
    assert layout.lowmem_end_pfn == 0x37BFE
    assert not {"ldt", "cpu entry"} & set(starts)
    # one entry more before the local slots: FIX_RO_IDT
    assert layout.kmap_fix_top == 0xFFFFF000 - 69 * 4096
    assert layout_of(replace(old, generation="4.19")).pkmap_base == 0xFF600000


@pytest.mark.parametrize(
    ("split", "pae", "mib"),
    [
        ("3g_opt", False, 1131),
        ("2g", False, 1899),
        ("2g_opt", False, 2027),
        ("1g", False, 2923),
        ("2g", True, 1903),
        ("1g", True, 2927),
    ],
)
def test_splits(split, pae, mib):
    layout = layout_of(machine(split=split, pae=pae, ram=((0, 4 * GiB),)))
    assert layout.lowmem_bytes // MiB == mib


PAE_2G = BIG
NOPAE_2G = ((0x1000, 0x9FC00), (MiB, 0x7FFD_4000))
HALF = ((0x1000, 0x9FC00), (MiB, 0x1FFD_7000))


@pytest.mark.parametrize(
    ("pae", "ram", "options", "low", "high"),
    [
        (True, PAE_2G, {}, 879, 1167),
        (False, NOPAE_2G, {}, 875, 1171),
        (True, PAE_2G, {"vmalloc": 256 * MiB}, 743, 1303),
        (False, NOPAE_2G, {"vmalloc": 64 * MiB}, 931, 1115),
        (True, PAE_2G, {"highmem": 512 * MiB}, 879, 512),
        (True, HALF, {"highmem": 128 * MiB}, 383, 128),
        (False, HALF, {"highmem": 480 * MiB}, 511, 0),
        (False, NOPAE_2G, {"highmem": 2 * GiB}, 875, 1171),
        (
            True,
            PAE_2G,
            {"mem": 1500 * MiB, "highmem": 256 * MiB, "vmalloc": 192 * MiB},
            807,
            256,
        ),
        (True, PAE_2G, {"reservetop": 64 * MiB}, 815, 1231),
    ],
)
def test_ten_boots(pae, ram, options, low, high):
    layout = layout_of(machine(pae=pae, ram=ram, **options))
    assert layout.lowmem_end_pfn >> 8 == low
    assert (layout.max_pfn - layout.lowmem_end_pfn) >> 8 == high


def test_ignored_highmem_is_told():
    layout = layout_of(machine(ram=HALF, highmem=480 * MiB))
    assert layout.notes == ("highmem= would leave less than 64 MiB of lowmem and is ignored",)
    assert [zone.name for zone in layout.zones] == ["DMA", "Normal"]


def test_zones_of_a_2_gib_machine():
    zones = layout_of(machine(pae=True)).zones
    assert [tuple(zone)[:3] for zone in zones] == [
        ("DMA", 1, 4096),
        ("Normal", 4096, 0x36FFE),
        ("HighMem", 0x36FFE, 0x7FFD7),
    ]


def test_kernel_without_highmem():
    layout = layout_of(machine(highmem_enabled=False, config=DEFAULT_CONFIG - {"HIGHMEM"}))
    assert layout.pkmap_slots == 0
    assert layout.max_pfn == layout.lowmem_end_pfn
    assert layout.highmem_bytes == 0
    # without the pool and the kmap slots the arena ends higher
    assert layout.vmalloc_end > layout_of(machine()).vmalloc_end


def test_local_slots_of_6_1():
    layout = layout_of(machine(pae=True))
    assert [local_address(layout, *key) for key in ((1, 0), (1, 1), (0, 0))] == [
        0xFFFAB000,
        0xFFFAA000,
        0xFFFBB000,
    ]
    assert (layout.km_max_idx, layout.km_step, layout.km_usable_depth) == (16, 1, 15)
    assert not layout.kmap_per_cpu


def test_local_slots_with_guards():
    layout = layout_of(machine(pae=True, config=DEFAULT_CONFIG | {"DEBUG_KMAP_LOCAL"}))
    assert [local_address(layout, 0, depth) for depth in (0, 1)] == [0xFFFBA000, 0xFFFB8000]
    assert (layout.km_max_idx, layout.km_usable_depth) == (33, 16)


def test_local_slots_of_5_10():
    layout = layout_of(machine(pae=True, generation="5.10"))
    assert local_address(layout, 1, 0) == 0xFFFA7000
    assert layout.km_max_idx == 20
    assert layout.kmap_per_cpu
    # the larger fixmap is rounded to the same place with 32 CPUs, and not with 24
    assert layout.pkmap_base == 0xFF000000
    assert (
        layout_of(machine(pae=True, generation="5.10", nr_cpus=24)).pkmap_base
        != layout_of(machine(pae=True, nr_cpus=24)).pkmap_base
    )


def test_local_slots_of_5_10_with_preempt_rt():
    """Observed on 5.10.0-32-rt-686-pae: the PREEMPT_RT patches bring kmap_local along."""
    config = DEFAULT_CONFIG | {"KMAP_LOCAL", "PREEMPT_RT"}
    layout = layout_of(machine(pae=True, generation="5.10", config=config))
    assert local_address(layout, 1, 0) == 0xFFFAB000
    assert not layout.kmap_per_cpu


def test_fixmap_size_of_both_generations():
    top = layout_of(machine(pae=True))
    old = layout_of(machine(pae=True, generation="5.10"))
    assert top.fixaddr_top - top.fixaddr_start == 0x601 * 4096
    assert old.fixaddr_start == top.fixaddr_start


def test_regions_cover_the_address_space():
    for pae in (False, True):
        regions = layout_of(machine(pae=pae)).regions
        assert regions[0].start == 0
        assert regions[-1].end == 1 << 32
        for before, after in pairwise(regions):
            assert before.end == after.start


def test_addresses():
    layout = layout_of(machine(pae=True))
    assert direct_address(layout, 0x100) == 0xC0100000
    assert pool_address(layout, 511) == 0xFF1FF000
    assert not is_high(layout, 0x36FFD)
    assert is_high(layout, 0x36FFE)
    assert region_at(layout, 0xFF000000).name == "pkmap"
    assert region_at(layout, 0xFFFBB000).name == "kmap_local"
    with pytest.raises(HmtraceError, match="no 32-bit address"):
        region_at(layout, 1 << 32)


def test_large_arena_and_no_lowmem():
    with pytest.raises(HmtraceError) as caught:
        layout_of(machine(vmalloc=960 * MiB))
    assert caught.value.exit_code == 2
    assert "vmalloc=" in caught.value.hint


def test_border_of_all_lowmem():
    assert border(0x10000, 0x36FFE, None, enabled=True)[:3] == (0x10000, 0x10000, 0x10000)


def test_page_array():
    # 64 GiB with 40 bytes is 640 MiB
    layout = layout_of(machine(pae=True, ram=((0, 64 * GiB),)))
    assert layout.mem_map_bytes == 640 * MiB


def test_ram_above_4_gib():
    ram = ((0, 3 * GiB), (4 * GiB, 9 * GiB))
    wide = layout_of(machine(pae=True, ram=ram))
    assert wide.max_pfn == 9 << 18
    # the hole below 4 GiB is no highmem
    assert wide.highmem_bytes == 8 * GiB - wide.direct_bytes
    for changes in ({"pae": False}, {"pae": True, "generation": "7.2"}):
        layout = layout_of(machine(ram=ram, **changes))
        assert layout.max_pfn == 3 << 18
        assert layout.notes == ("RAM above 4 GiB is not used by this kernel",)


@pytest.mark.parametrize(("generation", "entries"), [("4.11", 712), ("4.12", 744)])
def test_descriptor_tables_are_in_the_fixmap_before_cpu_entry_area(generation, entries):
    # hole, debug port, console 3, local APIC 1, I/O APICs 64, interrupt table 1, 32 CPUs of 20
    # slots 640, PCI's configuration space 1, patching 2; from 4.12 on one for each CPU
    layout = layout_of(machine(generation=generation))
    assert (layout.fixaddr_top - layout.fixaddr_start) // 4096 == entries


@pytest.mark.parametrize(("generation", "end"), [("6.10", 0x1FF00), ("6.12", 0x20000)])
def test_acpi_tables_behind_the_last_ram_are_its_end(generation, end):
    small = ((0x1000, 0x9FC00), (MiB, 0x1FF0_0000))
    tables = ((0x1FF0_0000, 0x2000_0000),)
    layout = layout_of(machine(ram=small, acpi=tables, generation=generation))
    assert (layout.lowmem_end_pfn, layout.high_memory) == (end, 0xC000_0000 + end * 4096)
    assert layout.lowmem_bytes == 0x1FF0_0000 - MiB + 0x9FC00 - 0x1000
    assert layout.highmem_bytes == 0
