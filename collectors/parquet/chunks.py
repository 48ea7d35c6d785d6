"""Columns of the event table to column chunks of a Parquet file, and their descriptions.

Format: github.com/apache/parquet-format (README.md, Encodings.md, parquet.thrift). Every chunk has
one data page, and a dictionary page where its values repeat. Nothing is compressed behind that:
codes and differences of a trace are smaller than what zstd makes of plain numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from collectors.distinct import FEW, Numbering
from collectors.events import SCHEMA
from collectors.parquet import encoding
from collectors.parquet.layout import FULL, MAGIC
from collectors.parquet.thrift import BINARY, I32, I64, STRUCT, Struct, varint, zigzag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from collectors.part import Column

_GROWING: Final = ("seq", "ts", "end_ts", "end_seq", "parent", "duration")
"""Columns whose values hardly repeat: they are encoded by their differences."""

# Numbers of parquet.thrift.
_BOOLEAN, _INT32, _INT64, _BYTE_ARRAY = 0, 1, 2, 6  # Type
_REQUIRED, _OPTIONAL = 0, 1  # FieldRepetitionType
_PLAIN, _RLE, _DELTA, _CODES = 0, 3, 5, 8  # Encoding; the last is RLE_DICTIONARY
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2  # PageType
_DATA_HEADER, _DICTIONARY_HEADER = 5, 7  # fields of PageHeader
_UNCOMPRESSED = 0  # CompressionCodec
_TYPES: Final[dict[Any, tuple[int, int | None]]] = {
    pl.UInt64: (_INT64, 14),
    pl.Int64: (_INT64, None),
    pl.Int32: (_INT32, None),
    pl.UInt16: (_INT32, 12),
    pl.UInt8: (_INT32, 11),
    pl.Boolean: (_BOOLEAN, None),
    pl.Categorical: (_BYTE_ARRAY, 0),
    pl.Enum: (_BYTE_ARRAY, 0),
}
"""Physical type, and ConvertedType: UINT_64, UINT_16, UINT_8, UTF8."""


@dataclass(frozen=True)
class Chunk:
    """One column of a row group, encoded.

    Attributes
    ----------
    name
        Of the column.
    rows
        Nulls included.
    dictionary, page
        Both with their headers; the first is empty where there is none.
    encodings
        All that occur in them.
    statistics
        Its Statistics.
    """

    name: str
    rows: int
    dictionary: bytes
    page: bytes
    encodings: tuple[int, ...]
    statistics: Struct

    @property
    def size(self) -> int:
        """Bytes of its pages."""
        return len(self.dictionary) + len(self.page)

    def description(self, at: int) -> bytes:
        """Give its ColumnChunk, where its pages stand at `at` in the file."""
        name = self.name.encode()
        meta = Struct().number(1, _type(self.name)[0])
        meta.list(2, I32, [zigzag(e) for e in self.encodings])
        meta.list(3, BINARY, [varint(len(name)) + name]).number(4, _UNCOMPRESSED)
        meta.number(5, self.rows, I64).number(6, self.size, I64).number(7, self.size, I64)
        meta.number(9, at + len(self.dictionary), I64)
        if self.dictionary:
            meta.number(11, at, I64)
        meta.struct(12, self.statistics)
        return Struct().number(2, at, I64).struct(3, meta).encoded()


def _type(name: str) -> tuple[int, int | None]:
    return _TYPES[SCHEMA[name].base_type()]


class Encoder:
    """Encodes columns, one after the other in the same room."""

    def __init__(self) -> None:
        self._numbering = Numbering()
        self._make_room(0)

    def _make_room(self, rows: int) -> None:
        self._values = np.empty(rows, np.int64)
        self._levels = np.empty(rows, np.int32)
        self._out = np.empty(10 * rows + 4096, np.uint8)

    def encode(self, name: str, column: Column, rows: int) -> Chunk:
        """Encode a column of a row group.

        Parameters
        ----------
        name
            Of the column.
        column
            Its values.
        rows
            Their number, at least 1.

        Returns
        -------
        Chunk
        """
        if rows > len(self._values):
            self._make_room(rows)
        values, missing = self._present(column, rows)
        levels = b"" if name in FULL else self._level_bytes(rows, missing)
        dictionary = b""
        if not len(values):
            encoding_of, data = _PLAIN, b""
        elif SCHEMA[name] == pl.Boolean:
            encoding_of, data = _PLAIN, np.packbits(values != 0, bitorder="little").tobytes()
        elif name in _GROWING:
            encoding_of, data = _DELTA, self._differences(values)
        else:
            encoding_of, data, dictionary = self._repeating(name, column.names, values)
        header = Struct().number(1, rows).number(2, encoding_of).number(3, _RLE).number(4, _RLE)
        page = _page_header(_DATA_PAGE, len(levels) + len(data), _DATA_HEADER, header)
        used = {encoding_of} | ({_RLE} if levels else set()) | ({_PLAIN} if dictionary else set())
        return Chunk(
            name,
            rows,
            dictionary,
            page + levels + data,
            tuple(sorted(used)),
            _statistics(name, values, missing),
        )

    def _present(self, column: Column, rows: int) -> tuple[NDArray[np.int64], int]:
        """Values that there are, and the number of those that are missing."""
        values = column.values
        if values is None:
            return self._values[:0], rows
        values = values.view(np.int64) if values.itemsize == 8 else values.astype(np.int64)
        if column.valid is None:
            return values, 0
        found = encoding.compact(values, column.valid, column.bit, self._values, self._levels)
        return self._values[:found], rows - found

    def _level_bytes(self, rows: int, missing: int) -> bytes:
        """Definition levels, with their length."""
        if 0 < missing < rows:
            levels = self._hybrid(self._levels[:rows], 1)
        else:
            levels = varint(rows << 1) + bytes([not missing])
        return len(levels).to_bytes(4, "little") + levels

    def _hybrid(self, codes: NDArray[np.int32], width: int) -> bytes:
        return self._out[: encoding.hybrid(codes, width, self._out)].tobytes()

    def _differences(self, values: NDArray[np.int64]) -> bytes:
        return self._out[: encoding.delta(values, self._out)].tobytes()

    def _repeating(
        self, name: str, names: Sequence[str] | Mapping[int, str] | None, values: NDArray[np.int64]
    ) -> tuple[int, bytes, bytes]:
        """Encoding, values, and dictionary page of values of which there are a few."""
        is_wide = _type(name)[0] == _INT64
        numbered = self._numbering.of(values, FEW if names is None else None)
        if numbered is None:
            if is_wide:
                return _DELTA, self._differences(values), b""
            return _PLAIN, values.astype(np.int32).tobytes(), b""
        keys, codes = numbered
        different = len(keys)
        if names is None:
            plain = keys.astype(np.int64 if is_wide else np.int32).tobytes()
        else:
            place: dict[str, int] = {}  # two numbers may have the same name
            new = [place.setdefault(names[key], len(place)) for key in keys.tolist()]
            if len(place) < different:
                different, codes = len(place), np.array(new, np.int32)[codes]
            texts = [text.encode() for text in place]
            plain = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
        header = Struct().number(1, different).number(2, _PLAIN)
        page = _page_header(_DICTIONARY_PAGE, len(plain), _DICTIONARY_HEADER, header)
        width = (different - 1).bit_length()
        return _CODES, bytes([width]) + self._hybrid(codes, width), page + plain


def _page_header(kind: int, size: int, field: int, header: Struct) -> bytes:
    """PageHeader; `field` is the place of `header` in it."""
    whole = Struct().number(1, kind).number(2, size).number(3, size)
    return whole.struct(field, header).encoded()


def _statistics(name: str, values: NDArray[np.int64], missing: int) -> Struct:
    """Number of nulls and, for what grows, the bounds: they let readers skip row groups."""
    found = Struct().number(3, missing, I64)
    if name in _GROWING and len(values):
        typed: NDArray[Any] = values.view(np.uint64) if SCHEMA[name] == pl.UInt64 else values
        found.binary(5, typed.max().tobytes()).binary(6, typed.min().tobytes())
    return found


def row_group(chunks: Sequence[bytes], size: int, rows: int) -> bytes:
    """RowGroup of ColumnChunks."""
    return Struct().list(1, STRUCT, chunks).number(2, size, I64).number(3, rows, I64).encoded()


def footer(rows: int, groups: Sequence[bytes], metadata: Mapping[str, str], author: str) -> bytes:
    """FileMetaData, its length, and the magic number that ends the file.

    Parameters
    ----------
    rows
        In all.
    groups
        What :func:`row_group` gave.
    metadata
        Key and value.
    author
        Who writes the file.

    Returns
    -------
    bytes
    """
    pairs = [
        Struct().binary(1, key.encode()).binary(2, value.encode()).encoded()
        for key, value in metadata.items()
    ]
    order = Struct().struct(1, Struct()).encoded()  # TypeDefinedOrder
    meta = Struct().number(1, 1).list(2, STRUCT, _schema()).number(3, rows, I64)
    meta.list(4, STRUCT, groups).list(5, STRUCT, pairs).binary(6, author.encode())
    text = meta.list(7, STRUCT, [order] * len(SCHEMA)).encoded()
    return text + len(text).to_bytes(4, "little") + MAGIC


def _schema() -> list[bytes]:
    """SchemaElements of the event table."""
    found = [Struct().binary(4, b"events").number(5, len(SCHEMA)).encoded()]
    for name in SCHEMA:
        physical, converted = _type(name)
        element = Struct().number(1, physical)
        element.number(3, _REQUIRED if name in FULL else _OPTIONAL).binary(4, name.encode())
        if converted is not None:
            element.number(6, converted)
        found.append(element.encoded())
    return found
