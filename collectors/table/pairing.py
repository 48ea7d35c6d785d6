"""Pairing of entries and returns: the compiled loop behind :mod:`collectors.table.tabulate`.

Every task has a stack of calls that have entered and not yet returned; an interrupt's calls
stack on top of the interrupted task's, as they do in the kernel. A return closes the innermost
open call of its function; calls above it have lost their return.

Where events were lost while a call was open, its return may be missing, and the next one of its
function be that of another call. Then the next one tells that the call is over, and nothing else.

The loop takes a piece of the trace at a time and carries the open calls from piece to piece. It
writes the columns of the event table; a row that was given away already, because its call stayed
open for too long, gets its return through a list of its own (:class:`Late`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from collectors import probes
from collectors.compiled import loop, part, piece
from collectors.events import OP_CODE, REASONS
from collectors.table import areas
from collectors.table.columns import (
    ADDRESS_TELLS,
    NO_OP,
    NONE,
    VALUE_COLUMNS,
    WALK,
    KindTable,
    Last,
    Late,
    OpenCalls,
    RowColumns,
    TaskTable,
)
from collectors.table.open_calls import (
    GONE,
    INNER_STACKED,
    KNOWN,
    LOST,
    MASK,
    OPEN,
    POSITION,
    ROWS,
    TASKS,
    close_same_context,
    key_of,
    place_of,
    pop_to,
    push,
    show_outer,
    tell_late,
)

_SWITCH = probes.KIND_SWITCH
_LOSS = probes.KIND_LOST
_PAGE_CALL = probes.FUNCTION_OF["__kmap_local_page_prot"]
_PFN_CALL = probes.FUNCTION_OF["__kmap_local_pfn_prot"]
_PFN, _PAGES, _CALLER, _PURGED = (
    VALUE_COLUMNS.index(name) for name in ("pfn", "pages", "caller", "purged")
)
_STACK = probes.KIND_STACK
_TLB_FLUSH = probes.TRACEPOINTS["tlb_flush"]
NO_REASON = len(REASONS)
"""Code of a reason that the kernel did not give, or that hmtrace does not know."""
NO_DURATION = -1
_ALL_PAGES = 0xFFFF_FFFF  # TLB_FLUSH_ALL is -1 (include/linux/mm_types.h)
_NEXT = 4  # bit of `present`: a switch tells the next task
_OF_LOCAL = OP_CODE["kmap_local"]
_ALLOC = probes.FUNCTION_OF["alloc_vmap_area"]

# Bits of Rows.valid; the first are those of VALUE_COLUMNS.
HAS_END = 1 << 16
HAS_PARENT = 1 << 17
IS_SWITCH = 1 << 18
ENTRY_TRACED = 1 << 19
_LATE_STACK = 1 << 20  # known from an earlier pass: that of the return, unless the entry has one
# 3 << areas.LEVEL_SHIFT: what told whether an allocation found an area

# What a late event is.
_INNER, _RETURN, _NOTE, STACKED = 0, 1, 2, 3
_NOT_PURGED = False
_PURGED_RETURN, _CALLER_RETURN = 4, 5  # a purge ran in the call; what its caller returned
_OVER = 7  # a return that may be of a later call

DONE, TASKS_FULL = 0, 1


@loop
def count_kinds(raw: Any, counts: Any) -> None:
    """Count the raw events of each kind; those beyond the end of `counts` in its last cell."""
    last = len(counts) - 1
    for i in range(raw.shape[0]):
        counts[min(np.int64(raw[i].kind), last)] += 1


@loop
def grow_tasks(old: TaskTable, new: TaskTable) -> None:
    """Move a table of tasks into a larger one."""
    for i in range(old.key.shape[0]):
        if old.key[i] != NONE:
            at = place_of(old.key[i], new.key)
            new.key[at] = old.key[i]
            new.top[at] = old.top[i]
            new.depth[at] = old.depth[i]
            new.before[at] = old.before[i]
            new.before_seq[at] = old.before_seq[i]
            new.before_vaddr[at] = old.before_vaddr[i]
            new.host[at] = old.host[i]
            new.host_row[at] = old.host_row[i]
            new.host_seq[at] = old.host_seq[i]
            new.tried[at] = old.tried[i]
            new.tried_row[at] = old.tried_row[i]
            new.tried_seq[at] = old.tried_seq[i]


@loop
def first_open_row(calls: OpenCalls, cell: Any) -> int:
    """Row of the oldest open call whose row has not left; else the number of rows."""
    first = cell[ROWS]
    for i in range(cell[OPEN]):
        if cell[GONE] <= calls.row[i] < first:
            first = calls.row[i]
    return first


@piece
def _set_values(rows: RowColumns, at: int, event: Any, kind: int, plan: KindTable) -> None:
    """Copy the values of an event that the trace had to the columns of its row."""
    present = event.present
    for slot in range(plan.column.shape[1]):
        column = plan.column[kind, slot]
        if column >= 0 and present >> slot & 1 == 1:
            rows.values[column, at] = event.values[slot]
            rows.valid[at] |= 1 << column


@piece
def _set_caller(rows: RowColumns, at: int, event: Any) -> None:
    """Note the call site: the function tracer gives it at entry, return probes at return."""
    if event.caller != 0:
        rows.values[_CALLER, at] = event.caller
        rows.valid[at] |= 1 << _CALLER
    if event.site != 0:
        rows.site[at] = event.site


@piece
def _set_over(rows: RowColumns, at: int, event: Any, seq: int) -> None:
    """Note when a call is known to be over."""
    rows.end_ts[at] = event.ts
    rows.end_seq[at] = seq
    rows.end_cpu[at] = event.cpu
    rows.valid[at] |= HAS_END


@piece
def _set_result(
    rows: RowColumns,
    at: int,
    event: Any,
    seq: int,
    kind: int,
    purged: bool,  # noqa: FBT001
    plan: KindTable,
) -> None:
    """Complete a row by its return; `purged`: a purge ran in the call."""
    if rows.valid[at] & HAS_END and rows.end_seq[at] > seq:
        return  # of a further return an earlier pass told, which came when the row was gone
    _set_over(rows, at, event, seq)
    if plan.is_area[kind]:
        failed = areas.set_returned(rows, at, event, kind, purged)
        if not failed:  # what is behind an error pointer is not believed
            _set_values(rows, at, event, kind, plan)
    else:
        _set_values(rows, at, event, kind, plan)
    if plan.fifth[kind]:
        areas.set_attempt(rows, at, event)
    else:
        _set_caller(rows, at, event)
    if event.present & 8 and plan.column[kind, 3] == NONE:  # function_graph: its last value
        rows.duration[at] = np.int64(event.values[3])
    purged = rows.values[_PURGED, at]
    if rows.valid[at] & (1 << _PURGED) and not rows.valid[at] & (1 << _PAGES):
        rows.values[_PAGES, at] = 1 if purged > 0 else 0
        rows.valid[at] |= 1 << _PAGES


@piece
def _set_note(rows: RowColumns, at: int, event: Any, seq: int, kind: int, plan: KindTable) -> None:
    """Take from the tracepoint in a call what its probes do not show."""
    for slot in range(plan.column.shape[1]):
        column = plan.column[kind, slot]
        if column >= 0 and event.present >> slot & 1 and not rows.valid[at] >> column & 1:
            rows.values[column, at] = event.values[slot]
            rows.valid[at] |= 1 << column
    if plan.fifth[kind]:
        areas.set_attempt(rows, at, event)
        if not rows.valid[at] & ENTRY_TRACED:  # the next attempt of a call that no probe shows
            _set_over(rows, at, event, seq)


@piece
def _set_flush(rows: RowColumns, at: int, event: Any) -> None:
    """Take reason and pages of a tlb:tlb_flush."""
    if event.present & 1 and event.values[0] < NO_REASON:
        rows.reason[at] = event.values[0]
    if event.present & 2 and event.values[1] < _ALL_PAGES:
        rows.values[_PAGES, at] = event.values[1]
        rows.valid[at] |= 1 << _PAGES


@piece
def _set_stack(rows: RowColumns, last: Last, cell: Any, event: Any, seq: int, late: Late) -> None:
    """Give a stack trace to the row of its CPU's last event."""
    row = last.row[event.cpu]
    if row < 0 or last.pid[event.cpu] != event.pid:
        return
    if row < cell[GONE]:
        tell_late(late, cell, last.seq[event.cpu], event, seq, STACKED)
        return
    at = row & cell[MASK]
    if rows.stack[at] == 0 or rows.valid[at] & _LATE_STACK:
        rows.stack[at] = event.values[0]
        rows.valid[at] &= ~_LATE_STACK


