"""The pool's calls and flushes as one stream, in the order of the trace.

A table row shows a call from its entry to its return; each becomes two events here. Rows come in
the order of entries. What has begun and not ended waits for its turn: ends whose position is known
in a heap, kunmap() calls without a return in a queue, as each is over at the latest a fixed number
of positions behind its entry. So the stream comes out in order, and nothing is sorted.

Of what happens at one position, a snapshot comes first, then a loss, the end of a kunmap(), a
flush, an entry, and last the return of a kmap(); of two of a kind, the call that entered first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from replay.compiled import loop, part, piece
from replay.pool.loops.calls import CALL, FAR, FLUSHES, MAPS, NOTHING, OWN, SLEEPS, UNMAPS, PoolRows
from replay.pool.loops.placing import (
    END_UNMAP,
    ENTER_MAP,
    ENTER_UNMAP,
    NEVER_RETURNED,
    PASS,
    RETURN_MAP,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NEVER = (1 << 62) - 1
"""Position behind every event."""
# Positions in Flow.reg
N_EVENTS = 0  # in Flow.events
START = 1  # events that came before those
N_CALLS = 2  # that have entered
N_ENDS = 3
NEXT_MARK = 4
OLDEST = 5  # no kunmap() before this call waits in the queue
LAST_PASS = 6  # place of the last flush in the stream, -1 none
NOW = 7  # time of the last event; never falls
UNMAP_LIMIT = 8  # positions after which a kunmap() without a return is over
OPEN_LIMIT = 9  # events of the stream after which an open kmap() is no longer asked
REGISTERS = 10

# Order of what happens at one position; snapshots and losses are 0 and 1
_RANK_END = 2
_RANK_PASS = 3
_RANK_RETURN = 5
_RANK_ALL = 6
SHIFT = 40
"""A tie is decided by rank, then by call: both in one number."""
NOBODY = -1
"""Task of rows that tell none."""


class Course(NamedTuple):
    """How calls go, one element each; columns of :class:`replay.pool.calls.CallColumns`.

    Places in the stream count from the trace's first event.
    """

    seq: NDArray[np.int64]
    end: NDArray[np.int64]  # position of the return, or where it is over at the latest
    ended: NDArray[np.bool_]  # its end is in the stream
    returned: NDArray[np.bool_]  # the trace shows the return
    end_ts: NDArray[np.int64]
    pid: NDArray[np.int32]
    code: NDArray[np.uint8]
    role: NDArray[np.uint8]
    seen: NDArray[np.int64]
    entered: NDArray[np.int64]  # place of the entry
    returned_at: NDArray[np.int64]  # place of a kmap()'s return, FAR: not in the stream yet
    flushed_in: NDArray[np.int64]  # place of the last flush before the return, or so far
    last_pass: NDArray[np.int64]  # place of the last flush that it made itself
    final_pass: NDArray[np.int64]  # the same if it was served there


class Ends(NamedTuple):
    """A binary heap of ends to come, the next one first."""

    at: NDArray[np.int64]
    tie: NDArray[np.int64]


class Tasks(NamedTuple):
    """What is known of tasks: a hash table, open addressing, of a power of two.

    Attributes
    ----------
    known : ndarray of bool
        Whether there is a task here.
    pid : ndarray of int32
    waiting : ndarray of int64
        Call that is over when the task does anything else, -1 none.
    slept : ndarray of int64
        Position at which the task last went to sleep, -1 never.
    """

    known: NDArray[np.bool_]
    pid: NDArray[np.int32]
    waiting: NDArray[np.int64]
    slept: NDArray[np.int64]


class Events(NamedTuple):
    """Events of the stream: position in the trace, kind, call (-1 none), time (never falls)."""

    position: NDArray[np.int64]
    kind: NDArray[np.uint8]
    who: NDArray[np.int64]
    time: NDArray[np.int64]


class Marks(NamedTuple):
    """Snapshots and losses: position and kind, in order."""

    position: NDArray[np.int64]
    kind: NDArray[np.uint8]


class Flow(NamedTuple):
    """Everything under way."""

    course: Course
    ends: Ends
    tasks: Tasks
    marks: Marks
    events: Events
    reg: NDArray[np.int64]


@piece
def _is_before(ends: Ends, a: int, b: int) -> bool:
    return ends.at[a] < ends.at[b] or (ends.at[a] == ends.at[b] and ends.tie[a] < ends.tie[b])


@piece
def _swap(ends: Ends, a: int, b: int) -> None:
    ends.at[a], ends.at[b] = ends.at[b], ends.at[a]
    ends.tie[a], ends.tie[b] = ends.tie[b], ends.tie[a]


@part
def _push(ends: Ends, size: int, at: int, tie: int) -> int:
    """Add an end to the heap; return its new size."""
    ends.at[size] = at
    ends.tie[size] = tie
    i = size
    while i > 0 and _is_before(ends, i, (i - 1) // 2):
        _swap(ends, i, (i - 1) // 2)
        i = (i - 1) // 2
    return size + 1


@part
def _pop(ends: Ends, size: int) -> int:
    """Take the first end off the heap; return its new size."""
    size -= 1
    ends.at[0], ends.tie[0] = ends.at[size], ends.tie[size]
    i = 0
    while True:
        least = i
        if 2 * i + 1 < size and _is_before(ends, 2 * i + 1, least):
            least = 2 * i + 1
        if 2 * i + 2 < size and _is_before(ends, 2 * i + 2, least):
            least = 2 * i + 2
        if least == i:
            return size
        _swap(ends, i, least)
        i = least


@piece
def _task(tasks: Tasks, pid: int) -> int:
    """Where a task stands in the table; there is room for it."""
    mask = tasks.pid.shape[0] - 1
    i = (int(pid) * 0x9E3779B1 >> 7) & mask
    while tasks.known[i] and tasks.pid[i] != pid:
        i = (i + 1) & mask
    tasks.known[i] = True
    tasks.pid[i] = pid
    return i


@part
def _call_at(seq: NDArray[np.int64], calls: int, position: int) -> int:
    """First of the calls that entered at a position or behind it."""
    low, high = 0, calls
    while low < high:
        middle = (low + high) // 2
        if seq[middle] < position:
            low = middle + 1
        else:
            high = middle
    return low


@piece
def _emit(f: Flow, kind: int, who: int, position: int, time: int) -> int:
    """Append an event; return its place."""
    reg = f.reg
    i = reg[N_EVENTS]
    reg[N_EVENTS] = i + 1
    reg[NOW] = max(reg[NOW], time)
    f.events.position[i] = position
    f.events.kind[i] = kind
    f.events.who[i] = who
    f.events.time[i] = reg[NOW]
    return reg[START] + i


@piece
def _tie(rank: int, call: int) -> int:
    return rank << SHIFT | call


@part
def _sleeps_since(f: Flow, call: int) -> bool:
    """Whether a call's task went to sleep after the last flush that the call made.

    Then that attempt failed too: the call got its slot in one that did not wrap, because a flush
    of somebody else's had freed one behind the cursor.
    """
    own = f.course.final_pass[call] - f.reg[START]
    if own < 0 or f.course.pid[call] == NOBODY:
        return False
    return f.tasks.slept[_task(f.tasks, f.course.pid[call])] > f.events.position[own]


@piece
def _end(f: Flow, call: int, position: int) -> None:
    """A call is over."""
    course, reg = f.course, f.reg
    course.ended[call] = True
    if course.role[call] == UNMAPS:
        _emit(f, END_UNMAP, call, position, course.end_ts[call])
        return
    place = _emit(f, RETURN_MAP, call, position, course.end_ts[call])
    course.returned_at[call] = place
    course.flushed_in[call] = reg[LAST_PASS]
    if place - course.entered[call] > reg[OPEN_LIMIT]:
        if place - course.final_pass[call] > reg[OPEN_LIMIT]:
            course.final_pass[call] = -1
        course.flushed_in[call] = FAR
        course.last_pass[call] = FAR
    if course.final_pass[call] >= 0 and course.returned[call] and _sleeps_since(f, call):
        course.final_pass[call] = -1


@piece
def _catch_up(f: Flow, position: int, rank: int) -> None:
    """Let everything end that ends before `rank` at `position`."""
    course, ends, reg = f.course, f.ends, f.reg
    until = _tie(rank, 0)
    while True:
        oldest = reg[OLDEST]
        while oldest < reg[N_CALLS] and (
            course.role[oldest] != UNMAPS or course.returned[oldest] or course.ended[oldest]
        ):
            oldest += 1
        reg[OLDEST] = oldest
        at, tie = NEVER + 1, until
        if oldest < reg[N_CALLS]:
            at, tie = course.seq[oldest] + reg[UNMAP_LIMIT], _tie(_RANK_END, oldest)
        from_heap = reg[N_ENDS] > 0 and (
            ends.at[0] < at or (ends.at[0] == at and ends.tie[0] < tie)
        )
        if from_heap:
            at, tie = ends.at[0], ends.tie[0]
        if at > position or (at == position and tie >= until):
            break
        call = tie & ((1 << SHIFT) - 1)
        if from_heap:
            reg[N_ENDS] = _pop(ends, reg[N_ENDS])
        course.end[call] = at
        _end(f, call, at)


@piece
def _mark(f: Flow) -> None:
    """The next snapshot or loss; it has no time of its own."""
    mark = f.reg[NEXT_MARK]
    f.reg[NEXT_MARK] = mark + 1
    _catch_up(f, f.marks.position[mark], 0)
    _emit(f, f.marks.kind[mark], -1, f.marks.position[mark], f.reg[NOW])


@piece
def _own(f: Flow, task: int, position: int) -> None:
    """A task does something: the call of which it shows no return is over."""
    call = f.tasks.waiting[task]
    f.tasks.waiting[task] = -1
    if call < 0 or f.course.ended[call]:
        return
    f.course.end[call] = position
    if f.course.role[call] == UNMAPS:
        _end(f, call, position)
    else:
        f.reg[N_ENDS] = _push(f.ends, f.reg[N_ENDS], position, _tie(_RANK_RETURN, call))


@piece
def _flush(f: Flow, position: int, parent: int, time: int) -> None:
    """A run of flush_all_zero_pkmaps."""
    course, reg = f.course, f.reg
    made = -1
    if parent >= 0:
        call = _call_at(course.seq, reg[N_CALLS], parent)
        if call < reg[N_CALLS] and course.seq[call] == parent < position:
            made = call if course.code[call] == 0 else -1
    place = _emit(f, PASS, made, position, time)
    reg[LAST_PASS] = place
    if made >= 0 and course.returned_at[made] == FAR:  # a parent that has returned is none
        course.last_pass[made] = place
        course.final_pass[made] = place


@piece
def _never_returns(f: Flow, call: int) -> None:
    """The trace ends inside a call."""
    if f.course.code[call] == 0:
        f.course.seen[call] = NEVER_RETURNED
    f.reg[N_ENDS] = _push(f.ends, f.reg[N_ENDS], NEVER, _tie(_RANK_RETURN, call))


@piece
def _enter(f: Flow, task: int, position: int, time: int) -> None:
    """The next call; `task` is -1 if an interrupt made it."""
    course, reg = f.course, f.reg
    call = reg[N_CALLS]
    reg[N_CALLS] = call + 1
    role = course.role[call]
    if role == NOTHING:
        course.ended[call] = True
        return
    kind = ENTER_MAP if role == MAPS else ENTER_UNMAP
    course.entered[call] = _emit(f, kind, call, position, time)
    rank = _RANK_RETURN if role == MAPS else _RANK_END
    if course.returned[call]:
        reg[N_ENDS] = _push(f.ends, reg[N_ENDS], course.end[call], _tie(rank, call))
    elif task >= 0:
        f.tasks.waiting[task] = call
    elif role == MAPS:
        _never_returns(f, call)


@loop
def flow(f: Flow, rows: PoolRows, what: NDArray[np.uint8], last: bool) -> None:  # noqa: FBT001
    """Take in a piece of the event table.

    Parameters
    ----------
    f
        What is under way, changed in place. Its calls are those of before and then those of the
        rows; there is room for all events.
    rows, what
        The piece, and what its rows are: see :func:`replay.pool.loops.calls.classify`.
    last
        Whether nothing comes behind it: then everything ends.
    """
    tasks, reg = f.tasks, f.reg
    marks = f.marks.position.shape[0]
    for i in range(rows.seq.shape[0]):
        position, bits = rows.seq[i], what[i]
        if reg[START] + reg[N_EVENTS] == 0:  # marks have no time of their own
            if bits & (FLUSHES | CALL) == 0:
                continue
            reg[NOW] = min(reg[NOW], rows.ts[i])  # a flush may come before the first call
        while reg[NEXT_MARK] < marks and f.marks.position[reg[NEXT_MARK]] <= position:
            _mark(f)
        _catch_up(f, position, _RANK_PASS)
        task = -1
        if bits & OWN:
            task = _task(tasks, rows.pid[i])
            _own(f, task, position)
        if bits & SLEEPS and rows.pid[i] != NOBODY:
            tasks.slept[_task(tasks, rows.pid[i])] = position
        if bits & FLUSHES:
            _flush(f, position, rows.parent[i], rows.ts[i])
        if bits & CALL:
            _enter(f, task, position, rows.ts[i])
    if not last:
        if rows.seq.shape[0]:
            _catch_up(f, rows.seq[-1], _RANK_ALL)
        return
    for task in range(tasks.waiting.shape[0]):
        call = tasks.waiting[task]
        if call >= 0 and f.course.role[call] == MAPS and not f.course.ended[call]:
            _never_returns(f, call)
    while reg[NEXT_MARK] < marks:
        _mark(f)
    _catch_up(f, NEVER, _RANK_ALL)


@loop
def carry_tasks(old: Tasks, new: Tasks, since: int) -> int:
    """Enter into a fresh table the tasks of which something is still of interest.

    Parameters
    ----------
    old
        Table so far.
    new
        Empty, with room for all; nothing is written if it has length 0.
    since
        Sleeps before this position are forgotten.

    Returns
    -------
    int
        How many there are.
    """
    number = 0
    for i in range(old.pid.shape[0]):
        if old.known[i] and (old.waiting[i] >= 0 or old.slept[i] >= since):
            number += 1
            if new.pid.shape[0]:
                task = _task(new, old.pid[i])
                new.waiting[task] = old.waiting[i]
                new.slept[task] = old.slept[i]
    return number
