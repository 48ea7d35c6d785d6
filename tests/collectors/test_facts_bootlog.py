"""The boot log in all forms that it is written down in, and of kernels of all ages."""

import gzip
import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from collectors.facts import kind_of, read_facts, read_folder
from collectors.facts.loglines import message_of, since_boot
from hmtrace.cli import app

CASES = Path(__file__).parents[2] / "fixtures" / "cases"
BANNER = "Linux version 6.1.0-50-686 (a@b) (gcc 12) #1 SMP"

FORMS = {
    "plain": "",
    "level": "<5>",
    "time": "[    0.000000] ",
    "dmesg -r": "<5>[    0.000000] ",
    "caller": "[    0.000000][    T0] ",
    "dmesg -T": "[Mon Nov 30 05:28:39 2026] ",
    "dmesg -x": "kern  :notice: [    0.000000] ",
    "dmesg -x -T": "kern  :notice: [Mon Nov 30 05:28:39 2026] ",
    "dmesg -T, German": "[Mo Nov 30 05:28:39 2026] ",
    "dmesg -T, French": "[lun. nov. 30 05:28:39 2026] ",
    "dmesg -T, Chinese": "[一 11月 30 05:28:39 2026] ",
    "dmesg -H, Russian": "[ноя30 05:28] ",
    "dmesg -d": "[    0.000000 <    0.000000>] ",
    "dmesg -d -t": "[<    0.000000>] ",
    "dmesg -T -d": "[Mon Nov 30 05:28:39 2026 <    0.000000>] ",
    "dmesg -H": "[Nov30 05:28] ",
    "dmesg -H, later": "[  +0.000000] ",
    "dmesg --time-format iso": "2026-11-30T05:28:39,123456+00:00 ",
    "coloured": "\x1b[32m[    0.000000] \x1b[0m\x1b[33m",
    "syslog": "Nov 30 05:28:39 board kernel: [    0.000000] ",
    "syslog without times": "Nov  3 05:28:39 board kernel: ",
    "busybox syslog": "Nov 30 05:28:39 board kern.info kernel: [    0.000000] ",
    "logread": "Sun Mar  1 22:39:27 2020 kern.notice kernel: [    0.000000] ",
    "journal": "Nov 30 05:28:39 board kernel: ",
    "journal, monotonic": "[    0.000000] board kernel: ",
    "journal, precise": "Nov 30 05:28:39.123456 board kernel: ",
    "journal, iso": "2026-11-30T05:28:39+0000 board kernel: ",
    "journal, full": "Mon 2026-11-30 05:28:39 UTC board kernel: ",
    "journal, unix": "1606712919.123456 board kernel: ",
    "rsyslog": "2026-11-30T05:28:39.123456+00:00 board kernel: [    0.000000] ",
    "RFC 5424": "<5>1 2026-11-30T05:28:39.123456+00:00 board kernel - - - [    0.000000] ",
    "journal, export": "MESSAGE=",
    "journal, verbose": "    MESSAGE=",
    "logcat": "11-30 05:28:39.123     0     0 I kernel  : [    0.000000] ",
    "logcat without a tag": "11-30 05:28:39.123     0     0 I         : ",
    "terminal with an arrow": "05:28:39.123> [    0.000000] ",
    "kmsg": "5,0,0,-;",
    "terminal with times": "[2026-11-30 05:28:39] [    0.000000] ",
    "terminal with hours": "[05:28:39.123] [    0.000000] ",
    "grabserial": "[0.000001 0.000001] ",
    "MediaTek": "[    0.000000] <0>.(0)[0:swapper]",
    "Samsung": "<6>[    0.000000]  [0:        swapper/0:    0] ",
    "Qualcomm": "[    0.000000] c0      0 ",
    "Exynos": "[    0.000000] C0 [      swapper/0] ",
    "collapsed blanks": "[ 0.000000] ",
}
LOG = f"""{BANNER}
BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable
BIOS-e820: [mem 0x0000000000100000-0x000000003ffd3fff] usable
147MB HIGHMEM available.
875MB LOWMEM available.
  low ram: 0 - 36bfe000
Zone ranges:
  DMA      [mem 0x0000000000001000-0x0000000000ffffff]
  Normal   [mem 0x0000000001000000-0x0000000036bfdfff]
  HighMem  [mem 0x0000000036bfe000-0x000000003ffd3fff]
Early memory node ranges
  node   0: [mem 0x0000000000001000-0x000000000009efff]
  node   0: [mem 0x0000000000100000-0x000000003ffd3fff]
Kernel command line: console=ttyS0 vmalloc=128M
Virtual kernel memory layout:
    vmalloc : 0xf73fe000 - 0xfebfe000   ( 120 MB)
smp: Brought up 1 node, 2 CPUs
"""


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\r\n"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_tells_the_same(form, end):
    text = "".join(f"{FORMS[form]}{line}{end}" for line in LOG.splitlines())
    facts = read_facts({"dmesg": text.encode()})
    told = {name: facts.get(name) for name in facts}
    assert told | {"layout_block": None} == {
        "release": "6.1.0-50-686",
        "smp": True,
        "arch": "i386",
        "highmem_mib": 147,
        "lowmem_mib": 875,
        "low_ram_end": 0x36BFE000,
        "zone_ranges": (("DMA", 1, 4096), ("Normal", 4096, 0x36BFE), ("HighMem", 0x36BFE, 0x3FFD4)),
        "lowmem_end_pfn": 0x36BFE,
        "max_pfn": 0x3FFD4,
        "ram": ((0x1000, 0x9F000), (0x100000, 0x3FFD4000)),
        "cmdline": "console=ttyS0 vmalloc=128M",
        "vmalloc": 128 << 20,
        "layout_block": None,
        "vmalloc_start": 0xF73FE000,
        "vmalloc_end": 0xFEBFE000,
        "cpus_booted": 2,
    }
    assert facts.notes == ()


