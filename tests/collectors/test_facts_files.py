"""Each kind of file: variants, damage, hidden addresses."""

import gzip
import json
import random
from pathlib import Path

import pytest

from collectors import open_capture
from collectors.capture import Capture, LostInterval
from collectors.facts import PARSERS, read_facts
from collectors.facts.iomem import merge
from collectors.facts.numbers import memparse
from collectors.facts.reading import read_bytes

MACHINES = Path(__file__).parents[2] / "fixtures" / "machines"


@pytest.mark.parametrize(
    ("text", "value"),
    [("256M", 256 << 20), ("1g", 1 << 30), ("0x1000", 4096), ("010", 8), ("64k,x", 65536)],
)
def test_memparse(text, value):
    assert memparse(text) == value


@pytest.mark.parametrize("text", ["", "M", "nopentium", "9" * 30])
def test_no_size(text):
    assert memparse(text) is None


def test_last_parameter_counts_and_init_has_its_own():
    facts = read_facts({"cmdline": b"vmalloc=64M vmalloc=128M mem=1G -- vmalloc=1M\n"})
    assert (facts.get("vmalloc"), facts.get("mem_opt")) == (128 << 20, 1 << 30)


def test_size_at_an_address_is_noted():
    facts = read_facts({"cmdline": b"mem=64M@0x80000000 highmem=big"})
    assert len(facts.notes) == 2
    assert "mem_opt" not in facts


def test_unprivileged_iomem_is_not_believed():
    text = b"00000000-00000000 : Reserved\n00000000-00000000 : System RAM\n"
    facts = read_facts({"iomem": text})
    assert "ram" not in facts
    assert "CAP_SYS_ADMIN" in facts.notes[0]


def test_boot_alias_is_no_ram():
    text = b"40000000-7fffffff : System RAM\n4000000000-403fffffff : System RAM (boot alias)\n"
    assert read_facts({"iomem": text}).get("ram") == ((0x40000000, 0x80000000),)


def test_merge_overlaps():
    assert merge([(0, 10), (5, 7), (10, 12), (20, 21)]) == ((0, 12), (20, 21))


@pytest.mark.parametrize(
    "text",
    [
        b"0x9a3e1f20-0x1177cc02   12288 load_module+0x1/0x2 pages=2 vmalloc\n",
        b"0x(ptrval)-0x(ptrval)   12288 load_module+0x1/0x2 pages=2 vmalloc\n",
        b"0x00000000-0x00000000   12288 load_module+0x1/0x2 pages=2 vmalloc\n",
    ],
)
def test_hidden_areas(text):
    facts = read_facts({"vmallocinfo.start": text})
    assert "areas" not in facts
    assert "kptr_restrict" in facts.notes[0]


def test_kinds_of_areas():
    text = (
        b"0xf7800000-0xf7803000   12288 a+0x1/0x9 pages=2 vmalloc\n"
        b"0xf7803000-0xf7805000    8192 a+0x1/0x9 phys=0x00000000fed00000 ioremap\n"
        b"0xf7805000-0xf7815000   65536 vm_map_ram\n"
        b"0xf7815000-0xf7817000    8192 unpurged vm_area\n"
    )
    areas = read_facts({"vmallocinfo": text}).get("areas")
    assert [(a.kind, a.caller, a.pages, a.phys) for a in areas] == [
        ("vmalloc", "a+0x1/0x9", 2, None),
        ("ioremap", "a+0x1/0x9", None, 0xFED00000),
        ("vm_map_ram", "", None, None),
        ("unpurged", "", None, None),
    ]


def test_empty_highmem_zone_says_nothing_about_the_border():
    text = (
        b"Node 0, zone   Normal\n        spanned  131072\n        present  131072\n"
        b"        managed  130000\n  start_pfn:           262144\n"
        b"Node 0, zone  HighMem\n        spanned  0\n        present  0\n  start_pfn:  0\n"
    )
    facts = read_facts({"zoneinfo": text})
    assert facts.get("lowmem_end_pfn") == 262144 + 131072
    assert [zone.name for zone in facts.get("zones")] == ["Normal"]