@piece
def _set_inner(rows: RowColumns, at: int, event: Any) -> None:
    """Take the frame from a folded pfn call."""
    if event.present & 1 == 1:
        rows.values[_PFN, at] = event.values[0]
        rows.valid[at] |= 1 << _PFN


@piece
def _new_row(
    rows: RowColumns,
    cell: Any,
    event: Any,
    seq: int,
    kind: int,
    parent: int,
    known: Late,
    plan: KindTable,
) -> int:
    """Start a row with its first event; return its number."""
    row = cell[ROWS]
    cell[ROWS] += 1
    at = row & cell[MASK]
    rows.seq[at] = seq
    rows.ts[at] = event.ts
    rows.pid[at] = event.pid
    rows.comm[at] = event.comm
    rows.site[at] = 0
    rows.cpu[at] = event.cpu
    rows.ctx[at] = event.ctx
    rows.op[at] = plan.op[kind]
    rows.duration[at] = NO_DURATION
    rows.stack[at] = 0
    rows.inner[at] = 0
    rows.reason[at] = NO_REASON
    rows.valid[at] = 0
    if kind == _SWITCH:
        rows.next_pid[at] = np.int32(np.int64(event.values[2]))
        rows.blocked[at] = event.values[1] != 0
        rows.valid[at] = ENTRY_TRACED
        if event.present & _NEXT:
            rows.valid[at] |= IS_SWITCH
        _set_caller(rows, at, event)
    elif kind & 1:
        _set_result(rows, at, event, seq, kind, _NOT_PURGED, plan)
    else:
        rows.valid[at] = ENTRY_TRACED
        if parent != NONE:
            rows.parent[at] = parent
            rows.valid[at] |= HAS_PARENT
        _set_values(rows, at, event, kind, plan)
        _set_caller(rows, at, event)
        if kind == _TLB_FLUSH:
            _set_flush(rows, at, event)
    while cell[KNOWN] < known.row_seq.shape[0] and known.row_seq[cell[KNOWN]] <= seq:
        i = cell[KNOWN]
        cell[KNOWN] += 1
        if known.row_seq[i] != seq:
            continue
        what = known.what[i]
        late_kind = np.int64(known.raw[i].kind)
        if what in (_RETURN, _PURGED_RETURN):
            purged = what == _PURGED_RETURN
            _set_result(rows, at, known.raw[i], known.seq[i], kind | 1, purged, plan)
        elif what == _OVER:
            _set_over(rows, at, known.raw[i], known.seq[i])
        elif what == _NOTE:
            _set_note(rows, at, known.raw[i], known.seq[i], late_kind, plan)
        elif what == _CALLER_RETURN:
            areas.set_caller_returned(rows, at, known.raw[i], plan.encloses[late_kind])
        elif what == STACKED and rows.stack[at] == 0:
            rows.stack[at] = known.raw[i].values[0]
            rows.valid[at] |= _LATE_STACK
        elif what == INNER_STACKED:
            rows.inner[at] = known.raw[i].values[0]
        elif what == _INNER:
            _set_inner(rows, at, known.raw[i])
    return row


