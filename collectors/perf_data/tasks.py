"""Names of tasks over time, from the COMM and FORK records.

tools/perf/util/machine.c (machine__process_comm_event, machine__process_fork_event): a new task
has the name of the one that made it, until it takes another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.perf_data.layout import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from collectors.perf_data.records import Listed
    from collectors.tracecmd_dat.cursor import Order

_PID_LIMIT: Final = 1 << 22
"""PID_MAX_LIMIT (include/linux/threads.h)."""
_COMM_BYTES: Final = 64
"""More than a name has (TASK_COMM_LEN is 16)."""
IDLE: Final = "swapper"
"""What perf calls task 0."""


def apply(
    listed: Listed, order: NDArray[np.int64], words: NDArray[np.int64], endian: Order
) -> tuple[str, ...]:
    """Name the tasks of all rows.

    Parameters
    ----------
    listed
        Samples and records about tasks.
    order
        Samples by time.
    words
        Rows as 64-bit words; the comm of each is filled in.
    endian
        Of the records.

    Returns
    -------
    tuple of str
        Names; index 0 is "". A task without a name is called ``:pid``, as by perf script.
    """
    from collectors.perf_data import kernels

    comms = ["", IDLE]
    changes = _changes(listed, endian, comms)
    known = [int(changes[:, 2].max()) if len(changes) else 0]
    if len(listed.tid):
        known.append(min(int(listed.tid.max()), _PID_LIMIT))
    comm_of = np.zeros(max(known) + 1, np.int32)
    comm_of[0] = 1
    kernels.name_tasks(order, listed.tid, listed.plan, listed.ts, changes, comm_of, words)
    _name_unknown(listed, order, words, comms)
    return tuple(comms)


def _changes(listed: Listed, endian: Order, comms: list[str]) -> NDArray[np.int64]:
    """List every taking of a name, by time: stamp, samples before, task, name."""
    index: dict[str, int] = {name: number for number, name in enumerate(comms)}
    raw = listed.data.data
    now: dict[int, int] = {}
    found: list[tuple[int, int, int, int]] = []
    sides = listed.sides
    # Records without a stamp describe what was before; the others go by time.
    for kind, at, ts, before, _ in sides[np.argsort(sides[:, 2], kind="stable")].tolist():
        if kind not in (Record.COMM, Record.FORK):
            continue
        size = int.from_bytes(raw[at + 6 : at + 8], endian)
        if size < 24:
            continue
        task = int.from_bytes(raw[at + 12 : at + 16], endian)
        if kind == Record.COMM:
            text = bytes(raw[at + 16 : at + min(size, 16 + _COMM_BYTES)]).split(b"\0", 1)[0]
            name = text.decode("utf-8", "replace")
            number = index.setdefault(name, len(comms))
            if number == len(comms):
                comms.append(name)
        else:  # u32 pid, ppid, tid, ptid, u64 time
            task = int.from_bytes(raw[at + 16 : at + 20], endian)
            parent = int.from_bytes(raw[at + 20 : at + 24], endian)
            if not (number := now.get(parent, 0)):
                continue
        if 0 < task < _PID_LIMIT:
            now[task] = number
            found.append((ts, before, task, number))
    return np.array(found, np.int64).reshape(-1, 4)


def _name_unknown(
    listed: Listed, order: NDArray[np.int64], words: NDArray[np.int64], comms: list[str]
) -> None:
    """Call tasks without a name by their number."""
    # comm is the upper half of word 6, the pid its lower (collectors.raw.RAW_DTYPE)
    nameless = np.flatnonzero((words[:, 6] >> 32 == 0) & (listed.plan[order] != 0))
    if not len(nameless):
        return
    tid = listed.tid[order[nameless]]
    pid = (words[nameless, 6] & 0xFFFF_FFFF).astype(np.uint32).view(np.int32)
    task = np.where(tid < 0, pid, tid)
    unique, which = np.unique(task, return_inverse=True)
    first = len(comms)
    comms.extend(f":{number}" for number in unique.tolist())
    words[nameless, 6] |= (first + which) << 32
