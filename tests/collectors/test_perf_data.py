"""perf.data: written, read, and judged by perf script where it is installed."""

from __future__ import annotations

import gzip
import random
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors import HmtraceError, open_capture, perf_data
from collectors.input.source import Source
from collectors.perf_data import capture
from collectors.perf_data.container import feature_numbers
from collectors.probes import FUNCTION_OF, KIND_LOST, KIND_STACK, KIND_SWITCH
from collectors.raw import RAW_DTYPE, join
from collectors.reading import AgainError
from collectors.text import perf_script
from tests.writers import perfdata as w
from tests.writers.perfdata import AttrSpec, FileSpec, SampleSpec, SideSpec

FIXTURE = Path(__file__).parents[2] / "fixtures" / "i386-minix-pae-smp2-perf"
PERF = shutil.which("perf")
KMAP = 2 * FUNCTION_OF["kmap_high"]
ENTRY, BACK, SITE = 0xC126F820, 0xC126F820, 0xF7929C10
SECOND = 1_000_000_000


def make(
    sample_type: int = w.USUAL, read_format: int = 4, *, ids: bool = True, **options: Any
) -> FileSpec:
    """Two CPUs, a fork, a new name, a loss, a switch; the CPUs one behind the other."""
    word, order = options.get("word", 4), options.get("order", "little")
    ev = w.probe_events(word)
    bare = sample_type & ~w.RAW & ~w.READ & ~w.CALLCHAIN
    attrs = [
        AttrSpec(e, sample_type, read_format, ids=(10 + 2 * n, 11 + 2 * n) if ids else ())
        for n, e in enumerate(ev.values())
    ]
    attrs.append(AttrSpec(None, bare, read_format, ids=(90,) if ids else ()))

    def sample(name: str, ts: int, cpu: int, tid: int, *values: int | bytes) -> SampleSpec:
        number = list(ev).index(name)
        payload = ev[name].payload(order, tid, list(values), flags=1, preempt=1)
        chain = ((1 << 64) - 128, ENTRY + 1, 0xC1000000)
        return SampleSpec(
            SECOND + ts, cpu, tid, payload, number, id=10 + 2 * number + cpu, chain=chain
        )

    items: list[w.Item] = [
        SideSpec("comm", 0, 0, 5, "init x"),
        SideSpec("comm", 0, 0, 7, "bash"),
        sample("kmap_high", 100, 0, 5, ENTRY, 0xF6000000),
        SideSpec("lost", SECOND + 150, 0, 5, count=4),
        sample("kmap_high_ret", 1500, 0, 5, BACK, SITE, 0xFF000000),
        SideSpec("round"),
        sample("kmap_high", 200, 1, 7, ENTRY, 0xF6000028),
        SideSpec("fork", SECOND + 300, 1, 8, parent=7),
        sample("kmap_high_ret", 1900, 1, 7, BACK, SITE, 0xFF001000),
        sample("kmap_high", 2000, 1, 8, ENTRY, 0xF6000050),
        SideSpec("comm", SECOND + 2500, 1, 8, "a 1.000000: b:"),
        sample("kmap_high_ret", 3500, 1, 8, BACK, SITE, 0xFF002000),
        sample("sched_switch", 4000, 1, 8, b"a 1.000000: b:", 8, 120, 2, b"init x", 5, 120),
        SideSpec("exit", SECOND + 4500, 1, 8),
        sample("kmap_high", 5000, 1, 9999, ENTRY, 0xF6000078),
        SideSpec("round"),
    ]
    return FileSpec(attrs, items, **options)


def reading(data: bytes, folder: Path | None = None) -> Any:
    return perf_data.read(Source.from_bytes(data, "perf.data", folder))


def table(got: Any) -> list[tuple[Any, ...]]:
    """Rows with names instead of numbers."""
    raw = got.raw
    return [
        (int(r["ts"]), int(r["kind"]), int(r["cpu"]), int(r["pid"]), raw.comms[r["comm"]],
         [int(v) for v in r["values"]], int(r["caller"]), int(r["present"]))
        for r in raw.rows
        if r["kind"] != KIND_STACK  # tests/collectors/test_perf_chains.py
    ]  # fmt: skip


