"""Machines worked out from nothing but the addresses in a trace."""

import pytest

from collectors.snapshot import Snapshot
from replay.machine.from_facts import machine_from
from replay.machine.layout import layout_of

I386_LOCAL = ((0, 0xFFFBB000), (1, 0xFFFAB000))
ARM_LOCAL = ((0, 0xFFEFE000), (1, 0xFFEEE000))


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        # a pool of 1024 slots: 686
        (
            {"seen_pool": (0xFEC00000, 0xFEFFF000), "seen_local": I386_LOCAL},
            ("i386", False, "3g", 32, "6.1"),
        ),
        # the flush of the pool tells its size: 686-pae
        (
            {"seen_pool": (0xFF001000, 0xFF010000), "seen_flushes": ((0xFF000000, 0xFF200000),)},
            ("i386", True, "3g", 32, "6.1"),
        ),
        # kmap_atomic: 20 slots for each CPU
        (
            {
                "seen_pool": (0xFF001000, 0xFF010000),
                "seen_local": ((0, 0xFFFBB000), (1, 0xFFFA7000)),
            },
            ("i386", True, "3g", 32, "5.10"),
        ),
        (
            {"seen_pool": (0xBFE01000, 0xBFFFF000), "seen_local": ARM_LOCAL},
            ("arm", False, "3g", 8, "6.1"),
        ),
        (
            {"seen_pool": (0x7FE01000, 0x7FF00000), "seen_local": ARM_LOCAL},
            ("arm", False, "2g", 8, "6.1"),
        ),
        # kmap_atomic of ARM before 3.19: slots from the bottom of the fixmap upwards
        (
            {
                "seen_atomic": True,
                "seen_pool": (0xBFE01000, 0xBFFFF000),
                "seen_local": ((0, 0xFFC01000), (1, 0xFFC10000)),
            },
            ("arm", False, "3g", 8, "3.16"),
        ),
        (
            {
                "seen_atomic": True,
                "seen_pool": (0xBFE01000, 0xBFFFF000),
                "seen_local": ((0, 0xFFF00000), (1, 0xFFF11000)),
                "seen_ranges": ((0xF0000000, 0xFF000000),),
            },
            ("arm", False, "3g", 8, "3.10"),
        ),
        # i386 before 4.14: the pool follows the fixmap
        (
            {
                "seen_atomic": True,
                "seen_pool": (0xFFA01000, 0xFFAFF000),
                "seen_flushes": ((0xFFA00000, 0xFFC00000),),
                "seen_local": ((0, 0xFFFBA000), (1, 0xFFFA6000)),
            },
            ("i386", True, "3g", 32, "4.4"),
        ),
        # frames above 4 GiB
        (
            {"seen_pool": (0xBFE01000, 0xBFF00000), "seen_pfns": (0x100000, 0x130000)},
            ("arm", True, "3g", 8, "6.1"),
        ),
        # areas alone
        ({"seen_ranges": ((0xF77FE000, 0xFEFFE000),)}, ("i386", True, "3g", 32, "6.1")),
        (
            {"seen_ranges": ((0xF0800000, 0xFF800000), (0xBF000000, 0xBFE00000))},
            ("arm", False, "3g", 8, "6.1"),
        ),
    ],
)
def test_kind_of_machine(seen, expected):
    machine, assumed = machine_from(Snapshot(**seen))
    found = machine.arch, machine.pae, machine.split, machine.nr_cpus, machine.generation
    assert found == expected
    assert "the addresses in the trace fit" in assumed[0]


def test_border_by_the_start_of_the_arena():
    machine, assumed = machine_from(
        Snapshot(seen_ranges=((0xEEFFE000, 0xFEFFE000),), seen_pfns=(0x1E00, 0x3FA00))
    )
    layout = layout_of(machine)
    assert machine.vmalloc == 256 << 20
    assert layout.lowmem_end_pfn == 0x2E7FE
    assert layout.vmalloc_start == 0xEEFFE000
    assert layout.max_pfn == 0x40000
    assert any("lowmem ends at frame 0x2e7fe" in text for text in assumed)


