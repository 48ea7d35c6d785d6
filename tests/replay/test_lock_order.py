"""The pool ordered and replayed piece by piece: as in one go, and in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from replay.pool import stream as pool_stream
from replay.pool.entries import PoolEntries
from replay.pool.lock_order import LockOrder
from replay.pool.loops.placing import DIVERGED
from replay.pool.replay import PoolRun
from replay.pool.window import PoolState, PoolWindow
from replay.survey import survey
from replay.trace.losses import NO_GAPS, Gaps
from tests.replay.oracle import BASE, simulate

if TYPE_CHECKING:
    from numpy.typing import NDArray

BOOT = PoolState(last=0)
CALL = ("row", "status", "predicted", "sleeps")
"""What is compared of each call."""


def in_pieces(
    events: pl.DataFrame,
    slots: int,
    rows: int,
    state: PoolState | None = BOOT,
    losses: Gaps = NO_GAPS,
) -> dict[str, Any]:
    """Everything that the replay says, with the table cut every `rows` rows."""
    window = PoolWindow(BASE, slots)
    facts = survey(events, state, window).pool
    entries = PoolEntries(window, facts)
    order = LockOrder(window, facts, state=state, losses=losses)
    run = PoolRun(window, (0, int(events["ts"].max() or 0)))
    parts: dict[str, list[NDArray[Any]]] = {}
    calls = []
    most = 0
    for start in range(0, max(events.height, 1), rows):
        last = start + rows >= events.height
        piece = order.feed(entries.of(events[start : start + rows], start), last=last)
        result, scanned, freed = run.take(piece, last=last)
        columns = {
            "code": piece.operations[:, 0], "slot": piece.operations[:, 2],
            "count": piece.operations[:, 3], "time": piece.time, "at_pass": piece.at_pass,
            "result": result, "scanned": scanned, "freed": freed,
        }  # fmt: skip
        for name, column in columns.items():
            parts.setdefault(name, []).append(column)
        most = max(most, piece.calls.size)
        over = piece.over
        run.finish(over)
        calls.append({name: over[name] for name in CALL})
    told = {name: np.concatenate([some[name] for some in calls]) for name in CALL}
    by_row = np.argsort(told["row"])
    return {
        **{name: np.concatenate(columns).tolist() for name, columns in parts.items()},
        **{name: column[by_row].tolist() for name, column in told.items()},
        "moved": order.moved_unmaps,
        "assumed": order.assumed_free,
        "outcome": run.outcome(),
        "kept": most,
    }


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for name in expected.keys() - {"kept"}:
        assert found[name] == expected[name], name


@pytest.fixture(params=[(1 << 14, 1 << 16), (150, 250)], ids=["as shipped", "short"])
def _bounds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With short bounds much is settled before the trace ends, with the others nothing is."""
    monkeypatch.setattr(pool_stream, "UNMAP_EVENTS", request.param[0])
    monkeypatch.setattr(pool_stream, "OPEN_EVENTS", request.param[1])


RUNS = {
    "overlapping": {"slots": 16, "tasks": 6, "pages": 60, "rounds": 60, "jitter": 15},
    "sleepers": {"slots": 8, "tasks": 14, "pages": 400, "rounds": 30, "jitter": 10},
    "unused": {"slots": 16, "tasks": 3, "pages": 30, "rounds": 80, "jitter": 10, "unused_every": 5},
}


@pytest.mark.usefixtures("_bounds")
@pytest.mark.parametrize("rows", [1, 37, 400])
@pytest.mark.parametrize("name", RUNS)
def test_pieces_say_what_the_whole_says(name: str, rows: int) -> None:
    options = RUNS[name]
    for seed in range(1 if rows == 1 else 2):
        events = simulate(seed, most=1, **options).events  # type: ignore[arg-type]
        if rows == 1:  # a window for every row takes some 4 ms: no more than reach over the bounds
            events = events.head(350 if pool_stream.OPEN_EVENTS < 350 else 125)
        whole = in_pieces(events, options["slots"], events.height)
        same(in_pieces(events, options["slots"], rows), whole)


@pytest.mark.usefixtures("_bounds")
@pytest.mark.parametrize("rows", [11, 250])
def test_losses_and_an_unknown_start_make_no_difference(rows: int) -> None:
    events = simulate(5, slots=16, tasks=3, pages=40, rounds=120, most=1, jitter=8).events
    low, high = (int(events["seq"][events.height * part // 8]) for part in (3, 5))
    gap = events.filter((pl.col("seq") < low) | (pl.col("seq") >= high))
    losses = Gaps.at([high])
    whole = in_pieces(gap, 16, gap.height, state=None, losses=losses)
    same(in_pieces(gap, 16, rows, state=None, losses=losses), whole)


@pytest.mark.usefixtures("_bounds")
def test_snapshots_in_the_middle_make_no_difference() -> None:
    events = simulate(2, slots=16, tasks=2, pages=30, rounds=90, most=1, jitter=4).events
    frames = (pl.col("page") - 0xF600_0000) // 40
    events = events.with_columns(pfn=frames)
    middle = int(events["seq"][events.height // 2])
    state = PoolState(last=7, slots=((3, 1, 5), (4, 2, 6), (9, 1, 777)), seq=middle)
    whole = in_pieces(events, 16, events.height, state=state)
    same(in_pieces(events, 16, 53, state=state), whole)


def hostile(events: pl.DataFrame, kind: str) -> pl.DataFrame:
    """A trace in which something never ends."""
    ops, number = pl.col("op"), pl.int_range(pl.len())
    if kind == "no returns":
        nothing = [pl.lit(None, events.schema[n]).alias(n) for n in ("end_seq", "end_ts", "vaddr")]
        return events.with_columns(nothing)
    if kind == "calls over the whole trace":
        end = pl.lit(int(events["seq"].max() or 0) + 5, pl.UInt64)
        long = (ops == "kmap") & (number % 9 == 0)
        return events.with_columns(end_seq=pl.when(long).then(end).otherwise("end_seq"))
    if kind == "returns before entries":
        return events.with_columns(end_seq=pl.lit(1, pl.UInt64))
    if kind == "a task for every call":
        return events.with_columns(pid=number.cast(pl.Int32), end_seq=pl.lit(None, pl.UInt64))
    return events.with_columns(seq=pl.col("seq") * (1 << 40), end_seq=pl.col("end_seq") * (1 << 40))


@pytest.mark.usefixtures("_bounds")
@pytest.mark.parametrize(
    "kind",
    ["no returns", "calls over the whole trace", "returns before entries", "a task for every call",
     "far apart"],
)  # fmt: skip
def test_nothing_ends_and_the_figures_are_the_same(kind: str) -> None:
    events = simulate(1, slots=16, tasks=5, pages=60, rounds=60, most=1, jitter=6).events
    events = hostile(events, kind)
    same(in_pieces(events, 16, 41), in_pieces(events, 16, events.height))


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times the trace, and no more calls are held at once than there were."""
    monkeypatch.setattr(pool_stream, "UNMAP_EVENTS", 300)
    monkeypatch.setattr(pool_stream, "OPEN_EVENTS", 500)
    kept = {}
    for rounds in (100, 1000):
        events = simulate(3, slots=32, tasks=4, pages=50, rounds=rounds, most=1, jitter=4).events
        done = in_pieces(events, 32, 100)
        assert DIVERGED not in done["status"]
        kept[rounds] = done["kept"]
    assert kept[1000] < 2 * kept[100] < 2_000