def test_old_boot_log_with_the_layout_block():
    text = b"""[    0.000000] Virtual kernel memory layout:
[    0.000000]     vector  : 0xffff0000 - 0xffff1000   (   4 kB)
[    0.000000]     vmalloc : 0xf0800000 - 0xff800000   ( 240 MB)
[    0.000000]     lowmem  : 0xc0000000 - 0xf0000000   ( 768 MB)
[    0.000000]     pkmap   : 0xbfe00000 - 0xc0000000   (   2 MB)
[    0.000000]       .text : 0xc0008000 - 0xc0800000   (8160 kB)
"""
    facts = read_facts({"dmesg": text})
    assert facts.get("layout_block")["pkmap"] == (0xBFE00000, 0xC0000000)
    assert facts.get("vmalloc_start") == 0xF0800000


def test_stamps_with_callers_and_levels():
    text = b"<6>[    0.000000][    T0] Linux version 5.4.1 (a@b)\n[  3.1][ C1] x\n"
    facts = read_facts({"dmesg": text})
    assert facts.get("release") == "5.4.1"


def test_failures_in_the_log():
    text = (
        b"[    0.000000] Linux version 6.1.0 (a@b)\n"
        b"[    9.000000] vmap allocation for size 4198400 failed: use vmalloc=<size> to inc\n"
    )
    assert read_facts({"dmesg": text}).get("vmap_failures") == 1


def test_uname_instead_of_version():
    text = b"Linux board 5.10.0-32-armmp #1 SMP Debian armv7l GNU/Linux\n"
    facts = read_facts({"uname": text})
    assert (facts.get("release"), facts.get("arch")) == ("5.10.0-32-armmp", "arm")


def test_page_struct_sizes():
    def size(*options):
        text = "".join(f"CONFIG_{option}=y\n" for option in options)
        return read_facts({"config": text.encode()}).get("page_struct")

    assert size("X86_32", "SLUB", "MEMCG") == 40
    assert size("X86_32", "SLUB") == 32
    assert size("ARM", "SLUB", "MEMCG") == 36
    assert size("ARM") == 32


def test_up_kernel_has_one_cpu():
    assert read_facts({"config": b"CONFIG_ARM=y\n"}).get("nr_cpus") == 1


def test_64_bit_kernel_is_named():
    facts = read_facts({"config": b"CONFIG_X86_64=y\nCONFIG_SMP=y\nCONFIG_NR_CPUS=64\n"})
    assert facts.get("arch") == "x86_64"
    assert "page_struct" not in facts


def test_probes_and_misses():
    facts = read_facts(
        {
            "kprobe_events": b"p:hm/kmap_high kmap_high page=%ax:x32\n"
            b"r256:hm/kmap_high_ret kmap_high vaddr=$retval:x32\nnonsense\n",
            "kprobe_profile": b"  kmap_high    24271    0\n  vfree   271   15\n",
        }
    )
    first, second = facts.get("probes")
    assert (first.event, first.symbol, first.arguments) == (
        "kmap_high",
        "kmap_high",
        ("page=%ax:x32",),
    )
    assert (second.is_return, second.maxactive, second.group) == (True, 256, "hm")
    assert facts.get("probe_misses") == {"vfree": 15}
    assert facts.get("probe_hits")["kmap_high"] == 24271


def test_buffer_losses():
    text = (
        b"== cpu0\nentries: 5\noverrun: 7\ncommit overrun: 1\ndropped events: 2\n"
        b"== per_cpu/cpu1\nentries: 6\noverrun: 0\n"
    )
    facts = read_facts({"stats": text, "trace_clock": b"local [global] mono\n"})
    assert facts.get("overrun") == {0: 7, 1: 0}
    assert facts.get("dropped") == {0: 3}
    assert facts.get("buffer_entries") == {0: 5, 1: 6}
    assert facts.get("clock") == "global"


