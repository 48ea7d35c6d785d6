"""The kmap_local stacks: kmap_local_page(), kmap_atomic() and their unmaps (mm/highmem.c).

The address of a local mapping follows from the CPU and the nesting depth alone. From 5.11 on
the stack belongs to the task (kmap_ctrl, commit 5fbda3ecd14a), before that to the CPU
(__kmap_atomic_idx); here a stack is a number, and the caller says which one an event uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from replay.compiled import loop, piece

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Kinds of events
MAP = 0  # a mapping that takes a slot, at its return
UNMAP = 1  # at its entry
SWITCH_OUT = 2  # the task loses its CPU; its mappings are taken down
LOSS = 3  # events were lost: no depth is known any more

# How a mapping's slot was found
DEFAULT = 0
ORDERED = 1  # before or after the push of an interrupted task, or the pop of a preempted one
INITIAL = 2  # the stack was not empty when the trace began, or after events were lost
DIVERGED = 3

# What is wrong with an unmap
STRAY = 1  # nothing is mapped
NOT_NEWEST = 2  # it is given a mapping below the newest one
NOT_HELD = 3  # it is given a slot above the newest mapping: it was given back already
ELSEWHERE = 4  # it is given a slot of another CPU

FREE = -1
MOST_SOUGHT = 1 << 12
"""Wrong unmaps in a piece of which the mapping that they meant is looked for among all tasks'."""

# How far the last unmap of a stack is, as far as the trace shows: its pop comes after its entry.
POPPED = 0
ENTERED = 1  # nothing came behind its entry
PREEMPTED = 2  # the task lost its CPU behind the entry: the pop may be still to come


class Locals(NamedTuple):
    """Events and what the model finds for each.

    Attributes
    ----------
    kind : ndarray of uint8, shape (n,)
    stack : ndarray of int32, shape (n,)
        Stack that the event works on.
    cpu : ndarray of int32, shape (n,)
        CPU on which it happened.
    seen : ndarray of int32, shape (n,)
        Slot that the kernel returned or was given, counted downwards from the first of CPU 0;
        -1 unknown.
    outer : ndarray of int32, shape (n,)
        For an interrupt's mapping: the event of the mapping that it interrupted, else -1.
    slot : ndarray of int32, shape (n,)
        Filled: predicted slot of a mapping, slot on top at an unmap; -1 none.
    depth : ndarray of int32, shape (n,)
        Filled: depth of the mapping (0: the first); mappings held at a switch.
    status : ndarray of uint8, shape (n,)
        Filled for mappings; of unmaps what is wrong with them, where that is certain.
    partner : ndarray of int32, shape (n,)
        Filled for unmaps: the event of the mapping that ends; -1 unknown.
    pushed : ndarray of bool, shape (n,)
        Filled: mappings that are on their stack before their return.
    owner : ndarray of int32, shape (n,)
        Filled for unmaps that are wrong: the event of the only mapping that has the slot that was
        given; -1 none, or several.
    """

    kind: NDArray[np.uint8]
    stack: NDArray[np.int32]
    cpu: NDArray[np.int32]
    seen: NDArray[np.int32]
    outer: NDArray[np.int32]
    slot: NDArray[np.int32]
    depth: NDArray[np.int32]
    status: NDArray[np.uint8]
    partner: NDArray[np.int32]
    pushed: NDArray[np.bool_]
    owner: NDArray[np.int32]


class Stacks(NamedTuple):
    """State of every stack.

    Attributes
    ----------
    depth : ndarray of int64, shape (stacks,)
    certain : ndarray of bool, shape (stacks,)
        Whether the depth is known, not only taken to be 0 since nothing was seen.
    held : ndarray of int32, shape (stacks, KM_MAX_IDX + 1)
        Event of the mapping at each depth; FREE where there is none, or it was not seen.
    last : ndarray of uint8, shape (stacks,)
        How far its last unmap is: POPPED, ENTERED or PREEMPTED.
    above : ndarray of int32, shape (stacks,)
        Mappings above one whose unmap was preempted before its pop; the depth counts it then.
    """

    depth: NDArray[np.int64]
    certain: NDArray[np.bool_]
    held: NDArray[np.int32]
    last: NDArray[np.uint8]
    above: NDArray[np.int32]


