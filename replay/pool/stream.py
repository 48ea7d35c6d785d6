"""The pool's calls and flushes as one stream of positions in the trace.

The table may come in pieces: an event's place in the stream is settled once no later piece can
bring one before it. What the events are and how they are put in order stands in
:mod:`replay.pool.loops.stream`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from replay.pool.calls import FLUSH_EVENTS, NEVER, CallTable, pass_flushed
from replay.pool.entries import ROOM

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.pool.entries import Entries
    from replay.pool.loops.placing import Calls
    from replay.pool.loops.stream import Events, Flow, Marks, Tasks
    from replay.pool.window import PoolFacts, PoolWindow
    from replay.trace.losses import Gaps

UNMAP_EVENTS: Final = 1 << 14
"""Positions of the trace after which a kunmap() without a return has certainly happened. Its
task's next event says so too, but an idle task may make none for hours."""
OPEN_EVENTS: Final = 1 << 16
"""Events of the stream for which a kmap() may be open before only its own flushes and its return
tell when it was served: it sleeps, or its return is missing."""
_FAR: Final = 1 << 60
"""As replay.pool.loops.calls.FAR."""
_FEW_TASKS: Final = 64


class Known(NamedTuple):
    """The part of the stream that can be looked at.

    Attributes
    ----------
    kinds : ndarray of uint8
    who : ndarray of int64
        For :func:`replay.pool.loops.order.handle`.
    time : ndarray of int64
        Never falls.
    passes : ndarray of int64
        Which of them are runs of flush_all_zero_pkmaps.
    flushed : ndarray of bool
        Of each of those, whether a TLB flush of the window followed.
    limit
        Events from there on have to wait for what comes later in the trace.
    arrays
        What the search needs of every call.
    """

    kinds: NDArray[np.uint8]
    who: NDArray[np.int64]
    time: NDArray[np.int64]
    passes: NDArray[np.int64]
    flushed: NDArray[np.bool_]
    limit: int
    arrays: Calls


