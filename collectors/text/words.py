"""Eight bytes at a time: the smallest pieces of the text scanner.

A text is searched and compared in 64-bit words (SWAR, "SIMD within a register"), loaded from any
address. The text
is given by its address (the caller keeps it mapped) and its length: arrays would be counted in
and out of every function. Every load checks the end, so nothing outside is ever touched.
Words are taken as little-endian, which every machine that hmtrace runs on is.

Source of the zero-byte test: the determination of a zero byte in a word, as used by strlen()
implementations; the lowest set bit of its result is exact.
"""

# ruff: noqa: ARG001 - arguments of intrinsics are used by their names only in the types
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
def _load_word(_typing: Any, base: Any, index: Any) -> Any:
    """Load 8 bytes at an address plus an index, unchecked."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        address = builder.add(arguments[0], arguments[1])
        word = builder.load(builder.inttoptr(address, ir.IntType(64).as_pointer()))
        word.align = 1
        return word

    return types.uint64(types.intp, types.intp), generate


@intrinsic
def _load_byte(_typing: Any, base: Any, index: Any) -> Any:
    """Load the byte at an address plus an index, unchecked."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        address = builder.add(arguments[0], arguments[1])
        byte = builder.load(builder.inttoptr(address, ir.IntType(8).as_pointer()))
        return builder.zext(byte, ir.IntType(64))

    return types.int64(types.intp, types.intp), generate


@intrinsic
def _trailing_zeros(_typing: Any, word: Any) -> Any:
    """Count the zero bits below the lowest set bit of a 64-bit word (64 for 0)."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


# numba gives the first argument itself; a type checker does not know.
load_word: Any = _load_word
load_byte: Any = _load_byte
trailing_zeros: Any = _trailing_zeros


_COMMON: dict[str, Any] = {"nogil": True, "_nrt": False}
"""Without numba's reference counting: it would count every array up and down with atomic
instructions wherever one is given to a function, which took three quarters of the time of a scan.
So these functions allocate nothing; what they need is given to them."""
LOOP: dict[str, Any] = {"cache": True, **_COMMON}
"""Options of a loop that Python calls."""
# Not to be called from Python: the wrappers would take a third of the compile time.
_BARE: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, **_COMMON}
piece: Any = numba.njit(forceinline=True, **_BARE)
"""Decorator of what every line runs through: inlined, as a call costs more than the work."""
part: Any = numba.njit(**_BARE)
"""Decorator of the rarer or larger parts."""


@piece
def byte_at(buf: Any, p: int, n: int) -> Any:
    """Byte at `p`, a newline at the end of the text."""
    return load_byte(buf, p) if p < n else np.int64(10)


@piece
def word_at(buf: Any, p: int, n: int) -> Any:
    """Eight bytes from `p` on, zeros beyond the end `n`."""
    if p + 8 <= n:
        return load_word(buf, p)
    word: Any = np.uint64(0)
    shift: Any = np.uint64(0)
    for i in range(p, n):
        word |= np.uint64(load_byte(buf, i)) << shift
        shift += _EIGHT
    return word


@piece
def find_byte(buf: Any, p: int, n: int, pattern: Any) -> int:
    """Position of the first byte from `p` on that equals those of `pattern`, `n` if none."""
    while p + 8 <= n:
        x = load_word(buf, p) ^ pattern
        hit = (x - LOW) & ~x & HIGH
        if hit != 0:
            return p + (trailing_zeros(hit) >> 3)
        p += 8
    wanted = np.int64(pattern & _BYTE)
    while p < n and load_byte(buf, p) != wanted:
        p += 1
    return p


@piece
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
    first = np.int64(one & _BYTE)
    second = np.int64(two & _BYTE)
    while p < n and load_byte(buf, p) != first and load_byte(buf, p) != second:
        p += 1
    return p


@piece
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


@piece
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
