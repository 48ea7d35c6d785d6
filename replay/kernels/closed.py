"""The pool under another machine's rules, with tasks that wait as they would there.

The calls come in the captured lock order. A task that finds no slot sleeps, and everything that
it does later is later by as much (closed loop); one that slept in the capture and does not here
runs ahead. As long as nobody has slept, this is the captured order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba
import numpy as np

from replay.kernels.compiled import kernel
from replay.kernels.pool import ASLEEP, FREED, SCANNED, STALE, USED, Pool, colour_of
from replay.kernels.sequence import MAP, UNMAP, Gauges, observe, step

if TYPE_CHECKING:
    from numpy.typing import NDArray

IN_STEP = 0  # runs at its captured times
SHIFTED = 1  # runs earlier or later; its next call is in the queue
SLEEPING = 2


class Load(NamedTuple):
    """The calls, one element each, in captured lock order.

    Attributes
    ----------
    code, page, task : ndarray of int64
        Operation (MAP, UNMAP, FLUSH_UNUSED, GET), page, dense task number.
    time : ndarray of int64
        When the call first took the lock.
    waited : ndarray of int64
        How long it slept in the capture.
    result, scanned, freed : ndarray of int32
        Filled: slot, slots visited, slots freed (-1: no flush) of the last attempt.
    sleeps : ndarray of int32
        Filled: failed attempts.
    wait : ndarray of int64
        Filled: how long it slept.
    passes : ndarray of int32, shape (n, 2)
        Filled: failed attempts' flushes that freed something, and that freed nothing.
    """

    code: NDArray[np.int64]
    page: NDArray[np.int64]
    task: NDArray[np.int64]
    time: NDArray[np.int64]
    waited: NDArray[np.int64]
    result: NDArray[np.int32]
    scanned: NDArray[np.int32]
    freed: NDArray[np.int32]
    sleeps: NDArray[np.int32]
    wait: NDArray[np.int64]
    passes: NDArray[np.int32]


@kernel
def _before(queue: NDArray[np.int64], a: int, b: int) -> bool:
    """Order of the queue: time, then captured order."""
    return queue[a, 0] < queue[b, 0] or (queue[a, 0] == queue[b, 0] and queue[a, 1] < queue[b, 1])


@kernel
def _swap(queue: NDArray[np.int64], a: int, b: int) -> None:
    for k in range(2):
        queue[a, k], queue[b, k] = queue[b, k], queue[a, k]


@kernel
def _push(queue: NDArray[np.int64], size: int, time: int, call: int) -> int:
    """Add a call to the queue (a binary heap); return its new size."""
    queue[size, 0] = time
    queue[size, 1] = call
    at = size
    while at > 0 and _before(queue, at, (at - 1) // 2):
        _swap(queue, at, (at - 1) // 2)
        at = (at - 1) // 2
    return size + 1


@kernel
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


@numba.njit(cache=True, nogil=True)
def run(
    pool: Pool,
    load: Load,
    tasks: int,
    wake_ns: int,
    closed: bool,  # noqa: FBT001
    gauges: Gauges,
) -> tuple[int, int, int]:
    """Replay the calls.

    Parameters
    ----------
    pool
        State at the start, changed in place.
    load
        The calls; filled in place.
    tasks
        Number of tasks.
    wake_ns
        From the wake-up of a sleeper to its next attempt.
    closed
        False: nobody waits; a kmap() that finds no slot is dropped, and its kunmap() too.
    gauges
        Filled; give arrays of length 0 to measure nothing.

    Returns
    -------
    most_used, most_stale, stuck : int
        Highest number of slots in use and stale; tasks that sleep for ever.
    """
    n = load.code.shape[0]
    follower = np.full(n, -1, np.int64)  # the task's next call
    later = np.full(tasks, -1, np.int64)
    for i in range(n - 1, -1, -1):
        follower[i] = later[load.task[i]]
        later[load.task[i]] = i
    state = np.zeros(tasks, np.uint8)
    delay = np.zeros(tasks, np.int64)
    since = np.zeros(tasks, np.int64)
    sleepers = np.empty(tasks, np.int64)  # calls, newest last
    n_sleepers = 0
    queue = np.empty((tasks + 1, 2), np.int64)
    size = 0
    upcoming = 0
    now = gauges.start
    most_used, most_stale = pool.reg[USED], pool.reg[STALE]
    while True:
        while upcoming < n and state[load.task[upcoming]] != IN_STEP:
            upcoming += 1
        if upcoming == n and size == 0:
            break
        from_queue = size > 0 and (
            upcoming == n
            or queue[0, 0] < load.time[upcoming]
            or (queue[0, 0] == load.time[upcoming] and queue[0, 1] < upcoming)
        )
        if from_queue:
            call, when = queue[0, 1], queue[0, 0]
            size = _pop(queue, size)
        else:
            call, when = upcoming, load.time[upcoming]
            upcoming += 1
        if when > now:
            observe(gauges, pool.reg[USED], pool.reg[STALE], now, when)
            now = when
        task = load.task[call]
        code = load.code[call]
        result = step(pool, pool, code, load.page[call], -1, 0)
        load.result[call] = result
        load.scanned[call] += pool.reg[SCANNED]
        load.freed[call] = pool.reg[FREED]
        most_used = max(most_used, pool.reg[USED])
        most_stale = max(most_stale, pool.reg[STALE])
        if code == MAP:
            if result == ASLEEP:
                load.passes[call, 0 if pool.reg[FREED] > 0 else 1] += 1
                load.sleeps[call] += 1
                if closed:
                    if load.sleeps[call] == 1:
                        since[task] = now
                    state[task] = SLEEPING
                    sleepers[n_sleepers] = call
                    n_sleepers += 1
                continue
            if load.sleeps[call]:
                load.wait[call] = now - since[task]
            if closed:
                delay[task] += load.wait[call] - load.waited[call]
        elif code == UNMAP and result >= 0 and pool.counts[result] == 1:
            # wake_up() wakes all: map_new_virtual() waits non-exclusively, newest in front.
            # Each colour has a wait queue of its own.
            colour = colour_of(pool, load.page[call])
            kept = 0
            for i in range(n_sleepers - 1, -1, -1):
                if colour_of(pool, load.page[sleepers[i]]) == colour:
                    size = _push(queue, size, now + wake_ns, sleepers[i])
                    sleepers[i] = -1
            for i in range(n_sleepers):
                if sleepers[i] >= 0:
                    sleepers[kept] = sleepers[i]
                    kept += 1
            n_sleepers = kept
        if state[task] == IN_STEP and delay[task] == 0:
            continue
        state[task] = SHIFTED
        if follower[call] >= 0:
            size = _push(queue, size, load.time[follower[call]] + delay[task], follower[call])
    observe(gauges, pool.reg[USED], pool.reg[STALE], now, gauges.end)
    return most_used, most_stale, n_sleepers
