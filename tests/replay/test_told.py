"""Where a machine's own files contradict the address map: they are believed, and it is said."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from collectors.errors import HmtraceError
from collectors.facts import read_facts, read_folder
from collectors.snapshot import Snapshot, Zone
from hmtrace.cli import app
from replay.machine.from_facts import machine_from
from replay.machine.layout import check, derived_layout, layout_of
from replay.machine.model import Told
from replay.machine.options import with_options

MiB = 1 << 20
CASES = Path(__file__).parents[2] / "fixtures" / "cases"


def machine_of(folder: Path):
    facts = read_folder(folder)
    machine, words = machine_from(facts.snapshot(), facts.sources())
    return machine, layout_of(machine), words, facts.snapshot()


@pytest.mark.parametrize(
    ("case", "border", "low", "high", "arena"),
    [
        ("contradiction-zoneinfo", 0x40000, 448, 1491, (0xE0800000, 0xFF800000)),
        ("dmesg-zone-pfn-ranges", 0x2EFFE, 751, 1295, (0xEF7FE000, 0xFF7FE000)),
        ("dmesg-level-prefix", 0x2F800, 760, 1288, (0xF0000000, 0xFF000000)),
        ("arch-dmesg-mips", 0x10000, 256, 256, None),
        ("arch-dmesg-sparc", 0xC000, 192, 831, None),
    ],
)
def test_the_machine_is_what_its_files_say(case, border, low, high, arena):
    _, layout, _, _ = machine_of(CASES / case)
    assert layout.lowmem_end_pfn == border
    assert (layout.lowmem_bytes // MiB, layout.highmem_bytes // MiB) == (low, high)
    assert arena in (None, (layout.vmalloc_start, layout.vmalloc_end))


def test_the_trace_beside_a_boot_log_does_not_shrink_its_ram():
    run = CliRunner().invoke(app, ["report", str(CASES / "dmesg-level-prefix")])
    assert "760 MiB lowmem + 1288 MiB highmem" in run.stdout


def log(text: str) -> Snapshot:
    return read_facts({"dmesg": text.encode()}).snapshot()


ARM = """CPU: ARMv7 Processor [410fc075] revision 5 (ARMv7), cr=30c5387d
Linux version 6.1.0 (a@b) #1 SMP
Zone ranges:
  Normal   [mem 0x0000000040000000-0x0000000066bfffff]
  HighMem  [mem 0x0000000066c00000-0x000000007fffffff]
Early memory node ranges
  node   0: [mem 0x0000000040000000-0x000000007fffffff]
