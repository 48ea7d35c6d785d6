"""Traces for Perfetto: read back with the classes of its messages, held against the outcome."""

from __future__ import annotations

import io
import re
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent
from typer.testing import CliRunner

from collectors import open_capture
from hmtrace.cli import app
from hmtrace.export.perfetto import loops
from hmtrace.export.perfetto.trace import write_perfetto
from hmtrace.export.perfetto.tracks import SPANS
from hmtrace.export.perfetto.writer import PerfettoWriter
from replay.machine.from_facts import machine_from
from replay.observed.loops import TAKES_TIME
from replay.trace.columns import op_codes
from replay.walk import replay
from tests.cycles import without_search
from tests.expected import REPORTS
from tests.writers import ftracetext
from tests.writers.ftracetext import Event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from collectors.capture import Capture
    from replay.machine.model import Machine
    from replay.outcome import Outcome

FIXTURES = Path(__file__).parents[3] / "fixtures"
WAITERS = "i386-hog-a-waiters-pae-smp2"
RACE = "i386-hog-h-race-pae-smp4"
LOCALS = "i386-hog-d-local-pae-smp2"
TWIN = "i386-510-twin-vmalloc128"
SOME = (
    WAITERS, LOCALS, "i386-hog-e-vmapfail-pae-smp1", TWIN,
    "i386-lost-overrun-pae-smp2", "i386-func-minix-pae-smp2", "i386-510rt-minix-pae-smp2",
)  # fmt: skip
BEGINNINGS = {LOCALS: 15_000, RACE: 20_000, TWIN: 30_000}
"""Rows of those that do the same over and over; they end in the midst of calls."""

Slice = tuple[int, int | None, str]
"""Begin, end (None: it has none), name."""


