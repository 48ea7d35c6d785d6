"""Arrow's headers: schema, record batch, dictionary and footer (format/Schema.fbs, Message.fbs)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import polars as pl

from collectors.arrow.flatbuffers import Later, Table, finished, structs, table, text, vector
from collectors.arrow.layout import (
    ALIGNED,
    CONTINUED,
    VERSION,
    Buffer,
    Kind,
    Message,
    MessageBlock,
    Type,
)
from collectors.errors import HmtraceError
from collectors.events import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Sequence

_BLOCK: Final = "qi4xq"
_PAIR: Final = "qq"
_ZSTD: Final = 1
_NAMED: Final = tuple(n for n, t in SCHEMA.items() if isinstance(t, (pl.Enum, pl.Categorical)))
"""Columns of names; the position is the number of the dictionary."""


def _kind_of(name: str, dtype: pl.DataType) -> Kind:
    if name in _NAMED:
        return Kind(
            8 if isinstance(dtype, pl.Enum) else 32,
            is_signed=False,
            dictionary=_NAMED.index(name),
        )
    if dtype == pl.Boolean:
        return Kind(1, is_signed=False)
    values = pl.Series([], dtype=dtype).to_numpy()
    return Kind(8 * values.itemsize, values.dtype.kind == "i")


KINDS: Final = {name: _kind_of(name, dtype) for name, dtype in SCHEMA.items()}
"""Columns of the event table, as they are in a file."""


def _integer(bits: int, *, is_signed: bool) -> Later:
    return table(("i", bits), ("?", is_signed))


def _field(name: str, kind: Kind) -> Later:
    """Field: name, nullable, type_type, type, dictionary, children."""
    if kind.dictionary >= 0:
        index = _integer(kind.bits, is_signed=False)
        of_names = table(("q", kind.dictionary), index, ("?", False))
        return table(text(name), ("?", True), ("B", Type.UTF8), table(), of_names, vector([]))
    if kind.bits == 1:
        return table(text(name), ("?", True), ("B", Type.BOOL), table(), None, vector([]))
    made = _integer(kind.bits, is_signed=kind.is_signed)
    return table(text(name), ("?", True), ("B", Type.INT), made, None, vector([]))


def _schema(metadata: dict[str, str]) -> Later:
    """Schema: endianness, fields, custom_metadata."""
    pairs = [table(text(key), text(value)) for key, value in metadata.items()]
    fields = vector([_field(name, kind) for name, kind in KINDS.items()])
    return table(None, fields, vector(pairs) if pairs else None)


def _message(kind: int, header: Later, body: int) -> bytes:
    """Message: version, header_type, header, bodyLength; behind its marker and length."""
    made = finished(table(("h", VERSION), ("B", kind), header, ("q", body)))
    return struct.pack("<II", CONTINUED, len(made)) + made


def schema_message() -> bytes:
    """The first message."""
    return _message(Message.SCHEMA, _schema({}), 0)


def _batch(rows: int, nulls: Sequence[int], buffers: Sequence[Buffer], *, packed: bool) -> Later:
    """RecordBatch: length, nodes, buffers, compression."""
    nodes = structs(_PAIR, [(rows, n) for n in nulls])
    compression = table(("b", _ZSTD), ("b", 0)) if packed else None
    return table(("q", rows), nodes, structs(_PAIR, [tuple(b) for b in buffers]), compression)


def batch_message(rows: int, nulls: Sequence[int], buffers: Sequence[Buffer], body: int) -> bytes:
    """Header of a record batch.

    Parameters
    ----------
    rows, nulls
        Its rows, and for each column those without a value.
    buffers
        For each column where its bitmap and its values are.
    body
        Length of the body.
    """
    return _message(Message.BATCH, _batch(rows, nulls, buffers, packed=True), body)


def dictionary_message(number: int, names: int, buffers: Sequence[Buffer], body: int) -> bytes:
    """Header of a dictionary: DictionaryBatch: id, data, isDelta."""
    data = _batch(names, [0], buffers, packed=False)
    return _message(Message.DICTIONARY, table(("q", number), data, ("?", False)), body)


def footer(
    metadata: dict[str, str], dictionaries: list[MessageBlock], batches: list[MessageBlock]
) -> bytes:
    """Footer: version, schema, dictionaries, recordBatches."""
    blocks = (structs(_BLOCK, [tuple(b) for b in some]) for some in (dictionaries, batches))
    return finished(table(("h", VERSION), _schema(metadata), *blocks))


class Footer:
    """What the footer of a file says, checked.

    Attributes
    ----------
    metadata
        Texts by key.
    dictionaries, batches
        Where they are, not checked.
    """

    def __init__(self, data: bytes) -> None:
        top = Table.root(data)
        schema = top.table(1)
        if schema is None:
            raise HmtraceError("damaged Arrow file: no schema")
        self._schema = schema
        self.metadata = {pair.text(0): pair.text(1) for pair in schema.tables(2)}
        self.dictionaries, self.batches = (
            [MessageBlock(*block) for block in top.structs(field, _BLOCK)] for field in (2, 3)
        )

    def require_events(self) -> None:
        """Check that the columns are those of the event table, as hmtrace writes them.

        Raises
        ------
        HmtraceError
            If they are not.
        """
        fields = self._schema.tables(1)
        have = {field.text(0): _kind_in(field) for field in fields}
        if have != KINDS or len(fields) != len(KINDS) or self._schema.number(0, "h"):
            wrong = sorted(name for name in KINDS if have.get(name) != KINDS[name])
            raise HmtraceError(
                "not an event table as hmtrace writes it"
                + (f": column {wrong[0]!r} is missing or of another type" if wrong else "")
            )


def _kind_in(field: Table) -> Kind | None:
    what, made, names = field.number(2, "B"), field.table(3), field.table(4)
    if names is not None:
        index = names.table(1)
        if what != Type.UTF8 or index is None or index.number(1, "?"):
            return None
        return Kind(index.number(0, "i"), is_signed=False, dictionary=names.number(0, "q"))
    if what == Type.BOOL:
        return Kind(1, is_signed=False)
    if what != Type.INT or made is None:
        return None
    return Kind(made.number(0, "i"), is_signed=bool(made.number(1, "?")))


class Batch:
    """What the header of a record batch or a dictionary says, checked.

    Attributes
    ----------
    number
        Of a dictionary, else -1.
    rows
    nulls
        Rows without a value, by column.
    buffers
        Inside the body.
    packed
        Whether each buffer stands behind its length.
    """

    def __init__(self, data: bytes, body: int) -> None:
        top = Table.root(_unframed(data))
        kind, batch = top.number(1, "B"), top.table(2)
        self.number = -1
        if kind == Message.DICTIONARY and batch is not None:
            self.number = batch.number(0, "q")
            batch = None if batch.number(2, "?") else batch.table(1)
        elif kind != Message.BATCH:
            batch = None
        if batch is None:
            raise HmtraceError("damaged Arrow file: a message is not what the footer says")
        self.rows = batch.number(0, "q")
        self.nulls = [nulls for _, nulls in batch.structs(1, _PAIR)]
        self.buffers = [Buffer(*buffer) for buffer in batch.structs(2, _PAIR)]
        compression = batch.table(3)
        self.packed = compression is not None
        if compression is not None and compression.number(0, "b") != _ZSTD:
            raise HmtraceError("an Arrow file that is compressed otherwise than hmtrace does it")
        for at, length in self.buffers:
            if at < 0 or length < 0 or at + length > body or at % ALIGNED:
                raise HmtraceError("damaged Arrow file: a buffer lies beyond its message")


def _unframed(data: bytes) -> bytes:
    """A message's flatbuffer, without its marker and length."""
    if len(data) < 8 or struct.unpack_from("<I", data)[0] != CONTINUED:
        raise HmtraceError("damaged Arrow file: no message where the footer says")
    return data[8:]
