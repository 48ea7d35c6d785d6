"""What a perf.data holds and where: header, events, ids, features; the records follow.

File form: tools/perf/Documentation/perf.data-file-format.txt; stream form: the same text, "Pipe
data". In a stream the descriptions are records among the others, which :func:`take_record` reads
when the walk comes to them.
"""

from __future__ import annotations

import re
from typing import Final

from collectors.errors import TRUNCATED, HmtraceError
from collectors.input.magic import PERF_DATA, PERF_DATA_OLD
from collectors.perf_data import layout
from collectors.perf_data.attrs import Attr, read_attr
from collectors.perf_data.features import Features, key_of, read_feature
from collectors.perf_data.layout import Feature, RecordType
from collectors.records import dataclass, field
from collectors.traceevent.cursor import Cursor, Order
from collectors.traceevent.metadata import read_tracing_data

KILLED = (
    "perf record was killed before it could finish the file: end it with Ctrl-C or SIGTERM and "
    "wait; or record into a pipe (perf record -o - > file), which can be cut off anywhere"
)


@dataclass
class PerfFile:
    """A perf.data without its records.

    Attributes
    ----------
    data
        The whole file.
    name
        For messages.
    order
        Endianness of the machine that recorded.
    begin, end
        Where the records are.
    pipe
        Stream form.
    attrs
        Events.
    ids
        Index in `attrs` by sample id.
    features
        What the feature sections, or the records of a stream, say.
    """

    data: memoryview
    name: str
    order: Order
    begin: int
    end: int
    pipe: bool
    attrs: list[Attr] = field(default_factory=list)
    ids: dict[int, int] = field(default_factory=dict)
    features: Features = field(default_factory=Features)

    def cursor(self, begin: int, size: int, what: str) -> Cursor:
        """Open a section of the file.

        Raises
        ------
        HmtraceError
            If it would not be inside.
        """
        if begin + size > len(self.data):
            msg = f"{what} would end at {begin + size:#x}, beyond the end of the file"
            raise HmtraceError(msg, source=self.name, offset=begin, hint=TRUNCATED)
        return Cursor(self.data[begin : begin + size], name=self.name, order=self.order, base=begin)


