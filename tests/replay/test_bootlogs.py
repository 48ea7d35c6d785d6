"""Boot logs of others' machines: what is read of them, and the machine that comes of it."""

from pathlib import Path

import pytest

from collectors.errors import HmtraceError
from collectors.facts import read_facts
from replay.machine.from_facts import machine_from
from replay.machine.layout import layout_of

LOGS = Path(__file__).parent / "bootlogs"
MIB = 1 << 20

# log: architecture, release, MiB of RAM, frame of the border (None: not said)
READ = {
    "pc-26-9": ("i386", "2.6.9-11.ELsmp", 3326, None),
    "pc-26-15": ("i386", "2.6.15-27-k7", 1022, None),
    "pc-26-18-syslog": ("i386", None, 990, 0x38000),
    "pc-26-24": ("i386", None, 2038, 0x38000),
    "pc-35-syslog": ("i386", None, 2047, 0x37BFE),
    "laptop-36": ("i386", None, 3070, 0x377FE),
    "pc-pae-4g": ("i386", None, 3766, 0x37BFE),
    "pc-314": ("i386", "3.14.44-desktop", 1535, 0x333FE),
    "pc-49-pae": ("i386", "4.9.20-desktop-pae", 3711, 0x337FE),
    "pc-54-pae": ("i386", "5.4.0-89-lowlatency", 3071, 0x375FE),
    "pc64-ubuntu-syslog": ("x86_64", None, 1790, None),
    "sun6i-33-two-banks": ("arm", "3.3.0", 960, None),
    "sun8i-34": ("arm", "3.4.39", 1024, None),
    "sun8i-34-vmalloc384": ("arm", "3.4.39", 1024, None),
    "nexell-34-2g": ("arm", "3.4.39+", 1024, None),
    "imx6-314-2g": ("arm", "3.14.52", 2048, None),
    "imx6-319-4g": ("arm", "3.19.0", 3839, None),
    "am335x-49": ("arm", "4.9.33", 512, None),
    "mt85xx-49-2g": ("arm", "4.9.134", 502, None),
    "beaglebone-38": ("arm", "3.8.13-xenomai-r83", 511, None),
    "odroid-c1-310": ("arm", "3.10.107", 827, None),
    "cubox-314": ("arm", "3.14.4", 760, None),
    "bmc-53-journal": ("arm", "5.3.10-7b61b9e", 492, None),
    "bcm7216-512-lpae": ("arm", "5.12.0", 4096, 0x70000),
    "imx6q-65": ("arm", "6.5.0", 2048, 0x40000),
    "zynq-66-notimes": ("arm", "6.6.10", 1024, 0x30000),
    "arm64-419": ("arm64", "4.19.67", None, None),
    "arc-hsdk-517": ("arc", "5.17.0-rc4", 1024, None),
    "arc-zebu-516": ("arc", "5.16.0", 1024, None),
    "sh-dreamcast-71": ("sh", "7.1.3", 16, 0xD000),
    "microblaze-44-64m": ("microblaze", "4.4.0", 64, 0xA8000),
    "microblaze-61": ("microblaze", "6.1.70-35308-ge2e62cc28c80", 2047, 0xB0000),
    "mips-bcm63xx-2630": ("mips32", "2.6.30", 62, 0x3ECE),
    "mips-34kc-2637": ("mips32", "2.6.37-rc1", 255, 0xFFCB),
    "ppc-powerbook-32": ("powerpc32", "3.2.0", 640, None),
    "ppc-csvg4-2620": ("powerpc32", "2.6.20-rc5", 128, 0x8000),
}

# log: MiB of lowmem and highmem, arena, pool (None: the log does not say)
LAID_OUT = {
    "pc-26-9": (895, 2430, None, None),
    "pc-26-15": (895, 126, None, None),
    "pc-26-18-syslog": (895, 94, None, None),
    "pc-26-24": (895, 1142, None, None),
    "pc-35-syslog": (891, 1155, None, None),
    "laptop-36": (887, 2182, None, None),
    "pc-pae-4g": (891, 2874, None, None),
    "pc-314": (819, 715, (0xF3BFE000, 0xFF3FE000), 0xFF400000),
    "pc-49-pae": (823, 2887, (0xF3FFE000, 0xFF7FE000), None),
    "pc-54-pae": (885, 2185, (0xF7DFE000, 0xFF5FE000), 0xFF600000),
    "sun8i-34": (760, 264, (0xF0000000, 0xFF000000), 0xBFE00000),
    "sun8i-34-vmalloc384": (624, 400, (0xE7800000, 0xFF000000), 0xBFE00000),
    "nexell-34-2g": (1024, 0, (0xC0800000, 0xFEE00000), 0x7FE00000),
    "sun6i-33-two-banks": (696, 264, (0xF0000000, 0xFF000000), 0xBFE00000),
    "imx6-314-2g": (1784, 264, (0xF0000000, 0xFF000000), 0x7FE00000),
    "imx6-319-4g": (760, 3079, (0xF0000000, 0xFF000000), 0xBFE00000),
    "am335x-49": (512, 0, (0xE0800000, 0xFF800000), 0xBFE00000),
    "mt85xx-49-2g": (502, 0, (0xA0800000, 0xFF800000), 0x7FE00000),
    "beaglebone-38": (511, 0, (0xE0800000, 0xFF000000), 0xBFE00000),
    "odroid-c1-310": (614, 213, (0xF0000000, 0xFF000000), 0xBFE00000),
    "cubox-314": (760, 0, (0xF0000000, 0xFF000000), 0),
    "bmc-53-journal": (512, 0, None, None),
    "bcm7216-512-lpae": (768, 3328, None, None),
    "imx6q-65": (768, 1280, None, None),
    "zynq-66-notimes": (768, 256, None, None),
    "microblaze-44-64m": (64, 0, (0xF0000000, 0xFFFFD000), 0),
    "microblaze-61": (768, 1279, None, None),
    "mips-bcm63xx-2630": (62, 0, None, 0),
    "mips-34kc-2637": (255, 0, None, 0),
    "ppc-powerbook-32": (640, 0, (0xE9000000, 0xFDE72000), 0xFF800000),
    "ppc-csvg4-2620": (128, 0, None, 0),
}
"""lowmem and highmem without the holes."""


