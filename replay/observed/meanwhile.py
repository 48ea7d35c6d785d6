"""What happened while a call was under way: who kept its task from running, and whom it stopped.

Only calls that took long are looked at, and of those the rows from a little before their entry to
their return (:data:`BEFORE`); so neither time nor memory grows with the trace.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from collectors.events import IN_INTERRUPT, OP_CODE, Ctx, empty_of
from collectors.records import dataclass, field
from replay.trace.columns import NO_OP, filled, has_ops, op_codes, whole
from replay.trace.told import NO_ROW

if TYPE_CHECKING:
    from collections.abc import Iterable

    import polars as pl
    from numpy.typing import NDArray

BEFORE: Final = 1 << 12
"""Rows before a call in which what was under way when it began is looked for."""
_MOST: Final = 1 << 20
"""Positions of the trace that a call may last; of a longer one nothing is told."""
_FEW: Final = 4 * BEFORE
"""Rows around a call that are kept, to be looked at when it is known which calls were longest."""
NAMED: Final = 4
"""Tasks that are named of each call."""
_NONE: Final = -1
_SWITCH: Final = OP_CODE["switch"]
_PURGE: Final = OP_CODE["area_purge"]
_POOL: Final = tuple(OP_CODE[op] for op in ("kmap", "kunmap", "kmap_get"))
"""Calls that take kmap_lock for a moment, and longer where they flush (mm/highmem.c)."""
_PASSES: Final = tuple(OP_CODE[op] for op in ("pool_flush", "flush_unused"))
"""What holds kmap_lock over a flush of every CPU's TLB (mm/highmem.c: flush_all_zero_pkmaps)."""
_FLUSHES: Final = tuple(OP_CODE[op] for op in ("flush_range", "flush_all"))
_INSIDE: Final = (*_PASSES, *_FLUSHES)
"""What a call of the pool may do itself, in it and behind it."""
_NOT_OWN: Final = (_SWITCH, OP_CODE["tlb_flush"], OP_CODE["sched_out"], OP_CODE["sched_in"])
"""What happens to a task in the middle of its calls."""
_OF_ARENA: Final = tuple(
    OP_CODE[op] for op in ("area_alloc", "area_free", "vmap", "vmalloc", "vm_map_ram", "vfree")
)
"""Calls in which a task may wait for vmap_purge_lock (mm/vmalloc.c)."""


def _among(*ops: int) -> NDArray[np.bool_]:
    """By code of an operation whether it is one of these: np.isin() of many rows takes longer."""
    return np.isin(np.arange(NO_OP + 1), ops)


_IS_OF_POOL, _IS_FLUSH, _IS_INSIDE = _among(*_POOL), _among(*_FLUSHES), _among(*_INSIDE)
_IS_NOT_OWN: Final = _among(*_NOT_OWN)
_MAY_LAST: Final = _among(*_PASSES, _PURGE)
_HOLDS_POOL, _HOLDS_ARENA = _among(*_POOL, *_PASSES), _among(_PURGE)


_Ran = dict[int, tuple[int, int]]
"""By CPU the task that runs there, and the time of the switch to it."""


class CallRow(NamedTuple):
    """A call: its row of the event table, positions and times of entry and return, task."""

    row: int
    op: int
    seq: int
    end_seq: int
    ts: int
    end_ts: int
    pid: int


@dataclass
class Around:
    """What was found out about a call; tasks as rows of the event table that name them.

    Attributes
    ----------
    off_ns, sleeps
        Time that its task did not run, and how often it went to uninterruptible sleep.
    instead
        Tasks that ran on its CPU while it was preempted, by time: pid, row, ns.
    behind, behind_op
        Row and code of another task's operation on the same lock that was under way when this one
        began to wait; NO_ROW where there was none.
    interrupted
        What ran on the other CPUs when it flushed: CPU, pid, row, and since when (its switch).
    waiters
        Tasks that waited for its lock until it was over: pid, row of their sleep or call, ns, and
        the time of what shows it, which may be behind the call.
    """

    off_ns: int = 0
    sleeps: int = 0
    instead: list[tuple[int, int, int]] = field(default_factory=list)
    behind: int = NO_ROW
    behind_op: int = _NONE
    interrupted: list[tuple[int, int, int, int]] = field(default_factory=list)
    waiters: list[tuple[int, int, int, int]] = field(default_factory=list)

    def rows(self) -> set[int]:
        """Rows that name what was found."""
        named = {row for _, row, *_ in (*self.instead, *self.waiters)}
        return named | {self.behind} | {row for _, _, row, _ in self.interrupted}


