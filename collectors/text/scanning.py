"""Running a compiled scanner over a text: pieces, threads, one table of rows."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce
from operator import or_
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.input.threads import threads as usual_threads
from collectors.probes import KIND_STACK
from collectors.raw import RAW_DTYPE, ROW_WORDS, RawEvents
from collectors.records import dataclass, field
from collectors.text.layout import (
    NO_EVENT,
    Cell,
    Stat,
    Status,
    new_stats,
)
from collectors.text.packing import CALLS, MARKS, STACKS, kinds_of, place
from collectors.text.stacks import cut_before_stack, without_strays
from collectors.text.tables import SharedNames, Tables
from collectors.traceevent.calls import GraphCalls
from collectors.traceevent.marks import find_marks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from collectors.input.source import Source

CHUNK: Final = 4 << 20
"""Bytes that a thread takes at a time."""
STREAM_CHUNK: Final = 16 << 20
"""The same, where the trace is read piece by piece."""
_CPUS: Final = 64
"""CPUs that are told apart by :attr:`collectors.text.layout.Cell.UNKEPT`."""
_OVERFLOW: Final = 1 << 14
"""Rows of a further block, where a piece has more rows than its share of the array."""
_MARGIN: Final = 1.04
"""Share of rows that a piece gets above the density of the first piece."""


@dataclass
class _Chunk:
    """Rows (as words) and counters of one piece of the text."""

    blocks: list[NDArray[np.int64]] = field(default_factory=list)
    stats: NDArray[np.int64] = field(default_factory=new_stats)
    kinds: int = 0
    """What rows there are that take more work (:func:`collectors.text.packing.kinds_of`)."""
    unkept: NDArray[np.int64] = field(default_factory=lambda: np.full(_CPUS, NO_EVENT))
    """:attr:`collectors.text.layout.Cell.UNKEPT` at the end of the piece."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(len(block) for block in self.blocks)

    def settle(self, unkept: NDArray[np.int64]) -> None:
        """Drop stack traces of events that earlier pieces left out, and take `unkept` on."""
        if self.kinds & STACKS and np.any(unkept == 1):
            self.blocks = [without_strays(np.concatenate(self.blocks), unkept)]
        met = self.unkept != NO_EVENT
        unkept[met] = self.unkept[met]


class _Pool:
    """Tables for several threads, each one's knowledge at first that of the first.

    Attributes
    ----------
    every
        All of them.
    """

    def __init__(self, first: Tables, threads: int) -> None:
        self.every = [first, *(first.clone() for _ in range(1, threads))]
        self._free: SimpleQueue[Tables] = SimpleQueue()
        for tables in self.every:
            self._free.put(tables)

    @contextmanager
    def borrowed(self) -> Iterator[Tables]:
        """Give tables that no other thread has."""
        tables = self._free.get()
        try:
            yield tables
        finally:
            self._free.put(tables)


def scan_all(
    source: Source,
    scan: Callable[..., int],
    names: SharedNames,
    columns: NDArray[np.int64],
    progress: Callable[[int, int], None] | None = None,
    *,
    threads: int | None = None,
    chunk: int = CHUNK,
) -> tuple[RawEvents, NDArray[np.int64]]:
    """Run a compiled scanner over a text, in pieces and threads.

    Parameters
    ----------
    source
        The trace.
    scan
        :func:`collectors.text.scan.scan`, or a scanner of another dialect with its parameters.
    names
        Numbers of task names and call sites.
    columns
        Given to the scanner as it is.
    progress, threads, chunk
        As :func:`read_raw`.

    Returns
    -------
    raw
        Raw events in the order of the file, loss markers among them.
    stats
        Counters (:class:`collectors.text.layout.Stat`).
    """
    data = source.data
    pieces = list(_split(source, chunk))
    threads = min(threads or usual_threads(), max(len(pieces), 1))
    tables = Tables(data, names, source.trace)
    # The first piece teaches the tables most of what they will know, and how dense the rows are.
    first = pieces[0] if pieces else (0, 0)
    chunks = [_scan_piece(scan, tables, columns, first, np.empty((_OVERFLOW, ROW_WORDS), np.int64))]
    shares = [
        int(chunks[0].rows / (first[1] - first[0] or 1) * (e - b) * _MARGIN) + 64
        for b, e in pieces[1:]
    ]
    starts = chunks[0].rows + np.concatenate([[0], np.cumsum(shares)]).astype(np.int64)
    # One array for all rows, never touched where no row comes to lie.
    words = np.empty((int(starts[-1]), ROW_WORDS), np.int64)
    pool = _Pool(tables, threads)

    def work(index: int) -> _Chunk:
        with pool.borrowed() as tables:
            share = words[starts[index] : starts[index + 1]]
            return _scan_piece(scan, tables, columns, pieces[index + 1], share)

    with ThreadPoolExecutor(threads) as executor:
        futures = [executor.submit(work, index) for index in range(len(shares))]
        try:
            for piece, future in zip(pieces[1:], futures, strict=True):
                chunks.append(future.result())
                if progress is not None:
                    progress(piece[1], len(data))
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise
    total, unkept = new_stats(), np.full(_CPUS, NO_EVENT)
    for part in chunks:
        _add_stats(total, part.stats)
        part.settle(unkept)
    return _raw_events(source, words, chunks, names, _counts(pool.every)), total


