"""Damaged trace.dat files: a clear error or a result, never anything else, and soon."""

from __future__ import annotations

import contextlib
import random
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from collectors import TRACE_DAT
from collectors.errors import HmtraceError
from collectors.input.source import Source
from collectors.tracecmd_dat import layout, read_raw, read_tracing_data
from collectors.tracecmd_dat.container import open_container
from collectors.tracecmd_dat.read import choose
from tests.collectors import everyfield as frames
from tests.writers import latency, tracedat
from tests.writers.tracedat import BufferSpec, FileSpec, Item

FIXTURES = Path(__file__).parents[2] / "fixtures"
KINDS = [(6, "none"), (7, "none"), (7, "zstd"), (7, "zlib")]
KIND_IDS = [f"v{v}-{c}" for v, c in KINDS]


def small(version: int, compression: str, **kw: Any) -> bytes:
    """A file with a bit of everything, few kilobytes long."""
    kw.setdefault("page_size", 256)
    events = tracedat.kernel_events(4)
    spec = FileSpec(
        [], list(events.values()), version=version, compression=compression, pages_per_chunk=2,
        kallsyms="c126f820 T kmap_high\n", comms={7: "bash"},
        options=[(2, b"CPU: 0\noverrun: 3\n"), (7, b"5\0"), (5, b"Linux a 6.1.0 i686\0")], **kw,
    )  # fmt: skip

    def item(ts: int, name: str, *values: Any, what: str = "event") -> Item:
        return Item(what, ts, events[name].payload(spec.order, 7, list(values)))

    def items(start: int) -> list[Item]:
        return [
            item(start, "mapper", 0xC126F820, 1),
            item(start + 5, "with_text", 0xC126F885, b"text\0", -5, b"123456"),
            Item("lost", count=4),
            item(start + 10**9, "print", 5, b"x" * 150 + b"\0"),
            item(start + 2 * 10**9, "mapper_back", 0xC126F820, 6, 7, what="stamp"),
            item(start + 2 * 10**9 + 1, "mapper", 1, 2, what="discard"),
            item(start + 2 * 10**9 + 2, "relative", -1, b"rel\0"),
            item(start + 2 * 10**9 + 3, "sched_switch", b"a", 7, 1, 2, b"b", 9, 1),
        ]  # fmt: skip

    spec.buffers = [
        BufferSpec({0: items(100), 2: items(50)}),
        BufferSpec({1: items(10)}, "instance", "mono"),
    ]
    return tracedat.write(spec)


def survive(data: bytes, *, columns: bool = False) -> bool:
    """Read; True if it could be read. Anything but HmtraceError fails the test."""
    caught: HmtraceError | None = None
    try:
        got = read_raw(data, name="damaged.dat")
        assert len(got.raw.rows) < 10_000_000
        if columns:
            file = open_container(memoryview(data), name="damaged.dat")
            for lazy in frames.scan_buffer(file, choose(file, None)[0]).values():
                lazy.collect()
    except HmtraceError as error:
        caught = error
    if caught is None:
        return True
    assert caught.exit_code in (2, 3)
    assert caught.source == "damaged.dat"
    assert caught.message
    return False


@pytest.mark.parametrize(("version", "compression"), KINDS, ids=KIND_IDS)
def test_cut_off_anywhere(version: int, compression: str) -> None:
    data = small(version, compression)
    assert survive(data)
    cuts = {*range(0, len(data), 61), *range(64), *range(len(data) - 64, len(data))}
    for cut in sorted(cuts):
        readable = survive(data[:cut])
        # Version 7 points to everything, so nothing can be missing unnoticed.
        assert not readable or version == 6, cut


def test_cut_off_in_the_pages_is_an_error() -> None:
    for version, compression in KINDS:
        data = small(version, compression)
        file = open_container(memoryview(data), name="x")
        for cpu in file.buffers[0].cpus:
            assert not survive(data[: cpu.offset + cpu.size - 1])


@pytest.mark.parametrize(("version", "compression"), KINDS, ids=KIND_IDS)
def test_flipped_bits(version: int, compression: str) -> None:
    data = small(version, compression)
    draw = random.Random(version)
    for n in range(60):  # make fuzz has the patience for more
        broken = bytearray(data)
        for _ in range(draw.choice([1, 1, 2, 8])):
            broken[draw.randrange(10, len(data))] ^= 1 << draw.randrange(8)
        survive(bytes(broken), columns=n % 3 == 0)  # the frames of the tests take most of the time


