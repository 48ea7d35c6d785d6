"""Facts of whole machines (fixtures/machines), and how files are put together."""

import gzip
import lzma
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
import zstandard

from collectors.facts import Fact, Facts, kind_of, read_facts, read_folder
from collectors.snapshot import FactName, Snapshot

MACHINES = Path(__file__).parents[2] / "fixtures" / "machines"


def test_i386_without_pae():
    facts = read_folder(MACHINES / "i386-61-686")
    known = {
        "release": "6.1.0-50-686",
        "arch": "i386",
        "pae": False,
        "split": "3g",
        "page_offset": 0xC0000000,
        "nr_cpus": 32,
        "cpus": 2,
        "cpus_booted": 2,
        "page_struct": 40,
        "ram": ((0x1000, 0x9FC00), (0x100000, 0x3FFD4000)),
        "pci_hole": 0x40000000,
        "lowmem_end_pfn": 0x36BFE,
        "max_pfn": 0x3FFD4,
        "vmalloc_start": 0xF73FE000,
        "vmalloc_end": 0xFEBFE000,
        "vmalloc_total": 120 << 20,
        "high_memory": 0xF6BFE000,
        "pkmap_slots": 1024,
        "pool_state": (0, ()),
        "highmem_mib": 147,
        "lowmem_mib": 875,
        "nokaslr": True,
        "overrun": {0: 0, 1: 0},
        "mem_map": 0xF5D30000,
    }
    assert {name: facts.get(name) for name in known} == known
    assert facts.contradictions == ()
    assert facts.notes == ()
    assert "vmalloc" not in facts
    assert facts["lowmem_end_pfn"].source.startswith("zoneinfo, line ")
    assert facts["split"].detail == "CONFIG_VMSPLIT_3G=y"
    assert [tuple(z)[:3] for z in facts.get("zones")] == [
        ("DMA", 1, 4095),
        ("Normal", 4096, 0x36BFE - 4096),
        ("HighMem", 0x36BFE, 0x3FFD4 - 0x36BFE),
    ]


def test_arm_lpae():
    facts = read_folder(MACHINES / "arm-612-lpae-4g")
    known = {
        "arch": "arm",
        "pae": True,
        "page_struct": 36,
        "nr_cpus": 8,
        "cpus": 4,
        "ram": ((0x40000000, 0x140000000),),
        "phys_pfn_offset": 0x40000,
        "lowmem_end_pfn": 0x70000,
        "max_pfn": 0x140000,
        "arm_cpu": (0x41, 0xC0F, 4, 0),
        "board": "linux,dummy-virt",
        "cma_total": 16 << 20,
    }
    assert {name: facts.get(name) for name in known} == known
    assert facts.contradictions == ()
    kinds = [area.kind for area in facts.get("areas")]
    assert kinds.count("unpurged") == 38
    assert facts.get("areas")[0][:2] == (0xBF000000, 0xBF002000)


def test_pool_of_5_10_after_boot():
    last, slots = read_folder(MACHINES / "i386-510-pae").get("pool_state")
    assert last == 43
    assert [slot for slot, _, _ in slots] == list(range(35, 44))
    assert slots[0] == (35, 1, 0x3F3DF)


def test_command_line_moves_the_border():
    facts = read_folder(MACHINES / "i386-61-pae-vmalloc256")
    assert facts.get("vmalloc") == 256 << 20
    assert facts["vmalloc"].detail == "vmalloc=256M"


def test_without_the_configuration():
    folder = MACHINES / "i386-61-pae-vmalloc256"
    files = {p.name: p for p in folder.iterdir() if p.name != "config"}
    facts = read_facts(files)
    assert facts.get("pae") is True
    assert "max_arch_pfn" in facts["pae"].detail
    assert facts.get("nr_cpus") == 32
    assert facts["nr_cpus"].source.startswith("dmesg.gz, line ")
    assert facts.get("arch") == "i386"
    assert facts["arch"].source.startswith("dmesg.gz, line ")


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, zstandard.compress])
def test_compressed_files(pack):
    text = b"console=ttyS0 vmalloc=192M\n"
    assert read_facts({"cmdline": pack(text)}).get("vmalloc") == 192 << 20


@pytest.mark.parametrize("name", ["pkmap.end", "truth.txt.gz", "meminfo.end.gz", "trace.dat", "x"])
def test_files_that_are_never_read(name):
    assert kind_of(name) is None


def test_start_of_the_arena_is_preferred():
    line = b"0xf7800000-0xf7803000   12288 a+0x1/0x2 pages=2 vmalloc\n"
    facts = read_facts({"vmallocinfo.start": line, "vmallocinfo": line + line})
    assert len(facts.get("areas")) == 1


def test_contradictions_between_files():
    facts = read_facts(
        {
            "config": b"CONFIG_ARM=y\nCONFIG_HIGHMEM=y\nCONFIG_NR_CPUS=1\nCONFIG_SMP=y\n",
            "cpuinfo": b"processor\t: 0\nvendor_id\t: A\nflags\t\t: fpu\n\nprocessor\t: 1\n",
            "cmdline": b"reservetop=64M vmalloc=128M",
            "dmesg": b"[    0.000000] Linux version 6.1.0\n"
            b"[    0.000000] Kernel command line: vmalloc=256M\n",
            "version": b"Linux version 6.5.0 (x) #1 SMP\n",
        }
    )
    text = "\n".join(facts.contradictions)
    assert "vmalloc: cmdline, line 1 says 0x8000000, dmesg" in text
    assert "release: version, line 1 says 6.5.0, dmesg, line 1 says 6.1.0" in text
    assert "shows 2 CPUs" in text
    assert "are the files of one machine?" in text
    assert "reservetop=" in text
    assert facts.get("vmalloc") == 128 << 20


def test_zones_against_the_boot_log():
    folder = MACHINES / "i386-61-686"
    files = {p.name: p for p in folder.iterdir()}
    files["zoneinfo"] = MACHINES / "i386-61-pae-vmalloc256" / "zoneinfo"
    facts = read_facts(files)
    assert facts.get("lowmem_end_pfn") == 0x2E7FE
    assert any(text.startswith("lowmem_end_pfn: zoneinfo") for text in facts.contradictions)


def test_facts_from_elsewhere():
    facts = read_facts({"version": b"Linux version 6.1.0 (x) #1 SMP\n"})
    more = facts.with_facts(
        {"release": Fact("6.5.0", "trace header"), "cpus": Fact(4, "trace header")}
    )
    assert more.snapshot() == Snapshot(release="6.1.0", smp=True, cpus=4)
    assert "trace header says 6.5.0" in more.contradictions[0]
    assert facts.snapshot() == Snapshot(release="6.1.0", smp=True)


def test_nothing_at_all(tmp_path):
    assert len(read_folder(tmp_path)) == 0
    assert "cannot be listed" in read_folder(tmp_path / "none").notes[0]
    assert Facts().get("arch", "?") == "?"


def test_every_fact_can_be_written_down_by_its_name():
    assert get_args(FactName) == tuple(field.name for field in fields(Snapshot))
