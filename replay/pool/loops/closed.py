"""The pool under another machine's rules, with tasks that wait as they would there.

The calls come in the captured lock order. A task that finds no slot sleeps, and everything that
it does later is later by as much (closed loop); one that slept in the capture and does not here
runs ahead. As long as nobody has slept, this is the captured order. The calls may be more than
memory holds (a mapped file): each is looked at when its task has come so far.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from replay.compiled import loop, part, piece
from replay.pool.loops.highmem import ASLEEP, FREED, SCANNED, STALE, USED, Pool, colour_of
from replay.pool.loops.sequence import MAP, UNMAP, Gauges, observe, step

if TYPE_CHECKING:
    from numpy.typing import NDArray

IN_STEP = 0  # runs at its captured times
SHIFTED = 1  # runs earlier or later; its next call is in the queue
SLEEPING = 2

# Positions in Loop.reg
UPCOMING = 0  # next call in captured order
QUEUED = 1
SLEEPERS = 2
NOW = 3
MOST_USED = 4  # highest number of slots in use and stale
MOST_STALE = 5
FREEING = 6  # flushes of failed attempts that freed something, and that freed nothing
QUIET = 7
IN_VAIN = 8  # slots that they visited
MOST_SCANNED = 9  # by one attempt of a kmap()
OVER = 10  # every call was served, or will never be
UNLINKED = 11  # call whose follower is asked for while they are not known, counted from 1
REGISTERS = 12


class Load(NamedTuple):
    """The calls, one element each, in captured lock order, and what is made of them there.

    Attributes
    ----------
    code : ndarray of uint8
        Operation: MAP, UNMAP, FLUSH_UNUSED, GET, SNAPSHOT.
    page, task : ndarray of int32
        Numbers of pages (-1: nobody's operation) and tasks.
    time : ndarray of int64
        When the call first took the lock.
    there : ndarray of int64
        By number of a page its number in the pool, -1 if it needs no slot there: then its calls
        are none.
    happens : ndarray of bool
        By code whether operations of nobody happen there, too.
    slept_at, slept_ns : ndarray of int64
        Calls that slept in the capture, ascending, and how long.
    follower : ndarray of int64
        The task's next call, -1 none; :func:`link` fills it. Of length 0 as long as nobody is out
        of step.
    """

    code: NDArray[np.uint8]
    page: NDArray[np.int32]
    task: NDArray[np.int32]
    time: NDArray[np.int64]
    there: NDArray[np.int64]
    happens: NDArray[np.bool_]
    slept_at: NDArray[np.int64]
    slept_ns: NDArray[np.int64]
    follower: NDArray[np.int64]


class Loop(NamedTuple):
    """What is under way.

    Attributes
    ----------
    state : ndarray of uint8, shape (tasks,)
    delay : ndarray of int64, shape (tasks,)
        How much later than captured each task runs, in ns.
    since : ndarray of int64, shape (tasks,)
        When its call began to wait.
    sleeps : ndarray of int32, shape (tasks,)
        Failed attempts of that call.
    sleepers : ndarray of int64, shape (tasks,)
        Sleeping calls, newest last.
    queue : ndarray of int64, shape (tasks + 1, 2)
        Time and call, a binary heap.
    reg : ndarray of int64, shape (REGISTERS,)
    """

    state: NDArray[np.uint8]
    delay: NDArray[np.int64]
    since: NDArray[np.int64]
    sleeps: NDArray[np.int32]
    sleepers: NDArray[np.int64]
    queue: NDArray[np.int64]
    reg: NDArray[np.int64]


class Done(NamedTuple):
    """Room for calls that are over, in the order in which they were; filled.

    Attributes
    ----------
    call : ndarray of int64
    code, task : ndarray of int64
    result, scanned, freed : ndarray of int32
        Slot or ASLEEP; of the attempt that succeeded the slots visited, and those that a flush
        freed (-1: no flush). Those that failed are counted in Loop.reg.
    sleeps : ndarray of int32
        Failed attempts.
    wait, since : ndarray of int64
        How long a kmap() slept, and from when on (if it did not: when it was served); of one that
        is never served up to the end of the measured time.
    """

    call: NDArray[np.int64]
    code: NDArray[np.int64]
    task: NDArray[np.int64]
    result: NDArray[np.int32]
    scanned: NDArray[np.int32]
    freed: NDArray[np.int32]
    sleeps: NDArray[np.int32]
    wait: NDArray[np.int64]
    since: NDArray[np.int64]


@part
def _before(queue: NDArray[np.int64], a: int, b: int) -> bool:
    """Order of the queue: time, then captured order."""
    return queue[a, 0] < queue[b, 0] or (queue[a, 0] == queue[b, 0] and queue[a, 1] < queue[b, 1])


@part
def _swap(queue: NDArray[np.int64], a: int, b: int) -> None:
    for k in range(2):
        queue[a, k], queue[b, k] = queue[b, k], queue[a, k]


@part
def _push(queue: NDArray[np.int64], size: int, time: int, call: int) -> int:
    """Add a call to the queue (a binary heap); return its new size."""
    queue[size, 0] = time
    queue[size, 1] = call
    at = size
    while at > 0 and _before(queue, at, (at - 1) // 2):
        _swap(queue, at, (at - 1) // 2)
        at = (at - 1) // 2
    return size + 1


@part
def _pop(queue: NDArray[np.int64], size: int) -> int:
    """Take the first call off the queue; return its new size."""
    size -= 1
    queue[0, 0] = queue[size, 0]
    queue[0, 1] = queue[size, 1]
    at = 0
    while True:
        least = at
        for child in (2 * at + 1, 2 * at + 2):
            if child < size and _before(queue, child, least):
                least = child
        if least == at:
            return size
        _swap(queue, at, least)
        at = least


@loop
def link(load: Load, start: int, stop: int, later: NDArray[np.int64]) -> None:
    """Find the follower of each call from `start` to `stop`.

    Parameters
    ----------
    load
        The calls; call it for the last ones first.
    start, stop
        Calls to look at.
    later : ndarray of int64, shape (tasks,)
        First call of each task behind them, -1 none; changed in place.
    """
    for i in range(stop - 1, start - 1, -1):
        load.follower[i] = later[load.task[i]]
        later[load.task[i]] = i


@part
def _is_made(load: Load, call: int) -> bool:
    """Whether a call is made there."""
    page = load.page[call]
    if page < 0:
        return bool(load.happens[load.code[call]])
    return bool(load.there[page] >= 0)


@part
def _slept(load: Load, call: int) -> int:
    """How long a call slept in the capture."""
    first, stop = 0, load.slept_at.shape[0]
    while first < stop:
        middle = (first + stop) // 2
        if load.slept_at[middle] < call:
            first = middle + 1
        else:
            stop = middle
    if first < load.slept_at.shape[0] and load.slept_at[first] == call:
        return int(load.slept_ns[first])
    return 0


@part
def _go_on(load: Load, loop: Loop, call: int) -> None:
    """The task of a call is out of step: put its next call into the queue."""
    task = load.task[call]
    loop.state[task] = SHIFTED
    follower = load.follower[call]
    while follower >= 0 and not _is_made(load, follower):
        follower = load.follower[follower]
    if follower >= 0:
        when = load.time[follower] + loop.delay[task]
        loop.reg[QUEUED] = _push(loop.queue, loop.reg[QUEUED], when, follower)


@part
def _colour(pool: Pool, load: Load, call: int) -> int:
    """Colour of the page of a call."""
    return int(colour_of(pool, load.there[load.page[call]]))


@piece
def _finish(loop: Loop, load: Load, done: Done, at: int, call: int, result: int, wait: int) -> None:
    """Write down a call that is over, and with it its failed attempts."""
    task = load.task[call]
    done.call[at], done.code[at], done.task[at] = call, load.code[call], task
    done.result[at], done.wait[at], done.since[at] = result, wait, loop.since[task]
    done.scanned[at], done.freed[at], done.sleeps[at] = 0, -1, loop.sleeps[task]
    loop.sleeps[task] = 0


@part
def _wake(pool: Pool, load: Load, loop: Loop, page: int, when: int) -> None:
    """Put the sleepers that wait for a slot of this page's colour into the queue.

    wake_up() wakes all: map_new_virtual() waits non-exclusively, newest in front. Each colour has
    a wait queue of its own.
    """
    reg, sleepers = loop.reg, loop.sleepers
    colour = colour_of(pool, page)
    kept = 0
    for i in range(reg[SLEEPERS] - 1, -1, -1):
        if _colour(pool, load, sleepers[i]) == colour:
            reg[QUEUED] = _push(loop.queue, reg[QUEUED], when, sleepers[i])
            sleepers[i] = -1
    for i in range(reg[SLEEPERS]):
        if sleepers[i] >= 0:
            sleepers[kept] = sleepers[i]
            kept += 1
    reg[SLEEPERS] = kept


@loop
def run(
    pool: Pool,
    snapshot: Pool,
    load: Load,
    loop: Loop,
    done: Done,
    wake_ns: int,
    closed: bool,  # noqa: FBT001
    gauges: Gauges,
) -> int:
    """Replay calls until `done` is full, or all are over; call it again for the others.

    It stops before, too, when it first needs the followers of calls: then reg[UNLINKED] is set, and
    it goes on with a load that has them.

    Parameters
    ----------
    pool, snapshot
        State at the start, changed in place; state that a SNAPSHOT sets.
    load
        The calls, with their followers.
    loop
        State, changed in place.
    done
        Filled.
    wake_ns
        From the wake-up of a sleeper to its next attempt.
    closed
        False: nobody waits; a kmap() that finds no slot is dropped, and its kunmap() too.
    gauges
        Filled; give arrays of length 0 to measure nothing.

    Returns
    -------
    int
        Calls that are in `done`.
    """
    n = load.code.shape[0]
    reg, state, delay = loop.reg, loop.state, loop.delay
    upcoming, now, finished = reg[UPCOMING], reg[NOW], 0
    if reg[UNLINKED] > 0:
        _go_on(load, loop, reg[UNLINKED] - 1)
        reg[UNLINKED] = 0
    while finished < done.call.shape[0]:
        while upcoming < n and (
            state[load.task[upcoming]] != IN_STEP or not _is_made(load, upcoming)
        ):
            upcoming += 1
        if upcoming == n and reg[QUEUED] == 0:
            if reg[SLEEPERS]:  # for ever
                reg[SLEEPERS] -= 1
                call = loop.sleepers[reg[SLEEPERS]]
                asleep = max(gauges.end - loop.since[load.task[call]], 0)
                _finish(loop, load, done, finished, call, ASLEEP, asleep)
                finished += 1
                continue
            if not reg[OVER]:
                observe(gauges, pool.reg[USED], pool.reg[STALE], now, gauges.end)
            reg[OVER] = 1
            break
        from_queue = reg[QUEUED] > 0 and (
            upcoming == n
            or loop.queue[0, 0] < load.time[upcoming]
            or (loop.queue[0, 0] == load.time[upcoming] and loop.queue[0, 1] < upcoming)
        )
        if from_queue:
            call, when = loop.queue[0, 1], loop.queue[0, 0]
            reg[QUEUED] = _pop(loop.queue, reg[QUEUED])
        else:
            call, when = upcoming, load.time[upcoming]
            upcoming += 1
        if when > now:
            observe(gauges, pool.reg[USED], pool.reg[STALE], now, when)
            now = when
        task, code = load.task[call], np.int64(load.code[call])
        page = np.int64(-1)
        if load.page[call] >= 0:
            page = load.there[load.page[call]]
        result = step(pool, snapshot, code, page, -1, 0)
        reg[MOST_USED] = max(reg[MOST_USED], pool.reg[USED])
        reg[MOST_STALE] = max(reg[MOST_STALE], pool.reg[STALE])
        wait = 0
        if code == MAP:
            reg[MOST_SCANNED] = max(reg[MOST_SCANNED], pool.reg[SCANNED])
        if code == MAP and result == ASLEEP:
            reg[FREEING if pool.reg[FREED] > 0 else QUIET] += 1
            reg[IN_VAIN] += pool.reg[SCANNED]
            loop.sleeps[task] += 1
            if loop.sleeps[task] == 1:
                loop.since[task] = now
            if closed:
                state[task] = SLEEPING
                loop.sleepers[reg[SLEEPERS]] = call
                reg[SLEEPERS] += 1
            else:
                _finish(loop, load, done, finished, call, result, 0)
                finished += 1
            continue
        if code == MAP:
            if loop.sleeps[task]:
                wait = now - loop.since[task]
            else:
                loop.since[task] = now
            if closed:
                delay[task] += wait - _slept(load, call)
        elif code == UNMAP and result >= 0 and pool.counts[result] == 1:
            _wake(pool, load, loop, page, now + wake_ns)
        _finish(loop, load, done, finished, call, result, wait)
        done.scanned[finished], done.freed[finished] = pool.reg[SCANNED], pool.reg[FREED]
        finished += 1
        if state[task] == IN_STEP and delay[task] == 0:
            continue
        if load.follower.shape[0] == 0:
            reg[UNLINKED] = call + 1
            break
        _go_on(load, loop, call)
    reg[UPCOMING], reg[NOW] = upcoming, now
    return finished


def new_loop(tasks: int, start: int) -> Loop:
    """Nothing under way at time `start`."""
    reg = np.zeros(REGISTERS, np.int64)
    reg[NOW] = start
    since, delay, sleepers = np.zeros((3, tasks), np.int64)
    sleeps = np.zeros(tasks, np.int32)
    queue = np.empty((tasks + 1, 2), np.int64)
    return Loop(np.zeros(tasks, np.uint8), delay, since, sleeps, sleepers, queue, reg)


def new_done(calls: int) -> Done:
    """Room for so many calls."""
    call, code, task, wait, since = np.zeros((5, calls), np.int64)
    result, scanned, freed, sleeps = np.zeros((4, calls), np.int32)
    return Done(call, code, task, result, scanned, freed, sleeps, wait, since)
