"""The pkmap pool over a whole trace: its order, its replay and its figures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from replay.linearise import PoolSequence, PoolState, PoolWindow, is_anonymous, linearise
from replay.outcome import PoolOutcome, Series

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from replay.arches.base import Layout
    from replay.kernels.sequence import Gauges

BINS = 240
"""Bins of the series over time: more than a terminal or a small chart can show."""
MISFITS = 4
"""Contradictions from which a snapshot is suspected to be of another run, and how many times
fewer there must be without it. Fewer are the trace's own."""
THRESHOLDS = (50, 75, 90, 100)
"""Percentages of slots in use of which the share of time is reported."""


@dataclass(frozen=True)
class PoolReplay:
    """A replayed trace.

    Attributes
    ----------
    sequence
        The operations, in lock order.
    result, scanned, freed : ndarray of int32
        Per operation: slot, ASLEEP or UNKNOWN; slots visited; slots freed by a flush (-1: none).
    predicted : ndarray of int32
        Per call: the slot that the model gives it in the end.
    outcome
        Figures.
    initial_state
        ``snapshot``, ``inferred`` or, in words, why the snapshot was not used.
    """

    sequence: PoolSequence
    result: NDArray[np.int32]
    scanned: NDArray[np.int32]
    freed: NDArray[np.int32]
    predicted: NDArray[np.int32]
    outcome: PoolOutcome
    initial_state: str


def window_of(layout: Layout) -> PoolWindow:
    """The pool's window in a layout."""
    return PoolWindow(layout.pkmap_base, layout.pkmap_slots, layout.page_size)


def state_from(values: Mapping[str, Any]) -> PoolState | None:
    """The recorder's snapshot among a capture's facts."""
    state = values.get("pool_state")
    if state is None:
        return None
    last, slots = state
    return PoolState(
        int(last),
        tuple((slot, count, -1 if pfn is None else pfn) for slot, count, pfn in slots),
        int(values.get("snapshot_seq") or 0),
    )


def replay_pool(
    events: pl.DataFrame,
    layout: Layout,
    *,
    state: PoolState | None = None,
    losses: Sequence[int] = (),
    span: tuple[int, int] = (0, 0),
) -> PoolReplay:
    """Order the calls of a trace and replay them.

    Parameters
    ----------
    events
        Event table, sorted by `seq`.
    layout
        Of the machine that the trace is from.
    state
        Snapshot of the pool. One that contradicts the trace (it belongs to another run) is
        left aside if the trace explains itself better without.
    losses
        `seq` of the first event after each loss of events.
    span
        Time of the first and of the last event of the capture.

    Returns
    -------
    PoolReplay
    """
    from replay.kernels.placing import DIVERGED

    window = window_of(layout)
    sequence = linearise(events, window, state=state, losses=losses)
    initial = "inferred" if state is None else "snapshot"
    misfits = int((sequence.status == DIVERGED).sum())
    if state is not None and misfits >= MISFITS:
        without = linearise(events, window, losses=losses)
        if int((without.status == DIVERGED).sum()) <= misfits // MISFITS:
            sequence = without
            initial = f"inferred: the snapshot contradicts the trace in {misfits} calls"
    return _replay(sequence, window, events, span, initial)


def _replay(
    sequence: PoolSequence,
    window: PoolWindow,
    events: pl.DataFrame,
    span: tuple[int, int],
    initial: str,
) -> PoolReplay:
    from replay.kernels import sequence as kernel
    from replay.kernels.pool import USED, new_pool

    n = sequence.time.size
    pool = new_pool(window.slots, sequence.calls.pages)
    result, scanned, freed = (np.zeros(n, np.int32) for _ in range(3))
    gauges = kernel.new_gauges(window.slots, *span, BINS if n else 0)
    most_used, most_stale = kernel.run(
        pool, sequence.snapshot, sequence.operations, sequence.time, result, scanned, freed, gauges
    )
    predicted = np.full(sequence.calls.row.size, kernel.UNKNOWN, np.int32)
    is_map = sequence.operations[:, 0] == kernel.MAP
    predicted[sequence.call[is_map]] = result[is_map]  # the last attempt stays
    waits = _waits(sequence, result, events)
    outcome = pool_figures(
        window.slots, sequence.operations[:, 0], result, scanned, freed, gauges,
        most_used=int(most_used), most_stale=int(most_stale), waits=waits,
        still_used=int(pool.reg[USED]),
    )  # fmt: skip
    outcome = _with_anonymous(outcome, events)
    return PoolReplay(sequence, result, scanned, freed, predicted, outcome, initial)


