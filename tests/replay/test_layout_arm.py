"""Layouts of ARM: computed by hand from mm/mmu.c, and of boards that were booted."""

from dataclasses import replace

import pytest

from collectors.errors import HmtraceError
from collectors.snapshot import Snapshot
from replay.machine.arches.arm import DEFAULT_CONFIG, border, unmapped_banks
from replay.machine.from_facts import machine_from
from replay.machine.layout import layout_of, local_address
from replay.machine.model import Machine
from replay.machine.options import with_options

MiB = 1 << 20
GiB = 1 << 30
BASE = 0x4000_0000


def machine(**changes):
    start = {"arch": "arm", "ram": ((BASE, BASE + 2 * GiB),), "nr_cpus": 8, "page_struct": 36}
    return Machine(**(start | changes))


def test_default_board():
    layout = layout_of(machine())
    assert layout.lowmem_end_pfn == 0x70000
    assert layout.high_memory == 0xF0000000
    assert (layout.vmalloc_start, layout.vmalloc_end) == (0xF0800000, 0xFF800000)
    assert (layout.pkmap_base, layout.pkmap_slots) == (0xBFE00000, 512)
    assert (layout.modules_start, layout.modules_end) == (0xBF000000, 0xBFE00000)
    assert layout.user_end == 0xBF000000
    assert [tuple(zone)[:3] for zone in layout.zones] == [
        ("DMA", 0x40000, 0x70000),
        ("HighMem", 0x70000, 0xC0000),
    ]
    assert layout.flush_ceiling_pages is None
    assert layout.tlb_broadcast
    assert not layout.kmap_high_get  # the erratum's workaround is built in


@pytest.mark.parametrize(
    ("split", "mib"), [("3g", 768), ("3g_opt", 1024), ("2g", 1792), ("1g", 2816)]
)
def test_splits(split, mib):
    layout = layout_of(machine(split=split, ram=((0, 4 * GiB),)))
    assert layout.lowmem_bytes == mib * MiB


@pytest.mark.parametrize(
    ("generation", "vmalloc", "low_pfn", "vmalloc_start"),
    [
        ("6.1", 240 * MiB, 0x70000, 0xF0800000),
        ("6.1", 384 * MiB, 0x67000, 0xE7800000),
        ("6.12", 384 * MiB, 0x67000, 0xE7800000),
        # 5.10 leaves no 8 MiB below an arena that was asked for
        ("5.10", 384 * MiB, 0x67800, 0xE8000000),
        ("5.10", 240 * MiB, 0x70800, 0xF1000000),
        ("5.10", None, 0x70000, 0xF0800000),
    ],
)
def test_vmalloc_option(generation, vmalloc, low_pfn, vmalloc_start):
    layout = layout_of(machine(generation=generation, vmalloc=vmalloc))
    assert layout.lowmem_end_pfn == low_pfn
    assert layout.vmalloc_start == vmalloc_start


def test_vmalloc_is_clamped():
    least = layout_of(machine(vmalloc=MiB))
    assert replace(least, notes=()) == layout_of(machine(vmalloc=16 * MiB))
    assert least.notes == ("vmalloc=1M is clamped to 16M as the kernel does, its least",)
    most = layout_of(machine(vmalloc=4 * GiB))
    assert most.lowmem_bytes == 32 * MiB
    assert "clamped to 976M" in most.notes[0]


def test_small_board_has_no_highmem_and_a_larger_arena():
    layout = layout_of(machine(ram=((BASE, BASE + 512 * MiB),)))
    assert layout.high_memory == 0xE0000000
    assert layout.vmalloc_start == 0xE0800000
    assert layout.vmalloc_bytes == 507904 << 10
    assert layout.highmem_bytes == 0


def test_local_slots():
    layout = layout_of(machine())
    assert [local_address(layout, cpu, 0) for cpu in range(4)] == [
        0xFFEFE000,
        0xFFEEE000,
        0xFFEDE000,
        0xFFECE000,
    ]
    assert local_address(layout, 1, 1) == 0xFFEED000
    assert layout.kmap_fix_bottom == 0xFFE7F000
    assert layout.local_flush_on_map
    assert layout.local_flush_on_unmap


