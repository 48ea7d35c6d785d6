"""Random event tables, nonsense included: small windows against one window."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest

from collectors.events import OPS, SCHEMA
from collectors.snapshot import Area, Snapshot
from hmtrace.report.document import outcome_document
from replay.machine.layout import layout_of
from replay.machine.model import Machine
from replay.machine.options import with_options
from replay.pool import stream as pool_stream
from replay.trace.windows import WINDOW_ROWS
from replay.validate.run import validate
from replay.walk import replay
from replay.whatif.run import PLACEMENTS, Server
from replay.whatif.workload import distil
from tests.replay import whole
from tests.replay.test_windows import KEYS, same

I386 = Machine(arch="i386", pae=True, nr_cpus=4, cpus=4, ram=((0, 1 << 30),))
OLD = Machine(arch="i386", pae=True, nr_cpus=4, cpus=4, ram=((0, 1 << 30),), generation="5.10")


class Gap(NamedTuple):
    after_seq: int
    cpu: int | None = None
    start_ts: int | None = None
    end_ts: int | None = None


class Lost(NamedTuple):
    intervals: tuple[Gap, ...]
    events: int = 3
    unknown: int = 0


def table(seed: int, rows: int) -> pl.DataFrame:
    """Calls of few tasks on few pages, slots and areas; many overlap, and many end nowhere."""
    rng = np.random.default_rng(seed)
    layout = layout_of(I386)
    seq = np.cumsum(rng.integers(1, 4, rows))
    op = rng.choice(len(OPS), rows)
    length = np.where(rng.random(rows) < 0.1, rng.integers(0, 300, rows), rng.integers(0, 12, rows))

    def some(values: Any, share: float) -> list[int | None]:
        return [
            int(v) if keep else None
            for v, keep in zip(values, rng.random(rows) < share, strict=True)
        ]

    pool = layout.pkmap_base + 4096 * rng.integers(0, 24, rows)
    local = layout.kmap_fix_top - 4096 * rng.integers(0, 40, rows)
    area = layout.vmalloc_start + 4096 * rng.integers(0, 900, rows)
    names = np.array(OPS)[op]
    vaddr = np.where(np.char.find(names, "local") > 0, local, pool)
    vaddr = np.where(np.isin(names, ("area_alloc", "area_free")), area, vaddr)
    page = rng.integers(0, 30, rows)
    sizes = 4096 * rng.integers(1, 40, rows)
    whole_pool = rng.random(rows) < 0.3
    start = np.where(whole_pool, layout.pkmap_base, area)
    end = np.where(whole_pool, layout.pkmap_end, area + sizes)
    ended = rng.random(rows) < 0.8
    columns: dict[str, Any] = {
        "seq": seq,
        "ts": np.cumsum(rng.integers(0, 500, rows)),
        "cpu": rng.integers(0, 4, rows),
        "pid": rng.integers(0, 6, rows),
        "ctx": rng.choice([0, 0, 0, 0, 2, 4], rows),
        "op": names,
        "page": some(0xF600_0000 + 40 * page, 0.9),
        "pfn": some(0x38000 + page, 0.6),
        "vaddr": some(np.where(rng.random(rows) < 0.05, 0, vaddr), 0.8),
        "pages": some(rng.integers(0, 3, rows), 0.7),
        "size": some(sizes, 0.9),
        "start": some(start, 0.9),
        "end": some(end, 0.9),
        "caller": some(0xC010_0000 + 16 * rng.integers(0, 5, rows), 0.6),
        "end_seq": [int(s) if e else None for s, e in zip(seq + length, ended, strict=True)],
        "parent": some(seq[np.maximum(np.arange(rows) - rng.integers(1, 6, rows), 0)], 0.4),
        "entry_traced": [True] * rows,
        "blocked": rng.random(rows) < 0.5,
    }
    frame = pl.DataFrame({name: columns.get(name, [None] * rows) for name in SCHEMA}, schema=SCHEMA)
    return frame.with_columns(
        end_ts=pl.when(pl.col("end_seq").is_not_null()).then(pl.col("ts") + 90)
    )


START = layout_of(I386).vmalloc_start
AREA = Area(START, START + (8 << 12), "vmalloc", "", None, None)
VALUES = Snapshot(areas=(AREA,), pool_state=(5, ((2, 2, 0x38003), (9, 1, 0x38011), (11, 3, None))))


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let much be settled before the table ends."""
    monkeypatch.setattr(pool_stream, "UNMAP_EVENTS", 100)
    monkeypatch.setattr(pool_stream, "OPEN_EVENTS", 75)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "seed"), [(1, 0), (1, 1), *((rows, seed) for rows in (13, 85) for seed in range(4))]
)
@pytest.mark.parametrize("machine", [I386, OLD], ids=["i386", "5.10"])
def test_small_windows_and_one(seed: int, rows: int, machine: Machine) -> None:
    events = table(seed, 800)[:400] if rows > 1 else table(seed, 250)[:125]
    lost = Lost((Gap(int(events["seq"][45])), Gap(int(events["seq"][100])))) if seed % 2 else None
    options: dict[str, Any] = {"values": VALUES if seed % 3 else Snapshot(), "lost": lost}
    expected = outcome_document(replay(events, machine, **options))
    same(outcome_document(replay(events, machine, rows=rows, **options)), expected)


@pytest.mark.parametrize("seed", range(4))
def test_another_machine_in_small_windows_and_one(seed: int) -> None:
    events = table(seed, 600)
    target = with_options(I386, pkmap=16, cpus=2, vmalloc=256 << 20)
    values = VALUES if seed % 3 else Snapshot()
    found, expected = (
        Server(distil(events, I386, values=values, rows=rows), I386, values=values)
        for rows in (31, WINDOW_ROWS)
    )
    same(outcome_document(found.baseline), outcome_document(expected.baseline))
    for placement in PLACEMENTS:
        one, other = (server.on(target, placement=placement) for server in (found, expected))
        same(outcome_document(one), outcome_document(other))


@pytest.mark.parametrize("seed", range(4))
def test_verdicts_of_small_windows(seed: int) -> None:
    events = table(seed, 600)
    options: dict[str, Any] = {"values": VALUES if seed % 3 else Snapshot()}
    expected = whole.validate(events, I386, **options).as_json()
    found = validate(events.lazy(), I386, **options).as_json()
    same({key: found[key] for key in KEYS}, {key: expected[key] for key in KEYS})
    same(validate(events.lazy(), I386, rows=29, **options).as_json(), found)