@piece
def _end(
    rows: RowColumns, cell: Any, calls: OpenCalls, call: int, event: Any, seq: int, late: Late
) -> None:
    """Tell a call that it is over by a return that may be of another one."""
    row = calls.row[call]
    if row >= cell[GONE]:
        _set_over(rows, row & cell[MASK], event, seq)
    elif row >= 0:
        tell_late(late, cell, calls.seq[call], event, seq, _OVER)


@part
def _settle_inner(
    rows: RowColumns,
    cell: Any,
    calls: OpenCalls,
    call: int,
    event: Any,
    seq: int,
    kind: int,
    plan: KindTable,
    late: Late,
) -> None:
    """Let what a call returns tell of the allocation that was made for it."""
    row, row_seq = calls.area_row[call], calls.area_seq[call]
    if row < cell[GONE]:
        tell_late(late, cell, row_seq, event, seq, _CALLER_RETURN)
    else:
        areas.set_caller_returned(rows, row & cell[MASK], event, plan.encloses[kind])
    outer = calls.below[call]
    told = plan.encloses[kind] == ADDRESS_TELLS or event.values[0] == 0
    if not told and outer != NONE and calls.area_seq[outer] == NONE:
        calls.area_row[outer], calls.area_seq[outer] = row, row_seq
        calls.area_start[outer] = calls.area_start[call]