def test_kmap_atomic_leaves_the_entry_in_place():
    layout = layout_of(machine(generation="5.10"))
    assert layout.km_max_idx == 16
    assert layout.kmap_per_cpu
    assert not layout.local_flush_on_unmap


def test_lpae_above_4_gib():
    ram = ((BASE, BASE + 4 * GiB),)
    layout = layout_of(machine(pae=True, ram=ram))
    assert layout.lowmem_end_pfn == 0x70000
    assert layout.max_pfn == 0x140000
    without = layout_of(machine(ram=ram))
    assert without.max_pfn == 0x100000
    assert without.notes == ("RAM above 4 GiB is not used by a kernel without LPAE",)


def test_unaligned_banks_end_early_memory_only():
    """The zones end at arm_lowmem_limit; the first number of each pair."""
    limit = 0x7000_0000
    # a bank that ends in the middle of a section: what was found so far, rounded down
    assert border(((0, 0x1FF0_0000), (0x3000_0000, 0x4000_0000)), limit) == (
        0x4000_0000,
        0x1FE0_0000,
    )
    # a second bank that starts in the middle of one: its start
    assert border(((0, 0x2000_0000), (0x3010_0000, 0x4000_0000)), limit) == (
        0x4000_0000,
        0x3000_0000,
    )
    assert border(((0, 0x8000_0000),), limit) == (limit, limit)


def test_thumb2_modules_and_up_kernels():
    config = DEFAULT_CONFIG - {"SMP", "ARM_ERRATA_798181"} | {"THUMB2_KERNEL"}
    layout = layout_of(machine(config=config))
    assert layout.modules_start == 0xBF800000
    assert layout.ioremap_max_order == 24
    assert layout.kmap_high_get
    assert not layout.tlb_broadcast


def test_kernel_without_highmem():
    layout = layout_of(machine(highmem_enabled=False))
    assert layout.max_pfn == 0x70000
    assert layout.modules_end == 0xC0000000
    assert layout.pkmap_slots == 0


def test_no_ram():
    with pytest.raises(HmtraceError) as caught:
        layout_of(machine(ram=((5 * GiB, 6 * GiB),)))
    assert caught.value.exit_code == 2


def test_no_other_architecture():
    with pytest.raises(HmtraceError) as caught:
        layout_of(Machine(arch="openrisc"))
    assert "i386" in caught.value.hint


@pytest.mark.parametrize(
    ("config", "dma_zone", "split", "expected"),
    [
        (("ZONE_DMA",), None, "3g", [("DMA", 0, 0x30000)]),
        ((), None, "3g", [("Normal", 0, 0x30000)]),
        # arm_dma_pfn_limit is the frame of the last byte below the limit, and the zone's end
        (("ZONE_DMA",), 1 << 30, "2g", [("DMA", 0, 0x3FFFF), ("Normal", 0x3FFFF, 0x70000)]),
        (("ZONE_DMA",), 1 << 30, "3g", [("DMA", 0, 0x30000)]),
    ],
)
def test_dma_zone(config, dma_zone, split, expected):
    machine = Machine(
        arch="arm",
        nr_cpus=4,
        split=split,
        ram=((0, 1 << 31),),
        config=frozenset({"ARM", "HIGHMEM", *config}),
        dma_zone=dma_zone,
    )
    zones = [tuple(zone)[:3] for zone in layout_of(machine).zones if zone.name != "HighMem"]
    assert zones == expected


def test_the_dma_zone_ends_at_the_limit_before_5_8():
    """A20-OLinuXino, 3.4.67: 65536 pages of DMA zone, as the board's limit of 256 MiB says."""
    board = machine(generation="3.10", dma_zone=256 * MiB, ram=((BASE, BASE + GiB),))
    assert [zone[:3] for zone in layout_of(board).zones][:2] == [
        ("DMA", 0x40000, 0x50000),
        ("Normal", 0x50000, 0x6F800),
    ]
    zones = (("DMA", 0x40000, 0x50000), ("Normal", 0x50000, 0x6F800))
    for release, size in (("3.4.67", 256 * MiB), ("6.1.0", 256 * MiB + 4096)):
        told = Snapshot(arch="arm", release=release, ram=board.ram, zone_ranges=zones)
        assert machine_from(told)[0].dma_zone == size


