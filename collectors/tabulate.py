"""Raw events to the event table, piece by piece: pair, name the columns, derive frames.

The same code serves a trace that is read as a whole (one piece) and one that is larger than
memory. Rows leave in the order of `seq` and complete, which has two conditions that a single
pass cannot always keep: a call may stay open for longer than its row can be held back, and
what the end of a trace teaches (that a function has return events at all, how pages and frames
go together) may hold for its beginning. Then :attr:`Tabulator.again` is what a further pass over
the trace has to know, and what came out of this one is to be thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import polars as pl

from collectors import columns, pairing, probes
from collectors.capture import Marker
from collectors.columns import VALUE_COLUMNS
from collectors.errors import HmtraceError
from collectors.events import OPS, REASONS, SCHEMA, empty
from collectors.pages import Frames, PageMap
from collectors.raw import NO_TASK
from collectors.stacks import caller_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from collectors.raw import RawEvents

HOLD: Final = 1 << 20
"""Rows that are held back for the return of a call that is open."""
_MOST: Final = 1 << 23
"""Calls that may be open at once, and that may return late: more are no trace of a kernel, where
a task has a few (64 bytes are kept for each)."""
GIVEN: Final = 1 << 18
"""Rows that are given away at a time."""
_MASKED: Final = {
    "end_ts": pairing.HAS_END,
    "end_seq": pairing.HAS_END,
    "end_cpu": pairing.HAS_END,
    "parent": pairing.HAS_PARENT,
    "next_pid": pairing.IS_SWITCH,
    "blocked": pairing.IS_SWITCH,
}
_REASONS: Final = pl.Series("reason", [*REASONS, None], dtype=pl.Enum(REASONS))
_TLB_FLUSH: Final = probes.TRACEPOINTS["tlb_flush"]
_SLACK: Final = 16
"""One part in so many of `HOLD` is always held back: a pfn call that belongs to a page call of
which no return is traced comes soon after it."""


_EARLIER: Final = np.uint32(1 << 31)
"""Mark of a call site's number that an earlier pass over the trace gave."""


class Symboliser(Protocol):
    """What turns return addresses into call sites (:class:`collectors.symbols.Symbols`)."""

    def lookup_many(self, addresses: NDArray[np.uint64]) -> list[str]:
        """Symbol with offset of each address, "" where there is none."""
        ...


@dataclass(frozen=True)
class Known:
    """What a pass over a trace taught that the next one has to know from its start.

    Attributes
    ----------
    has_return : ndarray of bool, shape (functions,)
        Functions of which there are return events.
    late
        What came for rows that had left already, sorted by row; None: not known.
    page_map
        How pages and frames go together; None: not known.
    sites, stacks
        Call sites and stack traces by their numbers in `late`: another pass may number them
        otherwise.
    """

    has_return: NDArray[np.bool_]
    late: columns.Late | None
    page_map: PageMap | None
    sites: pl.Series
    stacks: pl.Series


