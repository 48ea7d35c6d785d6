"""perf.data of every form: what is written is read, and perf script reads the same."""

from __future__ import annotations

import random
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors import perf_data
from collectors.input.source import Source
from collectors.probes import FUNCTION_OF, KIND_LOST, KIND_STACK, KIND_SWITCH
from collectors.text import perf_script
from tests.writers import perfdata as w
from tests.writers.perfdata import AttrSpec, FileSpec, SampleSpec, SideSpec

if TYPE_CHECKING:
    from pathlib import Path

PERF = shutil.which("perf")
KMAP = 2 * FUNCTION_OF["kmap_high"]
ENTRY = 0xC126F820
SECOND = 10**9
COMMS = {5: "init x", 7: "bash", 8: "a 1.000000: b:"}

Row = tuple[int, int, int, int, str, int, int]
"""Time, kind, CPU, task, its name, first value, caller."""


def crowd(seed: int, *, judged: bool = False) -> tuple[FileSpec, list[Row]]:
    """A file drawn at random, and its rows. `judged`: only what perf 6.1 can read."""
    draw = random.Random(seed)
    word, order = draw.choice((4, 8)), draw.choice(("little", "big"))
    form = draw.choice((w.FILE, w.PIPE))
    if judged and form == w.PIPE:
        order = "little"  # perf 6.1 reads no stream of the other endianness
    events = w.probe_events(word)
    kind = w.USUAL
    for bit in (w.ADDR, w.CALLCHAIN, w.ID, w.STREAM_ID, w.READ):
        kind |= bit * draw.choice((0, 0, 1))
    compress = draw.choice((0, 0, 100, 3000))
    size = draw.choice((112, 120, 128, 136))
    attrs = [
        AttrSpec(
            event, kind, draw.choice((4, 4 | 1, 4 | 16)), (10 * n + 10, 10 * n + 11),
            sample_id_all=True, size=size,
        )
        for n, event in enumerate(events.values())
    ]  # fmt: skip
    items: list[w.Item] = []
    rows: list[Row] = []
    cpus = draw.sample(range(8), draw.randrange(1, 4))
    now = dict.fromkeys(cpus, SECOND)
    items += [SideSpec("comm", 0, cpus[0], tid, name) for tid, name in COMMS.items()]
    used: set[int] = set()
    for _ in range(draw.randrange(1, 120)):
        cpu, tid = draw.choice(cpus), draw.choice((*COMMS, 9999))
        now[cpu] += draw.choice((1, 7, 1000, 10**6))
        while now[cpu] in used:  # equal stamps on two CPUs: any order would be right
            now[cpu] += 1
        ts = now[cpu]
        used.add(ts)
        name, value, site = draw.choice(list(events)), draw.getrandbits(32), draw.getrandbits(32)
        number = list(events).index(name)
        comm = COMMS.get(tid, f":{tid}")
        if draw.random() < 0.05:
            items.append(SideSpec("lost", ts, cpu, tid, count=draw.randrange(1, 1 << 30)))
            rows.append((ts, KIND_LOST, cpu, 0, "", items[-1].count, 0))
            continue
        if draw.random() < 0.05:
            items.append(SideSpec("round"))
        values: list[int | bytes]
        if name == "kmap_high":
            values = [ENTRY, value]
            rows.append((ts, KMAP, cpu, tid, comm, value, 0))
        elif name == "kmap_high_ret":
            values = [ENTRY, site, value]
            rows.append((ts, KMAP + 1, cpu, tid, comm, value, site))
        else:
            values = [comm.encode(), tid, 120, draw.choice((0, 1, 2)), b"bash", 7, 120]
            rows.append((ts, KIND_SWITCH, cpu, tid, comm, tid, 0))
        payload = events[name].payload(order, tid, values, preempt=1)
        chain = tuple(draw.getrandbits(31) for _ in range(draw.randrange(5)))
        sample = SampleSpec(ts, cpu, tid, payload, number, chain=chain, id=10 * number + 10)
        items.append(sample)
    spec = FileSpec(attrs, items, order, word, form, compress=compress, cpus=8, comms=COMMS)
    if not judged:
        spec.compressed2 = bool(compress) and draw.random() < 0.5
    else:
        spec.items = [i for i in spec.items if not (isinstance(i, SideSpec) and i.what == "round")]
    return spec, sorted(rows)


