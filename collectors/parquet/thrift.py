"""Thrift's compact protocol, as far as Parquet's headers and footers need it: writing only.

Specification: github.com/apache/thrift, doc/specs/thrift-compact-protocol.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

I32: Final = 5
I64: Final = 6
BINARY: Final = 8
LIST: Final = 9
STRUCT: Final = 12
_TRUE: Final = 1
_FALSE: Final = 2
_SHORT_LIST: Final = 15


def varint(number: int) -> bytes:
    """Unsigned number in groups of 7 bits, the lowest first."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def zigzag(number: int) -> bytes:
    """Signed number as a varint."""
    return varint(number << 1 if number >= 0 else (-number << 1) - 1)


def items(kind: int, parts: Sequence[bytes]) -> bytes:
    """List of things of one kind, each encoded."""
    count = len(parts)
    head = (
        bytes([count << 4 | kind])
        if count < _SHORT_LIST
        else bytes([_SHORT_LIST << 4 | kind]) + varint(count)
    )
    return head + b"".join(parts)


class Struct:
    """A structure, field by field in ascending order of their numbers."""

    def __init__(self) -> None:
        self._out = bytearray()
        self._last = 0

    def _field(self, number: int, kind: int, encoded: bytes) -> Struct:
        step = number - self._last
        self._last = number
        self._out += bytes([step << 4 | kind]) + encoded
        return self

    def number(self, number: int, value: int, kind: int = I32) -> Struct:
        """Field of a number."""
        return self._field(number, kind, zigzag(value))

    def boolean(self, number: int, *, value: bool) -> Struct:
        """Field of a truth value."""
        return self._field(number, _TRUE if value else _FALSE, b"")

    def binary(self, number: int, value: bytes) -> Struct:
        """Field of bytes or text."""
        return self._field(number, BINARY, varint(len(value)) + value)

    def list(self, number: int, kind: int, parts: Sequence[bytes]) -> Struct:
        """Field of a list of things of one kind, each encoded."""
        return self._field(number, LIST, items(kind, parts))

    def struct(self, number: int, inner: Struct) -> Struct:
        """Field of a structure."""
        return self._field(number, STRUCT, inner.encoded())

    def encoded(self) -> bytes:
        """The whole structure."""
        return bytes(self._out) + b"\0"
