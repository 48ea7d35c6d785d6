"""Times, flushes of user space and stack traces: counted as a plain loop counts them."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import polars as pl
import pytest

from collectors.events import SCHEMA
from replay.observed.tally import ObservedTally
from replay.trace.told import tell

REASONS = ("task switch", "local mm shootdown", None)


def table(rows: int, seed: int) -> pl.DataFrame:
    draw = random.Random(seed)
    found = []
    for n in range(rows):
        op = draw.choice(("kmap", "kmap_local", "switch", "tlb_flush", "area_alloc"))
        ts = 1000 * n
        took = draw.choice((None, 0, 1, int(2 ** draw.uniform(0, 40))))
        row = {
            "seq": n, "ts": ts, "op": op, "cpu": 0, "pid": 1,
            "end_ts": None if took is None or op == "switch" else ts + took,
            "duration": draw.choice((None, None, 77)) if op == "area_alloc" else None,
            "stack": draw.choice((None, "a<-b", "kmap_high<-c")) if op != "switch" else None,
        }  # fmt: skip
        if op == "tlb_flush":
            row |= {"reason": draw.choice(REASONS), "pages": draw.choice((None, 1, 33))}
        found.append(row)
    return pl.DataFrame(found, schema=SCHEMA)


@pytest.mark.parametrize("clock_is_ns", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 5000])
def test_pieces_of_any_size_give_the_figures_of_a_loop(rows: int, *, clock_is_ns: bool) -> None:
    events = table(5000 if rows > 1 else 300, seed=rows)
    tally = ObservedTally(clock_is_ns=clock_is_ns)
    for first in range(0, events.height, rows):
        tally.feed(events[first : first + rows], first)
    got = tally.result(tell(events.lazy(), tally.rows(), events.height, 1000))
    times: dict[str, list[int]] = {}
    flushes: dict[str, list[int | None]] = {}
    stacks: Counter[tuple[str, str]] = Counter()
    for row in events.iter_rows(named=True):
        ns = row["duration"]
        if ns is None and row["end_ts"] is not None and clock_is_ns:
            ns = row["end_ts"] - row["ts"]
        if ns is not None and row["op"] not in ("switch", "tlb_flush"):
            times.setdefault(row["op"], []).append(ns)
        if row["op"] == "tlb_flush":
            flushes.setdefault(row["reason"] or "unknown", []).append(row["pages"])
        if row["stack"]:
            stacks[row["op"], row["stack"]] += 1
    assert {t.op: (t.calls, t.total_ns, t.max_ns) for t in got.durations} == {
        op: (len(all_), sum(all_), max(all_)) for op, all_ in times.items()
    }
    for call in got.durations:
        exact = np.quantile(times[call.op], (0.5, 0.99), method="inverted_cdf")
        for ours, theirs in zip((call.median_ns, call.p99_ns), exact.tolist(), strict=True):
            assert ours == pytest.approx(theirs, rel=0.023, abs=1.1)
        assert call.slowest is not None
        slowest = events.filter(pl.col("op") == call.op, ts=call.slowest.ts)
        assert call.max_ns in [
            *(slowest["end_ts"] - slowest["ts"]).to_list(), *slowest["duration"].to_list()
        ]  # fmt: skip
    totals = [t.total_ns for t in got.durations]
    assert totals == sorted(totals, reverse=True)
    assert {f.reason: (f.count, f.full, f.pages) for f in got.user_flushes} == {
        why: (len(all_), all_.count(None), sum(p or 0 for p in all_))
        for why, all_ in flushes.items()
    }
    assert {(s.op, s.stack): s.count for s in got.stacks} == dict(stacks)
    assert got.stacked == stacks.total()


def test_without_events_there_is_nothing() -> None:
    tally = ObservedTally(clock_is_ns=True)
    tally.feed(pl.DataFrame(schema=SCHEMA), 0)
    got = tally.result({})
    assert (got.durations, got.user_flushes, got.stacks, got.stacked) == ((), (), (), 0)