EXPECTED = [
    (SECOND + 100, KMAP, 0, 5, "init x", [0xF6000000, 0, 0, 0], 0, 1),
    (SECOND + 150, KIND_LOST, 0, 0, "", [4, 0, 0, 0], 0, 1),
    (SECOND + 200, KMAP, 1, 7, "bash", [0xF6000028, 0, 0, 0], 0, 1),
    (SECOND + 1500, KMAP + 1, 0, 5, "init x", [0xFF000000, 0, 0, 0], SITE, 1),
    (SECOND + 1900, KMAP + 1, 1, 7, "bash", [0xFF001000, 0, 0, 0], SITE, 1),
    (SECOND + 2000, KMAP, 1, 8, "bash", [0xF6000050, 0, 0, 0], 0, 1),
    (SECOND + 3500, KMAP + 1, 1, 8, "a 1.000000: b:", [0xFF002000, 0, 0, 0], SITE, 1),
    (SECOND + 4000, KIND_SWITCH, 1, 8, "a 1.000000: b:", [8, 1, 5, 0], 0, 7),
    (SECOND + 5000, KMAP, 1, 9999, ":9999", [0xF6000078, 0, 0, 0], 0, 1),
]

FORMS: dict[str, dict[str, Any]] = {
    "file": {},
    "big": {"order": "big"},
    "64": {"word": 8},
    "big64": {"word": 8, "order": "big"},
    "pipe": {"form": w.PIPE},
    "pipe-big": {"form": w.PIPE, "order": "big"},
    "zstd": {"compress": 300},
    "zstd-pipe": {"compress": 200, "form": w.PIPE},
    "zstd-2": {"compress": 300, "compressed2": True},
    "chain": {"sample_type": w.USUAL | w.CALLCHAIN},
    "read": {"sample_type": w.USUAL | w.READ, "read_format": 4 | 1 | 16},
    "read-group": {"sample_type": w.USUAL | w.READ | w.CALLCHAIN, "read_format": 4 | 8 | 16 | 3},
    "id": {"sample_type": w.USUAL & ~w.IDENTIFIER | w.ID},
    "all": {"sample_type": w.USUAL | w.ID | w.ADDR | w.STREAM_ID},
}
JUDGED = [name for name in FORMS if name not in ("zstd-2", "pipe-big", "read-group")]
"""Forms that perf 6.1 reads: it knows no COMPRESSED2, no stream of the other endianness, and
shows a group's sample once per member."""


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_rows(form: str) -> None:
    got = reading(w.write(make(**FORMS[form])))
    assert table(got) == EXPECTED
    assert got.raw.counts == {"kmap_high": 4, "kmap_high (return)": 3, "sched_switch": 1}
    assert set(got.raw.rows["ctx"].tolist()) == {17, 128}
    assert got.span_ns == 4900
    assert (got.release, got.cpus, got.clock) == ("6.1.0-50-686-pae", 2, "perf")
    (lost,) = got.lost.intervals
    chained = bool(FORMS[form].get("sample_type", 0) & w.CALLCHAIN)  # a stack trace is a row
    assert (lost.cpu, lost.count, lost.after_seq) == (0, 4, 1 + chained)
    assert (lost.start_ts, lost.end_ts) == (SECOND + 100, SECOND + 1500)


@pytest.mark.skipif(PERF is None, reason="perf is not installed")
@pytest.mark.parametrize("form", JUDGED)
def test_perf_script_says_the_same(form: str, tmp_path: Path) -> None:
    path = tmp_path / "perf.data"
    path.write_bytes(w.write(make(**FORMS[form])))
    text = perf_output(path, "--ns", "--show-lost-events")
    got = perf_script.read(Source.from_bytes(text, "text"))
    assert table(got) == EXPECTED
    assert got.raw.counts == reading(path.read_bytes()).raw.counts


def perf_output(path: Path, *options: str) -> bytes:
    command = [str(PERF), "script", "-f", "-i", str(path), *options]
    return subprocess.run(command, capture_output=True, check=True, timeout=300).stdout


