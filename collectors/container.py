"""Tables of numbers in one file that travels: what is in it is checked before it is used.

The file begins with a line of text (:data:`collectors.input.magic.WORKLOAD`, a number for its form,
an end of line), then come blocks, then a document, then a footer of fixed size that tells where the
document is. A block holds up to :data:`BLOCK` values of one column, packed with zstd; the document
says of every block where it is, how long, how many values it has, and its digest. So a writer needs
no more than one block in memory and never goes back, a file that was cut off is known by its lack
of a footer, and no reader makes room for more than the document says and the limits allow.

Values are numbers, truth values, texts and operations of the event table. Nothing else is made of
a file, whoever wrote it.
"""

from __future__ import annotations

import hashlib
import json
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import polars as pl
import zstandard

from collectors.errors import TRUNCATED, HmtraceError
from collectors.events import OPS
from collectors.input.magic import WORKLOAD
from collectors.input.unpack import FREE_BYTES, MAX_BYTES, MAX_RATIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

FORM: Final = 1
"""Changes when a reader would misunderstand."""
BLOCK: Final = 1 << 18
"""Values of a block at most."""
_MOST_TABLES: Final = 1 << 20
_MOST_DOCUMENT: Final = 1 << 30
_LEVEL: Final = 3
_DIGEST: Final = 16
_FOOTER: Final = struct.Struct("<QQ16s16s")
"""Offset and size of the document, its digest, and :data:`_END`."""
_END: Final = b"hmtrace-end-of-\n"
_WINDOW: Final = 1 << 27
_NUMBERS: Final = {
    name: np.dtype(f"<{name}") for name in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f8")
}
_FLAGS: Final = "bool"
_TEXTS: Final = "text"
_OPERATIONS: Final = "op"
_POLARS: Final[dict[str, Any]] = {
    "i1": pl.Int8, "u1": pl.UInt8, "i2": pl.Int16, "u2": pl.UInt16, "i4": pl.Int32,
    "u4": pl.UInt32, "i8": pl.Int64, "u8": pl.UInt64, "f8": pl.Float64,
    _FLAGS: pl.Boolean, _TEXTS: pl.String, _OPERATIONS: pl.Enum(OPS),
}  # fmt: skip
_KINDS: Final = {str(kind): name for name, kind in _POLARS.items()}
_CODINGS: Final = ("plain", "apart", "steps", "steps-apart")
"""How values become bytes: as they are, by the places of their bytes, as differences."""


