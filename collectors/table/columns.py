"""What the pairing loop works on: columns of the event table, open calls, and what kinds mean."""

from __future__ import annotations

from functools import cache
from typing import Any, Final, NamedTuple

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
    "nr_lazy",
    "nr_lazy_max",
    "purged",
)
"""Columns of the event table that hold a value of a raw event; the position is its code."""

NONE = -1
NO_OP = 255
"""Code of an event that makes no row."""
_CPUS = 1 << 16
_FUNCTIONS = len(probes.FUNCTIONS)
_SWITCH = probes.KIND_SWITCH
_TLB_FLUSH = probes.TRACEPOINTS["tlb_flush"]
WALK = 64
"""How many open calls of a task a return looks through: nesting in the kernel is far below."""
WATCHED = ("area_alloc", "area_free", "area_purge", "vfree", "vunmap")
"""Operations of :attr:`KindTable.watched`."""
NULL_TELLS, ADDRESS_TELLS = 1, 2
"""Values of :attr:`KindTable.encloses`: whether a call returns the area itself, or its address."""
_ENCLOSES = {"area": NULL_TELLS, "vaddr": ADDRESS_TELLS}


class KindTable(NamedTuple):
    """What the kinds of raw events mean.

    op : ndarray of uint8, shape (kinds,)
        Code of the operation, 255 where the event has no row.
    column : ndarray of int8, shape (kinds, slots)
        Column (of :data:`VALUE_COLUMNS`) for each value, -1 none.
    is_area : ndarray of bool, shape (kinds,)
        Returns of alloc_vmap_area and pcpu_get_vm_areas, which are pointers to what holds the
        address.
    fifth : ndarray of bool, shape (kinds,)
        Tracepoints whose last value, the address of an area, stands where others have a caller.
    encloses : ndarray of uint8, shape (kinds,)
        Calls that an allocation of address space is made for, entry and return: whether the result
        tells of it (:mod:`collectors.table.areas`), 0 for others.
    watched : ndarray of bool, shape (kinds,)
        Operations that such calls are watched for: allocations, frees, purges.
    host : ndarray of int64, shape (functions,)
        For a tracepoint: the function that it is in, -1 for functions.
    is_host : ndarray of bool, shape (functions,)
        Functions that have a tracepoint.
    """

    op: Any
    column: Any
    is_area: Any
    fifth: Any
    encloses: Any
    watched: Any
    host: Any
    is_host: Any


class TaskTable(NamedTuple):
    """Table of tasks (open addressing), each an array of its size.

    key : int64, NONE free
    top : int64
        Slot of the innermost open call, NONE.
    depth : int64
        Number of open calls.
    before, before_seq, before_vaddr : int64
        Row and `seq` of the task's previous event, if that is a page call without a pfn call, or
        the return of a pfn call, and then its address.
    host, host_row, host_seq : int64
        The task's last call of a function with a tracepoint, where no return shows its end.
    tried, tried_row, tried_seq : int64
        What its last allocation asked for (a number), where only the tracepoint tells of it and of
        an attempt that failed: another one follows.
    """

    key: Any
    top: Any
    depth: Any
    before: Any
    before_seq: Any
    before_vaddr: Any
    host: Any
    host_row: Any
    host_seq: Any
    tried: Any
    tried_row: Any
    tried_seq: Any


class Last(NamedTuple):
    """Each CPU's last event, to which a stack trace belongs.

    row, seq : int64
        Row that it made or completed, NONE, and the `seq` of that.
    pid : int32
    lost : bool
        Whether events are missing before the next one of the CPU.
    """

    row: Any
    seq: Any
    pid: Any
    lost: Any


