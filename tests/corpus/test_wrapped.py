"""Compressed files and archives: cut, bombs, lies in their headers."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import tarfile
import time
import zlib
from typing import TYPE_CHECKING

import pytest
import zstandard

from collectors.facts.reading import read_bytes
from collectors.input import unpack
from tests.corpus.damage import check, cuts, refused
from tests.writers import ftracetext
from tests.writers.ftracetext import Event

if TYPE_CHECKING:
    from collections.abc import Callable

EVENTS = [
    Event("bash", 7, i % 2, 10**9 + i * 1000, f"p: (kmap_high+0x0/0x260) page={i * 40:#x}")
    for i in range(100)
]
TEXT = (ftracetext.header(5, entries=100) + ftracetext.tracefs(EVENTS)).encode()
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "xz": lzma.compress,
    "zst": zstandard.compress,
}


@pytest.mark.parametrize("kind", PACKERS)
def test_cut_anywhere(kind: str) -> None:
    data = PACKERS[kind](TEXT)
    for cut in cuts(data, 29):
        refused(cut)  # a beginning is never taken for the whole


@pytest.mark.parametrize("kind", PACKERS)
def test_single_bits(kind: str) -> None:
    data = PACKERS[kind](TEXT)
    for at in (*range(30), *range(30, len(data), 41), *range(len(data) - 12, len(data))):
        check(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])


@pytest.mark.parametrize("kind", PACKERS)
def test_bombs(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "FREE_BYTES", 1 << 20)
    monkeypatch.setattr(unpack, "MAX_RATIO", 200)
    bomb = PACKERS[kind](bytes(8 << 20))
    assert "refused" in refused(bomb)
    assert "refused" in refused(PACKERS[kind](TEXT) + bomb)  # in a later member
    check(gzip.compress(bomb))  # packed twice: what is inside is no trace


@pytest.mark.parametrize("kind", PACKERS)
def test_empty_inside_and_noise_behind(kind: str) -> None:
    refused(PACKERS[kind](b""))
    for tail in (b"\0" * 600, b"noise", PACKERS[kind](b""), TEXT):
        check(PACKERS[kind](TEXT) + tail)


def test_xz_that_wants_a_huge_dictionary() -> None:
    # Block header with an LZMA2 dictionary of 4 GiB - 1 (xz-file-format.txt 5.3.1).
    block = bytes([2, 0, 0x21, 1, 40, 0, 0, 0])
    stream = b"\xfd7zXZ\0" + b"\0\1" + zlib.crc32(b"\0\1").to_bytes(4, "little")
    assert "xz" in refused(stream + block + zlib.crc32(block).to_bytes(4, "little") + bytes(64))


@pytest.mark.parametrize("window", [0x50, 0x88, 0xA8, 0xA9, 0xF8, 0xFF])
def test_zstd_that_wants_a_huge_window(window: int) -> None:
    # Frame header without content size, then a raw block of one byte (RFC 8878 3.1.1).
    for block in (b"\x09\0\0a", b"\xff\xff\xff" + b"a" * 50, b"\x03\xff\xffa"):
        refused(b"\x28\xb5\x2f\xfd\0" + bytes([window]) + block)


def member(name: str, content: bytes = b"", **fields: object) -> bytes:
    """One member of an archive, its header as `fields` say."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    form = tarfile.GNU_FORMAT
    return info.tobuf(form, "utf-8", "surrogateescape") + content + bytes(-len(content) % 512)


TRACE = member("c/trace", TEXT)
END = bytes(1024)


def test_archive_cut_anywhere() -> None:
    data = member("c/cmdline", b"vmalloc=64M\n") + TRACE + END
    for cut in cuts(data, 512):
        check(cut)


@pytest.mark.parametrize("size", [1 << 33, 1 << 62, (1 << 63) - 1, 1 << 63, 1 << 66, -1, -512])
def test_archive_with_a_size_that_lies(size: int) -> None:
    check(member("c/dmesg", b"x", size=size) + TRACE + END)
    check(TRACE + member("c/dmesg", b"x", size=size) + END)
    check(member("c/dmesg", b"x", size=size, type=b"L") + TRACE + END)
    check(member("c/dmesg", b"x", size=size, type=b"x") + TRACE + END)


def test_archive_of_endless_long_names() -> None:
    name = member("././@LongLink", b"abc", type=b"L")
    assert "damaged tar archive" in refused(name * 3000 + TRACE + END)


def test_archive_of_too_many_members() -> None:
    assert "more than" in refused(b"".join(member(f"c/{n}") for n in range(5000)) + TRACE + END)


