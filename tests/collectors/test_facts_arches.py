"""Which architecture a machine's files are of."""

import pytest

from collectors.facts import read_facts
from collectors.snapshot import Snapshot
from replay.machine.from_facts import machine_from
from replay.machine.layout import check, layout_of


@pytest.mark.parametrize(
    ("config", "arch", "pae"),
    [
        ("CONFIG_X86_32=y\nCONFIG_X86_PAE=y", "i386", True),
        ("CONFIG_ARM=y\nCONFIG_ARM_LPAE=y", "arm", True),
        ("CONFIG_X86_64=y", "x86_64", None),
        ("CONFIG_ARC=y\nCONFIG_ARC_HAS_PAE40=y", "arc", True),
        ("CONFIG_CSKY=y", "csky", None),
        ("CONFIG_MICROBLAZE=y", "microblaze", None),
        ("CONFIG_MIPS=y\nCONFIG_32BIT=y", "mips32", False),
        ("CONFIG_MIPS=y\nCONFIG_64BIT=y", "mips64", None),
        ("CONFIG_PPC32=y\nCONFIG_PTE_64BIT=y", "powerpc32", True),
        ("CONFIG_SPARC32=y", "sparc32", None),
        ("CONFIG_XTENSA=y", "xtensa", None),
    ],
)
def test_config(config, arch, pae):
    facts = read_facts({"config": config.encode()})
    assert (facts.get("arch"), facts.get("pae")) == (arch, pae)


@pytest.mark.parametrize(
    ("machine", "arch"),
    [
        ("i686", "i386"),
        ("armv7l", "arm"),
        ("x86_64", "x86_64"),
        ("aarch64", None),
        ("arc", "arc"),
        ("csky", "csky"),
        ("microblazeel", "microblaze"),
        ("mips", "mips32"),
        ("mips64", "mips64"),
        ("ppc", "powerpc32"),
        ("ppc64", None),
        ("sparc", "sparc32"),
        ("sparc64", None),
        ("xtensa", "xtensa"),
    ],
)
def test_uname(machine, arch):
    line = f"Linux board 6.1.0 #1 SMP Tue Mar 3 10:00:00 UTC 2026 {machine} GNU/Linux\n"
    assert read_facts({"uname": line.encode()}).get("arch") == arch


@pytest.mark.parametrize(
    ("text", "arch", "cpus"),
    [
        ("processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu\n", "i386", 1),
        ("processor\t: 0\nFeatures\t: half\nCPU implementer\t: 0x41\n", "arm", 1),
        (
            "IDENTITY\t: ARCVER [0x54] ARCNUM [0] CHIPID [ 0]\n"
            "processor [0]\t: HS38 R3.10 (ARCv2 ISA)\n\n"
            "IDENTITY\t: ARCVER [0x54]\nprocessor [1]\t: HS38\nprocessor [2]\t: Offline\n",
            "arc",
            2,
        ),
        ("processor       : 0\nC-SKY CPU model : ck860\n", "csky", 1),
        ("CPU-Family:\tMicroBlaze\nFPGA-Arch:\tkintex7\n", "microblaze", None),
        (
            "system type\t\t: MediaTek MT7621\nprocessor\t\t: 0\ncpu model\t\t: MIPS 1004Kc\n"
            "microsecond timers\t: yes\nprocessor\t\t: 1\n",
            "mips32",
            2,
        ),
        ("processor\t: 0\ncpu\t\t: e500v2\ntimebase\t: 66666667\n", "powerpc32", 1),
        ("cpu\t\t: LEON\npromlib\t\t: Version 0\nncpus active\t: 4\n", "sparc32", 4),
        (
            "CPU count\t: 2\nCPU list\t: 0-1\nvendor_id\t: Tensilica\ncore ID\t\t: dc233c\n"
            "flags\t\t: nmi debug\n",
            "xtensa",
            2,
        ),
    ],
)
def test_cpuinfo(text, arch, cpus):
    facts = read_facts({"cpuinfo": text.encode()})
    assert (facts.get("arch"), facts.get("cpus")) == (arch, cpus)
    assert facts.contradictions == ()


