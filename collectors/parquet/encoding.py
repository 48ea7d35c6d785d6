"""Compiled loops that encode columns for Parquet. Import only to write.

Encodings: github.com/apache/parquet-format, Encodings.md: RLE/bit-packing hybrid for levels and
dictionary codes, DELTA_BINARY_PACKED for numbers that grow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numba
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BARE: Any = {"cache": True, "nogil": True, "_nrt": False}
_loop: Any = numba.njit(**_BARE)
_piece: Any = numba.njit(forceinline=True, **_BARE)

_RUN: Final = 16
"""Equal codes that are worth a run of their own amid packed ones."""
_BLOCK: Final = 128
_MINI: Final = 32
_WIDEST: Final = 56
"""Bits that fit into a word beside those of a byte that is begun; wider is written in 64."""


@_loop
def compact(
    values: NDArray[np.int64],
    valid: NDArray[np.uint32],
    shift: int,
    out: NDArray[np.int64],
    levels: NDArray[np.int32],
) -> int:
    """Leave out what has no value.

    Parameters
    ----------
    values : ndarray of int64, shape (n,)
    valid : ndarray of uint32, shape (n,)
        Bit `shift` says that there is a value.
    shift : int
    out : ndarray of int64, shape (n,)
        Filled with the values that there are.
    levels : ndarray of int32, shape (n,)
        Filled with definition levels: 1 where there is a value.

    Returns
    -------
    int
        Number of values.
    """
    found: Any = 0
    for i in range(values.shape[0]):
        has = np.int64(valid[i]) >> shift & 1
        levels[i] = has
        out[found] = values[i]
        found += has
    return found


@_piece
def _put_varint(number: int, out: Any, at: int) -> int:
    """Write an unsigned number in groups of 7 bits; return the place behind it."""
    rest = np.uint64(number)
    while rest > np.uint64(0x7F):
        out[at] = np.uint8(rest & np.uint64(0x7F)) | 0x80
        rest >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(rest)
    return at + 1


@_piece
def _put_signed(number: int, out: Any, at: int) -> int:
    """Write a signed number likewise, its sign in the lowest bit."""
    return _put_varint(number << 1 ^ number >> 63, out, at)


@_loop
def hybrid(codes: NDArray[np.int32], width: int, out: NDArray[np.uint8]) -> int:
    """Encode small numbers by runs of equal ones and by packed groups of eight.

    Parameters
    ----------
    codes : ndarray of int32, shape (n,)
        Below ``1 << width``.
    width : int
        Bits of a number.
    out : ndarray of uint8
        Filled; five bytes for each number, and five more, are always enough.

    Returns
    -------
    int
        Bytes written.
    """
    n = codes.shape[0]
    at = i = 0
    while i < n:
        same = i + 1
        while same < n and codes[same] == codes[i]:
            same += 1
        if same - i >= _RUN or same == n:
            at = _put_varint((same - i) << 1, out, at)
            rest = np.int64(codes[i])
            for _ in range((width + 7) >> 3):
                out[at] = np.uint8(rest & 0xFF)
                rest >>= 8
                at += 1
            i = same
            continue
        stop = i + 8
        while stop < n:
            last = min(stop + _RUN, n)
            same = stop + 1
            while same < last and codes[same] == codes[stop]:
                same += 1
            if same == last:
                break
            stop += 8
        at = _put_varint((stop - i) >> 3 << 1 | 1, out, at)
        word, bits = np.uint64(0), 0
        for k in range(i, stop):
            if k < n:
                word |= np.uint64(codes[k]) << np.uint64(bits)
            bits += width
            while bits >= 8:
                out[at] = np.uint8(word & np.uint64(0xFF))
                word >>= np.uint64(8)
                bits -= 8
                at += 1
        i = stop
    return at


@_piece
def _bits_of(number: Any) -> int:
    """Bits that an unsigned number needs."""
    bits = 0
    for step in (32, 16, 8, 4, 2, 1):
        if number >> np.uint64(step) != np.uint64(0):
            number >>= np.uint64(step)
            bits += step
    return bits + (1 if number != np.uint64(0) else 0)


@_loop
def delta(values: NDArray[np.int64], out: NDArray[np.uint8]) -> int:
    """Encode numbers by their differences (DELTA_BINARY_PACKED).

    Parameters
    ----------
    values : ndarray of int64, shape (n,)
    out : ndarray of uint8
        Filled; nine bytes for each number, and 2048 more, are always enough.

    Returns
    -------
    int
        Bytes written.
    """
    n = values.shape[0]
    at = _put_varint(_BLOCK, out, 0)
    at = _put_varint(_BLOCK // _MINI, out, at)
    at = _put_varint(n, out, at)
    at = _put_signed(values[0] if n else np.int64(0), out, at)
    for first in range(1, n, _BLOCK):
        end = min(first + _BLOCK, n)
        least = values[first] - values[first - 1]  # modulo 2**64, as the decoder adds them
        for i in range(first, end):
            least = min(least, values[i] - values[i - 1])
        at = _put_signed(least, out, at)
        widths = at
        at += _BLOCK // _MINI
        for mini in range(_BLOCK // _MINI):
            start = first + mini * _MINI
            stop = min(start + _MINI, end)
            every = np.uint64(0)
            for i in range(start, stop):
                every |= np.uint64(values[i] - values[i - 1] - least)
            width = _bits_of(every)
            if width > _WIDEST:
                width = 64
            out[widths + mini] = width
            if start >= end or width == 0:
                continue
            word, bits = np.uint64(0), 0
            for i in range(start, start + _MINI):
                if i < stop:
                    word |= np.uint64(values[i] - values[i - 1] - least) << np.uint64(bits)
                bits += width
                while bits >= 8:
                    out[at] = np.uint8(word & np.uint64(0xFF))
                    word >>= np.uint64(8)
                    bits -= 8
                    at += 1
    return at