def rows_of(got: Any) -> list[Row]:
    raw = got.raw
    return [
        (int(r["ts"]), int(r["kind"]), int(r["cpu"]), int(r["pid"]), raw.comms[r["comm"]],
         int(r["values"][0]), int(r["caller"]))
        for r in raw.rows
        if r["kind"] != KIND_STACK  # tests/collectors/test_perf_chains.py
    ]  # fmt: skip


@settings(max_examples=40)
@given(st.integers(0, 1 << 32))
def test_written_is_read(seed: int) -> None:
    spec, rows = crowd(seed)
    got = perf_data.read(Source.from_bytes(w.write(spec), "perf.data"))
    assert rows_of(got) == rows
    assert got.lost.events == sum(r[5] for r in rows if r[1] == KIND_LOST)


def test_many_probed_addresses_are_told_apart() -> None:
    """The table of addresses grows, and what is known of each moves with it."""
    number = 600
    names = dict.fromkeys(range(number), "other") | {0: "kmap_high", number - 1: "kunmap_high"}
    symbols = "".join(f"{ENTRY + 16 * n:x} t {name}\n" for n, name in names.items())
    address, page = w.probe_events(4)["kmap_high"].fields
    event = w.EventSpec("hm", "probed", 1500, (address, page))
    bare = w.EventSpec("hm", "bare", 1501, (page,))
    items: list[w.Item] = [
        SampleSpec(SECOND + n, 0, 7, event.payload("little", 7, [ENTRY + 16 * (n % number), n]))
        for n in range(2 * number)
    ]
    other = SampleSpec(SECOND, 0, 7, bare.payload("little", 7, [1]), attr=1)
    items = [other, *items, other]
    attrs = [AttrSpec(event, ids=(10,)), AttrSpec(bare, ids=(12,))]
    data = w.write(FileSpec(attrs, items, kallsyms=symbols))
    raw = perf_data.read(Source.from_bytes(data, "many.data"), None).raw
    assert raw.counts == {
        "bare": 2,
        "kmap_high": 2,
        "kunmap_high": 2,
        "probed": 2 * number - 4,
    }
    wanted = [0, number - 1, number, 2 * number - 1]
    assert (raw.rows["ts"] - SECOND).tolist() == wanted
    assert raw.rows["values"][:, 0].tolist() == wanted


@pytest.mark.parametrize("compress", [0, 100], ids=["plain", "compressed"])
def test_what_perf_said_ends_a_stream(compress: int) -> None:
    """``perf record -o - > file 2>&1``: the words come last, here behind whole records."""
    spec, rows = crowd(7)
    spec.form, spec.compress = w.PIPE, compress
    words = b"[ perf record: Woken up 1 times to write data ]\n[ perf record: Captured and wrote]\n"
    got = perf_data.read(Source.from_bytes(w.write(spec) + words, "perf.data"))
    assert rows_of(got) == rows
    assert "what perf record said (2>&1) follows the records, and is left out" in got.notes
    plain = perf_data.read(Source.from_bytes(w.write(spec), "perf.data"))
    assert rows_of(plain) == rows
    assert plain.notes == got.notes[:-1]


@pytest.mark.skipif(PERF is None, reason="perf is not installed")
@pytest.mark.parametrize("seed", range(12))
def test_perf_script_says_the_same(seed: int, tmp_path: Path) -> None:
    spec, _ = crowd(seed, judged=True)
    path = tmp_path / "perf.data"
    path.write_bytes(w.write(spec))
    command = [str(PERF), "script", "-f", "-i", str(path), "--ns", "--show-lost-events"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=300)
    theirs = perf_script.read(Source.from_bytes(done.stdout, "text"))
    ours = perf_data.read(Source.from_bytes(path.read_bytes(), "perf.data"))
    assert rows_of(ours) == rows_of(theirs)
    assert ours.raw.counts == theirs.raw.counts