class Scanning:
    """Runs a compiled scanner over a text and gives its rows piece by piece.

    Parameters
    ----------
    source, scan, names, columns, progress
        As of :func:`scan_all`.
    chunk
        Bytes of a piece.

    Attributes
    ----------
    stats : ndarray of int64
        Counters (:class:`collectors.text.layout.Stat`) of the pieces so far.
    """

    def __init__(
        self,
        source: Source,
        scan: Callable[..., int],
        names: SharedNames,
        columns: NDArray[np.int64],
        progress: Callable[[int, int], None] | None = None,
        *,
        chunk: int = STREAM_CHUNK,
    ) -> None:
        self._source = source
        self._scan = scan
        self._names = names
        self._columns = columns
        self._progress = progress
        self._chunk = chunk
        self._tables = [Tables(source.data, names, source.trace)]
        self._density = 0.0
        self._calls = GraphCalls()
        self._returns: dict[str, int] = {}
        self._marks: list[str] = []
        self._unkept = np.full(_CPUS, NO_EVENT)
        self.stats = new_stats()

    def __iter__(self) -> Iterator[NDArray[np.void]]:
        """Give the rows of the pieces, in the order of the text."""
        pieces = _split(self._source, self._chunk)
        # The first piece teaches the tables most of what they will know.
        for piece in pieces:
            yield self._finished(piece, self._scanned(piece, self._tables[0]))
            break
        threads = usual_threads()
        pool = _Pool(self._tables[0], threads)
        self._tables = pool.every

        def work(piece: tuple[int, int]) -> _Chunk:
            with pool.borrowed() as tables:
                return self._scanned(piece, tables)

        with ThreadPoolExecutor(threads) as executor:
            running: deque[tuple[tuple[int, int], Future[_Chunk]]] = deque()
            try:
                for piece in pieces:
                    running.append((piece, executor.submit(work, piece)))
                    if len(running) > threads:
                        yield self._next(running)
                while running:
                    yield self._next(running)
            except BaseException:
                executor.shutdown(cancel_futures=True)
                raise

    def _next(self, running: deque[tuple[tuple[int, int], Future[_Chunk]]]) -> NDArray[np.void]:
        piece, future = running.popleft()
        return self._finished(piece, future.result())

    def _scanned(self, piece: tuple[int, int], tables: Tables) -> _Chunk:
        rows = int(self._density * (piece[1] - piece[0]) * _MARGIN) + _OVERFLOW
        share = np.empty((rows, ROW_WORDS), np.int64)
        return _scan_piece(self._scan, tables, self._columns, piece, share)

    def _finished(self, piece: tuple[int, int], chunk: _Chunk) -> NDArray[np.void]:
        _add_stats(self.stats, chunk.stats)
        chunk.settle(self._unkept)
        self._density = chunk.rows / max(piece[1] - piece[0], 1)
        blocks = chunk.blocks
        words = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        rows = words.view(RAW_DTYPE).reshape(-1)
        if chunk.kinds & CALLS or self._calls.has_tasks:
            rows, returns = self._calls.resolve(rows)
            for label, count in returns.items():
                self._returns[label] = self._returns.get(label, 0) + count
        if chunk.kinds & MARKS:
            find_marks(rows, self._source, self._marks)
        self._source.forget(piece[1])
        if self._progress is not None:
            self._progress(piece[1], len(self._source.data))
        return rows

    def raw(self, rows: NDArray[np.void]) -> RawEvents:
        """Raw events of a piece, with the names met so far."""
        names = self._names
        return RawEvents(
            rows,
            tuple(names.comms),
            tuple(names.sites),
            stacks=tuple(names.stacks),
            marks=tuple(self._marks),
        )

    def ending(self) -> RawEvents:
        """No rows, but the counts of all pieces."""
        counts = _with_returns(_counts(self._tables), self._returns)
        return replace(self.raw(np.zeros(0, RAW_DTYPE)), counts=counts)


def _counts(every: list[Tables]) -> dict[str, int]:
    """Number of events by label, of all threads."""
    counts: dict[str, int] = {}
    for tables in every:
        for label, count in tables.counts().items():
            counts[label] = counts.get(label, 0) + count
    return dict(sorted(counts.items()))


def _with_returns(counts: dict[str, int], returns: dict[str, int]) -> dict[str, int]:
    """Add the returns that only :mod:`collectors.traceevent.calls` can count."""
    names = sorted({*counts, *returns})
    return {name: counts.get(name, 0) + returns.get(name, 0) for name in names}


