"""Events of a perf.data: their attributes, and where a sample of each has its fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.perf_data import layout
from collectors.perf_data.layout import Sample
from collectors.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from collectors.traceevent.cursor import Cursor

# Columns of the table of attributes that the compiled walk looks into.
A_TID: Final = 0
A_TIME: Final = 1
A_CPU: Final = 2
A_REST: Final = 3  # first byte of the fields of varying size
A_READ: Final = 4  # read_format; -1: no READ
A_CHAIN: Final = 5
A_RAW: Final = 6
A_TRACEPOINT: Final = 7
A_TAIL_TIME: Final = 8  # from a record's end; 0 none
A_TAIL_CPU: Final = 9
A_TAIL: Final = 10  # bytes of the tail
A_COLUMNS: Final = 11
_READ_BITS: Final = 31

_FIXED: Final = (
    Sample.IDENTIFIER,
    Sample.IP,
    Sample.TID,
    Sample.TIME,
    Sample.ADDR,
    Sample.ID,
    Sample.STREAM_ID,
    Sample.CPU,
    Sample.PERIOD,
)
"""Fields of 8 bytes at a sample's start, in their order (perf_event.h: PERF_RECORD_SAMPLE)."""
_TAIL: Final = (
    Sample.TID,
    Sample.TIME,
    Sample.ID,
    Sample.STREAM_ID,
    Sample.CPU,
    Sample.IDENTIFIER,
)
"""Fields of 8 bytes at the end of other records (perf_event.h: struct sample_id)."""


@dataclass(frozen=True)
class Attr:
    """One event, as it was opened (struct perf_event_attr).

    Attributes
    ----------
    type, config
        Kind of event (2: tracepoint), and which (a tracepoint's ``common_type``).
    sample_type, read_format
        Fields that its samples have.
    period
        Events per sample; events per second where `freq`.
    freq
        The kernel chose the period.
    sample_id_all
        Other records carry task, time and CPU too.
    clock
        Clock id of the stamps; None: perf's own.
    """

    type: int
    config: int
    sample_type: int
    read_format: int
    period: int
    freq: bool
    sample_id_all: bool
    clock: int | None

    def offset(self, field: Sample) -> int:
        """Offset of a fixed field in a sample, header included; -1 where it is absent."""
        if not self.sample_type & field:
            return -1
        before = _FIXED[: _FIXED.index(field)]
        return layout.RECORD_HEADER + 8 * sum(bool(self.sample_type & f) for f in before)

    def tail_offset(self, field: Sample) -> int:
        """Distance of a field of the tail from the end of its record; 0 where it is absent."""
        if not (self.sample_id_all and self.sample_type & field):
            return 0
        from_field = _TAIL[_TAIL.index(field) :]
        return 8 * sum(bool(self.sample_type & f) for f in from_field)

    @property
    def id_at(self) -> int:
        """Offset of the id in a sample, -1 without."""
        return max(self.offset(Sample.IDENTIFIER), self.offset(Sample.ID))

    @property
    def id_from_end(self) -> int:
        """Distance of the id from the end of other records, 0 without."""
        return self.tail_offset(Sample.IDENTIFIER) or self.tail_offset(Sample.ID)

    @property
    def sampled(self) -> bool:
        """Not every event became a sample."""
        return self.freq or self.period > 1

    def row(self) -> list[int]:
        """As the compiled walk wants it."""
        fixed = layout.RECORD_HEADER + 8 * sum(bool(self.sample_type & f) for f in _FIXED)
        tail = 8 * sum(bool(self.sample_type & f) for f in _TAIL) if self.sample_id_all else 0
        return [
            self.offset(Sample.TID),
            self.offset(Sample.TIME),
            self.offset(Sample.CPU),
            fixed,
            self.read_format & _READ_BITS if self.sample_type & Sample.READ else -1,
            int(bool(self.sample_type & Sample.CALLCHAIN)),
            int(bool(self.sample_type & Sample.RAW)),
            int(self.type == layout.TYPE_TRACEPOINT),
            self.tail_offset(Sample.TIME),
            self.tail_offset(Sample.CPU),
            tail,
        ]


def read_attr(cursor: Cursor, room: int, *, strict: bool = True) -> tuple[Attr, int]:
    """Read one attribute.

    Parameters
    ----------
    cursor
        At its first byte; moved to its end.
    room
        Bytes that it may take.
    strict
        False: what it says about its own size is not believed beyond `room` (perf inject writes
        event descriptions whose attributes are larger than their places).

    Returns
    -------
    attr, size
        The attribute and its size in bytes, as it says itself.

    Raises
    ------
    HmtraceError
        If its size is impossible.
    """
    start = cursor.offset
    kind = cursor.number(4, "type of an event")
    size = cursor.number(4, "size of an attribute") or layout.ATTR_MIN
    if not strict:
        size = min(max(size, layout.ATTR_MIN), room)
    if not layout.ATTR_MIN <= size <= min(room, layout.ATTR_MAX):
        cursor.offset = start
        raise cursor.error(f"an event's attribute has {size} bytes, where {room} are")
    config, period, sample_type, read_format = (
        cursor.number(8, what) for what in ("config", "period", "sample type", "read format")
    )
    flags = cursor.number(8, "flags of an attribute")
    clock = 0
    if size >= 96:
        cursor.offset = start + 92
        clock = cursor.signed(4, "clock id")
    cursor.offset = start
    cursor.take(size, "attribute of an event")

    def has(bit: int) -> bool:
        # A big-endian machine's compiler fills bit fields from the other end.
        return bool(flags >> (bit if cursor.order == "little" else 63 - bit) & 1)

    attr = Attr(
        kind,
        config,
        sample_type,
        read_format,
        period,
        has(layout.FLAG_FREQ),
        has(layout.FLAG_SAMPLE_ID_ALL),
        clock if has(layout.FLAG_USE_CLOCKID) else None,
    )
    return attr, size


def attr_table(attrs: Sequence[Attr]) -> NDArray[np.int64]:
    """Rows of all attributes, int64, shape (attributes, A_COLUMNS)."""
    return np.array([a.row() for a in attrs], np.int64).reshape(-1, A_COLUMNS)


def id_table(ids: Mapping[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Table from id to attribute.

    Parameters
    ----------
    ids
        Attribute by id.

    Returns
    -------
    keys : ndarray of int64
        Ids in ascending order, as signed numbers; or, where they lie close together as the
        kernel numbers them, only the first.
    attrs : ndarray of int32
        Attribute of each key; or, longer than `keys`, of each number from the first id on,
        -1: none.
    """
    keys = np.array(sorted(ids), np.uint64).astype(np.int64)
    attrs = np.array([ids[i] for i in sorted(ids)], np.int32)
    order = np.argsort(keys, kind="stable")
    keys, attrs = keys[order], attrs[order]
    if len(keys) > 1:
        span = int(keys[-1]) - int(keys[0]) + 1
        if len(keys) < span <= 64 * len(keys) or span == len(keys):
            dense = np.full(span + 1, -1, np.int32)
            dense[keys - keys[0]] = attrs
            return keys[:1], dense
    return keys, attrs
