"""Values that no machine has: counted, cut, and as wrong as before."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from collectors.events import SCHEMA
from collectors.snapshot import Snapshot
from collectors.table.pages import BOTH, HAS_PAGE, PageMap, calibrate
from replay.machine.from_facts import machine_from
from replay.validate.run import validate
from tests.replay.whole import outcome_of, replay_events

HUGE = (1 << 63) + 4096


def table(op: str, **values: int) -> pl.DataFrame:
    """Two calls of one operation with the same values."""
    row = {"seq": 0, "ts": 0, "cpu": 0, "pid": 1, "ctx": 0, "op": op, "entry_traced": True}
    rows = [{**row, **values, "seq": n, "ts": n, "end_ts": n, "end_seq": n} for n in range(2)]
    return pl.DataFrame(rows, schema=SCHEMA)


@pytest.mark.parametrize(
    ("op", "values"),
    [
        ("kmap", {"page": HUGE, "vaddr": HUGE}),
        ("kmap_local", {"page": HUGE, "pfn": HUGE, "vaddr": HUGE}),
        ("kmap_local", {"pfn": (1 << 64) - 1, "vaddr": 0xFFFFFFFF}),
        ("area_alloc", {"size": HUGE, "align": HUGE, "start": 0, "end": HUGE, "vaddr": HUGE}),
        ("area_free", {"vaddr": HUGE, "end": HUGE}),
        ("flush_range", {"start": 0, "end": HUGE}),
        ("vm_map_ram", {"pages": HUGE, "vaddr": HUGE}),
    ],
)
def test_values_of_no_machine_are_counted_and_replayed(op: str, values: dict[str, int]) -> None:
    events = table(op, **values)
    machine, _ = machine_from(Snapshot(arch="i386"))
    done = replay_events(events, machine)
    assert done.beyond == 2 * sum(v >= 1 << 48 for v in values.values())
    outcome = outcome_of(done, Snapshot(), None, clock_is_ns=True)
    assert any("beyond any address" in caveat for caveat in outcome.caveats)
    checked = validate(events, machine)
    assert checked.kmap.exact == 0
    assert checked.kmap_local.exact == 0


def test_pairs_of_no_machine_teach_no_page_map() -> None:
    assert calibrate(np.array([[0, HUGE], [1, 40]], np.uint64)) is None
    pages, frames = np.array([0, 40, HUGE], np.uint64), np.zeros(3, np.uint64)
    has = np.full(3, HAS_PAGE)
    PageMap(0, 40).fill(pages, frames, has)
    assert has.tolist() == [BOTH, BOTH, HAS_PAGE]
    assert frames.tolist() == [0, 1, 0]