class Notes(NamedTuple):
    """Which mappings were held where others came to lie, and at switches.

    Attributes
    ----------
    who : ndarray of int64, shape (n,)
        Event of the mapping or the switch; of length 0: nothing is noted.
    stop : ndarray of int64, shape (n,)
        Where in `event` those that it found end.
    event : ndarray of int32, shape (n * (KM_MAX_IDX + 1),)
        Events of the mappings below it.
    used : ndarray of int64, shape (2,)
        How many elements of `who` and of `event` are filled.
    """

    who: NDArray[np.int64]
    stop: NDArray[np.int64]
    event: NDArray[np.int32]
    used: NDArray[np.int64]


def new_notes(events: int, per_cpu: int) -> Notes:
    """Room for what so many events find; what is never filled takes no memory."""
    room = 2 * events  # a mapping may be pushed by one that interrupted it
    who, stop = np.empty((2, room), np.int64)
    return Notes(who, stop, np.empty(room * (per_cpu + 1), np.int32), np.zeros(2, np.int64))


@piece
def _note(notes: Notes, stacks: Stacks, event: int, stack: int) -> None:
    """Note the mappings that are held on a stack."""
    if notes.who.shape[0] == 0:
        return
    known = notes.used[1]
    for level in range(min(stacks.depth[stack], stacks.held.shape[1])):
        if stacks.held[stack, level] >= 0:
            notes.event[known] = stacks.held[stack, level]
            known += 1
    notes.who[notes.used[0]] = event
    notes.stop[notes.used[0]] = known
    notes.used[0] += 1
    notes.used[1] = known


@piece
def _judge(seen: int, newest: int, base: int, per_cpu: int) -> int:
    """What is wrong with an unmap of one slot where another one is the newest; 0 nothing."""
    if seen == newest:
        return 0
    first = base - base % per_cpu
    if seen < first or seen >= first + per_cpu:
        return ELSEWHERE
    return NOT_NEWEST if seen < newest else NOT_HELD


@piece
def _owner(events: Locals, stacks: Stacks, seen: int) -> np.int64:
    """The only mapping that is held and has a slot; FREE: none, or there are several."""
    found = np.int64(FREE)
    for stack in range(stacks.depth.shape[0]):
        for level in range(min(stacks.depth[stack], stacks.held.shape[1])):
            event = np.int64(stacks.held[stack, level])
            if event >= 0 and events.seen[event] == seen:
                if found != FREE:
                    return np.int64(FREE)
                found = event
    return found