Kernel command line: console=ttyS0
"""


def test_a_border_that_no_rule_gives_is_told_with_both_values():
    snapshot = log(ARM)
    machine, words = machine_from(snapshot, {"lowmem_end_pfn": "dmesg, line 3"})
    layout = layout_of(machine)
    assert layout.lowmem_end_pfn == 0x66C00
    assert layout.high_memory == 0xC000_0000 + 0x26C0_0000
    assert layout.vmalloc_start == 0xE700_0000  # 8 MiB above it, rounded down to 8 MiB
    assert layout.highmem_bytes == 0x7FFF_FFFF + 1 - 0x66C0_0000
    assert words[-1] == (
        "the border of lowmem: frame 0x70000 by the rules that hmtrace knows, frame 0x66c00 by "
        "dmesg, line 3, which is believed"
    )
    regions = {region.name: (region.start, region.end) for region in layout.regions}
    assert regions["lowmem"] == (0xC000_0000, layout.high_memory)
    # what is checked are the rules, not what was put in their place
    assert not all(one.ok for one in check(derived_layout(machine), snapshot))


def test_pool_and_arena_of_the_layout_block():
    block = (
        "Virtual kernel memory layout:\n"
        "    vmalloc : 0xe7000000 - 0xff000000   ( 384 MB)\n"
        "    lowmem  : 0xc0000000 - 0xe6c00000   ( 620 MB)\n"
        "    pkmap   : 0xbfa00000 - 0xbfe00000   (   4 MB)\n"
        "    modules : 0xbf000000 - 0xbfa00000   (  10 MB)\n"
    )
    machine, words = machine_from(log(ARM + block))
    layout = layout_of(machine)
    assert (layout.vmalloc_start, layout.vmalloc_end) == (0xE7000000, 0xFF000000)
    assert (layout.pkmap_base, layout.pkmap_slots) == (0xBFA00000, 1024)
    assert (layout.modules_start, layout.modules_end) == (0xBF000000, 0xBFA00000)
    assert sum("which is believed" in line for line in words) == 3


def test_the_size_of_the_arena_alone():
    plain = log(ARM.replace("66bfffff", "6fffffff").replace("66c0", "7000"))
    machine, words = machine_from(replace(plain, vmalloc_total=200 * MiB))
    layout = layout_of(machine)
    assert (layout.vmalloc_start, layout.vmalloc_end) == (0xFF800000 - 200 * MiB, 0xFF800000)
    assert words[-1] == (
        "the arena: 240 MiB by the rules that hmtrace knows, 200 MiB by vmalloc_total, "
        "which is believed"
    )
    assert machine_from(replace(plain, vmalloc_total=240 * MiB))[0].told is None
    assert machine_from(replace(plain, vmalloc_total=3 << 30))[0].told is None


@pytest.mark.parametrize(
    "block",
    [
        "    vmalloc : 0xc1000000 - 0xff000000\n",  # runs into lowmem
        "    vmalloc : 0xf0800000 - 0xfffff000\n",  # into the fixmap
        "    pkmap   : 0xc0000000 - 0xc0200000\n",
        "    pkmap   : 0x00001000 - 0xc0000000\n",
    ],
)
def test_an_impossible_map_is_not_followed(block):
    plain = ARM.replace("66bfffff", "6fffffff").replace("66c00000", "70000000")
    rules, _ = machine_from(log(plain))
    machine, words = machine_from(log(plain + "Virtual kernel memory layout:\n" + block))
    assert machine.told is None
    assert layout_of(machine) == layout_of(rules)
    assert "which is not followed" in words[-1]


def test_files_that_agree_say_nothing():
    machine, words = machine_from(log(ARM.replace("66bfffff", "6fffffff").replace("66c0", "7000")))
    assert machine.told is None
    assert not any("by the rules" in line for line in words)


def test_another_machine_has_its_own_border():
    machine, _ = machine_from(log(ARM))
    assert machine.told is not None
    assert with_options(machine, cpus=2).told == machine.told
    for changed in (with_options(machine, vmalloc=256 * MiB), with_options(machine, ram=1 << 29)):
        assert changed.told is None
    assert layout_of(replace(machine, told=Told())) == derived_layout(machine)


VENDOR = """Linux version 3.0.36+ (a@b) #1 SMP PREEMPT
CPU: ARMv7 Processor [413fc090] revision 0 (ARMv7), cr=10c53c7d
Memory: 1024MB = 1024MB total
Memory: 953260k/953260k available, 95316k reserved, 270336K highmem
Virtual kernel memory layout:
    vmalloc : 0xf0000000 - 0xfec00000   ( 236 MB)
    lowmem  : 0xc0000000 - 0xef800000   ( 760 MB)
    pkmap   : 0xbfe00000 - 0xc0000000   (   2 MB)
    modules : 0xbf000000 - 0xbfe00000   (  14 MB)
