"""The compiled loop that makes raw events of records. Import only from functions that decode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from collectors.compiled import loop
from collectors.traceevent.loads import extend, load, u8, u32

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Columns of a plan: how rows are made from the records of one event.
PLAN_KIND = 0
PLAN_PID = 1
PLAN_FLAGS = 2
PLAN_PREEMPT = 3
PLAN_CALLER = 4
PLAN_CALLER_SIZE = 5
PLAN_VALUE = 6  # four times: offset (-1 none), size, signed, mask (0: the value itself)
PLAN_COLUMNS = 6 + 4 * 4


@loop
def fill_rows(
    base_of: NDArray[np.int64],
    shift: int,
    big: bool,  # noqa: FBT001
    order: NDArray[np.int64],
    ts: NDArray[np.int64],
    at: NDArray[np.int64],
    cpu: NDArray[np.uint16],
    plan_of: NDArray[np.int32],
    plans: NDArray[np.int64],
    comm_of: NDArray[np.int32],
    lost_kind: int,
    switch_kind: int,
    words: NDArray[np.int64],
) -> tuple[int, int, int]:
    """Take from each record, in the order of the merged trace, what its row needs.

    Parameters
    ----------
    base_of : ndarray of int64
        Address of the bytes that `at` counts in, for each block of 1 << shift records.
    shift : int
        As :func:`collectors.tracecmd_dat.weaving.merge` has it.
    big : bool
        Endianness of the records.
    order : ndarray of int64, shape (n,)
        Positions in the next four, by time.
    ts, at, cpu, plan_of : ndarray of int64, int64, uint16, int32
        As the walk listed them, stamps corrected.
    plans : ndarray of int64, shape (plans, PLAN_COLUMNS)
        What to take, per plan.
    comm_of : ndarray of int32
        Index of a task's name by pid; 0 and less is given as 1 (unknown), as is a pid beyond its
        end.
    lost_kind, switch_kind : int
        Kinds of loss markers and of switches, whose values 0 and 2 are tasks.
    words : ndarray of int64, shape (n, 9)
        Rows of :data:`collectors.raw.RAW_DTYPE` as 64-bit words, little-endian: ts, four
        values, caller, pid and comm, site (0) with kind and cpu, ctx and present.

    Returns
    -------
    nameless, strangers, more : int
        Rows whose task's name is unknown; tasks in switches of which nothing is known; rows of
        kinds above `switch_kind`, to which more belongs than a row holds.
    """
    nameless = 0
    strangers = 0
    more = 0
    for row in range(len(order)):
        source = order[row]
        start = at[source]
        plan = plans[plan_of[source]]
        words[row, 0] = ts[source]
        words[row, 7] = plan[PLAN_KIND] << 32 | np.int64(cpu[source]) << 48
        if plan[PLAN_KIND] == lost_kind:
            known = np.int64(start >= 0)
            words[row, 1] = start * known
            words[row, 2:7] = 0
            words[row, 8] = 128 | known << 8
            continue
        more += plan[PLAN_KIND] > switch_kind
        base = base_of[source >> shift]
        task, comm = np.int64(0), np.int64(0)
        if plan[PLAN_PID] >= 0:
            task = extend(u32(base, start + plan[PLAN_PID], big), 4)
            if 0 <= task < len(comm_of):
                comm = np.int64(comm_of[task])
            if comm <= 0:
                comm = np.int64(1)
                nameless += 1
        words[row, 6] = (task & 0xFFFF_FFFF) | comm << 32
        state: Any = np.int64(128)
        if plan[PLAN_FLAGS] >= 0:
            flags = u8(base, start + plan[PLAN_FLAGS])
            # trace_flag_type (include/linux/trace_events.h): 1 irqs off, 8 hardirq, 16 softirq,
            # 64 NMI
            state = (flags & 1) | (flags >> 2 & 6) | (flags >> 3 & 8)
            if plan[PLAN_PREEMPT] >= 0 and u8(base, start + plan[PLAN_PREEMPT]) & 15:
                state |= 16
        words[row, 5] = 0
        if plan[PLAN_CALLER] >= 0:
            words[row, 5] = load(base, start + plan[PLAN_CALLER], plan[PLAN_CALLER_SIZE], big)
        for value in range(4):
            column = PLAN_VALUE + 4 * value
            offset, size = plan[column], plan[column + 1]
            number = np.int64(0)
            if offset >= 0:
                number = load(base, start + offset, size, big)
                if plan[column + 2]:
                    number = extend(number, size)
                    if -(1 << 31) <= number < 0:
                        number &= 0xFFFF_FFFF  # as the text readers: the word it stands for
                if plan[column + 3]:
                    number = np.int64(number & plan[column + 3] != 0)
                state |= 256 << value
            words[row, 1 + value] = number
        words[row, 8] = state
        if plan[PLAN_KIND] == switch_kind:
            for value in (1, 3):
                if 0 < words[row, value] < len(comm_of) and comm_of[words[row, value]] == 0:
                    strangers += 1
    return nameless, strangers, more
