"""Machines from facts and from what-if options."""

from dataclasses import replace

import pytest

from collectors.errors import HmtraceError
from collectors.snapshot import Snapshot
from replay.machine.from_facts import machine_from
from replay.machine.layout import layout_of
from replay.machine.model import Machine
from replay.machine.options import with_options

MiB = 1 << 20
GiB = 1 << 30
RAM = ((0x1000, 0x9FC00), (MiB, 0x3FFD_4000))


@pytest.fixture
def pc():
    return Machine(arch="i386", pae=True, ram=RAM, cpus=2, page_struct=40, mem_map=0xF5FC7000)


def refused(machine, **options):
    with pytest.raises(HmtraceError) as caught:
        with_options(machine, **options)
    assert caught.value.exit_code == 2
    return caught.value


def test_nothing_changed(pc):
    assert with_options(pc) == pc
    assert with_options(pc, split="3g", ram=GiB, pae=True, cpus=2) == pc


def test_more_ram_keeps_the_firmware_ranges(pc):
    more = with_options(pc, ram=2 * GiB)
    assert more.ram == ((0x1000, 0x9FC00), (MiB, 0x7FFD_4000))
    assert more.mem_map is None
    assert layout_of(more).max_pfn == 0x7FFD4


def test_ram_moves_above_the_pci_hole(pc):
    big = with_options(pc, ram=8 * GiB)
    assert big.ram == ((0x1000, 0x9FC00), (MiB, 0xBFFD_4000), (4 * GiB, 9 * GiB))
    assert layout_of(big).max_pfn == 9 << 18


def test_split_without_highmem_left(pc):
    layout = layout_of(with_options(pc, split="2g"))
    assert layout.highmem_bytes == 0
    assert layout.page_offset == 0x8000_0000


def test_pool_changes_with_the_page_tables(pc):
    assert layout_of(with_options(pc, pae=False)).pkmap_slots == 1024
    small = layout_of(with_options(pc, pkmap=64))
    assert (small.pkmap_slots, small.pkmap_base) == (64, 0xFF000000)
    large = layout_of(with_options(pc, pkmap=2048))
    # three page tables more than the real pool has
    assert large.pkmap_base == 0xFF000000 - 6 * MiB
    assert large.pkmap_end == 0xFF200000


def test_combinations_that_cannot_exist(pc):
    assert "PAE" in refused(pc, split="3g_opt").message
    assert refused(pc, split="2g_op").hint == "did you mean '2g_opt'?"
    assert "--pae" in refused(pc, ram=8 * GiB, pae=False).hint
    assert "64 GiB" in refused(pc, ram=65 * GiB).message
    assert "NR_CPUS" in refused(pc, cpus=64).message
    assert "vmalloc=" in refused(pc, vmalloc=1000 * MiB).hint
    refused(pc, vmalloc=1)
    refused(pc, cpus=0)
    refused(pc, pkmap=0)
    refused(pc, ram=0)
    refused(pc, generation="4.3")


def test_pae_cannot_be_left_with_much_ram(pc):
    big = with_options(pc, ram=8 * GiB)
    assert "give --ram as well" in refused(big, pae=False).hint


def test_page_array_must_fit(pc):
    error = refused(pc, ram=64 * GiB, vmalloc=384 * MiB)
    assert "page array" in error.message


def test_arm_board_without_lpae_ends_at_4_gib():
    board = Machine(arch="arm", ram=((0x4000_0000, 0x8000_0000),), nr_cpus=8, page_struct=36)
    assert with_options(board, ram=2 * GiB).ram == ((0x4000_0000, 0xC000_0000),)
    assert "3072M" in refused(board, ram=4 * GiB).hint
    wide = with_options(board, ram=4 * GiB, pae=True)
    assert wide.ram == ((0x4000_0000, 0x1_4000_0000),)


def test_no_facts_at_all():
    machine, assumed = machine_from(Snapshot())
    assert (machine.arch, machine.split, machine.nr_cpus, machine.page_struct) == (
        "i386",
        "3g",
        32,
        40,
    )
    assert len(assumed) == 8
    assert all("no file" in text or "there is no" in text for text in assumed)


@pytest.mark.parametrize("release", ["9.9", "7.3.1-pae"])
def test_a_newer_kernel_than_any_that_is_modelled_is_said_once(pc, release):
    said = (
        f"kernel {release} is newer than those that are modelled: it is taken to behave as 7.2",
    )
    asked = with_options(pc, release=release)
    as_modelled = layout_of(with_options(pc, release="7.2"))
    assert replace(layout_of(asked), notes=()) == replace(as_modelled, notes=())
    assert layout_of(asked).notes == (*as_modelled.notes, *said)
    _, assumed = machine_from(Snapshot(arch="i386", release=release))
    assert [text for text in assumed if release in text] == [*said]


@pytest.mark.parametrize("files", [True, False])
def test_microblaze_at_an_address_of_its_own(files):
    """CONFIG_KERNEL_START, as Analog Devices' boards have it, and a pool that shows the rest."""
    told = Snapshot(arch="microblaze", page_offset=0x8000_0000, seen_pool=(0xFF80_0000,) * 2)
    if files:
        told = replace(told, pae=False, split="3g", nr_cpus=1)
    machine, assumed = machine_from(told)
    assert (machine.split, machine.page_offset) == ("3g", 0x8000_0000)
    assert layout_of(machine).page_offset == 0x8000_0000
    found = [text for text in assumed if "the addresses in the trace fit" in text]
    assert len(found) == (not files)
    assert all(text.startswith("microblaze, PAGE_OFFSET 0x80000000, NR_CPUS 1") for text in found)


def test_other_architecture():
    with pytest.raises(HmtraceError, match="mips"):
        machine_from(Snapshot(arch="mips"))


def test_border_tells_the_arena_where_no_command_line_is():
    values = Snapshot(
        arch="i386", pae=True, ram=RAM, release="6.1.0", nr_cpus=32, lowmem_end_pfn=0x2E7FE
    )
    machine, assumed = machine_from(values)
    assert machine.vmalloc == 256 * MiB
    assert any("vmalloc=256M" in text for text in assumed)


def test_erratum_by_the_cpu():
    config = {"ARM": "y", "ARM_ERRATA_798181": "y"}
    for cpu, needs in (
        ((0x41, 0xC0F, 2, 1), True),
        ((0x41, 0xC0F, 4, 0), False),
        ((0x41, 0xC07, 0, 5), False),
        ((0x42, 0x0F0, 0, 2), True),
    ):
        machine, _ = machine_from(Snapshot(arch="arm", config=config, cpus=2, arm_cpu=cpu))
        assert machine.tlb_erratum is needs
        assert layout_of(machine).tlb_erratum_ipi is needs


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"vmalloc": 2 * GiB}, "command line"),
        ({"mem_opt": 1}, "command line"),
        ({"nr_cpus": 4096}, "NR_CPUS"),
        ({"ram": ((1 << 50, 1 << 51),)}, "its map is no RAM"),
    ],
)
@pytest.mark.parametrize("arch", ["i386", "arm"])
def test_files_that_cannot_be_true(arch, values, words):
    machine, assumed = machine_from(Snapshot(**({"arch": arch, "cmdline": "x"} | values)))
    assert layout_of(machine).lowmem_bytes > 0
    if arch == "i386":
        assert any(words in text for text in assumed)


def test_page_table_isolation_by_the_cpu_flags():
    values = Snapshot(arch="i386", pae=True, cpu_flags=frozenset({"pti", "fpu"}))
    assert layout_of(machine_from(values)[0]).pti
    assert not layout_of(machine_from(replace(values, pae=False))[0]).pti