"""


def test_a_kernel_built_with_another_reserve_keeps_it_with_more_ram():
    """A vendor's 3.0 whose reserve is 240 MiB: the printed map tells it as zones would."""
    machine, words = machine_from(log(VENDOR))
    assert machine.told is None
    assert "vmalloc=244M: the observed border of lowmem says so" in words
    for ram, high in ((1 << 30, 264), (2 << 30, 1288)):
        layout = layout_of(with_options(machine, ram=ram))
        assert (layout.lowmem_bytes // MiB, layout.highmem_bytes // MiB) == (760, high)


def test_zones_leave_no_gap_where_the_border_is_believed():
    """The printed lowmem ends where no reserve of a kernel would end it."""
    odd = VENDOR.replace("0xf0000000 - 0xfec", "0xf0400000 - 0xfec")
    machine, _ = machine_from(log(odd + "Kernel command line: console=ttyS0\n"))
    assert machine.told is not None
    low, high = (zone for zone in layout_of(machine).zones if zone.end_pfn > zone.start_pfn)
    assert (low.end_pfn, high.start_pfn, high.end_pfn) == (0x2F800, 0x2F800, 0x40000)


def test_more_highmem_than_a_guess_of_ram_leaves_is_said():
    """meminfo alone: MemTotal, rounded, is less than the board has; HighTotal says so."""
    told = {"arch": "arm", "mem_total": 2001584 << 10, "smp": False}
    for high, said in ((1318912 << 10, True), (1200 << 20, False), (None, False)):
        _, words = machine_from(Snapshot(**told, highmem_bytes=high))
        whole = (
            "highmem: 1216 MiB by the rules that hmtrace knows, 1288 MiB by highmem_bytes, which "
            "is not followed"
        )
        assert (whole in words) is said


def test_a_rule_that_the_kernel_is_seen_to_follow_holds_with_other_ram():
    """MIPS 6.1: whether a hole below the border ends lowmem, zoneinfo of the same kernel tells."""
    ram = (0, 0x1000_0000), (0x9000_0000, 0xC000_0000)
    told = Snapshot(arch="mips32", release="6.1.192", ram=ram, lowmem_end_pfn=0x20000)
    machine, _ = machine_from(told)
    doubt = "lowmem may end at"
    for known in (machine, replace(machine, border_told=False)):
        for changes in ({"ram": 2 << 30}, {"generation": "5.4"}):
            notes = layout_of(with_options(known, **changes)).notes
            in_doubt = not known.border_told or "generation" in changes
            assert any(note.startswith(doubt) for note in notes) is in_doubt


def test_ram_of_zones():
    zones = (
        Zone("DMA", 0x20000, 0x20000, 0x1C000, 0x1B000),
        Zone("HighMem", 0x40000, 0x60000, 0x5D300, 0x5D300),
    )
    machine, words = machine_from(Snapshot(arch="arm", zones=zones))
    assert machine.ram == (
        (0x20000000, 0x2E000000),
        (0x32000000, 0x40000000),
        (0x42D00000, 0xA0000000),
    )
    assert any("where its 109 MiB of holes lie" in line for line in words)
    whole = (Zone("Normal", 0x40000, 0x40000, 0x40000, 0x3F000),)
    assert machine_from(Snapshot(arch="arm", zones=whole))[0].ram == ((0x40000000, 0x80000000),)


def test_ram_and_cpus_that_only_the_log_tells():
    machine, _ = machine_from(Snapshot(arch="arm", ram_bytes=2 << 30, smp=False))
    assert (machine.ram, machine.nr_cpus) == (((0, 2 << 30),), 1)


def test_addresses_of_64_bits():
    with pytest.raises(HmtraceError, match="of a 64-bit kernel"):
        machine_from(Snapshot(seen_wide=0xFFFFC90000A30000))
    machine, _ = machine_from(
        Snapshot(seen_wide=0xFFFFFFFFFF57B000, seen_local=((0, 0xFFFFFFFFFF57B000),))
    )
    assert machine.arch == "x86_64"


def test_a_trace_of_a_64_bit_kernel(tmp_path):
    line = (
        " modprobe-1100 [003] ..... 100.0001{n:02}: "
        "alloc_vmap_area: va_start: 0xffffc90000a3{n:02}00"
        " size=20480 align=4096 vstart=0xffffc90000000000 vend=0xffffe8ffffffffff failed=0\n"
    )
    trace = tmp_path / "trace.txt"
    trace.write_text("# tracer: nop\n#\n" + "".join(line.format(n=n) for n in range(3)))
    result = CliRunner().invoke(app, ["report", str(trace)])
    assert result.exit_code == 3 or isinstance(result.exception, HmtraceError)
    info = CliRunner().invoke(app, ["info", str(trace)])
    assert info.exit_code == 0
    assert "64-bit kernel" in info.stdout
