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
    from replay.pool.lock_order import Piece
    from replay.pool.window import PoolState
    from replay.survey import Survey
    from replay.trace.losses import Gaps
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
        losses: Gaps,
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
        self._take(window, self._of_piece(told.piece, window.first_row))
        self._note_waits(told)
        return told

    def _of_piece(self, piece: Piece, first_row: int) -> Served:
        from replay.whatif.loops import served as kernel

        calls, operations = piece.calls, piece.time.size
        row, key = calls["row"], page_keys(calls)
        tried, is_new = np.zeros(calls.size, np.bool_), row >= first_row
        before = np.flatnonzero(~is_new)
        tried[before] = np.isin(row[before], self._open["row"])
        ordered = kernel.OrderedCalls(
            piece.operations, piece.time, piece.call, row, key, calls["pid"], tried
        )
        time, pid, keys, rows, map_row, map_at = np.empty((6, operations), np.int64)
        code, is_call = np.empty(operations, np.uint8), np.empty(operations, np.bool_)
        kept = kernel.PickedCalls(code, time, pid, is_call, keys, rows, map_row, map_at)
        number, of_calls, maps = kernel.keep_served(ordered, kept)
        opened = np.zeros(maps, _OPEN)
        opened["row"], opened["at"] = map_row[:maps], self._served + map_at[:maps]
        self._open = np.concatenate([self._open, opened])
        self._served += number
        return Served(
            row[is_new], key[is_new], code[:number], time[:number], is_call[:number],
            keys[:of_calls], pid[:number], rows[:of_calls],
        )  # fmt: skip

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
        from replay.whatif.loops import served as kernel

        pages = numbers.pages.of(served.keys)
        task = self._tasks.of(served.pid).astype(np.int32)
        self._seen = _grown(self._seen, numbers.pages.count, fill=False)
        self._row_of_task = _grown(self._row_of_task, self._tasks.count, fill=NO_ROW)
        order = np.empty(pages.size, np.int32)
        page, row = np.empty(task.size, np.int32), np.empty(task.size, np.uint32)
        fresh = kernel.spread(
            kernel.ServedNumbers(served.is_call, task, pages, served.call_rows),
            kernel.FirstUses(self._seen, order, self._row_of_task), page, row,
        )  # fmt: skip
        self._order.append(order[:fresh].copy())
        told: dict[str, NDArray[Any]] = {
            "code": served.code,
            "page": page,
            "task": task,
            "time": served.time,
            "row": row,
        }
        for name, column in self._columns.items():
            column.append(told[name])

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


def _grown(known: NDArray[Any], size: int, *, fill: int) -> NDArray[Any]:
    """The same with as many behind that nothing is known of."""
    if known.size >= size:
        return known
    more = np.full(size, fill, known.dtype)
    more[: known.size] = known
    return more