@pytest.mark.parametrize(
    "line",
    [
        "BIOS-e820: 0000000000000000 - 000000000009f800 (usable)",
        "DMA      0x00000010 -> 0x00001000",
        "0: 0x00000010 -> 0x0000009f",
        "* 0xfffef000..0xfffff000 : fixmap",
        "cma: Reserved 16 MiB at 0x5b000000",
        "smp: Brought up 1 node, 4 CPUs",
    ],
)
def test_a_message_is_left_whole(line):
    assert message_of(line) == line
    assert message_of(f"[    0.000000]   {line}") == line


@pytest.mark.parametrize(
    "line",
    [
        *("[" + " " * 3000, " " * 3000, "1" * 3000, "a " * 1500, "\x1b[1" + ";" * 3000),
        *("Nov  3 05:28:39 " * 200, "[ 1.1]" * 500, "(0)[0:" + "a" * 3000, "<" * 3000),
    ],
)
def test_no_line_takes_long(line):
    started = time.process_time()
    for _ in range(100):
        message_of(line)
    assert time.process_time() - started < 0.2


def test_firmware_maps_where_the_kernel_prints_no_nodes():
    old = (
        b"BIOS-e820: 0000000000000000 - 000000000009fc00 (usable)\n"
        b"BIOS-e820: 000000000009fc00 - 00000000000a0000 (reserved)\n"
        b"BIOS-e820: 0000000000100000 - 000000003fef0000 (usable)\n"
    )
    kept = ((0, 0x9FC00), (0x100000, 0x3FEF0000))
    assert read_facts({"dmesg": old}).get("ram") == kept
    user = b"user-defined physical RAM map:\n user: 0000000000000000 - 0000000020000000 (usable)\n"
    assert read_facts({"dmesg": old + user}).get("ram") == ((0, 0x20000000),)
    mips = (
        b"Determined physical RAM map:\n memory: 1c000000 @ 00000000 (usable)\n"
        b" memory: 00100000 @ 1c000000 (reserved)\n memory: 04000000 @ 20000000 (usable)\n"
    )
    facts = read_facts({"dmesg": mips})
    assert (facts.get("arch"), facts.get("ram")) == (
        "mips32",
        ((0, 0x1C000000), (0x20000000, 0x24000000)),
    )