class PoolStream:
    """The events that are not settled, and the calls that they are of.

    Parameters
    ----------
    window
        The pool.
    facts
        What is known of the whole trace.
    losses
        Where events were lost.
    snapshot_seq
        Position at which the pool's snapshot was taken; None: there is none.

    Attributes
    ----------
    calls
        In the order of `seq`.
    carried
        How many of them are of the pieces before the last.
    start
        Events that came before those kept, in the whole stream.
    passes
        Flushes that came before those kept.
    """

    def __init__(
        self,
        window: PoolWindow,
        facts: PoolFacts,
        losses: Gaps,
        snapshot_seq: int | None,
    ) -> None:
        from replay.pool.loops import stream as kernel

        self.calls = CallTable.blank(0)
        self.carried = 0
        self.start = 0
        self.passes = 0
        self._window = window
        self._facts = facts
        self._marks = _marks(losses.ends, snapshot_seq)
        self._ends = kernel.Ends(*np.zeros((2, 0), np.int64))
        self._tasks = _no_tasks(0)
        self._events = _room(0)
        self._flushes = np.zeros(0, np.int64)  # positions of the window's TLB flushes
        self._pass_places = np.zeros(0, np.int64)  # in the events so far
        self._reg = np.zeros(kernel.REGISTERS, np.int64)
        self._reg[kernel.LAST_PASS] = -1
        self._reg[kernel.NOW] = facts.start

    def take(self, entries: Entries, *, last: bool) -> None:
        """Add a piece of the event table.

        Parameters
        ----------
        entries
            What the pool finds in it.
        last
            Nothing comes behind it.
        """
        from replay.pool.loops import stream as kernel

        self.carried = self.calls.size
        self.calls = entries.calls.behind(self.calls, ROOM)
        self._flushes = np.concatenate([self._flushes, entries.flushes])
        self._reg[kernel.UNMAP_LIMIT] = UNMAP_EVENTS
        self._reg[kernel.OPEN_LIMIT] = OPEN_EVENTS
        flow = self._flow(entries.what.size, entries.tasks)
        kernel.flow(flow, entries.rows, entries.what, last)

    def _flow(self, rows: int, tasks: int) -> Flow:
        """What is under way, with room for so many rows of so many tasks."""
        from replay.pool.loops import stream as kernel

        calls, reg = self.calls, self._reg
        kept, ends = reg[kernel.N_EVENTS], reg[kernel.N_ENDS]
        # A call has an entry and an end, a row may be a flush, and each mark is one event.
        room = _room(kept + 2 * calls.size + rows + self._marks.position.size)
        room.position[:kept] = self._events.position
        room.kind[:kept] = self._events.kind
        room.who[:kept] = self._events.who
        room.time[:kept] = self._events.time
        self._events = room
        heaps = kernel.Ends(*(np.empty(ends + calls.size, np.int64) for _ in self._ends))
        for heap, before in zip(heaps, self._ends, strict=True):
            heap[:ends] = before[:ends]
        self._ends = heaps
        since = int(room.position[0]) if kept else _FAR  # flushes before are forgotten
        old_tasks = self._tasks
        number = kernel.carry_tasks(old_tasks, _no_tasks(0), since)
        self._tasks = _no_tasks(max(_FEW_TASKS, 1 << int(2 * (number + tasks)).bit_length()))
        kernel.carry_tasks(old_tasks, self._tasks, since)
        course = kernel.Course(*(calls[name] for name in kernel.Course._fields))
        return kernel.Flow(course, self._ends, self._tasks, self._marks, room, reg)

    def known(self, *, last: bool) -> Known:
        """The events whose place is settled, and how far they can be looked at."""
        from replay.pool.loops.placing import Calls
        from replay.pool.loops.stream import LAST_PASS

        events, calls = self._known_events(), self.calls
        passes = self._pass_places = np.flatnonzero(is_pass(events.kind))
        flushed = pass_flushed(events.position[passes], self._flushes)
        events.kind[passes] = self._told(events, passes, flushed)
        is_open, too_long = self._open_maps(events.kind.size)
        calls["flushed_in"][is_open] = self._reg[LAST_PASS]
        last_pass, final_pass = calls["last_pass"], calls["final_pass"]
        if too_long.size:
            calls["flushed_in"][too_long] = _FAR
            last_pass, final_pass = last_pass.copy(), final_pass.copy()
            last_pass[too_long], final_pass[too_long] = _FAR, -1
        return Known(
            events.kind,
            events.who,
            events.time,
            passes,
            flushed,
            events.kind.size if last else self._limit(events, passes),
            Calls(
                page=calls["number"],
                seen=calls["seen"],
                code=calls["code"],
                flushed_in=calls["flushed_in"],
                last_pass=last_pass,
                final_pass=final_pass,
                start=self.start,
            ),
        )

    def _known_events(self) -> Events:
        """The events so far, without the room for more."""
        from replay.pool.loops.stream import N_EVENTS

        return _between(self._events, 0, int(self._reg[N_EVENTS]))

    def _open_maps(self, known: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Calls of kmap() whose return is not in the stream, and those that are open too long.

        Parameters
        ----------
        known
            Events of the stream.
        """
        from replay.pool.loops.calls import MAPS

        calls = self.calls
        is_open = np.flatnonzero(~calls["ended"])
        is_open = is_open[calls["role"][is_open] == MAPS]
        since = self.start + known - calls["entered"][is_open]
        return is_open, is_open[since > OPEN_EVENTS]

    def _limit(self, events: Events, passes: NDArray[np.intp]) -> int:
        """Event from which on all wait for what comes later, unless nothing does."""
        from replay.pool.loops.placing import LOOKAHEAD

        known = limit = events.kind.size
        if passes.size and self._facts.flushes_traced:
            # Whether the last flush freed something is not known before its TLB flush, or none.
            is_told = events.position[-1] - events.position[passes[-1]] >= FLUSH_EVENTS
            limit = known if is_told else int(passes[-1])
        # What is asked of an open call is answered by its return, or by enough events.
        is_open, too_long = self._open_maps(known)
        asked = self.calls["entered"][is_open] - self.start
        asked[np.isin(is_open, too_long)] = self.calls["last_pass"][too_long] - self.start
        asked = asked[(asked >= 0) & (known - asked <= OPEN_EVENTS)]
        return min(max(limit - LOOKAHEAD, 0), int(asked.min(initial=limit)))

    def _told_by_tlb(self) -> bool:
        """Whether the window's TLB flushes tell which passes freed something.

        With colours one lane's wrap flushes the slots of all, and orders that follow the TLB
        flushes explain fewer addresses of crowded pools (tests/replay/test_order.py).
        """
        facts = self._facts
        return facts.passes_traced and facts.flushes_traced and self._window.colours == 1

    def _told(
        self, events: Events, passes: NDArray[np.intp], flushed: NDArray[np.bool_]
    ) -> NDArray[np.uint8]:
        """Kind of each pass: whether a TLB flush of the window followed, if that is known."""
        from replay.pool.loops.placing import FREEING_PASS, LOSS, PASS, QUIET_PASS

        if not self._told_by_tlb():
            return np.full(passes.size, PASS, np.uint8)
        kinds = np.where(flushed, FREEING_PASS, QUIET_PASS).astype(np.uint8)
        position = events.position[passes]
        lost = events.position[events.kind == LOSS]
        behind = np.searchsorted(lost, position, side="right")
        before = np.append(position[1:], NEVER)
        missed = behind < np.searchsorted(lost, before, side="right")
        kinds[~flushed & missed] = PASS
        return kinds

    def forget(self, events: int, used: NDArray[np.int64]) -> NDArray[np.int64]:
        """Drop the first `events` events, and the calls that nothing needs any more.

        Parameters
        ----------
        events
            Settled events that nobody will look at again.
        used : ndarray of int64
            Calls that somebody else needs.

        Returns
        -------
        ndarray of int64
            The calls that are kept, ascending: their places in it are their new indices.
        """
        from replay.pool.loops import stream as kernel

        known = self._known_events()
        if events:
            self._flushes = self._flushes[self._flushes >= known.position[events - 1]]
        self.passes += int(np.searchsorted(self._pass_places, events))
        self.start += events
        self._events = _between(known, events, known.kind.size)
        keep = ~self.calls["ended"]
        keep[used] = True
        who = self._events.who
        keep[who[who >= 0]] = True
        kept = np.flatnonzero(keep)
        self._rename(kept)
        self.calls = self.calls[kept]
        reg = self._reg
        reg[kernel.N_EVENTS] -= events
        reg[kernel.START] = self.start
        reg[kernel.N_CALLS] = self.calls.size
        reg[kernel.OLDEST] = 0
        return kept

    def _rename(self, kept: NDArray[np.int64]) -> None:
        """Only these calls are left, in the same order."""
        from replay.pool.loops.stream import N_ENDS, SHIFT

        self._events.who[:] = renamed(self._events.who, kept)
        self._tasks.waiting[:] = renamed(self._tasks.waiting, kept)
        tie = self._ends.tie[: self._reg[N_ENDS]]
        call = tie & ((1 << SHIFT) - 1)
        tie += renamed(call, kept) - call


def renamed(calls: NDArray[np.int64], kept: NDArray[np.int64]) -> NDArray[np.int64]:
    """New indices of calls, -1 where there is none or it is not kept.

    Parameters
    ----------
    calls
        Indices; -1 none.
    kept
        Those of the calls that are kept, ascending.
    """
    index = np.searchsorted(kept, calls)
    is_kept = index < kept.size
    is_kept[is_kept] = kept[index[is_kept]] == calls[is_kept]
    return np.where(is_kept, index, -1)


def _marks(losses: NDArray[np.int64], snapshot_seq: int | None) -> Marks:
    """Losses of events and the snapshot, in order; of those at one position the snapshot first."""
    from replay.pool.loops.placing import LOSS, SNAP
    from replay.pool.loops.stream import Marks

    at = [(position, 1, LOSS) for position in losses.tolist()]
    if snapshot_seq is not None:
        at.append((snapshot_seq, 0, SNAP))
    at.sort()
    return Marks(
        np.array([min(position, NEVER) for position, _, _ in at], np.int64),
        np.array([kind for _, _, kind in at], np.uint8),
    )


def _room(events: int) -> Events:
    """Room for so many events."""
    from replay.pool.loops.stream import Events

    return Events(
        np.empty(events, np.int64),
        np.empty(events, np.uint8),
        np.empty(events, np.int64),
        np.empty(events, np.int64),
    )


def _between(events: Events, first: int, stop: int) -> Events:
    """Some of the events."""
    from replay.pool.loops.stream import Events

    return Events(
        events.position[first:stop],
        events.kind[first:stop],
        events.who[first:stop],
        events.time[first:stop],
    )


def _no_tasks(room: int) -> Tasks:
    """A table without tasks."""
    from replay.pool.loops.stream import Tasks

    return Tasks(
        np.zeros(room, bool),
        np.zeros(room, np.int32),
        np.full(room, -1, np.int64),
        np.full(room, -1, np.int64),
    )


def is_pass(kinds: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Events that are runs of flush_all_zero_pkmaps, whatever is known of them."""
    from replay.pool.loops.placing import FREEING_PASS, PASS, QUIET_PASS

    return (kinds == PASS) | (kinds == QUIET_PASS) | (kinds == FREEING_PASS)