@loop
def run(
    events: Locals,
    stacks: Stacks,
    notes: Notes,
    start: int,
    stop: int,
    per_cpu: int,
    increment: int,
    preemptible: bool,  # noqa: FBT001
    hook: bool,  # noqa: FBT001
) -> tuple[int, int]:
    """Replay events.

    kunmap_local_indexed() disables preemption only behind its entry. A task that loses its CPU
    there still holds the mapping, and what it maps before it pops lies above: on MIPS set_pte_at()
    in __kmap_local_sched_in() maps pages with dirty cache lines (arch/mips/mm/cache.c:
    __update_cache). Whether that has happened only an address tells.

    Parameters
    ----------
    events
        In trace order; filled in place.
    stacks
        State, changed in place.
    notes
        Filled.
    start, stop
        Events to replay. Those before are mappings still held, those behind are only looked at
        by the interrupts that came in them.
    per_cpu, increment
        KM_MAX_IDX (KM_TYPE_NR before 5.11) and KM_INCR.
    preemptible
        Whether a task can lose its CPU in an unmap: not where stacks are the CPUs'.
    hook
        Whether a SWITCH_OUT is __kmap_local_sched_out(), which is called only where something is
        held (kernel/sched/core.c: kmap_local_sched_out).

    Returns
    -------
    strays, misfits : int
        Unmaps on an empty stack, and unmaps of another slot than the top one (non-LIFO).
    """
    depth, certain, held = stacks.depth, stacks.certain, stacks.held
    last, above = stacks.last, stacks.above
    pushed = events.pushed
    strays = 0
    misfits = 0
    sought = 0
    for i in range(start, stop):
        kind = events.kind[i]
        if kind == LOSS:
            certain[:] = False
            last[:] = POPPED
            above[:] = 0
            continue
        stack = events.stack[i]
        base = events.cpu[i] * per_cpu + increment - 1
        seen = events.seen[i]
        if kind == MAP:
            if pushed[i]:
                continue
            slot = base + depth[stack] * increment
            outer = events.outer[i]
            if 0 <= outer < i or outer < 0 or pushed[outer]:
                outer = FREE
            pushes = 1 if above[stack] > 0 else 0  # of those above an unmapped one
            if outer != FREE and seen == slot + increment:
                # The interrupt came after the interrupted task's push, before its return.
                events.slot[outer] = slot
                events.depth[outer] = depth[stack]
                _note(notes, stacks, outer, stack)
                events.status[outer] = ORDERED
                pushed[outer] = True
                held[stack, min(depth[stack], per_cpu)] = outer
                depth[stack] += 1
                slot += increment
                pushes *= 2
                events.status[i] = ORDERED
            elif last[stack] == PREEMPTED and seen == slot + increment:
                # The unmap that was preempted has not popped yet.
                held[stack, min(depth[stack], per_cpu)] = FREE
                depth[stack] += 1
                slot += increment
                pushes = 1
                events.status[i] = ORDERED
            elif seen >= 0 and seen != slot:
                events.status[i] = DIVERGED if certain[stack] else INITIAL
            events.slot[i] = slot
            if events.status[i] >= INITIAL:
                events.slot[i] = slot if events.status[i] == DIVERGED else seen
                below = (seen - base) // increment
                depth[stack] = below if 0 <= below < per_cpu else 0
                above[stack] = pushes = 0
            events.depth[i] = depth[stack]
            _note(notes, stacks, i, stack)
            held[stack, min(depth[stack], per_cpu)] = i
            depth[stack] += 1
            above[stack] += pushes
            last[stack] = POPPED
            certain[stack] = True
        elif kind == UNMAP:
            if depth[stack] == 0:
                strays += certain[stack]
                if certain[stack] and seen >= 0:
                    events.status[i] = STRAY
                    if sought < MOST_SOUGHT:
                        events.owner[i] = _owner(events, stacks, seen)
                    sought += 1
                last[stack] = POPPED
                continue
            depth[stack] -= 1
            events.slot[i] = base + depth[stack] * increment
            events.depth[i] = depth[stack]
            events.partner[i] = held[stack, min(depth[stack], per_cpu)]
            held[stack, min(depth[stack], per_cpu)] = FREE
            misfits += seen >= 0 and seen != events.slot[i]
            newest = events.partner[i]
            if newest >= 0 and events.seen[newest] == events.slot[i] and seen >= 0:
                events.status[i] = _judge(seen, events.slot[i], base, per_cpu)
                if events.status[i] == NOT_NEWEST:
                    meant = held[stack, max((seen - base) // increment, 0)]
                    if meant >= 0 and events.seen[meant] == seen:
                        events.owner[i] = meant
                elif events.status[i] == ELSEWHERE:
                    if sought < MOST_SOUGHT:
                        events.owner[i] = _owner(events, stacks, seen)
                    sought += 1
            last[stack] = ENTERED if preemptible else POPPED
            if above[stack] > 0:
                above[stack] -= 1
                if above[stack] == 0:
                    depth[stack] -= 1  # the unmap below may pop at any time again
                    last[stack] = PREEMPTED
            if depth[stack] == 0:
                certain[stack] = True
        else:
            if last[stack] == ENTERED:
                last[stack] = PREEMPTED
            events.depth[i] = depth[stack]
            if hook and depth[stack] == 0 and last[stack] == PREEMPTED:
                events.depth[i] = 1
            _note(notes, stacks, i, stack)
    return strays, misfits
