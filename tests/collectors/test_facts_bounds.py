"""Machine files of any size and numbers of any length: remarks, quickly, and nothing believed."""

from __future__ import annotations

import gzip
import time
from dataclasses import fields
from functools import cache

import pytest

from collectors.facts import PARSERS, Fact, Facts, read_facts
from collectors.facts.numbers import decimal, memparse, whole
from collectors.facts.ranges import ENTRIES, RANGES, beyond
from collectors.facts.reading import MOST_LINES, WIDEST
from collectors.snapshot import Snapshot

HUGE = "9" * 6000
HEX = "0x" + "f" * 6000


def ran(files: dict[str, bytes]) -> float:
    """Seconds of the processor that reading takes."""
    started = time.process_time()
    read_facts(files)
    return time.process_time() - started


@pytest.mark.parametrize("name", PARSERS)
def test_a_line_of_one_character(name: str) -> None:
    for char in (b" ", b"0", b"a", b"\t", b"["):
        assert ran({name: b"a" + char * (4 << 20) + b"!"}) < 5, char


@cache
def ends_of_lines() -> bytes:
    """60 million of them, packed."""
    return gzip.compress(b"\n" * 60_000_000, 1)


@pytest.mark.parametrize("name", PARSERS)
def test_nothing_but_ends_of_lines(name: str) -> None:
    assert ran({f"{name}.gz": ends_of_lines()}) < 10


def test_a_million_ranges_of_memory() -> None:
    lines = b"".join(b"%08x-%08x : System RAM\n" % (n << 12, (n << 12) + 9) for n in range(1 << 20))
    facts = read_facts({"iomem": lines})
    assert "ram" not in facts
    assert any("entries are more than 1024" in note for note in facts.notes)
    assert any(f"more than {MOST_LINES} lines" in note for note in facts.notes)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cpuinfo", "processor : 0\nCPU implementer : {}\nCPU part : {}\nCPU variant : {}\n"
                    "CPU revision : {}\n"),
        ("cpuinfo", "CPU count : {}\nprocessor [{}] : x\nncpus active : {}\nprocessor : {}\n"),
        ("cmdline", "vmalloc={} highmem={}M mem={} maxcpus={} nr_cpus={} reservetop={}G"),
        ("config", "CONFIG_X86_32=y\nCONFIG_PAGE_OFFSET={}\nCONFIG_NR_CPUS={}\nCONFIG_SMP=y\n"
                   "CONFIG_LOWMEM_SIZE={}\n"),
        ("vmallocinfo.start", "0xf0000000-0xf0002000    8192 f pages={} phys={} vmalloc\n"),
        ("meminfo", "MemTotal: {} kB\nVmallocTotal:   {} kB\n"),
        ("zoneinfo", "Node {}, zone Normal\n  pages free {}\n  spanned {}\n  start_pfn: {}\n"),
        ("stats", "CPU: {}\nentries: {}\noverrun: {}\n"),
        ("kprobe_profile", "  a {} {}\n"),
        ("kprobe_events", "r{}:a/b kmap_high\n"),
        ("pkmap.start", "last_pkmap_nr {} npk {}\nslot {} count {} pte {} pfn {}\n"),
        ("state.json", '{{"last": {}, "count": [{}], "pages": {{"{}": {}}}}}'),
        ("dmesg", "[    0.0] NR_CPUS:{} nr_cpu_ids:{}\n{}MB HIGHMEM available\n"
                  "  low ram: 0 - {}\n[    0.0] Kernel command line: vmalloc={}\n"),
        ("iomem", "{}-{} : System RAM\n"),
        ("version", "Linux version {} (x) SMP\n"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("number", [HUGE, HEX, "²", "١٢", "9" * 19, "0x" + "f" * 15, "-1", ""])
def test_numbers_that_are_none(name: str, text: str, number: str) -> None:
    facts = read_facts({name: text.replace("{}", number).encode()})
    for fact, value in facts.items():
        assert beyond(fact, value.value) == ""
    repr(facts)  # a number of thousands of digits would raise here


def test_what_is_out_of_range_is_said() -> None:
    facts = read_facts({"config": b"CONFIG_X86_32=y\nCONFIG_SMP=y\nCONFIG_NR_CPUS=900000\n"})
    assert "nr_cpus" not in facts
    assert facts.notes == (
        "config: line 3: nr_cpus is not understood and ignored: 900000 is not between 1 and 8192",
    )


def test_facts_from_elsewhere_have_ranges_too() -> None:
    more = {"cpus": Fact(0, "header"), "mem_total": Fact(1 << 30, "header")}
    facts = Facts().with_facts(more)
    assert list(facts) == ["mem_total"]
    assert facts.notes == (
        "header: cpus is not understood and ignored: 0 is not between 1 and 8192",
    )


def test_long_lines_are_cut_and_said() -> None:
    facts = read_facts({"cmdline": b"quiet " * 10_000})
    assert len(facts["cmdline"].value) <= WIDEST
    assert "longer than 4096 characters" in facts.notes[0]


def test_notes_are_bounded() -> None:
    facts = read_facts({"cmdline": b" ".join(b"mem=%dx@" % n for n in range(500))})
    assert len(facts.notes) == 21


def test_every_number_of_a_machine_has_a_range() -> None:
    whole_numbers = {
        field.name
        for field in fields(Snapshot)
        if field.type == "int | None" and not field.name.startswith("seen_")  # the trace's own
    }
    assert whole_numbers == set(RANGES)
    assert set(ENTRIES) <= {field.name for field in fields(Snapshot)}


def test_numbers() -> None:
    assert decimal("0012") == 12
    assert whole("-0x10") == -16
    assert whole("0X1f") == 31
    assert whole("017") == 17  # Kconfig writes decimal and 0x only
    assert memparse("0x40000000") == 1 << 30
    assert memparse("²") is None
    assert memparse("9" * 33) is None