class Tabulator:
    """Makes the event table of a trace.

    Parameters
    ----------
    symbols
        Called when the first address of a call site has to be named.
    page_map
        How struct page addresses and frame numbers go together by the machine's own account; the
        trace's own (page, pfn) pairs go before it.
    known
        What an earlier pass taught.
    hold
        Rows that are held back for returns.
    source
        Name of the trace, for errors.

    Raises
    ------
    HmtraceError
        From :meth:`add`, if more calls are open than any kernel has.
    """

    def __init__(
        self,
        *,
        symbols: Callable[[], Symboliser | None] = lambda: None,
        page_map: PageMap | None = None,
        known: Known | None = None,
        hold: int = HOLD,
        source: str = "",
    ) -> None:
        self._source = source
        self._most = max(_MOST, hold)
        self._known = known
        self._hold = hold
        self._plan = columns.make_plan()
        self._cell = np.zeros(pairing.CELLS, np.int64)
        self._cell[pairing.FREE] = columns.NONE
        self._tasks = columns.new_tasks(1 << 10)
        self._last = columns.new_last()
        self._calls = columns.new_calls(1 << 8)
        self._rows = columns.new_rows(0)
        self._late = columns.new_late(0)
        self._seq = 0
        self._added = 0
        self._entries = np.zeros(len(probes.FUNCTIONS), bool)
        self._waiting: list[RawEvents] | None = []
        self._wrong = False
        self._frames = Frames(page_map)
        self._names = _Names(symbols)
        self.has_mappings = False
        self.markers: list[Marker] = []
        self._has_return = np.zeros(len(probes.FUNCTIONS), bool)
        self._known_late = columns.new_late(0)
        if known is not None:
            self._known_late = known.late or self._known_late
            self._has_return |= known.has_return
            self._frames.use(known.page_map)
            self._names.earlier = known.sites
            self._names.earlier_stacks = known.stacks

    def add(self, piece: RawEvents) -> Iterator[pl.DataFrame]:
        """Take the next piece of the trace.

        Parameters
        ----------
        piece
            Raw events; an index into `comms` or `sites` means the same in all pieces.

        Yields
        ------
        polars.DataFrame
            Rows that are complete: columns of :data:`collectors.events.SCHEMA`.
        """
        self._learn(piece.rows)
        self._mark(piece)
        if self._waiting is None:
            yield from self._pair(piece)
            return
        # The first rows wait for what the next ones teach.
        self._waiting.append(piece)
        if sum(len(p.rows) for p in self._waiting) >= self._hold:
            yield from self._begin()

    def finish(self) -> Iterator[pl.DataFrame]:
        """Give what is left, once all pieces have been added; at least an empty table."""
        yield from self._begin()
        yield from self._give(int(self._cell[pairing.ROWS]))
        yield empty()

    def again(self) -> Known | None:
        """Tell what a further pass has to know; None: everything that was given is right."""
        if self._wrong:  # calls were not paired as they will be: what came late is not known
            none = _categories((), "site")
            return Known(self._has_return, None, self._frames.best, none, none.alias("stack"))
        late = None if self._known is None else self._known.late
        is_new = late is None
        if late is None:
            late = self._late_events()
        own = self._known is None or is_new
        sites = self._names.sites if own else self._names.earlier
        stacks = self._names.stacks if own else self._names.earlier_stacks
        if (is_new and len(late.seq)) or self._frames.changed:
            return Known(self._has_return, late, self._frames.best, sites, stacks)
        return None

    def _mark(self, piece: RawEvents) -> None:
        """Note the markers of a piece, and count its events."""
        rows = piece.rows
        kept = np.flatnonzero((rows["kind"] == probes.KIND_MARK) & (rows["present"] == 1))
        self.markers += [
            Marker(self._added + i, int(rows["ts"][i]), piece.marks[int(rows["values"][i, 0])])
            for i in kept.tolist()
        ]
        self._added += len(rows)

    def _learn(self, rows: NDArray[np.void]) -> None:
        """Find out which functions have returns, before the piece's calls are paired."""
        functions = len(probes.FUNCTIONS)
        counts = np.bincount(rows["kind"], minlength=2 * functions + 2)
        self.has_mappings |= bool(counts[: probes.KIND_LOST].sum() - counts[_TLB_FLUSH])
        new = (counts[1 : 2 * functions : 2] > 0) & ~self._has_return
        if self._waiting is None and bool((new & self._entries).any()):
            self._wrong = True
        self._has_return |= new
        self._entries |= counts[0 : 2 * functions : 2] > 0

    def _begin(self) -> Iterator[pl.DataFrame]:
        waiting, self._waiting = self._waiting or [], None
        while waiting:
            yield from self._pair(waiting.pop(0), more=bool(waiting))

    def _pair(self, piece: RawEvents, *, more: bool = False) -> Iterator[pl.DataFrame]:
        """Pair the calls of a piece; with `more` at hand, give nothing yet."""
        raw, cell = piece.rows, self._cell
        if self._wrong:  # the rows are of no use: only what has to be known is gathered
            cell[pairing.GONE] = cell[pairing.ROWS]
            return
        self._make_room(len(raw))
        cell[pairing.POSITION] = 0
        while pairing.pair(
            raw,
            self._seq,
            self._has_return,
            self._plan,
            cell,
            self._tasks,
            self._last,
            self._calls,
            self._rows,
            self._late,
            self._known_late,
        ):
            larger = columns.new_tasks(2 * len(self._tasks.key))
            pairing.grow_tasks(self._tasks, larger)
            self._tasks = larger
        self._seq += len(raw)
        self._check_bounds()
        self._names.take(piece.comms, piece.sites, piece.stacks)
        if more:
            return
        rows = int(cell[pairing.ROWS])
        if self._frames.undecided:
            self._learn_pairs(int(cell[pairing.GONE]), rows)
        ready = min(pairing.first_open_row(self._calls, cell), rows - self._hold // _SLACK)
        yield from self._give(max(ready, rows - self._hold))

    def _check_bounds(self) -> None:
        """Refuse what would take memory without bound, and is no kernel's trace."""
        for name, cell in (("open calls", pairing.OPEN), ("late returns", pairing.LATES)):
            if self._cell[cell] > self._most:
                raise HmtraceError(
                    f"more than {self._most} {name}: every call that is traced stays open",
                    source=self._source,
                    hint="were the return probes removed while tracing went on?",
                )

    def _make_room(self, more: int) -> None:
        """Make room for the rows, calls and late events that `more` raw events can bring."""
        cell = self._cell
        gone, rows, base = (int(cell[i]) for i in (pairing.GONE, pairing.ROWS, pairing.BASE))
        kept, capacity = rows - gone, len(self._rows.seq)
        if rows - base + more > capacity:
            to = self._rows
            if kept > gone - base or kept + more > capacity:
                to = columns.new_rows(kept + more + min(self._hold, kept + more))
            for old, new in zip(self._rows, to, strict=True):
                new[..., :kept] = old[..., gone - base : rows - base]
            self._rows = to
            cell[pairing.BASE] = gone
        # Untouched memory costs nothing.
        for name, used, make in (
            ("_calls", int(cell[pairing.OPEN]), columns.new_calls),
            ("_late", int(cell[pairing.LATES]), columns.new_late),
        ):
            have = getattr(self, name)
            if used + more > len(have.seq):
                grown = make(used + 2 * more)
                for old, new in zip(have, grown, strict=True):
                    new[:used] = old[:used]
                setattr(self, name, grown)

    def _late_events(self) -> columns.Late:
        """What came late, sorted by the row for which it came."""
        came = int(self._cell[pairing.LATES])
        order = np.argsort(self._late.row_seq[:came], kind="stable")
        late = columns.Late(*(column[order] for column in self._late))
        site = late.raw["site"]
        site[site != 0] |= _EARLIER
        late.raw["values"][late.what == pairing.STACKED, 0] |= np.uint64(_EARLIER)
        return late

    def _learn_pairs(self, first: int, end: int) -> None:
        """Learn from the rows that show a page and its frame."""
        base = int(self._cell[pairing.BASE])
        part = slice(first - base, end - base)
        values = self._rows.values[:, part]
        both = (1 << VALUE_COLUMNS.index("page")) | (1 << VALUE_COLUMNS.index("pfn"))
        has = np.flatnonzero(self._rows.valid[part] & both == both)
        pfn, page = values[VALUE_COLUMNS.index("pfn")], values[VALUE_COLUMNS.index("page")]
        self._frames.learn(pfn[has], page[has])

    def _give(self, end: int) -> Iterator[pl.DataFrame]:
        """Give the rows up to `end` away."""
        cell = self._cell
        while not self._wrong and cell[pairing.GONE] < end:
            first = int(cell[pairing.GONE])
            last = min(end, first + GIVEN)
            self._learn_pairs(first, last)
            frame = self._frame(first - int(cell[pairing.BASE]), last - int(cell[pairing.BASE]))
            cell[pairing.GONE] = last
            yield self._frames.fill(frame).select(list(SCHEMA))

    def _frame(self, first: int, end: int) -> pl.DataFrame:
        """Turn a part of the columns into a frame with the schema's columns."""
        r = columns.Rows(*(column[..., first:end] for column in self._rows))
        plain = {
            name: getattr(r, name).copy()
            for name in ("seq", "ts", "cpu", "pid", "ctx", "valid", "duration", *_MASKED)
        }
        plain |= {name: r.values[code].copy() for code, name in enumerate(VALUE_COLUMNS)}
        frame = pl.DataFrame(plain).select(
            "seq",
            "ts",
            "cpu",
            pl.when(pl.col("pid") > NO_TASK).then("pid"),
            "ctx",
            pl.when(pl.col("duration") != pairing.NO_DURATION).then("duration"),
            *(_where(name, 1 << code) for code, name in enumerate(VALUE_COLUMNS)),
            *(_where(name, bit) for name, bit in _MASKED.items()),
            entry_traced=(pl.col("valid") & pairing.ENTRY_TRACED) != 0,
        )
        return self._names.name_sites(
            frame.with_columns(
                pl.Series("op", OPS, dtype=pl.Enum(OPS)).gather(r.op),
                self._names.comm(r.comm),
                self._names.site(r.site),
                self._names.stack(r.stack),
                _REASONS.gather(r.reason),
            )
        )


def _where(name: str, bit: int) -> pl.Expr:
    """Column, null where its bit is not set."""
    return pl.when((pl.col("valid") & bit) != 0).then(pl.col(name)).alias(name)


class _Names:
    """Task names and call sites by their numbers, and the sites of bare addresses."""

    def __init__(self, symbols: Callable[[], Symboliser | None]) -> None:
        self._comms = _categories((), "comm")
        self.sites = _categories((), "site")
        self.earlier = self.sites
        self.stacks = _categories((), "stack")
        self.earlier_stacks = self.stacks
        self._find_symbols = symbols
        self._symbols: Symboliser | None = None
        self._asked = False

    def take(self, comms: Sequence[str], sites: Sequence[str], stacks: Sequence[str]) -> None:
        """Take the tables of a piece."""
        if len(comms) > len(self._comms):
            self._comms = _categories(comms, "comm")
        if len(sites) > len(self.sites):
            self.sites = _categories(sites, "site")
        if len(stacks) > len(self.stacks):
            self.stacks = _categories(stacks, "stack")

    def comm(self, codes: NDArray[np.uint32]) -> pl.Series:
        """Task names by number; null for 0."""
        return self._comms.gather(codes)

    def site(self, codes: NDArray[np.uint32]) -> pl.Series:
        """Call sites by number, those of an earlier pass with a mark; null for 0."""
        return _gathered(codes, self.sites, self.earlier)

    def stack(self, codes: NDArray[np.uint32]) -> pl.Series:
        """Stack traces by number, likewise."""
        return _gathered(codes, self.stacks, self.earlier_stacks)

    def name_sites(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Fill `site` from `caller` where the trace had only the address, then from `stack`."""
        return self._name_stacks(self._name_callers(frame))

    def _name_stacks(self, frame: pl.DataFrame) -> pl.DataFrame:
        unnamed = pl.col("site").is_null() & pl.col("caller").is_null()
        stacks = (
            frame.lazy()
            .filter(unnamed & pl.col("stack").is_not_null())
            .select(pl.col("stack").unique())
            .collect()
        )
        if stacks.is_empty():
            return frame
        texts = stacks.get_column("stack").cast(pl.String)
        sites = pl.Series("above", [caller_in(text) for text in texts], pl.String)
        return (
            frame.join(
                stacks.with_columns(sites.cast(pl.Categorical())),
                on="stack",
                how="left",
                maintain_order="left",
            )
            .with_columns(
                pl.when(unnamed).then("above").otherwise("site").alias("site"),
            )
            .drop("above")
        )

    def _name_callers(self, frame: pl.DataFrame) -> pl.DataFrame:
        unnamed = pl.col("site").is_null() & pl.col("caller").is_not_null()
        callers = frame.lazy().filter(unnamed).select(pl.col("caller").unique()).collect()
        if callers.is_empty():
            return frame
        if not self._asked:
            self._symbols, self._asked = self._find_symbols(), True
        if self._symbols is None:
            return frame
        names = self._symbols.lookup_many(callers.to_series().to_numpy())
        named = pl.Series("named", [name or None for name in names], pl.String)
        return (
            frame.join(
                callers.with_columns(named.cast(pl.Categorical())),
                on="caller",
                how="left",
                maintain_order="left",
            )
            .with_columns(pl.coalesce("site", "named").alias("site"))
            .drop("named")
        )


def _gathered(codes: NDArray[np.uint32], names: pl.Series, earlier: pl.Series) -> pl.Series:
    """Names by number; those of an earlier pass have a mark."""
    marked = codes >= _EARLIER
    if not marked.any():
        return names.gather(codes)
    old = earlier.gather(np.where(marked, codes - _EARLIER, 0))
    new = names.gather(np.where(marked, 0, codes))
    return old.zip_with(pl.Series(marked), new)


def _categories(names: Sequence[str], column: str) -> pl.Series:
    """Categorical series of names; index 0 ("unknown") is null."""
    return pl.Series(column, [None, *names[1:]], dtype=pl.String).cast(pl.Categorical())
