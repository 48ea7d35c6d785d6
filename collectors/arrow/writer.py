"""Writing an event table as an Arrow IPC file while it is made."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Final

import numpy as np
import polars as pl
import zstandard

from collectors.arrow.headers import (
    KINDS,
    batch_message,
    dictionary_message,
    footer,
    schema_message,
)
from collectors.arrow.layout import ALIGNED, END, STORED, Buffer, MessageBlock
from collectors.arrow.loops import present
from collectors.events import SCHEMA
from collectors.input.magic import ARROW
from collectors.parquet.layout import KEY
from collectors.parquet.metadata import encode
from collectors.table.part import part_of
from collectors.table.writer import PartWriter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from collectors.table.part import Column, Part

_FEW: Final = 16
"""A column of which fewer than one row in so many has a value is compressed."""
_NO_BITMAP: Final = np.zeros(0, np.uint8)
_STORED: Final = struct.pack("<q", STORED)


class ArrowWriter(PartWriter):
    """Writes parts of the event table to an Arrow IPC file.

    Parameters
    ----------
    path
        File to write, replaced where it exists.
    """

    name: ClassVar = "hmtrace-arrow"

    def __init__(self, path: Path) -> None:
        super().__init__(path.parent)
        self._path = path
        self._names = {
            name: _ColumnNames(name) for name, kind in KINDS.items() if kind.dictionary >= 0
        }
        self._at = 0

    @property
    def events(self) -> pl.LazyFrame:
        """The table in the file."""
        from collectors.arrow.reader import scan

        return scan(self._path)

    def _run(self) -> None:
        with self._path.open("wb", buffering=0) as file:
            self._put_out(file, [ARROW, schema_message()])
            batches = [self._batch(file, part_of(part)) for part in self._coming()]
            dictionaries = [
                self._dictionary(file, KINDS[name].dictionary, names.texts)
                for name, names in self._names.items()
            ]
            metadata = {KEY: encode(*self._whole)} if self._whole else {}
            made = footer(metadata, dictionaries, batches)
            self._put_out(file, [bytes(8), made, struct.pack("<i", len(made)), END])

    def _put_out(self, file: BinaryIO, pieces: Sequence[bytes | memoryview]) -> None:
        for piece in pieces:
            left = memoryview(piece).cast("B")
            self._at += len(left)
            while left:
                left = left[file.write(left) :]

    def _batch(self, file: BinaryIO, part: Part) -> MessageBlock:
        body = _Body()
        nulls = []
        for name in SCHEMA:
            made = part.columns[name]
            names = self._names.get(name)
            if names is not None and made.values is not None:
                made = names.column(made)
            nulls.append(self._column(body, name, made, part.rows))
        header = batch_message(part.rows, nulls, body.buffers, body.length)
        return self._message(file, header, body)

    def _column(self, body: _Body, name: str, made: Column, rows: int) -> int:
        """Write a column; return how many of its rows have no value."""
        bits = KINDS[name].bits
        if made.values is None:
            body.add_zeros(-(-rows // 8))
            body.add_zeros(-(-rows * bits // 8))
            return rows
        values, bitmap, nulls = made.values, _NO_BITMAP, 0
        if made.valid is not None:
            bitmap = np.empty(-(-rows // 8), np.uint8)
            if values.itemsize == 8:
                kept = np.empty(rows, np.int64)
                there = present(values.view(np.int64), made.valid, made.bit, kept, bitmap)
                values, nulls = kept, rows - there
            else:
                has = made.has(rows)
                bitmap, nulls = np.packbits(has, bitorder="little"), rows - int(has.sum())
                values = values * has
        if bits == 1:
            values = np.packbits(values, bitorder="little")
        elif values.itemsize != bits // 8:
            values = values.astype(f"u{bits // 8}")
        body.add(bitmap)
        if nulls * _FEW > rows * (_FEW - 1):
            body.add_compressed(values)
        else:
            body.add(values)
        return nulls

    def _dictionary(self, file: BinaryIO, number: int, texts: list[str]) -> MessageBlock:
        """Write names: a bitmap that is left out, offsets, and the texts."""
        body = _Body(packed=False)
        data = [text.encode() for text in texts]
        ends = np.cumsum([0, *map(len, data)], dtype=np.int64)
        body.add(b"")
        body.add(ends.astype(np.int32))
        body.add(b"".join(data))
        header = dictionary_message(number, len(texts), body.buffers, body.length)
        return self._message(file, header, body)

    def _message(self, file: BinaryIO, header: bytes, body: _Body) -> MessageBlock:
        block = MessageBlock(self._at, len(header), body.length)
        self._put_out(file, [header, *body.pieces])
        return block


class _ColumnNames:
    """Numbers the names of a column for the whole file."""

    def __init__(self, name: str) -> None:
        dtype = SCHEMA[name]
        self.texts = dtype.categories.to_list() if isinstance(dtype, pl.Enum) else []
        self._numbers = {text: number for number, text in enumerate(self.texts)}

    def column(self, made: Column) -> Column:
        """A column with the file's numbers instead of its own."""
        assert made.names is not None  # it is one of names
        assert made.values is not None  # has been looked at
        for text in made.names:
            if self._numbers.setdefault(text, len(self.texts)) == len(self.texts):
                self.texts.append(text)
        number = np.array([self._numbers[text] for text in made.names], np.uint32)
        values = np.minimum(made.values, len(number) - 1)  # anything where there is no name
        return made._replace(values=number[values])


class _Body:
    """Buffers of a message, one behind the other."""

    def __init__(self, *, packed: bool = True) -> None:
        self.pieces: list[bytes | memoryview] = []
        self.buffers: list[Buffer] = []
        self.length = 0
        self._packed = packed

    def add(self, data: NDArray[Any] | bytes) -> None:
        """Add a buffer as it is."""
        view = memoryview(data.data if isinstance(data, np.ndarray) else data)
        self._add([_STORED, view] if self._packed and view.nbytes else [view])

    def add_compressed(self, values: NDArray[Any]) -> None:
        """Add a buffer compressed."""
        self._add([_compressed(values.tobytes())])

    def add_zeros(self, length: int) -> None:
        """Add a buffer that is all zero."""
        self._add([_zeros(length)])

    def _add(self, pieces: list[bytes | memoryview]) -> None:
        length = sum(memoryview(piece).nbytes for piece in pieces)
        self.buffers.append(Buffer(self.length, length))
        padding = bytes(-length % ALIGNED)
        self.pieces += [*pieces, padding] if padding else pieces
        self.length += length + len(padding)


@lru_cache(64)
def _zeros(length: int) -> bytes:
    return _compressed(bytes(length))


def _compressed(data: bytes) -> bytes:
    """Bytes compressed, behind their length."""
    return struct.pack("<q", len(data)) + zstandard.ZstdCompressor(1).compress(data)
