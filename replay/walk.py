"""The figures of a capture in bounded memory: the event table window by window.

The parts are those of the replay of a whole trace, each fed in pieces and carrying what is open:
the pool with its lock order, the stacks of local mappings, the arena, the call sites. Where the
windows end changes no figure. What is kept grows with the machine (slots, tasks, areas, call
sites) and with what is under way, not with the trace.

A window goes through three threads, each of which is at another one:

1. it is made, and the pool's calls are found in it (:meth:`TraceWalk.windows`): a :class:`Step`;
2. the main thread searches the order of those calls (:meth:`PoolPart.order_calls`), which needs
   nothing of what the order comes to: it is :class:`Ordered`;
3. beside it what is in order is replayed (:meth:`PoolPart.follow`), and everything else counted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar

import numpy as np
import polars as pl

from collectors.events import require_events, totals_of
from collectors.snapshot import Snapshot
from replay.arena.modules import row_of
from replay.arena.purges import PurgeTally
from replay.arena.tally import IS_FLUSH, IS_RANGE_FLUSH, ArenaTally
from replay.arena.use import ArenaUse
from replay.figures import Figures, outcome_from
from replay.local.stacks import LocalStacks, switch_hook
from replay.local.tally import LocalTally
from replay.machine.kconfig import is_realtime
from replay.machine.layout import layout_of
from replay.observed.longest import LongestTally
from replay.observed.tally import ObservedTally
from replay.over_time import MarkedTimes
from replay.pool.calls import is_window_flush
from replay.pool.entries import PoolEntries
from replay.pool.lock_order import LockOrder
from replay.pool.replay import MISFITS, PoolRun, is_of_another_run, not_used, state_from, window_of
from replay.sites.tally import SiteTally
from replay.survey import survey
from replay.timeline.tally import TimelineTally
from replay.trace.beside import Beside
from replay.trace.columns import has_ops, of_ops
from replay.trace.losses import gaps_of
from replay.trace.online import OnlineCpus, mean_online
from replay.trace.sanitise import narrow_events, narrowed
from replay.trace.told import NO_ROW, moment, tell
from replay.trace.windows import WINDOW_ROWS, windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from replay.local.stacks import LocalPiece, NewMaps
    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.outcome import Outcome, PoolOutcome
    from replay.pool.calls import CallTable
    from replay.pool.entries import Entries
    from replay.pool.lock_order import Piece
    from replay.pool.replay import FinalPool, PoolAt
    from replay.pool.tally import PoolTally
    from replay.pool.window import PoolState
    from replay.sites.tally import SitePiece
    from replay.survey import Survey
    from replay.timeline.pool import PoolFold
    from replay.times import TimeBins
    from replay.trace.losses import Gaps, Loss
    from replay.trace.told import Told
    from replay.trace.windows import Window

_FLUSHES: Final = ("flush_range", "flush_all")
_UNUSED: Final = ("comm", "entry_traced", "next_pid")


def replay(
    events: pl.LazyFrame | pl.DataFrame,
    machine: Machine,
    *,
    values: Snapshot | None = None,
    lost: Loss | None = None,
    clock_is_ns: bool = True,
    span_ns: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    rows: int = WINDOW_ROWS,
    timeline: int | None = None,
    watch: Watch | None = None,
) -> Outcome:
    """Replay a trace on its own machine, for its figures alone.

    Parameters
    ----------
    events
        Event table. One of more than `rows` rows has to be in the order of `seq`.
    machine
        The machine that the trace is from.
    values
        Its facts; the pool's initial state among them.
    lost
        What tracing lost.
    clock_is_ns
        False where the trace clock counts something else than time.
    span_ns
        Time between the trace's first and last event of any kind; None: those of the table.
    progress
        Called with the rows done and the rows in all.
    rows
        Rows per window.
    timeline
        Bins at most of the state over time; None: it is not asked for.
    watch
        Is shown what every window comes to.

    Returns
    -------
    Outcome

    Raises
    ------
    HmtraceError
        If `events` is no event table, or not in order.
    """
    values = values or Snapshot()
    unused = _UNUSED if watch is None else tuple(set(_UNUSED) - {"comm"})
    walk = TraceWalk(events, machine, values, lost, progress, rows, unused)
    layout, found, losses = walk.layout, walk.found, walk.losses
    line = None
    if timeline is not None:
        line = TimelineTally(layout, machine, values, found, lost, timeline)

    def pool_from(state: PoolState | None) -> PoolPart:
        follower = None if line is None else line.pool()
        return PoolPart(
            layout, found, state, losses, walk.online(), follower, wants_ended=watch is not None
        )

    pool = pool_from(walk.state)
    wants_events = line is not None or watch is not None
    rest = Rest(layout, found, values, losses, walk.online(), wants_events=wants_events)
    observed = ObservedTally(clock_is_ns=clock_is_ns)
    purges = PurgeTally(
        layout.page_size, clock_is_ns=clock_is_ns, span=found.span, ops=found.ops,
        also=None if line is None else line.purges,
    )  # fmt: skip
    longest = LongestTally(
        layout.page_size, clock_is_ns=clock_is_ns, sleeps_for_lock=is_realtime(machine.config)
    )

    def follow(ordered: Ordered) -> None:
        window = ordered.window
        before = pool.at
        of_pool, of_rest = pool.follow(ordered), rest.feed(window)
        if line is not None:
            line.take(window.table, of_rest.local.events, of_rest.areas, of_rest.flushes)
        if watch is not None:
            open_rows = np.concatenate([pool.open_rows(ordered.piece), rest.open_rows])
            held = pool.using, rest.held
            watch.take(WindowSeen(window, before, of_pool, of_rest, open_rows, held))
        observed.feed(window.table, window.first_row)
        purges.feed(window.table, window.first_row)
        longest.feed(window.table, window.first_row)

    with Beside(follow) as others:
        for step in walk.windows():
            others.give(pool.order_calls(step))
    first, pool = pool, walk.better(pool, lambda: pool_from(None))
    if watch is not None and pool is not first:
        watch.deny_snapshot()
    told = walk.tell(pool.rows() | rest.rows() | observed.rows() | purges.rows() | longest.rows())
    figures = replace(rest.figures(found, pool, told), purges=purges.result(told))
    outcome = outcome_from(
        figures,
        machine,
        walk.shown,
        values,
        lost,
        clock_is_ns=clock_is_ns,
        span_ns=span_ns,
        observed=replace(
            observed.result(told),
            longest=longest.result(told, lost),
            marks=pool.marks(purges.when),
            holds=rest.sites.hold_times() if clock_is_ns else (),
        ),
    )
    if line is None or pool.follower is None:
        return outcome
    return replace(outcome, timeline=line.result(outcome, pool.follower))


class WindowSeen(NamedTuple):
    """What a window came to.

    Attributes
    ----------
    window
        The window.
    at
        The pool before what was settled with it.
    pool, rest
        What it told.
    open_rows : ndarray of int64
        Rows of mappings that are open at its end, and of calls that are not in order yet.
    held
        Row, task and time of each mapping of the pool, and of each local one, that is open then.
    """

    window: Window
    at: PoolAt
    pool: PoolPiece
    rest: RestPiece
    open_rows: NDArray[np.int64]
    held: tuple[NDArray[np.int64], NDArray[np.int64]]


class Watch(Protocol):
    """What is shown every window, in their order."""

    def take(self, seen: WindowSeen) -> None:
        """See what a window came to."""
        ...

    def deny_snapshot(self) -> None:
        """The pool's snapshot is of another run: what was seen of the pool rests on it."""
        ...


