"""What the headers of an Arrow IPC file claim, looked at before polars believes it.

polars ends the process where a buffer under zstd claims more bytes than there is memory, and
allocates whatever another one claims. So every message has to be under LZ4, as hmtrace writes it,
or plain, and to stay within bounds. Headers are FlatBuffers (format/File.fbs, Message.fbs): a table
begins with the distance back to its vtable, which holds the place of each field, 0 where it is
missing; a vector begins with its length (https://flatbuffers.dev/internals).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from collectors.errors import HmtraceError

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_ROWS: Final = 1 << 22
"""Of a batch, or names of a dictionary."""
MOST_BYTES: Final = 1 << 30
"""Of a message, decompressed."""
SCHEMA_FIELD, DICTIONARIES, BATCHES = 1, 2, 3  # fields of Footer; two vectors of structures
BLOCK: Final = struct.Struct("<qi4xq")
"""Block: where a message is, and the lengths of its header and its body."""
_HEADER_TYPE, _HEADER = 1, 2  # fields of Message
_DICTIONARY: Final = 2  # value of MessageHeader; a record batch is 3
_DATA: Final = 1  # field of DictionaryBatch: a RecordBatch
_NODES, _BUFFERS, _COMPRESSION = 1, 2, 3  # fields of RecordBatch; two vectors of structures
_PAIR: Final = struct.Struct("<qq")
"""FieldNode: values and nulls; Buffer: place in the body, and length."""
_CODEC: Final = 0  # field of BodyCompression; LZ4 is 0, and missing where it is 0
_MARKER: Final = b"\xff" * 4
_FRAMED: Final = 8
"""Bytes before a header: the marker, and its length."""


class HeaderTable:
    """A table in a header; whoever uses it has to expect :class:`struct.error`."""

    def __init__(self, data: memoryview, at: int) -> None:
        self._data, self._at = data, at
        self._vtable = at - self._read("<i", at)

    @classmethod
    def root(cls, data: memoryview) -> HeaderTable:
        """The one that bytes begin with."""
        return cls(data, struct.unpack_from("<I", data)[0])

    def _read(self, form: str, at: int) -> int:
        if at < 0:
            raise struct.error
        return int(struct.unpack_from(form, self._data, at)[0])

    def _place(self, field: int) -> int:
        slot = 4 + 2 * field
        size = self._read("<H", self._vtable)
        offset = self._read("<H", self._vtable + slot) if slot < size else 0
        return self._at + offset if offset else 0

    def byte(self, field: int) -> int:
        """A number of one byte; 0 where there is none."""
        place = self._place(field)
        return self._read("<B", place) if place else 0

    def table_at(self, field: int) -> int:
        """Where the table in a field is; 0: there is none."""
        place = self._place(field)
        return place + self._read("<I", place) if place else 0

    def table(self, field: int) -> HeaderTable | None:
        """The table in a field."""
        at = self.table_at(field)
        return HeaderTable(self._data, at) if at else None

    def structures(self, field: int, form: struct.Struct) -> Iterator[tuple[int, ...]]:
        """The structures of a vector."""
        place = self._place(field)
        if not place:
            return iter(())
        at = place + self._read("<I", place)
        length = self._read("<I", at) * form.size
        if length > len(self._data) - at - 4:
            raise struct.error
        return form.iter_unpack(self._data[at + 4 : at + 4 + length])


def check(data: memoryview, footer: slice) -> None:
    """Check that what a file claims can be read in bounded memory.

    Parameters
    ----------
    data
        The file.
    footer
        Where its footer is.

    Raises
    ------
    HmtraceError
        If not, or if it is damaged so that this cannot be told.
    """
    at = footer.start
    try:
        top = HeaderTable.root(data[footer])
        for field in (DICTIONARIES, BATCHES):
            for at, header, body in top.structures(field, BLOCK):
                if min(at, header, body) < 0 or at + header + body > footer.start:
                    raise HmtraceError("damaged Arrow file: a batch beyond its end", offset=at)
                if data[at : at + len(_MARKER)] != _MARKER:
                    raise HmtraceError("damaged Arrow file: no batch at its place", offset=at)
                _check_message(data[at + _FRAMED : at + header], data[at + header :][:body], at)
    except struct.error:
        raise HmtraceError("damaged Arrow file: a header that cannot be read", offset=at) from None


def _check_message(header: memoryview, body: memoryview, at: int) -> None:
    message = HeaderTable.root(header)
    batch = message.table(_HEADER)
    if batch is not None and message.byte(_HEADER_TYPE) == _DICTIONARY:
        batch = batch.table(_DATA)
    if batch is None:
        raise struct.error
    if any(values > MOST_ROWS for values, _ in batch.structures(_NODES, _PAIR)):
        raise HmtraceError(f"an Arrow file with batches of over {MOST_ROWS} rows", offset=at)
    compression = batch.table(_COMPRESSION)
    if compression is None:
        return
    if compression.byte(_CODEC):
        raise HmtraceError(
            "an Arrow file that is compressed otherwise than by LZ4",
            offset=at,
            hint="hmtrace reads what `hmtrace convert` writes",
        )
    claimed = 0
    for place, length in batch.structures(_BUFFERS, _PAIR):
        if length > 0 and place >= 0:
            claimed += max(0, struct.unpack_from("<q", body, place)[0])
    if claimed > MOST_BYTES:
        raise HmtraceError(f"an Arrow file with batches of {claimed} bytes: refused", offset=at)
