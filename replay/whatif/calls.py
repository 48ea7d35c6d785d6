"""The pool's calls of a trace in the order in which they took its lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import polars as pl

from replay.trace.numbering import Numbering
from replay.trace.told import NO_ROW
from replay.walk import PoolPart
from replay.whatif.pages import page_keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from replay.machine.layout import Layout
    from replay.pool.calls import CallTable
    from replay.pool.lock_order import Piece
    from replay.pool.window import PoolState
    from replay.survey import Survey
    from replay.trace.online import OnlineCpus
    from replay.trace.parts import Parts
    from replay.trace.told import Told
    from replay.trace.windows import Window
    from replay.walk import Ordered, PoolPiece
    from replay.whatif.pages import PageNumbers

_NO_ROW: Final = (1 << 63) - 1  # behind every row
_OPEN: Final = np.dtype([("row", "i8"), ("at", "i8")])
COLUMNS: Final = {"code": "u1", "page": "i4", "task": "i4", "time": "i8", "row": "u4"}
"""Columns of the calls and their types; `row` is that of the trace, 0 of what is nobody's."""


class Served(NamedTuple):
    """What a window told of the pool's calls.

    Attributes
    ----------
    row, key : ndarray of int64
        Rows of the calls that came in, and the keys of their pages
        (:func:`replay.whatif.pages.page_keys`).
    code : ndarray of uint8
        Calls that were served, in the order of the lock (:mod:`replay.pool.loops.sequence`); the
        first attempt of a kmap() is where it comes in.
    time : ndarray of int64
        When each was served.
    is_call : ndarray of bool
        Else nobody's: a flush of unused slots, the snapshot.
    keys : ndarray of int64
        Keys of the pages of those that are calls.
    pid : ndarray of int64
        Of all of them; -1 where there is none.
    call_rows : ndarray of int64
        Rows of those that are calls.
    """

    row: NDArray[np.int64]
    key: NDArray[np.int64]
    code: NDArray[np.uint8]
    time: NDArray[np.int64]
    is_call: NDArray[np.bool_]
    keys: NDArray[np.int64]
    pid: NDArray[np.int64]
    call_rows: NDArray[np.int64]


