"""What a conversion of kmap() to kmap_local_page() needs of a trace, sifted window by window.

Kept are the calls of kmap(), kunmap() and kmap_high_get(), and of each task that holds a mapping of
theirs what it does with local mappings, and when it loses its CPU.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from collectors.events import OP_CODE
from replay.trace.columns import of_ops, whole
from replay.trace.numbering import Numbering
from replay.trace.parts import Parts

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from replay.local.events import LocalEvents
    from replay.survey import Survey
    from replay.trace.losses import Gaps
    from replay.whatif.loops.holding import Turns
    from replay.whatif.numbered import NumberedRows, NumberedWindow

MOST_HELD: Final = 1 << 18
"""Mappings that are remembered; beyond it, who holds what is taken for unknown."""
_OPS: Final = ("kmap", "kunmap", "kmap_get", "switch")
_COLUMNS: Final = (
    "seq", "end_seq", "cpu", "end_cpu", "ts", "end_ts", "pid", "op", "blocked", "vaddr",
)  # fmt: skip
_NEVER: Final = -1
FOLDER: Final = "turns"
"""Where the tables lie within the folder of a workload."""
TASKS: Final = "turn-tasks"
COLUMNS: Final = ("kind", "flag", "page", "task", "cpu", "key", "row", "time")


def knows_holders(found: Survey) -> bool:
    """Whether a trace tells who takes mappings of kmap() back."""
    return "kmap" in found.ops and "kunmap" in found.ops


def turn_parts(folder: Path | None) -> Parts:
    """Where the turns of a workload are written whose tables are in a folder; None: as those."""
    if folder is None:
        return Parts()
    own = folder / FOLDER
    with suppress(OSError):  # then nothing can be written into it either
        own.mkdir(exist_ok=True)
    return Parts(own)


def is_of_turns(name: str) -> bool:
    """Whether a table of a workload is one of its turns."""
    return name == TASKS or name.startswith(f"{FOLDER}-")


class TurnSieve:
    """Sifts the turns of a trace that tells who holds what (:func:`knows_holders`).

    Parameters
    ----------
    parts
        Where they are written: tables ``turns-0`` and so on, a window each, with the columns of
        :class:`replay.whatif.loops.holding.Turns`; row and time as differences.
    found
        Facts of the whole trace.
    hook
        As for :class:`replay.local.stacks.LocalStacks`.
    losses
        Where events were lost.
    """

    def __init__(self, parts: Parts, found: Survey, hook: str, losses: Gaps) -> None:
        from replay.whatif.loops.holding import new_open

        self._parts = parts
        self._returned = found.returned > 0
        self._has_hook = hook == "sched_out"
        self._windows = 0
        self._tasks = Numbering()
        self._held = new_open()
        self._coming = _lost_at(losses.ends)

    def feed(self, piece: NumberedWindow, numbered: NumberedRows) -> None:
        """Sift a window.

        Parameters
        ----------
        piece
            The window, and what was counted in it.
        numbered
            Numbers its rows, and those that are open.
        """
        local = piece.told.local.events
        assert local is not None  # they were asked for
        table, first_row, last, _ = piece.window
        of_pool = self._of_pool(table, first_row, piece.pages, piece.keys)
        of_local = self._of_local(local, numbered.pages_of(local.row), numbered.keys_of(local.row))
        coming = _joined(self._coming, of_pool, of_local)
        order = np.argsort(coming["at"], kind="stable")
        end = int(table["seq"][-1]) if table.height else 0
        settled = order.size
        if not last:
            settled = int(np.searchsorted(coming["at"], end, side="right", sorter=order))
        self._coming = {name: column[order[settled:]] for name, column in coming.items()}
        pages = numbered.numbers.pages.count
        self._put({name: column[order[:settled]] for name, column in coming.items()}, pages)

    def _put(self, columns: dict[str, NDArray[Any]], pages: int) -> None:
        """Sift what is settled, and write it down."""
        from replay.whatif.loops.holding import HELD, LOSS, Turns, forget_all, sift, with_room

        columns["task"] = self._tasks.of(columns["task"]).astype(np.int32)
        turns = Turns(**{name: columns[name] for name in COLUMNS})
        more = turns.kind.size
        self._held = with_room(self._held, more, self._tasks.count, pages)
        room = 2 * more + int(self._held.reg[HELD]) + 1
        out = Turns(*(np.empty(room, column.dtype) for column in turns))
        n = sift(turns, self._held, out)
        if self._held.reg[HELD] > MOST_HELD:
            forget_all(self._held)
            out.kind[n], out.task[n] = LOSS, 0
            out.row[n], out.time[n] = out.row[n - 1], out.time[n - 1]
            out.page[n] = out.cpu[n] = out.key[n] = out.flag[n] = 0
            n += 1
        told = {name: getattr(out, name)[:n] for name in COLUMNS}
        for name in ("row", "time"):
            told[name] = np.diff(told[name], prepend=0)
        self._parts.put(f"turns-{self._windows}", pl.DataFrame(told))
        self._windows += 1

    def finish(self) -> Parts:
        """Write down which tasks the turns are of: pid, below zero of idle ones.

        Returns
        -------
        Parts
            All that was written.
        """
        tasks = self._tasks.keys().view(np.int64)
        self._parts.put(TASKS, pl.DataFrame({"task": tasks}))
        return self._parts

    def _of_pool(
        self,
        table: pl.DataFrame,
        first_row: int,
        pages: NDArray[np.int32],
        keys: NDArray[np.int32],
    ) -> dict[str, NDArray[Any]]:
        """Calls of the pool, and switches."""
        from replay.whatif.loops import holding as kernel

        index = pl.int_range(pl.len(), dtype=pl.Int64).alias("index")
        rows = of_ops(table.select(*_COLUMNS, index), _OPS)
        at = rows.get_column("index").to_numpy()
        op = rows.get_column("op").to_physical().to_numpy()
        kind = np.full(at.size, kernel.SWITCH, np.uint8)
        is_map = op == OP_CODE["kmap"]
        kind[is_map] = kernel.MAP
        kind[op == OP_CODE["kunmap"]] = kernel.UNMAP
        kind[op == OP_CODE["kmap_get"]] = kernel.GET
        seq, end = whole(rows, "seq", 0), whole(rows, "end_seq", 0)
        has_end = rows.get_column("end_seq").is_not_null().to_numpy()
        is_return = kind != kernel.SWITCH
        is_return &= (kind != kernel.UNMAP) & has_end
        flag = np.zeros(at.size, np.uint8)
        flag[is_map & ~has_end & self._returned] = kernel.OPEN
        blocked = rows.get_column("blocked").fill_null(value=False).to_numpy()
        flag[(kind == kernel.SWITCH) & blocked] = kernel.BLOCKED
        cpu = whole(rows, "cpu", 0).astype(np.int32)
        there = rows.get_column("end_cpu").cast(pl.Int32).fill_null(-1).to_numpy()
        time, end_time = whole(rows, "ts", 0), whole(rows, "end_ts", _NEVER)
        task = whole(rows, "pid", -1).astype(np.int64)
        told = {
            "at": np.where(is_return, np.maximum(end, seq), seq),
            "kind": kind,
            "flag": flag,
            "page": pages[at],
            "task": np.where(task == 0, -2 - cpu, task),
            "cpu": np.where(is_return & (there >= 0), there, cpu),
            "key": keys[at],
            "row": first_row + at,
            "time": np.where(is_return & (end_time >= 0), end_time, time),
        }
        entered = np.flatnonzero(is_map & has_end & (end - seq > 1))
        is_known = (told["page"] >= 0) | (kind == kernel.SWITCH)
        is_known &= (kind != kernel.GET) | (whole(rows, "vaddr", 0) != 0)  # it found one
        which = np.concatenate([entered, np.flatnonzero(is_known)])
        some = {name: column[which] for name, column in told.items()}
        some["at"][: entered.size], some["kind"][: entered.size] = seq[entered], kernel.ENTER
        return some

    def _of_local(
        self, local: LocalEvents, pages: NDArray[np.int32], keys: NDArray[np.int32]
    ) -> dict[str, NDArray[Any]]:
        """Local mappings, and the scheduler's hook where it was traced."""
        from replay.local import loops
        from replay.whatif.loops import holding as kernel

        kind = np.full(local.kind.size, kernel.HOOK, np.uint8)
        kind[local.kind == loops.MAP] = kernel.LOCAL
        kind[local.kind == loops.UNMAP] = kernel.LOCAL_END
        which = np.flatnonzero((kind != kernel.HOOK) | self._has_hook)
        told = _blank(which.size)
        told["kind"], told["page"], told["key"] = kind[which], pages[which], keys[which]
        told["at"] = local.at[which].astype(np.int64)
        told["task"], told["cpu"] = local.task[which], local.cpu[which]
        told["row"], told["time"] = local.row[which], local.ts[which]
        return told