def facts_of(name: str):
    return read_facts({"dmesg": (LOGS / f"{name}.txt").read_bytes()})


def test_every_log_is_told_of():
    assert {path.stem for path in LOGS.glob("*.txt")} == set(READ)


@pytest.mark.parametrize("name", READ)
def test_what_is_read(name):
    facts = facts_of(name)
    ram = facts.get("ram")
    size = sum(end - start for start, end in ram) if ram else facts.get("ram_bytes")
    size = size or facts.get("mem_total")
    assert (
        facts.get("arch"),
        facts.get("release"),
        None if size is None else (size + MIB // 2) // MIB if name == "pc-26-9" else size // MIB,
        facts.get("lowmem_end_pfn"),
    ) == READ[name]
    assert facts.notes == facts.contradictions == ()


@pytest.mark.parametrize("name", LAID_OUT)
def test_the_machine(name):
    facts = facts_of(name)
    machine, _ = machine_from(facts.snapshot(), facts.sources())
    layout = layout_of(machine)
    low, high, arena, pool = LAID_OUT[name]
    assert (layout.lowmem_bytes // MIB, layout.highmem_bytes // MIB) == (low, high)
    assert arena in (None, (layout.vmalloc_start, layout.vmalloc_end))
    assert pool in (None, layout.pkmap_base)


def test_cpus_that_the_kernel_has_numbers_for():
    """SLUB's line, where none says what was brought up; a PC has numbers for empty sockets."""
    machine, assumed = machine_from(facts_of("sun6i-33-two-banks").snapshot())
    assert machine.cpus == 2
    assert "2 CPUs: as many as the boot log has numbers for" in assumed
    slub = b"SLUB: HWalign=64, Order=0-3, MinObjects=0, CPUs=%d, Nodes=1\n"
    for said, arch, cpus in ((1, b"CPU: ARMv7 Processor", 1), (4, b"BIOS-e820: x", 1)):
        dmesg = b"Linux version 5.4.0 (a@b) #1 SMP\n" + arch + b"\n" + slub % said
        machine, assumed = machine_from(read_facts({"dmesg": dmesg}).snapshot())
        assert machine.cpus == cpus
        assert ("one CPU: no file shows them" in assumed) is (arch == b"BIOS-e820: x")


@pytest.mark.parametrize(
    ("name", "arch"), [("arm64-419", "arm64"), ("sh-dreamcast-71", "sh")], ids=["arm64", "sh"]
)
def test_what_has_no_model_is_refused(name, arch):
    with pytest.raises(HmtraceError, match=f"of architecture {arch}"):
        machine_from(facts_of(name).snapshot())


def test_of_arc_pages_and_highmem_are_read():
    hsdk, zebu = facts_of("arc-hsdk-517"), facts_of("arc-zebu-516")
    assert (hsdk.get("page_size"), hsdk.get("pae"), hsdk.get("highmem_enabled")) == (
        8192,
        False,
        None,
    )
    # its bank above 4 GiB is "Not used": a kernel with HIGHMEM would use it
    assert (zebu.get("page_size"), zebu.get("pae"), zebu.get("highmem_enabled")) == (
        8192,
        False,
        False,
    )


def test_a_kernel_that_prints_no_highmem_has_none():
    line = "Memory: 765004K/778240K available (4365K kernel code, 13236K reserved{})"
    assert read_facts({"dmesg": line.format("").encode()}).get("highmem_enabled") is False
    assert (
        read_facts({"dmesg": line.format(", 0K highmem").encode()}).get("highmem_enabled") is None
    )
    assert read_facts({"dmesg": line.format(", 0K cm").encode()}).get("highmem_enabled") is None


@pytest.mark.parametrize(
    ("name", "pae"),
    [
        ("bcm7216-512-lpae", True),
        ("imx6q-65", False),
        ("bmc-53-journal", False),
        ("pc-pae-4g", True),
        ("laptop-36", None),
    ],
)
def test_wide_addresses(name, pae):
    assert facts_of(name).get("pae") is pae
