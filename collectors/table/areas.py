"""Whether an allocation of virtual address space found an area (compiled parts of pairing).

alloc_vmap_area() returns a pointer to the area, or an error pointer. A probe that only follows the
pointer cannot tell: the fetch of a failed call's fields faults, and the event shows 0 (up to 5.10)
or what the ring buffer held before (kernel/trace/trace_probe_tmpl.h). So everything that a trace
tells of the call is weighed, the best evidence first (`TOLD_*`): the returned pointer or the
tracepoint of an attempt that found room; what the call that it was made for returned; an attempt
of which the tracepoint says that it failed; the address itself, which a failed call has outside
what was asked for.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from collectors import probes
from collectors.compiled import part, piece
from collectors.events import OP_CODE
from collectors.raw import FAULT
from collectors.records import dataclass
from collectors.table.columns import (
    ADDRESS_TELLS,
    NONE,
    VALUE_COLUMNS,
    WALK,
    WATCHED,
    OpenCalls,
    RowColumns,
)

_VADDR, _SIZE, _ALIGN, _START, _END = (
    VALUE_COLUMNS.index(name) for name in ("vaddr", "size", "align", "start", "end")
)
_HAS_VADDR = 1 << _VADDR
_HAS_REQUEST = 1 << _SIZE | 1 << _START | 1 << _END
_FIRST_ERROR, _LAST_ERROR = 0xFFFF_F001, 0xFFFF_FFFF
"""ERR_PTR(-MAX_ERRNO) and on: addresses here are error codes (include/linux/err.h)."""
_FIRST_WIDE_ERROR = np.uint64((1 << 64) - 4095)
_PAGE_MASK = 0xFFF  # the smallest page of all architectures
_ALLOC: Final = probes.FUNCTION_OF["alloc_vmap_area"]
_OF_ALLOC, _OF_FREE, _OF_PURGE, _OF_VFREE, _OF_VUNMAP = (OP_CODE[op] for op in WATCHED)
_OF_PERCPU = OP_CODE["percpu_alloc"]

# What told the verdict, in two bits of Rows.valid: of less weight does not overrule it.
LEVEL_SHIFT = 21
TOLD_ADDRESS, TOLD_ATTEMPT, TOLD_CALLER, TOLD_SURE = 0, 1, 2, 3


@piece
def _is_error(pointer: Any) -> bool:
    """Whether a pointer that was returned is none: NULL, or an error code of 32 or 64 bits."""
    wide = pointer >= _FIRST_WIDE_ERROR
    return bool(pointer == 0 or (_FIRST_ERROR <= pointer <= _LAST_ERROR) or wide)


@dataclass
class Verdicts:
    """How many allocations the table's columns do not tell all of.

    Attributes
    ----------
    unsure
        Nothing but an address that fits tells that they did not fail.
    found
        They did not fail, and the address is not told.
    """

    unsure: int = 0
    found: int = 0

    def add(self, rows: RowColumns) -> None:
        """Take rows that are complete."""
        at = np.flatnonzero((rows.op == _OF_ALLOC) | (rows.op == _OF_PERCPU))
        if not len(at):
            return
        valid = rows.valid[at]
        level, told = valid >> LEVEL_SHIFT & 3, (valid & _HAS_VADDR) != 0
        by_address = told & (level == TOLD_ADDRESS) & (rows.values[_VADDR, at] != 0)
        self.unsure += int(by_address.sum())
        self.found += int((~told & (level >= TOLD_CALLER)).sum())


@piece
def _settle(rows: RowColumns, at: int, level: int, vaddr: Any) -> None:
    """Write a verdict down, the address or 0 where there is none, unless a better one stands."""
    if level >= np.int64(rows.valid[at] >> LEVEL_SHIFT & 3):
        rows.valid[at] &= ~np.uint32(3 << LEVEL_SHIFT)
        rows.valid[at] |= np.uint32(_HAS_VADDR | level << LEVEL_SHIFT)
        rows.values[_VADDR, at] = vaddr


@piece
def _settle_unknown(rows: RowColumns, at: int, level: int) -> None:
    """Write down that there is no telling the address, unless something better stands."""
    if level >= np.int64(rows.valid[at] >> LEVEL_SHIFT & 3):
        rows.valid[at] &= ~np.uint32(_HAS_VADDR | 3 << LEVEL_SHIFT)
        rows.valid[at] |= np.uint32(level << LEVEL_SHIFT)


@piece
def _fits(rows: RowColumns, at: int, event: Any) -> bool:
    """Whether an area's fields can be what the call asked for."""
    first = event.values[1]
    if first == 0 or first & _PAGE_MASK:
        return False
    has_end = event.present & 4 == 4
    if has_end and event.values[2] <= first:
        return False
    if rows.valid[at] & _HAS_REQUEST != _HAS_REQUEST:
        return True
    size, start = rows.values[_SIZE, at], rows.values[_START, at]
    end = rows.values[_END, at]
    if start >= end or size == 0 or size > end - start:  # the arguments were not read right
        return True
    if has_end and event.values[2] - first != size:
        return False
    if rows.valid[at] & (1 << _ALIGN):
        align = rows.values[_ALIGN, at]
        if align & (align - np.uint64(1)) == 0 and first & (align - np.uint64(1)) != 0:
            return False
    return bool(start <= first <= end - size)


