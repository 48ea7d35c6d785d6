"""The pool's calls and flushes as one stream of positions in the trace.

A table row shows a call from its entry to its return. What overlaps in time has to be looked at
in the order of entries, returns and flushes, so each row becomes two events of a stream. The
table may come in pieces: an event's place is settled once no later piece can bring one before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import polars as pl

from replay.pool.calls import (
    CALL,
    FLUSH_EVENTS,
    GET_CODE,
    NEVER,
    POOL_CALLS,
    UNKNOWN_PAGE,
    UNSET,
    is_anonymous,
    is_mapping,
    is_reuse,
    is_window_flush,
    pass_flushed,
    passes_of,
)
from replay.trace.tasks import finished_by

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from replay.pool.loops.placing import Calls
    from replay.survey import PoolFacts, PoolWindow

UNMAP_EVENTS: Final = 1 << 14
"""Positions of the trace after which a kunmap() without a return has certainly happened. Its
task's next event says so too, but an idle task may make none for hours."""
OPEN_EVENTS: Final = 1 << 16
"""Events of the stream for which a kmap() may be open before only its own flushes and its return
tell when it was served: it sleeps, or its return is missing."""
_UNPREDICTED: Final = -2
"""As replay.pool.loops.highmem.UNKNOWN."""
_FAR: Final = 1 << 60
_EVENT: Final = np.dtype(
    [("position", "u8"), ("rank", "u1"), ("kind", "u1"), ("who", "i8"), ("time", "i8")]
)
"""`who` is a call; -1 none."""


