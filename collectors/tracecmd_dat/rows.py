"""From the records of a buffer to raw events, piece by piece."""

from __future__ import annotations

from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.input.threads import threads
from collectors.probes import (
    KIND_CLOSE,
    KIND_LOST,
    KIND_MARK,
    KIND_OPEN,
    KIND_STACK,
    KIND_SWITCH,
)
from collectors.raw import RAW_DTYPE, ROW_WORDS, RawEvents
from collectors.reading import PIECE_ROWS
from collectors.tracecmd_dat.graphs import Graphs
from collectors.tracecmd_dat.lost import BufferLosses
from collectors.tracecmd_dat.merging import Merger
from collectors.tracecmd_dat.names import TaskNames
from collectors.tracecmd_dat.texts import Texts
from collectors.traceevent.meaning import Interpreter, RowPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from collectors.tracecmd_dat.container import DatFile, TraceBuffer

_SLICE: Final = 1 << 14
"""Rows that are worth a thread."""


class RowMaker:
    """The raw events of one buffer, made as they are asked for.

    Parameters
    ----------
    file, buffer
        What to read.
    meaning
        Of its events.
    progress
        Called with (bytes done, bytes in all).
    piece
        Rows in a piece.
    rows, span
        As for :class:`Merger`.

    Attributes
    ----------
    counts
        Records per function or tracepoint; complete after the last piece.
    losses
        What was lost; likewise.
    """

    def __init__(
        self,
        file: DatFile,
        buffer: TraceBuffer,
        meaning: Interpreter,
        progress: Callable[[int, int], None] | None = None,
        *,
        piece: int = PIECE_ROWS,
        rows: int | None = None,
        span: int | None = None,
    ) -> None:
        self._meaning = meaning
        self._piece = piece
        self._plans = [RowPlan(KIND_LOST)]
        self._known: dict[tuple[int, int], tuple[str, int, int, bool]] = {}
        self._lock = Lock()
        self.merger = Merger(file, buffer, self._resolve, progress, rows=rows, span=span)
        self.losses = BufferLosses(file, buffer, self.merger)
        self.counts: dict[str, int] = {}
        self._names = TaskNames(file.meta.comms)
        self._texts = Texts(meaning.symbols, file.meta.order, file.meta.word)
        self._graphs = Graphs(meaning.symbols)
        self._table = np.zeros((0, 0), np.int64)

    @property
    def comms(self) -> tuple[str, ...]:
        """Names of tasks so far."""
        return tuple(self._names.comms)

    @property
    def notes(self) -> list[str]:
        """Remarks for the user."""
        return self._texts.notes

    def _resolve(self, event: int, ip: int) -> tuple[int, int, bool]:
        """Plan of an (event, probed address) pair, bytes that it needs; whether it is a stack."""
        with self._lock:
            if (event, ip) not in self._known:
                label, plan = self._meaning.of(event, ip)
                number, need, is_stack = -1, 0, False
                if plan is not None:
                    number, need = len(self._plans), plan.reads()
                    is_stack = plan.kind == KIND_STACK
                    self._plans.append(plan)
                self._known[event, ip] = (label, number, need, is_stack)
            return self._known[event, ip][1:]

    def pieces(self) -> Iterator[RawEvents]:
        """Make the raw events, in the order of time.

        Raises
        ------
        HmtraceError
            If the data is damaged.
        """
        front = self.losses.front()
        rows = np.empty(self._piece, RAW_DTYPE)
        filled = nameless = 0
        for order in self.merger.windows():
            if front is not None:
                front["ts"] = self.merger.pool.ts[order[0]]
                yield self._finish(front, 0)
                front = None
            done = 0
            while done < len(order):
                part = order[done : done + self._piece - filled]
                made = rows[filled : filled + len(part)]
                words = rows.view(np.int64).reshape(-1, ROW_WORDS)
                without_name, strangers, more = self._fill(part, made)
                nameless += without_name
                if strangers:
                    self._learn(part, made)
                resolved, origin = self._complete(part, made) if more else (made, None)
                if origin is not None:
                    words[filled : filled + len(resolved)] = resolved.view(np.int64).reshape(
                        -1, ROW_WORDS
                    )
                self.losses.note(part, origin)
                done += len(part)
                filled += len(resolved)
                if filled == self._piece:
                    yield self._finish(rows, nameless)
                    rows = np.empty(self._piece, RAW_DTYPE)
                    filled = nameless = 0
        self.losses.finish()
        self._count()
        if front is not None:
            front["ts"] = self.losses.first_ts
            yield self._finish(front, 0)
        if filled:
            yield self._finish(rows[:filled], nameless)

    def _fill(self, order: NDArray[np.int64], rows: NDArray[np.void]) -> tuple[int, ...]:
        """Make rows, and count (:func:`collectors.traceevent.fill.fill_rows`)."""
        from collectors.traceevent.fill import fill_rows

        if len(self._table) != len(self._plans):
            self._table = np.array([p.row() for p in list(self._plans)], np.int64)
        pool = self.merger.pool
        words = rows.view(np.int64).reshape(len(rows), ROW_WORDS)

        def fill(first: int, last: int) -> tuple[int, ...]:
            found: tuple[int, ...] = fill_rows(
                pool.base,
                pool.shift,
                self.merger.big,
                order[first:last],
                pool.ts,
                pool.at,
                pool.cpu,
                pool.plan,
                self._table,
                self._names.comm_of,
                KIND_LOST,
                KIND_SWITCH,
                words[first:last],
            )
            return found

        parts = min(threads(), -(-len(order) // _SLICE))
        if parts == 1:
            return fill(0, len(order))
        bounds = [len(order) * n // parts for n in range(parts + 1)]
        found = list(self.merger.executor.map(fill, bounds[:-1], bounds[1:]))
        return tuple(map(sum, zip(*found, strict=True)))

    def _spans(self) -> dict[int, NDArray[np.uint8]]:
        """Bytes of the blocks under way, by their numbers."""
        return {b.number: b.span.data for b in self.merger.blocks if b.span is not None}

    def _learn(self, order: NDArray[np.int64], rows: NDArray[np.void]) -> None:
        """Learn the names of tasks from switches."""
        switch = next((p.event for p in self._plans if p.kind == KIND_SWITCH), None)
        if switch is not None:
            self._names.learn(rows, order, self.merger.pool, self._spans(), switch)

    def _complete(
        self, order: NDArray[np.int64], rows: NDArray[np.void]
    ) -> tuple[NDArray[np.void], NDArray[np.int64] | None]:
        """Take the texts of markers and stack traces; resolve calls (:meth:`Graphs.resolve`)."""
        pool, plans = self.merger.pool, list(self._plans)
        if any(plan.kind in (KIND_MARK, KIND_STACK) for plan in plans):
            self._texts.take(rows, order, pool, self._spans(), plans)
        if not any(plan.kind in (KIND_OPEN, KIND_CLOSE) for plan in plans):
            return rows, None
        return self._graphs.resolve(rows, pool.plan[order], plans)

    def _finish(self, rows: NDArray[np.void], nameless: int) -> RawEvents:
        if nameless:
            self._names.name(rows)
        texts, sites = self._texts, self._graphs.sites
        return RawEvents(rows, self._names.comms, sites, stacks=texts.stacks, marks=texts.marks)

    def ending(self) -> RawEvents:
        """No rows, but all tables and counts; behind the last piece."""
        return replace(self._finish(np.empty(0, RAW_DTYPE), 0), counts=self.counts)

    def _count(self) -> None:
        """Add up what the walks counted."""
        counts: dict[str, int] = {}
        for walk in self.merger.walks:
            for event, ip, number in walk.counts():
                label = self._known[event, ip][0]
                counts[label] = counts.get(label, 0) + number
        self.counts = dict(sorted(counts.items()))
