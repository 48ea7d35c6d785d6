"""The records of all CPUs of a buffer in the order of time, window by window.

Every CPU has a block of records that is being merged and another that is being listed meanwhile,
in a thread. A window is as much as can be ordered: up to the end of the block that ends first.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.input.mapped import Mapped
from collectors.input.threads import threads
from collectors.tracecmd_dat.decode import CpuWalk, RecordBlock, RecordPool, Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from collectors.tracecmd_dat.container import DatFile, TraceBuffer

_ROWS: Final = 1 << 20
"""Records in blocks of all CPUs together, about; twice as many are held."""
_MOST_ROWS: Final = 1 << 16
_FEWEST_ROWS: Final = 1 << 7
_SPANS: Final = 1 << 26
"""Bytes of pages that are looked at at a time, of all CPUs together."""
_LARGEST_SPAN: Final = 1 << 22
_SMALLEST_SPAN: Final = 1 << 14


class Merger:
    """Merges the CPUs of one buffer.

    Parameters
    ----------
    file, buffer
        What to read.
    resolve
        As for :class:`decode.CpuWalk`; called in several threads.
    progress
        Called with (bytes done, bytes in all).
    rows, span
        Records in a block and bytes in a span, for tests; both are rounded down to powers of two
        and whole pages.

    Attributes
    ----------
    walks
        In the order of the CPUs' numbers.
    pool
        Where the records of the present window are listed.
    blocks
        Present block of each CPU.
    executor
        Threads that list, for other work on the windows.
    """

    def __init__(
        self,
        file: DatFile,
        buffer: TraceBuffer,
        resolve: Callable[[int, int], tuple[int, int, bool]],
        progress: Callable[[int, int], None] | None = None,
        *,
        rows: int | None = None,
        span: int | None = None,
    ) -> None:
        cpus = sorted(buffer.cpus, key=lambda c: c.cpu)
        each = max(len(cpus), 1)
        if rows is None:
            rows = min(max(_ROWS // each, _FEWEST_ROWS), _MOST_ROWS)
        if span is None:
            span = min(max(_SPANS // each, _SMALLEST_SPAN), _LARGEST_SPAN)
        shape = Shape(file, buffer)
        self.big = shape.big
        self.pool = RecordPool([c.cpu for c in cpus], max(rows, 4).bit_length() - 1)
        self.walks = [
            CpuWalk(file, buffer, cpu, index, shape, self.pool, span, resolve)
            for index, cpu in enumerate(cpus)
        ]
        self.blocks: list[RecordBlock] = []
        self.executor = ThreadPoolExecutor(threads())
        self._file = file
        self._progress = progress
        self._mapped = Mapped(file.data)
        self._forgotten = [c.offset for c in cpus]
        self._done = 0
        self._total = sum(c.size for c in cpus)

    def windows(self) -> Iterator[NDArray[np.int64]]:
        """Give the positions in the pool of the records that come next, by time.

        A window is valid until the next one is asked for.

        Raises
        ------
        HmtraceError
            If the data is damaged.
        """
        try:
            yield from self._windows()
        finally:
            self.executor.shutdown(cancel_futures=True)

    def _windows(self) -> Iterator[NDArray[np.int64]]:
        from collectors.tracecmd_dat import weaving

        n = len(self.walks)
        if not n:
            return
        pending = [self.executor.submit(walk.next_block) for walk in self.walks]
        number = np.arange(0, 2 * n, 2)
        first, rows, highest, at, stop = (np.zeros(n, np.int64) for _ in range(5))
        more = np.ones(n, np.bool_)
        order = np.empty(n << self.pool.shift, np.int64)
        self.blocks = [RecordBlock(int(b), 0, 0, more=True, marks=0, span=None) for b in number]
        while True:
            for c in np.flatnonzero(more & (first >= rows)).tolist():
                block = self._take(c, pending)
                self.blocks[c] = block
                number[c], first[c], rows[c] = block.number, 0, block.rows
                highest[c], more[c] = block.highest, block.more
            found = weaving.merge(
                self.pool.key,
                self.pool.shift,
                number,
                first,
                rows,
                highest,
                more,
                order,
                at,
                stop,
            )
            if found:
                yield order[:found]
            elif not more.any():
                return

    def _take(self, c: int, pending: list[Future[RecordBlock]]) -> RecordBlock:
        """Get a CPU's next block with records, or its last, and have the one after it listed."""
        while True:
            block = pending[c].result()
            if block.more:
                pending[c] = self.executor.submit(self.walks[c].next_block)
            self._tell(c, block)
            if block.rows or not block.more:
                return block

    def _tell(self, c: int, block: RecordBlock) -> None:
        """Tell progress, and the system which bytes of the file are not needed any more."""
        cpu = self.walks[c].cpu
        used = cpu.offset + cpu.size if block.span is None else block.span.used
        used = min(used, cpu.offset + cpu.size)
        before = self._forgotten[c]
        if used <= before:
            return
        self._done += used - before
        self._forgotten[c] = used
        if self._progress is not None:
            self._progress(self._done, self._total)
        self._mapped.forget(used, before)