def test_directory_form(tmp_path: Path) -> None:
    spec = make()
    first, second = spec.items[:6], spec.items[6:]
    for compress in (0, 100):
        folder = tmp_path / f"capture{compress}"
        folder.mkdir()
        split = replace(spec, items=spec.items[:2], parts=[first[2:], second], compress=compress)
        w.write_directory(split, folder / "perf.data")
        (folder / "cmdline").write_text("vmalloc=256M\n")
        for path in (folder, folder / "perf.data", folder / "perf.data" / "data"):
            capture = open_capture(path)
            assert capture.origin.format == "perf.data"
            assert capture.facts.get("cmdline") == "vmalloc=256M"
            assert capture.raw_events["kmap_high"] == 4
            assert capture.events.collect().height == 5
            assert capture.lost.events == 4


@pytest.mark.skipif(PERF is None, reason="perf is not installed")
@pytest.mark.parametrize("compress", [0, 100])
def test_perf_script_reads_the_directory_form_alike(compress: int, tmp_path: Path) -> None:
    spec = make(compress=compress)
    parts = [spec.items[2:6], spec.items[6:]]
    folder = tmp_path / "perf.data"
    w.write_directory(replace(spec, items=spec.items[:2], parts=parts), folder)
    text = perf_output(folder, "--ns", "--show-lost-events")
    assert table(perf_script.read(Source.from_bytes(text, "text"))) == EXPECTED


def test_long_run_of_samples_grows_every_table() -> None:
    spec = make()
    ev = w.probe_events(4)["kmap_high"]
    items: list[w.Item] = []
    for n in range(5000):
        items.append(SideSpec("comm", SECOND + 10 * n, 0, 100 + n, f"task{n}"))
        payload = ev.payload("little", 100 + n, [ENTRY, 4096 * n])
        items.append(SampleSpec(SECOND + 10 * n + 5, 0, 100 + n, payload, 0, id=10))
    got = reading(w.write(replace(spec, items=items)))
    assert len(got.raw.rows) == 5000
    names = [got.raw.comms[c] for c in got.raw.rows["comm"]]
    assert names == [f"task{n}" for n in range(5000)]
    assert got.raw.rows["values"][:, 0].tolist() == [4096 * n for n in range(5000)]


def in_small_steps(
    data: bytes, *, room: int = 4, piece: int = 3, out_of_order: bool = False
) -> tuple[Any, bool]:
    """Read with few samples at a time; the reading, and whether it had to be read again."""
    source = Source.from_bytes(data, "perf.data")
    source.out_of_order = out_of_order
    for again in (False, True):
        stream = capture.stream(source, room=room, piece=piece)
        try:
            pieces = list(stream.pieces)
        except AgainError:
            continue
        end = stream.ending()
        rows = join([p.rows for p in pieces])
        return replace(end, raw=replace(end.raw, rows=rows)), again
    raise AssertionError("asked for more than twice")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("out_of_order", [False, True])
def test_small_steps_give_the_same(form: str, *, out_of_order: bool) -> None:
    whole = reading(w.write(make(**FORMS[form])))
    got, again = in_small_steps(w.write(make(**FORMS[form])), out_of_order=out_of_order)
    assert not again
    assert table(got) == EXPECTED
    assert replace(got, raw=None, symbols=None) == replace(whole, raw=None, symbols=None)
    assert got.raw.counts == whole.raw.counts


@pytest.mark.parametrize("room", [200, 5000])
def test_small_steps_through_a_real_file(room: int) -> None:
    data = gzip.decompress((FIXTURE / "perf.data.gz").read_bytes())
    whole = reading(data)
    assert len(whole.raw.rows) > 40_000
    got, again = in_small_steps(data, room=room, piece=777)
    # perf record's rounds are of some thousand samples
    assert again == (room == 200)
    for name in set(RAW_DTYPE.names or ()) - {"comm"}:
        assert np.array_equal(got.raw.rows[name], whole.raw.rows[name]), name
    names = [np.array(r.raw.comms)[r.raw.rows["comm"]] for r in (got, whole)]
    assert np.array_equal(*names)
    assert replace(got, raw=None, symbols=None) == replace(whole, raw=None, symbols=None)


def sample_at(ts: int, cpu: int = 0) -> SampleSpec:
    payload = w.probe_events(4)["kmap_high"].payload("little", 5, [ENTRY, ts])
    return SampleSpec(SECOND + ts, cpu, 5, payload, 0, id=10)


