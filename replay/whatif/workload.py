"""What a trace asks of a machine, distilled once and served to every target machine.

Reading a trace, and finding the order in which its calls took the pool's lock, has nothing to do
with the machines that a what-if asks about. What has is kept here, window by window: the pool's
calls in lock order with their pages, the rows that local mappings and call sites are counted by,
the requests of the arena; and the figures on the trace's own machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import polars as pl

from collectors.snapshot import Snapshot
from replay.arena.rows import ArenaRows
from replay.local.stacks import switch_hook
from replay.trace.windows import WINDOW_ROWS
from replay.walk import Rest, TraceWalk
from replay.whatif.calls import PoolCalls
from replay.whatif.parts import Parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from replay.figures import Figures
    from replay.machine.model import Machine
    from replay.survey import Survey
    from replay.trace.losses import Loss
    from replay.trace.windows import Window

_UNUSED: Final = ("comm",)
_ROWS: Final = (
    "kmap", "kunmap", "kmap_get", "kmap_local", "kunmap_local", "vmap", "vm_map_ram", "vmalloc",
)  # fmt: skip
_COLUMNS: Final = (
    "seq", "ts", "end_ts", "cpu", "pid", "ctx", "op", "page", "pfn", "vaddr", "pages", "size",
    "caller", "site", "end_seq", "end_cpu", "parent",
)  # fmt: skip
"""Rows and columns that local mappings, call sites and placement look at; with them the switches
that show a task losing its CPU."""


class Stretch(NamedTuple):
    """A window of a workload.

    Attributes
    ----------
    events
        Rows of the event table that matter.
    first_row
        Number of its first row among those of the workload.
    last
        Whether nothing comes behind it.
    new, calls
        Of the pool, see :class:`replay.whatif.calls.PoolCalls`; `row` of `new` counts from the
        first of `events`.
    """

    events: pl.DataFrame
    first_row: int
    last: bool
    new: pl.DataFrame
    calls: pl.DataFrame


@dataclass(frozen=True)
class Workload:
    """A distilled trace.

    Attributes
    ----------
    figures
        Those on its own machine, the facts of the whole trace among them.
    losses
        `seq` of the first event after each loss of events.
    nameless
        Calls of kmap() and kunmap() without arguments.
    pool
        What the names of the pool's tables begin with.
    first_rows
        Number of the first row of each window; and of all rows.
    parts
        The tables.
    """

    figures: Figures
    losses: tuple[int, ...]
    nameless: tuple[int, int]
    pool: str
    first_rows: tuple[int, ...]
    parts: Parts

    @property
    def found(self) -> Survey:
        """Facts of the whole trace."""
        return self.figures.survey

    def stretches(self) -> Iterator[Stretch]:
        """The workload window by window."""
        windows = len(self.first_rows) - 1
        for number in range(windows):
            events = self.parts.get(f"events-{number}")
            new = self.parts.get(f"{self.pool}-new-{number}")
            rows, here = (table.get_column("row").to_numpy() for table in (events, new))
            yield Stretch(
                events.drop("row"),
                self.first_rows[number],
                number == windows - 1,
                new.with_columns(row=pl.Series(np.searchsorted(rows, here), dtype=pl.Int64)),
                self.parts.get(f"{self.pool}-calls-{number}"),
            )

    def waits(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places of calls that slept among all calls of the pool, ascending, and how long (ns)."""
        waits = self.parts.get(f"{self.pool}-waits")
        return waits.get_column("at").to_numpy(), waits.get_column("waited").to_numpy()

    def arena_events(self) -> pl.DataFrame:
        """Events of the arena."""
        return self.parts.get("arena")


def distil(
    events: pl.LazyFrame | pl.DataFrame,
    machine: Machine,
    *,
    values: Snapshot | None = None,
    lost: Loss | None = None,
    progress: Callable[[int, int], None] | None = None,
    rows: int = WINDOW_ROWS,
    folder: Path | None = None,
) -> Workload:
    """Read a trace, order its calls, and count its figures, in bounded memory.

    Parameters
    ----------
    events, machine, values, lost, progress, rows
        As for :func:`replay.walk.replay`.
    folder
        Where to write the tables; see :class:`replay.whatif.parts.Parts`.

    Returns
    -------
    Workload

    Raises
    ------
    HmtraceError
        For a table that is none, or not in order.
    """
    parts = Parts(folder)
    values = values or Snapshot()
    walk = TraceWalk(events, machine, values, lost, progress, rows, _UNUSED)
    layout, found, losses = walk.layout, walk.found, walk.losses
    pool = PoolCalls(layout, found, walk.state, losses, parts, "pool", walk.online())
    rest = Rest(layout, found, values, losses, walk.online())
    arena = ArenaRows(layout)
    kept = _KeptRows(parts, switch_hook(found.ops))
    for window in walk.windows():
        pool.feed(window)
        rest.feed(window)
        arena.feed(window)
        kept.feed(window)
    pool = walk.better(
        pool, lambda: PoolCalls(layout, found, None, losses, parts, "other", walk.online())
    )
    parts.drop("other" if pool.name == "pool" else "pool")
    parts.put("arena", arena.table(walk.table.collect_schema()))
    return Workload(
        figures=rest.figures(found, pool, walk.tell(pool.rows() | rest.rows())),
        losses=losses,
        nameless=pool.nameless,
        pool=pool.name,
        first_rows=tuple(kept.first_rows),
        parts=parts,
    )


class _KeptRows:
    """Rows that matter.

    Attributes
    ----------
    first_rows
        As of :class:`Workload`.
    """

    def __init__(self, parts: Parts, hook: str) -> None:
        self.first_rows = [0]
        self._parts = parts
        self._wanted = pl.col("op").is_in((*_ROWS, hook))

    def feed(self, window: Window) -> None:
        """Write down a window's rows."""
        number = len(self.first_rows) - 1
        table = window.table.with_row_index("row", window.first_row).filter(self._wanted)
        self._parts.put(f"events-{number}", table.select("row", *_COLUMNS))
        self.first_rows.append(self.first_rows[-1] + table.height)
