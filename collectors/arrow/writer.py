"""Writing an event table as an Arrow IPC file, column by column out of the arrays that it comes in.

polars would make a frame of each part, number its names anew, and look for repeated bytes wherever
they may lie, also in the half of the columns that hold nothing: it takes three times as long. What
it writes here is the schema, and the names of a column.
"""

from __future__ import annotations

import io
from typing import IO, TYPE_CHECKING, ClassVar, Final

import numpy as np
import polars as pl

from collectors.arrow.ending import Ending, ended
from collectors.arrow.form import ArrowForm
from collectors.arrow.headers import BATCHES, BLOCK, DICTIONARIES, SCHEMA_FIELD, HeaderTable
from collectors.arrow.messages import MessagePlace, batch_header, footer, framed
from collectors.arrow.squeeze import Body
from collectors.events import SCHEMA
from collectors.input.magic import ARROW
from collectors.parquet.metadata import encode
from collectors.table.masks import read_only, take_bits
from collectors.table.part import part_of
from collectors.table.writer import PartWriter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from collectors.table.part import Column, Part

_BATCH_ROWS: Final = 1 << 16
"""Of a batch: a column of it stays in a processor's cache."""
_NEW: Final = -1
"""Number of a name that has none yet."""
_TYPES: Final = {
    name: pl.Series(dtype=dtype).to_physical().to_numpy().dtype for name, dtype in SCHEMA.items()
}
"""Of the numbers of each column."""


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
        self._keys = {
            name: _Keys(dtype)
            for name, dtype in SCHEMA.items()
            if isinstance(dtype, (pl.Categorical, pl.Enum))
        }
        self._batches: list[MessagePlace] = []
        self._body = Body()
        self._zeros: dict[int, bytes] = {}
        self._at = 0

    @property
    def events(self) -> pl.LazyFrame:
        """The table in the file."""
        return ArrowForm().scan(self._path)

    def _run(self) -> None:
        with self._path.open("wb") as file:
            self._append(file, _Described({}).begin)
            for coming in self._coming():
                part = part_of(coming)
                columns = {name: self._numbered(name, part) for name in SCHEMA}
                for first in range(0, part.rows, _BATCH_ROWS):
                    rows = min(part.rows - first, _BATCH_ROWS)
                    self._put_batch(file, columns, slice(first, first + rows), rows)
            self._put_end(file)

    def _append(self, file: IO[bytes], *pieces: bytes | memoryview) -> None:
        for piece in pieces:
            file.write(piece)
            self._at += len(piece)

    def _numbered(self, name: str, part: Part) -> Column:
        """A column, names by their numbers in the file."""
        made = part.columns[name]
        if name not in self._keys or made.values is None:
            return made
        return made._replace(values=self._keys[name].of(made, part.rows))

    def _put_batch(
        self, file: IO[bytes], columns: Mapping[str, Column], place: slice, rows: int
    ) -> None:
        self._body.clear()
        nulls = [self._add(name, made, place, rows) for name, made in columns.items()]
        header = batch_header(rows, nulls, self._body.places, self._body.size)
        self._batches.append(MessagePlace(self._at, len(header), self._body.size))
        self._append(file, header, self._body.whole())

    def _add(self, name: str, made: Column, place: slice, rows: int) -> int:
        """Add which rows have a value of a column, and the values; how many have none."""
        bits = -(-rows // 8)
        if made.values is None:
            self._add_zeros(bits)
            self._add_zeros(bits if _TYPES[name] == np.bool_ else rows * _TYPES[name].itemsize)
            return rows
        missing = 0
        if made.valid is None:
            self._body.add_nothing()
        else:
            has = np.empty(-(-rows // 64), np.uint64)
            missing = rows - take_bits(read_only(made.valid[place]), made.bit, has)
            self._body.add(has.view(np.uint8)[:bits])
        values = made.values[place].astype(_TYPES[name], copy=False)
        if values.dtype == np.bool_:
            values = np.packbits(values, bitorder="little")
        self._body.add(values)
        return missing

    def _add_zeros(self, size: int) -> None:
        if size in self._zeros:
            self._body.add_made(self._zeros[size])
            return
        self._body.add(np.zeros(size, np.uint8))
        self._zeros[size] = self._body.last()

    def _put_end(self, file: IO[bytes]) -> None:
        described = _Described({name: keys.names for name, keys in self._keys.items()})
        dictionaries = []
        for message, header in described.dictionaries:
            dictionaries.append(MessagePlace(self._at, header, len(message) - header))
            self._append(file, message)
        assert self._whole is not None  # was given before the parts ended
        whole = footer(described.footer, described.schema_at, dictionaries, self._batches)
        self._append(file, ended(encode(*self._whole), whole))


class _Keys:
    """Numbers of the names of a column: as its type has them, else in the order in which they come.

    Parameters
    ----------
    dtype
        Type of the column.
    """

    def __init__(self, dtype: pl.DataType) -> None:
        known = dtype.categories if isinstance(dtype, pl.Enum) else ()
        self._of: dict[str, int] = {name: key for key, name in enumerate(known)}
        self._last: tuple[Sequence[str] | None, NDArray[np.int32]] = None, np.zeros(0, np.int32)

    @property
    def names(self) -> list[str]:
        """The names by number."""
        return list(self._of)

    def of(self, made: Column, rows: int) -> NDArray[np.int32]:
        """Numbers for a column of a part; where it has no name, any."""
        assert made.values is not None  # has been looked at
        assert made.names is not None
        if self._last[0] is not made.names:
            known = [self._of.get(name, _NEW) for name in made.names]
            self._last = made.names, np.array(known or [_NEW], np.int32)
        key_of = self._last[1]
        keys = key_of.take(made.values, mode="clip")
        if keys.min(initial=0) == _NEW:
            for number in np.unique(made.values[(keys == _NEW) & made.has(rows)]).tolist():
                key_of[number] = self._of.setdefault(made.names[number], len(self._of))
            keys = np.maximum(key_of.take(made.values, mode="clip"), 0)
        return keys


class _Described:
    """What polars writes of a table with the same columns, and of their names.

    Parameters
    ----------
    names
        By column, in the order of their numbers.

    Attributes
    ----------
    begin
        The file up to its first batch.
    dictionaries : list of (bytes, int)
        Messages, and the bytes of their headers.
    footer, schema_at
        Bytes that hold the schema, and where.
    """

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        rows = max(map(len, names.values()), default=0)

        def series(name: str, dtype: pl.DataType) -> pl.Series:
            given = names.get(name, ())
            return pl.Series(name, [*given, *[None] * (rows - len(given))], pl.String).cast(dtype)

        buffer = io.BytesIO()
        pl.DataFrame([series(*column) for column in SCHEMA.items()]).write_ipc(
            buffer, compression="lz4"
        )
        file = buffer.getbuffer()
        place = Ending(file).footer
        top = HeaderTable.root(file[place])
        self.footer = bytes(file[place])
        self.schema_at = top.table_at(SCHEMA_FIELD)
        self.dictionaries = [
            (bytes(file[at : at + header + body]), header)
            for at, header, body in top.structures(DICTIONARIES, BLOCK)
        ]
        fields = DICTIONARIES, BATCHES
        first = min(at for field in fields for at, *_ in top.structures(field, BLOCK))
        self.begin = ARROW + framed(bytes(file[len(ARROW) : first]))
