"""FlatBuffers, as far as Arrow's headers need them: tables, strings and vectors.

A table is a signed offset back to its vtable, and fields; a vtable is two lengths and an offset for
each field, 0 where it is missing (https://flatbuffers.dev/internals). Tables are written from the
outside in: what they point to follows behind them, since offsets are unsigned.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from collectors.errors import HmtraceError

Later = Callable[[bytearray], int]
"""Writes something behind what there is, and tells where it begins."""
Field = tuple[str, int] | Later | None
"""A number and its form (of :mod:`struct`), something that is pointed to, or nothing."""


def _aligned(out: bytearray, to: int, ahead: int = 0) -> None:
    """Fill up, so that what comes `ahead` bytes later is aligned."""
    out += bytes(-(len(out) + ahead) % to)


def table(*fields: Field) -> Later:
    """A table of these fields, in the order of the schema."""

    def write(out: bytearray) -> int:
        while fields and fields[-1] is None:
            return table(*fields[:-1])(out)
        vtable_size = 4 + 2 * len(fields)
        places, size = [], 4
        for field in fields:
            width = 0 if field is None else 4 if callable(field) else struct.calcsize(field[0])
            size += -size % max(width, 1)
            places.append(size if width else 0)
            size += width
        _aligned(out, 8, vtable_size)  # so that fields of 8 bytes are aligned
        vtable = len(out)
        out += struct.pack(f"<HH{len(fields)}H", vtable_size, size, *places)
        start = len(out)
        out += struct.pack("<i", start - vtable) + bytes(size - 4)
        for field, place in zip(fields, places, strict=True):
            if field is not None and not callable(field):
                struct.pack_into("<" + field[0], out, start + place, field[1])
        for field, place in zip(fields, places, strict=True):
            if callable(field):
                _point(out, start + place, field)
        return start

    return write


def _point(out: bytearray, place: int, field: Later) -> None:
    target = field(out)
    struct.pack_into("<I", out, place, target - place)


def text(value: str) -> Later:
    """A string."""

    def write(out: bytearray) -> int:
        _aligned(out, 4)
        start = len(out)
        data = value.encode()
        out += struct.pack("<I", len(data)) + data + b"\0"
        return start

    return write


def vector(values: list[Later]) -> Later:
    """A vector of tables."""

    def write(out: bytearray) -> int:
        _aligned(out, 4)
        start = len(out)
        out += struct.pack("<I", len(values)) + bytes(4 * len(values))
        for number, value in enumerate(values):
            _point(out, start + 4 + 4 * number, value)
        return start

    return write


def structs(form: str, values: list[tuple[int, ...]]) -> Later:
    """A vector of structures that hold numbers of at most 8 bytes."""

    def write(out: bytearray) -> int:
        _aligned(out, 8, 4)
        start = len(out)
        out += struct.pack("<I", len(values))
        for value in values:
            out += struct.pack("<" + form, *value)
        return start

    return write


def finished(root: Later) -> bytes:
    """A buffer whose root is a table, filled up to a multiple of 8 bytes."""
    out = bytearray(4)
    _point(out, 0, root)
    _aligned(out, 8)
    return bytes(out)


_MOST: Final = 1 << 20
"""Members that a vector may have."""


class Table:
    """A table in a buffer that nobody vouches for: every place is checked before it is read.

    Parameters
    ----------
    data
        The buffer.
    at
        Where the table is.

    Raises
    ------
    HmtraceError
        If it cannot be one.
    """

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._vtable = at - self._number("i", at)
        self._fields = (self._number("H", self._vtable) - 4) // 2

    @classmethod
    def root(cls, data: bytes) -> Table:
        """The table that a buffer is of."""
        return cls(data, Table._number_in(data, "I", 0))

    @staticmethod
    def _number_in(data: bytes, form: str, at: int) -> int:
        if not 0 <= at <= len(data) - struct.calcsize(form):
            raise HmtraceError("damaged Arrow file: a header points beyond its end")
        (value,) = struct.unpack_from("<" + form, data, at)
        return int(value)

    def _number(self, form: str, at: int) -> int:
        return self._number_in(self._data, form, at)

    def _place(self, field: int) -> int:
        """Where a field is, 0 if it is missing."""
        if not 0 <= field < self._fields:
            return 0
        offset = self._number("H", self._vtable + 4 + 2 * field)
        return self._at + offset if offset else 0

    def _target(self, field: int) -> int:
        """What a field points to, 0 if it is missing."""
        place = self._place(field)
        return place + self._number("I", place) if place else 0

    def number(self, field: int, form: str, missing: int = 0) -> int:
        """A field that is a number."""
        place = self._place(field)
        return self._number(form, place) if place else missing

    def text(self, field: int) -> str:
        """A field that is a string; "" if it is missing."""
        at = self._target(field)
        if not at:
            return ""
        length = self._number("I", at)
        if length > len(self._data) - at - 4:
            raise HmtraceError("damaged Arrow file: a text is longer than its header")
        try:
            return self._data[at + 4 : at + 4 + length].decode()
        except UnicodeDecodeError:
            raise HmtraceError("damaged Arrow file: a text is no UTF-8") from None

    def table(self, field: int) -> Table | None:
        """A field that is a table."""
        at = self._target(field)
        return Table(self._data, at) if at else None

    def _vector(self, field: int) -> tuple[int, int]:
        """Where the members of a vector begin, and how many there are."""
        at = self._target(field)
        length = self._number("I", at) if at else 0
        if length > _MOST:
            raise HmtraceError("damaged Arrow file: a header that is too long")
        return at + 4, length

    def tables(self, field: int) -> list[Table]:
        """A field that is a vector of tables."""
        at, length = self._vector(field)
        places = [at + 4 * n for n in range(length)]
        return [Table(self._data, place + self._number("I", place)) for place in places]

    def structs(self, field: int, form: str) -> list[tuple[int, ...]]:
        """A field that is a vector of structures."""
        at, length = self._vector(field)
        size = struct.calcsize("<" + form)
        if length * size > len(self._data) - at:
            raise HmtraceError("damaged Arrow file: a header points beyond its end")
        return [struct.unpack_from("<" + form, self._data, at + size * n) for n in range(length)]