def test_frames_were_decimal_before_2_6_27():
    text = (
        b"Zone PFN ranges:\n  DMA             0 ->     4096\n  Normal       4096 ->   229376\n"
        b"  HighMem    229376 ->   521837\nearly_node_map[1] active PFN ranges\n"
        b"    0:        0 ->   521837\nOn node 0 totalpages: 521837\n"
    )
    facts = read_facts({"dmesg": text})
    assert facts.get("zone_ranges")[-1] == ("HighMem", 229376, 521837)
    assert facts.get("ram") == ((0, 521837 << 12),)
    assert facts.get("ram_bytes") == 521837 << 12


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        # up to 3.8 without what the page array takes
        (
            b"On node 0 totalpages: 521837\n  DMA zone: 32 pages used for memmap\n"
            b"  DMA zone: 0 pages reserved\n  DMA zone: 4064 pages, LIFO batch:0\n"
            b"  Normal zone: 1760 pages used for memmap\n"
            b"  Normal zone: 223520 pages, LIFO batch:31\n"
            b"  HighMem zone: 2284 pages used for memmap\n"
            b"  HighMem zone: 290177 pages, LIFO batch:31\n",
            (("DMA", 4096), ("Normal", 225280), ("HighMem", 292461)),
        ),
        # since then with it
        (
            b"On node 0 totalpages: 16384\n  DMA zone: 128 pages used for memmap\n"
            b"  DMA zone: 0 pages reserved\n  DMA zone: 16384 pages, LIFO batch:3\n",
            (("DMA", 16384),),
        ),
        (b"On node 0 totalpages: 16384\n  DMA zone: 1 pages, LIFO batch:3\n", None),
    ],
)
def test_sizes_of_zones(text, sizes):
    assert read_facts({"dmesg": text}).get("zone_pages") == sizes


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        (
            "Memory: 1934044k/1934044k available, 163108k reserved, 1318912K highmem",
            "ram_bytes",
            None,
        ),
        ("Memory: 512MB 512MB = 1024MB total", "ram_bytes", 1 << 30),
        (
            "Memory: 752320K/1048024K available (1K kernel code, 0K highmem)",
            "ram_bytes",
            1048024 << 10,
        ),
        ("Memory: 752320K/1048024K available (1K code, 16384K highmem)", "highmem_bytes", 16 << 20),
        ("cma: CMA: reserved 16 MiB at 2f000000", "cma_total", 16 << 20),
        (
            "Reserved memory: created CMA memory pool at 0x3c000000, size 64 MiB",
            "cma_total",
            64 << 20,
        ),
        ("Brought up 2 CPUs", "cpus_booted", 2),
        ("Brought up 1 nodes, 4 CPUs", "cpus_booted", 4),
        ("SMP: Total of 4 processors activated (96.00 BogoMIPS).", "cpus_booted", 4),
        (
            "SLUB: Genslabs=11, HWalign=64, Order=0-3, MinObjects=0, CPUs=2, Nodes=1",
            "nr_cpu_ids",
            2,
        ),
        ("Machine: sun7i", "board", "sun7i"),
        ("MIPS: machine is Zbtlink ZBT-WG3526 (32M)", "board", "Zbtlink ZBT-WG3526 (32M)"),
        ("Use a HIGHMEM enabled kernel.", "highmem_enabled", False),
        ("Use a HIGHMEM64G enabled kernel.", "pae", False),
        (
            "OF: reserved mem: 0x8f000000..0x8fffffff (16384 KiB) nomap non-reusable optee",
            "no_map",
            ((0x8F000000, 0x90000000),),
        ),
        (
            "OF: reserved mem: 0x8f000000..0x8fffffff (16384 KiB) map reusable linux,cma",
            "no_map",
            None,
        ),
    ],
)
def test_one_line(line, name, value):
    facts = read_facts({"dmesg": f"[    0.000000] {line}\n".encode()})
    assert facts.get(name) == value