@part
def set_returned(rows: RowColumns, at: int, event: Any, kind: int, purged: bool) -> bool:  # noqa: FBT001
    """Take what the return of alloc_vmap_area() or pcpu_get_vm_areas() shows.

    Parameters
    ----------
    rows, at
        The call's row.
    event
        The return: the pointer, and the area's fields behind it.
    kind
        Of the event.
    purged
        Whether a purge ran in the call: only its second attempt can have found room.

    Returns
    -------
    bool
        Whether it found none.
    """
    if event.present & 1 == 1:
        failed = _is_error(event.values[0])
        if failed:
            _settle(rows, at, TOLD_SURE, np.uint64(0))
        elif event.present & 2 == 2:
            _settle(rows, at, TOLD_SURE, event.values[1])
        else:  # an area, of which the address is not told
            told = rows.valid[at] & _HAS_VADDR and rows.values[_VADDR, at] != 0
            if not told:
                _settle_unknown(rows, at, TOLD_SURE)
        return failed
    if event.present & FAULT:
        _settle(rows, at, TOLD_SURE, np.uint64(0))
        return True
    if event.present & 2 == 0:
        return False
    fits = _fits(rows, at, event) if kind >> 1 == _ALLOC else event.values[1] != 0
    if fits:
        if purged:  # and the second attempt may have failed as well
            _settle_unknown(rows, at, TOLD_ADDRESS)
        else:
            _settle(rows, at, TOLD_ADDRESS, event.values[1])
    else:
        _settle(rows, at, TOLD_ADDRESS, np.uint64(0))
    return not fits


@piece
def attempt_failed(event: Any) -> bool:
    """Whether the tracepoint of alloc_vmap_area() tells of an attempt that found no room.

    It shows the range's end then, or an error code (mm/vmalloc.c of 6.12 and 7.2), and `failed=1`.
    """
    beyond = event.present & 8 == 8 and event.caller >= event.values[3]
    return bool(event.present & FAULT or (event.caller != 0 and beyond))


@part
def set_attempt(rows: RowColumns, at: int, event: Any) -> None:
    """Take the area's start from the tracepoint of alloc_vmap_area(); 0 where it found none."""
    if attempt_failed(event):
        _settle(rows, at, TOLD_ATTEMPT, np.uint64(0))
    elif event.caller != 0:
        _settle(rows, at, TOLD_SURE, event.caller)


