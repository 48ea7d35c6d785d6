"""Names of tasks: those that were saved with the trace, and those that switches tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.probes import KIND_LOST, KIND_SWITCH
from collectors.traceevent.pids import PID_LIMIT, table_by_pid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from collectors.tracecmd_dat.decode import RecordPool
    from collectors.traceevent.formats import EventFormat

_UNKNOWN: Final = 1
"""Index of ``<...>``, the kernel's word for a task whose name was not kept."""
_ASKED: Final = -1
"""A task of which a switch told, but no name."""


class TaskNames:
    """Names of tasks, and what is learnt about them on the way.

    The kernel keeps 128 names unless told otherwise (``saved_cmdlines_size``).

    Parameters
    ----------
    saved
        Names by pid.

    Attributes
    ----------
    comms
        Every name so far.
    comm_of
        int32 by pid: index of the task's name; 0 or less: unknown.
    """

    def __init__(self, saved: Mapping[int, str]) -> None:
        self.comms = ["", "<...>"]
        self.comm_of = table_by_pid()
        self._index: dict[str, int] = {}
        for pid, comm in {**saved, 0: "<idle>"}.items():
            if pid < PID_LIMIT:
                self.comm_of[pid] = self._number(comm)

    def _number(self, comm: str) -> int:
        number = self._index.setdefault(comm, len(self.comms))
        if number == len(self.comms):
            self.comms.append(comm)
        return number

    def learn(
        self,
        rows: NDArray[np.void],
        order: NDArray[np.int64],
        pool: RecordPool,
        spans: Mapping[int, NDArray[np.uint8]],
        event: EventFormat,
    ) -> None:
        """Learn the names that switches to and from unnamed tasks tell.

        Parameters
        ----------
        rows
            Just made.
        order
            Their places in the pool.
        pool
            Where the records are listed.
        spans
            Bytes of each block.
        event
            sched_switch.
        """
        switches = np.flatnonzero(rows["kind"] == KIND_SWITCH)
        texts = [event.fields.get("prev_comm"), event.fields.get("next_comm")]
        if not len(switches) or None in texts:
            return
        pids = rows["values"][switches][:, [0, 2]].astype(np.int64).ravel()
        unknown = np.flatnonzero((pids > 0) & (pids < PID_LIMIT))
        unknown = unknown[self.comm_of[pids[unknown]] == 0]
        # Of several switches the first one tells.
        found, first = np.unique(pids[unknown], return_index=True)
        for pid, place in zip(found.tolist(), unknown[first].tolist(), strict=True):
            self.comm_of[pid] = _ASKED
            text, source = texts[place & 1], int(order[switches[place >> 1]])
            if text is None or text.offset + text.size > pool.length[source]:
                continue
            at = int(pool.at[source]) + text.offset
            comm = spans[source >> pool.shift][at : at + text.size].tobytes().split(b"\0", 1)[0]
            if comm:
                self.comm_of[pid] = self._number(comm.decode("utf-8", "replace"))

    def name(self, rows: NDArray[np.void]) -> None:
        """Name the tasks of rows that were not known when the rows were made."""
        nameless = np.flatnonzero((rows["comm"] == _UNKNOWN) & (rows["kind"] != KIND_LOST))
        pids = rows["pid"][nameless]
        inside = (pids >= 0) & (pids < PID_LIMIT)
        nameless, pids = nameless[inside], pids[inside]
        known = self.comm_of[pids]
        rows["comm"][nameless[known > 0]] = known[known > 0].astype(np.uint32)