@pytest.mark.parametrize("form", FORMS)
def test_time_since_boot(form):
    """Of the forms that have it; the rest tell no time."""
    has_time = "[    0.000000" in FORMS[form] or form == "collapsed blanks"
    text = f"{FORMS[form]}CPU1: shutdown\r\n".replace(" 0.000000", " 7.000001")
    expected = [(7_000_001_000, "CPU1: shutdown")] if has_time else []
    assert list(since_boot(text)) == expected
    assert read_facts({"dmesg.end": text.encode()}).get("cpu_changes", ()) == tuple(
        (ns, 1, False) for ns, _ in expected
    )


JSON_FORMS = {
    "journalctl -o json": lambda m: json.dumps({"PRIORITY": "6", "MESSAGE": m, "_PID": "0"}),
    "its message first": lambda m: json.dumps({"MESSAGE": m, "_TRANSPORT": "kernel"}),
    "-o json-pretty": lambda m: json.dumps({"_TRANSPORT": "kernel", "MESSAGE": m}, indent=8),
    "dmesg -J": lambda m: f'      {{\n  "pri": 6,\n  "time": 0.1,\n  "msg": {json.dumps(m)}\n  }},',
}


@pytest.mark.parametrize("form", JSON_FORMS)
def test_messages_in_json(form):
    text = "\n".join(JSON_FORMS[form](message) for message in LOG.splitlines())
    facts = read_facts({"dmesg": text.encode()})
    assert vars(facts.snapshot()) == vars(read_facts({"dmesg": LOG.encode()}).snapshot())
    assert facts.get("release") == "6.1.0-50-686"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_log_that_a_windows_shell_wrote(encoding):
    facts = read_facts({"dmesg": LOG.replace("\n", "\r\n").encode(encoding)})
    assert vars(facts.snapshot()) == vars(read_facts({"dmesg": LOG.encode()}).snapshot())


def test_a_form_that_is_not_known_is_said():
    text = "\n".join(f"#~{n}~ {line}" for n, line in enumerate(LOG.splitlines()))
    facts = read_facts({"dmesg": text.encode()})
    assert "release" not in facts
    assert any("line 1: what stands before 'Linux version'" in note for note in facts.notes)
    assert not read_facts({"dmesg": LOG.encode()}).notes


def test_changes_of_the_last_boot_count():
    log = b"".join(
        b"[    0.000000] Linux version 6.1.0 (x) #1 SMP\n[    %d.000000] CPU1: shutdown\n" % n
        for n in (5, 4)
    )
    assert read_facts({"dmesg.end": log}).get("cpu_changes") == ((4_000_000_000, 1, False),)


def test_the_last_of_several_boots_counts():
    first = "Nov  1 00:00:00 pc kernel: Linux version 3.0.1 (a) #1\nNov  1 00:00:00 pc kernel: x\n"
    last = "Nov  2 00:00:00 pc kernel: Linux version 3.2.0 (a) #1 SMP\n"
    facts = read_facts({"dmesg": (first * 3 + last).encode()})
    assert (facts.get("release"), facts.get("smp")) == ("3.2.0", True)
    assert facts["release"].source == "dmesg, line 7"
    assert facts.notes == ("dmesg: holds 4 boots; the last one is read",)


