"""Who uses which slot, and what became of calls: followed through the operations in lock order."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from replay.compiled import loop, piece
from replay.pool.loops.highmem import ASLEEP
from replay.pool.loops.sequence import GET, MAP, PLACE, RELEASE, RESET, SNAPSHOT, UNMAP
from replay.pool.loops.takers import (
    Takers,
    ask,
    forget_all,
    hold,
    is_worse,
    note_jam,
    sleep,
    wake,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNSET = -(1 << 63)
"""As replay.pool.calls.UNSET."""
NOBODY = -1
"""In place of an entry."""
PER_SLOT = 4
"""Entries for each slot: more users of shared mappings at once are not told apart."""

# Columns of Users.entries and of Users.then and Users.worst, which lack the last
ROW, PID, SINCE, BELOW, CPU = range(5)

# Positions in Users.reg
UNTAKEN = 0  # first entry of the list of those that are free
SLEEPERS = 1  # calls that sleep
WAITED = 2  # time waited by those that woke since somebody fell asleep on a pool of no sleepers
MOST_WAITED = 3  # the most of that
UNNOTED = 4  # users for which there was no room
OTHER_TASK = 5  # unmaps by a task that had not mapped the page
OTHER_CPU = 6  # unmaps on another CPU than the task mapped it on
CROSSED = 7  # row of the first unmap of the former kind, or -1
REGISTERS = 8


class Users(NamedTuple):
    """Who uses which slot.

    Attributes
    ----------
    newest : ndarray of int64, shape (slots,)
        Entry of each slot's newest user; NOBODY: none is known.
    is_whole : ndarray of bool, shape (slots,)
        All users of the slot are known: its page was mapped in the trace.
    entries : ndarray of int64, shape (PER_SLOT * slots, 5)
        Users: row of the kmap(), its task, when it got the slot, the entry of the user before, the
        CPU.
    then : ndarray of int64, shape (slots, 3)
        The newest users when somebody last fell asleep while nobody slept; row NOBODY: not known.
    worst : ndarray of int64, shape (slots, 3)
        The same for the time in which most was waited.
    reg : ndarray of int64, shape (REGISTERS,)
    """

    newest: NDArray[np.int64]
    is_whole: NDArray[np.bool_]
    entries: NDArray[np.int64]
    then: NDArray[np.int64]
    worst: NDArray[np.int64]
    reg: NDArray[np.int64]


class Tries(NamedTuple):
    """What became of calls, one element each; columns of :class:`replay.pool.calls.CallColumns`."""

    predicted: NDArray[np.int32]
    sleeps: NDArray[np.int32]
    first_try: NDArray[np.int64]
    last_try: NDArray[np.int64]
    row: NDArray[np.int64]
    pid: NDArray[np.int32]
    cpu: NDArray[np.uint16]


@piece
def _forget(users: Users, slot: int) -> None:
    """Give the entries of a slot back."""
    entry = users.newest[slot]
    while entry != NOBODY:
        below = users.entries[entry, BELOW]
        users.entries[entry, BELOW] = users.reg[UNTAKEN]
        users.reg[UNTAKEN] = entry
        entry = below
    users.newest[slot] = NOBODY


@piece
def _add(users: Users, slot: int, row: int, pid: int, cpu: int, since: int) -> None:
    """Note a user, if there is room."""
    entry = users.reg[UNTAKEN]
    if entry == NOBODY:
        users.reg[UNNOTED] += 1
        return
    users.reg[UNTAKEN] = users.entries[entry, BELOW]
    users.entries[entry, ROW] = row
    users.entries[entry, PID] = pid
    users.entries[entry, SINCE] = since
    users.entries[entry, CPU] = cpu
    users.entries[entry, BELOW] = users.newest[slot]
    users.newest[slot] = entry


@piece
def _remove(users: Users, slot: int, row: int, pid: int, cpu: int) -> int:
    """Take a user off: the newest of this task, for another task's mapping the newest of all.

    Its entry, NOBODY if there is none, stays as it is until it is used again.
    """
    before, entry = NOBODY, users.newest[slot]
    while entry != NOBODY and users.entries[entry, PID] != pid:
        before, entry = entry, users.entries[entry, BELOW]
    if entry == NOBODY:
        before, entry = NOBODY, users.newest[slot]
        are_known = NOBODY not in (entry, pid) and users.entries[entry, PID] != NOBODY
        if are_known and users.is_whole[slot]:
            users.reg[OTHER_TASK] += 1
            if users.reg[CROSSED] == NOBODY:
                users.reg[CROSSED] = row
    elif users.entries[entry, CPU] != cpu:
        users.reg[OTHER_CPU] += 1
    if entry != NOBODY:
        if before == NOBODY:
            users.newest[slot] = users.entries[entry, BELOW]
        else:
            users.entries[before, BELOW] = users.entries[entry, BELOW]
        users.entries[entry, BELOW] = users.reg[UNTAKEN]
        users.reg[UNTAKEN] = entry
    return entry


@piece
def _owner(users: Users, slot: int) -> int:
    """The task whose slot it is, for no other one uses it; NOBODY: there is none, or more."""
    entry = users.newest[slot]
    if entry == NOBODY or not users.is_whole[slot]:
        return NOBODY
    pid = users.entries[entry, PID]
    while entry != NOBODY:
        if users.entries[entry, PID] != pid:
            return NOBODY
        entry = users.entries[entry, BELOW]
    return pid


@piece
def _pass_on(takers: Takers, before: int, after: int) -> None:
    """A slot that was one task's becomes another's; NOBODY: nobody's."""
    if before != after:
        hold(takers, before, -1)
        hold(takers, after, 1)


