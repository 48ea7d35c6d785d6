"""Pairing of entries and returns: the compiled loop behind :mod:`collectors.tabulate`.

Every task has a stack of calls that have entered and not yet returned; an interrupt's calls
stack on top of the interrupted task's, as they do in the kernel. A return closes the innermost
open call of its function; calls above it have lost their return.

The loop takes a piece of the trace at a time and carries the open calls from piece to piece. It
writes the columns of the event table; a row that was given away already, because its call stayed
open for too long, gets its return through a list of its own (:class:`Late`).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numba
import numpy as np

from collectors import probes
from collectors.events import OP_CODE
from collectors.raw import RAW_DTYPE

VALUE_COLUMNS: Final = (
    "page",
    "pfn",
    "vaddr",
    "pages",
    "size",
    "align",
    "start",
    "end",
    "caller",
)
"""Columns of the event table that hold a value of a raw event; the position is its code."""

NONE = -1
WALK = 64
"""How many open calls of a task a return looks through: nesting in the kernel is far below."""
DEEPEST = 512
"""Open calls that a task can have; beyond, those that are the oldest half are forgotten."""

_FUNCTIONS = len(probes.FUNCTIONS)
_SWITCH = probes.KIND_SWITCH
_PAGE_CALL = probes.FUNCTION_OF["__kmap_local_page_prot"]
_PFN_CALL = probes.FUNCTION_OF["__kmap_local_pfn_prot"]
_PFN, _VADDR, _CALLER = (VALUE_COLUMNS.index(name) for name in ("pfn", "vaddr", "caller"))
_IDLE = 1 << 40
"""Task number of CPU 0's idle task; those of the other CPUs follow. No pid is as large."""
_IRQ_LEVELS = 14  # Ctx.HARDIRQ | Ctx.SOFTIRQ | Ctx.NMI
_CTX_UNKNOWN = 128
_NO_OP = 255
_FIRST_ERROR = 0xFFFF_F001
"""ERR_PTR(-MAX_ERRNO): addresses from here on are error codes (include/linux/err.h)."""

# Bits of Rows.valid; the first are those of VALUE_COLUMNS.
HAS_END = 1 << 9
HAS_PARENT = 1 << 10
IS_SWITCH = 1 << 11
ENTRY_TRACED = 1 << 12

# Cells of the loop's state.
POSITION = 0  # raw event of the piece to read next
ROWS = 1  # rows made; they are numbered from 0
GONE = 2  # rows given away: complete or not, they change no more
OPEN = 3  # slots of Calls that have been used
FREE = 4  # first slot of Calls that is free again, NONE
TASKS = 5  # tasks in the table
LATES = 6  # entries of Late
KNOWN = 7  # entries of the known Late that lie behind
BASE = 8  # number of the row that stands first in the columns
CELLS = 9

DONE, TASKS_FULL = 0, 1

# Without numba's reference counts, which would be taken for every array at every call.
_BARE: Any = {"cache": True, "nogil": True, "_nrt": False}
_loop: Any = numba.njit(**_BARE)
_piece: Any = numba.njit(forceinline=True, **_BARE)


class Plan(NamedTuple):
    """What the kinds of raw events mean.

    op : ndarray of uint8, shape (kinds,)
        Code of the operation, 255 where the event has no row.
    column : ndarray of int8, shape (kinds, slots)
        Column (of :data:`VALUE_COLUMNS`) for each value, -1 none.
    is_area : ndarray of bool, shape (kinds,)
        Returns of alloc_vmap_area, whose values tell failure in their own way.
    """

    op: Any
    column: Any
    is_area: Any


class Tasks(NamedTuple):
    """Table of tasks (open addressing), each an array of its size.

    key : int64, NONE free
    top : int64
        Slot of the innermost open call, NONE.
    depth : int64
        Number of open calls.
    before, before_seq : int64
        Row and `seq` of the task's previous event, if that is a page call without a pfn call.
    """

    key: Any
    top: Any
    depth: Any
    before: Any
    before_seq: Any


class Calls(NamedTuple):
    """Open calls, in slots that are used again.

    row : int64
        Row, NONE for a call folded into another; -2 in a free slot.
    seq, inside : int64
        `seq` of the entry, and the parent that calls inside it have.
    below : int64
        The call that it stands on (in a free slot: the next free one).
    kind : uint16
    ctx : uint8
    inner : uint8
        Whether a pfn call was folded into it.
    """

    row: Any
    seq: Any
    inside: Any
    below: Any
    kind: Any
    ctx: Any
    inner: Any


