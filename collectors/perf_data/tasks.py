"""Names of tasks over time, from the COMM and FORK records.

tools/perf/util/machine.c (machine__process_comm_event, machine__process_fork_event): a new task
has the name of the one that made it, until it takes another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.perf_data.layout import RecordType
from collectors.probes import KIND_LOST
from collectors.raw import ROW_WORDS
from collectors.traceevent.pids import PID_LIMIT, table_by_pid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from collectors.traceevent.cursor import Order

_COMM_BYTES: Final = 64
"""More than a name has (TASK_COMM_LEN is 16)."""
IDLE: Final = "swapper"
"""What perf calls task 0."""


class TaskHistory:
    """Names of tasks as they change in the course of a trace.

    Parameters
    ----------
    data
        Bytes of the records.
    endian
        Of the records.

    Attributes
    ----------
    comms
        Every name so far; index 0 is "". A task without a name is called ``:pid``, as by perf
        script.
    """

    def __init__(self, data: NDArray[np.uint8], endian: Order) -> None:
        self._data = data.data
        self._endian = endian
        self.comms = ["", IDLE]
        self._index = {name: number for number, name in enumerate(self.comms)}
        self._now: dict[int, int] = {}
        self._comm_of = table_by_pid()
        self._comm_of[0] = 1
        self._unnamed: dict[int, int] = {}
        self._waiting = np.zeros((0, 4), np.int64)

    def add(self, sides: NDArray[np.int64]) -> None:
        """Take records about tasks: type, place, stamp, CPU; in the order of the file."""
        wanted = np.isin(sides[:, 0], (RecordType.COMM, RecordType.FORK))
        self._waiting = np.concatenate([self._waiting, sides[wanted]])

    def name(self, rows: NDArray[np.void], place: NDArray[np.int64], until: int | None) -> None:
        """Name the tasks of the next rows.

        Parameters
        ----------
        rows
            By time; their `site` is the task that perf recorded, -1 unknown; it is set to 0.
        place
            Of each row in the file.
        until
            No later stamp than that of the next rows to come; None: these are the last.
        """
        from collectors.perf_data import walk

        changes = self._changes(until)
        words = rows.view(np.int64).reshape(len(rows), ROW_WORDS)
        if walk.name_tasks(words, place, changes, self._comm_of, KIND_LOST):
            self._name_unknown(rows)

    def _changes(self, until: int | None) -> NDArray[np.int64]:
        """List the takings of names up to a stamp, by time: stamp, place, task, name."""
        # Records without a stamp describe what was before; the others go by time.
        sides = self._waiting[np.argsort(self._waiting[:, 2], kind="stable")]
        cut = len(sides) if until is None else int(np.searchsorted(sides[:, 2], until, "left"))
        sides, self._waiting = sides[:cut], sides[cut:]
        found: list[tuple[int, int, int, int]] = []
        raw, endian = self._data, self._endian
        for kind, at, ts, _ in sides.tolist():
            size = int.from_bytes(raw[at + 6 : at + 8], endian)
            if size < 24:
                continue
            if kind == RecordType.COMM:
                task = int.from_bytes(raw[at + 12 : at + 16], endian)
                text = bytes(raw[at + 16 : at + min(size, 16 + _COMM_BYTES)]).split(b"\0", 1)[0]
                number = self._number(text.decode("utf-8", "replace"))
            else:  # u32 pid, ppid, tid, ptid, u64 time
                task = int.from_bytes(raw[at + 16 : at + 20], endian)
                parent = int.from_bytes(raw[at + 20 : at + 24], endian)
                if not (number := self._now.get(parent, 0)):
                    continue
            if 0 < task < PID_LIMIT:
                self._now[task] = number
                found.append((ts, at, task, number))
        return np.array(found, np.int64).reshape(-1, 4)

    def _number(self, name: str) -> int:
        number = self._index.setdefault(name, len(self.comms))
        if number == len(self.comms):
            self.comms.append(name)
        return number

    def _name_unknown(self, rows: NDArray[np.void]) -> None:
        """Call tasks without a name by their number."""
        nameless = np.flatnonzero((rows["comm"] == 0) & (rows["kind"] != KIND_LOST))
        task = rows["site"][nameless].view(np.int32)
        unique, which = np.unique(task, return_inverse=True)
        numbers = np.zeros(len(unique), np.uint32)
        for i, number in enumerate(unique.tolist()):
            if number not in self._unnamed:
                self._unnamed[number] = len(self.comms)
                self.comms.append(f":{number}")
            numbers[i] = self._unnamed[number]
        rows["comm"][nameless] = numbers[which]
        rows["site"][nameless] = 0