def test_losses_that_only_the_statistics_tell(tmp_path):
    lines = [
        f"  bash-7  [000] .....  1.00010{n}: kunmap_high: (kunmap_high+0x0/0x1) page=0x1\n"
        for n in range(5)
    ]
    (tmp_path / "trace").write_text("# tracer: nop\n#\n" + "".join(lines))

    def told(entries: int, overrun: int, dropped: int) -> Capture:
        text = f"entries: {entries}\noverrun: {overrun}\ndropped events: {dropped}\n"
        (tmp_path / "stats").write_text("== cpu0\n" + text)
        capture = open_capture(tmp_path)
        times = capture.events.collect()["ts"].to_list()
        assert (min(times), max(times)) == (1_000_100_000, 1_000_104_000)
        return capture

    for entries in (5, 99):
        fine = told(entries, 0, 0)
        assert fine.lost.intervals == ()
        assert not any("stats" in note for note in fine.notes)
    why = "(the kernel's statistics)"
    front = LostInterval(0, 7, 0, None, 1_000_100_000, f"ring buffer overwritten {why}")
    tail = LostInterval(0, 9, 5, 1_000_104_000, None, f"buffer full {why}")
    assert told(5, 7, 9).lost.intervals == (front, tail)
    assert told(5, 0, 9).lost.intervals == (tail,)
    other = told(6, 7, 9)
    assert other.lost.intervals == ()
    (note,) = (note for note in other.notes if "stats" in note)
    assert "stats counts 6 events in the buffers, the trace has 5: it is of another run" in note


def test_clock_from_the_settings():
    text = b"== current_tracer\nnop\n== trace_clock\nlocal global [counter]\n== x\n[y]\n"
    assert read_facts({"trace_settings": text}).get("clock") == "counter"


def test_state_of_the_arena():
    leaf = [1, 0x1000, 0, None, None]
    state = {
        "free": [0x2000, 0x3000, 0, leaf, None],
        "busy": None,
        "lazy": None,
        "lazy_nr": 4,
        "last": 2,
        "count": [0, 0, 2],
        "pages": [0, 0, 0xF5000000],
    }
    facts = read_facts({"state.json": json.dumps(state).encode()})
    assert facts.get("arena_state")["free"][3] == leaf
    assert facts.get("arena_state")["lazy_nr"] == 4
    assert facts.get("pool_state") == (2, ((2, 2, None),))
    assert facts.get("pool_pages") == {2: 0xF5000000}


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"[1]",
        b'{"free": [1, 2, 3]}',
        b'{"free": [1, 2, 0, [1], null], "busy": null, "lazy": null}',
        b'{"free": [-1, 2, 0, null, null]}',
        b"[" * 100_000,
    ],
)
def test_damaged_state(text):
    facts = read_facts({"state.json": text})
    assert "arena_state" not in facts
    assert len(facts.notes) == 1


@pytest.mark.parametrize("kind", sorted(PARSERS))
def test_damaged_files_leave_a_note(kind):
    """Cut off, shuffled and binary content: never an exception."""
    random.seed(kind)
    samples = [b"", b"\0" * 1000, bytes(random.randbytes(5000)), b"\x1f\x8b\x08", b"\n" * 500]
    original = next(
        (p for p in sorted(MACHINES.glob(f"*/{kind}*"))), MACHINES / "i386-61-686" / "iomem"
    )
    data, _ = read_bytes(original)
    samples += [data[: len(data) // 3], data.replace(b"0", b"\xff"), data[::-1]]
    samples += [b" " * 100_000, data.replace(b" ", b"9" * 40)]
    lines = data.split(b"\n")
    random.shuffle(lines)
    samples.append(b"\n".join(lines))
    for sample in samples:
        facts = read_facts({kind: sample})
        assert len(facts) or facts.notes


def test_truncated_compression():
    packed = gzip.compress(b"x" * 100_000)
    assert read_bytes(packed[:-20])[1] == "truncated gzip data"
    assert read_bytes(b"\x1f\x8b\x08\xff\xff\xff\xff\xff\xff\xff\xff")[1] is not None
    assert read_bytes(b"\xfd7zXZ\x00" + b"junk" * 9)[1] == "damaged xz data"
    assert read_bytes(b"\x28\xb5\x2f\xfdjunkjunk")[1] == "damaged zstd data"
    assert read_bytes(gzip.compress(b"a") + gzip.compress(b"b"))[0] == b"ab"


def test_a_bomb_is_cut_off():
    data, trouble = read_bytes(gzip.compress(b"\0" * (8 << 20)), limit=1 << 20)
    assert len(data) == 1 << 20
    assert "larger than 1 MiB" in trouble


def test_unreadable_file(tmp_path):
    facts = read_facts({"iomem": tmp_path / "missing"})
    assert "cannot be read" in facts.notes[0]