class OpenCalls(NamedTuple):
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
    purged : uint8
        Whether a purge ran in it (alloc_vmap_area).
    shown : uint8
        Whether a stack trace came inside it.
    area_row, area_seq, area_start : int64
        The allocation that was made for it and of which its return can tell: row, `seq` (NONE:
        there is none), and the area's start, 0 unknown.
    """

    row: Any
    seq: Any
    inside: Any
    below: Any
    kind: Any
    ctx: Any
    inner: Any
    purged: Any
    shown: Any
    area_row: Any
    area_seq: Any
    area_start: Any


class Late(NamedTuple):
    """What came for a row that was given away, in the order in which it came.

    row_seq : int64
        `seq` of the row.
    seq : int64
        `seq` of the raw event.
    what : uint8
        The pfn call inside, the return, the tracepoint inside, a stack trace, the return of the
        call that an allocation was made for, or the stack trace of an event inside.
    raw : RAW_DTYPE
    """

    row_seq: Any
    seq: Any
    what: Any
    raw: Any


class RowColumns(NamedTuple):
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
    duration: Any
    stack: Any
    inner: Any  # stack trace of an event inside
    reason: Any


ROW_TYPES: Final = RowColumns(
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
    np.uint32,
    np.uint8,
    np.uint8,
    np.bool_,
    np.int64,
    np.uint32,
    np.uint32,
    np.uint8,
)


@cache
def make_plan() -> KindTable:
    """Plan for the functions of :mod:`collectors.probes`; nobody writes to it."""
    kinds = _SWITCH + 1
    op = np.full(kinds, NO_OP, np.uint8)
    column = np.full((kinds, probes.SLOTS), NONE, np.int8)
    is_area, fifth = np.zeros(kinds, np.bool_), np.zeros(kinds, np.bool_)
    encloses = np.zeros(kinds, np.uint8)
    host = np.full(_FUNCTIONS, NONE, np.int64)
    is_host = np.zeros(_FUNCTIONS, np.bool_)
    for code, function in enumerate(probes.FUNCTIONS):
        if function.encloses:
            encloses[2 * code : 2 * code + 2] = _ENCLOSES[function.result[0]]
        if function.op is None:
            continue
        op[2 * code : 2 * code + 2] = OP_CODE[function.op]
        in_arena = function.op in {"area_alloc", "percpu_alloc"}
        is_area[2 * code + 1] = in_arena and not function.host
        if function.host:
            host[code] = probes.FUNCTION_OF[function.host]
            is_host[host[code]] = True
            fifth[2 * code + 1] = len(function.result) > probes.SLOTS
        for kind, names in ((2 * code, function.entry), (2 * code + 1, function.result)):
            for slot, name in enumerate(names[: probes.SLOTS]):
                column[kind, slot] = _column(function.op, name)
    op[_SWITCH] = OP_CODE["switch"]
    column[_TLB_FLUSH] = NONE  # has a code, and a number that stands for all pages
    watched = np.isin(op, [OP_CODE[name] for name in WATCHED])
    return KindTable(op, column, is_area, fifth, encloses, watched, host, is_host)


def _column(op: str, name: str) -> int:
    """Code of the column for a value of a raw event, NONE if there is none."""
    if op == "area_free":
        name = {"va_start": "vaddr", "va_end": "end", "va": ""}.get(name, name)
    elif name == "num_purged":
        name = "purged"
    elif name in {"count", "purged"}:
        name = "pages"
    return VALUE_COLUMNS.index(name) if name in VALUE_COLUMNS else NONE


def new_tasks(size: int) -> TaskTable:
    """Table for `size` (a power of 2) tasks, half of which may be used."""
    return TaskTable(*(np.full(size, NONE, np.int64) for _ in TaskTable._fields))


def new_last() -> Last:
    """Last events of all CPUs that there can be."""
    row, seq = (np.full(_CPUS, NONE, np.int64) for _ in range(2))
    return Last(row, seq, np.zeros(_CPUS, np.int32), np.zeros(_CPUS, np.bool_))


_WIDE: Final = ("row", "seq", "inside", "below", "area_row", "area_seq", "area_start")


def new_calls(size: int) -> OpenCalls:
    """Slots for open calls."""
    wide = {name: np.empty(size, np.int64) for name in _WIDE}
    small = {name: np.empty(size, np.uint8) for name in ("ctx", "inner", "purged", "shown")}
    return OpenCalls(**wide, **small, kind=np.empty(size, np.uint16))


def new_late(size: int) -> Late:
    """Room for late events."""
    return Late(
        np.empty(size, np.int64),
        np.empty(size, np.int64),
        np.empty(size, np.uint8),
        np.empty(size, RAW_DTYPE),
    )


def new_rows(size: int) -> RowColumns:
    """Room for rows."""
    return RowColumns(
        *(
            np.empty((len(VALUE_COLUMNS), size) if name == "values" else size, dtype)
            for name, dtype in zip(RowColumns._fields, ROW_TYPES, strict=True)
        )
    )