@part
def set_caller_returned(rows: RowColumns, at: int, event: Any, encloses: int) -> None:
    """Take what the call that the allocation was made for returned.

    vmap() and its like return the address of their area, or NULL where there is none. That they
    have none for want of memory is not seen here: the area is given back before they return.
    """
    result = event.values[0]
    failed = _is_error(result)
    if rows.valid[at] >> LEVEL_SHIFT & 3 == TOLD_SURE:  # there, and the address was not told
        if not failed and encloses == ADDRESS_TELLS and not rows.valid[at] & _HAS_VADDR:
            _settle(rows, at, TOLD_SURE, result)
    elif failed:
        _settle(rows, at, TOLD_CALLER, np.uint64(0))
    elif encloses == ADDRESS_TELLS:
        _settle(rows, at, TOLD_CALLER, result)
    elif rows.valid[at] & _HAS_VADDR and rows.values[_VADDR, at] == 0:
        _settle_unknown(rows, at, TOLD_CALLER)


@piece
def watch(calls: OpenCalls, call: int, row: int, seq: int) -> None:
    """Note the allocation that was made for a call, whose return will tell of it."""
    if call != NONE:
        calls.area_row[call] = row
        calls.area_seq[call] = seq
        calls.area_start[call] = 0


@part
def hear(calls: OpenCalls, top: int, seq: int, event: Any, fifth: bool) -> None:  # noqa: FBT001
    """Go on watching an allocation only as long as its caller's return can tell more of it.

    Parameters
    ----------
    calls, top
        Open calls, the innermost that the allocation may have been made for.
    seq
        The allocation's row.
    event, fifth
        Its return, or its tracepoint.
    """
    call = top
    for _ in range(WALK):
        if call == NONE or calls.area_seq[call] == seq:
            break
        call = calls.below[call]
    if call == NONE or calls.area_seq[call] != seq:
        return
    if fifth:
        if event.caller != 0 and not attempt_failed(event):
            calls.area_seq[call] = NONE
    elif event.present & FAULT:
        calls.area_seq[call] = NONE
    elif event.present & 1:
        if event.present & 2 or _is_error(event.values[0]):
            calls.area_seq[call] = NONE
    elif event.present & 2:
        calls.area_start[call] = np.int64(event.values[1])


@part
def forget_freed(calls: OpenCalls, top: int, event: Any, slot: int) -> None:
    """An area that is given back was there: its caller returns NULL for another reason.

    What a purge in alloc_vmap_area() gives back is not the area that it was called for.
    """
    known = event.present >> slot & 1 == 1
    start = np.int64(event.values[slot]) if known else np.int64(0)
    if known and start == 0:  # vfree(NULL)
        return
    call = top
    own = np.int64(NONE)
    for _ in range(WALK):
        if call == NONE:
            return
        if calls.kind[call] >> 1 == _ALLOC:
            own = calls.seq[call]
        area = calls.area_seq[call]
        has = calls.area_start[call]
        if area != NONE and area != own and (has == 0 or start == 0 or has == start):  # noqa: PLR1714
            calls.area_seq[call] = NONE
        call = calls.below[call]


@part
def note_purge(calls: OpenCalls, top: int) -> None:
    """A purge in alloc_vmap_area() is made where its first attempt failed (mm/vmalloc.c)."""
    call = top
    for _ in range(WALK):
        if call == NONE:
            return
        if calls.kind[call] >> 1 == _ALLOC:
            calls.purged[call] = 1
            return
        call = calls.below[call]


@part
def request_key(event: Any) -> int:
    """A number for what an attempt asks for: the next attempt of the same call has the same."""
    key = np.uint64(0)
    for slot in range(4):
        key = (key ^ event.values[slot]) * np.uint64(0x9E3779B97F4A7C15)
    return int(key >> np.uint64(1))


@part
def see(calls: OpenCalls, top: int, row: int, seq: int, event: Any, kind: int, op: int) -> None:
    """Tell the open calls of a task of a new row that is made by an event of its own."""
    if op == _OF_FREE:
        host_slot = 0 if kind & 1 else 1
        forget_freed(calls, top, event, host_slot)
    elif op in (_OF_VFREE, _OF_VUNMAP):
        forget_freed(calls, top, event, 0)
    elif op == _OF_PURGE:
        note_purge(calls, top)
    elif op == _OF_ALLOC:
        watch(calls, top, row, seq)