def test_what_a_configuration_fixes_besides():
    arc = read_facts(
        {
            "config": b"CONFIG_ARC=y\nCONFIG_ARC_PAGE_SIZE_16K=y\nCONFIG_ARC_KVADDR_SIZE=512\n"
            b"CONFIG_SMP=y\nCONFIG_NR_CPUS=2\nCONFIG_HIGHMEM=y\n",
            "iomem": b"80000000-bfffffff : System RAM\n100000000-13fffffff : System RAM\n",
        }
    )
    machine, assumed = machine_from(arc.snapshot())
    layout = layout_of(machine)
    assert (layout.page_size, layout.pkmap_slots) == (16384, 128)
    assert layout.vmalloc_start == 0x60000000
    assert not any("page" in line for line in assumed)
    lowmem = b"CONFIG_PPC32=y\nCONFIG_LOWMEM_SIZE=0x20000000\nCONFIG_HIGHMEM=y\n"
    power = read_facts({"config": lowmem, "iomem": b"0-3fffffff : System RAM\n"})
    assert layout_of(machine_from(power.snapshot())[0]).lowmem_bytes == 512 << 20
    kseg = b"CONFIG_XTENSA=y\nCONFIG_XTENSA_KSEG_256M=y\nCONFIG_HIGHMEM=y\n"
    xtensa = read_facts({"config": kseg, "iomem": b"0-37ffffff : System RAM\n"})
    assert layout_of(machine_from(xtensa.snapshot())[0]).page_offset == 0xB0000000


def test_a_powerpc_boot_log_is_held_against_the_layout():
    log = (
        b"[    0.000000] Linux version 6.1.0 (x) #1 SMP\n"
        b"[    0.000000] Kernel virtual memory layout:\n"
        b"[    0.000000]   * 0xffa5f000..0xfffff000  : fixmap\n"
        b"[    0.000000]   * 0xff800000..0xffa00000  : highmem PTEs\n"
        b"[    0.000000]   * 0xd1000000..0xff800000  : vmalloc & ioremap\n"
    )
    config = b"CONFIG_PPC32=y\nCONFIG_PTE_64BIT=y\nCONFIG_HIGHMEM=y\n"
    config += b"CONFIG_SMP=y\nCONFIG_NR_CPUS=24\n"
    iomem = b"00000000-0fffffff : System RAM\n"
    facts = read_facts({"config": config, "dmesg": log, "iomem": iomem})
    machine, _ = machine_from(facts.snapshot())
    checks = {result.name: result for result in check(layout_of(machine), facts.snapshot())}
    assert checks["pkmap at boot"].ok
    assert checks["pkmap at boot"].observed == (0xFF800000, 0xFFA00000)


def test_frames_of_a_boot_log_are_of_the_machines_pages():
    log = (
        b"Zone ranges:\n  Normal   [mem 0x80000000-0xbfffffff]\n"
        b"  HighMem  [mem 0x100000000-0x13fffffff]\n"
    )
    config = b"CONFIG_ARC=y\nCONFIG_ARC_HAS_PAE40=y\n"
    config += b"CONFIG_ARC_PAGE_SIZE_8K=y\nCONFIG_HIGHMEM=y\n"
    iomem = b"80000000-bfffffff : System RAM\n100000000-13fffffff : System RAM\n"
    facts = read_facts({"config": config, "dmesg": log, "iomem": iomem})
    machine, _ = machine_from(facts.snapshot())
    results = check(layout_of(machine), facts.snapshot())
    assert [result for result in results if not result.ok] == []
    assert {result.name for result in results} >= {"zone Normal at boot", "zone HighMem at boot"}


@pytest.mark.parametrize(
    ("arch", "facts"),
    [
        ("sparc32", {"seen_pool": (0xFC501000, 0xFC520000), "seen_local": ((1, 0xFCFEE000),)}),
        ("csky", {"seen_pool": (0xFF801000, 0xFFBFF000), "seen_local": ((0, 0xFFFFC000),)}),
        ("mips32", {"seen_pool": (0xFF801000, 0xFFBFF000), "seen_local": ((0, 0xFFFCF000),)}),
    ],
)
def test_addresses_alone_tell_other_architectures_too(arch, facts):
    machine, assumed = machine_from(Snapshot(**facts))
    assert machine.arch == arch
    assert "the addresses in the trace fit" in assumed[0]


def test_a_pool_alone_does_not_make_it_another_architecture():
    """i386 before 4.15 had its pool at 0xff800000, where csky and mips32 have it."""
    machine, assumed = machine_from(Snapshot(seen_pool=(0xFF801000, 0xFFBFF000)))
    assert machine.arch == "i386"
    assert any(line.startswith("architecture i386: no file names it, and") for line in assumed)


@pytest.mark.parametrize(
    ("header", "arch"),
    [("arm 3.0.8", "arm"), ("i386 3.2.0-29", "i386"), ("riscv 5.4", "riscv"), ("mips 3.0", None)],
)
def test_the_header_of_a_configuration(header, arch):
    text = f"#\n# Linux/{header} Kernel Configuration\n#\nCONFIG_HIGHMEM=y\n"
    assert read_facts({"config": text.encode()}).get("arch") == arch