@piece
def _fall_asleep(users: Users) -> None:
    """Somebody sleeps: where nobody did, note who uses the slots."""
    users.reg[SLEEPERS] += 1
    if users.reg[SLEEPERS] > 1:
        return
    users.reg[WAITED] = 0
    for slot in range(users.newest.shape[0]):
        entry = users.newest[slot]
        for column in range(3):
            users.then[slot, column] = NOBODY if entry == NOBODY else users.entries[entry, column]


@piece
def _wake(users: Users, waited: int) -> None:
    """Somebody sleeps no more."""
    users.reg[WAITED] += waited
    users.reg[SLEEPERS] = max(users.reg[SLEEPERS] - 1, 0)
    if users.reg[SLEEPERS] or users.reg[WAITED] < users.reg[MOST_WAITED]:
        return
    users.reg[MOST_WAITED] = users.reg[WAITED]
    for slot in range(users.newest.shape[0]):
        for column in range(3):
            users.worst[slot, column] = users.then[slot, column]


@piece
def _take(
    users: Users, takers: Takers, tries: Tries, who: int, slot: int, visited: int, time: int
) -> None:
    """A call gets a slot; one that it has visited is a new mapping."""
    owner = _owner(users, slot)
    if visited > 0:  # nobody can have it yet
        _forget(users, slot)
        users.is_whole[slot] = True
    _add(users, slot, tries.row[who], np.int64(tries.pid[who]), np.int64(tries.cpu[who]), time)
    _pass_on(takers, owner, _owner(users, slot))


@loop
def follow(
    users: Users,
    takers: Takers,
    tries: Tries,
    operations: NDArray[np.int64],
    call: NDArray[np.int64],
    time: NDArray[np.int64],
    result: NDArray[np.int32],
    scanned: NDArray[np.int32],
    ended: NDArray[np.int64],
) -> None:
    """Note who uses the slots, and which slot calls got, when, and how often they slept.

    Parameters
    ----------
    users, takers, tries
        Changed in place; of a call the last attempt stays.
    operations : ndarray of int64, shape (n, 4)
        As of :func:`replay.pool.loops.sequence.run`.
    call, time, result, scanned : ndarray, shape (n,)
        Per operation: its call, when it took the lock, its slot or ASLEEP, slots visited.
    ended : ndarray of int64, shape (n, 3)
        Filled for unmaps with the row, task and time of the kmap() that ends, NOBODY where it is
        not known; of length 0: not wanted.
    """
    for i in range(call.shape[0]):
        code, slot, who = operations[i, 0], np.int64(result[i]), call[i]
        if code in (MAP, GET):
            row, pid = tries.row[who], np.int64(tries.pid[who])
            tries.predicted[who] = slot
            if tries.first_try[who] == UNSET:
                tries.first_try[who] = time[i]
                if code == MAP and (slot == ASLEEP or scanned[i] > 0):
                    ask(takers, pid, row)
            if slot >= 0:
                _take(users, takers, tries, who, slot, scanned[i], time[i])
                if tries.sleeps[who]:
                    _wake(users, time[i] - tries.first_try[who])
                    wake(takers, pid, row)
            elif slot == ASLEEP:
                if tries.sleeps[who] == 0:
                    _fall_asleep(users)
                    sleep(takers, pid, row)
                tries.sleeps[who] += 1
            tries.last_try[who] = time[i]
        elif code == UNMAP:
            if slot >= 0:
                owner = _owner(users, slot)
                row, pid, cpu = np.int64(NOBODY), np.int64(NOBODY), np.int64(0)
                if who >= 0:
                    row, pid = tries.row[who], np.int64(tries.pid[who])
                    cpu = np.int64(tries.cpu[who])
                entry = _remove(users, slot, row, pid, cpu)
                if ended.shape[0] > 0:
                    for column in range(3):
                        ended[i, column] = (
                            NOBODY if entry == NOBODY else users.entries[entry, column]
                        )
                _pass_on(takers, owner, _owner(users, slot))
        elif code in (PLACE, RELEASE):
            _pass_on(takers, _owner(users, operations[i, 2]), NOBODY)
            _forget(users, operations[i, 2])
            users.is_whole[operations[i, 2]] = False
        elif code in (RESET, SNAPSHOT):
            for every in range(users.newest.shape[0]):
                _forget(users, every)
                users.is_whole[every] = False
            users.reg[SLEEPERS] = 0
            forget_all(takers)
        if is_worse(takers):
            note_jam(takers, users.newest, users.entries, time[i])


def new_users(slots: int) -> Users:
    """Nobody uses any of so many slots."""
    room = PER_SLOT * slots
    entries = np.full((room, 5), NOBODY, np.int64)
    entries[:-1, BELOW] = np.arange(1, room)
    reg = np.zeros(REGISTERS, np.int64)
    reg[UNTAKEN], reg[CROSSED] = 0 if room else NOBODY, NOBODY
    then, worst = np.full((2, slots, 3), NOBODY, np.int64)
    return Users(np.full(slots, NOBODY, np.int64), np.zeros(slots, bool), entries, then, worst, reg)