@settings(max_examples=80)
@given(
    st.lists(st.one_of(st.integers(0, 60), st.just(-1)), min_size=1, max_size=120),
    st.sampled_from([(4, 3), (16, 1), (64, 100)]),
)
def test_any_order_becomes_that_of_time(stamps: list[int], sizes: tuple[int, int]) -> None:
    """Whether the rounds (-1) keep their promise or not: a stable sort of everything."""
    items: list[w.Item] = [SideSpec("round") if t < 0 else sample_at(t) for t in stamps]
    spec = make()
    data = w.write(replace(spec, items=[SideSpec("comm", 0, 0, 5, "init x"), *items]))
    got, _ = in_small_steps(data, room=sizes[0], piece=sizes[1])
    assert got.raw.rows["ts"].tolist() == sorted(SECOND + t for t in stamps if t >= 0)
    assert set(got.raw.rows["site"].tolist()) <= {0}
    assert {got.raw.comms[c] for c in got.raw.rows["comm"]} <= {"init x"}


def test_a_sample_that_comes_too_late_is_put_in_its_place() -> None:
    late: list[w.Item] = []
    for n in range(12):
        late += [sample_at(100 * n), SideSpec("round")]
    late.append(sample_at(5))
    data = w.write(replace(make(), items=late))
    got, again = in_small_steps(data)
    assert again
    assert got.raw.rows["ts"].tolist()[:3] == [SECOND, SECOND + 5, SECOND + 100]
    assert table(reading(data)) == table(got)


def test_progress_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from collectors.perf_data import records

    monkeypatch.setattr(records, "_STEP", 50)
    seen: list[tuple[int, int]] = []
    source = Source.from_bytes(w.write(make()), "perf.data")
    got = perf_data.read(source, lambda done, of: seen.append((done, of)))
    assert table(got) == EXPECTED
    assert len(seen) > 10
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]


def test_lost_samples_count_what_no_lost_record_tells() -> None:
    spec = make()
    tail: list[w.Item] = [
        SideSpec("lost_samples", 0, 0, 0, count=3),  # of the 4 that LOST told
        SideSpec("lost_samples", 0, 0, 0, count=1),
        SideSpec("lost_samples", 0, 1, 0, count=6),
        SideSpec("lost_samples", 0, 1, 0, count=50, misc=1 << 15),  # dropped by a filter
    ]
    got = reading(w.write(replace(spec, items=spec.items + tail)))
    lost = [(i.cpu, i.count, i.after_seq, i.start_ts) for i in got.lost.intervals]
    assert lost == [(0, 4, 1, SECOND + 100), (1, 6, 9, SECOND + 5000)]


def test_sampling_is_told() -> None:
    spec = make()
    attrs = [replace(spec.attrs[0], period=100), *spec.attrs[1:]]
    got = reading(w.write(replace(spec, attrs=attrs)))
    assert any("only some of the events of hm:kmap_high" in n for n in got.notes)


def test_clock_of_the_stamps() -> None:
    spec = make()
    attrs = [replace(a, clock=4) for a in spec.attrs]
    assert reading(w.write(replace(spec, attrs=attrs))).clock == "mono_raw"


def test_records_of_old_kernels_have_no_stamps() -> None:
    spec = make()
    attrs = [replace(a, sample_id_all=False) for a in spec.attrs]
    got = reading(w.write(replace(spec, attrs=attrs)))
    kinds = [row[1] for row in table(got)]
    assert kinds == [row[1] for row in EXPECTED]
    (lost,) = got.lost.intervals
    assert (lost.cpu, lost.count, lost.after_seq) == (None, 4, 1)


def test_one_event_without_ids() -> None:
    spec = make(sample_type=w.TID | w.TIME | w.CPU | w.RAW, ids=False)
    got = reading(w.write(spec))
    assert [row[:3] for row in table(got)] == [row[:3] for row in EXPECTED]


def test_samples_without_time_and_cpu_keep_the_order_of_the_file() -> None:
    spec = make(sample_type=w.IDENTIFIER | w.TID | w.RAW)
    got = reading(w.write(spec))
    assert not got.clock_is_ns
    samples = [i for i in spec.items if isinstance(i, SampleSpec)]
    pids = [int(r["pid"]) for r in got.raw.rows if r["kind"] != KIND_LOST]
    assert pids == [s.tid for s in samples]
    assert any("CPU 0" in n for n in got.notes)


