"""What markers of losses say: between which events of a CPU others are missing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.capture import Lost, LostInterval
from collectors.probes import KIND_LOST
from collectors.raw import ROW_WORDS, UNKNOWN_CPU
from collectors.traceevent.losses_rows import afters, befores, first_event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

_CPUS: Final = 1 << 16


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
        words = rows.view(np.int64).reshape(-1, ROW_WORDS)
        for waiting in list(self._open):
            first = first_event(words, waiting)
            if first >= 0:
                self._close(self._open.pop(waiting), int(rows["ts"][first]))
        at = np.flatnonzero(rows["kind"] == KIND_LOST)
        start = np.zeros(len(at), np.int64)
        known = np.zeros(len(at), bool)
        befores(words, self._last, self._has_last, start, known)
        if len(at):
            self._take(
                rows, at, [s if k else None for s, k in zip(start.tolist(), known, strict=True)]
            )
        self._rows += len(rows)

    def _take(
        self, rows: NDArray[np.void], at: NDArray[np.int64], starts: list[int | None]
    ) -> None:
        """Describe the markers of a piece; `starts`: times of the last events before them."""
        after = np.empty(len(at), np.int64)
        afters(rows.view(np.int64).reshape(-1, ROW_WORDS), np.full(_CPUS, -1, np.int64), after)
        for i, start, a in zip(at.tolist(), starts, after.tolist(), strict=True):
            seq = self._rows + i
            is_front = seq < self._in_front
            c = int(rows["cpu"][i])
            if a < 0:
                self._open.setdefault(c, []).append(len(self._found))
            self._found.append(
                LostInterval(
                    cpu=c if c != UNKNOWN_CPU else None,
                    count=int(rows["values"][i, 0]) if rows["present"][i] & 1 else None,
                    after_seq=seq,
                    start_ts=None if is_front else start,
                    end_ts=int(rows["ts"][a]) if a >= 0 else None,
                    reason="ring buffer overwritten" if is_front else "LOST marker",
                )
            )

    def _close(self, which: Iterable[int], ts: int) -> None:
        for number in which:
            self._found[number] = replace(self._found[number], end_ts=ts)

    def lost(self) -> Lost:
        """All losses of the trace so far."""
        return Lost(tuple(self._found))