@pytest.mark.parametrize(("version", "compression"), KINDS, ids=KIND_IDS)
def test_huge_and_odd_numbers_everywhere(version: int, compression: str) -> None:
    data = small(version, compression)
    draw = random.Random(version + 1)
    for width in (1, 2, 4, 8):
        for value in (b"\xff" * width, b"\x7f".rjust(width, b"\xff"), bytes(width)):
            for n, at in enumerate(draw.sample(range(10, len(data) - width), 12)):
                broken = data[:at] + value + data[at + width :]
                survive(broken, columns=width == 4 and n % 3 == 0)


@pytest.mark.parametrize("name", ["i386-hog-a-waiters-pae-smp2"])
def test_mutations_of_a_real_file(name: str) -> None:
    data = (FIXTURES / name / "trace.dat").read_bytes()
    draw = random.Random(5)
    file = open_container(memoryview(data), name="x")
    hot = [*range(64), *(c.offset + i for c in file.buffers[0].cpus for i in range(200))]
    hot += range(len(data) - 800, len(data))
    started = time.monotonic()
    for _ in range(60):
        broken = bytearray(data)
        for _ in range(draw.choice([1, 3, 30])):
            at = draw.choice(hot) if draw.random() < 0.7 else draw.randrange(len(data))
            broken[at] = draw.choice([0, 0xFF, draw.randrange(256)])
        survive(bytes(broken))
    assert time.monotonic() - started < 300  # a hang, not a speed


def test_memory_is_bounded() -> None:
    assert survive(small(7, "zstd"))  # loads what is compiled
    # A chunk that claims 2 GiB, from a file of a few kilobytes.
    data = bytearray(small(7, "zstd", page_size=65536))
    file = open_container(memoryview(bytes(data)), name="x")
    for cpu in file.buffers[0].cpus:
        data[cpu.offset + 8 : cpu.offset + 12] = (1 << 31).to_bytes(4, "little")
    tracemalloc.start()
    assert not survive(bytes(data))
    assert tracemalloc.get_traced_memory()[1] < 160 << 20
    tracemalloc.stop()


def bomb(compression: str, chunks: int, chunk: bytes) -> bytes:
    """A file whose only CPU has a chunk many times."""
    events = tracedat.kernel_events(4)
    spec = FileSpec([], list(events.values()), compression=compression)
    writer = tracedat._Writer(spec)
    data = tracedat.write(spec)
    packed = writer.pack(chunk)
    one = len(packed).to_bytes(4, "little") + len(chunk).to_bytes(4, "little") + packed
    at = len(data)
    section = (3).to_bytes(2, "little") + (1).to_bytes(2, "little") + bytes(12)
    area = chunks.to_bytes(4, "little") + one * chunks
    option = at.to_bytes(8, "little") + b"\0local\0" + (4096).to_bytes(4, "little")
    option += (1).to_bytes(4, "little") + bytes(4)
    option += (at + 16).to_bytes(8, "little") + (len(area) - 4).to_bytes(8, "little")
    link = data.index(compression.encode()) + len(compression) + 1
    link = data.index(b"\0", link) + 1
    body = (3).to_bytes(2, "little") + len(option).to_bytes(4, "little") + option
    body += bytes(2) + (8).to_bytes(4, "little") + data[link : link + 8]
    place = at + len(section) + len(area)
    listed = bytes(8) + len(body).to_bytes(8, "little") + body
    return data[:link] + place.to_bytes(8, "little") + data[link + 8 :] + section + area + listed


@pytest.mark.parametrize("compression", ["zstd", "zlib"])
def test_decompression_bomb(compression: str) -> None:
    assert survive(small(7, compression))  # loads what is compiled
    # Pages without events: 64 MiB out of some hundred bytes each, in large and in small chunks.
    for size, number in ((1 << 26, 8), (1 << 18, 8 << 8)):
        data = bomb(compression, number, bytes(size))
        tracemalloc.start()
        with pytest.raises(HmtraceError, match="pages without events come out of"):
            read_raw(data, name="bomb.dat")
        assert tracemalloc.get_traced_memory()[1] < 160 << 20
        tracemalloc.stop()