def test_kallsyms_beside_the_file_decides_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "kallsyms").write_text("c126f820 t kunmap_high\nf7929c00 t dir_get_page [minix]\n")
    got = reading(w.write(make()), tmp_path)
    assert got.raw.counts == {"kunmap_high": 4, "kunmap_high (return)": 3, "sched_switch": 1}


@pytest.mark.parametrize("word", [4, 8])
@pytest.mark.parametrize("order", ["little", "big"])
def test_feature_bits(word: int, order: Any) -> None:
    numbers = [1, 3, 4, 12, 27, 29, 31]
    bits = sum(1 << n for n in numbers)
    raw = b"".join(
        (bits >> 8 * word * k & (1 << 8 * word) - 1).to_bytes(word, order)
        for k in range(32 // word)
    )
    assert feature_numbers(raw, order) == numbers


# The real one


def real() -> bytes:
    return gzip.decompress((FIXTURE / "perf.data.gz").read_bytes())


def same_rows(one: Any, two: Any, *, microseconds: bool) -> None:
    """Compare field by field; text knows no context, and by default no nanoseconds."""
    a, b = one.raw.rows, two.raw.rows
    assert len(a) == len(b)
    unit = 1000 if microseconds else 1
    assert np.array_equal(a["ts"] // unit, b["ts"] // unit)
    for column in ("values", "caller", "pid", "kind", "cpu", "present"):
        assert np.array_equal(a[column], b[column]), column
    names = [np.array(x.raw.comms, object)[x.raw.rows["comm"]] for x in (one, two)]
    assert np.array_equal(*names)
    assert one.raw.counts == two.raw.counts


def test_real_file_and_its_text_give_the_same_events() -> None:
    data = reading(real(), FIXTURE)
    assert len(data.raw.rows) == 43825
    assert data.raw.counts == {
        "flush_all_zero_pkmaps": 4,
        "flush_tlb_kernel_range": 4,
        "kmap_high": 14285,
        "kmap_high (return)": 14285,
        "kunmap_high": 14285,
        "sched_switch": 962,
    }
    text = gzip.decompress((FIXTURE / "perf-script.txt.gz").read_bytes())
    same_rows(data, perf_script.read(Source.from_bytes(text, "t", FIXTURE)), microseconds=True)


@pytest.mark.skipif(PERF is None, reason="perf is not installed")
def test_real_file_field_by_field_as_perf_script_has_it(tmp_path: Path) -> None:
    path = tmp_path / "perf.data"
    path.write_bytes(real())
    data = reading(real(), FIXTURE)
    text = perf_script.read(Source.from_bytes(perf_output(path, "--ns"), "t", FIXTURE))
    same_rows(data, text, microseconds=False)


def as_stream(data: bytes, *, level: int | None) -> bytes:
    """The real file's records as perf record -o - writes them, compressed or not."""
    _, stride, attrs_at, attrs_size, begin, size = struct.unpack_from("<QQQQQQ", data, 8)

    def record(kind: int, body: bytes) -> bytes:
        return struct.pack("<IHH", kind, 0, 8 + len(body)) + body

    out = b"PERFILE2" + struct.pack("<Q", 16)
    for at in range(attrs_at, attrs_at + attrs_size, stride):
        ids_at, ids_size = struct.unpack_from("<QQ", data, at + stride - 16)
        out += record(64, data[at : at + stride - 16] + data[ids_at : ids_at + ids_size])
    tracing_at, tracing_size = struct.unpack_from("<QQ", data, begin + size)  # the first feature
    tracing = data[tracing_at : tracing_at + tracing_size]
    tracing += bytes(-len(tracing) % 8)
    out += struct.pack("<IHHI", 66, 0, 12, len(tracing)) + tracing
    records = data[begin : begin + size]
    if level is None:
        return out + records
    engine = zstandard.ZstdCompressor(level=level).compressobj()
    for at in range(0, size, 50_000):
        packed = engine.compress(records[at : at + 50_000])
        packed += engine.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        out += record(81, packed)
    return out


@pytest.mark.parametrize("level", [None, 1, 19])
def test_real_records_as_a_stream(level: int | None) -> None:
    data = real()
    file, stream = reading(data, FIXTURE), reading(as_stream(data, level=level), FIXTURE)
    same_rows(file, stream, microseconds=False)
    assert np.array_equal(file.raw.rows["ctx"], stream.raw.rows["ctx"])


def test_folder_takes_perf_data_before_its_text() -> None:
    capture = open_capture(FIXTURE)
    assert capture.origin.format == "perf.data"
    assert capture.origin.trace.endswith("perf.data.gz")


# Damage


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PERFILE2", "size of the header"),
        (b"PERFFILE" + bytes(96), "version 1"),
        (b"PERFILE2" + (104).to_bytes(8, "little") + bytes(88), "holds no data"),
        (b"PERFILE2" + (77).to_bytes(8, "little") + bytes(88), "header of 77 bytes"),
        (b"PERFILE2" + (16).to_bytes(8, "little"), "no records"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, words: str) -> None:
    with pytest.raises(HmtraceError, match=words):
        reading(data)


def test_no_descriptions() -> None:
    with pytest.raises(HmtraceError, match="does not describe its tracepoints"):
        reading(w.write(replace(make(), tracing=False)))


def test_cut_off_anywhere_is_an_error() -> None:
    data = w.write(make())
    for size in range(0, len(data) - 1, 37):
        with pytest.raises(HmtraceError):
            reading(data[:size])


def test_a_cut_stream_is_an_error_in_its_last_record() -> None:
    data = w.write(make(form=w.PIPE))
    with pytest.raises(HmtraceError, match="record runs beyond the end"):
        reading(data[:-5])


def test_expanding_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from collectors.perf_data import layout

    monkeypatch.setattr(layout, "EXPANSION_FREE", 1000)
    monkeypatch.setattr(layout, "EXPANSION", 0)
    spec = make(compress=4096)
    with pytest.raises(HmtraceError, match="refused"):
        reading(w.write(replace(spec, items=spec.items * 10)))


def attempt(data: bytes) -> None:
    """Read damaged bytes: fine, or an error that the user can mend."""
    try:
        got = reading(data)
    except HmtraceError:
        return
    assert len(got.raw.rows) <= len(data)


@settings(max_examples=150)
@given(
    st.sampled_from(["file", "big64", "pipe", "zstd", "read-group", "id"]),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=9)), max_size=6),
    st.integers(0, 1 << 20),
)
def test_damage_gives_an_error_or_rows(
    form: str, patches: list[tuple[int, bytes]], cut: int
) -> None:
    data = bytearray(w.write(make(**FORMS[form])))
    for place, new in patches:
        at = place % len(data)
        data[at : at + len(new)] = new
    attempt(bytes(data[: len(data) - cut % 40]))