def test_the_dma_zone_is_a_fact_where_zones_are_known():
    ram = ((0, 1 << 31),)
    both = (("DMA", 0, 0x3FFFF), ("Normal", 0x3FFFF, 0x70000), ("HighMem", 0x70000, 0x80000))
    facts = Snapshot(arch="arm", split="2g", ram=ram, zone_ranges=both)
    machine, assumed = machine_from(facts)
    assert machine.dma_zone == 1 << 30
    assert [tuple(zone)[:3] for zone in layout_of(machine).zones] == list(both)
    assert not any("DMA zone" in line for line in assumed)
    plain = (("Normal", 0, 0x30000), ("HighMem", 0x30000, 0x80000))
    machine, _ = machine_from(Snapshot(arch="arm", split="3g", ram=ram, zone_ranges=plain))
    assert [zone.name for zone in layout_of(machine).zones] == ["Normal", "HighMem"]
    machine, assumed = machine_from(Snapshot(arch="arm", ram=ram))
    assert any("DMA zone" in line for line in assumed)


@pytest.mark.parametrize("mib", [511, 513, 767])
def test_an_odd_end_makes_no_highmem(mib):
    layout = layout_of(machine(ram=((0, mib * MiB),)))
    assert (layout.lowmem_bytes, layout.highmem_bytes) == (mib * MiB, 0)


NOMAP = ((0x4000_0000, 0x5C00_0000), (0x5C00_0000, 0x5E00_0000), (0x5E00_0000, 0x5EE0_0000))


@pytest.mark.parametrize(
    ("generation", "border"), [("5.3", 0x6000_0000), ("5.4", 0x5EE0_0000), ("6.1", 0x5EE0_0000)]
)
def test_banks_that_are_not_mapped_end_lowmem(generation, border):
    """Banks that touch differ in their flags: the second and the fourth are no-map."""
    listed = (*NOMAP, (0x5EE0_0000, 0x6000_0000))
    layout = layout_of(machine(ram=listed, generation=generation))
    assert layout.lowmem_end_pfn << 12 == border
    told = machine(
        ram=((0x4000_0000, 0x6000_0000),),
        nomap=((0x5C00_0000, 0x5E00_0000), (0x5EE0_0000, 0x6000_0000)),
        generation=generation,
    )
    assert layout_of(told).lowmem_end_pfn << 12 == border


def test_many_no_map_regions_take_no_time():
    """As many as a machine file of 1 MiB can hold."""
    step = 64 << 10
    banks = tuple((BASE + n * step, BASE + (n + 1) * step - 4096) for n in range(30_000))
    regions = tuple((start + 4096, start + 8192) for start, _ in banks)
    pieces, unmapped = unmapped_banks(banks, regions)
    assert len(pieces) == 3 * len(banks)
    assert unmapped == frozenset(regions)
    board = machine(ram=banks, nomap=regions)
    assert layout_of(board).high_memory == 0xF000_0000 - 4096


def test_no_map_regions_are_facts():
    """The boot log of a board lists its banks apart where they differ, or names the regions."""
    listed = (*NOMAP, (0x5EE0_0000, 0x6000_0000))
    told = Snapshot(arch="arm", release="5.16.0-rc6", ram=listed)
    assert layout_of(machine_from(told)[0]).lowmem_end_pfn == 0x5EE00
    named = Snapshot(
        arch="arm",
        release="5.16.0-rc6",
        ram=((0x4000_0000, 0x6000_0000),),
        no_map=((0x5EE0_0000, 0x6000_0000),),
    )
    assert layout_of(machine_from(named)[0]).lowmem_end_pfn == 0x5EE00


def test_the_boot_log_tells_the_end_of_an_arena_that_the_platform_chose():
    told = Snapshot(arch="arm", release="3.0.31", vmalloc_end=0xF800_0000, vmalloc=384 * MiB)
    layout = layout_of(machine_from(told)[0])
    assert (layout.vmalloc_end, layout.high_memory) == (0xF800_0000, 0xE000_0000)
    assert not layout.notes
    # another kernel on the same board has a number of its own
    newer = with_options(machine_from(told)[0], release="6.1.0")
    assert layout_of(newer).vmalloc_end == 0xFF80_0000
    # a kernel of which it is known derives it
    later = replace(told, release="4.14.0", vmalloc=None)
    assert machine_from(later)[0].vmalloc_end is None


