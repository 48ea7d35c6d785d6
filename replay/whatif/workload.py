"""What a trace asks of a machine, distilled once and served to every target machine.

Reading a trace, and finding the order in which its calls took the pool's lock, has nothing to do
with the machines that a what-if asks about, nor has who held which local mapping for how long. What
has is only which pages are highmem. So kept here are the pool's calls in lock order, and window by
window what call sites and local mappings are counted by, each with its page's number; the requests
of the arena; and the figures on the trace's own machine. Apart from these, for they take as long to
sift as all that and few ask for them, what a conversion of kmap() needs (:func:`sift_turns`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import polars as pl

from collectors.events import OP_CODE
from collectors.records import dataclass
from collectors.snapshot import Snapshot
from replay.arena.pieces import ArenaCutter, ArenaPieces
from replay.arena.purges import PurgeTally
from replay.local.stacks import switch_hook
from replay.machine.generations import GENERATIONS
from replay.trace.beside import Beside
from replay.trace.columns import op_codes
from replay.trace.parts import Parts
from replay.trace.windows import WINDOW_ROWS
from replay.walk import Rest, TraceWalk
from replay.whatif.calls import COLUMNS, PoolCalls, ServedColumns
from replay.whatif.numbered import NumberedRows
from replay.whatif.pages import page_keys
from replay.whatif.turns import TurnSieve, is_of_turns, knows_holders, turn_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from replay.figures import Figures
    from replay.machine.model import Machine
    from replay.pool.window import PoolState
    from replay.sites.loops import Counts
    from replay.survey import Survey
    from replay.trace.losses import Loss
    from replay.trace.spool import SpooledRows
    from replay.trace.windows import Window
    from replay.walk import Step
    from replay.whatif.calls import Served
    from replay.whatif.numbered import NumberedWindow

_UNUSED: Final = ("comm",)
TRIGGERS_OF: Final = "triggers"
"""Table of what made the captured purges run (:data:`replay.arena.purges.RAN`)."""
_MAPS: Final = (OP_CODE["kmap"], OP_CODE["kmap_local"])


class Stretch(NamedTuple):
    """A window of a workload: tables with the numbers of pages (:class:`PageNumbers`).

    Attributes
    ----------
    calls
        `member` (call site with its task) and `page` of kmap() and kmap_local() calls; which of
        them `is_local`.
    holds
        `key` (call site), `page` and `hold` (ns) of mappings that were taken back; which of them
        are `is_local`. Without a key the time is not known.
    held
        `page` of local mappings that returned, `depth`, `cpu`, and how many known ones were
        `below`; switches with what they found held, where `is_map` is false; `row` of the trace,
        `key` (call site).
    below
        `page` and `key` of the mappings below each of them, one element's behind the other's.
    """

    calls: pl.DataFrame
    holds: pl.DataFrame
    held: pl.DataFrame
    below: pl.DataFrame


_STRETCH: Final = Stretch._fields


@dataclass(frozen=True)
class Workload:
    """A distilled trace.

    Attributes
    ----------
    figures
        Those on its own machine, the facts of the whole trace among them.
    nameless
        Calls of kmap() and kunmap() without arguments.
    pool
        What the names of the pool's tables and columns begin with.
    windows
        How many there are.
    site_names
        Call sites by their numbers.
    parts
        The tables.
    turns
        Tables of who holds what of kmap() (:mod:`replay.whatif.turns`); None: they were not sifted.
    """

    figures: Figures
    nameless: tuple[int, int]
    pool: str
    windows: int
    site_names: tuple[str, ...]
    parts: Parts
    turns: Parts | None = None

    @property
    def found(self) -> Survey:
        """Facts of the whole trace."""
        return self.figures.survey

    @property
    def can_convert(self) -> bool:
        """Whether nothing is missing that a conversion of kmap() needs."""
        return self.turns is not None or not knows_holders(self.found)

    def names(self) -> set[str]:
        """Names of all its tables and columns."""
        return self.parts.names() | (set() if self.turns is None else self.turns.names())

    def table(self, name: str) -> pl.DataFrame:
        """A table of this name."""
        if self.turns is not None and is_of_turns(name):
            return self.turns.get(name)
        return self.parts.get(name)

    def stretches(self) -> Iterator[Stretch]:
        """The workload window by window."""
        for number in range(self.windows):
            yield Stretch(*(self.parts.get(f"{name}-{number}") for name in _STRETCH))

    def calls(self) -> dict[str, SpooledRows]:
        """The pool's calls in lock order; see :class:`replay.whatif.calls.ServedColumns`."""
        return {
            name: self.parts.column(f"{self.pool}-{name}", np.dtype(kind))
            for name, kind in COLUMNS.items()
        }

    def of_calls(self, what: str, column: str) -> NDArray[Any]:
        """A column of one of the tables that belong to the calls."""
        return self.column(f"{self.pool}-{what}", column)

    def column(self, table: str, column: str) -> NDArray[Any]:
        """A column of a table."""
        values: NDArray[Any] = self.parts.get(table).get_column(column).to_numpy()
        return values

    def site_counts(self) -> Counts:
        """What was counted by call site on the trace's own machine."""
        from replay.sites.loops import Counts

        table = self.parts.get("sites")
        return Counts(*(table.get_column(name).to_numpy().copy() for name in Counts._fields))

    def triggers(self) -> pl.DataFrame:
        """Who asked for the captured purges (:data:`replay.arena.purges.RAN`)."""
        return self.parts.get(TRIGGERS_OF)

    def arena(self) -> ArenaPieces:
        """The calls on the arena."""
        return ArenaPieces(self.parts)


