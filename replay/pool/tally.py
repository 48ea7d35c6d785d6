"""Figures of the pool, counted up piece by piece."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from collectors.records import dataclass, field
from replay.outcome import PoolOutcome
from replay.over_time import Series
from replay.times import TimeBins

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.pool.loops.sequence import Gauges

THRESHOLDS = (50, 75, 90, 100)
"""Percentages of slots in use of which the share of time is reported."""


class PassTimes:
    """When the pool's window was flushed, in bins over time.

    Parameters
    ----------
    span
        Time of the first and of the last event of the capture.
    bins
        How many there are at most.

    Attributes
    ----------
    wraps, passes
        By kmap() that had gone through all slots, and by kmap_flush_unused().
    """

    def __init__(self, span: tuple[int, int], bins: int) -> None:
        self.wraps, self.passes = TimeBins(*span, bins), TimeBins(*span, bins)

    def add(
        self, code: NDArray[np.int64], time: NDArray[np.int64], freed: NDArray[np.int32]
    ) -> None:
        """Count operations: their codes, when they took the lock, and the slots they freed."""
        from replay.pool.loops.sequence import FLUSH_UNUSED

        if (flushed := freed > 0).any():
            by_unused = code == FLUSH_UNUSED
            self.wraps.add(time[flushed & ~by_unused])
            self.passes.add(time[flushed & by_unused])


@dataclass
class PoolTally:
    """What operations on the pool came to.

    Attributes
    ----------
    slots
        Size of the pool.
    maps, unmaps, new
        kmap() calls that got a slot, kunmap() calls, new mappings.
    scanned
        Slots visited in all, attempts that found none included.
    started, visited, visited_max
        New mappings of which it is known where the search began, slots that such searches visited,
        attempts that found none included, and at most by one.
    starts : ndarray of int64, shape (1 + lanes,)
        What is known of where searches begin, as of :func:`replay.pool.loops.tally.count`.
    freed_by_wraps, freed_by_unused : ndarray of int64, shape (slots + 1,)
        Number of flush passes by the number of slots that they freed, and by who caused them.
    sleeps, wait_ns, longest_wait_ns
        Attempts that found no slot, and the time that calls waited.
    sleepers
        Tasks that waited.
    most_used, most_stale
        Highest number of slots.
    """

    slots: int
    maps: int = 0
    unmaps: int = 0
    new: int = 0
    scanned: int = 0
    started: int = 0
    visited: int = 0
    visited_max: int = 0
    starts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2, np.int64))
    freed_by_wraps: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    freed_by_unused: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    sleeps: int = 0
    wait_ns: int = 0
    longest_wait_ns: int = 0
    sleepers: set[int] = field(default_factory=set)
    most_used: int = 0
    most_stale: int = 0

    def __post_init__(self) -> None:
        """Begin with no passes."""
        self.freed_by_wraps = np.zeros(self.slots + 1, np.int64)
        self.freed_by_unused = np.zeros(self.slots + 1, np.int64)

    def add(
        self,
        code: NDArray[np.int64],
        lane: NDArray[np.int64],
        result: NDArray[np.int32],
        scanned: NDArray[np.int32],
        freed: NDArray[np.int32],
    ) -> None:
        """Count operations; parameters as of :func:`replay.pool.loops.tally.count`."""
        from replay.pool.loops import tally as kernel

        figures = np.zeros(kernel.FIGURES, np.int64)
        figures[kernel.VISITED_MAX] = self.visited_max
        kernel.count(
            figures, self.freed_by_wraps, self.freed_by_unused,
            code, lane, result, scanned, freed, self.starts,
        )  # fmt: skip
        self.maps += int(figures[kernel.MAPS])
        self.unmaps += int(figures[kernel.UNMAPS])
        self.new += int(figures[kernel.NEW])
        self.scanned += int(figures[kernel.SCANNED])
        self.started += int(figures[kernel.STARTED])
        self.visited += int(figures[kernel.VISITED])
        self.visited_max = int(figures[kernel.VISITED_MAX])

    def add_waits(
        self, pid: NDArray[np.int32], sleeps: NDArray[np.int32], wait_ns: NDArray[np.int64]
    ) -> None:
        """Count calls that slept, one element each."""
        self.sleepers.update(pid.tolist())
        self.sleeps += int(sleeps.sum(dtype=np.int64))
        self.wait_ns += int(wait_ns.sum())
        self.longest_wait_ns = max(self.longest_wait_ns, int(wait_ns.max(initial=0)))

    def outcome(
        self, gauges: Gauges, *, still_used: int, nameless: tuple[int, int] = (0, 0)
    ) -> PoolOutcome:
        """The figures.

        Parameters
        ----------
        gauges
            As filled by the replay.
        still_used
            Slots in use at the end.
        nameless
            kmap() and kunmap() calls of which the trace has no argument (function tracer): they
            are counted, no more.
        """
        total = int(gauges.used_ns.sum())
        reached = np.cumsum(gauges.used_ns[::-1])[::-1]  # time with at least so many used
        needed = {p: -(-self.slots * p // 100) for p in THRESHOLDS}
        share = {str(p): int(reached[n]) / total if total else 0.0 for p, n in needed.items()}
        held = np.dot(gauges.used_ns, np.arange(gauges.used_ns.size))
        wraps, unused = int(self.freed_by_wraps.sum()), int(self.freed_by_unused.sum())
        unknown = self.new > 0 and not self.started
        return PoolOutcome(
            slots=self.slots,
            maps=self.maps + nameless[0],
            unmaps=self.unmaps + nameless[1],
            hits=self.maps - self.new,
            new_mappings=self.new,
            passes=wraps + unused,
            wraps=wraps,
            unused_passes=unused,
            flushes=wraps + unused - int(self.freed_by_wraps[0] + self.freed_by_unused[0]),
            waits=self.sleeps,
            waiting_tasks=len(self.sleepers),
            wait_ns=self.wait_ns,
            longest_wait_ns=self.longest_wait_ns,
            max_used=self.most_used,
            mean_used=float(held) / total if total else 0.0,
            max_stale=self.most_stale,
            scan_mean=None if unknown else self.visited / max(self.started, 1),
            scan_max=None if unknown else self.visited_max,
            scans_unknown=self.new - self.started,
            share_above=share,
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
