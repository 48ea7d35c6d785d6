"""Kernel symbols from kallsyms text and from ELF files."""

import gzip
import struct
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from collectors import open_capture
from collectors.dwarf.elf import ElfFile
from collectors.errors import HmtraceError
from collectors.symbols.table import Symbols

FIXTURES = Path(__file__).parents[2] / "fixtures"

TEXT = b"""c1000000 T startup_32
c1000000 T _text
c1000070 T start_cpu0
c1000100 d some_data
c126f820 T kmap_high
c126f9a0 t flush_all_zero_pkmaps.part.0
broken line
f7818fd0 t vring_del_virtqueue\t[virtio_ring]
f7818010 t __virtqueue_break\t[virtio_ring]
"""


def test_lookup():
    symbols = Symbols.from_kallsyms(TEXT)
    assert len(symbols) == 7
    assert symbols.lookup(0xC126F832) == "kmap_high+0x12"
    assert symbols.lookup(0xC126F820) == "kmap_high+0x0"
    assert symbols.lookup(0xC1000004) == "startup_32+0x4"  # the first of two names
    assert symbols.lookup(0xC1000104) == "start_cpu0+0x94"  # data is no code
    assert symbols.lookup(0xF7818020) == "__virtqueue_break+0x10 [virtio_ring]"
    assert symbols.lookup(0xF7818FD4) == "vring_del_virtqueue+0x4 [virtio_ring]"


def test_addresses_far_from_any_symbol():
    symbols = Symbols.from_kallsyms(TEXT)
    assert symbols.lookup(0) == ""
    assert symbols.lookup(0xBFFFFFFF) == ""
    assert symbols.lookup(0xD0000000) == ""
    assert symbols.lookup(0xFFFFFFFFFFFFFFFF) == ""


def test_lookup_many_keeps_the_order():
    symbols = Symbols.from_kallsyms(gzip.compress(TEXT))
    wanted = np.array([0xC126F821, 0, 0xC1000071, 0xC126F821], np.uint64)
    assert symbols.lookup_many(wanted) == ["kmap_high+0x1", "", "start_cpu0+0x1", "kmap_high+0x1"]
    assert symbols.lookup_many(np.zeros(0, np.uint64)) == []


def test_address_of():
    symbols = Symbols.from_kallsyms(TEXT)
    assert symbols.address_of("kmap_high") == 0xC126F820
    assert symbols.address_of("_text") == 0xC1000000
    assert symbols.address_of("__virtqueue_break") == 0xF7818010
    assert symbols.address_of("flush_all_zero_pkmaps.part.0") == 0xC126F9A0
    assert symbols.address_of("text") is None
    assert symbols.address_of("kmap") is None


def test_64_bit_addresses():
    symbols = Symbols.from_kallsyms(b"ffffffff81000000 T _text\nffffffff81000010 t foo\t[mod]\n")
    assert symbols.lookup(0xFFFFFFFF81000012) == "foo+0x2 [mod]"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"no symbols here\nat all, in fact none\n",
        b"\xff" * 1000,
        b"00000000 T a\n00000000 t b\n",
        b"c1000000 d only_data\n",
        b"\x1f\x8b\x08broken",
    ],
)
def test_no_symbols(content):
    symbols = Symbols.from_kallsyms(content)
    assert len(symbols) == 0
    assert symbols.lookup(0xC1000000) == ""
    assert symbols.address_of("a") is None


def elf32(symbols):
    """Smallest ELF32 file with a symbol table."""
    names = b"\0"
    table = bytes(16)
    for name, value, info in symbols:
        table += struct.pack("<IIIBBH", len(names), value, 0, info, 0, 1)
        names += name.encode() + b"\0"
    section_names = b"\0.symtab\0.strtab\0.shstrtab\0"
    at = 52
    body = b""
    headers = [bytes(40)]
    for name, kind, data, link, size in (
        (1, 2, table, 2, 16),
        (9, 3, names, 0, 0),
        (17, 3, section_names, 0, 0),
    ):
        headers.append(
            struct.pack("<10I", name, kind, 0, 0, at + len(body), len(data), link, 0, 4, size)
        )
        body += data
    ident = b"\x7fELF\x01\x01\x01" + bytes(9)
    header = ident + struct.pack(
        "<HHIIIIIHHHHHH", 2, 3, 1, 0, 0, at + len(body), 0, 52, 0, 0, 40, len(headers), 3
    )
    return header + body + b"".join(headers)