class _ServedWindow(NamedTuple):
    """A window with what the pool's part told of it."""

    window: Window
    served: Served

    @property
    def last(self) -> bool:
        """Whether nothing comes behind it."""
        return self.window.last


def distil(
    events: pl.LazyFrame | pl.DataFrame,
    machine: Machine,
    *,
    values: Snapshot | None = None,
    lost: Loss | None = None,
    clock_is_ns: bool = True,
    progress: Callable[[int, int], None] | None = None,
    rows: int = WINDOW_ROWS,
    folder: Path | None = None,
    turns: bool = True,
) -> Workload:
    """Read a trace, order its calls, and count its figures, in bounded memory.

    Parameters
    ----------
    events, machine, values, lost, clock_is_ns, progress, rows
        As for :func:`replay.walk.replay`.
    folder
        Where to write the tables; see :class:`replay.trace.parts.Parts`.
    turns
        Whether to sift what a conversion of kmap() needs: a fifth of the work.

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
    rest = Rest(layout, found, values, losses, walk.online(), wants_held=True)
    arena = ArenaCutter(
        layout, values, found.ops, ArenaPieces(parts),
        by_pointer=GENERATIONS[machine.generation].purge_by_pointer,
    )  # fmt: skip
    purges = PurgeTally(layout.page_size, clock_is_ns=clock_is_ns, span=found.span, ops=found.ops)
    ran = [purges.ran]
    numbered = NumberedRows(rest)
    sieve = _sieve(walk, folder) if turns and knows_holders(found) else None
    kept = _KeptWindows(parts)
    columns = ServedColumns(parts, "pool")

    def feed_others(told: _ServedWindow) -> None:
        window, served = told
        piece = numbered.feed(window, (served.row, served.key))
        kept.feed(piece, numbered)
        if sieve is not None:
            sieve.feed(piece, numbered)
        columns.add(served, numbered.numbers)
        arena.feed(window)
        purges.feed(window.table, window.first_row)
        if (more := purges.ran).height:
            ran.append(more)

    def new_pool(state: PoolState | None, take: Callable[[Window, Served], None]) -> PoolCalls:
        return PoolCalls(layout, found, state, losses, take, walk.online())

    with Beside(feed_others) as others:
        pool = new_pool(
            walk.state, lambda window, served: others.give(_ServedWindow(window, served))
        )
        with Beside(pool.follow) as following:
            for step in walk.windows():
                following.give(pool.order_calls(step))
    other = ServedColumns(parts, "other")
    found_better = walk.better(
        pool, lambda: new_pool(None, lambda _, served: other.add(served, numbered.numbers))
    )
    if found_better is not pool:
        columns, other = other, columns
    parts.drop(other.name)
    parts.put(TRIGGERS_OF, pl.concat(ran))
    told = walk.tell(found_better.rows() | rest.rows() | columns.rows | purges.rows())
    columns.finish(found_better.waits, told)
    kept.finish(rest, numbered)
    parts.finish()
    return Workload(
        figures=replace(rest.figures(found, found_better, told), purges=purges.result(told)),
        nameless=found_better.nameless,
        pool=columns.name,
        windows=kept.windows,
        site_names=rest.sites.names,
        parts=parts,
        turns=None if sieve is None else sieve.finish(),
    )


def sift_turns(
    events: pl.LazyFrame | pl.DataFrame,
    machine: Machine,
    workload: Workload,
    *,
    values: Snapshot | None = None,
    lost: Loss | None = None,
    progress: Callable[[int, int], None] | None = None,
    rows: int = WINDOW_ROWS,
    folder: Path | None = None,
) -> Workload:
    """Give a workload what it lacks for a conversion of kmap(), from the trace that it is of.

    Parameters
    ----------
    events, machine, values, lost, progress, rows
        What the workload was distilled from, and how.
    workload
        One that cannot convert.
    folder
        As for :func:`distil`.

    Returns
    -------
    Workload
        The same, with turns.

    Raises
    ------
    HmtraceError
        As :func:`distil`.
    """
    values = values or Snapshot()
    walk = TraceWalk(events, machine, values, lost, progress, rows, _UNUSED)
    rest = Rest(walk.layout, walk.found, values, walk.losses, wants_held=True)
    numbered, sieve = NumberedRows(rest), _sieve(walk, folder)

    def feed(step: Step) -> None:
        window, entries = step
        calls = entries.own_calls
        sieve.feed(numbered.feed(window, (calls["row"], page_keys(calls))), numbered)

    with Beside(feed) as sifting:
        for step in walk.windows():
            sifting.give(step)
    return replace(workload, turns=sieve.finish())


def _sieve(walk: TraceWalk, folder: Path | None) -> TurnSieve:
    """What sifts the turns of a trace, into a folder of their own within the workload's."""
    found = walk.found
    return TurnSieve(turn_parts(folder), found, switch_hook(found.ops), walk.losses)


