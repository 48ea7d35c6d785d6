"""LZ4 frames of a table's columns, by a loop that knows that these are numbers.

A number mostly differs from the one before it in its low bytes, or stands a while before in all of
them. So words of 8 bytes are compared, not bytes wherever they lie: a third of the time that LZ4's
own search takes, for as few bytes. Frames and blocks are as lz4_Frame_format.md and
lz4_Block_format.md of https://github.com/lz4/lz4 describe them, so everybody's LZ4 reads them.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from collectors.arrow.messages import ALIGNED
from collectors.compiled import loop, piece
from collectors.table.masks import read_only

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HEAD: Final = bytes.fromhex("04224d18 60 70 73")
"""Begin of a frame: magic; version 1, independent blocks, no checksum; 4 MiB; checksum of both."""
_BEFORE: Final = struct.Struct(f"<q{len(_HEAD)}sI")
"""What Arrow puts before a frame: bytes behind it when read; then its head, and a block's size."""
_END: Final = bytes(4)
"""Behind the last block."""
_PLAIN: Final = struct.Struct("<q")
"""-1: what comes is not compressed (format/Message.fbs, BodyCompressionMethod)."""
MOST: Final = 1 << 22
"""Bytes of a column in one block."""
_HASHED: Final = 12
"""Bits of a word's hash."""
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
_SHIFT: Final = np.uint64(64 - _HASHED)
_FAR: Final = 65535 // 8
"""Words back that a match may lie."""
_LEFT: Final = 2
"""Words at the end that stay as they are: the last match begins 12 bytes before it, or more."""


