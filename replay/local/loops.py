"""The kmap_local stacks: kmap_local_page(), kmap_atomic() and their unmaps (mm/highmem.c).

The address of a local mapping follows from the CPU and the nesting depth alone. From 5.11 on
the stack belongs to the task (kmap_ctrl, commit 5fbda3ecd14a), before that to the CPU
(__kmap_atomic_idx); here a stack is a number, and the caller says which one an event uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from replay.compiled import loop, piece

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Kinds of events
MAP = 0  # a mapping that takes a slot, at its return
UNMAP = 1  # at its entry
SWITCH_OUT = 2  # the task loses its CPU; its mappings are taken down
LOSS = 3  # events were lost: no depth is known any more

# How a mapping's slot was found
DEFAULT = 0
ORDERED = 1  # an interrupt's mapping: before or after the interrupted task's push
INITIAL = 2  # the stack was not empty when the trace began, or after events were lost
DIVERGED = 3

FREE = -1


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
        Filled for mappings.
    partner : ndarray of int32, shape (n,)
        Filled for unmaps: the event of the mapping that ends; -1 unknown.
    pushed : ndarray of bool, shape (n,)
        Filled: mappings that are on their stack before their return.
    spared : ndarray of bool, shape (n,)
        Mappings that another machine does not need.
    below : ndarray of int32, shape (n,)
        Filled: spared ones below a mapping, or held at a switch.
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
    spared: NDArray[np.bool_]
    below: NDArray[np.int32]


class Stacks(NamedTuple):
    """State of every stack.

    Attributes
    ----------
    depth : ndarray of int64, shape (stacks,)
    certain : ndarray of bool, shape (stacks,)
        Whether the depth is known, not only taken to be 0 since nothing was seen.
    held : ndarray of int32, shape (stacks, KM_MAX_IDX + 1)
        Event of the mapping at each depth; FREE where there is none, or it was not seen.
    """

    depth: NDArray[np.int64]
    certain: NDArray[np.bool_]
    held: NDArray[np.int32]


@piece
def _spared(events: Locals, stacks: Stacks, stack: int) -> int:
    """Mappings on a stack that another machine does not need."""
    number = 0
    for level in range(min(stacks.depth[stack], stacks.held.shape[1])):
        event = stacks.held[stack, level]
        number += event >= 0 and events.spared[event]
    return number


@loop
def run(
    events: Locals, stacks: Stacks, start: int, stop: int, per_cpu: int, increment: int
) -> tuple[int, int]:
    """Replay events.

    Parameters
    ----------
    events
        In trace order; filled in place.
    stacks
        State, changed in place.
    start, stop
        Events to replay. Those before are mappings still held, those behind are only looked at
        by the interrupts that came in them.
    per_cpu, increment
        KM_MAX_IDX (KM_TYPE_NR before 5.11) and KM_INCR.

    Returns
    -------
    strays, misfits : int
        Unmaps on an empty stack, and unmaps of another slot than the top one (non-LIFO).
    """
    depth, certain, held = stacks.depth, stacks.certain, stacks.held
    pushed = events.pushed
    strays = 0
    misfits = 0
    for i in range(start, stop):
        kind = events.kind[i]
        if kind == LOSS:
            certain[:] = False
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
            if outer != FREE and seen == slot + increment:
                # The interrupt came after the interrupted task's push, before its return.
                events.slot[outer] = slot
                events.depth[outer] = depth[stack]
                events.below[outer] = _spared(events, stacks, stack)
                events.status[outer] = ORDERED
                pushed[outer] = True
                held[stack, min(depth[stack], per_cpu)] = outer
                depth[stack] += 1
                slot += increment
                events.status[i] = ORDERED
            elif seen >= 0 and seen != slot:
                events.status[i] = DIVERGED if certain[stack] else INITIAL
            events.slot[i] = slot
            if events.status[i] >= INITIAL:
                events.slot[i] = slot if events.status[i] == DIVERGED else seen
                below = (seen - base) // increment
                depth[stack] = below if 0 <= below < per_cpu else 0
            events.depth[i] = depth[stack]
            events.below[i] = _spared(events, stacks, stack)
            held[stack, min(depth[stack], per_cpu)] = i
            depth[stack] += 1
            certain[stack] = True
        elif kind == UNMAP:
            if depth[stack] == 0:
                strays += certain[stack]
                continue
            depth[stack] -= 1
            events.slot[i] = base + depth[stack] * increment
            events.depth[i] = depth[stack]
            events.partner[i] = held[stack, min(depth[stack], per_cpu)]
            held[stack, min(depth[stack], per_cpu)] = FREE
            misfits += seen >= 0 and seen != events.slot[i]
            if depth[stack] == 0:
                certain[stack] = True
        else:
            events.depth[i] = depth[stack]
            events.below[i] = _spared(events, stacks, stack)
    return strays, misfits
