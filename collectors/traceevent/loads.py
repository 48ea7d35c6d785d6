"""Numbers of any size and endianness out of bytes at any address, for compiled loops.

An address is that of an array's first byte (``array.ctypes.data``), which the caller keeps alive;
nothing is checked here.
"""

# ruff: noqa: ARG001 - arguments of intrinsics are used by their names only in the types
from __future__ import annotations

from typing import Any

from collectors.compiled import instruction, ir, piece, types


def _loader(bits: int) -> Any:
    """Make the loading of a number of so many bits at an address plus an index, unchecked."""

    @instruction
    def load_bits(_typing: Any, base: Any, index: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            address = builder.add(arguments[0], arguments[1])
            number = builder.load(builder.inttoptr(address, ir.IntType(bits).as_pointer()))
            number.align = 1
            return number if bits == 64 else builder.zext(number, ir.IntType(64))

        return types.int64(types.intp, types.intp), generate

    return load_bits


u8, _load16, _load32, _load64 = (_loader(bits) for bits in (8, 16, 32, 64))


@piece
def u16(base: Any, at: Any, big: Any) -> Any:
    """Read an unsigned number of 2 bytes, which must be there."""
    n = _load16(base, at)
    return (n >> 8 | n << 8) & 0xFFFF if big else n


@piece
def u32(base: Any, at: Any, big: Any) -> Any:
    """Read an unsigned number of 4 bytes, which must be there."""
    n = _load32(base, at)
    if big:
        n = (n >> 8 & 0x00FF_00FF) | (n & 0x00FF_00FF) << 8
        n = (n >> 16 | n << 16) & 0xFFFF_FFFF
    return n


@piece
def u64(base: Any, at: Any, big: Any) -> Any:
    """Read a number of 8 bytes, which must be there."""
    if big:
        return u32(base, at, big) << 32 | u32(base, at + 4, big)
    return _load64(base, at)


@piece
def load(base: Any, at: Any, size: Any, big: Any) -> Any:
    """Read a number of 1, 2, 4 or 8 bytes, which must be there, without sign."""
    if size == 4:
        return u32(base, at, big)
    if size == 8:
        return u64(base, at, big)
    if size == 2:
        return u16(base, at, big)
    return u8(base, at)


@piece
def extend(value: Any, size: Any) -> Any:
    """Give a number of `size` bytes its sign."""
    shift = 64 - 8 * size
    return value << shift >> shift
