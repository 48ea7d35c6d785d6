"""A workload from somebody else's file: what the compiled loops take for granted is looked at.

They use numbers of pages, tasks, call sites and areas as places in arrays, and are compiled without
checks of bounds. So every table of a workload that comes out of a file has to have the columns that
are written, of their types, and every number in them that is a place has to be one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from collectors.events import OPS
from replay.arena.calls import NEVER
from replay.arena.purges import RAN, TRIGGERS
from replay.sites.loops import APIS, Counts
from replay.whatif.calls import COLUMNS
from replay.whatif.turns import TASKS, turns_of
from replay.whatif.workload import TRIGGERS_OF

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from replay.whatif.workload import Workload

_I4, _I8, _U2, _U4, _U8 = pl.Int32, pl.Int64, pl.UInt16, pl.UInt32, pl.UInt64
_WINDOW: Final[Mapping[str, Mapping[str, Any]]] = {
    "calls": {"member": _I4, "page": _I4, "is_local": pl.Boolean},
    "holds": {"key": _I4, "page": _I4, "hold": _I8, "is_local": pl.Boolean},
    "held": {
        "page": _I4, "depth": _I4, "cpu": _I4, "below": _U2, "is_map": pl.Boolean, "row": _U4,
        "key": _I4,
    },
    "below": {"page": _I4, "key": _I4},
}  # fmt: skip
"""Tables of a window (:class:`replay.whatif.workload.Stretch`)."""
_WHOLE: Final[Mapping[str, Mapping[str, Any]]] = {
    "pages": {"key": _I8},
    "lows": {"frame": _I8},
    "members": {"key": _I4},
    "sites": {
        name: pl.Float64 if name in ("asked", "total") else _I8 for name in Counts._fields
    },
}  # fmt: skip
_OF_CALLS: Final[Mapping[str, Mapping[str, Any]]] = {
    "waits": {"at": _I8, "waited": _I8},
    "first": {"page": _I4},
    "tasks": {"pid": _I8, "comm": pl.String},
}
_TURNS: Final[Mapping[str, Any]] = {
    "kind": pl.UInt8, "flag": pl.UInt8, "page": _I4, "task": _I4, "cpu": _I4, "key": _I4,
    "row": _I8, "time": _I8,
}  # fmt: skip
"""Who holds what (:class:`replay.whatif.turns.TurnSieve`)."""
_ARENA: Final[Mapping[str, Mapping[str, Any]]] = {
    "allocs": {
        "row": _U4, "seq": _I8, "lo": _I8, "hi": _I8, "at": _I8, "size": _I8, "align": _I8,
        "vstart": _I8, "vend": _I8, "seen": _I8, "end_cpu": _U2, "parent": _I8, "end_ts": _I8,
    },
    "frees": {
        "row": _U4, "pid": _I4, "lo": _I8, "hi": _I8, "start": _I8, "end": _I8, "nr_lazy": _I8,
        "ts": _I8,
    },
    "purges": {
        "seq": _I8, "since": _I8, "lo": _I8, "hi": _I8, "at": _I8, "entry": _I8, "detach": _I8,
        "start": _I8, "end": _I8, "seen_start": _I8, "seen_end": _I8, "parent": _I8,
        "purged": _I8, "gave": pl.Boolean, "ts": _I8, "detach_ts": _I8, "end_ts": _I8,
        "open": pl.Boolean,
    },
    "away": {"purge": _I8, "lo": _I8, "hi": _I8},
    "flushes": {"at": _I8, "start": _I8, "end": _I8},
    "unusable": {"at": _I8},
    "blocks": {
        "row": _U4, "seq": _U8, "end_seq": _U8, "cpu": _U2, "end_cpu": _U2, "pid": _I4,
        "op": pl.Enum(OPS), "vaddr": _U8, "pages": _U8, "start": _U8, "end": _U8, "parent": _U8,
        "before": _I8,
    },
    "bounds": {"row": _I8, "hi": _I8},
    "facts": {
        "derived": pl.Boolean, "purges_traced": pl.Boolean, "begin": _I8, "end": _I8,
        "forced": pl.Boolean, "followed": pl.Boolean, "last": pl.Boolean, "seen_start": _I8,
        "seen_end": _I8, "lo": _I8, "hi": _I8,
    },
}  # fmt: skip
"""Tables of a piece of the arena's calls (:class:`replay.arena.pieces.ArenaPieces`)."""
_MAY_LACK: Final = {
    "tasks": ("comm",),
    "allocs": ("end_cpu", "parent", "end_ts"),
    "purges": ("parent",),
    "blocks": tuple(_ARENA["blocks"])[2:],
    "frees": ("pid",),
}
"""Columns in which a value may be missing."""
_SPACE: Final = 1 << 34
"""No address or size of a 32-bit kernel is as large; those of damaged traces were left out."""
_ADDRESSES: Final = ("size", "align", "vstart", "vend", "seen", "start", "end", "seen_start",
                     "seen_end")  # fmt: skip