def test_no_map_in_the_middle_does_not_end_lowmem():
    board = machine(ram=((BASE, BASE + 512 * MiB),), nomap=((BASE + MiB, BASE + 3 * MiB),))
    assert layout_of(board).lowmem_end_pfn << 12 == BASE + 512 * MiB


@pytest.mark.parametrize(
    ("generation", "first", "second", "fixmap"),
    [
        ("3.0", 0xFFF0_0000, 0xFFF1_0000, 0xFFF0_0000),  # upwards, 16 slots for each CPU
        ("3.16", 0xFFC0_0000, 0xFFC1_0000, 0xFFC0_0000),
        ("4.1", 0xFFEF_F000, 0xFFEE_F000, 0xFFC0_0000),
        ("4.4", 0xFFEF_E000, 0xFFEE_E000, 0xFFC0_0000),
        ("5.10", 0xFFEF_E000, 0xFFEE_E000, 0xFFC0_0000),
        ("5.11", 0xFFEF_E000, 0xFFEE_E000, 0xFFC8_0000),
    ],
)
def test_fixmap_by_age(generation, first, second, fixmap):
    layout = layout_of(machine(generation=generation))
    assert [local_address(layout, cpu, 0) for cpu in (0, 1)] == [first, second]
    assert layout.fixaddr_start == fixmap
    slots = next(region for region in layout.regions if region.name == "kmap_local")
    assert slots.start == layout.kmap_fix_bottom
    assert slots.end - slots.start == 8 * 16 * 4096


def test_arena_of_platforms_before_3_3():
    omap = frozenset({"ARM", "HIGHMEM", "ARCH_OMAP2PLUS"})
    board = machine(generation="3.0", config=omap, ram=((2 * GiB, 3 * GiB),), vmalloc=768 * MiB)
    layout = layout_of(board)
    assert (layout.lowmem_bytes, layout.vmalloc_end) == (128 * MiB, 0xF800_0000)
    assert layout.notes == ()
    # OMAP counts from PAGE_OFFSET on
    moved = layout_of(machine(generation="3.0", config=omap, split="2g", ram=((0, 512 * MiB),)))
    assert moved.vmalloc_end == 0xB800_0000
    unknown = layout_of(machine(generation="3.0"))
    assert "not modelled" in unknown.notes[0]
    told = layout_of(machine(generation="3.0", vmalloc_end=0xF400_0000))
    assert (told.vmalloc_end, told.notes) == (0xF400_0000, ())
    # 128 MiB without vmalloc= then
    assert told.high_memory == 0xF400_0000 - 128 * MiB


def test_a_generation_of_which_the_release_is_not_known_says_what_differs():
    assert "3.3 to 4.3" in layout_of(machine(generation="4.4")).notes[0]
    assert layout_of(machine(generation="4.4", release="4.4.189")).notes == ()
    assert layout_of(machine(generation="4.12")).notes == ()


@pytest.mark.parametrize(
    ("split", "shadow"),
    [("3g", (0xB6E0_0000, 0xBF00_0000)), ("2g", (0x6EE0_0000, 0x7F00_0000))],
)
def test_kasan_takes_the_top_of_user_space(split, shadow):
    plain = layout_of(machine(split=split, config=DEFAULT_CONFIG))
    layout = layout_of(machine(split=split, config=DEFAULT_CONFIG | {"KASAN"}))
    region = next(region for region in layout.regions if region.name == "kasan")
    assert (region.start, region.end) == shadow
    assert layout.user_end == shadow[0]
    assert (layout.vmalloc_start, layout.pkmap_base) == (plain.vmalloc_start, plain.pkmap_base)


def test_sparsemem_has_an_array_for_each_section():
    holes = ((0, 128 * MiB), (GiB, GiB + 128 * MiB))
    flat = layout_of(machine(ram=holes))
    sparse = layout_of(machine(ram=holes, config=DEFAULT_CONFIG | {"SPARSEMEM"}))
    assert flat.mem_map_bytes == (GiB + 128 * MiB >> 12) * 36
    assert sparse.mem_map_bytes == 2 * (256 * MiB >> 12) * 36
    assert "SPARSEMEM" in sparse.notes[0]