@piece
def _vaddr(event: Any) -> Any:
    """Address that a call of kmap_local returned, NONE if that was not traced."""
    return np.int64(event.values[0]) if event.present & 1 else np.int64(NONE)


@piece
def _same_address(event: Any, vaddr: int) -> bool:
    """Whether a call of kmap_local returned what another did."""
    return vaddr != NONE and _vaddr(event) == vaddr


@loop
def pair(
    raw: Any,
    first_seq: int,
    has_return: Any,
    plan: KindTable,
    cell: Any,
    tasks: TaskTable,
    last: Last,
    calls: OpenCalls,
    rows: RowColumns,
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
    tasks, last, calls, rows, late
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
    operation (mm/highmem.c) and becomes no row of its own; nor does the return of a page call whose
    entry was not traced, right behind the return of a pfn call that gave the same address. Nor does
    the event of a tracepoint in a call of its function; of several in one call (alloc_vmap_area has
    one per attempt) the first tells what the call's probes did not.
    """
    for i in range(cell[POSITION], raw.shape[0]):
        event = raw[i]
        kind = np.int64(event.kind)
        seq = first_seq + i
        if kind == _STACK:
            _set_stack(rows, last, cell, event, seq, late)
            show_outer(rows, tasks, calls, cell, event, seq, late)
            continue
        last.row[event.cpu] = NONE
        last.seq[event.cpu] = seq
        last.pid[event.cpu] = event.pid
        if kind == _LOSS or last.lost[event.cpu]:
            cell[LOST] = seq  # until that CPU has an event again
            last.lost[event.cpu] = kind == _LOSS
        if kind > _SWITCH or (plan.op[kind] == NO_OP and plan.encloses[kind] == 0):
            continue
        if kind == _SWITCH:
            last.row[event.cpu] = _new_row(rows, cell, event, seq, kind, NONE, known, plan)
            continue
        key = key_of(event)
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
        before_vaddr = tasks.before_vaddr[task]
        tasks.before[task] = NONE
        if before_seq < cell[LOST]:
            before = np.int64(NONE)
        if tasks.host_seq[task] < cell[LOST]:
            tasks.host[task] = NONE
        if tasks.tried_seq[task] < cell[LOST]:
            tasks.tried[task] = NONE
        if kind & 1:
            host = plan.host[function]
            wanted = host if host >= 0 else function
            call = tasks.top[task]
            steps = 0
            while call != NONE and calls.kind[call] >> 1 != wanted and steps < WALK:
                call = calls.below[call]
                steps += 1
            row = row_seq = np.int64(NONE)
            is_open = call != NONE and calls.kind[call] >> 1 == wanted
            tried = np.int64(NONE)  # what an attempt of which only the tracepoint tells asked for
            if plan.fifth[kind]:
                tried = areas.request_key(event)
            if is_open and calls.seq[call] < cell[LOST]:
                if host < 0:
                    if plan.op[kind] != _OF_LOCAL:  # where it stands on the stack is not known
                        _end(rows, cell, calls, call, event, seq, late)
                    pop_to(call, task, tasks, calls, cell)
                continue
            if is_open:
                row, row_seq = calls.row[call], calls.seq[call]
            elif host >= 0 and tasks.host[task] == host:
                row, row_seq = tasks.host_row[task], tasks.host_seq[task]
                tasks.host[task] = NONE
            elif function == _PAGE_CALL and before >= 0 and _same_address(event, before_vaddr):
                # Its entry was not traced: its probe was set meanwhile, or the event was lost. The
                # pfn call in it has just returned; no task has two mappings at one address.
                row, row_seq = before, before_seq
            elif tried != NONE and tasks.tried[task] == tried:
                row, row_seq = tasks.tried_row[task], tasks.tried_seq[task]
                tasks.tried[task] = tried = np.int64(NONE)
            elif plan.op[kind] == NO_OP:
                continue
            purged = is_open and calls.purged[call] == 1
            if row_seq < 0:
                row = _new_row(rows, cell, event, seq, kind, NONE, known, plan)
                if plan.watched[kind]:
                    areas.see(calls, tasks.top[task], row, seq, event, kind, plan.op[kind])
            elif row < 0:
                pass  # folded into another, or of no operation
            elif row < cell[GONE]:
                what = _NOTE if host >= 0 else _PURGED_RETURN if purged else _RETURN
                tell_late(late, cell, row_seq, event, seq, what)
            elif host >= 0:
                _set_note(rows, row & cell[MASK], event, seq, kind, plan)
            else:
                _set_result(rows, row & cell[MASK], event, seq, kind, purged, plan)
            own_seq = row_seq if row_seq >= 0 else seq
            if wanted == _ALLOC:
                top = calls.below[call] if is_open else tasks.top[task]
                areas.hear(calls, top, own_seq, event, host >= 0)
            if tried != NONE and not is_open:
                failed = areas.attempt_failed(event)
                tasks.tried[task] = tried if failed else NONE
                tasks.tried_row[task] = row
                tasks.tried_seq[task] = own_seq
            last.row[event.cpu] = row
            if row_seq >= 0:
                last.seq[event.cpu] = row_seq
            if host < 0 and is_open:
                if plan.encloses[kind] and calls.area_seq[call] != NONE and event.present & 1:
                    _settle_inner(rows, cell, calls, call, event, seq, kind, plan, late)
                pop_to(call, task, tasks, calls, cell)
            # Whether page calls return may be seen only behind this piece.
            if function == _PFN_CALL and row >= 0 and _vaddr(event) != NONE:
                tasks.before[task] = row
                tasks.before_seq[task] = row_seq if row_seq >= 0 else seq
                tasks.before_vaddr[task] = _vaddr(event)
            continue
        if has_return[function]:
            close_same_context(task, kind, event.ctx, tasks, calls, cell)
        top = tasks.top[task]
        if top != NONE and calls.seq[top] < cell[LOST]:
            top = np.int64(NONE)  # it may be over
        parent = calls.inside[top] if top != NONE else NONE
        if function == _ALLOC:
            tasks.tried[task] = NONE
        outer = np.int64(NONE)  # row that a pfn call is folded into
        outer_seq = np.int64(NONE)
        if function == _PFN_CALL:
            if top != NONE and calls.kind[top] >> 1 == _PAGE_CALL:
                if calls.inner[top] == 0:
                    calls.inner[top] = 1
                    outer, outer_seq = calls.row[top], calls.seq[top]
            elif not has_return[_PAGE_CALL] and before_vaddr == NONE:
                outer, outer_seq = before, before_seq
        row = np.int64(NONE)
        inside = parent
        if plan.op[kind] == NO_OP:
            pass  # followed for what it returns
        elif outer == NONE:
            row = _new_row(rows, cell, event, seq, kind, parent, known, plan)
            if plan.watched[kind]:
                areas.see(calls, top, row, seq, event, kind, plan.op[kind])
            inside = seq
        elif outer >= cell[GONE]:
            _set_inner(rows, outer & cell[MASK], event)
        else:
            tell_late(late, cell, outer_seq, event, seq, _INNER)
        last.row[event.cpu] = row if row >= 0 else outer
        if row < 0 and outer != NONE:
            last.seq[event.cpu] = outer_seq
        if has_return[function]:
            push(task, row, seq, inside, kind, event.ctx, tasks, calls, cell)
        elif function == _PAGE_CALL:
            tasks.before[task] = row
            tasks.before_seq[task] = seq
            tasks.before_vaddr[task] = NONE
        elif plan.is_host[function]:
            tasks.host[task] = function
            tasks.host_row[task] = row
            tasks.host_seq[task] = seq
    cell[POSITION] = raw.shape[0]
    return DONE