class Known(NamedTuple):
    """The part of the stream that can be looked at.

    Attributes
    ----------
    kinds : ndarray of uint8
    who : ndarray of int64
        For :func:`replay.pool.loops.order.handle`.
    time : ndarray of int64
        Never falls.
    flushed : ndarray of bool
        Passes that a TLB flush of the window followed.
    limit
        Events from there on have to wait for what comes later in the trace.
    arrays
        What the search needs of every call, in positions of this part.
    """

    kinds: NDArray[np.uint8]
    who: NDArray[np.int64]
    time: NDArray[np.int64]
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
        `seq` of the first event after each loss of events.
    snapshot_seq
        Position at which the pool's snapshot was taken; None: there is none.

    Attributes
    ----------
    calls : ndarray of CALL
        In the order of `seq`.
    start
        Events that came before those kept, in the whole stream.
    passes
        Flushes that came before those kept.
    """

    def __init__(
        self,
        window: PoolWindow,
        facts: PoolFacts,
        losses: Sequence[int],
        snapshot_seq: int | None,
    ) -> None:
        from replay.pool.loops.placing import LOSS, SNAP

        self.calls = np.zeros(0, CALL)
        self.start = 0
        self.passes = 0
        self._window = window
        self._facts = facts
        self._floor = facts.start
        self._unknown_pages = 0
        self._sleeps = pl.DataFrame(schema={"pid": pl.Int32, "slept": pl.UInt64})
        loss = _events(LOSS, 1, np.array(sorted(losses), np.uint64), 0, -1)
        snap = np.array([] if snapshot_seq is None else [snapshot_seq], np.uint64)
        self._events = np.concatenate([loss, _events(SNAP, 0, snap, 0, -1)])
        self._flushes = np.zeros(0, np.uint64)  # positions of the window's TLB flushes
        self._known = 0

    def take(self, events: pl.DataFrame, first_row: int, *, last: bool) -> None:
        """Add a piece of the event table.

        Parameters
        ----------
        events
            Sorted by `seq`, behind everything before.
        first_row
            Number of its first row.
        last
            Nothing comes behind it.
        """
        from replay.pool.loops.placing import END_UNMAP, ENTER_MAP, ENTER_UNMAP, RETURN_MAP

        old = self.calls.size
        table = events.with_row_index("row", first_row)
        self.calls = np.concatenate([self.calls, self._calls_of(table)])
        ended = self._end_calls(table, last=last)
        calls, index = self.calls, np.arange(self.calls.size)
        is_map, is_unmap = is_mapping(calls), calls["code"] == 1
        new = index >= old
        parts = [
            (ENTER_MAP, 4, "seq", "ts", new & is_map),
            (RETURN_MAP, 5, "end", "end_ts", ended & is_map),
            (ENTER_UNMAP, 4, "seq", "ts", new & is_unmap),
            (END_UNMAP, 2, "end", "end_ts", ended & is_unmap),
        ]
        added = [
            _events(kind, rank, calls[at][which], calls[time][which], index[which])
            for kind, rank, at, time, which in parts
        ]
        self._take_switches(table)
        flushes = table.filter(is_window_flush(self._window)).get_column("seq").to_numpy()
        self._flushes = np.concatenate([self._flushes, flushes])
        stream = np.concatenate([self._events, *added, self._passes_of(table)])
        self._events = stream[np.lexsort((stream["who"], stream["rank"], stream["position"]))]
        self._known = self._events.size
        if not last:
            end = int(events["seq"][-1]) if events.height else 0
            self._known = int(np.searchsorted(self._events["position"], end, side="right"))

    def known(self, *, last: bool) -> Known:
        """The events whose place is settled, and how far they can be looked at."""
        from replay.pool.loops.placing import (
            ENTER_MAP,
            LOOKAHEAD,
            NEVER_RETURNED,
            PASS,
            RETURN_MAP,
            Calls,
        )  # fmt: skip

        calls, stream = self.calls, self._events[: self._known]
        kinds, who = stream["kind"].copy(), stream["who"].copy()
        flushed = self._flushed(stream)
        told = self._passes_told(stream, flushed)
        entries = np.flatnonzero(kinds == ENTER_MAP)
        calls["entered"][who[entries]] = entries + self.start
        returns = np.full(calls.size, _FAR, np.int64)
        at = np.flatnonzero(kinds == RETURN_MAP)
        returns[who[at]] = at
        is_map, entered = is_mapping(calls), calls["entered"] - self.start
        open_until = np.minimum(returns, self._known)
        too_long = is_map & (open_until - entered > OPEN_EVENTS)
        at = np.flatnonzero(kinds == PASS)
        own = at[who[at] >= 0]
        own = own[own < returns[who[own]]]  # a parent that has returned is none
        pass_of = np.full(calls.size, -1, np.int64)
        pass_of[who[own]] = own  # positions rise: the last one stays
        final = pass_of.copy()
        final[too_long & (returns - final > OPEN_EVENTS)] = -1
        final[self._slept_afterwards(np.flatnonzero(final >= 0), final)] = -1
        before = np.concatenate([[-1], at])[np.searchsorted(at, returns)]
        before[too_long] = _FAR
        before[~is_map] = -1
        limit = self._known
        if not last and at.size and self._facts.flushes_traced:
            # Whether the last flush freed something is not known before its TLB flush, or none.
            position = stream["position"]
            if int(position[-1] - position[at[-1]]) < FLUSH_EVENTS:
                limit = int(at[-1])
        if not last:
            # What is asked of an open call is answered by its return, or by enough events.
            asked = np.where(too_long, pass_of, entered)
            asked = asked[is_map & (returns == _FAR) & (asked >= 0)]
            asked = asked[self._known - asked <= OPEN_EVENTS]
            limit = min(max(limit - LOOKAHEAD, 0), int(asked.min(initial=limit)))
        return Known(
            np.where(kinds == PASS, told, kinds),
            who,
            self._times(stream),
            flushed,
            limit,
            Calls(
                page=np.zeros(0, np.int64),
                seen=np.where(self._never_returned(), NEVER_RETURNED, calls["seen"]),
                flushed_in=before,
                last_pass=np.where(too_long, _FAR, pass_of),
                final_pass=final,
                pin=calls["code"] == GET_CODE,
            ),
        )

    def _told_by_tlb(self) -> bool:
        """Whether the window's TLB flushes tell which passes freed something.

        With colours one lane's wrap flushes the slots of all, and orders that follow the TLB
        flushes explain fewer addresses of crowded pools (tests/replay/test_order.py).
        """
        facts = self._facts
        return facts.passes_traced and facts.flushes_traced and self._window.colours == 1

    def _flushed(self, stream: NDArray[np.void]) -> NDArray[np.bool_]:
        """Whether each event is a PASS that a TLB flush of the window followed."""
        from replay.pool.loops.placing import PASS

        flushed = np.zeros(stream.size, bool)
        at = np.flatnonzero(stream["kind"] == PASS)
        flushed[at] = pass_flushed(stream["position"][at], self._flushes)
        return flushed

    def _passes_told(
        self, stream: NDArray[np.void], flushed: NDArray[np.bool_]
    ) -> NDArray[np.uint8]:
        """Kind of each PASS: whether a TLB flush of the window followed, if that is known."""
        from replay.pool.loops.placing import FREEING_PASS, LOSS, PASS, QUIET_PASS

        kinds = np.full(stream.size, PASS, np.uint8)
        if not self._told_by_tlb():
            return kinds
        at = np.flatnonzero(stream["kind"] == PASS)
        position = stream["position"][at]
        kinds[at] = np.where(flushed[at], FREEING_PASS, QUIET_PASS)
        lost = stream["position"][stream["kind"] == LOSS]
        behind = np.searchsorted(lost, position, side="right")
        before = np.append(position[1:], np.uint64(NEVER))
        missed = behind < np.searchsorted(lost, before, side="right")
        kinds[at[~flushed[at] & missed]] = PASS
        return kinds

    def forget(self, events: int, used: NDArray[np.bool_]) -> tuple[NDArray[np.void], Any]:
        """Drop the first `events` events, and the calls that nothing needs any more.

        Parameters
        ----------
        events
            Settled events that nobody will look at again.
        used : ndarray of bool
            Calls that somebody else needs.

        Returns
        -------
        calls : ndarray of CALL
            The calls that are dropped.
        renamed : ndarray of int64
            New index of every call, -1 dropped; one element more, so that -1 stays -1.
        """
        from replay.pool.loops.placing import PASS

        gone = self._events[:events]
        if events:
            self._floor = int(self._times(gone)[-1])
            oldest = gone["position"][-1]
            self._flushes = self._flushes[self._flushes >= oldest]
            self._sleeps = self._sleeps.filter(pl.col("slept") >= oldest)
        self.passes += int((gone["kind"] == PASS).sum())
        self.start += events
        self._known -= events
        self._events = self._events[events:]
        keep = used | self.calls["is_open"]
        who = self._events["who"]
        keep[who[who >= 0]] = True
        renamed = np.append(np.where(keep, np.cumsum(keep) - 1, -1), -1)
        self._events["who"] = renamed[who]
        dropped = self.calls[~keep]
        self.calls = self.calls[keep]
        return dropped, renamed

    def _times(self, stream: NDArray[np.void]) -> NDArray[np.int64]:
        # Snapshots and losses have no time of their own: that of what lies before them.
        return np.maximum(np.maximum.accumulate(stream["time"]), self._floor)

    def _calls_of(self, table: pl.DataFrame) -> NDArray[np.void]:
        """The calls of a piece; a page that is not known gets a number of its own."""
        wanted = pl.col("op").is_in(POOL_CALLS)
        if not self._facts.gets_traced:
            wanted |= is_reuse(self._window)
        rows = table.filter(wanted & ~is_anonymous())
        calls = np.zeros(rows.height, CALL)
        calls["row"] = rows.get_column("row").to_numpy()
        for name in ("seq", "ts"):
            calls[name] = rows.get_column(name).to_numpy()
        calls["pid"] = _pids(rows)
        calls["end_ts"] = rows.select(pl.coalesce("end_ts", "ts")).to_series().to_numpy()
        calls["returned"] = rows.get_column("end_seq").is_not_null().to_numpy()
        calls["is_open"] = ~calls["returned"]
        # A return is behind its entry, whatever the table says.
        end = np.maximum(rows.get_column("end_seq").fill_null(0).to_numpy(), calls["seq"])
        calls["end"] = np.minimum(end, NEVER)
        op = rows.get_column("op").cast(pl.String)
        calls["code"] = GET_CODE  # of kmap_local() too, which shows what kmap_high_get() found
        for code, name in enumerate(POOL_CALLS):
            calls["code"][(op == name).to_numpy()] = code
        page = rows.get_column("page").fill_null(0).to_numpy().copy()
        # A return whose entry was lost: its slot is known, its page is one of its own.
        unknown = np.flatnonzero(page == 0)
        page[unknown] = np.arange(unknown.size, dtype=np.uint64) + np.uint64(
            UNKNOWN_PAGE + self._unknown_pages
        )
        self._unknown_pages += unknown.size
        calls["page"] = page
        calls["pfn"] = rows.get_column("pfn").cast(pl.Int64, strict=False).fill_null(-1).to_numpy()
        vaddr = rows.get_column("vaddr").cast(pl.Int64, strict=False).fill_null(-1).to_numpy()
        slot = (vaddr - self._window.base) // self._window.page_size
        inside = (vaddr >= self._window.base) & (slot < self._window.slots)
        calls["vaddr"] = vaddr
        calls["seen"] = self._window.inside(np.where(inside, slot, -1))
        calls["predicted"] = _UNPREDICTED
        calls["first_try"] = calls["last_try"] = UNSET
        return calls

    def _end_calls(self, table: pl.DataFrame, *, last: bool) -> NDArray[np.bool_]:
        """Find where calls without a return are over at the latest.

        Returns
        -------
        ndarray of bool
            Calls whose end became known with this piece.
        """
        calls = self.calls
        was_open = calls["is_open"].copy()
        was_open[calls["row"] >= _first(table)] = True
        waiting = np.flatnonzero(calls["is_open"] & (calls["row"] < _first(table)))
        own = finished_by(table.lazy()).select("row", "seq", "pid").collect()
        row, seq = (
            np.concatenate([calls[name][waiting], own.get_column(name).to_numpy()])
            for name in ("row", "seq")
        )
        pid = np.concatenate([calls["pid"][waiting], _pids(own)])
        follows = _next_of_task(pid, seq)
        at = np.searchsorted(row, calls["row"])
        is_own = at < row.size
        is_own[is_own] = row[at[is_own]] == calls["row"][is_own]
        end = np.full(calls.size, NEVER, np.uint64)
        end[is_own] = np.minimum(follows[at[is_own]], np.uint64(NEVER))
        is_unmap = calls["code"] == 1
        end[is_unmap] = np.minimum(end, calls["seq"] + np.uint64(UNMAP_EVENTS))[is_unmap]
        settled = ~is_own | (end < NEVER) | last
        if table.height and not last:
            # The task's next event may still come before that.
            settled &= ~is_unmap | ~is_own | (end <= table["seq"][-1])
        now = calls["is_open"] & settled
        calls["end"][now] = end[now]
        calls["is_open"] &= ~settled
        ended: NDArray[np.bool_] = was_open & ~calls["is_open"]
        return ended

    def _never_returned(self) -> NDArray[np.bool_]:
        """Calls of kmap() that had not returned when their task's events ended."""
        calls = self.calls
        over = calls["end"] == NEVER
        return np.asarray((calls["code"] == 0) & ~calls["returned"] & over, bool)

    def _passes_of(self, table: pl.DataFrame) -> NDArray[np.void]:
        """Flushes of a piece; the call of each is the kmap() that it was made by."""
        from replay.pool.loops.placing import PASS

        passes = passes_of(table, self._window, self._facts)
        parent = passes.get_column("parent").fill_null(NEVER).to_numpy()
        seq = self.calls["seq"]
        at = np.minimum(np.searchsorted(seq, parent), max(seq.size - 1, 0))
        made = np.full(parent.size, -1, np.int64)
        if seq.size:
            entered = seq[at] < passes.get_column("seq").to_numpy()
            mine = (seq[at] == parent) & entered & (self.calls["code"][at] == 0)
            made[mine] = at[mine]
        ts = passes.get_column("ts").to_numpy()
        return _events(PASS, 3, passes.get_column("seq").to_numpy(), ts, made)

    def _take_switches(self, table: pl.DataFrame) -> None:
        asleep = table.filter((pl.col("op") == "switch") & pl.col("blocked"))
        self._sleeps = pl.concat([self._sleeps, asleep.select("pid", slept="seq")])

    def _slept_afterwards(
        self, made: NDArray[np.int64], passes: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Calls that went to sleep after the last flush that they made: that attempt failed too.

        They got their slot in an attempt that did not wrap, because a flush of somebody else's
        had freed one behind the cursor.
        """
        made = made[self.calls["returned"][made]]
        if not made.size or not self._sleeps.height:
            return made[:0]
        positions = self._events["position"]
        frame = pl.DataFrame(
            {
                "call": made,
                "pid": self.calls["pid"][made],
                "at": self.calls["end"][made],
                "pass_seq": positions[passes[made]],
            }
        ).sort("at")
        sleeps = self._sleeps.with_columns(at="slept").sort("at")
        last = frame.join_asof(
            sleeps, on="at", by="pid", strategy="backward", check_sortedness=False
        )
        return last.filter(pl.col("slept") > pl.col("pass_seq")).get_column("call").to_numpy()


def _events(
    kind: int, rank: int, position: NDArray[np.uint64], time: Any, who: Any
) -> NDArray[np.void]:
    """Events of one kind; of those at one position the lowest rank comes first."""
    events = np.zeros(position.size, _EVENT)
    events["position"], events["rank"], events["kind"] = position, rank, kind
    events["time"], events["who"] = time, who
    return events


def _first(table: pl.DataFrame) -> int:
    return int(table["row"][0]) if table.height else _FAR


def _pids(rows: pl.DataFrame) -> NDArray[np.int32]:
    """Tasks of rows; -1 for all that the trace does not tell."""
    return rows.get_column("pid").fill_null(-1).to_numpy()


def _next_of_task(pid: NDArray[np.int32], seq: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Position of each task's next event; NEVER where there is none. `seq` rises."""
    by = np.argsort(pid, kind="stable")
    follows = np.full(seq.size, NEVER, np.uint64)
    same = pid[by[1:]] == pid[by[:-1]]
    follows[by[:-1][same]] = seq[by[1:][same]]
    return follows