class Step(NamedTuple):
    """A window, and what the pool finds in it."""

    window: Window
    entries: Entries

    @property
    def last(self) -> bool:
        """Whether nothing comes behind it."""
        return self.window.last


class Ordered(NamedTuple):
    """A window, and the pool's operations that were settled with it."""

    window: Window
    piece: Piece

    @property
    def last(self) -> bool:
        """Whether nothing comes behind it."""
        return self.window.last


class _Fed(Protocol):
    """What replays the pool: :class:`PoolPart`, or something around one."""

    misfits: int
    initial_state: str

    def feed(self, step: Step) -> object:
        """Take a window."""
        ...


_AnyPool = TypeVar("_AnyPool", bound=_Fed)


class TraceWalk:
    """A trace on the machine that it is from, to be gone through window by window.

    Parameters
    ----------
    events, machine, values, lost, progress, rows
        As for :func:`replay`.
    unused
        Columns that nobody needs; that of switches stays where there are any.

    Attributes
    ----------
    shown, layout
        Address map of the machine; the same with addresses of at most 48 bits.
    state
        The pool's snapshot.
    found
        Facts of the whole trace.
    losses
        Where events were lost.
    table
        The event table, its rows in the order in which the windows have them.
    """

    def __init__(
        self,
        events: pl.LazyFrame | pl.DataFrame,
        machine: Machine,
        values: Snapshot,
        lost: Loss | None,
        progress: Callable[[int, int], None] | None,
        rows: int,
        unused: Iterable[str] = (),
    ) -> None:
        require_events(events)
        self.shown = layout_of(machine)
        self.layout, self.state = narrowed(self.shown), state_from(values)
        self._events = events.lazy()
        narrow = narrow_events(self._events, self.shown)
        totals = totals_of(self._events)
        self.found = survey(narrow, self.state, window_of(self.layout), rows, totals)
        self.losses = gaps_of(lost, self._events)
        self.table = narrow if self.found.rows > rows else narrow.sort("seq")
        self._progress, self._rows = progress, rows
        used = {"next_pid"} if "switch" in self.found.ops else set()
        self._unused = tuple(name for name in unused if name not in used)
        self._changes, self._cpus = values.cpu_changes or (), machine.cpus

    def online(self) -> OnlineCpus | None:
        """What counts the CPUs that were online at each flush; None where none went or came."""
        online = OnlineCpus(self._changes, self.found.span, self._cpus)
        return online if online.changed else None

    def windows(self) -> Iterator[Step]:
        """Go through the trace; see :func:`replay.trace.windows.windows`."""
        pool = PoolEntries(window_of(self.layout), self.found.pool)

        def look(window: Window) -> Step:
            return Step(window, pool.of(window.table, window.first_row))

        return windows(
            self._events, self.found.rows, self._rows, self.shown, look, self._progress,
            self._unused,
        )  # fmt: skip

    def tell(self, rows: Iterable[int]) -> Told:
        """Look rows up, numbered as the windows have them (:func:`replay.trace.told.tell`)."""
        return tell(self._events, rows, self.found.rows, self._rows)

    def better(self, pool: _AnyPool, without: Callable[[], _AnyPool]) -> _AnyPool:
        """The replay of the pool, or another where the trace explains itself better so.

        Parameters
        ----------
        pool
            Replay with the snapshot, if there is one, at the end of the trace.
        without
            Makes the same without it, at the start. It is fed the trace again if the trace
            contradicts the snapshot so often that it may be of another run.
        """
        if self.state is None or pool.misfits < MISFITS:
            return pool
        other = without()
        for step in self.windows():
            other.feed(step)
        if not is_of_another_run(pool.misfits, other.misfits):
            return pool
        other.initial_state = not_used(pool.misfits)
        return other