@pytest.mark.parametrize(
    ("line", "arch"),
    [
        ("CPU: ARMv7 Processor [410fc075] revision 5 (ARMv7), cr=30c5387d", "arm"),
        ("CPU: ARM926EJ-S [41069265] revision 5 (ARMv5TEJ), cr=00093177", "arm"),
        ("Booting Linux on physical CPU 0xf00", "arm"),
        ("Booting Linux on physical CPU 0x0000000000 [0x410fd034]", "arm64"),
        ("Boot CPU: AArch64 Processor [410fd034]", "arm64"),
        ("CPU0 revision is: 0001992f (MIPS 1004Kc)", "mips32"),
        ("CPU revision is: 0002a080 (Broadcom4350)", "mips32"),
        ("PROMLIB: Sun Boot Prom Version 0 Revision 0", "sparc32"),
        ("PROMLIB: Sun IEEE Boot Prom 'OBP 4.38.16'", "sparc64"),
        ("Using PowerMac machine description", "powerpc32"),
        ("ppc64_pft_size                = 0x1a", "powerpc64"),
        ("setup_memory: max_mapnr: 0x40000", "microblaze"),
        ("BIOS-e820: 0000000000000000 - 000000000009f800 (usable)", "i386"),
        ("Command line: BOOT_IMAGE=/vmlinuz ro", "x86_64"),
        ("Linux version 6.1 (x) (mipsel-openwrt-linux-musl-gcc 12) #1", "mips32"),
        ("Linux version 6.1 (x) (arm-linux-gnueabihf-gcc (GCC) 12) #1", "arm"),
        ("Linux version 6.1 (x) (gcc (Debian 12) 12) #1 SMP", None),
    ],
)
def test_architecture(line, arch):
    assert read_facts({"dmesg": f"[ 0.0] {line}\n".encode()}).get("arch") == arch


def test_a_zone_of_64_bit_kernels():
    text = b"e820: BIOS-provided physical RAM map:\n DMA32    [mem 0x1000000-0xffffffff]\n"
    assert read_facts({"dmesg": text}).get("arch") == "x86_64"


def test_boards_of_others():
    pc = read_folder(CASES / "dmesg-zone-pfn-ranges")
    assert pc.get("ram") == ((0x10000, 0x9F000), (0x100000, 0x7FFC0000))
    assert pc.get("zone_ranges")[-1] == ("HighMem", 0x2EFFE, 0x7FFC0)
    sun7i = read_folder(CASES / "dmesg-level-prefix")
    assert (sun7i.get("release"), sun7i.get("cpus_booted")) == ("3.4.103+", 2)
    assert sun7i.get("cmdline").startswith("console=ttyS0,115200")
    assert sun7i.get("ram_bytes") == 2 << 30
    assert dict(sun7i.get("zone_pages")) == {"DMA": 65536, "Normal": 129024, "HighMem": 329728}
    assert read_folder(CASES / "arch-dmesg-mips").get("arch") == "mips32"
    assert read_folder(CASES / "arch-dmesg-sparc").get("arch") == "sparc32"


@pytest.mark.parametrize(
    "name",
    ["dmesg.txt", "dmesg.log", "dmesg-5.4.txt.gz", "kern.log", "boot.log", "bootlog", "kmsg"],
)
def test_names_of_boot_logs(name):
    assert kind_of(name) == "dmesg"
    text = b"Linux version 5.4.1 (x) #1\n"
    content = gzip.compress(text) if name.endswith(".gz") else text
    assert read_facts({name: content}).get("release") == "5.4.1"
    own = {name: content, "dmesg": b"Linux version 6.1.0 (x) #1\n"}
    if name != "dmesg.txt":
        assert read_facts(own).get("release") == "6.1.0"


@pytest.mark.parametrize("name", ["messages", "boot", "x.log", "dmesg.c", "journal.log"])
def test_other_names(name):
    assert kind_of(name) is None


def test_a_file_that_is_not_understood_is_named(tmp_path):
    (tmp_path / "trace").write_text(
        "# tracer: nop\n#\n"
        "  bash-7  [000] .....  1.000100: kunmap_high: (kunmap_high+0x0/0x90) page=0xf6000000\n"
    )
    (tmp_path / "zoneinfo").write_text("Node 0, zoo\n")
    (tmp_path / "dmesg").write_text("nothing of the kind\n")
    result = CliRunner().invoke(app, ["info", str(tmp_path)])
    assert "zoneinfo: holds no populated zone with a start_pfn" in " ".join(result.stdout.split())
    assert "dmesg: has no line of the kernel's boot" in " ".join(result.stdout.split())
