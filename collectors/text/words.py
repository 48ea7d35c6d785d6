"""Eight bytes at a time: the smallest pieces of the text scanner.

A text is searched and compared in 64-bit words (SWAR, "SIMD within a register"), loaded from any
address. Every load checks the end of the buffer, so nothing outside of it is ever touched.
Words are taken as little-endian, which every machine that hmtrace runs on is.

Source of the zero-byte test: the determination of a zero byte in a word, as used by strlen()
implementations; the lowest set bit of its result is exact.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

LOW = np.uint64(0x0101010101010101)
HIGH = np.uint64(0x8080808080808080)
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_K = np.uint64(0x9E3779B97F4A7C15)
_EIGHT = np.uint64(8)
_SHIFT = np.uint64(29)
_BYTE = np.uint64(255)


@intrinsic
def load_word(_typing: Any, array: Any, index: Any) -> Any:  # noqa: ARG001 - used by numba
    """Load 8 bytes of a uint8 array from any index, unchecked."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(64).as_pointer())
        word = builder.load(pointer)
        word.align = 1
        return word

    return types.uint64(array, types.intp), generate


@intrinsic
def trailing_zeros(_typing: Any, word: Any) -> Any:  # noqa: ARG001 - used by numba
    """Count the zero bits below the lowest set bit of a 64-bit word (64 for 0)."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@numba.njit(nogil=True)
def byte_at(buf: Any, p: int, n: int) -> int:
    """Byte at `p`, a newline at the end of the text."""
    return np.int64(buf[p]) if p < n else np.int64(10)


@numba.njit(nogil=True)
def word_at(buf: Any, p: int, n: int) -> Any:
    """Eight bytes from `p` on, zeros beyond the end `n`."""
    if p + 8 <= n:
        return load_word(buf, p)
    word = np.uint64(0)
    shift = np.uint64(0)
    for i in range(p, n):
        word |= np.uint64(buf[i]) << shift
        shift += _EIGHT
    return word


@numba.njit(nogil=True)
def find_byte(buf: Any, p: int, n: int, pattern: Any) -> int:
    """Position of the first byte from `p` on that equals those of `pattern`, `n` if none."""
    while p + 8 <= n:
        x = load_word(buf, p) ^ pattern
        hit = (x - LOW) & ~x & HIGH
        if hit != 0:
            return p + (trailing_zeros(hit) >> 3)
        p += 8
    wanted = pattern & _BYTE
    while p < n and np.uint64(buf[p]) != wanted:
        p += 1
    return p


@numba.njit(nogil=True)
def find_either(buf: Any, p: int, n: int, one: Any, two: Any) -> int:
    """Position of the first byte from `p` on that is in `one` or `two`, `n` if none."""
    while p + 8 <= n:
        word = load_word(buf, p)
        x = word ^ one
        y = word ^ two
        hit = (((x - LOW) & ~x) | ((y - LOW) & ~y)) & HIGH
        if hit != 0:
            return p + (trailing_zeros(hit) >> 3)
        p += 8
    while p < n and np.uint64(buf[p]) != one & _BYTE and np.uint64(buf[p]) != two & _BYTE:
        p += 1
    return p


@numba.njit(nogil=True)
def hash_bytes(buf: Any, begin: int, end: int, n: int, salt: int) -> Any:
    """Hash of the bytes from `begin` to `end`; equal texts of another `salt` differ."""
    h = (np.uint64(end - begin) + (np.uint64(salt) << np.uint64(40))) * _K
    p = begin
    while p + 8 <= end:
        h = (h ^ load_word(buf, p)) * _K
        h ^= h >> _SHIFT
        p += 8
    if p < end:
        rest = word_at(buf, p, n) & (ALL >> np.uint64(64 - 8 * (end - p)))
        h = (h ^ rest) * _K
        h ^= h >> _SHIFT
    return h


@numba.njit(nogil=True)
def same_bytes(buf: Any, a: int, b: int, length: int, n: int) -> bool:
    """Tell whether `length` bytes at `a` and at `b` are equal."""
    left = length
    while left >= 8:
        if word_at(buf, a, n) != word_at(buf, b, n):
            return False
        a += 8
        b += 8
        left -= 8
    if left > 0:
        mask = ALL >> np.uint64(64 - 8 * left)
        return (word_at(buf, a, n) ^ word_at(buf, b, n)) & mask == 0
    return True
