"""trace.dat and perf.data in which one number lies, whatever it counts or points to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from collectors import write_parquet
from tests.corpus.damage import (
    KMAP,
    DatWriter,
    Numbers,
    PerfWriter,
    check,
    cuts,
    dat_spec,
    lies,
    perf_spec,
    refused,
)
from tests.writers import perfdata, tracedat
from tests.writers.tracedat import BufferSpec, EventSpec, FieldSpec, FileSpec, Item

FIXTURES = Path(__file__).parents[2] / "fixtures"
DAT = [(6, "none"), (7, "none"), (7, "zstd"), (7, "zlib")]
PERF: dict[str, dict[str, Any]] = {
    "file": {},
    "stream": {"form": perfdata.PIPE},
    "compressed": {"compress": 200},
}


@pytest.mark.parametrize(("version", "compression"), DAT, ids=str)
def test_every_number_of_a_trace_dat_lies(version: int, compression: str) -> None:
    spec = dat_spec(version, compression)
    true = Numbers()
    data = DatWriter(spec, true).bytes()
    assert check(data).ended == "read"
    wrong = 0
    step = 3 if compression == "zlib" else 1  # what is behind the compression is the same
    for at in range(0, len(true.widths), step):
        for value in lies(len(data))[at % 4 :: 4]:  # the fuzzer tries all of them everywhere
            ended = check(DatWriter(spec, Numbers(at, value)).bytes()).ended
            wrong += ended != "read"
    assert wrong > len(true.widths) // step // 2, "most lies are found out"


@pytest.mark.parametrize("form", PERF)
def test_every_number_of_a_perf_data_lies(form: str) -> None:
    spec = perf_spec(**PERF[form])
    true = Numbers()
    data = PerfWriter(spec, true).bytes()
    assert check(data).ended == "read"
    wrong = 0
    step = 3 if form == "compressed" else 1
    for at in range(0, len(true.widths), step):
        for value in lies(len(data))[at % 4 :: 4]:
            ended = check(PerfWriter(spec, Numbers(at, value)).bytes()).ended
            wrong += ended != "read"
    assert wrong > len(true.widths) // step // 4


@pytest.mark.parametrize("form", PERF)
def test_perf_data_cut_anywhere(form: str) -> None:
    data = PerfWriter(perf_spec(**PERF[form]), Numbers()).bytes()
    for cut in cuts(data, 101):
        check(cut)


def file_of(events: list[EventSpec], items: list[Item], **options: Any) -> bytes:
    """A trace.dat with these events on CPU 0."""
    return tracedat.write(FileSpec([BufferSpec({0: items})], events, **options))


def test_descriptions_with_overlapping_and_huge_fields() -> None:
    class Odd(EventSpec):
        changed: tuple[str, str] = ("", "")

        def text(self) -> str:
            assert self.changed[0] in super().text()
            return super().text().replace(*self.changed)

    kmap = tracedat.kernel_events(4)["mapper"]
    payload = kmap.payload("little", 7, [1, 2])
    for old, new in (
        ("offset:8;\tsize:4;", "offset:12;\tsize:4;"),  # two fields in one place
        ("offset:12;\tsize:4;", "offset:12;\tsize:4294967295;"),
        ("offset:12;\tsize:4;", "offset:4294967295;\tsize:4;"),
        ("offset:12;\tsize:4;", "offset:18446744073709551615;\tsize:18446744073709551615;"),
        ("offset:12;\tsize:4;", "offset:-12;\tsize:-4;"),
        ("offset:12;\tsize:4;", "offset:12;\tsize:0;"),
        ("offset:12;\tsize:4;", "offset:12;\tsize:3;"),
        ("u32 page;", "u32 page[1000000000];"),
        ("u32 page;", "__data_loc u32 page;"),
        ("u32 page;", "u32 \x1b[2J;"),
        ("u32 page;", "u32 " + "x" * 5000 + ";"),
        ("ID: 1500", "ID: 99999999999999999999"),
        ("ID: 1500", "ID: -1"),
        ("name: mapper", "name: "),
        ("offset:0;\tsize:2;", "offset:9;\tsize:2;"),  # common_type behind the header
        ("offset:4;\tsize:4;", "offset:4;\tsize:400;"),  # common_pid
        ("field:", "fjeld:"),
        ("\n", "\r\n"),
    ):
        odd = Odd(**{f: getattr(kmap, f) for f in EventSpec.__dataclass_fields__})
        object.__setattr__(odd, "changed", (old, new))
        items = [Item("event", 5, payload)] * 3
        way = "info" if "\x1b" in new else "open"
        check(file_of([odd], items, kallsyms="1 T kmap_high\n"), way=way)


def test_two_events_with_one_id() -> None:
    events = tracedat.kernel_events(4)
    one, two = events["mapper"], events["sched_switch"]
    twin = EventSpec("other", "twin", one.id, two.fields)
    items = [Item("event", 5, one.payload("little", 7, [1, 2]))]
    check(file_of([one, twin], items))
    check(file_of([twin, one], items))
    check(file_of([one, one, one], items))


@pytest.mark.parametrize("kind", ["__data_loc", "__rel_loc"])
@pytest.mark.parametrize(
    "where", [0, 0xFFFFFFFF, 0xFFFF0000, 0x0000FFFF, 0x00010013, 0x80008000, 5 << 16 | 8]
)
def test_strings_that_lie_elsewhere(kind: str, where: int) -> None:
    event = EventSpec("made", "text", 77, (FieldSpec(f"{kind} char[] name", 4, signed=True),))
    payload = bytearray(event.payload("little", 7, [b"abcd"]))
    payload[8:12] = where.to_bytes(4, "little")
    check(file_of([event], [Item("event", 5, bytes(payload))]))


@pytest.mark.parametrize("cpu", [255, 4095, 65535, 1 << 16, 1 << 31, (1 << 32) - 1])
def test_cpu_numbers_beyond_any_machine(cpu: int) -> None:
    kmap = tracedat.kernel_events(4)["mapper"]
    items = [Item("event", 5, kmap.payload("little", 7, [KMAP, 2]))]
    for claimed in (1, min(cpu + 1, (1 << 32) - 1)):
        spec = FileSpec([BufferSpec({cpu: items})], [kmap], cpu_count=claimed)
        spec.kallsyms = f"{KMAP:x} T kmap_high\n"
        for way in ("open", "report-json"):
            check(tracedat.write(spec), way=way)


@pytest.mark.parametrize("start", [0, (1 << 63) - 10, (1 << 64) - (1 << 36)])
def test_stamps_at_the_end_of_their_range(start: int) -> None:
    kmap = tracedat.kernel_events(4)["mapper"]
    payload = kmap.payload("little", 7, [KMAP, 2])
    items = [Item("event", start + (1 << 34) * n, payload) for n in range(3)]
    data = file_of([kmap], items, kallsyms=f"{KMAP:x} T kmap_high\n")
    for way in ("open", "info", "report", "report-json", "validate-json", "replay-json"):
        check(data, way=way)


def test_stamps_that_go_backwards() -> None:
    kmap = tracedat.kernel_events(4)["mapper"]
    payload = kmap.payload("little", 7, [KMAP, 2])
    items = []
    for n in range(20):
        items += [Item("event", 10**9 - n * 10**6, payload), Item("page")]
    data = file_of([kmap], items, kallsyms=f"{KMAP:x} T kmap_high\n")
    for way in ("open", "report-json"):
        check(data, way=way)


@pytest.mark.parametrize(
    "magic",
    [b"\x17\x08\x44tracing6\0", b"\x17\x08\x44tracing7\0", b"PERFILE2", b"2ELIFREP", b"PAR1"],
)
def test_garbage_behind_a_good_magic(magic: bytes) -> None:
    noise = bytes((i * 97 + (i >> 3)) & 0xFF for i in range(6000))
    for data in (magic, magic + noise, magic + bytes(6000), magic + b"\xff" * 6000):
        refused(data)


def test_sections_that_point_to_themselves() -> None:
    data = DatWriter(dat_spec(7, "none"), Numbers()).bytes()
    for at in range(24, len(data) - 8):
        value = int.from_bytes(data[at : at + 8], "little")
        if 24 <= value < len(data) and data[at + 4 : at + 8] == bytes(4):
            for other in (at, value, 24)[at % 2 :]:
                check(data[:at] + other.to_bytes(8, "little") + data[at + 8 :])


@pytest.mark.parametrize("name", ["nr_lazy", "nr_lazy_max", "purged", "parent", "vaddr", "size"])
@pytest.mark.parametrize("way", ["validate-json", "replay-json"])
def test_cells_of_a_parquet_file_beyond_every_count(tmp_path: Path, name: str, way: str) -> None:
    path = tmp_path / "table"
    write_parquet(FIXTURES / "i386-510-hog-e-vmapfail-pae-smp1", path)
    frame = pl.read_parquet(path).head(200)
    document = json.loads(pl.read_parquet_metadata(path)["hmtrace"]) | {"rows": 200}
    most = pl.lit((1 << 64) - 1, pl.UInt64)
    frame.with_columns(most.alias(name)).write_parquet(
        path, metadata={"hmtrace": json.dumps(document)}
    )
    assert check(path.read_bytes(), way=way).ended.startswith("exit 0")
