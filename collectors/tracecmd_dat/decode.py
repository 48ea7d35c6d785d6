"""One CPU's records in blocks, listed when asked for, in any thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.errors import TRUNCATED, HmtraceError
from collectors.records import dataclass
from collectors.tracecmd_dat import layout
from collectors.tracecmd_dat.spans import feed_of
from collectors.traceevent.formats import FUNCTION_FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from collectors.tracecmd_dat.container import CpuData, DatFile, TraceBuffer
    from collectors.tracecmd_dat.spans import Feed, Span

_EVENTS: Final = 1 << 16
_RECENT: Final = 1 << 9
"""Events of which the last pair is remembered."""
_MASK: Final = (1 << 64) - 1
_ADDRESS_FIELDS: Final = ("__probe_ip", "__probe_func")


class Shape:
    """How the pages and records of a buffer are laid out, as the compiled walk wants it.

    Attributes
    ----------
    page
        int64, (7,): see :class:`walk.PageScan`.
    ip_at
        int64, (65536,): offset of the address that tells an event's probes apart, -1 none.
    big
        Endianness of the traced machine.

    Raises
    ------
    HmtraceError
        If the file does not say where a record's type is.
    """

    def __init__(self, file: DatFile, buffer: TraceBuffer) -> None:
        self.ip_at = np.full(_EVENTS, -1, np.int64)
        self.big = file.meta.order == "big"
        type_at = None
        for number, event in file.meta.events.items():
            if type_at is None:
                common = event.number("common_type")
                if common is not None and common.size == 2:
                    type_at = common.offset
            if event.system == "ftrace":
                names: tuple[str, ...] = (FUNCTION_FIELDS.get(event.name, ""),)
            elif "__probe_" in event.text:
                names = _ADDRESS_FIELDS
            else:
                continue
            field = event.number(*names)
            if field is not None and field.size == file.meta.word:
                self.ip_at[number] = field.offset
        if type_at is None:
            if not file.meta.events:
                message = "the file describes no events"
            else:
                message = "the event formats do not say where common_type is"
            raise HmtraceError(message, source=file.name, hint=TRUNCATED)
        head = file.meta.page
        self.page = np.array(
            [
                buffer.page_size,
                head.stamp,
                head.commit,
                head.data,
                head.word,
                type_at,
                file.meta.word,
            ],
            np.int64,
        )


class RecordPool:
    """Room for the listed records of all CPUs: two blocks each, of 1 << `shift` records.

    Attributes
    ----------
    ts, key, at, length, plan, before
        As of :class:`walk.PageScan`; stamps corrected.
    cpu
        uint16.
    base
        int64, one per block: address of the bytes that `at` counts in.
    """

    def __init__(self, cpus: list[int], shift: int) -> None:
        self.shift = shift
        room = 2 * len(cpus) << shift
        self.ts = np.empty(room, np.int64)
        self.key = np.empty(room, np.int64)
        self.at = np.empty(room, np.int64)
        self.length = np.empty(room, np.int32)
        self.plan = np.empty(room, np.int32)
        self.before = np.empty(room, np.int64)
        self.cpu = np.repeat(np.array(cpus, np.uint16), 2 << shift)
        self.base = np.zeros(2 * len(cpus), np.int64)


@dataclass(frozen=True)
class RecordBlock:
    """Some records of one CPU, listed in the pool.

    Attributes
    ----------
    number
        Of the block in the pool.
    rows
        Records listed.
    highest
        Highest stamp so far: what follows is not earlier.
    more
        Whether anything follows.
    marks
        Loss markers among the rows.
    span
        Where they lie.
    """

    number: int
    rows: int
    highest: int
    more: bool
    marks: int
    span: Span | None


class CpuWalk:
    """The walk over one CPU's pages.

    Parameters
    ----------
    file, buffer, cpu
        What to read.
    index
        Position of the CPU among those of the buffer.
    shape
        Of the buffer.
    pool
        Takes the records; its blocks ``2 * index`` and ``2 * index + 1`` are used in turns.
    span
        Bytes of pages to look at at a time.
    resolve
        Gives for an (event, probed address) pair its plan, -1 not wanted, the bytes that a
        record of it must have, and whether it belongs to the record before it. Called in the
        thread of :meth:`next_block`.
    """

    def __init__(
        self,
        file: DatFile,
        buffer: TraceBuffer,
        cpu: CpuData,
        index: int,
        shape: Shape,
        pool: RecordPool,
        span: int,
        resolve: Callable[[int, int], tuple[int, int, bool]],
    ) -> None:
        from collectors.tracecmd_dat import walk
        from collectors.traceevent import pairs

        self._k = walk
        self._p = pairs
        self._file = file
        self._buffer = buffer
        self.cpu = cpu
        self._index = index
        self._shape = shape
        self._pool = pool
        self._resolve = resolve
        self._feed: Feed = feed_of(file, buffer, cpu, span)
        self._span: Span | None = None
        self._which = self._loaded = 0  # buffer of the last block's span, of the present span
        self._block = 0
        self._highest = -(1 << 63)
        self._state = np.zeros(walk.STATE_CELLS, np.int64)
        self._state[walk.KEY] = self._state[walk.BEFORE] = walk.NO_STAMP
        self._pairs = np.zeros((pairs.FEW_PAIRS, pairs.PAIR_COLUMNS), np.int64)
        self._last_slot = np.zeros(_RECENT, np.int32)

    @property
    def records(self) -> int:
        """Records of any kind so far."""
        return int(self._state[self._k.RECORDS])

    def ends(self) -> tuple[int, int] | None:
        """First and last stamp so far, corrected; None without records."""
        if not self.records:
            return None
        both = self._state[[self._k.FIRST, self._k.BEFORE]]
        first, last = self._file.clock.apply(both, self._index).tolist()
        return first, last

    def counts(self) -> Iterator[tuple[int, int, int]]:
        """Give (event, probed address, records) of every pair so far; address 0: none."""
        used = np.flatnonzero(self._pairs[:, self._p.PAIR_COUNT])
        for row in self._pairs[used].tolist():
            yield row[self._p.PAIR_EVENT] - 1, row[self._p.PAIR_IP] & _MASK, row[self._p.PAIR_COUNT]

    def next_block(self) -> RecordBlock:
        """List records into the block that was not used last.

        Raises
        ------
        HmtraceError
            If the data is damaged.
        """
        k, p, state, pool = self._k, self._p, self._state, self._pool
        span = self._span
        if span is None or (state[k.AT] >= state[k.STOP] and state[k.PAGE] >= state[k.END]):
            self._loaded = 1 - self._which
            span = self._span = self._feed.next(self._loaded)
            if span is None:
                number = 2 * self._index + self._block
                return RecordBlock(number, 0, self._highest, more=False, marks=0, span=None)
            state[k.PAGE], state[k.END] = span.begin, span.end
            state[k.AT] = state[k.STOP] = 0
            self._check_expansion(span)
        number = 2 * self._index + (1 - self._block)
        room = slice(number << pool.shift, (number + 1) << pool.shift)
        state[k.ROWS] = state[k.MARKS] = 0
        while True:
            scan = k.PageScan(
                span.data.ctypes.data,
                self._shape.big,
                self._shape.page,
                state,
                self._shape.ip_at,
                self._pairs,
                self._last_slot,
                pool.ts[room],
                pool.key[room],
                pool.at[room],
                pool.length[room],
                pool.plan[room],
                pool.before[room],
            )
            status = k.walk(scan)
            if status == k.NEW_PAIR:
                row = self._pairs[state[k.SLOT]]
                event, ip = int(state[k.EVENT]), int(state[k.IP]) & _MASK
                row[[p.PAIR_PLAN, p.PAIR_NEED, p.PAIR_FOLLOWS]] = self._resolve(event, ip)
            elif status == k.CROWDED:
                larger = np.zeros((4 * len(self._pairs), p.PAIR_COLUMNS), np.int64)
                p.move_pairs(self._pairs, larger)
                self._pairs = larger
                self._last_slot[:] = 0
            elif status in (k.DONE, k.FULL):
                break
            else:
                raise self._refusal(status, int(state[k.AT]))
        rows = int(state[k.ROWS])
        self._correct(room.start, rows)
        if rows:
            self._block, self._which = 1 - self._block, self._loaded
            pool.base[number] = span.data.ctypes.data
        marks = int(state[k.MARKS])
        return RecordBlock(number, rows, self._highest, more=True, marks=marks, span=span)

    def _correct(self, start: int, rows: int) -> None:
        """Correct the stamps as the file asks, and know the highest."""
        clock, pool, k = self._file.clock, self._pool, self._k
        highest = self._state[k.KEY : k.KEY + 1]
        if clock.corrects:
            for column in (pool.ts, pool.key):
                mine = column[start : start + rows]
                mine[:] = clock.apply(mine, self._index)
            mine = pool.key[start : start + rows]
            if rows:
                mine[0] = max(int(mine[0]), self._highest)
                np.maximum.accumulate(mine, out=mine)
            if self.records:
                highest = clock.apply(highest.copy(), self._index)
            if rows:
                highest = np.maximum(highest, mine[-1])
        self._highest = max(self._highest, int(highest[0]))

    def _check_expansion(self, span: Span) -> None:
        """Refuse pages that hold next to nothing, if they are far more than the file's size.

        Real pages hold an event at least, so that a small file cannot keep hmtrace busy for long.
        """
        if not self._buffer.compressed:
            return
        state, k = self._state, self._k
        given = span.place + span.end - span.begin
        limit = layout.FREE + layout.EXPANSION * (span.used - self.cpu.offset)
        if given > limit and state[k.RECORDS] < state[k.PAGES] >> 4:
            message = f"{given} bytes of pages without events come out of {span.used} on disk"
            raise HmtraceError(
                f"trace data of CPU {self.cpu.cpu}: {message}",
                source=self._file.name,
                offset=span.used,
                hint="the file is damaged, or made to exhaust the reader",
            )

    def _refusal(self, status: int, offset: int) -> HmtraceError:
        """Say what is wrong with the page or record at an offset of the span's data."""
        k, span = self._k, self._span
        message = {
            k.BAD_COMMIT: "a page says that it holds more bytes than it has",
            k.BAD_RECORD: "a record runs beyond the end of its page",
            k.SHORT_RECORD: "a record is too short for its event's format",
        }[status]
        where = f"trace data of CPU {self.cpu.cpu}"
        place = None if span is None else span.place + offset - span.begin
        if self._buffer.compressed:
            where += f", {place:#x} bytes into it when decompressed"
            place = None
        return HmtraceError(
            f"{where}: {message}", source=self._file.name, offset=place, hint=TRUNCATED
        )
