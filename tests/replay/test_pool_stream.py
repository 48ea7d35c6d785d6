"""The pool's events in order: beside entries, ends and flushes that were sorted."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from replay.pool import stream as pool_stream
from replay.pool.entries import PoolEntries
from replay.pool.loops.output import split
from replay.pool.loops.placing import (
    END_UNMAP,
    ENTER_MAP,
    ENTER_UNMAP,
    KEY,
    LOSS,
    PASS,
    RETURN_MAP,
    SNAP,
)
from replay.pool.stream import PoolStream
from replay.pool.window import PoolFacts, PoolWindow
from replay.trace.losses import NO_GAPS, Gaps
from replay.trace.tasks import finished_by
from tests.replay.oracle import BASE, simulate

NEVER = (1 << 62) - 1
UNMAP_EVENTS = 60
RANK = {SNAP: 0, LOSS: 1, END_UNMAP: 2, PASS: 3, ENTER_MAP: 4, ENTER_UNMAP: 4, RETURN_MAP: 5}

Event = tuple[int, int, int]  # position, kind, row of the call or -1


def sorted_events(events: pl.DataFrame, losses: tuple[int, ...], snapshot: int) -> list[Event]:
    """Every event of the stream, from each row by itself, and then sorted."""
    table = events.with_row_index("number")
    own = finished_by(table.lazy()).select("number", "pid", "seq").collect().rows()
    is_own = {number for number, _, _ in own}
    row_of = {row["seq"]: row["number"] for row in table.iter_rows(named=True)}
    found: list[Event] = [(snapshot, SNAP, -1), *((at, LOSS, -1) for at in losses)]
    for row in table.iter_rows(named=True):
        number, seq = row["number"], row["seq"]
        if row["op"] == "pool_flush":
            parent = row["parent"]
            found.append((seq, PASS, -1 if parent is None else row_of[parent]))
        if row["op"] not in ("kmap", "kunmap"):
            continue
        is_map = row["op"] == "kmap"
        next_ones = [at for _, pid, at in own if pid == row["pid"] and at > seq]
        end = min(next_ones, default=NEVER) if number in is_own else NEVER
        if not is_map:
            end = min(end, seq + UNMAP_EVENTS)
        if row["end_seq"] is not None:
            end = max(row["end_seq"], seq)
        found.append((seq, ENTER_MAP if is_map else ENTER_UNMAP, number))
        found.append((end, RETURN_MAP if is_map else END_UNMAP, number))
    return sorted(found, key=lambda e: (e[0], RANK[e[1]], e[2]))


def streamed(
    events: pl.DataFrame, losses: tuple[int, ...], snapshot: int, rows: int
) -> list[Event]:
    """The same from the stream, with the table cut every `rows` rows."""
    facts = PoolFacts(passes_traced=True, gets_traced=True)
    entries = PoolEntries(PoolWindow(BASE, 16), facts)
    stream = PoolStream(PoolWindow(BASE, 16), facts, Gaps.at(losses), snapshot)
    found: list[Event] = []
    for start in range(0, events.height, rows):
        last = start + rows >= events.height
        stream.take(entries.of(events[start : start + rows], start), last=last)
        known = stream.known(last=last)
        row = np.append(stream.calls["row"], -1)
        at = stream._known_events().position
        found += zip(at.tolist(), known.kinds.tolist(), row[known.who].tolist(), strict=True)
        assert (np.diff(known.time) >= 0).all()
        stream.forget(known.kinds.size, np.zeros(0, np.int64))
    return found


def without_returns(events: pl.DataFrame, every: int) -> pl.DataFrame:
    """Every n-th row shows no return."""
    some = pl.int_range(pl.len()) % every == 0
    return events.with_columns(
        end_seq=pl.when(~some).then("end_seq"), end_ts=pl.when(~some).then("end_ts")
    )


def in_interrupts(events: pl.DataFrame, every: int) -> pl.DataFrame:
    """Every n-th row is made by an interrupt."""
    some = pl.int_range(pl.len()) % every == 0
    return events.with_columns(ctx=pl.when(some).then(pl.lit(2, pl.UInt8)).otherwise("ctx"))


def in_one_task(events: pl.DataFrame, every: int) -> pl.DataFrame:
    """Every n-th row does not tell its task."""
    some = pl.int_range(pl.len()) % every == 0
    return events.with_columns(pid=pl.when(~some).then("pid"))


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_stream, "UNMAP_EVENTS", UNMAP_EVENTS)


@pytest.mark.parametrize("rows", [1, 50, 10_000])
@pytest.mark.parametrize(
    "change", [lambda e, _: e, without_returns, in_interrupts, in_one_task],
    ids=["as it is", "without returns", "in interrupts", "in one task"],
)  # fmt: skip
def test_events_come_in_order(change: Any, rows: int) -> None:
    for seed in range(3 if rows > 1 else 1):  # a window for every row takes some 2 ms
        run = simulate(
            seed, slots=16, tasks=5, pages=40, rounds=25, most=1, jitter=15, unused_every=7
        )
        events = change(run.events, 4 + seed)
        middle = int(events["seq"][events.height // 2])
        losses = (middle, middle + 1, int(events["seq"][-1]) + 500)
        expected = sorted_events(events, losses, middle)
        assert len(expected) > 400
        assert streamed(events, losses, middle, rows) == expected


def test_times_never_fall_and_begin_where_the_pool_does() -> None:
    events = simulate(1, slots=16, tasks=2, pages=9, rounds=5, most=1).events
    facts = PoolFacts(passes_traced=True, start=7)
    stream = PoolStream(PoolWindow(BASE, 16), facts, NO_GAPS, 0)
    events = events.filter(op="kmap").with_columns(ts=7 + (pl.int_range(pl.len()) + 2) % 3)
    stream.take(PoolEntries(PoolWindow(BASE, 16), facts).of(events, 0), last=True)
    time = stream.known(last=True).time
    assert time[:3].tolist() == [7, 9, 9]  # the snapshot, which has no time, comes first
    assert (np.diff(time) >= 0).all()


def test_passes_before_the_first_call_keep_their_times() -> None:
    events = simulate(1, slots=16, tasks=2, pages=9, rounds=5, most=1).events
    first = events.filter(op="kmap")[:1].with_columns(ts=pl.lit(9, pl.Int64))
    passes = pl.concat([first, first]).with_columns(
        op=pl.lit("pool_flush").cast(events["op"].dtype),
        ts=pl.Series([4, 6]),
        parent=pl.lit(None, events["parent"].dtype),
        end_seq=pl.lit(None, events["end_seq"].dtype),
    )
    table = pl.concat([passes, first]).with_columns(seq=pl.Series([1, 2, 3], dtype=pl.UInt64))
    facts = PoolFacts(passes_traced=True, start=9)
    stream = PoolStream(PoolWindow(BASE, 16), facts, NO_GAPS, 0)
    stream.take(PoolEntries(PoolWindow(BASE, 16), facts).of(table, 0), last=True)
    assert stream.known(last=True).time[:4].tolist() == [4, 4, 6, 9]  # the snapshot comes first


def test_a_table_of_one_task_per_row_is_carried_on() -> None:
    """More tasks than the table of tasks has room for at first."""
    events = simulate(2, slots=16, tasks=3, pages=9, rounds=400, most=1).events
    pid = pl.int_range(pl.len(), dtype=pl.Int32)
    events = without_returns(events, 1).with_columns(pid=pid)
    assert streamed(events, (), 0, 300) == sorted_events(events, (), 0)


@pytest.mark.parametrize(
    ("keys", "hold", "settled", "held"),
    [
        ([1, 2, 2, 3], 9, [0, 1, 2, 3], []),
        ([2, 5, 2, 1, 3], 9, [3, 0, 2, 4, 1], []),
        ([1, 7, 2, 8, 3], 7, [0, 2, 4], [1, 3]),
        ([], 0, [], []),
    ],
)
def test_what_may_move_is_held(
    keys: list[int], hold: int, settled: list[int], held: list[int]
) -> None:
    out = np.zeros((len(keys), 6), np.int64)
    out[:, KEY] = keys
    rows = np.full(len(keys), -1, np.int64)
    number, told = split(out, hold, rows)
    assert (rows[:number].tolist(), told) == (settled, True)
    assert rows[number:][::-1].tolist() == held


def test_operations_in_no_order_are_left_to_a_sort() -> None:
    out = np.zeros((100, 6), np.int64)
    out[:, KEY] = np.arange(100)[::-1]
    rows = np.full(100, -1, np.int64)
    assert split(out, 50, rows) == (50, True)  # 25 places in the mean of half of them
    assert rows[:50].tolist() == [*range(99, 49, -1)]
    assert split(out, 100, rows) == (100, False)
    assert sorted(rows) == [*range(100)]
