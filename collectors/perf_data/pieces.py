"""From listed samples to raw events by time, piece by piece."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.input.mapped import Mapped
from collectors.input.threads import threads
from collectors.perf_data import records
from collectors.perf_data.chains import Chains, with_stacks
from collectors.perf_data.layout import RecordType
from collectors.perf_data.tasks import TaskHistory
from collectors.probes import KIND_LOST, KIND_SWITCH
from collectors.raw import RAW_DTYPE, ROW_WORDS
from collectors.reading import PIECE_ROWS, AgainError
from collectors.traceevent.ordering import is_ascending, sorted_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from collectors.input.source import Source
    from collectors.perf_data.container import PerfFile
    from collectors.symbols.table import Symbols

_ONE_BLOCK: Final = 62
"""All samples are of one block (:func:`collectors.traceevent.fill.fill_rows`)."""
_SLICE: Final = 1 << 15
"""Rows that are worth a thread."""
_LAST: Final = (1 << 63) - 1


class Pieces:
    """Makes the rows of one file.

    perf record writes a FINISHED_ROUND record when it has looked at the buffers of all CPUs: what
    comes behind it is not older than the newest sample that was there at the round before
    (tools/perf/util/ordered-events.c). So samples are held until the round after next, and sorted.

    Parameters
    ----------
    walk
        Over the records, filled once.
    file, source
        What is read.
    symbols
        Gives the kernel's symbols, for call chains.
    room, piece
        Samples to hold at least before they are sorted, and rows in a piece; for tests.

    Attributes
    ----------
    walk
        As given.
    told
        By CPU: samples that LOST_SAMPLES records say were lost.
    chains
        Stack traces of the samples.
    """

    def __init__(
        self,
        walk: records.Walk,
        file: PerfFile,
        source: Source,
        symbols: Callable[[], Symbols],
        room: int | None,
        piece: int | None,
    ) -> None:
        self.walk = walk
        self.told: dict[int, int] = {}
        self._file = file
        self._source = source
        self._most = records.MOST if room is None else 16 * room
        self._piece = piece or PIECE_ROWS
        self._tasks = TaskHistory(walk.data, file.order)
        self.chains = Chains(walk.data, file.order, symbols)
        self._mapped = Mapped(walk.data)

    @property
    def comms(self) -> list[str]:
        """Names of tasks so far."""
        return self._tasks.comms

    def rows(
        self,
        more: bool,  # noqa: FBT001
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[NDArray[np.void]]:
        """Give the rows.

        Parameters
        ----------
        more
            Whether the walk has more than it has listed.
        progress
            Called with (bytes done, bytes in all).

        Raises
        ------
        AgainError
            If samples are not in the order that was promised; the next time they are sorted
            through a file.
        HmtraceError
            If the records are damaged.
        """
        with ThreadPoolExecutor(threads() + 1) as executor:
            try:
                if self._source.out_of_order:
                    for rows in sorted_runs(self._unsorted(more, progress, executor)):
                        self._tasks.name(rows, np.full(len(rows), _LAST), int(rows["ts"][-1]) + 1)
                        yield rows
                else:
                    yield from self._sorted(more, progress, executor)
            finally:
                executor.shutdown(cancel_futures=True)

    def _sorted(
        self,
        more: bool,  # noqa: FBT001
        progress: Callable[[int, int], None] | None,
        executor: ThreadPoolExecutor,
    ) -> Iterator[NDArray[np.void]]:
        """Rows of what is listed, as soon as its order is certain, while more is being listed."""
        walk = self.walk
        given: int | None = None
        while True:
            self._take_sides()
            if walk.late:
                self._again()
            listed, number = walk.rows, walk.number
            ts = listed.ts[:number]
            order = np.arange(number)
            if not is_ascending(ts):
                order = np.argsort(ts, kind="stable")
            if more:
                certain = int(np.searchsorted(ts[order], walk.safe, "right"))
                if number - certain >= self._most:
                    self._again()
                given = int(ts[order[certain - 1]]) if certain else given
                walk.keep(np.sort(order[certain:]), given)
                order = order[:certain]
                pending = executor.submit(walk.fill, progress)
            for first in range(0, len(order), self._piece):
                some = order[first : first + self._piece]
                rows, origin = self._make(listed, some, executor)
                self._tasks.name(rows, listed.at[some][origin], int(rows["ts"][-1]) + 1)
                yield rows
            if not more:
                return
            more = pending.result()
            self._mapped.forget(walk.position)

    def _again(self) -> None:
        self._source.out_of_order = True
        raise AgainError

    def _unsorted(
        self,
        more: bool,  # noqa: FBT001
        progress: Callable[[int, int], None] | None,
        executor: ThreadPoolExecutor,
    ) -> Iterator[NDArray[np.void]]:
        """Rows in the order of the file, their tasks not named."""
        walk = self.walk
        while True:
            self._take_sides()
            yield self._make(walk.rows, np.arange(walk.number), executor)[0]
            if not more:
                return
            walk.keep(np.zeros(0, np.int64), None)
            more = walk.fill(progress)
            self._mapped.forget(walk.position)

    def _take_sides(self) -> None:
        """Take the records about tasks, and add up what LOST_SAMPLES records tell."""
        sides = self.walk.take_sides()
        self._tasks.add(sides)
        raw = self.walk.data.data
        for _, at, _, cpu in sides[sides[:, 0] == RecordType.LOST_SAMPLES].tolist():
            size = int.from_bytes(raw[at + 6 : at + 8], self._file.order)
            if size >= 16:
                number = int.from_bytes(raw[at + 8 : at + 16], self._file.order)
                self.told[cpu] = self.told.get(cpu, 0) + number

    def _make(
        self, listed: records.SampleColumns, order: NDArray[np.int64], executor: ThreadPoolExecutor
    ) -> tuple[NDArray[np.void], NDArray[np.int64]]:
        """Take from each sample what its row needs; the task that perf recorded goes to `site`.

        Behind the row of a sample comes that of its stack trace; the second array tells for each
        row the position in `order` that it is of.
        """
        from collectors.traceevent.fill import fill_rows

        rows = np.empty(len(order), RAW_DTYPE)
        words = rows.view(np.int64).reshape(len(rows), ROW_WORDS)
        meta = self._file.features.meta
        plans = np.array([p.row() for p in list(self.walk.plans)], np.int64)
        nameless = np.zeros(1, np.int32)
        base = np.array([self.walk.data.ctypes.data], np.int64)

        def fill(first: int) -> None:
            part = order[first : first + _SLICE]
            fill_rows(
                base,
                _ONE_BLOCK,
                meta is not None and meta.order == "big",
                part,
                listed.ts,
                listed.at,
                listed.cpu,
                listed.plan,
                plans,
                nameless,
                KIND_LOST,
                KIND_SWITCH,
                words[first : first + _SLICE],
            )
            rows["site"][first : first + _SLICE] = listed.tid[part].view(np.uint32)

        list(executor.map(fill, range(0, len(order), _SLICE)))
        return with_stacks(rows, self.chains.number(listed.chain[order]))