_MOST_CPUS: Final = 1 << 16
_MOST_DEPTH: Final = 1 << 16


def check(workload: Workload) -> None:
    """Look at every table of a workload that was read from a file, with its turns if there may be.

    Raises
    ------
    ValueError
        If it is none: what is wrong, in words.
    """
    _Check(workload).run()


class _Check:
    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._names = workload.names()
        self._seen: set[str] = set()

    def run(self) -> None:
        workload = self._workload
        if not 0 <= workload.windows <= len(workload.names()):
            raise ValueError(_words("windows", workload.windows))
        pages = self._table("pages", _WHOLE["pages"]).height
        lows = self._table("lows", _WHOLE["lows"]).height
        sites = self._table("sites", _WHOLE["sites"])
        counts = min(sites.height, len(workload.site_names) * len(APIS))
        if (sites.get_column("calls")[counts:] != 0).any():
            raise ValueError(_words("call sites", sites.height))
        members = self._table("members", _WHOLE["members"])
        _inside("member", members.get_column("key"), 0, counts)
        for number in range(workload.windows):
            self._window(number, pages, lows, members.height, counts)
        self._turns(pages, counts)
        self._calls(pages)
        self._arena()
        self._triggers()
        unknown = self._names - self._seen
        if unknown:
            raise ValueError(_words("table", sorted(unknown)[0]))

    def _table(self, name: str, columns: Mapping[str, Any], what: str = "") -> pl.DataFrame:
        """A table that has these columns, of these types, and no value lacks."""
        self._seen.add(name)
        if name not in self._names:
            msg = f"there is no table {name}"
            raise ValueError(msg)
        table = self._workload.table(name)
        if dict(table.schema) != dict(columns):
            raise ValueError(_words(f"columns of {name}", dict(table.schema)))
        lacking = [
            column
            for column in table.columns
            if table.get_column(column).null_count() and column not in _MAY_LACK.get(what, ())
        ]
        if lacking:
            msg = f"{name}: values of {lacking[0]} are missing"
            raise ValueError(msg)
        return table

    def _window(self, number: int, pages: int, lows: int, members: int, counts: int) -> None:
        calls, holds, held, below = (
            self._table(f"{what}-{number}", columns) for what, columns in _WINDOW.items()
        )
        _inside("member", calls.get_column("member"), -1, members)
        _inside("hold", holds.get_column("key"), -1, counts)
        for table in (calls, holds):
            of_pool = ~table.get_column("is_local")
            _inside("page", table.get_column("page"), -1 - lows, pages)
            _inside("page", table.get_column("page").filter(of_pool), -1, pages)
        _inside("page", held.get_column("page"), -1, pages)
        _inside("page", below.get_column("page"), -1, pages)
        for table in (held, below):
            _inside("call site", table.get_column("key"), -1, counts)
        _inside("CPU", held.get_column("cpu"), 0, _MOST_CPUS)
        _inside("depth", held.get_column("depth"), 0, _MOST_DEPTH)
        if int(held.get_column("below").cast(_I8).sum()) != below.height:
            raise ValueError(_words("mappings below others", below.height))

    def _triggers(self) -> None:
        triggers = self._table(TRIGGERS_OF, RAN)
        _inside("trigger", triggers.get_column("trigger"), 0, len(TRIGGERS))
        if triggers.get_column("seq").is_duplicated().any():
            raise ValueError(_words("purges", triggers.height))

    def _turns(self, pages: int, counts: int) -> None:
        from replay.whatif.loops.holding import ENTER, GET, LOSS, MAP, UNMAP

        workload = self._workload
        parts = workload.turns
        if parts is None:
            return
        tasks = self._table(TASKS, {"task": _I8}).height
        for number in range(workload.windows):
            self._table(f"turns-{number}", _TURNS)
            turns = turns_of(parts, number)
            of_pool = np.isin(turns.kind, (MAP, UNMAP, GET))
            _inside("turn", turns.kind, 0, ENTER + 1)
            _inside("page", turns.page, -1, pages)
            _inside("page", turns.page[of_pool], 0, pages)
            _inside("task", turns.task[turns.kind != LOSS], 0, tasks)
            _inside("CPU", turns.cpu, 0, _MOST_CPUS)
            _inside("call site", turns.key, -1, counts)
            _inside("row", turns.row, 0, max(workload.found.rows, 1))
            _inside("time", turns.time, -NEVER, NEVER)

    def _calls(self, pages: int) -> None:
        from replay.pool.loops.sequence import FLUSH_UNUSED, GET, MAP, SNAPSHOT, UNMAP

        workload, pool = self._workload, self._workload.pool
        if pool not in ("pool", "other"):
            raise ValueError(_words("pool", pool))
        waits, first, tasks = (
            self._table(f"{pool}-{what}", columns, what) for what, columns in _OF_CALLS.items()
        )
        self._seen |= {f"{pool}-{name}" for name in COLUMNS}
        columns = {name: column.view() for name, column in workload.calls().items()}
        code, page, task = columns["code"], columns["page"], columns["task"]
        if len({column.size for column in columns.values()}) != 1:
            raise ValueError(_words("calls", [column.size for column in columns.values()]))
        calls = np.isin(code, (MAP, UNMAP, GET))
        if not np.isin(code[~calls], (FLUSH_UNUSED, SNAPSHOT)).all():
            raise ValueError(_words("call", int(code.max())))
        _inside("page", page[calls], 0, pages)
        _inside("page", page[~calls], -1, 0)
        _inside("task", task, 0, tasks.height)
        _inside("time", columns["time"], -NEVER, NEVER)
        _inside("page", first.get_column("page"), 0, pages)
        if first.get_column("page").n_unique() != first.height:
            raise ValueError(_words("order of pages", first.height))
        if np.isin(page[calls], first.get_column("page").to_numpy(), invert=True).any():
            raise ValueError(_words("order of pages", first.height))
        _inside("wait", waits.get_column("at"), 0, max(code.size, 1))
        _inside("time", waits.get_column("waited"), 0, NEVER)
        if not waits.get_column("at").is_sorted():
            raise ValueError(_words("order of waits", waits.height))

    def _arena(self) -> None:
        number, last = 0, False
        while not last:
            tables = {
                what: self._table(f"arena-{what}-{number}", columns, what)
                for what, columns in _ARENA.items()
            }
            if tables["facts"].height != 1:
                raise ValueError(_words("facts", tables["facts"].height))
            for what, table in tables.items():
                _check_numbers(table, _ADDRESSES if what != "facts" else ())
            for what in ("allocs", "purges"):
                if not tables[what].get_column("seq").is_sorted():
                    raise ValueError(_words(f"order of {what}", number))
            _inside("purge", tables["away"].get_column("purge"), 0, tables["purges"].height)
            number, last = number + 1, bool(tables["facts"].item(0, "last"))


def _check_numbers(table: pl.DataFrame, addresses: tuple[str, ...]) -> None:
    """Addresses have to be some, positions and times no larger than what stands for never."""
    for column in table.get_columns():
        if column.dtype == _I8:
            most = _SPACE if column.name in addresses else NEVER + (1 << 32)
            _inside(column.name, column, -most, most)
        elif column.dtype == _U8:
            _inside(column.name, column.drop_nulls(), 0, 1 << 63)


def _inside(what: str, values: pl.Series | NDArray[Any], low: int, high: int) -> None:
    """Refuse values below the lowest, or not below the highest."""
    series = pl.Series(values) if isinstance(values, np.ndarray) else values
    least, most = series.min(), series.max()
    if least is not None and (least < low or most >= high):  # type: ignore[operator]
        raise ValueError(_words(what, least if least < low else most))  # type: ignore[operator]


def _words(what: str, value: object) -> str:
    return f"{what} {str(value)[:60]} cannot be"