class Late(NamedTuple):
    """What came for a row that was given away, in the order in which it came.

    row_seq : int64
        `seq` of the row.
    seq : int64
        `seq` of the raw event.
    is_return : uint8
        1: the return; 0: the pfn call inside.
    raw : RAW_DTYPE
    """

    row_seq: Any
    seq: Any
    is_return: Any
    raw: Any


class Rows(NamedTuple):
    """Columns of the event table under construction, each an array over rows."""

    seq: Any
    ts: Any
    end_ts: Any
    end_seq: Any
    parent: Any
    values: Any  # shape (len(VALUE_COLUMNS), rows)
    pid: Any
    next_pid: Any
    comm: Any
    site: Any
    cpu: Any
    end_cpu: Any
    valid: Any
    ctx: Any
    op: Any
    blocked: Any


ROW_TYPES: Final = Rows(
    np.uint64,
    np.int64,
    np.int64,
    np.uint64,
    np.uint64,
    np.uint64,
    np.int32,
    np.int32,
    np.uint32,
    np.uint32,
    np.uint16,
    np.uint16,
    np.uint16,
    np.uint8,
    np.uint8,
    np.bool_,
)


def make_plan() -> Plan:
    """Plan for the functions of :mod:`collectors.probes`."""
    kinds = _SWITCH + 1
    op = np.full(kinds, _NO_OP, np.uint8)
    column = np.full((kinds, probes.SLOTS), NONE, np.int8)
    is_area = np.zeros(kinds, np.bool_)
    for code, function in enumerate(probes.FUNCTIONS):
        if function.op is None:
            continue
        op[2 * code : 2 * code + 2] = OP_CODE[function.op]
        is_area[2 * code + 1] = function.op == "area_alloc"
        for kind, names in ((2 * code, function.entry), (2 * code + 1, function.result)):
            for slot, name in enumerate(names):
                column[kind, slot] = _column(function.op, name)
    op[_SWITCH] = OP_CODE["switch"]
    return Plan(op, column, is_area)


def _column(op: str, name: str) -> int:
    """Code of the column for a value of a raw event, NONE if there is none."""
    if op == "area_free":
        name = {"va_start": "vaddr", "va_end": "end"}.get(name, "")
    elif name in {"count", "purged"}:
        name = "pages"
    return VALUE_COLUMNS.index(name) if name in VALUE_COLUMNS else NONE


def new_tasks(size: int) -> Tasks:
    """Table for `size` (a power of 2) tasks, half of which may be used."""
    return Tasks(*(np.full(size, NONE, np.int64) for _ in Tasks._fields))


def new_calls(size: int) -> Calls:
    """Slots for open calls."""
    wide = {name: np.empty(size, np.int64) for name in ("row", "seq", "inside", "below")}
    small = {name: np.empty(size, np.uint8) for name in ("ctx", "inner")}
    return Calls(**wide, **small, kind=np.empty(size, np.uint16))


def new_late(size: int) -> Late:
    """Room for late events."""
    return Late(
        np.empty(size, np.int64),
        np.empty(size, np.int64),
        np.empty(size, np.uint8),
        np.empty(size, RAW_DTYPE),
    )


def new_rows(size: int) -> Rows:
    """Room for rows."""
    return Rows(
        *(
            np.empty((len(VALUE_COLUMNS), size) if name == "values" else size, dtype)
            for name, dtype in zip(Rows._fields, ROW_TYPES, strict=True)
        )
    )


@_piece
def place_of(key: int, keys: Any) -> int:
    """Place of a task in its table: where it is, or the free one where it belongs."""
    mask = keys.shape[0] - 1
    h = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    at = np.int64(h >> np.uint64(33)) & mask
    while keys[at] not in (NONE, key):
        at = (at + 1) & mask
    return at


@_loop
def grow_tasks(old: Tasks, new: Tasks) -> None:
    """Move a table of tasks into a larger one."""
    for i in range(old.key.shape[0]):
        if old.key[i] != NONE:
            at = place_of(old.key[i], new.key)
            new.key[at] = old.key[i]
            new.top[at] = old.top[i]
            new.depth[at] = old.depth[i]
            new.before[at] = old.before[i]
            new.before_seq[at] = old.before_seq[i]


@_loop
def first_open_row(calls: Calls, cell: Any) -> int:
    """Row of the oldest open call whose row has not left; else the number of rows."""
    first = cell[ROWS]
    for i in range(cell[OPEN]):
        if cell[GONE] <= calls.row[i] < first:
            first = calls.row[i]
    return first


