"""The pool's calls of a trace in the order in which they took its lock, written down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from replay.pool.calls import UNKNOWN_PAGE
from replay.walk import PoolPart

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.machine.layout import Layout
    from replay.pool.calls import CallTable
    from replay.pool.lock_order import Piece
    from replay.survey import PoolState, Survey
    from replay.trace.online import OnlineCpus
    from replay.trace.windows import Window
    from replay.walk import PoolPiece
    from replay.whatif.parts import Parts

_OPEN: Final = np.dtype([("row", "i8"), ("at", "i8")])


class PoolCalls(PoolPart):
    """The captured pool, whose calls are written down for other machines.

    Parameters
    ----------
    layout, found, state, losses, online
        As for :class:`replay.walk.PoolPart`.
    parts
        Where to write. Per window a table ``new``: `row`, `page` (:func:`page_keys`) and `frame`
        (-1 unknown) of the calls that come in; and a table ``calls`` of those that were served, in
        the order of the lock: `code` (:mod:`replay.pool.loops.sequence`), `time`, `is_call` (else
        nobody's: a flush of unused slots, the snapshot), `page`, `frame`, `pid`. The first attempt
        of a kmap() is where it comes in. ``waits``: how long (`waited`, ns) the calls at the
        places `at` of all tables together slept.
    name
        What the tables' names begin with.
    """

    def __init__(
        self,
        layout: Layout,
        found: Survey,
        state: PoolState | None,
        losses: tuple[int, ...],
        parts: Parts,
        name: str,
        online: OnlineCpus | None = None,
    ) -> None:
        super().__init__(layout, found, state, losses, online)
        self.name = name
        self._parts = parts
        self._windows = self._written = 0
        self._open = np.zeros(0, _OPEN)  # kmap() calls that were tried, and where they stand
        self._waits: list[pl.DataFrame] = []

    def feed(self, window: Window) -> PoolPiece:
        """As :meth:`replay.walk.PoolPart.feed`."""
        told = super().feed(window)
        calls = told.piece.calls
        new = calls[calls["row"] >= window.first_row]
        self._put("new", {"row": new["row"], "page": page_keys(new), "frame": new["pfn"]})
        self._write_down(told.piece)
        self._note_waits(told.over)
        self._windows += 1
        if window.last:
            none = pl.DataFrame(schema={"at": pl.Int64, "waited": pl.Int64})
            self._parts.put(f"{self.name}-waits", pl.concat([none, *self._waits]).sort("at"))
        return told

    def _put(self, what: str, columns: dict[str, NDArray[np.generic]]) -> None:
        table = pl.DataFrame({key: np.ascontiguousarray(value) for key, value in columns.items()})
        self._parts.put(f"{self.name}-{what}-{self._windows}", table)

    def _write_down(self, piece: Piece) -> None:
        from replay.pool.loops.sequence import FLUSH_UNUSED, GET, MAP, SNAPSHOT, UNMAP

        code, call = piece.operations[:, 0], piece.call
        is_call = np.isin(code, (MAP, UNMAP, GET)) & (call >= 0)
        maps = np.flatnonzero(is_call & (code == MAP))
        _, first = np.unique(call[maps], return_index=True)
        again = np.ones(maps.size, bool)
        again[first] = np.isin(piece.calls["row"][call[maps[first]]], self._open["row"])
        is_call[maps[again]] = False
        index = np.flatnonzero(is_call | np.isin(code, (FLUSH_UNUSED, SNAPSHOT)))
        of_task = is_call[index]
        page, frame, pid = np.zeros(index.size, np.int64), *np.full((2, index.size), -1, np.int64)
        calls = piece.calls[call[index[of_task]]]
        page[of_task], frame[of_task] = page_keys(calls), calls["pfn"]
        pid[of_task] = calls["pid"]
        code = code[index].astype(np.uint8)
        self._put(
            "calls",
            {
                "code": code, "time": piece.time[index], "is_call": of_task,
                "page": page, "frame": frame, "pid": pid,
            },
        )  # fmt: skip
        tried = np.flatnonzero(of_task & (code == MAP))
        opened = np.zeros(tried.size, _OPEN)
        opened["row"] = piece.calls["row"][call[index[tried]]]
        opened["at"] = self._written + tried
        self._open = np.concatenate([self._open, opened])
        self._written += index.size

    def _note_waits(self, over: CallTable) -> None:
        """How long the calls that are over slept in the capture."""
        by = np.argsort(over["row"], kind="stable")
        at = np.searchsorted(over["row"][by], self._open["row"])
        done = at < over.size
        done[done] = over["row"][by[at[done]]] == self._open["row"][done]
        ended = over[by[at[done]]]
        waited = ended["last_try"] - ended["first_try"]
        some = waited > 0
        if some.any():
            told = {"at": self._open["at"][done][some], "waited": waited[some]}
            self._waits.append(pl.DataFrame(told))
        self._open = self._open[~done]


def page_keys(calls: CallTable) -> NDArray[np.int64]:
    """A key for each call's page: its frame, else what the trace knows it by."""
    page = calls["page"]
    named = -2 - (page & np.uint64(UNKNOWN_PAGE - 1)).astype(np.int64)
    named[page >= UNKNOWN_PAGE] -= 1 << 62
    return np.where(calls["pfn"] >= 0, calls["pfn"], named)
