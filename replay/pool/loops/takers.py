"""Tasks that need one more slot of the pool while they hold some: what can end in a deadlock.

A slot is a task's where no other task uses it: only this task can give it back. What others share,
or what was mapped before the trace, is nobody's here, so that everything counted is at least so
much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from replay.compiled import piece

if TYPE_CHECKING:
    from numpy.typing import NDArray

PIDS = 1 << 15
"""A 32-bit kernel has no pid from here on (include/linux/threads.h: PID_MAX_LIMIT)."""
QUEUE = 256
"""Tasks that sleep at once and are told apart."""

# Columns of Takers.queue and Takers.jam_queue
Q_ROW, Q_PID = range(2)

# Positions in Takers.reg
CALLS = 0  # calls that needed a slot while their task held some
AT_ONCE = 1  # sum of Takers.nest
MOST_AT_ONCE = 2
MOST_ROW = 3  # row of the call that made it so many
HELD_ASLEEP = 4  # slots of tasks that sleep
ASLEEP_NOW = 5  # tasks that sleep
JAM_HELD = 6  # HELD_ASLEEP, ASLEEP_NOW when the jam was worst, and when that was
JAM_ASLEEP = 7
JAM_TIME = 8
QUEUED = 9  # elements of Takers.queue, and of Takers.jam_queue
JAM_QUEUED = 10
REGISTERS = 11


class Takers(NamedTuple):
    """What tasks hold and ask for.

    Attributes
    ----------
    held : ndarray of int32, shape (PIDS,)
        Slots of each task.
    nest : ndarray of int32, shape (PIDS,)
        Most of them when it needed one more, since it held none.
    most : ndarray of int32, shape (PIDS,)
        Most of them when it ever needed one more.
    row : ndarray of int64, shape (PIDS,)
        Row of that call.
    asleep : ndarray of int32, shape (PIDS,)
        Calls of the task that sleep.
    queue : ndarray of int64, shape (QUEUE, 2)
        Row and task of calls that sleep.
    jam_queue : ndarray of int64, shape (QUEUE, 2)
        The same when those that slept held most.
    jam : ndarray of int64, shape (slots, 4)
        The newest user of each slot then: row of its kmap(), task, since when, whether it slept.
    reg : ndarray of int64, shape (REGISTERS,)
    """

    held: NDArray[np.int32]
    nest: NDArray[np.int32]
    most: NDArray[np.int32]
    row: NDArray[np.int64]
    asleep: NDArray[np.int32]
    queue: NDArray[np.int64]
    jam_queue: NDArray[np.int64]
    jam: NDArray[np.int64]
    reg: NDArray[np.int64]


def new_takers(slots: int) -> Takers:
    """Nobody holds any of so many slots, and nobody asks."""
    held, nest, most, asleep = np.zeros((4, PIDS), np.int32)
    queue, jam_queue = np.full((2, QUEUE, 2), -1, np.int64)
    return Takers(
        held,
        nest,
        most,
        np.full(PIDS, -1, np.int64),
        asleep,
        queue,
        jam_queue,
        np.full((slots, 4), -1, np.int64),
        np.zeros(REGISTERS, np.int64),
    )


@piece
def is_task(pid: int) -> bool:
    """Whether there can be a task of this number; 0 are those that idle."""
    return 0 < pid < PIDS


@piece
def hold(takers: Takers, pid: int, more: int) -> None:
    """A slot becomes a task's (1), or is so no more (-1)."""
    if not is_task(pid):
        return
    takers.held[pid] += more
    if takers.asleep[pid]:
        takers.reg[HELD_ASLEEP] += more
    if takers.held[pid] <= 0:
        takers.reg[AT_ONCE] -= takers.nest[pid]
        takers.nest[pid] = 0


@piece
def ask(takers: Takers, pid: int, row: int) -> None:
    """A task needs one more slot."""
    if not is_task(pid) or takers.held[pid] <= 0:
        return
    takers.reg[CALLS] += 1
    more = takers.held[pid] - takers.nest[pid]
    if more > 0:
        takers.nest[pid] += more
        takers.reg[AT_ONCE] += more
        if takers.reg[AT_ONCE] > takers.reg[MOST_AT_ONCE]:
            takers.reg[MOST_AT_ONCE] = takers.reg[AT_ONCE]
            takers.reg[MOST_ROW] = row
    if takers.held[pid] > takers.most[pid]:
        takers.most[pid] = takers.held[pid]
        takers.row[pid] = row


@piece
def sleep(takers: Takers, pid: int, row: int) -> None:
    """A call of a task finds no slot."""
    if not is_task(pid):
        return
    if not takers.asleep[pid]:
        takers.reg[HELD_ASLEEP] += takers.held[pid]
        takers.reg[ASLEEP_NOW] += 1
    takers.asleep[pid] += 1
    last = takers.reg[QUEUED]
    if last < QUEUE:
        takers.queue[last, Q_ROW] = row
        takers.queue[last, Q_PID] = pid
        takers.reg[QUEUED] += 1


@piece
def wake(takers: Takers, pid: int, row: int) -> None:
    """The call sleeps no more."""
    if not is_task(pid) or not takers.asleep[pid]:
        return
    takers.asleep[pid] -= 1
    if not takers.asleep[pid]:
        takers.reg[HELD_ASLEEP] -= takers.held[pid]
        takers.reg[ASLEEP_NOW] -= 1
    last = takers.reg[QUEUED] - 1
    for at in range(last + 1):
        if takers.queue[at, Q_ROW] == row:
            takers.queue[at, Q_ROW] = takers.queue[last, Q_ROW]
            takers.queue[at, Q_PID] = takers.queue[last, Q_PID]
            takers.reg[QUEUED] = last
            break


@piece
def is_worse(takers: Takers) -> bool:
    """Whether those that sleep hold more than ever, or are more of them that hold as much."""
    now, worst = takers.reg[HELD_ASLEEP], takers.reg[JAM_HELD]
    more = takers.reg[ASLEEP_NOW] > takers.reg[JAM_ASLEEP]
    return now > worst or (now == worst and more)


@piece
def note_jam(
    takers: Takers, newest: NDArray[np.int64], entries: NDArray[np.int64], ts: int
) -> None:
    """Keep who holds what, and who sleeps; `newest`, `entries` as of the slots' users."""
    takers.reg[JAM_HELD] = takers.reg[HELD_ASLEEP]
    takers.reg[JAM_ASLEEP] = takers.reg[ASLEEP_NOW]
    takers.reg[JAM_TIME] = ts
    takers.reg[JAM_QUEUED] = takers.reg[QUEUED]
    for at in range(takers.reg[QUEUED]):
        takers.jam_queue[at, Q_ROW] = takers.queue[at, Q_ROW]
        takers.jam_queue[at, Q_PID] = takers.queue[at, Q_PID]
    for slot in range(newest.shape[0]):
        entry = newest[slot]
        for column in range(3):
            takers.jam[slot, column] = -1 if entry < 0 else entries[entry, column]
        pid = takers.jam[slot, 1]
        takers.jam[slot, 3] = 1 if is_task(pid) and takers.asleep[pid] > 0 else 0


@piece
def forget_all(takers: Takers) -> None:
    """Nothing is known any more of who holds and who sleeps."""
    for pid in range(PIDS):
        takers.held[pid] = takers.nest[pid] = takers.asleep[pid] = 0
    for register in (AT_ONCE, HELD_ASLEEP, ASLEEP_NOW, QUEUED):
        takers.reg[register] = 0