def _with_anonymous(outcome: PoolOutcome, events: pl.DataFrame) -> PoolOutcome:
    """Count the calls of which the trace has no argument (function tracer), no more."""
    anonymous = events.filter(is_anonymous()).get_column("op")
    return replace(
        outcome,
        maps=outcome.maps + int((anonymous == "kmap").sum()),
        unmaps=outcome.unmaps + int((anonymous == "kunmap").sum()),
    )


def _waits(sequence: PoolSequence, result: NDArray[np.int32], events: pl.DataFrame) -> pl.DataFrame:
    """Columns `pid`, `sleeps`, `wait_ns` of every call that slept."""
    from replay.kernels.sequence import ASLEEP, MAP

    maps = np.flatnonzero(sequence.operations[:, 0] == MAP)
    calls = sequence.call[maps]
    slept = np.unique(calls[result[maps] == ASLEEP])
    attempts = pl.DataFrame(
        {"call": calls, "time": sequence.time[maps], "asleep": result[maps] == ASLEEP}
    ).filter(pl.col("call").is_in(slept))
    pid = events.get_column("pid").gather(sequence.calls.row[slept])
    return (
        attempts.group_by("call", maintain_order=True)
        .agg(
            pl.col("asleep").sum().alias("sleeps"),
            (pl.col("time").last() - pl.col("time").first()).alias("wait_ns"),
        )
        .sort("call")
        .with_columns(pid.alias("pid"))
    )


def pool_figures(
    slots: int,
    code: NDArray[np.int64],
    result: NDArray[np.int32],
    scanned: NDArray[np.int32],
    freed: NDArray[np.int32],
    gauges: Gauges,
    *,
    most_used: int,
    most_stale: int,
    waits: pl.DataFrame,
    still_used: int,
) -> PoolOutcome:
    """Figures of a replayed sequence.

    Parameters
    ----------
    slots
        Size of the pool.
    code, result, scanned, freed : ndarray, shape (n,)
        Per operation: its code in :mod:`replay.kernels.sequence`, and what the replay filled.
    gauges
        As filled by the replay.
    most_used, most_stale, still_used
        Slots: at most in use and stale, in use at the end.
    waits
        Columns `pid`, `sleeps`, `wait_ns`, a row per call that slept.
    """
    from replay.kernels import sequence as kernel

    is_map = code == kernel.MAP
    done = is_map & (result >= 0)
    new = done & (scanned > 0)
    passed = freed >= 0
    total = int(gauges.used_ns.sum())
    reached = np.cumsum(gauges.used_ns[::-1])[::-1]  # time with at least so many used
    needed = {p: -(-slots * p // 100) for p in THRESHOLDS}
    return PoolOutcome(
        slots=slots,
        maps=int(done.sum()),
        unmaps=int(((code == kernel.UNMAP) & (result >= 0)).sum()),
        hits=int((done & ~new).sum()),
        new_mappings=int(new.sum()),
        passes=int(passed.sum()),
        wraps=int((passed & is_map).sum()),
        unused_passes=int((passed & ~is_map).sum()),
        flushes=int((freed > 0).sum()),
        waits=int(waits.get_column("sleeps").sum()),
        waiting_tasks=waits.get_column("pid").n_unique(),
        wait_ns=int(waits.get_column("wait_ns").sum()),
        longest_wait_ns=int(waits.select(pl.col("wait_ns").max().fill_null(0)).item()),
        max_used=most_used,
        mean_used=float(np.dot(gauges.used_ns, np.arange(slots + 1))) / total if total else 0.0,
        max_stale=most_stale,
        scan_mean=float(scanned[new].mean()) if new.any() else 0.0,
        scan_max=int(scanned[is_map].max(initial=0)),
        share_above={str(p): int(reached[n]) / total if total else 0.0 for p, n in needed.items()},
        used=_series(gauges.used, gauges),
        stale=_series(gauges.stale, gauges),
        still_used=still_used,
    )


def _series(table: NDArray[np.float64], gauges: Gauges) -> Series | None:
    """Bins that time passed in, as a series."""
    bins = min(table.shape[0], -(-(gauges.end - gauges.start) // gauges.width))
    if bins <= 0 or not np.isfinite(table[:bins, 0]).all():
        return None
    width = np.full(bins, gauges.width, np.float64)
    width[-1] = gauges.end - gauges.start - (bins - 1) * gauges.width
    return Series(
        start_ns=0,
        bin_ns=gauges.width,
        low=tuple(table[:bins, 0].tolist()),
        high=tuple(table[:bins, 1].tolist()),
        mean=tuple((table[:bins, 2] / width).tolist()),
    )
