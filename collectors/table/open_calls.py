"""State of the pairing loop: its cells, its table of tasks, and the calls of each that are open.

Every task has a stack of calls that have entered and not yet returned, the innermost on top.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from collectors.compiled import part, piece
from collectors.table.columns import NONE, WALK, Late, OpenCalls, RowColumns, TaskTable

DEEPEST = 512
"""Open calls that a task can have; beyond, those that are the oldest half are forgotten."""

_IDLE = 1 << 40
"""Task number of CPU 0's idle task; those of the other CPUs follow. No pid is as large."""
_IRQ_LEVELS = 14  # Ctx.HARDIRQ | Ctx.SOFTIRQ | Ctx.NMI
_CTX_UNKNOWN = 128
INNER_STACKED = 6
"""What a late event is, beside those of :mod:`collectors.table.pairing`: a stack inside."""

# Cells of the loop's state.
POSITION = 0  # raw event of the piece to read next
ROWS = 1  # rows made; they are numbered from 0
GONE = 2  # rows given away: complete or not, they change no more
OPEN = 3  # slots of Calls that have been used
FREE = 4  # first slot of Calls that is free again, NONE
TASKS = 5  # tasks in the table
LATES = 6  # entries of Late
KNOWN = 7  # entries of the known Late that lie behind
MASK = 8  # the columns' length, a power of 2, less 1: row n stands at n & mask
LOST = 9  # `seq` of the first event after the last loss
CELLS = 10


@piece
def place_of(key: int, keys: Any) -> int:
    """Place of a task in its table: where it is, or the free one where it belongs."""
    mask = keys.shape[0] - 1
    h = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    at = np.int64(h >> np.uint64(33)) & mask
    while keys[at] not in (NONE, key):
        at = (at + 1) & mask
    return at


@piece
def key_of(event: Any) -> Any:
    """By what the table of tasks knows an event's task."""
    key = np.int64(event.pid) if event.pid != 0 else _IDLE + event.cpu
    # NONE marks what is free: no key may be as small
    return key if key >= 0 else key - 1


@piece
def tell_late(late: Late, cell: Any, row_seq: int, event: Any, seq: int, what: int) -> None:
    """Note what came for a row that is gone."""
    at = cell[LATES]
    late.row_seq[at] = row_seq
    late.seq[at] = seq
    late.what[at] = what
    late.raw[at] = event
    cell[LATES] += 1


@piece
def pop_to(call: int, task: int, tasks: TaskTable, calls: OpenCalls, cell: Any) -> None:
    """Close an open call of a task, and those above it."""
    below = calls.below[call]
    at = tasks.top[task]
    while at != below:
        following = calls.below[at]
        calls.row[at] = -2
        calls.below[at] = cell[FREE]
        cell[FREE] = at
        tasks.depth[task] -= 1
        at = following
    tasks.top[task] = below


@piece
def _forget_oldest(task: int, tasks: TaskTable, calls: OpenCalls, cell: Any) -> None:
    """Cut a stack that no kernel has down to half."""
    at = tasks.top[task]
    for _ in range(DEEPEST // 2 - 1):
        at = calls.below[at]
    rest = calls.below[at]
    calls.below[at] = NONE
    tasks.depth[task] = DEEPEST // 2
    while rest != NONE:
        following = calls.below[rest]
        calls.row[rest] = -2
        calls.below[rest] = cell[FREE]
        cell[FREE] = rest
        rest = following


@piece
def push(
    task: int,
    row: int,
    seq: int,
    inside: int,
    kind: int,
    ctx: int,
    tasks: TaskTable,
    calls: OpenCalls,
    cell: Any,
) -> None:
    """Put a call onto its task's stack."""
    if tasks.depth[task] >= DEEPEST:
        _forget_oldest(task, tasks, calls, cell)
    at = cell[FREE]
    if at == NONE:
        at = cell[OPEN]
        cell[OPEN] += 1
    else:
        cell[FREE] = calls.below[at]
    calls.row[at] = row
    calls.seq[at] = seq
    calls.inside[at] = inside
    calls.kind[at] = kind
    calls.ctx[at] = ctx
    calls.inner[at] = 0
    calls.purged[at] = 0
    calls.shown[at] = 0
    calls.area_seq[at] = NONE
    calls.below[at] = tasks.top[task]
    tasks.top[task] = at
    tasks.depth[task] += 1


@piece
def close_same_context(
    task: int, kind: int, ctx: int, tasks: TaskTable, calls: OpenCalls, cell: Any
) -> None:
    """Close an older open call of a function that is entered again.

    The same function cannot run twice in one context: the older call, and what stands on it,
    lost its return.
    """
    call = tasks.top[task]
    steps = 0
    while call != NONE and steps < WALK:
        older = calls.ctx[call]
        same = older != _CTX_UNKNOWN and (older & _IRQ_LEVELS) == (ctx & _IRQ_LEVELS)
        if calls.kind[call] == kind and same:
            pop_to(call, task, tasks, calls, cell)
            return
        call = calls.below[call]
        steps += 1


@part
def show_outer(
    rows: RowColumns,
    tasks: TaskTable,
    calls: OpenCalls,
    cell: Any,
    event: Any,
    seq: int,
    late: Late,
) -> None:
    """Give the first stack trace in a call to it: to those of its task and context."""
    task = place_of(key_of(event), tasks.key)
    if tasks.key[task] == NONE:
        return
    call = tasks.top[task]
    steps = 0
    while call != NONE and steps < WALK:
        known = event.ctx != _CTX_UNKNOWN and calls.ctx[call] != _CTX_UNKNOWN
        row = calls.row[call]
        if calls.seq[call] < cell[LOST]:
            return  # it may be over
        if known and (calls.ctx[call] & _IRQ_LEVELS) != (event.ctx & _IRQ_LEVELS):
            return
        if calls.shown[call] == 0:
            if row >= cell[GONE]:
                rows.inner[row & cell[MASK]] = event.values[0]
            elif row >= 0:
                tell_late(late, cell, calls.seq[call], event, seq, INNER_STACKED)
            calls.shown[call] = 1
        call = calls.below[call]
        steps += 1