@_piece
def _set_values(rows: Rows, at: int, event: Any, kind: int, plan: Plan) -> None:
    """Copy the values of an event that the trace had to the columns of its row."""
    present = event.present
    for slot in range(plan.column.shape[1]):
        column = plan.column[kind, slot]
        if column >= 0 and present >> slot & 1 == 1:
            rows.values[column, at] = event.values[slot]
            rows.valid[at] |= 1 << column


@_piece
def _set_caller(rows: Rows, at: int, event: Any) -> None:
    """Note the call site: the function tracer gives it at entry, return probes at return."""
    if event.caller != 0:
        rows.values[_CALLER, at] = event.caller
        rows.valid[at] |= 1 << _CALLER
    if event.site != 0:
        rows.site[at] = event.site


@_piece
def _set_result(rows: Rows, at: int, event: Any, seq: int, kind: int, plan: Plan) -> None:
    """Complete a row by its return."""
    rows.end_ts[at] = event.ts
    rows.end_seq[at] = seq
    rows.end_cpu[at] = event.cpu
    rows.valid[at] |= HAS_END
    if plan.is_area[kind]:
        # The area's start, or 0 for an error pointer. A failed call's va_start is stale or 0
        # (the fetch faults): it is not believed.
        failed = event.present & 1 == 1 and event.values[0] >= _FIRST_ERROR
        if failed or event.present & 2 == 2:
            rows.values[_VADDR, at] = np.uint64(0) if failed else event.values[1]
            rows.valid[at] |= 1 << _VADDR
    else:
        _set_values(rows, at, event, kind, plan)
    _set_caller(rows, at, event)


@_piece
def _set_inner(rows: Rows, at: int, event: Any) -> None:
    """Take the frame from a folded pfn call."""
    if event.present & 1 == 1:
        rows.values[_PFN, at] = event.values[0]
        rows.valid[at] |= 1 << _PFN


@_piece
def _new_row(
    rows: Rows, cell: Any, event: Any, seq: int, kind: int, parent: int, known: Late, plan: Plan
) -> int:
    """Start a row with its first event; return its number."""
    row = cell[ROWS]
    cell[ROWS] += 1
    at = row - cell[BASE]
    rows.seq[at] = seq
    rows.ts[at] = event.ts
    rows.pid[at] = event.pid
    rows.comm[at] = event.comm
    rows.site[at] = 0
    rows.cpu[at] = event.cpu
    rows.ctx[at] = event.ctx
    rows.op[at] = plan.op[kind]
    rows.valid[at] = 0
    if kind == _SWITCH:
        rows.next_pid[at] = np.int32(np.int64(event.values[2]))
        rows.blocked[at] = event.values[1] != 0
        rows.valid[at] = IS_SWITCH | ENTRY_TRACED
        _set_caller(rows, at, event)
    elif kind & 1:
        _set_result(rows, at, event, seq, kind, plan)
    else:
        rows.valid[at] = ENTRY_TRACED
        if parent != NONE:
            rows.parent[at] = parent
            rows.valid[at] |= HAS_PARENT
        _set_values(rows, at, event, kind, plan)
        _set_caller(rows, at, event)
        while cell[KNOWN] < known.row_seq.shape[0] and known.row_seq[cell[KNOWN]] <= seq:
            i = cell[KNOWN]
            cell[KNOWN] += 1
            if known.row_seq[i] == seq and known.is_return[i] == 1:
                _set_result(rows, at, known.raw[i], known.seq[i], kind + 1, plan)
            elif known.row_seq[i] == seq:
                _set_inner(rows, at, known.raw[i])
    return row


@_piece
def _tell_late(late: Late, cell: Any, row_seq: int, event: Any, seq: int, is_return: int) -> None:
    """Note what came for a row that is gone."""
    at = cell[LATES]
    late.row_seq[at] = row_seq
    late.seq[at] = seq
    late.is_return[at] = is_return
    late.raw[at] = event
    cell[LATES] += 1


@_piece
def _pop_to(call: int, task: int, tasks: Tasks, calls: Calls, cell: Any) -> None:
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


@_piece
def _forget_oldest(task: int, tasks: Tasks, calls: Calls, cell: Any) -> None:
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


