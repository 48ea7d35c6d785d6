"""What a trace.dat says about lost events: marks in the pages, and the kernel's statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.capture import LostInterval
from collectors.probes import KIND_LOST
from collectors.raw import RAW_DTYPE
from collectors.tracecmd_dat.spans import feed_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from collectors.tracecmd_dat.container import CpuData, DatFile, TraceBuffer
    from collectors.tracecmd_dat.merging import Merger

_SPAN: Final = 1 << 20


class BufferLosses:
    """Every loss of one buffer, noted while its records go by.

    Parameters
    ----------
    file, buffer
        What is read.
    merger
        That reads it.

    Attributes
    ----------
    found
        So far. `after_seq` counts the rows from :meth:`front` and all those noted.
    first_ts
        Of the first event of all, 0 without any; known at the end.
    """

    def __init__(self, file: DatFile, buffer: TraceBuffer, merger: Merger) -> None:
        self._file = file
        self._buffer = buffer
        self._merger = merger
        self._rows = 0
        self._index = {walk.cpu.cpu: index for index, walk in enumerate(merger.walks)}
        self._overrun: list[tuple[int, int]] = []
        self._marked: list[LostInterval] = []
        self.found: tuple[LostInterval, ...] = ()
        self.first_ts = 0

    def front(self) -> NDArray[np.void] | None:
        """Make the markers in front of all rows, None if there are none; their stamp is not set.

        The kernel's statistic ``overrun`` counts events that newer ones overwrote
        (kernel/trace/ring_buffer.c). Where the pages have no mark of it, they are those before
        the first.
        """
        for walk in self._merger.walks:
            overrun = self._stats(walk.cpu.cpu).get("overrun", 0)
            if overrun and not self._has_marks(walk.cpu):
                self._overrun.append((walk.cpu.cpu, overrun))
        if not self._overrun:
            return None
        added = np.zeros(len(self._overrun), RAW_DTYPE)
        for row, (cpu, count) in zip(added, self._overrun, strict=True):
            row["kind"], row["cpu"], row["ctx"], row["present"] = KIND_LOST, cpu, 128, 1
            row["values"][0] = count
        self._rows = len(added)
        return added

    def _stats(self, cpu: int) -> dict[str, int]:
        """Statistics of a CPU; the file has those of the top buffer only."""
        return self._file.cpu_stats.get(cpu, {}) if self._buffer.name == "" else {}

    def _has_marks(self, cpu: CpuData) -> bool:
        """Tell whether any page of a CPU is marked."""
        from collectors.tracecmd_dat import walk
        from collectors.tracecmd_dat.decode import Shape

        shape = Shape(self._file, self._buffer)
        feed = feed_of(self._file, self._buffer, cpu, _SPAN)
        while (span := feed.next(0)) is not None:
            if walk.find_mark(span.data, shape.big, shape.page, span.begin, span.end) >= 0:
                return True
        return False

    def note(self, order: NDArray[np.int64], origin: NDArray[np.int64] | None) -> None:
        """Note the marks among records.

        Parameters
        ----------
        order
            Their positions in the pool, by time.
        origin
            Of the rows that they became: positions in `order`; None: each became one.
        """
        pool = self._merger.pool
        if any(block.marks for block in self._merger.blocks):
            for at in np.flatnonzero(pool.plan[order] == 0).tolist():
                row = at if origin is None else int(np.searchsorted(origin, at))
                self._mark(int(order[at]), self._rows + row)
        self._rows += len(order if origin is None else origin)

    def _mark(self, source: int, row: int) -> None:
        from collectors.tracecmd_dat.walk import NO_STAMP

        pool = self._merger.pool
        cpu = int(pool.cpu[source])
        before = pool.before[source : source + 1].copy()
        start = None
        if int(before[0]) != NO_STAMP:
            start = int(self._file.clock.apply(before, self._index[cpu])[0])
        count = int(pool.at[source])
        why = "ring buffer overwritten" if start is None else "lost-events mark of a page"
        end = int(pool.ts[source])
        self._marked.append(LostInterval(cpu, count if count >= 0 else None, row, start, end, why))

    def finish(self) -> None:
        """Put all losses together, behind the last record.

        ``dropped events`` counts those that found the buffer full.
        """
        ends = {walk.cpu.cpu: walk.ends() for walk in self._merger.walks}
        known = [e[0] for e in ends.values() if e is not None]
        self.first_ts = min(known, default=0)
        lost = []
        for row, (cpu, count) in enumerate(self._overrun):
            own = ends[cpu]
            lost.append(LostInterval.overwritten(cpu, count, row, own[0] if own else None))
        lost += self._marked
        for cpu, own in ends.items():
            dropped = self._stats(cpu).get("dropped events", 0)
            if dropped:
                last = own[1] if own else None
                lost.append(LostInterval.refused(cpu, dropped, self._rows, last))
        self.found = tuple(lost)
