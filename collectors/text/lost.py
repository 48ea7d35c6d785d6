"""What a text trace says about lost events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from collectors.capture import Lost, LostInterval
from collectors.probes import KIND_LOST, KIND_STARTED
from collectors.raw import RAW_DTYPE
from collectors.text.layout import UNKNOWN_CPU

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from collectors.source import Source
    from collectors.text.header import Header


def find_lost(
    rows: NDArray[np.void], header: Header, source: Source
) -> tuple[NDArray[np.void], Lost]:
    """Build the list of losses, and put a marker in front where the start is missing.

    Parameters
    ----------
    rows
        Raw events, markers among them.
    header
        Says how many events were overwritten.
    source
        The capture; its facts may say on which CPUs.

    Returns
    -------
    rows, lost
        The rows, with KIND_LOST rows in front if the ring buffer was overwritten.
    """
    overwritten = (header.written or 0) - (header.in_buffer or 0)
    if overwritten > 0:
        by_cpu = {c: n for c, n in source.facts.get("overrun", {}).items() if n}
        if sum(by_cpu.values()) != overwritten:
            by_cpu = {UNKNOWN_CPU: overwritten}
        front = np.zeros(len(by_cpu), RAW_DTYPE)
        front["kind"] = KIND_LOST
        front["cpu"] = list(by_cpu)
        front["values"][:, 0] = list(by_cpu.values())
        front["present"] = 1
        front["ctx"] = 128
        if len(rows):
            front["ts"] = rows["ts"][0]
        rows = np.concatenate([front, rows])
    intervals = _intervals(rows, len(front) if overwritten > 0 else 0)
    return rows, Lost(tuple(intervals))


def _intervals(rows: NDArray[np.void], in_front: int) -> list[LostInterval]:
    """Describe the losses that the markers stand for; the first `in_front` are overwrites."""
    at = np.flatnonzero(rows["kind"] == KIND_LOST)
    if not at.size:
        return []
    n = len(rows)
    events = np.flatnonzero((rows["kind"] != KIND_LOST) & (rows["kind"] != KIND_STARTED))
    # Position within its CPU: one sorted list of cpu * n + position.
    keys = np.sort(rows["cpu"][events].astype(np.int64) * n + events)
    cpu = rows["cpu"][at].astype(np.int64)
    k = np.searchsorted(keys, cpu * n + at)
    bounded = np.append(keys, -1)
    before = np.where((k > 0) & (bounded[k - 1] // n == cpu), bounded[k - 1] % n, -1)
    after = np.where(bounded[k] // n == cpu, bounded[k] % n, -1)
    any_after = np.append(events, -1)[np.searchsorted(events, at)]
    after = np.where(cpu == UNKNOWN_CPU, any_after, after)
    before[:in_front] = -1
    ts = rows["ts"]
    return [
        LostInterval(
            cpu=c if c != UNKNOWN_CPU else None,
            count=int(rows["values"][i, 0]) if rows["present"][i] & 1 else None,
            after_seq=i,
            start_ts=int(ts[b]) if b >= 0 else None,
            end_ts=int(ts[a]) if a >= 0 else None,
            reason="ring buffer overwritten" if i < in_front else "LOST marker",
        )
        for i, c, b, a in zip(
            at.tolist(), cpu.tolist(), before.tolist(), after.tolist(), strict=True
        )
    ]