def _split(source: Source, chunk: int) -> Iterator[tuple[int, int]]:
    """Cut the text after newlines into pieces of at least `chunk` bytes.

    A last line that does not end is left out: of a text that was cut off, its values may be cut.
    """
    begin, size = 0, source.end_of_lines()
    while begin < size:
        end = begin + chunk
        if end < size:
            newline = source.find(b"\n", end)
            end = size if newline < 0 else cut_before_stack(source, newline + 1)
        else:
            end = size
        yield begin, end
        begin = end


def _scan_piece(
    scan: Callable[..., int],
    tables: Tables,
    columns: NDArray[np.int64],
    piece: tuple[int, int],
    share: NDArray[np.int64],
) -> _Chunk:
    """Scan one piece into its share of the array, answering the scanner's questions."""
    result = _Chunk()
    work = np.zeros(Cell.CELLS, np.int64)
    work[Cell.POSITION], work[Cell.END] = piece
    unkept = work[Cell.UNKEPT : Cell.UNKEPT + _CPUS]
    unkept[:] = NO_EVENT
    block = share
    while True:
        status = scan(tables.scan(work, result.stats, block, columns))
        if status in (Status.DONE, Status.FULL):
            result.blocks.append(block[: work[Cell.ROWS]])
            result.kinds |= kinds_of(result.blocks[-1])
            if status == Status.DONE:
                result.unkept = unkept
                return result
            work[Cell.ROWS] = 0
            block = np.empty((_OVERFLOW, ROW_WORDS), np.int64)
        else:
            tables.resolve(status, work)


def _add_stats(one: NDArray[np.int64], two: NDArray[np.int64]) -> None:
    """Add a piece's counters to those of the pieces before it."""
    if one[Stat.UNREAD] == 0 and two[Stat.UNREAD]:
        one[Stat.FIRST_UNREAD] = one[Stat.LINES] + two[Stat.FIRST_UNREAD]
        one[Stat.FIRST_UNREAD_AT] = two[Stat.FIRST_UNREAD_AT]
    low, high = min(one[Stat.MIN_TS], two[Stat.MIN_TS]), max(one[Stat.MAX_TS], two[Stat.MAX_TS])
    first = one[[Stat.FIRST_UNREAD, Stat.FIRST_UNREAD_AT]]
    one += two
    one[[Stat.FIRST_UNREAD, Stat.FIRST_UNREAD_AT]] = first
    one[Stat.MIN_TS], one[Stat.MAX_TS] = low, high


def _join(
    words: NDArray[np.int64],
    chunks: list[_Chunk],
    comms: NDArray[np.int64],
    sites: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Close the gaps between the pieces' rows, in place where they fit, and renumber names."""
    total = sum(part.rows for part in chunks)
    target = words
    if total > len(words) or any(len(part.blocks) > 1 for part in chunks[1:]):
        target = np.empty((total, ROW_WORDS), np.int64)
    at = 0
    for part in chunks:
        for block in part.blocks:
            # moves down: no piece overtakes the next
            place(block, target[at : at + len(block)], comms, sites)
            at += len(block)
    return target[:total]


def _alphabetical(names: Iterable[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Names in alphabetical order, the empty one first, and their new numbers by the old ones."""
    old = list(names)
    ordered = sorted(old)
    place_of = {name: new for new, name in enumerate(ordered)}
    return tuple(ordered), np.array([place_of[name] for name in old], np.int64)


def _raw_events(
    source: Source,
    words: NDArray[np.int64],
    chunks: list[_Chunk],
    names: SharedNames,
    counts: dict[str, int],
) -> RawEvents:
    """Number task names and sites in alphabetical order, whichever thread met them first."""
    comms, new_comms = _alphabetical(names.comms)
    sites, new_sites = _alphabetical(names.sites)
    kinds = reduce(or_, (part.kinds for part in chunks))
    if kinds & CALLS:  # a call's own name is known by its first number
        words = _join(words, chunks, np.arange(len(comms)), np.arange(len(sites)))
        rows, returns = GraphCalls().resolve(words.view(RAW_DTYPE).reshape(-1))
        counts = _with_returns(counts, returns)
        words = rows.view(np.int64).reshape(-1, ROW_WORDS)
        chunks = [_Chunk([words])]
    words = _join(words, chunks, new_comms, new_sites)
    rows = words.view(RAW_DTYPE).reshape(-1)
    marks: list[str] = []
    if kinds & MARKS:
        find_marks(rows, source, marks)
    if kinds & STACKS:
        stacked = np.flatnonzero(rows["kind"] == KIND_STACK)
        numbers = np.argsort(np.argsort(np.array(list(names.stacks), object)))
        rows["values"][stacked, 0] = numbers[rows["values"][stacked, 0]]
    return RawEvents(rows, comms, sites, counts, sorted(names.stacks), marks)