def test_vmlinux(tmp_path):
    path = tmp_path / "vmlinux"
    path.write_bytes(
        elf32([("kmap_high", 0xC126F820, 0x12), ("$d", 0xC126F830, 0), ("var", 0xC1F00000, 0x11)])
    )
    symbols = Symbols.from_elf(ElfFile(path))
    assert len(symbols) == 1
    assert symbols.lookup(0xC126F838) == "kmap_high+0x18"
    assert symbols.address_of("kmap_high") == 0xC126F820
    moved = Symbols.from_elf(ElfFile(path), slide=0x1000000)
    assert moved.lookup(0xC226F838) == "kmap_high+0x18"


def test_damaged_vmlinux(tmp_path):
    path = tmp_path / "vmlinux"
    whole = elf32([("kmap_high", 0xC126F820, 0x12)])
    for content in (b"", b"text", whole[:40], whole[:60], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(HmtraceError) as caught:
            Symbols.from_elf(ElfFile(path))
        assert caught.value.source == str(path)
    with pytest.raises(HmtraceError, match="cannot be read"):
        ElfFile(tmp_path / "none")


def test_a_module_loaded_later_is_nobody_elses():
    """The hog module of fixtures/i386-hog-a was loaded behind mbcache, after kallsyms was read."""
    table = b"".join(
        b"%08x t %s\n" % (address, name)
        for address, name in (
            (0xC1000000, b"kernel_text"),
            (0xF7919000, b"mb_cache_entry\t[mbcache]"),
            (0xF79199B2, b"mbcache_exit\t[mbcache]"),
            (0xF7A4A000, b"ext4_first\t[ext4]"),
        )
    )
    symbols = Symbols.from_kallsyms(table)
    assert symbols.lookup(0xF7919010) == "mb_cache_entry+0x10 [mbcache]"
    assert symbols.lookup(0xF79199C0) == "mbcache_exit+0xe [mbcache]"
    assert symbols.lookup(0xF791E040) == ""
    assert symbols.lookup(0xC1002000) == "kernel_text+0x2000"


def test_mapping_symbols_of_arm_are_no_functions():
    table = Symbols.from_kallsyms(
        b"bf000000 t $a\t[minix]\nbf000000 t dir_get_page\t[minix]\nbf000070 t $d\t[minix]\n"
        b"bf000078 t $a.12\t[minix]\nbf000080 t $x\t[minix]\nbf000090 t $t\t[minix]\n"
        b"bf000100 t minix_add_link\t[minix]\n"
    )
    assert table.lookup(0xBF000070) == "dir_get_page+0x70 [minix]"
    assert table.lookup(0xBF000094) == "dir_get_page+0x94 [minix]"
    assert len(table) == 2


def sites(path: Path) -> dict[str, int]:
    events = open_capture(str(path)).events
    found = events.group_by(pl.col("site").cast(pl.String)).len().collect()
    return {site: number for site, number in found.rows() if site is not None}


def test_text_and_trace_dat_of_one_buffer_name_the_same_sites():
    folder = FIXTURES / "i386-hog-a-waiters-pae-smp2"
    binary = sites(folder / "trace.dat")
    assert len(binary) == 28
    assert sites(folder / "trace.txt.gz") == sites(folder / "report.txt.gz") == binary


def test_sites_of_an_arm_capture():
    found = sites(FIXTURES / "arm-61-1g-minix" / "trace.dat")
    assert found["dir_get_page+0x70 [minix]"] == 10134
    assert not any("$" in site for site in found)