@pytest.mark.parametrize("compression", ["zstd", "zlib"])
def test_dense_events_are_no_bomb(compression: str) -> None:
    """However well pages can be compressed, they are read where they hold events."""
    payload = tracedat.kernel_events(4)["mapper"].payload("little", 7, [1, 2])
    spec = FileSpec([], [])
    page = tracedat.pages_of(spec, [Item("event", 5, payload)])[0]
    data = bomb(compression, 120, page * 256)
    assert layout.FREE + layout.EXPANSION * len(data) < 120 << 20
    assert read_raw(data, name="dense.dat").events == 120 * 256


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, b"\x18", "not a trace.dat"),
        (10, b"9\0", "version '9' is not known"),
        (12, b"\2", "endianness is 2"),
        (13, b"\7", "word size is 7"),
        (14, b"\0\0\0\0", "page size is 0"),
        (18, b"lzma", "compression 'lzma' is not known"),
    ],
)
def test_first_bytes(at: int, value: bytes, message: str) -> None:
    data = small(7, "zstd")
    with pytest.raises(HmtraceError, match=message) as error:
        read_raw(data[:at] + value + data[at + len(value) :], name="bad.dat")
    assert error.value.source == "bad.dat"


def test_options_in_a_circle() -> None:
    data = bytearray(small(7, "none"))
    start = int.from_bytes(data[24:32], "little")
    size = int.from_bytes(data[start + 8 : start + 16], "little")
    link = start + 16 + size - 8
    data[link : link + 8] = start.to_bytes(8, "little")
    with pytest.raises(HmtraceError, match="circle"):
        read_raw(bytes(data), name="x")


def test_pages_that_two_cpus_share() -> None:
    data = bytearray(small(7, "none"))
    file = open_container(memoryview(bytes(data)), name="x")
    first, second = file.buffers[0].cpus
    old = second.offset.to_bytes(8, "little") + second.size.to_bytes(8, "little")
    at = data.index(old)
    data[at : at + 8] = first.offset.to_bytes(8, "little")
    with pytest.raises(HmtraceError, match="overlap"):
        read_raw(bytes(data), name="x")


def test_record_too_short_for_its_format() -> None:
    events = tracedat.kernel_events(4)
    short = events["mapper"].payload("little", 7, [1, 2])[:12]
    spec = FileSpec([BufferSpec({3: [Item("event", 5, short)]})], list(events.values()))
    spec.kallsyms = "00000001 T kmap_high\n"
    with pytest.raises(HmtraceError, match="CPU 3: a record is too short") as error:
        read_raw(tracedat.write(spec), name="x")
    assert error.value.offset is not None


def test_latency_trace_is_text() -> None:
    data = small(6, "none")
    at = data.index(b"flyrecord\0")
    with pytest.raises(HmtraceError, match="latency trace") as error:
        read_raw(data[:at] + b"latency  \0# tracer: irqsoff\n", name="x")
    assert error.value.hint is not None


@pytest.mark.parametrize("form", ["v6", *latency.FORMS])
def test_damaged_latency_traces(form: str) -> None:
    text = (
        b"# tracer: nop\n"
        + b"    bash-7     [000] d..1.  1.000001: kmap_high: (kmap_high+0x0/0x20)\n" * 40
    )
    good = latency.make(form, text)
    draw = random.Random(form)
    for _ in range(150):
        data = bytearray(good)
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        cut = len(data) - draw.choice([0, 0, draw.randrange(len(data))])
        with contextlib.suppress(HmtraceError):
            TRACE_DAT.read(Source.from_bytes(bytes(data[:cut]), "damaged.dat"))


def test_tracing_data_of_perf() -> None:
    data = small(6, "none")
    head = data[:10] + b"0.6\0" + data[12:]
    meta = read_tracing_data(memoryview(head), name="perf.data")
    assert meta.events[1500].name == "mapper"
    assert (meta.word, meta.order, meta.comms) == (4, "little", {7: "bash"})
    cut = head.index(b"kmap_high")
    with pytest.raises(HmtraceError):
        read_tracing_data(memoryview(head[:cut]), name="perf.data")