def test_single_bytes_of_headers_and_records_damaged() -> None:
    rng = random.Random(7)
    for form in ("file", "pipe", "zstd"):
        good = w.write(make(**FORMS[form]))
        for _ in range(80):
            data = bytearray(good)
            at = rng.choice((rng.randrange(min(2500, len(data))), rng.randrange(len(data))))
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            attempt(bytes(data))


def test_damage_that_was_found_by_fuzzing() -> None:
    spec = make(form=w.PIPE)
    for form in (1 << 63, (1 << 64) - 1):
        attrs = [replace(a, read_format=form, sample_type=w.USUAL | w.READ) for a in spec.attrs]
        attempt(w.write(replace(spec, attrs=attrs)))


def test_events_without_end_are_refused() -> None:
    spec = make(form=w.PIPE)
    with pytest.raises(HmtraceError, match="more than 8192 events"):
        reading(w.write(replace(spec, attrs=[replace(spec.attrs[3], ids=())] * 9000)))


def test_descriptions_between_all_samples_are_refused() -> None:
    data = w.write(make(form=w.PIPE))
    attr = data[16 : 16 + int.from_bytes(data[22:24], "little")]
    round_ = bytes([68, 0, 0, 0, 0, 0, 8, 0])
    with pytest.raises(HmtraceError, match="again and again"):
        reading(data[:16] + (attr + round_) * 300 + data[16:])
