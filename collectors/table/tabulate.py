"""Raw events to the event table, piece by piece: pair, name the columns, derive frames.

The same code serves a trace that is read as a whole (one piece) and one that is larger than
memory. Rows leave in the order of `seq` and complete, which has two conditions that a single
pass cannot always keep: a call may stay open for longer than its row can be held back, and
what the end of a trace teaches (that a function has return events at all, how pages and frames
go together) may hold for its beginning. Then :attr:`Tabulator.again` is what a further pass over
the trace has to know, and what came out of this one is to be thrown away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from collectors import probes
from collectors.capture import Marker
from collectors.errors import HmtraceError
from collectors.events import OPS, REASONS
from collectors.raw import NO_TASK
from collectors.records import dataclass
from collectors.table import areas, columns, open_calls, pairing
from collectors.table.columns import VALUE_COLUMNS
from collectors.table.masks import take_filled
from collectors.table.naming import EARLIER, NameTable
from collectors.table.pages import BOTH, Frames, PageMap
from collectors.table.part import Column, Part, column

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from collectors.raw import RawEvents
    from collectors.table.naming import Symboliser

HOLD: Final = 1 << 20
"""Rows that are held back for the return of a call that is open."""
WAIT: Final = 1 << 18
"""Raw events that wait at the start of a trace which can be read again: what they do not teach
(that a function has returns, how pages and frames go together) seldom turns up later, and rows are
written while the next ones are read."""
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
_TLB_FLUSH: Final = probes.TRACEPOINTS["tlb_flush"]
_SLACK: Final = 16
"""One part in so many of `HOLD` is always held back: a pfn call that belongs to a page call of
which no return is traced comes soon after it."""


@dataclass(frozen=True)
class Learnt:
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
    sites: Sequence[str]
    stacks: Sequence[str]


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
    wait
        Raw events at the start that wait for what the next ones teach; None: as many as `hold`.
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
        known: Learnt | None = None,
        hold: int = HOLD,
        wait: int | None = None,
        source: str = "",
    ) -> None:
        self._source = source
        self._most = max(_MOST, hold)
        self._known = known
        self._hold = hold
        self._wait = hold if wait is None else min(wait, hold)
        self._given = min(GIVEN, hold)
        self._plan = columns.make_plan()
        self._cell = np.zeros(open_calls.CELLS, np.int64)
        self._cell[open_calls.FREE] = columns.NONE
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
        self._names = NameTable(symbols)
        self.has_mappings = False
        self.verdicts = areas.Verdicts()
        self.markers: list[Marker] = []
        self._has_return = np.zeros(len(probes.FUNCTIONS), bool)
        self._known_late = columns.new_late(0)
        if known is not None:
            self._known_late = known.late or self._known_late
            self._has_return |= known.has_return
            self._frames.use(known.page_map)
            self._names.earlier = known.sites
            self._names.earlier_stacks = known.stacks

    def add(self, piece: RawEvents) -> Iterator[Part]:
        """Take the next piece of the trace.

        Parameters
        ----------
        piece
            Raw events; an index into `comms` or `sites` means the same in all pieces.

        Yields
        ------
        Part
            Rows that are complete.
        """
        counts = np.zeros(probes.KIND_TASK + 2, np.int64)
        pairing.count_kinds(piece.rows, counts)
        self._learn(counts)
        if counts[probes.KIND_MARK]:
            self._mark(piece)
        self._added += len(piece.rows)
        if self._waiting is None:
            yield from self._pair(piece)
            return
        # The first rows wait for what the next ones teach.
        self._waiting.append(piece)
        if sum(len(p.rows) for p in self._waiting) >= self._wait:
            yield from self._begin()

    def finish(self) -> Iterator[Part]:
        """Give what is left, once all pieces have been added."""
        yield from self._begin()
        yield from self._give(int(self._cell[open_calls.ROWS]))

    def again(self) -> Learnt | None:
        """Tell what a further pass has to know; None: everything that was given is right."""
        if self._wrong:  # calls were not paired as they will be: what came late is not known
            return Learnt(self._has_return, None, self._frames.best, ("",), ("",))
        late = None if self._known is None else self._known.late
        is_new = late is None
        if late is None:
            late = self._late_events()
        own = self._known is None or is_new
        sites = self._names.sites if own else self._names.earlier
        stacks = self._names.stacks if own else self._names.earlier_stacks
        if (is_new and len(late.seq)) or self._frames.changed:
            return Learnt(self._has_return, late, self._frames.best, sites, stacks)
        return None

    def _mark(self, piece: RawEvents) -> None:
        """Note the markers of a piece."""
        rows = piece.rows
        kept = np.flatnonzero(rows["kind"] == probes.KIND_MARK)
        kept = kept[rows["present"][kept] == 1]
        self.markers += [
            Marker(self._added + i, int(rows["ts"][i]), piece.marks[int(rows["values"][i, 0])])
            for i in kept.tolist()
        ]

    def _learn(self, counts: NDArray[np.int64]) -> None:
        """Find out which functions have returns, before the piece's calls are paired.

        Parameters
        ----------
        counts
            Events of each kind in the piece.
        """
        functions = len(probes.FUNCTIONS)
        self.has_mappings |= bool(counts[: probes.KIND_SWITCH].sum() - counts[_TLB_FLUSH])
        new = (counts[1 : 2 * functions : 2] > 0) & ~self._has_return
        if self._waiting is None and bool((new & self._entries).any()):
            self._wrong = True
        self._has_return |= new
        self._entries |= counts[0 : 2 * functions : 2] > 0

    def _begin(self) -> Iterator[Part]:
        waiting, self._waiting = self._waiting or [], None
        while waiting:
            yield from self._pair(waiting.pop(0), more=bool(waiting))

    def _pair(self, piece: RawEvents, *, more: bool = False) -> Iterator[Part]:
        """Pair the calls of a piece; with `more` at hand, give nothing yet."""
        raw, cell = piece.rows, self._cell
        if self._wrong:  # the rows are of no use: only what has to be known is gathered
            cell[open_calls.GONE] = cell[open_calls.ROWS]
            return
        self._make_room(len(raw))
        cell[open_calls.POSITION] = 0
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
        rows = int(cell[open_calls.ROWS])
        if self._frames.undecided:
            self._learn_pairs(int(cell[open_calls.GONE]), rows)
        ready = min(pairing.first_open_row(self._calls, cell), rows - self._hold // _SLACK)
        ready = max(ready, rows - self._hold)
        # Whole parts only: each becomes a row group of a file.
        gone = int(cell[open_calls.GONE])
        yield from self._give(gone + (ready - gone) // self._given * self._given)

    def _check_bounds(self) -> None:
        """Refuse what would take memory without bound, and is no kernel's trace."""
        for name, cell in (("open calls", open_calls.OPEN), ("late returns", open_calls.LATES)):
            if self._cell[cell] > self._most:
                raise HmtraceError(
                    f"more than {self._most} {name}: every call that is traced stays open",
                    source=self._source,
                    hint="were the return probes removed while tracing went on?",
                )

    def _make_room(self, more: int) -> None:
        """Make room for the rows, calls and late events that `more` raw events can bring."""
        cell = self._cell
        gone, rows = int(cell[open_calls.GONE]), int(cell[open_calls.ROWS])
        if rows - gone + more > len(self._rows.seq):
            # Rows stand in a ring: what is held back is moved when it grows, and never again.
            need = rows - gone + more + self._given
            if more >= self._given:  # as much as is needed for long, if no call stays open
                need = max(need, more + 2 * self._given + self._hold // _SLACK)
            mask = (1 << (need - 1).bit_length()) - 1
            larger = columns.new_rows(mask + 1)
            while gone < rows:
                old = self._place(gone, rows)
                number, at = old.stop - old.start, gone & mask
                self._move(old, larger, slice(at, at + number))
                gone += number
            self._rows = larger
            cell[open_calls.MASK] = mask
        still_open = int(cell[open_calls.OPEN])
        # Untouched memory costs nothing.
        for name, used, new, make in (
            ("_calls", still_open, more, columns.new_calls),
            # a return may tell of its own call and of one that was made for it, a stack trace of
            # every open call once
            ("_late", int(cell[open_calls.LATES]), 2 * more + still_open, columns.new_late),
        ):
            have = getattr(self, name)
            if used + new > len(have.seq):
                grown = make(used + 2 * new)
                for old, copy in zip(have, grown, strict=True):
                    copy[:used] = old[:used]
                setattr(self, name, grown)

    def _move(self, old: slice, larger: columns.RowColumns, new: slice) -> None:
        """Copy rows that stand one behind the other to larger columns."""
        for name, have, made in zip(larger._fields, self._rows, larger, strict=True):
            if name != "values":
                made[new] = have[old]
        used = int(np.bitwise_or.reduce(larger.valid[new], initial=0))
        for code in range(len(VALUE_COLUMNS)):
            if used >> code & 1:  # untouched memory costs nothing
                larger.values[code, new] = self._rows.values[code, old]

    def _late_events(self) -> columns.Late:
        """What came late, sorted by the row for which it came."""
        came = int(self._cell[open_calls.LATES])
        order = np.argsort(self._late.row_seq[:came], kind="stable")
        late = columns.Late(*(column[order] for column in self._late))
        site = late.raw["site"]
        site[site != 0] |= EARLIER
        stacked = (late.what == pairing.STACKED) | (late.what == open_calls.INNER_STACKED)
        late.raw["values"][stacked, 0] |= np.uint64(EARLIER)
        return late

    def _learn_pairs(self, first: int, end: int) -> None:
        """Learn from the rows that show a page and its frame."""
        while first < end:
            part = self._place(first, end)
            has = np.flatnonzero(self._rows.valid[part] & BOTH == BOTH)
            values = self._rows.values[:, part]
            pfn, page = values[VALUE_COLUMNS.index("pfn")], values[VALUE_COLUMNS.index("page")]
            self._frames.learn(pfn[has], page[has])
            first += part.stop - part.start

    def _place(self, first: int, end: int) -> slice:
        """Where rows stand in the ring, up to its end."""
        at = first & int(self._cell[open_calls.MASK])
        return slice(at, min(at + end - first, len(self._rows.seq)))

    def _give(self, end: int) -> Iterator[Part]:
        """Give the rows up to `end` away."""
        cell = self._cell
        while not self._wrong and cell[open_calls.GONE] < end:
            first = int(cell[open_calls.GONE])
            place = self._place(first, min(end, first + self._given))
            last = first + place.stop - place.start
            self._learn_pairs(first, last)
            part = self._part(place)
            cell[open_calls.GONE] = last
            yield part

    def _part(self, place: slice) -> Part:
        """Copy a part of the columns out: their room is used again."""
        r = columns.RowColumns(*(made[..., place] for made in self._rows))
        valid = r.valid.copy()
        self.verdicts.add(r)
        values = dict(zip(VALUE_COLUMNS, r.values, strict=True))
        self._frames.fill(values["page"], values["pfn"], valid)
        none, every = int(np.bitwise_or.reduce(valid)), int(np.bitwise_and.reduce(valid))

        def some(made: NDArray[Any], bit: int) -> Column:
            if not none & 1 << bit:
                return Column()
            if every & 1 << bit:
                return Column(made.copy())
            if made.itemsize == 8:
                taken = np.empty(len(made), np.int64)
                take_filled(made.view(np.int64), valid, bit, taken)
            else:
                taken = made * (valid & np.uint32(1 << bit) != 0)
            return Column(taken.view(made.dtype), valid, bit)

        pid, duration, reason = r.pid.copy(), r.duration.copy(), r.reason.copy()
        traced = (valid & np.uint32(pairing.ENTRY_TRACED)) != 0
        found = {name: Column(getattr(r, name).copy()) for name in ("seq", "ts", "cpu", "ctx")}
        found |= {name: some(values[name], code) for code, name in enumerate(VALUE_COLUMNS)}
        found |= {n: some(getattr(r, n), bit.bit_length() - 1) for n, bit in _MASKED.items()}
        found |= {
            "op": Column(r.op.copy(), names=OPS),
            "pid": column(pid, pid > NO_TASK),
            "duration": column(duration, duration != pairing.NO_DURATION),
            "reason": column(reason, reason != pairing.NO_REASON, REASONS),
            "entry_traced": Column(traced),
            "comm": self._names.comm(r.comm),
            "site": self._names.site(r.site, found["caller"], r.stack, r.inner),
            "stack": self._names.stack(r.stack),
        }
        return Part(len(valid), found)