@_piece
def _push(
    task: int,
    row: int,
    seq: int,
    inside: int,
    kind: int,
    ctx: int,
    tasks: Tasks,
    calls: Calls,
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
    calls.below[at] = tasks.top[task]
    tasks.top[task] = at
    tasks.depth[task] += 1


@_piece
def _close_same_context(
    task: int, kind: int, ctx: int, tasks: Tasks, calls: Calls, cell: Any
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
            _pop_to(call, task, tasks, calls, cell)
            return
        call = calls.below[call]
        steps += 1


@_loop
def pair(
    raw: Any,
    first_seq: int,
    has_return: Any,
    plan: Plan,
    cell: Any,
    tasks: Tasks,
    calls: Calls,
    rows: Rows,
    late: Late,
    known: Late,
) -> int:
    """Carry a piece of the trace into the columns of the event table.

    Parameters
    ----------
    raw : ndarray of RAW_DTYPE, shape (n,)
        Raw events in trace order.
    first_seq : int
        `seq` of the first.
    has_return : ndarray of bool, shape (functions,)
        Whether the trace holds return events of a function at all.
    plan
        What the kinds mean.
    cell : ndarray of int64, shape (CELLS,)
        State; ``cell[POSITION]`` is where to begin.
    tasks, calls, rows, late
        State, with room for `n` more (but `tasks`).
    known
        Late events that an earlier pass over the trace met, sorted by `row_seq`.

    Returns
    -------
    int
        DONE, or TASKS_FULL: to be called again with a larger table of tasks.

    Notes
    -----
    A call of __kmap_local_pfn_prot directly inside one of __kmap_local_page_prot is the same
    operation (mm/highmem.c) and becomes no row of its own.
    """
    for i in range(cell[POSITION], raw.shape[0]):
        event = raw[i]
        kind = np.int64(event.kind)
        if kind > _SWITCH or plan.op[kind] == _NO_OP:
            continue
        seq = first_seq + i
        if kind == _SWITCH:
            _new_row(rows, cell, event, seq, kind, NONE, known, plan)
            continue
        key = np.int64(event.pid) if event.pid != 0 else _IDLE + event.cpu
        # NONE marks what is free: no key may be as small
        key = key if key >= 0 else key - 1
        task = place_of(key, tasks.key)
        if tasks.key[task] == NONE:
            if 2 * (cell[TASKS] + 1) > tasks.key.shape[0]:
                cell[POSITION] = i
                return TASKS_FULL
            tasks.key[task] = key
            tasks.depth[task] = 0
            cell[TASKS] += 1
        function = kind >> 1
        before = tasks.before[task]
        before_seq = tasks.before_seq[task]
        tasks.before[task] = NONE
        if kind & 1:
            call = tasks.top[task]
            steps = 0
            while call != NONE and calls.kind[call] >> 1 != function and steps < WALK:
                call = calls.below[call]
                steps += 1
            if call == NONE or calls.kind[call] >> 1 != function:
                _new_row(rows, cell, event, seq, kind, NONE, known, plan)
                continue
            row = calls.row[call]
            if row >= cell[GONE]:
                _set_result(rows, row - cell[BASE], event, seq, kind, plan)
            elif row >= 0:
                _tell_late(late, cell, calls.seq[call], event, seq, 1)
            _pop_to(call, task, tasks, calls, cell)
            continue
        if has_return[function]:
            _close_same_context(task, kind, event.ctx, tasks, calls, cell)
        top = tasks.top[task]
        parent = calls.inside[top] if top != NONE else NONE
        outer = np.int64(NONE)  # row that a pfn call is folded into
        outer_seq = np.int64(NONE)
        if function == _PFN_CALL:
            if top != NONE and calls.kind[top] >> 1 == _PAGE_CALL:
                if calls.inner[top] == 0:
                    calls.inner[top] = 1
                    outer, outer_seq = calls.row[top], calls.seq[top]
            elif not has_return[_PAGE_CALL]:
                outer, outer_seq = before, before_seq
        row = np.int64(NONE)
        inside = parent
        if outer == NONE:
            row = _new_row(rows, cell, event, seq, kind, parent, known, plan)
            inside = seq
        elif outer >= cell[GONE]:
            _set_inner(rows, outer - cell[BASE], event)
        else:
            _tell_late(late, cell, outer_seq, event, seq, 0)
        if has_return[function]:
            _push(task, row, seq, inside, kind, event.ctx, tasks, calls, cell)
        elif function == _PAGE_CALL:
            tasks.before[task] = row
            tasks.before_seq[task] = seq
    cell[POSITION] = raw.shape[0]
    return DONE