class ContainerWriter:
    """Writes tables into a file, one behind the other.

    Parameters
    ----------
    write
        Takes the bytes of the file, in their order.

    Raises
    ------
    OSError
        Whatever `write` raises.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._at = 0
        self._tables: dict[str, Any] = {}
        self._packer = zstandard.ZstdCompressor(level=_LEVEL)
        self._put(WORKLOAD + b"%d\n" % FORM)

    def _put(self, data: bytes) -> None:
        self._write(data)
        self._at += len(data)

    def table(self, name: str, table: pl.DataFrame) -> None:
        """Write a table.

        Raises
        ------
        TypeError
            If one of its columns has a type that no file can have.
        """
        columns = {column: self._column(table.get_column(column)) for column in table.columns}
        self._tables[name] = {"rows": table.height, "columns": columns}

    def numbers(self, name: str, values: NDArray[Any]) -> None:
        """Write a column of numbers that stands for itself."""
        kind = values.dtype.str[1:]
        written = {"kind": kind, "parts": [self._part(values)]}
        self._tables[name] = {"rows": values.size, "column": written}

    def _column(self, values: pl.Series) -> dict[str, Any]:
        kind = _KINDS.get(str(values.dtype))
        if kind is None:
            msg = f"a column of type {values.dtype} cannot be written"
            raise TypeError(msg)
        parts = []
        if values.null_count():
            parts.append(self._part(values.is_not_null().cast(pl.UInt8).to_numpy()))
        if kind == _TEXTS:
            texts = [text.encode() for text in values.fill_null("").to_list()]
            sizes = np.array([len(text) for text in texts], "<u4")
            whole = np.frombuffer(b"".join(texts), np.uint8)
            told = [self._part(sizes), self._part(whole)]
        else:
            if kind in (_OPERATIONS, _FLAGS):
                values = values.to_physical().cast(pl.UInt8)
            filled = values.fill_null(0) if values.null_count() else values
            told = [self._part(filled.to_numpy())]
        return {"kind": kind, "has_nulls": bool(parts), "parts": parts + told}

    def _part(self, values: NDArray[Any]) -> dict[str, Any]:
        values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
        coding = self._best(values[:BLOCK])
        blocks = []
        for begin in range(0, values.size, BLOCK):
            piece = values[begin : begin + BLOCK]
            packed = self._packer.compress(_coded(piece, coding))
            told = hashlib.blake2b(packed, digest_size=_DIGEST).hexdigest()
            blocks.append([self._at, len(packed), piece.size, told])
            self._put(packed)
        return {"coding": coding, "blocks": blocks}

    def _best(self, values: NDArray[Any]) -> str:
        """The coding that takes least room."""
        if values.dtype.kind == "f" or values.dtype.itemsize == 1:
            return "plain"
        some = values[: BLOCK // 8]
        return min(_CODINGS, key=lambda coding: len(self._packer.compress(_coded(some, coding))))

    def finish(self, document: dict[str, Any]) -> None:
        """Write the document and what it says of the tables; nothing comes behind it."""
        text = json.dumps(document | {"tables": self._tables}, separators=(",", ":"))
        packed = self._packer.compress(text.encode())
        told = hashlib.blake2b(packed, digest_size=_DIGEST).digest()
        at = self._at
        self._put(packed)
        self._put(_FOOTER.pack(at, len(packed), told, _END))


class _Stored(NamedTuple):
    """What the document says of a column: its kind, whether it has nulls, where its values are."""

    kind: str
    has_nulls: bool
    parts: tuple[tuple[str, list[Any]], ...]


class ContainerFile:
    """Reads what a :class:`ContainerWriter` wrote.

    Parameters
    ----------
    data : ndarray of uint8
        The file.
    name
        Of the file, for errors.

    Attributes
    ----------
    document
        As it was given to :meth:`ContainerWriter.finish`.
    rows
        Of each table, and of each column that stands for itself.

    Raises
    ------
    HmtraceError
        With an offset: the file is damaged, was cut off, or is of another form.
    """

    def __init__(self, data: NDArray[np.uint8], name: str) -> None:
        self._data, self._name = data, name
        self._unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        self._left = MAX_BYTES
        self._check_form()
        self._end, self.document = self._read_document()
        try:
            self._tables = self._read_tables(self.document.pop("tables"))
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            raise self._damaged(f"no list of tables ({error})"[:200], self._end) from None
        self.rows = {name: rows for name, (rows, _, _) in self._tables.items()}

    def _damaged(self, words: str, at: int, hint: str = TRUNCATED) -> HmtraceError:
        return HmtraceError(f"damaged workload: {words}", source=self._name, offset=at, hint=hint)

    def _check_form(self) -> None:
        begin = self._data[: len(WORKLOAD) + 16].tobytes()
        form, end, _ = begin.removeprefix(WORKLOAD).partition(b"\n")
        if not begin.startswith(WORKLOAD) or not end or not (form.isdigit() and form.isascii()):
            raise self._damaged("it does not begin as one", 0)
        if int(form) != FORM:
            raise HmtraceError(
                f"a workload of form {int(form)}; this hmtrace reads form {FORM}",
                source=self._name,
                offset=len(WORKLOAD),
                hint="written by another version of hmtrace: convert the trace again, with this "
                "one, or use that one",
            )

    def _read_document(self) -> tuple[int, dict[str, Any]]:
        """Where it is, and what it says."""
        size = self._data.size
        foot = self._data[max(size - _FOOTER.size, 0) :].tobytes()
        if len(foot) < _FOOTER.size or not foot.endswith(_END):
            raise self._damaged("its end is missing", size)
        at, length, told, _ = _FOOTER.unpack(foot)
        if at + length != size - _FOOTER.size:
            raise self._damaged("its end does not tell where its document is", size - _FOOTER.size)
        packed = self._data[at : at + length].tobytes()
        if hashlib.blake2b(packed, digest_size=_DIGEST).digest() != told:
            raise self._damaged("its document is not what was written", at)
        try:
            size = zstandard.frame_content_size(packed)
            if not 0 <= size <= min(_MOST_DOCUMENT, FREE_BYTES + MAX_RATIO * length):
                raise self._damaged(f"a document of {size} bytes", at)
            document = json.loads(self._unpacker.decompress(packed, max_output_size=size))
        except (zstandard.ZstdError, ValueError, RecursionError, MemoryError) as error:
            raise self._damaged(f"its document cannot be read ({error})"[:200], at) from None
        if not isinstance(document, dict):
            raise self._damaged("its document is no JSON object", at)
        return at, document

    def _read_tables(self, told: Any) -> dict[str, tuple[int, dict[str, _Stored], bool]]:
        """By name: rows, columns, and whether it is a column that stands for itself."""
        if len(told) > _MOST_TABLES:
            msg = f"{len(told)} tables"
            raise ValueError(msg)
        tables = {}
        for name, table in told.items():
            rows = _whole(table["rows"])
            alone = "column" in table
            columns = {name: table["column"]} if alone else table["columns"]
            tables[str(name)] = (
                rows,
                {str(column): self._checked(about, rows) for column, about in columns.items()},
                alone,
            )
        return tables

    def _checked(self, told: Any, rows: int) -> _Stored:
        kind = told["kind"]
        has_nulls = bool(told.get("has_nulls", False))
        parts = tuple((part["coding"], part["blocks"]) for part in told["parts"])
        if kind not in _POLARS or len(parts) != has_nulls + 1 + (kind == _TEXTS):
            msg = f"a column of kind {str(kind)[:20]!r} in {len(parts)} parts"
            raise ValueError(msg)
        for index, (coding, blocks) in enumerate(parts):
            if coding not in _CODINGS:
                msg = f"coding {str(coding)[:20]!r}"
                raise ValueError(msg)
            counts = 0
            for at, size, count, digest in blocks:
                ends = _whole(at) + _whole(size)
                counts += _whole(count)
                if ends > self._end or count > BLOCK or not isinstance(digest, str):
                    msg = f"a block of {count} values at {at}"
                    raise ValueError(msg)
            if counts != rows and not (kind == _TEXTS and index == len(parts) - 1):
                msg = f"{counts} values for {rows} rows"
                raise ValueError(msg)
        return _Stored(kind, has_nulls, parts)

    def is_column(self, name: str) -> bool:
        """Whether a name is that of a column that stands for itself."""
        return self._tables[name][2]

    def kind_of(self, name: str) -> str:
        """Kind of a column that stands for itself, as numpy has it."""
        return self._tables[name][1][name].kind

    def numbers(self, name: str) -> Iterator[NDArray[Any]]:
        """A column that stands for itself, block by block.

        Raises
        ------
        HmtraceError
            As of the class.
        """
        _, columns, _ = self._tables[name]
        kind, _, ((coding, blocks),) = columns[name]
        yield from self._values(_NUMBERS[kind], coding, blocks)

    def table(self, name: str) -> pl.DataFrame:
        """A table.

        Raises
        ------
        HmtraceError
            As of the class.
        """
        rows, columns, _ = self._tables[name]
        made = [self._series(column, about) for column, about in columns.items()]
        return pl.DataFrame(made) if made else pl.DataFrame(height=rows)

    def _series(self, name: str, column: _Stored) -> pl.Series:
        parts = list(column.parts)
        valid = None
        if column.has_nulls:
            valid = self._whole(np.dtype("u1"), *parts.pop(0)) != 0
        if column.kind == _TEXTS:
            values = self._texts(name, *parts)
        else:
            stored = column.kind if column.kind in _NUMBERS else "u1"
            numbers = self._whole(_NUMBERS[stored], *parts[0])
            values = self._of_kind(name, column.kind, numbers, parts[0][1])
        if valid is None:
            return values
        return pl.select(pl.when(pl.Series(valid)).then(values).alias(name)).to_series()

    def _of_kind(self, name: str, kind: str, numbers: NDArray[Any], blocks: list[Any]) -> pl.Series:
        at = blocks[0][0] if blocks else self._end
        if kind == _OPERATIONS:
            if numbers.size and int(numbers.max()) >= len(OPS):
                raise self._damaged("an operation that is none", at)
            known = pl.Series(name, OPS, dtype=_POLARS[kind])
            return known.gather(pl.Series(numbers, dtype=pl.UInt32))
        if kind == _FLAGS:
            return pl.Series(name, numbers != 0)
        if kind == "f8" and not np.isfinite(numbers).all():
            raise self._damaged("a number that is none", at)
        return pl.Series(name, numbers, dtype=_POLARS[kind])

    def _texts(self, name: str, sizes: tuple[str, Any], whole: tuple[str, Any]) -> pl.Series:
        lengths = self._whole(np.dtype("<u4"), *sizes).astype(np.int64)
        data = self._whole(np.dtype("u1"), *whole).tobytes()
        at = whole[1][0][0] if whole[1] else self._end
        stops = np.cumsum(lengths)
        if len(data) != (stops[-1] if stops.size else 0):
            raise self._damaged("texts of other lengths", at)
        try:
            texts = [
                data[stop - size : stop].decode()
                for stop, size in zip(stops.tolist(), lengths.tolist(), strict=True)
            ]
        except UnicodeDecodeError:
            raise self._damaged("a text that is none", at) from None
        return pl.Series(name, texts, dtype=pl.String)

    def _whole(self, dtype: np.dtype[Any], coding: str, blocks: Iterable[Any]) -> NDArray[Any]:
        pieces = list(self._values(dtype, coding, blocks))
        return np.concatenate([np.zeros(0, dtype), *pieces])

    def _values(
        self, dtype: np.dtype[Any], coding: str, blocks: Iterable[Any]
    ) -> Iterator[NDArray[Any]]:
        for at, size, count, told in blocks:
            packed = self._data[at : at + size].tobytes()
            if hashlib.blake2b(packed, digest_size=_DIGEST).hexdigest() != told:
                raise self._damaged("values are not what was written", at)
            wanted = count * dtype.itemsize
            self._left -= wanted
            if self._left < 0:
                raise self._damaged(f"it holds more than {MAX_BYTES >> 30} GiB", at)
            try:
                if zstandard.frame_content_size(packed) != wanted:
                    raise self._damaged("a block of another size", at)
                data = self._unpacker.decompress(packed, max_output_size=wanted)
            except (zstandard.ZstdError, MemoryError) as error:
                raise self._damaged(f"values cannot be read ({error})"[:200], at) from None
            if len(data) != wanted:
                raise self._damaged("a block of another size", at)
            yield _decoded(data, dtype, coding)


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 48:
        msg = f"{str(value)[:40]!r} is no count"
        raise ValueError(msg)
    return value


def _coded(values: NDArray[Any], coding: str) -> bytes:
    """Bytes of values, which :func:`_decoded` takes back.

    Examples
    --------
    >>> _decoded(_coded(np.array([5, 7, 6], "<i4"), "steps-apart"), np.dtype("<i4"), "steps-apart")
    array([5, 7, 6], dtype=int32)
    """
    if coding.startswith("steps") and values.size:
        numbers = values.view(f"<u{values.dtype.itemsize}")
        values = np.append(numbers[:1], numbers[1:] - numbers[:-1])  # wraps around: it comes back
    if coding.endswith("apart"):
        values = np.ascontiguousarray(values.view(np.uint8).reshape(-1, values.dtype.itemsize).T)
    return values.tobytes()


def _decoded(data: bytes, dtype: np.dtype[Any], coding: str) -> NDArray[Any]:
    if coding.endswith("apart"):
        places = np.frombuffer(data, np.uint8).reshape(dtype.itemsize, -1)
        data = np.ascontiguousarray(places.T).tobytes()
    if not coding.startswith("steps"):
        return np.frombuffer(data, dtype)
    numbers = np.frombuffer(data, f"<u{dtype.itemsize}")
    return np.asarray(np.cumsum(numbers, dtype=numbers.dtype)).view(dtype)
