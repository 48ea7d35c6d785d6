"""Sixty-four bytes at a time: the smallest pieces of the text scanner.

A text is searched, compared and hashed in blocks of 64 bytes, loaded from any address as one
vector (LLVM makes of it what the machine has), and in words of 8 bytes (SWAR, "SIMD within a
register") near its end. The text is given by its address (the caller keeps it mapped) and its
length. Every load checks the end, so nothing outside is ever touched. Words are taken as
little-endian, which every machine that hmtrace runs on is.

Source of the zero-byte test: the determination of a zero byte in a word, as used by strlen()
implementations; the lowest set bit of its result is exact.
"""

# ruff: noqa: ARG001 - arguments of intrinsics are used by their names only in the types
from __future__ import annotations

from typing import Any

import numpy as np

from collectors.compiled import instruction, ir, part, piece, types

LOW = np.uint64(0x0101010101010101)
HIGH = np.uint64(0x8080808080808080)
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_K = np.uint64(0x9E3779B97F4A7C15)
_EIGHT = np.uint64(8)
_SHIFT, _HALF = np.uint64(29), np.uint64(32)
_BYTE = np.uint64(255)
BLOCK = 64
"""Bytes of a block: what is searched, compared and hashed in one step."""
FACTORS = tuple((0x9E3779B97F4A7C15 * (2 * k + 1)) % (1 << 64) for k in range(8))
"""Of the words of a block in its hash."""


@instruction
def _load_word(_typing: Any, base: Any, index: Any) -> Any:
    """Load 8 bytes at an address plus an index, unchecked."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        address = builder.add(arguments[0], arguments[1])
        word = builder.load(builder.inttoptr(address, ir.IntType(64).as_pointer()))
        word.align = 1
        return word

    return types.uint64(types.intp, types.intp), generate


@instruction
def _load_byte(_typing: Any, base: Any, index: Any) -> Any:
    """Load the byte at an address plus an index, unchecked."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        address = builder.add(arguments[0], arguments[1])
        byte = builder.load(builder.inttoptr(address, ir.IntType(8).as_pointer()))
        return builder.zext(byte, ir.IntType(64))

    return types.int64(types.intp, types.intp), generate


def _block_at(builder: Any, base: Any, index: Any) -> Any:
    """Load 64 bytes at an address plus an index, unchecked, as a vector of bytes."""
    vector = ir.VectorType(ir.IntType(8), BLOCK)
    block = builder.load(builder.inttoptr(builder.add(base, index), vector.as_pointer()))
    block.align = 1
    return block


@instruction
def _equal_in_block(_typing: Any, base: Any, index: Any, byte: Any) -> Any:
    """Mark which of 64 bytes equal a byte: bit i for the one at the index plus i."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        block = _block_at(builder, arguments[0], arguments[1])
        wanted = builder.trunc(arguments[2], ir.IntType(8))
        first = ir.Constant(ir.IntType(32), 0)
        one = builder.insert_element(ir.Constant(block.type, ir.Undefined), wanted, first)
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), [0] * BLOCK)
        same = builder.icmp_unsigned("==", block, builder.shuffle_vector(one, one, lanes))
        return builder.bitcast(same, ir.IntType(64))

    return types.uint64(types.intp, types.intp, types.uint64), generate


@instruction
def _differ_in_block(_typing: Any, base: Any, one: Any, two: Any) -> Any:
    """Mark which of 64 bytes at two indices differ."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        base, one, two = arguments
        differ = builder.icmp_unsigned(
            "!=", _block_at(builder, base, one), _block_at(builder, base, two)
        )
        return builder.bitcast(differ, ir.IntType(64))

    return types.uint64(types.intp, types.intp, types.intp), generate


@instruction
def _sum_of_block(_typing: Any, base: Any, index: Any, bytes_: Any) -> Any:
    """Add up the 8 words of 64 bytes, each times its factor; bytes not marked count as zero."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        block = _block_at(builder, arguments[0], arguments[1])
        marked = builder.bitcast(arguments[2], ir.VectorType(ir.IntType(1), BLOCK))
        block = builder.select(marked, block, ir.Constant(block.type, [0] * BLOCK))
        words = ir.VectorType(ir.IntType(64), len(FACTORS))
        products = builder.mul(builder.bitcast(block, words), ir.Constant(words, list(FACTORS)))
        add = ir.FunctionType(ir.IntType(64), [words])
        name = f"llvm.vector.reduce.add.v{len(FACTORS)}i64"
        return builder.call(builder.module.declare_intrinsic(name, (), add), [products])

    return types.uint64(types.intp, types.intp, types.uint64), generate


@instruction
def _trailing_zeros(_typing: Any, word: Any) -> Any:
    """Count the zero bits below the lowest set bit of a 64-bit word (64 for 0)."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