def turns_of(parts: Parts, window: int) -> Turns:
    """The turns of a window that was sifted before."""
    from replay.whatif.loops.holding import Turns

    table = parts.get(f"turns-{window}")
    columns = {name: table.get_column(name).to_numpy() for name in COLUMNS}
    for name in ("row", "time"):
        columns[name] = np.cumsum(columns[name])
    return Turns(**columns)


_TYPES: Final = {
    "at": np.int64, "kind": np.uint8, "flag": np.uint8, "page": np.int32, "task": np.int64,
    "cpu": np.int32, "key": np.int32, "row": np.int64, "time": np.int64,
}  # fmt: skip


def _blank(turns: int) -> dict[str, NDArray[Any]]:
    """So many turns of which nothing is known."""
    told = {name: np.zeros(turns, kind) for name, kind in _TYPES.items()}
    told["key"][:] = told["page"][:] = -1
    return told


def _lost_at(positions: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Turns before which nothing is known, in their order."""
    from replay.whatif.loops.holding import LOSS

    lost = _blank(positions.size)
    lost["kind"][:], lost["at"][:] = LOSS, positions
    return lost


def _joined(*some: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Turns one behind the other."""
    return {
        name: np.concatenate([told[name] for told in some]).astype(kind, copy=False)
        for name, kind in _TYPES.items()
    }
