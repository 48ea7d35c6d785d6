"""From the records of a perf.data to lists of wanted samples, in one walk.

The walk stops where it meets something new: an (event, probed address) pair, of which
:class:`collectors.traceevent.meaning.Interpreter` says what it stands for, or, in a stream, a
record that describes events. There are a few hundred of them and millions of samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.errors import TRUNCATED, HmtraceError
from collectors.perf_data.attrs import A_CHAIN, attr_table, id_table
from collectors.perf_data.container import take_record
from collectors.perf_data.features import key_of
from collectors.perf_data.layout import RECORD_HEADER, TYPE_TRACEPOINT, RecordType
from collectors.probes import KIND_LOST
from collectors.records import dataclass
from collectors.traceevent.cursor import Cursor
from collectors.traceevent.meaning import Interpreter, RowPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from collectors.perf_data.container import PerfFile
    from collectors.symbols.table import Symbols

_EVENTS: Final = 1 << 16
_MASK: Final = (1 << 64) - 1
_BYTES_PER_SAMPLE: Final = 80
"""A sample of a probe without arguments has so many; there is room for one per so many bytes."""
ROOM: Final = 1 << 19
"""Samples that are listed at a time, unless more of them belong together."""
MOST: Final = 1 << 23
"""Samples that are held to put them into order."""
_STEP: Final = 32 << 20
"""Bytes between two calls of `progress`."""
_MAX_DESCRIPTIONS: Final = 256
"""Runs of records that describe events; perf writes one or two, at the begin."""
_DESCRIPTIONS: Final = (RecordType.HEADER_ATTR, RecordType.TRACING_DATA, RecordType.HEADER_FEATURE)


class CompressedRecordsError(Exception):
    """The walk came to a compressed record: expand them all and walk again."""


class Walk:
    """One walk over the records.

    Parameters
    ----------
    file
        The container; in a stream the walk fills it in.
    data
        Records, mapped: the whole file, or its expanded records.
    begin, end
        Where the records are in `data`.
    symbols
        Called once for the kernel's symbols.
    probes
        Probed symbol by ``group/event`` (:func:`collectors.tracecmd_dat.probe_functions`).
    room
        Samples to list at a time, for tests.

    Attributes
    ----------
    data
        As given.
    rows
        Columns of the samples and losses that were listed, in the order of the file.
    spare
        Columns that are free to be used.
    plans
        What is taken from the samples of each plan; plan 0 is for losses.
    types
        Records of each type so far.
    """

    def __init__(
        self,
        file: PerfFile,
        data: NDArray[np.uint8],
        begin: int,
        end: int,
        symbols: Callable[[], Symbols],
        probes: Mapping[str, str],
        room: int | None = None,
    ) -> None:
        from collectors.perf_data import walk
        from collectors.traceevent import pairs

        self._k = walk
        self._p = pairs
        self._file = file
        self.data = data
        self._end = end
        self._symbols = symbols
        self._probes = probes
        self._meaning: Interpreter | None = None
        self._labels: dict[int, str] = {}
        self._described = 0
        self.plans = [RowPlan(KIND_LOST)]
        self._state = np.zeros(walk.STATE_CELLS, np.int64)
        self._state[walk.POSITION] = begin
        self.types = np.zeros(256, np.int64)
        self._pairs = np.zeros((pairs.FEW_PAIRS, pairs.PAIR_COLUMNS), np.int64)
        self._sides = np.empty((1024, 4), np.int64)
        self.rows = SampleColumns(min((end - begin) // _BYTES_PER_SAMPLE + 1024, room or ROOM))
        self.spare = SampleColumns(len(self.rows.ts))
        self._describe()

    def _describe(self) -> None:
        """Take in what the container says about events, after every change of it."""
        k, file, state = self._k, self._file, self._state
        self._attrs = attr_table(file.attrs)
        self._last_slot = np.full(k.NOT_RAW + len(self._attrs), -1, np.int32)
        self._id_keys, self._id_attrs = id_table(file.ids)
        first = file.attrs[0] if file.attrs else None
        # perf wants the id of all events at one place (tools/perf/util/evlist.c:
        # evlist__valid_sample_type); without ids all samples are of the first event.
        state[k.ID_AT] = first.id_at if first and file.ids else -1
        state[k.ID_FROM_END] = first.id_from_end if first and file.ids else 0
        shapes = {(a.sample_type, a.read_format) for a in file.attrs if a.type == TYPE_TRACEPOINT}
        tracepoints = [n for n, a in enumerate(file.attrs) if a.type == TYPE_TRACEPOINT]
        state[k.FALLBACK] = tracepoints[0] if len(shapes) == 1 else -1
        meta = file.features.meta
        self._ip_at = np.full(_EVENTS, -1, np.int64)
        state[k.TYPE_AT] = -1
        if meta is None:
            return
        self._meaning = Interpreter(meta.events, self._symbols(), self._probes)
        self._pairs[list(self._labels), self._p.PAIR_PLAN] = self._p.UNRESOLVED
        state[k.IP_SIZE] = meta.word
        for number, event in meta.events.items():
            if state[k.TYPE_AT] < 0:
                common = event.number("common_type")
                if common is not None and common.size == 2:
                    state[k.TYPE_AT] = common.offset
            if "__probe_" in event.text:
                address = event.number("__probe_ip", "__probe_func")
                if address is not None and address.size == meta.word:
                    self._ip_at[number] = address.offset

    def fill(self, progress: Callable[[int, int], None] | None = None) -> bool:
        """List samples until there is no more room, or to the end.

        Returns
        -------
        bool
            Whether there may be more.

        Raises
        ------
        CompressedRecordsError
            If there are compressed records.
        HmtraceError
            If the records are damaged, or are samples of tracepoints that nothing describes.
        """
        k, state = self._k, self._state
        while state[k.POSITION] < self._end:
            state[k.END] = self._end
            state[k.PAUSE] = self._end
            if progress is not None:
                state[k.PAUSE] = state[k.POSITION] + _STEP
            meta = self._file.features.meta
            rows = self.rows
            scan = k.SampleScan(
                self.data.ctypes.data,
                self._file.order == "big",
                meta is not None and meta.order == "big",
                state,
                self.types,
                self._attrs,
                bool(self._attrs[:, A_CHAIN].any()),
                self._id_keys,
                self._id_attrs,
                self._ip_at,
                self._pairs,
                self._last_slot,
                rows.ts,
                rows.at,
                rows.plan,
                rows.tid,
                rows.cpu,
                rows.chain,
                self._sides,
            )
            status = k.walk(scan)
            if progress is not None:
                progress(int(state[k.POSITION]), self._end)
            if status == k.NEW_PAIR:
                self._resolve(int(state[k.SLOT]), int(state[k.EVENT]), int(state[k.IP]) & _MASK)
            elif status == k.FULL:
                if state[k.SIDES] < len(self._sides):
                    return True
                self._sides = np.concatenate([self._sides, np.empty_like(self._sides)])
            elif status == k.SPECIAL:
                self._take_special(int(state[k.POSITION]))
            elif status != k.DONE:
                raise self._refusal(status, int(state[k.POSITION]))
        return False

    @property
    def position(self) -> int:
        """Where the walk is in the data."""
        return int(self._state[self._k.POSITION])

    @property
    def number(self) -> int:
        """Samples and losses that are listed."""
        return int(self._state[self._k.ROWS])

    @property
    def safe(self) -> int:
        """No sample with an earlier stamp will come: so perf record says."""
        return int(self._state[self._k.SAFE])

    @property
    def late(self) -> bool:
        """Whether one came all the same, earlier than :meth:`keep` was told of."""
        return bool(self._state[self._k.LATE])

    def take_sides(self) -> NDArray[np.int64]:
        """Records about tasks and lost samples since the last call, int64, (n, 4)."""
        number = int(self._state[self._k.SIDES])
        self._state[self._k.SIDES] = 0
        return self._sides[:number].copy()

    def keep(self, places: NDArray[np.int64], given: int | None) -> None:
        """Keep some of the listed samples for later, and go on listing behind them.

        The columns change place with the spare ones, where what is not kept stays as it is until
        the next call.

        Parameters
        ----------
        places
            Of the samples that are kept, in the order of the file.
        given
            Highest stamp that was passed on; None: none yet, or order does not matter.
        """
        old, new = self.rows, self.spare
        if 2 * len(places) > len(new.ts):
            new = SampleColumns(2 * len(old.ts))
        for name, column in vars(old).items():
            getattr(new, name)[: len(places)] = column[places]
        self.rows, self.spare = new, old
        self._state[self._k.ROWS] = len(places)
        if given is not None:
            self._state[self._k.GIVEN] = given

    def _resolve(self, slot: int, event: int, ip: int) -> None:
        """Find out what an (event, probed address) pair stands for."""
        if event >= self._k.NOT_RAW:
            attr = self._file.attrs[event - self._k.NOT_RAW]
            key = key_of(attr)
            name = self._file.features.names.get(key, f"event type {key[0]} config {key[1]:#x}")
            label, plan = name, None
        else:
            assert self._meaning is not None  # the walk does not read raw data without formats
            label, plan = self._meaning.of(event, ip)
        self._labels[slot] = label
        row = self._pairs[slot]
        row[self._p.PAIR_PLAN], row[self._p.PAIR_NEED] = -1, 0
        if plan is not None:
            row[self._p.PAIR_PLAN], row[self._p.PAIR_NEED] = len(self.plans), plan.reads()
            self.plans.append(plan)
        if self._state[self._k.USED] >= len(self._pairs) // 4 and len(self._pairs) < self._p.PAIRS:
            self._make_room()

    def _make_room(self) -> None:
        """Move the pairs to a larger table, and their labels with them."""
        p, old = self._p, self._pairs
        self._pairs = np.zeros((4 * len(old), p.PAIR_COLUMNS), np.int64)
        p.move_pairs(old, self._pairs)
        label_of = {tuple(old[slot, :2].tolist()): label for slot, label in self._labels.items()}
        used = np.flatnonzero(self._pairs[:, p.PAIR_EVENT])
        keys = map(tuple, self._pairs[used, :2].tolist())
        self._labels = {slot: label_of[key] for slot, key in zip(used.tolist(), keys, strict=True)}
        self._last_slot[:] = -1

    def _take_special(self, at: int) -> None:
        """Read the records that describe something from `at` on, and go on behind them."""
        file = self._file
        self._described += 1
        if self._described > _MAX_DESCRIPTIONS:
            msg = "descriptions of events again and again between the samples"
            raise HmtraceError(msg, source=file.name, offset=at, hint=TRUNCATED)
        shown = file.pipe or self.data.size == len(file.data)
        base = 0 if shown else None
        cursor = Cursor(
            self.data.data[: self._end], name=file.name, order=file.order, offset=at, base=base
        )
        while cursor.left >= RECORD_HEADER:
            at = cursor.offset
            kind = cursor.number(4, "type of a record")
            cursor.number(2, "misc")
            size = cursor.number(2, "size of a record")
            if kind in (RecordType.COMPRESSED, RecordType.COMPRESSED2):
                raise CompressedRecordsError
            if kind not in _DESCRIPTIONS:
                break
            if size < RECORD_HEADER:
                raise cursor.error(f"a record of {size} bytes")
            body_at = cursor.offset
            body = cursor.take(size - RECORD_HEADER, "a record")
            if kind == RecordType.TRACING_DATA:
                length = int.from_bytes(body[:4], file.order)
                body_at = cursor.offset
                body = cursor.take(length, "tracing data")
                cursor.offset += min(-length & 7, cursor.left)
            if file.pipe:
                inner_base = body_at if shown else None
                inner = Cursor(body, name=file.name, order=file.order, base=inner_base)
                take_record(file, kind, inner)
            at = cursor.offset
        if file.pipe:
            self._describe()
        self._state[self._k.POSITION] = at

    def _refusal(self, status: int, at: int) -> HmtraceError:
        """Say what is wrong with the record at a position."""
        k = self._k
        shown = at if self.data.size == len(self._file.data) else None
        hint: str | None = TRUNCATED
        if status == k.NO_FORMATS:
            message = "the file does not describe its tracepoints (no tracing data)"
            hint = "record with perf record as root, so that it can read the events' formats"
        else:
            message = {
                k.BAD_RECORD: "a record runs beyond the end of the data, or is too short",
                k.SHORT_SAMPLE: "a sample is too short for the fields that its event has",
                k.SHORT_RAW: "the raw data of a sample is too short for its event's format",
            }[status]
        return HmtraceError(message, source=self._file.name, offset=shown, hint=hint)

    def counts(self) -> dict[str, int]:
        """Samples by label so far."""
        counts: dict[str, int] = {}
        for slot, label in self._labels.items():
            number = int(self._pairs[slot, self._p.PAIR_COUNT])
            if number:
                counts[label] = counts.get(label, 0) + number
        return dict(sorted(counts.items()))

    def totals(self) -> Totals:
        """What is known about all samples so far."""
        k, state = self._k, self._state
        return Totals(
            int(state[k.SAMPLES]),
            int(state[k.FIRST_TS]),
            int(state[k.LAST_TS]),
            int(state[k.UNKNOWN_IDS]),
            int(state[k.UNTIMED]),
            int(state[k.NO_CPU]),
            tuple([] if self._meaning is None else self._meaning.notes),
        )


@dataclass(frozen=True)
class Totals:
    """What is known about all samples, wanted or not.

    Attributes
    ----------
    samples, first_ts, last_ts
        Their number, lowest and highest stamp.
    unknown_ids, untimed, without_cpu
        Samples of which the event, the time, or the CPU is not known.
    notes
        How probes were recognised.
    """

    samples: int
    first_ts: int
    last_ts: int
    unknown_ids: int
    untimed: int
    without_cpu: int
    notes: tuple[str, ...]


class SampleColumns:
    """Columns that the walk fills; pages of them that are never written take no memory.

    See :class:`~collectors.perf_data.walk.SampleScan`; `chain` stays 0 where no event has call
    chains.
    """

    def __init__(self, capacity: int) -> None:
        self.ts = np.empty(capacity, np.int64)
        self.at = np.empty(capacity, np.int64)
        self.plan = np.empty(capacity, np.int32)
        self.tid = np.empty(capacity, np.int32)
        self.cpu = np.empty(capacity, np.uint16)
        self.chain = np.zeros(capacity, np.int64)
