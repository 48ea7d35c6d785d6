"""Every event of a trace.dat against `trace-cmd report -R -t`, where trace-cmd is installed.

Also a program: ``python tests/collectors/test_tracecmd_dat_judge.py FILE…`` judges any files.
"""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from collectors.tracecmd_dat import frames, pages
from collectors.tracecmd_dat.container import open_container
from collectors.tracecmd_dat.read import choose

FIXTURES = Path(__file__).parents[2] / "fixtures"
TRACE_CMD = shutil.which("trace-cmd")
LINE = re.compile(
    r"^\s*(?P<comm>.*?)-(?P<pid>-?\d+)\s+\[(?P<cpu>\d+)\]\s*(?P<s>\d+)(?:\.(?P<ns>\d{9}))?: "
    r"(?P<name>\w+): ?(?P<rest>.*)$"
)
FIELD = re.compile(r"(?:^| )(\w+)=(\S+)")
LOST = re.compile(r"^CPU:\d+ \[(\d+ )?EVENTS DROPPED\]")


def judged(path: Path) -> list[re.Match[str]]:
    """Lines of trace-cmd's report."""
    done = subprocess.run(
        [str(TRACE_CMD), "report", "-R", "-t", str(path)],
        capture_output=True,
        check=True,
        timeout=300,
    )
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    return [m for m in map(LINE.match, lines) if m]


def number(text: str, *, address: bool) -> int | None:
    try:
        return int(text, 16 if address or text.startswith("0x") else 10)
    except ValueError:
        return None


def compare(path: Path) -> tuple[int, int]:
    """Assert that hmtrace and trace-cmd read the same; give events and fields compared."""
    lines = judged(path)
    container = open_container(memoryview(path.read_bytes()), name=path.name)
    buffer, _ = choose(container, None)
    loaded = pages.load(container, buffer)
    plan_of = np.append(loaded.slot_type, np.int32(-1)).astype(np.int32)
    records = pages.list_records(loaded, plan_of)
    assert len(records.ts) == len(lines)
    ts = [int(m["s"]) * 10**9 + int(m["ns"]) if m["ns"] else int(m["s"]) for m in lines]
    assert records.ts.tolist() == ts
    assert records.cpu.tolist() == [int(m["cpu"]) for m in lines]
    events = container.meta.events
    names = [events[int(t)].name for t in records.plan[records.order]]
    assert names == [m["name"] for m in lines]
    found = frames.scan_pages(loaded)
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
            theirs = [number(t[column], address=address) for t in texts]
            if None in theirs:
                continue
            bits = frame[column].to_numpy().dtype.itemsize * 8
            ours = [v & ((1 << bits) - 1) for v in frame[column].to_list()]
            assert ours == [v & ((1 << bits) - 1) for v in theirs if v is not None], (name, column)
            fields += len(ours)
    return len(lines), fields


@pytest.mark.skipif(TRACE_CMD is None, reason="trace-cmd is not installed")
@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*/*.dat")), ids=lambda p: p.parent.name)
def test_every_event_equals_trace_cmd(path: Path) -> None:
    events, fields = compare(path)
    assert events > 1000
    assert fields > events


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
                print("DIFFERS", name, str(error)[:300])
                continue
        total = [total[0] + events, total[1] + fields]
        print("equal", events, fields, name)
    print("all", *total)


if __name__ == "__main__":
    main(sys.argv[1:])
