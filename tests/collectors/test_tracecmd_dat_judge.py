"""Every event of a trace.dat against `trace-cmd report -R -t`, where trace-cmd is installed.

Also a program: ``python tests/collectors/test_tracecmd_dat_judge.py FILE…`` judges any files.
"""

from __future__ import annotations

import gzip
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collectors.probes import KIND_LOST
from collectors.tracecmd_dat import read_raw
from collectors.tracecmd_dat.container import open_container
from collectors.tracecmd_dat.merging import Merger
from collectors.tracecmd_dat.read import choose
from tests.collectors import everyfield as frames
from tests.writers import tracedat
from tests.writers.tracedat import BufferSpec, FileSpec, Item

FIXTURES = Path(__file__).parents[2] / "fixtures"
TRACE_CMD = shutil.which("trace-cmd")
LINE = re.compile(
    r"^\s*(?P<comm>.*?)-(?P<pid>-?\d+)\s+\[(?P<cpu>\d+)\]\s*(?P<s>\d+)(?:\.(?P<ns>\d{9}))?: "
    r"(?P<name>\w+): ?(?P<rest>.*)$"
)
FIELD = re.compile(r"(?:^| )(\w+)=(\S+)")
LOST = re.compile(r"^CPU:(\d+) \[(?:(-?\d+) )?EVENTS DROPPED\]")


Matches = list[re.Match[str]]


def judged(path: Path) -> tuple[Matches, Matches]:
    """Events and losses of trace-cmd's report."""
    done = subprocess.run(
        [str(TRACE_CMD), "report", "-R", "-t", str(path)],
        capture_output=True,
        check=True,
        timeout=300,
    )
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    return [m for m in map(LINE.match, lines) if m], [m for m in map(LOST.match, lines) if m]


def number(text: str, *, address: bool) -> int | None:
    try:
        return int(text, 16 if address or text.startswith("0x") else 10)
    except ValueError:
        return None


def compare(path: Path) -> tuple[int, int]:
    """Assert that hmtrace and trace-cmd read the same; give events and fields compared."""
    lines, drops = judged(path)
    container = open_container(memoryview(path.read_bytes()), name=path.name)
    buffer, _ = choose(container, None)
    merger = Merger(container, buffer, lambda event, _ip: (event + 1, 0, 0))
    ours, cpus, types = [], [], []
    for order in merger.windows():
        kept = order[merger.pool.plan[order] > 0]
        ours += merger.pool.ts[kept].tolist()
        cpus += merger.pool.cpu[kept].tolist()
        types += (merger.pool.plan[kept] - 1).tolist()
    assert len(ours) == len(lines)
    ts = [int(m["s"]) * 10**9 + int(m["ns"]) if m["ns"] else int(m["s"]) for m in lines]
    assert ours == ts
    assert cpus == [int(m["cpu"]) for m in lines]
    raw = read_raw(path.read_bytes(), name=path.name).raw
    lost = raw.rows[raw.rows["kind"] == KIND_LOST]
    known = np.where(lost["present"] & 1, lost["values"][:, 0].astype(np.int64), -1)
    theirs = [(int(m[1]), int(m[2] or -1)) for m in drops]
    assert list(zip(lost["cpu"].tolist(), known.tolist(), strict=True)) == theirs
    events = container.meta.events
    names = [events[t].name for t in types]
    assert names == [m["name"] for m in lines]
    found = frames.scan_buffer(container, buffer)
    fields = 0
    for name, lazy in found.items():
        frame = lazy.collect()
        own = [m for m in lines if m["name"] == name.rpartition(":")[2]]
        if ":" in name:
            continue
        assert frame["common_pid"].to_list() == [int(m["pid"]) for m in own]
        texts = [dict(FIELD.findall(m["rest"])) for m in own]
        for column in frame.columns:
            if not frame.schema[column].is_integer() or not texts or column not in texts[0]:
                continue
            address = column.startswith("__probe_") or column in ("ip", "parent_ip", "func")
            values = [number(t[column], address=address) for t in texts]
            if None in values:
                continue
            bits = frame[column].to_numpy().dtype.itemsize * 8
            ours = [v & ((1 << bits) - 1) for v in frame[column].to_list()]
            assert ours == [v & ((1 << bits) - 1) for v in values if v is not None], (name, column)
            fields += len(ours)
    return len(lines), fields