@pytest.mark.parametrize(
    "more",
    [{"seen_direct": (0x42B5E, 0xC2B5E000)}, {"seen_pfns": (0x7C800, 0x7ED00)}],
)
def test_start_of_arm_ram(more):
    pfns = {"seen_pfns": (0x42B5E, 0xBEDB0)}
    machine, _ = machine_from(Snapshot(**({"seen_local": ARM_LOCAL} | pfns | more)))
    assert layout_of(machine).phys_offset == 0x4000_0000


def test_files_come_first():
    seen = {"seen_pool": (0xBFE01000, 0xBFFFF000), "seen_local": ARM_LOCAL}
    machine, assumed = machine_from(
        Snapshot(**({"arch": "i386", "pae": True, "split": "3g", "nr_cpus": 32} | seen))
    )
    assert machine.arch == "i386"
    assert not any("addresses in the trace" in text for text in assumed)


def test_what_cannot_be_told_is_said():
    _, assumed = machine_from(Snapshot(seen_local=I386_LOCAL))
    assert "no PAE: the addresses in the trace fit both" in assumed


def test_addresses_that_fit_no_kernel():
    machine, assumed = machine_from(Snapshot(seen_pool=(0x12340000, 0x56780000)))
    assert machine.arch == "i386"
    assert any(line.startswith("architecture i386: no file names it, and") for line in assumed)


def test_page_offset_of_a_boot_log_goes_before_addresses():
    machine, _ = machine_from(
        Snapshot(seen_pool=(0xBFE01000, 0xBFFFF000), arch="arm", page_offset=0xB0000000)
    )
    assert machine.split == "3g_opt"


def test_size_of_ram_of_a_boot_log():
    seen = {"arch": "arm", "seen_pool": (0xBFE01000, 0xBFFFF000)}
    machine, words = machine_from(Snapshot(**seen, ram_bytes=2 << 30))
    assert machine.ram == ((0, 2 << 30),)
    assert any("by the size that files name" in line for line in words)
    of_header = Snapshot(**seen, mem_total=2067704 << 10)
    assert machine_from(of_header)[0].ram_bytes == 2 << 30
    high = Snapshot(**seen, ram_bytes=2 << 30, seen_pfns=(0x70000, 0x7FFFF))
    assert machine_from(high)[0].ram == ((0x40000000, 0xC0000000),)
    # the trace has frames behind it: there are holes that no file tells
    beyond = Snapshot(**seen, ram_bytes=1 << 29, seen_pfns=(0x70000, 0x7FFFF))
    assert machine_from(beyond)[0].ram_bytes == 1 << 30


def test_ranges_of_zones_go_before_frames():
    ranges = (("Normal", 0x40000, 0x70000), ("HighMem", 0x70000, 0xC0000))
    seen = {"arch": "arm", "seen_pool": (0xBFE01000, 0xBFFFF000), "seen_pfns": (0x70000, 0x70010)}
    machine, _ = machine_from(Snapshot(**seen, zone_ranges=ranges, lowmem_end_pfn=0x70000))
    assert machine.ram == ((0x40000000, 0xC0000000),)


def test_a_supposed_architecture_is_doubted_where_its_pool_lies_elsewhere() -> None:
    """A lone trace of a Power Mac: an i386 is made of it, for want of anything else."""
    _, assumed = machine_from(Snapshot(seen_pool=(0xFF80_1000, 0xFF80_2000)))
    (words,) = (line for line in assumed if line.startswith("architecture i386"))
    assert "0xff801000" in words
    assert "powerpc32" in words
    assert "or an older i386" in words
    assert "config.gz or dmesg" in words
    _, assumed = machine_from(Snapshot(seen_pool=(0xF000_0000, 0xF000_0000)))
    (words,) = (line for line in assumed if line.startswith("architecture i386"))
    assert "nor any other" in words