class PoolPiece(NamedTuple):
    """What a window told of the pool.

    Attributes
    ----------
    piece
        The operations that it settled.
    result, scanned, freed : ndarray of int32
        What each of them came to (:meth:`replay.pool.replay.PoolRun.take`).
    over
        The calls that are over.
    ended : ndarray of int64, shape (n, 3)
        Row, task and time of the kmap() that each of them ended, -1 not known; of length 0: not
        asked for.
    """

    piece: Piece
    result: NDArray[np.int32]
    scanned: NDArray[np.int32]
    freed: NDArray[np.int32]
    over: CallTable
    ended: NDArray[np.int64]


class PoolPart:
    """The pool: its order, its replay, and how many calls contradict the model.

    One thread may search for the order (:meth:`order_calls`) while another follows it
    (:meth:`follow`).

    Attributes
    ----------
    online
        Counts the CPUs that its flushes interrupt, if any went or came.
    follower
        What follows its state over time, if that is asked for.
    misfits
        Calls so far whose address no order explains.
    initial_state
        ``snapshot``, ``inferred`` or, in words, why the snapshot was not used.
    """

    def __init__(
        self,
        layout: Layout,
        found: Survey,
        state: PoolState | None,
        losses: Gaps,
        online: OnlineCpus | None = None,
        follower: PoolFold | None = None,
        *,
        wants_ended: bool = False,
    ) -> None:
        window = window_of(layout)
        self.online, self.follower = online, follower
        self.order = LockOrder(window, found.pool, state=state, losses=losses)
        self._run = PoolRun(
            window, found.span, is_lossy=losses.begin is not None, wants_ended=wants_ended
        )
        self.misfits = 0
        self.initial_state = "inferred" if state is None else "snapshot"

    def feed(self, step: Step) -> PoolPiece:
        """Take a window."""
        return self.follow(self.order_calls(step))

    def order_calls(self, step: Step) -> Ordered:
        """Order the calls of a window, as far as it settles them."""
        window, entries = step
        return Ordered(window, self.order.feed(entries, last=window.last))

    def follow(self, ordered: Ordered) -> PoolPiece:
        """Replay what is in order."""
        from replay.pool.loops.placing import DIVERGED

        window, piece = ordered
        if self.follower is not None:
            self.follower.take(self._run.at, piece)
        result, scanned, freed = self._run.take(piece, last=window.last)
        if self.online is not None:
            self.online.add(piece.time[freed > 0])
        over = piece.over
        self._run.finish(over)
        self.misfits += int((over["status"] == DIVERGED).sum())
        return PoolPiece(piece, result, scanned, freed, over, self._run.ended)

    def marks(self, purges: TimeBins) -> MarkedTimes:
        """When it was flushed and calls fell asleep, beside when purges gave something back."""
        run = self._run
        bins = (run.flushes.wraps, run.flushes.passes, purges, run.waits)
        return MarkedTimes(0, purges.width, *(tuple(one.counts.tolist()) for one in bins))

    @property
    def tally(self) -> PoolTally:
        """What the cost needs."""
        return self._run.tally

    @property
    def nameless(self) -> tuple[int, int]:
        """Calls of kmap() and kunmap() of which the trace has no argument."""
        return self._run.nameless

    @property
    def at(self) -> PoolAt:
        """State of the pool behind the last window's piece."""
        return self._run.at

    @property
    def using(self) -> NDArray[np.int64]:
        """Row, task and time of each kmap() whose mapping is in use, shape (n, 3)."""
        return self._run.using

    def open_rows(self, piece: Piece) -> NDArray[np.int64]:
        """Rows of the calls that later pieces may tell of, behind this one."""
        return np.union1d(self._run.noted_rows, piece.calls["row"][piece.kept])

    def rows(self) -> set[int]:
        """Rows that :meth:`outcome` needs to name tasks."""
        return self._run.rows()

    def outcome(self, told: Told | None = None) -> PoolOutcome:
        """The figures; see :meth:`replay.pool.replay.PoolRun.outcome`."""
        return self._run.outcome(told)

    def final(self) -> FinalPool | None:
        """The pool that the model ends with; None where nothing was replayed."""
        return self._run.final()