@pytest.mark.skipif(TRACE_CMD is None, reason="trace-cmd is not installed")
@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*/*.dat")), ids=lambda p: p.parent.name)
def test_every_event_equals_trace_cmd(path: Path) -> None:
    events, fields = compare(path)
    assert events > 1000
    # trace-cmd shows the function tracer's addresses as names only
    assert fields > events or "-func-" in path.parent.name


def crowd(seed: int, **kw: Any) -> FileSpec:
    """A file with everything that pages can hold, four CPUs, some of them missing."""
    draw = random.Random(seed)
    word = kw["word"]
    events = tracedat.kernel_events(word)
    spec = FileSpec([], list(events.values()), comms={7: "bash", 9: "x y"}, **kw)
    cpus: dict[int, list[Item]] = {}
    for cpu in (0, 2, 3):
        now = draw.randrange(1 << 40)
        items: list[Item] = []
        for _ in range(400):
            what = draw.choice(["event"] * 12 + ["stamp", "discard", "lost", "page"])
            if items and items[-1].what == "lost":
                # trace-cmd forgets a loss before a stamp or a discarded record (libtraceevent
                # src/kbuffer-parse.c: kbuffer_missed_events); hmtrace does not.
                what = "event"
            if what in ("lost", "page"):
                items.append(Item(what, count=draw.choice([None, 5, 1000])))
                continue
            now += draw.choice([1, 1, 2, 1000, 1 << 27, (1 << 27) + 5, 1 << 35])
            ip = 0xC1000000 + draw.randrange(100)
            pid = draw.choice([0, 7, 9, 77])
            name = draw.choice(["mapper", "mapper_back", "with_text", "relative"])
            values = {
                "mapper": [ip, draw.getrandbits(32)],
                "mapper_back": [ip, ip + 5, draw.getrandbits(32)],
                "with_text": [ip, b"abc\0", -draw.getrandbits(60), b"\1\2\3\4\5\6"],
                "relative": [-3, b"x" * draw.randrange(200) + b"\0"],
            }[name]
            payload = events[name].payload(spec.order, pid, values)
            items.append(Item(what, now, payload))
        cpus[cpu] = items
    spec.buffers = [BufferSpec(cpus)]
    return spec


@pytest.mark.skipif(TRACE_CMD is None, reason="trace-cmd is not installed")
@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("word", [4, 8])
@pytest.mark.parametrize(
    ("version", "compression"), [(6, "none"), (7, "none"), (7, "zstd")], ids=str
)
def test_written_files_equal_trace_cmd(
    tmp_path: Path, version: int, compression: str, word: int, order: Any
) -> None:
    spec = crowd(version + word, version=version, compression=compression, word=word, order=order)
    path = tmp_path / "made.dat"
    path.write_bytes(tracedat.write(spec))
    events, fields = compare(path)
    assert events > 700
    assert fields > events


def _shift(*columns: list[int], flags: int) -> bytes:
    out = (5).to_bytes(8, "little") + flags.to_bytes(4, "little") + (4).to_bytes(4, "little")
    body = len(columns[0]).to_bytes(4, "little")
    for column in columns[:3]:
        body += b"".join(v.to_bytes(8, "little", signed=True) for v in column)
    tail = b"".join(v.to_bytes(8, "little") for v in columns[3])
    return out + body * 4 + tail * 4


@pytest.mark.skipif(TRACE_CMD is None, reason="trace-cmd is not installed")
@pytest.mark.parametrize(
    "option",
    [
        (7, b"123456789\0"),
        (7, b"-1000\0"),
        (1, b"0x1234\0"),
        (14, (0x40FFEE11).to_bytes(4, "little") + (31).to_bytes(4, "little") + bytes(8)),
        (12, _shift([0], [777], [1], [0], flags=0)),
        (12, _shift([0, 1 << 41, 1 << 42], [5, 90, -(1 << 30)], [3, 3, 3], [1, 1, 1], flags=0)),
        (12, _shift([0, 1 << 41, 1 << 42], [5, 90, -(1 << 10)], [1, 1, 1], [0, 0, 0], flags=1)),
        (4711, b"unknown"),
    ],
    ids=["offset", "negative", "date", "tsc", "guest1", "guest3", "interpolate", "unknown"],
)
def test_clocks_equal_trace_cmd(tmp_path: Path, option: tuple[int, bytes]) -> None:
    spec = crowd(3, word=4, options=[option])
    path = tmp_path / "made.dat"
    path.write_bytes(tracedat.write(spec))
    assert compare(path)[0] > 700


def main(paths: list[str]) -> None:
    total = [0, 0]
    for name in paths:
        path = Path(name)
        with tempfile.NamedTemporaryFile(suffix=".dat") as plain:
            if path.suffix == ".gz":
                plain.write(gzip.decompress(path.read_bytes()))
                plain.flush()
                path = Path(plain.name)
            try:
                events, fields = compare(path)
            except AssertionError as error:
                sys.stdout.write(f"DIFFERS {name} {str(error)[:300]}\n")
                continue
        total = [total[0] + events, total[1] + fields]
        sys.stdout.write(f"equal {events} {fields} {name}\n")
    sys.stdout.write(f"all {total[0]} {total[1]}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