class PoolCalls(PoolPart):
    """The captured pool, which hands on what it served.

    Parameters
    ----------
    layout, found, state, losses, online
        As for :class:`replay.walk.PoolPart`.
    take
        Takes each window with what it told.

    Attributes
    ----------
    waits
        Places of calls that slept among all that were served, and how long (ns).
    """

    def __init__(
        self,
        layout: Layout,
        found: Survey,
        state: PoolState | None,
        losses: tuple[int, ...],
        take: Callable[[Window, Served], None],
        online: OnlineCpus | None = None,
    ) -> None:
        super().__init__(layout, found, state, losses, online)
        self.waits: list[pl.DataFrame] = []
        self._take = take
        self._served = 0
        self._open = np.zeros(0, _OPEN)  # kmap() calls that were tried, and where they stand

    def follow(self, ordered: Ordered) -> PoolPiece:
        """As :meth:`replay.walk.PoolPart.follow`."""
        told, window = super().follow(ordered), ordered.window
        calls = told.piece.calls
        new = calls[np.flatnonzero(calls["row"] >= window.first_row)]
        self._take(window, self._of_piece(told.piece, new))
        self._note_waits(told)
        return told

    def _of_piece(self, piece: Piece, new: CallTable) -> Served:
        from replay.pool.loops.sequence import FLUSH_UNUSED, GET, MAP, SNAPSHOT, UNMAP

        code, call = piece.operations[:, 0], piece.call
        is_call = ((code == MAP) | (code == UNMAP) | (code == GET)) & (call >= 0)
        maps = np.flatnonzero(is_call & (code == MAP))
        again = self._are_repeated(piece.calls, call[maps])
        is_call[maps[again]] = False
        index = np.flatnonzero(is_call | (code == FLUSH_UNUSED) | (code == SNAPSHOT))
        of_task, code = is_call[index], code[index]
        calls = piece.calls[call[index[of_task]]]
        pid = np.full(index.size, -1, np.int64)
        pid[of_task] = calls["pid"]
        tried = np.flatnonzero(of_task & (code == MAP))
        opened = np.zeros(tried.size, _OPEN)
        opened["row"] = piece.calls["row"][call[index[tried]]]
        opened["at"] = self._served + tried
        self._open = np.concatenate([self._open, opened])
        self._served += index.size
        return Served(
            np.ascontiguousarray(new["row"]), page_keys(new),
            code.astype(np.uint8), piece.time[index], of_task, page_keys(calls), pid,
            np.ascontiguousarray(calls["row"]),
        )  # fmt: skip

    def _are_repeated(self, calls: CallTable, maps: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these calls of kmap() were tried before: behind their first attempt."""
        before = np.zeros(calls.size, bool)
        before[np.isin(calls["row"], self._open["row"])] = True
        first = np.full(calls.size, -1, np.int64)
        first[maps[::-1]] = np.arange(maps.size)[::-1]  # the earliest place stays
        return np.asarray(before[maps] | (first[maps] != np.arange(maps.size)), bool)

    def _note_waits(self, told: PoolPiece) -> None:
        """How long the calls that are over slept in the capture."""
        over, piece = told.over, told.piece
        slept = over[over["sleeps"] > 0]
        waited = slept["last_try"] - slept["first_try"]
        slept, waited = slept[waited > 0], waited[waited > 0]
        at = self._place_of(slept["row"])
        if (at >= 0).any():
            self.waits.append(pl.DataFrame({"at": at[at >= 0], "waited": waited[at >= 0]}))
        still = np.append(piece.calls["row"][piece.kept], _NO_ROW)  # ascending
        row = self._open["row"]
        self._open = self._open[still[np.searchsorted(still, row)] == row]

    def _place_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Place of the first attempt of calls among all that were served; -1 of others."""
        if not (rows.size and self._open.size):
            return np.full(rows.size, -1, np.int64)
        by = np.argsort(self._open["row"], kind="stable")
        row = self._open["row"][by]
        index = np.minimum(np.searchsorted(row, rows), row.size - 1)
        return np.where(row[index] == rows, self._open["at"][by[index]], -1)


class ServedColumns:
    """The calls that were served, as columns of numbers.

    Parameters
    ----------
    parts
        Where they are written: columns `code`, `page` (its number, -1 for what is nobody's),
        `task`, `time` and `row`.
    name
        What the columns' names begin with.
    """

    def __init__(self, parts: Parts, name: str) -> None:
        self.name = name
        self._parts = parts
        self._columns = {
            column: parts.column(f"{name}-{column}", np.dtype(kind))
            for column, kind in COLUMNS.items()
        }
        self._tasks = Numbering()
        self._seen = np.zeros(0, bool)  # by the number of a page
        self._order: list[NDArray[np.int32]] = []
        self._row_of_task = np.zeros(0, np.int64)  # of its first call, NO_ROW: of nobody

    @property
    def rows(self) -> set[int]:
        """Rows that :meth:`finish` needs to name tasks."""
        return set(self._row_of_task.tolist())

    def add(self, served: Served, numbers: PageNumbers) -> None:
        """Add those of a window, whose pages have numbers."""
        page = np.full(served.code.size, -1, np.int32)
        page[served.is_call] = numbers.pages.of(served.keys)
        self._note_first(page[served.is_call], numbers.pages.count)
        task = self._tasks.of(served.pid).astype(np.int32)
        self._note_tasks(task[served.is_call], served.call_rows)
        row = np.zeros(served.code.size, np.uint32)
        row[served.is_call] = served.call_rows
        told: dict[str, NDArray[Any]] = {
            "code": served.code,
            "page": page,
            "task": task,
            "time": served.time,
            "row": row,
        }
        for name, column in self._columns.items():
            column.append(told[name])

    def _note_tasks(self, tasks: NDArray[np.int32], rows: NDArray[np.int64]) -> None:
        """Note the first call of each task that comes up."""
        known = self._row_of_task
        new = np.full(self._tasks.count, NO_ROW, np.int64)
        new[: known.size] = known
        found, first = np.unique(tasks, return_index=True)
        unknown = new[found] == NO_ROW
        new[found[unknown]] = rows[first[unknown]]
        self._row_of_task = new

    def _note_first(self, pages: NDArray[np.int32], number: int) -> None:
        """Note pages that are served for the first time, in this order."""
        more = np.zeros(max(number - self._seen.size, 0), bool)
        self._seen = np.concatenate([self._seen, more])
        new = pages[~self._seen[pages]]
        if new.size:
            fresh, first = np.unique(new, return_index=True)
            self._order.append(new[np.sort(first)])
            self._seen[fresh] = True

    def finish(self, waits: list[pl.DataFrame], told: Told) -> None:
        """Write down what belongs to them.

        Parameters
        ----------
        waits
            As of :class:`PoolCalls`.
        told
            What the rows of :attr:`rows` tell.
        """
        none = pl.DataFrame(schema={"at": pl.Int64, "waited": pl.Int64})
        order = np.concatenate([np.zeros(0, np.int32), *self._order])
        pids = self._tasks.keys().view(np.int64)
        self._parts.put(f"{self.name}-waits", pl.concat([none, *waits]).sort("at"))
        self._parts.put(f"{self.name}-first", pl.DataFrame({"page": order}))
        comms = [None if row == NO_ROW else told[row].comm for row in self._row_of_task.tolist()]
        tasks = pl.DataFrame({"pid": pids, "comm": pl.Series(comms, dtype=pl.String)})
        self._parts.put(f"{self.name}-tasks", tasks)
