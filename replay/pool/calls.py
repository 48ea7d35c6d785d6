"""What of the event table is the pool's, and what is known of each of its calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, overload

import numpy as np
import polars as pl

from collectors.events import OP_CODE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.pool.window import PoolWindow

POOL_CALLS: Final = ("kmap", "kunmap", "kmap_get")
GET_CODE: Final = 2
FLUSH_EVENTS: Final = 1 << 12
"""Positions of the trace in which the TLB flush of a flush_all_zero_pkmaps() has to show; it
holds the lock, and other CPUs go on with something else."""
NEVER: Final = (1 << 62) - 1
"""Position behind every event."""
UNSET: Final = np.iinfo(np.int64).min
UNKNOWN_PAGE: Final = 1 << 63


class CallColumns(NamedTuple):
    """What is known of each call: from the table, from the search and from the replay so far.

    The last four are the replay's own, which may run behind the search and carries them itself.

    Attributes
    ----------
    row : ndarray of int64
        Of the event table.
    seq, end : ndarray of int64
        Positions of the entry, and of the return or where the call is over at the latest.
    ended : ndarray of bool
        `end` is known, and has come.
    returned : ndarray of bool
        The trace shows the return.
    ts, end_ts : ndarray of int64
        ns of the trace clock.
    pid : ndarray of int32
        -1 where the trace tells none.
    cpu : ndarray of uint16
        On which it was entered.
    code : ndarray of uint8
        Position in POOL_CALLS.
    role : ndarray of uint8
        What it does to the pool; see :mod:`replay.pool.loops.calls`.
    page : ndarray of uint64
        Address of struct page, or a number of its own from ``1 << 63`` on.
    number : ndarray of int64
        Of its page, in the window that the calls are looked at in.
    pfn, vaddr : ndarray of int64
        -1 unknown.
    seen : ndarray of int64
        Slot that the kernel returned; -1 unknown, or outside the pool;
        :data:`replay.pool.loops.placing.NEVER_RETURNED`.
    entered, returned_at, flushed_in, last_pass, final_pass : ndarray of int64
        Places in the stream, counted from the trace's first event; see
        :class:`replay.pool.loops.stream.Course`.
    status : ndarray of uint8
        How its place in the lock order was found.
    placed : ndarray of bool
        It has one.
    out_row : ndarray of int32
        Where its operation stands in the output of the search; -1 nowhere.
    predicted : ndarray of int32
        What the model gave it last.
    first_try, last_try : ndarray of int64
        Time of the first and last attempt to serve it, UNSET none.
    sleeps : ndarray of int32
        Attempts that failed.
    """

    row: NDArray[np.int64]
    seq: NDArray[np.int64]
    end: NDArray[np.int64]
    ended: NDArray[np.bool_]
    returned: NDArray[np.bool_]
    ts: NDArray[np.int64]
    end_ts: NDArray[np.int64]
    pid: NDArray[np.int32]
    cpu: NDArray[np.uint16]
    code: NDArray[np.uint8]
    role: NDArray[np.uint8]
    page: NDArray[np.uint64]
    number: NDArray[np.int64]
    pfn: NDArray[np.int64]
    vaddr: NDArray[np.int64]
    seen: NDArray[np.int64]
    entered: NDArray[np.int64]
    returned_at: NDArray[np.int64]
    flushed_in: NDArray[np.int64]
    last_pass: NDArray[np.int64]
    final_pass: NDArray[np.int64]
    status: NDArray[np.uint8]
    placed: NDArray[np.bool_]
    out_row: NDArray[np.int32]
    predicted: NDArray[np.int32]
    first_try: NDArray[np.int64]
    last_try: NDArray[np.int64]
    sleeps: NDArray[np.int32]


_COLUMN: Final = {name: number for number, name in enumerate(CallColumns._fields)}
REPLAYED: Final = ("predicted", "first_try", "last_try", "sleeps")
"""Columns that the replay of the order fills, not the search for it."""
_TYPES: Final = {
    **dict.fromkeys(("ended", "returned", "placed"), np.bool_),
    **dict.fromkeys(("code", "role", "status"), np.uint8),
    **dict.fromkeys(("pid", "out_row", "predicted", "sleeps"), np.int32),
    "page": np.uint64,
    "cpu": np.uint16,
}


class CallTable:
    """Calls of the pool: ``calls["name"]`` is a column, ``calls[index]`` are some of them.

    Parameters
    ----------
    columns
        All calls.
    chosen : ndarray of int or bool
        Which of them these are; each column is picked out when it is asked for. None: all.
    """

    def __init__(self, columns: CallColumns, chosen: NDArray[Any] | None = None) -> None:
        self.columns = columns
        self._chosen = chosen

    @classmethod
    def blank(cls, calls: int) -> CallTable:
        """Columns for so many calls, to be filled."""
        return cls(CallColumns(*(np.empty(calls, _TYPES.get(name, np.int64)) for name in _COLUMN)))

    @property
    def size(self) -> int:
        """Number of calls."""
        return int(self["row"].size)

    @overload
    def __getitem__(self, key: str) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, key: NDArray[Any]) -> CallTable: ...
    def __getitem__(self, key: str | NDArray[Any]) -> NDArray[Any] | CallTable:
        """A column by its name, or the calls that an index array or a mask names."""
        if isinstance(key, str):
            column: NDArray[Any] = self.columns[_COLUMN[key]]
            return column if self._chosen is None else column[self._chosen]
        if self._chosen is None:
            return CallTable(self.columns, key)
        chosen = self._chosen
        return CallTable(
            self.columns, (np.flatnonzero(chosen) if chosen.dtype == bool else chosen)[key]
        )

    def behind(self, before: CallTable, room: int) -> CallTable:
        """These calls with others before them, for which their columns begin with some room.

        The columns of the replay are not taken over (:data:`REPLAYED`).
        """
        columns, first = self.columns, room - before.size
        if first < 0:
            larger = CallTable.blank(self.size - first)
            for name in _COLUMN:
                larger[name][before.size :] = self[name][room:]
            columns, first = larger.columns, 0
        parts: list[Any] = [column[first:] for column in columns]
        joined = CallTable(CallColumns(*parts))
        for name in _COLUMN.keys() - REPLAYED:
            joined[name][: before.size] = before[name]
        return joined


def is_anonymous() -> pl.Expr:
    """Rows that say neither which page they map nor where: nothing can be replayed of them."""
    return pl.col("page").is_null() & pl.col("vaddr").is_null()


def is_mapping(calls: CallTable) -> NDArray[np.bool_]:
    """Calls that took a mapping: kmap(), and kmap_high_get() that found one.

    To the pool the latter is a kmap() that must be a hit.
    """
    code = calls["code"]
    found = (code == GET_CODE) & (calls["seen"] >= 0)
    return np.asarray((code == 0) | found, bool)


def is_reuse(window: PoolWindow) -> pl.Expr:
    """Rows of kmap_local() that got a mapping of the pool: kmap_high_get() found one."""
    inside = (pl.col("vaddr") >= window.base) & (pl.col("vaddr") < window.end)
    return (pl.col("op") == "kmap_local") & inside.fill_null(value=False)


def is_window_flush(window: PoolWindow) -> pl.Expr:
    """Rows that are the TLB flush of the whole pool (mm/highmem.c: flush_all_zero_pkmaps)."""
    whole = (pl.col("start") == window.base) & (pl.col("end") == window.end)
    return ((pl.col("op") == "flush_range") & whole).fill_null(value=False)


def window_flushes(
    window: PoolWindow,
    codes: NDArray[np.uint8],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Tell the same of rows' columns as arrays; an address that is not known is -1."""
    is_ranged = codes == OP_CODE["flush_range"]
    return np.asarray(is_ranged & (start == window.base) & (end == window.end), bool)


def pass_flushed(passes: NDArray[np.int64], flushes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each pass was followed by the window's TLB flush, still under the lock.

    Parameters
    ----------
    passes, flushes
        `seq` of the passes, and of the flushes of the whole window; both ascending.
    """
    before = np.minimum(np.append(passes[1:], NEVER), passes + FLUSH_EVENTS)
    following = np.append(flushes, NEVER)[np.searchsorted(flushes, passes, side="left")]
    return np.asarray(following < before, bool)