class _KeptWindows:
    """What is kept of the windows but the pool's calls.

    Attributes
    ----------
    windows
        Windows so far.
    """

    def __init__(self, parts: Parts) -> None:
        self.windows = 0
        self._parts = parts

    def feed(self, piece: NumberedWindow, numbered: NumberedRows) -> None:
        """Write down a window.

        Parameters
        ----------
        piece
            The window, and what was counted in it.
        numbered
            Numbers its rows, and those that are open.
        """
        local, sites = piece.told.local, piece.told.sites
        assert local.held is not None  # they were asked for
        op, numbers = op_codes(piece.window.table), piece.pages
        pages_of, keys_of = numbered.pages_of, numbered.keys_of
        index = np.flatnonzero((op == _MAPS[0]) | (op == _MAPS[1]))
        self._put(
            "calls", member=sites.member[index], page=numbers[index], is_local=op[index] == _MAPS[1]
        )
        self._put(
            "holds",
            key=np.concatenate([sites.key, sites.local_key]),
            page=np.concatenate([sites.page_number, pages_of(local.ended)]),
            hold=np.concatenate([sites.hold, local.hold_ns]),
            is_local=np.repeat([False, True], [sites.key.size, local.ended.size]),
        )
        held = local.held
        self._put(
            "held", page=pages_of(held.row), depth=held.depth, cpu=held.cpu,
            below=held.below.astype(np.uint16), is_map=held.row >= 0,
            row=np.where(held.row < 0, ~held.row, held.row).astype(np.uint32),
            key=keys_of(held.row),
        )  # fmt: skip
        self._put("below", page=pages_of(held.rows), key=keys_of(held.rows))
        self.windows += 1

    def _put(self, what: str, **columns: NDArray[Any]) -> None:
        self._parts.put(f"{what}-{self.windows}", pl.DataFrame(columns))

    def finish(self, rest: Rest, numbered: NumberedRows) -> None:
        """Write down what the windows' numbers stand for."""
        pages = numbered.numbers.pages.keys().view(np.int64)
        lows = numbered.numbers.lows.keys().view(np.int64)
        self._parts.put("pages", pl.DataFrame({"key": pages}))
        self._parts.put("lows", pl.DataFrame({"frame": lows}))
        self._parts.put("members", pl.DataFrame({"key": rest.sites.member_keys}))
        self._parts.put("sites", pl.DataFrame(rest.sites.counts._asdict()))