class Body:
    """The body of a message: buffers one behind the other.

    Attributes
    ----------
    places : list of (int, int)
        Where each buffer is, and how long.
    size
        Bytes of the body.
    """

    def __init__(self) -> None:
        self.places: list[tuple[int, int]] = []
        self.size = 0
        self._bytes = np.empty(0, np.uint8)
        self._seen = np.empty(1 << _HASHED, np.int32)

    def clear(self) -> None:
        """Begin another one, in the same room."""
        self.places = []
        self.size = 0

    def whole(self) -> memoryview:
        """All of it; to be used before it is added to."""
        return self._bytes[: self.size].data

    def add_nothing(self) -> None:
        """Add a buffer without bytes, for what is not told."""
        self.places.append((self.size, 0))

    def add(self, values: NDArray[Any]) -> None:
        """Add numbers, compressed where that makes them fewer bytes.

        Parameters
        ----------
        values : ndarray, shape (n,)
            Of at most :data:`MOST` bytes.
        """
        plain = np.ascontiguousarray(values).view(np.uint8)
        size, begin = len(plain), self.size
        self._make_room(size + size // 255 + 2 * ALIGNED)  # all of it literals
        words = plain[: size // 8 * 8].view(np.uint64)
        first = begin + _BEFORE.size
        end = squeeze(read_only(plain), read_only(words), self._seen, self._bytes, first)
        if end + len(_END) - begin < size + _PLAIN.size:
            _BEFORE.pack_into(self._bytes.data, begin, size, _HEAD, end - first)
            self._put(end, _END)
            self._close(end + len(_END))
            return
        _PLAIN.pack_into(self._bytes.data, begin, -1)
        self._put(begin + _PLAIN.size, plain)
        self._close(begin + _PLAIN.size + size)

    def add_made(self, made: bytes) -> None:
        """Add a buffer as an earlier body had it."""
        self._make_room(len(made) + ALIGNED)
        self._put(self.size, made)
        self._close(self.size + len(made))

    def last(self) -> bytes:
        """The buffer that was added last."""
        at, size = self.places[-1]
        return self._bytes[at : at + size].tobytes()

    def _make_room(self, more: int) -> None:
        if self.size + more > len(self._bytes):
            larger = np.empty(2 * (self.size + more), np.uint8)
            larger[: self.size] = self._bytes[: self.size]
            self._bytes = larger

    def _put(self, at: int, some: bytes | NDArray[np.uint8]) -> None:
        self._bytes[at : at + len(some)] = np.frombuffer(some, np.uint8)

    def _close(self, end: int) -> None:
        """Note a buffer from the present end on, up to here; what is behind it is zero."""
        self.places.append((self.size, end - self.size))
        self.size = -(-end // ALIGNED) * ALIGNED
        self._bytes[end : self.size] = 0


@piece
def _put(out: NDArray[np.uint8], at: int, word: Any) -> None:
    """Write 8 bytes; what comes next may begin at any of them."""
    to = np.uint64(at)
    for k in range(8):
        out[to + np.uint64(k)] = np.uint8(word >> np.uint64(8 * k) & np.uint64(255))


@piece
def _put_more(out: NDArray[np.uint8], at: int, more: int) -> int:
    """Write the rest of a length that is too large for a token."""
    while more >= 255:
        out[at] = 255
        at += 1
        more -= 255
    out[at] = more
    return at + 1


@piece
def _put_literals(
    out: NDArray[np.uint8], at: int, words: NDArray[np.uint64], first: int, number: int, match: int
) -> int:
    """Write a token, of a match of 4 bytes and `match` more, and the literals."""
    out[at] = min(number, 15) << 4 | min(match, 15)
    at += 1
    if number >= 15:
        at = _put_more(out, at, number - 15)
    word = np.uint64(first)
    for done in range(0, number, 8):
        _put(out, at + done, words[word])
        word += np.uint64(1)
    return at + number


@loop
def squeeze(
    plain: NDArray[np.uint8],
    words: NDArray[np.uint64],
    seen: NDArray[np.int32],
    out: NDArray[np.uint8],
    at: int,
) -> int:
    """Compress bytes into a block.

    Parameters
    ----------
    plain : ndarray of uint8, shape (n,)
    words : ndarray of uint64, shape (n // 8,)
        The same.
    seen : ndarray of int32, shape (1 << _HASHED,)
        Room for where a word of each hash was last.
    out : ndarray of uint8
        Filled.
    at
        Where in it the block begins.

    Returns
    -------
    int
        Behind the block.
    """
    seen[:] = -_FAR - 1
    stop = words.shape[0] - _LEFT
    literal = 0  # word from which on nothing is written yet
    i = 1
    before = words[0] if words.shape[0] else np.uint64(0)
    while i < stop:
        word = words[np.uint64(i)]
        differs = word ^ before
        before = word
        slot = word * _FACTOR >> _SHIFT
        back = i - np.int64(seen[slot])
        seen[slot] = i
        if differs == 0:
            back = np.int64(1)
        elif back > _FAR or words[np.uint64(i - back)] != word:
            if differs >> np.uint64(32):
                i += 1
                continue
            number = 1 + (differs >= 1 << 8) + (differs >= 1 << 16) + (differs >= 1 << 24)
            # the high bytes are those of the word before
            if literal == i:
                low = word & (np.uint64(1) << np.uint64(8 * number)) - np.uint64(1)
                token = np.uint64(number << 4 | 4 - number)
                behind = np.uint64(8) << np.uint64(8 * number + 8)
                _put(out, at, token | low << np.uint64(8) | behind)
                at += number + 3
            else:
                pending = 8 * (i - literal) + number
                at = _put_literals(out, at, words, literal, pending, 4 - number)
                out[at] = 8
                out[at + 1] = 0
                at += 2
            i += 1
            literal = i
            continue
        end = i + 1
        while end < stop and words[np.uint64(end)] == words[np.uint64(end - back)]:
            end += 1
        match = 8 * (end - i) - 4
        at = _put_literals(out, at, words, literal, 8 * (i - literal), match)
        out[at] = 8 * back & 255
        out[at + 1] = 8 * back >> 8
        at += 2
        if match >= 15:
            at = _put_more(out, at, match - 15)
        literal = i = end
        before = words[np.uint64(end - 1)]
    number = plain.shape[0] - 8 * literal
    out[at] = min(number, 15) << 4
    at += 1
    if number >= 15:
        at = _put_more(out, at, number - 15)
    for k in range(8 * literal, plain.shape[0]):
        out[at] = plain[k]
        at += 1
    return at