@dataclass
class Read:
    """What a trace says."""

    tracks: dict[int, Any] = field(default_factory=dict)
    slices: dict[int, list[Slice]] = field(default_factory=lambda: defaultdict(list))
    instants: dict[int, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    counters: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    addresses: Counter[int] = field(default_factory=Counter)
    flows: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    over: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    texts: list[dict[str, str]] = field(default_factory=list)

    def named(self, name: str, parent: str = "") -> list[int]:
        """Tracks of a name, below one of a name."""
        return [
            uuid
            for uuid, track in self.tracks.items()
            if track.name == name and (not parent or self.tracks[track.parent_uuid].name == parent)
        ]

    def counted(self, name: str, parent: str) -> list[int]:
        """Values of a counter, by time."""
        (uuid,) = self.named(name, parent)
        return [value for _, value in self.counters[uuid]]


def packets(data: bytes) -> Iterator[Any]:
    trace = Trace()
    trace.ParseFromString(data)
    for packet in trace.packet:
        inner = Trace()
        inner.ParseFromString(zlib.decompress(packet.compressed_packets))
        assert not packet.HasField("track_event")
        yield from inner.packet


@without_search()
def read(data: bytes) -> Read:
    """As the trace processor does: sorted by time, and of one time in the order of the file."""
    found, names, noted, events = Read(), {0: ""}, {}, []
    for number, packet in enumerate(packets(data)):
        assert packet.trusted_packet_sequence_id == 1
        assert (packet.sequence_flags == 1) == (number == 0)
        if packet.HasField("interned_data"):
            for name in packet.interned_data.event_names:
                assert name.iid not in names, "told twice"
                names[name.iid] = name.name
            for name in packet.interned_data.debug_annotation_names:
                noted[name.iid] = name.name
        if packet.HasField("track_descriptor"):
            track = packet.track_descriptor
            assert not track.parent_uuid or track.parent_uuid in found.tracks
            found.tracks[track.uuid] = track
        if packet.HasField("track_event"):
            event = packet.track_event
            uuid = event.track_uuid
            assert uuid in found.tracks, "told too late"
            assert event.name_iid in names, "told too late"
            events.append((packet.timestamp, uuid, event.type, event))
    assert noted == {1: "vaddr"}
    stacks: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
    for ts, uuid, kind, event in sorted(events, key=itemgetter(0)):
        if kind == TrackEvent.TYPE_COUNTER:
            found.counters[uuid].append((ts, event.counter_value))
            continue
        for flow in event.flow_ids:
            found.flows[flow].append((ts, uuid))
        for flow in event.terminating_flow_ids:
            found.over[flow].append((ts, uuid))
        if kind == TrackEvent.TYPE_SLICE_END:
            assert not event.debug_annotations
            begin, of = stacks[uuid].pop()
            found.slices[uuid].append((begin, ts, of))
            continue
        name, told = event.name or names[event.name_iid], {}
        for note in event.debug_annotations:
            if note.name_iid:
                found.addresses[note.pointer_value] += 1
            else:
                told[note.name] = note.string_value
        if kind == TrackEvent.TYPE_SLICE_BEGIN:
            stacks[uuid].append((ts, name))
        else:
            assert kind == TrackEvent.TYPE_INSTANT
            found.instants[uuid].append((ts, name))
            if told:
                found.texts.append(told | {"name": name})
    for uuid, stack in stacks.items():
        found.slices[uuid] += [(ts, None, name) for ts, name in stack]
    return found


@cache
def opened(name: str) -> tuple[Capture, Machine]:
    path = Path(name)
    capture = open_capture(path if path.is_absolute() else FIXTURES / name)
    if name in BEGINNINGS:
        capture = replace(capture, events=capture.events.head(BEGINNINGS[name]))
    return capture, machine_from(capture.facts.snapshot())[0]


@cache
def trace_of(name: str) -> Read:
    capture, machine = opened(name)
    file = io.BytesIO()
    assert write_perfetto(capture, machine, file) == 0
    return read(file.getvalue())


@cache
def outcome_of(name: str) -> Outcome:
    capture, machine = opened(name)
    return replay(
        capture.events, machine, values=capture.facts.snapshot(), lost=capture.lost,
        clock_is_ns=capture.clock_is_ns, span_ns=capture.span_ns,
    )  # fmt: skip


def calls_of(found: Read) -> tuple[Counter[Any], Counter[Any]]:
    """Slices and instants by task, on tracks of tasks and on lanes of theirs."""
    slices, instants = Counter[Any](), Counter[Any]()
    for uuid, track in found.tracks.items():
        own = track if track.HasField("thread") else found.tracks.get(track.parent_uuid)
        is_lane = track.name == "calls that cross"
        if own is None or not (is_lane or track.HasField("thread")) or not own.HasField("thread"):
            continue
        slices.update((own.thread.tid, *one) for one in found.slices[uuid])
        instants.update((own.thread.tid, *one) for one in found.instants[uuid])
    return slices, instants


@pytest.mark.parametrize("name", SOME)
def test_a_trace_says_what_the_capture_and_its_outcome_say(name: str) -> None:
    every_call_of_a_task_is_there_with_its_ends(name)
    counters_come_to_the_figures_of_the_outcome(name)
    waits_and_holds_are_those_of_the_outcome(name)


def every_call_of_a_task_is_there_with_its_ends(name: str) -> None:
    table = opened(name)[0].events.collect()
    rows = table.filter(pl.Series(TAKES_TIME[op_codes(table)]) & (pl.col("pid") > 0))
    slices, instants = Counter[Any](), Counter[Any]()
    wanted = rows.select(
        "pid", "ts", pl.coalesce(pl.col("ts") + pl.col("duration"), "end_ts").alias("over"),
        pl.col("op").cast(pl.String), pl.col("site").cast(pl.String), "caller",
    )  # fmt: skip
    for pid, ts, end, op, site, caller in wanted.iter_rows():
        where = site or (f"{caller:#010x}" if caller is not None else "")
        named = f"{op} {where}".strip()
        if end is None:
            instants[pid, ts, named] += 1
        else:
            slices[pid, ts, end, named] += 1
    found, points = calls_of(trace_of(name))
    assert found == slices
    assert (
        Counter({k: n for k, n in points.items() if k[2] != "kunmap of another task's mapping"})
        == instants
    )
    addresses = Counter(
        table.filter(pl.Series(TAKES_TIME[op_codes(table)]))["vaddr"].drop_nulls().to_list()
    )
    assert trace_of(name).addresses == addresses


def counters_come_to_the_figures_of_the_outcome(name: str) -> None:
    found, outcome = trace_of(name), outcome_of(name)
    pool, arena = outcome.pool, outcome.arena
    if pool.maps and not pool.pages_unknown:
        assert max(found.counted("slots in use", "pkmap pool")) == pool.max_used
        assert max(found.counted("stale slots", "pkmap pool")) == pool.max_stale
        assert found.counted("slots in use", "pkmap pool")[-1] == pool.still_used
    if arena.peak_live is not None and outcome.purges:
        assert max(found.counted("in use", "vmap arena")) == arena.peak_live
        assert min(found.counted("largest hole", "vmap arena")) == arena.largest_hole_min
    for cpu, depths in outcome.local.depth_by_cpu.items():
        (uuid,) = found.named(f"CPU {cpu}", "local mappings of the running task")
        values = [value for _, value in found.counters[uuid]]
        assert max(values) == len(depths)
        assert all(one != two for one, two in pairwise(values))
    (flushes,) = found.named("flushes of the window")
    kinds = Counter(name for _, name in found.instants[flushes])
    assert kinds.total() == pool.flushes
    assert kinds["kmap_flush_unused"] <= pool.unused_passes


def waits_and_holds_are_those_of_the_outcome(name: str) -> None:
    found, outcome = trace_of(name), outcome_of(name)
    waits = [one for uuid in found.named("waits") for one in found.slices[uuid]]
    assert sum(end - ts for ts, end, _ in waits if end is not None) == outcome.pool.wait_ns
    assert len({found.tracks[u].parent_uuid for u in found.named("waits")}) == (
        outcome.pool.waiting_tasks
    )
    held: defaultdict[str, list[int]] = defaultdict(list)
    for uuid in found.named("holds local mappings"):
        for ts, end, site in found.slices[uuid]:
            if end is not None:
                held[site].append(end - ts)
    for site in outcome.sites:
        if site.op == "kmap_local" and site.hold_ns_max is not None and site.site[0] != "(":
            assert max(held[f"kmap_local {site.site}"]) == site.hold_ns_max
    slots = [one for uuid in found.named("holds slots") for one in found.slices[uuid]]
    assert all(end is None or end >= ts for ts, end, _ in slots)
    pool = outcome.pool
    if not pool.pages_unknown and pool.unmapped_twice is not None:
        assert sum(end is not None for _, end, _ in slots) == pool.unmaps
    if pool.still_used == sum(one.slots for one in pool.held if one.first is not None):
        assert sum(end is None for _, end, _ in slots) >= pool.still_used


def test_spans_of_one_lane_do_not_overlap() -> None:
    found = trace_of(WAITERS)
    tracks = {name: found.named(name) for name in SPANS}
    assert len(tracks["holds slots"]) >= 512  # insmod holds all slots
    for uuid in (uuid for uuids in tracks.values() for uuid in uuids):
        ends = sorted((ts, end) for ts, end, _ in found.slices[uuid] if end is not None)
        assert all(a[1] <= b[0] for a, b in pairwise(ends))


@pytest.mark.parametrize(
    ("name", "cpus"), [(RACE, 4), (WAITERS, 2), ("i386-hog-e-vmapfail-pae-smp1", 1)]
)
def test_a_flush_leads_to_the_cpus_that_it_stops(name: str, cpus: int) -> None:
    found = trace_of(name)
    table = opened(name)[0].events.collect()
    flushes = table.filter(
        (pl.col("op") == "flush_all")
        | ((pl.col("op") == "flush_range") & (pl.col("end") > pl.col("start")))
    )
    assert flushes.height
    assert len(found.flows) == flushes.height * (cpus - 1) == outcome_of(name).tlb.ipis
    stops = Counter[int]()
    own = dict(flushes.select("seq", "cpu").iter_rows())
    for flow, ends in found.over.items():
        assert len(found.flows[flow]) == len(ends) == 1
        assert found.flows[flow][0][0] == ends[0][0]
        track = found.tracks[ends[0][1]]
        assert found.tracks[track.parent_uuid].name == "stopped by TLB flushes"
        cpu = int(track.name.removeprefix("CPU "))
        assert own[(flow - 1) >> 10] != cpu
        stops[cpu] += 1
    assert stops.total() == len(found.flows)


def test_arm_broadcasts_and_stops_nobody() -> None:
    assert not trace_of("arm-612-percpu-lpae-smp2").flows


def test_a_mapping_that_another_task_takes_down_is_handed_over(tmp_path: Path) -> None:
    folder = tmp_path / "walk"
    made = CliRunner().invoke(
        app, ["synth", "minix-walk", "--events", "2000", "-o", str(folder), "--arch", "arm"]
    )
    assert made.exit_code == 0, made.output
    lines = (folder / "trace.txt").read_text().split("\n")
    at = [n for n, line in enumerate(lines) if ": kunmap_high: " in line][400]
    lines[at] = re.sub(r"^ *\S+?-\d+ ", "        stranger-9999 ", lines[at])
    (folder / "trace.txt").write_text("\n".join(lines))
    found = trace_of(str(folder))
    (flow,) = found.flows
    ((begin, lane),), ((end, track),) = found.flows[flow], found.over[flow]
    assert found.tracks[track].thread.tid == 9999
    assert (end, "kunmap of another task's mapping") in found.instants[track]
    assert (begin, end) in [(ts, until) for ts, until, _ in found.slices[lane]]
    assert found.tracks[found.tracks[lane].parent_uuid].thread.tid != 9999
    crossed = outcome_of(str(folder)).pool.crossed
    assert crossed is not None
    assert crossed.other_task == 1


def test_findings_are_instants_at_their_time() -> None:
    found, outcome = trace_of(WAITERS), outcome_of(WAITERS)
    (uuid,) = found.named("hmtrace: findings")
    assert len(found.instants[uuid]) == len(outcome.findings)
    times = {one.first.ts for one in outcome.findings if one.first is not None}
    assert times <= {ts for ts, _ in found.instants[uuid]}
    exhausted = next(told for told in found.texts if told["rule"] == "pool-exhausted")
    assert exhausted["name"].startswith("problem: ")
    assert "insmod" in exhausted["evidence"]


def test_losses_are_spans() -> None:
    found = trace_of("i386-lost-overrun-pae-smp2")
    (root,) = found.named("hmtrace: lost events")
    lanes = [uuid for uuid, track in found.tracks.items() if track.parent_uuid == root]
    spans = sorted(one[:2] for uuid in lanes for one in found.slices[uuid])
    gaps = opened("i386-lost-overrun-pae-smp2")[0].lost.intervals
    assert spans == sorted((g.start_ts or g.end_ts, g.end_ts or g.start_ts) for g in gaps)


@pytest.mark.parametrize("name", [WAITERS, LOCALS])
def test_any_cut_gives_the_same(name: str) -> None:
    capture, machine = opened(name)
    file, values = io.BytesIO(), capture.facts.snapshot()
    writer = PerfettoWriter(file, machine, values, clock_is_ns=True)
    outcome = replay(
        capture.events, machine, values=values, lost=capture.lost, watch=writer, rows=1_500
    )
    writer.finish(outcome, capture.lost, [])
    cut, whole = read(file.getvalue()), trace_of(name)
    assert calls_of(cut) == calls_of(whole)
    assert cut.flows.keys() == whole.flows.keys()
    for kind in ("holds slots", "holds local mappings", "waits"):
        spans = [
            sorted(str(one) for u in r.named(kind) for one in r.slices[u]) for r in (cut, whole)
        ]
        assert spans[0] == spans[1]
    for name_, parent in (("stale slots", "pkmap pool"), ("in use", "vmap arena")):
        assert cut.counted(name_, parent) == whole.counted(name_, parent)


def test_a_snapshot_of_another_run_is_left_aside() -> None:
    capture, machine = opened(WAITERS)
    values = capture.facts.snapshot()
    wrong = replace(values, pool_state=(77, tuple((n, 2, None) for n in range(400))))
    with_it, without = io.BytesIO(), io.BytesIO()
    facts = _Facts(wrong)
    assert write_perfetto(replace(capture, facts=facts), machine, with_it) == 0  # type: ignore[arg-type]
    facts = _Facts(replace(values, pool_state=None))
    write_perfetto(replace(capture, facts=facts), machine, without)  # type: ignore[arg-type]
    found, expected = read(with_it.getvalue()), read(without.getvalue())
    for counter in ("slots in use", "stale slots"):
        assert found.counted(counter, "pkmap pool") == expected.counted(counter, "pkmap pool")


@dataclass(frozen=True)
class _Facts:
    values: Any

    def snapshot(self) -> Any:
        return self.values


def test_names_of_tasks_are_made_safe_and_the_last_one_counts(tmp_path: Path) -> None:
    def event(comm: str, ts: int) -> Event:
        return Event(comm, 7, 0, ts, "p: (kmap_high+0x0/0x260) page=0x1")

    (tmp_path / "t").write_text(
        ftracetext.tracefs([event("bash", 10**9), event("a\x1b[2J<b>", 2 * 10**9)])
    )
    done = CliRunner().invoke(
        app, ["convert", str(tmp_path / "t"), "-o", str(tmp_path / "x.pftrace")]
    )
    assert done.exit_code == 0, done.output
    found = read((tmp_path / "x.pftrace").read_bytes())
    names = {track.thread.thread_name for track in found.tracks.values() if track.thread.tid == 7}
    assert names == {r"a\x1b[2J<b>"}


def test_calls_that_cross_go_to_lanes_and_many_of_them_are_instants() -> None:
    """Ten calls of one task, each of which begins in the one before and ends behind it."""
    number = 10
    ts = np.arange(number) * 10
    calls = loops.CallPackets(
        ts, ts + 1000, np.zeros(number, np.int64), ts + 1, np.full(number, -1),
        *np.zeros((2, number), np.int64),
    )  # fmt: skip
    lanes = loops.with_room(loops.no_lanes(), 1, number)
    out = np.zeros(1 << 16, np.uint8)
    done, size = loops.put_calls(out, calls, lanes, 0)
    assert done == number
    _, more = loops.put_ends(out[size:].copy(), lanes, 0)
    assert more
    kinds = Counter(packet.track_event.type for packet in plain_packets(out[:size].tobytes()))
    most = loops.MOST_CALL_LANES
    assert kinds == {loops.BEGIN: most, loops.INSTANT: number - most}
    assert lanes.reg.tolist() == [most, number - most]


def plain_packets(data: bytes) -> list[Any]:
    trace = Trace()
    trace.ParseFromString(data)
    return list(trace.packet)


NUMBERS = st.integers(0, (1 << 62) - 1)


@given(
    kind=st.sampled_from([1, 2, 3, 4]), ts=NUMBERS, track=st.integers(1, 1 << 40),
    name=st.integers(0, 1 << 31), value=st.integers(-1, (1 << 62) - 1),
    flow=st.integers(1, 1 << 61),
    flows=st.integers(0, 3), over=st.integers(0, 1 << 61),
)  # fmt: skip
def test_bytes_are_those_of_the_message(
    kind: int, ts: int, track: int, name: int, value: int, flow: int, flows: int, over: int
) -> None:
    value = max(value, 0) if kind == loops.COUNTER else value
    out = np.zeros(256, np.uint8)
    size = loops.put_event.py_func(out, 0, kind, ts, track, name, value, flow, flows, over)
    (packet,) = plain_packets(out[:size].tobytes())
    event = packet.track_event
    assert (packet.timestamp, packet.trusted_packet_sequence_id, packet.sequence_flags) == (
        ts,
        1,
        2,
    )
    assert (event.type, event.track_uuid, event.name_iid) == (kind, track, name)
    assert list(event.flow_ids) == [flow + n for n in range(flows)]
    assert list(event.terminating_flow_ids) == [over] * (over > 0)
    if kind == loops.COUNTER:
        assert event.counter_value == value
    else:
        assert [note.pointer_value for note in event.debug_annotations] == [value] * (value >= 0)
    assert packet.SerializeToString()  # nothing is unknown in it
    assert len(packet.SerializeToString()) + 2 >= size - 1


def test_reports_name_the_captures_that_are_looked_at() -> None:
    assert set(SOME) <= REPORTS.keys()
