"""The calls that took longest, each with what it did: what a latency is looked for by."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from collectors.events import OP_CODE, OPS
from replay.observed.loops import NO_TIME, TAKES_TIME
from replay.observed.meanwhile import CallRow, Meanwhile
from replay.observed.unseen import lost_within, unseen
from replay.outcome import Behind, LongCall, Running
from replay.trace.columns import has_ops, op_codes, whole
from replay.trace.told import NO_ROW, moment

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from replay.observed.meanwhile import Around
    from replay.trace.losses import Loss
    from replay.trace.told import Told

KEPT: Final = 64
"""Calls that are kept: as many as anybody wants to read."""
_FLUSHES: Final = ("flush_range", "flush_all")


class _KeptCall(NamedTuple):
    """A call that is kept: its row, operation, time (ns), where it stands, and what it did."""

    row: int
    op: str
    took: int
    seq: int
    end_seq: int | None
    end_ts: int | None
    pages: int | None
    """As its own arguments tell."""
    flushes: tuple[int, ...] = ()
    """Pages that each flush in it invalidated; 0: all."""


class LongestTally:
    """Keeps the calls that took longest, piece by piece.

    Parameters
    ----------
    page_size
        Bytes.
    clock_is_ns
        False where the trace clock counts something else than time; what the function_graph
        tracer measured is time all the same.
    sleeps_for_lock
        As of :class:`replay.observed.meanwhile.Meanwhile`.
    """

    def __init__(self, page_size: int, *, clock_is_ns: bool, sleeps_for_lock: bool = False) -> None:
        self._page_size = page_size
        self._clock_is_ns = clock_is_ns
        self._kept: list[_KeptCall] = []  # the longest first
        self._rows: set[int] = set()
        self._meanwhile = Meanwhile(sleeps_for_lock=sleeps_for_lock)

    def feed(self, events: pl.DataFrame, first_row: int) -> None:
        """Look at a piece of the event table, which begins with this row."""
        here, took = self._longer(events)
        self._go_on(events)
        calls = self._keep(events, first_row, here, took) if here.size else []
        self._meanwhile.feed(events, first_row, calls, self._rows)

    def _longer(self, events: pl.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places and times of the longest calls of a piece that take longer than all kept."""
        least = self._kept[-1].took if len(self._kept) == KEPT else 0
        ts, end = whole(events, "ts", NO_TIME), np.zeros(0, np.int64)
        is_longer = np.zeros(events.height, bool)
        if self._clock_is_ns and events.get_column("end_ts").null_count() < events.height:
            end = whole(events, "end_ts", NO_TIME)
            is_longer = end > ts + least  # never so of NO_TIME, which a difference may be
        duration = np.zeros(0, np.int64)
        if events.get_column("duration").null_count() < events.height:
            duration = whole(events, "duration", NO_TIME)
            is_longer = np.where(duration == NO_TIME, is_longer, duration > least)
        here = np.flatnonzero(is_longer)
        here = here[TAKES_TIME[op_codes(events)[here]]]
        took = end[here] - ts[here] if end.size else np.full(here.size, NO_TIME)
        if duration.size:
            took = np.where(duration[here] == NO_TIME, took, duration[here])
        if here.size > KEPT:
            longest = took >= np.partition(took, -KEPT)[-KEPT]
            here, took = here[longest], took[longest]
        return here, took

    def _keep(
        self,
        events: pl.DataFrame,
        first_row: int,
        here: NDArray[np.int64],
        took: NDArray[np.int64],
    ) -> list[CallRow]:
        """Keep calls of a piece; those that stay and were traced to their return."""
        columns = ("op", "pages", "size", "seq", "end_seq", "ts", "end_ts", "pid")
        some = list(events.select(columns)[here].iter_rows())
        flushed = self._flushes(events, [seq for _, _, _, seq, *_ in some])
        calls = []
        for place, ns, (op, pages, size, *ends) in zip(
            here.tolist(), took.tolist(), some, strict=True
        ):
            row, (seq, end_seq, _, end_ts, _) = first_row + place, ends
            if op == "area_purge":  # of which `pages` is a truth value
                touched = None
            else:
                touched = size // self._page_size if pages is None and size is not None else pages
            flushes = tuple(flushed.get(seq, ()))
            self._kept.append(_KeptCall(row, op, ns, seq, end_seq, end_ts, touched, flushes))
            if None not in ends:
                calls.append(CallRow(row, OP_CODE[op], *ends))
        self._kept.sort(key=lambda call: (-call.took, call.row))
        del self._kept[KEPT:]
        self._rows = {call.row for call in self._kept}
        return [call for call in calls if call.row in self._rows]

    def _go_on(self, events: pl.DataFrame) -> None:
        """Add the flushes of this piece to kept calls that began in an earlier one."""
        first = events.item(0, "seq") if events.height else None
        if first is None:
            return
        running = [c.seq for c in self._kept if c.end_seq is None or c.end_seq >= first]
        flushed = self._flushes(events, running) if running else {}
        if flushed:
            self._kept = [
                call._replace(flushes=(*call.flushes, *flushed.get(call.seq, ())))
                for call in self._kept
            ]

    def _flushes(self, events: pl.DataFrame, calls: list[int]) -> dict[int, list[int]]:
        """By the position of the call that they were made in: pages that each flush invalidated."""
        if not has_ops(events, _FLUSHES):
            return {}
        codes = op_codes(events)
        here = np.flatnonzero(np.logical_or(*(codes == OP_CODE[op] for op in _FLUSHES)))
        here = here[np.isin(whole(events, "parent", -1)[here], calls)]
        made: dict[int, list[int]] = {}
        columns = (whole(events, name, -1)[here].tolist() for name in ("parent", "start", "end"))
        for call, start, end in zip(*columns, strict=True):
            ranged = start >= 0 <= end
            touched = -(min(start - end, 0) // self._page_size) if ranged else 0
            made.setdefault(call, []).append(touched)
        return made

    def rows(self) -> set[int]:
        """Rows that :meth:`result` needs to name tasks."""
        self._meanwhile.finish()
        return self._rows | self._meanwhile.rows()

    def result(self, told: Told, lost: Loss | None = None) -> tuple[LongCall, ...]:
        """The longest first.

        Parameters
        ----------
        told
            What the rows of :meth:`rows` tell.
        lost
            What tracing lost: nothing but its time is told of a call that it may hide something of.
        """
        calls = []
        for kept in self._kept:
            at = moment(told, kept.row)
            if at is not None:
                pages = sum(kept.flushes) if kept.flushes else kept.pages
                call = LongCall(
                    kept.op, kept.took, pages, len(kept.flushes), at, end_ts=kept.end_ts
                )
                calls.append(self._with(call, self._meanwhile.found.get(kept.row), told, lost))
        return tuple(calls)

    def _with(
        self, call: LongCall, around: Around | None, told: Told, lost: Loss | None
    ) -> LongCall:
        """A call with what was around it, or why that is not known."""
        hidden = unseen(call, lost)
        if hidden is not None or call.end_ts is None or around is None:
            return replace(call, unseen=hidden or "return")
        begin, end, switches = call.at.ts, call.end_ts, self._meanwhile.switches
        if not self._clock_is_ns:
            return replace(call, unseen="clock")
        held = moment(told, around.behind)
        if held is not None and not lost_within(held.ts, end, lost):
            call = replace(call, behind=Behind(OPS[around.behind_op], held))
        if switches is None:
            return replace(call, unseen="switches")
        if not switches[0] <= begin <= end <= switches[1]:
            return replace(call, unseen="edge")
        return replace(
            call,
            off_ns=around.off_ns,
            sleeps=around.sleeps,
            instead=tuple(Running(pid, _comm(told, row), ns=ns) for pid, row, ns in around.instead),
            interrupted=tuple(
                Running(pid, _comm(told, row), cpu)
                for cpu, pid, row, since in around.interrupted
                if not lost_within(since + 1, end, lost, cpu)
            ),
            waiters=tuple(
                Running(pid, _comm(told, row), ns=ns)
                for pid, row, ns, shown in around.waiters
                if not lost_within(begin, shown, lost)
            ),
        )


def _comm(told: Told, row: int) -> str | None:
    """Name of the task that made a row."""
    return None if row == NO_ROW else told[row].comm
