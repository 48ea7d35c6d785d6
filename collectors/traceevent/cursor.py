"""Reading numbers and strings from bytes of either endianness, each read checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from collectors.errors import TRUNCATED, HmtraceError

if TYPE_CHECKING:
    from collections.abc import Callable

Order = Literal["little", "big"]


class Cursor:
    """A position in bytes that never leaves them.

    Parameters
    ----------
    data
        The bytes: the mapped file, or a section after decompression.
    name
        File name for error messages.
    order
        Endianness of numbers.
    offset
        First position.
    base
        Offset in the file that position 0 stands for, in messages; None for decompressed bytes.
    """

    def __init__(
        self,
        data: memoryview,
        *,
        name: str,
        order: Order = "little",
        offset: int = 0,
        base: int | None = 0,
    ) -> None:
        self.data = data
        self.name = name
        self.order: Order = order
        self.offset = offset
        self.base = base

    @property
    def left(self) -> int:
        """Bytes from the position to the end."""
        return len(self.data) - self.offset

    def error(self, message: str, *, hint: str | None = None) -> HmtraceError:
        """Build an error at the present position."""
        where = None if self.base is None else self.base + self.offset
        return HmtraceError(message, source=self.name, offset=where, hint=hint or TRUNCATED)

    def seek(self, offset: int, what: str) -> None:
        """Go to an offset that the file gave.

        Raises
        ------
        HmtraceError
            If it is not inside the bytes.
        """
        if not 0 <= offset <= len(self.data):
            msg = f"{what} would be at offset {offset:#x}, beyond the end of the file"
            raise self.error(msg, hint=TRUNCATED)
        self.offset = offset

    def take(self, size: int, what: str) -> memoryview:
        """Read `size` bytes, without copying them.

        Raises
        ------
        HmtraceError
            If there are fewer left.
        """
        if size > self.left:
            msg = f"{what} needs {size} bytes, but only {self.left} are left"
            raise self.error(msg, hint=TRUNCATED)
        self.offset += size
        return self.data[self.offset - size : self.offset]

    def number(self, size: int, what: str) -> int:
        """Read an unsigned number of `size` bytes."""
        return int.from_bytes(self.take(size, what), self.order)

    def signed(self, size: int, what: str) -> int:
        """Read a signed number of `size` bytes."""
        return int.from_bytes(self.take(size, what), self.order, signed=True)

    def sized(self, width: int, what: str) -> memoryview:
        """Read bytes that follow their own length, a number of `width` bytes."""
        return self.take(self.number(width, f"length of {what}"), what)

    def cstring(self, what: str, limit: int = 4096) -> str:
        """Read a NUL-terminated string of at most `limit` bytes.

        Raises
        ------
        HmtraceError
            If no NUL comes in time.
        """
        head = bytes(self.data[self.offset : self.offset + limit + 1])
        end = head.find(b"\0")
        if end < 0:
            msg = f"{what} does not end"
            raise self.error(msg, hint=TRUNCATED)
        self.offset += end + 1
        return head[:end].decode("utf-8", "replace")

    def count(self, width: int, each: int, what: str) -> int:
        """Read a number of things of which each takes at least `each` bytes.

        Raises
        ------
        HmtraceError
            If they would not fit into the bytes that are left.
        """
        number = self.number(width, f"number of {what}")
        if number * each > self.left:
            msg = f"{number} {what} do not fit into the {self.left} bytes that are left"
            raise self.error(msg, hint=TRUNCATED)
        return number


def numbers(cursor: Cursor, count: int, width: int, what: str, *, signed: bool) -> list[int]:
    """Read `count` numbers of `width` bytes each."""
    read: Callable[[int, str], int] = cursor.signed if signed else cursor.number
    if count * width > cursor.left:
        raise cursor.error(f"{count} {what} do not fit", hint=TRUNCATED)
    return [read(width, what) for _ in range(count)]