class _AroundRows(NamedTuple):
    """Columns of consecutive rows, each of shape (rows,); :data:`_NONE` where there is no value.

    `seq` and `end_seq` are positions, `own` whether the task itself made the row.
    """

    seq: NDArray[np.int64]
    end_seq: NDArray[np.int64]
    ts: NDArray[np.int64]
    end_ts: NDArray[np.int64]
    parent: NDArray[np.int64]
    cpu: NDArray[np.int32]
    pid: NDArray[np.int32]
    op: NDArray[np.uint8]
    next_pid: NDArray[np.int32]
    blocked: NDArray[np.bool_]
    own: NDArray[np.bool_]

    @classmethod
    def joined(cls, parts: list[_AroundRows]) -> _AroundRows:
        """Some behind others."""
        if len(parts) == 1:
            return parts[0]
        columns: Any = zip(*parts, strict=True)
        return cls(*map(np.concatenate, columns))

    def part(self, start: int, stop: int | None = None) -> _AroundRows:
        """Some of them, copied."""
        columns: list[Any] = [column[start:stop].copy() for column in self]
        return _AroundRows(*columns)


class _Piece:
    """Columns of a piece of the event table, of which rows can be taken.

    Parameters
    ----------
    events
        The piece.
    first_row
        Its first row.
    """

    def __init__(self, events: pl.DataFrame, first_row: int) -> None:
        self.first, self.stop = first_row, first_row + events.height
        self._wide: list[Any] = [
            whole(events, name, empty_of(name))
            for name in ("seq", "end_seq", "ts", "end_ts", "parent")
        ]
        self._cpu = filled(events.get_column("cpu"), 0)
        self._pid = filled(events.get_column("pid"), _NONE)
        self._context = filled(events.get_column("ctx"), int(Ctx.UNKNOWN))
        self._op = op_codes(events)
        self._switches = np.zeros(0, np.int64)
        if has_ops(events, ("switch",)):
            self._switches = np.flatnonzero(self._op == _SWITCH)
        self._task = np.zeros(0, np.int32)
        self._blocked = np.zeros(0, bool)
        if self._switches.size:
            task, blocked = (
                events.get_column(name).gather(self._switches) for name in ("next_pid", "blocked")
            )
            self._task, self._blocked = filled(task, _NONE), filled(blocked, empty=False)

    def place_of(self, seq: int) -> int:
        """Row of the first event that comes at a position or behind it."""
        return self.first + int(np.searchsorted(self._wide[0], seq))

    def rows(self, start: int, stop: int) -> _AroundRows:
        """Rows from one to another, copied: the piece is not kept."""
        here = slice(start - self.first, stop - self.first)
        op, context = self._op[here], self._context[here]
        first, last = np.searchsorted(self._switches, (here.start, here.stop))
        at = self._switches[first:last] - here.start
        task, blocked = np.full(op.size, _NONE, np.int32), np.zeros(op.size, bool)
        task[at], blocked[at] = self._task[first:last], self._blocked[first:last]
        by_task = (context & IN_INTERRUPT == 0) | (context & int(Ctx.UNKNOWN) > 0)
        seq, end_seq, ts, end_ts, parent = (c[here].astype(np.int64) for c in self._wide)
        return _AroundRows(
            seq, end_seq, ts, end_ts, parent,
            cpu=self._cpu[here].astype(np.int32),
            pid=self._pid[here].astype(np.int32),
            op=op.copy(),
            next_pid=task,
            blocked=blocked,
            own=by_task & ~_IS_NOT_OWN[op],
        )  # fmt: skip

    def switches(
        self,
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
        """Row, CPU, next task and time of each switch."""
        here = self._switches
        ts = self._wide[2][here].astype(np.int64)
        return here + self.first, self._cpu[here].astype(np.int32), self._task, ts


class _Switches:
    """Context switches of rows from before, the first of which is row `first`, and of a piece."""

    def __init__(self, past: _AroundRows | None, first: int, piece: _Piece | None) -> None:
        found = [] if piece is None else [piece.switches()]
        if past is not None:
            before = np.flatnonzero(past.op == _SWITCH)
            found.insert(
                0, (before + first, past.cpu[before], past.next_pid[before], past.ts[before])
            )
        row, cpu, task, ts = (np.concatenate(column) for column in zip(*found, strict=True))
        self.times = ts
        self._by_cpu = {
            number: (row[here], task[here], ts[here])
            for number in np.unique(cpu).tolist()
            if (here := cpu == number).any()
        }

    def until(self, row: int, ran: _Ran) -> _Ran:
        """What runs on each CPU before a row; `ran`: before all of these rows."""
        now = dict(ran)
        for cpu, (rows, tasks, times) in self._by_cpu.items():
            at = int(np.searchsorted(rows, row))
            if at:
                now[cpu] = int(tasks[at - 1]), int(times[at - 1])
        return now


class Meanwhile:
    """Looks at what was around calls, piece by piece.

    Parameters
    ----------
    sleeps_for_lock
        Whether a task sleeps for kmap_lock (PREEMPT_RT); else it sleeps for a slot alone.

    Attributes
    ----------
    found
        By the row of a call what was around it, once :meth:`finish` was called.
    switches
        Times of the trace's first and last context switch so far; None: there is none.
    """

    def __init__(self, *, sleeps_for_lock: bool) -> None:
        self._sleeps_for_lock = sleeps_for_lock
        self.found: dict[int, Around] = {}
        self.switches: tuple[int, int] | None = None
        self._scenes: dict[int, _Scene] = {}
        self._pending: dict[int, CallRow] = {}
        self._past: _AroundRows | None = None
        self._first = 0  # row of the first of those
        self._ran: _Ran = {}  # before them

    def feed(
        self, events: pl.DataFrame, first_row: int, calls: Iterable[CallRow], kept: set[int]
    ) -> None:
        """Take a piece.

        Parameters
        ----------
        events
            Piece of the event table; its first row is `first_row`.
        calls
            Calls of this piece that are of interest.
        kept
            Rows of all that are; others are forgotten.
        """
        if not events.height:
            return
        for known in (self.found, self._scenes, self._pending):
            for row in known.keys() - kept:
                del known[row]
        self._pending |= {call.row: call for call in calls if 0 < call.end_seq - call.seq < _MOST}
        piece = _Piece(events, first_row)
        for row in [row for row in self._pending if piece.first - row > _MOST]:
            del self._pending[row]  # positions that do not count up
        switches = _Switches(self._past, self._first, piece)
        if switches.times.size:
            times = (*(self.switches or ()), int(switches.times.min()), int(switches.times.max()))
            self.switches = min(times), max(times)
        for call in list(self._pending.values()):
            end = piece.place_of(call.end_seq)
            until = end + BEFORE if call.op == _PURGE else end
            if until < piece.stop:
                self._take(call, end, until, switches, piece)
        keep = max(min(self._pending, default=piece.stop) - BEFORE, self._first)
        ran = switches.until(keep, self._ran)
        self._past = self._rows(keep, piece.stop, piece)
        self._first, self._ran = keep, ran

    def _rows(self, start: int, stop: int, piece: _Piece | None) -> _AroundRows:
        """Rows of the event table: of before, and of a piece."""
        parts = []
        border = stop if piece is None else piece.first
        if self._past is not None and start < border:
            parts.append(self._past.part(start - self._first, min(stop, border) - self._first))
        if piece is not None and stop > border:
            parts.append(piece.rows(max(start, border), stop))
        return _AroundRows.joined(parts)

    def _take(
        self, call: CallRow, end: int, until: int, switches: _Switches, piece: _Piece | None
    ) -> None:
        """Take the rows around a call, and look at them at once where they are many."""
        start = max(call.row - BEFORE, self._first)
        rows = self._rows(start, until, piece)
        ran = switches.until(start, self._ran)
        scene = _Scene(rows, call, call.row - start, end - start, start, ran)
        del self._pending[call.row]
        if rows.seq.size <= _FEW:
            self._scenes[call.row] = scene
        else:
            self.found[call.row] = self._look(scene)

    def finish(self) -> None:
        """Look at what was taken."""
        if self._past is not None:
            past, first = self._past, self._first
            switches = _Switches(past, first, None)
            for call in list(self._pending.values()):
                end = first + int(np.searchsorted(past.seq, call.end_seq))
                self._take(call, end, first + past.seq.size, switches, None)
        for row, scene in self._scenes.items():
            self.found[row] = self._look(scene)
        self._scenes = {}

    def rows(self) -> set[int]:
        """Rows that name what was found."""
        return {row for around in self.found.values() for row in around.rows()}

    def _look(self, scene: _Scene) -> Around:
        """What was around a call."""
        around = Around()
        spells = scene.spells()
        around.off_ns = sum(stop - start for _, start, stop, _ in spells)
        asleep = [spell for spell in spells if spell[3]]
        around.sleeps = len(asleep)
        around.instead = scene.instead([spell for spell in spells if not spell[3]])
        for_slot = scene.call.op in _POOL and asleep and not self._sleeps_for_lock
        held = None if for_slot else scene.behind(asleep)
        if held is not None:
            around.behind, around.behind_op = scene.first + held, int(scene.rows.op[held])
        around.interrupted = scene.interrupted()
        since = max((scene.back_at(spell) for spell in asleep), default=scene.begin)
        around.waiters = scene.waiters(since)
        return around


class _Scene(NamedTuple):
    """A call among the rows around it.

    Attributes
    ----------
    begin, end
        Places of its own row, and behind its return.
    first
        Row of the event table that the first one is.
    ran
        What ran on each CPU before the first one.
    """

    rows: _AroundRows
    call: CallRow
    begin: int
    end: int
    first: int
    ran: _Ran

    def spells(self) -> list[tuple[int, int, int, bool]]:
        """When its task did not run: place of the switch, from and until (ns), whether asleep."""
        rows, pid = self.rows, self.call.pid
        if not pid:  # each CPU has an idle task, all of one number
            return []
        inside = slice(self.begin + 1, self.end)
        is_switch = rows.op[inside] == _SWITCH
        outs = np.flatnonzero(is_switch & (rows.pid[inside] == pid)) + self.begin + 1
        ins = np.flatnonzero(is_switch & (rows.next_pid[inside] == pid)) + self.begin + 1
        spells = []
        for out in outs.tolist():
            at = int(np.searchsorted(ins, out))
            back = int(rows.ts[ins[at]]) if at < ins.size else self.call.end_ts
            spells.append((out, int(rows.ts[out]), back, bool(rows.blocked[out])))
        return spells

    def back_at(self, spell: tuple[int, int, int, bool]) -> int:
        """Place from which on its task runs again."""
        return int(np.searchsorted(self.rows.ts[: self.end], spell[2]))

    def instead(self, spells: list[tuple[int, int, int, bool]]) -> list[tuple[int, int, int]]:
        """Tasks that ran on its CPU in these spells, those that ran longest first."""
        rows, ran = self.rows, Counter[int]()
        for out, _, until, _ in spells:
            here = np.flatnonzero(
                (rows.op[out : self.end] == _SWITCH) & (rows.cpu[out : self.end] == rows.cpu[out])
            )
            here += out
            here = here[rows.ts[here] <= until]
            times = np.append(rows.ts[here], until)
            for task, ns in zip(rows.next_pid[here].tolist(), np.diff(times).tolist(), strict=True):
                ran[task] += ns
        ran.pop(0, None)
        ran.pop(self.call.pid, None)
        longest = sorted(ran.items(), key=lambda one: (-one[1], one[0]))[:NAMED]
        return [(pid, self._named(pid, self.end), ns) for pid, ns in longest]

    def behind(self, asleep: list[tuple[int, int, int, bool]]) -> int | None:
        """Place of what held the lock, perhaps, when it went to sleep, or else when it began.

        A call of the arena waits for purges in its sleep alone; one of the pool spins, too.
        """
        rows, op = self.rows, self.call.op
        longest = max(asleep, key=lambda spell: spell[2] - spell[1], default=None)
        at = self.begin if longest is None else longest[0]
        if op in _POOL:
            holds = _HOLDS_POOL
        elif op in _OF_ARENA and longest is not None:
            holds = _HOLDS_ARENA
        else:
            return None
        there = slice(0, at)
        others = holds[rows.op[there]] & (rows.pid[there] != self.call.pid)
        returns = rows.end_seq[there] != _NONE
        lasts = others & returns & (rows.end_seq[there] > rows.seq[at])
        maybe = others & ~returns & _MAY_LAST[rows.op[there]]
        for place in np.flatnonzero(maybe).tolist():
            lasts[place] = self._may_last(place, at)
        under_way = np.flatnonzero(lasts).tolist()
        passes = [p for p in under_way if rows.op[p] in _PASSES or self._flushes(p).size]
        chosen = passes or under_way
        return chosen[0] if chosen else None

    def _may_last(self, place: int, at: int) -> bool:
        """Whether an operation without a return may be under way at a place behind it.

        It may until its task does something else. A kunmap(), which is short, is not asked for.
        """
        rows = self.rows
        after = slice(place + 1, at)
        more = rows.own[after] & (rows.pid[after] == rows.pid[place])
        return not bool((more & ~_IS_INSIDE[rows.op[after]]).any())

    def _flushes(self, place: int) -> NDArray[np.int64]:
        """Places of the flushes in a call."""
        rows = self.rows
        behind = _IS_INSIDE[rows.op[place : self.end]]
        of_it = rows.parent[place : self.end] == rows.seq[place]
        return np.flatnonzero(behind & of_it) + place

    def interrupted(self) -> list[tuple[int, int, int, int]]:
        """What ran on other CPUs when it flushed: CPU, pid, a row that names it, since when."""
        rows = self.rows
        flushes = self._flushes(self.begin)
        flushes = flushes[_IS_FLUSH[rows.op[flushes]]]
        if not flushes.size:
            return []
        at = int(flushes[0])
        switches = np.flatnonzero(rows.op[:at] == _SWITCH)
        cpus, tasks, times = (
            column[switches].tolist() for column in (rows.cpu, rows.next_pid, rows.ts)
        )
        now = self.ran | dict(zip(cpus, zip(tasks, times, strict=True), strict=True))
        now.pop(int(rows.cpu[at]), None)
        return [
            (cpu, pid, self._named(pid, self.end), since)
            for cpu, (pid, since) in sorted(now.items())
            if pid >= 0
        ]

    def waiters(self, since: int) -> list[tuple[int, int, int, int]]:
        """Tasks that it stopped from a place on: it may hold its lock from there.

        Pid, row of their sleep or call, ns, and the time of what shows it.
        """
        rows, call = self.rows, self.call
        if call.op == _PURGE:
            found = self._sleepers(since)
        elif call.op in _POOL and self._flushes(self.begin).size:
            inside = slice(since + 1, self.end)
            others = _IS_OF_POOL[rows.op[inside]] & (rows.pid[inside] != call.pid)
            others &= rows.end_seq[inside] > call.end_seq
            places = np.flatnonzero(others) + since + 1
            found = [(place, int(rows.end_ts[place])) for place in places.tolist()]
        else:
            return []
        waited = [
            (
                int(rows.pid[place]),
                self.first + place,
                min(until, call.end_ts) - int(rows.ts[place]),
                until,
            )
            for place, until in found
        ]
        return sorted(waited, key=lambda one: (-one[2], one[1]))[:NAMED]

    def _sleepers(self, since: int) -> list[tuple[int, int]]:
        """Switches to sleep of tasks that wait for the end of a purge; when they make their own.

        The purge runs under vmap_purge_lock (mm/vmalloc.c: __purge_vmap_area_lazy), and who waits
        for that purges next.
        """
        rows, call = self.rows, self.call
        inside = slice(since + 1, self.end)
        sleeps = (
            (rows.op[inside] == _SWITCH) & rows.blocked[inside] & (rows.pid[inside] != call.pid)
        )
        found = []
        for place in (np.flatnonzero(sleeps) + since + 1).tolist():
            pid = rows.pid[place]
            behind = slice(place + 1, min(self.end + BEFORE, rows.seq.size))
            own = np.flatnonzero(rows.own[behind] & (rows.pid[behind] == pid))
            at = place + 1 + int(own[0]) if own.size else 0
            if at >= self.end and rows.op[at] == _PURGE:
                found.append((place, int(rows.ts[at])))
        return found

    def _named(self, pid: int, until: int) -> int:
        """A row of a task, for its name: the last one of those around the call."""
        here = np.flatnonzero(self.rows.pid[:until] == pid)
        return self.first + int(here[-1]) if here.size and pid else NO_ROW