# numba gives the first argument itself; a type checker does not know.
load_word: Any = _load_word
load_byte: Any = _load_byte
trailing_zeros: Any = _trailing_zeros
equal_in_block: Any = _equal_in_block
differ_in_block: Any = _differ_in_block
sum_of_block: Any = _sum_of_block


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


@part
def _find_near_end(buf: Any, p: int, n: int, one: Any, two: Any) -> int:
    """As :func:`find_either`, a word at a time."""
    while p + 8 <= n:
        word = load_word(buf, p)
        x = word ^ one
        y = word ^ two
        hit = (((x - LOW) & ~x) | ((y - LOW) & ~y)) & HIGH
        if hit != 0:
            return p + (trailing_zeros(hit) >> 3)
        p += 8
    first, second = np.int64(one & _BYTE), np.int64(two & _BYTE)
    while p < n and load_byte(buf, p) != first and load_byte(buf, p) != second:
        p += 1
    return p


@piece
def find_byte(buf: Any, p: int, n: int, pattern: Any) -> int:
    """Position of the first byte from `p` on that equals those of `pattern`, `n` if none."""
    while p + BLOCK <= n:
        hit = equal_in_block(buf, p, pattern & _BYTE)
        if hit != 0:
            return p + trailing_zeros(hit)
        p += BLOCK
    return _find_near_end(buf, p, n, pattern, pattern)


@piece
def find_either(buf: Any, p: int, end: int, n: int, one: Any, two: Any) -> int:
    """Position of the first byte from `p` on that is in `one` or `two`, `end` if none.

    `n` is the end of the text: so far may be loaded.
    """
    while p < end and p + BLOCK <= n:
        hit = equal_in_block(buf, p, one & _BYTE) | equal_in_block(buf, p, two & _BYTE)
        if hit != 0:
            return min(p + trailing_zeros(hit), end)
        p += BLOCK
    return _find_near_end(buf, min(p, end), end, one, two)


@piece
def first_bytes(length: int) -> Any:
    """Marks of the first `length` bytes of a block, 1 to 64."""
    return ALL >> np.uint64(BLOCK - length)


@piece
def mixed(h: Any) -> Any:
    """Let every bit of a sum of products reach the low ones too."""
    h = (h ^ (h >> _HALF)) * _K
    return h ^ (h >> _SHIFT)


@part
def _sum_near_end(buf: Any, p: int, length: int, n: int) -> Any:
    """What sum_of_block() gives of the first `length` bytes, word by word."""
    total: Any = np.uint64(0)
    for k in range((length + 7) // 8):
        left = min(length - 8 * k, 8)
        word = word_at(buf, p + 8 * k, n) & (ALL >> np.uint64(64 - 8 * left))
        total += word * (_K * np.uint64(2 * k + 1))
    return total


@piece
def hash_bytes(buf: Any, begin: int, end: int, n: int, salt: int) -> Any:
    """Hash of the bytes from `begin` to `end`; equal texts of another `salt` differ."""
    h = (np.uint64(end - begin) + (np.uint64(salt) << np.uint64(40))) * _K
    p = begin
    while p < end:
        length = min(end - p, BLOCK)
        if p + BLOCK <= n:
            h += sum_of_block(buf, p, first_bytes(length))
        else:
            h += _sum_near_end(buf, p, length, n)
        h = mixed(h)
        p += BLOCK
    return h


@part
def _same_near_end(buf: Any, a: int, b: int, left: int, n: int) -> bool:
    """Tell whether `left` bytes at `a` and at `b` are equal, word by word."""
    while left > 0:
        mask = ALL >> np.uint64(64 - 8 * min(left, 8))
        if (word_at(buf, a, n) ^ word_at(buf, b, n)) & mask != 0:
            return False
        a += 8
        b += 8
        left -= 8
    return True


@piece
def same_bytes(buf: Any, a: int, b: int, length: int, n: int) -> bool:
    """Tell whether `length` bytes at `a` and at `b` are equal."""
    left = length
    while left > 0:
        if max(a, b) + BLOCK > n:
            return _same_near_end(buf, a, b, left, n)
        if differ_in_block(buf, a, b) & first_bytes(min(left, BLOCK)) != 0:
            return False
        a += BLOCK
        b += BLOCK
        left -= BLOCK
    return True