class RestPiece(NamedTuple):
    """What a window told of everything else.

    Attributes
    ----------
    local, sites
        Local mappings, call sites.
    areas
        Steps of the arena (:meth:`replay.arena.use.ArenaUse.feed`).
    flushes
        Flushes that are not the pool's (:meth:`replay.arena.tally.ArenaTally.add`).
    """

    local: LocalPiece
    sites: SitePiece
    areas: NDArray[np.void]
    flushes: pl.DataFrame


class Rest:
    """Everything but the pool.

    Parameters
    ----------
    layout, found, values, losses, online
        As for :class:`PoolPart`.
    wants_held, wants_events
        As for :class:`replay.local.stacks.LocalStacks`.

    Attributes
    ----------
    sites
        The call sites.
    work
        Work of the arena.
    beyond
        Values that no machine has.
    """

    def __init__(
        self,
        layout: Layout,
        found: Survey,
        values: Snapshot,
        losses: Gaps,
        online: OnlineCpus | None = None,
        *,
        wants_held: bool = False,
        wants_events: bool = False,
    ) -> None:
        self._layout = layout
        self._online = online
        self._of_pool = is_window_flush(window_of(layout))
        hook = switch_hook(found.ops)
        self._stacks = LocalStacks(
            layout, hook, losses, wants_held=wants_held, wants_events=wants_events
        )
        self._local = LocalTally()
        self.sites = SiteTally(layout.page_size)
        self.work = ArenaTally()
        self._use = ArenaUse(layout, values)
        self._largest_flush = (0, NO_ROW)  # bytes and row
        self._first_unused = NO_ROW
        self.beyond = 0

    @property
    def open_rows(self) -> NDArray[np.int64]:
        """Rows of the local mappings that are open at the end of the last window."""
        return self._stacks.open_rows

    @property
    def held(self) -> NDArray[np.int64]:
        """Row, task and time of each local mapping that is held, shape (n, 3)."""
        return self._stacks.held

    def feed(
        self, window: Window, numbered: Callable[[NewMaps], NDArray[np.int32]] | None = None
    ) -> RestPiece:
        """Take a window.

        Parameters
        ----------
        window
            The window.
        numbered
            Numbers the page of each row, once it is known which mappings are new; see
            :meth:`replay.sites.tally.SiteTally.feed`.
        """
        table, first_row, last, beyond = window
        self.beyond += beyond
        local = self._stacks.feed(table, first_row, last=last)
        self._local.take(local)
        pages = None if numbered is None else numbered(local.new)
        sites = self.sites.feed(
            table, first_row, local.ended, local.hold_ns, self.open_rows, pages, local.wrong
        )
        flushes = self.work.add(table, window_of(self._layout), self._layout.page_size)
        areas = self._use.feed(table, first_row, last=last)
        self._note_flush(table, first_row)
        self._note_unused(table, first_row)
        if self._online is not None:
            every = of_ops(table, _FLUSHES).filter(~self._of_pool & IS_FLUSH)
            self._online.add(every.get_column("ts").to_numpy())
        return RestPiece(local, sites, areas, flushes)

    def _note_flush(self, table: pl.DataFrame, first_row: int) -> None:
        """Keep the largest ranged flush, where the kernel makes no full one of it."""
        if self._layout.flush_ceiling_pages is not None:
            return
        flushes = of_ops(table.select("seq", "op", "start", "end"), ("flush_range",))
        flushes = flushes.filter(IS_RANGE_FLUSH)
        flushes = flushes.select("seq", size=pl.col("end") - pl.col("start"))
        at = flushes.get_column("size").arg_max()
        if at is not None and (size := int(flushes["size"][at])) > self._largest_flush[0]:
            self._largest_flush = size, first_row + row_of(table, flushes["seq"][at])

    def _note_unused(self, table: pl.DataFrame, first_row: int) -> None:
        """Keep the first call of kmap_flush_unused(): its pass over the pool has no row."""
        if self._first_unused == NO_ROW and has_ops(table, ("flush_unused",)):
            at = (table.get_column("op") == "flush_unused").arg_max()
            self._first_unused = first_row + (at or 0)

    def rows(self) -> set[int]:
        """Rows that :meth:`figures` needs to name tasks."""
        own = {self._largest_flush[1], self._first_unused}
        return self._local.rows() | self._use.rows() | own

    def figures(self, found: Survey, pool: PoolPart, told: Told) -> Figures:
        """What was counted, when all windows have been fed.

        Parameters
        ----------
        found, pool
            Facts of the whole trace; the pool.
        told
            What the rows of both parts tell.
        """
        of_pool = pool.outcome(told)
        if self._first_unused != NO_ROW and of_pool.first_unused_pass is not None:
            of_pool = replace(of_pool, first_unused_pass=moment(told, self._first_unused))
        return Figures(
            survey=found,
            tally=pool.tally,
            pool=of_pool,
            local=self._local.outcome(self._layout, told),
            work=self.work,
            arena=self._use.outcome(told),
            sites=self.sites.sites(),
            initial_state=pool.initial_state,
            beyond=self.beyond,
            online=mean_online(self._online, pool.online),
            largest_flush=moment(told, self._largest_flush[1]),
            remarks=self.sites.remarks(),
        )
