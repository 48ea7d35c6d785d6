"""Layouts of ARM: computed by hand from mm/mmu.c, and of boards that were booted."""

import pytest

from collectors.errors import HmtraceError
from collectors.snapshot import Snapshot
from replay.machine.arches.arm import DEFAULT_CONFIG, border
from replay.machine.from_facts import machine_from
from replay.machine.layout import layout_of, local_address
from replay.machine.model import Machine

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
    assert layout_of(machine(vmalloc=MiB)) == layout_of(machine(vmalloc=16 * MiB))
    most = layout_of(machine(vmalloc=4 * GiB))
    assert most.lowmem_bytes == 32 * MiB


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


def test_unaligned_banks_move_the_border():
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