def open_container(data: memoryview, *, name: str) -> PerfFile:
    """Read header, events and features.

    Parameters
    ----------
    data
        The whole file, mapped or in memory.
    name
        File name for messages.

    Returns
    -------
    Container

    Raises
    ------
    HmtraceError
        If the file is no perf.data, of the first version, damaged or cut off.
    """
    magic = bytes(data[:8])
    if magic == PERF_DATA_OLD:
        raise HmtraceError(
            "a perf.data of version 1, which perf wrote before 2012",
            source=name,
            hint="give hmtrace the output of perf script of that perf",
        )
    if magic not in (PERF_DATA, PERF_DATA[::-1]):
        raise HmtraceError(
            "not a perf.data: the magic number is missing", source=name, hint=TRUNCATED
        )
    order: Order = "little" if magic == PERF_DATA else "big"
    cursor = Cursor(data, name=name, order=order, offset=8)
    size = cursor.number(8, "size of the header")
    if size == layout.PIPE_HEADER_BYTES:
        return PerfFile(data, name, order, size, _end_of_stream(data), pipe=True)
    if size != layout.HEADER_BYTES:
        raise cursor.error(f"a header of {size} bytes, expected {layout.HEADER_BYTES} or 16")
    stride = cursor.number(8, "size of an attribute")
    attrs, records, _types = (_section(cursor) for _ in range(3))
    bits = bytes(cursor.take(layout.FEATURE_BITS // 8, "feature bits"))
    file = PerfFile(data, name, order, records[0], records[0] + records[1], pipe=False)
    if not records[1]:
        raise HmtraceError("the file's header says that it holds no data", source=name, hint=KILLED)
    if file.end > len(data):
        msg = f"the records would end at {file.end:#x}, beyond the end of the file"
        raise HmtraceError(msg, source=name, offset=records[0], hint=TRUNCATED)
    _read_attrs(file, attrs, stride)
    _read_features(file, bits)
    _add_described_ids(file)
    return file


_SAID: Final = re.compile(rb"\[ perf record: [\x20-\x7e\n]{0,2000}\Z")
"""What perf record says when it ends; in the stream where stderr was sent there, too."""


def _end_of_stream(data: memoryview) -> int:
    """Where a stream's records end: before perf's own words, if they are in it (``2>&1``)."""
    tail = bytes(data[-4096:])
    said = _SAID.search(tail)
    return len(data) if said is None else len(data) - len(tail) + said.start()


def _section(cursor: Cursor) -> tuple[int, int]:
    return cursor.number(8, "offset of a section"), cursor.number(8, "size of a section")


def _read_attrs(file: PerfFile, section: tuple[int, int], stride: int) -> None:
    """Read events and their ids; each attribute is followed by the place of its ids."""
    begin, size = section
    if not layout.ATTR_MIN + 16 <= stride <= layout.ATTR_MAX:
        raise HmtraceError(f"attributes of {stride} bytes", source=file.name, offset=16)
    cursor = file.cursor(begin, size, "the events")
    for number in range(size // stride):
        cursor.offset = number * stride
        attr, _ = read_attr(cursor, stride - 16)
        cursor.offset = (number + 1) * stride - 16
        at, length = _section(cursor)
        add_attr(file, attr, file.cursor(at, length, "the ids of an event"))


def add_attr(file: PerfFile, attr: Attr, ids: Cursor) -> None:
    """Add an event and its ids, which fill the rest of `ids`."""
    index = len(file.attrs)
    if index >= layout.MAX_ATTRS:
        raise ids.error(f"more than {layout.MAX_ATTRS} events", hint=TRUNCATED)
    file.attrs.append(attr)
    if len(file.ids) + ids.left // 8 > len(file.data) // 8:
        raise ids.error("more ids than the file has room for", hint=TRUNCATED)
    while ids.left >= 8:
        file.ids.setdefault(ids.number(8, "id"), index)


def _read_features(file: PerfFile, bits: bytes) -> None:
    """Read the sections after the records, of which a table there tells the places."""
    numbers = feature_numbers(bits, file.order)
    table = file.cursor(file.end, 16 * len(numbers), "the table of features")
    for number in numbers:
        at, size = _section(table)
        if number in set(Feature):
            read_feature(file.features, number, file.cursor(at, size, f"feature {number}"))


def feature_numbers(bits: bytes, order: Order) -> list[int]:
    """List the features that are there, in ascending order.

    Parameters
    ----------
    bits
        32 bytes: an array of longs of the machine that recorded.
    order
        Its endianness.

    Notes
    -----
    On a big-endian machine the place of a bit depends on the size of its long. No feature has a
    number of 64 or more, and those of 32 or more are few: the half of the first eight bytes in
    which more bits are set holds features 0 to 31 (tools/perf/util/header.c:
    perf_file_header__read tries both by the bit of HOSTNAME).
    """
    width = 8
    if order == "big":
        first, second = (int.from_bytes(bits[at : at + 4], "big") for at in (0, 4))
        width = 4 if first.bit_count() > second.bit_count() else 8
    found = []
    for word in range(len(bits) // width):
        value = int.from_bytes(bits[word * width : (word + 1) * width], order)
        found += [8 * width * word + bit for bit in range(8 * width) if value >> bit & 1]
    return found


def _add_described_ids(file: PerfFile) -> None:
    """Add ids that only the description of events has."""
    index = {key_of(attr): number for number, attr in reversed(list(enumerate(file.attrs)))}
    for sample_id, key in file.features.ids.items():
        if key in index:
            file.ids.setdefault(sample_id, index[key])


def take_record(file: PerfFile, kind: int, cursor: Cursor) -> None:
    """Read a record of a stream that describes something.

    Parameters
    ----------
    file
        Filled in.
    kind
        :class:`layout.RecordType`.
    cursor
        The record without its header; of tracing data what follows the record.

    Raises
    ------
    HmtraceError
        If it is damaged.
    """
    if kind == RecordType.HEADER_ATTR:
        attr, _ = read_attr(cursor, cursor.left)
        add_attr(file, attr, cursor)
    elif kind == RecordType.TRACING_DATA:
        file.features.meta = read_tracing_data(cursor.data, name=file.name)
    elif kind == RecordType.HEADER_FEATURE:
        number = cursor.number(8, "number of a feature")
        body = Cursor(
            cursor.data[cursor.offset :],
            name=file.name,
            order=file.order,
            base=None if cursor.base is None else cursor.base + cursor.offset,
        )
        if number != Feature.TRACING_DATA:
            read_feature(file.features, number, body)
            _add_described_ids(file)
