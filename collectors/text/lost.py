"""What a text trace says about lost events."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.capture import Lost, LostInterval
from collectors.probes import KIND_LOST, KIND_STARTED
from collectors.raw import RAW_DTYPE
from collectors.text.layout import UNKNOWN_CPU

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from collectors.source import Source
    from collectors.text.header import Header

_CPUS: Final = 1 << 16


def overwritten(header: Header, source: Source) -> NDArray[np.void]:
    """Markers for what the ring buffer overwrote before the first event.

    Parameters
    ----------
    header
        Says how many events were overwritten.
    source
        The capture; its facts may say on which CPUs.

    Returns
    -------
    ndarray of RAW_DTYPE
        KIND_LOST rows, to stand in front of the trace.
    """
    number = (header.written or 0) - (header.in_buffer or 0)
    if number <= 0:
        return np.zeros(0, RAW_DTYPE)
    by_cpu = {c: n for c, n in source.facts.get("overrun", {}).items() if n}
    if sum(by_cpu.values()) != number:
        by_cpu = {UNKNOWN_CPU: number}
    front = np.zeros(len(by_cpu), RAW_DTYPE)
    front["kind"] = KIND_LOST
    front["cpu"] = list(by_cpu)
    front["values"][:, 0] = list(by_cpu.values())
    front["present"] = 1
    front["ctx"] = 128
    return front


def find_lost(
    rows: NDArray[np.void], header: Header, source: Source
) -> tuple[NDArray[np.void], Lost]:
    """Build the list of losses, and put a marker in front where the start is missing.

    Parameters
    ----------
    rows
        Raw events, markers among them.
    header, source
        As of :func:`overwritten`.

    Returns
    -------
    rows, lost
        The rows, with KIND_LOST rows in front if the ring buffer was overwritten.
    """
    front = overwritten(header, source)
    if len(front):
        if len(rows):
            front["ts"] = rows["ts"][0]
        rows = np.concatenate([front, rows])
    losses = Losses(len(front))
    losses.add(rows)
    return rows, losses.lost()


class Losses:
    """Describes the losses that the markers of a trace stand for, piece by piece.

    Parameters
    ----------
    in_front
        So many markers at the beginning are of the ring buffer, overwritten.
    """

    def __init__(self, in_front: int) -> None:
        self._in_front = in_front
        self._rows = 0
        self._last = np.zeros(_CPUS, np.int64)  # time of the last event of each CPU
        self._has_last = np.zeros(_CPUS, bool)
        self._found: list[LostInterval] = []
        self._open: dict[int, list[int]] = {}  # by CPU: losses after which it has no event yet

    def add(self, rows: NDArray[np.void]) -> None:
        """Take the next rows of the trace."""
        kind = rows["kind"]
        events = np.flatnonzero((kind != KIND_LOST) & (kind != KIND_STARTED))
        cpu, ts = rows["cpu"][events], rows["ts"][events]
        for waiting in list(self._open):
            mine = np.flatnonzero(cpu == waiting) if waiting != UNKNOWN_CPU else events
            if len(mine):
                first = ts[mine[0]] if waiting != UNKNOWN_CPU else ts[0]
                self._close(self._open.pop(waiting), int(first))
        at = np.flatnonzero(kind == KIND_LOST)
        if len(at):
            self._take(rows, at, events)
        self._last[cpu] = ts  # of several, the last one stays
        self._has_last[cpu] = True
        self._rows += len(rows)

    def _take(
        self, rows: NDArray[np.void], at: NDArray[np.int64], events: NDArray[np.int64]
    ) -> None:
        """Describe the markers of a piece."""
        n = len(rows)
        # Position within its CPU: one sorted list of cpu * n + position.
        keys = np.sort(rows["cpu"][events].astype(np.int64) * n + events)
        cpu = rows["cpu"][at].astype(np.int64)
        k = np.searchsorted(keys, cpu * n + at)
        bounded = np.append(keys, -1)
        before = np.where((k > 0) & (bounded[k - 1] // n == cpu), bounded[k - 1] % n, -1)
        after = np.where(bounded[k] // n == cpu, bounded[k] % n, -1)
        any_after = np.append(events, -1)[np.searchsorted(events, at)]
        after = np.where(cpu == UNKNOWN_CPU, any_after, after)
        ts = rows["ts"]
        for i, c, b, a in zip(
            at.tolist(), cpu.tolist(), before.tolist(), after.tolist(), strict=True
        ):
            seq = self._rows + i
            is_front = seq < self._in_front
            start = int(ts[b]) if b >= 0 else int(self._last[c]) if self._has_last[c] else None
            if a < 0:
                self._open.setdefault(c, []).append(len(self._found))
            self._found.append(
                LostInterval(
                    cpu=c if c != UNKNOWN_CPU else None,
                    count=int(rows["values"][i, 0]) if rows["present"][i] & 1 else None,
                    after_seq=seq,
                    start_ts=None if is_front else start,
                    end_ts=int(ts[a]) if a >= 0 else None,
                    reason="ring buffer overwritten" if is_front else "LOST marker",
                )
            )

    def _close(self, which: Iterable[int], ts: int) -> None:
        for number in which:
            self._found[number] = replace(self._found[number], end_ts=ts)

    def lost(self) -> Lost:
        """All losses of the trace so far."""
        return Lost(tuple(self._found))
