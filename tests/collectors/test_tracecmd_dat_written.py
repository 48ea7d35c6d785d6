"""trace.dat files made by tests/writers/tracedat.py: what is written is what is read."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collectors.errors import HmtraceError
from collectors.probes import FUNCTION_OF, KIND_LOST, KIND_STACK, KIND_SWITCH
from collectors.raw import RAW_DTYPE, join
from collectors.tracecmd_dat import probe_functions, read_raw, sniff
from collectors.tracecmd_dat.read import open_stream
from tests.collectors.everyfield import scan
from tests.writers import tracedat
from tests.writers.tracedat import BufferSpec, FieldSpec, FileSpec, Item

KMAP = 0xC126_F820
KALLSYMS = (
    "c1000000 T startup_32\nc126e000 T kunmap_high\nc126f820 T kmap_high\nc126f900 t other\n"
    "f7880000 t dir_get_page\t[minix]\n"
)
KMAP_KIND = 2 * FUNCTION_OF["kmap_high"]
MACHINES = [
    pytest.param(version, order, word, compression, id=f"v{version}-{order}-{word}-{compression}")
    for version, compressions in ((6, ["none"]), (7, ["none", "zstd", "zlib"]))
    for compression in compressions
    for order in ("little", "big")
    for word in (4, 8)
]


@dataclass
class Scene:
    """A file and what a reader must find in it."""

    spec: FileSpec
    events: dict[str, tracedat.EventSpec]

    def item(
        self, ts: int, name: str, pid: int, *values: Any, what: str = "event", **k: int
    ) -> Item:
        payload = self.events[name].payload(self.spec.order, pid, list(values), **k)
        return Item(what, ts, payload)


def scene(**kw: Any) -> Scene:
    extra = kw.pop("extra", ())
    events = tracedat.kernel_events(kw.get("word", 4), extra=extra)
    kw.setdefault("kallsyms", KALLSYMS)
    kw.setdefault("comms", {7: "bash", 8: "a b: c", 100_000: "big"})
    return Scene(FileSpec([], list(events.values()), **kw), events)


def read(spec: FileSpec, **kw: Any) -> Any:
    return read_raw(tracedat.write(spec), name="made.dat", **kw)


def four_events(s: Scene) -> list[Item]:
    return [
        s.item(1000, "mapper", 7, KMAP, 0xF6001000, flags=1, preempt=0x11),
        s.item(2000, "mapper_back", 7, KMAP, 0xC1234567, 0xFF001000, flags=0x18),
        s.item(1 << 40, "sched_switch", 7, b"bash", 7, 120, 2, b"perl", 9, 120),
        s.item((1 << 40) + 5, "mapper", 9, KMAP, 0xF6001020, flags=0x40),
    ]


@pytest.mark.parametrize(("version", "order", "word", "compression"), MACHINES)
def test_raw_events_of_every_kind_of_file(
    version: int, order: Any, word: int, compression: str
) -> None:
    s = scene(version=version, order=order, word=word, compression=compression)
    s.spec.buffers = [BufferSpec({0: four_events(s)})]
    got = read(s.spec)
    assert (got.version, got.order, got.word, got.clock) == (version, order, word, "local")
    rows = got.raw.rows
    assert rows["kind"].tolist() == [KMAP_KIND, KMAP_KIND + 1, KIND_SWITCH, KMAP_KIND]
    assert rows["ts"].tolist() == [1000, 2000, 1 << 40, (1 << 40) + 5]
    assert rows["values"][:, 0].tolist() == [0xF6001000, 0xFF001000, 7, 0xF6001020]
    assert rows["values"][2].tolist() == [7, 1, 9, 0]
    assert rows["present"].tolist() == [1, 1, 7, 1]
    assert rows["caller"].tolist() == [0, 0xC1234567, 0, 0]
    assert rows["ctx"].tolist() == [1 | 16, 2 | 4, 0, 8]
    assert [got.raw.comms[c] for c in rows["comm"]] == ["bash", "bash", "bash", "perl"]
    assert got.raw.counts == {"kmap_high": 2, "kmap_high (return)": 1, "sched_switch": 1}
    assert got.notes == ()
    assert (got.first_ts, got.last_ts, got.events) == (1000, (1 << 40) + 5, 4)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Scene, list[tuple[Any, ...]]]:
    version = draw(st.sampled_from([6, 7]))
    extra = draw(st.sampled_from([(), (FieldSpec("int common_tgid", 4, signed=True),)]))
    s = scene(
        version=version,
        order=draw(st.sampled_from(["little", "big"])),
        word=draw(st.sampled_from([4, 8])),
        user_word=draw(st.sampled_from([4, 8])),
        page_size=draw(st.sampled_from([256, 4096, 65536])),
        compression="none" if version == 6 else draw(st.sampled_from(["none", "zstd", "zlib"])),
        pages_per_chunk=draw(st.integers(1, 5)),
        fill_with_padding=draw(st.booleans()),
        split_options=draw(st.booleans()),
        extra=extra,
    )
    gaps = st.one_of(
        st.integers(0, 3), st.integers(1, 1 << 27), st.integers(1 << 27, 1 << 45), st.just(1)
    )
    cpus: dict[int, list[Item]] = {}
    found = []
    for cpu in draw(st.lists(st.integers(0, 12), min_size=1, max_size=4, unique=True)):
        now = draw(st.integers(0, 1 << 50))
        items: list[Item] = []
        for _ in range(draw(st.integers(0, 40))):
            what = draw(st.sampled_from(["event"] * 8 + ["stamp", "discard", "lost", "page"]))
            if what == "lost":
                items.append(Item("lost", count=draw(st.none() | st.integers(1, 1 << 30))))
                continue
            if what == "page":
                items.append(Item("page"))
                continue
            # a discarded record's delta is at least 1 (rb_event_discard)
            now += max(draw(gaps), 1) if what == "discard" else draw(gaps)
            pid = draw(st.sampled_from([0, 7, 8, 9, 100_000]))
            item, name, values = draw(records(s, now, pid, what))
            items.append(item)
            if what != "discard":
                found.append((now, cpu, len(items), pid, name, values))
        cpus[cpu] = items
    s.spec.buffers = [BufferSpec(dict(sorted(cpus.items())))]
    return s, sorted(found, key=lambda f: f[:3])


@st.composite
def records(
    draw: st.DrawFn, s: Scene, ts: int, pid: int, what: str
) -> tuple[Item, str, dict[str, Any]]:
    u32 = st.integers(0, 0xFFFF_FFFF)
    text = st.binary(max_size=30).map(lambda b: b.replace(b"\0", b"x"))
    name = draw(st.sampled_from(["mapper", "with_text", "relative", "print", "sched_switch"]))
    values: dict[str, Any]
    if name == "mapper":
        values = {"__probe_ip": KMAP, "page": draw(u32)}
    elif name == "with_text":
        values = {
            "__probe_ip": KMAP + 0x65,
            "name": draw(text) + b"\0",
            "big": draw(st.integers(-(1 << 63), (1 << 63) - 1)),
            "list": b"".join(
                n.to_bytes(2, s.spec.order) for n in draw(st.tuples(*[st.integers(0, 65535)] * 3))
            ),
        }
    elif name == "relative":
        values = {"small": draw(st.integers(-(1 << 15), (1 << 15) - 1)), "name": draw(text) + b"\0"}
    elif name == "print":
        values = {
            "ip": draw(u32 | st.just(0x7FFF_FFFE)),  # the trampoline's mark in stack traces
            "buf": draw(st.binary(max_size=150)).replace(b"\0", b"y") + b"\0",
        }
    else:
        values = {
            "prev_comm": b"bash", "prev_pid": pid, "prev_prio": 120,
            "prev_state": draw(st.sampled_from([0, 1, 2, 0x80, 0x100])),
            "next_comm": draw(text)[:15], "next_pid": 9, "next_prio": -1,
        }  # fmt: skip
    item = s.item(ts, name, pid, *values.values(), what=what)
    return item, name, values


def plain(value: Any, order: str, column: str) -> Any:
    if not isinstance(value, bytes):
        return value
    if column == "list":
        return [int.from_bytes(value[i : i + 2], order) for i in range(0, 6, 2)]  # type: ignore[arg-type]
    return value.split(b"\0")[0].decode("utf-8", "replace")


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(worlds())
def test_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, world: tuple[Scene, list[tuple[Any, ...]]]
) -> None:
    s, expected = world
    path = tmp_path_factory.mktemp("dat") / "made.dat"
    path.write_bytes(tracedat.write(s.spec))
    frames = scan(path)
    assert set(frames) == {e[4] for e in expected}
    for name, lazy in frames.items():
        own = [e for e in expected if e[4] == name]
        frame = lazy.collect()
        assert frame["common_ts"].to_list() == [e[0] for e in own]
        assert frame["common_cpu"].to_list() == [e[1] for e in own]
        assert frame["common_pid"].to_list() == [e[3] for e in own]
        for column in own[0][5]:
            want = [plain(e[5][column], s.spec.order, column) for e in own]
            assert frame[column].to_list() == want, (name, column)
    got = read_raw(path.read_bytes(), name="made.dat")
    raw = got.raw
    kept = [e for e in expected if e[4] in ("mapper", "sched_switch")]
    rows = raw.rows[raw.rows["kind"] < KIND_LOST]
    assert rows["ts"].tolist() == [e[0] for e in kept]
    printed = [e[5] for e in expected if e[4] == "print"]
    # where a symbol says so, it was trace_printk()
    marks = [p for p in printed if p["ip"] == 0 or not got.symbols.lookup(p["ip"])]
    assert raw.marks == [plain(p["buf"], "", "").strip() for p in marks]
    assert rows["cpu"].tolist() == [e[1] for e in kept]
    first = [e[5]["page"] if e[4] == "mapper" else e[5]["prev_pid"] for e in kept]
    assert rows["values"][:, 0].tolist() == first
    assert sum(raw.counts.values()) == len(expected)


def in_small_steps(data: bytes, rows: int, span: int, piece: int) -> tuple[list[int], Any, Any]:
    """Read through windows of a few records; sizes of the pieces, all rows, and the end."""
    stream = open_stream(data, name="made.dat", rows=rows, span=span, piece=piece)
    pieces = [p.rows for p in stream.pieces]
    end = stream.ending()
    return [len(p) for p in pieces], join(pieces), end


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(worlds(), st.sampled_from([(4, 1, 3), (8, 300, 1), (16, 1 << 16, 5)]))
def test_small_windows_give_the_same(
    world: tuple[Scene, list[tuple[Any, ...]]], sizes: tuple[int, int, int]
) -> None:
    data = tracedat.write(world[0].spec)
    whole = read_raw(data, name="made.dat")
    lengths, rows, end = in_small_steps(data, *sizes)
    assert all(n == sizes[2] for n in lengths[:-1])
    plain = [n for n in RAW_DTYPE.names or () if n != "comm"]
    for name in plain:
        assert rows[name].tolist() == whole.raw.rows[name].tolist(), name
    # Names of tasks are learnt from switches within the piece, and earlier ones.
    theirs = [whole.raw.comms[c] for c in whole.raw.rows["comm"]]
    ours = [end.raw.comms[c] for c in rows["comm"]]
    assert all(o in (t, "<...>") for o, t in zip(ours, theirs, strict=True))
    assert end.raw.counts == whole.raw.counts
    assert (end.lost, end.first_ts, end.last_ts) == (whole.lost, whole.first_ts, whole.last_ts)
    assert (end.events, end.notes) == (whole.events, whole.notes)


def merged(cpus: dict[int, list[Item]]) -> list[tuple[int, int, int]]:
    """(stamp, CPU, position) in the order of a plain k-way merge, as `trace-cmd report` has it."""
    left = {
        cpu: [(i.ts, cpu, n) for n, i in enumerate(items) if i.what in ("event", "stamp")]
        for cpu, items in cpus.items()
    }
    found = []
    while any(left.values()):
        best = min((rest[0][0], cpu) for cpu, rest in left.items() if rest)[1]
        found.append(left[best].pop(0))
    return found


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(
        st.integers(0, 40),
        st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=30),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from([4, 8, 1 << 16]),
)
def test_order_is_that_of_a_plain_merge(
    cpus: dict[int, list[tuple[int, bool]]], window: int
) -> None:
    """With clocks that step back, many equal stamps, and records that are not wanted."""
    s = scene(page_size=256)
    items: dict[int, list[Item]] = {}
    for cpu, stamps in sorted(cpus.items()):
        items[cpu] = [
            s.item(
                ts + 1, "mapper", 7, KMAP if wanted else 0xC126F900, 1000 * cpu + n, what="stamp"
            )
            for n, (ts, wanted) in enumerate(stamps)
        ]
    s.spec.buffers = [BufferSpec(items)]
    rows = in_small_steps(tracedat.write(s.spec), window, 256, 7)[1]
    wanted_ones = {(cpu, n) for cpu, stamps in cpus.items() for n, s in enumerate(stamps) if s[1]}
    expected = [1000 * cpu + n for _, cpu, n in merged(items) if (cpu, n) in wanted_ones]
    assert rows["values"][:, 0].tolist() == expected


def test_names_are_learnt_from_switches_piece_by_piece() -> None:
    s = scene(comms={})
    items = [
        s.item(10, "mapper", 9, KMAP, 1),
        s.item(20, "sched_switch", 9, b"early", 9, 120, 0, b"late", 11, 120),
        s.item(30, "mapper", 11, KMAP, 2),
        s.item(40, "sched_switch", 11, b"late", 11, 120, 0, b"", 12, 120),
        s.item(50, "mapper", 12, KMAP, 3),
        s.item(60, "mapper", 9, KMAP, 4),
    ]
    s.spec.buffers = [BufferSpec({0: items})]
    for piece in (1 << 20, 2):
        _, rows, end = in_small_steps(tracedat.write(s.spec), 4, 256, piece)
        got = [end.raw.comms[c] for c in rows["comm"]]
        assert got == ["early", "early", "late", "late", "<...>", "early"]


def test_ties_go_to_the_lower_cpu_and_a_cpu_keeps_its_order() -> None:
    s = scene()

    def at(ts: int, page: int) -> Item:
        return s.item(ts, "mapper", 7, KMAP, page, what="stamp")

    # CPU 2 steps back in time from 200 to 150: its record still comes after its predecessor.
    s.spec.buffers = [
        BufferSpec(
            {1: [at(100, 1), at(200, 2), at(300, 3)], 2: [at(100, 4), at(200, 5), at(150, 6)]}
        )
    ]
    rows = read(s.spec).raw.rows
    assert rows["values"][:, 0].tolist() == [1, 4, 2, 5, 6, 3]


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_losses_are_rows_and_intervals(compression: str) -> None:
    s = scene(compression=compression)
    a, b, c, d = four_events(s)
    items = [Item("lost", count=11), a, b, Item("lost"), c, Item("lost", count=3), d]
    s.spec.buffers = [BufferSpec({3: items})]
    got = read(s.spec)
    kinds = got.raw.rows["kind"].tolist()
    assert [k == KIND_LOST for k in kinds] == [True, False, False, True, False, True, False]
    lost = got.raw.rows[got.raw.rows["kind"] == KIND_LOST]
    assert lost["present"].tolist() == [1, 0, 1]
    assert lost["values"][:, 0].tolist() == [11, 0, 3]
    assert lost["cpu"].tolist() == [3, 3, 3]
    assert [(i.cpu, i.count, i.after_seq, i.start_ts, i.end_ts) for i in got.lost] == [
        (3, 11, 0, None, 1000),
        (3, None, 3, 2000, 1 << 40),
        (3, 3, 5, 1 << 40, (1 << 40) + 5),
    ]


def test_statistics_tell_of_losses_without_marks() -> None:
    stats = b"CPU: 0\nentries: 0\noverrun: 17\ndropped events: 4\nread events: 4\n\0"
    s = scene(options=[(2, stats)])
    s.spec.buffers = [BufferSpec({0: four_events(s)})]
    got = read(s.spec)
    assert [(i.count, i.after_seq, i.start_ts, i.end_ts) for i in got.lost] == [
        (17, 0, None, 1000),
        (4, 5, (1 << 40) + 5, None),
    ]
    first = got.raw.rows[0]
    assert (first["kind"], first["cpu"], first["values"][0], first["ts"]) == (
        KIND_LOST,
        0,
        17,
        1000,
    )
    assert got.raw.rows["kind"][1] == KMAP_KIND


def test_instances() -> None:
    s = scene()
    a, b, c, d = four_events(s)
    s.spec.buffers = [BufferSpec({0: [a, b]}), BufferSpec({1: [c], 5: [d]}, "mine", "mono")]
    for version in (6, 7):
        s.spec.version = version
        got = read(s.spec)
        assert (got.buffer, got.buffers, len(got.raw.rows)) == ("", ("", "mine"), 2)
        assert "not read: mine" in got.notes[0]
        got = read(s.spec, buffer="mine")
        assert got.raw.rows["cpu"].tolist() == [1, 5]
        with pytest.raises(HmtraceError, match="no buffer 'yours'") as error:
            read(s.spec, buffer="yours")
        assert error.value.hint is not None
        assert "':mine'" in error.value.hint
    s.spec.buffers[0].cpus = {}
    got = read(s.spec)
    assert (got.buffer, got.clock) == ("mine", "mono")
    assert "the only one with events" in got.notes[0]


def samples(order: Any, *, flags: int, times: list[tuple[int, int, int, int]]) -> bytes:
    def n(size: int, v: int) -> bytes:
        return (v & ((1 << 8 * size) - 1)).to_bytes(size, order)

    out = n(8, 99) + n(4, flags) + n(4, 1) + n(4, len(times))
    for column in (0, 1, 2, 3):
        out += b"".join(n(8, t[column]) for t in times)
    return out


def test_clock_options() -> None:
    def stamps(options: list[tuple[int, bytes]], clock: str = "local") -> tuple[list[int], Any]:
        s = scene(options=options)
        s.spec.buffers = [BufferSpec({0: four_events(s)[:2]}, "", clock)]
        got = read(s.spec)
        return got.raw.rows["ts"].tolist(), got

    assert stamps([(7, b"500\0")])[0] == [1500, 2500]
    assert stamps([(7, b"-500\0")])[0] == [500, 1500]
    assert stamps([(1, b"0x10\0")])[0] == [17000, 18000]
    tsc = (3 << 4).to_bytes(4, "little") + (4).to_bytes(4, "little") + (77).to_bytes(8, "little")
    ts, got = stamps([(14, tsc), (7, b"1")], "x86-tsc")
    assert (ts, got.clock, got.clock_is_ns) == ([3001, 6001], "x86-tsc", True)
    ts, got = stamps([], "counter")
    assert (got.clock, got.clock_is_ns) == ("counter", False)
    assert stamps([(12, samples("little", flags=0, times=[(0, 10, 1, 0)]))])[0] == [1010, 2010]
    two = [(1000, 10, 2, 1), (2000, 110, 2, 1)]
    assert stamps([(12, samples("little", flags=0, times=two))])[0] == [1010, 2010]
    assert stamps([(12, samples("little", flags=1, times=two))])[0] == [1010, 2110]


def test_multiplication_of_stamps_keeps_all_bits() -> None:
    from collectors.tracecmd_dat.clocks import scale

    values = [0, 1, 12345678901234567, (1 << 63) - 1]
    for mult in (1, 0xFFFF_FFFF, 1 << 31):
        for shift in (0, 1, 31, 32, 33, 40):
            got = scale(np.array(values, np.uint64), mult, shift).tolist()
            assert got == [(v * mult >> shift) & ((1 << 64) - 1) for v in values]


def test_unknown_options_and_types_are_said() -> None:
    s = scene(options=[(4711, b"abc"), (6, b"hook\0")])
    unknown = dataclasses.replace(s.events["mapper"], id=999)
    item = Item("event", 5000, unknown.payload("little", 7, [1, 2]))
    s.spec.buffers = [BufferSpec({0: [*four_events(s)[:2], item]})]
    got = read(s.spec)
    assert got.raw.counts["event type 999"] == 1
    assert any("4711" in n and "6" not in n.split("4711")[0] for n in got.notes)
    assert any("types that the file does not describe: 999" in n for n in got.notes)


def test_functions_without_symbols() -> None:
    s = scene(kallsyms="00000000 T kmap_high\n00000000 T other\n")
    s.spec.buffers = [BufferSpec({0: four_events(s)})]
    got = read(s.spec)
    assert got.raw.counts == {"mapper": 2, "mapper_back": 1, "sched_switch": 1}
    text = "p:hm/mapper kmap_high page=%ax:x32\nr64:hm/mapper_back kmap_high vaddr=$retval\n"
    got = read(s.spec, probe_functions=probe_functions(text))
    assert got.raw.counts == {"kmap_high": 2, "kmap_high (return)": 1, "sched_switch": 1}
    got = read(s.spec, symbols=KALLSYMS.encode())
    assert got.raw.counts == {"kmap_high": 2, "kmap_high (return)": 1, "sched_switch": 1}
    moved = KALLSYMS.replace("c126f820", "c126f830")
    s.spec.kallsyms = moved
    got = read(s.spec, probe_functions=probe_functions(text))
    assert got.raw.counts["kmap_high"] == 2
    assert "do not fit" in got.notes[0]
    s.spec.kallsyms = ""
    s.spec.events = [
        dataclasses.replace(e, name={"mapper": "kmap_high"}.get(e.name, e.name))
        for e in s.spec.events
    ]
    got = read(s.spec)
    assert got.raw.counts["kmap_high"] == 2
    assert "guessed" in got.notes[0]


def test_function_tracer() -> None:
    s = scene()
    items = [
        s.item(10, "function", 7, KMAP + 4, 0xF7880010),
        s.item(20, "function", 7, 0xC126_F910, 0xC100_0000),
    ]
    s.spec.buffers = [BufferSpec({0: items})]
    got = read(s.spec)
    assert got.raw.counts == {"kmap_high": 1, "other": 1}
    assert got.raw.rows["kind"].tolist() == [KMAP_KIND]
    assert got.raw.rows["caller"].tolist() == [0xF7880010]
    assert got.raw.rows["present"].tolist() == [0]


def test_function_graph_tracer() -> None:
    s = scene()
    items = [
        s.item(10, "funcgraph_entry", 7, KMAP, 0),
        s.item(15, "funcgraph_entry", 7, 0xC126_F900, 1),
        s.item(16, "funcgraph_exit", 7, 0xC126_F900, 0, 1, 0, 15, 16),
        s.item(20, "funcgraph_exit", 7, KMAP, 0xFF005000, 0, 0, 10, 20),
    ]
    s.spec.buffers = [BufferSpec({0: items})]
    got = read(s.spec)
    assert got.raw.counts == {
        "kmap_high": 1,
        "kmap_high (return)": 1,
        "other": 1,
        "other (return)": 1,
    }
    rows = got.raw.rows
    assert rows["kind"].tolist() == [KMAP_KIND, KMAP_KIND + 1]
    # retval: CONFIG_FUNCTION_GRAPH_RETVAL
    assert (rows["values"][1, 0], rows["present"].tolist()) == (0xFF005000, [0, 9])
    assert rows["values"][1, 2:].tolist() == [0, 10]  # ns from calltime to rettime


@pytest.mark.parametrize("version", [6, 7])
@pytest.mark.parametrize("machine_page", [4096, 16384])
def test_sub_buffers_of_another_size_than_pages(version: int, machine_page: int) -> None:
    s = scene(version=version, page_size=16384, machine_page=machine_page)
    items = [s.item(n, "mapper", 7, KMAP, n) for n in range(3000)]
    s.spec.buffers = [BufferSpec({0: items, 1: items[:1500]})]
    rows = read(s.spec).raw.rows
    assert rows["values"][rows["cpu"] == 0, 0].tolist() == list(range(3000))
    assert rows["values"][rows["cpu"] == 1, 0].tolist() == list(range(1500))


def test_stacks_have_as_many_callers_as_they_say(tmp_path: Any) -> None:
    s = scene(word=8)
    spec = s.events["kernel_stack"]
    stacks = [[1], [1, 2, 3], list(range(12))]
    items = []
    for n, callers in enumerate(stacks):
        head = spec.payload("little", 7, [len(callers), b""])[:16]
        items.append(Item("event", n, head + b"".join(c.to_bytes(8, "little") for c in callers)))
    s.spec.buffers = [BufferSpec({0: items})]
    path = tmp_path / "a.dat"
    path.write_bytes(tracedat.write(s.spec))
    frame = scan(path)["kernel_stack"].collect()
    assert frame["caller"].to_list() == stacks
    assert frame.schema["caller"] == pl.List(pl.UInt64())


def test_one_event_name_with_two_probes() -> None:
    s = scene()
    items = [
        s.item(n, "mapper", 7, ip, n) for n, ip in enumerate([KMAP, 0xC126E000, KMAP, KMAP + 9])
    ]
    s.spec.buffers = [BufferSpec({0: items})]
    got = read(s.spec)
    assert got.raw.counts == {"kmap_high": 2, "kunmap_high": 1, "mapper": 1}
    assert got.raw.rows["values"][:, 0].tolist() == [0, 1, 2]


def test_many_probed_addresses_are_told_apart() -> None:
    """The table of addresses grows; the function tracer has tens of thousands."""
    number = 70_000
    symbols = "".join(f"{0xC1000000 + 16 * n:x} t f{n}\n" for n in range(number))
    s = scene(kallsyms=symbols)
    items = [s.item(n, "function", 7, 0xC1000004 + 16 * (n % number), 0) for n in range(number + 5)]
    s.spec.buffers = [BufferSpec({0: items})]
    counts = read(s.spec).raw.counts
    assert {counts[f"f{n}"] for n in range(5)} == {2}
    told = [n for n in range(5, number) if counts.get(f"f{n}") == 1]
    assert len(told) > 65_000  # a quarter of the table's room
    assert sum(counts.values()) == number + 5


def test_many_cpus_take_little_memory() -> None:
    code = (
        "import re, sys; from pathlib import Path; from collectors.tracecmd_dat import read_raw;"
        "got = read_raw(sys.stdin.buffer.read(), name='many.dat');"
        # not ru_maxrss: it begins with the size of the process that forked this one
        "peak = re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1];"
        "print(got.events, peak)"
    )
    s = scene(compression="zstd")
    s.spec.buffers = [
        BufferSpec({cpu: [s.item(cpu, "mapper", 7, KMAP, cpu)] for cpu in range(1500)})
    ]
    done = subprocess.run(
        [sys.executable, "-c", code], input=tracedat.write(s.spec), capture_output=True, check=True
    )
    events, kilobytes = map(int, done.stdout.split())
    assert events == 1500
    assert kilobytes < 900_000


def test_scan_pushes_down(tmp_path: Any) -> None:
    s = scene()
    s.spec.buffers = [BufferSpec({0: four_events(s)})]
    path = tmp_path / "a.dat"
    path.write_bytes(tracedat.write(s.spec))
    lazy = scan(path)["mapper"]
    got = lazy.filter(pl.col("page") > 0xF6001000).select("common_ts", "common_comm").collect()
    assert got.rows() == [((1 << 40) + 5, None)]
    assert lazy.head(1).collect().height == 1
    assert lazy.select(pl.len()).collect().item() == 2


def test_empty_buffers() -> None:
    s = scene()
    s.spec.buffers = [BufferSpec({0: [], 1: []})]
    got = read(s.spec)
    assert (len(got.raw.rows), got.events, got.first_ts) == (0, 0, None)
    s.spec.buffers = []
    with pytest.raises(HmtraceError, match="no trace data"):
        read(s.spec)


def test_sniff() -> None:
    assert sniff(b"\x17\x08\x44tracing7\0")
    assert not sniff(b"\x17\x08\x44trac")
    assert not sniff(b"# tracer: nop")


def test_calls_inside_of_others_have_them_as_site() -> None:
    """As the text of the function_graph tracer gives it; other functions become no rows."""
    other, get_page = 0xC126_F900, 0xF788_0000
    s = scene()
    here = [
        s.item(10, "funcgraph_entry", 7, other, 0),
        s.item(11, "funcgraph_entry", 7, get_page, 1),
        s.item(12, "funcgraph_entry", 7, KMAP, 2),
        s.item(13, "funcgraph_exit", 7, KMAP, 0xFF005000, 2, 0, 12, 13),
        s.item(14, "funcgraph_exit", 7, get_page, 0, 1, 0, 11, 14),
        s.item(15, "funcgraph_entry", 7, KMAP, 1),
        s.item(16, "funcgraph_entry", 8, KMAP, 2),  # an event of a switch was lost
        s.item(40, "funcgraph_exit", 7, other, 0, 0, 0, 10, 40),
        s.item(41, "mapper", 7, KMAP, 0xF6001000),
    ]
    there = [
        s.item(12, "funcgraph_entry", 9, KMAP, 2),
        Item("lost", count=3),
        s.item(30, "funcgraph_exit", 9, other, 0, 2, 0, 11, 30),
        s.item(31, "funcgraph_exit", 9, KMAP, 0xFF006000, 2, 0, 11, 31),
    ]
    s.spec.buffers = [BufferSpec({0: here, 1: there})]
    whole = read(s.spec)

    def shown(rows: Any, sites: Any) -> list[tuple[int, int, int, str]]:
        return [(int(r["ts"]), int(r["kind"]), int(r["pid"]), sites[r["site"]]) for r in rows]

    expected = [
        (12, KMAP_KIND, 7, "dir_get_page [minix]"),
        (12, KMAP_KIND, 9, ""),
        (13, KMAP_KIND + 1, 7, ""),
        (15, KMAP_KIND, 7, "other"),
        (16, KMAP_KIND, 8, ""),
        (30, KIND_LOST, 0, ""),
        (31, KMAP_KIND + 1, 9, ""),
        (41, KMAP_KIND, 7, ""),
    ]
    assert shown(whole.raw.rows, whole.raw.sites) == expected
    assert [loss.after_seq for loss in whole.lost] == [5]
    assert whole.raw.rows["values"][2].tolist() == [0xFF005000, 0, 0, 1]
    assert whole.raw.counts == {
        "dir_get_page": 1, "dir_get_page (return)": 1, "kmap_high": 5,
        "kmap_high (return)": 2, "other": 1, "other (return)": 2,
    }  # fmt: skip
    for piece in (1, 2, 5):
        stream = open_stream(tracedat.write(s.spec), name="made.dat", piece=piece, rows=2)
        rows = join([part.rows for part in stream.pieces])
        assert shown(rows, stream.ending().raw.sites) == expected
        assert [loss.after_seq for loss in stream.ending().lost] == [5]


def test_a_stack_belongs_to_the_event_before_it_on_its_cpu() -> None:
    """A stack of an event that hmtrace does not keep is not that of an earlier one."""
    s = scene()
    stack = s.events["kernel_stack"].payload("little", 7, [2, b""])[:12]
    stack += KMAP.to_bytes(4, "little") + 0xF788_0010.to_bytes(4, "little")

    def stacked(ts: int) -> Item:
        return Item("event", ts, stack)

    cpu0 = [
        stacked(9),  # whose event was overwritten
        s.item(10, "mapper", 7, KMAP, 1),
        s.item(11, "relative", 7, 5, b"x\0"),
        stacked(12),
        s.item(13, "mapper", 7, KMAP, 2),
        stacked(14),
        s.item(15, "mapper", 7, KMAP, 3),
        Item("lost", count=1),
        stacked(30),
    ]
    cpu1 = [s.item(11, "mapper", 7, KMAP, 4), stacked(12), s.item(13, "relative", 7, 5, b"x\0")]
    s.spec.buffers = [BufferSpec({0: cpu0, 1: cpu1})]
    got = read(s.spec)
    rows = got.raw.rows
    assert rows["ts"][rows["kind"] == KIND_STACK].tolist() == [12, 14]
    assert rows["cpu"][rows["kind"] == KIND_STACK].tolist() == [1, 0]
    assert got.raw.stacks == ["", "kmap_high+0x0<-dir_get_page+0x10 [minix]"]
    assert got.raw.counts["kernel_stack"] == 5
    for rows_at_a_time in (1, 3):
        stream = open_stream(tracedat.write(s.spec), name="made.dat", piece=1, rows=rows_at_a_time)
        assert (join([part.rows for part in stream.pieces]) == rows).all()


def test_return_addresses_of_function_graph_are_sites() -> None:
    """Option funcgraph-retaddr of Linux 6.13."""
    s = scene()
    items = [
        s.item(10, "fgraph_retaddr_entry", 7, 0xC126_F900, 0, 0xC126_E004),
        s.item(11, "fgraph_retaddr_entry", 7, KMAP, 1, 0xF788_0010),
        s.item(12, "fgraph_retaddr_entry", 7, KMAP, 1, 0),
    ]
    s.spec.buffers = [BufferSpec({0: items})]
    got = read(s.spec)
    sites = [got.raw.sites[r["site"]] for r in got.raw.rows]
    assert sites == ["dir_get_page+0x10 [minix]", "other"]
    assert not got.raw.rows["caller"].any()


@pytest.mark.parametrize("version", [6, 7])
def test_options_of_later_versions_are_skipped_by_size(version: int) -> None:
    options = [(77, b"\xff" * 300), (5, b"Linux board 6.1 armv7l"), (0x7FFF, b"")]
    s = scene(version=version, options=options)
    s.spec.buffers = [BufferSpec({0: four_events(s)})]
    got = read(s.spec)
    assert got.uname == "Linux board 6.1 armv7l"
    assert got.events == 4
    assert "options that hmtrace does not know were skipped: 77, 32767" in got.notes