def test_archive_with_zeros_that_it_does_not_hold() -> None:
    # A sparse file of 1 TiB, all of it holes.
    records = b"39 GNU.sparse.map=99999999999999999999\n22 size=1099511627776\n"
    holes = member("c/pax", records, type=b"x") + member("c/dmesg", b"x")
    for data in (TRACE + holes + END, holes + TRACE + END):
        assert check(data).seconds < 5


@pytest.mark.parametrize("records", [b"9 size=1\n", b"30 GNU.sparse.major=999999999\n", b"x" * 400])
def test_archive_with_odd_extended_headers(records: bytes) -> None:
    check(member("c/pax", records, type=b"x") + TRACE + END)
    check(member("c/pax", records, type=b"g") + TRACE + END)


def test_archive_with_sparse_members() -> None:
    # An old GNU sparse header whose map claims 2^60 bytes of holes.
    head = bytearray(member("c/dmesg", b"x", type=b"S"))
    head[386:398] = (0).to_bytes(12, "big")
    head[398:410] = b"\x80" + (1 << 60).to_bytes(11, "big")
    head[483:495] = b"\x80" + (1 << 60).to_bytes(11, "big")
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head[:512])
    check(bytes(head) + TRACE + END)


def test_archive_with_hostile_names() -> None:
    names = ["c/\x1b[2J", "c/" + "x" * 250, "c/a\nb", "c/\udcff", "c/\u202e", "/abs", ".."]
    data = b"".join(member(name, b"1") for name in names) + TRACE + END
    assert check(data).ended == "read"
    for way in ("info", "info-json"):
        check(data, way=way)
    assert not os.path.exists("/abs")  # noqa: PTH110


def test_archive_in_an_archive() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("c/trace")
        info.size = len(TRACE + END)
        archive.addfile(info, io.BytesIO(TRACE + END))
    check(gzip.compress(out.getvalue()))


def pax(records: bytes, size: int | None = None) -> bytes:
    """An archive of a trace behind an extended header with these bytes."""
    head = tarfile.TarInfo("x")
    head.type, head.size = tarfile.XHDTYPE, len(records) if size is None else size
    out = head.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512)
    member = tarfile.TarInfo("c/trace")
    member.size = len(TEXT)
    return out + member.tobuf(tarfile.USTAR_FORMAT) + TEXT + bytes(-len(TEXT) % 512 + 1024)


@pytest.mark.parametrize(
    "records",
    [
        b"1" * 300_000,
        b"1" * 60_000,
        b"2 " * 30_000 + b"=",
        b"20000 a=" + b"1" * 19_991 + b"\n",
        b"3 =\n",
        b"0 a=b\n",
        b"9 a=b\n",
        b"99999999999999999999 a=b\n",
        b"5 ab\n",
        b"\xff",
        b"20 size=9999999999\n\n",
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_extended_headers(records: bytes, packed: bool) -> None:  # noqa: FBT001
    data = pax(records)
    assert "tar" in refused(lzma.compress(data) if packed else data)


def test_an_extended_header_that_is_one() -> None:
    check(pax(b"13 comment=a\n"))
    check(pax(b"13 comment=a\n", size=1 << 32))
    check(pax(b"17 path=c/trace2\n"))
    check(pax(b"22 GNU.sparse.size=7\n\n"))


class Stumbling(tarfile.TarFile):
    """A library that meets something that it did not expect."""

    def next(self) -> tarfile.TarInfo:
        raise AttributeError


def test_whatever_the_library_raises_is_an_error_of_the_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tarfile.TarFile, "next", Stumbling.next)
    assert "damaged tar archive (AttributeError)" in refused(pax(b"13 comment=a\n"))


@pytest.mark.parametrize("kind", ["gz", "xz"])
def test_very_many_short_members(kind: str) -> None:
    count = 30_000 if kind == "gz" else 3000
    packed = PACKERS[kind](b"") * count + PACKERS[kind](TEXT)
    pieces: list[bytes] = []
    started = time.process_time()
    name = {"gz": "gzip"}.get(kind, kind)
    unpack.decompress(name, io.BytesIO(packed), pieces.append, source="x")
    assert b"".join(pieces) == TEXT
    assert time.process_time() - started < 5


def test_very_many_short_members_of_a_machine_file() -> None:
    packed = gzip.compress(b"") * 50_000 + bytes(1 << 20) + gzip.compress(b"vmalloc=192M")
    started = time.process_time()
    assert read_bytes(packed) == (b"vmalloc=192M", None)
    assert time.process_time() - started < 5
    assert read_bytes(packed[:-4]) == (b"vmalloc=192M", "truncated gzip data")
    assert read_bytes(packed + b"xx") == (b"vmalloc=192M", "damaged gzip data")
