"""Calls of the function_graph tracer: which end belongs to which begin, and who called.

The tracer's text names a function where it is entered; its end is a brace of the same depth on the
same CPU, or names itself (kernel/trace/trace_functions_graph.c: print_graph_return compares with
what its CPU entered last at this depth). Rows come as KIND_OPEN, KIND_LEAF and KIND_CLOSE
(:mod:`collectors.probes`) and leave as entries and returns, as any reader makes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from collectors import probes
from collectors.compiled import loop, part
from collectors.raw import NO_TASK, RAW_DTYPE

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEPTHS: Final = 64
"""More than FTRACE_RETFUNC_DEPTH (include/linux/ftrace.h)."""
_OTHER = probes.KIND_OTHER
_OPEN, _LEAF, _CLOSE = probes.KIND_OPEN, probes.KIND_LEAF, probes.KIND_CLOSE
_TASK = probes.KIND_TASK
_DURATION, _RESULT = 4, 8  # bits of `present`
_CLOSED = -1
_CPU_BITS = -1 << 48  # of a word with kind and site below


class GraphCalls:
    """State of the CPUs from one piece of a trace to the next.

    Attributes
    ----------
    origin : ndarray of int64
        For each row that :meth:`resolve` gave last, the position of that it was made of.
    """

    def __init__(self) -> None:
        self.origin = np.zeros(0, np.int64)
        # per CPU and depth: kind of the entry, number of its name, task
        self._open = np.full((1, DEPTHS, 3), _CLOSED, np.int64)
        self._task = np.zeros((1, 2), np.int64)  # per CPU: pid and name; 0: not known
        self._has_result = np.array([bool(f.result) for f in probes.FUNCTIONS])

    @property
    def has_tasks(self) -> bool:
        """Whether the task of some CPU was shown: rows that do not tell theirs are of it."""
        return bool(self._task.any())

    def resolve(self, rows: NDArray[np.void]) -> tuple[NDArray[np.void], dict[str, int]]:
        """Turn the tracer's rows into entries and returns.

        Parameters
        ----------
        rows
            Raw events (:data:`collectors.raw.RAW_DTYPE`) in trace order.

        Returns
        -------
        rows, returns
            Raw events; number of returns by function, which no reader can count.
        """
        kind = rows["kind"]
        is_call = (kind >= _OPEN) & (kind <= _TASK)
        if not (is_call.any() or (len(rows) and self.has_tasks)):
            self.origin = np.arange(len(rows))
            return rows, {}
        cpus = int(rows["cpu"].max()) + 1
        if cpus > len(self._open):
            more = cpus - len(self._open)
            self._open = np.pad(self._open, ((0, more), (0, 0), (0, 0)), constant_values=_CLOSED)
            self._task = np.pad(self._task, ((0, more), (0, 0)))
        words = rows.view(np.int64).reshape(len(rows), -1)
        room = np.empty((len(rows) + int((kind == _LEAF).sum()), words.shape[1]), np.int64)
        origin = np.empty(len(room), np.int64)
        count = run(words, self._open, self._task, self._has_result, room, origin)
        self.origin = origin[:count]
        made = room[:count].view(RAW_DTYPE).reshape(-1)
        is_end = (made["kind"] < probes.KIND_SWITCH) & (made["kind"] & 1 == 1)
        ends = made["kind"][is_end & is_call[self.origin]]  # those of probes were counted before
        returns = {}
        for code, number in enumerate(np.bincount(ends)):
            if number and not probes.FUNCTIONS[code >> 1].host:
                returns[f"{probes.FUNCTIONS[code >> 1].name} (return)"] = int(number)
        return made, returns


@part
def _return_of(rows: Any, at: int, entry: int, has_result: NDArray[np.bool_]) -> None:
    """Make the row of a call's end a return: its result and, as the last value, its duration."""
    present = rows[at, 8] >> 8
    duration, result = rows[at, 3], rows[at, 4]
    rows[at, 1:6] = 0
    rows[at, 8] &= 0xFF
    if present & _RESULT and has_result[entry >> 1]:
        rows[at, 1] = result
        rows[at, 8] |= 1 << 8
    if present & _DURATION:
        rows[at, 4] = duration
        rows[at, 8] |= 8 << 8
    rows[at, 7] = (rows[at, 7] & _CPU_BITS) | (entry + 1) << 32


@loop
def run(
    rows: NDArray[np.int64],
    opened: NDArray[np.int64],
    task: NDArray[np.int64],
    has_result: NDArray[np.bool_],
    made: NDArray[np.int64],
    origin: NDArray[np.int64],
) -> int:
    """Go through the rows.

    Parameters
    ----------
    rows : ndarray of int64, shape (n, 9)
        Raw events, as words (see :func:`collectors.text.rows.write_row`).
    opened : ndarray of int64, shape (CPUs, DEPTHS, 3)
        Kind, number of the name, and task of the calls that are open, -1 none.
    task : ndarray of int64, shape (CPUs, 2)
        Task that runs, and the number of its name, where the trace told at a switch.
    has_result : ndarray of bool, shape (functions,)
        Functions that return something.
    made : ndarray of int64, shape (m, 9)
        Filled; room for the rows and one more for each leaf.
    origin : ndarray of int64, shape (m,)
        Filled: the row that each was made of.

    Returns
    -------
    int
        Rows in `made`.
    """
    at = 0
    for i in range(rows.shape[0]):
        kind = rows[i, 7] >> 32 & 0xFFFF
        cpu = rows[i, 7] >> 48 & 0xFFFF
        pid = rows[i, 6] << 32 >> 32
        if kind == _TASK:
            task[cpu, 0] = pid
            task[cpu, 1] = rows[i, 6] >> 32
            continue
        origin[at] = i
        for word in range(9):
            made[at, word] = rows[i, word]
        if pid <= NO_TASK and task[cpu, 1] != 0:
            pid = task[cpu, 0]
            made[at, 6] = (pid & 0xFFFF_FFFF) | task[cpu, 1] << 32
        if kind < _OPEN or kind > _TASK:
            at += 1
            continue
        entry = rows[i, 1]
        depth = min(max(rows[i, 2], 0), DEPTHS - 1)
        if kind == _CLOSE:
            if entry == _OTHER and opened[cpu, depth, 2] == pid:
                entry = opened[cpu, depth, 0]
            opened[cpu, depth, 0] = _CLOSED
            if entry != _OTHER and entry != _CLOSED:  # noqa: PLR1714 - chains compile faster
                _return_of(made, at, entry, has_result)
                at += 1
            continue
        site = rows[i, 7] & 0xFFFF_FFFF
        above = depth - 1
        if above >= 0 and opened[cpu, above, 0] != _CLOSED and opened[cpu, above, 2] == pid:
            site = site if site != 0 else opened[cpu, above, 1]
        if kind == _OPEN:
            opened[cpu, depth, 0] = entry
            opened[cpu, depth, 1] = rows[i, 5]
            opened[cpu, depth, 2] = pid
        if entry == _OTHER:
            continue
        if kind == _LEAF:
            origin[at + 1] = i
            for word in range(9):
                made[at + 1, word] = made[at, word]
            made[at + 1, 0] += rows[i, 3]
            _return_of(made, at + 1, entry, has_result)
        made[at, 1:6] = 0
        made[at, 7] = (made[at, 7] & _CPU_BITS) | entry << 32 | site
        made[at, 8] &= 0xFF
        at += 2 if kind == _LEAF else 1
    return at
